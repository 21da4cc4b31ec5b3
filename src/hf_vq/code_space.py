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
"""Distances among the codes of a model, in the space where its quantizer compares latents with them."""

from typing import Any

import torch


class CodeSpace:
    """The codebooks of a model, one for each group, and what the operations ask of them.

    Distances are Euclidean, also where a quantizer with feature weights decides by weighted ones. They are in
    float64, and few.

    Args:
        quantizer: The `ProductQuantizer` of a model.
        role_ranges: The codes `[start, end)` of each role, by its index.
    """

    def __init__(self, quantizer: Any, role_ranges: list[Any]):
        self.quantizer = quantizer
        books = [group.codebook.detach().double() for group in quantizer.groups]
        # The groups may share one.
        self.codebooks = torch.stack(books).expand(quantizer.codes_per_token, -1, -1)
        num_codes = self.codebooks.shape[1]
        self.ranges = torch.tensor(
            [*map(tuple, role_ranges), (0, num_codes)], device=books[0].device
        )

    def vectors(self, codes: torch.Tensor) -> torch.Tensor:
        """Vectors `(*, groups, codebook_dim)` of codes `(*, groups)`."""
        groups = torch.arange(len(self.codebooks), device=codes.device)
        return self.codebooks[groups, codes]

    def project(self, latents: torch.Tensor) -> torch.Tensor:
        """Latents `(*, d_model)` where they are compared with codes, `(*, groups, codebook_dim)`."""
        parts = self.quantizer.split(latents)
        return parts[..., : self.quantizer.codebook_dim].double()

    def distances(self, point: torch.Tensor, group: int) -> torch.Tensor:
        """Squared distances `(codebook_size,)` from a point `(codebook_dim,)` to the codes of a group."""
        return (self.codebooks[group] - point).square().sum(dim=-1)

    def outside(self, role_ids: torch.Tensor) -> torch.Tensor:
        """Whether a role forbids a code, `(*, codebook_size)`; role -1 forbids none."""
        codes = torch.arange(self.codebooks.shape[1], device=self.ranges.device)
        bounds = self.ranges[role_ids][..., None]
        return (codes < bounds[..., 0, :]) | (codes >= bounds[..., 1, :])

    def step(
        self, current: torch.Tensor, goal: torch.Tensor, t: float, role_ids: torch.Tensor
    ) -> torch.Tensor:
        """One step of the walk, eq. (O4): codes `(N, groups)` on the way from `current` to `goal`."""
        here, there = self.vectors(current), self.vectors(goal)
        mixed = (1 - t) * here + t * there
        forbidden = self.outside(role_ids.to(current.device))
        moved = []
        for group, codebook in enumerate(self.codebooks):
            # The nearest code to the mixture has the least (1 - t) ||c - e||^2 + t ||b - e||^2: the two differ by a
            # constant.
            scores = codebook.square().sum(dim=-1) - 2 * mixed[:, group] @ codebook.T
            best = scores.masked_fill(forbidden, torch.inf).argmin(dim=-1)
            # That sum itself decides whether to go: at t = 0.5 it is exactly the same for both ends, and a tie stays.
            c, b, e = here[:, group], there[:, group], codebook[best]
            to_end = t * (b - c).square().sum(dim=-1)
            to_best = (1 - t) * (c - e).square().sum(dim=-1) + t * (b - e).square().sum(dim=-1)
            moved.append(torch.where(to_best < to_end, best, current[:, group]))
        return torch.stack(moved, dim=-1)


__all__ = ["CodeSpace"]
