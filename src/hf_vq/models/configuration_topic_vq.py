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
"""TopicVQ configuration."""

import copy
import math
from typing import Any, ClassVar

from huggingface_hub.dataclasses import strict
from transformers import PreTrainedConfig

from .published_code import PublishedCodeMixin

# What a lever that is left at `None` becomes; see docs/topics.md. `None` here: computed from other fields.
VARIANTS: dict[str, dict[str, Any]] = {
    "published": {
        "word_pooling": "single_piece",
        "embedding_scaling": "none",
        "autoencoder_hidden_sizes": [500, 500, 1000],
        "autoencoder_init": "random",
        "codebook_dim": 100,
        "distance": "euclidean",
        "codebook_init": "normal",
        "codebook_update": "gradient",
        "revival_threshold": 0.0,
        "expansion_weights": "ones",
        "expansion_reduction": "sum",
        "inference_hidden_sizes": [100, 100],
        "inference_input": "counts",
        "inference_scaling": "none",
        "document_vector": False,
        "latent_dropout": 0.0,
        "inference_dropout": 0.0,
        "topic_dropout": 0.0,
        "topic_temperature": 1.0,
        "proportion_temperature": 1.0,
        "prior_mean_init": None,
        "topic_init": "random",
        "topic_combination": "product",
        "word_decoder": "mlp",
        "topic_standardization": "standard",
        "background": "none",
        "code_loss_weight": 0.0,
        "kl_warmup": 0.0,
        "loss_reduction": "mean",
        "topic_separation": "embeddings",
        "topic_separation_weight": 0.0,
        "topic_word_ranking": "score",
    },
    "submission": {
        "word_pooling": "single_piece",
        "embedding_scaling": "none",
        "autoencoder_hidden_sizes": [500, 500, 1000],
        "autoencoder_init": "random",
        "codebook_dim": 100,
        "distance": "euclidean",
        "codebook_init": "normal",
        "codebook_update": "gradient",
        "revival_threshold": 0.0,
        "expansion_weights": "inverse_distance",
        "expansion_reduction": "sum",
        "inference_hidden_sizes": [100, 100],
        "inference_input": "counts",
        "inference_scaling": "none",
        "document_vector": False,
        "latent_dropout": 0.2,
        "inference_dropout": 0.2,
        "topic_dropout": 0.2,
        "topic_temperature": 1.0,
        "proportion_temperature": 1.0,
        "prior_mean_init": 0.0,
        "topic_init": "random",
        "topic_combination": "product",
        "word_decoder": "linear",
        "topic_standardization": "none",
        "background": "none",
        "code_loss_weight": 1.0,
        "kl_warmup": 0.0,
        "loss_reduction": "sum",
        "topic_separation": "embeddings",
        "topic_separation_weight": 0.0,
        "topic_word_ranking": "score",
    },
    "recommended": {
        "word_pooling": "mean",
        "embedding_scaling": "standard",
        "autoencoder_hidden_sizes": [],
        "autoencoder_init": "pca",
        "codebook_dim": 64,
        "distance": "cosine",
        "codebook_init": "kmeans",
        "codebook_update": "ema",
        "revival_threshold": 0.05,
        "expansion_weights": "softmax",
        "expansion_reduction": "mean",
        "inference_hidden_sizes": [],
        "inference_input": "log_idf",
        "inference_scaling": "standard",
        "document_vector": True,
        "latent_dropout": 0.0,
        "inference_dropout": 0.0,
        "topic_dropout": 0.0,
        "topic_temperature": 0.75,
        "proportion_temperature": 0.25,
        "prior_mean_init": None,
        "topic_init": "clusters",
        "topic_combination": "mixture",
        "word_decoder": "latents",
        "topic_standardization": "center",
        "background": "log_frequency",
        "code_loss_weight": 1.0,
        "kl_warmup": 0.0,
        "loss_reduction": "mean",
        "topic_separation": "words",
        "topic_separation_weight": 0.03,
        "topic_word_ranking": "exclusive",
    },
}


RANKINGS = ("score", "probability", "relevance", "frex", "ctfidf", "exclusive")


