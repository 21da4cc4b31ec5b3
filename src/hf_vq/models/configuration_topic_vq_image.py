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
"""Configuration of TopicVQ for images."""

import copy
from typing import Any, ClassVar

from huggingface_hub.dataclasses import strict
from transformers import CONFIG_MAPPING, PreTrainedConfig

from .published_code import PublishedCodeMixin

# What a lever that is left at `None` becomes; see docs/topic_images.md.
IMAGE_VARIANTS: dict[str, dict[str, Any]] = {
    "recommended": {
        "inference_network": "bag",
        "inference_hidden_sizes": [],
        "inference_dropout": 0.0,
        "posterior_standardization": "mean",
        "topic_init": "clusters",
        "topic_temperature": 0.3,
        "topic_dropout": 0.0,
        "topic_combination": "mixture",
        "background": "log_frequency",
        "condition": "prefix_and_logits",
        "topic_condition": "embedding",
        "condition_dropout": 0.1,
        "prior_teaches_topics": True,
        "prior_loss_scaling": "sum",
        "kl_warmup": 0.2,
    },
    "published": {
        "inference_network": "one_hot",
        "inference_hidden_sizes": [100, 100],
        "inference_dropout": 0.2,
        "posterior_standardization": "both",
        "topic_init": "random",
        "topic_temperature": 1.0,
        "topic_dropout": 0.0,
        "topic_combination": "product",
        "background": "none",
        "condition": "prefix_and_layers",
        "topic_condition": "codebook",
        "condition_dropout": 0.0,
        "prior_teaches_topics": False,
        "prior_loss_scaling": "position_mean",
        "kl_warmup": 0.0,
    },
}


