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
"""What TopicVQModel takes: checks of shapes, and padded documents as rows of words and back."""

import torch

from .configuration_topic_vq import TopicVQConfig


def check_words(
    config: TopicVQConfig, word_embeddings: torch.Tensor, word_mask: torch.Tensor | None
) -> torch.Tensor | None:
    """Refuses word embeddings or a mask of another shape; returns the mask, `None` if it keeps all."""
    width = config.word_embedding_dim
    if word_embeddings.ndim != 3 or word_embeddings.shape[2] != width:
        raise ValueError(
            f"word_embeddings have shape {tuple(word_embeddings.shape)}, expected (documents, words, {width})"
        )
    if word_mask is not None and (
        word_mask.dtype != torch.bool or word_mask.shape != word_embeddings.shape[:2]
    ):
        raise ValueError(
            f"word_mask is {word_mask.dtype} of shape {tuple(word_mask.shape)}, expected torch.bool of shape "
            f"{tuple(word_embeddings.shape[:2])}"
        )
    return word_mask


def check_codes(config: TopicVQConfig, codes: torch.Tensor) -> None:
    """Refuses what are no codes `(B, N, codes_per_token)`, with -1 for padding."""
    number, size = config.codes_per_token, config.codebook_size
    if codes.is_floating_point() or codes.ndim != 3 or codes.shape[2] != number:
        raise ValueError(
            f"codes are {codes.dtype} of shape {tuple(codes.shape)}, expected integers (documents, words, "
            f"{number})"
        )
    if codes.numel():
        low, high = codes.aminmax()
        if low < -1 or high >= size:
            raise ValueError(
                f"codes range from {low} to {high}, expected 0 to {size - 1}, or -1 for padding"
            )


def check_code_counts(config: TopicVQConfig, code_counts: torch.Tensor) -> None:
    """Refuses what are no bags `(B, codebook_size)`."""
    size = config.codebook_size
    if code_counts.ndim != 2 or code_counts.shape[1] != size:
        raise ValueError(
            f"code_counts have shape {tuple(code_counts.shape)}, expected (documents, {size})"
        )


def check_word_counts(config: TopicVQConfig, word_counts: torch.Tensor, num_documents: int) -> None:
    """Refuses what are no counts `(num_documents, vocab_size)`."""
    expected = (num_documents, config.vocab_size)
    if tuple(word_counts.shape) != expected:
        raise ValueError(f"word_counts have shape {tuple(word_counts.shape)}, expected {expected}")


def word_rows(values: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    """`(B, N, *)` to the rows of its words, `(W, *)`."""
    return values.flatten(0, 1) if mask is None else values[mask]


def word_positions(
    rows: torch.Tensor, mask: torch.Tensor | None, like: torch.Tensor, fill: float = 0
) -> torch.Tensor:
    """The other way round: rows `(W, *)` back to `(B, N, *)`, and `fill` where there is no word."""
    if mask is None:
        return rows.unflatten(0, like.shape[:2])
    positions = rows.new_full((*like.shape[:2], rows.shape[1]), fill)
    positions[mask] = rows
    return positions


__all__ = [
    "check_code_counts",
    "check_codes",
    "check_word_counts",
    "check_words",
    "word_positions",
    "word_rows",
]
