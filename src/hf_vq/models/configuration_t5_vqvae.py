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
"""T5VQVAE configuration."""

import json

from huggingface_hub.dataclasses import strict
from transformers import T5Config

from .published_code import PublishedCodeMixin


@strict
class T5VQVAEConfig(PublishedCodeMixin, T5Config):
    r"""Configuration of [`T5VQVAEForConditionalGeneration`].

    On top of [`~transformers.T5Config`]; any configuration of a T5, Flan-T5 or T5-v1.1 checkpoint is one of
    these, with the defaults below. Equation numbers refer to docs/quantization.md.

    Args:
        codebook_size: number of codes, in each codebook.
        codebook_dim: width of a code. `None` is `d_model / codes_per_token`; with another width linear maps
            without bias lead to the codes and back.
        codes_per_token: codes for each sub-word, eq. (20); 1 in the paper.
        share_codebook: whether these codes come from one codebook rather than from one each.
        quantizer: `"ema"`, the paper's; `"gaussian_mixture"`; or `"none"` for a plain autoencoder.
        commitment_loss_weight: lambda of eq. (23).
        kl_loss_weight: beta of eq. (23); only the Gaussian mixture has such a loss.
        ema_decay: weight of the past in the moving averages.
        revival_threshold: share of the mean count under which a code moves to a random latent; 0 never does.
            `None` is 0.05 with the EMA quantizer, 0 with the Gaussian mixture.
        quantize_after_layer: layers of the encoder before the quantizer, from 0 (the embeddings); the rest
            reads quantized states. `None`, the paper's best, quantizes what the whole encoder says.
        latent_positions: how the decoder knows where a code stands. `"learned"`, a vector for each position,
            added to its code; `"cross_bias"`, a relative bias of the cross-attention, as in the authors'
            code; or `"none"`, as T5 has it: then the decoder reads codes as a set.
        max_latent_positions: the longest text, with `latent_positions="learned"`.
        latent_dropout: dropout of the latents, before the quantizer.
        decoder_word_dropout: share of the decoder's input tokens that read as the start token, in training with
            labels. A decoder that always knows the last words learns to guess the next one from them instead of
            reading the codes.
        role_ranges: for each role the codes, from start to before end, that words of this role may take. The
            index of a role in `role_ids` is its place here.
        role_embedding: whether the encoder also reads the roles, added to its input embeddings.
        relaxation: this and what follows is for the Gaussian mixture, as in [`GMVQConfig`].
        codebook_update: `"gradient"` or `"ema"`.
        feature_weights: whether the encoder weighs the dimensions of the distance, eq. (8).
        assignment_variance: sigma squared of eq. (8) and (11).
        variance: `"adaptive"`, `"fixed"` or `"none"`.
        gumbel_noise: whether the relaxed code weights are sampled, eq. (12).
        noise_anneal: whether both noises fall to zero together with the temperature.
        temperature_start: first temperature of the relaxation.
        temperature_end: last temperature of the relaxation.
        temperature_anneal_steps: updates from the first to the last temperature.
    """

    model_type = "t5_vqvae"
    # What T5 does not return: `Trainer.predict` gives what it gives for T5, and would concatenate scalars. A
    # list, to which `Trainer` adds.
    keys_to_ignore_at_inference = T5Config.keys_to_ignore_at_inference + [
        "reconstruction_loss",
        "commitment_loss",
        "kl_loss",
        "codes",
        "latents",
        "quantized",
    ]

    codebook_size: int = 4096
    codebook_dim: int | None = None
    codes_per_token: int = 1
    share_codebook: bool = False
    quantizer: str = "ema"
    commitment_loss_weight: float | int = 0.25
    kl_loss_weight: float | int = 0.1
    ema_decay: float | int = 0.99
    revival_threshold: float | int | None = None
    quantize_after_layer: int | None = None
    latent_positions: str = "learned"
    max_latent_positions: int = 512
    latent_dropout: float | int = 0.0
    decoder_word_dropout: float | int = 0.0
    role_ranges: dict[str, list[int] | tuple[int, ...]] | None = None
    role_embedding: bool = False
    relaxation: str = "gumbel_softmax"
    codebook_update: str = "gradient"
    feature_weights: bool = False
    assignment_variance: float | int = 0.5
    variance: str = "adaptive"
    gumbel_noise: bool = True
    noise_anneal: bool = False
    temperature_start: float | int = 2.0
    temperature_end: float | int = 0.1
    temperature_anneal_steps: int = 10_000

    def to_json_string(self, use_diff: bool = True) -> str:
        """As in transformers, which sorts names, but with the roles in their order: it is what `role_ids` mean."""
        values = json.loads(super().to_json_string(use_diff))
        if self.role_ranges:
            values["role_ranges"] = self.role_ranges
        return json.dumps(values, indent=2) + "\n"

    def validate_numbers(self) -> None:
        """Refuse numbers out of range, naming the field and its value."""
        at_least_one = "codebook_size codebook_dim codes_per_token max_latent_positions temperature_anneal_steps"
        positive = "assignment_variance temperature_start temperature_end"
        at_least_zero = "commitment_loss_weight kl_loss_weight revival_threshold"
        for names, is_valid, expected in (
            (at_least_one, lambda value: value >= 1, "at least 1"),
            (positive, lambda value: value > 0, "a positive number"),
            (at_least_zero, lambda value: value >= 0, "at least 0"),
            ("ema_decay", lambda value: 0 < value < 1, "a number between 0 and 1"),
            ("latent_dropout", lambda value: 0 <= value < 1, "a number from 0 to below 1"),
            ("decoder_word_dropout", lambda value: 0 <= value <= 1, "a number from 0 to 1"),
        ):
            for name in names.split():
                value = getattr(self, name)
                if value is not None and not is_valid(value):
                    raise ValueError(f"{name} is {value}, expected {expected}")

    def validate_choices(self) -> None:
        """Refuse an unknown word, naming the known ones."""
        choices = {
            "quantizer": ("ema", "gaussian_mixture", "none"),
            "latent_positions": ("learned", "cross_bias", "none"),
            "relaxation": ("gumbel_softmax", "straight_through"),
            "codebook_update": ("gradient", "ema"),
            "variance": ("adaptive", "fixed", "none"),
        }
        for name, known in choices.items():
            if getattr(self, name) not in known:
                raise ValueError(f"{name} is {getattr(self, name)!r}, expected one of {known}")

    def validate_codes(self) -> None:
        """Refuse codes that do not fit into the model."""
        if self.codebook_dim is None and self.d_model % max(1, self.codes_per_token):
            raise ValueError(
                f"codes_per_token is {self.codes_per_token}, expected a divisor of d_model, {self.d_model}; "
                "or set codebook_dim"
            )
        layer = self.quantize_after_layer
        if layer is not None and not 0 <= layer < self.num_layers:
            raise ValueError(
                f"quantize_after_layer is {layer}, expected 0 to {self.num_layers - 1} of {self.num_layers} "
                "layers, or None for the end of the encoder"
            )

    def validate_roles(self) -> None:
        """Refuse ranges that are empty, outside the codebook, or overlap without being equal."""
        ranges = self.role_ranges or {}
        if self.role_embedding and not ranges:
            raise ValueError("role_embedding is True, but role_ranges names no roles")
        for name, bounds in ranges.items():
            if len(bounds) != 2 or not 0 <= bounds[0] < bounds[1] <= self.codebook_size:
                raise ValueError(
                    f"the range of role {name!r} is {list(bounds)}, expected [start, end) inside 0 to "
                    f"{self.codebook_size}"
                )
        distinct = sorted({tuple(bounds) for bounds in ranges.values()})
        for (start, end), (next_start, next_end) in zip(distinct, distinct[1:], strict=False):
            if next_start < end:
                raise ValueError(
                    f"role ranges [{start}, {end}) and [{next_start}, {next_end}) overlap, expected disjoint or "
                    "equal ones"
                )


__all__ = ["T5VQVAEConfig"]
