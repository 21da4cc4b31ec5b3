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
"""A vector for each content word of a document, in its context: any encoder of the Hub."""

import hashlib
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from transformers import AutoModel, AutoTokenizer

from hf_vq.models.processing_topic_vq import DocumentWindows, TopicVQProcessor

logger = logging.getLogger(__name__)

__all__ = [
    "ContextualEncoder",
    "EncodedWords",
    "WordEncoder",
    "check_encoder",
    "has_fast_bfloat16",
]


@dataclass
class EncodedWords:
    """The vectors of the words of some documents.

    Args:
        vectors: (T, H) float32, the words of all documents one after the other.
        words: Those T words.
        num_words: (D,) how many of them each document has.
        document_vectors: (D, H) float32, mean over everything that the encoder read of a document.
        counted_words: The words of each document that are counted, if those are others.
    """

    vectors: np.ndarray
    words: list[str]
    num_words: np.ndarray
    document_vectors: np.ndarray
    counted_words: list[list[str]] | None = None

    def split(self) -> list[np.ndarray]:
        """Return the (words, H) vectors of each document."""
        return np.split(self.vectors, np.cumsum(self.num_words)[:-1])


class WordEncoder(Protocol):
    """What gives words their vectors."""

    @property
    def fingerprint(self) -> str:
        """What identifies the vectors: equal for equal weights, wherever they were loaded from."""

    @property
    def dim(self) -> int:
        """H, the width of a vector."""

    def encode_words(
        self,
        documents: Sequence[str],
        processor: TopicVQProcessor,
        bow_text: Sequence[str] | None = None,
    ) -> EncodedWords:
        """Encode the content words of documents, called as in `bow_text` where that is given."""


