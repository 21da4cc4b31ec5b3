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

"""Control over sentences, scored: smoothness of paths, substitution of a noun, locality of edits.

Every draw is seeded, so all models get the same pairs, nouns and positions.
"""

import random
import re
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from hf_vq.interpolation_smoothness import STOP_WORDS, interpolation_smoothness
from hf_vq.latent_operations import TextCodec, interpolate, substitute, traverse
from hf_vq.text_metrics import word_edit_distance

NUM_STEPS = 10
NUM_NEIGHBORS = 5
VECTORS = (
    "PPMI of words at most 5 apart in the training sentences, SVD to 100 dimensions, unit length"
)

Row = dict[str, Any]


def word_vectors(texts: Sequence[str], dim: int = 100, window: int = 5) -> dict[str, np.ndarray]:
    """Vectors for the words of a corpus, see `VECTORS`: made here, so that nothing is downloaded."""
    counts: Counter[tuple[str, str]] = Counter()
    for text in texts:
        words = text.lower().split()
        for i, word in enumerate(words):
            for other in words[i + 1 : i + 1 + window]:
                counts[word, other] += 1
                counts[other, word] += 1
    index = {word: i for i, word in enumerate(sorted({word for word, _ in counts}))}
    matrix = torch.zeros(len(index), len(index))
    for (word, other), count in counts.items():
        matrix[index[word], index[other]] = count
    totals = matrix.sum(dim=1)
    mutual = (matrix * matrix.sum() / torch.outer(totals, totals)).log().clamp_min(0)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        left, singular, _ = torch.svd_lowrank(mutual, min(dim, len(index)), niter=8)
    vectors = torch.nn.functional.normalize(left * singular.sqrt()).numpy()
    return {word: vectors[i] for word, i in index.items()}


def score_paths(
    paths: Sequence[Sequence[str]],
    pairs: Sequence[tuple[str, str]],
    vectors: dict[str, np.ndarray],
    prefix: str,
) -> dict[str, float]:
    """Interpolation smoothness with both numerators, and how much of it is one jump."""
    found = interpolation_smoothness(paths, pairs, vectors, vectors_name=VECTORS)
    figures: dict[str, float] = {}
    for name, value in found.items():
        if isinstance(value, dict):
            figures |= {f"{prefix}_{name}_{key}": number for key, number in value.items()}
        elif not isinstance(value, str):
            figures[f"{prefix}_{name}"] = value
    return figures


def paths_of_codes(
    codec: TextCodec, pairs: Sequence[tuple[str, str]], method: str
) -> list[list[str]]:
    """Decoded paths of a model with codes."""
    texts = interpolate(
        codec, [a for a, _ in pairs], [b for _, b in pairs], method, NUM_STEPS
    ).texts
    return [texts[i : i + NUM_STEPS + 1] for i in range(0, len(texts), NUM_STEPS + 1)]


def paths_of_latents(
    latents: torch.Tensor, decode: Callable[[torch.Tensor], list[str]]
) -> list[list[str]]:
    """Decoded straight lines between latents `(pairs, 2, dim)` of whole sentences."""
    times = torch.linspace(0, 1, NUM_STEPS + 1)[:, None]
    points = torch.stack([a * (1 - times) + b * times for a, b in latents])
    texts = decode(points.flatten(0, 1))
    return [texts[i : i + NUM_STEPS + 1] for i in range(0, len(texts), NUM_STEPS + 1)]


def subject_noun(row: Row) -> str | None:
    """The noun of a sentence that begins with a one-word subject, with or without an article."""
    words, roles = row["source"].split(), row["roles"]
    verb = roles.index("V") if "V" in roles else 0
    subject = words[:verb]
    if subject and subject[0] in ("a", "an", "the"):
        subject = subject[1:]
    alone = len(subject) == 1 and roles[verb - 1].startswith("ARG") and subject[0].isalpha()
    # Once in the sentence, else "gone" could not be told from "kept".
    if not alone or subject[0] in STOP_WORDS or words.count(subject[0]) != 1:
        return None
    return subject[0]


def draw_substitutions(rows: Sequence[Row], number: int, seed: int) -> list[tuple[str, ...]]:
    """Sentences, their subject nouns, and other sentences with the nouns that are to take their place."""
    found = [(row["source"], subject_noun(row)) for row in rows]
    with_noun = [(text, noun) for text, noun in found if noun is not None]
    generator = random.Random(seed)
    drawn = []
    for text, noun in generator.sample(with_noun, len(with_noun)):
        donor, new = generator.choice(with_noun)
        if new != noun and new not in text.split():
            drawn.append((text, noun, donor, new))
    return drawn[:number]


def score_substitutions(
    codec: TextCodec, substitutions: Sequence[tuple[str, ...]]
) -> dict[str, float]:
    """How often the new noun is there and the other content words stay; and what reconstruction allows."""
    texts, nouns, donors, new_nouns = (list(column) for column in zip(*substitutions, strict=True))
    table = substitute(codec, texts, nouns, donors, new_nouns)
    expected = [str(record["expected"]) for record in table]
    # The reconstruction of the edited string: what no edit of codes can be expected to beat.
    ceiling = codec.reconstruct(expected)
    return {
        "substitution_success": _share(map(_is_right, table.texts, expected, nouns)),
        "substitution_exact_match": _share(map(_equal, table.texts, expected)),
        "substitution_ceiling": _share(map(_is_right, ceiling, expected, nouns)),
        "num_substitutions": len(texts),
    }


def _is_right(text: str, expected: str, replaced: str) -> bool:
    """All content words of the edited string, and the replaced noun gone."""
    words = set(text.split())
    return _content(expected) <= words and replaced not in words


def score_edits(codec: TextCodec, texts: Sequence[str], seed: int) -> dict[str, float]:
    """What happens when one code gives way to a neighbor: how often anything, and how much."""
    generator = random.Random(seed)
    sentences = codec.read(list(texts))
    places = [generator.randrange(len(codec.body(sentence))) for sentence in sentences]
    table = traverse(codec, sentences, places, NUM_NEIGHBORS + 1)
    distances, before = [], ""
    for record in table:
        if record["rank"] == 0:
            before = record["text"]
        else:
            distances.append(word_edit_distance(before, record["text"]))
    effective = [distance for distance in distances if distance > 0]
    return {
        "edit_effect": len(effective) / len(distances),
        "edit_locality": _share(distance <= 1 for distance in effective),
        "edit_distance": float(np.mean(effective)) if effective else 0.0,
    }


def word_order_errors(predictions: Sequence[str], references: Sequence[str]) -> float:
    """Share of predictions with the right words in another order."""
    pairs = zip(predictions, references, strict=True)
    words = [(prediction.split(), reference.split()) for prediction, reference in pairs]
    return _share(p != r and Counter(p) == Counter(r) for p, r in words)


def _equal(text: str, other: str) -> bool:
    return text.split() == other.split()


def _content(text: str) -> set[str]:
    return {word for word in text.split() if re.search(r"\w", word)} - STOP_WORDS


def _share(flags: Any) -> float:
    values = [bool(flag) for flag in flags]
    return sum(values) / len(values) if values else 0.0
