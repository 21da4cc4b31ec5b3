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
"""Images from a Hub data set or a local folder: as PIL images, as tensors in memory, as batches.

`load_images` opens the data and decodes each image when it is read, so that a corrupt one is
reported by name; `InMemoryImages` decodes a small data set once; `ImageCollator` makes the batches.
"""

import hashlib
import io
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import PIL.Image
import PIL.ImageOps
import torch
from torch.utils.data import Dataset

from ._extras import require

require("datasets", extra="train")

import datasets  # noqa: E402
from datasets.utils.file_utils import xopen  # noqa: E402

from .data_sources import open_split, parse_split, slice_boundary  # noqa: E402

logger = logging.getLogger(__name__)

__all__ = [
    "CorruptImageError",
    "ImageCollator",
    "InMemoryImages",
    "data_revision",
    "find_image_column",
    "load_digits_images",
    "load_images",
]

# An image knows its file at most; this column, dropped when rows are read, tells the row as well.
_ROW = "_row"


class CorruptImageError(ValueError):
    """An image cannot be decoded; the message names its file and row."""


def load_images(
    name_or_path: str | Path,
    split: str = "train",
    *,
    config_name: str | None = None,
    image_column: str | None = None,
    streaming: bool = False,
    on_corrupt: Literal["raise", "skip"] = "raise",
    revision: str | None = None,
    max_samples: int | None = None,
) -> datasets.Dataset | datasets.IterableDataset:
    """Open a data set whose column `image` gives PIL images, each decoded when it is read.

    Args:
        name_or_path: A Hub id, a folder written by `save_to_disk`, or any folder that
            `datasets.load_dataset` opens: parquet files, image files, webdataset archives.
        split: Name of the split, with a slice to take a part of it: `"train[:-5000]"` to train on
            and the held-out `"train[-5000:]"`. Slices are counts of rows or percentages; a stream,
            whose length is not known, takes counts from its start only.
        config_name: Configuration, for a Hub data set that has several.
        image_column: The column to read, renamed to `image`; found by its type if `None`.
        streaming: Whether to read the data while iterating, without a local copy.
        on_corrupt: `"raise"` raises a `CorruptImageError` when an image that cannot be decoded is
            read. `"skip"` leaves such images out and logs a warning with their count; without
            streaming, all images are decoded once for that, since the length must be known.
        revision: Commit, branch or tag of a Hub data set.
        max_samples: Take no more than the first `max_samples` rows, corrupt ones included.

    Returns:
        An `IterableDataset` when streaming, else a `Dataset`, with all other columns as they were.

    Raises:
        ValueError: If the data set cannot be read, lacks the split, the slice or the column, or has
            no images. Failures of the network are raised as they are.
    """
    if on_corrupt not in ("raise", "skip"):
        raise ValueError(f"on_corrupt must be 'raise' or 'skip', got {on_corrupt!r}")
    if max_samples is not None and max_samples < 1:
        raise ValueError(f"max_samples must be at least 1, got {max_samples}")
    match = parse_split(split)
    source = f"split {split!r} of {str(name_or_path)!r}"
    dataset = open_split(
        name_or_path,
        match["name"],
        config_name=config_name,
        streaming=streaming,
        revision=revision,
    )
    column = find_image_column(dataset.features, image_column)
    if column != "image":
        if "image" in dataset.features:
            dataset = dataset.remove_columns("image")
        dataset = dataset.rename_column(column, "image")
    # Errors of the decoder inside `datasets` do not name the image, so that ours is used instead.
    dataset = dataset.cast_column("image", datasets.Image(decode=False))
    if streaming:
        start, stop = (_stream_boundary(match[end], source) for end in ("start", "stop"))
        return _decode_stream(dataset, start, stop, max_samples, on_corrupt, source)
    start, stop = (slice_boundary(match[end], len(dataset), source) for end in ("start", "stop"))
    return _decode_dataset(dataset, start, stop, max_samples, on_corrupt, source)


