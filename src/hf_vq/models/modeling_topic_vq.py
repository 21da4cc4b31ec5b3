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
"""TopicVQ: a topic model whose words are the codes of contextual word embeddings (TVQ-VAE, arXiv 2312.11532).

An autoencoder with a codebook turns each word of a document into a few codes; the document is the bag of
them. From the bag an inference network tells which topics the document has, and the topics, which are
distributions over codes, are read out as real words. Equation numbers refer to docs/topics.md.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from transformers.processing_utils import Unpack
from transformers.utils import ModelOutput, TransformersKwargs
from transformers.utils.generic import can_return_tuple

from .configuration_topic_vq import RANKINGS, TopicVQConfig
from .topic_inference import (
    BagFeatures,
    TopicInference,
    TopicMixture,
    TopicPrior,
    TopicProduct,
    count_topic_words,
    sample_proportions,
    topic_similarity,
    word_ambiguity,
)
from .topic_ranking import rank_by_ctfidf, rank_by_exclusivity, rank_by_frex, rank_by_relevance
from .topic_vq_layers import (
    CorpusStatistics,
    LossWarmup,
    TopicVQPreTrainedModel,
    TopicWordDecoder,
)
from .vector_quantization import kmeans, nearest_codes
from .word_autoencoder import ExpansionQuantizer, WordAutoencoder


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


class TopicVQModel(TopicVQPreTrainedModel):
    """Topic model over the codes of contextual word embeddings.

    Training has two stages: `objective="codebook"` learns the autoencoder and its codes from word embeddings,
    `objective="topics"` the topics from bags of codes and words, with the codes as they are. Topic losses
    standardize over the documents of a batch, so a training batch needs two of them and micro-batches are not
    parts of a large batch.

    Example:
    ```python
    >>> import torch
    >>> from hf_vq import TopicVQConfig, TopicVQModel
    >>> model = TopicVQModel(TopicVQConfig(num_topics=4, vocab_size=20, word_embedding_dim=8)).eval()
    >>> encoded = model.encode(torch.randn(2, 7, 8))
    >>> encoded.codes.shape
    torch.Size([2, 7, 5])
    >>> bags = model.bag(encoded.codes, encoded.code_weights)
    >>> model.infer_topics(bags, document_vectors=torch.randn(2, 8)).shape
    torch.Size([2, 4])

    ```
    """

    def __init__(self, config: TopicVQConfig):
        config.validate()  # keywords of `from_pretrained` are set on a configuration that is already there
        super().__init__(config)
        self.autoencoder = WordAutoencoder(config)
        self.features = BagFeatures(
            config.codebook_size,
            config.word_embedding_dim if config.document_vector else 0,
            config.inference_input,
            config.inference_scaling == "standard",
        )
        self.inference = TopicInference(
            self.features.width,
            config.inference_hidden_sizes,
            config.num_topics,
            config.inference_dropout,
        )
        self.prior = TopicPrior(
            config.num_topics,
            config.prior_concentration,
            config.prior_mean_init,
            config.prior_learned,
        )
        self.topic_codes = nn.Parameter(torch.empty(config.num_topics, config.codebook_size))
        self.word_decoder = TopicWordDecoder(config)
        background = config.background == "log_frequency"
        combination = TopicProduct if config.topic_combination == "product" else TopicMixture
        self.code_mixture = combination(config.codebook_size, background)
        self.word_mixture = combination(config.vocab_size, background)
        self.kl_warmup = LossWarmup()
        self.statistics = CorpusStatistics(config)
        self.quantizer_bypassed = False
        self.post_init()

    @property
    def quantizer(self) -> ExpansionQuantizer:
        """What turns latents into codes."""
        return self.autoencoder.quantizer

    # Words and codes

    def encode(
        self, word_embeddings: torch.Tensor, word_mask: torch.Tensor | None = None
    ) -> TopicVQEncoderOutput:
        """Word embeddings `(B, N, H)` to codes; `word_mask` `(B, N)` says which positions are words."""
        mask = self._check_words(word_embeddings, word_mask)
        words = self.autoencoder
        latents = words.encode(words.scale(_rows(word_embeddings, mask)))
        codes, code_weights = words.quantizer.expand(latents)
        quantized = words.quantizer.combine(codes, code_weights).to(words.dtype)
        return TopicVQEncoderOutput(
            codes=_positions(codes, mask, word_embeddings, -1),
            code_weights=_positions(code_weights, mask, word_embeddings),
            latents=_positions(latents, mask, word_embeddings),
            quantized=_positions(quantized, mask, word_embeddings),
        )

    def decode(
        self,
        codes: torch.LongTensor | None = None,
        code_weights: torch.Tensor | None = None,
        quantized: torch.Tensor | None = None,
    ) -> TopicVQDecoderOutput:
        """Codes `(B, N, codes_per_token)`, or vectors `(B, N, codebook_dim)`, to word embeddings.

        Without weights the codes weigh as those of a word at equal distances. Where codes are -1, zeros.
        """
        if codes is not None and quantized is None:
            return self._decode_codes(codes, code_weights)
        if codes is not None or quantized is None:
            raise ValueError("decode takes exactly one of codes and quantized")
        width = self.config.codebook_dim
        if quantized.ndim != 3 or quantized.shape[2] != width:
            raise ValueError(
                f"quantized has shape {tuple(quantized.shape)}, expected (batch, words, {width})"
            )
        return TopicVQDecoderOutput(reconstruction=self.autoencoder.decode(quantized))

    def _decode_codes(
        self, codes: torch.Tensor, code_weights: torch.Tensor | None
    ) -> TopicVQDecoderOutput:
        self._check_codes(codes)
        mask = codes[..., 0] >= 0
        rows, quantizer = codes[mask], self.quantizer
        weights = quantizer.fixed_weights(rows) if code_weights is None else code_weights[mask]
        vectors = self.autoencoder.decode(quantizer.combine(rows, weights))
        return TopicVQDecoderOutput(reconstruction=_positions(vectors, mask, codes))

    def bag(
        self,
        codes: torch.LongTensor,
        code_weights: torch.Tensor,
        word_mask: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Codes and weights `(B, N, codes_per_token)` of documents to their bags `(B, codebook_size)`, eq. (7)."""
        kept = codes >= 0 if word_mask is None else (codes >= 0) & word_mask[..., None]
        weights = torch.where(kept, code_weights.float(), 0.0)
        bags = weights.new_zeros(len(codes), self.config.codebook_size)
        return bags.scatter_add_(1, codes.clamp_min(0).flatten(1), weights.flatten(1))

    # Topics and words

    @torch.no_grad()
    def infer_topics(
        self,
        code_counts: torch.Tensor,
        document_vectors: torch.Tensor | None = None,
        num_samples: int = 0,
        temperature: float | None = None,
    ) -> torch.Tensor:
        """Bags `(B, codebook_size)` to topic proportions `(B, K)`, of each document for itself.

        A document without words gets those of the prior. With `num_samples` the mean of so many draws from
        the posterior takes the place of the softmax of its mean.

        Proportions are sharpened, eq. (34), with the `proportion_temperature` of the configuration if no
        `temperature` is given; those that the model itself computes with, and `predict_words` expects, have 1.
        """
        was_training = self.training
        self.eval()
        mean, log_variance = self._posterior(code_counts, document_vectors)
        self.train(was_training)
        config: Any = self.config
        if temperature is None:
            temperature = config.proportion_temperature
        temperature = temperature * config.topic_temperature
        if num_samples == 0:
            return torch.softmax(mean / temperature, dim=-1)
        draws = (sample_proportions(mean, log_variance, temperature) for _ in range(num_samples))
        return torch.stack(list(draws)).mean(dim=0)

    @torch.no_grad()
    def predict_words(self, topic_proportions: torch.Tensor) -> torch.Tensor:
        """Topic proportions `(B, K)` to log-probabilities of words `(B, V)`, eq. (15)."""
        if topic_proportions.ndim != 2 or topic_proportions.shape[1] != self.config.num_topics:
            raise ValueError(
                f"topic_proportions have shape {tuple(topic_proportions.shape)}, expected "
                f"(documents, {self.config.num_topics})"
            )
        was_training = self.training
        self.eval()
        log_probs = self.word_mixture.log_probabilities(
            topic_proportions.float(), self.topic_word_scores
        )
        self.train(was_training)
        return log_probs

    @property
    def topic_embeddings(self) -> torch.Tensor:
        """Where topics lie among the codes, `(K, codebook_dim)` of norm 1, eq. (13)."""
        directions = F.normalize(self.quantizer.codebook.detach(), dim=-1)
        return F.normalize(self.topic_codes @ directions, dim=-1)

    @property
    def topic_word_scores(self) -> torch.Tensor:
        """W of eq. (14), `(K, V)`."""
        return self.word_decoder(self.topic_embeddings)

    @property
    def topic_word_probs(self) -> torch.Tensor:
        """Distribution of words of each topic, `(K, V)`, eq. (21)."""
        return self._topic_word_log_probs().exp()

    @property
    def active_topics(self) -> torch.Tensor:
        """`(K,)`, whether a training document has more of the topic than an even share."""
        return self.statistics.max_proportions > 1 / self.config.num_topics

    @property
    def codebook_usage(self) -> float:
        """Share of the codes that occur in the training documents."""
        return float((self.statistics.code_frequencies > 0).float().mean())

    @torch.no_grad()
    def topic_words(
        self, top_n: int = 10, ranking: str | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The best words of each topic, best first: their ids and weights, both `(K, top_n)`.

        Args:
            top_n: how many.
            ranking: one of `topic_word_ranking`; the configuration's by default.
        """
        ranking = self.config.topic_word_ranking if ranking is None else ranking
        weight = self.config.topic_word_ranking_weight
        if ranking not in RANKINGS:
            raise ValueError(f"ranking is {ranking!r}, expected one of {RANKINGS}")
        if not 1 <= top_n <= self.config.vocab_size:
            raise ValueError(f"top_n is {top_n}, expected 1 to {self.config.vocab_size}, the words")
        if ranking == "score":
            values = self.topic_word_scores
        elif ranking == "probability":
            values = self.topic_word_probs
        elif ranking == "relevance":
            frequencies = self._need("word_frequencies", "set_background") + 1
            values = rank_by_relevance(
                self.topic_word_probs, frequencies / frequencies.sum(), weight
            )
        elif ranking == "frex":
            values = rank_by_frex(self.topic_word_probs, weight)
        elif ranking == "ctfidf":
            values = rank_by_ctfidf(self._need("topic_word_counts", "add_topic_statistics"))
        else:
            values = rank_by_exclusivity(
                self._need("damped_word_counts", "add_topic_statistics"),
                self.statistics.explained_word_counts,
                self.config.topic_word_exclusivity,
            )
        weights, words = values.sort(dim=-1, descending=True, stable=True)
        return words[:, :top_n], weights[:, :top_n]

    @can_return_tuple
    def forward(
        self,
        word_embeddings: torch.FloatTensor | None = None,
        word_mask: torch.BoolTensor | None = None,
        code_counts: torch.FloatTensor | None = None,
        word_counts: torch.FloatTensor | None = None,
        document_vectors: torch.FloatTensor | None = None,
        objective: str | None = None,
        return_loss: bool = True,
        output_word_log_probs: bool = False,
        **kwargs: Unpack[TransformersKwargs],
    ) -> TopicVQOutput | tuple:
        """Words to codes and back, bags of codes to topics and words, and the losses of both.

        Args:
            word_embeddings: `(B, N, H)`; not needed for topics if `code_counts` are given.
            word_mask: `(B, N)`, which positions are words; `None` for all.
            code_counts: `(B, codebook_size)`, the bags of eq. (7), in place of the words' own.
            word_counts: `(B, V)`, dense or sparse, how often each word of the vocabulary occurs; for the loss.
            document_vectors: `(B, H)`, the encoder's vectors of whole documents, if the configuration has
                `document_vector`.
            objective: `"codebook"`, `"topics"` or `"joint"`; the configuration's by default.
            return_loss: whether to compute `loss` (it has no labels, and `Trainer` looks for this argument).
            output_word_log_probs: whether to return those of eq. (15).
            kwargs: `return_dict=False` for a tuple.
        """
        objective = self.config.objective if objective is None else objective
        if objective not in ("codebook", "topics", "joint"):
            raise ValueError(f"objective is {objective!r}, expected codebook, topics or joint")
        output: dict[str, Any] = {}
        if word_embeddings is not None and (objective != "topics" or code_counts is None):
            output |= self._forward_words(word_embeddings, word_mask, objective != "topics")
        elif objective != "topics":
            raise ValueError(f"objective {objective!r} needs word_embeddings")
        if objective != "codebook" and not self.quantizer_bypassed:
            if code_counts is None and not output:
                raise ValueError("topics need code_counts, or word_embeddings to make them from")
            if code_counts is None:
                code_counts = self.bag(output["codes"], output["code_weights"])
            output |= self._forward_topics(
                code_counts, word_counts, document_vectors, return_loss, output_word_log_probs
            )
        loss = self._weigh(output) if return_loss else None
        output.pop("kl_factor", None)
        return TopicVQOutput(loss=loss, **output)

    def _forward_words(
        self, word_embeddings: torch.Tensor, word_mask: torch.Tensor | None, reconstruct: bool
    ) -> dict[str, torch.Tensor]:
        """Eq. (1)-(6); without the reconstruction only the codes, which topic losses never move."""
        if not reconstruct:
            with torch.no_grad():
                return dict(self.encode(word_embeddings, word_mask))
        mask = self._check_words(word_embeddings, word_mask)
        output = self.autoencoder(_rows(word_embeddings, mask), self.quantizer_bypassed)
        return {
            name: value
            if value.ndim == 0
            else _positions(value, mask, word_embeddings, -1 if name == "codes" else 0)
            for name, value in output.items()
        }

    def _forward_topics(
        self,
        code_counts: torch.Tensor,
        word_counts: torch.Tensor | None,
        document_vectors: torch.Tensor | None,
        return_loss: bool,
        output_word_log_probs: bool,
    ) -> dict[str, torch.Tensor]:
        """Eq. (8)-(15)."""
        config: Any = self.config
        if return_loss and word_counts is None:
            raise ValueError("the loss of topics needs word_counts; or set return_loss=False")
        mean, log_variance = self._posterior(code_counts, document_vectors)
        if self.training:
            proportions = sample_proportions(mean, log_variance, config.topic_temperature)
        else:
            proportions = torch.softmax(mean / config.topic_temperature, dim=-1)
        output = {
            "topic_proportions": proportions,
            "posterior_mean": mean,
            "posterior_log_variance": log_variance,
            "code_counts": code_counts,
        }
        topic_embeddings = self.topic_embeddings
        scores = self.word_decoder(topic_embeddings)
        if output_word_log_probs:
            output["word_log_probs"] = self.word_mixture.log_probabilities(proportions, scores)
        if not return_loss:
            return output
        self._check_word_counts(word_counts, len(code_counts))
        reduce = torch.mean if config.loss_reduction == "mean" else torch.sum
        dropped = F.dropout(proportions, config.topic_dropout, self.training)
        output |= {
            "word_loss": reduce(
                -self.word_mixture.log_likelihood(proportions, scores, word_counts)
            ),
            "code_loss": reduce(
                -self.code_mixture.log_likelihood(dropped, self.topic_codes, code_counts.float())
            ),
            "kl_loss": reduce(self.prior.divergence(mean, log_variance)),
            "kl_factor": self.kl_warmup(),
        }
        if config.topic_separation_weight:
            separation_loss = topic_similarity(topic_embeddings)
            if config.topic_separation == "words":
                separation_loss = self._ambiguity(scores, proportions, word_counts)
            output["separation_loss"] = separation_loss
        if config.seed_words:
            output["seed_loss"] = self._seed_loss(scores)
        return output

    def _posterior(
        self, code_counts: torch.Tensor, document_vectors: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Eq. (8), and the prior for a document without words."""
        self._check_code_counts(code_counts)
        counts = code_counts.float()
        inputs = self.features(counts, document_vectors)
        mean, log_variance = self.inference(inputs)
        empty = counts.sum(dim=1, keepdim=True) == 0
        mean = torch.where(empty, self.prior.mean, mean)
        return mean, torch.where(empty, self.prior.log_variance, log_variance)

    def _weigh(self, output: dict[str, torch.Tensor]) -> torch.Tensor:
        """Eq. (6), eq. (16), or their sum, with the weights of the configuration."""
        config: Any = self.config
        weights = {
            "reconstruction_loss": 1.0,
            "codebook_loss": 1.0,
            "commitment_loss": config.commitment_loss_weight,
            "word_loss": config.word_loss_weight,
            "code_loss": config.code_loss_weight,
            "kl_loss": config.kl_loss_weight * output.get("kl_factor", 1.0),
            "separation_loss": config.topic_separation_weight,
            "seed_loss": config.seed_loss_weight,
        }
        loss = torch.zeros((), device=self.device)
        for name, weight in weights.items():
            if name in output:
                loss = loss + weight * output[name]
        return loss

    def _topic_word_log_probs(self) -> torch.Tensor:
        return self._with_background(self.topic_word_scores)

    def _with_background(self, scores: torch.Tensor) -> torch.Tensor:
        bias = self.word_mixture.bias
        return torch.log_softmax(scores if bias is None else scores + bias, dim=-1)

    def _ambiguity(
        self, scores: torch.Tensor, proportions: torch.Tensor, word_counts: torch.Tensor
    ) -> torch.Tensor:
        """Eq. (33), in nats per document as the losses beside it."""
        frequencies = self.statistics.word_frequencies + 1
        entropy = word_ambiguity(
            self._with_background(scores),
            proportions.detach().mean(dim=0),
            frequencies / frequencies.sum(),
        )
        return entropy * (word_counts.sum() / len(word_counts))

    def _seed_loss(self, scores: torch.Tensor) -> torch.Tensor:
        """Eq. (25): mean over seeds of the negative log-probability in their topics."""
        seeds = self.config.seed_words or []
        log_probs = self._with_background(scores)
        topics = [k for k, words in enumerate(seeds) for _ in words]
        words = [word for words in seeds for word in words]
        return -log_probs[topics, words].mean()

    # State

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
            mask = self._check_words(embeddings, inputs.get("word_mask"))
            scaled = self.autoencoder.scale(_rows(embeddings, mask))
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
        self._check_code_counts(code_counts)
        self._check_word_counts(word_counts, len(code_counts))
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
            self._set_topics_from_clusters(counts, points, centers)

    def _guide_clusters(
        self, centers: torch.Tensor, points: torch.Tensor, word_counts: torch.Tensor
    ) -> torch.Tensor:
        """Guided topics start where the documents with their seed words lie; the nearest clusters make room."""
        seeds = word_counts.new_zeros(self.config.vocab_size, len(self.config.seed_words))
        for topic, words in enumerate(self.config.seed_words):
            seeds[words, topic] = 1
        found = (word_counts.float() @ seeds.float() > 0).float()
        for topic in range(len(self.config.seed_words)):
            if found[:, topic].any():
                guide = F.normalize(found[:, topic] @ points, dim=-1)
                nearest = topic + int((centers[topic:] - guide).square().sum(dim=-1).argmin())
                centers[nearest], centers[topic] = centers[topic].clone(), guide
        return centers

    def _set_topics_from_clusters(
        self, counts: torch.Tensor, points: torch.Tensor, centers: torch.Tensor
    ) -> None:
        """Eq. (30): a topic starts as what is special in the codes of a cluster of documents."""
        frequencies = counts.sum(dim=0) + 1e-3
        frequencies = frequencies / frequencies.sum()
        bags = torch.zeros_like(self.topic_codes)
        bags.index_add_(0, nearest_codes(points, centers), counts)
        bags += 50 * frequencies
        shares = bags / bags.sum(dim=1, keepdim=True)
        self.topic_codes.copy_(torch.log(shares / frequencies))

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
        self._check_word_counts(word_counts, len(code_counts))
        proportions = self.infer_topics(code_counts, document_vectors, temperature=1.0)
        counts, damped, explained = count_topic_words(
            proportions, self.topic_word_probs, word_counts.float()
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

    def _check_words(
        self, word_embeddings: torch.Tensor, word_mask: torch.Tensor | None
    ) -> torch.Tensor | None:
        """The mask, `None` if it keeps all."""
        width = self.config.word_embedding_dim
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

    def _check_codes(self, codes: torch.Tensor) -> None:
        number, size = self.config.codes_per_token, self.config.codebook_size
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

    def _check_code_counts(self, code_counts: torch.Tensor) -> None:
        size = self.config.codebook_size
        if code_counts.ndim != 2 or code_counts.shape[1] != size:
            raise ValueError(
                f"code_counts have shape {tuple(code_counts.shape)}, expected (documents, {size})"
            )

    def _check_word_counts(self, word_counts: torch.Tensor, num_documents: int) -> None:
        expected = (num_documents, self.config.vocab_size)
        if tuple(word_counts.shape) != expected:
            raise ValueError(
                f"word_counts have shape {tuple(word_counts.shape)}, expected {expected}"
            )


def _rows(values: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    """`(B, N, *)` to the rows of its words, `(W, *)`."""
    return values.flatten(0, 1) if mask is None else values[mask]


def _positions(
    rows: torch.Tensor, mask: torch.Tensor | None, like: torch.Tensor, fill: float = 0
) -> torch.Tensor:
    """The other way round: rows `(W, *)` back to `(B, N, *)`, and `fill` where there is no word."""
    if mask is None:
        return rows.unflatten(0, like.shape[:2])
    positions = rows.new_full((*like.shape[:2], rows.shape[1]), fill)
    positions[mask] = rows
    return positions


__all__ = [
    "TopicVQDecoderOutput",
    "TopicVQEncoderOutput",
    "TopicVQModel",
    "TopicVQOutput",
    "TopicVQPreTrainedModel",
]
