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
"""Texts from a Hub data set or a local file, by column names, and the batches made of them.

`load_text_dataset` gives rows of `source` and `target` (equal for auto-encoding), `TextCollator`
makes batches, `check_splits_disjoint` refuses a test split that is partly the training split.
"""

import hashlib
import logging
import string
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase

from ._extras import require

require("datasets", extra="train")

import datasets  # noqa: E402

from .data_sources import open_split, parse_split, slice_boundary  # noqa: E402
from .text_tokenizer import add_missing_characters, decode_texts, train_tokenizer  # noqa: E402

logger = logging.getLogger(__name__)

__all__ = [
    "SOURCE_SEPARATOR",
    "SplitOverlap",
    "TextCollator",
    "add_missing_characters",
    "check_splits_disjoint",
    "decode_texts",
    "load_text_dataset",
    "normalize_text",
    "piece_words",
    "text_revision",
    "train_tokenizer",
]

# Between the parts of a source that comes from several columns, such as two premises.
SOURCE_SEPARATOR = " </s> "


def load_text_dataset(
    name_or_path: str | Path,
    split: str = "train",
    *,
    source_column: str | Sequence[str],
    target_column: str | None = None,
    role_column: str | None = None,
    config_name: str | None = None,
    revision: str | None = None,
    max_samples: int | None = None,
) -> datasets.Dataset:
    """Open a data set of texts as rows of `source`, `target` and, if asked for, `roles`.

    Rows with an empty text are left out, and a warning gives their number.

    Args:
        name_or_path: A Hub id, a folder that `datasets.load_dataset` or `load_from_disk` opens, or
            a file: .txt (one text a line, the column `text`), .jsonl, .json, .csv, .tsv, .parquet.
            A single file is a `train` split.
        split: Name of the split, with a slice to take a part of it, such as `"train[:-600]"`.
        source_column: What the encoder reads. Of several columns, the texts are joined by
            `SOURCE_SEPARATOR`, which T5's tokenizers read as the end of each part.
        target_column: What the decoder writes; the source itself if `None`.
        role_column: One role for each whitespace-separated word of the source, as a list or as one
            text of words.
        config_name: Configuration, for a Hub data set that has several.
        revision: Commit, branch or tag of a Hub data set.
        max_samples: Take no more than the first `max_samples` rows.

    Raises:
        ValueError: If the data set cannot be read, lacks the split, the slice or a column, has no
            texts, or has a row with more or fewer roles than words.
    """
    if max_samples is not None and max_samples < 1:
        raise ValueError(f"max_samples must be at least 1, got {max_samples}")
    match = parse_split(split)
    place = f"split {split!r} of {str(name_or_path)!r}"
    dataset = open_split(
        name_or_path, match["name"], config_name=config_name, revision=revision
    ).with_format(None)
    source_columns = [source_column] if isinstance(source_column, str) else list(source_column)
    names = source_columns + [name for name in (target_column, role_column) if name is not None]
    _check_columns(dataset.features, names, role_column, place)
    start, stop = (slice_boundary(match[end], len(dataset), place) for end in ("start", "stop"))
    rows = range(len(dataset))[start:stop][:max_samples]
    part = dataset.select_columns(list(dict.fromkeys(names))).select(rows)

    columns: dict[str, list] = {"source": [], "target": []}
    if role_column is not None:
        columns["roles"] = []
    num_empty = 0
    for number, row in zip(rows, part, strict=True):
        parts = [row[name] or "" for name in source_columns]
        target = row[target_column] or "" if target_column is not None else None
        if not all(text.strip() for text in [*parts, *([] if target is None else [target])]):
            num_empty += 1
            continue
        source = SOURCE_SEPARATOR.join(parts)
        columns["source"].append(source)
        columns["target"].append(source if target is None else target)
        if role_column is not None:
            columns["roles"].append(_roles_of(row[role_column], source, number, place))
    if num_empty:
        logger.warning("left out %d rows of %s with an empty text", num_empty, place)
    if not columns["source"]:
        raise ValueError(f"{place} has no texts: of {len(rows)} rows, {num_empty} are empty")
    return datasets.Dataset.from_dict(columns)


def _check_columns(
    features: datasets.Features, names: list[str], role_column: str | None, place: str
) -> None:
    listed = ", ".join(f"{name!r} ({_type_name(f)})" for name, f in features.items())
    for name in names:
        if name not in features:
            raise ValueError(f"there is no column {name!r} in {place}; the columns are {listed}")
        words = getattr(features[name], "feature", None) if name == role_column else None
        if "string" not in (_type_name(features[name]) + _type_name(words)):
            raise ValueError(f"column {name!r} of {place} holds no text; the columns are {listed}")