def find_image_column(features: datasets.Features | None, image_column: str | None = None) -> str:
    """Return the only column of type `datasets.Image`, or `image_column` if it can hold images.

    Example:
        >>> from datasets import Features, Image, Value
        >>> from hf_vq.data import find_image_column
        >>> find_image_column(Features({"img": Image(), "label": Value("int64")}))
        'img'
    """
    if features is None:
        raise ValueError("the data set does not state the types of its columns")
    columns = ", ".join(f"{name!r} ({_type_name(feature)})" for name, feature in features.items())
    if image_column is None:
        found = [name for name, feature in features.items() if isinstance(feature, datasets.Image)]
        if len(found) != 1:
            raise ValueError(
                f"{len(found)} columns have the type Image; choose the image_column from {columns}"
            )
        return found[0]
    if image_column not in features:
        raise ValueError(f"there is no column {image_column!r}; the columns are {columns}")
    feature = features[image_column]
    # Files written without the metadata of `datasets` hold images as bytes, paths or both.
    is_struct = isinstance(feature, dict) and not {"bytes", "path"}.isdisjoint(feature)
    is_value = _type_name(feature) in ("binary", "large_binary", "string", "large_string")
    if not (isinstance(feature, datasets.Image) or is_struct or is_value):
        raise ValueError(f"column {image_column!r} cannot hold images; the columns are {columns}")
    return image_column


def _type_name(feature: Any) -> str:
    return feature.dtype if isinstance(feature, datasets.Value) else type(feature).__name__


def _stream_boundary(text: str | None, source: str) -> int | None:
    if text is not None and not text.isdecimal():
        raise ValueError(f"{source}: the length of a stream is unknown, so it has no row {text}")
    return None if text is None else int(text)


def _decode_dataset(
    dataset: datasets.Dataset,
    start: int | None,
    stop: int | None,
    max_samples: int | None,
    on_corrupt: str,
    source: str,
) -> datasets.Dataset:
    size = len(dataset)
    rows = range(size)[start:stop][:max_samples]
    if not rows:
        raise ValueError(f"{source} has no images: there are {size} rows without the slice")
    dataset = dataset.add_column(_ROW, np.arange(size)).select(rows)
    if on_corrupt == "skip":
        kept, first = [], ""
        for position, row in enumerate(dataset):
            try:
                _decode(row["image"], row[_ROW], source)
                kept.append(position)
            except CorruptImageError as error:
                first = first or str(error)
        if first:
            logger.warning("skipped %d corrupt images; the first: %s", len(rows) - len(kept), first)
            dataset = dataset.select(kept)
        if not kept:
            raise ValueError(f"{source} has no images that can be decoded: {first}")
    return dataset.with_transform(partial(_decode_rows, source=source))


def _decode_rows(rows: dict[str, list], source: str) -> dict[str, list]:
    numbers = rows.pop(_ROW, None)
    if "image" in rows:  # absent when someone reads another column alone
        numbers = numbers or [None] * len(rows["image"])
        pairs = zip(rows["image"], numbers, strict=True)
        rows["image"] = [_decode(value, number, source) for value, number in pairs]
    return rows


def _decode_stream(
    stream: datasets.IterableDataset,
    start: int | None,
    stop: int | None,
    max_samples: int | None,
    on_corrupt: str,
    source: str,
) -> datasets.IterableDataset:
    start = start or 0
    counts = [count for count in (stop and max(stop - start, 0), max_samples) if count is not None]
    stream = stream.skip(start) if start else stream
    stream = stream.take(min(counts)) if counts else stream
    # Looking for one row now makes an empty or unreadable stream fail here, not inside training.
    try:
        is_empty = next(iter(stream), None) is None
    except ConnectionError:
        raise
    except (OSError, ValueError) as error:
        raise ValueError(f"cannot read {source}: {error}") from error
    if is_empty:
        raise ValueError(f"{source} has no images")
    decode = _StreamDecoder(source, start, skip_corrupt=on_corrupt == "skip")
    stream = stream.map(decode, with_indices=True)
    return stream.filter(_has_image) if decode.skip_corrupt else stream


