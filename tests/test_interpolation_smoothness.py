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
"""Exact transport against brute force, and every edge case of interpolation smoothness."""

import itertools
import math

import numpy as np
import pytest
import scipy.optimize
from scipy.spatial.distance import cdist

from hf_vq.interpolation_smoothness import (
    STOP_WORDS,
    choose_pairs,
    interpolation_smoothness,
    word_movers_distance,
)
from hf_vq.optimal_transport import transport_cost

# Words on a line: the distance of two sentences of one word is that of their numbers.
LINE = {f"w{number}": np.array([float(number)]) for number in range(20)}


def score(paths, endpoints=None, vectors=LINE, **options):
    endpoints = [(path[0], path[-1]) for path in paths] if endpoints is None else endpoints
    return interpolation_smoothness(paths, endpoints, vectors, vectors_name="line", **options)


@pytest.mark.parametrize("size", [1, 2, 3, 5, 6])
@pytest.mark.parametrize("seed", range(4))
def test_transport_of_equal_amounts_is_the_best_of_all_assignments(size: int, seed: int) -> None:
    cost = np.random.default_rng(seed).random((size, size))
    ones = np.ones(size, dtype=int)
    best = min(
        sum(cost[i, j] for i, j in enumerate(order))
        for order in itertools.permutations(range(size))
    )
    assert transport_cost(ones, ones, cost) == pytest.approx(best, abs=1e-12)
    assert transport_cost(3 * ones, 3 * ones, cost) == pytest.approx(3 * best, abs=1e-12)


@pytest.mark.parametrize("seed", range(12))
def test_transport_of_any_amounts_is_that_of_linear_programming(seed: int) -> None:
    generator = np.random.default_rng(seed)
    rows, columns = generator.integers(1, 9, 2)
    supply = generator.integers(0, 6, rows)
    supply[0] += columns
    demand = np.bincount(generator.integers(0, columns, supply.sum()), minlength=columns)
    # Ties, as between equal words, are what a solver can stumble over.
    cost = (
        generator.integers(0, 4, (rows, columns)) / 2
        if seed % 2
        else cdist(generator.normal(size=(rows, 3)), generator.normal(size=(columns, 3)))
    )
    sums = [np.kron(np.eye(rows), np.ones(columns)), np.kron(np.ones(rows), np.eye(columns))]
    expected = scipy.optimize.linprog(
        cost.ravel(), A_eq=np.concatenate(sums), b_eq=np.concatenate([supply, demand])
    ).fun
    assert transport_cost(supply, demand, cost) == pytest.approx(expected, abs=1e-9)


def test_transport_leaves_its_inputs_alone_and_names_bad_ones() -> None:
    supply, demand, cost = np.array([2]), np.array([1, 1]), np.array([[1.0, 2.0]])
    assert transport_cost(supply, demand, cost) == 3
    assert (supply.tolist(), demand.tolist()) == ([2], [1, 1])
    for bad in ((np.array([1]), demand, cost), (np.array([2.0]), demand, cost)):
        with pytest.raises(ValueError, match="integers >= 0 of equal sum"):
            transport_cost(*bad)
    for matrix in (-cost, cost * np.nan, cost.T):
        with pytest.raises(ValueError, match=r"cost must be >= 0 with shape \(1, 2\)"):
            transport_cost(supply, demand, matrix)


@pytest.mark.parametrize("seed", range(8))
def test_word_movers_distance_is_transport_between_bags(seed: int) -> None:
    generator = np.random.default_rng(seed)
    words = [f"word{i}" for i in range(9)]
    vectors = dict(zip(words, generator.normal(size=(9, 4)), strict=True))
    one, two = (list(generator.choice(words, generator.integers(1, 7))) for _ in range(2))
    # Each word of a sentence as a place of its own, shared words not taken out first.
    cost = cdist([vectors[w] for w in one], [vectors[w] for w in two])
    supply, demand = np.full(len(one), len(two)), np.full(len(two), len(one))
    expected = transport_cost(supply, demand, cost) / (len(one) * len(two))
    result = word_movers_distance(" ".join(one), " ".join(two), vectors)
    assert result == pytest.approx(expected, abs=1e-12)
    assert word_movers_distance(" ".join(two), " ".join(one), vectors) == pytest.approx(result)


def test_words_are_lower_cased_and_stop_words_left_out() -> None:
    assert word_movers_distance("The W1 is a w3", "of W2", LINE) == 1
    assert word_movers_distance("w1 w2", "w2 w1", LINE) == 0
    with_the = {**LINE, "the": np.array([7.0]), "a": np.array([9.0])}
    assert word_movers_distance("the", "a", with_the) == 2  # stop words alone: use all
    assert word_movers_distance("the w1", "w2", with_the, stop_words=()) == pytest.approx(3)
    assert {"the", "is", "of"} <= STOP_WORDS


def test_words_without_a_vector_are_dropped() -> None:
    assert word_movers_distance("w1 unheard", "w2", LINE) == 1
    assert math.isnan(word_movers_distance("unheard", "w2", LINE))
    assert math.isnan(word_movers_distance("", "w2", LINE))
    assert word_movers_distance("unheard", "unheard", LINE) == 0
    assert word_movers_distance("w1 unheard", "w2", LINE.get) == 1  # a function will do


