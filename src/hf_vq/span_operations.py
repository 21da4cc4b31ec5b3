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
"""Edits of spans of words, by splicing codes in place; the equations are in docs/latent_operations.md."""

from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Any

import torch

from .latent_tables import OperationTable, decoded, input_name
from .text_codec import Sentence, Span, TextCodec, TextOrCodes, broadcast

Texts = TextOrCodes | Sequence[TextOrCodes]
Spans = Span | Sequence[Span]


def substitute(
    codec: TextCodec,
    text: Texts,
    span: Spans,
    donor: Texts,
    donor_span: Spans | None = None,
    *,
    occurrence: int = 0,
    donor_occurrence: int = 0,
) -> OperationTable:
    """Put the codes of a span of `donor` in place of a span of `text`, of any lengths, eq. (O7).

    Args:
        codec: The model and its tokenizer.
        text: What is edited; a text, since codes have no words to look for.
        span: Words that occur in `text`, or characters `(start, end)` of it. A piece that the span cuts
            counts as a whole.
        donor: Where the new codes come from.
        donor_span: The same as `span` for `donor`; all of it if None.
        occurrence: Which one, where the words of `span` occur several times; negative from the end.
        donor_occurrence: The same for `donor_span`.

    Returns:
        Columns input, span, donor, donor_span, `expected` (the same edit of the strings, None if the donor
        is bare codes), codes and text.
    """
    edits = _find(codec, text, span, donor, donor_span, occurrence, donor_occurrence)
    for edit in edits:
        edit.insert("", "")
    return _spliced(codec, "substitution", edits)


def specify(
    codec: TextCodec,
    text: Texts,
    span: Spans,
    donor: Texts,
    donor_span: Spans | None = None,
    *,
    side: str = "right",
    occurrence: int = 0,
    donor_occurrence: int = 0,
) -> OperationTable:
    """Insert the codes of a span of `donor` to the right or left of a span of `text`, eq. (O8).

    `side` is `"right"` or `"left"`; the other arguments and the columns are those of `substitute`.
    """
    if side not in ("left", "right"):
        raise ValueError(f"side is {side!r}, expected 'left' or 'right'")
    edits = _find(codec, text, span, donor, donor_span, occurrence, donor_occurrence)
    for edit in edits:
        if side == "right":
            edit.left, edit.start = edit.right, edit.end
            edit.insert(" ", "")
        else:
            edit.right, edit.end = edit.left, edit.start
            edit.insert("", " ")
    return _spliced(codec, f"further specification ({side})", edits)


def conjoin(
    codec: TextCodec,
    text: Texts,
    span: Spans,
    donor: Texts,
    donor_span: Spans | None = None,
    *,
    conjunction: str = "and",
    occurrence: int = 0,
    donor_occurrence: int = 0,
) -> OperationTable:
    """Insert a conjunction and the codes of a span of `donor` behind a span of `text`, eq. (O9).

    `conjunction` is encoded alone; the other arguments and the columns are those of `substitute`.
    """
    edits = _find(codec, text, span, donor, donor_span, occurrence, donor_occurrence)
    connective = codec.body(*codec.read(conjunction))
    for edit in edits:
        edit.left, edit.start = edit.right, edit.end
        edit.inserted = torch.cat([connective, edit.inserted])
        edit.insert(f" {conjunction} ", "")
    return _spliced(codec, "conjunction", edits)


@dataclass
class _Edit:
    """Replace positions `[left, right)` and, in the string, characters `[start, end)` of `sentence`."""

    sentence: Sentence
    span: str
    start: int
    end: int
    left: int
    right: int
    donor: Sentence
    donor_words: str | None
    inserted: torch.Tensor
    expected: str | None = None

    def insert(self, before: str, after: str) -> None:
        """Do the edit of the string, with what stands between the inserted words and the rest."""
        if self.donor_words is not None:
            text = str(self.sentence.text)
            words = f"{before}{self.donor_words}{after}"
            self.expected = text[: self.start] + words + text[self.end :]


def _find(
    codec: TextCodec,
    text: Texts,
    span: Spans,
    donor: Texts,
    donor_span: Spans | None,
    occurrence: int,
    donor_occurrence: int,
) -> list[_Edit]:
    """Look up both spans of each row."""
    edits = []
    rows = broadcast(codec.read(text), _spans(span), codec.read(donor), _spans(donor_span))
    for sentence, words, giver, giver_words in zip(*rows, strict=True):
        start, end = sentence.find(words, occurrence)
        left, right = sentence.positions(start, end)
        inserted, donor_words = codec.body(giver), giver.text
        if giver_words is not None:
            a, b = giver.find(giver_words, donor_occurrence)
            inserted, donor_words = giver.codes[slice(*giver.positions(a, b))], giver.text[a:b]
        label = str(sentence.text)[start:end]
        edits.append(_Edit(sentence, label, start, end, left, right, giver, donor_words, inserted))
    return edits


def _spans(span: Any) -> list[Span | None]:
    """Only a list is a batch of spans, and not of numbers: JSON has no other form for a pair of them."""
    is_batch = isinstance(span, list) and not all(isinstance(edge, Integral) for edge in span)
    return list(span) if is_batch else [span]


def _spliced(codec: TextCodec, operation: str, edits: list[_Edit]) -> OperationTable:
    """Eq. (O7)-(O9): what is left of the edit, what it inserts, what is right of it."""
    rows = [
        torch.cat(
            [edit.sentence.codes[: edit.left], edit.inserted, edit.sentence.codes[edit.right :]]
        )
        for edit in edits
    ]
    records = [
        {
            "input": input_name(edit.sentence),
            "span": edit.span,
            "donor": input_name(edit.donor),
            "donor_span": edit.donor_words,
            "expected": edit.expected,
        }
        for edit in edits
    ]
    return decoded(codec, operation, records, rows)


__all__ = ["conjoin", "specify", "substitute"]