class _StreamDecoder:
    """Decodes the rows of a stream, counting those skipped (in each worker process on its own)."""

    def __init__(self, source: str, start: int, skip_corrupt: bool):
        self.source, self.start, self.skip_corrupt = source, start, skip_corrupt
        self.num_skipped = 0

    def __call__(self, row: dict[str, Any], index: int) -> dict[str, Any]:
        try:
            return {"image": _decode(row["image"], self.start + index, self.source)}
        except CorruptImageError as error:
            if not self.skip_corrupt:
                raise
            self.num_skipped += 1
            logger.warning("skipped %d corrupt images so far; now: %s", self.num_skipped, error)
            return {"image": None}


def _has_image(row: dict[str, Any]) -> bool:
    return row["image"] is not None


def _decode(value: dict[str, Any] | None, number: int | None, source: str) -> PIL.Image.Image:
    """Decode one cell of the column `image`; a file that cannot be opened raises an `OSError`."""
    path, data = (value["path"], value["bytes"]) if value else (None, None)
    name = " ".join(
        ([repr(path)] if path else []) + ([f"(row {number})"] if number is not None else [])
    )
    if path is None and data is None:
        raise CorruptImageError(f"image {name} in {source} is missing: it has no bytes and no path")
    if data is None:
        with xopen(path, "rb") as file:
            data = file.read()
    try:
        image = PIL.Image.open(io.BytesIO(data))
        image.load()
        PIL.ImageOps.exif_transpose(image, in_place=True)
    except Exception as error:  # no file is touched here, so whatever fails is the data's fault
        raise CorruptImageError(f"cannot decode image {name} in {source}: {error}") from error
    return image


class InMemoryImages(Dataset):
    """A map-style image data set, decoded and processed once and then held as 8-bit pixels.

    A small model reads small images faster than PIL decodes them. A row is `{"pixel_values": float
    tensor (channels, height, width) in [0, 1]}`, equal to what the processor gives to the last bit,
    and `"labels"` if asked for.

    Args:
        dataset: Map-style data set with a column `image`, for example from `load_images`.
        processor: Image processor that gives pixels of equal size, rescaled by 1/255 and no more.
        label_column: Column of integers to keep as `labels`.
        batch_size: Images processed at a time.
    """

    def __init__(
        self,
        dataset: datasets.Dataset,
        processor: Callable[..., Any],
        label_column: str | None = None,
        batch_size: int = 256,
    ):
        if not isinstance(dataset, datasets.Dataset):
            raise ValueError(
                f"dataset must be a map-style datasets.Dataset, got {type(dataset).__name__}"
            )
        collate = ImageCollator(processor, label_column=label_column)
        batches = []
        for start in range(0, len(dataset), batch_size):
            stop = min(start + batch_size, len(dataset))
            batch = collate(dataset.__getitems__(range(start, stop)))
            batches.append({**batch, "pixel_values": _to_8_bits(batch["pixel_values"])})
        self.pixels = torch.cat([batch["pixel_values"] for batch in batches])
        self.labels = torch.cat([batch["labels"] for batch in batches]) if label_column else None
        self.revision = data_revision(dataset)

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: list[int]) -> list[dict[str, torch.Tensor]]:
        """Read the rows of a whole batch at once."""
        pixels = self.pixels[indices].float() / 255
        if self.labels is None:
            return [{"pixel_values": image} for image in pixels]
        labels = self.labels[indices]
        pairs = zip(pixels, labels, strict=True)
        return [{"pixel_values": image, "labels": label} for image, label in pairs]


def _to_8_bits(pixel_values: torch.Tensor) -> torch.Tensor:
    pixels = pixel_values.double() * 255
    rounded = pixels.round()
    in_range = rounded.min() >= 0 and rounded.max() <= 255
    if not (in_range and torch.allclose(pixels, rounded, rtol=0, atol=1e-3)):
        raise ValueError(
            "the processor must give 8-bit pixels divided by 255, without normalization; "
            f"got values from {pixel_values.min():.4g} to {pixel_values.max():.4g}"
        )
    return rounded.to(torch.uint8)


