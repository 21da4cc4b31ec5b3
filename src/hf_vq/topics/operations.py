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
"""What is done with topics once they are learned: arrays in, arrays out.

Neither a model nor a text encoder is needed here, so everything can be checked by hand. Equation numbers are those
of docs/topics.md.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from hf_vq._extras import require

require("scipy", extra="topics")

# ruff: noqa: E402  the imports below need the extra
from scipy.cluster.hierarchy import cut_tree, fcluster, linkage
from scipy.spatial.distance import squareform


@dataclass(frozen=True)
class Topics:
    """What is known of K topics over V words.

    Attributes:
        vocabulary: The words.
        word_probs: (K, V), the probability of each word in each topic.
        word_weights: (K, V), by which the words of a topic are ranked; larger is better.
        embeddings: (K, D), where each topic lies among the codes, eq. (13).
        labels: (K,), what each topic is called.
    """

    vocabulary: Sequence[str]
    word_probs: np.ndarray
    word_weights: np.ndarray
    embeddings: np.ndarray
    labels: Sequence[str]

    def __len__(self) -> int:
        return len(self.word_weights)

    def check(self, topic: int) -> int:
        """The topic's number, refused if there is no such topic."""
        if isinstance(topic, bool) or not isinstance(topic, int | np.integer):
            raise ValueError(f"topic is {topic!r}, expected a number from 0 to {len(self) - 1}")
        if not 0 <= topic < len(self):
            raise ValueError(f"topic is {topic}, expected a number from 0 to {len(self) - 1}")
        return int(topic)

    def top_words(self, topic: int, top_n: int = 10) -> list[str]:
        """The words of one topic with the largest weights."""
        return [
            self.vocabulary[word]
            for word in top_indices(self.word_weights[self.check(topic)], top_n)
        ]


@dataclass(frozen=True)
class PlacedDocuments:
    """N documents and where they are among the topics.

    Attributes:
        texts: The documents.
        topic_proportions: (N, K), each row sums to 1.
        word_counts: Sparse (N, V), how often each word of the vocabulary occurs.
        num_words: (N,), how many words spoke for the proportions; where it is 0 they are the prior's.
        bow_texts: The form of the documents whose words were counted, if that is another.
    """

    texts: Sequence[str]
    topic_proportions: np.ndarray
    word_counts: Any
    num_words: np.ndarray
    bow_texts: Sequence[str] | None = None

    @property
    def counted_texts(self) -> Sequence[str]:
        """The texts whose words were counted."""
        return self.texts if self.bow_texts is None else self.bow_texts

    def __len__(self) -> int:
        return len(self.topic_proportions)


def top_indices(weights: np.ndarray, top_n: int) -> np.ndarray:
    """Positions of the largest weights, the largest first; among equals the first position wins."""
    if top_n < 1:
        raise ValueError(f"top_n is {top_n}, expected at least 1")
    return np.argsort(-weights, kind="stable")[:top_n]


def topic_similarity(embeddings: np.ndarray) -> np.ndarray:
    """Cosines between the rows, (K, K); a row of zeros is like no other."""
    norms = np.linalg.norm(embeddings, axis=1, keepdims=True)
    units = embeddings / np.where(norms > 0, norms, 1)
    similarity = np.clip(units @ units.T, -1, 1)
    np.fill_diagonal(similarity, 1)
    return similarity


def search_topics(embeddings: np.ndarray, query: np.ndarray) -> np.ndarray:
    """The cosine of each topic with a point of code space, (K,)."""
    return topic_similarity(np.vstack([query, embeddings]))[0, 1:]


def topic_linkage(embeddings: np.ndarray) -> np.ndarray:
    """Average linkage of the topics by 1 - cosine, (K-1, 4) in the form of scipy."""
    if len(embeddings) < 2:
        return np.empty((0, 4))
    distances = np.clip(1 - topic_similarity(embeddings), 0, None)
    return linkage(squareform(distances, checks=False), method="average")


