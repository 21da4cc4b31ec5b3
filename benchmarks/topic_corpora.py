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
"""The corpora of the topic benchmark: documents, their words, and what MiniLM makes of them, for every method alike.

python benchmarks/topic_corpora.py --corpora bbc_news m10 20newsgroups     # encode once; goes on where it stopped
python benchmarks/topic_corpora.py --corpora 20newsgroups --limit 2000     # only so many documents of each part
"""

import argparse
import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from datasets import load_dataset
from scipy.sparse import csr_array

from hf_vq.models.processing_topic_vq import TopicVQProcessor
from hf_vq.topics.word_embeddings import ContextualEncoder, WordEmbeddings, encode_corpus

DATA = Path(".data")
CORPORA = {"20newsgroups": "20 Newsgroups", "bbc_news": "BBC News", "m10": "M10"}
# Published without inflections and stop words, words separated by spaces.
PREPROCESSED = ("bbc_news", "m10")


# Endings of inflected forms, and what stands there in the base form; the first that leads to a known word counts.
SUFFIXES = {
    "ies": ["y"],
    "ied": ["y"],
    "ier": ["y"],
    "iest": ["y"],
    "s": [""],
    "es": ["", "is"],
    "ves": ["f", "fe"],
    "ed": ["", "e"],
    "ing": ["", "e"],
    "er": ["", "e"],
    "est": ["", "e"],
}


def base_form(word: str, vocabulary: set[str]) -> str:
    """The word of the vocabulary that this is an inflected form of, by English suffixes, or the word itself."""
    for suffix, endings in SUFFIXES.items():
        stem = word.removesuffix(suffix)
        if stem == word or len(stem) < 2:
            continue
        doubled = len(stem) > 2 and stem[-1] == stem[-2]
        for candidate in [stem + ending for ending in endings] + [stem[:-1]] * doubled:
            if len(candidate) > 2 and candidate in vocabulary:
                return candidate
    return word


@dataclass
class Part:
    """Some documents: as they are, their words of the vocabulary in order, and their labels."""

    documents: list[str]
    words: list[list[str]]
    labels: np.ndarray

    def halves(self, processor: TopicVQProcessor) -> tuple["Part", csr_array]:
        """Cut documents at their middle word: first halves, and the counts of the words of the second ones.

        A first half is a document of its own, so that nothing of the second can leak into it. Documents of one word,
        which have no halves, are left out.
        """
        documents, words, rests, kept = [], [], [], []
        for row, (document, known) in enumerate(zip(self.documents, self.words, strict=True)):
            middle = len(known) // 2
            if middle:
                places = [
                    s for w, s, _ in processor.content_words(document) if w in processor.word_to_id
                ]
                documents.append(document[: places[middle]])
                words.append(known[:middle])
                rests.append(known[middle:])
                kept.append(row)
        return Part(documents, words, self.labels[kept]), processor.count_terms(rests)


