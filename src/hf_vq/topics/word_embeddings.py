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
"""The word embeddings of a corpus: computed once, kept on disk, read without loading them.

`encode_corpus` makes `WordEmbeddings`, a float16 array of all content words with the document and
the word of each row. What lies on disk does not depend on the vocabulary, so that another one needs
no second pass of the encoder. `encode_chunks` is for corpora whose embeddings fit nowhere.
"""

import hashlib
import json
import logging
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers.utils import logging as transformers_logging

from hf_vq._extras import require
from hf_vq.models.processing_topic_vq import TopicVQProcessor, pair_views

from .corpus_encoder import CorpusEncoder
from .encoders import ContextualEncoder, EncodedWords, WordEncoder
from .growing_arrays import GrowingArrays, open_arrays, read_facts, sole_writer

require("scipy", extra="topics")

from scipy.sparse import csr_array  # noqa: E402

logger = logging.getLogger(__name__)

__all__ = [
    "ContextualEncoder",
    "CorpusEncoder",
    "EncodedWords",
    "WordEmbeddings",
    "WordEncoder",
    "encode_chunks",
    "encode_corpus",
]

# What is encoded in one go: enough windows to sort by length, and at most some 100 MB of vectors.
_CHUNK_CHARACTERS = 1_000_000
_CHUNK_DOCUMENTS = 4096
# What a store consists of. `words` are JSON texts, one a line.
_ARRAYS = {
    "vectors": "<f2",
    "surface_ids": "<i4",
    "num_words": "<i4",
    "document_vectors": "<f2",
    "words": "u1",
}
# And of these, where other words than those that were read are counted.
_COUNTED_ARRAYS = {"counted_ids": "<i4", "num_counted": "<i4"}


