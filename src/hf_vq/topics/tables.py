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
"""What the operations on topics return: tables that print well and become pandas DataFrames.

Each function takes topics and documents as arrays and returns an `OperationTable`, whose records are plain values.
"""

import re
from collections.abc import Hashable, Iterable, Sequence
from datetime import UTC, datetime
from numbers import Real
from typing import Any

import numpy as np

from hf_vq.latent_tables import OperationTable

from .operations import (
    PlacedDocuments,
    Topics,
    search_topics,
    slice_words,
    top_indices,
    topic_linkage,
    topic_similarity,
)

_YEAR_OR_MONTH = re.compile(r"\d{4}(-\d{2})?")


def topic_table(
    topics: Topics, documents: PlacedDocuments | None = None, top_n: int = 10
) -> OperationTable:
    """The topics with their words, their share of the proportions, and how many documents are mostly theirs.

    Without documents only the words.
    """
    records: list[dict[str, Any]] = [
        {"topic": topic, "label": topics.labels[topic]} for topic in range(len(topics))
    ]
    if documents is not None:
        total = max(len(documents), 1)
        shares = documents.topic_proportions.sum(axis=0) / total
        owners = np.bincount(documents.topic_proportions.argmax(axis=1), minlength=len(topics))
        for record, share, number in zip(records, shares, owners, strict=True):
            record |= {"share": float(share), "documents": int(number)}
    for topic, record in enumerate(records):
        record["words"] = topics.top_words(topic, top_n)
    return OperationTable("topics", records)


def word_table(topics: Topics, topic: int, top_n: int = 10) -> OperationTable:
    """The words of one topic, each with the weight by which it is ranked and its probability in the topic."""
    weights = topics.word_weights[topics.check(topic)]
    return OperationTable(
        f"words of topic {topic}: {topics.labels[topic]}",
        [
            {
                "word": topics.vocabulary[word],
                "weight": float(weights[word]),
                "probability": float(topics.word_probs[topic, word]),
            }
            for word in top_indices(weights, top_n)
        ],
    )


def document_table(
    topics: Topics, documents: PlacedDocuments, full: bool = False
) -> OperationTable:
    """The main topic of each document.

    Args:
        topics: The topics.
        documents: The documents.
        full: Whether to add the whole distribution, a column `topic_0`, `topic_1`, ... for each topic.

    Returns:
        A row for each document, in their order. Where `placed` is False the document has no word that the model could
        read, and its proportions are the prior's.
    """
    records = []
    for index, proportions in enumerate(documents.topic_proportions):
        topic = int(proportions.argmax())
        record = {
            "document": index,
            "topic": topic,
            "label": topics.labels[topic],
            "probability": float(proportions[topic]),
            "words": int(documents.num_words[index]),
            "placed": bool(documents.num_words[index] > 0),
        }
        if full:
            record |= {f"topic_{k}": float(share) for k, share in enumerate(proportions)}
        records.append(record | {"text": documents.texts[index]})
    return OperationTable("documents", records)


def representative_documents(
    topics: Topics, documents: PlacedDocuments, topic: int | None = None, num_documents: int = 3
) -> OperationTable:
    """The documents with the largest proportion of a topic, or of each topic; of equal texts only the first."""
    if num_documents < 1:
        raise ValueError(f"num_documents is {num_documents}, expected at least 1")
    chosen = range(len(topics)) if topic is None else [topics.check(topic)]
    placed = np.flatnonzero(documents.num_words > 0)
    records = []
    for k in chosen:
        seen: set[str] = set()
        shares = documents.topic_proportions[placed, k]
        for index in placed[np.argsort(-shares, kind="stable")]:
            text = documents.texts[index]
            if text in seen:
                continue
            seen.add(text)
            records.append(
                {
                    "topic": k,
                    "label": topics.labels[k],
                    "document": int(index),
                    "probability": float(documents.topic_proportions[index, k]),
                    "text": text,
                }
            )
            if len(seen) == num_documents:
                break
    return OperationTable("representative documents", records)


