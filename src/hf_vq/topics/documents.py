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
"""Documents, with their labels and times if they have any, from a data set or from the installed libraries."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hf_vq.data_sources import open_split, parse_split, slice_boundary

logger = logging.getLogger(__name__)

__all__ = ["Documents", "TextStream", "load_documents", "read_vocabulary"]


@dataclass
class Documents:
    """Texts and what is known of them.

    Args:
        texts: The documents, empty ones included.
        labels: The class of each, by name.
        timestamps: The time of each, as the data set gives it: numbers, dates or texts.
        bow_texts: Another form of each, preprocessed or lemmatized, whose words are counted.
    """

    texts: list[str]
    labels: list[str] | None = None
    timestamps: list[Any] | None = None
    bow_texts: list[str] | None = None

    @property
    def counted_texts(self) -> list[str]:
        """The texts whose words are counted."""
        return self.texts if self.bow_texts is None else self.bow_texts

    def __len__(self) -> int:
        return len(self.texts)


def load_documents(
    name_or_path: str | Path,
    split: str = "train",
    *,
    text_column: str = "text",
    label_column: str | None = None,
    time_column: str | None = None,
    bow_text_column: str | None = None,
    config_name: str | None = None,
    revision: str | None = None,
    max_samples: int | None = None,
) -> Documents:
    """Read the documents of a Hub data set, a folder or a file.

    Every row becomes a document, also one without text: it will have the topics of the prior.

    Args:
        name_or_path: A Hub id, a folder that `datasets.load_dataset` or `load_from_disk` opens, or
            a file: .txt (one document a line, the column `text`), .jsonl, .json, .csv, .tsv,
            .parquet. A single file is a `train` split.
        split: Name of the split, with a slice to take a part of it, such as `"train[:-600]"`.
        text_column: Column of the texts.
        label_column: Column of the classes, if there are any: names, numbers, or a `ClassLabel`.
        time_column: Column of the times, if there are any.
        bow_text_column: Column of another form of the texts whose words are counted, if there is one.
        config_name: Configuration, for a Hub data set that has several.
        revision: Commit, branch or tag of a Hub data set.
        max_samples: Take no more than the first `max_samples` rows.

    Raises:
        ValueError: If the data set cannot be read, lacks the split, the slice or a column, has no
            rows, or has a row whose text is none.
    """
    if max_samples is not None and max_samples < 1:
        raise ValueError(f"max_samples must be at least 1, got {max_samples}")
    match = parse_split(split)
    place = f"split {split!r} of {str(name_or_path)!r}"
    dataset = open_split(
        name_or_path, match["name"], config_name=config_name, revision=revision
    ).with_format(None)
    for column in (text_column, label_column, time_column, bow_text_column):
        if column is not None and column not in dataset.column_names:
            raise ValueError(
                f"there is no column {column!r} in {place}; the columns are {dataset.column_names}"
            )
    start, stop = (slice_boundary(match[end], len(dataset), place) for end in ("start", "stop"))
    rows = range(len(dataset))[start:stop][:max_samples]
    if not rows:
        raise ValueError(f"{place} has no documents")
    part = dataset.select(rows)

    def read_texts(column: str) -> list[str]:
        texts = list(part[column])
        for row, text in enumerate(texts):
            if not isinstance(text, str):
                raise ValueError(
                    f"column {column!r} of {place} must hold texts, got {text!r} in row {rows[row]}"
                )
        return texts

    labels = None
    if label_column is not None:
        labels = _read_labels(part, label_column)
        if None in labels:
            row = rows[labels.index(None)]
            raise ValueError(f"column {label_column!r} of {place} has no label in row {row}")
    times = None if time_column is None else list(part[time_column])
    bow_texts = None if bow_text_column is None else read_texts(bow_text_column)
    return Documents(read_texts(text_column), labels, times, bow_texts)


def _read_labels(dataset: Any, column: str) -> list[Any]:
    """The classes by name, `None` where nobody knows it: of numbered classes, data sets of the Hub then have -1."""
    names = getattr(dataset.features[column], "names", None)
    if names is None:
        return [None if value is None else str(value) for value in dataset[column]]
    return [None if value is None or value < 0 else names[value] for value in dataset[column]]


class TextStream:
    """The texts of a data set that is never loaded as a whole; it can be read any number of times.

    Args:
        name_or_path: As in `load_documents`.
        split: Name of the split, without a slice.
        text_column: Column of the texts.
        config_name: Configuration, for a Hub data set that has several.
        revision: Commit, branch or tag of a Hub data set.
        max_samples: Read no more than the first `max_samples` rows.
    """

    def __init__(
        self,
        name_or_path: str | Path,
        split: str = "train",
        *,
        text_column: str = "text",
        config_name: str | None = None,
        revision: str | None = None,
        max_samples: int | None = None,
    ) -> None:
        self.text_column = text_column
        self.dataset = open_split(
            name_or_path, split, config_name=config_name, revision=revision, streaming=True
        )
        if max_samples is not None:
            self.dataset = self.dataset.take(max_samples)

    def __iter__(self) -> Iterator[str]:
        for row in self.dataset:
            if self.text_column not in row:
                raise ValueError(
                    f"there is no column {self.text_column!r}; the columns are {sorted(row)}"
                )
            yield row[self.text_column]


def read_vocabulary(path: str | Path) -> list[str]:
    """Read the words of a text file, one a line, in their order.

    Raises:
        ValueError: If a word is there twice, or none is.
    """
    lines = Path(path).read_text(encoding="utf-8").splitlines()
    words = [word for line in lines if (word := line.strip())]
    if not words:
        raise ValueError(f"{str(path)!r} holds no words")
    seen: set[str] = set()
    for word in words:
        if word in seen:
            raise ValueError(f"{str(path)!r} holds {word!r} twice")
        seen.add(word)
    return words
