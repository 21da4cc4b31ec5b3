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
"""Mathematics of codes: nearest codes, k-means, what all quantizers share, and the classic one.

A quantizer takes `latents` of shape `(batch, *positions, input_dim)` and an optional mask `(batch,
*positions)`, and returns a `QuantizerOutput`. `EMAQuantizer` is the VQ-VAE bottleneck; its sibling
`GaussianMixtureQuantizer` has a file of its own. Equation numbers refer to docs/quantization.md.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import nn

# Entries of one positions-by-codes block: 64 MiB in float32, whatever the batch and the codebook.
MAX_BLOCK_ENTRIES = 2**24


@dataclass
class QuantizerOutput:
    """What every quantizer returns; `*` stands for the position dimensions, `D` for `codebook_dim`.

    Attributes:
        quantized: `(batch, *, D)`, what the decoder reads: code vectors, or in training their differentiable
            stand-in. Zero at masked positions.
        posterior_mean: `(batch, *, D)`, the mean code vector under the posterior; equals `quantized` where
            codes are certain.
        codes: `(batch, *)` integers in `[0, codebook_size)`, -1 at masked positions.
        commitment_loss: `(batch,)`, squared distance from latents to codes summed over positions, eq. (3) or
            (14).
        kl_loss: `()`, divergence of the code distribution from uniform in nats, eq. (15); 0 for the EMA
            quantizer.
        posterior_entropy: `()`, mean entropy of the codes of one position, in nats; 0 where codes are
            certain.
        aggregated_entropy: `()`, entropy of the codes of the whole batch, in nats.
    """

    quantized: torch.Tensor
    posterior_mean: torch.Tensor
    codes: torch.Tensor
    commitment_loss: torch.Tensor
    kl_loss: torch.Tensor
    posterior_entropy: torch.Tensor
    aggregated_entropy: torch.Tensor


def nearest_codes(
    latents: torch.Tensor,
    codebook: torch.Tensor,
    k: int = 1,
    ranges: torch.Tensor | None = None,
) -> torch.Tensor:
    """Indices of the nearest code vectors in Euclidean distance, eq. (1).

    Decided in float32 whatever the input dtype or autocast, in blocks of rows, so that the positions-by-codes
    matrix never exists whole. Of equally near codes the lowest index wins.

    Args:
        latents: `(*, D)`.
        codebook: `(codebook_size, D)`.
        k: with `k > 1` the `k` nearest codes, nearest first, in a new last dimension.
        ranges: `(*, 2)` integers, the codes from start to before end that each latent may take; at least `k`.

    Example:
    ```python
    >>> import torch
    >>> from hf_vq.models.vector_quantization import nearest_codes
    >>> nearest_codes(torch.tensor([[0.1, 0.0], [0.9, 1.0]]), torch.tensor([[0.0, 0.0], [1.0, 1.0]]))
    tensor([0, 1])

    ```
    """
    if not 1 <= k <= codebook.shape[0]:
        raise ValueError(f"k is {k}, expected 1 to the codebook size, {codebook.shape[0]}")
    if latents.shape[-1] != codebook.shape[-1]:
        raise ValueError(
            f"latents have {latents.shape[-1]} dimensions, the codebook {codebook.shape[-1]}"
        )
    with torch.no_grad(), torch.autocast(latents.device.type, enabled=False):
        # ||z - e||^2 = ||z||^2 - 2 z.e + ||e||^2; the first term is the same for all codes. Distances do not
        # change under a shift, and centering both sides removes the large common part that would cancel badly
        # in float32.
        center = codebook.float().mean(dim=0)
        # Matrix products treat left-over columns by another kernel, which rounds equal codes differently:
        # hence full blocks.
        centered = F.pad(codebook.float() - center, (0, 0, 0, -len(codebook) % 16))
        bias = -0.5 * centered.square().sum(dim=-1)
        rows = latents.detach().float().reshape(-1, latents.shape[-1]) - center
        blocks = rows.split(max(1, MAX_BLOCK_ENTRIES // len(centered)))
        codes, row = [], 0
        for block in blocks:
            scores = torch.addmm(bias, block, centered.T)[:, : len(codebook)]
            if ranges is not None:
                block_ranges = ranges.reshape(-1, 2)[row : row + len(block)]
                scores = scores.masked_fill(out_of_range(block_ranges, len(codebook)), -torch.inf)
                row += len(block)
            codes.append(_best_columns(scores, k))
        return torch.cat(codes).reshape(*latents.shape[:-1], *([k] if k > 1 else []))


def out_of_range(ranges: torch.Tensor, codebook_size: int) -> torch.Tensor:
    """`(rows, codebook_size)`, whether a code is outside the row's range; `ranges` is `(rows, 2)`, start and end."""
    columns = torch.arange(codebook_size, device=ranges.device)
    return (columns < ranges[:, :1]) | (columns >= ranges[:, 1:])


