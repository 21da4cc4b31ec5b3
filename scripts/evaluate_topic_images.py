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
# /// script
# requires-python = ">=3.11"
# dependencies = ["hf_vq[topics,image,plots]"]
# ///
"""Score topics of images on a data set, write every figure to `<pipeline>.json`, and draw what topics look like.

    python scripts/evaluate_topic_images.py --pipeline runs/topic-vq-image-cifar10/pipeline --dataset uoft-cs/cifar10 \
        --label_column label --pictures topics/
    python scripts/evaluate_topic_images.py --pipeline user/model --dataset my_images/ --split train --max_samples 1000

The record holds the figures with their definitions, the data's revision, hardware, versions, commit and command. With
`--pictures` a folder gets sheets of samples, of the images nearest to each topic and of references beside images with
their topics, a heat map of topics and classes, and all of it as one page.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from hf_vq import GMVQImageProcessor
from hf_vq.evaluation import format_figures, record_path, write_record
from hf_vq.image_source import ImageSource
from hf_vq.topic_images.codes import encode_images
from hf_vq.topic_images.image_tokenizers import image_tokenizer
from hf_vq.topic_images.pictures import picture_topics, save_pictures
from hf_vq.topic_images.pipeline import TopicVQImagePipeline
from hf_vq.topic_images.scoring import (
    IMAGE_TOPIC_DEFINITIONS,
    infer_proportions,
    score_topic_images,
)
from hf_vq.training_config import option, parse_config


@dataclass(kw_only=True)
class EvaluationConfig(ImageSource):
    """What to score, on which of the images, and what to draw."""

    pipeline: str = field(metadata={"help": "Folder or Hub id of a TopicVQImagePipeline."})
    output: str | None = option(None, "Where to write; unset: <pipeline>.json beside a folder.")
    pipeline_revision: str = option("main", "Commit, branch or tag of the pipeline.")
    label_column: str | None = option(
        None, "Column of their classes, which topics are compared with."
    )
    split: str = option("test", "Images to score, for example test[:1000].")
    max_samples: int | None = option(None, "Score no more than so many images.")
    batch_size: int = option(250, "Images in one batch.")
    samples_per_topic: int = option(16, "Images drawn for each topic to test; 0 for none.")
    pictures: str | None = option(None, "Folder for pictures; unset: none are drawn.")
    guidance_scale: float = option(1.0, "Of the images in pictures; figures are without guidance.")
    seed: int = option(0, "Of everything that is drawn.")
    seeds: list[int] = option([], "Seeds of the training runs behind the pipeline, to be noted.")
    cpu: bool = option(False, "Stay on the CPU even if there is an accelerator.")


def main(argv: Sequence[str] | None = None) -> dict[str, Any]:
    """Write the record, and pictures if asked for; returns the record."""
    (config,) = parse_config(EvaluationConfig, argv=argv)
    pipe = TopicVQImagePipeline.from_pretrained(config.pipeline, revision=config.pipeline_revision)
    pipe.to("cuda" if torch.cuda.is_available() and not config.cpu else "cpu")
    images = config.load(config.split, config.max_samples)
    tokenizer = image_tokenizer(pipe.tokenizer)
    height, width = pipe.image_size
    processor = GMVQImageProcessor(
        size={"height": height, "width": width}, do_grayscale=tokenizer.num_channels == 1
    )
    grids = encode_images(
        images, tokenizer, processor, label_column=config.label_column, batch_size=config.batch_size
    )
    metrics = score_topic_images(
        pipe.prior,
        grids,
        samples_per_topic=config.samples_per_topic,
        batch_size=config.batch_size,
        seed=config.seed,
    )
    output = Path(config.output or record_path(config.pipeline))
    scored = config.describe(config.split, grids.revision, config.max_samples)
    scored["tokenizer_fingerprint"] = grids.fingerprint
    record = write_record(
        output,
        config.pipeline,
        metrics,
        data=scored,
        seeds=config.seeds,
        definitions=IMAGE_TOPIC_DEFINITIONS,
    )
    print(format_figures(record["metrics"], output))
    if config.pictures:
        shown = picture_topics(
            pipe,
            images["image"],
            grids.label_names() if config.label_column else None,
            proportions=infer_proportions(pipe.prior, grids, config.batch_size),
            images_per_topic=min(8, len(images)),
            num_references=min(6, len(images)),
            seed=config.seed,
            guidance_scale=config.guidance_scale,
        )
        for path in save_pictures(shown, config.pictures):
            print(path)
    return record


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    main()
