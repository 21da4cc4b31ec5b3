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
"""The word autoencoder of TopicVQ: word embeddings to a few codes each, and back.

It works on rows, one for each word, whatever documents they are from. Equation numbers refer to docs/topics.md,
those of the moving averages to docs/quantization.md.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from .configuration_topic_vq import TopicVQConfig
from .vector_quantization import Quantizer, nearest_codes, straight_through


@dataclass
class Expansion:
    """What the quantizer makes of `W` words.

    Attributes:
        codes: `(W, codes_per_token)`, nearest first.
        code_weights: `(W, codes_per_token)`.
        quantized: `(W, codebook_dim)`; in training with the gradient of the latents.
        codebook_loss: `()`, first term of eq. (5); 0 if the codebook follows moving averages.
        commitment_loss: `()`, second term of eq. (5), unweighted.
    """

    codes: torch.Tensor
    code_weights: torch.Tensor
    quantized: torch.Tensor
    codebook_loss: torch.Tensor
    commitment_loss: torch.Tensor


class ExpansionQuantizer(Quantizer):
    """Each word becomes its `codes_per_token` nearest codes with weights, eq. (2)-(5).

    With moving averages a code follows the mean of the words around it, weighted by the code's weights:
    (4)-(7) of docs/quantization.md with weights in place of indicators.
    """

    def __init__(self, config: TopicVQConfig):
        """See the class."""
        super().__init__(
            config.codebook_size,
            config.codebook_dim,
            learned_codebook=config.codebook_update == "gradient",
            ema_decay=config.ema_decay,
            revival_threshold=config.revival_threshold,
        )
        self.config = config

    def initial_values(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """As in the base class, with a codebook as the configuration wants it before it sees data."""
        for tensor, value in super().initial_values():
            if tensor is self.codebook and self.config.codebook_init == "normal":
                value = 0.02 * value
            elif tensor is self.codebook and self.config.codebook_init == "uniform":
                value = 2 * torch.rand_like(value) - 1
            yield tensor, value

    @property
    def code_vectors(self) -> torch.Tensor:
        """What latents are compared with, `(codebook_size, codebook_dim)`."""
        if self.config.distance == "cosine":
            return F.normalize(self.codebook, dim=-1)
        return self.codebook

    @torch.no_grad()
    def expand(self, latents: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Latents `(W, D)` to codes and weights `(W, n)`, eq. (2) and (3)."""
        number, vectors = self.config.codes_per_token, self.code_vectors
        codes = nearest_codes(latents, vectors, k=number).view(-1, number)
        if self.config.expansion_weights == "ones":
            return codes, self.fixed_weights(codes)
        differences = latents.float()[:, None] - F.embedding(codes, vectors)
        distances = differences.square_().sum(dim=-1)
        if self.config.expansion_weights == "softmax":
            weights = torch.softmax(-distances / self.config.expansion_temperature, dim=-1)
        else:
            # A latent may equal a code; the clamp only says how much the other codes then weigh.
            weights = F.normalize(1 / distances.clamp_min(1e-6), dim=-1)
        return codes, self._reduce(weights)

    def fixed_weights(self, codes: torch.Tensor) -> torch.Tensor:
        """The weights `(W, n)` of codes at equal distances."""
        weights = torch.ones(codes.shape, device=codes.device)
        if self.config.expansion_weights == "inverse_distance":
            weights = F.normalize(weights, dim=-1)
        elif self.config.expansion_weights == "softmax":
            weights = weights / self.config.codes_per_token
        return self._reduce(weights)

    def _reduce(self, weights: torch.Tensor) -> torch.Tensor:
        if self.config.expansion_reduction == "sum":
            return weights
        return weights / weights.sum(dim=-1, keepdim=True)

    def combine(self, codes: torch.Tensor, code_weights: torch.Tensor) -> torch.Tensor:
        """Codes and weights `(W, n)` to vectors `(W, D)`, eq. (4)."""
        return F.embedding_bag(
            codes, self.code_vectors, mode="sum", per_sample_weights=code_weights.float()
        )

    def forward(self, latents: torch.Tensor) -> Expansion:
        """Latents `(W, D)` of words that are all there; in training the codebook follows them."""
        codes, code_weights = self.expand(latents)
        quantized = self.combine(codes, code_weights)
        commitment_loss = codebook_loss = squared_error(quantized.detach(), latents)
        if self.learned_codebook:
            codebook_loss = squared_error(quantized, latents.detach())
        else:
            codebook_loss = torch.zeros_like(commitment_loss)
        if self.training:
            quantized = straight_through(latents, quantized)
            words = torch.arange(codes.shape[0], device=codes.device)
            words = words.repeat_interleave(self.config.codes_per_token)
            if codes.shape[0]:
                rows = latents.detach().float()[words]
                self._collect(rows, codes.flatten(), code_weights.flatten())
            if not self.deferred_update:
                self.apply_update()
        return Expansion(codes, code_weights, quantized, codebook_loss, commitment_loss)


