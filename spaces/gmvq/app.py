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
"""A Space for GM-VQ: an image as codes, what is lost on the way, and what changes when codes do.

    python app.py --checkpoint your-name/gmvq-cifar10

takes a Hub id or a folder; on the Hub the Space's variable CHECKPOINT says which.
"""

import argparse
import os
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
import torch
from PIL import Image
from sklearn.datasets import load_sample_images

from hf_vq.code_pictures import color_codes
from hf_vq.hub import load_image_autoencoder
from hf_vq.metrics import psnr

INTRODUCTION = """# Images as codes
`{name}` writes an image as a grid of integers, each one of {codebook_size:,}, and paints the image again from the
integers alone. [Paper](https://arxiv.org/abs/2410.10180)."""


class ImageCodes:
    """What the page asks of a model: images to codes and back, with the code changed in between."""

    def __init__(self, checkpoint: str):
        self.model, self.processor = load_image_autoencoder(checkpoint)
        self.stride = 2**self.model.config.num_downsamples
        self.colors = color_codes(self.model.quantizer.codebook)

    @torch.no_grad()
    def reconstruct(
        self, image: Image.Image | None, side: int, damage: int
    ) -> tuple[Image.Image, Image.Image, Image.Image, str]:
        """Return what the model saw, the codes as colors, the reconstruction, and a sentence on the size of both."""
        pixels = self._pixels(image, side)
        codes = self.model.encode(pixels).codes
        size = self.model.config.codebook_size
        generator = torch.Generator().manual_seed(0)
        hit = torch.rand(codes.shape, generator=generator) < damage / 100
        codes = torch.where(hit, torch.randint(size, codes.shape, generator=generator), codes)
        reconstruction = self.model.decode(codes=codes).reconstruction
        bits = codes.numel() * np.log2(size)
        facts = (
            f"{codes.shape[2]} x {codes.shape[1]} codes, {len(codes.unique())} different: {bits / 8:,.0f} bytes in "
            f"place of {pixels.numel():,}. PSNR {psnr(reconstruction.clamp(0, 1), pixels).item():.1f} dB."
        )
        return self._show(pixels), self._code_map(codes[0]), self._show(reconstruction), facts

    @torch.no_grad()
    def mix(
        self, left: Image.Image | None, right: Image.Image | None, side: int, share: int
    ) -> tuple[Image.Image, Image.Image]:
        """Return the codes, and the image, of the left part of one and the right part of the other."""
        codes = [self.model.encode(self._pixels(image, side)).codes for image in (left, right)]
        edge = round(codes[0].shape[2] * share / 100)
        mixed = torch.cat([codes[0][:, :, :edge], codes[1][:, :, edge:]], dim=2)
        return self._code_map(mixed[0]), self._show(self.model.decode(codes=mixed).reconstruction)

    def _pixels(self, image: Image.Image | None, side: int) -> torch.Tensor:
        if image is None:
            raise gr.Error("Choose an image first.", print_exception=False)
        return self.processor(image, size=side, return_tensors="pt").pixel_values

    def _show(self, pixels: torch.Tensor) -> Image.Image:
        image = self.processor.post_process(pixels)[0]
        return image.resize((384, 384), Image.Resampling.NEAREST)

    def _code_map(self, codes: torch.Tensor) -> Image.Image:
        return Image.fromarray(self.colors[codes]).resize((384, 384), Image.Resampling.NEAREST)


def build(checkpoint: str) -> gr.Blocks:
    """Return the page for a checkpoint, a Hub id or a folder."""
    codes = ImageCodes(checkpoint)
    config: Any = codes.model.config
    examples = [Image.fromarray(image) for image in load_sample_images().images]
    sizes: dict[str, Any] = {
        "minimum": 4 * codes.stride,
        "maximum": 8 * config.image_size,
        "value": 4 * config.image_size,  # more than it was trained on: it is convolutional
        "step": codes.stride,
        "label": "Side of the image in pixels",
    }
    with gr.Blocks(title="Images as codes") as page:
        gr.Markdown(
            INTRODUCTION.format(
                name="/".join(Path(checkpoint).parts[-2:]), codebook_size=config.codebook_size
            )
        )
        with gr.Tab("Reconstruct"):
            with gr.Row():
                with gr.Column(scale=1):
                    image = gr.Image(examples[0], type="pil", label="Image", height=300)
                    side = gr.Slider(**sizes)
                    damage = gr.Slider(0, 100, 0, step=1, label="Codes replaced by random ones, %")
                    button = gr.Button("Reconstruct", variant="primary")
                    gr.Examples([[example] for example in examples], inputs=[image])
                with gr.Column(scale=3):
                    with gr.Row():
                        seen = gr.Image(
                            label="What the model sees", format="png", interactive=False
                        )
                        code_map = gr.Image(
                            label="Codes, like ones in like colors", format="png", interactive=False
                        )
                        painted = gr.Image(
                            label="Painted from the codes", format="png", interactive=False
                        )
                    facts = gr.Markdown()
            asked = {
                "fn": codes.reconstruct,
                "inputs": [image, side, damage],
                "outputs": [seen, code_map, painted, facts],
            }
            button.click(**asked, api_name="reconstruct")
            page.load(**asked, api_visibility="private")
        with gr.Tab("Mix two images"):
            with gr.Row():
                left = gr.Image(examples[0], type="pil", label="Left", height=300)
                right = gr.Image(examples[-1], type="pil", label="Right", height=300)
            mix_side = gr.Slider(**sizes)
            share = gr.Slider(0, 100, 50, step=1, label="Codes from the left image, %")
            mix_button = gr.Button("Mix", variant="primary")
            with gr.Row():
                mixed_codes = gr.Image(label="Codes", format="png", interactive=False)
                mixed = gr.Image(label="Painted from the codes", format="png", interactive=False)
            mix_button.click(
                codes.mix, [left, right, mix_side, share], [mixed_codes, mixed], api_name="mix"
            )
    return page


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--checkpoint", default=os.environ.get("CHECKPOINT", "your-name/gmvq-cifar10")
    )
    build(parser.parse_args().checkpoint).launch()
