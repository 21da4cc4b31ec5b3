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
"""GM-VQ: an image autoencoder whose codebook is a Gaussian mixture with adaptive variances (arXiv 2410.10180).

The encoder gives every position of a grid a distribution over codes. Training decodes a noisy, relaxed sample
of it and pushes the distribution of codes over the whole batch towards uniform; at test time a position is
its most probable code.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn
from transformers import PreTrainedModel
from transformers import initialization as init
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.processing_utils import Unpack
from transformers.utils import ModelOutput, TransformersKwargs
from transformers.utils.output_capturing import capture_outputs

from .configuration_gmvq import GMVQConfig
from .eval_mode import eval_mode
from .float32_parts import Float32PartsMixin
from .gaussian_mixture_quantizer import build_quantizer
from .safe_weights import SafeWeightsMixin
from .vector_quantization import Quantizer


@dataclass
class GMVQEncoderOutput(ModelOutput):
    """What `encode` returns; the grid is `(height, width) = image size / stride`.

    Attributes:
        latents: `(batch, codebook_dim, height, width)`, before the quantizer.
        quantized: `(batch, codebook_dim, height, width)`, the vectors of the codes.
        codes: `(batch, height, width)`, integers in `[0, codebook_size)`.
    """

    latents: torch.FloatTensor | None = None
    quantized: torch.FloatTensor | None = None
    codes: torch.LongTensor | None = None


@dataclass
class GMVQDecoderOutput(ModelOutput):
    """What `decode` returns.

    Attributes:
        reconstruction: `(batch, num_channels, image_height, image_width)`, around [0, 1] but not clamped.
    """

    reconstruction: torch.FloatTensor | None = None


@dataclass
class GMVQOutput(ModelOutput):
    """What `forward` returns. Losses are sums over an image, averaged over the batch; entropies are in nats.

    Attributes:
        loss: `()`, `reconstruction_loss + gamma * commitment_loss + beta * kl_loss`, eq. (17).
        reconstruction: `(batch, num_channels, image_height, image_width)`; in training of the relaxed sample.
        codes: `(batch, height, width)`, the most probable codes, -1 nowhere.
        latents: `(batch, codebook_dim, height, width)`, before the quantizer.
        quantized: `(batch, codebook_dim, height, width)`, what the decoder read.
        reconstruction_loss: `()`, squared error.
        commitment_loss: `()`, expected squared distance from latents to code vectors, eq. (14).
        kl_loss: `()`, eq. (15), or with `kl="per_token"` eq. (18).
        perplexity: `()`, of the codes of this batch: it grows with the batch, so never compare it across
            batch sizes.
        posterior_entropy: `()`, mean entropy of the code of one position: how undecided the encoder is.
        aggregated_entropy: `()`, entropy of the codes of the batch: never below the mean entropy of one
            position.
        mutual_information: `()`, their difference: what a code tells about its image.
        soft_hard_gap: `()`, squared error of hard codes less that of the posterior mean; only when asked for.
        temperature: `()`, of the relaxation at this update.
        hidden_states: tuple of `(batch, hidden_size, height, width)`, only with `output_hidden_states=True`:
            what enters the first residual block of the encoder, then what leaves each block of the encoder
            and of the decoder.
    """

    loss: torch.FloatTensor | None = None
    reconstruction: torch.FloatTensor | None = None
    codes: torch.LongTensor | None = None
    latents: torch.FloatTensor | None = None
    quantized: torch.FloatTensor | None = None
    reconstruction_loss: torch.FloatTensor | None = None
    commitment_loss: torch.FloatTensor | None = None
    kl_loss: torch.FloatTensor | None = None
    perplexity: torch.FloatTensor | None = None
    posterior_entropy: torch.FloatTensor | None = None
    aggregated_entropy: torch.FloatTensor | None = None
    mutual_information: torch.FloatTensor | None = None
    soft_hard_gap: torch.FloatTensor | None = None
    temperature: torch.FloatTensor | None = None
    hidden_states: tuple[torch.FloatTensor, ...] | None = None


class GMVQResidualBlock(GradientCheckpointingLayer):
    """ReLU, 3 x 3 convolution, ReLU, 1 x 1 convolution, added to the input."""

    def __init__(self, config: GMVQConfig):
        super().__init__()
        self.conv_in = nn.Conv2d(config.hidden_size, config.residual_hidden_size, 3, padding=1)
        self.conv_out = nn.Conv2d(config.residual_hidden_size, config.hidden_size, 1)
        self.conv_out.init_gain = 0.1

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        return hidden_states + self.conv_out(F.relu(self.conv_in(F.relu(hidden_states))))


class GMVQEncoder(nn.Module):
    """Image to a grid of `out_channels` numbers for each code."""

    def __init__(self, config: GMVQConfig, out_channels: int):
        super().__init__()
        widths = (
            [config.num_channels]
            + [config.hidden_size // 2] * (config.num_downsamples - 1)
            + [config.hidden_size]
        )
        self.downsamples = nn.ModuleList(
            nn.Conv2d(narrow, wide, 4, stride=2, padding=1)
            for narrow, wide in zip(widths, widths[1:], strict=False)
        )
        self.conv_mid = nn.Conv2d(config.hidden_size, config.hidden_size, 3, padding=1)
        self.blocks = nn.ModuleList(
            GMVQResidualBlock(config) for _ in range(config.num_residual_blocks)
        )
        self.conv_out = nn.Conv2d(config.hidden_size, out_channels, 1)
        self.conv_out.num_random_channels = config.codebook_dim

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        hidden_states = 2 * pixel_values - 1
        for downsample in self.downsamples:
            hidden_states = F.relu(downsample(hidden_states))
        hidden_states = self.conv_mid(hidden_states)
        for block in self.blocks:
            hidden_states = block(hidden_states)
        return self.conv_out(F.relu(hidden_states))


class GMVQDecoder(nn.Module):
    """Grid of code vectors to an image; the encoder's mirror."""

    def __init__(self, config: GMVQConfig):
        super().__init__()
        widths = (
            [config.hidden_size]
            + [config.hidden_size // 2] * (config.num_downsamples - 1)
            + [config.num_channels]
        )
        self.conv_in = nn.Conv2d(config.codebook_dim, config.hidden_size, 3, padding=1)
        self.blocks = nn.ModuleList(
            GMVQResidualBlock(config) for _ in range(config.num_residual_blocks)
        )
        self.upsamples = nn.ModuleList(
            nn.ConvTranspose2d(wide, narrow, 4, stride=2, padding=1)
            for wide, narrow in zip(widths, widths[1:], strict=False)
        )
        self.upsamples[-1].init_gain = 0.1

    def forward(self, quantized: torch.Tensor) -> torch.Tensor:
        hidden_states = self.conv_in(quantized)
        for block in self.blocks:
            hidden_states = block(hidden_states)
        for upsample in self.upsamples:
            hidden_states = upsample(F.relu(hidden_states))
        return (hidden_states + 1) / 2


class GMVQPreTrainedModel(Float32PartsMixin, SafeWeightsMixin, PreTrainedModel):
    """Configuration, loading and initialization of GM-VQ."""

    config: GMVQConfig
    base_model_prefix = "gmvq"
    main_input_name = "pixel_values"
    input_modalities = ("image",)
    accepts_loss_kwargs = (
        False  # the loss is a mean over the batch: `Trainer` divides by the accumulation steps
    )
    supports_gradient_checkpointing = True
    _can_record_outputs = {"hidden_states": GMVQResidualBlock}
    _no_split_modules = ["GMVQResidualBlock"]
    _keep_in_fp32_modules_strict = ["quantizer"]
    model_tags = ["vector-quantization", "image-tokenizer"]

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """Fill new weights.

        | parameter | distribution |
        |---|---|
        | convolutions | N(0, 2 / fan-in) (He), an image that is mostly gray gives latents of unit size |
        | last convolution of a residual block | a tenth of He: the block starts close to the identity |
        | last upsampling | a tenth of He: the first image is gray, not noise |
        | rows of the encoder's output that weigh features | 0: all dimensions weigh the same |
        | biases | 0 |
        | codebook | N(0, 1), to be replaced by `initialize_codebook` |
        """
        super()._init_weights(module)
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            # A transposed convolution of stride s adds kernel^2 / s^2 inputs into each output.
            fan_in = module.in_channels * module.kernel_size[0] ** 2
            if isinstance(module, nn.ConvTranspose2d):
                fan_in //= module.stride[0] ** 2
            std = getattr(module, "init_gain", 1.0) * math.sqrt(2 / fan_in)
            num_random = getattr(module, "num_random_channels", len(module.weight))
            weight = std * torch.randn_like(module.weight)
            weight[num_random:] = 0
            init.copy_(module.weight, weight)
            init.zeros_(module.bias)
        elif isinstance(module, Quantizer):
            for tensor, value in module.initial_values():
                init.copy_(tensor, value)


class GMVQModel(GMVQPreTrainedModel):
    """Image autoencoder with a Gaussian-mixture codebook.

    Before training, give the codebook a start from data with `initialize_codebook`; see also
    `bypass_quantizer`.

    Example:
    ```python
    >>> import torch
    >>> from hf_vq import GMVQConfig, GMVQModel
    >>> model = GMVQModel(GMVQConfig(hidden_size=16, codebook_size=32)).eval()
    >>> codes = model.encode(torch.rand(1, 3, 32, 32)).codes
    >>> codes.shape
    torch.Size([1, 8, 8])
    >>> model.decode(codes=codes).reconstruction.shape
    torch.Size([1, 3, 32, 32])

    ```
    """

    def __init__(self, config: GMVQConfig):
        config.validate()  # keywords of `from_pretrained` are set on a configuration that is already there
        super().__init__(config)
        quantizer = build_quantizer(config)
        # In this order, since `model.dtype` is that of the first parameter, and the quantizer's stays float32.
        self.encoder = GMVQEncoder(config, out_channels=quantizer.input_dim)
        self.quantizer = quantizer
        self.decoder = GMVQDecoder(config)
        self.quantizer_bypassed = False
        self.post_init()

    def encode(self, pixel_values: torch.Tensor) -> GMVQEncoderOutput:
        """Images `(batch, num_channels, height, width)` in [0, 1] to codes, without noise."""
        latents = self._latents(pixel_values)
        codes = self.quantizer.assign(latents)
        quantized = self.quantizer.embed(codes).to(latents.dtype)
        return GMVQEncoderOutput(
            latents=self.quantizer.proxies(latents).movedim(-1, 1),
            quantized=quantized.movedim(-1, 1),
            codes=codes,
        )

    def decode(
        self, codes: torch.LongTensor | None = None, quantized: torch.FloatTensor | None = None
    ) -> GMVQDecoderOutput:
        """Codes `(batch, height, width)`, or vectors `(batch, codebook_dim, height, width)`, to images."""
        if (codes is None) == (quantized is None):
            raise ValueError("decode takes exactly one of codes and quantized")
        vectors = self._embed(codes) if quantized is None else quantized
        width = self.config.codebook_dim
        if vectors.ndim != 4 or vectors.shape[1] != width:
            raise ValueError(
                f"quantized has shape {tuple(vectors.shape)}, expected (batch, {width}, height, width)"
            )
        vectors = vectors.to(self.decoder.conv_in.weight.dtype)
        return GMVQDecoderOutput(reconstruction=self.decoder(vectors))

    @capture_outputs
    def forward(
        self,
        pixel_values: torch.FloatTensor,
        return_loss: bool = True,
        output_soft_hard_gap: bool = False,
        **kwargs: Unpack[TransformersKwargs],
    ) -> GMVQOutput | tuple:
        """Encode, quantize, decode, and compare with the input.

        Args:
            pixel_values: `(batch, num_channels, height, width)` in [0, 1].
            return_loss: whether to compute `loss` (it has no labels, and `Trainer` looks for this argument).
            output_soft_hard_gap: also decode the posterior mean, to see what the decision for one code costs.
            kwargs: `return_dict=False` for a tuple, `output_hidden_states=True` for the maps between residual
                blocks.
        """
        latents = self._latents(pixel_values)
        temperature = getattr(self.quantizer, "temperature", None)  # a training forward moves it
        if self.quantizer_bypassed:
            return self._forward_without_quantizer(latents, pixel_values, return_loss)
        posterior = self.quantizer(latents)
        quantized = posterior.quantized.movedim(-1, 1)
        reconstruction = self.decoder(quantized)
        kl_loss = posterior.kl_loss
        if self.config.kl == "per_token" and self.config.quantizer == "gaussian_mixture":
            # eq. (18): every position's own divergence from uniform, summed over the image
            kl_loss = math.prod(latents.shape[1:-1]) * (
                math.log(self.config.codebook_size) - posterior.posterior_entropy
            )
        reconstruction_loss = _squared_error(reconstruction, pixel_values)
        commitment_loss = posterior.commitment_loss.mean()
        loss = None
        if return_loss:
            loss = (
                reconstruction_loss
                + self.config.commitment_loss_weight * commitment_loss
                + self.config.kl_loss_weight * kl_loss
            )
        soft_hard_gap = None
        if output_soft_hard_gap:
            soft = self.decoder(posterior.posterior_mean.movedim(-1, 1))
            hard = self.decoder(self._embed(posterior.codes).to(soft.dtype))
            soft_hard_gap = _squared_error(hard, pixel_values) - _squared_error(soft, pixel_values)
        return GMVQOutput(
            loss=loss,
            reconstruction=reconstruction,
            codes=posterior.codes,
            latents=self.quantizer.proxies(latents).movedim(-1, 1),
            quantized=quantized,
            reconstruction_loss=reconstruction_loss,
            commitment_loss=commitment_loss,
            kl_loss=kl_loss,
            perplexity=_perplexity(posterior.codes, self.config.codebook_size),
            posterior_entropy=posterior.posterior_entropy.detach(),
            aggregated_entropy=posterior.aggregated_entropy.detach(),
            mutual_information=(
                posterior.aggregated_entropy - posterior.posterior_entropy
            ).detach(),
            soft_hard_gap=soft_hard_gap,
            temperature=temperature,
        )

    def _forward_without_quantizer(
        self, latents: torch.Tensor, pixel_values: torch.Tensor, return_loss: bool
    ) -> GMVQOutput:
        vectors = self.quantizer.proxies(latents).movedim(-1, 1)
        reconstruction = self.decoder(vectors)
        error = _squared_error(reconstruction, pixel_values)
        return GMVQOutput(
            loss=error if return_loss else None,
            reconstruction=reconstruction,
            latents=vectors,
            quantized=vectors,
            reconstruction_loss=error,
        )

    def bypass_quantizer(self, bypass: bool = True) -> None:
        """Train a plain autoencoder for a while, or stop doing so.

        A codebook that starts from the latents of an untrained encoder loses most of its codes in the first
        updates, when all images move towards one gray mean. So: a short warm-up with the quantizer bypassed,
        then `initialize_codebook`, then training. While bypassed there are no codes, and the quantizer's
        state stays as it is. The setting is never saved.
        """
        self.quantizer_bypassed = bypass

    @torch.no_grad()
    def initialize_codebook(
        self,
        batches: Iterable[torch.Tensor | Mapping[str, torch.Tensor]],
        method: str = "kmeans",
        generator: torch.Generator | None = None,
    ) -> None:
        """Set the codebook from the latents of some batches of images; 20 latents for each code are plenty.

        Batches are images as `encode` takes them, or dicts with such `pixel_values`.
        """
        with eval_mode(self):
            images = (
                batch["pixel_values"] if isinstance(batch, Mapping) else batch for batch in batches
            )
            latents = [
                self._latents(pixel_values.to(self.device)).float().flatten(0, -2)
                for pixel_values in images
            ]
        if not latents:
            raise ValueError("initialize_codebook got no batch of images")
        self.quantizer.initialize_codebook(
            torch.cat(latents), method=method, generator=generator, num_batches=len(latents)
        )

    def _embed(self, codes: torch.Tensor) -> torch.Tensor:
        if codes.dtype not in (torch.int64, torch.int32) or codes.ndim != 3:
            raise ValueError(
                f"codes are {codes.dtype} of shape {tuple(codes.shape)}, expected int64 or int32 (batch, height, width)"
            )
        if not torch.compiler.is_compiling() and codes.numel():
            low, high = codes.aminmax()
            if low < 0 or high >= self.config.codebook_size:
                raise ValueError(
                    f"codes range from {low} to {high}, expected 0 to {self.config.codebook_size - 1}"
                )
        return self.quantizer.embed(codes).to(self.decoder.conv_in.weight.dtype).movedim(-1, 1)

    def _latents(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """The encoder's output with channels last, as quantizers take it."""
        self._check_images(pixel_values)
        return self.encoder(pixel_values.to(self.encoder.conv_mid.weight.dtype)).movedim(1, -1)

    def _check_images(self, pixel_values: torch.Tensor) -> None:
        stride = 2**self.config.num_downsamples
        if pixel_values.ndim != 4 or pixel_values.shape[1] != self.config.num_channels:
            raise ValueError(
                f"pixel_values have shape {tuple(pixel_values.shape)}, expected "
                f"(batch, {self.config.num_channels}, height, width)"
            )
        if not pixel_values.is_floating_point():
            raise ValueError(f"pixel_values are {pixel_values.dtype}, expected floats in [0, 1]")
        if pixel_values.shape[2] % stride or pixel_values.shape[3] % stride:
            raise ValueError(
                f"images of {pixel_values.shape[2]} x {pixel_values.shape[3]} pixels, expected "
                f"multiples of the stride, {stride}"
            )
        if not torch.compiler.is_compiling() and not torch.isfinite(pixel_values).all():
            raise ValueError("pixel_values contain NaN or infinity, expected numbers in [0, 1]")


def _squared_error(reconstruction: torch.Tensor, pixel_values: torch.Tensor) -> torch.Tensor:
    """Sum over an image, mean over the batch, in float32."""
    return (reconstruction.float() - pixel_values.float()).square().sum() / pixel_values.shape[0]


def _perplexity(codes: torch.Tensor, codebook_size: int) -> torch.Tensor:
    counts = torch.zeros(codebook_size, device=codes.device).index_add_(
        0, codes.flatten(), torch.ones(codes.numel(), device=codes.device)
    )
    shares = counts / codes.numel()
    return torch.exp(-(shares * shares.clamp_min(1e-12).log()).sum())


__all__ = [
    "GMVQDecoderOutput",
    "GMVQEncoderOutput",
    "GMVQModel",
    "GMVQOutput",
    "GMVQPreTrainedModel",
]
