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
"""What users do with the topics of a trained estimator: tables, merging, labels, new documents, pictures."""

import logging
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.utils.validation import check_is_fitted

from hf_vq.latent_tables import OperationTable

from . import estimator_checks as checks
from . import operations, tables
from .coherence import CoherenceReference
from .evaluation import evaluate_topics, topic_metric_definitions
from .operations import PlacedDocuments, Topics
from .picture_data import WordTopics, map_documents
from .reading import (
    merge_documents,
    query_point,
    read_map,
    read_shares,
    read_topics,
    read_words,
)
from .scoring import TermsOf

logger = logging.getLogger(__name__)

PICTURES = ("topics", "map", "hierarchy", "similarity", "over_time", "document")
Documents = Iterable[str] | PlacedDocuments | None


class TopicOperations:
    """The operations of [`TopicVQ`]; each returns a table with `to_pandas()`, unless it says otherwise.

    Where `documents` may be left out, those that the topics were learned from are taken, as far as they are still
    known: a model that was loaded has none.
    """

    model_: Any
    processor_: Any
    _learned: PlacedDocuments | None
    _topics: Topics | None
    _merges: list[list[Any]]
    _place: Callable[..., PlacedDocuments]
    _count_codes: Callable[[list[str]], np.ndarray]

    # What there is

    @property
    def topics_(self) -> Topics:
        """The topics as arrays."""
        check_is_fitted(self, "model_")
        if self._topics is None:
            self._topics = read_topics(self.model_, self.processor_.vocabulary)
        return self._topics

    def place(
        self, documents: Documents = None, *, bow_text: Iterable[str] | None = None
    ) -> PlacedDocuments:
        """Documents among the topics, as arrays; what it returns may stand for them in every other method.

        Args:
            documents: Texts.
            bow_text: Another form of each, as in `fit`, whose words are counted.
        """
        check_is_fitted(self, "model_")
        if isinstance(documents, PlacedDocuments):
            if documents.topic_proportions.shape[1] != len(self.topics_):
                raise ValueError(
                    f"documents were placed among {documents.topic_proportions.shape[1]} topics, "
                    f"but now there are {len(self.topics_)}: place them again"
                )
            return documents
        if documents is not None:
            placed = self._place(documents, bow_text=bow_text)
        elif self._learned is not None:
            placed = self._learned
        else:
            raise ValueError("the documents that the topics are from are not known: pass documents")
        return merge_documents(placed, read_map(self.model_))

    def topic_table(self, top_n: int = 10, documents: Documents = None) -> OperationTable:
        """All topics: label, share, number of documents, words; of a loaded model without documents only the words."""
        topics = self.topics_
        known = documents is not None or self._learned is not None
        return tables.topic_table(topics, self.place(documents) if known else None, top_n)

    def topic_words(self, topic: int, top_n: int = 10) -> OperationTable:
        """The words of one topic with their weights."""
        return tables.word_table(self.topics_, topic, top_n)

    def document_table(self, documents: Documents = None, full: bool = False) -> OperationTable:
        """The main topic of each document; with `full` its whole distribution. No document is an outlier."""
        return tables.document_table(self.topics_, self.place(documents), full)

    def representative_documents(
        self, topic: int | None = None, num_documents: int = 3, documents: Documents = None
    ) -> OperationTable:
        """The documents that have most of a topic, or of each."""
        placed = self.place(documents)
        return tables.representative_documents(self.topics_, placed, topic, num_documents)

    def find_topics(self, query: str, top_n: int = 5) -> OperationTable:
        """The topics nearest to a text, a word or a whole document; all alike, with a warning, if it has no word."""
        check_is_fitted(self, "model_")
        counts = self._count_codes([query])[0]
        if not counts.any():
            logger.warning(
                "no word of %r is one that the encoder reads, so no topic is nearer than another",
                query,
            )
        return tables.search_table(self.topics_, query, query_point(self.model_, counts), top_n)

    def similar_topics(self) -> OperationTable:
        """All pairs of topics, the most similar first."""
        return tables.similarity_table(self.topics_)

    def hierarchy(self, top_n: int = 5) -> OperationTable:
        """The tree of the topics, a row for each join."""
        return tables.hierarchy_table(self.topics_, top_n)

    def hierarchy_text(self) -> str:
        """The tree of the topics as indented lines, to print."""
        return tables.hierarchy_text(self.topics_)

    def topics_over_time(
        self, timestamps: Iterable[Any], documents: Documents = None, **options: Any
    ) -> OperationTable:
        """Size and words of each topic in slices of time; options as in `tables.topics_over_time`."""
        return tables.topics_over_time(self.topics_, self.place(documents), timestamps, **options)

    def topics_per_class(
        self, classes: Iterable[Hashable], documents: Documents = None, **options: Any
    ) -> OperationTable:
        """Size and words of each topic in each class; options as in `tables.topics_per_class`."""
        return tables.topics_per_class(self.topics_, self.place(documents), classes, **options)

    def word_topics(self, text: str, bow_text: str | None = None) -> WordTopics:
        """The words of one document with the topics that they speak for (no table)."""
        other = None if bow_text is None else [bow_text]
        proportions = self.place([text], bow_text=other).topic_proportions[0]
        return read_words(self.processor_, self.topics_, text, proportions, bow_text)

    def generate_documents(
        self,
        topic: int | None = None,
        proportions: Sequence[float] | None = None,
        *,
        num_documents: int = 1,
        num_words: int = 50,
        seed: int = 0,
    ) -> OperationTable:
        """Draws documents, as bags of words, of one topic or of a mixture of topics.

        Args:
            topic: The one topic, or
            proportions: how much of each topic.
            num_documents: How many to draw.
            num_words: Of each.
            seed: Of the draws.
        """
        mixture = self._mixture(topic, proportions)
        with torch.no_grad():
            log_probs = self.model_.predict_words(
                torch.from_numpy(mixture)[None].float().to(self.model_.device)
            )
        probs = np.repeat(log_probs.double().exp().cpu().numpy(), num_documents, axis=0)
        vocabulary = self.topics_.vocabulary
        records: list[dict[str, Any]] = []
        for bag in operations.sample_words(probs, [num_words] * num_documents, seed):
            words = [vocabulary[word] for word, _ in bag]
            counts = [count for _, count in bag]
            text = " ".join(
                word for word, count in zip(words, counts, strict=True) for _ in range(count)
            )
            records.append(
                {"document": len(records), "words": words, "counts": counts, "text": text}
            )
        return OperationTable("drawn documents", records)

    def to_octis(self, test_documents: Documents = None, top_n: int = 10) -> dict[str, Any]:
        """The dictionary that models of OCTIS return (no table)."""
        tested = None if test_documents is None else self.place(test_documents).topic_proportions
        learned = self.place().topic_proportions
        return operations.octis_output(self.topics_, learned, tested, top_n)

    def evaluate(
        self,
        labels: Sequence[Hashable] | None = None,
        documents: Documents = None,
        *,
        reference: Iterable[str] | None = None,
    ) -> OperationTable:
        """Scores of the topics, and of how well they match labels that were never learned from.

        Args:
            labels: A class for each document.
            documents: Best held-out ones.
            reference: Texts in which coherence counts the words of topics; those that the topics were learned from, as
                far as they are known, else `documents`. Every one of these words must occur there. Topics with less
                than ten words have no coherence.
        """
        placed = self.place(documents)
        if labels is not None and len(labels) != len(placed):
            raise ValueError(
                f"labels has {len(labels)} entries for {len(placed)} documents, expected one for each"
            )
        for row, label in enumerate(() if labels is None else labels):
            if tables.is_missing(label):
                raise ValueError(f"labels has {label!r} for document {row}, expected its class")
        words = [self.topics_.top_words(topic, 25) for topic in range(len(self.topics_))]
        distinct = sorted({word for topic in words for word in topic})
        counted = (self._learned or placed).counted_texts
        texts = TermsOf(
            counted if reference is None else checks.read_texts(reference), self.processor_
        )
        windows = CoherenceReference(texts, distinct)
        absent = [
            word for word, found in zip(distinct, windows.word_windows, strict=True) if not found
        ]
        if absent:
            raise ValueError(
                f"{len(absent)} words of the topics, such as {absent[0]!r}, occur in no text that coherence is counted "
                "in: pass reference, best the documents that the topics were learned from"
            )
        figures = evaluate_topics(
            words, windows, topic_proportions=placed.topic_proportions, labels=labels
        )
        definitions = topic_metric_definitions(
            "the documents that the topics were learned from"
            if documents is None
            else "held-out documents"
        )
        return OperationTable(
            "scores",
            [
                {"score": name, "value": value, "definition": definitions[name]}
                for name, value in figures.items()
            ],
        )

    # What can be changed

    def merge_topics(self, groups: Sequence[Sequence[int]]) -> OperationTable:
        """Makes one topic of each group, such as `[[1, 4], [2, 7, 9]]`; `undo_merge` takes it back.

        Nothing is trained: the proportions of the members are added, their words averaged. Labels of the members are
        joined. Topics are numbered anew.
        """
        if len(groups) and isinstance(groups[0], int | np.integer):
            raise ValueError(f"groups is {groups}, expected a list of groups such as [{groups}]")
        return self._merge(operations.merge_map(len(self.topics_), groups))

    def reduce_topics(
        self, num_topics: int | None = None, min_similarity: float | None = None
    ) -> OperationTable:
        """Merges the most similar topics until `num_topics` are left, or none are as similar as `min_similarity`."""
        embeddings = self.topics_.embeddings
        return self._merge(operations.reduction_map(embeddings, num_topics, min_similarity))

    def undo_merge(self) -> OperationTable:
        """Takes the last `merge_topics` or `reduce_topics` back, labels included."""
        check_is_fitted(self, "model_")
        if not self._merges:
            raise ValueError("no topics are merged, there is nothing to undo")
        topic_map, labels = self._merges.pop()
        return self._set_topics(topic_map, labels)

    def set_topic_labels(
        self,
        labels: Sequence[str] | Mapping[int, str] | Callable[[list[str], list[str]], str] | None,
    ) -> OperationTable:
        """Names topics.

        Args:
            labels: A name for each topic, or for some by their number, or a function that gets the ten best words of a
                topic and its most representative documents, and returns a name. `None` for the best words again.
        """
        topics = self.topics_
        names: list[str] | None
        if labels is None:
            names = None
        elif isinstance(labels, Mapping):
            chosen = {topics.check(topic): name for topic, name in labels.items()}
            names = [chosen.get(topic, name) for topic, name in enumerate(topics.labels)]
        elif callable(labels):
            known = self._learned is not None
            rows = self.representative_documents().records if known else []
            texts = [
                [row["text"] for row in rows if row["topic"] == topic]
                for topic in range(len(topics))
            ]
            names = [labels(topics.top_words(topic), texts[topic]) for topic in range(len(topics))]
        else:
            names = list(labels)
        if names is not None and len(names) != len(topics):
            raise ValueError(f"there are {len(names)} labels for {len(topics)} topics")
        for name in names or []:
            if not isinstance(name, str):
                raise ValueError(f"a label is {name!r}, expected text")
        return self._set_topics(self.model_.config.topic_map, names)

    # Pictures

    def save_picture(self, kind: str, path: str | Path, **options: Any) -> Path:
        """Draws a picture: `.html` for a page that needs nothing else, `.png` or another ending for print.

        | kind | options |
        |---|---|
        | `"topics"` | `chosen`, `top_n` |
        | `"map"` | `documents`, `method`, `max_documents`, `seed` |
        | `"hierarchy"`, `"similarity"` | none |
        | `"over_time"` | `timestamps`, `documents`, `chosen`, `num_slices` |
        | `"document"` | `text` |

        Returns:
            The path.
        """
        if kind not in PICTURES:
            raise ValueError(f"kind is {kind!r}, expected one of {PICTURES}")
        path = Path(path)
        if not path.suffix:
            raise ValueError(f"path is {str(path)!r}, expected an ending such as .html or .png")
        path.parent.mkdir(parents=True, exist_ok=True)
        # Here, since both need an extra that nothing else needs.
        if path.suffix == ".html":
            from . import html_plots

            return html_plots.save_html(self._draw(html_plots, kind, options), path)
        from . import plots

        self._draw(plots, kind, options).savefig(path, dpi=150, bbox_inches="tight")
        return path

    def _draw(self, module: Any, kind: str, options: dict[str, Any]) -> Any:
        topics = self.topics_
        if kind == "map":
            placed = self.place(options.pop("documents", None))
            places = map_documents(placed, **options)
            if module.__name__.endswith("html_plots"):
                return module.plot_map(topics, places, placed.texts)
            return module.plot_map(topics, places)
        if kind == "over_time":
            chosen = options.pop("chosen", None)
            return module.plot_over_time(topics, self.topics_over_time(**options), chosen)
        if kind == "document":
            return module.plot_document(topics, self.word_topics(**options))
        return getattr(module, f"plot_{kind}")(topics, **options)

    def _merge(self, new_map: np.ndarray) -> OperationTable:
        config, topics = self.model_.config, self.topics_
        before = read_map(self.model_)
        labels = None
        if config.topic_labels is not None:
            labels = list(operations.merge_topics(topics, new_map, np.ones(len(topics))).labels)
        self._merges.append([config.topic_map, config.topic_labels])
        return self._set_topics((new_map if before is None else new_map[before]).tolist(), labels)

    def _set_topics(self, topic_map: list[int] | None, labels: list[str] | None) -> OperationTable:
        self.model_.config.topic_map, self.model_.config.topic_labels = topic_map, labels
        self._topics = None
        return self.topic_table()

    def _mixture(self, topic: int | None, proportions: Sequence[float] | None) -> np.ndarray:
        """Proportions of the topics that were trained, from those of the topics that there are now."""
        topics = self.topics_
        if (topic is None) == (proportions is None):
            raise ValueError(
                f"topic is {topic} and proportions is {proportions}, expected one of them"
            )
        if topic is not None:
            mixture = np.eye(len(topics))[topics.check(topic)]
        else:
            mixture = np.asarray(proportions, dtype=np.float64)
            if mixture.shape != (len(topics),) or (mixture < 0).any() or not mixture.sum() > 0:
                raise ValueError(
                    f"proportions is {proportions}, expected {len(topics)} numbers of at least 0, not all 0"
                )
            mixture = mixture / mixture.sum()
        topic_map = read_map(self.model_)
        if topic_map is None:
            return mixture
        shares = read_shares(self.model_) + 1e-12
        return mixture[topic_map] * shares / np.bincount(topic_map, shares)[topic_map]


__all__ = ["PICTURES", "TopicOperations"]
