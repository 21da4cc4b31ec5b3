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
"""Interpolation smoothness: how much of the way along a path of sentences leads to its end.

IS = W(a, b) / sum_j W(s_j, s_j+1) for the decoded path s_0, s_1, ..., where W is the Word Mover's
Distance (Kusner et al., "From word embeddings to document distances", ICML 2015, equation (1)):
exact optimal transport between bags of words, at the Euclidean distance of word vectors. The
numerator is the distance of the given sentences (`original`, T5VQVAE's code), or of the two ends of
the decoded path (`decoded`, LangSpace's); they differ whenever reconstruction is not exact. A jump
from one end to the other scores 1, so read IS beside `max_step_share` and `distinct`.
"""

import math
import random
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from .optimal_transport import transport_cost

__all__ = ["STOP_WORDS", "choose_pairs", "interpolation_smoothness", "word_movers_distance"]

STOP_WORDS = frozenset(
    """
    a about above after again against all am an and any are as at be because been before being below
    between both but by can could did do does doing down during each few for from further had has
    have having he her here hers herself him himself his how i if in into is it its itself just me
    more most my myself no nor not now of off on once only or other our ours ourselves out over own
    same she should so some such than that the their theirs them themselves then there these they
    this those through to too under until up very was we were what when where which while who whom
    why will with would you your yours yourself yourselves
    """.split()
)

# From a word to its vector; `None` or a missing key for a word that has none.
WordVectors = Mapping[str, np.ndarray] | Callable[[str], np.ndarray | None]

STILL = 1e-9
NUM_BOOTSTRAP = 1_000


class _WordMover:
    """Distances with the vectors looked up once, and a count of the words that have none."""

    def __init__(self, vectors: WordVectors, stop_words: Collection[str]):
        self.lookup = vectors.get if isinstance(vectors, Mapping) else vectors
        self.stop_words = stop_words
        self.known: dict[str, np.ndarray | None] = {}
        self.num_words = self.num_unknown = 0

    def vector(self, word: str) -> np.ndarray | None:
        if word not in self.known:
            vector = self.lookup(word)
            self.known[word] = None if vector is None else np.asarray(vector, dtype=np.float64)
        return self.known[word]

    def bag(self, text: str) -> Counter:
        words = text.lower().split()
        # A sentence of stop words alone is compared by them.
        words = [word for word in words if word not in self.stop_words] or words
        kept = [word for word in words if self.vector(word) is not None]
        self.num_words += len(words)
        self.num_unknown += len(words) - len(kept)
        return Counter(kept)

    def distance(self, text: str, other: str) -> float:
        if text.split() == other.split():
            return 0.0
        one, two = self.bag(text), self.bag(other)
        if not one or not two:
            return math.nan
        # Whole amounts instead of shares: each word of one bag counts as often as the other is
        # long. What both have stays where it is, since distances obey the triangle inequality.
        total, size = one.total() * two.total(), one.total()
        supply = Counter({word: count * two.total() for word, count in one.items()})
        demand = Counter({word: count * size for word, count in two.items()})
        supply, demand = supply - demand, demand - supply
        if not supply:
            return 0.0
        places = [
            np.stack([vector for word in side if (vector := self.vector(word)) is not None])
            for side in (supply, demand)
        ]
        cost = np.linalg.norm(places[0][:, None] - places[1][None], axis=-1)
        amounts = [np.array(list(side.values())) for side in (supply, demand)]
        return transport_cost(amounts[0], amounts[1], cost) / total


def word_movers_distance(
    text: str, other: str, vectors: WordVectors, *, stop_words: Collection[str] = STOP_WORDS
) -> float:
    """Word Mover's Distance of two texts.

    Words are lower-cased and stop words left out, unless a text has no others. Words without a
    vector are dropped; NaN if nothing is left of a text. Equal texts have the distance 0.

    Example:
        >>> vectors = {"sun": [0.0], "star": [1.0], "rain": [4.0]}
        >>> word_movers_distance("the sun", "a star", vectors)
        1.0
        >>> word_movers_distance("sun and rain", "the star", vectors)
        2.0
    """
    return _WordMover(vectors, stop_words).distance(text, other)


@dataclass
class _Path:
    original: float
    decoded: float
    total: float
    largest: float
    distinct: int
    starts: bool
    ends: bool


