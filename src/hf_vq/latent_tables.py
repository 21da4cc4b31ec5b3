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
"""What an operation on codes returns: a small table that prints well and becomes a pandas DataFrame."""

import difflib
import importlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch

from ._extras import require
from .code_format import format_codes
from .text_codec import Sentence, TextCodec

MAX_COLUMN_WIDTH = 60


@dataclass
class OperationTable:
    """Rows of one operation, all with the same columns.

    Attributes:
        operation: what was done, the heading of the table.
        records: one dictionary for each row.

    Example:
    ```python
    >>> from hf_vq.latent_tables import OperationTable
    >>> table = OperationTable("traversal", [{"rank": 0, "text": "a cat"}, {"rank": 1, "text": "a dog"}])
    >>> print(table)
    traversal
    rank  text
       0  a cat
       1  a dog
    >>> table.texts
    ['a cat', 'a dog']

    ```
    """

    operation: str
    records: list[dict[str, Any]] = field(default_factory=list)

    @property
    def texts(self) -> list[str]:
        """The decoded texts, row by row."""
        return [record["text"] for record in self.records]

    def __len__(self) -> int:
        return len(self.records)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iter(self.records)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.records[index]

    def to_pandas(self) -> Any:
        """The rows as a `pandas.DataFrame`."""
        require("pandas", extra="train")
        # By name: a file that travels to the Hub demands of its users every library that it imports.
        return importlib.import_module("pandas").DataFrame(self.records)

    def __str__(self) -> str:
        if not self.records:
            return f"{self.operation}\n(no rows)"
        # What is the same in all rows goes above them, so a single row comes as a list.
        shared = [
            name
            for name, value in self.records[0].items()
            if all(record[name] == value for record in self.records)
            and (len(self) == 1 or name not in ("codes", "text", "changed"))
        ]
        heading = [self.operation] + [f"{name}: {_text(self.records[0][name])}" for name in shared]
        columns = [name for name in self.records[0] if name not in shared]
        numeric = [_is_number(self.records[0][name]) for name in columns]
        rows = [columns] + [[_cell(record[name]) for name in columns] for record in self.records]
        if not columns:
            return "\n".join(heading)
        widths = [max(map(len, cells)) for cells in zip(*rows, strict=True)]
        lines = [
            "  ".join(
                cell.rjust(width) if right else cell.ljust(width)
                for cell, width, right in zip(row, widths, numeric, strict=True)
            ).rstrip()
            for row in rows
        ]
        return "\n".join(heading + lines)


def input_name(sentence: Sentence) -> str:
    """What a table calls an input: its text, or its codes as a string."""
    return format_codes(sentence.codes) if sentence.text is None else sentence.text


def decoded(
    codec: TextCodec, operation: str, records: list[dict[str, Any]], rows: list[torch.Tensor]
) -> OperationTable:
    """A table from what is known of its rows and the codes of each, decoded all together."""
    texts = codec.decode(rows)
    return OperationTable(
        operation,
        [
            record | {"codes": format_codes(codes), "text": text}
            for record, codes, text in zip(records, rows, texts, strict=True)
        ],
    )


def word_changes(before: str, after: str) -> str:
    """The words that differ, as `"cat → dog, + big, - old"`; empty for equal texts.

    Example:
    ```python
    >>> from hf_vq.latent_tables import word_changes
    >>> word_changes("the old cat sat", "the dog sat down")
    'old cat → dog, + down'

    ```
    """
    old, new = before.split(), after.split()
    changes = []
    matcher = difflib.SequenceMatcher(a=old, b=new, autojunk=False)
    for tag, i, j, k, end in matcher.get_opcodes():
        if tag == "insert":
            changes.append(f"+ {' '.join(new[k:end])}")
        elif tag == "delete":
            changes.append(f"- {' '.join(old[i:j])}")
        elif tag == "replace":
            changes.append(f"{' '.join(old[i:j])} → {' '.join(new[k:end])}")
    return ", ".join(changes)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _text(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(_text, value))
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _cell(value: Any) -> str:
    text = _text(value)
    return text if len(text) <= MAX_COLUMN_WIDTH else f"{text[: MAX_COLUMN_WIDTH - 1]}…"


__all__ = ["OperationTable", "decoded", "input_name", "word_changes"]
