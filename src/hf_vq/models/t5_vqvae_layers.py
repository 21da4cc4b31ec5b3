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
"""The parts of T5VQVAE: T5's encoder with a quantizer in it, and T5's decoder.

Equations: docs/quantization.md.
"""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from transformers import initialization as init
from transformers.masking_utils import create_bidirectional_mask
from transformers.modeling_outputs import BaseModelOutput
from transformers.models.t5.modeling_t5 import T5Attention, T5LayerNorm, T5PreTrainedModel, T5Stack
from transformers.processing_utils import Unpack
from transformers.utils import TransformersKwargs
from transformers.utils.output_capturing import capture_outputs

from .configuration_t5_vqvae import T5VQVAEConfig
from .float32_parts import Float32PartsMixin
from .product_quantizer import ProductQuantizer
from .safe_weights import SafeWeightsMixin
from .vector_quantization import Quantizer


@dataclass
class T5VQVAEEncoderOutput(BaseModelOutput):
    """What the encoder returns; `B` is the batch, `S` the padded length, `D` is `d_model`.

    Every tensor begins with the batch: beam search repeats them all.

    Attributes:
        last_hidden_state: `(B, S, D)`, what the decoder reads: `quantized` and positions, zero at padding.
        hidden_states: with `output_hidden_states=True`, as T5's; the last is `last_hidden_state`.
        attentions: with `output_attentions=True`, as T5's.
        latents: `(B, S, D)`, before the quantizer.
        quantized: `(B, S, D)`, the vectors of the codes; zero at padding.
        codes: `(B, S, codes_per_token)` integers in `[0, codebook_size)`, -1 at padding.
        commitment_loss: `(B,)`, squared distance from latents to codes, summed over positions.
        kl_loss: `(B,)`, the same number for each example, eq. (15); 0 for the EMA quantizer.
    """

    latents: torch.FloatTensor | None = None
    quantized: torch.FloatTensor | None = None
    codes: torch.LongTensor | None = None
    commitment_loss: torch.FloatTensor | None = None
    kl_loss: torch.FloatTensor | None = None


def boolean_mask(hidden_states: torch.Tensor, attention_mask: torch.Tensor | None) -> torch.Tensor:
    """`(B, S)`, true at real positions; all are without an `attention_mask`."""
    shape = hidden_states.shape[:2]
    if attention_mask is None:
        return torch.ones(shape, dtype=torch.bool, device=hidden_states.device)
    if attention_mask.shape != shape:
        raise ValueError(
            f"attention_mask has shape {tuple(attention_mask.shape)}, expected {tuple(shape)}"
        )
    return attention_mask.bool()


class T5VQVAEEmbedding(nn.Module):
    """A table of vectors to be added to hidden states; an index of -1 adds nothing."""

    def __init__(self, num_embeddings: int, d_model: int):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(num_embeddings, d_model))

    def forward(self, indices: torch.Tensor) -> torch.Tensor:
        """Vectors `(*, d_model)` of indices `(*)`."""
        return F.embedding(indices.clamp_min(0), self.weight) * (indices >= 0)[..., None]


class T5VQVAECrossAttention(T5Attention):
    """Cross-attention with a relative bias, which the layers above share: `latent_positions="cross_bias"`.

    The bias has a name of its own. Old T5 checkpoints hold one under T5's name that T5 itself never used.
    """

    def __init__(self, config: T5VQVAEConfig, layer_idx: int):
        super().__init__(config, has_relative_attention_bias=False, layer_idx=layer_idx)
        self.has_relative_attention_bias = True
        self.latent_position_bias = nn.Embedding(
            config.relative_attention_num_buckets, config.num_heads
        )

    @property
    def relative_attention_bias(self) -> nn.Embedding:  # type: ignore[override]
        """The table under the name that T5 looks for."""
        return self.latent_position_bias

    def compute_bias(
        self,
        query_length: int,
        key_length: int,
        device: torch.device | None = None,
        past_seen_tokens: int | torch.Tensor = 0,
    ) -> torch.Tensor:
        """T5's buckets of the distance from a decoder position to a code's position."""
        # The self-attention below has already put the current tokens into the cache, if there is one.
        if torch.is_tensor(past_seen_tokens) or past_seen_tokens > 0:
            past_seen_tokens = past_seen_tokens - query_length
        return super().compute_bias(
            query_length, key_length, device=device, past_seen_tokens=past_seen_tokens
        )