@strict
class TopicVQImageConfig(PublishedCodeMixin, PreTrainedConfig):
    r"""Configuration of [`TopicVQForImageGeneration`].

    Equation numbers refer to docs/topic_images.md. A lever left at `None` takes the value of the variant's
    column there, so a saved configuration is explicit, and any one lever can be switched alone.

    Args:
        variant: `"recommended"`, or `"published"` (arXiv 2312.11532 and the authors' code, as far as a
            transformer prior goes): what fills the levers.
        num_topics: K.
        codebook_size: C, codes of the image tokenizer.
        codebook_dim: D, width of its code vectors.
        grid_size: rows and columns of a map of codes; T is their product.
        hidden_size: width of the decoder.
        num_hidden_layers: its layers.
        num_attention_heads: its heads.
        decoder_config: what else to tell the configuration of the decoder, a dict with `model_type` and fields
            of that type, for example `{"model_type": "gpt2", "attn_pdrop": 0.0}`. Any causal decoder of
            transformers that takes `inputs_embeds` will do. Sizes that it names take the place of those above.
        codes_per_position: n, how many nearest codes a code counts as, eq. (I3).
        expansion_temperature: of their weights.
        condition: lever, `"prefix"` if topics are a token before the codes, `"prefix_and_layers"` if they are
            also added to the input of each layer, eq. (I7), or `"prefix_and_logits"` if they also raise the logits of
            their codes, eq. (I8).
        topic_condition: lever, `"codebook"` if the decoder sees topics through the codes that they consist of,
            eq. (I5), or `"embedding"` for learned vectors.
        logit_scale_init: what the learned scale of eq. (I8) starts as.
        condition_dropout: lever, probability that a learned vector of no topic takes the place of the topics in
            training. Above 0 the model can also generate without topics, and with guidance.
        prior_teaches_topics: lever, whether the decoder's likelihood has a gradient to topic proportions.
        prior_loss_scaling: lever, `"sum"` over positions, eq. (I10), or their `"position_mean"`.
        code_keep_probability: with which the decoder sees an earlier code, in training.
        inference_network: lever, what reads the codes, eq. (I4): `"map"`, convolutions over their vectors,
            `"one_hot"`, one layer over the whole map, or `"bag"`, which knows no positions.
        inference_channels: of the convolutions.
        inference_hidden_sizes: lever, widths of the layers after that.
        inference_dropout: lever, of what the last layers of the inference network read, in training.
        posterior_standardization: lever, what is standardized over the batch: the `"mean"` of the posterior,
            `"both"` mean and log-variance, or `"none"`.
        topic_init: lever, what topics start as: `"clusters"` of training images, eq. (I13), or `"random"`.
        topic_dropout: lever, of the topic proportions in eq. (I9), in training.
        topic_temperature: lever, of the softmax that makes proportions.
        prior_concentration: of the Dirichlet distribution whose softmax form the prior of topics starts as.
        prior_mean_init: added to the mean of that prior at its start.
        prior_learned: whether it is learned.
        topic_combination: lever, how the topics of an image combine to a bag of codes: `"mixture"` or `"product"`.
        background: lever, `"log_frequency"` adds a bias to the logits of a topic's codes, `"none"` has none.
        code_loss_weight: weight of the bag of codes, eq. (I9).
        kl_loss_weight: weight of the divergence from the prior of topics.
        kl_warmup: lever, share of the training over which that weight rises from 0.
        tokenizer_fingerprint: what identifies the image tokenizer, so that another one can be refused.
        topic_labels: names of topics.
        initializer_range: standard deviation of new weights of the decoder and its inputs.
        tie_word_embeddings: whether the decoder's first and last layer share their weights.
    """

    model_type = "topic_vq_image"
    # Scalars: `Trainer.predict` would concatenate them over batches. A list, to which it adds "loss".
    keys_to_ignore_at_inference: ClassVar[list[str]] = ["prior_loss", "code_loss", "kl_loss"]

    variant: str = "recommended"
    num_topics: int = 20
    codebook_size: int = 1024
    codebook_dim: int = 64
    grid_size: list[int] | tuple[int, ...] = (8, 8)
    hidden_size: int = 512
    num_hidden_layers: int = 8
    num_attention_heads: int = 8
    decoder_config: dict[str, Any] | None = None
    codes_per_position: int = 1
    expansion_temperature: float | int = 0.1
    condition: str | None = None
    topic_condition: str | None = None
    logit_scale_init: float | int = 0.25
    condition_dropout: float | int | None = None
    prior_teaches_topics: bool | None = None
    prior_loss_scaling: str | None = None
    code_keep_probability: float | int = 1.0
    inference_network: str | None = None
    inference_channels: int = 64
    inference_hidden_sizes: list[int] | None = None
    inference_dropout: float | int | None = None
    posterior_standardization: str | None = None
    topic_init: str | None = None
    topic_dropout: float | int | None = None
    topic_temperature: float | int | None = None
    prior_concentration: float | int = 1.0
    prior_mean_init: float | int = 0.0
    prior_learned: bool = True
    topic_combination: str | None = None
    background: str | None = None
    code_loss_weight: float | int = 1.0
    kl_loss_weight: float | int = 1.0
    kl_warmup: float | int | None = None
    tokenizer_fingerprint: str | None = None
    topic_labels: list[str] | None = None
    initializer_range: float | int = 0.02
    tie_word_embeddings: bool = False

    def __post_init__(self, **kwargs: Any) -> None:
        """Fill the levers that were left open, and say the sizes of the decoder in one place."""
        if self.variant not in IMAGE_VARIANTS:
            raise ValueError(
                f"variant is {self.variant!r}, expected one of {tuple(IMAGE_VARIANTS)}"
            )
        for name, value in IMAGE_VARIANTS[self.variant].items():
            if getattr(self, name) is None:
                setattr(self, name, copy.copy(value))
        self.grid_size = list(self.grid_size)
        fields = dict(self.decoder_config or {})
        model_type = fields.pop("model_type", "gpt2")
        if model_type not in CONFIG_MAPPING:
            raise ValueError(f"decoder_config has model_type {model_type!r}, which is unknown")
        common = {own: name for name, own in CONFIG_MAPPING[model_type].attribute_map.items()}
        fields = {common.get(name, name): value for name, value in fields.items()}
        for name in (
            "hidden_size",
            "num_hidden_layers",
            "num_attention_heads",
            "initializer_range",
            "tie_word_embeddings",
        ):
            setattr(self, name, fields.pop(name, getattr(self, name)))
        self.decoder_config = {"model_type": model_type, **fields}
        super().__post_init__(**kwargs)

    @property
    def num_positions(self) -> int:
        """T, codes of an image."""
        return self.grid_size[0] * self.grid_size[1]

    @property
    def prior_loss_weight(self) -> float:
        """Of the sum over positions, eq. (I10)."""
        return 1.0 if self.prior_loss_scaling == "sum" else 1 / self.num_positions

    def build_decoder_config(self) -> PreTrainedConfig:
        """Configuration of the decoder: as many tokens as there are codes, no special ones."""
        ours = {
            "vocab_size": self.codebook_size,
            "max_position_embeddings": self.num_positions,
            "hidden_size": self.hidden_size,
            "num_hidden_layers": self.num_hidden_layers,
            "num_attention_heads": self.num_attention_heads,
            "initializer_range": self.initializer_range,
            "bos_token_id": None,
            "eos_token_id": None,
            "pad_token_id": None,
            "tie_word_embeddings": self.tie_word_embeddings,
        }
        fields = ours | dict(self.decoder_config or {})
        kind = CONFIG_MAPPING[fields.pop("model_type")]
        if hasattr(kind, "is_decoder"):  # BERT and its kin look ahead unless told not to
            fields["is_decoder"] = True
        return kind(**fields)

    def validate_numbers(self) -> None:
        """Refuse numbers out of range, naming the field and its value."""
        at_least_one = (
            "num_topics codebook_size codebook_dim hidden_size num_hidden_layers num_attention_heads "
            "codes_per_position inference_channels"
        )
        positive = "expansion_temperature topic_temperature prior_concentration initializer_range"
        below_one = "condition_dropout inference_dropout topic_dropout"
        for names, is_valid, expected in (
            (at_least_one, lambda value: value >= 1, "at least 1"),
            (
                "code_loss_weight kl_loss_weight logit_scale_init",
                lambda value: value >= 0,
                "at least 0",
            ),
            (positive, lambda value: value > 0, "a positive number"),
            (below_one, lambda value: 0 <= value < 1, "a number from 0 to below 1"),
            ("kl_warmup", lambda value: 0 <= value <= 1, "a number from 0 to 1"),
            ("code_keep_probability", lambda value: 0 < value <= 1, "a number above 0, at most 1"),
        ):
            for name in names.split():
                value = getattr(self, name)
                if not is_valid(value):
                    raise ValueError(f"{name} is {value}, expected {expected}")
        if self.codes_per_position > self.codebook_size:
            raise ValueError(
                f"codes_per_position is {self.codes_per_position}, expected at most codebook_size, "
                f"{self.codebook_size}"
            )

    def validate_choices(self) -> None:
        """Refuse an unknown word, naming the known ones."""
        choices = {
            "condition": ("prefix", "prefix_and_layers", "prefix_and_logits"),
            "topic_condition": ("codebook", "embedding"),
            "prior_loss_scaling": ("sum", "position_mean"),
            "inference_network": ("map", "one_hot", "bag"),
            "posterior_standardization": ("mean", "both", "none"),
            "topic_init": ("clusters", "random"),
            "topic_combination": ("mixture", "product"),
            "background": ("log_frequency", "none"),
        }
        for name, known in choices.items():
            if getattr(self, name) not in known:
                raise ValueError(f"{name} is {getattr(self, name)!r}, expected one of {known}")
        if self.condition == "prefix_and_logits" and self.topic_combination != "mixture":
            raise ValueError(
                f"topic_combination is {self.topic_combination!r}, expected 'mixture' with "
                'condition="prefix_and_logits": logits of codes need the distribution of an image by itself'
            )

    def validate_shapes(self) -> None:
        """Refuse shapes that cannot be built."""
        if len(self.grid_size) != 2 or min(self.grid_size) < 1:
            raise ValueError(f"grid_size is {self.grid_size}, expected rows and columns")
        if any(size < 1 for size in self.inference_hidden_sizes or []):
            raise ValueError(
                f"inference_hidden_sizes is {self.inference_hidden_sizes}, expected widths of at least 1"
            )
        if self.inference_network == "one_hot" and not self.inference_hidden_sizes:
            raise ValueError(
                'inference_hidden_sizes is empty, expected a width with inference_network="one_hot"'
            )
        for name, expected in (
            ("vocab_size", self.codebook_size),
            ("max_position_embeddings", self.num_positions),
        ):
            value = (self.decoder_config or {}).get(name, expected)
            if value != expected:
                raise ValueError(f"decoder_config has {name}={value}, expected {expected}")
        if self.topic_labels is not None and len(self.topic_labels) != self.num_topics:
            raise ValueError(
                f"topic_labels has {len(self.topic_labels)} names, expected {self.num_topics}"
            )


__all__ = ["TopicVQImageConfig"]
