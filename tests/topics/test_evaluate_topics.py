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
"""One call for every figure of a topic model."""

import math

import numpy as np
import pytest

from hf_vq.topics import metrics
from hf_vq.topics.coherence import CoherenceReference
from hf_vq.topics.evaluation import TOPIC_METRIC_DEFINITIONS, evaluate_topics

WORDS = [f"w{i:03d}" for i in range(120)]


@pytest.fixture
def texts() -> list[list[str]]:
    generator = np.random.default_rng(0)
    return [list(generator.choice(WORDS, 30)) for _ in range(80)] + [[word] for word in WORDS]


@pytest.fixture
def reference(texts: list[list[str]]) -> CoherenceReference:
    return CoherenceReference(texts, WORDS)


def proportions_of(labels: np.ndarray, seed: int) -> np.ndarray:
    generator = np.random.default_rng(seed)
    return np.eye(4)[labels] * 0.7 + 0.3 * generator.dirichlet(np.ones(4), len(labels))


def test_every_figure_has_a_definition_and_comes_from_its_function(
    texts: list[list[str]], reference: CoherenceReference
) -> None:
    topics = [WORDS[25 * k : 25 * k + 25] for k in range(4)]
    labels, train_labels = np.arange(60) % 4, np.arange(80) % 4
    proportions = proportions_of(labels, 0)
    log_probs = np.full((60, 7), -math.log(7))
    figures = evaluate_topics(
        topics,
        reference,
        texts=texts,
        topic_proportions=proportions,
        labels=labels,
        train_topic_proportions=proportions_of(train_labels, 1),
        train_labels=train_labels,
        word_log_probs=log_probs,
        word_counts=np.ones((60, 7)),
        kmeans_seeds=range(2),
    )
    assert figures.keys() == TOPIC_METRIC_DEFINITIONS.keys()
    assert figures["npmi"] == metrics.npmi(topics, reference)
    assert figures["npmi_best_half"] == metrics.npmi_best_half(topics, reference)
    assert figures["c_v"] == metrics.c_v(topics, texts)
    assert figures["topic_quality"] == figures["npmi"] * figures["diversity_10"]
    assert (figures["diversity_25"], figures["num_topics"], figures["active_topics"]) == (1, 4, 4)
    for name in ("top_purity", "top_nmi", "kmeans_purity", "kmeans_classes_nmi", "probe_accuracy"):
        assert figures[name] == pytest.approx(1), name
    assert figures["kmeans_nmi_std"] == 0
    assert figures["perplexity"] == pytest.approx(7)


def test_what_is_not_given_is_not_scored(reference: CoherenceReference) -> None:
    figures = evaluate_topics([WORDS[:10]], reference)
    missing = {"diversity_25", "inverted_rbo", "c_v", "top_purity", "perplexity", "active_topics"}
    assert not missing & figures.keys()
    assert figures["npmi"] == figures["npmi_best_half"]


def test_short_topics_are_scored_by_their_documents(
    reference: CoherenceReference, caplog: pytest.LogCaptureFixture
) -> None:
    labels = np.arange(60) % 4
    figures = evaluate_topics(
        [["w000"]] * 4, reference, topic_proportions=proportions_of(labels, 0), labels=labels
    )
    assert "a topic has only 1 words: coherence and diversity need 10" in caplog.text
    assert (figures["num_topics"], figures["top_purity"]) == (4, 1)
    assert not {"npmi", "c_v", "diversity_10", "inverted_rbo"} & figures.keys()


def test_best_half_diversity_is_of_the_best_topics(reference: CoherenceReference) -> None:
    twin = [*WORDS[:10], *WORDS[50:65]]
    topics = [twin, twin, WORDS[25:50], WORDS[65:90], WORDS[90:115]]
    scores = metrics.npmi_per_topic(topics, reference, top_n=10)
    chosen = [topics[i] for i in np.argsort(-scores, kind="stable")[:2]]
    figures = evaluate_topics(topics, reference)
    assert figures["diversity_25_best_half"] == metrics.topic_diversity(chosen, top_n=25)


def test_proportions_must_be_finite(reference: CoherenceReference) -> None:
    with pytest.raises(ValueError, match=r"finite numbers \(documents, topics\).*\(3, 2\)"):
        evaluate_topics([WORDS[:10]], reference, topic_proportions=np.full((3, 2), np.nan))


def test_more_topics_than_documents_have_no_clusters(reference: CoherenceReference) -> None:
    proportions = np.full((3, 5), 0.2)
    figures = evaluate_topics(
        [WORDS[:10]], reference, topic_proportions=proportions, labels=[0, 1, 0], kmeans_seeds=[0]
    )
    assert "kmeans_purity" not in figures
    assert figures["kmeans_classes_purity"] == pytest.approx(2 / 3)