def merge_map(num_topics: int, groups: Sequence[Sequence[int]]) -> np.ndarray:
    """The new number of each topic when every group becomes one: (num_topics,), in the order of first members.

    Example:
    ```python
    >>> from hf_vq.topics.operations import merge_map
    >>> merge_map(5, [[1, 3]]).tolist()
    [0, 1, 2, 1, 3]

    ```
    """
    names = list(range(num_topics))
    seen: set[int] = set()
    for group in groups:
        members = sorted({_whole("a topic to merge", topic) for topic in group})
        if len(members) < 2:
            raise ValueError(f"a group to merge is {list(group)}, expected at least two topics")
        for topic in members:
            if not 0 <= topic < num_topics:
                raise ValueError(
                    f"a group to merge names topic {topic}, expected 0 to {num_topics - 1}"
                )
            if topic in seen:
                raise ValueError(f"topic {topic} stands in two groups to merge")
            seen.add(topic)
            names[topic] = members[0]
    return _renumber(names)


def reduction_map(
    embeddings: np.ndarray, num_topics: int | None = None, min_similarity: float | None = None
) -> np.ndarray:
    """A merge map that joins the topics that are most similar.

    Args:
        embeddings: Where the topics lie.
        num_topics: How many shall be left, or
        min_similarity: which cosine two groups of topics have on average at least when they are joined.
    """
    if (num_topics is None) == (min_similarity is None):
        raise ValueError(
            f"num_topics is {num_topics} and min_similarity is {min_similarity}, expected one of them"
        )
    if num_topics is not None and not 1 <= _whole("num_topics", num_topics) <= len(embeddings):
        raise ValueError(f"num_topics is {num_topics}, expected 1 to {len(embeddings)}")
    tree = topic_linkage(embeddings)
    if not len(tree):
        return np.zeros(len(embeddings), dtype=np.int64)
    if num_topics is not None:
        return _renumber(cut_tree(tree, n_clusters=num_topics)[:, 0])
    return _renumber(fcluster(tree, 1 - float(min_similarity or 0), criterion="distance"))


def merge_proportions(topic_proportions: np.ndarray, topic_map: np.ndarray) -> np.ndarray:
    """Proportions of merged topics: the sums over their members, (N, new K)."""
    return topic_proportions @ _membership(topic_map, topic_proportions.dtype)


def merge_topics(
    topics: Topics, topic_map: np.ndarray, shares: np.ndarray, labels: Sequence[str] | None = None
) -> Topics:
    """Merged topics: the mean of their members, weighted with the members' shares of the corpus.

    Args:
        topics: The topics before.
        topic_map: The new number of each.
        shares: (K,), how much of the corpus each topic has.
        labels: What the new topics are called; the names of the members, joined, if not given.
    """
    # A topic that no document has still counts, or a group of such topics would have no mean.
    weights = _membership(topic_map, np.float64) * (np.asarray(shares, np.float64)[:, None] + 1e-12)
    weights /= weights.sum(axis=0)
    members = [np.flatnonzero(topic_map == new).tolist() for new in range(weights.shape[1])]
    return replace(
        topics,
        word_probs=weights.T @ topics.word_probs,
        word_weights=weights.T @ topics.word_weights,
        embeddings=weights.T @ topics.embeddings,
        labels=labels or [" + ".join(topics.labels[old] for old in group) for group in members],
    )


def class_tfidf(topic_word_counts: np.ndarray, word_counts: np.ndarray) -> np.ndarray:
    """Weights of words that are frequent in a topic and rare elsewhere, (K, V).

    tf_kw log(1 + A / f_w), divided by its sum over the words of the topic; tf_kw is how often word w occurs for topic
    k, f_w how often it occurs at all, and A the mean number of words of a topic.
    """
    mean = word_counts.sum() / len(topic_word_counts)
    weights = topic_word_counts * np.log1p(mean / np.maximum(word_counts, 1))
    total = weights.sum(axis=1, keepdims=True)
    return weights / np.where(total > 0, total, 1)


