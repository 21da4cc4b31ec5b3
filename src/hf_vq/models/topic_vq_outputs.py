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
"""What the methods of TopicVQModel return. Equation numbers refer to docs/topics.md."""

from dataclasses import dataclass

import torch
from transformers.utils import ModelOutput


@dataclass
class TopicVQEncoderOutput(ModelOutput):
    """What `encode` returns, for `B` documents of at most `N` words; at masked positions -1 and zeros.

    Attributes:
        codes: `(B, N, codes_per_token)`, integers in `[0, codebook_size)`, nearest first.
        code_weights: `(B, N, codes_per_token)`, eq. (3).
        latents: `(B, N, codebook_dim)`, of norm 1, eq. (1).
        quantized: `(B, N, codebook_dim)`, eq. (4).
    """

    codes: torch.LongTensor | None = None
    code_weights: torch.FloatTensor | None = None
    latents: torch.FloatTensor | None = None
    quantized: torch.FloatTensor | None = None


@dataclass
class TopicVQDecoderOutput(ModelOutput):
    """What `decode` returns.

    Attributes:
        reconstruction: `(B, N, word_embedding_dim)`, word embeddings.
    """

    reconstruction: torch.FloatTensor | None = None


@dataclass
class TopicVQOutput(ModelOutput):
    """What `forward` returns; what the objective or the inputs leave out is `None`.

    Losses of words are means over the words that the mask keeps and their dimensions, those of topics are
    means over documents (sums with `loss_reduction="sum"`), in nats.

    Attributes:
        loss: `()`, weighted sum of the losses below, eq. (6), (16) or both.
        reconstruction_loss: `()`, squared error of the word embeddings, eq. (6).
        codebook_loss: `()`, first term of eq. (5); 0 if the codebook follows moving averages.
        commitment_loss: `()`, second term of eq. (5), before its weight.
        word_loss: `()`, negative log-likelihood of a document's words, eq. (15).
        code_loss: `()`, negative log-likelihood of a document's codes, eq. (12).
        kl_loss: `()`, eq. (11), before its weight and the warm-up of eq. (19).
        separation_loss: `()`, eq. (20) or (33).
        seed_loss: `()`, eq. (25).
        reconstruction: `(B, N, word_embedding_dim)`.
        topic_proportions: `(B, K)`, a draw in training, otherwise of the posterior's mean.
        posterior_mean: `(B, K)`, before the softmax.
        posterior_log_variance: `(B, K)`.
        codes: `(B, N, codes_per_token)`; this and the next three as in `TopicVQEncoderOutput`.
        code_weights: `(B, N, codes_per_token)`.
        latents: `(B, N, codebook_dim)`.
        quantized: `(B, N, codebook_dim)`; in training with the gradient of the latents.
        code_counts: `(B, codebook_size)`, the bag of eq. (7).
        word_log_probs: `(B, V)`, eq. (15); only when asked for.
    """

    loss: torch.FloatTensor | None = None
    reconstruction_loss: torch.FloatTensor | None = None
    codebook_loss: torch.FloatTensor | None = None
    commitment_loss: torch.FloatTensor | None = None
    word_loss: torch.FloatTensor | None = None
    code_loss: torch.FloatTensor | None = None
    kl_loss: torch.FloatTensor | None = None
    separation_loss: torch.FloatTensor | None = None
    seed_loss: torch.FloatTensor | None = None
    reconstruction: torch.FloatTensor | None = None
    topic_proportions: torch.FloatTensor | None = None
    posterior_mean: torch.FloatTensor | None = None
    posterior_log_variance: torch.FloatTensor | None = None
    codes: torch.LongTensor | None = None
    code_weights: torch.FloatTensor | None = None
    latents: torch.FloatTensor | None = None
    quantized: torch.FloatTensor | None = None
    code_counts: torch.FloatTensor | None = None
    word_log_probs: torch.FloatTensor | None = None


__all__ = ["TopicVQDecoderOutput", "TopicVQEncoderOutput", "TopicVQOutput"]
