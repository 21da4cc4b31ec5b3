# Copyright 2026 The hf_vq Authors. All rights reserved.
#
# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#
#     http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.
"""A Space for TopicVQ for images: images of a topic, of a mixture, or like another image.

    python app.py --checkpoint your-name/topic-vq-image-cifar10

takes the Hub id or the folder of a pipeline; on the Hub the Space's variable CHECKPOINT says which.
"""

import argparse
import os
from pathlib import Path
from typing import Any

import gradio as gr
import torch
from PIL import Image

from hf_vq.topic_images.pipeline import TopicVQImagePipeline

INTRODUCTION = """# Images by topic
`{name}` learned {num_topics} topics of images without a label, and draws images that have them.
[Paper](https://arxiv.org/abs/2312.11532)."""
TILE = 160  # pixels of an image on the page
MOST_TOPICS = 6

Gallery = list[Image.Image]


class ImagesByTopic:
    """What the page asks of a pipeline."""

    def __init__(self, checkpoint: str):
        self.pipe = TopicVQImagePipeline.from_pretrained(checkpoint)
        self.pipe.set_progress_bar_config(disable=True)
        config = self.pipe.prior.config
        self.num_topics = config.num_topics
        self.names = config.topic_labels or [f"topic {topic}" for topic in range(self.num_topics)]
        # Guidance moves away from images without topics, which only some models know.
        self.max_guidance = 5.0 if config.condition_dropout else 1.0

    def mixture(
        self,
        first: str,
        second: str,
        share: int,
        guidance: float,
        temperature: float,
        number: int,
        seed: int,
    ) -> Gallery:
        """Return images of two topics, `share` percent of them the first."""
        proportions = torch.zeros(self.num_topics)
        proportions[self.names.index(first)] += share / 100
        proportions[self.names.index(second)] += 1 - share / 100
        return self._draw(guidance, temperature, number, seed, topic_proportions=proportions).images

    def like(
        self, image: Image.Image | None, guidance: float, temperature: float, number: int, seed: int
    ) -> tuple[dict[str, float], Gallery]:
        """Return the topics of an image, and images that have the same ones."""
        if image is None:
            raise gr.Error("Choose an image first.", print_exception=False)
        proportions = self.pipe.infer_topics([image])[0]
        largest = proportions.argsort(descending=True)[:MOST_TOPICS].tolist()
        shares = {self.names[topic]: float(proportions[topic]) for topic in largest}
        images = self._draw(
            guidance, temperature, number, seed, topic_proportions=proportions
        ).images
        return shares, images

    def all_topics(self, number: int, seed: int) -> Gallery:
        """Return images of each topic, one topic after the other, with its name."""
        drawn = self.pipe(
            topics=range(self.num_topics), num_images_per_prompt=int(number), generator=int(seed)
        ).images
        names = [name for name in self.names for _ in range(int(number))]
        return [(_enlarge(image), name) for image, name in zip(drawn, names, strict=True)]

    def _draw(
        self, guidance: float, temperature: float, number: int, seed: int, **prompt: Any
    ) -> Any:
        output = self.pipe(
            **prompt, guidance_scale=float(guidance), temperature=float(temperature),
            num_images_per_prompt=int(number), generator=int(seed),
        )  # fmt: skip
        output.images = [_enlarge(image) for image in output.images]
        return output


def _enlarge(image: Image.Image) -> Image.Image:
    width = TILE * image.width // max(image.size)
    return image.resize((width, TILE * image.height // max(image.size)), Image.Resampling.NEAREST)


def build(checkpoint: str) -> gr.Blocks:
    """Return the page for a pipeline, a Hub id or a folder."""
    topics = ImagesByTopic(checkpoint)
    name = "/".join(Path(checkpoint).parts[-2:])

    def options() -> list[gr.Slider | gr.Number]:
        with gr.Row():
            return [
                gr.Slider(
                    1,
                    topics.max_guidance,
                    1,
                    step=0.1,
                    label="Guidance: how closely to follow topics",
                ),
                gr.Slider(0.1, 1.5, 1, step=0.05, label="Temperature: below 1 less varied"),
                gr.Slider(1, 32, 12, step=1, label="Images"),
                gr.Number(0, label="Seed", precision=0, minimum=0),
            ]

    with gr.Blocks(title="Images by topic") as page:
        gr.Markdown(INTRODUCTION.format(name=name, num_topics=topics.num_topics))
        with gr.Tab("Mix two topics"):
            with gr.Row():
                first = gr.Dropdown(topics.names, value=topics.names[0], label="Topic")
                second = gr.Dropdown(topics.names, value=topics.names[-1], label="Second topic")
                share = gr.Slider(0, 100, 100, step=5, label="Share of the first, %")
            settings = options()
            draw = gr.Button("Draw", variant="primary")
            gallery = gr.Gallery(label="Drawn", format="png", columns=6, height=420)
            asked = {
                "fn": topics.mixture,
                "inputs": [first, second, share, *settings],
                "outputs": [gallery],
            }
            draw.click(**asked, api_name="mixture")
            page.load(**asked, api_visibility="private")
        with gr.Tab("All topics"):
            with gr.Row():
                each = gr.Slider(1, 8, 4, step=1, label="Images of each")
                seed = gr.Number(0, label="Seed", precision=0, minimum=0)
            show = gr.Button("Draw", variant="primary")
            sheet = gr.Gallery(label="Topics", format="png", columns=8, height=640)
            show.click(topics.all_topics, [each, seed], [sheet], api_name="all_topics")
        with gr.Tab("Like an image"):
            with gr.Row():
                image = gr.Image(type="pil", label="Image", height=240)
                found = gr.Label(label="Its topics", num_top_classes=MOST_TOPICS)
            settings = options()
            imitate = gr.Button("Draw images with its topics", variant="primary")
            alike = gr.Gallery(label="Drawn", format="png", columns=6, height=420)
            imitate.click(topics.like, [image, *settings], [found, alike], api_name="like")
    return page


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--checkpoint", default=os.environ.get("CHECKPOINT", "your-name/topic-vq-image-cifar10")
    )
    build(parser.parse_args().checkpoint).launch()
