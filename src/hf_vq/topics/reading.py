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
"""What a trained model says about topics and documents, as the arrays that operations and tables read."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from scipy import sparse

from hf_vq.models.processing_topic_vq import TopicVQProcessor
from hf_vq.models.topic_ranking import (
    rank_by_ctfidf,
    rank_by_exclusivity,
    rank_by_frex,
    rank_by_relevance,
)

from .corpus import TopicCorpus
from .operations import PlacedDocuments, Topics, merge_proportions, merge_topics, word_topics
from .picture_data import WordTopics
from .training import topic_proportions

WORDS_IN_LABEL = 3


def read_topics(model: Any, vocabulary: Sequence[str]) -> Topics:
    """The topics of a model, merged and labeled as its configuration says.

    Args:
        model: A trained `TopicVQModel`.
        vocabulary: Its words, in the order of their ids.
    """
    config = model.config
    with torch.no_grad():
        words, ranked = (part.cpu().numpy() for part in model.topic_words(len(vocabulary)))
        probs = model.topic_word_probs.cpu().numpy()
        embeddings = model.topic_embeddings.cpu().numpy()
    weights = np.empty_like(ranked)
    np.put_along_axis(weights, words, ranked, axis=1)
    topics = Topics(vocabulary, probs, weights, embeddings, [""] * len(probs))
    topic_map = read_map(model)
    if topic_map is not None:
        topics = merge_topics(topics, topic_map, read_shares(model), [""] * (max(topic_map) + 1))
        topics = replace(topics, word_weights=_rank_merged(model, topics, topic_map))
    labels = config.topic_labels or [
        ", ".join(topics.top_words(topic, WORDS_IN_LABEL)) for topic in range(len(topics))
    ]
    return replace(topics, labels=labels)


def read_map(model: Any) -> np.ndarray | None:
    """The merged topic of each topic that was trained; `None` if nothing is merged."""
    return None if model.config.topic_map is None else np.array(model.config.topic_map)


def read_shares(model: Any) -> np.ndarray:
    """How much of the training corpus each topic that was trained has, in words, (K,)."""
    counts = model.statistics.topic_word_counts.sum(dim=1).cpu().double().numpy()
    return counts / max(counts.sum(), 1e-12)


def place_corpus(
    model: Any, texts: Sequence[str], corpus: TopicCorpus, bow_texts: Sequence[str] | None = None
) -> PlacedDocuments:
    """The documents of a corpus among the topics that were trained, merged or not."""
    proportions = topic_proportions(model, corpus)
    num_words = np.asarray(corpus.num_words)
    return PlacedDocuments(texts, proportions, corpus.word_counts, num_words, bow_texts)


def join_documents(parts: Sequence[PlacedDocuments]) -> PlacedDocuments:
    """Documents that were placed one part after the other."""
    return PlacedDocuments(
        [text for part in parts for text in part.texts],
        np.concatenate([part.topic_proportions for part in parts]),
        sparse.vstack([part.word_counts for part in parts], format="csr"),
        np.concatenate([part.num_words for part in parts]),
        None
        if parts[0].bow_texts is None
        else [text for part in parts for text in part.counted_texts],
    )


def merge_documents(documents: PlacedDocuments, topic_map: np.ndarray | None) -> PlacedDocuments:
    """The same documents among merged topics."""
    if topic_map is None:
        return documents
    merged = merge_proportions(documents.topic_proportions, topic_map)
    return replace(documents, topic_proportions=merged)


def query_point(model: Any, code_counts: np.ndarray) -> np.ndarray:
    """Where a text lies among the codes, (D,), as topics do in eq. (13).

    Codes count by how much more of them there is than in the training corpus: those of every text point nowhere.

    Args:
        model: A trained `TopicVQModel`.
        code_counts: (C,), the bag of the text.
    """
    everywhere = model.statistics.code_frequencies.cpu().double().numpy()
    here = np.asarray(code_counts, np.float64)
    if not here.any():
        return np.zeros(model.config.codebook_dim)
    lift = here / here.sum() - everywhere / max(everywhere.sum(), 1e-12)
    codebook = torch.nn.functional.normalize(model.quantizer.codebook.detach().float(), dim=-1)
    return lift @ codebook.cpu().double().numpy()


def read_words(
    processor: TopicVQProcessor,
    topics: Topics,
    text: str,
    proportions: np.ndarray,
    bow_text: str | None = None,
) -> WordTopics:
    """The words of a text, or n-grams, that are in the vocabulary, with the topics that they speak for.

    Before it is read, a word is of the document's topics or of any topic, with even chances: in a document that is all
    of one topic every word would speak for that one.
    """
    ids, spans = [], []
    words = processor.content_words(text, bow_text)
    fewest, most = processor.ngram_range
    first = 0
    while first < len(words):
        # Of n-grams that begin with this word the longest that is known, and no other that overlaps it.
        for number in range(min(most, len(words) - first), fewest - 1, -1):
            part = words[first : first + number]
            term = " ".join(word for word, _, _ in part)
            if term in processor.word_to_id:
                ids.append(processor.word_to_id[term])
                spans.append((part[0][1], part[-1][2]))
                break
        else:
            number = 1
        first += number
    likelihoods = topics.word_probs[:, ids].T
    expected = (proportions + 1 / len(topics)) / 2
    return WordTopics(text, spans, word_topics(expected, likelihoods))


def _rank_merged(model: Any, topics: Topics, topic_map: np.ndarray) -> np.ndarray:
    """Ranks anew, eq. (21)-(24) and (32): a word that several members had may be the merged topic's own."""
    config, statistics = model.config, model.statistics
    probs = torch.from_numpy(topics.word_probs)
    if config.topic_word_ranking == "frex":
        return rank_by_frex(probs, config.topic_word_ranking_weight).numpy()
    if config.topic_word_ranking == "relevance":
        frequencies = statistics.word_frequencies.cpu().double() + 1
        shares = frequencies / frequencies.sum()
        return rank_by_relevance(probs, shares, config.topic_word_ranking_weight).numpy()
    if config.topic_word_ranking in ("ctfidf", "exclusive"):
        counts, damped, explained = (
            members.new_zeros(len(topics), members.shape[1])
            .double()
            .index_add_(0, torch.from_numpy(topic_map), members.double().cpu())
            for members in (
                statistics.topic_word_counts.cpu(),
                statistics.damped_word_counts.cpu(),
                statistics.explained_word_counts.cpu(),
            )
        )
        if config.topic_word_ranking == "ctfidf":
            return rank_by_ctfidf(counts).numpy()
        return rank_by_exclusivity(damped, explained, config.topic_word_exclusivity).numpy()
    # Scores have no meaning of their own for a merged topic, and probabilities are what was averaged.
    return topics.word_weights


__all__ = [
    "join_documents",
    "merge_documents",
    "place_corpus",
    "query_point",
    "read_map",
    "read_shares",
    "read_topics",
    "read_words",
]
