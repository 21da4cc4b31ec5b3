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
"""Layers of TopicVQ: the word autoencoder, the expansion of a word into codes, and the decoder of topics into words.

Equation numbers refer to docs/topics.md, those of the moving averages to docs/quantization.md.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn
from transformers import PreTrainedModel
from transformers import initialization as init

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
        commitment_loss = codebook_loss = F.mse_loss(quantized.detach(), latents)
        if self.learned_codebook:
            codebook_loss = F.mse_loss(quantized, latents.detach())
        else:
            codebook_loss = torch.zeros_like(commitment_loss)
        if self.training:
            quantized = straight_through(latents, quantized)
            words = torch.arange(len(codes), device=codes.device)
            words = words.repeat_interleave(self.config.codes_per_token)
            self._collect(latents.detach().float()[words], codes.flatten(), code_weights.flatten())
            if not self.deferred_update:
                self.apply_update()
        return Expansion(codes, code_weights, quantized, codebook_loss, commitment_loss)


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


class TopicWordDecoder(nn.Module):
    """Topic embeddings `(K, D)` to scores of words `(K, V)`, eq. (14).

    Standardized over the topics, which are always all there: so there are no running moments.
    """

    def __init__(self, config: TopicVQConfig):
        """See the class."""
        super().__init__()
        self.standardization = config.topic_standardization
        hidden = config.word_decoder_hidden_sizes if config.word_decoder == "mlp" else []
        widths = [config.codebook_dim, *hidden, config.vocab_size]
        # Standardization would take a bias of the last layer away again, and "linear" has none.
        bias = config.word_decoder == "mlp" and not config.topic_standardization
        self.network = FeedForward(widths, "tanh", last_bias=bias)

    def forward(self, topic_embeddings: torch.Tensor) -> torch.Tensor:
        """See the class."""
        scores = self.network(topic_embeddings).float()
        if not self.standardization:
            return scores
        centered = scores - scores.mean(dim=0)
        return centered * torch.rsqrt(centered.square().mean(dim=0) + 1e-5)


class LossWarmup(nn.Module):
    """Counts the updates of the topic stage, in which a weight rises from 0 to 1, eq. (19).

    State, so that a resumed stage goes on; not begun, it is at its end. `deferred_update` as in `Quantizer`.
    """

    def __init__(self) -> None:
        """See the class."""
        super().__init__()
        self.deferred_update = False
        self.num_updates = nn.Buffer(torch.zeros((), dtype=torch.int64))
        self.num_steps = nn.Buffer(torch.zeros((), dtype=torch.int64))

    def begin(self, num_steps: int) -> None:
        """Start at 0 and rise over so many updates."""
        self.num_updates.zero_()
        self.num_steps.fill_(num_steps)

    def forward(self) -> torch.Tensor:
        """The factor of the weight: in eval mode always 1."""
        factor = (self.num_updates / self.num_steps.clamp_min(1)).clamp_max(1)
        factor = torch.where(self.num_steps > 0, factor, 1.0)
        if self.training and not self.deferred_update:
            self.apply_update()
        return factor if self.training else torch.ones_like(factor)

    def apply_update(self) -> None:
        """Count an update."""
        self.num_updates.add_(1)

    def initial_values(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Each buffer and what it starts as."""
        yield self.num_updates, torch.zeros_like(self.num_updates)
        yield self.num_steps, torch.zeros_like(self.num_steps)


class CorpusStatistics(nn.Module):
    """What the model knows of the corpus that it was trained on, beyond its weights: buffers, 0 until set."""

    def __init__(self, config: TopicVQConfig):
        """See the class."""
        super().__init__()
        self.embedding_mean = nn.Buffer(torch.zeros(config.word_embedding_dim))
        self.embedding_std = nn.Buffer(torch.ones(config.word_embedding_dim))
        self.word_frequencies = nn.Buffer(torch.zeros(config.vocab_size))
        self.code_frequencies = nn.Buffer(torch.zeros(config.codebook_size))
        self.topic_word_counts = nn.Buffer(torch.zeros(config.num_topics, config.vocab_size))
        self.max_proportions = nn.Buffer(torch.zeros(config.num_topics))

    def initial_values(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Each buffer and what it starts as."""
        for name, buffer in self.named_buffers():
            yield buffer, torch.full_like(buffer, name == "embedding_std")


class TopicVQPreTrainedModel(PreTrainedModel):
    """Loading, saving and initial weights."""

    config_class = TopicVQConfig
    config: TopicVQConfig
    base_model_prefix = "topic_vq"
    main_input_name = "word_embeddings"
    input_modalities = ("text",)
    accepts_loss_kwargs = False
    # All but the word autoencoder: topics are a small part of the weights, and their losses are in float32.
    _keep_in_fp32_modules_strict = [
        "quantizer",
        "inference",
        "prior",
        "topic_codes",
        "word_decoder",
        "code_mixture",
        "word_mixture",
        "statistics",
    ]
    model_tags = ["vector-quantization", "topic-model"]

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """Fill new weights.

        | parameter | distribution |
        |---|---|
        | linear layers | U(-1, 1) / sqrt(fan-in), torch's default and so the paper's |
        | biases | 0; the background's are to be set by `set_background` |
        | topic_codes | Xavier, uniform |
        | prior | as `TopicPrior` computes it |
        | codebook | N(0, 1), N(0, 0.02) or U(-1, 1), the first to be replaced by `initialize_codebook` |
        | running moments, statistics, counts | 0, variances and standard deviations 1 |
        """
        super()._init_weights(module)
        if isinstance(module, nn.Linear):
            init.kaiming_uniform_(module.weight, a=5**0.5)
        elif hasattr(module, "initial_values"):
            for tensor, value in module.initial_values():
                init.copy_(tensor, value)
        elif hasattr(module, "topic_codes"):
            init.xavier_uniform_(module.topic_codes)