def _best_columns(scores: torch.Tensor, k: int) -> torch.Tensor:
    """The `k` best columns of each row, best first. `topk` leaves ties open; `argmax` promises the first maximum.

    It writes into `scores`: copies would take longer than the search.
    """
    best = [_first_maximum(scores)]
    for _ in range(k - 1):
        scores.scatter_(-1, best[-1][:, None], -torch.inf)
        best.append(_first_maximum(scores))
    return torch.stack(best, dim=-1)


def _first_maximum(scores: torch.Tensor) -> torch.Tensor:
    """The column of each row's maximum. On CPUs NumPy's search is vectorized, and 6 times as fast as PyTorch's.

    Not while a graph is traced or exported, which must see tensors only.
    """
    tracing = torch.compiler.is_compiling() or torch.jit.is_tracing()
    if scores.device.type == "cpu" and not tracing:
        return torch.from_numpy(scores.numpy().argmax(axis=-1))
    return scores.argmax(dim=-1)


def straight_through(latents: torch.Tensor, quantized: torch.Tensor) -> torch.Tensor:
    """The value of `quantized` with the gradient of `latents`, eq. (2)."""
    return latents + (quantized - latents).detach()


@torch.no_grad()
def kmeans(
    vectors: torch.Tensor,
    num_clusters: int,
    num_iterations: int = 10,
    generator: torch.Generator | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Lloyd's algorithm from a k-means++ start, in float32 on the device of `vectors`.

    A cluster that runs empty moves to the vector farthest from its own center. With fewer distinct vectors
    than clusters the surplus centers are jittered copies, so that no two codes are ever equal.

    Args:
        vectors: `(num_vectors, D)`.
        num_clusters: number of centers.
        num_iterations: Lloyd steps.
        generator: source of randomness, on the CPU, so that a seed gives the same draws on every device.

    Returns:
        Centers `(num_clusters, D)` and how many vectors belong to each, `(num_clusters,)`.
    """
    vectors = vectors.detach().float()
    if vectors.ndim != 2 or len(vectors) == 0:
        raise ValueError(
            f"k-means needs vectors of shape (number, dimension), got {tuple(vectors.shape)}"
        )
    if not torch.isfinite(vectors).all():
        raise ValueError("k-means needs finite vectors, got NaN or infinity")
    sample = vectors
    if len(vectors) > 32 * num_clusters:
        # The start looks at all vectors once for each cluster: a part of them says as much, many times faster.
        drawn = torch.randperm(len(vectors), generator=generator)[: 32 * num_clusters]
        sample = vectors[drawn.to(vectors.device)]
    centers = _kmeans_plus_plus(sample, num_clusters, generator)
    counts = torch.zeros(num_clusters, device=vectors.device)
    for _ in range(num_iterations):
        codes = nearest_codes(vectors, centers)
        counts = torch.bincount(codes, minlength=num_clusters).float()
        sums = torch.zeros_like(centers).index_add_(0, codes, vectors)
        distances = (vectors - centers[codes]).square().sum(dim=-1)
        centers = sums / counts.clamp_min(1)[:, None]
        empty = (counts == 0).nonzero().flatten()[: len(vectors)]
        centers[empty] = vectors[distances.argsort(descending=True, stable=True)[: len(empty)]]
    counts = torch.bincount(nearest_codes(vectors, centers), minlength=num_clusters).float()
    if int((counts == 0).sum()):
        jitter = torch.randn(centers.shape, generator=generator).to(centers)
        centers = torch.where(
            (counts == 0)[:, None],
            centers + 1e-3 * jitter * vectors.std(unbiased=False).clamp_min(1e-3),
            centers,
        )
    return centers, counts


def _kmeans_plus_plus(
    vectors: torch.Tensor, num_clusters: int, generator: torch.Generator | None
) -> torch.Tensor:
    """Draw each next center with probability proportional to its squared distance from the others."""
    uniforms = torch.rand(num_clusters, generator=generator, dtype=torch.float64)
    distances = torch.full((len(vectors),), torch.inf, device=vectors.device)
    chosen = (uniforms[0] * len(vectors)).long().to(vectors.device)
    centers = []
    for uniform in uniforms.roll(-1):
        centers.append(vectors[chosen])
        distances = torch.minimum(distances, (vectors - centers[-1]).square().sum(dim=-1))
        cumulative = to_float64(distances).cumsum(dim=0)
        # All distances zero: every vector is a center already, and any vector will do (see the jitter in `kmeans`).
        target = torch.where(cumulative[-1] > 0, uniform.to(cumulative) * cumulative[-1], -1.0)
        chosen = torch.searchsorted(cumulative, target, right=True).clamp_max(len(vectors) - 1)
        chosen = chosen.to(vectors.device)
    return torch.stack(centers)


def to_float64(tensor: torch.Tensor) -> torch.Tensor:
    """In float64, which the GPUs of Apple lack: from there to the CPU."""
    return (tensor.cpu() if tensor.device.type == "mps" else tensor).double()


def all_reduce_sum(tensor: torch.Tensor) -> torch.Tensor:
    """Sum over ranks; the tensor itself when there is only one."""
    if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
        tensor = tensor.clone()
        dist.all_reduce(tensor)
    return tensor


def entropy(probabilities: torch.Tensor) -> torch.Tensor:
    """Entropy in nats over the last dimension; the clamp keeps the gradient finite at probability 0."""
    return -(probabilities * probabilities.clamp_min(1e-12).log()).sum(dim=-1)


class Quantizer(nn.Module):
    """What the two quantizers share: the codebook's life cycle, and the bookkeeping of masks and shapes.

    A training forward changes state (EMA statistics, the count of updates). By default it does so at once. A
    loop that accumulates gradients sets `deferred_update` and calls `apply_update` once per optimizer step:
    then several micro-batches change the state exactly as one large batch does.
    """

    codebook: torch.Tensor
    codebook_initialized: torch.Tensor
    num_updates: torch.Tensor

    def __init__(
        self,
        codebook_size: int,
        codebook_dim: int,
        *,
        learned_codebook: bool,
        ema_decay: float,
        revival_threshold: float,
    ):
        """A codebook that learns by gradient is a parameter; one that follows moving averages is a buffer."""
        super().__init__()
        self.codebook_size = codebook_size
        self.codebook_dim = codebook_dim
        self.input_dim = codebook_dim
        self.learned_codebook = learned_codebook
        self.ema_decay = ema_decay
        self.revival_threshold = revival_threshold
        self.deferred_update = False
        self.codebook_initialized = nn.Buffer(torch.zeros((), dtype=torch.bool))
        self.num_updates = nn.Buffer(torch.zeros((), dtype=torch.int64))
        vectors = torch.randn(codebook_size, codebook_dim)
        self.codebook = nn.Parameter(vectors) if learned_codebook else nn.Buffer(vectors)
        self.ema_counts = nn.Buffer(torch.ones(codebook_size))
        # Collected by training forwards until `apply_update`; zero between optimizer steps, hence never
        # saved. While `from_pretrained(dtype=...)` builds the model, that is the default dtype, and what it
        # does not load stays so.
        zeros = torch.zeros(codebook_size, codebook_dim, dtype=torch.float32)
        self.pending_counts = nn.Buffer(zeros[:, 0].clone(), persistent=False)
        self.pending_latents = nn.Buffer(zeros, persistent=False)
        if not learned_codebook:
            self.ema_sums = nn.Buffer(vectors.clone())
            self.pending_sums = nn.Buffer(zeros.clone(), persistent=False)

    def initial_values(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Each tensor of the state and what it starts as, in an order in which later ones may follow earlier ones."""
        yield self.codebook, torch.randn_like(self.codebook)
        yield self.codebook_initialized, torch.zeros_like(self.codebook_initialized)
        yield self.num_updates, torch.zeros_like(self.num_updates)
        yield self.ema_counts, torch.ones_like(self.ema_counts)
        if not self.learned_codebook:
            yield self.ema_sums, self.codebook
        for name, buffer in self.named_buffers():
            if name.startswith("pending_"):
                yield buffer, torch.zeros_like(buffer)

    def assign(self, latents: torch.Tensor, ranges: torch.Tensor | None = None) -> torch.Tensor:
        """Codes of `(*, input_dim)`, the decision of eval mode; `ranges` as in `nearest_codes`."""
        return nearest_codes(latents, self.codebook, ranges=ranges)

    def proxies(self, latents: torch.Tensor) -> torch.Tensor:
        """The part of `(*, input_dim)` that is compared with the codebook, `(*, codebook_dim)`."""
        return latents

    def embed(self, codes: torch.Tensor) -> torch.Tensor:
        """Vectors of codes: `(*)` integers to `(*, codebook_dim)`; zeros for -1, the code of a masked position."""
        vectors = F.embedding(codes.clamp_min(0), self.codebook)
        return vectors * (codes >= 0)[..., None]

    @torch.no_grad()
    def initialize_codebook(
        self,
        latents: torch.Tensor,
        mask: torch.Tensor | None = None,
        method: str = "kmeans",
        generator: torch.Generator | None = None,
        ranges: torch.Tensor | None = None,
        num_batches: int = 1,
    ) -> None:
        """Set the codebook from data: cluster centers (`"kmeans"`), or the latents that k-means++ draws (`"data"`).

        Several times `codebook_size` latents give a good start. With several processes rank 0 decides for
        all. With `ranges`, as in `forward`, the codes of a range start from the latents that may take them.
        The moving averages (4) and (5) start as one of the `num_batches` from which the latents are: as their
        sum, the start would outweigh hundreds of updates.
        """
        if method not in ("kmeans", "data"):
            raise ValueError(f"codebook initialization is {method!r}, expected 'kmeans' or 'data'")
        vectors = self._vectors_to_cluster(latents)
        vectors = vectors[mask] if mask is not None else vectors.flatten(0, -2)
        num_iterations = 10 if method == "kmeans" else 0
        if ranges is None:
            centers, counts = kmeans(vectors, self.codebook_size, num_iterations, generator)
        else:
            ranges = ranges[mask] if mask is not None else ranges.flatten(0, -2)
            centers, counts = self._cluster_ranges(vectors, ranges, num_iterations, generator)
        if dist.is_available() and dist.is_initialized():
            dist.broadcast(centers, src=0)
            dist.broadcast(counts, src=0)
        self._set_codebook(centers, counts.clamp_min(1) / num_batches, vectors)
        self.codebook_initialized.fill_(True)

    def _vectors_to_cluster(self, latents: torch.Tensor) -> torch.Tensor:
        return latents.detach().float()

    def _cluster_ranges(
        self,
        vectors: torch.Tensor,
        ranges: torch.Tensor,
        num_iterations: int,
        generator: torch.Generator | None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """k-means for each range apart; codes in no range but the whole codebook start from all vectors."""
        codes = torch.arange(self.codebook_size, device=vectors.device)
        centers, counts = (
            vectors.new_zeros(len(codes), vectors.shape[1]),
            vectors.new_zeros(len(codes)),
        )
        free = torch.ones_like(codes, dtype=torch.bool)
        for start, end in ranges.unique(dim=0).tolist():
            if end - start < self.codebook_size:
                members = vectors[(ranges == ranges.new_tensor([start, end])).all(dim=1)]
                centers[start:end], counts[start:end] = kmeans(
                    members, end - start, num_iterations, generator
                )
                free[start:end] = False
        if free.any():
            some = kmeans(vectors, int(free.sum()), num_iterations, generator)
            centers[free], counts[free] = some
        return centers, counts

    def _set_codebook(
        self, centers: torch.Tensor, counts: torch.Tensor, vectors: torch.Tensor
    ) -> None:
        self.codebook.copy_(centers)
        # Counts and sums move together, else the first update would pull every code towards the origin.
        self.ema_counts.copy_(counts)
        if not self.learned_codebook:
            self.ema_sums.copy_(centers * self.ema_counts[:, None])

    @torch.no_grad()
    def _collect(
        self,
        rows: torch.Tensor,
        codes: torch.Tensor,
        weights: torch.Tensor,
        ranges: torch.Tensor | None = None,
    ) -> None:
        """Note what a training forward assigned to which code, and draw the latents that dead codes may move to."""
        if self.pending_counts.dtype != torch.float32:
            raise ValueError(
                f"the moving averages of the codebook are {self.pending_counts.dtype}, expected torch.float32: leave "
                "the quantizer in float32, which takes latents of any type"
            )
        self.pending_counts.index_add_(0, codes, weights)
        if not self.learned_codebook:
            self.pending_sums.index_add_(0, codes, rows * weights[:, None])
        if self.revival_threshold > 0:
            # One candidate for each code; a batch without any real position leaves the candidates as they are.
            some = weights.sum() > 0
            drawn = torch.multinomial(weights + ~some, self.codebook_size, replacement=True)
            usable = some
            if ranges is not None:
                # A code waits for the update in which it draws a latent that may take it.
                columns = torch.arange(self.codebook_size, device=rows.device)
                start, end = ranges.reshape(-1, 2)[drawn].unbind(dim=1)
                usable = (some & (columns >= start) & (columns < end))[:, None]
            self.pending_latents.copy_(torch.where(usable, rows[drawn], self.pending_latents))

    @torch.no_grad()
    def apply_update(self) -> None:
        """Eq. (4)-(7), from what the training forwards of all ranks collected; once per optimizer step."""
        self.num_updates.add_(1)
        new_counts = all_reduce_sum(self.pending_counts)
        self.ema_counts.lerp_(new_counts, 1 - self.ema_decay)
        mean_count = self.ema_counts.mean()
        if self.revival_threshold > 0 and dist.is_available() and dist.is_initialized():
            dist.broadcast(self.pending_latents, src=0)
        # An update without any latent (all masked) says nothing about which codes are dead; nor can a code
        # move for which no latent was drawn, which stays zero.
        dead = (self.ema_counts < self.revival_threshold * mean_count) & (new_counts.sum() > 0)
        dead &= self.pending_latents.any(dim=1)
        self.ema_counts.copy_(torch.where(dead, mean_count, self.ema_counts))
        dead, counts = dead[:, None], self.ema_counts[:, None]
        if self.learned_codebook:
            if self.revival_threshold > 0:
                # `.data`: without deferral this comes between forward and backward. Autograd would refuse,
                # although only rows of codes that no position chose change.
                self.codebook.data.copy_(torch.where(dead, self.pending_latents, self.codebook))
        else:
            self.ema_sums.lerp_(all_reduce_sum(self.pending_sums), 1 - self.ema_decay)
            self.ema_sums.copy_(torch.where(dead, self.pending_latents * counts, self.ema_sums))
            # Where hardly anything is left of a count, the quotient would be noise: such a code stays where it is.
            means = self.ema_sums / counts.clamp_min(1e-5)
            self.codebook.copy_(torch.where(counts > 1e-5, means, self.codebook))
            self.pending_sums.zero_()
        self.pending_counts.zero_()
        self.pending_latents.zero_()

    def _check(
        self,
        latents: torch.Tensor,
        mask: torch.Tensor | None,
        ranges: torch.Tensor | None = None,
    ) -> None:
        if latents.shape[-1] != self.input_dim:
            raise ValueError(
                f"latents have {latents.shape[-1]} dimensions, this quantizer takes {self.input_dim}"
            )
        if mask is not None and (mask.dtype != torch.bool or mask.shape != latents.shape[:-1]):
            raise ValueError(
                f"mask is {mask.dtype} of shape {tuple(mask.shape)}, expected torch.bool of shape "
                f"{tuple(latents.shape[:-1])}"
            )
        if ranges is not None and ranges.shape != (*latents.shape[:-1], 2):
            raise ValueError(
                f"ranges have shape {tuple(ranges.shape)}, expected {(*latents.shape[:-1], 2)}"
            )


class EMAQuantizer(Quantizer):
    """VQ-VAE's bottleneck: nearest code, straight-through gradient, codebook by moving averages, eq. (1)-(7).

    The codebook and its statistics are buffers, updated in training only, from sums over all ranks.

    Args:
        codebook_size: number of codes.
        codebook_dim: width of a code.
        ema_decay: weight of the past in the moving averages, eq. (4) and (5).
        revival_threshold: a code whose average count falls below this share of the mean count moves to a
            random latent of the batch, eq. (7); 0 turns revival off.
    """

    def __init__(
        self,
        codebook_size: int,
        codebook_dim: int,
        ema_decay: float = 0.99,
        revival_threshold: float = 0.05,
    ):
        """See the class."""
        super().__init__(
            codebook_size,
            codebook_dim,
            learned_codebook=False,
            ema_decay=ema_decay,
            revival_threshold=revival_threshold,
        )

    def forward(
        self,
        latents: torch.Tensor,
        mask: torch.Tensor | None = None,
        ranges: torch.Tensor | None = None,
    ) -> QuantizerOutput:
        """Quantize `(batch, *, codebook_dim)`; see `QuantizerOutput`, and `nearest_codes` for `ranges`."""
        self._check(latents, mask, ranges)
        weight = (
            torch.ones(latents.shape[:-1], device=latents.device) if mask is None else mask.float()
        )
        codes = nearest_codes(latents, self.codebook, ranges=ranges)
        counts = torch.zeros_like(self.ema_counts, dtype=torch.float32)
        counts.index_add_(0, codes.flatten(), weight.flatten())
        if self.training:
            rows = latents.detach().float().flatten(0, -2)
            self._collect(rows, codes.flatten(), weight.flatten(), ranges)
        quantized = F.embedding(codes, self.codebook)
        error = (latents.float() - quantized).square().sum(dim=-1) * weight
        commitment_loss = error.flatten(1).sum(dim=1)  # eq. (3), per example
        aggregated = entropy(counts / counts.sum().clamp_min(1))
        quantized = quantized.to(latents.dtype)
        if self.training:
            quantized = straight_through(latents, quantized)
            if not self.deferred_update:
                # The update must not touch the table that this step's graph still reads: F.embedding has
                # copied its rows.
                self.apply_update()
        if mask is not None:
            quantized = quantized.masked_fill(~mask[..., None], 0)
            codes = codes.masked_fill(~mask, -1)
        zero = commitment_loss.new_zeros(())
        return QuantizerOutput(quantized, quantized, codes, commitment_loss, zero, zero, aggregated)
