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
"""Pictures of topics for print: each function returns a matplotlib figure.

`figure.savefig("path.png")` writes it. The functions of `html_plots` have the same names.
"""

import math
from collections.abc import Sequence
from typing import Any

from hf_vq._extras import require

require("matplotlib", extra="plots")

# ruff: noqa: E402  the import below needs the extra
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from hf_vq.latent_tables import OperationTable

from .operations import Topics, top_indices, topic_similarity
from .picture_data import (
    DocumentMap,
    WordTopics,
    chosen_topics,
    dendrogram_lines,
    topic_colors,
    topic_name,
)

LINE_WIDTH = 90  # characters of a document in one line
MAX_LINES = 60
FONT_SIZE = 8


def plot_topics(topics: Topics, chosen: Sequence[int] | None = None, top_n: int = 8) -> Figure:
    """Bars of the words of each topic, as long as their weights.

    Args:
        topics: The topics.
        chosen: Which are shown, in this order; the first 12 if not given.
        top_n: How many words of each.
    """
    numbers = chosen_topics(topics, chosen)
    columns = min(4, len(numbers))
    rows = math.ceil(len(numbers) / columns)
    figure = Figure(figsize=(3 * columns, (0.22 * top_n + 0.6) * rows), layout="constrained")
    colors = topic_colors(len(topics))
    for place, topic in enumerate(numbers):
        axes = figure.add_subplot(rows, columns, place + 1)
        words = top_indices(topics.word_weights[topic], top_n)
        axes.barh(range(len(words)), topics.word_weights[topic, words], color=colors[topic])
        axes.set_yticks(
            range(len(words)), [_plain(topics.vocabulary[word]) for word in words], fontsize=8
        )
        axes.invert_yaxis()
        axes.tick_params(axis="x", labelsize=6)
        axes.locator_params(axis="x", nbins=4)
        axes.set_title(_name(topics, topic), fontsize=9)
    return figure


def plot_map(topics: Topics, places: DocumentMap) -> Figure:
    """Documents as dots in the color of their main topic, topics as numbered circles as large as their share.

    Args:
        topics: The topics.
        places: Where everything lies, from `map_documents`.
    """
    figure = Figure(figsize=(10, 7), layout="constrained")
    axes = figure.add_subplot()
    colors = topic_colors(len(topics))
    dots = [colors[topic] for topic in places.owners]
    x, y = places.points.T
    axes.scatter(x, y, s=6, c=dots, alpha=0.5, linewidths=0)
    for topic, (x, y) in enumerate(places.topic_points.tolist()):
        size = 60 + 2000 * places.shares[topic]
        name = _name(topics, topic)
        axes.scatter(x, y, s=size, color=colors[topic], edgecolors="black", label=name)
        axes.annotate(str(topic), (x, y), ha="center", va="center", fontsize=7, color="white")
    legend = axes.legend(fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5))
    for handle in legend.legend_handles:
        handle.set_sizes([40])  # type: ignore[union-attr]
    axes.set(xticks=[], yticks=[])
    return figure


def plot_hierarchy(topics: Topics) -> Figure:
    """The tree of the topics; the further right two branches meet, the less alike they are."""
    lines, leaves = dendrogram_lines(topics)
    figure = Figure(figsize=(8, 0.28 * len(topics) + 0.8), layout="constrained")
    axes = figure.add_subplot()
    for distances, heights in lines:
        axes.plot(distances, heights, color="#444444", linewidth=1)
    axes.set_yticks(range(len(leaves)), [_name(topics, leaf) for leaf in leaves], fontsize=8)
    axes.set(xlabel="1 - cosine", ylim=(len(leaves) - 0.5, -0.5))
    return figure


def plot_similarity(topics: Topics) -> Figure:
    """The cosine of every pair of topics; neighbors in the hierarchy stand side by side."""
    order = dendrogram_lines(topics)[1] if len(topics) > 1 else [0]
    side = 0.3 * len(topics) + 2
    figure = Figure(figsize=(side + 2, side), layout="constrained")
    axes = figure.add_subplot()
    similarity = topic_similarity(topics.embeddings)[order][:, order]
    image = axes.imshow(similarity, cmap="RdBu_r", vmin=-1, vmax=1)
    names = [_name(topics, topic) for topic in order]
    axes.set_yticks(range(len(names)), names, fontsize=7)
    axes.set_xticks(range(len(names)), [str(topic) for topic in order], fontsize=7)
    figure.colorbar(image, ax=axes, label="cosine")
    return figure


