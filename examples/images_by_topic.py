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
"""Images by topic: topics over the codes of digits, and new digits that follow them.

A minute on a CPU: python examples/images_by_topic.py
"""

import tempfile
from pathlib import Path

import torch

from hf_vq import (
    GMVQConfig,
    GMVQImageProcessor,
    GMVQModel,
    TopicVQForImageGeneration,
    TopicVQImageConfig,
)
from hf_vq.code_pictures import draw
from hf_vq.codebook_start import endless, start_codebook
from hf_vq.data import ImageCollator, InMemoryImages, load_digits_images
from hf_vq.topic_images.codes import encode_images
from hf_vq.topic_images.loading import load_image_tokenizer
from hf_vq.topic_images.pipeline import TopicVQImagePipeline
from hf_vq.training import TrainingConfig, train


def train_tokenizer(folder: Path, digits, steps: int) -> str:
    """Return the folder of a small GM-VQ; examples/image_tokens.py explains what happens here."""
    processor = GMVQImageProcessor(size=8, do_grayscale=True)
    config = GMVQConfig(
        image_size=8, num_channels=1, hidden_size=64, codebook_size=64, codebook_dim=16,
        quantizer="ema", commitment_loss_weight=0.05,
    )  # fmt: skip
    options = TrainingConfig(
        str(folder), max_steps=steps, per_device_train_batch_size=64, learning_rate=2e-3,
        max_grad_norm=1000.0, checkpointing_steps=None,
    )  # fmt: skip
    results = train(
        GMVQModel(config), InMemoryImages(digits["train"], processor), options,
        collate_fn=ImageCollator(processor), processor=processor,
        before_training=lambda accelerator, model, loader: start_codebook(
            accelerator, model, endless(loader), warmup_steps=steps // 10
        ),
    )  # fmt: skip
    return results["final_model"]


def main(folder: str | Path, steps: int = 600, num_topics: int = 10) -> TopicVQImagePipeline:
    """Train into `folder`, draw, and return the pipeline."""
    torch.manual_seed(0)
    digits = load_digits_images()
    # Any GMVQModel, or VQModel of diffusers, from a folder or the Hub is an image tokenizer.
    checkpoint = train_tokenizer(Path(folder) / "tokenizer", digits, steps)
    tokenizer, processor = load_image_tokenizer(checkpoint)

    # The codes of all images, made once. From here on nothing looks at a pixel.
    codes = encode_images(digits["train"], tokenizer, processor, progress=False)
    config = TopicVQImageConfig(
        num_topics=num_topics, codebook_size=tokenizer.codebook_size,
        codebook_dim=tokenizer.codebook_dim, grid_size=list(codes.grid_size), hidden_size=64,
        num_hidden_layers=2, num_attention_heads=4, inference_channels=32,
        inference_hidden_sizes=[64],
        kl_loss_weight=0.3,  # four codes an image: at full weight its topics would cost more than they tell
        tokenizer_fingerprint=tokenizer.fingerprint,  # another tokenizer is refused later
    )  # fmt: skip
    model = TopicVQForImageGeneration(config)
    model.set_codebook(tokenizer.codebook)
    model.set_background(torch.from_numpy(codes.counts()))  # how frequent each code is anyway
    model.initialize_topics(
        codes.tensor()
    )  # as clusters of images; by chance, most would never come to life
    model.begin_training(steps)
    options = TrainingConfig(
        str(Path(folder) / "topics"), max_steps=steps, per_device_train_batch_size=128,
        learning_rate=2e-3, warmup_steps=steps // 20, weight_decay=0.05, checkpointing_steps=None,
    )  # fmt: skip
    train(model, codes, options)

    pipe = TopicVQImagePipeline(tokenizer.model, model.eval())
    pipe.set_progress_bar_config(disable=True)
    # A row for each topic, each image with a seed of its own.
    by_topic = pipe(topics=range(num_topics), num_images_per_prompt=8, generator=0).images
    draw([by_topic[i : i + 8] for i in range(0, len(by_topic), 8)], (48, 48)).save(
        Path(folder) / "topics.png"
    )
    # More digits like an unseen one, by its topics alone; guidance makes them follow topics more closely.
    like = pipe(reference_images=digits["test"]["image"][0], num_images_per_prompt=8,
                guidance_scale=2.0, generator=0)  # fmt: skip
    print("topics of the first unseen digit:", like.topic_proportions[0].numpy().round(2))
    pipe.save_pretrained(Path(folder) / "pipeline")  # TopicVQImagePipeline.from_pretrained
    print(f"a row of samples for each topic: {folder}/topics.png")
    return pipe


if __name__ == "__main__":
    main(tempfile.mkdtemp(prefix="images_by_topic-"))
