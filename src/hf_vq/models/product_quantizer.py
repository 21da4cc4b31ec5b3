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
"""Product codes and codes by role: see docs/quantization.md for the equations."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import nn

from .gaussian_mixture_quantizer import build_quantizer
from .vector_quantization import QuantizerOutput


class ProductQuantizer(nn.Module):
    """A quantizer for each part of a latent, with projections where latents and codes differ in width.

    Latents `(batch, positions, latent_dim)` are cut into `codes_per_token` parts, each of which gets a code
    from its own codebook, or all from one, eq. (20). With one part, the default, this is the plain quantizer.
    A position may be bound to the codes of its role, eq. (21).

    The first training forward of a codebook that has had no start yet gives it one, from its own batch (with
    several processes from rank 0's). A start from more data is better: see `initialize_codebook`.

    Args:
        config: has `codes_per_token`, `share_codebook`, `codebook_dim`, `role_ranges`, and what
            `build_quantizer` reads. Without a `codebook_dim` the parts fill the latent.
        latent_dim: width of the latents.
    """

    groups: Any  # nn.ModuleList, whose members type checkers cannot see
    role_bounds: torch.Tensor

    def __init__(self, config: Any, latent_dim: int):
        """See the class."""
        super().__init__()
        self.codebook_size = config.codebook_size
        self.codes_per_token = config.codes_per_token
        self.codebook_dim = config.codebook_dim or latent_dim // config.codes_per_token
        num_codebooks = 1 if config.share_codebook else config.codes_per_token
        self.groups = nn.ModuleList(
            build_quantizer(config, self.codebook_dim) for _ in range(num_codebooks)
        )
        width = self.codebook_dim * config.codes_per_token
        self.project_in = self.project_out = self.weigh_features = None
        if width != latent_dim:
            self.project_in = nn.Linear(latent_dim, width, bias=False)
            self.project_out = nn.Linear(width, latent_dim, bias=False)
        if self.groups[0].input_dim > self.codebook_dim:
            self.weigh_features = nn.Linear(latent_dim, width, bias=False)
        # The last row is for positions without a role, whose index is -1.
        self.role_names = tuple(config.role_ranges or ())
        bounds = [*(config.role_ranges or {}).values(), (0, config.codebook_size)]
        self.bounds = tuple((start, end) for start, end in bounds)
        self.role_bounds = nn.Buffer(torch.tensor(self.bounds), persistent=False)
        # Whether a training forward still has to look at `codebook_initialized`, which waits for the device.
        self.may_need_start = True

    def initial_values(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Each tensor of this module itself and what it starts as; the quantizers have their own."""
        yield self.role_bounds, torch.tensor(self.bounds, device=self.role_bounds.device)
        for layer in (self.project_in, self.project_out):
            if layer is not None:
                yield layer.weight, torch.randn_like(layer.weight) * layer.in_features**-0.5
        if self.weigh_features is not None:  # zero: all dimensions weigh the same, eq. (8)
            yield self.weigh_features.weight, torch.zeros_like(self.weigh_features.weight)

    def forward(
        self, latents: torch.Tensor, mask: torch.Tensor, role_ids: torch.Tensor | None = None
    ) -> QuantizerOutput:
        """Quantize `(batch, positions, latent_dim)`.

        Args:
            latents: what the encoder says.
            mask: `(batch, positions)` booleans, false at padding.
            role_ids: `(batch, positions)`, the index of a position's role, whose codes it may take, or -1.

        Returns:
            As `QuantizerOutput` says, with `quantized` as wide as the latents, `codes` of shape
            `(batch, positions, codes_per_token)`, and losses and entropies added up over the parts.
        """
        parts = self.split(latents)
        mask = mask[..., None].expand(parts.shape[:-1])
        ranges = self._ranges(role_ids, parts)
        if self.training and self.may_need_start and not torch.compiler.is_compiling():
            self._ensure_start(parts, mask, ranges)
        if len(self.groups) == 1:
            outputs = [self.groups[0](parts, mask, ranges)]
        else:
            outputs = [
                group(
                    parts[:, :, g : g + 1],
                    mask[:, :, g : g + 1],
                    None if ranges is None else ranges[:, :, g : g + 1],
                )
                for g, group in enumerate(self.groups)
            ]
        return QuantizerOutput(
            quantized=self.join(
                torch.cat([out.quantized for out in outputs], dim=2), latents.dtype
            ),
            posterior_mean=self.join(
                torch.cat([out.posterior_mean for out in outputs], dim=2), latents.dtype
            ),
            codes=torch.cat([out.codes for out in outputs], dim=2),
            commitment_loss=torch.stack([out.commitment_loss for out in outputs]).sum(dim=0),
            kl_loss=torch.stack([out.kl_loss for out in outputs]).sum(),
            posterior_entropy=torch.stack([out.posterior_entropy for out in outputs]).sum(),
            aggregated_entropy=torch.stack([out.aggregated_entropy for out in outputs]).sum(),
        )

    def assign(
        self, latents: torch.Tensor, mask: torch.Tensor, role_ids: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Codes `(batch, positions, codes_per_token)` of latents, as in eval mode and without any trace."""
        parts = self.split(latents)
        ranges = self._ranges(role_ids, parts)
        if len(self.groups) == 1:
            codes = self.groups[0].assign(parts, ranges)
        else:
            codes = torch.stack(
                [
                    group.assign(parts[:, :, g], None if ranges is None else ranges[:, :, g])
                    for g, group in enumerate(self.groups)
                ],
                dim=2,
            )
        return codes.masked_fill(~mask[..., None], -1)

    def embed(self, codes: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        """Vectors `(batch, positions, latent_dim)` of codes; zero where the codes are -1."""
        if len(self.groups) == 1:
            return self.join(self.groups[0].embed(codes), dtype)
        vectors = [group.embed(codes[..., g]) for g, group in enumerate(self.groups)]
        return self.join(torch.stack(vectors, dim=2), dtype)

    def split(self, latents: torch.Tensor) -> torch.Tensor:
        """The parts that are compared with codebooks, `(*, codes_per_token, input_dim)`."""
        shape = (*latents.shape[:-1], self.codes_per_token, self.codebook_dim)
        parts = latents if self.project_in is None else self._project(self.project_in, latents)
        parts = parts.reshape(shape)
        if self.weigh_features is None:
            return parts
        weights = self._project(self.weigh_features, latents).reshape(shape)
        return torch.cat([parts, weights.to(parts.dtype)], dim=-1)

    def join(self, parts: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        """Vectors as wide as latents from `(*, codes_per_token, codebook_dim)`."""
        vectors = parts.flatten(-2)
        if self.project_out is not None:
            vectors = self._project(self.project_out, vectors)
        return vectors.to(dtype)

    def bypass(self, latents: torch.Tensor) -> torch.Tensor:
        """What `forward` would give if every latent were a code: the latents, through the projections."""
        return self.join(self.split(latents)[..., : self.codebook_dim], latents.dtype)

    def initialize_codebook(
        self,
        latents: torch.Tensor,
        role_ids: torch.Tensor | None = None,
        method: str = "kmeans",
        generator: torch.Generator | None = None,
        num_batches: int = 1,
    ) -> None:
        """Set the codebooks from latents `(number, latent_dim)`; see `Quantizer.initialize_codebook`."""
        parts = self.split(latents)
        self._start(parts, None, self._ranges(role_ids, parts), method, generator, num_batches)

    def _start(
        self,
        parts: torch.Tensor,
        mask: torch.Tensor | None,
        ranges: torch.Tensor | None,
        method: str = "kmeans",
        generator: torch.Generator | None = None,
        num_batches: int = 1,
    ) -> None:
        for g, group in enumerate(self.groups):
            chosen = slice(None) if len(self.groups) == 1 else slice(g, g + 1)
            group.initialize_codebook(
                parts[..., chosen, :],
                None if mask is None else mask[..., chosen],
                method=method,
                generator=generator,
                ranges=None if ranges is None else ranges[..., chosen, :],
                num_batches=num_batches,
            )

    def _ensure_start(
        self, parts: torch.Tensor, mask: torch.Tensor, ranges: torch.Tensor | None
    ) -> None:
        if not self.groups[0].codebook_initialized and mask.any():
            self._start(parts.detach(), mask, ranges)
        self.may_need_start = not bool(self.groups[0].codebook_initialized)

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        self.may_need_start = True

    def _ranges(self, role_ids: torch.Tensor | None, parts: torch.Tensor) -> torch.Tensor | None:
        """The range of codes of each part, `(*, codes_per_token, 2)`."""
        if role_ids is None:
            return None
        self.check_roles(role_ids, parts.shape[:-2])
        bounds = self.role_bounds[role_ids]
        return bounds[..., None, :].expand(*parts.shape[:-1], 2)

    def check_roles(self, role_ids: torch.Tensor, shape: Sequence[int]) -> None:
        """Refuses what are no roles of so many positions."""
        if role_ids.is_floating_point() or role_ids.shape != shape:
            raise ValueError(
                f"role_ids are {role_ids.dtype} of shape {tuple(role_ids.shape)}, expected integers of "
                f"shape {tuple(shape)}"
            )
        if not torch.compiler.is_compiling() and role_ids.numel():
            low, high = role_ids.aminmax()
            if low < -1 or high >= len(self.role_names):
                raise ValueError(
                    f"role_ids range from {low} to {high}, but role_ranges names {len(self.role_names)} roles: "
                    f"{', '.join(self.role_names) or 'none'}; -1 is no role"
                )

    def _project(self, layer: nn.Linear, vectors: torch.Tensor) -> torch.Tensor:
        return layer(vectors.to(layer.weight.dtype))
