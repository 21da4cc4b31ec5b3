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
"""What T5VQVAE is compared with: other bottlenecks between the same T5 encoder and decoder.

Two take the place of the quantizer (`model.encoder.quantizer = ...`): vector-quantize-pytorch's, and the tokens
themselves. `SentenceVAE` squeezes the whole sentence into one continuous vector, as Optimus does.
"""

import math
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from transformers import T5Config, T5ForConditionalGeneration
from transformers.modeling_outputs import BaseModelOutput, Seq2SeqLMOutput
from vector_quantize_pytorch import VectorQuantize

from hf_vq import T5VQVAEForConditionalGeneration
from hf_vq.models.vector_quantization import QuantizerOutput, entropy, nearest_codes


class _OneCodebook(nn.Module):
    """What T5VQVAE and the operations on its codes ask of a quantizer with one code for each token."""

    codes_per_token = 1

    def __init__(self, codebook_size: int, codebook_dim: int):
        super().__init__()
        self.codebook_size, self.codebook_dim = codebook_size, codebook_dim

    @property
    def groups(self) -> list[nn.Module]:
        return [self]

    @property
    def codebook(self) -> torch.Tensor:
        """Vectors of the codes, `(codebook_size, codebook_dim)`."""
        raise NotImplementedError

    def assign(
        self, latents: torch.Tensor, mask: torch.Tensor, role_ids: None = None
    ) -> torch.Tensor:
        """Codes `(batch, positions, 1)`; never changes any state."""
        return nearest_codes(latents, self.codebook).masked_fill(~mask, -1)[..., None]

    def embed(self, codes: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        """Vectors of codes, zero where they are -1."""
        codes = codes[..., 0]
        return (F.embedding(codes.clamp_min(0), self.codebook) * (codes >= 0)[..., None]).to(dtype)

    def split(self, latents: torch.Tensor) -> torch.Tensor:
        """The latents with an axis for their one part."""
        return latents[..., None, :]

    def bypass(self, latents: torch.Tensor) -> torch.Tensor:
        """The latents."""
        return latents

    def _output(
        self, quantized: torch.Tensor, codes: torch.Tensor, loss: torch.Tensor, mask: torch.Tensor
    ) -> QuantizerOutput:
        """`loss` is a mean over real positions and dimensions."""
        codes = codes.masked_fill(~mask, -1)
        counts = torch.bincount(codes[mask], minlength=self.codebook_size).float()
        zero = loss.new_zeros(())
        return QuantizerOutput(
            quantized=quantized * mask[..., None],
            posterior_mean=quantized * mask[..., None],
            codes=codes[..., None],
            commitment_loss=loss * mask.sum(dim=1) * self.codebook_dim,
            kl_loss=zero,
            posterior_entropy=zero,
            aggregated_entropy=entropy(counts / counts.sum()),
        )


class VectorQuantizeCodes(_OneCodebook):
    """vector-quantize-pytorch's EMA codebook with our decay, k-means start and mask.

    Its revival stays off, its default: the threshold is a count in a batch, and with more codes than positions
    in a batch any threshold above 1 would replace nearly all codes at each update.
    """

    def __init__(self, codebook_size: int, codebook_dim: int):
        super().__init__(codebook_size, codebook_dim)
        self.peer = VectorQuantize(
            codebook_dim,
            codebook_size,
            decay=0.99,
            kmeans_init=True,
            commitment_weight=1.0,  # the model weighs this loss itself
            rotation_trick=False,
        )

    @property
    def codebook(self) -> torch.Tensor:
        """The peer's."""
        return self.peer.codebook

    def forward(
        self, latents: torch.Tensor, mask: torch.Tensor, role_ids: None = None
    ) -> QuantizerOutput:
        """Quantize in float32, whatever the precision around it."""
        with torch.autocast(latents.device.type, enabled=False):
            quantized, codes, loss = self.peer(latents.float(), mask=mask)
        return self._output(quantized.to(latents.dtype), codes.long(), loss.sum(), mask)

    @torch.no_grad()
    def initialize_codebook(self, latents: torch.Tensor, *_: object, **__: object) -> None:
        """Show the peer latents `(number, dim)`: it fits its k-means to the first that it sees in training."""
        self.peer.train()
        self.peer(latents[None].float())


class TokenCodes(_OneCodebook):
    """The tokens themselves as codes, and the rows of the embedding table as their vectors: copying, no encoder."""

    def __init__(self, model: T5VQVAEForConditionalGeneration):
        super().__init__(model.config.vocab_size, model.config.d_model)
        # In a list, so that the table stays a parameter of the model alone.
        self.table = [model.shared, model.encoder.final_layer_norm]

    @property
    def codebook(self) -> torch.Tensor:
        """The normalized embedding table."""
        embeddings, norm = self.table
        return norm(embeddings.weight)

    def forward(
        self, latents: torch.Tensor, mask: torch.Tensor, role_ids: None = None
    ) -> QuantizerOutput:
        """The nearest row to an embedding is that embedding."""
        codes = nearest_codes(latents, self.codebook)
        vectors = F.embedding(codes, self.codebook).to(latents.dtype)
        return self._output(vectors, codes, latents.new_zeros(()), mask)

    def initialize_codebook(self, *_: object, **__: object) -> None:
        """Nothing to do."""


def without_encoder(model: T5VQVAEForConditionalGeneration) -> T5VQVAEForConditionalGeneration:
    """Let the decoder read token embeddings."""
    model.config.codebook_size = model.config.vocab_size
    model.encoder.num_layers_below = 0
    for block in model.encoder.block:
        block.requires_grad_(False)
    model.encoder.quantizer = TokenCodes(model)
    return model


class SentenceVAE(nn.Module):
    """Optimus' bottleneck on T5: one Gaussian latent for a sentence, read as memory and added to embeddings.

    The mean of the encoder's states gives mean and variance; a sample becomes 8 vectors of memory and one that
    is added to every embedding of the decoder. The weight of the divergence rises from 0 to `beta` over the
    middle of each of 4 cycles of training, and dimensions below `free_bits` nats are not charged.

    Args:
        config: of the T5.
        latent_dim: dimensions of the latent.
        beta: weight of the divergence.
        free_bits: nats of each dimension that cost nothing.
        num_updates: length of training.
    """

    num_slots = 8
    num_cycles = 4

    def __init__(
        self, config: T5Config, latent_dim: int, beta: float, free_bits: float, num_updates: int
    ):
        super().__init__()
        self.t5 = T5ForConditionalGeneration(config)
        self.config = self.t5.config
        self.to_posterior = nn.Linear(config.d_model, 2 * latent_dim)
        self.to_memory = nn.Linear(latent_dim, self.num_slots * config.d_model)
        self.to_shift = nn.Linear(latent_dim, config.d_model)
        self.beta, self.free_bits, self.num_updates = beta, free_bits, num_updates
        self.updates = 0
        embedding = _ShiftedEmbedding(self.t5.shared)
        self.t5.decoder.embed_tokens = embedding
        self._shifted = [embedding]

    def posterior(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and log variance of the latent, `(batch, latent_dim)` each."""
        states = self.t5.encoder(input_ids=input_ids, attention_mask=attention_mask)[0]
        weights = attention_mask[..., None].to(states.dtype)
        pooled = (states * weights).sum(dim=1) / weights.sum(dim=1)
        mean, log_variance = self.to_posterior(pooled).float().chunk(2, dim=-1)
        return mean, log_variance.clamp(-10, 10)

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        labels: torch.Tensor,
        **_: Any,
    ) -> Any:
        """The negative ELBO in nats per token as `loss`; a sample in training, the mean in eval mode."""
        mean, log_variance = self.posterior(input_ids, attention_mask)
        sample = mean
        if self.training:
            sample = mean + torch.randn_like(mean) * (0.5 * log_variance).exp()
            self.updates += 1
        output: Seq2SeqLMOutput = self.t5(**self._read(sample), labels=labels)
        divergence = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance)
        charged = divergence.mean(dim=0).clamp_min(self.free_bits).sum()
        tokens_per_text = (labels != -100).sum() / len(labels)
        loss = output.loss + self._weight() * charged / tokens_per_text
        return _Output(
            loss=loss,
            reconstruction_loss=output.loss,
            kl_loss=divergence.sum(dim=1).mean(),
            logits=output.logits,
            codes=None,
        )

    def _weight(self) -> float:
        position = self.updates / max(1, self.num_updates) * self.num_cycles % 1
        return self.beta * min(1.0, max(0.0, 2 * position - 0.5))

    def _read(self, sample: torch.Tensor) -> dict[str, Any]:
        """What the decoder reads of a latent."""
        self._shifted[0].shift = self.to_shift(sample)[:, None]
        memory = self.to_memory(sample).unflatten(-1, (self.num_slots, -1))
        mask = torch.ones(memory.shape[:2], dtype=torch.long, device=memory.device)
        return {
            "encoder_outputs": BaseModelOutput(last_hidden_state=memory),
            "attention_mask": mask,
        }

    def encode(self, **inputs: torch.Tensor) -> Any:
        """No codes; `mean` is the latent."""
        mean, _ = self.posterior(inputs["input_ids"], inputs["attention_mask"])
        return SimpleNamespace(codes=None, mean=mean)

    def generate(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor, **options: Any
    ) -> torch.Tensor:
        """Tokens from the mean of the posterior."""
        return self.generate_from_latents(self.posterior(input_ids, attention_mask)[0], **options)

    def generate_from_latents(self, latents: torch.Tensor, **options: Any) -> torch.Tensor:
        """Tokens from latents `(batch, latent_dim)`."""
        return self.t5.generate(**self._read(latents), **options)


class _Output(SimpleNamespace):
    """Attributes that can also be asked for by name, as those of a `ModelOutput`."""

    def get(self, name: str, default: Any = None) -> Any:
        return getattr(self, name, default)


class _ShiftedEmbedding(nn.Module):
    """Token embeddings plus one vector for each sentence."""

    shift: torch.Tensor

    def __init__(self, embedding: nn.Embedding):
        super().__init__()
        self.embedding = embedding

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        return self.embedding(input_ids) + self.shift


def matched_free_bits(rate: float, positions: float, latent_dim: int) -> float:
    """Free nats of a dimension that allow a sentence as many bits as its codes have."""
    return rate * positions * math.log(2) / latent_dim


def count_parameters(model: nn.Module, config: Mapping[str, Any] | None = None) -> int:
    """Numbers that are learned, codebooks that follow averages included."""
    learned = sum(p.numel() for p in model.parameters() if p.requires_grad)
    books = [
        b for name, b in model.named_buffers() if name.endswith(("codebook", "codebook.embed"))
    ]
    return learned + sum(book.numel() for book in books)
