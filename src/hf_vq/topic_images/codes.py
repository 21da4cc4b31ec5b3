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
"""The codes of an image data set: made once, kept on disk, read without the images."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Subset
from transformers.utils import logging as transformers_logging

from hf_vq._extras import require
from hf_vq.topics.growing_arrays import GrowingArrays, open_arrays, read_facts, sole_writer

from .image_tokenizers import ImageTokenizer

require("datasets", extra="train")

# ruff: noqa: E402  the imports below need the extra
import datasets

from hf_vq.data import ImageCollator, InMemoryImages, data_revision

NO_LABEL = -1


class CodeGrids(Dataset):
    """The codes of N images, each a grid, as a data set for `hf_vq.training.train`.

    A row is `{"codes": int64 tensor (rows, columns)}`. Labels are beside the rows and not in them: training never sees
    them.

    Args:
        codes: `(N, rows, columns)`, integers; in memory or mapped from disk.
        codebook_size: Number of codes of the tokenizer.
        labels: `(N,)`, the class of each image, if classes are known.
        class_names: Names of the classes.
        fingerprint: That of the tokenizer.
        revision: That of the images, see `hf_vq.data.data_revision`.
    """

    def __init__(
        self,
        codes: Any,
        codebook_size: int,
        labels: Any = None,
        class_names: Sequence[str] | None = None,
        fingerprint: str | None = None,
        revision: str | None = None,
    ):
        self.codes = np.asanyarray(codes)
        if self.codes.ndim != 3 or self.codes.dtype.kind not in "iu":
            raise ValueError(
                f"codes are {self.codes.dtype} of shape {self.codes.shape}, expected integers (images, rows, columns)"
            )
        if len(self.codes) and (self.codes.min() < 0 or self.codes.max() >= codebook_size):
            raise ValueError(
                f"codes range from {self.codes.min()} to {self.codes.max()}, expected 0 to {codebook_size - 1}"
            )
        self.labels = None if labels is None else np.asarray(labels)
        if self.labels is not None and self.labels.shape != self.codes.shape[:1]:
            raise ValueError(f"{len(self.codes)} images have labels of shape {self.labels.shape}")
        self.codebook_size = codebook_size
        self.class_names = list(class_names) if class_names else None
        self.fingerprint, self.revision = fingerprint, revision

    def __len__(self) -> int:
        return len(self.codes)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[dict[str, torch.Tensor]]:
        """Read the rows of a whole batch at once."""
        codes = torch.from_numpy(self.codes[np.asarray(indices)].astype(np.int64))
        return [{"codes": grid} for grid in codes]

    @property
    def grid_size(self) -> tuple[int, int]:
        """Rows and columns of a grid."""
        rows, columns = self.codes.shape[1:]
        return rows, columns

    def tensor(self, rows: Any = slice(None)) -> torch.Tensor:
        """Codes as one int64 tensor `(images, rows, columns)`."""
        return torch.from_numpy(self.codes[rows].astype(np.int64))

    def sample(self, number: int, seed: int = 0) -> torch.Tensor:
        """Codes of some images at random, `(at most number, rows, columns)`, int64; the same ones for a seed."""
        rows = np.random.default_rng(seed).permutation(len(self))[:number]
        return self.tensor(np.sort(rows))

    def counts(self) -> np.ndarray:
        """How often each code occurs, `(codebook_size,)`."""
        return np.bincount(self.codes.ravel(), minlength=self.codebook_size)

    def histograms(self) -> np.ndarray:
        """Share of each code among those of each image, `(N, codebook_size)`, float32."""
        flat = self.codes.reshape(len(self), -1).astype(np.int64)
        histograms = np.zeros((len(self), self.codebook_size), dtype=np.float32)
        np.add.at(histograms, (np.arange(len(self))[:, None], flat), 1 / max(flat.shape[1], 1))
        return histograms

    def label_names(self) -> list[str]:
        """The class of each image in words.

        Raises:
            ValueError: If classes are not known.
        """
        if self.labels is None:
            raise ValueError("the images have no labels")
        names = self.class_names
        return [names[label] if names else str(label) for label in self.labels.tolist()]


def encode_images(
    dataset: "datasets.Dataset | InMemoryImages",
    tokenizer: ImageTokenizer,
    processor: Any = None,
    cache_dir: str | Path | None = None,
    *,
    label_column: str | None = None,
    batch_size: int = 256,
    num_workers: int = 0,
    progress: bool = True,
) -> CodeGrids:
    """Turn every image of a data set into its codes, once.

    Args:
        dataset: Images, of `hf_vq.data.load_images` or `InMemoryImages`.
        tokenizer: Makes the codes.
        processor: Images to pixels; not needed for `InMemoryImages`.
        cache_dir: Where to keep codes, in a folder named after tokenizer, processor and images. Images whose codes lie
            there are not encoded again, and an interrupted pass goes on where it stopped. In memory if `None`.
        label_column: Column of the classes.
        batch_size: Images encoded at a time.
        num_workers: Processes that decode image files.
        progress: Whether to show a progress bar.

    Raises:
        ValueError: If the data set is a stream or empty.
    """
    if not hasattr(dataset, "__len__"):
        raise ValueError(
            "codes are made once and kept, which a stream does not need: load it with streaming=False"
        )
    if not len(dataset):
        raise ValueError("there are no images to encode")
    collate = ImageCollator(processor, label_column=label_column)
    rows, columns = tokenizer.grid_size(*collate([dataset[0]])["pixel_values"].shape[2:])
    dtype = "uint16" if tokenizer.codebook_size <= 2**16 else "int32"
    facts = {
        "fingerprint": tokenizer.fingerprint,
        "precision": str(tokenizer.dtype),
        "processor": _describe(processor),
        "images": data_revision(dataset),
        "label_column": label_column,
        "grid_size": [rows, columns],
        "codebook_size": tokenizer.codebook_size,
    }
    common = {
        "codebook_size": tokenizer.codebook_size,
        "class_names": _class_names(dataset, label_column),
        "fingerprint": tokenizer.fingerprint,
        "revision": facts["images"],
    }

    def batches(start: int) -> Any:
        loader = DataLoader(
            Subset(dataset, range(start, len(dataset))),
            batch_size,
            collate_fn=collate,
            num_workers=num_workers,
        )
        bar = transformers_logging.tqdm(
            total=len(dataset), initial=start, desc="codes of images", disable=not progress
        )
        with bar:
            for batch in loader:
                codes = tokenizer.encode(batch["pixel_values"]).cpu().numpy()
                labels = batch.get("labels", torch.full((len(codes),), NO_LABEL)).numpy()
                yield {"codes": codes.astype(dtype), "labels": labels}
                bar.update(len(codes))

    if cache_dir is None:
        parts = list(batches(0))
        arrays = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    else:
        facts_text = json.dumps(facts, sort_keys=True)
        key = hashlib.sha256(facts_text.encode()).hexdigest()[:20]
        folder, dtypes = Path(cache_dir) / key, {"codes": dtype, "labels": "int64"}
        with sole_writer(folder):
            if read_facts(folder) is None:
                with GrowingArrays(folder, dtypes, facts) as growing:
                    for part in batches(growing.num_documents):
                        growing.append(part, len(part["codes"]))
                    growing.finish()
        arrays = open_arrays(folder, dtypes)
    unknown = int((arrays["labels"] == NO_LABEL).sum())
    if 0 < unknown < len(dataset):
        raise ValueError(
            f"{unknown} of {len(dataset)} images have the label {NO_LABEL}, which is none: leave these images out, or "
            "label_column"
        )
    labels = None if unknown else arrays["labels"]
    return CodeGrids(arrays["codes"].reshape(-1, rows, columns), labels=labels, **common)


def _describe(processor: Any) -> Any:
    # Through JSON, in which the facts are kept and compared.
    options = processor.to_dict() if hasattr(processor, "to_dict") else str(processor)
    return json.loads(json.dumps(options, default=str))


def _class_names(dataset: Any, label_column: str | None) -> list[str] | None:
    features = getattr(dataset, "features", None) or {}
    return getattr(features.get(label_column), "names", None)


__all__ = ["CodeGrids", "encode_images"]
