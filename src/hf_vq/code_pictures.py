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
"""Codes as colors, and images side by side in one picture."""

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image

__all__ = ["GAP", "color_codes", "draw"]

GAP = 4  # pixels between the images of `draw`


def color_codes(codebook: torch.Tensor) -> np.ndarray:
    """Return one RGB color for each code, (codebook_size, 3), similar for codes that are alike."""
    centered = codebook.float().cpu() - codebook.float().cpu().mean(dim=0)
    directions = torch.linalg.svd(centered, full_matrices=False).Vh[:3]
    # Ranks, so that outliers do not leave one color for all the rest.
    ranks = (centered @ directions.T).argsort(dim=0).argsort(dim=0)
    colors = np.full((len(codebook), 3), 128, dtype=np.uint8)
    colors[:, : ranks.shape[1]] = (ranks * 255 // max(len(codebook) - 1, 1)).numpy()
    return colors


def draw(rows: Sequence[Sequence[Image.Image]], size: tuple[int, int]) -> Image.Image:
    """Return one picture of all images, each enlarged to `size` without blurring its pixels."""
    width, height = size
    picture = Image.new(
        "RGB", (len(rows[0]) * (width + GAP) - GAP, len(rows) * (height + GAP) - GAP), "white"
    )
    for y, row in enumerate(rows):
        for x, image in enumerate(row):
            tile = image.convert("RGB").resize(size, Image.Resampling.NEAREST)
            picture.paste(tile, (x * (width + GAP), y * (height + GAP)))
    return picture