class ContextualEncoder:
    """Any encoder of transformers with a fast tokenizer; a word is pooled over its pieces.

    Texts are read as they are and whole: a long one in windows, so that no word is lost. Windows of
    equal length share a batch: no padding, by which the rounding of bfloat16 would depend on a
    text's company.

    Args:
        name_or_path: Hub id or folder.
        revision: Commit, branch or tag of a Hub id.
        layer: Layer whose states are taken, -1 for the last; the mean over several.
        pooling: `"mean"` over the pieces of a word, the `"first"` piece, or `"single_piece"`: words
            of several pieces are dropped, as in the authors' code.
        device: Where to run; a GPU if there is one.
        dtype: Precision of the matrix products; bfloat16 where the device is fast at it. The vectors
            are float32 in any case.
        max_length: Pieces of a window, or the encoder's own limit if that is less.
        batch_tokens: Pieces of a batch.

    Example:
        >>> encoder = ContextualEncoder("sentence-transformers/all-MiniLM-L6-v2")  # doctest: +SKIP
        >>> encoder.encode(["the cat sleeps"], TopicVQProcessor())[0].shape  # doctest: +SKIP
        (3, 384)
    """

    def __init__(
        self,
        name_or_path: str | Path,
        revision: str | None = None,
        layer: int | Sequence[int] = -1,
        pooling: str = "mean",
        device: str | torch.device | None = None,
        dtype: torch.dtype | None = None,
        max_length: int = 256,
        batch_tokens: int = 8192,
    ) -> None:
        if pooling not in ("mean", "first", "single_piece"):
            raise ValueError(f"pooling must be 'mean', 'first' or 'single_piece', got {pooling!r}")
        self.name_or_path, self.revision, self.pooling = str(name_or_path), revision, pooling
        self.layers = [layer] if isinstance(layer, int) else list(layer)
        self.tokenizer = AutoTokenizer.from_pretrained(self.name_or_path, revision=revision)
        if not self.tokenizer.is_fast:
            raise ValueError(f"the tokenizer of {self.name_or_path!r} must be a fast one")
        model = AutoModel.from_pretrained(
            self.name_or_path, revision=revision, dtype=torch.float32, use_safetensors=True
        )
        model = model.get_encoder() if hasattr(model, "decoder") else model
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self.dtype = dtype or (torch.bfloat16 if has_fast_bfloat16(self.device) else torch.float32)
        self.model = model.to(self.device).eval().requires_grad_(False)
        num_layers = self.model.config.num_hidden_layers
        for number in self.layers:
            if not -num_layers - 1 <= number <= num_layers:
                raise ValueError(
                    f"layer must be from {-num_layers - 1} to {num_layers} for "
                    f"{self.name_or_path!r}, got {number}"
                )
        self.max_length = min(max_length, _length_limit(self.model.config, self.tokenizer))
        self.batch_tokens = batch_tokens
        self.fingerprint = self._fingerprint()

    @property
    def dim(self) -> int:
        """H, the width of a vector."""
        return self.model.config.hidden_size

    def _fingerprint(self) -> str:
        """Hash what decides the vectors; of each weight a sample is enough to know it by."""
        digest = hashlib.sha256(repr((sorted(self.layers), self.pooling, self.max_length)).encode())
        digest.update(repr(sorted(self.tokenizer.get_vocab().items())).encode())
        for name, weight in sorted(self.model.state_dict().items()):
            digest.update(f"{name} {tuple(weight.shape)}".encode())
            values = weight.detach().flatten()
            sample = values[:: max(1, len(values) // 1024)].cpu()
            digest.update(sample.numpy().tobytes())
        return f"sha256:{digest.hexdigest()[:32]}"

    def encode(self, documents: Sequence[str], processor: TopicVQProcessor) -> list[np.ndarray]:
        """Return the (words, H) vectors of the content words of each document."""
        return self.encode_words(documents, processor).split()

    def encode_words(
        self,
        documents: Sequence[str],
        processor: TopicVQProcessor,
        bow_text: Sequence[str] | None = None,
    ) -> EncodedWords:
        """Encode the content words of documents; see `TopicVQProcessor.content_words`."""
        found = processor.windows(documents, self.tokenizer, self.max_length, bow_text)
        pairs = _selected_pairs(found, self.pooling)
        first_pair = np.searchsorted(found.piece_window[pairs], np.arange(len(found.input_ids) + 1))
        sums = torch.zeros(len(found.words), self.dim)
        document_sums = torch.zeros(len(found.num_words), self.dim)
        for batch in self._batches(found.input_ids):
            states = self._run([found.input_ids[window] for window in batch])
            of_document = torch.from_numpy(found.window_to_document[batch])
            document_sums.index_add_(0, of_document, states.sum(1))
            ranges = [np.arange(first_pair[w], first_pair[w + 1]) for w in batch]
            rows = np.repeat(np.arange(len(batch)), [len(r) for r in ranges])
            pair = pairs[np.concatenate(ranges)]
            flat = torch.from_numpy(rows * states.shape[1] + found.piece_position[pair])
            of_word = torch.from_numpy(found.piece_word[pair])
            sums.index_add_(0, of_word, states.flatten(0, 1)[flat])
        num_pieces = np.bincount(found.piece_word[pairs], minlength=len(found.words))
        lengths = np.array([len(ids) for ids in found.input_ids])
        read = np.bincount(found.window_to_document, lengths, minlength=len(found.num_words))
        # A word without a piece, of characters that the tokenizer drops, has no vector.
        kept = np.flatnonzero(num_pieces)
        vectors = sums.numpy()[kept] / num_pieces[kept, None].astype(np.float32)
        document = np.repeat(np.arange(len(found.num_words)), found.num_words)[kept]
        return EncodedWords(
            vectors,
            [found.words[i] for i in kept],
            np.bincount(document, minlength=len(found.num_words)),
            document_sums.numpy() / np.maximum(read, 1)[:, None].astype(np.float32),
        )

    def _batches(self, input_ids: list[list[int]]) -> Iterator[np.ndarray]:
        """Yield the numbers of windows of equal length, the longest first; a text may have no piece at all."""
        lengths = np.array([len(ids) for ids in input_ids])
        for length in np.unique(lengths[lengths > 0])[::-1]:
            windows = np.flatnonzero(lengths == length)
            size = max(1, self.batch_tokens // length)
            for start in range(0, len(windows), size):
                yield windows[start : start + size]

    @torch.inference_mode()
    def _run(self, input_ids: list[list[int]]) -> torch.Tensor:
        """Return the states (B, T, H) of windows of equal length, in float32 on the CPU."""
        ids = torch.tensor(input_ids, dtype=torch.long)
        with torch.autocast(
            self.device.type, dtype=self.dtype, enabled=self.dtype != torch.float32
        ):
            output = self.model(
                input_ids=ids.to(self.device),
                attention_mask=torch.ones_like(ids).to(self.device),
                output_hidden_states=self.layers != [-1],
            )
        if self.layers == [-1]:
            states = output.last_hidden_state
        else:
            states = torch.stack([output.hidden_states[i].float() for i in self.layers]).mean(0)
        return states.float().cpu()


def _selected_pairs(found: DocumentWindows, pooling: str) -> np.ndarray:
    """Return the numbers of the (piece, word) pairs that go into the vectors."""
    if pooling == "mean":
        return np.arange(len(found.piece_word))
    if pooling == "first":
        return np.unique(found.piece_word, return_index=True)[1]
    counts = np.bincount(found.piece_word, minlength=len(found.words))
    return np.flatnonzero(counts[found.piece_word] == 1)


def check_encoder(config: Any, fingerprint: str) -> None:
    """Refuse word embeddings of another encoder: their codes would mean nothing, and nobody would see it."""
    if config.encoder_fingerprint not in (None, fingerprint):
        raise ValueError(
            f"the model was trained with the encoder {config.encoder_name_or_path!r} of fingerprint "
            f"{config.encoder_fingerprint!r}, and this one has {fingerprint!r}: use the same weights, layer and pooling"
        )


def has_fast_bfloat16(device: torch.device) -> bool:
    """Return whether bfloat16 makes matrix products faster there, instead of being imitated."""
    if device.type == "cpu":
        return torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)


def _length_limit(config: Any, tokenizer: Any) -> int:
    """Return how many pieces the encoder can read at once."""
    positions = getattr(config, "max_position_embeddings", None) or 2**30
    # RoBERTa counts its positions from behind the padding token.
    from_padding = config.model_type in ("roberta", "xlm-roberta", "camembert", "mpnet")
    return min(positions - 2 * from_padding, tokenizer.model_max_length, 2**30)