class T5VQVAEPreTrainedModel(Float32PartsMixin, SafeWeightsMixin, T5PreTrainedModel):
    """Configuration, loading and initialization of T5VQVAE."""

    config: T5VQVAEConfig
    # With `num_items_in_batch`, which `Trainer` counts over all micro-batches of an update, the loss is exact.
    accepts_loss_kwargs = True
    _keep_in_fp32_modules_strict = ["quantizer"]
    model_tags = ["vector-quantization", "text-autoencoder"]

    @classmethod
    def is_custom_code(cls) -> bool:
        """No: transformers skips modules of custom code that hold no parameter themselves.

        T5's attention is one, and its weights would start 32 times too large. Ours are safe to visit again,
        since `_init_weights` leaves alone what has been loaded.
        """
        return False

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """Fill new weights, T5's as T5 does.

        | parameter | distribution |
        |---|---|
        | learned positions, role embeddings | N(0, 0.1^2); 0 beside loaded T5 weights, which then do as before |
        | relative bias of the cross-attention | as T5's relative biases; 0 beside loaded T5 weights |
        | projections to and from codes | N(0, 1 / inputs) |
        | codebook | N(0, 1), to be replaced by `initialize_codebook` or the first batch |
        """
        super()._init_weights(module)
        blocks = getattr(self, "block", None)
        loaded = blocks is not None and getattr(
            blocks[0].layer[0].SelfAttention.q.weight, "_is_hf_initialized", False
        )
        if isinstance(module, T5VQVAEEmbedding):
            init.normal_(module.weight, std=0.0 if loaded else 0.1)
        elif isinstance(module, T5VQVAECrossAttention) and loaded:
            init.zeros_(module.latent_position_bias.weight)
        elif isinstance(module, ProductQuantizer | Quantizer):
            for tensor, value in module.initial_values():
                init.copy_(tensor, value)