def search_table(topics: Topics, query: str, point: np.ndarray, top_n: int = 5) -> OperationTable:
    """The topics nearest to a query, whose place in code space is `point`, by their cosine."""
    similarities = search_topics(topics.embeddings, point)
    return OperationTable(
        f"topics like {query!r}",
        [
            {
                "topic": int(topic),
                "label": topics.labels[topic],
                "similarity": float(similarities[topic]),
                "words": topics.top_words(int(topic), 5),
            }
            for topic in top_indices(similarities, top_n)
        ],
    )


def similarity_table(topics: Topics) -> OperationTable:
    """Every pair of topics with the cosine of their places in code space, the most similar first."""
    similarity = topic_similarity(topics.embeddings)
    first, second = np.triu_indices(len(topics), k=1)
    order = np.argsort(-similarity[first, second], kind="stable")
    return OperationTable(
        "similar topics",
        [
            {
                "topic": int(first[pair]),
                "other": int(second[pair]),
                "similarity": float(similarity[first[pair], second[pair]]),
                "label": topics.labels[first[pair]],
                "other_label": topics.labels[second[pair]],
            }
            for pair in order
        ],
    )


def hierarchy_table(topics: Topics, top_n: int = 5) -> OperationTable:
    """The tree that joins the most similar topics first: a row for each join, from the leaves to the root.

    Nodes from 0 to K-1 are the topics; row i makes node K+i. `words` are those of the mean of the topics in it.
    """
    members = [[topic] for topic in range(len(topics))]
    records = []
    for left, right, distance, _ in topic_linkage(topics.embeddings):
        joined = sorted(members[int(left)] + members[int(right)])
        members.append(joined)
        words = top_indices(topics.word_weights[joined].mean(axis=0), top_n)
        records.append(
            {
                "node": len(members) - 1,
                "left": int(left),
                "right": int(right),
                "distance": float(distance),
                "topics": joined,
                "words": [topics.vocabulary[word] for word in words],
            }
        )
    return OperationTable("hierarchy of topics", records)


def hierarchy_text(topics: Topics) -> str:
    """The same tree as indented lines, a topic with its label on each leaf."""
    table = hierarchy_table(topics)
    nodes = {record["node"]: record for record in table}

    def lines(node: int, prefix: str, child_prefix: str) -> list[str]:
        if node < len(topics):
            return [f"{prefix}{node}: {topics.labels[node]}"]
        record = nodes[node]
        head = f"{prefix}[{record['distance']:.2f}] {', '.join(record['words'])}"
        return [
            head,
            *lines(record["left"], f"{child_prefix}├─ ", f"{child_prefix}│  "),
            *lines(record["right"], f"{child_prefix}└─ ", f"{child_prefix}   "),
        ]

    root = len(topics) + len(table) - 1
    return "\n".join(lines(root, "", ""))


def topics_over_time(
    topics: Topics,
    documents: PlacedDocuments,
    timestamps: Iterable[Any],
    num_slices: int = 20,
    top_n: int = 5,
    smoothing: float = 0.5,
) -> OperationTable:
    """How large each topic is in each slice of time, and with which words.

    Args:
        topics: The topics.
        documents: The documents.
        timestamps: For each document a number, a date, or a date as ISO text.
        num_slices: Into how many slices of equal length time is cut; moments are slices of their own if they are fewer.
        top_n: Words for each topic and slice.
        smoothing: How much of the words of all times is mixed in, from 0 to 1.

    Returns:
        A row for each slice with documents and each topic: when the slice begins, the sum and the share of the
        proportions, and the words.
    """
    values = _moments(timestamps, len(documents))
    if num_slices < 1:
        raise ValueError(f"num_slices is {num_slices}, expected at least 1")
    moments = np.unique(values)
    if len(moments) <= num_slices:
        starts = moments
    else:
        steps = np.arange(num_slices) / num_slices
        starts = moments[0] + (steps * (moments[-1] - moments[0])).astype((values - values).dtype)
    slices = np.searchsorted(starts, values, side="right") - 1
    names = [_moment_name(start) for start in starts]
    return _sliced("topics over time", "time", names, slices, topics, documents, top_n, smoothing)