class WordEmbeddings:
    """A vector for each content word of each document of a corpus.

    Args:
        vectors: (T, H) float16, in memory or mapped from disk.
        num_words: (D,) how many of the rows belong to each document, in order.
        surface_ids: (T,) for each row the number of its word in `words`.
        words: The distinct words of the corpus, in the vocabulary or not.
        document_vectors: (D, H) float16, mean over everything the encoder read of a document.
        processor: Its vocabulary decides `word_ids` and `word_counts`.
        fingerprint: The encoder's.
        counted_ids: For each word that is counted its number in `words`, if these are others than those that have
            vectors.
        num_counted: (D,) how many of them belong to each document.
    """

    def __init__(
        self,
        vectors: np.ndarray,
        num_words: np.ndarray,
        surface_ids: np.ndarray,
        words: Sequence[str],
        document_vectors: np.ndarray,
        processor: TopicVQProcessor,
        fingerprint: str,
        counted_ids: np.ndarray | None = None,
        num_counted: np.ndarray | None = None,
    ) -> None:
        self.vectors = vectors
        self.offsets = np.concatenate([[0], np.cumsum(num_words, dtype=np.int64)])
        if len(vectors) != self.offsets[-1]:
            raise ValueError(
                f"{len(vectors)} vectors for the {self.offsets[-1]} content words of the documents"
            )
        self.surface_ids, self.words = surface_ids, list(words)
        self.document_vectors = document_vectors
        self.processor, self.fingerprint = processor, fingerprint
        self.counted_ids = counted_ids
        self.counted_offsets = (
            self.offsets
            if num_counted is None
            else np.concatenate([[0], np.cumsum(num_counted, dtype=np.int64)])
        )

    @classmethod
    def from_arrays(
        cls,
        arrays: Sequence[np.ndarray],
        documents: Sequence[str],
        processor: TopicVQProcessor,
        fingerprint: str = "given",
        bow_text: Sequence[str] | None = None,
    ) -> "WordEmbeddings":
        """Take vectors that were made elsewhere: (words, H) for each document."""
        views = list(pair_views(documents, bow_text))
        words = [[w for w, _, _ in processor.content_words(*view)] for view in views]
        if len(arrays) != len(words):
            raise ValueError(f"{len(arrays)} arrays of embeddings for {len(words)} documents")
        for row, (array, found) in enumerate(zip(arrays, words, strict=True)):
            if array.ndim != 2 or len(array) != len(found):
                raise ValueError(
                    f"embeddings of document {row} must have a row for each of its {len(found)} "
                    f"content words, got the shape {array.shape}"
                )
        means = [array.mean(0) if len(array) else np.zeros(array.shape[1]) for array in arrays]
        encoded = EncodedWords(
            np.concatenate(arrays),
            [word for found in words for word in found],
            np.array([len(found) for found in words]),
            np.stack(means),
            _counted_words(processor, bow_text),
        )
        return in_memory([encoded], processor, fingerprint)

    @classmethod
    def open(cls, folder: str | Path, processor: TopicVQProcessor) -> "WordEmbeddings":
        """Open a store that `encode_corpus` wrote; the vectors stay on disk.

        Raises:
            ValueError: If the store is unfinished, or its content words were found by another rule.
        """
        facts = read_facts(folder)
        if facts is None:
            raise ValueError(f"{str(folder)!r} holds no finished word embeddings")
        if facts["content_rule"] != processor.content_rule:
            raise ValueError(
                f"the words of {str(folder)!r} were found by another token_pattern, other stop words "
                "or other rules than those of this processor"
            )
        arrays = open_arrays(folder, _ARRAYS | (_COUNTED_ARRAYS if facts.get("bow_text") else {}))
        for name in ("vectors", "document_vectors"):
            arrays[name] = arrays[name].reshape(-1, facts["dim"])
        words = [json.loads(word) for word in arrays.pop("words").tobytes().splitlines()]
        return cls(words=words, processor=processor, fingerprint=facts["fingerprint"], **arrays)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, document: int) -> np.ndarray:
        """Return the (words, H) float32 vectors of a document."""
        number = range(len(self))[document]
        return _single(self.vectors[self.offsets[number] : self.offsets[number + 1]])

    @property
    def dim(self) -> int:
        """H, the width of a vector."""
        return self.vectors.shape[1]

    @property
    def num_words(self) -> np.ndarray:
        """(D,) content words of each document."""
        return np.diff(self.offsets)

    @cached_property
    def word_ids(self) -> np.ndarray:
        """(T,) int32, for each row the id of its word in the vocabulary, -1 if it has none."""
        return self._vocabulary_ids[self.surface_ids]

    @cached_property
    def _vocabulary_ids(self) -> np.ndarray:
        """For each of `words` its id in the vocabulary."""
        ids = [self.processor.word_to_id.get(word, -1) for word in self.words]
        return np.array(ids, dtype=np.int32)

    @cached_property
    def word_counts(self) -> csr_array:
        """(D, V) int32, sparse: how often each word of the vocabulary occurs in each document."""
        counted = self.surface_ids if self.counted_ids is None else self.counted_ids
        if self.processor.ngram_range[1] > 1:
            ids = np.split(counted, self.counted_offsets[1:-1])
            return self.processor.count_terms([self.words[i] for i in row] for row in ids)
        rows = np.repeat(np.arange(len(self), dtype=np.int32), np.diff(self.counted_offsets))
        word_ids = self.word_ids if self.counted_ids is None else self._vocabulary_ids[counted]
        known = word_ids >= 0
        ones = np.ones(int(known.sum()), dtype=np.int32)
        shape = (len(self), self.processor.vocab_size)
        counts = csr_array((ones, (rows[known], word_ids[known])), shape=shape)
        counts.sum_duplicates()
        return counts

    @property
    def documents_digest(self) -> str:
        """A hash of all words, by which an interrupted run knows its documents again."""
        hashes = [zlib.crc32(word.encode("utf-8", "surrogatepass")) for word in self.words]
        known = np.array(hashes, dtype="<u4")  # whatever numbers the words have here
        digest = hashlib.sha256()
        views = [(self.offsets, self.surface_ids)]
        if self.counted_ids is not None:
            views.append((self.counted_offsets, self.counted_ids))
        for offsets, ids in views:
            digest.update(offsets.astype("<i8").tobytes())
            digest.update(known[ids].tobytes())
        return digest.hexdigest()

    def with_processor(self, processor: TopicVQProcessor) -> "WordEmbeddings":
        """Return the same vectors with another vocabulary, to which words may not be content words."""
        if processor.content_rule != self.processor.content_rule:
            raise ValueError("the processor finds other content words: encode the documents again")
        return WordEmbeddings(
            self.vectors,
            self.num_words,
            self.surface_ids,
            self.words,
            self.document_vectors,
            processor,
            self.fingerprint,
            self.counted_ids,
            None if self.counted_ids is None else np.diff(self.counted_offsets),
        )

    def sample(self, n: int, seed: int = 0) -> np.ndarray:
        """Return (n, H) float32 vectors of different words, drawn at random; all if there are fewer."""
        total = len(self.vectors)
        rows = np.random.default_rng(seed).choice(total, min(n, total), replace=False)
        # In the order of the file, which is many times faster to read, and then in that of the draw.
        order = np.argsort(rows)
        drawn = np.empty((len(rows), self.dim), dtype=np.float32)
        drawn[order] = _single(self.vectors[rows[order]])
        return drawn

    def chunks(self, max_words: int) -> Iterator[tuple[slice, np.ndarray]]:
        """Yield slices of documents with their float32 vectors, at most `max_words` at a time.

        A document with more words than that comes alone.
        """
        start = 0
        for part in self.parts(max_words):
            yield slice(start, start + len(part)), _single(part.vectors)
            start += len(part)

    def parts(self, max_words: int, start: int = 0) -> Iterator["WordEmbeddings"]:
        """Yield the embeddings of documents `start` and following, `max_words` at a time as `chunks` does."""
        while start < len(self):
            limit = self.offsets[start] + max_words
            stop = int(np.searchsorted(self.offsets, limit, side="right")) - 1
            stop = max(stop, start + 1)
            rows = slice(self.offsets[start], self.offsets[stop])
            part = WordEmbeddings(
                self.vectors[rows],
                self.num_words[start:stop],
                self.surface_ids[rows],
                self.words,
                self.document_vectors[start:stop],
                self.processor,
                self.fingerprint,
                *self._counted_part(start, stop),
            )
            part._vocabulary_ids = self._vocabulary_ids  # looked up already
            yield part
            start = stop

    def _counted_part(self, start: int, stop: int) -> tuple[np.ndarray | None, np.ndarray | None]:
        if self.counted_ids is None:
            return None, None
        offsets = self.counted_offsets[start : stop + 1]
        return self.counted_ids[offsets[0] : offsets[-1]], np.diff(offsets)


