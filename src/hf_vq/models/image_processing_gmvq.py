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
# mypy: disable-error-code="override"
# (transformers calls these hooks by keyword, with more keywords than any of them looks at)
"""Images to the pixels that GMVQModel reads, and its reconstructions back to images."""

from typing import Any

import numpy as np
from PIL import Image, ImageOps
from transformers.image_processing_backends import PilBackend
from transformers.image_utils import (
    ChannelDimension,
    ImageInput,
    PILImageResampling,
    SizeDict,
    infer_channel_dimension_format,
)
from transformers.processing_utils import ImagesKwargs
from transformers.utils import is_torch_tensor

from .published_code import overlook_published_code

# Pillow's fixed-point weights for RGB to gray (ITU-R 601), so that an array and the same image agree to the bit.
_GRAY_WEIGHTS = np.array([19595, 38470, 7471]) / 65536


class GMVQImageProcessorKwargs(ImagesKwargs, total=False):
    """Adds the one option that `ImagesKwargs` lacks.

    Attributes:
        do_grayscale: Whether to convert the image to one channel, in which case `do_convert_rgb` is not looked at.
    """

    do_grayscale: bool


class GMVQImageProcessor(PilBackend):
    """Scales an image until it covers `size`, cuts out the center and maps 8-bit pixels to [0, 1].

    An image of the right size passes through unchanged, so nothing is lost before the model sees it. Integer
    arrays hold pixels from 0 to 255; floating-point arrays hold pixels from 0 to 1, as the model itself does.
    There is no normalization. It needs PIL and numpy only.

    Args:
        size: `{"height": int, "width": int}`, or one integer for a square.
        resample: The PIL filter used for resizing.
        do_convert_rgb: Whether to convert every image to three channels.
        do_grayscale: Whether to convert every image to one channel instead, for a model with `num_channels=1`.
        do_rescale: Whether to map 8-bit pixels to [0, 1].
        kwargs: The other options of `PilBackend`.

    Example:
        >>> import numpy as np
        >>> processor = GMVQImageProcessor(size=32)
        >>> processor(np.zeros((40, 60, 3), dtype=np.uint8), return_tensors="pt").pixel_values.shape
        torch.Size([1, 3, 32, 32])
    """

    valid_kwargs = GMVQImageProcessorKwargs
    resample = PILImageResampling.BICUBIC
    size = {"height": 32, "width": 32}
    do_resize = True
    do_convert_rgb = True
    do_grayscale = False
    do_rescale = True

    @classmethod
    def from_dict(cls, image_processor_dict: dict[str, Any], **kwargs: Any) -> Any:
        """Make a processor of what was saved, as in transformers."""
        return super().from_dict(overlook_published_code(cls, image_processor_dict), **kwargs)

    def _prepare_images_structure(self, images: ImageInput, expected_ndims: int = 3) -> ImageInput:
        return super()._prepare_images_structure(_add_channel_axis(images), expected_ndims)

    def process_image(
        self,
        image: ImageInput,
        do_convert_rgb: bool | None = None,
        do_grayscale: bool | None = None,
        input_data_format: str | ChannelDimension | None = None,
        **kwargs: Any,
    ) -> np.ndarray:
        """Converts one image to a (channels, height, width) array, of uint8 or of float32 in [0, 1]."""
        num_channels = 1 if do_grayscale else 3 if do_convert_rgb else None
        if isinstance(image, Image.Image):
            if image.mode.startswith("I;16"):  # Pillow's own conversion clips 16 bits at 255
                image, input_data_format = np.asarray(image) / 65535, None
            elif image.mode in ("I", "F"):  # 32 bits with no agreed range: judged like any array
                image, input_data_format = np.asarray(image), None
            else:
                if num_channels is not None:
                    image = image.convert("L" if num_channels == 1 else "RGB")
                pixels = np.asarray(image)
                return pixels[None] if pixels.ndim == 2 else np.moveaxis(pixels, -1, 0)
        image = _check_pixels(_to_numpy(image))
        return _convert_channels(_to_channels_first(image, input_data_format), num_channels)

    def resize(
        self,
        image: np.ndarray,
        size: SizeDict,
        resample: PILImageResampling | None = None,
        **kwargs: Any,
    ) -> np.ndarray:
        """Scales a (channels, height, width) image until it covers `size`, and cuts out the center."""
        if not (size.height and size.width):
            raise ValueError(f"size must have a positive height and width, got {dict(size)}")
        if image.shape[-2:] == (size.height, size.width):
            return image
        method = self.resample if resample is None else resample
        # Channel by channel, because PIL has no color mode for floating-point pixels.
        channels = [
            ImageOps.fit(
                Image.fromarray(np.ascontiguousarray(channel)), (size.width, size.height), method
            )
            for channel in image
        ]
        resized = np.stack([np.asarray(channel) for channel in channels])
        # Bicubic filters overshoot at edges, and PIL clips 8-bit pixels only.
        return resized.clip(0, 1) if resized.dtype == np.float32 else resized

    def rescale(self, image: np.ndarray, scale: float, **kwargs: Any) -> np.ndarray:
        """Multiplies 8-bit pixels by `scale`; floating-point pixels are in [0, 1] already."""
        return image if image.dtype == np.float32 else super().rescale(image, scale, **kwargs)

    def post_process(self, reconstruction: Any) -> list[Image.Image]:
        """Converts reconstructions to 8-bit images: clamps to [0, 1] and rounds.

        Args:
            reconstruction: A tensor or array of shape (batch, 1 or 3 channels, height, width).

        Returns:
            One image per example: gray for one channel, RGB for three.
        """
        pixels = _to_numpy(reconstruction)
        if pixels.ndim != 4 or pixels.shape[1] not in (1, 3):
            raise ValueError(
                f"reconstruction must have shape (batch, 1 or 3, height, width), got {tuple(pixels.shape)}"
            )
        if not np.isfinite(pixels).all():
            raise ValueError("reconstruction holds NaN or infinite values")
        pixels = np.rint(pixels.clip(0, 1) * 255).astype(np.uint8)
        return [Image.fromarray(p[0] if len(p) == 1 else np.moveaxis(p, 0, -1)) for p in pixels]