class T5VQVAEEncoder(T5VQVAEPreTrainedModel, T5Stack):
    """T5's encoder and the quantizer. The blocks and their names are T5's, wherever the quantizer stands."""

    def __init__(self, config: T5VQVAEConfig):
        super().__init__(config)
        self.num_layers_below = (
            config.num_layers
            if config.quantize_after_layer is None
            else config.quantize_after_layer
        )
        self.latent_dropout = nn.Dropout(config.latent_dropout)
        self.latent_norm = self.quantizer = self.latent_positions = self.role_embedding = None
        if config.quantize_after_layer is not None:
            # Inside the encoder hidden states have no fixed scale.
            self.latent_norm = T5LayerNorm(config.d_model, eps=config.layer_norm_epsilon)
        if config.quantizer != "none":
            self.quantizer = ProductQuantizer(config, config.d_model)
        if config.latent_positions == "learned":
            self.latent_positions = T5VQVAEEmbedding(config.max_latent_positions, config.d_model)
        if config.role_embedding:
            self.role_embedding = T5VQVAEEmbedding(len(config.role_ranges), config.d_model)
        self.quantizer_bypassed = False
        self.post_init()

    @capture_outputs
    def forward(
        self,
        input_ids: torch.LongTensor | None = None,
        attention_mask: torch.Tensor | None = None,
        inputs_embeds: torch.FloatTensor | None = None,
        role_ids: torch.LongTensor | None = None,
        update_quantizer: bool = True,
        **kwargs: Unpack[TransformersKwargs],
    ) -> T5VQVAEEncoderOutput:
        """Tokens to latents, codes and what the decoder reads.

        Args:
            input_ids: `(B, S)`.
            attention_mask: `(B, S)`, 0 at padding; `None` for none.
            inputs_embeds: `(B, S, D)` in place of `input_ids`.
            role_ids: `(B, S)`, for each position the index of its role in `role_ranges`, or -1.
            update_quantizer: whether a forward in training mode is one for the quantizer too; without gradients,
                as in `generate`, it never is.
            kwargs: `output_hidden_states=True` and the like, as for T5.
        """
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("the encoder takes exactly one of input_ids and inputs_embeds")
        if inputs_embeds is None:
            inputs_embeds = self.embed_tokens(input_ids)
        mask = boolean_mask(inputs_embeds, attention_mask)
        if self.role_embedding is not None and role_ids is not None:
            if self.quantizer is not None:  # before a lookup fails, which says less
                self.quantizer.check_roles(role_ids, inputs_embeds.shape[:2])
            inputs_embeds = inputs_embeds + self.role_embedding(role_ids)
        blocks = self.block[: self.num_layers_below]
        latents = self._run(self.dropout(inputs_embeds), mask, blocks, **kwargs)
        norm = self.final_layer_norm if self.latent_norm is None else self.latent_norm
        latents = self.latent_dropout(norm(latents))
        return self.quantize(latents, mask, role_ids, update_quantizer, **kwargs)

    def quantize(
        self,
        latents: torch.Tensor,
        mask: torch.Tensor,
        role_ids: torch.Tensor | None = None,
        update_quantizer: bool = False,
        **kwargs: Any,
    ) -> T5VQVAEEncoderOutput:
        """Latents to codes and what the decoder reads; `mask` is boolean."""
        if self.quantizer is None or self.quantizer_bypassed:
            vectors = latents if self.quantizer is None else self.quantizer.bypass(latents)
            quantized = vectors * mask[..., None]
            return T5VQVAEEncoderOutput(
                last_hidden_state=self.read(quantized, mask, **kwargs),
                latents=latents,
                quantized=quantized,
            )
        if self.training and not (update_quantizer and torch.is_grad_enabled()):
            codes = self.quantizer.assign(latents, mask, role_ids)
            quantized = self.quantizer.embed(codes, latents.dtype)
            commitment_loss = kl_loss = None
        else:
            output = self.quantizer(latents, mask, role_ids)
            codes, quantized = output.codes, output.quantized
            commitment_loss = output.commitment_loss
            kl_loss = output.kl_loss.expand(len(codes))
        return T5VQVAEEncoderOutput(
            last_hidden_state=self.read(quantized, mask, **kwargs),
            latents=latents,
            quantized=quantized,
            codes=codes,
            commitment_loss=commitment_loss,
            kl_loss=kl_loss,
        )

    def read(self, quantized: torch.Tensor, mask: torch.Tensor, **kwargs: Any) -> torch.Tensor:
        """What the decoder reads: code vectors, through the layers above the quantizer, and positions, eq. (22)."""
        if self.latent_norm is not None:
            blocks = self.block[self.num_layers_below :]
            quantized = self.final_layer_norm(self._run(quantized, mask, blocks, **kwargs))
            quantized = quantized * mask[..., None]
        if self.latent_positions is None:
            return quantized
        length, longest = mask.shape[1], self.config.max_latent_positions
        if length > longest:
            raise ValueError(
                f"a text of {length} tokens, but max_latent_positions is {longest}: shorten the text, or set "
                "latent_positions to 'cross_bias' or 'none'"
            )
        # Counted over real positions, so that padding on the left moves nothing.
        positions = torch.where(mask, mask.cumsum(dim=1) - 1, -1)
        return quantized + self.latent_positions(positions).to(quantized.dtype)

    def _run(
        self, hidden_states: torch.Tensor, mask: torch.Tensor, blocks: nn.ModuleList, **kwargs: Any
    ) -> torch.Tensor:
        """T5's loop over its blocks; all share the position bias of the first."""
        attention_mask = create_bidirectional_mask(
            config=self.config, inputs_embeds=hidden_states, attention_mask=mask
        )
        lowest: Any = self.block[0]
        length = hidden_states.shape[1]
        bias = lowest.layer[0].SelfAttention.compute_bias(
            length, length, device=hidden_states.device
        )
        for block in blocks:
            # positional, for gradient checkpointing
            outputs = block(hidden_states, attention_mask, bias, None, None, None, **kwargs)
            hidden_states = outputs[0]
        return hidden_states


class T5VQVAEDecoder(T5VQVAEPreTrainedModel, T5Stack):
    """T5's decoder, with positions in its cross-attention where the configuration wants them there."""

    def __init__(self, config: T5VQVAEConfig):
        super().__init__(config)
        if config.latent_positions == "cross_bias":
            lowest: Any = self.block[0]
            lowest.layer[1].EncDecAttention = T5VQVAECrossAttention(config, layer_idx=0)
        self.post_init()
