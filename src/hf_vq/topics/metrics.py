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
"""How good are topics? Coherence, diversity, agreement with labels, likelihood, stability.

Pure functions of lists of words and arrays, whatever model they come from. The formulas M1 to M12 are
those of docs/topic_metrics.md. A purity grows with the number of clusters: never print it alone.
"""

import warnings
from collections.abc import Hashable, Sequence
from itertools import combinations
from typing import TypeAlias

import numpy as np

from hf_vq._extras import require

require("scipy", "sklearn", extra="topics")

from scipy import sparse  # noqa: E402
from scipy.optimize import linear_sum_assignment  # noqa: E402
from sklearn.cluster import KMeans  # noqa: E402
from sklearn.exceptions import ConvergenceWarning  # noqa: E402

from .coherence import (  # noqa: E402
    CoherenceReference,
    best_topics,
    c_v,
    npmi,
    npmi_best_half,
    npmi_per_topic,
    top_words,
)

__all__ = [
    "CoherenceReference",
    "best_topics",
    "c_v",
    "inverted_rbo",
    "kmeans_clusters",
    "nmi",
    "npmi",
    "npmi_best_half",
    "npmi_per_topic",
    "perplexity",
    "purity",
    "share_of_unique_words",
    "topic_diversity",
    "topic_stability",
    "unigram_perplexity",
]

Counts: TypeAlias = np.ndarray | sparse.sparray | sparse.spmatrix
Labels: TypeAlias = Sequence[Hashable] | np.ndarray


def topic_diversity(topics: Sequence[Sequence[str]], top_n: int = 10) -> float:
    """Share of different words among the top words of all topics; M5.

    Dieng et al., "Topic modeling in embedding spaces", TACL 2020 (there with 25 words).

    Example:
        >>> round(topic_diversity([["a", "b", "c"], ["a", "c", "d"]], top_n=3), 4)
        0.6667
    """
    words = [word for topic in top_words(topics, top_n) for word in topic]
    return len(set(words)) / len(words)


def share_of_unique_words(topics: Sequence[Sequence[str]], top_n: int = 10) -> float:
    """Share of top words that no other topic has: a stricter diversity, as ECRTM's authors use; M6.

    Wu et al., "Effective neural topic modeling with embedding clustering regularization", ICML 2023.

    Example:
        >>> round(share_of_unique_words([["a", "b", "c"], ["a", "c", "d"]], top_n=3), 4)
        0.3333
    """
    words = [word for topic in top_words(topics, top_n) for word in topic]
    counts = np.unique(words, return_counts=True)[1]
    return int((counts == 1).sum()) / len(words)


def inverted_rbo(
    topics: Sequence[Sequence[str]], top_n: int = 10, persistence: float = 0.9
) -> float:
    """1 minus the mean rank-biased overlap of two topics: diversity that minds the order; M7.

    Webber et al., "A similarity measure for indefinite rankings", TOIS 2010 (extrapolated to the end
    of the lists); Bianchi et al., "Pre-training is a hot topic", ACL 2021.

    Args:
        topics: Words of each topic, best first; two topics at least.
        top_n: Depth of the comparison.
        persistence: Weight of a place beside that of the place before it, in (0, 1).

    Example:
        >>> round(inverted_rbo([["a", "b", "c"], ["a", "c", "d"]], top_n=3), 3)
        0.315
    """
    if not 0 < persistence < 1:
        raise ValueError(f"persistence must be between 0 and 1, got {persistence}")
    words = top_words(topics, top_n)
    if len(words) < 2:
        raise ValueError("inverted RBO compares topics: there must be 2 or more, got 1")
    columns = {word: i for i, word in enumerate({w: None for topic in words for w in topic})}
    places = np.array([[columns[word] for word in topic] for topic in words])
    has = np.zeros((len(words), len(columns)), dtype=np.float32)
    overlap = np.zeros((len(words), len(words)))
    for depth in range(1, top_n + 1):
        has[np.arange(len(words)), places[:, depth - 1]] = 1
        agreement = (has @ has.T) / depth
        overlap += (1 - persistence) * persistence ** (depth - 1) * agreement
    overlap += persistence**top_n * agreement
    return float(1 - overlap[np.triu_indices(len(words), 1)].mean())


def _contingency(labels: Labels, clusters: Labels) -> np.ndarray:
    """Number of documents of each cluster (rows) and label (columns)."""
    if len(labels) != len(clusters) or len(labels) == 0:
        raise ValueError(
            "there must be one cluster for each label, and one at least, got "
            f"{len(labels)} labels and {len(clusters)} clusters"
        )
    label_names, label_ids = np.unique(np.asarray(labels), return_inverse=True)
    cluster_names, cluster_ids = np.unique(np.asarray(clusters), return_inverse=True)
    flat = cluster_ids.ravel() * len(label_names) + label_ids.ravel()
    counts = np.bincount(flat, minlength=len(label_names) * len(cluster_names))
    return counts.reshape(len(cluster_names), len(label_names))


