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
"""GM-VQ's quantizer: codes are the means of a Gaussian mixture. Equations: docs/quantization.md."""

import math
from collections.abc import Iterator
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import nn

from .vector_quantization import (
    MAX_BLOCK_ENTRIES,
    EMAQuantizer,
    Quantizer,
    QuantizerOutput,
    all_reduce_sum,
    entropy,
    out_of_range,
    straight_through,
)

# On a CPU a block should fit the second-level cache; on a GPU few large kernels win.
CPU_BLOCK_ENTRIES = 2**19


class _MixtureAssignment(torch.autograd.Function):
    """Posterior and relaxed code weights, eq. (9), (10) and (12), reduced to the few sums that the loss needs.

    Plain autograd keeps six positions-by-codes matrices and moves each through main memory several times.
    Here a block of rows stays in the cache from logits to sums, and only the two weight matrices are kept for
    backward. Logits are float32; the other products use `dtype`. The same mathematics without cleverness
    stands in the tests, values and gradients.
    """

    @staticmethod
    def forward(
        ctx: Any,
        queries: torch.Tensor,
        keys: torch.Tensor,
        values: torch.Tensor,
        mask_weights: torch.Tensor,
        inverse_temperature: torch.Tensor | None,
        noise_pool: torch.Tensor | None,
        ranges: torch.Tensor | None,
        dtype: torch.dtype,
    ) -> tuple[torch.Tensor, ...]:
        """Rows are positions, columns codes, `logits = queries @ keys.T`; `inverse_temperature` None relaxes nothing.

        Returns `posterior @ values`, `relaxed @ values`, the masked sum over rows of the posteriors, the
        entropy of each row's posterior, and each row's most probable code.
        """
        # `shape`, not `len`, which would fix the number in an exported graph.
        num_rows, num_codes = queries.shape[0], keys.shape[0]
        typed_values = values.to(dtype)
        posterior_sum = keys.new_zeros(num_codes)
        posterior_means, relaxed_means, entropies, codes = [], [], [], []
        posteriors, relaxeds = [], []
        if noise_pool is not None:
            # Fresh noise for every pair would cost more than all the products. A row takes a window of the
            # pool at a random place: its entries are independent, and two rows share noise for the same code
            # once in a million pairs.
            windows = noise_pool.unfold(0, num_codes, 1)
            starts = torch.randint(len(windows), (num_rows,), device=keys.device)
        for rows in _row_slices(num_rows, num_codes, queries.device):
            logits = _restricted(queries[rows] @ keys.T, ranges, rows)
            top, code = logits.max(dim=-1, keepdim=True)
            logits -= top
            if inverse_temperature is not None:
                perturbed = logits if noise_pool is None else windows[starts[rows]].add_(logits)
                relaxed = torch.softmax(perturbed * inverse_temperature, dim=-1).to(dtype)
                relaxed_means.append((relaxed @ typed_values).float())
                relaxeds.append(relaxed)
            posterior = torch.softmax(logits, dim=-1)
            # H = log sum exp(logits) - sum p logits; the shifted logit of the best code is 0, so its p is 1 / sum exp.
            entropies.append(
                -posterior.gather(-1, code).squeeze(-1).log()
                - torch.linalg.vecdot(posterior, logits)
            )
            # Not `posterior.T @ ...`: ONNX Runtime 1.31 multiplies a transposed matrix with a vector wrongly.
            posterior_sum += mask_weights[rows] @ posterior
            posterior = posterior.to(dtype)
            posterior_means.append((posterior @ typed_values).float())
            posteriors.append(posterior)
            codes.append(code.squeeze(-1))
        posterior_mean, entropy, code = (
            torch.cat(posterior_means),
            torch.cat(entropies),
            torch.cat(codes),
        )
        relaxed_mean = (
            torch.cat(relaxed_means) if relaxed_means else torch.empty_like(posterior_mean)
        )
        ctx.save_for_backward(
            queries, keys, values, mask_weights, inverse_temperature, posterior_mean, relaxed_mean, entropy,
            *posteriors, *relaxeds,
        )  # fmt: skip
        ctx.dtype, ctx.num_blocks = dtype, len(posteriors)
        ctx.set_materialize_grads(False)
        ctx.mark_non_differentiable(code)
        return posterior_mean, relaxed_mean, posterior_sum, entropy, code

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor | None) -> tuple[torch.Tensor | None, ...]:
        """Softmax backward, `p * (g - sum p g)`, for both weight matrices, then the three products of the logits."""
        grad_posterior_mean, grad_relaxed_mean, grad_posterior_sum, grad_entropy, _ = grads
        (
            queries,
            keys,
            values,
            mask_weights,
            inverse_temperature,
            posterior_mean,
            relaxed_mean,
            entropy,
            *weights,
        ) = ctx.saved_tensors
        posteriors, relaxeds = weights[: ctx.num_blocks], weights[ctx.num_blocks :]
        dtype = ctx.dtype
        needs_codebook = ctx.needs_input_grad[1]
        typed_keys, typed_values, typed_queries = (
            keys.to(dtype),
            values.to(dtype),
            queries.to(dtype),
        )
        grad_queries, grad_keys, grad_values = (
            torch.empty_like(queries),
            torch.zeros_like(keys),
            torch.zeros_like(values),
        )
        for i, rows in enumerate(_row_slices(len(queries), len(keys), queries.device)):
            posterior = posteriors[i]
            grad_logits = torch.zeros(posterior.shape, device=keys.device)
            if grad_posterior_mean is not None:
                typed_grad = grad_posterior_mean[rows].to(dtype)
                # sum_c p_c (g . v_c) = g . sum_c p_c v_c: the row sums need no pass over the block.
                row_sums = (grad_posterior_mean[rows] * posterior_mean[rows]).sum(
                    dim=-1, keepdim=True
                )
                grad_logits += (typed_grad @ typed_values.T).float() - row_sums
                if needs_codebook:
                    grad_values += (posterior.T @ typed_grad).float()
            if grad_posterior_sum is not None:
                centered = grad_posterior_sum - (posterior.float() @ grad_posterior_sum)[:, None]
                grad_logits.addcmul_(mask_weights[rows, None], centered)
            if grad_entropy is not None:
                surprise = posterior.float().clamp_min(1e-12).log() + entropy[rows, None]
                grad_logits.addcmul_(grad_entropy[rows, None], surprise, value=-1)
            grad_logits *= posterior
            if grad_relaxed_mean is not None and relaxeds:
                relaxed, typed_grad = relaxeds[i], grad_relaxed_mean[rows].to(dtype)
                row_sums = (grad_relaxed_mean[rows] * relaxed_mean[rows]).sum(dim=-1, keepdim=True)
                through_relaxed = (typed_grad @ typed_values.T).float().sub_(row_sums).mul_(relaxed)
                grad_logits.addcmul_(through_relaxed, inverse_temperature)
                if needs_codebook:
                    grad_values += (relaxed.T @ typed_grad).float()
            grad_logits = grad_logits.to(dtype)
            grad_queries[rows] = (grad_logits @ typed_keys).float()
            if needs_codebook:
                grad_keys += (grad_logits.T @ typed_queries[rows]).float()
        return grad_queries, grad_keys, grad_values, None, None, None, None, None


