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

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from transformers.processing_utils import Unpack
from transformers.utils import TransformersKwargs
from transformers.utils.generic import can_return_tuple

from .configuration_topic_vq import RANKINGS, TopicVQConfig
from .eval_mode import eval_mode
from .topic_inference import (
    BagFeatures,
    TopicInference,
    TopicMixture,
    TopicPrior,
    TopicProduct,
    sample_proportions,
    topic_similarity,
    word_ambiguity,
)
from .topic_ranking import rank_by_ctfidf, rank_by_exclusivity, rank_by_frex, rank_by_relevance
from .topic_vq_inputs import (
    check_code_counts,
    check_codes,
    check_word_counts,
    check_words,
    word_positions,
    word_rows,
)
from .topic_vq_layers import (
    CorpusStatistics,
    LossWarmup,
    TopicVQPreTrainedModel,
    TopicWordDecoder,
)
from .topic_vq_outputs import TopicVQDecoderOutput, TopicVQEncoderOutput, TopicVQOutput
from .topic_vq_state import TopicVQTrainableModel
from .word_autoencoder import WordAutoencoder


class TopicVQModel(TopicVQTrainableModel):
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

    # Words and codes

    def encode(
        self, word_embeddings: torch.Tensor, word_mask: torch.Tensor | None = None
    ) -> TopicVQEncoderOutput:
        """Word embeddings `(B, N, H)` to codes; `word_mask` `(B, N)` says which positions are words."""
        mask = check_words(self.config, word_embeddings, word_mask)
        words = self.autoencoder
        latents = words.encode(words.scale(word_rows(word_embeddings, mask)))
        codes, code_weights = words.quantizer.expand(latents)
        quantized = words.quantizer.combine(codes, code_weights).to(words.dtype)
        return TopicVQEncoderOutput(
            codes=word_positions(codes, mask, word_embeddings, -1),
            code_weights=word_positions(code_weights, mask, word_embeddings),
            latents=word_positions(latents, mask, word_embeddings),
            quantized=word_positions(quantized, mask, word_embeddings),
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
        check_codes(self.config, codes)
        mask = codes[..., 0] >= 0
        rows, quantizer = codes[mask], self.quantizer
        weights = quantizer.fixed_weights(rows) if code_weights is None else code_weights[mask]
        vectors = self.autoencoder.decode(quantizer.combine(rows, weights))
        return TopicVQDecoderOutput(reconstruction=word_positions(vectors, mask, codes))

    def bag(
        self,
        codes: torch.LongTensor,
        code_weights: torch.Tensor,
        word_mask: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Codes and weights `(B, N, codes_per_token)` of documents to their bags `(B, codebook_size)`, eq. (7)."""
        kept = codes >= 0 if word_mask is None else (codes >= 0) & word_mask[..., None]
        weights = torch.where(kept, code_weights.float(), 0.0)
        bags = weights.new_zeros(codes.shape[0], self.config.codebook_size)
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
        with eval_mode(self):
            mean, log_variance = self._posterior(code_counts, document_vectors)
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
        with eval_mode(self):
            log_probs = self.word_mixture.log_probabilities(
                topic_proportions.float(), self.topic_word_scores
            )
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
        mask = check_words(self.config, word_embeddings, word_mask)
        output = self.autoencoder(word_rows(word_embeddings, mask), self.quantizer_bypassed)
        return {
            name: value
            if value.ndim == 0
            else word_positions(value, mask, word_embeddings, -1 if name == "codes" else 0)
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
        check_word_counts(self.config, word_counts, code_counts.shape[0])
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
        check_code_counts(self.config, code_counts)
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
        return entropy * (word_counts.sum() / word_counts.shape[0])

    def _seed_loss(self, scores: torch.Tensor) -> torch.Tensor:
        """Eq. (25): mean over seeds of the negative log-probability in their topics."""
        seeds = self.config.seed_words or []
        log_probs = self._with_background(scores)
        topics = [k for k, words in enumerate(seeds) for _ in words]
        words = [word for words in seeds for word in words]
        return -log_probs[topics, words].mean()


__all__ = [
    "TopicVQDecoderOutput",
    "TopicVQEncoderOutput",
    "TopicVQModel",
    "TopicVQOutput",
    "TopicVQPreTrainedModel",
]