def encode_chunks(
    documents: Iterable[str],
    processor: TopicVQProcessor,
    encoder: WordEncoder,
    max_characters: int = _CHUNK_CHARACTERS,
    bow_text: Iterable[str] | None = None,
) -> Iterator[EncodedWords]:
    """Encode a corpus of any length, of which so many characters are in memory at a time.

    A longer document comes alone. With `bow_text` its words are those that are counted.
    """
    chunk: list[tuple[str, str | None]] = []
    characters = 0
    for text, other in pair_views(documents, bow_text):
        if chunk and (characters + len(text) > max_characters or len(chunk) == _CHUNK_DOCUMENTS):
            yield _encode(chunk, processor, encoder)
            chunk, characters = [], 0
        chunk.append((text, other))
        characters += len(text)
    if chunk:
        yield _encode(chunk, processor, encoder)


def _encode(
    chunk: list[tuple[str, str | None]], processor: TopicVQProcessor, encoder: WordEncoder
) -> EncodedWords:
    texts = [text for text, _ in chunk]
    others = [other for _, other in chunk if other is not None]
    if not others:
        return encoder.encode_words(texts, processor)
    encoded = encoder.encode_words(texts, processor, others)
    return replace(encoded, counted_words=_counted_words(processor, others))


def encode_corpus(
    documents: Iterable[str],
    processor: TopicVQProcessor,
    encoder: WordEncoder,
    cache_dir: str | Path | None = None,
    progress: bool = True,
    bow_text: Sequence[str] | None = None,
) -> WordEmbeddings:
    """Encode the content words of a corpus, each document once.

    Args:
        documents: The corpus.
        processor: Finds the content words; its vocabulary decides what is counted.
        encoder: A `ContextualEncoder` or `CorpusEncoder`.
        cache_dir: Where to keep the vectors, in a folder named after encoder, rule of content words
            and documents. A corpus that lies there is not encoded again, and an interrupted pass
            goes on where it stopped. Processes may share it. In memory if `None`.
        progress: Whether to show a progress bar.
        bow_text: Another form of each document, preprocessed or lemmatized, whose words are counted; see
            `TopicVQProcessor`.

    Raises:
        ValueError: If there are no documents, or rows that are no text.
    """
    documents = documents if isinstance(documents, Sequence) else list(documents)
    digest = hashlib.sha256()
    for view in pair_views(documents, bow_text):
        for text in view:
            if text is not None:
                digest.update(hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest())
    if not len(documents):
        raise ValueError("there are no documents to encode")
    bar = transformers_logging.tqdm(
        total=len(documents), desc="word embeddings", disable=not progress
    )
    with bar:
        if cache_dir is None:
            chunks = encode_chunks(documents, processor, encoder, bow_text=bow_text)
            chunks = _counted(chunks, bar)
            return in_memory(chunks, processor, encoder.fingerprint)
        facts = {
            "fingerprint": encoder.fingerprint,
            "precision": str(getattr(encoder, "dtype", None)),
            "content_rule": processor.content_rule,
            "documents": digest.hexdigest(),
            "dim": encoder.dim,
        }
        if bow_text is not None:
            facts["bow_text"] = True
        key = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:20]
        folder = Path(cache_dir) / key
        with sole_writer(folder):
            if read_facts(folder) is None:
                _write(folder, facts, documents, bow_text, processor, encoder, bar)
    return WordEmbeddings.open(folder, processor)


