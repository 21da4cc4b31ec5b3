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
"""Layers of TopicVQ for images: codes as topics see them, the inference network, and how topics reach a decoder.

Equation numbers refer to docs/topic_images.md.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from .configuration_topic_vq_image import TopicVQImageConfig
from .topic_inference import BatchStandardization

# Of the posterior that clusters start with, in logarithms: topics that drown in noise are never found again.
STARTING_LOG_VARIANCE = -2.0


class CodeVectors(nn.Module):
    """The codebook of the image tokenizer, and for each code its nearest ones with their weights, eq. (I1)-(I3).

    All buffers: nothing here learns.
    """

    def __init__(self, config: TopicVQImageConfig):
        """See the class."""
        super().__init__()
        size, number = config.codebook_size, config.codes_per_position
        self.temperature = config.expansion_temperature
        self.codebook = nn.Buffer(torch.zeros(size, config.codebook_dim))
        self.codebook_scale = nn.Buffer(torch.ones(()))
        self.neighbors = nn.Buffer(torch.zeros(size, number, dtype=torch.int64))
        self.neighbor_weights = nn.Buffer(torch.zeros(size, number))

    def initial_values(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Each buffer and what it starts as: a codebook of zeros is one that is not yet set."""
        for name, buffer in self.named_buffers():
            yield buffer, torch.full_like(buffer, 1 if name == "codebook_scale" else 0)

    def set_codebook(self, codebook: torch.Tensor) -> None:
        """Copy the codebook `(C, D)` and find each code's neighbors."""
        vectors = codebook.detach().to(self.codebook)
        if codebook.shape != self.codebook.shape:
            raise ValueError(
                f"the codebook has shape {tuple(codebook.shape)}, expected {tuple(self.codebook.shape)}"
            )
        if not vectors.isfinite().all() or not vectors.any():
            raise ValueError("the codebook has to be finite and not all zeros")
        self.codebook.copy_(vectors)
        self.codebook_scale.copy_(vectors.square().mean().sqrt())
        directions = F.normalize(vectors, dim=-1)
        distances = 2 - 2 * directions @ directions.T
        distances.fill_diagonal_(-1)  # a code is its own nearest, even beside a twin
        nearest = distances.topk(self.neighbors.shape[1], largest=False)
        self.neighbors.copy_(nearest.indices)
        self.neighbor_weights.copy_(
            torch.softmax(-nearest.values.clamp_min(0) / float(self.temperature), dim=-1)
        )

    def vectors(self) -> torch.Tensor:
        """Code vectors `(C, D)` of mean square 1, without gradient."""
        return self.codebook.detach() / self.codebook_scale

    def embed(self, codes: torch.Tensor) -> torch.Tensor:
        """Codes `(B, T)` to their vectors, means over the neighbors, `(B, T, D)`."""
        vectors = self.vectors()[self.neighbors[codes]]
        return (vectors * self.neighbor_weights[codes][..., None]).sum(dim=-2)

    def bag(self, codes: torch.Tensor) -> torch.Tensor:
        """Codes `(B, T)` to bags `(B, C)`, eq. (I3)."""
        bags = self.neighbor_weights.new_zeros(codes.shape[0], len(self.codebook))
        neighbors, weights = self.neighbors[codes], self.neighbor_weights[codes]
        return bags.scatter_add_(1, neighbors.flatten(1), weights.flatten(1))


class MapFeatures(nn.Module):
    """Two convolutions over the vectors of the codes, then means over at most 4 x 4 regions: `(B, width)`."""

    def __init__(self, config: TopicVQImageConfig, code_vectors: CodeVectors):
        """See the class."""
        super().__init__()
        channels = config.inference_channels
        self.rows, self.columns = config.grid_size
        self.regions = (min(4, self.rows), min(4, self.columns))
        self.width = channels * self.regions[0] * self.regions[1]
        self.input = nn.Linear(config.codebook_dim, channels)
        self.convolutions = nn.ModuleList(
            nn.Conv2d(channels, channels, kernel_size=3, padding=1) for _ in range(2)
        )

    def forward(self, codes: torch.Tensor, code_vectors: CodeVectors) -> torch.Tensor:
        """See the class."""
        hidden = self.input(code_vectors.embed(codes)).transpose(1, 2)
        hidden = hidden.unflatten(2, (self.rows, self.columns))
        for convolution in self.convolutions:
            hidden = F.gelu(convolution(hidden))
        return F.adaptive_avg_pool2d(hidden, self.regions).flatten(1)