def interpolation_smoothness(
    paths: Sequence[Sequence[str]],
    endpoints: Sequence[tuple[str, str]],
    vectors: WordVectors,
    *,
    vectors_name: str,
    stop_words: Collection[str] = STOP_WORDS,
    seed: int = 0,
) -> dict[str, float | int | str | dict[str, float]]:
    """Score decoded paths between pairs of sentences.

    A path that never moves (its steps sum to less than 1e-9) has no score and counts in
    `static_share`; one of which a step or an end has no known words has none either and counts in
    `invalid_share`. A path that moves and comes back scores 0. `decoded` cannot exceed 1, `original`
    can, and is not clipped.

    Args:
        paths: Decoded sentences of each path, both ends included.
        endpoints: The sentences that were to be connected, one pair for each path.
        vectors: Word vectors, as a mapping or as a function that gives `None` for a word it does
            not know. Distances are Euclidean.
        vectors_name: What they are; part of the result, since no score means anything without.
        stop_words: Words left out, in lower case.
        seed: Seed of the bootstrap.

    Returns:
        Under `original` and `decoded`: `mean`, `median`, `min` and `max` over the paths that have a
        score, `low` and `high` of the mean's 95 % bootstrap interval, `mean_all` with 0 for paths
        without a score, `above_one_share`. Beside them `num_paths`, `static_share`,
        `invalid_share`, `unknown_word_share`; means over paths of `distinct` (different sentences)
        and, over those that move, `max_step_share` (1 for a jump, 1 / steps at best);
        `start_exact_match`, `end_exact_match`; `vectors`.
    """
    if len(paths) != len(endpoints) or not paths or min(map(len, paths)) < 2:
        raise ValueError(
            "there must be one pair of sentences for each path, and a path of two sentences at "
            f"least, got {len(paths)} paths and {len(endpoints)} pairs"
        )
    mover = _WordMover(vectors, stop_words)
    scored = [_score(mover, path, pair) for path, pair in zip(paths, endpoints, strict=True)]
    static = [path.total < STILL for path in scored]
    result: dict[str, float | int | str | dict[str, float]] = {}
    invalid = np.zeros(len(scored), dtype=bool)
    for name in ("original", "decoded"):
        distances = [getattr(path, name) for path in scored]
        scores = np.array(
            [
                math.nan if still else distance / path.total
                for still, distance, path in zip(static, distances, scored, strict=True)
            ]
        )
        invalid |= np.isnan(scores) & ~np.array(static)
        result[name] = _summary(scores, seed)
    moving = [path.largest / path.total for path in scored if path.total >= STILL]
    return result | {
        "num_paths": len(scored),
        "static_share": float(np.mean(static)),
        "invalid_share": float(invalid.mean()),
        "unknown_word_share": mover.num_unknown / max(mover.num_words, 1),
        "distinct": float(np.mean([path.distinct for path in scored])),
        "max_step_share": float(np.mean(moving)) if moving else math.nan,
        "start_exact_match": float(np.mean([path.starts for path in scored])),
        "end_exact_match": float(np.mean([path.ends for path in scored])),
        "vectors": vectors_name,
    }


def _score(mover: _WordMover, path: Sequence[str], pair: tuple[str, str]) -> _Path:
    texts = [" ".join(text.split()) for text in path]
    start, end = (" ".join(text.split()) for text in pair)
    steps = [mover.distance(one, other) for one, other in zip(texts, texts[1:], strict=False)]
    return _Path(
        original=mover.distance(start, end),
        decoded=mover.distance(texts[0], texts[-1]),
        total=sum(steps),
        largest=max(steps),
        distinct=len({*texts}),
        starts=texts[0] == start,
        ends=texts[-1] == end,
    )


def _summary(scores: np.ndarray, seed: int) -> dict[str, float]:
    known = scores[~np.isnan(scores)]
    mean_all = float(known.sum() / len(scores))
    if len(known) == 0:
        names = ("mean", "median", "min", "max", "low", "high", "above_one_share")
        return {**dict.fromkeys(names, math.nan), "mean_all": mean_all}
    draws = np.random.default_rng(seed).choice(known, (NUM_BOOTSTRAP, len(known))).mean(axis=1)
    low, high = np.quantile(draws, (0.025, 0.975))
    return {
        "mean": float(known.mean()),
        "median": float(np.median(known)),
        "min": float(known.min()),
        "max": float(known.max()),
        "low": float(low),
        "high": float(high),
        "above_one_share": float((known > 1 + 1e-6).mean()),
        "mean_all": mean_all,
    }


def choose_pairs(
    texts: Sequence[str],
    vectors: WordVectors,
    *,
    num_pairs: int = 200,
    stop_words: Collection[str] = STOP_WORDS,
    seed: int = 0,
) -> list[tuple[str, str]]:
    """Draw disjoint pairs of sentences of a test split that are some distance apart.

    Args:
        texts: Sentences; equal ones count once.
        vectors: As in `interpolation_smoothness`.
        num_pairs: How many pairs.
        stop_words: Words left out, in lower case.
        seed: The same seed gives the same pairs.

    Raises:
        ValueError: If there are not as many pairs of a positive distance.
    """
    mover = _WordMover(vectors, stop_words)
    waiting = list(dict.fromkeys(texts))
    random.Random(seed).shuffle(waiting)
    pairs: list[tuple[str, str]] = []
    while len(pairs) < num_pairs and len(waiting) > 1:
        first = waiting.pop()
        # NaN, a sentence without known words, is not above zero either.
        partner = next(
            (i for i in reversed(range(len(waiting))) if mover.distance(first, waiting[i]) > STILL),
            None,
        )
        if partner is not None:
            pairs.append((first, waiting.pop(partner)))
    if len(pairs) < num_pairs:
        raise ValueError(
            f"{len({*texts})} different texts give {len(pairs)} pairs of a positive distance, "
            f"fewer than num_pairs={num_pairs}"
        )
    return pairs