def _write(
    folder: Path,
    facts: dict[str, Any],
    documents: Sequence[str],
    bow_text: Sequence[str] | None,
    processor: TopicVQProcessor,
    encoder: WordEncoder,
    bar: Any,
) -> None:
    dtypes = _ARRAYS if bow_text is None else _ARRAYS | _COUNTED_ARRAYS
    with GrowingArrays(folder, dtypes, facts) as arrays:
        words = (folder / "words.bin").read_bytes().splitlines()
        table = {json.loads(word): number for number, word in enumerate(words)}
        done = arrays.num_documents
        if done:
            logger.info("going on after %d documents in %s", done, folder)
            bar.update(done)
        rest = None if bow_text is None else bow_text[done:]
        chunks = encode_chunks(documents[done:], processor, encoder, bow_text=rest)
        for encoded in _counted(chunks, bar):
            known = len(table)
            columns = _columns(encoded, table)
            lines = "".join(f"{json.dumps(word)}\n" for word in list(table)[known:])
            columns["words"] = np.frombuffer(lines.encode(), np.uint8)
            arrays.append(columns, len(encoded.num_words))
        arrays.finish()


def _counted(chunks: Iterable[EncodedWords], bar: Any) -> Iterator[EncodedWords]:
    for encoded in chunks:
        yield encoded
        bar.update(len(encoded.num_words))


def _counted_words(
    processor: TopicVQProcessor, bow_text: Sequence[str] | None
) -> list[list[str]] | None:
    if bow_text is None:
        return None
    return [[word for word, _, _ in processor.content_words(text)] for text in bow_text]


def _single(array: np.ndarray) -> np.ndarray:
    """Return a float32 copy; PyTorch converts several times faster than numpy."""
    return torch.from_numpy(np.array(array)).float().numpy()


def _half(array: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):
        half = array.astype(np.float16)
    if not np.isfinite(half).all():
        raise ValueError(
            "word embeddings must be finite and fit into float16; another layer may do"
        )
    return half


def in_memory(
    chunks: Iterable[EncodedWords], processor: TopicVQProcessor, fingerprint: str
) -> WordEmbeddings:
    """Put chunks together, of which there must be one, to word embeddings."""
    table: dict[str, int] = {}
    rows = [_columns(encoded, table) for encoded in chunks]
    columns = {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}
    return WordEmbeddings(
        words=list(table), processor=processor, fingerprint=fingerprint, **columns
    )


def _columns(encoded: EncodedWords, table: dict[str, int]) -> dict[str, np.ndarray]:
    """Return the rows of a chunk; words that are new get the next number of the table."""
    ids = [table.setdefault(word, len(table)) for word in encoded.words]
    columns = {
        "vectors": _half(encoded.vectors),
        "surface_ids": np.array(ids, dtype=np.int32),
        "num_words": encoded.num_words.astype(np.int32),
        "document_vectors": _half(encoded.document_vectors),
    }
    counted = encoded.counted_words
    if counted is not None:
        ids = [table.setdefault(word, len(table)) for words in counted for word in words]
        columns["counted_ids"] = np.array(ids, dtype=np.int32)
        columns["num_counted"] = np.array([len(words) for words in counted], dtype=np.int32)
    return columns
