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
"""One call for every figure that tables show of a topic model, whatever model it is.

`evaluate_topics` takes what any model can give: lists of words, topic proportions of held-out documents,
log-probabilities of held-out words. What is not given is not scored.
"""

import logging
from collections.abc import Iterable, Sequence

import numpy as np

from hf_vq.role_metrics import linear_probe

from .coherence import CoherenceReference, best_topics, c_v, npmi_per_topic
from .metrics import (
    Counts,
    Labels,
    inverted_rbo,
    kmeans_clusters,
    nmi,
    perplexity,
    purity,
    share_of_unique_words,
    topic_diversity,
)

__all__ = ["TOPIC_METRIC_DEFINITIONS", "evaluate_topics", "topic_metric_definitions"]

logger = logging.getLogger(__name__)

_TOP = "of the 10 best words of each topic"
_KMEANS = "clusters of topic proportions by k-means, the best of 10 starts"


def topic_metric_definitions(documents: str = "held-out documents") -> dict[str, str]:
    """What each figure of `evaluate_topics` is, of the documents that it is of."""
    of_labels = f"of {documents} and their labels, which training never saw"
    return {
        "npmi": f"mean over all topics of the NPMI {_TOP}, boolean windows of 10 words, as gensim's c_npmi",
        "npmi_best_half": "npmi of the best half of topics, floor(K / 2) of them: the paper's protocol",
        "c_v": f"C_V {_TOP}, windows of 110 words, as gensim's c_v",
        "diversity_10": "share of different words among the 10 best words of all topics",
        "diversity_25": "share of different words among the 25 best words of all topics",
        "diversity_25_best_half": "diversity_25 of the topics of npmi_best_half",
        "unique_words_10": f"share {_TOP} that no other topic has among its 10",
        "inverted_rbo": f"1 - mean rank-biased overlap {_TOP}, persistence 0.9",
        "topic_quality": "npmi * diversity_10, over all topics",
        "num_topics": "topics that were scored",
        "active_topics": f"topics with a share above 1 / K in any of {documents}",
        "top_purity": f"purity {of_labels}; clusters: the largest topic of each document",
        "top_nmi": f"normalized mutual information {of_labels}; clusters: the largest topic of each document",
        "top_clusters": "clusters of top_purity and top_nmi",
        "kmeans_purity": f"purity {of_labels}; as many {_KMEANS} as there are topics; mean over seeds",
        "kmeans_purity_std": "standard deviation of kmeans_purity over the seeds of k-means",
        "kmeans_nmi": f"normalized mutual information {of_labels}; as many {_KMEANS} as there are topics; "
        "mean over seeds",
        "kmeans_nmi_std": "standard deviation of kmeans_nmi over the seeds of k-means",
        "kmeans_classes_purity": "kmeans_purity with as many clusters as labels",
        "kmeans_classes_purity_std": "standard deviation of kmeans_classes_purity over the seeds of k-means",
        "kmeans_classes_nmi": "kmeans_nmi with as many clusters as labels",
        "kmeans_classes_nmi_std": "standard deviation of kmeans_classes_nmi over the seeds of k-means",
        "probe_accuracy": f"accuracy on {documents} of a logistic regression from topic proportions to labels",
        "probe_macro_f1": "macro F1 of the same",
        "perplexity": "exp of the mean negative log-probability of a word of the second halves of "
        f"{documents}, whose topics were inferred from their first halves alone",
    }


TOPIC_METRIC_DEFINITIONS = topic_metric_definitions()


