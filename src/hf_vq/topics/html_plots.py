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
"""Pictures of topics for the browser: each function returns a plotly figure, a document becomes HTML.

`save_html(picture, "path.html")` writes a page that needs neither a server nor a network. The functions of `plots` have
the same names.
"""

import html
from collections.abc import Sequence
from pathlib import Path

from hf_vq._extras import require

require("plotly", extra="plots")

# ruff: noqa: E402  the imports below need the extra
from plotly.graph_objects import Bar, Figure, Heatmap, Scatter
from plotly.subplots import make_subplots

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

PAGE = """<!doctype html>
<html><head><meta charset="utf-8"><title>{title}</title><style>
body {{ font: 16px/1.7 sans-serif; max-width: 50em; margin: 2em auto; padding: 0 1em; }}
.text {{ white-space: pre-wrap; overflow-wrap: anywhere; }}
.legend span {{ display: inline-block; margin: 0 1em .3em 0; padding: 0 .4em; }}
</style></head><body><p class="legend">{legend}</p><div class="text">{text}</div></body></html>
"""
LONGEST_TEXT = 200


def plot_topics(topics: Topics, chosen: Sequence[int] | None = None, top_n: int = 8) -> Figure:
    """Bars of the words of each topic, as long as their weights.

    Args:
        topics: The topics.
        chosen: Which are shown, in this order; the first 12 if not given.
        top_n: How many words of each.
    """
    numbers = chosen_topics(topics, chosen)
    columns = min(4, len(numbers))
    rows = -(-len(numbers) // columns)
    titles = [html.escape(topic_name(topics, topic)) for topic in numbers]
    figure = make_subplots(rows, columns, subplot_titles=titles, horizontal_spacing=0.1)
    colors = topic_colors(len(topics))
    for place, topic in enumerate(numbers):
        words = top_indices(topics.word_weights[topic], top_n)[::-1]
        bars = Bar(
            x=topics.word_weights[topic, words].tolist(),
            y=[html.escape(topics.vocabulary[word]) for word in words],
            orientation="h",
            marker_color=colors[topic],
        )
        figure.add_trace(bars, row=place // columns + 1, col=place % columns + 1)
    figure.update_yaxes(type="category")  # plotly would read "1990" as a place on the axis
    return figure.update_layout(showlegend=False, height=(24 * top_n + 60) * rows + 80)


def plot_map(topics: Topics, places: DocumentMap, texts: Sequence[str] | None = None) -> Figure:
    """Documents as dots in the color of their main topic, topics as numbered circles as large as their share.

    Args:
        topics: The topics.
        places: Where everything lies, from `map_documents`.
        texts: All documents, to be read under the mouse.
    """
    figure = Figure()
    colors = topic_colors(len(topics))
    for topic, color in enumerate(colors):
        name = html.escape(topic_name(topics, topic))
        group = {"legendgroup": str(topic), "name": name, "hoverinfo": "text"}
        mine = places.owners == topic
        shown = None
        if texts is not None:
            shown = [html.escape(texts[row][:LONGEST_TEXT]) for row in places.documents[mine]]
        dots = {"size": 4, "color": color, "opacity": 0.6}
        x, y = places.points[mine].T.tolist()
        figure.add_trace(
            Scatter(
                x=x, y=y, mode="markers", marker=dots, hovertext=shown, showlegend=False, **group
            )
        )
        words = html.escape(", ".join(topics.top_words(topic)))
        circle = {
            "size": 12 + 60 * float(places.shares[topic]) ** 0.5,
            "color": color,
            "line": {"width": 1, "color": "black"},
        }
        x, y = places.topic_points[topic].tolist()
        figure.add_trace(
            Scatter(
                x=[x],
                y=[y],
                mode="markers+text",
                marker=circle,
                text=str(topic),
                textfont={"color": "white", "size": 10},
                hovertext=f"<b>{name}</b><br>{words}",
                **group,
            )
        )
    return figure.update_layout(
        height=700, plot_bgcolor="white", xaxis={"visible": False}, yaxis={"visible": False}
    )


def plot_hierarchy(topics: Topics) -> Figure:
    """The tree of the topics; the further right two branches meet, the less alike they are."""
    lines, leaves = dendrogram_lines(topics)
    figure = Figure()
    for distances, heights in lines:
        line = {"color": "#444444", "width": 1}
        x, y = distances.tolist(), heights.tolist()
        figure.add_trace(Scatter(x=x, y=y, mode="lines", line=line, hoverinfo="x"))
    names = [html.escape(topic_name(topics, leaf)) for leaf in leaves]
    axis = {"tickvals": list(range(len(leaves))), "ticktext": names, "autorange": "reversed"}
    return figure.update_layout(
        height=26 * len(leaves) + 120, showlegend=False, xaxis_title="1 - cosine", yaxis=axis
    )


def plot_similarity(topics: Topics) -> Figure:
    """The cosine of every pair of topics; neighbors in the hierarchy stand side by side."""
    order = dendrogram_lines(topics)[1] if len(topics) > 1 else [0]
    names = [html.escape(topic_name(topics, topic)) for topic in order]
    similarity = topic_similarity(topics.embeddings)[order][:, order]
    cells = Heatmap(
        z=similarity.tolist(),
        x=names,
        y=names,
        colorscale="RdBu",
        reversescale=True,
        zmin=-1,
        zmax=1,
    )
    side = 26 * len(topics) + 300
    return Figure(cells).update_layout(height=side, width=side + 100, yaxis_autorange="reversed")


def plot_over_time(
    topics: Topics, table: OperationTable, chosen: Sequence[int] | None = None
) -> Figure:
    """The share of topics in each slice of a table of `topics_over_time`, with the words under the mouse."""
    figure = Figure()
    colors = topic_colors(len(topics))
    for topic in chosen_topics(topics, chosen):
        mine = [record for record in table if record["topic"] == topic]
        figure.add_trace(
            Scatter(
                x=[record["time"] for record in mine],
                y=[record["share"] for record in mine],
                mode="lines+markers",
                name=html.escape(topic_name(topics, topic)),
                line={"color": colors[topic]},
                hovertext=[html.escape(", ".join(record["words"])) for record in mine],
            )
        )
    return figure.update_layout(height=500, yaxis={"title": "share", "rangemode": "tozero"})


def plot_document(topics: Topics, words: WordTopics) -> str:
    """A page with a document, each word on the color of its topic, the stronger the surer."""
    colors = topic_colors(len(topics))
    pieces, owners = [], words.owners
    for text, number in words.pieces():
        if number is None:
            pieces.append(html.escape(text))
            continue
        topic = int(owners[number])
        sure = float(words.posterior[number, topic])
        title = html.escape(f"{topic_name(topics, topic)} ({sure:.0%})", quote=True)
        shade = f"{colors[topic]}{round(160 * sure):02x}"  # the last two digits are the opacity
        pieces.append(
            f'<span style="background:{shade}" title="{title}">{html.escape(text)}</span>'
        )
    legend = [
        f'<span style="background:{colors[topic]}a0">{html.escape(topic_name(topics, topic))}</span>'
        for topic in sorted(set(owners.tolist()))
    ]
    title = html.escape(words.text[:60])
    return PAGE.format(title=title, legend="".join(legend), text="".join(pieces))


def save_html(picture: Figure | str, path: str | Path) -> Path:
    """Writes a picture as a page that holds everything it needs."""
    if not isinstance(picture, str):
        # A fixed name, since plotly draws a random one: equal pictures are equal files.
        picture = picture.to_html(include_plotlyjs=True, full_html=True, div_id="picture")
    path = Path(path)
    # A text may hold halves of characters, which no page can.
    path.write_text(picture, encoding="utf-8", errors="replace")
    return path


__all__ = [
    "plot_document",
    "plot_hierarchy",
    "plot_map",
    "plot_over_time",
    "plot_similarity",
    "plot_topics",
    "save_html",
]
