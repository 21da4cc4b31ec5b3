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
"""GM-VQ configuration."""

from typing import ClassVar

from huggingface_hub.dataclasses import strict
from transformers import PreTrainedConfig

from .published_code import PublishedCodeMixin


@strict
class GMVQConfig(PublishedCodeMixin, PreTrainedConfig):
    r"""Configuration of [`GMVQModel`].

    The defaults are the paper's model for 32 x 32 images and 8 x 8 codes; where the paper is silent they are
    ours. Every ablation is a value here. Equation numbers refer to docs/quantization.md.

    Args:
        image_size: side of the images that the processor makes; the model takes any size that the stride
            divides.
        num_channels: 3 for RGB, 1 for gray.
        hidden_size: channels at the resolution of the codes; finer resolutions have half as many.
        residual_hidden_size: channels inside a residual block.
        num_residual_blocks: residual blocks of the encoder, and as many of the decoder.
        num_downsamples: halvings of the resolution; the stride is `2 ** num_downsamples`.
        codebook_size: number of codes.
        codebook_dim: width of a code.
        quantizer: `"gaussian_mixture"`, or `"ema"` for the classic VQ-VAE bottleneck in its place.
        feature_weights: whether the encoder also weighs the dimensions of the distance, eq. (8).
        assignment_variance: sigma squared of eq. (8) and (11).
        variance: noise of the relaxed sample, `"adaptive"` as in the paper, `"fixed"` or `"none"`.
        gumbel_noise: whether the relaxed code weights are sampled, eq. (12).
        noise_anneal: whether both noises fall to zero together with the temperature; the paper keeps them.
        relaxation: `"gumbel_softmax"` as in the paper, or `"straight_through"`: hard codes in training too.
        codebook_update: of the Gaussian mixture, `"gradient"` as in the paper, or `"ema"`: codes follow their
            latents.
        kl: `"aggregated"`, the paper's ALBO, eq. (15), or `"per_token"`, the ELBO that it replaces, eq. (18).
        commitment_loss_weight: gamma of eq. (17).
        kl_loss_weight: beta of eq. (17).
        temperature_start: first temperature of the relaxation.
        temperature_end: last temperature of the relaxation.
        temperature_anneal_steps: updates from the first to the last temperature.
        ema_decay: weight of the past in the moving averages of the EMA quantizer.
        revival_threshold: share of the mean count under which a code moves to a random latent; 0 never does.
            `None` is what the papers have: 0.05 with the EMA quantizer, 0 with the Gaussian mixture.
    """

    model_type = "gmvq"
    # Scalars: `Trainer.predict` would concatenate them over batches. A list, to which it adds "loss".
    keys_to_ignore_at_inference: ClassVar[list[str]] = [
        "reconstruction_loss",
        "commitment_loss",
        "kl_loss",
        "perplexity",
        "posterior_entropy",
        "aggregated_entropy",
        "mutual_information",
        "soft_hard_gap",
        "temperature",
    ]

    image_size: int = 32
    num_channels: int = 3
    hidden_size: int = 128
    residual_hidden_size: int = 32
    num_residual_blocks: int = 2
    num_downsamples: int = 2
    codebook_size: int = 1024
    codebook_dim: int = 64
    quantizer: str = "gaussian_mixture"
    feature_weights: bool = True
    assignment_variance: float | int = 0.5
    variance: str = "adaptive"
    gumbel_noise: bool = True
    noise_anneal: bool = False
    relaxation: str = "gumbel_softmax"
    codebook_update: str = "gradient"
    kl: str = "aggregated"
    commitment_loss_weight: float | int = 0.25
    kl_loss_weight: float | int = 1.0
    temperature_start: float | int = 2.0
    temperature_end: float | int = 0.1
    temperature_anneal_steps: int = 10_000
    ema_decay: float | int = 0.99
    revival_threshold: float | int | None = None

    def validate_numbers(self) -> None:
        """Refuse numbers out of range, naming the field and its value."""
        at_least_one = (
            "image_size hidden_size residual_hidden_size num_downsamples codebook_size codebook_dim "
            "temperature_anneal_steps"
        )
        positive = "assignment_variance temperature_start temperature_end"
        at_least_zero = (
            "num_residual_blocks commitment_loss_weight kl_loss_weight revival_threshold"
        )
        for names, is_valid, expected in (
            (at_least_one, lambda value: value >= 1, "at least 1"),
            (positive, lambda value: value > 0, "a positive number"),
            (at_least_zero, lambda value: value >= 0, "at least 0"),
            ("ema_decay", lambda value: 0 < value < 1, "a number between 0 and 1"),
        ):
            for name in names.split():
                value = getattr(self, name)
                if value is not None and not is_valid(value):
                    raise ValueError(f"{name} is {value}, expected {expected}")

    def validate_architecture(self) -> None:
        """Refuse what cannot be built."""
        if self.hidden_size % 2:
            raise ValueError(f"hidden_size is {self.hidden_size}, expected an even number")
        if self.num_channels not in (1, 3):
            raise ValueError(f"num_channels is {self.num_channels}, expected 1 (gray) or 3 (RGB)")
        stride = 2**self.num_downsamples
        if self.image_size % stride:
            raise ValueError(
                f"image_size is {self.image_size}, expected a multiple of the stride, {stride} (2 ** num_downsamples)"
            )

    def validate_choices(self) -> None:
        """Refuse an unknown word, naming the known ones."""
        choices = {
            "quantizer": ("gaussian_mixture", "ema"),
            "variance": ("adaptive", "fixed", "none"),
            "relaxation": ("gumbel_softmax", "straight_through"),
            "codebook_update": ("gradient", "ema"),
            "kl": ("aggregated", "per_token"),
        }
        for name, known in choices.items():
            if getattr(self, name) not in known:
                raise ValueError(f"{name} is {getattr(self, name)!r}, expected one of {known}")


__all__ = ["GMVQConfig"]