def plot_over_time(
    topics: Topics, table: OperationTable, chosen: Sequence[int] | None = None
) -> Figure:
    """The share of topics in each slice of a table of `topics_over_time`."""
    numbers = chosen_topics(topics, chosen)
    figure = Figure(figsize=(10, 5), layout="constrained")
    axes = figure.add_subplot()
    colors = topic_colors(len(topics))
    times = list(dict.fromkeys(record["time"] for record in table))
    for topic in numbers:
        shares = [record["share"] for record in table if record["topic"] == topic]
        axes.plot(
            range(len(times)),
            shares,
            marker=".",
            color=colors[topic],
            label=_name(topics, topic),
        )
    step = math.ceil(len(times) / 12)
    axes.set_xticks(range(0, len(times), step), [str(time) for time in times[::step]], fontsize=7)
    axes.set_ylabel("share")
    axes.set_ylim(bottom=0)
    axes.legend(fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def plot_document(topics: Topics, words: WordTopics) -> Figure:
    """A document with each word on the color of its topic, the stronger the surer; long ones are cut off."""
    lines, owners = _lines(words), words.owners
    present = sorted(
        {int(owners[word]) for line in lines for _, _, word in line if word is not None}
    )
    width, height = (
        0.7 * FONT_SIZE * LINE_WIDTH / 72,
        0.022 * FONT_SIZE * (len(lines) + len(present) + 1),
    )
    figure = Figure(figsize=(width, height))
    axes = figure.add_axes((0, 0, 1, 1))
    # A character of the font is 0.602 of its size wide, so that columns are known without measuring.
    axes.set(xlim=(-1, LINE_WIDTH * 0.7 / 0.602), ylim=(len(lines) + len(present) + 1, 0))
    axes.axis("off")
    style: dict[str, Any] = {"family": "monospace", "fontsize": FONT_SIZE, "va": "center"}
    colors = topic_colors(len(topics))
    for row, line in enumerate(lines):
        axes.text(0, row + 0.5, _plain("".join(piece for _, piece, _ in line)), **style)
        for column, piece, word in line:
            if word is not None:
                topic = int(owners[word])
                sure = float(words.posterior[word, topic])
                box = Rectangle(
                    (column, row), len(piece), 1, color=colors[topic], alpha=0.6 * sure, linewidth=0
                )
                axes.add_patch(box)
    for row, topic in enumerate(present, start=len(lines) + 1):
        axes.add_patch(Rectangle((0, row), 2, 1, color=colors[topic], alpha=0.6, linewidth=0))
        axes.text(3, row + 0.5, _name(topics, topic), **style)
    return figure


def _plain(text: str) -> str:
    """A text with dollars that are dollars, where matplotlib would set a formula."""
    return text.replace("$", r"\$")


def _name(topics: Topics, topic: int) -> str:
    return _plain(topic_name(topics, topic))


def _lines(words: WordTopics) -> list[list[tuple[int, str, int | None]]]:
    """Lines of (column, piece, word or None); a word that does not fit begins a line."""
    lines: list[list[tuple[int, str, int | None]]] = [[]]
    column = 0
    for text, word in words.pieces():
        for part, piece in enumerate(text.expandtabs(4).split("\n")):
            if part or (word is not None and column and column + len(piece) > LINE_WIDTH):
                lines.append([])
                column = 0
            while piece:
                fits = piece[: LINE_WIDTH - column]
                lines[-1].append((column, fits, word))
                piece, column = piece[len(fits) :], column + len(fits)
                if piece:
                    lines.append([])
                    column = 0
            if len(lines) > MAX_LINES:
                return [*lines[:MAX_LINES], [(0, "…", None)]]
    return lines


__all__ = [
    "plot_document",
    "plot_hierarchy",
    "plot_map",
    "plot_over_time",
    "plot_similarity",
    "plot_topics",
]
