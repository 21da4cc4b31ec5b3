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
"""Pure functions that compare written texts with references, one number for a whole split.

Texts are compared after collapsing whitespace, and their words are what whitespace separates. They
must hold no special tokens: decode them with `hf_vq.text_tokenizer.decode_texts`.
"""

import math
from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np

from .interpolation_smoothness import interpolation_smoothness, word_movers_distance
from .role_metrics import linear_probe, role_concentration, role_probe
from .symbolic_equivalence import symbolic_equivalence

__all__ = [
    "bleu1",
    "corpus_bleu4",
    "embedding_cosine",
    "exact_match",
    "interpolation_smoothness",
    "linear_probe",
    "role_concentration",
    "role_probe",
    "symbolic_equivalence",
    "token_exact_match",
    "word_edit_distance",
    "word_movers_distance",
]


def _check_pairs(predictions: Sequence, references: Sequence) -> None:
    if len(predictions) != len(references) or len(predictions) == 0:
        raise ValueError(
            "there must be as many predictions as references, and at least one, got "
            f"{len(predictions)} and {len(references)}"
        )


def _ngrams(words: Sequence[str], n: int) -> Counter:
    return Counter(tuple(words[i : i + n]) for i in range(len(words) - n + 1))


def _brevity_penalty(length: int, reference_length: int) -> float:
    return 1.0 if length > reference_length else math.exp(1 - reference_length / max(length, 1))


def bleu1(predictions: Sequence[str], references: Sequence[str]) -> float:
    """Mean over texts of BLEU-1, in [0, 1], as T5VQVAE's authors compute it.

    Papineni et al., "BLEU: a method for automatic evaluation of machine translation", ACL 2002: the
    share of words that occur in the reference, each at most as often as there, times the brevity
    penalty, 1 for a text longer than its reference and exp(1 - r / c) otherwise. Nothing is
    smoothed; an empty text scores 0.

    Example:
        >>> round(bleu1(["the sun is hot", "water"], ["the sun is a star", "rain"]), 4)
        0.2921
    """
    _check_pairs(predictions, references)
    scores = []
    for prediction, reference in zip(predictions, references, strict=True):
        words, expected = prediction.split(), reference.split()
        matches = (_ngrams(words, 1) & _ngrams(expected, 1)).total()
        penalty = _brevity_penalty(len(words), len(expected))
        scores.append(penalty * matches / len(words) if words else 0.0)
    return float(np.mean(scores))


def corpus_bleu4(predictions: Sequence[str], references: Sequence[str]) -> float:
    """BLEU-4 of the whole corpus, in percent: sacrebleu's, with `tokenize="none"`, not smoothed.

    The matches and counts of n-grams, n = 1 to 4, are summed over the corpus; their geometric mean
    is multiplied by the brevity penalty (see `bleu1`). It is 0 if no 4-gram is right.
    """
    _check_pairs(predictions, references)
    matches, counts, length, reference_length = [0] * 4, [0] * 4, 0, 0
    for prediction, reference in zip(predictions, references, strict=True):
        words, expected = prediction.split(), reference.split()
        length, reference_length = length + len(words), reference_length + len(expected)
        for n in range(1, 5):
            grams = _ngrams(words, n)
            counts[n - 1] += grams.total()
            matches[n - 1] += (grams & _ngrams(expected, n)).total()
    if min(matches) == 0:
        return 0.0
    logarithms = [math.log(match / count) for match, count in zip(matches, counts, strict=True)]
    return 100 * _brevity_penalty(length, reference_length) * math.exp(sum(logarithms) / 4)


def exact_match(predictions: Sequence[str], references: Sequence[str]) -> float:
    """Share of texts that equal their reference up to whitespace.

    Example:
        >>> exact_match(["a  b", "c"], ["a b", "d"])
        0.5
    """
    _check_pairs(predictions, references)
    pairs = zip(predictions, references, strict=True)
    return sum(one.split() == other.split() for one, other in pairs) / len(predictions)


def token_exact_match(
    predictions: Sequence[Sequence[int]], references: Sequence[Sequence[int]]
) -> float:
    """Share of rows of piece ids that equal their reference; fair where a text has unknown pieces.

    Args:
        predictions: Ids without special tokens, one row for each text.
        references: As `predictions`.
    """
    _check_pairs(predictions, references)
    pairs = zip(predictions, references, strict=True)
    return sum(list(one) == list(other) for one, other in pairs) / len(predictions)


def word_edit_distance(text: str, other: str) -> int:
    """Fewest insertions, deletions and replacements of words that turn one text into the other.

    Example:
        >>> word_edit_distance("the sun is hot", "the sun is a hot star")
        2
    """
    words, others = text.split(), other.split()
    row = list(range(len(others) + 1))
    for i, word in enumerate(words, start=1):
        diagonal, row[0] = row[0], i
        for j, candidate in enumerate(others, start=1):
            replaced = diagonal + (word != candidate)
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, replaced)
    return row[-1]


def embedding_cosine(
    predictions: Sequence[str],
    references: Sequence[str],
    embed: Callable[[list[str]], np.ndarray],
) -> float:
    """Mean cosine between the vectors of texts and references; a vector of zeros scores 0.

    Args:
        predictions: Texts.
        references: Texts.
        embed: Turns texts into vectors (texts, size), for example
            `hf_vq.text_scorers.SentenceEncoder`. Name it wherever the number goes.
    """
    _check_pairs(predictions, references)
    one, other = (
        np.asarray(embed(list(texts)), dtype=np.float64) for texts in (predictions, references)
    )
    if one.shape != other.shape or one.ndim != 2 or len(one) != len(predictions):
        raise ValueError(
            f"embed must return one vector for each of {len(predictions)} texts, got arrays of "
            f"shapes {one.shape} and {other.shape}"
        )
    norms = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    cosines = np.divide((one * other).sum(1), norms, out=np.zeros(len(one)), where=norms > 0)
    return float(cosines.mean())
