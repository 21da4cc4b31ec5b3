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
"""Pictures of topics: what is drawn is what the tables and the arrays say, in both libraries."""

import io
import re
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from scipy.sparse import csr_array

pytest.importorskip("matplotlib", reason="the pictures need the extra plots")
pytest.importorskip("plotly", reason="the pictures need the extra plots")

from hf_vq.topics import html_plots, plots
from hf_vq.topics.operations import PlacedDocuments, Topics
from hf_vq.topics.picture_data import WordTopics, dendrogram_lines, map_documents, topic_colors
from hf_vq.topics.tables import topics_over_time

VOCABULARY = ["moon", "orbit", "goal", "match", "bread", "<oven>"]
PROBS = np.array(
    [
        [0.5, 0.3, 0.05, 0.05, 0.05, 0.05],
        [0.05, 0.05, 0.4, 0.4, 0.05, 0.05],
        [0.05, 0.05, 0.05, 0.05, 0.3, 0.5],
    ]
)
TEXT = "The $moon\tis <full>, the bread is good.\nA goal!"


@pytest.fixture
def topics():
    embeddings = np.array([[1.0, 0.0], [0.0, 1.0], [0.8, 0.6]])
    return Topics(VOCABULARY, PROBS, PROBS, embeddings, ["space", "foot & ball", "b" * 99])


@pytest.fixture
def documents():
    proportions = np.random.default_rng(0).dirichlet([0.3] * 3, size=60)
    texts = [f"text {number} <b>" for number in range(60)]
    return PlacedDocuments(texts, proportions, csr_array(np.ones((60, 6))), np.full(60, 6))


@pytest.fixture
def words():
    spans = [(TEXT.index(word), TEXT.index(word) + len(word)) for word in ("moon", "bread", "goal")]
    return WordTopics(TEXT, spans, np.array([[0.9, 0.1, 0.0], [0.2, 0.2, 0.6], [0.0, 1.0, 0.0]]))


def png(figure):
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return Image.open(file)


def test_the_map_is_seeded_and_holds_everything(documents):
    for method in ("tsne", "pca"):
        first = map_documents(documents, method, seed=1)
        again = map_documents(documents, method, seed=1)
        np.testing.assert_array_equal(first.points, again.points)
        assert first.points.shape == (60, 2)
        assert first.topic_points.shape == (3, 2)
        np.testing.assert_array_equal(first.owners, documents.topic_proportions.argmax(axis=1))
        mine = first.owners == 1
        np.testing.assert_allclose(first.topic_points[1], first.points[mine].mean(axis=0))
    few = map_documents(documents, "pca", max_documents=7, seed=2)
    assert len(few.points) == 7
    np.testing.assert_array_equal(
        few.owners, documents.topic_proportions[few.documents].argmax(axis=1)
    )
    with pytest.raises(ValueError, match="method is 'umap'"):
        map_documents(documents, "umap")


@pytest.mark.parametrize("number", [1, 2, 15])
@pytest.mark.parametrize("num_topics", [1, 2, 3])
def test_equal_documents_and_few_topics_have_a_map(number, num_topics):
    proportions = np.full((number, num_topics), 1 / num_topics)
    places = map_documents(PlacedDocuments(["x"] * number, proportions, None, np.ones(number)))
    np.testing.assert_array_equal(places.points, np.zeros((number, 2)))
    np.testing.assert_array_equal(places.topic_points, np.zeros((num_topics, 2)))


def test_a_topic_that_is_merged_of_all_has_a_map():
    proportions = np.random.default_rng(0).dirichlet([0.3] * 3, size=30).sum(1, keepdims=True)
    proportions[0] += 1e-7
    places = map_documents(PlacedDocuments(["x"] * 30, proportions, None, np.ones(30)))
    np.testing.assert_array_equal(places.points, np.zeros((30, 2)))


def test_no_document_has_no_map():
    with pytest.raises(ValueError, match="no document"):
        map_documents(PlacedDocuments([], np.zeros((0, 3)), None, np.zeros(0)))


def test_colors_differ():
    assert len(set(topic_colors(100))) == 100
    assert topic_colors(100)[:3] == topic_colors(3)


def test_the_tree_has_a_line_for_each_join(topics):
    lines, leaves = dendrogram_lines(topics)
    assert sorted(leaves) == [0, 1, 2]
    assert [max(distances) for distances, _ in lines] == pytest.approx([0.2, 0.7])
    assert set(lines[0][1].tolist()) == {leaves.index(0), leaves.index(2)}


@pytest.mark.parametrize("module", [plots, html_plots])
def test_every_picture_is_drawn(module, topics, documents, words, tmp_path):
    places = map_documents(documents, "pca")
    table = topics_over_time(topics, documents, [2000 + row % 5 for row in range(60)])
    pictures = {
        "topics": module.plot_topics(topics, top_n=3),
        "some": module.plot_topics(topics, chosen=[2], top_n=3),
        "map": module.plot_map(topics, places),
        "hierarchy": module.plot_hierarchy(topics),
        "similarity": module.plot_similarity(topics),
        "time": module.plot_over_time(topics, table, chosen=[1, 2]),
        "document": module.plot_document(topics, words),
    }
    for name, picture in pictures.items():
        if module is plots:
            assert min(png(picture).size) > 50, name
        else:
            page = html_plots.save_html(picture, tmp_path / f"{name}.html").read_text()
            assert "<html>" in page
            assert not re.search(r'<(script|link|img)[^>]+(src|href)="?http', page), name


