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
"""The quantizers of vector-quantize-pytorch, and a Gumbel-softmax one, behind the interface of ours.

Only the quantizer of a GMVQModel changes: `model.quantizer = PeerQuantizer(...)`. Settings follow the
literature of each
method rather than the library's defaults, which differ (decay 0.8, commitment weight 1, rotation trick on).
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import nn
from vector_quantize_pytorch import FSQ, SimVQ, VectorQuantize

from hf_vq.models.vector_quantization import QuantizerOutput, entropy

# The usual VQ-VAE loss is mean squared error plus the library's loss, a mean as well; ours sums over the image.
PIXELS_PER_IMAGE = 3 * 32 * 32

EMA = {
    "decay": 0.99,
    "commitment_weight": 0.25,
    "rotation_trick": False,
}
REVIVED = {**EMA, "kmeans_init": True, "threshold_ema_dead_code": 2}
FSQ_LEVELS = (4, 4, 4, 4, 4)  # 1024 codes
PEERS: dict[str, tuple[str, Callable[[int, int], nn.Module]]] = {
    "vq": (
        "VectorQuantize, gradient codebook",
        lambda dim, size: VectorQuantize(
            dim,
            size,
            ema_update=False,
            learnable_codebook=True,
            commitment_weight=0.25,
            rotation_trick=False,
        ),
    ),
    "vq_ema": ("VectorQuantize, EMA", lambda dim, size: VectorQuantize(dim, size, **EMA)),
    "vq_ema_revived": (
        "VectorQuantize, EMA, revived (k-means start, dead codes replaced)",
        lambda dim, size: VectorQuantize(dim, size, **REVIVED),
    ),
    "vq_ema_revived_tuned": (
        "VectorQuantize, EMA, revived, with our commitment weight and decay",
        lambda dim, size: VectorQuantize(
            dim, size, **{**REVIVED, "commitment_weight": 0.027, "decay": 0.95}
        ),
    ),
    "vq_cosine": (
        "VectorQuantize, EMA, revived, cosine similarity",
        lambda dim, size: VectorQuantize(dim, size, **REVIVED, use_cosine_sim=True),
    ),
    "vq_rotation": (
        "VectorQuantize, EMA, revived, rotation trick",
        lambda dim, size: VectorQuantize(dim, size, **{**REVIVED, "rotation_trick": True}),
    ),
    "simvq": ("SimVQ, rotation trick", lambda dim, size: SimVQ(dim=dim, codebook_size=size)),
    "fsq": (f"FSQ, levels {FSQ_LEVELS}", lambda dim, size: FSQ(levels=list(FSQ_LEVELS), dim=dim)),
    "gumbel": ("Gumbel-softmax", lambda dim, size: GumbelQuantize(dim, size)),
}


class GumbelQuantize(nn.Module):
    """DALL-E's dVAE: a linear map to code logits, a Gumbel-softmax mixture in training."""

    def __init__(
        self, dim: int, codebook_size: int, temperatures: tuple[float, float] = (1.0, 1 / 16)
    ):
        """Temperatures are annealed exponentially over `anneal_steps` training forwards."""
        super().__init__()
        self.to_logits = nn.Linear(dim, codebook_size)
        self.codebook = nn.Embedding(codebook_size, dim)
        self.temperatures, self.anneal_steps, self.steps = temperatures, 1, 0

    def forward(self, latents: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """`(batch, positions, dim)` to quantized, codes and loss."""
        logits = self.to_logits(latents)
        codes = logits.argmax(dim=-1)
        if not self.training:
            return self.codebook(codes), codes, latents.new_zeros(())
        first, last = self.temperatures
        temperature = first * (last / first) ** min(1.0, self.steps / self.anneal_steps)
        self.steps += 1
        weights = F.gumbel_softmax(logits, tau=temperature, dim=-1)
        log_posterior = logits.log_softmax(dim=-1)
        divergence = (
            log_posterior.exp() * (log_posterior + torch.log(torch.tensor(logits.shape[-1])))
        ).sum(dim=-1)
        return weights @ self.codebook.weight, codes, 5e-4 * divergence.mean()

    def indices_to_codes(self, codes: torch.Tensor) -> torch.Tensor:
        """Vectors of codes."""
        return self.codebook(codes)


class PeerQuantizer(nn.Module):
    """A quantizer of another library where GMVQModel expects one of ours."""

    def __init__(self, name: str, codebook_size: int, codebook_dim: int):
        """`name` is a key of PEERS."""
        super().__init__()
        if name not in PEERS:
            raise ValueError(f"unknown peer {name!r}, expected one of {sorted(PEERS)}")
        self.peer = PEERS[name][1](codebook_dim, codebook_size)
        self.codebook_size = codebook_size
        self.input_dim = codebook_dim

    def forward(self, latents: torch.Tensor, mask: None = None) -> QuantizerOutput:
        """Quantize `(batch, height, width, dim)` in float32, whatever the precision around it."""
        quantized, codes, loss = self._run(latents)
        counts = torch.bincount(codes.flatten(), minlength=self.codebook_size).float()
        zero = loss.new_zeros(())
        return QuantizerOutput(
            quantized=quantized.to(latents.dtype),
            posterior_mean=quantized.to(latents.dtype),
            codes=codes,
            commitment_loss=PIXELS_PER_IMAGE * loss.sum().expand(len(latents)),
            kl_loss=zero,
            posterior_entropy=zero,
            aggregated_entropy=entropy(counts / counts.sum()),
        )

    def _run(self, latents: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        shape = latents.shape
        with torch.autocast(latents.device.type, enabled=False):
            result = self.peer(latents.float().flatten(1, -2))
        quantized, codes = result[0], result[1]
        loss = result[2] if len(result) > 2 else quantized.new_zeros(())  # FSQ has none
        return quantized.view(shape), codes.view(shape[:-1]).long(), loss

    def assign(self, latents: torch.Tensor) -> torch.Tensor:
        """Codes of latents; never changes the peer's state."""
        if isinstance(self.peer, VectorQuantize) and not self.peer._codebook.initted:
            # In eval mode too it would fit its k-means, to however few latents it is shown first.
            return torch.zeros(latents.shape[:-1], dtype=torch.int64, device=latents.device)
        was_training = self.peer.training
        self.peer.eval()
        codes = self._run(latents)[1]
        self.peer.train(was_training)
        return codes

    def embed(self, codes: torch.Tensor) -> torch.Tensor:
        """Vectors of codes."""
        flat = codes.flatten(1)
        if isinstance(self.peer, VectorQuantize):
            return self.peer.get_output_from_indices(flat).view(*codes.shape, -1)
        return self.peer.indices_to_codes(flat).view(*codes.shape, -1)

    def proxies(self, latents: torch.Tensor) -> torch.Tensor:
        """The latents themselves."""
        return latents

    @torch.no_grad()
    def initialize_codebook(self, latents: torch.Tensor, **_: object) -> None:
        """Peers with `kmeans_init` fit their codebook to the first latents that they see in training mode."""
        self.peer.train()
        if isinstance(self.peer, VectorQuantize):
            self.peer(latents[None].float())