@strict
class TopicVQConfig(PublishedCodeMixin, PreTrainedConfig):
    r"""Configuration of [`TopicVQModel`].

    Equation numbers refer to docs/topics.md. A lever left at `None` takes the value of the variant's column
    there, so a saved configuration is explicit, and any one lever can be switched alone.

    Args:
        variant: `"recommended"`, `"published"` (arXiv 2312.11532 and the authors' final code) or
            `"submission"` (their earlier code): what fills the levers.
        num_topics: K.
        vocab_size: V, real words that topics are made of.
        word_embedding_dim: H, width of the encoder's vectors.
        codebook_size: C, number of codes.
        codes_per_token: n, how many nearest codes a word is expanded to, eq. (2).
        encoder_name_or_path: encoder of the word embeddings; it is not a part of the model.
        encoder_revision: its revision on the Hub.
        encoder_layer: its layer, -1 for the last.
        encoder_fingerprint: what identifies its weights, so that another encoder can be refused.
        word_pooling: lever, `"mean"` over the pieces of a word, or `"single_piece"`: other words are dropped.
        embedding_scaling: lever, `"standard"` for embeddings of mean 0 and variance 1 in each dimension, or
            `"none"`.
        autoencoder_hidden_sizes: lever, hidden widths of the word encoder; the decoder mirrors it.
        autoencoder_init: lever, `"random"`, or `"pca"` for one layer that `initialize_autoencoder` sets to principal
            directions, eq. (26).
        codebook_dim: lever, width of a code.
        distance: lever, `"cosine"` or `"euclidean"`: whether code vectors are normalized, eq. (2).
        codebook_init: lever, `"kmeans"` on latents (by `initialize_codebook`), `"normal"` for N(0, 0.02) or
            `"uniform"` for U(-1, 1).
        codebook_update: lever, `"ema"` for moving averages or `"gradient"`.
        ema_decay: weight of the past in the moving averages.
        revival_threshold: lever, share of the mean count under which a code moves to a random latent; 0 never.
        commitment_loss_weight: weight of the second term of eq. (5).
        expansion_weights: lever, `"ones"`, `"inverse_distance"` or `"softmax"`, eq. (3).
        expansion_temperature: of the softmax.
        expansion_reduction: lever, `"sum"` of the weighted codes, eq. (4), or `"mean"`: weights sum to 1.
        inference_hidden_sizes: lever, hidden widths of the inference network, eq. (8); none for a linear one.
        inference_input: lever, what it reads of a bag: `"counts"`, `"log1p"` of them, `"shares"`, or `"log_idf"`,
            eq. (27).
        inference_scaling: lever, `"standard"` for inputs of mean 0 and variance 1, set by `initialize_topics`, or
            `"none"`.
        document_vector: lever, whether it also reads a vector of the document, the encoder's mean state.
        latent_dropout: lever, of the latents, in training.
        inference_dropout: lever, of what the last layers of the inference network read, in training.
        topic_dropout: lever, of the topic proportions in eq. (12), in training.
        topic_temperature: lever, of the softmax of eq. (9).
        proportion_temperature: lever, by which `infer_topics` sharpens proportions, eq. (34).
        prior_concentration: of the Dirichlet distribution whose softmax form the prior starts as, one number
            or one for each topic; eq. (10) is 1.
        prior_mean_init: lever, added to the mean of the prior at its start; `None` is 1 / K.
        prior_learned: whether the prior is learned.
        topic_init: lever, what topics start as: `"random"`, or `"clusters"` of documents, eq. (30), by
            `initialize_topics`.
        topic_combination: lever, how the topics of a document combine: `"product"`, eq. (12) and (15), or
            `"mixture"` of their distributions, eq. (28).
        word_decoder: lever, g of eq. (14), `"mlp"`, `"linear"`, or `"latents"`, a linear one that starts as the
            latents of words, eq. (29).
        word_decoder_hidden_sizes: hidden widths of the MLP.
        topic_standardization: lever, what is done with word scores over topics: `"standard"`, eq. (14), `"center"`
            or `"none"`.
        background: lever, `"log_frequency"` adds a bias that starts as the log-frequency to the logits of words
            and codes, eq. (18), `"none"` has no bias.
        word_loss_weight: weight of eq. (15).
        code_loss_weight: lever, weight of eq. (12).
        kl_loss_weight: weight of eq. (11).
        kl_warmup: lever, share of the topic stage over which that weight rises from 0, eq. (19).
        loss_reduction: lever, over documents, `"mean"` or `"sum"`.
        topic_separation: lever, what keeps topics apart, their `"embeddings"`, eq. (20), or their `"words"`, eq. (33).
        topic_separation_weight: lever, its weight.
        topic_word_ranking: lever, how `topic_words` ranks: `"score"`, `"probability"`, `"relevance"`, `"frex"`,
            `"ctfidf"` or `"exclusive"`, eq. (21)-(24), (32).
        topic_word_ranking_weight: the weight in `"relevance"` and `"frex"`.
        topic_word_exclusivity: the exponent in `"exclusive"`.
        seed_words: for each guided topic, from the first on, the ids of words that it shall have, eq. (25).
        seed_loss_weight: weight of eq. (25).
        topic_labels: names of topics.
        topic_map: for each topic the merged topic that it belongs to, counted from 0; the model itself ignores it.
        objective: what `forward` optimizes, `"codebook"`, eq. (6), `"topics"`, eq. (16), or `"joint"`, both.
    """

    model_type = "topic_vq"
    # Scalars: `Trainer.predict` would concatenate them over batches. A list, to which it adds "loss".
    keys_to_ignore_at_inference: ClassVar[list[str]] = [
        "reconstruction_loss",
        "codebook_loss",
        "commitment_loss",
        "word_loss",
        "code_loss",
        "kl_loss",
        "separation_loss",
        "seed_loss",
    ]

    variant: str = "recommended"
    num_topics: int = 50
    vocab_size: int = 5000
    word_embedding_dim: int = 384
    codebook_size: int = 300
    codes_per_token: int = 5
    encoder_name_or_path: str | None = None
    encoder_revision: str | None = None
    encoder_layer: int = -1
    encoder_fingerprint: str | None = None
    word_pooling: str | None = None
    embedding_scaling: str | None = None
    autoencoder_hidden_sizes: list[int] | None = None
    autoencoder_init: str | None = None
    codebook_dim: int | None = None
    distance: str | None = None
    codebook_init: str | None = None
    codebook_update: str | None = None
    ema_decay: float | int = 0.99
    revival_threshold: float | int | None = None
    commitment_loss_weight: float | int = 0.25
    expansion_weights: str | None = None
    expansion_temperature: float | int = 0.1
    expansion_reduction: str | None = None
    inference_hidden_sizes: list[int] | None = None
    inference_input: str | None = None
    inference_scaling: str | None = None
    document_vector: bool | None = None
    latent_dropout: float | int | None = None
    inference_dropout: float | int | None = None
    topic_dropout: float | int | None = None
    topic_temperature: float | int | None = None
    proportion_temperature: float | int | None = None
    prior_concentration: float | int | list[float | int] = 1.0
    prior_mean_init: float | int | None = None
    prior_learned: bool = True
    topic_init: str | None = None
    topic_combination: str | None = None
    word_decoder: str | None = None
    word_decoder_hidden_sizes: list[int] | tuple[int, ...] = (100, 100)
    topic_standardization: str | None = None
    background: str | None = None
    word_loss_weight: float | int = 1.0
    code_loss_weight: float | int | None = None
    kl_loss_weight: float | int = 1.0
    kl_warmup: float | int | None = None
    loss_reduction: str | None = None
    topic_separation: str | None = None
    topic_separation_weight: float | int | None = None
    topic_word_ranking: str | None = None
    topic_word_ranking_weight: float | int = 0.5
    topic_word_exclusivity: float | int = 2.0
    seed_words: list[list[int]] | None = None
    seed_loss_weight: float | int = 1.0
    topic_labels: list[str] | None = None
    topic_map: list[int] | None = None
    objective: str = "joint"

    def __post_init__(self, **kwargs: Any) -> None:
        """Fill the levers that were left open."""
        if self.variant not in VARIANTS:
            raise ValueError(f"variant is {self.variant!r}, expected one of {tuple(VARIANTS)}")
        for name, value in VARIANTS[self.variant].items():
            if getattr(self, name) is None:
                setattr(self, name, copy.copy(value))
        if self.prior_mean_init is None:
            self.prior_mean_init = 1 / max(1, self.num_topics)
        self.word_decoder_hidden_sizes = list(self.word_decoder_hidden_sizes)
        super().__post_init__(**kwargs)

    def validate_numbers(self) -> None:
        """Refuse numbers out of range, naming the field and its value."""
        at_least_one = (
            "num_topics vocab_size word_embedding_dim codebook_size codebook_dim codes_per_token"
        )
        at_least_zero = (
            "commitment_loss_weight revival_threshold word_loss_weight code_loss_weight "
            "kl_loss_weight topic_separation_weight seed_loss_weight topic_word_exclusivity"
        )
        temperatures = "expansion_temperature topic_temperature proportion_temperature"
        shares = "kl_warmup topic_word_ranking_weight"
        dropouts = "latent_dropout inference_dropout topic_dropout"
        for names, is_valid, expected in (
            (at_least_one, lambda value: value >= 1, "at least 1"),
            (at_least_zero, lambda value: value >= 0, "at least 0"),
            (temperatures, lambda value: value > 0, "a positive number"),
            ("ema_decay", lambda value: 0 < value < 1, "a number between 0 and 1"),
            (shares, lambda value: 0 <= value <= 1, "a number from 0 to 1"),
            (dropouts, lambda value: 0 <= value < 1, "a number from 0 to below 1"),
        ):
            for name in names.split():
                value = getattr(self, name)
                if not is_valid(value):
                    raise ValueError(f"{name} is {value}, expected {expected}")
        if self.codes_per_token > self.codebook_size:
            raise ValueError(
                f"codes_per_token is {self.codes_per_token}, expected at most codebook_size, {self.codebook_size}"
            )

    def validate_choices(self) -> None:
        """Refuse an unknown word, naming the known ones."""
        choices = {
            "word_pooling": ("mean", "single_piece"),
            "embedding_scaling": ("standard", "none"),
            "autoencoder_init": ("random", "pca"),
            "distance": ("cosine", "euclidean"),
            "codebook_init": ("kmeans", "normal", "uniform"),
            "codebook_update": ("ema", "gradient"),
            "expansion_weights": ("ones", "inverse_distance", "softmax"),
            "expansion_reduction": ("sum", "mean"),
            "inference_input": ("counts", "log1p", "shares", "log_idf"),
            "inference_scaling": ("standard", "none"),
            "topic_init": ("clusters", "random"),
            "topic_combination": ("product", "mixture"),
            "word_decoder": ("mlp", "linear", "latents"),
            "topic_standardization": ("standard", "center", "none"),
            "background": ("log_frequency", "none"),
            "loss_reduction": ("mean", "sum"),
            "topic_separation": ("embeddings", "words"),
            "topic_word_ranking": RANKINGS,
            "objective": ("codebook", "topics", "joint"),
        }
        for name, known in choices.items():
            if getattr(self, name) not in known:
                raise ValueError(f"{name} is {getattr(self, name)!r}, expected one of {known}")

    def validate_sizes(self) -> None:
        """Refuse widths that no layer can have."""
        for name in (
            "autoencoder_hidden_sizes",
            "inference_hidden_sizes",
            "word_decoder_hidden_sizes",
        ):
            if any(size < 1 for size in getattr(self, name)):
                raise ValueError(f"{name} is {getattr(self, name)}, expected widths of at least 1")
        if self.autoencoder_init == "pca" and self.autoencoder_hidden_sizes:
            raise ValueError(
                f"autoencoder_hidden_sizes is {self.autoencoder_hidden_sizes}, expected none with "
                'autoencoder_init="pca"'
            )

    def validate_topics(self) -> None:
        """Refuse facts about topics that do not fit their number."""
        concentration = self.prior_concentration
        values = concentration if isinstance(concentration, list) else [concentration]
        if isinstance(concentration, list) and len(concentration) != self.num_topics:
            raise ValueError(
                f"prior_concentration has {len(concentration)} numbers, expected one for each of "
                f"{self.num_topics} topics"
            )
        if not all(0 < value < math.inf for value in values):
            raise ValueError(f"prior_concentration is {concentration}, expected positive numbers")
        topic_map = self.topic_map
        if topic_map is not None and (
            len(topic_map) != self.num_topics
            or set(topic_map) != set(range(max(topic_map, default=0) + 1))
        ):
            raise ValueError(
                f"topic_map is {topic_map}, expected for each of {self.num_topics} topics a merged topic, "
                "counted from 0 without gaps"
            )
        num_labels = self.num_topics if topic_map is None else max(topic_map) + 1
        if self.topic_labels is not None and len(self.topic_labels) != num_labels:
            raise ValueError(
                f"topic_labels has {len(self.topic_labels)} names, expected {num_labels}"
            )
        for words in self.seed_words or []:
            if any(not 0 <= word < self.vocab_size for word in words):
                raise ValueError(
                    f"seed_words has {words}, expected word ids from 0 to {self.vocab_size - 1}"
                )
        if len(self.seed_words or []) > self.num_topics:
            raise ValueError(
                f"seed_words names {len(self.seed_words)} topics, expected at most {self.num_topics}"
            )


__all__ = ["TopicVQConfig"]
