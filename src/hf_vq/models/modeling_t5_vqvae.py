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
"""T5VQVAE: a T5 whose encoder speaks to its decoder in discrete codes (Zhang et al., arXiv 2402.00723).

Every sub-word becomes a code, and the decoder reads nothing but the codes and where they stand. The quantizer
is a part of the encoder module, so whatever runs T5 runs this model: `generate` quantizes once and caches.
"""

import copy
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from transformers import GenerationMixin
from transformers.modeling_outputs import BaseModelOutput, Seq2SeqLMOutput
from transformers.models.t5.modeling_t5 import T5ForConditionalGeneration
from transformers.processing_utils import Unpack
from transformers.utils import TransformersKwargs
from transformers.utils.generic import can_return_tuple

from .configuration_t5_vqvae import T5VQVAEConfig
from .eval_mode import eval_mode
from .t5_vqvae_layers import (
    T5VQVAEDecoder,
    T5VQVAEEncoder,
    T5VQVAEEncoderOutput,
    T5VQVAEPreTrainedModel,
    boolean_mask,
)


@dataclass
class T5VQVAEOutput(Seq2SeqLMOutput):
    """What `forward` and `decode` return: T5's output, and what became of the codes.

    Losses are there with labels, and are means over the labels' tokens.

    Attributes:
        loss: `()`, eq. (23).
        reconstruction_loss: `()`, cross-entropy in nats per token.
        commitment_loss: `()`, squared distance from latents to codes, per dimension.
        kl_loss: `()`, divergence of the batch's codes from uniform, eq. (15).
        codes: `(B, S, codes_per_token)`, see `T5VQVAEEncoderOutput`.
        latents: `(B, S, D)`, before the quantizer.
        quantized: `(B, S, D)`, after it; in training differentiable.
    """

    reconstruction_loss: torch.FloatTensor | None = None
    commitment_loss: torch.FloatTensor | None = None
    kl_loss: torch.FloatTensor | None = None
    codes: torch.LongTensor | None = None
    latents: torch.FloatTensor | None = None
    quantized: torch.FloatTensor | None = None