def _type_name(feature: Any) -> str:
    return feature.dtype if isinstance(feature, datasets.Value) else type(feature).__name__


def _roles_of(value: Any, source: str, number: int, place: str) -> list[str]:
    roles = value.split() if isinstance(value, str) else list(value or ())
    if len(roles) != len(source.split()):
        raise ValueError(
            f"row {number} of {place} must have one role for each of the {len(source.split())} "
            f"words of {source!r}, got {len(roles)}: {roles}"
        )
    return roles


def piece_words(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> list[list[int]]:
    """Tell for each piece of each text which whitespace-separated word it belongs to.

    Special tokens belong to none: -1. A piece that is only the start of a word, T5's lone "▁",
    belongs to that word.

    Example:
        >>> tokenizer = train_tokenizer(["a star is hot"], 120)
        >>> piece_words(tokenizer, ["is hot"]), tokenizer("is hot").tokens()
        ([[0, 1, -1]], ['▁is', '▁hot', '</s>'])
    """
    encoded = tokenizer(list(texts), return_offsets_mapping=True, verbose=False)
    # An unknown piece is one of the special tokens, yet it stands for a part of a word.
    special = {*tokenizer.all_special_ids} - {tokenizer.unk_token_id}
    words = []
    rows = zip(texts, encoded["input_ids"], encoded["offset_mapping"], strict=True)
    for text, ids, offsets in rows:
        word_at, word = [], -1
        for before, character in zip(" " + text, text, strict=False):
            word += before.isspace() and not character.isspace()
            word_at.append(word)
        # By its last character, since some tokenizers count the space before a word to its piece.
        pairs = zip(ids, offsets, strict=True)
        words.append([-1 if i in special else word_at[max(stop - 1, 0)] for i, (_, stop) in pairs])
    return words


@dataclass
class TextCollator:
    """Makes rows of `source` and `target` into a batch, padded to its longest text.

    Under `Trainer` set `remove_unused_columns=False`: it would drop the texts, which no argument of
    the model's `forward` is named after.

    Args:
        tokenizer: Tokenizer that appends `</s>` and has a padding token.
        max_length: Pieces that a source or target may have, `</s>` included; `None` for any number.
        role_names: Names of the roles in the order of the model's `role_ranges`; makes `role_ids`
            from `roles`.
        rest_role: The role of `role_names` that stands for any other role in the data; without it
            such a role is an error.
        truncation: Whether to cut longer texts to `max_length`, which is an error otherwise.
        append_eos: Whether the encoder's input ends in `</s>`. The paper's code leaves it out.
    """

    tokenizer: PreTrainedTokenizerBase
    max_length: int | None = None
    role_names: Sequence[str] | None = None
    rest_role: str | None = None
    truncation: bool = False
    append_eos: bool = True

    def __post_init__(self) -> None:
        if self.tokenizer.pad_token_id is None:
            raise ValueError("the tokenizer must have a padding token")
        if self.truncation and self.max_length is None:
            raise ValueError("truncation needs a max_length, got None")
        names = self.role_names or ()
        if self.rest_role is not None and self.rest_role not in names:
            raise ValueError(f"rest_role must be one of {list(names)}, got {self.rest_role!r}")

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """Return `input_ids`, `attention_mask` and, where the rows have them, `labels`, `role_ids`.

        All have the shape (batch, length). Labels are padded with -100, role ids with -1, which
        means unrestricted.
        """
        sources = [row["source"] for row in rows]
        input_ids = self._encode(sources, "source")
        batch = {}
        if "target" in rows[0]:
            targets = [row["target"] for row in rows]
            labels = input_ids if targets == sources else self._encode(targets, "target")
            batch["labels"] = _pad(labels, -100)
        if not self.append_eos:
            input_ids = [ids[:-1] for ids in input_ids]
        if self.role_names is not None:
            batch["role_ids"] = _pad(self._role_ids(rows, input_ids), -1)
        ones = [[1] * len(ids) for ids in input_ids]
        pad = self.tokenizer.pad_token_id
        return {"input_ids": _pad(input_ids, pad), "attention_mask": _pad(ones, 0), **batch}

    def _encode(self, texts: list[str], kind: str) -> list[list[int]]:
        for text in texts:
            if not isinstance(text, str) or not text.strip():
                raise ValueError(f"a {kind} must be a text with words in it, got {text!r}")
        limit = self.max_length
        # No limit for the tokenizer itself, whose warning would hide what is too long.
        encoded = self.tokenizer(texts, truncation=self.truncation, max_length=limit, verbose=False)
        for text, ids in zip(texts, encoded["input_ids"], strict=True):
            if limit is not None and len(ids) > limit:
                raise ValueError(
                    f"a {kind} has {len(ids)} pieces, more than max_length={limit}: {text!r}"
                )
        return encoded["input_ids"]

    def _role_ids(self, rows: list[dict[str, Any]], input_ids: list[list[int]]) -> list[list[int]]:
        ids = {name: index for index, name in enumerate(self.role_names or ())}
        words = piece_words(self.tokenizer, [row["source"] for row in rows])
        result = []
        for row, pieces, kept in zip(rows, words, input_ids, strict=True):
            if "roles" not in row:
                raise ValueError(f"rows must hold 'roles', they hold {sorted(row)}")
            if len(row["roles"]) != len(row["source"].split()):
                raise ValueError(
                    f"a row must have a role for each word, got {row['roles']} for {row['source']!r}"
                )
            roles = [role if role in ids else self.rest_role for role in row["roles"]]
            if None in roles:
                stranger = row["roles"][roles.index(None)]
                raise ValueError(f"role {stranger!r} is none of the role_names {sorted(ids)}")
            per_word = [ids[role] for role in roles if role is not None]
            # A text that was cut ends in </s>, which has no role, where its next piece would be.
            word_ids = [*pieces[: len(kept) - self.append_eos], -1][: len(kept)]
            result.append([per_word[word] if word >= 0 else -1 for word in word_ids])
        return result


def _pad(rows: list[list[int]], value: int) -> torch.Tensor:
    tensors = [torch.tensor(row) for row in rows]
    return torch.nn.utils.rnn.pad_sequence(tensors, batch_first=True, padding_value=value)


@dataclass
class SplitOverlap:
    """How much of a test split occurs in the training split.

    Args:
        num_rows: Rows of the test split.
        num_exact: Those of them that occur in training as they are, up to whitespace.
        num_near: Those that occur up to case, punctuation and the order of joined parts only.
        novel_rows: Numbers of all others, for `test.select(overlap.novel_rows)`.
    """

    num_rows: int
    num_exact: int
    num_near: int
    novel_rows: list[int]


_PUNCTUATION = str.maketrans(string.punctuation, " " * len(string.punctuation))


def normalize_text(text: str) -> str:
    """Lower-case a text, read its punctuation as spaces, and put its joined parts in order.

    Example:
        >>> normalize_text("Rain is water , too") == normalize_text("rain is water too.")
        True
    """
    parts = text.split(SOURCE_SEPARATOR.strip())
    plain = [" ".join(part.casefold().translate(_PUNCTUATION).split()) for part in parts]
    return SOURCE_SEPARATOR.join(sorted(plain))


def check_splits_disjoint(
    train: datasets.Dataset,
    test: datasets.Dataset,
    *,
    allow_overlap: bool = False,
    column: str = "source",
    near_key: Callable[[str], str] = normalize_text,
) -> SplitOverlap:
    """Refuse a test split of which a text occurs in the training split; count near-duplicates.

    Args:
        train: Training split.
        test: Test split.
        allow_overlap: Whether to warn of equal texts instead.
        column: The column that must differ; `"key"` for the generated mathematics.
        near_key: Two texts with one key are near-duplicates. Formulas need their own, since they
            differ by nothing but punctuation: `str` counts none.

    Returns:
        The counts, and the rows of the test split that are no duplicate of any kind.

    Raises:
        ValueError: If the splits share a text, unless allowed.
    """
    train_texts, test_texts = (
        [" ".join(t.split()) for t in split[column]] for split in (train, test)
    )
    exact, near = set(train_texts), {near_key(text) for text in train_texts}
    shared = [row for row, text in enumerate(test_texts) if text in exact]
    novel = [
        row
        for row, text in enumerate(test_texts)
        if text not in exact and near_key(text) not in near
    ]
    if shared:
        message = (
            f"{len(shared)} of {len(test_texts)} test rows occur in the training split, "
            f"the first: {test_texts[shared[0]]!r}"
        )
        if not allow_overlap:
            raise ValueError(f"{message}; pass allow_overlap=True to go on all the same")
        logger.warning(message)
    num_near = len(test_texts) - len(novel) - len(shared)
    if num_near:
        logger.warning("%d of %d test rows nearly occur in training", num_near, len(test_texts))
    return SplitOverlap(len(test_texts), len(shared), num_near, novel)


def text_revision(dataset: datasets.Dataset) -> str:
    """Identify the rows by content, so that two figures can be known to rest on the same data.

    Returns:
        `"sha256:..."` over sources, targets and roles, in order.
    """
    digest = hashlib.sha256()
    for row in dataset:
        roles = " ".join(row.get("roles") or ())
        digest.update("\0".join((row["source"], row["target"], roles)).encode() + b"\0\0")
    return f"sha256:{digest.hexdigest()}"