def _restricted(logits: torch.Tensor, ranges: torch.Tensor | None, rows: slice) -> torch.Tensor:
    """Leave codes outside of a row's range without probability; finite, so that 0 log 0 stays 0."""
    if ranges is None:
        return logits
    return logits.masked_fill_(out_of_range(ranges[rows], logits.shape[1]), -1e9)


def _row_slices(num_rows: int, num_columns: int, device: torch.device) -> list[slice]:
    entries = CPU_BLOCK_ENTRIES if device.type == "cpu" else MAX_BLOCK_ENTRIES
    step = max(1, entries // num_columns)
    if num_rows <= step:
        return [slice(None)]
    return [slice(start, min(start + step, num_rows)) for start in range(0, num_rows, step)]


class GaussianMixtureQuantizer(Quantizer):
    """GM-VQ's bottleneck: codes are the means of a Gaussian mixture, training samples from it, eq. (8)-(16).

    In training the decoder reads a relaxed sample: a Gumbel-softmax mixture of code vectors plus Gaussian
    noise as large as the quantization error. In eval mode it reads the most probable code and nothing is
    random.

    The aggregated posterior of eq. (15) is a mean over the batch of all ranks, so micro-batches of gradient
    accumulation each have their own: this one term of the loss is not the same as with the large batch.

    Args:
        codebook_size: number of codes.
        codebook_dim: width of a code.
        feature_weights: the latents carry a weight for each dimension of the distance, `input_dim = 2 *
            codebook_dim`.
        assignment_variance: sigma squared of eq. (8) and (11).
        variance: noise of the relaxed sample: `"adaptive"` as in eq. (11), `"fixed"` at
            `assignment_variance`, or `"none"`.
        gumbel_noise: whether the code weights of eq. (12) are sampled, or the plain tempered posterior.
        temperatures: first and last temperature of eq. (12).
        temperature_anneal_steps: updates over which the temperature falls, exponentially, from first to last.
        noise_anneal: Gaussian and Gumbel noise fall linearly to zero over the same updates; the paper keeps
            them.
        relaxation: `"gumbel_softmax"`, the paper's; or `"straight_through"`: the decoder reads the most
            probable code in training too, with the gradient of eq. (2), and eq. (14) takes that code alone.
            Nothing is random then, the codebook follows the commitment term, and the aggregated posterior
            spreads the codes.
        codebook_update: `"gradient"` as in the paper, or `"ema"`: online expectation maximization. Each code
            follows the moving average of its latents, eq. (4)-(6), and the logits' scale that of the
            quantization error, eq. (19).
        ema_decay: weight of the past in these averages.
        revival_threshold: as for `EMAQuantizer`; 0, the paper's, never moves a code.
    """

    def __init__(
        self,
        codebook_size: int,
        codebook_dim: int,
        *,
        feature_weights: bool = True,
        assignment_variance: float = 0.5,
        variance: str = "adaptive",
        gumbel_noise: bool = True,
        temperatures: tuple[float, float] = (2.0, 0.1),
        temperature_anneal_steps: int = 10_000,
        noise_anneal: bool = False,
        relaxation: str = "gumbel_softmax",
        codebook_update: str = "gradient",
        ema_decay: float = 0.99,
        revival_threshold: float = 0.0,
    ):
        """See the class."""
        super().__init__(
            codebook_size,
            codebook_dim,
            learned_codebook=codebook_update == "gradient",
            ema_decay=ema_decay,
            revival_threshold=revival_threshold,
        )
        self.relaxation = relaxation
        self.feature_weights = feature_weights
        self.input_dim = codebook_dim * (2 if feature_weights else 1)
        self.assignment_variance = assignment_variance
        self.variance = variance
        self.gumbel_noise = gumbel_noise
        self.temperatures = temperatures
        self.temperature_anneal_steps = temperature_anneal_steps
        self.noise_anneal = noise_anneal
        # Set with the codebook, so that posteriors start neither flat nor saturated: see `_set_codebook`.
        self.logit_scale = nn.Buffer(torch.ones(()))
        self.ema_distance = nn.Buffer(torch.zeros(()))
        self.pending_distance = nn.Buffer(torch.zeros((), dtype=torch.float32), persistent=False)

    @property
    def progress(self) -> torch.Tensor:
        """Share of the annealing that is done, from 0 to 1."""
        return (self.num_updates / self.temperature_anneal_steps).clamp(max=1)

    @property
    def temperature(self) -> torch.Tensor:
        """Tau of eq. (12) after `num_updates` updates."""
        first, last = self.temperatures
        return first * (last / first) ** self.progress

    def initial_values(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """As in the base class, with the scale of the logits."""
        yield from super().initial_values()
        yield self.logit_scale, torch.ones_like(self.logit_scale)
        yield self.ema_distance, torch.zeros_like(self.ema_distance)

    def forward(
        self,
        latents: torch.Tensor,
        mask: torch.Tensor | None = None,
        ranges: torch.Tensor | None = None,
    ) -> QuantizerOutput:
        """Quantize `(batch, *, input_dim)`; see `QuantizerOutput`, and `nearest_codes` for `ranges`."""
        self._check(latents, mask, ranges)
        device = latents.device.type
        # Distances and probabilities are float32 under autocast; the products that average code vectors may
        # be narrower.
        dtype = (
            torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else torch.float32
        )
        with torch.autocast(device, enabled=False):
            return self._quantize(latents, mask, ranges, dtype)

    def _quantize(
        self,
        latents: torch.Tensor,
        mask: torch.Tensor | None,
        ranges: torch.Tensor | None,
        dtype: torch.dtype,
    ) -> QuantizerOutput:
        shape = latents.shape[:-1]
        ranges = None if ranges is None else ranges.reshape(-1, 2)
        proxies, weights = self._split(latents.flatten(0, -2))
        mask_weights = (
            latents.new_ones(proxies.shape[0], dtype=torch.float32)
            if mask is None
            else mask.flatten().float()
        )
        relax = self.training and self.relaxation == "gumbel_softmax"
        codebook = self.codebook.float()
        queries, keys = self._logit_factors(proxies, weights, codebook)
        posterior_sums, relaxed_sums, posterior_sum, entropies, codes = _MixtureAssignment.apply(
            queries,
            keys,
            torch.cat([codebook, codebook.square().sum(dim=-1, keepdim=True)], dim=-1),
            mask_weights,
            self.temperature.reciprocal() if relax else None,
            self._noise_pool() if relax and self.gumbel_noise else None,
            ranges,
            dtype,
        )
        vectors = F.embedding(codes, codebook)
        if self.relaxation == "straight_through":
            quantized = straight_through(proxies, vectors) if self.training else vectors
            commitment_loss = (proxies - vectors).square().sum(dim=-1) * mask_weights
        else:
            quantized = self._relaxed_sample(proxies, relaxed_sums) if relax else vectors
            commitment_loss = self._expected_distance(proxies, posterior_sums) * mask_weights
        if self.training:
            self._collect(proxies.detach(), codes, mask_weights, ranges)
            errors = (proxies - vectors).detach().square().sum(dim=-1)
            self.pending_distance.add_(errors @ mask_weights)
            if not self.deferred_update:
                self.apply_update()
        num_positions = all_reduce_sum(mask_weights.sum()).clamp_min(1)
        aggregated_entropy = entropy(_sum_over_ranks(posterior_sum) / num_positions)
        posterior_entropy = (entropies * mask_weights).sum() / mask_weights.sum().clamp_min(1)
        quantized, posterior_mean = (
            (vectors * mask_weights[:, None]).view(*shape, self.codebook_dim).to(latents.dtype)
            for vectors in (quantized, posterior_sums[:, :-1])
        )
        codes = codes.view(shape)
        return QuantizerOutput(
            quantized=quantized,
            posterior_mean=posterior_mean,
            codes=codes if mask is None else codes.masked_fill(~mask, -1),
            commitment_loss=commitment_loss.view(shape).flatten(1).sum(dim=1),
            kl_loss=math.log(self.codebook_size) - aggregated_entropy,
            posterior_entropy=posterior_entropy,
            aggregated_entropy=aggregated_entropy,
        )

    @torch.no_grad()
    def apply_update(self) -> None:
        """Eq. (4)-(7) and (19), from what the training forwards of all ranks collected; once per optimizer step."""
        if not self.learned_codebook:
            self._follow_distance()
        self.pending_distance.zero_()
        super().apply_update()

    def _follow_distance(self) -> None:
        """Eq. (19): keep `logit_scale` times the mean quantization error what it was at the codebook's start."""
        total, count = all_reduce_sum(
            torch.stack([self.pending_distance, self.pending_counts.sum()])
        )
        # Nothing to follow without a position (all masked), nor a ratio to take without an error.
        distance = torch.where(count > 0, total / count.clamp_min(1), self.ema_distance)
        before = torch.where(self.ema_distance > 0, self.ema_distance, distance)
        after = before.lerp(distance, 1 - self.ema_decay)
        self.logit_scale.mul_(torch.where(after > 0, before / after, 1.0))
        self.ema_distance.copy_(after)

    def assign(self, latents: torch.Tensor, ranges: torch.Tensor | None = None) -> torch.Tensor:
        """Most probable codes of `(*, input_dim)`, eq. (16): one product and an argmax, no probabilities."""
        ranges = None if ranges is None else ranges.reshape(-1, 2)
        with torch.no_grad(), torch.autocast(latents.device.type, enabled=False):
            proxies, weights = self._split(latents.flatten(0, -2))
            queries, keys = self._logit_factors(proxies, weights, self.codebook.float())
            slices = _row_slices(len(queries), self.codebook_size, latents.device)
            codes = [
                _restricted(queries[rows] @ keys.T, ranges, rows).argmax(dim=-1) for rows in slices
            ]
            return torch.cat(codes).view(latents.shape[:-1])

    def proxies(self, latents: torch.Tensor) -> torch.Tensor:
        """The latents without their feature weights."""
        return latents[..., : self.codebook_dim]

    def _split(self, latents: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Proxy latents and the weights w of eq. (8), `(*, codebook_dim)` each, from the encoder's output."""
        isotropic = self.logit_scale / (2 * self.assignment_variance)
        if not self.feature_weights:
            proxies = latents.float()
            return proxies, isotropic.expand_as(proxies)
        proxies, raw = latents.float().chunk(2, dim=-1)
        return proxies, F.softplus(raw) * (isotropic / math.log(2))

    def _logit_factors(
        self, proxies: torch.Tensor, weights: torch.Tensor, codebook: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Two matrices whose product is the logits of eq. (8), less what is the same for all codes of a row."""
        squares = codebook.square()
        if self.feature_weights:
            queries = torch.cat([2 * weights * proxies, -weights], dim=-1)
            return queries, torch.cat([codebook, squares], dim=-1)
        # One weight for all dimensions: the squares enter as their sum, and the product has half the inner dimension.
        weight = weights[:, :1]
        queries = torch.cat([2 * weight * proxies, -weight], dim=-1)
        return queries, torch.cat([codebook, squares.sum(dim=-1, keepdim=True)], dim=-1)

    def _noise_pool(self) -> torch.Tensor:
        # -log(Exponential) is Gumbel without the two guarded logarithms of a uniform draw.
        pool = torch.empty(2**20 + self.codebook_size, device=self.codebook.device).exponential_()
        pool = -pool.clamp_min_(1e-30).log_()
        return pool * (1 - self.progress) if self.noise_anneal else pool

    def _expected_distance(self, proxies: torch.Tensor, sums: torch.Tensor) -> torch.Tensor:
        """sum_c p_c ||z - mu_c||^2 from p @ [mu, ||mu||^2], without a second positions-by-codes matrix."""
        means, norms = sums[:, :-1], sums[:, -1]
        return (proxies.square().sum(dim=-1) - 2 * (proxies * means).sum(dim=-1) + norms).clamp_min(
            0
        )

    def _relaxed_sample(self, proxies: torch.Tensor, relaxed_sums: torch.Tensor) -> torch.Tensor:
        """Eq. (13): the mean of the relaxed mixture plus noise of the mixed variance."""
        means = relaxed_sums[:, :-1]
        if self.variance == "none":
            return means
        if self.variance == "adaptive":
            # The clamp keeps the gradient of the root finite where a latent sits on its code.
            distances = self._expected_distance(proxies, relaxed_sums).clamp_min(1e-8)
            deviations = (distances / (2 * self.assignment_variance * self.codebook_dim)).sqrt()[
                :, None
            ]
        else:
            deviations = (self.assignment_variance / self.logit_scale).sqrt()
        scale = 1 - self.progress if self.noise_anneal else 1.0
        return means + scale * deviations * torch.randn_like(means)

    def _vectors_to_cluster(self, latents: torch.Tensor) -> torch.Tensor:
        return latents.detach().float()[..., : self.codebook_dim]

    def _set_codebook(
        self, centers: torch.Tensor, counts: torch.Tensor, vectors: torch.Tensor
    ) -> None:
        """Also scale the logits so that a position starts out undecided among about seven codes (2 nats).

        With tiny latents all codes look alike and the decoder sees their mean; with large ones only one code
        of each position ever gets a gradient. Entropy falls as the scale grows, so bisection finds the scale.
        The latents stay as they are, since the decoder may already know them.
        """
        sample = vectors[:: max(1, len(vectors) // 4096)]
        squared = torch.cdist(sample, centers, compute_mode="donot_use_mm_for_euclid_dist").square()
        target = min(2.0, 0.5 * math.log(self.codebook_size))
        low, high = -30.0, 30.0  # logarithm of the scale
        for _ in range(40):
            middle = (low + high) / 2
            logits = -squared * (math.exp(middle) / (2 * self.assignment_variance))
            too_flat = bool(entropy(logits.softmax(dim=-1)).mean() > target)
            low, high = (middle, high) if too_flat else (low, middle)
        super()._set_codebook(centers, counts, vectors)
        self.ema_distance.zero_()
        self.logit_scale.fill_(math.exp(low))
        if dist.is_available() and dist.is_initialized():
            dist.broadcast(self.logit_scale, src=0)


def _sum_over_ranks(local: torch.Tensor) -> torch.Tensor:
    """Sum over ranks; in gradient, the local part times the ranks: gradient averaging undoes it."""
    if not (dist.is_available() and dist.is_initialized()):
        return local
    local_gradient = local * dist.get_world_size()
    return all_reduce_sum(local.detach()) + local_gradient - local_gradient.detach()


def build_quantizer(config: Any, codebook_dim: int | None = None) -> Quantizer:
    """The quantizer that a configuration names in its field `quantizer`, with the fields that it needs.

    `codebook_dim` takes the place of the configuration's own, for models that derive it.
    """
    codebook_dim = config.codebook_dim if codebook_dim is None else codebook_dim
    if config.quantizer == "ema":
        return EMAQuantizer(
            config.codebook_size,
            codebook_dim,
            config.ema_decay,
            0.05 if config.revival_threshold is None else config.revival_threshold,
        )
    return GaussianMixtureQuantizer(
        config.codebook_size,
        codebook_dim,
        feature_weights=config.feature_weights,
        assignment_variance=config.assignment_variance,
        variance=config.variance,
        gumbel_noise=config.gumbel_noise,
        temperatures=(config.temperature_start, config.temperature_end),
        temperature_anneal_steps=config.temperature_anneal_steps,
        noise_anneal=config.noise_anneal,
        relaxation=config.relaxation,
        codebook_update=config.codebook_update,
        ema_decay=config.ema_decay,
        revival_threshold=config.revival_threshold or 0.0,
    )
