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
# dependencies = ["hf_vq[train]"]
# ///
"""Draw images, their reconstructions and their codes, one below the other.

    python scripts/reconstruct.py --checkpoint runs/gmvq-cifar10/best --images cat.png photos/
    python scripts/reconstruct.py --checkpoint user/model --dataset uoft-cs/cifar10 --split test --num_images 16

Each column of the picture is one image: as the model sees it, as it comes back, and the map of its codes. In the map,
codes whose vectors are alike have similar colors (the codebook's three principal components are red, green and blue).
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from hf_vq.code_pictures import color_codes, draw
from hf_vq.data import load_images
from hf_vq.hub import load_image_autoencoder
from hf_vq.pipelines import ImageReconstructionPipeline
from hf_vq.training_config import option, parse_config


@dataclass
class ReconstructionConfig:
    """Which images to draw, and where."""

    checkpoint: str = field(metadata={"help": "Folder or Hub id of the model."})
    images: list[str] = option([], "Image files and folders of image files.")
    dataset: str | None = option(None, "Hub id or folder of a data set, in place of images.")
    split: str = option("test", "Split of the data set.")
    image_column: str | None = option(None, "Column with the images; unset: the only one.")
    num_images: int = option(8, "Draw no more than so many images.")
    output: str = option("reconstructions.png", "The picture to write.")
    magnify: int | None = option(None, "Enlarge each pixel so often; unset: to about 128 a side.")
    checkpoint_revision: str = option("main", "Commit, branch or tag of the checkpoint.")


def find_images(names: Sequence[str]) -> list[Path]:
    """Return the files, with the image files of each folder in its place."""
    # Pillow writes more formats than it reads.
    endings = {e for e, kind in Image.registered_extensions().items() if kind in Image.OPEN}
    files: list[Path] = []
    for path in map(Path, names):
        if path.is_dir():
            inside = sorted(file for file in path.rglob("*") if file.suffix.lower() in endings)
            if not inside:
                raise ValueError(f"{path} holds no image files")
            files += inside
        elif path.is_file():
            files.append(path)
        else:
            raise ValueError(f"{path}: no such file or folder")
    return files


def main(argv: Sequence[str] | None = None) -> Path:
    """Write the picture and return its path."""
    (config,) = parse_config(ReconstructionConfig, argv=argv)
    if bool(config.images) == bool(config.dataset):
        raise ValueError("give either images or a dataset")
    if config.num_images < 1:
        raise ValueError(f"num_images is {config.num_images}, expected at least 1")
    model, processor = load_image_autoencoder(config.checkpoint, config.checkpoint_revision)
    if config.dataset:
        dataset = load_images(
            config.dataset,
            config.split,
            image_column=config.image_column,
            max_samples=config.num_images,
        )
        images = [row["image"] for row in dataset]
    else:
        images = find_images(config.images)[: config.num_images]

    pipe = ImageReconstructionPipeline(model=model, image_processor=processor)
    inputs = [pipe.preprocess(image)["pixel_values"] for image in images]
    originals = processor.post_process(torch.cat(inputs))
    outputs = pipe(originals)
    colors = color_codes(model.quantizer.codebook)
    rows = [
        originals,
        [output["reconstruction"] for output in outputs],
        [Image.fromarray(colors[output["codes"]]) for output in outputs],
    ]
    width, height = originals[0].size
    magnify = config.magnify or max(1, 128 // width)
    path = Path(config.output)
    path.parent.mkdir(parents=True, exist_ok=True)
    draw(rows, (width * magnify, height * magnify)).save(path)
    used = len(np.unique(np.stack([output["codes"] for output in outputs])))
    print(f"{len(images)} images, {used} of {model.config.codebook_size} codes: {path}")
    return path


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    main()