class OneHotFeatures(nn.Module):
    """One layer over the one-hot map, a convolution whose kernel is the whole map: `(B, width)`.

    Only the rows of codes that occur are read, so the map itself never exists.
    """

    def __init__(self, config: TopicVQImageConfig, code_vectors: CodeVectors):
        """See the class."""
        super().__init__()
        self.codebook_size, self.num_positions = config.codebook_size, config.num_positions
        self.width = (config.inference_hidden_sizes or [100])[0]
        self.map_weight = nn.Parameter(
            torch.empty(self.num_positions * self.codebook_size, self.width)
        )
        self.map_bias = nn.Parameter(torch.empty(self.width))

    def initial_values(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Each parameter and what it starts as."""
        bound = len(self.map_weight) ** -0.5
        yield self.map_weight, torch.empty_like(self.map_weight).uniform_(-bound, bound)
        yield self.map_bias, torch.zeros_like(self.map_bias)

    def forward(self, codes: torch.Tensor, code_vectors: CodeVectors) -> torch.Tensor:
        """See the class."""
        starts = self.codebook_size * torch.arange(self.num_positions, device=codes.device)
        rows = code_vectors.neighbors[codes] + starts[:, None]
        weights = code_vectors.neighbor_weights[codes]
        hidden = F.embedding_bag(
            rows.flatten(1), self.map_weight, mode="sum", per_sample_weights=weights.flatten(1)
        )
        return torch.tanh(hidden + self.map_bias)


class BagOfCodesFeatures(nn.Module):
    """Logarithms of the counts of codes, of norm 1, `(B, C)`: positions do not matter."""

    def __init__(self, config: TopicVQImageConfig, code_vectors: CodeVectors):
        """See the class."""
        super().__init__()
        self.width = config.codebook_size

    def forward(self, codes: torch.Tensor, code_vectors: CodeVectors) -> torch.Tensor:
        """See the class."""
        return bag_directions(code_vectors.bag(codes))


def bag_directions(bags: torch.Tensor) -> torch.Tensor:
    """Logarithms of bags `(B, C)`, of norm 1."""
    return F.normalize(bags.log1p(), dim=-1)


class CodeMapInference(nn.Module):
    """Codes `(B, T)` to mean and log-variance `(B, K)` of the posterior of topics, eq. (I4).

    As far as `posterior_standardization` says, they are standardized over the batch, without scale or shift. So
    nobody's posterior mean collapses onto the prior, and micro-batches are not parts of a large batch.
    """

    def __init__(self, config: TopicVQImageConfig, code_vectors: CodeVectors):
        """See the class."""
        super().__init__()
        kinds = {"map": MapFeatures, "one_hot": OneHotFeatures, "bag": BagOfCodesFeatures}
        self.features = kinds[str(config.inference_network)](config, code_vectors)
        sizes = config.inference_hidden_sizes or []
        if config.inference_network == "one_hot":
            sizes = sizes[1:]
        widths = [self.features.width, *sizes]
        self.layers = nn.ModuleList(
            nn.Linear(narrow, wide) for narrow, wide in zip(widths, widths[1:], strict=False)
        )
        self.dropout = config.inference_dropout
        kind, topics = config.posterior_standardization, config.num_topics
        # without the biases that standardizing would take away again
        self.mean = nn.Linear(widths[-1], topics, bias=kind == "none")
        self.log_variance = nn.Linear(widths[-1], topics, bias=kind != "both")
        self.mean_norm = None if kind == "none" else BatchStandardization(topics)
        self.log_variance_norm = BatchStandardization(topics) if kind == "both" else None

    def start_at(self, centers: torch.Tensor) -> None:
        """Begin with the clusters `(K, C)` that topics start as, eq. (I14), if the network is linear in the bag."""
        if isinstance(self.features, BagOfCodesFeatures) and not self.layers:
            self.mean.weight.copy_(centers - centers.mean(dim=0))
        if self.log_variance.bias is not None:
            self.log_variance.bias.fill_(STARTING_LOG_VARIANCE)

    def forward(
        self, codes: torch.Tensor, code_vectors: CodeVectors
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """See the class; a batch of one has no statistics, in training."""
        if self.training and self.mean_norm is not None and len(codes) < 2:
            raise ValueError(
                f"a training batch has {len(codes)} image, expected at least 2: posteriors are standardized over "
                "the batch"
            )
        hidden = self.features(codes, code_vectors)
        for layer in self.layers:
            hidden = torch.tanh(layer(hidden))
        hidden = F.dropout(hidden, self.dropout, self.training)
        mean, log_variance = self.mean(hidden).float(), self.log_variance(hidden).float()
        if self.mean_norm is not None:
            mean = self.mean_norm(mean)
        if self.log_variance_norm is not None:
            log_variance = self.log_variance_norm(log_variance)
        return mean, log_variance


class TopicSignal(NamedTuple):
    """What the decoder is told about the topics of some images.

    Attributes:
        vectors: `(B, width)`, eq. (I5).
        code_shifts: `(B, C)`, what topics add to the logits of codes, eq. (I8), if they do.
    """

    vectors: torch.Tensor
    code_shifts: torch.Tensor | None

    def apply(self, change: Callable[..., torch.Tensor], *others: "TopicSignal") -> "TopicSignal":
        """A function of the rows of this signal, and of the same parts of others."""
        parts = zip(self, *others, strict=True)
        return TopicSignal(*(None if part[0] is None else change(*part) for part in parts))


class TopicCondition(nn.Module):
    """Topic proportions `(B, K)` to what the decoder gets of them, eq. (I5)-(I8)."""

    def __init__(self, config: TopicVQImageConfig):
        """See the class."""
        super().__init__()
        hidden, embedded = config.hidden_size, config.topic_condition == "embedding"
        width = hidden if embedded else config.codebook_dim
        self.topic_embeddings = (
            nn.Parameter(torch.empty(config.num_topics, hidden)) if embedded else None
        )
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.no_topic = nn.Parameter(torch.empty(width)) if config.condition_dropout else None
        self.prefix = nn.Linear(width, hidden)
        in_layers = config.condition == "prefix_and_layers"
        self.layers = nn.ModuleList(
            nn.Linear(width, hidden, bias=False)
            for _ in range(config.num_hidden_layers if in_layers else 0)
        )
        self.logit_scale_init = config.logit_scale_init
        in_logits = config.condition == "prefix_and_logits"
        self.logit_scale = nn.Parameter(torch.empty(())) if in_logits else None

    def initial_values(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """What it has beside its layers, and what that starts as."""
        if self.topic_embeddings is not None:
            yield self.topic_embeddings, torch.randn_like(self.topic_embeddings)
        if self.no_topic is not None:
            yield self.no_topic, torch.zeros_like(self.no_topic)
        if self.logit_scale is not None:
            yield self.logit_scale, torch.full_like(self.logit_scale, self.logit_scale_init)

    def embed(
        self,
        proportions: torch.Tensor,
        topic_codes: torch.Tensor,
        code_vectors: CodeVectors,
        code_mixture: Any,
    ) -> TopicSignal:
        """Proportions `(B, K)` to vectors, eq. (I5), and shifts of logits, eq. (I8)."""
        if self.topic_embeddings is not None:
            vectors = self.norm(proportions @ self.topic_embeddings)
        else:
            vectors = self.norm(proportions @ (topic_codes @ code_vectors.vectors()))
        if self.logit_scale is None:
            return TopicSignal(vectors, None)
        shifts = code_mixture.log_probabilities(proportions, topic_codes)
        if code_mixture.bias is not None:
            shifts = shifts - torch.log_softmax(code_mixture.bias, dim=-1)
        return TopicSignal(vectors, self.logit_scale * shifts)

    def without_topics(self, number: int, codebook_size: int) -> TopicSignal:
        """What takes the place of topics, eq. (I11), for so many images."""
        if self.no_topic is None:
            raise ValueError(
                "this model was trained with condition_dropout=0, so it knows neither guidance nor images "
                "without topics"
            )
        vectors = self.no_topic.expand(number, -1)
        if self.logit_scale is None:
            return TopicSignal(vectors, None)
        return TopicSignal(vectors, vectors.new_zeros(number, codebook_size))

    def forward(
        self, vectors: torch.Tensor, dtype: torch.dtype
    ) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Vectors `(B, width)` to the prefix `(B, 1, hidden)`, and what each layer adds, of the same shape."""
        prefix = self.prefix(vectors)[:, None].to(dtype)
        return prefix, [layer(vectors)[:, None].to(dtype) for layer in self.layers]


class ShiftedLayer(nn.Module):
    """A layer of a decoder that first adds something to its input, eq. (I7).

    transformers hands keywords that it does not know down to the layers; this one is taken out again here.

    Args:
        layer: the decoder's own.
        index: which of the `topic_shifts` it adds.
    """

    def __init__(self, layer: nn.Module, index: int):
        """See the class."""
        super().__init__()
        self.layer, self.index = layer, index

    def forward(
        self,
        hidden_states: torch.Tensor,
        *args: Any,
        topic_shifts: list[torch.Tensor],
        **kwargs: Any,
    ) -> Any:
        """See the class; `topic_shifts` are `(B, 1, hidden)`, one for each layer."""
        return self.layer(hidden_states + topic_shifts[self.index], *args, **kwargs)


def shift_layers(decoder: Any, num_layers: int) -> None:
    """Wrap each layer of a decoder so that topics can be added to its input, eq. (I7)."""
    lists = [
        module
        for module in decoder.modules()
        if isinstance(module, nn.ModuleList) and len(module) == num_layers
    ]
    if len(lists) != 1:
        raise ValueError(
            f'condition="prefix_and_layers" does not find the layers of a {type(decoder).__name__}'
        )
    for index, layer in enumerate(lists[0]):
        lists[0][index] = ShiftedLayer(layer, index)


def shift_arguments(shifts: list[torch.Tensor]) -> dict[str, Any]:
    """The keyword that `ShiftedLayer` takes out again, if there is something to add."""
    return {"topic_shifts": shifts} if shifts else {}