class Corpus:
    """A corpus with a training and a test part: the same words of the same documents for every method.

    The words are those of the given vocabulary that occur in training documents. Some documents have none of them.

    Args:
        name: One of `CORPORA`.
        limit: Documents of each part, for a quick look.
    """

    def __init__(self, name: str, limit: int | None = None):
        self.name = name
        splits = {part: split[:limit] for part, split in load_dataset(str(DATA / name)).items()}
        self.processor = _processor(name, {part: split["text"] for part, split in splits.items()})
        known = self.processor.word_to_id
        parts = {}
        for part, split in splits.items():
            found = [self.processor.content_words(text) for text in split["text"]]
            words = [[word for word, _, _ in text if word in known] for text in found]
            parts[part] = Part(split["text"], words, np.array(split["label"]))
        self.train, self.test = parts["train"], parts["test"]
        # What coherence counts windows of: all documents, those for validation too.
        self.reference_texts = [text for part in parts.values() for text in part.words]
        words = "\n".join(" ".join(text) for text in self.reference_texts)
        self.revision = hashlib.sha256(words.encode()).hexdigest()[:12]

    @property
    def vocabulary(self) -> list[str]:
        """The words that topics consist of."""
        return self.processor.vocabulary

    def counts(self, part: Part) -> csr_array:
        """Number of each word in each document."""
        return self.processor.count_terms(part.words)

    @cached_property
    def encoder(self) -> ContextualEncoder:
        """MiniLM, from a folder."""
        return ContextualEncoder(DATA / "minilm")

    def embeddings(self, part: Part) -> WordEmbeddings:
        """MiniLM's vectors of the content words, from the store in `.data/word_embeddings` if they are there."""
        # The store is of words as they are written, so that it does not depend on how they are counted.
        forms = self.processor.word_forms
        plain = _with_forms(self.processor, self.vocabulary, {})
        stored = encode_corpus(part.documents, plain, self.encoder, DATA / "word_embeddings")
        return WordEmbeddings(
            stored.vectors,
            stored.num_words,
            stored.surface_ids,
            [forms.get(word, word) for word in stored.words],
            stored.document_vectors,
            self.processor,
            stored.fingerprint,
        )

    def document_vectors(self, part: Part) -> np.ndarray:
        """Document embeddings as sentence-transformers makes them: means of unit length, but of the whole document."""
        vectors = np.asarray(self.embeddings(part).document_vectors, dtype=np.float32)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    def word_vectors(self) -> np.ndarray:
        """Mean vector of each word of the vocabulary over where it occurs in training documents."""
        embeddings = self.embeddings(self.train)
        sums = np.zeros((len(self.vocabulary), embeddings.dim), dtype=np.float32)
        for documents, vectors in embeddings.chunks(200_000):
            rows = slice(*embeddings.offsets[[documents.start, documents.stop]])
            ids = embeddings.word_ids[rows]
            known = np.flatnonzero(ids >= 0)
            occurs = csr_array(
                (np.ones(len(known), dtype=np.float32), (ids[known], known)),
                shape=(len(sums), len(ids)),
            )
            sums += occurs @ vectors
        return sums / self.counts(self.train).sum(axis=0)[:, None]


def _processor(name: str, texts: dict[str, list[str]]) -> TopicVQProcessor:
    given = (DATA / name / "vocabulary.txt").read_text(encoding="utf-8").split()
    if name in PREPROCESSED:
        processor = TopicVQProcessor(vocabulary=given, token_pattern=r"\S+")
    else:
        known = set(given)
        processor = TopicVQProcessor(vocabulary=given, stop_words="english")
        everything = [text for part in texts.values() for text in part]
        processor.fit_word_forms(everything, lambda word: base_form(word, known))
    frequencies = processor.count_words(texts["train"]).sum(axis=0)
    occurring = [word for word, number in zip(given, frequencies, strict=True) if number]
    return _with_forms(processor, occurring, processor.word_forms)


def _with_forms(
    processor: TopicVQProcessor, vocabulary: list[str], forms: dict[str, str]
) -> TopicVQProcessor:
    return TopicVQProcessor(
        vocabulary=vocabulary,
        stop_words=processor.stop_words,
        token_pattern=processor.token_pattern,
        word_forms=forms,
    )


def main() -> None:
    """Encode corpora and the halves of their test documents."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--corpora", nargs="+", default=list(CORPORA), choices=CORPORA)
    parser.add_argument("--limit", type=int, help="documents of each part; all without it")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    for name in arguments.corpora:
        corpus = Corpus(name, arguments.limit)
        halves, _ = corpus.test.halves(corpus.processor)
        for what, part in (("train", corpus.train), ("test", corpus.test), ("halves", halves)):
            embeddings = corpus.embeddings(part)
            print(f"{name}, {what}: {len(embeddings)} documents, {len(embeddings.vectors)} words")


if __name__ == "__main__":
    main()
