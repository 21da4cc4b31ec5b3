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
"""One face for every image model with a codebook: images to codes, codes to images.

`image_tokenizer(model)` wraps our GMVQModel or diffusers' VQModel. Another model becomes one by a subclass of
`ImageTokenizer`. A repository with an image pipeline carries a copy of this file, which therefore imports nothing of
hf_vq.
"""

import hashlib
import json
from collections.abc import Iterator
from functools import cached_property
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor, nn

# The share of the largest number in a codebook by which half precision may move its numbers (bfloat16: 2 ** -8).
HALF_PRECISION = 2**-7


class ImageTokenizer:
    """What a topic model of images needs to know of an image model.

    A subclass says how its model encodes and decodes. Pixels are floats in [0, 1], codes are int64 grids `(batch, rows,
    columns)`; the model's own scale of pixels is the subclass's affair.

    Args:
        model: The image model; it is used as it is, so put it into eval mode.

    Attributes:
        num_channels: Channels of an image.
        stride: Pixels along one side of the square that a code stands for.
        codebook: `(codebook_size, codebook_dim)`, the vectors of the codes.
    """

    # Tensors of the state dict, by the beginning of their names, and fields of the configuration that decide which code
    # a pixel gets. The decoder is not among them: images may look better after it was tuned, their codes stay the same.
    deciding_tensors: tuple[str, ...] = ()
    deciding_fields: tuple[str, ...] = ()

    num_channels: int
    stride: int
    codebook: Tensor

    def __init__(self, model: nn.Module):
        self.model: Any = model

    def _encode(self, pixel_values: Tensor) -> Tensor:
        raise NotImplementedError

    def _decode(self, codes: Tensor) -> Tensor:
        raise NotImplementedError

    @property
    def codebook_size(self) -> int:
        """Number of codes."""
        return len(self.codebook)

    @property
    def codebook_dim(self) -> int:
        """Width of a code's vector."""
        return self.codebook.shape[1]

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return next(self.model.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """The type of the weights, half precision if any of those that decide codes is."""
        types = {tensor.dtype for _, tensor in self._deciding() if tensor.is_floating_point()}
        return (types - {torch.float32} or {torch.float32}).pop()

    @cached_property
    def fingerprint(self) -> str:
        """Identify what decides codes, to the bit: encoder, codebook, and the options that weigh them.

        Two models of one fingerprint give every image the same codes. Weights that were loaded in half precision have
        another fingerprint; compare those by `has_codebook`.
        """
        facts = {
            "class": type(self.model).__name__,
            **{name: getattr(self.model.config, name) for name in self.deciding_fields},
        }
        digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
        for name, tensor in self._deciding():
            digest.update(f"{name} {tuple(tensor.shape)}".encode())
            digest.update(tensor.detach().float().cpu().contiguous().numpy().tobytes())
        return f"sha256:{digest.hexdigest()}"

    def _deciding(self) -> Iterator[tuple[str, Tensor]]:
        for name, tensor in sorted(self.model.state_dict().items()):
            if name.startswith(self.deciding_tensors):
                yield name, tensor

    def has_codebook(self, codebook: Tensor) -> bool:
        """Whether the codes stand for these vectors, up to what half precision rounds away."""
        own, other = (table.detach().float().cpu() for table in (self.codebook, codebook))
        if own.shape != other.shape:
            return False
        return bool((own - other).abs().max() <= HALF_PRECISION * own.abs().max())

    @torch.no_grad()
    def encode(self, pixel_values: Tensor) -> Tensor:
        """Codes of images.

        Args:
            pixel_values: `(batch, num_channels, height, width)` in [0, 1].

        Returns:
            `(batch, height / stride, width / stride)`, int64.
        """
        if pixel_values.ndim != 4 or pixel_values.shape[1] != self.num_channels:
            raise ValueError(
                f"pixel_values have shape {tuple(pixel_values.shape)}, expected "
                f"(batch, {self.num_channels}, height, width)"
            )
        self.grid_size(*pixel_values.shape[2:])
        return self._encode(pixel_values.to(self.device)).long()

    @torch.no_grad()
    def decode(self, codes: Tensor) -> Tensor:
        """Images of codes.

        Args:
            codes: `(batch, rows, columns)`, integers in `[0, codebook_size)`.

        Returns:
            `(batch, num_channels, rows * stride, columns * stride)` in [0, 1], float32.
        """
        codes = torch.as_tensor(codes)
        if codes.ndim != 3 or codes.is_floating_point() or codes.dtype == torch.bool:
            raise ValueError(
                f"codes are {codes.dtype} of shape {tuple(codes.shape)}, expected integers (batch, rows, columns)"
            )
        codes = codes.long().to(self.device)
        if codes.numel():
            low, high = codes.aminmax()
            if low < 0 or high >= self.codebook_size:
                raise ValueError(
                    f"codes range from {low} to {high}, but the codebook has {self.codebook_size} "
                    f"(0 to {self.codebook_size - 1}): they are codes of another codebook"
                )
        return self._decode(codes).float().clamp(0, 1)

    def grid_size(self, height: int, width: int) -> tuple[int, int]:
        """Rows and columns of the codes of an image.

        Raises:
            ValueError: If the stride does not divide the image.
        """
        if height % self.stride or width % self.stride or not height or not width:
            raise ValueError(
                f"images of {height} x {width} pixels, expected multiples of the stride, {self.stride}"
            )
        return height // self.stride, width // self.stride


class GMVQTokenizer(ImageTokenizer):
    """Codes of GMVQModel, and of any model with its `encode`, `decode`, `quantizer.codebook` and configuration."""

    deciding_tensors = ("encoder.", "quantizer.codebook", "quantizer.logit_scale")
    deciding_fields = ("assignment_variance", "feature_weights", "quantizer")

    def __init__(self, model: nn.Module):
        super().__init__(model)
        self.num_channels = self.model.config.num_channels
        self.stride = 2**self.model.config.num_downsamples
        self.codebook = self.model.quantizer.codebook

    def _deciding(self) -> Iterator[tuple[str, Tensor]]:
        # `codebook_initialized` tells training where it stands, and codes nothing.
        return (row for row in super()._deciding() if not row[0].endswith("_initialized"))

    def _encode(self, pixel_values: Tensor) -> Tensor:
        return self.model.encode(pixel_values).codes

    def _decode(self, codes: Tensor) -> Tensor:
        return self.model.decode(codes=codes).reconstruction


class VQModelTokenizer(ImageTokenizer):
    """Codes of diffusers' VQModel, which has them inside: a VQ-VAE or VQGAN on pixels in [-1, 1]."""

    deciding_tensors = ("encoder.", "quant_conv.", "quantize.")
    deciding_fields = ("act_fn", "down_block_types", "norm_num_groups")

    def __init__(self, model: nn.Module):
        super().__init__(model)
        self.num_channels = self.model.config.in_channels
        self.stride = 2 ** (len(self.model.config.block_out_channels) - 1)
        self.codebook = self.model.quantize.embedding.weight

    def _encode(self, pixel_values: Tensor) -> Tensor:
        latents = self.model.encode((2 * pixel_values - 1).to(self.model.dtype)).latents
        codes = self.model.quantize(latents)[2][2]
        batch, _, rows, columns = latents.shape
        return codes.view(batch, rows, columns)  # the quantizer returns them in one row

    def _decode(self, codes: Tensor) -> Tensor:
        shape = (*codes.shape, self.codebook_dim)
        if self.model.config.lookup_from_codebook:
            decoded = self.model.decode(codes.flatten(), force_not_quantize=True, shape=shape)
        else:
            vectors = self.model.quantize.get_codebook_entry(codes.flatten(), shape)
            decoded = self.model.decode(vectors, force_not_quantize=True)
        return (decoded.sample + 1) / 2


def image_tokenizer(model: Any) -> ImageTokenizer:
    """The tokenizer of an image model; a tokenizer stays what it is.

    Raises:
        ValueError: If the model is of no kind that is known here.
    """
    if isinstance(model, ImageTokenizer):
        return model
    if hasattr(getattr(model, "quantizer", None), "codebook"):
        return GMVQTokenizer(model)
    if hasattr(getattr(model, "quantize", None), "get_codebook_entry"):
        return VQModelTokenizer(model)
    raise ValueError(
        f"{type(model).__name__} is no image model with a codebook that is known here: expected GMVQModel, diffusers' "
        "VQModel, or a subclass of ImageTokenizer around another model"
    )


def read_images(images: Any, num_channels: int, size: tuple[int, int] | None = None) -> Tensor:
    """Images of any form as one batch of pixels.

    Args:
        images: A PIL image, an array `(height, width[, channels])`, a tensor `(channels, height, width)`, a list of
            such, or a batch of arrays or tensors. Floats are in [0, 1], integers in [0, 255].
        num_channels: 1 for gray, 3 for RGB; PIL images are converted.
        size: Height and width. A PIL image is scaled until it covers them and its center is cut out, as the processor
            of GMVQModel does; arrays and tensors must have this size.

    Returns:
        `(batch, num_channels, height, width)`, float32 in [0, 1].
    """
    if isinstance(images, Image.Image) or getattr(images, "ndim", 4) < 4:
        images = [images]
    pixels = [_read_image(image, num_channels, size) for image in images]
    if not pixels:
        raise ValueError("there are no images, expected at least one")
    shapes = {tuple(image.shape[1:]) for image in pixels}
    if len(shapes) > 1:
        sizes = ", ".join(f"{height} x {width}" for height, width in sorted(shapes))
        raise ValueError(f"images of unlike sizes: {sizes}")
    return torch.stack(pixels)


def _read_image(image: Any, num_channels: int, size: tuple[int, int] | None) -> Tensor:
    if isinstance(image, Image.Image):
        if image.mode in ("I", "F"):
            raise ValueError(f"an image of mode {image.mode!r} has no agreed range: give an array")
        if image.mode.startswith("I;16"):  # Pillow's own conversion clips 16 bits at 255
            image = Image.fromarray(np.rint(np.asarray(image) / 257).astype(np.uint8))
        image = image.convert("L" if num_channels == 1 else "RGB")
        if size is not None and image.size != (size[1], size[0]):
            image = ImageOps.fit(image, (size[1], size[0]), Image.Resampling.BICUBIC)
        image = np.asarray(image)
    if isinstance(image, np.ndarray):
        image = torch.from_numpy(np.array(image if image.ndim == 3 else image[..., None]))
        image = image.movedim(-1, 0)
    elif not isinstance(image, Tensor):
        raise ValueError(f"an image is {type(image).__name__}, expected PIL, array or tensor")
    if image.ndim != 3 or image.shape[0] != num_channels:
        raise ValueError(
            f"an image has shape {tuple(image.shape)}, expected {num_channels} channels, height and width"
        )
    if size is not None and tuple(image.shape[1:]) != tuple(size):
        height, width = image.shape[1:]
        raise ValueError(f"an image has {height} x {width} pixels, expected {size[0]} x {size[1]}")
    pixels = image.float() if image.is_floating_point() else image.float() / 255
    if not (torch.isfinite(pixels).all() and pixels.min() >= 0 and pixels.max() <= 1):
        raise ValueError("pixels must be floats in [0, 1] or integers in [0, 255]")
    return pixels


__all__ = [
    "GMVQTokenizer",
    "ImageTokenizer",
    "VQModelTokenizer",
    "image_tokenizer",
    "read_images",
]