def squared_error(values: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Mean over all elements; 0 for a batch of documents without any word, whose mean would be no number."""
    return F.mse_loss(values, targets) if values.shape[0] else values.sum()


class FeedForward(nn.Module):
    """Linear layers with a nonlinearity between them, and none after the last."""

    def __init__(self, widths: list[int], activation: str, last_bias: bool = True):
        """See the class; `activation` is a name in `torch`."""
        super().__init__()
        last = len(widths) - 2
        self.activation = activation
        self.layers = nn.ModuleList(
            nn.Linear(narrow, wide, bias=last_bias or index < last)
            for index, (narrow, wide) in enumerate(zip(widths, widths[1:], strict=False))
        )

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """`(*, widths[0])` to `(*, widths[-1])`."""
        activation = getattr(torch, self.activation)
        for layer in self.layers[:-1]:
            hidden = activation(layer(hidden))
        return self.layers[-1](hidden)


class WordAutoencoder(nn.Module):
    """Rows of word embeddings to latents of norm 1, to codes, and back to word embeddings, eq. (1)-(6)."""

    def __init__(self, config: TopicVQConfig):
        """See the class."""
        super().__init__()
        self.config = config
        hidden: Any = config.autoencoder_hidden_sizes
        widths = [config.word_embedding_dim, *hidden, config.codebook_dim]
        self.encoder = FeedForward(widths, "relu")
        self.decoder = FeedForward(widths[::-1], "relu")
        self.quantizer = ExpansionQuantizer(config)
        self.embedding_mean = nn.Buffer(torch.zeros(config.word_embedding_dim))
        self.embedding_std = nn.Buffer(torch.ones(config.word_embedding_dim))

    def initial_values(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Each tensor of its own and what it starts as."""
        yield self.embedding_mean, torch.zeros_like(self.embedding_mean)
        yield self.embedding_std, torch.ones_like(self.embedding_std)

    @property
    def dtype(self) -> torch.dtype:
        """In which it computes; codes are decided in float32."""
        layer: Any = self.encoder.layers[0]
        return layer.weight.dtype

    def scale(self, embeddings: torch.Tensor) -> torch.Tensor:
        """Embeddings `(*, H)` as the encoder takes them."""
        if self.config.embedding_scaling == "none":
            return embeddings.to(self.dtype)
        return ((embeddings.float() - self.embedding_mean) / self.embedding_std).to(self.dtype)

    def encode(self, scaled: torch.Tensor) -> torch.Tensor:
        """Scaled rows `(W, H)` to latents `(W, codebook_dim)`, eq. (1), normalized in float32."""
        return F.normalize(self.encoder(scaled).float(), dim=-1).to(self.dtype)

    def decode(self, quantized: torch.Tensor) -> torch.Tensor:
        """Vectors `(*, codebook_dim)` to word embeddings `(*, H)` as they were before scaling."""
        return self._unscale(self.decoder(quantized.to(self.dtype)))

    def _unscale(self, scaled: torch.Tensor) -> torch.Tensor:
        if self.config.embedding_scaling == "none":
            return scaled
        return (scaled.float() * self.embedding_std + self.embedding_mean).to(scaled.dtype)

    @torch.no_grad()
    def set_principal_directions(self, rows: torch.Tensor) -> None:
        """Make one layer each of encoder and decoder those of a principal component analysis, eq. (26)."""
        scaled = self.scale(rows).float()
        mean = scaled.mean(dim=0)
        centered = scaled - mean
        covariance = centered.T @ centered / len(centered)
        encoder: Any = self.encoder.layers[0]
        decoder: Any = self.decoder.layers[0]
        # Eigenvalues ascend. With more dimensions than embeddings have, the rest stays at zero. On the CPU, since not
        # every accelerator knows eigenvectors.
        vectors = torch.linalg.eigh(covariance.cpu()).eigenvectors.to(rows.device)
        directions = vectors.flip(1)[:, : len(encoder.weight)]
        projections = centered @ directions
        encoder.weight.zero_()
        encoder.weight[: directions.shape[1]] = directions.T
        encoder.bias.copy_(-encoder.weight.float() @ mean)
        # The decoder reads directions without lengths: the mean length is the best guess.
        decoder.weight.copy_(projections.norm(dim=1).mean() * encoder.weight.T)
        decoder.bias.copy_(mean)

    def forward(
        self, rows: torch.Tensor, bypass_quantizer: bool = False
    ) -> dict[str, torch.Tensor]:
        """Rows `(W, H)` to what `TopicVQOutput` has of words, still in rows, and their losses."""
        scaled = self.scale(rows)
        latents = self.encode(scaled)
        inputs = F.dropout(latents, self.config.latent_dropout, self.training)
        output = {"latents": latents}
        quantized = inputs
        if not bypass_quantizer:
            expansion = self.quantizer(inputs.float())
            quantized = expansion.quantized.to(self.dtype)
            output |= {
                "codebook_loss": expansion.codebook_loss,
                "commitment_loss": expansion.commitment_loss,
                "codes": expansion.codes,
                "code_weights": expansion.code_weights,
                "quantized": quantized,
            }
        decoded = self.decoder(quantized)
        output["reconstruction_loss"] = squared_error(decoded.float(), scaled.float())
        output["reconstruction"] = self._unscale(decoded)
        return output