def topics_per_class(
    topics: Topics,
    documents: PlacedDocuments,
    classes: Iterable[Hashable],
    top_n: int = 5,
    smoothing: float = 0.5,
) -> OperationTable:
    """How large each topic is in each class of documents, and with which words.

    Args:
        topics: The topics.
        documents: The documents.
        classes: The class of each document; documents with None, NaN or what pandas has for them belong to none.
        top_n: Words for each topic and class.
        smoothing: How much of the words of all classes is mixed in, from 0 to 1.
    """
    values = [None if is_missing(value) else value for value in classes]
    _check_length("classes", values, len(documents))
    names = sorted(
        {value for value in values if value is not None}, key=lambda v: (str(type(v)), v)
    )
    numbers = {name: number for number, name in enumerate(names)}
    slices = np.array([-1 if value is None else numbers[value] for value in values], dtype=np.int64)
    return _sliced("topics per class", "class", names, slices, topics, documents, top_n, smoothing)


def _sliced(
    operation: str,
    column: str,
    names: Sequence[Any],
    slices: np.ndarray,
    topics: Topics,
    documents: PlacedDocuments,
    top_n: int,
    smoothing: float,
) -> OperationTable:
    records = []
    for number, sizes, weights in slice_words(documents, slices, smoothing):
        total = sizes.sum()
        if not total:
            continue
        for topic in range(len(topics)):
            words = top_indices(weights[topic], top_n)
            records.append(
                {
                    column: names[number],
                    "topic": topic,
                    "label": topics.labels[topic],
                    "size": float(sizes[topic]),
                    "share": float(sizes[topic] / total),
                    "words": [topics.vocabulary[word] for word in words],
                }
            )
    return OperationTable(operation, records)


def _moments(timestamps: Iterable[Any], expected: int) -> np.ndarray:
    values = list(timestamps)
    _check_length("timestamps", values, expected)
    if all(isinstance(value, Real) and not isinstance(value, bool) for value in values):
        numbers = np.array(values, dtype=np.float64)
        if not np.isfinite(numbers).all():
            row = int(np.flatnonzero(~np.isfinite(numbers))[0])
            raise ValueError(f"timestamp {row} is {values[row]!r}, expected a finite number")
        return numbers
    moments = np.empty(len(values), dtype="datetime64[s]")
    for row, value in enumerate(values):
        if isinstance(value, datetime) and value.tzinfo is not None:
            value = value.astimezone(UTC).replace(tzinfo=None)
        try:
            # numpy reads years and months, but takes 20260131 for a year, and knows no time zone
            if isinstance(value, str) and not _YEAR_OR_MONTH.fullmatch(value.strip()):
                moment = datetime.fromisoformat(value.strip())
                value = moment.astimezone(UTC).replace(tzinfo=None) if moment.tzinfo else moment
            if isinstance(value, int | float) or value is None:
                raise ValueError
            moments[row] = np.datetime64(value.strip() if isinstance(value, str) else value)
        except (ValueError, TypeError):
            raise ValueError(
                f"timestamp {row} is {value!r}, expected a date like the others, such as '2026-11-21'"
            ) from None
        if np.isnat(moments[row]):
            raise ValueError(f"timestamp {row} is {value!r}, which is no time")
    return moments


def is_missing(value: Any) -> bool:
    """Whether a column of pandas would have no value here; its `NA` answers no comparison."""
    return value is None or type(value).__name__ == "NAType" or bool(value != value)


def _moment_name(moment: Any) -> Any:
    if isinstance(moment, np.datetime64):
        text = str(moment)
        return text.removesuffix("T00:00:00")
    return int(moment) if float(moment).is_integer() else float(moment)


def _check_length(name: str, values: Sequence[Any], expected: int) -> None:
    if len(values) != expected:
        raise ValueError(
            f"{name} has {len(values)} entries for {expected} documents, expected one for each"
        )


__all__ = [
    "document_table",
    "hierarchy_table",
    "hierarchy_text",
    "is_missing",
    "representative_documents",
    "search_table",
    "similarity_table",
    "topic_table",
    "topics_over_time",
    "topics_per_class",
    "word_table",
]
