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
"""Around one code: its neighbors, what they change in the text, and the words that it stands for."""

from collections import Counter
from collections.abc import Sequence
from numbers import Integral
from typing import Any

import torch

from .code_format import as_codes
from .latent_tables import OperationTable, decoded, input_name, word_changes
from .text_codec import Sentence, TextCodec, TextOrCodes, broadcast

Texts = TextOrCodes | Sequence[TextOrCodes]
Place = int | str


def traverse(
    codec: TextCodec,
    text: Texts,
    at: Place | Sequence[Place],
    num_codes: int = 10,
    *,
    reference: str = "latent",
    group: int = 0,
    role: str | None = None,
    occurrence: int = 0,
) -> OperationTable:
    """Write the nearest codes into one position, one after the other, and decode each of the texts, eq. (O1).

    Args:
        codec: The model and its tokenizer.
        text: The texts or codes.
        at: The position, from 0, or a word that has one code.
        num_codes: How many codes to try. The first one, rank 0, is the current code.
        reference: Near to what: the encoder's `"latent"` at this position, or the vector of its current
            `"code"`. Bare codes have the latter only.
        group: Which code of the position, if it has several.
        role: Try only codes in the range of this role. Without it, the role that the input was read with.
        occurrence: Which one, if a word occurs several times; negative from the end.

    Returns:
        Columns input, position, piece, group, rank, code, distance (squared), codes, text, and `changed`, the
        words that differ from the text of rank 0.
    """
    found = _neighbors(codec, text, at, num_codes, reference, group, role, occurrence)
    rows, records = [], []
    for sentence, record in found:
        codes = sentence.codes.clone()
        codes[record["position"], group] = record["code"]
        rows.append(codes)
        records.append(record)
    table = decoded(codec, "traversal", records, rows)
    unedited = ""
    for record in table.records:
        unedited = record["text"] if record["rank"] == 0 else unedited
        record["changed"] = word_changes(unedited, record["text"])
    return table


def nearest_codes_of(
    codec: TextCodec,
    text: Texts,
    at: Place | Sequence[Place],
    num_codes: int = 10,
    *,
    reference: str = "latent",
    group: int = 0,
    role: str | None = None,
    occurrence: int = 0,
) -> OperationTable:
    """The codes that `traverse` would try, without decoding them; the same arguments.

    Returns:
        Columns input, position, piece, group, rank, code and distance (squared).
    """
    found = _neighbors(codec, text, at, num_codes, reference, group, role, occurrence)
    return OperationTable("nearest codes", [record for _, record in found])


def words_of_code(
    codec: TextCodec,
    codes: int | Sequence[int] | None,
    texts: Sequence[TextOrCodes],
    *,
    group: int = 0,
    num_words: int = 10,
) -> OperationTable:
    """The words in whose place a code stands, counted over texts; a word is what white space separates.

    Args:
        codec: The model and its tokenizer.
        codes: One code, several, or None for all that occur, the most frequent first.
        texts: Where to look.
        group: Which code of each position, if it has several.
        num_words: At most so many words of a code, the most frequent first.

    Returns:
        Columns code, word, count, and share among all occurrences of the code. The end marker counts as a
        word. A code that does not occur has no row.
    """
    _check_group(codec, group)
    counts: dict[int, Counter[str]] = {}
    for sentence in codec.read(texts):
        for code, (_, word) in zip(
            sentence.codes[:, group].tolist(), codec.words(sentence), strict=True
        ):
            counts.setdefault(code, Counter())[word] += 1
    wanted = sorted(counts, key=lambda code: (-counts[code].total(), code))
    if codes is not None:
        given = codes if isinstance(codes, str) else torch.as_tensor(codes).reshape(-1)
        wanted = as_codes(given, codec.codebook_size, 1)[:, 0].tolist()
    return OperationTable(
        "words of codes",
        [
            {"code": code, "word": word, "count": count, "share": count / counts[code].total()}
            for code in wanted
            # of equally frequent words the first in the alphabet
            for word, count in sorted(counts.get(code, {}).items(), key=lambda x: (-x[1], x[0]))[
                :num_words
            ]
        ],
    )


def _neighbors(
    codec: TextCodec,
    text: Texts,
    at: Place | Sequence[Place],
    num_codes: int,
    reference: str,
    group: int,
    role: str | None,
    occurrence: int,
) -> list[tuple[Sentence, dict[str, Any]]]:
    """Eq. (O1): the sentence and the record of each neighbor of each input."""
    if reference not in ("latent", "code"):
        raise ValueError(f"reference is {reference!r}, expected 'latent' or 'code'")
    _check_group(codec, group)
    places = [at] if isinstance(at, int | Integral | str) else list(at)
    found = []
    with codec.frozen():
        space = codec.space()
        for sentence, place in zip(*broadcast(codec.read(text), places), strict=True):
            position = _position(sentence, place, occurrence)
            code = int(sentence.codes[position, group])
            point = space.vectors(sentence.codes[position])[group]
            if reference == "latent" and sentence.text is not None:
                point = space.project(sentence.latents[position])[group]
            distances = space.distances(point, group)
            role_id = codec.role_id(role)
            if role is None and sentence.role_ids is not None:
                role_id = int(sentence.role_ids[position])
            ranking = distances.masked_fill(space.outside(torch.tensor(role_id)), torch.inf)
            ranking[code] = -1  # rank 0, whatever a role or the last bit of a distance says
            order = ranking.argsort(stable=True)[: int(ranking.isfinite().sum())].tolist()
            if not 1 <= num_codes <= len(order):
                raise ValueError(
                    f"num_codes is {num_codes}, expected 1 to {len(order)}, the codes to choose from"
                )
            for rank, neighbor in enumerate(order[:num_codes]):
                record = {
                    "input": input_name(sentence),
                    "position": position,
                    "piece": codec.piece(sentence, position),
                    "group": group,
                    "rank": rank,
                    "code": neighbor,
                    "distance": float(distances[neighbor]),
                }
                found.append((sentence, record))
    return found


def _check_group(codec: TextCodec, group: int) -> None:
    if not 0 <= group < codec.codes_per_token:
        raise ValueError(f"group is {group}, expected 0 to {codec.codes_per_token - 1}")


def _position(sentence: Sentence, at: Place, occurrence: int) -> int:
    """A position, or that of a word's only code."""
    if isinstance(at, int | Integral):
        at = int(at)
        if not 0 <= at < len(sentence.codes):
            raise ValueError(
                f"position is {at}, expected 0 to {len(sentence.codes) - 1} in {input_name(sentence)!r}"
            )
        return at
    left, right = sentence.positions(*sentence.find(at, occurrence))
    offsets = sentence.offsets or []
    if right - left == 2 and offsets[left][0] == offsets[left + 1][0]:
        left += 1  # T5's lone word mark
    if right - left > 1:
        raise ValueError(
            f"{at!r} has the codes of positions {left} to {right - 1} in {sentence.text!r}: "
            "give one of these positions"
        )
    return left


__all__ = ["nearest_codes_of", "traverse", "words_of_code"]