def test_dollars_are_no_formulas(topics, documents, words):
    label = r"a $ b $\frac$"
    costly = replace(topics, vocabulary=["$x$", *VOCABULARY[1:]], labels=[label] * 3)
    table = topics_over_time(costly, documents, list(range(60)))
    for figure in (
        plots.plot_topics(costly),
        plots.plot_map(costly, map_documents(documents, "pca")),
        plots.plot_hierarchy(costly),
        plots.plot_similarity(costly),
        plots.plot_over_time(costly, table),
        plots.plot_document(costly, words),
    ):
        assert min(png(figure).size) > 50


def test_equal_pictures_are_equal_files(topics, tmp_path):
    pages = [
        html_plots.save_html(html_plots.plot_hierarchy(topics), tmp_path / name).read_bytes()
        for name in ("one.html", "two.html")
    ]
    assert pages[0] == pages[1]


def test_bars_are_as_long_as_the_weights(topics):
    (axes,) = plots.plot_topics(topics, chosen=[2], top_n=2).axes
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["<oven>", "bread"]
    assert [bar.get_width() for bar in axes.patches] == [0.5, 0.3]
    (bars,) = html_plots.plot_topics(topics, chosen=[2], top_n=2).data
    assert list(bars.y) == ["bread", "&lt;oven&gt;"]
    assert list(bars.x) == [0.3, 0.5]
    years = html_plots.plot_topics(
        replace(topics, vocabulary=["1990", "1991", "1992", "1993", "1994", "1995"]), top_n=2
    )
    assert {axis.type for axis in years.select_yaxes()} == {"category"}
    for module in (plots, html_plots):
        with pytest.raises(ValueError, match="expected a number from 0 to 2"):
            module.plot_topics(topics, chosen=[3])
        with pytest.raises(ValueError, match="no topic was chosen"):
            module.plot_topics(topics, chosen=[])


def test_the_map_in_the_browser_shows_texts(topics, documents):
    places = map_documents(documents, "pca")
    figure = html_plots.plot_map(topics, places, documents.texts)
    dots = [trace for trace in figure.data if trace.mode == "markers"]
    assert sum(len(trace.x) for trace in dots) == 60
    texts = [text for trace in dots for text in trace.hovertext]
    assert sorted(texts) == sorted(f"text {number} &lt;b&gt;" for number in range(60))


def test_shares_over_time(topics, documents):
    table = topics_over_time(topics, documents, [2000 + row % 5 for row in range(60)])
    expected = [row["share"] for row in table if row["topic"] == 1]
    (line,) = html_plots.plot_over_time(topics, table, chosen=[1]).data
    assert list(line.y) == expected
    assert list(line.x) == [2000, 2001, 2002, 2003, 2004]
    (axes,) = plots.plot_over_time(topics, table, chosen=[1]).axes
    np.testing.assert_array_equal(axes.lines[0].get_ydata(), expected)


def test_one_topic_has_no_tree_but_a_similarity():
    one = Topics(VOCABULARY, PROBS[:1], PROBS[:1], np.ones((1, 2)), ["space"])
    for module in (plots, html_plots):
        with pytest.raises(ValueError, match="at least two topics"):
            module.plot_hierarchy(one)
        module.plot_similarity(one)


def test_a_document_keeps_every_character(topics, words):
    assert "".join(text for text, _ in words.pieces()) == TEXT
    page = html_plots.plot_document(topics, words)
    body = page.partition('<div class="text">')[2].partition("</div>")[0]
    assert re.sub(r"<[^>]+>", "", body) == TEXT.replace("<", "&lt;").replace(">", "&gt;")
    shades = re.findall(r'background:(#\w+)"', body)
    colors = topic_colors(3)
    assert [shade[:7] for shade in shades] == [colors[0], colors[2], colors[1]]
    assert int(shades[0][7:], 16) == round(160 * 0.9)
    figure = plots.plot_document(topics, words)
    lines = [text.get_text() for text in figure.axes[0].texts]
    assert lines[:2] == [r"The \$moon    is <full>, the bread is good.", "A goal!"]


def test_a_document_of_100_000_words_is_drawn(topics, tmp_path):
    number = 100_000
    posterior = np.eye(3)[np.arange(number) % 3]
    words = WordTopics("a " * number, [(2 * i, 2 * i + 1) for i in range(number)], posterior)
    page = html_plots.plot_document(topics, words)
    assert page.count("</span>") == number + 3
    assert len(plots.plot_document(topics, words).axes[0].patches) < 10_000


def test_halves_of_characters_do_not_spoil_a_page(topics, tmp_path):
    words = WordTopics("\ud83d moon", [(2, 6)], np.eye(3)[:1])
    path = html_plots.save_html(html_plots.plot_document(topics, words), tmp_path / "page.html")
    assert "? <span" in path.read_text(encoding="utf-8")


def test_long_words_are_broken_and_long_documents_cut_off(topics):
    text = "x" * 250 + " " + "word " * 5000
    words = WordTopics(text, [(0, 250), (251, 255)], np.eye(3)[:2])
    lines = [text.get_text() for text in plots.plot_document(topics, words).axes[0].texts]
    assert lines[:3] == ["x" * 90, "x" * 90, "x" * 70 + " word" * 4]
    assert lines[plots.MAX_LINES] == "…"
