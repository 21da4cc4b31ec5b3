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
"""Layers of TopicVQ: the decoder of topics into words, what training notes down, and initial weights.

Equation numbers refer to docs/topics.md.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers import initialization as init

from .configuration_topic_vq import TopicVQConfig
from .float32_parts import Float32PartsMixin
from .safe_weights import SafeWeightsMixin
from .word_autoencoder import FeedForward


class TopicWordDecoder(nn.Module):
    """Topic embeddings `(K, D)` to scores of words `(K, V)`, eq. (14) or (29).

    Standardized over the topics, which are always all there: so there are no running moments.
    """

    def __init__(self, config: TopicVQConfig):
        """See the class."""
        super().__init__()
        self.standardization = config.topic_standardization
        hidden = config.word_decoder_hidden_sizes if config.word_decoder == "mlp" else []
        widths = [config.codebook_dim, *hidden, config.vocab_size]
        # What is done over topics would take a bias of the last layer away again; "linear" has none.
        bias = config.word_decoder == "mlp" and config.topic_standardization == "none"
        self.network = FeedForward(widths, "tanh", last_bias=bias)
        self.scale = nn.Parameter(torch.ones(())) if config.word_decoder == "latents" else None

    def initial_values(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """What it has beside its layers, and what that starts as: cosines times 10."""
        if self.scale is not None:
            yield self.scale, torch.full_like(self.scale, 10.0)

    def forward(self, topic_embeddings: torch.Tensor) -> torch.Tensor:
        """See the class."""
        scores = self.network(topic_embeddings).float()
        if self.scale is not None:
            scores = self.scale * scores
        if self.standardization == "none":
            return scores
        centered = scores - scores.mean(dim=0)
        if self.standardization == "center":
            return centered
        return centered * torch.rsqrt(centered.square().mean(dim=0) + 1e-5)


class LossWarmup(nn.Module):
    """Counts the updates of the topic stage, in which a weight rises from 0 to 1, eq. (19).

    State, so that a resumed stage goes on; not begun, it is at its end. `deferred_update` as in `Quantizer`.
    """

    def __init__(self) -> None:
        """See the class."""
        super().__init__()
        self.deferred_update = False
        self.pending = False
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
        self.pending |= self.training
        if not self.deferred_update:
            self.apply_update()
        return factor if self.training else torch.ones_like(factor)

    def apply_update(self) -> None:
        """Count an update in which there were topics."""
        self.num_updates.add_(self.pending)
        self.pending = False

    def initial_values(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Each buffer and what it starts as."""
        yield self.num_updates, torch.zeros_like(self.num_updates)
        yield self.num_steps, torch.zeros_like(self.num_steps)


class CorpusStatistics(nn.Module):
    """What the model knows of the corpus that it was trained on, beyond its weights: buffers, 0 until set."""

    def __init__(self, config: TopicVQConfig):
        """See the class."""
        super().__init__()
        self.word_frequencies = nn.Buffer(torch.zeros(config.vocab_size))
        self.code_frequencies = nn.Buffer(torch.zeros(config.codebook_size))
        self.topic_word_counts = nn.Buffer(torch.zeros(config.num_topics, config.vocab_size))
        self.damped_word_counts = nn.Buffer(torch.zeros(config.num_topics, config.vocab_size))
        self.explained_word_counts = nn.Buffer(torch.zeros(config.num_topics, config.vocab_size))
        self.max_proportions = nn.Buffer(torch.zeros(config.num_topics))

    def initial_values(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Each buffer and what it starts as."""
        for buffer in self.buffers():
            yield buffer, torch.zeros_like(buffer)


class TopicVQPreTrainedModel(Float32PartsMixin, SafeWeightsMixin, PreTrainedModel):
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
        "embedding_mean",
        "embedding_std",
        "features",
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
        | scale of word scores | 10 |
        | codebook | N(0, 1), N(0, 0.02) or U(-1, 1), the first to be replaced by `initialize_codebook` |
        | running moments, statistics, counts | 0, variances and standard deviations 1 |
        """
        super()._init_weights(module)
        own: Any = module
        if isinstance(module, nn.Linear):
            init.kaiming_uniform_(module.weight, a=5**0.5)
        elif hasattr(module, "initial_values"):
            for tensor, value in own.initial_values():
                init.copy_(tensor, value)
        elif hasattr(module, "topic_codes"):
            init.xavier_uniform_(own.topic_codes)