def evaluate_topics(
    topics: Sequence[Sequence[str]],
    reference: CoherenceReference,
    *,
    texts: Iterable[Sequence[str]] | None = None,
    topic_proportions: np.ndarray | None = None,
    labels: Labels | None = None,
    train_topic_proportions: np.ndarray | None = None,
    train_labels: Labels | None = None,
    word_log_probs: np.ndarray | None = None,
    word_counts: Counts | None = None,
    kmeans_seeds: Sequence[int] = range(10),
) -> dict[str, float]:
    """Score a topic model.

    Args:
        topics: Words of each topic, best first, 25 of each for all figures; shorter lists go without
            `diversity_25`, those of less than 10 words without coherence and diversity.
        reference: Counts for NPMI.
        texts: The tokenized texts of the reference, for C_V.
        topic_proportions: Of held-out documents, (documents, topics).
        labels: Of these documents.
        train_topic_proportions: Of training documents, for the logistic regression.
        train_labels: Of these.
        word_log_probs: What the model makes of the second half of held-out documents from their first
            half, (documents, vocabulary).
        word_counts: The words of these second halves, (documents, vocabulary).
        kmeans_seeds: Seeds of k-means.

    Returns:
        The figures that the inputs suffice for; `topic_metric_definitions` defines them.
    """
    figures: dict[str, float] = {"num_topics": len(topics)}
    shortest = min(map(len, topics), default=0)
    if shortest < 10:
        logger.warning("a topic has only %d words: coherence and diversity need 10", shortest)
    else:
        figures |= _word_figures(topics, reference)
        if texts is not None:
            figures["c_v"] = c_v(topics, texts, top_n=10)
    if topic_proportions is not None:
        proportions = _check_proportions(topic_proportions)
        threshold = 1 / proportions.shape[1]
        figures["active_topics"] = int((proportions.max(axis=0) > threshold).sum())
        if labels is not None:
            figures |= _cluster_figures(proportions, labels, kmeans_seeds)
            if train_topic_proportions is not None and train_labels is not None:
                known = [np.asarray(part).tolist() for part in (train_labels, labels)]
                scores = linear_probe(train_topic_proportions, known[0], proportions, known[1])
                figures |= {f"probe_{name}": score for name, score in scores.items()}
    if word_log_probs is not None and word_counts is not None:
        figures["perplexity"] = perplexity(word_log_probs, word_counts)
    return figures


def _word_figures(
    topics: Sequence[Sequence[str]], reference: CoherenceReference
) -> dict[str, float]:
    scores = npmi_per_topic(topics, reference, top_n=10)
    best = best_topics(scores)
    diversity = topic_diversity(topics, top_n=10)
    figures: dict[str, float] = {
        "npmi": float(scores.mean()),
        "npmi_best_half": float(scores[best].mean()),
        "diversity_10": diversity,
        "unique_words_10": share_of_unique_words(topics, top_n=10),
        "topic_quality": float(scores.mean()) * diversity,
    }
    if min(map(len, topics)) >= 25:
        figures["diversity_25"] = topic_diversity(topics, top_n=25)
        figures["diversity_25_best_half"] = topic_diversity([topics[i] for i in best], top_n=25)
    if len(topics) > 1:
        figures["inverted_rbo"] = inverted_rbo(topics, top_n=10)
    return figures


def _check_proportions(topic_proportions: np.ndarray) -> np.ndarray:
    proportions = np.asarray(topic_proportions)
    if proportions.ndim != 2 or not np.isfinite(proportions).all():
        raise ValueError(
            "topic_proportions must be finite numbers (documents, topics), got the shape "
            f"{proportions.shape}"
        )
    return proportions


def _cluster_figures(
    proportions: np.ndarray, labels: Labels, seeds: Sequence[int]
) -> dict[str, float]:
    top = proportions.argmax(axis=1)
    figures: dict[str, float] = {
        "top_purity": purity(labels, top),
        "top_nmi": nmi(labels, top),
        "top_clusters": len(np.unique(top)),
    }
    numbers = {"kmeans": proportions.shape[1], "kmeans_classes": len(np.unique(np.asarray(labels)))}
    for name, number in numbers.items():
        if number > len(proportions):
            continue
        clusters = [kmeans_clusters(proportions, number, seed) for seed in seeds]
        for score in (purity, nmi):
            values = [score(labels, found) for found in clusters]
            figures[f"{name}_{score.__name__}"] = float(np.mean(values))
            figures[f"{name}_{score.__name__}_std"] = float(np.std(values))
    return figures
