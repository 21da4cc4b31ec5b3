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
"""Word vectors made from the corpus itself, for machines without an encoder."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save_file

from hf_vq._extras import require
from hf_vq.models.processing_topic_vq import TopicVQProcessor, check_documents, pair_views

from .encoders import EncodedWords

require("scipy", extra="topics")

from scipy import sparse  # noqa: E402
from scipy.sparse.linalg import svds  # noqa: E402

__all__ = ["CorpusEncoder"]

ENCODER_NAME = "encoder.safetensors"
# Words whose company is counted in one go.
_BLOCK_WORDS = 1_000_000


class CorpusEncoder:
    """One vector for each word, whatever its context: words in like company are alike.

    The vectors are a truncated singular value decomposition of the positive pointwise mutual
    information of words that stand near each other (Levy, Goldberg and Dagan, 2015, TACL 3,
    section 3: a smoothed context distribution, singular values to the power of 1/2). Words that the
    corpus did not have have no vector and no codes.

    Args:
        words: The words that have a vector.
        vectors: (words, H), of length 1.

    Example:
        >>> corpus = ["sun moon star", "star sun sky", "cat dog", "dog cat pet"] * 3
        >>> encoder = CorpusEncoder.fit(corpus, TopicVQProcessor(), dim=2)
        >>> [vectors.shape for vectors in encoder.encode(["sun, cat and tree"], TopicVQProcessor())]
        [(2, 2)]
    """

    def __init__(self, words: Sequence[str], vectors: np.ndarray) -> None:
        if len(words) != len(vectors):
            raise ValueError(f"{len(vectors)} vectors for {len(words)} words")
        self.words = list(words)
        # As they are saved: in half precision, and row by row, since safetensors ignores strides.
        self.vectors = vectors.astype(np.float16, order="C").astype(np.float32)
        self.word_to_id = {word: number for number, word in enumerate(self.words)}
        digest = hashlib.sha256(json.dumps(self.words).encode())
        digest.update(self.vectors.tobytes())
        self.fingerprint = f"sha256:{digest.hexdigest()[:32]}"

    @property
    def dim(self) -> int:
        """H, the width of a vector."""
        return self.vectors.shape[1]

    @classmethod
    def fit(
        cls,
        documents: Iterable[str],
        processor: TopicVQProcessor,
        dim: int = 100,
        seed: int = 0,
        window: int = 10,
        min_count: int = 3,
        max_words: int = 20_000,
    ) -> "CorpusEncoder":
        """Make the vectors from a corpus, which is read twice and never in memory as a whole.

        Args:
            documents: The corpus; what can be read only once is kept.
            processor: Finds the content words.
            dim: Width of a vector, fewer if the corpus has too few words.
            seed: Start of the decomposition.
            window: Words within this distance, stop words not counted, are company.
            min_count: Words that occur less often get no vector.
            max_words: No more words than this, the most frequent, get one.

        Raises:
            ValueError: If fewer than three words are left, or they stand together by chance only.
        """
        documents = list(documents) if iter(documents) is documents else documents
        counts: Counter[str] = Counter()
        for text in check_documents(documents):
            counts.update(word for word, _, _ in processor.content_words(text))
        kept = [word for word, count in counts.items() if count >= min_count]
        kept = sorted(kept, key=lambda word: (-counts[word], word))[:max_words]
        if len(kept) < 3:
            raise ValueError(
                f"{len(kept)} of {len(counts)} words occur at least {min_count} times in the corpus, "
                "too few for vectors; pass an encoder"
            )
        table = {word: number for number, word in enumerate(kept)}
        near = sparse.csr_array((len(kept), len(kept)), dtype=np.float32)
        for ids, of_document in _blocks(documents, processor, table):
            near = near + _company(ids, of_document, len(kept), window)
        information = _positive_information(near) if near.nnz else near
        if not information.nnz:
            raise ValueError(
                f"no two of the {len(kept)} words that occur at least {min_count} times stand together more often than "
                "by chance: there is nothing to make vectors from; pass an encoder"
            )
        return cls(kept, _decompose(information, dim, seed))

    def encode(self, documents: Sequence[str], processor: TopicVQProcessor) -> list[np.ndarray]:
        """Return the (words, H) vectors of the known content words of each document."""
        return self.encode_words(documents, processor).split()

    def encode_words(
        self,
        documents: Sequence[str],
        processor: TopicVQProcessor,
        bow_text: Sequence[str] | None = None,
    ) -> EncodedWords:
        """Look up the content words of documents, or of `bow_text`: without contexts nothing else is read."""
        words = [
            [
                w
                for w, _, _ in processor.content_words(text if other is None else other)
                if w in self.word_to_id
            ]
            for text, other in pair_views(documents, bow_text)
        ]
        num_words = np.array([len(found) for found in words], dtype=np.int64)
        flat = [word for found in words for word in found]
        vectors = self.vectors[[self.word_to_id[word] for word in flat]].reshape(-1, self.dim)
        means = np.zeros((len(words), self.dim), dtype=np.float32)
        starts = (np.cumsum(num_words) - num_words)[num_words > 0]
        if len(starts):
            sums = np.add.reduceat(vectors, starts, axis=0)
            means[num_words > 0] = sums / num_words[num_words > 0, None].astype(np.float32)
        return EncodedWords(vectors, flat, num_words, means)

    def save(self, folder: str | Path) -> Path:
        """Write `encoder.safetensors` into a folder, such as that of the model."""
        path = Path(folder) / ENCODER_NAME
        path.parent.mkdir(parents=True, exist_ok=True)
        # One text for all words: the format's metadata has texts only.
        metadata = {"words": json.dumps(self.words)}
        save_file({"vectors": self.vectors.astype(np.float16)}, path, metadata=metadata)
        return path

    @classmethod
    def load(cls, folder: str | Path) -> "CorpusEncoder":
        """Read what `save` wrote."""
        with safe_open(Path(folder) / ENCODER_NAME, framework="numpy") as file:
            return cls(json.loads(file.metadata()["words"]), file.get_tensor("vectors"))


def _blocks(
    documents: Iterable[str], processor: TopicVQProcessor, table: dict[str, int]
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield the numbers of the words of some documents, one after the other, and of the documents."""
    ids: list[int] = []
    lengths: list[int] = []
    for text in check_documents(documents):
        found = [table[w] for w, _, _ in processor.content_words(text) if w in table]
        ids += found
        lengths.append(len(found))
        if len(ids) >= _BLOCK_WORDS:
            yield np.array(ids), np.repeat(np.arange(len(lengths)), lengths)
            ids, lengths = [], []
    yield np.array(ids, dtype=np.int64), np.repeat(np.arange(len(lengths)), lengths)


