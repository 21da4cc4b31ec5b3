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
"""Every figure of a trained topic model on held-out documents, from texts to numbers in one call."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch

from hf_vq.models.processing_topic_vq import TopicVQProcessor, pair_views

from .coherence import CoherenceReference
from .corpus import TopicCorpus
from .documents import Documents
from .evaluation import TOPIC_METRIC_DEFINITIONS, evaluate_topics
from .metrics import Counts, perplexity, unigram_perplexity
from .reading import merge_documents, place_corpus, read_map, read_topics
from .training import topic_proportions
from .word_embeddings import WordEncoder, encode_corpus

__all__ = ["SCORE_DEFINITIONS", "document_revision", "score_topic_model", "split_documents"]

TOP_WORDS = 25
# Documents whose words are predicted together: a row has as many numbers as the vocabulary has words.
PREDICTED_AT_ONCE = 1024
SCORE_DEFINITIONS = TOPIC_METRIC_DEFINITIONS | {
    "unigram_perplexity": "perplexity of the same words by their shares in training documents, without any topic",
    "codebook_usage": "share of the codes that occur in training documents",
    "num_documents": "held-out documents",
    "empty_documents": "held-out documents without a word that the encoder reads: they have the prior's proportions",
}


def score_topic_model(
    model: Any,
    processor: TopicVQProcessor,
    encoder: WordEncoder,
    documents: Documents,
    reference: Iterable[str],
    *,
    train_corpus: TopicCorpus | None = None,
    train_labels: Sequence[str] | None = None,
    cache_dir: Any = None,
    progress: bool = True,
) -> dict[str, float]:
    """Score a model on documents that it was not trained on.

    Args:
        model: A trained `TopicVQModel`.
        processor: Its processor.
        encoder: Its encoder.
        documents: The held-out documents; their labels, if there are any, are compared with topics.
        reference: Texts in whose windows words of topics are counted for coherence, such as the training documents (in
            the form whose words were counted); to be read twice.
        train_corpus: Bags of the training documents, for the unigram model and the logistic regression.
        train_labels: Labels of the training documents, for the logistic regression.
        cache_dir: Where word embeddings are kept; see `encode_corpus`.
        progress: Whether to show progress bars.

    Returns:
        Figures that `SCORE_DEFINITIONS` defines.
    """
    topics = read_topics(model, processor.vocabulary)
    words = [topics.top_words(topic, TOP_WORDS) for topic in range(len(topics))]
    texts = TermsOf(reference, processor)
    counted = CoherenceReference(texts, sorted({word for topic in words for word in topic}))

    def bags(texts: Sequence[str], bow_text: Sequence[str] | None = None) -> TopicCorpus:
        embeddings = encode_corpus(texts, processor, encoder, cache_dir, progress, bow_text)
        return TopicCorpus.build(model, embeddings)

    corpus = bags(documents.texts, documents.bow_texts)
    placed = place_corpus(model, documents.texts, corpus, documents.bow_texts)
    proportions = merge_documents(placed, read_map(model)).topic_proportions
    train_proportions = None
    if train_corpus is not None and train_labels is not None:
        train_texts = [""] * len(train_corpus)  # nobody reads them
        train = place_corpus(model, train_texts, train_corpus)
        train_proportions = merge_documents(train, read_map(model)).topic_proportions
    figures = evaluate_topics(
        words,
        counted,
        texts=texts,
        topic_proportions=proportions,
        labels=documents.labels,
        train_topic_proportions=train_proportions,
        train_labels=train_labels,
    )
    firsts, seconds = split_documents(documents.texts, processor, documents.bow_texts)
    counts = processor.count_words(seconds)
    if counts.sum():
        known = topic_proportions(model, bags(firsts), temperature=1.0)
        figures["perplexity"] = _perplexity(model, known, counts)
        if train_corpus is not None:
            figures["unigram_perplexity"] = unigram_perplexity(train_corpus.word_counts, counts)
    return figures | {
        "codebook_usage": model.codebook_usage,
        "num_documents": len(documents),
        "empty_documents": int((placed.num_words == 0).sum()),
    }


def split_documents(
    texts: Sequence[str], processor: TopicVQProcessor, bow_texts: Sequence[str] | None = None
) -> tuple[list[str], list[str]]:
    """Documents cut before their middle content word; those with a single one have no halves and are left out.

    With `bow_texts` the second halves are those of these.
    """
    firsts, seconds = [], []
    for text, other in pair_views(texts, bow_texts):
        counted = text if other is None else other
        starts, others = (
            [start for _, start, _ in processor.content_words(view)] for view in (text, counted)
        )
        if min(len(starts), len(others)) > 1:
            firsts.append(text[: starts[len(starts) // 2]])
            seconds.append(counted[others[len(others) // 2] :])
    return firsts, seconds


def document_revision(documents: Documents) -> str:
    """`"sha256:..."` over texts and labels, so that two figures can be known to rest on the same documents."""
    digest = hashlib.sha256()
    for row, text in enumerate(documents.texts):
        label = "" if documents.labels is None else documents.labels[row]
        other = "" if documents.bow_texts is None else f"{documents.bow_texts[row]}\0"
        digest.update(f"{text}\0{label}\0\0{other}".encode("utf-8", "surrogatepass"))
    return f"sha256:{digest.hexdigest()}"


class TermsOf:
    """The words that are counted of each text, made again whenever they are read."""

    def __init__(self, texts: Iterable[str], processor: TopicVQProcessor):
        self.texts, self.processor = texts, processor

    def __iter__(self) -> Iterator[list[str]]:
        for text in self.texts:
            words = self.processor.content_words(text)
            yield self.processor.terms([word for word, _, _ in words])


def _perplexity(model: Any, proportions: np.ndarray, counts: Counts) -> float:
    """`perplexity` of all documents, some at a time."""
    total = nats = 0.0
    for start in range(0, len(proportions), PREDICTED_AT_ONCE):
        rows = slice(start, start + PREDICTED_AT_ONCE)
        number = counts[rows].sum()
        if number:
            shares = torch.from_numpy(proportions[rows]).to(model.device)
            log_probs = model.predict_words(shares).cpu().numpy()
            nats += number * np.log(perplexity(log_probs, counts[rows]))
            total += number
    return float(np.exp(nats / total))
