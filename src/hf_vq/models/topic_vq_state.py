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
"""What TopicVQModel is told beside its gradients: where it starts, what it knows of its corpus, which stage it is in.

Equation numbers refer to docs/topics.md.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from .topic_inference import (
    BagFeatures,
    TopicMixture,
    TopicProduct,
    cluster_topics,
    count_topic_words,
)
from .topic_vq_inputs import check_code_counts, check_word_counts, check_words, word_rows
from .topic_vq_layers import CorpusStatistics, LossWarmup, TopicVQPreTrainedModel, TopicWordDecoder
from .vector_quantization import kmeans, nearest_codes
from .word_autoencoder import ExpansionQuantizer, WordAutoencoder


class TopicVQTrainableModel(TopicVQPreTrainedModel):
    """The setters of [`TopicVQModel`]; what they set is saved with the weights, all but a bypass."""

    autoencoder: WordAutoencoder
    features: BagFeatures
    topic_codes: nn.Parameter
    word_decoder: TopicWordDecoder
    code_mixture: TopicProduct | TopicMixture
    word_mixture: TopicProduct | TopicMixture
    kl_warmup: LossWarmup
    statistics: CorpusStatistics
    infer_topics: Callable[..., torch.Tensor]
    _topic_word_log_probs: Callable[[], torch.Tensor]

    @property
    def quantizer(self) -> ExpansionQuantizer:
        """What turns latents into codes."""
        return self.autoencoder.quantizer

    def bypass_quantizer(self, bypass: bool = True) -> None:
        """Train a plain autoencoder for a while, or stop doing so; there are no topics meanwhile. Never saved."""
        self.quantizer_bypassed = bypass

    @torch.no_grad()
    def initialize_codebook(
        self,
        batches: Iterable[torch.Tensor | Mapping[str, torch.Tensor]],
        method: str = "kmeans",
        generator: torch.Generator | None = None,
    ) -> None:
        """Set the codebook from the latents of some batches of words; 256 latents for each code are plenty.

        Batches are word embeddings `(B, N, H)` or dicts with `word_embeddings` and, if there is one,
        `word_mask`.
        """
        latents = []
        for batch in batches:
            inputs = batch if isinstance(batch, Mapping) else {"word_embeddings": batch}
            embeddings = inputs["word_embeddings"]
            mask = check_words(self.config, embeddings, inputs.get("word_mask"))
            scaled = self.autoencoder.scale(word_rows(embeddings, mask))
            latents.append(self.autoencoder.encode(scaled))
        if not latents:
            raise ValueError("initialize_codebook got no batch of words")
        self.quantizer.initialize_codebook(torch.cat(latents), method=method, generator=generator)

    @torch.no_grad()
    def initialize_autoencoder(self, words: torch.Tensor) -> None:
        """With `autoencoder_init="pca"` set encoder and decoder from word embeddings `(W, H)`, eq. (26)."""
        if self.config.autoencoder_init == "pca":
            self.autoencoder.set_principal_directions(words)

    @torch.no_grad()
    def initialize_topics(
        self,
        code_counts: torch.Tensor,
        word_counts: torch.Tensor,
        document_vectors: torch.Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        """Give the topic stage its start from training documents, as far as the configuration asks for one.

        Args:
            code_counts: `(S, codebook_size)`, bags of documents.
            word_counts: `(S, V)`, dense or sparse.
            document_vectors: `(S, H)`, if the configuration has `document_vector`.
            generator: source of randomness, on the CPU.
        """
        check_code_counts(self.config, code_counts)
        check_word_counts(self.config, word_counts, len(code_counts))
        config, counts = self.config, code_counts.float()
        self.features.fit(counts, document_vectors)
        if config.word_decoder == "latents":
            # eq. (29): the mean place among the codes of the documents that a word occurs in
            shares = counts / counts.sum(dim=1, keepdim=True).clamp_min(1e-12)
            places = (shares - shares.mean(dim=0)) @ F.normalize(self.quantizer.codebook, dim=-1)
            layer: Any = self.word_decoder.network.layers[0]
            layer.weight.copy_(F.normalize(word_counts.float().T @ places, dim=-1))
        if config.topic_init == "clusters":
            features = self.features(counts, document_vectors)
            points = features[:, len(counts[0]) :] if config.document_vector else features
            points = F.normalize(points, dim=-1)
            centers, _ = kmeans(points, config.num_topics, generator=generator)
            if config.seed_words:
                centers = self._guide_clusters(centers, points, word_counts)
            clusters = nearest_codes(points, centers)
            self.topic_codes.copy_(cluster_topics(counts, clusters, config.num_topics))
            if not config.inference_hidden_sizes:
                self._aim_inference(centers)

    def _guide_clusters(
        self, centers: torch.Tensor, points: torch.Tensor, word_counts: torch.Tensor
    ) -> torch.Tensor:
        """Guided topics start where the documents with their seed words lie; the nearest clusters make room."""
        # Dense, whatever the counts are: those of a large vocabulary come as a sparse tensor.
        shape = (self.config.vocab_size, len(self.config.seed_words))
        seeds = torch.zeros(shape, device=word_counts.device)
        for topic, words in enumerate(self.config.seed_words):
            seeds[words, topic] = 1
        found = (word_counts.float() @ seeds > 0).float()
        for topic in range(len(self.config.seed_words)):
            if found[:, topic].any():
                guide = F.normalize(found[:, topic] @ points, dim=-1)
                nearest = topic + int((centers[topic:] - guide).square().sum(dim=-1).argmin())
                centers[nearest], centers[topic] = centers[topic].clone(), guide
        return centers

    def _aim_inference(self, centers: torch.Tensor) -> None:
        """Eq. (35): a linear network starts as the products with the centers, so that documents have their topics.

        With random weights it takes hundreds of updates to find which topic a document started in.
        """
        layer: Any = self.inference.mean
        layer.weight.zero_()
        layer.weight[:, -centers.shape[1] :] = centers - centers.mean(dim=0)

    @torch.no_grad()
    def set_embedding_scaling(self, mean: torch.Tensor, std: torch.Tensor) -> None:
        """Say by which mean and standard deviation `(H,)` word embeddings are scaled; a deviation of 0 counts as 1."""
        self.autoencoder.embedding_mean.copy_(mean)
        self.autoencoder.embedding_std.copy_(torch.where(std > 0, std, 1.0))

    @torch.no_grad()
    def set_background(
        self, word_frequencies: torch.Tensor, code_frequencies: torch.Tensor
    ) -> None:
        """Say how often words `(V,)` and codes `(C,)` occur in training; the background of eq. (18) starts there."""
        for name, frequencies, mixture in (
            ("word_frequencies", word_frequencies, self.word_mixture),
            ("code_frequencies", code_frequencies, self.code_mixture),
        ):
            buffer = getattr(self.statistics, name)
            if frequencies.shape != buffer.shape or (frequencies < 0).any():
                raise ValueError(
                    f"{name} have shape {tuple(frequencies.shape)} and minimum {frequencies.min()}, expected "
                    f"counts of shape {tuple(buffer.shape)}"
                )
            buffer.copy_(frequencies)
            if mixture.bias is not None:
                mixture.bias.copy_(torch.log((buffer + 1) / (buffer.sum() + len(buffer))))

    @torch.no_grad()
    def clear_topic_statistics(self) -> None:
        """Forget what topics have in which documents."""
        statistics = self.statistics
        statistics.topic_word_counts.zero_()
        statistics.damped_word_counts.zero_()
        statistics.explained_word_counts.zero_()
        statistics.max_proportions.zero_()

    @torch.no_grad()
    def add_topic_statistics(
        self,
        code_counts: torch.Tensor,
        word_counts: torch.Tensor,
        document_vectors: torch.Tensor | None = None,
    ) -> None:
        """Note what the topics have in some documents, eq. (24) and (31), for rankings and `active_topics`.

        Call it for all training documents, batch by batch, when the topics are learned. Takes what `forward`
        takes.
        """
        check_word_counts(self.config, word_counts, len(code_counts))
        proportions = self.infer_topics(code_counts, document_vectors, temperature=1.0)
        counts, damped, explained = count_topic_words(
            proportions, self._topic_word_log_probs().exp(), word_counts.float()
        )
        statistics = self.statistics
        statistics.topic_word_counts.add_(counts)
        statistics.damped_word_counts.add_(damped)
        statistics.explained_word_counts.add_(explained)
        has_words = code_counts.sum(dim=1, keepdim=True) > 0
        largest = torch.where(has_words, proportions, 0.0).amax(dim=0)
        statistics.max_proportions.copy_(torch.maximum(statistics.max_proportions, largest))

    def set_objective(self, objective: str, num_steps: int = 0) -> None:
        """Begin a stage: what `forward` optimizes by default, and which parameters learn.

        Args:
            objective: `"codebook"`, `"topics"` or `"joint"`.
            num_steps: length of a topic stage; the weight of the divergence rises over its share `kl_warmup`.
        """
        if objective not in ("codebook", "topics", "joint"):
            raise ValueError(f"objective is {objective!r}, expected codebook, topics or joint")
        self.config.objective = objective
        for name, parameter in self.named_parameters():
            of_words = name.startswith("autoencoder.")
            parameter.requires_grad_(objective == "joint" or of_words == (objective == "codebook"))
        share: Any = self.config.kl_warmup
        self.kl_warmup.begin(round(share * num_steps))

    def _need(self, name: str, setter: str) -> torch.Tensor:
        values = getattr(self.statistics, name)
        if not values.any():
            raise ValueError(f"{name} are not known yet: call {setter} first")
        return values


__all__ = ["TopicVQTrainableModel"]