class T5VQVAEForConditionalGeneration(
    T5VQVAEPreTrainedModel, T5ForConditionalGeneration, GenerationMixin
):
    """T5 with a codebook between encoder and decoder.

    Loads any T5 checkpoint, of which the codebook and the positions are then new. Give the codebook a start
    from data with `initialize_codebook`, or the first training batch does; see also `bypass_quantizer`.

    Adapters of peft train the codebook if it is saved with them: `LoraConfig(target_modules=["q", "v"],
    modules_to_save=["quantizer", "latent_positions"])`.

    Example:
    ```python
    >>> import torch
    >>> from hf_vq import T5VQVAEConfig, T5VQVAEForConditionalGeneration
    >>> config = T5VQVAEConfig(vocab_size=50, d_model=16, d_kv=8, d_ff=32, num_layers=2, num_heads=2, codebook_size=32)
    >>> model = T5VQVAEForConditionalGeneration(config).eval()
    >>> codes = model.encode(torch.tensor([[7, 3, 9, 1]])).codes
    >>> codes.shape
    torch.Size([1, 4, 1])
    >>> model.generate_from_codes(codes, max_new_tokens=5, min_new_tokens=5, decoder_start_token_id=0).shape
    torch.Size([1, 6])

    ```
    """

    encoder: T5VQVAEEncoder

    def __init__(self, config: T5VQVAEConfig):
        config.validate()  # keywords of `from_pretrained` are set on a configuration that is already there
        encoder_config = copy.deepcopy(config)
        encoder_config.is_decoder = False
        encoder_config.use_cache = False
        decoder_config = copy.deepcopy(config)
        decoder_config.is_decoder = True
        decoder_config.num_layers = config.num_decoder_layers
        super().__init__(config)
        self.encoder = T5VQVAEEncoder(encoder_config)
        self.decoder = T5VQVAEDecoder(decoder_config)
        self.post_init()

    @property
    def codebook(self) -> torch.Tensor:
        """The vectors of the codes, `(codes_per_token, codebook_size, codebook_dim)`."""
        groups = self._quantizer().groups
        return torch.stack([group.codebook for group in groups]).expand(
            self.config.codes_per_token, -1, -1
        )

    def encode(
        self,
        input_ids: torch.LongTensor,
        attention_mask: torch.Tensor | None = None,
        role_ids: torch.LongTensor | None = None,
    ) -> T5VQVAEEncoderOutput:
        """Tokens `(B, S)` to codes. Never changes the quantizer, and in training mode gives no losses."""
        self._check_ids(input_ids)
        return self.encoder(
            input_ids=input_ids,
            attention_mask=attention_mask,
            role_ids=role_ids,
            update_quantizer=False,
            return_dict=True,
        )

    def quantize(
        self,
        latents: torch.FloatTensor,
        attention_mask: torch.Tensor | None = None,
        role_ids: torch.LongTensor | None = None,
    ) -> T5VQVAEEncoderOutput:
        """Latents `(B, S, D)` to codes; like `encode` otherwise."""
        self._check_vectors("latents", latents)
        mask = boolean_mask(latents, attention_mask)
        return self.encoder.quantize(latents.to(self.dtype), mask, role_ids)

    def embed_codes(self, codes: torch.LongTensor) -> torch.FloatTensor:
        """Codes `(B, S, codes_per_token)` to their vectors `(B, S, D)`, zero where the codes are -1."""
        self._check_codes(codes)
        return self._quantizer().embed(codes, self.dtype)

    def decode(
        self,
        codes: torch.LongTensor | None = None,
        quantized: torch.FloatTensor | None = None,
        attention_mask: torch.Tensor | None = None,
        labels: torch.LongTensor | None = None,
        decoder_input_ids: torch.LongTensor | None = None,
    ) -> T5VQVAEOutput:
        """The logits of given tokens, from codes `(B, S, codes_per_token)` or from their vectors `(B, S, D)`.

        Without a mask, codes of -1 are padding. To write a new text, see `generate_from_codes`.
        """
        memory, mask = self._read(codes, quantized, attention_mask)
        return self(
            encoder_outputs=BaseModelOutput(last_hidden_state=memory),
            attention_mask=mask,
            labels=labels,
            decoder_input_ids=decoder_input_ids,
            return_dict=True,
        )

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.LongTensor | None = None,
        attention_mask: torch.Tensor | None = None,
        decoder_input_ids: torch.LongTensor | None = None,
        decoder_attention_mask: torch.Tensor | None = None,
        encoder_outputs: BaseModelOutput | tuple | None = None,
        past_key_values: Any = None,
        inputs_embeds: torch.FloatTensor | None = None,
        decoder_inputs_embeds: torch.FloatTensor | None = None,
        labels: torch.LongTensor | None = None,
        use_cache: bool | None = None,
        role_ids: torch.LongTensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> T5VQVAEOutput | tuple:
        """Encode, quantize, decode, and with labels compare.

        Args:
            input_ids: `(B, S)`.
            attention_mask: `(B, S)`, 0 at padding; `None` for none.
            decoder_input_ids: `(B, T)`; the labels, shifted, if not given.
            decoder_attention_mask: `(B, T)`.
            encoder_outputs: in place of the encoder's input; the decoder reads its `last_hidden_state` as it
                stands, quantized and with positions.
            past_key_values: cache of earlier decoder tokens.
            inputs_embeds: `(B, S, D)` in place of `input_ids`.
            decoder_inputs_embeds: `(B, T, D)` in place of `decoder_input_ids`.
            labels: `(B, T)`, -100 where none counts.
            use_cache: whether to return a cache.
            role_ids: `(B, S)`, for each position the index of its role in `role_ranges`, or -1.
            kwargs: `return_dict=False` for a tuple, `output_attentions=True` and the like, as for T5; and
                `num_items_in_batch`, the label tokens of the whole update of which this batch is a part.
        """
        num_items_in_batch = kwargs.pop("num_items_in_batch", None)
        if encoder_outputs is None:
            if input_ids is not None:
                self._check_ids(input_ids)
            encoder_outputs = self.encoder(
                input_ids=input_ids,
                attention_mask=attention_mask,
                inputs_embeds=inputs_embeds,
                role_ids=role_ids,
                return_dict=True,
                **kwargs,
            )
        if labels is not None:
            if decoder_input_ids is None and decoder_inputs_embeds is None:
                decoder_input_ids = self._hide_words(self._shift_right(labels))
            use_cache = bool(use_cache)  # nothing comes after the labels
        outputs = super().forward(
            attention_mask=attention_mask,
            decoder_input_ids=decoder_input_ids,
            decoder_attention_mask=decoder_attention_mask,
            encoder_outputs=encoder_outputs,
            past_key_values=past_key_values,
            decoder_inputs_embeds=decoder_inputs_embeds,
            use_cache=use_cache,
            return_dict=True,
            **kwargs,
        )
        losses = {}
        if labels is not None:
            losses = self._losses(outputs.logits, labels, encoder_outputs, num_items_in_batch)
        quantities = {
            name: getattr(encoder_outputs, name, None) for name in ("codes", "latents", "quantized")
        }
        return T5VQVAEOutput(**(dict(outputs) | losses | quantities))

    def _hide_words(self, decoder_input_ids: torch.Tensor) -> torch.Tensor:
        """Word dropout (Bowman et al., 2016, arXiv 1511.06349): in training some tokens read as the start token."""
        share = self.config.decoder_word_dropout
        if not self.training or share == 0:
            return decoder_input_ids
        hidden = torch.rand(decoder_input_ids.shape, device=decoder_input_ids.device) < share
        return decoder_input_ids.masked_fill(hidden, self.config.decoder_start_token_id)

    def _losses(
        self,
        logits: torch.Tensor,
        labels: torch.Tensor,
        encoder_outputs: Any,
        num_items: torch.Tensor | int | None,
    ) -> dict[str, torch.Tensor]:
        """Eq. (23): every sum is divided by the label tokens, so micro-batches add up to the large batch."""
        labels = labels.to(logits.device)
        tokens = (labels != -100).sum().clamp_min(1)
        divisor = tokens if num_items is None else num_items
        loss = reconstruction_loss = (
            F.cross_entropy(
                logits.float().flatten(0, 1), labels.flatten(), ignore_index=-100, reduction="sum"
            )
            / divisor
        )
        losses = {"reconstruction_loss": reconstruction_loss}
        commitment_loss = getattr(encoder_outputs, "commitment_loss", None)
        if commitment_loss is not None:
            quantizer = self._quantizer()
            width = quantizer.codes_per_token * quantizer.codebook_dim
            losses["commitment_loss"] = commitment_loss.sum() / (width * divisor)
            losses["kl_loss"] = encoder_outputs.kl_loss.mean() * (tokens / divisor)
            loss = (
                reconstruction_loss
                + self.config.commitment_loss_weight * losses["commitment_loss"]
                + self.config.kl_loss_weight * losses["kl_loss"]
            )
        return {"loss": loss, **losses}

    def generate_from_codes(self, codes: torch.LongTensor, **kwargs: Any) -> Any:
        """`generate` from codes `(B, S, codes_per_token)`, -1 at padding; takes what `generate` takes."""
        memory, mask = self._read(codes, None, None)
        return self._generate(memory, mask, **kwargs)

    def generate_from_latents(
        self,
        latents: torch.FloatTensor,
        attention_mask: torch.Tensor | None = None,
        quantize: bool = True,
        role_ids: torch.LongTensor | None = None,
        **kwargs: Any,
    ) -> Any:
        """`generate` from latents `(B, S, D)`, from their codes or as they are; takes what `generate` takes."""
        if quantize:
            latents = self.quantize(latents, attention_mask, role_ids).quantized
        memory, mask = self._read(None, latents, attention_mask)
        return self._generate(memory, mask, **kwargs)

    def _generate(self, memory: torch.Tensor, mask: torch.Tensor, **kwargs: Any) -> Any:
        model: Any = self
        outputs = BaseModelOutput(last_hidden_state=memory)
        return model.generate(encoder_outputs=outputs, attention_mask=mask, **kwargs)

    def bypass_quantizer(self, bypass: bool = True) -> None:
        """Train a plain autoencoder for a while, or stop doing so.

        While bypassed there are no codes, the decoder reads latents, and the quantizer's state stays as it
        is. A codebook that gets its start from a trained encoder loses fewer codes. The setting is never
        saved.
        """
        self.encoder.quantizer_bypassed = bypass

    @torch.no_grad()
    def initialize_codebook(
        self,
        batches: Iterable[dict[str, torch.Tensor]],
        method: str = "kmeans",
        generator: torch.Generator | None = None,
    ) -> None:
        """Set the codebook from the latents of some batches; 20 latents for each code are plenty.

        Args:
            batches: dicts with `input_ids` and, as far as there are any, `attention_mask` and `role_ids`; other
                entries are ignored.
            method: `"kmeans"` for cluster centers, `"data"` for latents that k-means++ draws.
            generator: source of randomness, on the CPU.
        """
        quantizer = self._quantizer()
        latents: list[torch.Tensor] = []
        roles: list[torch.Tensor] = []
        with eval_mode(self):
            for batch in batches:
                if not isinstance(batch, Mapping):
                    raise ValueError(
                        f"a batch is {type(batch).__name__}, expected a dict with input_ids and attention_mask"
                    )
                named = ("input_ids", "attention_mask", "role_ids")
                inputs = {name: batch[name].to(self.device) for name in named if name in batch}
                output: Any = self.encode(**inputs)
                mask = boolean_mask(output.latents, inputs.get("attention_mask"))
                latents.append(output.latents[mask].float())
                if "role_ids" in inputs:
                    roles.append(inputs["role_ids"][mask])
        if not latents:
            raise ValueError("initialize_codebook got no batch")
        role_ids = torch.cat(roles) if roles else None
        quantizer.initialize_codebook(
            torch.cat(latents), role_ids, method, generator, num_batches=len(latents)
        )

    def codebook_statistics(
        self, codes: torch.LongTensor | Iterable[torch.LongTensor]
    ) -> dict[str, float]:
        """How a whole split uses the codes, eq. (24).

        Args:
            codes: of the split, as `encode` gives them, in one tensor or one for each batch.

        Returns:
            `codebook_usage`, the share of codes that occur, and `codebook_perplexity`, both means over the
            codes of a position; `rate`, bits per position, jointly over its codes; and `max_rate`, which no
            split can exceed.
        """
        tensors = [codes] if isinstance(codes, torch.Tensor) else list(codes)
        for tensor in tensors:
            self._check_codes(tensor)
        if not tensors:
            raise ValueError("codebook_statistics got no code")
        rows = torch.cat([tensor.flatten(0, 1).cpu() for tensor in tensors])
        rows = rows[(rows >= 0).all(dim=1)]
        if not len(rows):
            raise ValueError("codebook_statistics got no code")
        counts = [torch.bincount(column, minlength=self.config.codebook_size) for column in rows.T]
        joint = rows.unique(dim=0, return_counts=True)[1]
        return {
            "codebook_usage": sum(float((count > 0).float().mean()) for count in counts)
            / len(counts),
            "codebook_perplexity": sum(2 ** _entropy_bits(count) for count in counts) / len(counts),
            "rate": _entropy_bits(joint),
            "max_rate": self.config.codes_per_token * math.log2(self.config.codebook_size),
        }

    def _quantizer(self) -> Any:
        if self.encoder.quantizer is None:
            raise ValueError("quantizer is 'none': this model has no codes")
        return self.encoder.quantizer

    def _read(
        self,
        codes: torch.Tensor | None,
        quantized: torch.Tensor | None,
        attention_mask: torch.Tensor | None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """What the decoder reads, and its mask."""
        if codes is not None and quantized is None:
            quantized = self.embed_codes(codes)
            if attention_mask is None:
                attention_mask = codes[..., 0] >= 0
        elif codes is not None or quantized is None:
            raise ValueError("decoding takes exactly one of codes and quantized")
        self._check_vectors("quantized", quantized)
        mask = boolean_mask(quantized, attention_mask)
        if not torch.compiler.is_compiling() and not mask.any(dim=1).all():
            raise ValueError("a sequence of codes is empty: nothing but padding")
        quantized = quantized.to(self.dtype) * mask[..., None]
        return self.encoder.read(quantized, mask), mask

    def _check_ids(self, input_ids: torch.Tensor) -> None:
        if input_ids.ndim != 2 or input_ids.shape[1] == 0:
            raise ValueError(
                f"input_ids have shape {tuple(input_ids.shape)}, expected (batch, length) with a length of at "
                "least 1: even an empty text ends in </s>"
            )

    def _check_vectors(self, name: str, vectors: torch.Tensor) -> None:
        if vectors.ndim != 3 or vectors.shape[2] != self.config.d_model:
            raise ValueError(
                f"{name} have shape {tuple(vectors.shape)}, expected (batch, length, {self.config.d_model})"
            )

    def _check_codes(self, codes: torch.Tensor) -> None:
        per_token, size = self.config.codes_per_token, self.config.codebook_size
        if not isinstance(codes, torch.Tensor):
            raise ValueError(f"codes are {type(codes).__name__}, expected a tensor of integers")
        if codes.is_floating_point() or codes.ndim != 3 or codes.shape[2] != per_token:
            raise ValueError(
                f"codes are {codes.dtype} of shape {tuple(codes.shape)}, expected integers "
                f"(batch, length, {per_token})"
            )
        if torch.compiler.is_compiling() or not codes.numel():
            return
        low, high = codes.aminmax()
        if low < -1 or high >= size:
            raise ValueError(
                f"codes range from {low} to {high}, expected 0 to {size - 1}, or -1 for padding"
            )
        if ((codes < 0).any(dim=2) != (codes < 0).all(dim=2)).any():
            raise ValueError(
                "some codes of a position are -1 and some are not: padding has only -1"
            )


def _entropy_bits(counts: torch.Tensor) -> float:
    shares = counts[counts > 0].double() / counts.sum()
    return float(-(shares * shares.log2()).sum())


__all__ = [
    "T5VQVAEEncoderOutput",
    "T5VQVAEForConditionalGeneration",
    "T5VQVAEOutput",
    "T5VQVAEPreTrainedModel",
]
