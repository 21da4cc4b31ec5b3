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
"""Metrics of topics: values worked by hand, naive counts, gensim, scikit-learn and OCTIS."""

import math
import random
import warnings

import numpy as np
import pytest
from scipy import sparse
from sklearn.metrics import normalized_mutual_info_score

from hf_vq.topics import coherence, metrics
from hf_vq.topics.coherence import CoherenceReference

TEXTS = [["a", "b"], ["a", "c"], ["b", "c"], ["a", "b", "c"]]
WORDS = [f"w{i:02d}" for i in range(40)]


def corpus(seed: int, size: int = 120, longest: int = 150) -> list[list[str]]:
    """Texts in which words of one theme meet, some much shorter and some longer than a window."""
    generator = random.Random(seed)
    texts = []
    for _ in range(size):
        theme = generator.choice([WORDS[:12], WORDS[12:24], WORDS[24:36]])
        length = generator.randint(1, longest)
        texts.append(
            [generator.choice(theme if generator.random() < 0.7 else WORDS) for _ in range(length)]
        )
    return texts


def topics_of(seed: int, number: int = 4, size: int = 10) -> list[list[str]]:
    generator = random.Random(seed)
    return [generator.sample(WORDS, size) for _ in range(number)]


def naive_counts(texts: list[list[str]], window: int) -> tuple[int, dict]:
    windows = [
        set(text[i : i + window])
        for text in texts
        if text
        for i in range(max(1, len(text) - window + 1))
    ]
    counts: dict = {}
    for words in windows:
        for one in words:
            for other in words:
                counts[one, other] = counts.get((one, other), 0) + 1
    return len(windows), counts


