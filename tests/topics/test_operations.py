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
"""Operations on topics and their tables, on arrays that can be checked by hand."""

from datetime import UTC, date, datetime

import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csr_array

from hf_vq.topics import operations, tables
from hf_vq.topics.operations import PlacedDocuments, Topics

VOCABULARY = ["moon", "orbit", "goal", "match", "bread", "oven"]
# Three topics of two words each; topics 0 and 2 lie close to each other.
PROBS = np.array(
    [
        [0.5, 0.3, 0.05, 0.05, 0.05, 0.05],
        [0.05, 0.05, 0.4, 0.4, 0.05, 0.05],
        [0.05, 0.05, 0.05, 0.05, 0.3, 0.5],
    ]
)
PROPORTIONS = np.array([[0.8, 0.1, 0.1], [0.1, 0.8, 0.1], [0.6, 0.1, 0.3], [0.2, 0.3, 0.5]])
COUNTS = np.array([[2, 1, 0, 0, 0, 0], [0, 0, 3, 1, 0, 0], [2, 1, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0]])


@pytest.fixture
def topics():
    embeddings = np.array([[1.0, 0.0], [0.0, 1.0], [0.8, 0.6]])
    return Topics(VOCABULARY, PROBS, PROBS, embeddings, ["space", "football", "baking"])


@pytest.fixture
def documents():
    return PlacedDocuments(
        ["moon moon orbit", "goal goal goal match", "moon moon orbit", "?!"],
        PROPORTIONS,
        csr_array(COUNTS),
        np.array([3, 4, 3, 0]),
    )


def test_the_topics(topics, documents):
    table = tables.topic_table(topics, documents, top_n=2)
    assert [row["words"] for row in table] == [
        ["moon", "orbit"],
        ["goal", "match"],
        ["oven", "bread"],
    ]
    assert [row["documents"] for row in table] == [2, 1, 1]
    assert [row["share"] for row in table] == pytest.approx(PROPORTIONS.mean(axis=0))
    assert "moon, orbit" in str(table)
    assert table.to_pandas().shape == (3, 5)


def test_words_come_in_the_order_of_their_weight(topics):
    table = tables.word_table(topics, 2, top_n=3)
    assert [(row["word"], row["probability"]) for row in table] == [
        ("oven", 0.5),
        ("bread", 0.3),
        ("moon", 0.05),  # of equal weights the first word wins
    ]


@pytest.mark.parametrize("topic", [-1, 3, "0", True, 1.0])
def test_there_is_no_such_topic(topics, topic):
    with pytest.raises(ValueError, match=r"expected a number from 0 to 2"):
        tables.word_table(topics, topic)


def test_no_document_is_an_outlier(topics, documents):
    table = tables.document_table(topics, documents, full=True)
    assert [row["topic"] for row in table] == [0, 1, 0, 2]
    assert [row["placed"] for row in table] == [True, True, True, False]
    full = table.to_pandas()[["topic_0", "topic_1", "topic_2"]].to_numpy()
    np.testing.assert_array_equal(full, PROPORTIONS)


def test_equal_texts_represent_a_topic_once_and_unread_ones_never(topics, documents):
    rows = tables.representative_documents(topics, documents, topic=0).records
    assert [row["document"] for row in rows] == [0, 1]
    rows = tables.representative_documents(topics, documents, topic=2).records
    assert [row["document"] for row in rows] == [2, 1]
    everything = tables.representative_documents(topics, documents, num_documents=1)
    assert [(row["topic"], row["document"]) for row in everything] == [(0, 0), (1, 1), (2, 2)]
    with pytest.raises(ValueError, match="num_documents is 0, expected at least 1"):
        tables.representative_documents(topics, documents, num_documents=0)


def test_search_is_by_the_angle(topics):
    table = tables.search_table(topics, "ball", np.array([0.0, 7.0]), top_n=2)
    assert [(row["topic"], row["similarity"]) for row in table] == [
        (1, pytest.approx(1)),
        (2, pytest.approx(0.6)),
    ]
    nowhere = tables.search_table(topics, "", np.zeros(2))
    assert [row["similarity"] for row in nowhere] == [0, 0, 0]


def test_similar_topics(topics):
    table = tables.similarity_table(topics)
    assert [(row["topic"], row["other"]) for row in table] == [(0, 2), (1, 2), (0, 1)]
    assert [row["similarity"] for row in table] == pytest.approx([0.8, 0.6, 0.0])


def test_merging_adds_proportions_and_averages_words(topics):
    topic_map = operations.merge_map(3, [[2, 0]])
    assert topic_map.tolist() == [0, 1, 0]
    merged = operations.merge_proportions(PROPORTIONS, topic_map)
    np.testing.assert_allclose(merged, [[0.9, 0.1], [0.2, 0.8], [0.9, 0.1], [0.7, 0.3]])
    shares = PROPORTIONS.mean(axis=0)
    joined = operations.merge_topics(topics, topic_map, shares)
    expected = (shares[0] * PROBS[0] + shares[2] * PROBS[2]) / (shares[0] + shares[2])
    np.testing.assert_allclose(joined.word_probs, [expected, PROBS[1]])
    assert joined.labels == ["space + baking", "football"]