@dataclass
class ImageCollator:
    """Makes rows with a PIL image `image`, or with `pixel_values`, into the batch of a model.

    Horizontal flips draw from PyTorch's global generator, once per batch. `hf_vq.training` seeds it
    for every batch from the batch's position, so that a resumed run, or one with other worker
    processes, sees the same flips.

    Args:
        processor: Image processor, called on the PIL images of the batch.
        horizontal_flip: Whether to mirror each image with probability 1/2; for training only.
        label_column: Column of integers to return as `labels`.
    """

    processor: Callable[..., Any] | None = None
    horizontal_flip: bool = False
    label_column: str | None = None

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """Return `pixel_values` (batch, channels, height, width) and, if asked for, `labels`."""
        batch = {"pixel_values": self._pixel_values(rows)}
        if self.horizontal_flip:
            flip = torch.rand(len(rows)) < 0.5
            pixels = batch["pixel_values"]
            batch["pixel_values"] = torch.where(flip[:, None, None, None], pixels.flip(-1), pixels)
        label_column = "labels" if "labels" in rows[0] else self.label_column
        if label_column is not None:
            if label_column not in rows[0]:
                raise ValueError(
                    f"there is no column {label_column!r}; the columns are {sorted(rows[0])}"
                )
            batch["labels"] = torch.tensor([int(row[label_column]) for row in rows])
        return batch

    def _pixel_values(self, rows: list[dict[str, Any]]) -> torch.Tensor:
        if "pixel_values" in rows[0]:
            return torch.stack([row["pixel_values"] for row in rows])
        if "image" not in rows[0] or self.processor is None:
            raise ValueError(
                "rows must hold 'pixel_values', or 'image' when there is a processor; "
                f"they hold {sorted(rows[0])} and the processor is {self.processor!r}"
            )
        images = [row["image"] for row in rows]
        return self.processor(images, return_tensors="pt")["pixel_values"]


def data_revision(dataset: datasets.Dataset | datasets.IterableDataset | InMemoryImages) -> str:
    """Identify the images by content, so that two figures can be known to rest on the same data.

    The names of files, the path and the machine play no part; the order of the images does.

    Args:
        dataset: Data set with images. A stream is read through once for this.

    Returns:
        `"sha256:..."`, over the encoded images; over the decoded pixels for a stream, where
        nothing else is left, and then `"pixels-sha256:..."`.
    """
    if isinstance(dataset, InMemoryImages):
        return dataset.revision
    digest = hashlib.sha256()
    if isinstance(dataset, datasets.IterableDataset):
        for row in dataset:
            image = row["image"]
            digest.update(
                hashlib.sha256(f"{image.mode} {image.size}".encode() + image.tobytes()).digest()
            )
        return f"pixels-sha256:{digest.hexdigest()}"
    for data in _encoded_images(dataset):
        digest.update(hashlib.sha256(data).digest())
    return f"sha256:{digest.hexdigest()}"


def _encoded_images(dataset: datasets.Dataset) -> Iterator[bytes]:
    column = find_image_column(dataset.features)
    encoded = dataset.with_format(None).select_columns(column)
    for row in encoded.cast_column(column, datasets.Image(decode=False)):
        value = row[column]
        yield value["bytes"] if value["bytes"] is not None else Path(value["path"]).read_bytes()


def load_digits_images() -> datasets.DatasetDict:
    """Load 1,797 handwritten digits of 8 x 8 gray pixels, which scikit-learn carries: no download.

    The original 17 levels of gray become 8 bits. The last 360 digits are the test split.
    """
    require("sklearn", extra="demo")
    from sklearn.datasets import load_digits

    digits = load_digits()
    pixels = np.rint(digits.images * (255 / 16)).astype(np.uint8)
    features = datasets.Features(
        {"image": datasets.Image(), "label": datasets.ClassLabel(num_classes=10)}
    )
    rows = {"image": [PIL.Image.fromarray(image) for image in pixels], "label": digits.target}
    dataset = datasets.Dataset.from_dict(rows, features=features)
    train, test = range(len(dataset) - 360), range(len(dataset) - 360, len(dataset))
    return datasets.DatasetDict(train=dataset.select(train), test=dataset.select(test))