def _add_channel_axis(images: Any) -> Any:
    """Gives gray (height, width) arrays, also inside lists, the channel axis that transformers counts on."""
    if isinstance(images, (list, tuple)):
        return [_add_channel_axis(image) for image in images]
    return images[None] if getattr(images, "ndim", None) == 2 else images


def _to_numpy(image: Any) -> np.ndarray:
    if is_torch_tensor(image):
        image = image.detach().cpu()
        image = image.float() if image.is_floating_point() else image  # numpy has no bfloat16
    return np.asarray(image)


def _check_pixels(image: np.ndarray) -> np.ndarray:
    """Returns uint8 pixels, or float32 pixels in [0, 1]; raises on everything that could only be a mistake."""
    dtype: type = np.uint8
    if np.issubdtype(image.dtype, np.integer):
        limit = 255
    elif np.issubdtype(image.dtype, np.floating):
        limit, dtype = 1, np.float32
        if not np.isfinite(image).all():
            raise ValueError(f"an image of shape {image.shape} holds NaN or infinite pixels")
    else:
        raise ValueError(
            f"pixels must be integers or floating-point numbers, got dtype {image.dtype}"
        )
    if image.size == 0:
        raise ValueError(f"an image of shape {image.shape} has no pixels")
    if image.min() < 0 or image.max() > limit:
        raise ValueError(
            "pixels must be integers in [0, 255] or floating-point numbers in [0, 1], "
            f"got {image.dtype} from {image.min()} to {image.max()}"
        )
    return image.astype(dtype)


def _to_channels_first(
    image: np.ndarray, input_data_format: str | ChannelDimension | None
) -> np.ndarray:
    if image.ndim == 2:
        return image[None]
    if input_data_format is None:
        if image.shape[0] not in (1, 3, 4) and image.shape[-1] not in (1, 3, 4):
            raise ValueError(
                f"an image must have 1, 3 or 4 channels, first or last, got shape {image.shape}"
            )
        input_data_format = infer_channel_dimension_format(image, num_channels=(1, 3, 4))
    return np.moveaxis(image, -1, 0) if input_data_format == ChannelDimension.LAST else image


def _convert_channels(image: np.ndarray, num_channels: int | None) -> np.ndarray:
    """Converts a (channels, height, width) array to gray or RGB as PIL does; `None` leaves it alone."""
    if num_channels is None or len(image) == num_channels:
        return image
    if len(image) not in (1, 3, 4):
        raise ValueError(
            f"cannot convert {len(image)} channels to {num_channels}, expected 1, 3 or 4"
        )
    if len(image) == 1:
        return np.repeat(image, 3, axis=0)
    if num_channels == 3:
        return image[:3]  # the alpha channel goes, as in Pillow
    gray = np.tensordot(_GRAY_WEIGHTS, image[:3].astype(np.float64), axes=1)[None]
    return (np.floor(gray + 0.5) if image.dtype == np.uint8 else gray).astype(image.dtype)


__all__ = ["GMVQImageProcessor"]