def test_merging_topics_of_no_document(topics):
    joined = operations.merge_topics(topics, np.array([0, 1, 0]), np.array([0.0, 1.0, 0.0]))
    np.testing.assert_allclose(joined.word_probs[0], (PROBS[0] + PROBS[2]) / 2)


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ([[0]], "at least two"),
        ([[1, 1]], "at least two"),
        ([[0, 3]], "names topic 3, expected 0 to 2"),
        ([[0, 1], [1, 2]], "topic 1 stands in two groups"),
        ([["0", "1"]], "a topic to merge is '0', expected a whole number"),
        ([[0.0, 1.5]], r"a topic to merge is 0\.0, expected a whole number"),
    ],
)
def test_groups_that_make_no_sense(groups, message):
    with pytest.raises(ValueError, match=message):
        operations.merge_map(3, groups)


def test_reduction_joins_the_nearest(topics):
    assert operations.reduction_map(topics.embeddings, num_topics=2).tolist() == [0, 1, 0]
    assert operations.reduction_map(topics.embeddings, num_topics=3).tolist() == [0, 1, 2]
    assert operations.reduction_map(topics.embeddings, num_topics=1).tolist() == [0, 0, 0]
    assert operations.reduction_map(topics.embeddings, min_similarity=0.7).tolist() == [0, 1, 0]
    assert operations.reduction_map(topics.embeddings[:1], min_similarity=0.7).tolist() == [0]
    for arguments in ({}, {"num_topics": 2, "min_similarity": 0.5}):
        with pytest.raises(ValueError, match="expected one of them"):
            operations.reduction_map(topics.embeddings, **arguments)
    with pytest.raises(ValueError, match="num_topics is 'auto', expected a whole number"):
        operations.reduction_map(topics.embeddings, num_topics="auto")
    for number in (0, 4):
        with pytest.raises(ValueError, match=f"num_topics is {number}, expected 1 to 3"):
            operations.reduction_map(topics.embeddings, num_topics=number)


def test_the_hierarchy(topics):
    first, root = tables.hierarchy_table(topics, top_n=2).records
    assert (first["node"], first["left"], first["right"], first["topics"]) == (3, 0, 2, [0, 2])
    assert first["distance"] == pytest.approx(0.2)
    assert root["distance"] == pytest.approx((1.0 + 0.4) / 2)  # the average linkage
    assert root["topics"] == [0, 1, 2]
    text = tables.hierarchy_text(topics)
    assert text.count("\n") == 4
    assert all(label in text for label in topics.labels)
    one = Topics(VOCABULARY, PROBS[:1], PROBS[:1], np.ones((1, 2)), ["space"])
    assert len(tables.hierarchy_table(one)) == 0
    assert tables.hierarchy_text(one) == "0: space"


def test_class_tfidf_by_hand():
    counts = np.array([[4.0, 0.0, 2.0], [0.0, 2.0, 2.0]])
    weights = operations.class_tfidf(counts, np.array([4.0, 2.0, 4.0]))
    mean = 10 / 2
    first = np.array([4 * np.log(1 + mean / 4), 0, 2 * np.log(1 + mean / 4)])
    np.testing.assert_allclose(weights[0], first / first.sum())
    np.testing.assert_array_equal(
        operations.class_tfidf(np.zeros((2, 3)), np.zeros(3)), np.zeros((2, 3))
    )


def test_slices_agree_with_a_loop(documents):
    slices = np.array([0, 1, 1, 0])
    frequencies = COUNTS.sum(axis=0)
    for number, sizes, weights in operations.slice_words(documents, slices, smoothing=0):
        rows = [row for row in range(4) if slices[row] == number]
        counts = sum(np.outer(PROPORTIONS[row], COUNTS[row]) for row in rows)
        np.testing.assert_allclose(weights, operations.class_tfidf(counts, frequencies))
        np.testing.assert_allclose(sizes, sum(PROPORTIONS[row] for row in rows))
    with pytest.raises(ValueError, match="smoothing is 2"):
        list(operations.slice_words(documents, slices, smoothing=2))


