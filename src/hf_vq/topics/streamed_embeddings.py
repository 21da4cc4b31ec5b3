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
"""Word embeddings of a corpus that are kept nowhere: made again whenever they are read."""

import hashlib
import heapq
import json
from collections.abc import Iterable, Iterator
from itertools import islice

import numpy as np

from hf_vq.models.processing_topic_vq import TopicVQProcessor, check_documents, pair_views

from .encoders import WordEncoder
from .word_embeddings import WordEmbeddings, encode_chunks, in_memory

__all__ = ["StreamedWordEmbeddings"]

# An English content word with the stop words, spaces and marks around it; other languages have fewer.
_CHARACTERS_PER_WORD = 12
_DIGESTED_DOCUMENTS = 1000


class StreamedWordEmbeddings:
    """What training needs of `WordEmbeddings`, for corpora whose embeddings do not fit on disk.

    The codebook sees the words of a sample of documents, the bags are made while the corpus is read
    a second time; at no time are more than some thousand documents in memory.

    Args:
        documents: Texts that can be read several times, such as a list, a `TextStream`, or a column
            of a data set; not a generator.
        processor: Finds and counts words.
        encoder: A `ContextualEncoder` or `CorpusEncoder`.
        bow_text: Another form of each document whose words are counted, likewise.

    Raises:
        ValueError: If the documents can be read only once.
    """

    def __init__(
        self,
        documents: Iterable[str],
        processor: TopicVQProcessor,
        encoder: WordEncoder,
        bow_text: Iterable[str] | None = None,
    ) -> None:
        for texts in (documents, bow_text):
            if texts is not None and iter(texts) is texts:
                raise ValueError(
                    f"documents are read several times, which a {type(texts).__name__} cannot be: "
                    "pass a list or a TextStream"
                )
        self.bow_text = bow_text
        self.documents, self.processor, self.encoder = documents, processor, encoder

    @property
    def dim(self) -> int:
        """H, the width of a vector."""
        return self.encoder.dim

    @property
    def fingerprint(self) -> str:
        """The encoder's."""
        return self.encoder.fingerprint

    @property
    def documents_digest(self) -> str:
        """A hash of the first documents, by which an interrupted run knows them again; all would take a pass more."""
        digest = hashlib.sha256()
        for views in islice(pair_views(self.documents, self.bow_text), _DIGESTED_DOCUMENTS):
            digest.update(json.dumps(views).encode())
        return digest.hexdigest()

    def sample(self, n: int, seed: int = 0) -> np.ndarray:
        """Return (n, H) float32 vectors of the words of documents drawn at random, fewer if there are not as many.

        One pass over the texts draws the documents, of which only these are encoded.
        """
        generator = np.random.default_rng(seed)
        # The documents with the smallest of random numbers, as many as are needed for the words.
        drawn: list[tuple[float, str, str | None]] = []
        characters = 0
        for text, other in pair_views(self.documents, self.bow_text):
            heapq.heappush(drawn, (-generator.random(), text, other))
            characters += len(text)
            while characters - len(drawn[0][1]) >= n * _CHARACTERS_PER_WORD:
                characters -= len(heapq.heappop(drawn)[1])
        drawn.sort()
        texts = [text for _, text, _ in drawn]
        others = None if self.bow_text is None else [str(other) for _, _, other in drawn]
        found, total = [], 0
        for encoded in encode_chunks(texts, self.processor, self.encoder, bow_text=others):
            found.append(encoded.vectors)
            total += len(encoded.vectors)
            if total >= n:
                break
        vectors = np.concatenate(found) if found else np.empty((0, self.dim), np.float32)
        return vectors[generator.permutation(len(vectors))[:n]]

    def parts(self, max_words: int, start: int = 0) -> Iterator[WordEmbeddings]:
        """Yield the embeddings of documents `start` and following, about `max_words` at a time."""
        rest = islice(check_documents(self.documents), start, None)
        others = None if self.bow_text is None else islice(self.bow_text, start, None)
        limit = max_words * _CHARACTERS_PER_WORD
        for encoded in encode_chunks(rest, self.processor, self.encoder, limit, others):
            yield in_memory([encoded], self.processor, self.fingerprint)