@pytest.mark.parametrize("window", [1, 3, 10, 110])
@pytest.mark.parametrize("max_entries", [4_000_000, 300])
def test_counts_are_those_of_sets_of_words(
    window: int, max_entries: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(coherence, "_MAX_ENTRIES", max_entries)
    texts = [*corpus(0), [], ["other"] * 200, ["w00"] * 30]
    reference = CoherenceReference(iter(texts), WORDS[:30], window, as_gensim=False)
    number, counts = naive_counts(texts, window)
    assert reference.num_windows == number
    expected = [[counts.get((a, b), 0) for b in WORDS[:30]] for a in WORDS[:30]]
    assert reference.pair_windows.toarray().tolist() == expected
    assert reference.word_windows.tolist() == np.diag(expected).tolist()


def test_printed_values_of_gensim() -> None:
    reference = CoherenceReference(TEXTS, "abc")
    assert metrics.npmi([["a", "b"]], reference) == pytest.approx(-0.169925, abs=1e-6)
    assert metrics.c_v([["a", "b", "c"]], TEXTS) == pytest.approx(0.370587, abs=1e-6)
    # Two words that never meet, each in a hundredth of the windows.
    apart = CoherenceReference([["a"], ["b"], *[["c"]] * 98], "ab")
    assert metrics.npmi([["a", "b"]], apart) == pytest.approx(-0.6667, abs=1e-4)


# Made with gensim 4.4.0 (CoherenceModel, topn=10, processes=1) by the test below.
GENSIM = {
    0: (-0.04309246478982159, 0.36329120496368383),
    1: (-0.04431614338471253, 0.37742086193578855),
    2: (-0.02991604261177097, 0.36230100524052550),
}


@pytest.mark.parametrize("seed", GENSIM)
def test_recorded_values_of_gensim(seed: int) -> None:
    texts, topics = corpus(seed), topics_of(seed)
    reference = CoherenceReference(texts, WORDS)
    expected_npmi, expected_c_v = GENSIM[seed]
    assert metrics.npmi(topics, reference) == pytest.approx(expected_npmi, abs=1e-9)
    assert metrics.c_v(topics, texts) == pytest.approx(expected_c_v, abs=1e-9)


@pytest.mark.parametrize("seed", GENSIM)
def test_gensim_gives_the_recorded_values(seed: int) -> None:
    gensim = pytest.importorskip("gensim.models.coherencemodel", reason="gensim is the peer")
    corpora = pytest.importorskip("gensim.corpora")
    texts, topics = corpus(seed), topics_of(seed)
    found = [
        gensim.CoherenceModel(
            topics=topics,
            texts=texts,
            dictionary=corpora.Dictionary(texts),
            coherence=name,
            topn=10,
            processes=1,
        ).get_coherence()
        for name in ("c_npmi", "c_v")
    ]
    assert found == pytest.approx(GENSIM[seed], abs=1e-9)


def test_texts_without_a_top_word_count() -> None:
    texts = [["a", "b"], ["a", "x"], ["b", "x"]]
    few = metrics.npmi([["a", "b"]], CoherenceReference(texts, "ab"))
    many = metrics.npmi([["a", "b"]], CoherenceReference([*texts, *[["x"]] * 10], "ab"))
    assert many > few


def test_a_word_that_the_reference_lacks_is_refused() -> None:
    reference = CoherenceReference(TEXTS, ["a", "b", "never"])
    with pytest.raises(ValueError, match=r"do not contain \['never'\]"):
        metrics.npmi([["a", "never"]], reference)
    with pytest.raises(ValueError, match=r"was not told to count \['c'\]"):
        metrics.npmi([["a", "c"]], reference)


@pytest.mark.parametrize(
    ("texts", "words", "window", "message"),
    [
        ([["a"]], [], 10, "no words to count"),
        ([[]], ["a"], 10, "no word at all"),
        (["a text"], ["a"], 10, "list of words, got the string 'a text'"),
        ([["a"]], ["a"], 0, "at least 1, got 0"),
    ],
)
def test_a_reference_needs_words(texts: list, words: list[str], window: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CoherenceReference(texts, words, window)


@pytest.mark.parametrize(
    ("topics", "message"),
    [
        ([], "no topics"),
        ([["a"], ["b", "c"]], "topic 0 must be a list of 2"),
        (["ab"], "topic 0"),
        ([["a", "b"], ["c", "c"]], "topic 1 repeats"),
    ],
)
def test_topics_must_have_enough_different_words(topics: list, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        metrics.topic_diversity(topics, top_n=2)


def test_best_half_of_an_odd_number_of_topics() -> None:
    # T19: floor(5 / 2) = 2 topics and their mean; the authors' code divides by 2.5.
    texts = corpus(3)
    topics = topics_of(3, number=5)
    reference = CoherenceReference(texts, WORDS)
    scores = sorted(metrics.npmi_per_topic(topics, reference), reverse=True)
    assert metrics.npmi_best_half(topics, reference) == pytest.approx((scores[0] + scores[1]) / 2)
    assert metrics.npmi(topics, reference) == pytest.approx(sum(scores) / 5)
    assert metrics.best_topics([0.1, 0.5, 0.3, 0.4, 0.2]).tolist() == [1, 3]
    assert metrics.npmi_best_half(topics[:1], reference) == metrics.npmi(topics[:1], reference)


def test_values_of_octis() -> None:
    topics = [["a", "b", "c"], ["a", "c", "d"]]
    assert metrics.inverted_rbo(topics, top_n=3) == pytest.approx(0.315, abs=5e-4)
    assert metrics.topic_diversity(topics, top_n=3) == pytest.approx(2 / 3)
    assert metrics.share_of_unique_words(topics, top_n=3) == pytest.approx(2 / 6)


@pytest.mark.parametrize("seed", range(3))
def test_inverted_rbo_is_its_formula(seed: int) -> None:
    topics, p = topics_of(seed, number=5), 0.9
    overlaps = []
    for i, one in enumerate(topics):
        for other in topics[i + 1 :]:
            agreement = [len({*one[:d]} & {*other[:d]}) / d for d in range(1, 11)]
            tail = sum(a * p**d for d, a in enumerate(agreement, start=1))
            overlaps.append(agreement[-1] * p**10 + (1 - p) / p * tail)
    assert metrics.inverted_rbo(topics) == pytest.approx(1 - np.mean(overlaps))
    assert metrics.inverted_rbo([topics[0]] * 3) == pytest.approx(0, abs=1e-6)
    assert metrics.inverted_rbo([WORDS[:10], WORDS[10:20]]) == 1


def test_inverted_rbo_refuses_what_it_cannot_compare() -> None:
    with pytest.raises(ValueError, match="2 or more, got 1"):
        metrics.inverted_rbo([["a", "b"]], top_n=2)
    with pytest.raises(ValueError, match="got 1.5"):
        metrics.inverted_rbo([["a"], ["b"]], top_n=1, persistence=1.5)


@pytest.mark.parametrize("seed", range(3))
def test_nmi_is_scikit_learns(seed: int) -> None:
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 5, 300)
    clusters = np.where(generator.random(300) < 0.5, labels, generator.integers(0, 20, 300))
    expected = normalized_mutual_info_score(labels, clusters)
    assert metrics.nmi(labels, clusters) == pytest.approx(expected)
    assert metrics.nmi(labels.astype(str), clusters.tolist()) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("labels", "clusters"), [([0, 0], [0, 0]), ([0, 0], [0, 1]), ([0, 1], [0, 0]), ([0, 1], [1, 0])]
)
def test_nmi_of_one_cluster_is_scikit_learns(labels: list[int], clusters: list[int]) -> None:
    assert metrics.nmi(labels, clusters) == normalized_mutual_info_score(labels, clusters)


def test_purity_by_hand() -> None:
    labels = ["x", "x", "y", "z", "y", "z"]
    assert metrics.purity(labels, [0, 0, 0, 1, 1, 1]) == pytest.approx(4 / 6)
    assert metrics.purity(labels, range(6)) == 1
    assert metrics.purity(labels, [0] * 6) == pytest.approx(1 / 3)
    with pytest.raises(ValueError, match="6 labels and 2 clusters"):
        metrics.purity(labels, [0, 1])


def test_kmeans_finds_what_is_apart_and_repeats_itself() -> None:
    generator = np.random.default_rng(0)
    centers = np.eye(4)[generator.integers(0, 4, 200)]
    points = centers + 0.05 * generator.standard_normal(centers.shape)
    clusters = metrics.kmeans_clusters(points, 4, seed=0)
    assert metrics.nmi(centers.argmax(1), clusters) == pytest.approx(1)
    # T18: one seed, one answer.
    assert (clusters == metrics.kmeans_clusters(points, 4, seed=0)).all()


def test_kmeans_of_fewer_points_than_clusters() -> None:
    points = np.eye(3)[[0, 1, 2, 0, 1]]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(set(metrics.kmeans_clusters(points, 5, seed=0).tolist())) == 3
    with pytest.raises(ValueError, match="between 1 and the 5 rows, got 6"):
        metrics.kmeans_clusters(points, 6, seed=0)


@pytest.mark.parametrize("form", [np.asarray, sparse.csr_array, sparse.csr_matrix])
def test_perplexity_by_hand(form: type) -> None:
    counts = form(np.array([[2, 0, 1], [0, 1, 0]]))
    probabilities = np.array([[0.5, 0.25, 0.25], [0.1, 0.8, 0.1]])
    expected = math.exp(-(2 * math.log(0.5) + math.log(0.25) + math.log(0.8)) / 4)
    assert metrics.perplexity(np.log(probabilities), counts) == pytest.approx(expected)


def test_uniform_words_have_the_perplexity_of_the_vocabulary() -> None:
    counts = np.ones((3, 7))
    assert metrics.unigram_perplexity(counts, counts) == pytest.approx(7)
    # A word that training lacks costs, but not infinitely much.
    assert metrics.unigram_perplexity([[3, 0]], [[1, 1]]) == pytest.approx(
        math.exp(-(math.log(4 / 5) + math.log(1 / 5)) / 2)
    )


def test_perplexity_refuses_what_does_not_fit() -> None:
    with pytest.raises(ValueError, match=r"\(2, 3\) and \(2, 4\)"):
        metrics.perplexity(np.zeros((2, 3)), np.zeros((2, 4)))
    with pytest.raises(ValueError, match="no word to predict"):
        metrics.perplexity(np.zeros((2, 3)), np.zeros((2, 3)))


def test_stability_matches_topics_one_to_one() -> None:
    one = [["a", "b"], ["c", "d"]]
    assert metrics.topic_stability([one, one[::-1]], top_n=2) == 1
    assert metrics.topic_stability([one, [["a", "b"], ["a", "b"]]], top_n=2) == 0.5
    # A topic without a match counts.
    assert metrics.topic_stability([one, one[:1]], top_n=2) == 0.5
    assert metrics.topic_stability([one, one, [["e", "f"], ["g", "h"]]], top_n=2) == pytest.approx(
        1 / 3
    )
    with pytest.raises(ValueError, match="2 or more, got 1"):
        metrics.topic_stability([one], top_n=2)