@pytest.mark.parametrize(
    ("timestamps", "times"),
    [
        ([2020, 2021, 2020, 2021], [2020, 2021]),
        (["2020-01-01", "2021-06-30", "2020-01-01", "2021-06-30"], ["2020-01-01", "2021-06-30"]),
        ([date(2020, 1, 1), datetime(2021, 6, 30, 5), date(2020, 1, 1), date(2022, 1, 1)],
         ["2020-01-01", "2021-06-30T05:00:00", "2022-01-01"]),
        (["2020-01-01T00:00:00+01:00"] * 4, ["2019-12-31T23:00:00"]),
        ([datetime(2020, 1, 1, tzinfo=UTC)] * 4, ["2020-01-01"]),
        (pd.Series(pd.to_datetime(["2020-01-01"] * 4)), ["2020-01-01"]),
        (["20200131", "2020-02", "2021", " 2022-03-01"],
         ["2020-01-31", "2020-02-01", "2021-01-01", "2022-03-01"]),
    ],
    ids=["years", "text", "dates", "zones", "aware", "pandas", "short"],
)  # fmt: skip
def test_time_is_told_in_many_ways(topics, documents, timestamps, times):
    table = tables.topics_over_time(topics, documents, timestamps, top_n=1)
    assert list(dict.fromkeys(row["time"] for row in table)) == times
    assert sum(row["size"] for row in table) == pytest.approx(4)


def test_slices_of_time_are_equally_long_and_empty_ones_are_left_out(topics, documents):
    table = tables.topics_over_time(topics, documents, [0, 1, 9, 10], num_slices=2, top_n=1)
    assert [row["time"] for row in table] == [0, 0, 0, 5, 5, 5]
    assert [row["size"] for row in table] == pytest.approx([0.9, 0.9, 0.2, 0.8, 0.4, 0.8])
    days = ["2020-01-01", "2020-01-02", "2020-01-30", "2020-01-31"]
    table = tables.topics_over_time(topics, documents, days, num_slices=2)
    assert list(dict.fromkeys(row["time"] for row in table)) == ["2020-01-01", "2020-01-16"]


@pytest.mark.parametrize(
    ("timestamps", "message"),
    [
        ([1, 2, 3], "timestamps has 3 entries for 4 documents"),
        ([1, 2, 3, float("nan")], "timestamp 3 is nan"),
        (["2020", "2021", "yesterday", "2020"], "timestamp 2 is 'yesterday'"),
        (["2020-01-01", None, "2020-01-01", "2020-01-01"], "timestamp 1 is None"),
        (["2020-01-01", 5, "2020-01-01", "2020-01-01"], "timestamp 1 is 5"),
        (["2020-01-01T25:00", "2020-01-01", "2020-01-01", "2020-01-01"], "timestamp 0"),
        ([pd.NaT] * 4, "timestamp 0 is NaT"),
        (["7", "8", "9", "10"], "timestamp 0 is '7', expected a date"),
        (["2020-01-01", "", "2020-01-01", "2020-01-01"], "timestamp 1 is ''"),
    ],
)
def test_what_is_no_time(topics, documents, timestamps, message):
    with pytest.raises(ValueError, match=message):
        tables.topics_over_time(topics, documents, timestamps)


def test_classes(topics, documents):
    table = tables.topics_per_class(topics, documents, ["b", "a", None, "b"], top_n=1)
    assert [row["class"] for row in table] == ["a"] * 3 + ["b"] * 3
    assert [row["share"] for row in table][:3] == pytest.approx([0.1, 0.8, 0.1])
    assert [row["size"] for row in table][3:] == pytest.approx([1.0, 0.4, 0.6])
    assert table[1]["words"] == ["goal"]
    with pytest.raises(ValueError, match="classes has 1 entries"):
        tables.topics_per_class(topics, documents, ["a"])


@pytest.mark.parametrize("dtype", ["float64", "Int64", "object"])
def test_documents_without_a_class_are_in_none(topics, documents, dtype):
    classes = pd.Series([1, None, None, 1], dtype=dtype)
    table = tables.topics_per_class(topics, documents, classes, top_n=1)
    assert [row["class"] for row in table] == [1] * 3


def test_words_speak_for_topics():
    proportions = np.array([0.5, 0.25, 0.25])
    posterior = operations.word_topics(proportions, PROBS.T[[0, 2]])
    np.testing.assert_allclose(
        posterior[0], np.array([0.5 * 0.5, 0.25 * 0.05, 0.25 * 0.05]) / 0.275
    )
    np.testing.assert_allclose(
        operations.word_topics(proportions, np.zeros((1, 3))), proportions[None]
    )


def test_drawn_documents_have_the_length_and_the_words_asked_for():
    bags = operations.sample_words(PROBS[:2], [20_000, 7], seed=3)
    assert [sum(count for _, count in bag) for bag in bags] == [20_000, 7]
    shares = dict(bags[0])
    assert shares[0] / 20_000 == pytest.approx(0.5, abs=0.02)
    assert [count for _, count in bags[0]] == sorted(shares.values(), reverse=True)
    assert bags == operations.sample_words(PROBS[:2], [20_000, 7], seed=3)
    with pytest.raises(ValueError, match="0 words"):
        operations.sample_words(PROBS[:1], [0])


def test_octis(topics):
    output = operations.octis_output(topics, PROPORTIONS, PROPORTIONS[:1], top_n=2)
    assert output["topics"][0] == ["moon", "orbit"]
    assert output["topic-word-matrix"].shape == (3, 6)
    assert output["topic-document-matrix"].shape == (3, 4)
    assert output["test-topic-document-matrix"].shape == (3, 1)
