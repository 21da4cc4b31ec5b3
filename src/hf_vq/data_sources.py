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
"""Open one split of a data set, wherever it lies; what image and text data have in common."""

import re
from pathlib import Path
from typing import Any

from ._extras import require

require("datasets", extra="train")

import datasets  # noqa: E402

__all__ = ["FILE_FORMATS", "open_split", "parse_split", "slice_boundary"]

# What `datasets` calls the reader of a single file.
FILE_FORMATS = {
    ".csv": "csv",
    ".json": "json",
    ".jsonl": "json",
    ".parquet": "parquet",
    ".tsv": "csv",
    ".txt": "text",
}
_SPLIT = re.compile(r"(?P<name>[\w.-]+)(\[(?P<start>-?\d+%?)?:(?P<stop>-?\d+%?)?\])?")


def parse_split(split: str) -> re.Match[str]:
    """Take `train` or `train[:45000]` apart, into the groups `name`, `start` and `stop`.

    Example:
        >>> parse_split("train[:90%]").group("name", "start", "stop")
        ('train', None, '90%')
    """
    match = _SPLIT.fullmatch(split)
    if match is None:
        raise ValueError(f"split must look like 'train' or 'train[:45000]', got {split!r}")
    return match


def open_split(
    name_or_path: str | Path,
    split: str,
    *,
    config_name: str | None = None,
    streaming: bool = False,
    revision: str | None = None,
) -> Any:
    """Open a split, without a slice, of a Hub id, a folder or a file.

    Args:
        name_or_path: A Hub id, a folder written by `save_to_disk`, any folder that
            `datasets.load_dataset` opens, or a single file of `FILE_FORMATS`, whose split is
            `"train"`.
        split: Name of the split.
        config_name: Configuration, for a Hub data set that has several.
        streaming: Whether to return an `IterableDataset`.
        revision: Commit, branch or tag of a Hub data set.

    Raises:
        ValueError: If it cannot be read or lacks the split. Failures of the network are raised as
            they are.
    """
    try:
        return _open(Path(name_or_path), str(name_or_path), split, config_name, streaming, revision)
    except ConnectionError:  # the network's fault, not the data's
        raise
    except StopIteration as error:  # of a file of JSON without a line
        raise ValueError(
            f"cannot read split {split!r} of {str(name_or_path)!r}: it has no rows"
        ) from error
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        # Of a file that cannot be parsed `datasets` says only in the cause what is wrong with it.
        wrapped = isinstance(error, datasets.exceptions.DatasetGenerationError) and error.__cause__
        reason = f"{error}: {error.__cause__}" if wrapped else error
        raise ValueError(
            f"cannot read split {split!r} of {str(name_or_path)!r}: {reason}"
        ) from error


def _open(
    path: Path,
    name: str,
    split: str,
    config_name: str | None,
    streaming: bool,
    revision: str | None,
) -> Any:
    if (path / "state.json").is_file() or (path / "dataset_dict.json").is_file():
        saved = datasets.load_from_disk(path)
        # Saved without the name of a split, a data set is "train", as unnamed files are on the Hub.
        is_dict = isinstance(saved, datasets.DatasetDict)
        splits = saved if is_dict else {str(saved.split or "train"): saved}
        if split not in splits:
            raise ValueError(f"Unknown split {split!r}. Should be one of {sorted(splits)}.")
        return splits[split].to_iterable_dataset() if streaming else splits[split]
    if path.is_file():
        if path.suffix not in FILE_FORMATS:
            raise ValueError(f"{path.name!r} must end in one of {sorted(FILE_FORMATS)}")
        options: dict[str, Any] = {}
        if FILE_FORMATS[path.suffix] == "csv":
            # "null" and "NA" are words here, not gaps.
            options = {"sep": "\t" if path.suffix == ".tsv" else ",", "keep_default_na": False}
        files = {"train": str(path)}
        return datasets.load_dataset(
            FILE_FORMATS[path.suffix], data_files=files, split=split, streaming=streaming, **options
        )
    return datasets.load_dataset(
        name, config_name, split=split, streaming=streaming, revision=revision
    )


def slice_boundary(text: str | None, size: int, source: str) -> int | None:
    """Turn one end of a slice, such as `-5000` or `90%`, into a number of rows.

    Example:
        >>> slice_boundary("90%", 50, "the data")
        45
    """
    if text is None:
        return None
    number = int(text.removesuffix("%"))
    if abs(number) > (100 if text.endswith("%") else size):
        raise ValueError(f"{source} goes beyond the {size} rows that there are")
    return round(number * size / 100) if text.endswith("%") else number