def _company(
    ids: np.ndarray, documents: np.ndarray, num_words: int, window: int
) -> sparse.csr_array:
    """Count which words stand near each other: symmetric (words, words), nearer pairs weigh more."""
    near = sparse.csr_array((num_words, num_words), dtype=np.float32)
    for distance in range(1, min(window, len(ids) - 1) + 1):
        together = documents[distance:] == documents[:-distance]
        pairs = (ids[:-distance][together], ids[distance:][together])
        weights = np.full(len(pairs[0]), (window + 1 - distance) / window, dtype=np.float32)
        near = near + sparse.csr_array((weights, pairs), shape=near.shape)
    return near + near.T


def _positive_information(near: sparse.csr_array) -> sparse.csr_array:
    """Return log(p(w, c) / (p(w) p(c)^0.75)), normalized, where it is positive."""
    pairs = near.tocoo()
    totals = near.sum(axis=1)
    smoothed = totals**0.75 / (totals**0.75).sum()
    information = np.log(pairs.data / (totals[pairs.row] * smoothed[pairs.col]))
    positive = information > 0
    return sparse.csr_array(
        (information[positive], (pairs.row[positive], pairs.col[positive])), shape=near.shape
    )


def _decompose(matrix: sparse.csr_array, dim: int, seed: int) -> np.ndarray:
    """Return (words, dim) vectors of length 1: left singular vectors times singular values^(1/2)."""
    rank = min(dim, matrix.shape[0] - 1)
    start = np.random.default_rng(seed).standard_normal(matrix.shape[0])
    left, values, _ = svds(matrix.astype(np.float64), k=rank, v0=start)
    order = np.argsort(-values)
    left = left[:, order]
    # A singular vector is determined up to its sign: its largest entry is positive.
    left *= np.sign(left[np.abs(left).argmax(axis=0), np.arange(rank)])
    vectors = left * np.sqrt(values[order])
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return (vectors / np.maximum(lengths, 1e-12)).astype(np.float32)
