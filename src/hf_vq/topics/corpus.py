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
"""Documents as TopicVQModel learns topics from them: a bag of codes and a bag of words each, eq. (7)."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from hf_vq._extras import require
from hf_vq.models.eval_mode import eval_mode

from .encoders import check_encoder, has_fast_bfloat16
from .growing_arrays import GrowingArrays, open_arrays, read_facts

require("scipy", extra="topics")

from scipy.sparse import csr_array, vstack  # noqa: E402

__all__ = ["TopicCorpus"]

_ARRAYS = {
    "code_counts": "<f4",
    "word_ids": "<i4",
    "word_frequencies": "<i4",
    "distinct_words": "<i4",
    "num_words": "<i4",
    "document_vectors": "<f4",
}
# Words whose bags are made at a time, and words in one pass of the autoencoder: few enough for their distances to all
# codes to stay in the processor's cache, which is twice as fast.
_PART_WORDS = 65_536
_BATCH_WORDS = 4096
# A larger vocabulary comes as sparse tensors: the zeros of dense ones would cost more than they save.
_DENSE_VOCABULARY = 4096


class TopicCorpus(Dataset):
    """The bags of documents; a data set whose batches are the arguments of `TopicVQModel`.

    Args:
        code_counts: (D, C) float32, in memory or mapped from disk.
        word_counts: (D, V) int32, sparse.
        num_words: (D,) content words of each document, in the vocabulary or not.
        document_vectors: (D, H) float32, for a model that reads them.

    Example:
        >>> counts = csr_array(np.array([[2, 0, 1], [0, 1, 0]], dtype=np.int32))
        >>> corpus = TopicCorpus(np.ones((2, 4), np.float32), counts, np.array([3, 1]))
        >>> corpus.collate([corpus[1]])["word_counts"]
        tensor([[0., 1., 0.]])
    """

    def __init__(
        self,
        code_counts: np.ndarray,
        word_counts: csr_array,
        num_words: np.ndarray,
        document_vectors: np.ndarray | None = None,
    ) -> None:
        self.code_counts, self.word_counts = code_counts, csr_array(word_counts)
        self.num_words, self.document_vectors = num_words, document_vectors
        lengths = {len(code_counts), self.word_counts.shape[0], len(num_words)}
        if document_vectors is not None:
            lengths.add(len(document_vectors))
        if len(lengths) > 1:
            raise ValueError(f"the parts of a corpus must be equally long, got {sorted(lengths)}")

    @classmethod
    def build(cls, model: Any, embeddings: Any, folder: str | Path | None = None) -> "TopicCorpus":
        """Make the bags of a corpus, eq. (7), with the codebook that the model has.

        Args:
            model: A `TopicVQModel` with a trained codebook.
            embeddings: `WordEmbeddings`, or `StreamedWordEmbeddings` of a corpus of any size.
            folder: Where to write the bags while they are made, so that they are never in memory as
                a whole, and an interrupted pass goes on where it stopped.
        """
        processor = embeddings.processor
        if processor.vocab_size != model.config.vocab_size:
            raise ValueError(
                f"the processor has {processor.vocab_size} words, the model {model.config.vocab_size}"
            )
        check_encoder(model.config, embeddings.fingerprint)
        if folder is None:
            rows = [_bags(model, part) for part in embeddings.parts(_PART_WORDS)]
            if not rows:
                raise ValueError("there are no documents to make bags of")
            columns = {name: np.concatenate([row[name] for row in rows]) for name in _ARRAYS}
            return cls._from_columns(columns, _facts(model))
        with GrowingArrays(folder, _ARRAYS, _facts(model)) as arrays:
            if not arrays.complete:
                for part in embeddings.parts(_PART_WORDS, arrays.num_documents):
                    arrays.append(_bags(model, part), len(part))
                arrays.finish()
        return cls.load(folder)

    @classmethod
    def _from_columns(cls, columns: dict[str, np.ndarray], facts: dict[str, int]) -> "TopicCorpus":
        starts = np.concatenate([[0], np.cumsum(columns["distinct_words"], dtype=np.int64)])
        if starts[-1] < 2**31:
            starts = starts.astype(np.int32)  # as wide as the ids, or both would be copied
        num_words = columns["num_words"]
        shape = (len(num_words), facts["vocab_size"])
        vectors = columns["document_vectors"].reshape(len(num_words), -1)
        return cls(
            columns["code_counts"].reshape(len(num_words), facts["codebook_size"]),
            csr_array((columns["word_frequencies"], columns["word_ids"], starts), shape=shape),
            np.asarray(num_words),
            vectors if vectors.size else None,
        )

    def save(self, folder: str | Path) -> None:
        """Write the corpus into a folder, from which `load` maps it."""
        facts = {
            "codebook_size": self.code_counts.shape[1],
            "vocab_size": self.word_counts.shape[1],
        }
        with GrowingArrays(folder, _ARRAYS, facts) as arrays:
            if not arrays.num_documents:
                vectors = self.document_vectors
                columns = _columns(self.code_counts, self.word_counts, self.num_words, vectors)
                arrays.append(columns, len(self))
            arrays.finish()

    @classmethod
    def load(cls, folder: str | Path) -> "TopicCorpus":
        """Open a corpus; the bags of codes stay on disk.

        Raises:
            ValueError: If there is none, or an unfinished one.
        """
        facts = read_facts(folder)
        if facts is None:
            raise ValueError(f"{str(folder)!r} holds no finished corpus")
        return cls._from_columns(open_arrays(folder, _ARRAYS), facts)

    def __len__(self) -> int:
        return len(self.num_words)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        """Return the row of one document as `collate` takes it."""
        (batch,) = self.__getitems__([index])
        return {name: rows[0] for name, rows in batch.items()}

    def __getitems__(self, indices: Sequence[int]) -> list[dict[str, torch.Tensor]]:
        """Return the batch of some documents in one go, as `DataLoader` asks for it.

        It is the one entry of a list, since `Trainer` looks through lists of dictionaries.
        """
        rows = np.asarray(indices)
        words = self.word_counts[rows].astype(np.float32)
        batch = {
            "code_counts": torch.from_numpy(self.code_counts[rows]),
            "word_counts": _tensor(words),
        }
        if self.document_vectors is not None:
            batch["document_vectors"] = torch.from_numpy(self.document_vectors[rows])
        return [batch]

    @staticmethod
    def collate(rows: Sequence[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
        """Make a batch of what the data set returned: rows, or the batch that it is already."""
        if len(rows) == 1 and rows[0]["code_counts"].ndim == 2:
            return rows[0]
        return {name: torch.stack([row[name] for row in rows]) for name in rows[0]}

    @classmethod
    def concatenate(cls, parts: Sequence["TopicCorpus"]) -> "TopicCorpus":
        """Return the documents of several corpora with the same codes and words."""
        vectors = [part.document_vectors for part in parts if part.document_vectors is not None]
        return cls(
            np.concatenate([part.code_counts for part in parts]),
            vstack([part.word_counts for part in parts], format="csr"),
            np.concatenate([part.num_words for part in parts]),
            np.concatenate(vectors) if len(vectors) == len(parts) else None,
        )


def _facts(model: Any) -> dict[str, int]:
    config = model.config
    return {"codebook_size": config.codebook_size, "vocab_size": config.vocab_size}


def _tensor(words: csr_array) -> torch.Tensor:
    if words.shape[1] <= _DENSE_VOCABULARY:
        return torch.from_numpy(words.toarray())
    # Coordinates, since PyTorch warns that its rows in compressed form are unfinished.
    pairs = words.tocoo()
    places = torch.from_numpy(np.stack([pairs.row, pairs.col]).astype(np.int64))
    counts = torch.from_numpy(pairs.data)
    return torch.sparse_coo_tensor(
        places, counts, words.shape, is_coalesced=True, check_invariants=False
    )


def _bags(model: Any, part: Any) -> dict[str, np.ndarray]:
    """Return the rows of some documents, given their word embeddings."""
    codes, weights = _expand(model, part.vectors)
    # Documents without words are in no pair of a document and a code; one count over all pairs, as adding in place is
    # many times slower.
    num_codes = model.config.codebook_size
    documents = np.repeat(np.arange(len(part)), part.num_words)
    pairs = documents[:, None] * num_codes + codes
    sums = np.bincount(pairs.ravel(), weights.ravel(), minlength=len(part) * num_codes)
    vectors = part.document_vectors if model.config.document_vector else None
    return _columns(sums.astype(np.float32), part.word_counts, part.num_words, vectors)


@torch.no_grad()
def _expand(model: Any, vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return codes and weights, (words, codes_per_token) each."""
    shape = (len(vectors), model.config.codes_per_token)
    codes, weights = np.empty(shape, np.int64), np.empty(shape, np.float32)
    device = model.device
    autocast = torch.autocast(device.type, torch.bfloat16, enabled=has_fast_bfloat16(device))
    with eval_mode(model), autocast:
        for start in range(0, len(vectors), _BATCH_WORDS):
            rows = slice(start, start + _BATCH_WORDS)
            words = torch.from_numpy(np.array(vectors[rows])).to(device).float()
            output = model.encode(words[None])
            codes[rows] = output.codes[0].cpu().numpy()
            weights[rows] = output.code_weights[0].float().cpu().numpy()
    return codes, weights


def _columns(
    bags: np.ndarray, words: csr_array, num_words: np.ndarray, vectors: np.ndarray | None
) -> dict[str, np.ndarray]:
    return {
        "code_counts": bags.ravel(),
        "word_ids": words.indices,
        "word_frequencies": words.data,
        "distinct_words": np.diff(words.indptr),
        "num_words": num_words,
        "document_vectors": np.empty(0, np.float32) if vectors is None else vectors.ravel(),
    }
