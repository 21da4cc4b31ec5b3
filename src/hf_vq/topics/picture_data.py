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
"""What pictures of topics show, for both libraries that draw them: colors, places, lines, words."""

import colorsys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hf_vq._extras import require

from .operations import PlacedDocuments, Topics, topic_linkage

require("scipy", "sklearn", extra="topics")

# ruff: noqa: E402  the imports below need the extra
from scipy.cluster.hierarchy import dendrogram
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE

GOLDEN_RATIO = (5**0.5 - 1) / 2
LONGEST_LABEL = 40


@dataclass(frozen=True)
class DocumentMap:
    """N documents and K topics in the plane.

    Attributes:
        points: (N, 2), the documents.
        topic_points: (K, 2), each topic at the mean of its documents.
        owners: (N,), the main topic of each document.
        shares: (K,), the mean proportion of each topic.
        documents: (N,), which of the documents are shown.
    """

    points: np.ndarray
    topic_points: np.ndarray
    owners: np.ndarray
    shares: np.ndarray
    documents: np.ndarray


@dataclass(frozen=True)
class WordTopics:
    """The words of one document with the topics that they speak for.

    Attributes:
        text: The document.
        spans: (N, 2), where each word begins and ends.
        posterior: (N, K), the probability of each topic for each word.
    """

    text: str
    spans: Sequence[tuple[int, int]]
    posterior: np.ndarray

    @property
    def owners(self) -> np.ndarray:
        """The main topic of each word."""
        return self.posterior.argmax(axis=1)

    def pieces(self) -> list[tuple[str, int | None]]:
        """The text in pieces, in order: words by their number, and what stands between them by None."""
        pieces: list[tuple[str, int | None]] = []
        position = 0
        for number, (start, end) in enumerate(self.spans):
            pieces.append((self.text[position:start], None))
            pieces.append((self.text[start:end], number))
            position = end
        pieces.append((self.text[position:], None))
        return [(text, number) for text, number in pieces if text]


def topic_colors(num_topics: int) -> list[str]:
    """A color for each topic, the same in every picture; neighbors differ most."""
    colors = []
    for topic in range(num_topics):
        hue = (0.58 + topic * GOLDEN_RATIO) % 1
        lightness, saturation = ((0.45, 0.65), (0.62, 0.55), (0.33, 0.6))[topic % 3]
        red, green, blue = colorsys.hls_to_rgb(hue, lightness, saturation)
        colors.append(f"#{round(255 * red):02x}{round(255 * green):02x}{round(255 * blue):02x}")
    return colors


def topic_name(topics: Topics, topic: int) -> str:
    """A topic's number and label, short enough for a picture."""
    label = topics.labels[topic]
    short = label if len(label) <= LONGEST_LABEL else f"{label[: LONGEST_LABEL - 1]}…"
    return f"{topic}: {short}"


def chosen_topics(topics: Topics, chosen: Sequence[int] | None) -> list[int]:
    """The topics that a picture shows: the first 12 if none are named."""
    if chosen is None:
        return list(range(min(12, len(topics))))
    if not len(chosen):
        raise ValueError("no topic was chosen, expected at least one")
    return [topics.check(topic) for topic in chosen]


def map_documents(
    documents: PlacedDocuments,
    method: str = "tsne",
    max_documents: int = 2000,
    seed: int = 0,
) -> DocumentMap:
    """Places documents in the plane, those with like proportions near each other.

    The square roots of the proportions are mapped: their straight-line distance is the Hellinger distance.

    Args:
        documents: The documents.
        method: `"tsne"` or `"pca"`.
        max_documents: Of more than these a random sample is shown.
        seed: Of the sample and of t-SNE.
    """
    if method not in ("tsne", "pca"):
        raise ValueError(f"method is {method!r}, expected 'tsne' or 'pca'")
    if not len(documents):
        raise ValueError("there is no document to map")
    shown = np.arange(len(documents))
    if len(shown) > max_documents:
        generator = np.random.default_rng(seed)
        shown = np.sort(generator.choice(shown, size=max_documents, replace=False))
    proportions = documents.topic_proportions[shown].astype(np.float64)
    owners = proportions.argmax(axis=1)
    points = _plane(np.sqrt(proportions), method, seed)
    topic_points = np.empty((proportions.shape[1], 2))
    for topic in range(len(topic_points)):
        # A topic without documents of its own lies where its share of the others pulls it.
        mine = (owners == topic).astype(np.float64)
        weights = mine if mine.any() else proportions[:, topic] + 1e-12
        topic_points[topic] = weights @ points / weights.sum()
    return DocumentMap(
        points, topic_points, owners, documents.topic_proportions.mean(axis=0), shown
    )


def dendrogram_lines(topics: Topics) -> tuple[list[tuple[Any, Any]], list[int]]:
    """The tree of the topics as lines.

    Returns:
        For each join the distances and the heights of the four corners of its line, and the topics in the order in
        which they stand, the first at height 0, the next at height 1.
    """
    if len(topics) < 2:
        raise ValueError("a hierarchy needs at least two topics, got 1")
    tree = dendrogram(topic_linkage(topics.embeddings), no_plot=True)
    lines = [
        (np.array(distances), (np.array(heights) - 5) / 10)  # scipy puts leaves at 5, 15, 25, ...
        for distances, heights in zip(tree["dcoord"], tree["icoord"], strict=True)
    ]
    return lines, [int(leaf) for leaf in tree["leaves"]]


def _plane(rows: np.ndarray, method: str, seed: int) -> np.ndarray:
    # The proportions of a single topic, merged of all, differ in their rounding only.
    if rows.shape[1] == 1 or not np.ptp(rows, axis=0).any():
        return np.zeros((len(rows), 2))
    # t-SNE needs more documents than neighbors; a handful of documents is mapped by PCA.
    if method == "tsne" and len(rows) > 10:
        perplexity = min(30.0, (len(rows) - 1) / 3)
        tsne = TSNE(perplexity=perplexity, init="pca", random_state=seed)
        return tsne.fit_transform(rows).astype(np.float64)
    components = min(2, *rows.shape)
    plane = PCA(n_components=components, svd_solver="full").fit_transform(rows)
    return np.pad(plane, ((0, 0), (0, 2 - components)))


__all__ = [
    "DocumentMap",
    "WordTopics",
    "chosen_topics",
    "dendrogram_lines",
    "map_documents",
    "topic_colors",
    "topic_name",
]