def purity(labels: Labels, clusters: Labels) -> float:
    """Share of documents whose label is the most frequent one of their cluster; M8.

    Example:
        >>> purity(["x", "x", "y", "y"], [0, 0, 0, 1])
        0.75
    """
    counts = _contingency(labels, clusters)
    return float(counts.max(1).sum() / counts.sum())


def nmi(labels: Labels, clusters: Labels) -> float:
    """Mutual information of labels and clusters by the mean of their two entropies; M9.

    Example:
        >>> nmi(["x", "x", "y", "y"], [5, 5, 3, 3])
        1.0
    """
    joint = _contingency(labels, clusters) / len(labels)
    if 1 in joint.shape:
        return float(joint.size == 1)
    entropies = [_entropy(joint.sum(axis)) for axis in (0, 1)]
    information = sum(entropies) - _entropy(joint.ravel())
    return float(max(0.0, 2 * information / sum(entropies)))


def _entropy(shares: np.ndarray) -> float:
    present = shares[shares > 0]
    return float(-(present * np.log(present)).sum())


def kmeans_clusters(vectors: np.ndarray, num_clusters: int, seed: int) -> np.ndarray:
    """Cluster of each row by scikit-learn's k-means, the best of 10 starts.

    Rows with fewer different values than clusters leave clusters empty, which is not an error.

    Args:
        vectors: Topic proportions of documents, (documents, topics).
        num_clusters: Number of clusters.
        seed: Seed of the starts.
    """
    if not 1 <= num_clusters <= len(vectors):
        raise ValueError(
            f"num_clusters must be between 1 and the {len(vectors)} rows, got {num_clusters}"
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        kmeans = KMeans(num_clusters, n_init=10, random_state=seed)
        return kmeans.fit_predict(np.ascontiguousarray(vectors, dtype=np.float64))


def perplexity(word_log_probs: np.ndarray, word_counts: Counts) -> float:
    """Perplexity of words that a model predicts: exp of minus the mean log-probability of a word; M10.

    For held-out documents the prediction must not have seen the words: infer topic proportions from
    the first half of a document alone, and count the words of the second (document completion).

    Args:
        word_log_probs: Natural log-probability of each word in each document, (documents, words).
        word_counts: Number of each word in each document, (documents, words), dense or sparse.
    """
    if np.shape(word_log_probs) != np.shape(word_counts):
        raise ValueError(
            "log-probabilities and counts must have one shape, got "
            f"{np.shape(word_log_probs)} and {np.shape(word_counts)}"
        )
    counts = sparse.coo_array(word_counts)
    total = counts.data.sum()
    if total == 0:
        raise ValueError("there is no word to predict")
    row, column = counts.coords
    return float(np.exp(-(counts.data * word_log_probs[row, column]).sum() / total))


def unigram_perplexity(train_counts: Counts, word_counts: Counts) -> float:
    """Perplexity of a model without topics: the words' shares in training, with one added; M11.

    A topic model that is not below it has learned nothing about documents.
    """
    frequencies = np.asarray(sparse.csr_array(train_counts).sum(axis=0)).ravel() + 1.0
    log_probs = np.log(frequencies / frequencies.sum())
    counts = np.asarray(sparse.csr_array(word_counts).sum(axis=0)).ravel()
    return perplexity(log_probs[None], counts[None])


def topic_stability(runs: Sequence[Sequence[Sequence[str]]], top_n: int = 10) -> float:
    """How far runs that differ in their seed find the same topics, in [0, 1]; M12.

    The topics of two runs are matched one to one so that the sum of the Jaccard indices of their top
    words is largest (Hungarian method); the mean over matches, then over pairs of runs. Topics
    that stay without a match, because the runs have different numbers of them, count as 0.

    Args:
        runs: Topics of each run; two runs at least.
        top_n: Words of a topic that count.

    Example:
        >>> topic_stability([[["a", "b"], ["c", "d"]], [["c", "d"], ["a", "e"]]], top_n=2)
        0.6666666666666666
    """
    if len(runs) < 2:
        raise ValueError(f"stability compares runs: there must be 2 or more, got {len(runs)}")
    sets = [[set(topic) for topic in top_words(topics, top_n)] for topics in runs]
    scores = []
    for one, other in combinations(sets, 2):
        jaccard = np.array([[len(a & b) / len(a | b) for b in other] for a in one])
        rows, columns = linear_sum_assignment(jaccard, maximize=True)
        scores.append(jaccard[rows, columns].sum() / max(jaccard.shape))
    return float(np.mean(scores))