def slice_words(
    documents: PlacedDocuments, slices: np.ndarray, smoothing: float = 0.5
) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """How large each topic is and which words it has in each slice of the documents.

    The proportions of the documents stay as they are; only the words are counted anew. `smoothing` is the weight of the
    topic's words over all documents, so that a slice with few documents does not tell of chance.

    Args:
        documents: The documents.
        slices: (N,), the slice of each document, from 0 upward; documents with -1 belong to none.
        smoothing: From 0, the slice alone, to 1, all documents.

    Yields:
        The slice, the sum of the proportions in it (K,), and the weights of the words (K, V).
    """
    if not 0 <= smoothing <= 1:
        raise ValueError(f"smoothing is {smoothing}, expected 0 to 1")
    frequencies = np.asarray(documents.word_counts.sum(axis=0), dtype=np.float64).ravel()
    everywhere = class_tfidf(_topic_word_counts(documents, slice(None)), frequencies)
    for number in range(int(slices.max(initial=-1)) + 1):
        rows = np.flatnonzero(slices == number)
        here = class_tfidf(_topic_word_counts(documents, rows), frequencies)
        sizes = documents.topic_proportions[rows].sum(axis=0)
        yield number, sizes, (1 - smoothing) * here + smoothing * everywhere


def word_topics(topic_proportions: np.ndarray, likelihoods: np.ndarray) -> np.ndarray:
    """Which topic each word of one document speaks for, (N, K): p(k | word) is proportional to theta_k p(word | k).

    Args:
        topic_proportions: (K,), of the document.
        likelihoods: (N, K), the probability of each word in each topic.
    """
    joint = topic_proportions * likelihoods
    total = joint.sum(axis=1, keepdims=True)
    return np.where(total > 0, joint / np.where(total > 0, total, 1), topic_proportions)


def sample_words(
    word_probs: np.ndarray, lengths: Sequence[int], seed: int = 0
) -> list[list[tuple[int, int]]]:
    """Draws documents as bags of words.

    Args:
        word_probs: (B, V), the probability of each word in each document.
        lengths: How many words to draw for each.
        seed: Of the draws.

    Returns:
        For each document its words and their counts, the most frequent first.
    """
    generator = np.random.default_rng(seed)
    bags = []
    for probs, length in zip(np.asarray(word_probs, np.float64), lengths, strict=True):
        if length < 1:
            raise ValueError(f"a document of {length} words was asked for, expected at least 1")
        counts = generator.multinomial(length, probs / probs.sum())
        words = np.argsort(-counts, kind="stable")[: np.count_nonzero(counts)]
        bags.append([(int(word), int(counts[word])) for word in words])
    return bags


def octis_output(
    topics: Topics,
    topic_proportions: np.ndarray,
    test_topic_proportions: np.ndarray | None = None,
    top_n: int = 10,
) -> dict[str, Any]:
    """The dictionary that the models of OCTIS return; proportions stand in columns there."""
    output = {
        "topics": [topics.top_words(topic, top_n) for topic in range(len(topics))],
        "topic-word-matrix": topics.word_probs,
        "topic-document-matrix": topic_proportions.T,
    }
    if test_topic_proportions is not None:
        output["test-topic-document-matrix"] = test_topic_proportions.T
    return output


def _topic_word_counts(documents: PlacedDocuments, rows: Any) -> np.ndarray:
    return np.asarray((documents.word_counts[rows].T @ documents.topic_proportions[rows]).T)


def _membership(topic_map: np.ndarray, dtype: Any) -> np.ndarray:
    return np.eye(int(topic_map.max()) + 1, dtype=dtype)[topic_map]


def _whole(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise ValueError(f"{name} is {value!r}, expected a whole number")
    return int(value)


def _renumber(names: Any) -> np.ndarray:
    numbers: dict[int, int] = {}
    return np.array([numbers.setdefault(int(name), len(numbers)) for name in names], dtype=np.int64)


__all__ = [
    "PlacedDocuments",
    "Topics",
    "class_tfidf",
    "merge_map",
    "merge_proportions",
    "merge_topics",
    "octis_output",
    "reduction_map",
    "sample_words",
    "search_topics",
    "slice_words",
    "top_indices",
    "topic_linkage",
    "topic_similarity",
    "word_topics",
]