def test_a_straight_path_scores_one_and_a_detour_less() -> None:
    result = score([["w0", "w1", "w2", "w4"]])
    assert result["original"]["mean"] == result["decoded"]["mean"] == 1
    assert result["max_step_share"] == 0.5
    assert result["distinct"] == 4
    assert score([["w0", "w3", "w1"]])["decoded"]["mean"] == pytest.approx(1 / 5)


def test_a_jump_scores_one_too_and_is_told_by_its_largest_step() -> None:
    result = score([["w0"] * 5 + ["w9"] * 6])
    assert result["decoded"]["mean"] == 1
    assert (result["max_step_share"], result["distinct"]) == (1, 2)


def test_the_numerators_differ_when_the_ends_are_not_reconstructed() -> None:
    result = score([["w1", "w2", "w3"], ["w0", "w1"]], [("w0", "w6"), ("w0", " w1 ")])
    assert result["original"]["max"] == 3
    assert result["original"]["above_one_share"] == 0.5
    assert result["decoded"] == {**result["decoded"], "max": 1, "above_one_share": 0}
    assert (result["start_exact_match"], result["end_exact_match"]) == (0.5, 0.5)


def test_a_path_that_stands_still_has_no_score() -> None:
    result = score([["w0", "w0", "w0"], ["w0", "w1", "w2"]], [("w0", "w2"), ("w0", "w2")])
    for name in ("original", "decoded"):
        assert result[name]["mean"] == 1
        assert result[name]["mean_all"] == 0.5
    assert (result["static_share"], result["invalid_share"]) == (0.5, 0)
    # Order alone moves no bag, and unknown words that stay do not move either.
    assert score([["w0 w1", "w1 w0"]])["static_share"] == 1
    result = score([["unheard", "unheard"]])
    assert (result["static_share"], result["invalid_share"]) == (1, 0)
    assert math.isnan(result["decoded"]["mean"])
    assert math.isnan(result["max_step_share"])
    assert result["decoded"]["mean_all"] == 0


def test_a_path_that_comes_back_scores_zero() -> None:
    result = score([["w0", "w5", "w0"]], [("w0", "w0")])
    assert result["decoded"]["mean"] == result["original"]["mean"] == 0
    assert result["static_share"] == 0


def test_a_path_that_leaves_the_vocabulary_is_invalid() -> None:
    result = score([["w0", "unheard", "w2"], ["w0", "w1", "w2"], ["w0", "", "w2"]])
    assert result["invalid_share"] == pytest.approx(2 / 3)
    assert result["decoded"]["mean"] == 1
    assert result["decoded"]["mean_all"] == pytest.approx(1 / 3)
    # Words are counted at each comparison: two steps, two numerators.
    result = score([["w0 unheard", "w1", "w2"]])
    assert result["invalid_share"] == 0
    assert result["unknown_word_share"] == pytest.approx(3 / 11)
    # The given sentence alone is unknown: no original, yet a decoded score.
    result = score([["w0", "w1"]], [("unheard", "w1")])
    assert math.isnan(result["original"]["mean"])
    assert result["decoded"]["mean"] == 1
    assert result["invalid_share"] == 1


@pytest.mark.parametrize("seed", range(3))
def test_the_decoded_score_never_exceeds_one(seed: int) -> None:
    generator = np.random.default_rng(seed)
    vectors = {f"w{i}": generator.normal(size=5) for i in range(12)}
    paths = [
        [" ".join(generator.choice(list(vectors), generator.integers(1, 5))) for _ in range(6)]
        for _ in range(20)
    ]
    result = score(paths, vectors=vectors)
    assert 0 < result["decoded"]["max"] <= 1 + 1e-6
    low, high = result["decoded"]["low"], result["decoded"]["high"]
    assert low < result["decoded"]["mean"] < high
    assert score(paths, vectors=vectors) == result
    assert score(paths, vectors=vectors, seed=1)["decoded"]["low"] != low


def test_the_result_names_the_vectors_and_bad_paths_are_errors() -> None:
    assert score([["w0", "w1"]])["vectors"] == "line"
    with pytest.raises(ValueError, match="got 0 paths and 0 pairs"):
        score([])
    with pytest.raises(ValueError, match="a path of two sentences at least"):
        score([["w0"]])
    with pytest.raises(ValueError, match="got 1 paths and 2 pairs"):
        score([["w0", "w1"]], [("w0", "w1")] * 2)


def test_pairs_are_disjoint_distant_and_seeded() -> None:
    texts = [f"w{i}" for i in range(12)] + ["w3", "W3", "unheard", ""]
    pairs = choose_pairs(texts, LINE, num_pairs=5)
    chosen = [text for pair in pairs for text in pair]
    assert len({*chosen}) == 10
    assert all(word_movers_distance(*pair, LINE) > 0 for pair in pairs)
    assert not {"unheard", ""} & {*chosen}
    assert pairs == choose_pairs(texts, LINE, num_pairs=5)
    assert pairs != choose_pairs(texts, LINE, num_pairs=5, seed=1)
    with pytest.raises(ValueError, match="15 different texts give 6 pairs .* num_pairs=7"):
        choose_pairs(texts, LINE, num_pairs=7)
