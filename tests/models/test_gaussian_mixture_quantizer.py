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
"""The Gaussian-mixture quantizer beside a plain implementation, straight from the equations of docs/quantization.md."""

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from hf_vq.models import gaussian_mixture_quantizer
from hf_vq.models.configuration_gmvq import GMVQConfig
from hf_vq.models.gaussian_mixture_quantizer import (
    GaussianMixtureQuantizer,
    _MixtureAssignment,
    build_quantizer,
)
from hf_vq.models.vector_quantization import EMAQuantizer, nearest_codes, out_of_range

CODEBOOK_SIZE, CODEBOOK_DIM = 12, 4
SILENT: dict[str, Any] = {"gumbel_noise": False, "variance": "none"}  # nothing is random


def make_quantizer(**options: Any) -> GaussianMixtureQuantizer:
    return GaussianMixtureQuantizer(CODEBOOK_SIZE, CODEBOOK_DIM, **options)


def make_latents(quantizer: GaussianMixtureQuantizer, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, quantizer.input_dim, requires_grad=True)


def drawn_noise(quantizer: GaussianMixtureQuantizer, num_rows: int) -> tuple[torch.Tensor, ...]:
    """The Gumbel and Gaussian noise that the next training forward draws; the seed is then as before."""
    state = torch.get_rng_state()
    gumbel = torch.zeros(num_rows, CODEBOOK_SIZE)
    if quantizer.gumbel_noise:
        pool = quantizer._noise_pool()
        starts = torch.randint(len(pool) - CODEBOOK_SIZE + 1, (num_rows,))
        gumbel = pool[starts[:, None] + torch.arange(CODEBOOK_SIZE)]
    gaussian = torch.randn(num_rows, CODEBOOK_DIM)
    torch.set_rng_state(state)
    return gumbel.double(), gaussian.double()


def plain_quantizer(
    quantizer: GaussianMixtureQuantizer, latents: torch.Tensor, mask: torch.Tensor
) -> dict[str, torch.Tensor]:
    """Eq. (8)-(16) one after the other in float64: every position beside every code, nothing rearranged."""
    variance, scale = quantizer.assignment_variance, quantizer.logit_scale.double()
    gumbel, gaussian = drawn_noise(quantizer, mask.numel())
    codebook, rows = quantizer.codebook.double(), latents.flatten(0, -2).double()
    present = mask.flatten()
    proxies = rows[:, :CODEBOOK_DIM]  # (8)
    weights = torch.ones_like(proxies) * scale / (2 * variance)
    if quantizer.feature_weights:
        weights = scale * F.softplus(rows[:, CODEBOOK_DIM:]) / (2 * variance * math.log(2))
    differences = proxies[:, None] - codebook
    logits = -(weights[:, None] * differences.square()).sum(dim=-1)  # (9)
    posterior = logits.softmax(dim=-1)  # (10)
    squared = differences.square().sum(dim=-1)
    variances = squared / (2 * variance * CODEBOOK_DIM)  # (11)
    relaxed = ((logits + gumbel) / quantizer.temperature.double()).softmax(dim=-1)  # (12)
    deviations = (relaxed * variances).sum(dim=-1, keepdim=True).sqrt()
    if quantizer.variance != "adaptive":
        deviations = (variance / scale).sqrt() if quantizer.variance == "fixed" else 0.0
    sample = relaxed @ codebook + deviations * gaussian  # (13)
    commitment = (posterior * squared).sum(dim=-1) * present  # (14)
    aggregated = posterior[present].mean(dim=0)  # (15)
    codes = logits.argmax(dim=-1)  # (16)
    quantized = sample if quantizer.training else codebook[codes]
    if quantizer.relaxation == "straight_through":
        commitment = squared[torch.arange(len(codes)), codes] * present
        if quantizer.training:
            quantized = proxies + (codebook[codes] - proxies).detach()  # (2)
    grid = latents.shape[:-1]
    return {
        "quantized": (quantized * present[:, None]).view(*grid, CODEBOOK_DIM),
        "posterior_mean": (posterior @ codebook * present[:, None]).view(*grid, CODEBOOK_DIM),
        "codes": torch.where(present, codes, -1).view(grid),
        "commitment_loss": commitment.view(grid).flatten(1).sum(dim=1),
        "kl_loss": (aggregated * (aggregated * CODEBOOK_SIZE).log()).sum(),
        "posterior_entropy": -(posterior * posterior.log()).sum(dim=-1)[present].mean(),
        "aggregated_entropy": -(aggregated * aggregated.log()).sum(),
    }


def gradients(outputs: list[torch.Tensor], inputs: list[torch.Tensor]) -> list[torch.Tensor]:
    """Gradients of a fixed random combination of all outputs."""
    generator = torch.Generator().manual_seed(1)
    total = sum(
        (output.double() * torch.randn(output.shape, generator=generator)).sum()
        for output in outputs
    )
    return [grad.double() for grad in torch.autograd.grad(total, inputs)]


class TestMixtureAssignment:
    """The hand-written backward beside autograd, through every one of the four differentiable outputs."""

    ROWS, CODES, WIDTH, VALUES = 23, 9, 6, 4

    def inputs(self) -> list[torch.Tensor]:
        shapes = ((self.ROWS, self.WIDTH), (self.CODES, self.WIDTH), (self.CODES, self.VALUES))
        return [torch.randn(shape, requires_grad=True) for shape in shapes]

    @pytest.mark.parametrize("noisy", [False, True])
    @pytest.mark.parametrize("block_entries", [2**19, 5 * CODES])
    @pytest.mark.parametrize("restricted", [False, True])
    def test_values_and_gradients(self, noisy, block_entries, restricted, monkeypatch):
        monkeypatch.setattr(gaussian_mixture_quantizer, "CPU_BLOCK_ENTRIES", block_entries)
        inputs = self.inputs()
        mask = (torch.rand(self.ROWS) < 0.7).float()
        inverse_temperature = torch.tensor(1.7)
        pool = -torch.empty(500).exponential_().log() if noisy else None
        starts = torch.randint(0, 5, (self.ROWS,))
        ranges = torch.stack([starts, starts + 4], dim=1) if restricted else None
        state = torch.get_rng_state()
        *outputs, codes = _MixtureAssignment.apply(
            *inputs, mask, inverse_temperature, pool, ranges, torch.float32
        )
        noise = torch.zeros(self.ROWS, self.CODES)
        if pool is not None:
            torch.set_rng_state(state)
            starts = torch.randint(len(pool) - self.CODES + 1, (self.ROWS,))
            noise = pool[starts[:, None] + torch.arange(self.CODES)]

        queries, keys, values = (tensor.double() for tensor in inputs)
        logits = queries @ keys.T
        if ranges is not None:
            logits = logits.masked_fill(out_of_range(ranges, self.CODES), -1e9)
        posterior = logits.softmax(dim=-1)
        relaxed = ((logits + noise) * inverse_temperature).softmax(dim=-1)
        entropies = -(posterior * posterior.clamp_min(1e-30).log()).sum(dim=-1)
        expected = [
            posterior @ values,
            relaxed @ values,
            (posterior * mask[:, None]).sum(dim=0),
            entropies,
        ]
        for output, reference in zip(outputs, expected, strict=True):
            torch.testing.assert_close(output.double(), reference, rtol=1e-5, atol=1e-5)
        assert torch.equal(codes, logits.argmax(dim=-1))
        for grad, reference in zip(
            gradients(outputs, inputs), gradients(expected, inputs), strict=True
        ):
            torch.testing.assert_close(grad, reference, rtol=1e-4, atol=1e-4)

    @pytest.mark.parametrize("index", range(4))
    def test_each_output_alone(self, index):
        inputs = self.inputs()
        mask, inverse_temperature = torch.ones(self.ROWS), torch.tensor(0.6)
        outputs = _MixtureAssignment.apply(
            *inputs, mask, inverse_temperature, None, None, torch.float32
        )
        queries, keys, values = (tensor.double() for tensor in inputs)
        logits = queries @ keys.T
        posterior = logits.softmax(dim=-1)
        expected = (
            posterior @ values,
            (logits * inverse_temperature).softmax(dim=-1) @ values,
            posterior.sum(dim=0),
            -(posterior * posterior.log()).sum(dim=-1),
        )
        wanted = inputs if index < 2 else inputs[:2]  # the sums and entropies have no values
        for grad, reference in zip(
            gradients([outputs[index]], wanted), gradients([expected[index]], wanted), strict=True
        ):
            torch.testing.assert_close(grad, reference, rtol=1e-4, atol=1e-5)


class TestAgainstTheEquations:
    @pytest.mark.parametrize("training", [True, False])
    @pytest.mark.parametrize("masked", [False, True])
    @pytest.mark.parametrize(
        "options",
        [
            {},
            {"feature_weights": False},
            {"variance": "fixed"},
            {"variance": "none"},
            {"gumbel_noise": False},
            {"assignment_variance": 2.0},
            {"relaxation": "straight_through"},
            {"codebook_update": "ema"},
            {"relaxation": "straight_through", "codebook_update": "ema"},
        ],
        ids=str,
    )
    def test_values_and_gradients(self, options, masked, training):
        quantizer = make_quantizer(**options).train(training)
        quantizer.logit_scale.fill_(1.3)
        latents = make_latents(quantizer, 3, 2, 5)
        mask = torch.rand(3, 2, 5) < 0.6 if masked else torch.ones(3, 2, 5, dtype=torch.bool)
        expected = plain_quantizer(quantizer, latents, mask)
        output = vars(quantizer(latents, mask if masked else None))
        assert output.keys() == expected.keys()
        for name, reference in expected.items():
            value = output[name].to(reference.dtype)
            torch.testing.assert_close(value, reference, rtol=1e-4, atol=1e-5, msg=name)
        names = [name for name, value in expected.items() if value.requires_grad]
        inputs = [latents, *quantizer.parameters()]
        for grad, reference in zip(
            gradients([output[name] for name in names], inputs),
            gradients([expected[name] for name in names], inputs),
            strict=True,
        ):
            torch.testing.assert_close(grad, reference, rtol=1e-3, atol=1e-4)

    def test_the_hard_code_weighs_dimensions(self):
        # Codes at distance 1 in the first and 2 in the second dimension: the weights turn the order.
        quantizer = GaussianMixtureQuantizer(2, 2).eval()
        with torch.no_grad():
            quantizer.codebook.copy_(torch.tensor([[1.0, 0.0], [0.0, 2.0]]))
        latents = torch.tensor([[[0.0, 0.0, 0.0, 0.0], [0.0, 0.0, 5.0, -5.0]]])
        assert quantizer(latents).codes.tolist() == [[0, 1]]
        assert quantizer.assign(latents).tolist() == [[0, 1]]

    @pytest.mark.parametrize("feature_weights", [True, False])
    def test_equal_weights_are_the_isotropic_mixture(self, feature_weights):
        quantizer = make_quantizer(feature_weights=feature_weights).eval()
        proxies = torch.randn(2, 30, CODEBOOK_DIM)
        latents = F.pad(proxies, (0, CODEBOOK_DIM)) if feature_weights else proxies
        output = quantizer(latents)
        assert torch.equal(output.codes, nearest_codes(proxies, quantizer.codebook))
        # With sigma squared 1/2 the logits are minus the squared distance.
        logits = -(proxies[..., None, :] - quantizer.codebook).square().sum(dim=-1)
        torch.testing.assert_close(
            output.posterior_mean, logits.softmax(dim=-1) @ quantizer.codebook
        )

    def test_assign_is_the_decision_of_forward(self):
        quantizer = make_quantizer().eval()
        latents = make_latents(quantizer, 2, 3, 50)
        codes = quantizer.assign(latents)
        assert torch.equal(codes, quantizer(latents).codes)
        assert torch.equal(quantizer(latents).quantized, quantizer.embed(codes))

    def test_nothing_in_gives_nothing_out(self):
        quantizer = make_quantizer().eval()
        assert quantizer.assign(make_latents(quantizer, 0, 7)).shape == (0, 7)
        assert quantizer(make_latents(quantizer, 0, 7)).quantized.shape == (0, 7, CODEBOOK_DIM)


class TestNoise:
    def test_noise_energy_is_the_quantization_error(self):
        # E||z - mu_c||^2 = ||z_hat - mu_c||^2 / (2 sigma^2), at a temperature that leaves one code.
        quantizer = make_quantizer(
            assignment_variance=0.3, gumbel_noise=False, temperatures=(1e-3, 1e-3)
        )
        latents = make_latents(quantizer, 1, 5).detach()
        codes = quantizer.assign(latents)
        errors = (quantizer.proxies(latents) - quantizer.codebook[codes]).square().sum(dim=-1)
        sample = quantizer(latents.expand(40_000, 5, -1)).quantized
        energy = (sample - quantizer.codebook[codes]).square().sum(dim=-1).mean(dim=0)
        torch.testing.assert_close(energy, errors[0] / (2 * 0.3), rtol=0.015, atol=0)

    def test_fixed_variance(self):
        quantizer = make_quantizer(
            variance="fixed", assignment_variance=0.3, gumbel_noise=False, temperatures=(1e-3, 1e-3)
        )
        latents = make_latents(quantizer, 1, 1).detach().expand(40_000, 1, -1)
        noise = quantizer(latents).quantized - quantizer.codebook[quantizer.assign(latents[:1])]
        torch.testing.assert_close(noise.var(), torch.tensor(0.3), rtol=0.01, atol=0)
        assert noise.mean().abs() < 0.01

    def test_the_largest_perturbed_logit_is_a_draw_from_the_posterior(self):
        # What makes the windows of a shared pool Gumbel noise: the frequencies are the softmax.
        quantizer = make_quantizer(variance="none", temperatures=(1e-4, 1e-4))
        latents = make_latents(quantizer, 1, 1).detach() * 0.5
        proxies, weights = quantizer._split(latents)
        logits = -(weights[..., None, :] * (proxies[..., None, :] - quantizer.codebook).square())
        posterior = logits.sum(dim=-1).softmax(dim=-1).flatten()
        drawn = nearest_codes(
            quantizer(latents.expand(100_000, 1, -1)).quantized, quantizer.codebook
        )
        shares = torch.bincount(drawn.flatten(), minlength=CODEBOOK_SIZE) / 100_000
        torch.testing.assert_close(shares, posterior.detach(), rtol=0, atol=0.006)

    def test_training_is_random_and_eval_is_not(self):
        quantizer = make_quantizer()
        latents = make_latents(quantizer, 2, 9)
        assert not torch.equal(quantizer(latents).quantized, quantizer(latents).quantized)
        quantizer.eval()
        assert torch.equal(quantizer(latents).quantized, quantizer(latents).quantized)

    def test_switched_off_noise_leaves_the_tempered_posterior(self):
        quantizer = make_quantizer(**SILENT, temperatures=(1.0, 0.1))
        latents = make_latents(quantizer, 2, 9)
        output = quantizer(latents)
        torch.testing.assert_close(output.quantized, output.posterior_mean)
        assert not torch.equal(quantizer(latents).quantized, output.quantized)  # it has cooled

    def test_straight_through_has_the_value_of_the_code_and_the_gradient_of_the_latents(self):
        quantizer = make_quantizer(relaxation="straight_through", feature_weights=False)
        latents, gradient = make_latents(quantizer, 2, 9), torch.randn(2, 9, CODEBOOK_DIM)
        output = quantizer(latents)
        torch.testing.assert_close(output.quantized, quantizer.embed(output.codes))
        output.quantized.backward(gradient)
        assert torch.equal(latents.grad, gradient)
        assert quantizer.codebook.grad is None

    def test_noise_anneals_to_nothing(self):
        quantizer = make_quantizer(noise_anneal=True, temperature_anneal_steps=10)
        silent = make_quantizer(**SILENT, temperature_anneal_steps=10)
        silent.load_state_dict(quantizer.state_dict())
        latents = make_latents(quantizer, 2, 9)
        expected = silent(latents).quantized
        for num_updates, is_silent in ((0, False), (5, False), (10, True), (50, True)):
            quantizer.num_updates.fill_(num_updates)
            silent.num_updates.fill_(num_updates)
            expected = silent(latents).quantized
            close = torch.allclose(quantizer(latents).quantized, expected, atol=1e-5)
            assert close == is_silent, num_updates

    def test_half_of_the_annealing_leaves_half_of_the_noise(self):
        quantizer = make_quantizer(
            variance="fixed", noise_anneal=True, gumbel_noise=False, temperatures=(1e-3, 1e-3)
        )
        latents = make_latents(quantizer, 1, 1).detach().expand(40_000, 1, -1)
        quantizer.num_updates.fill_(quantizer.temperature_anneal_steps // 2)
        assert quantizer(latents).quantized.var(dim=0).mean().item() == pytest.approx(
            0.25 * 0.5, rel=0.02
        )


class TestEntropies:
    def test_one_position_is_never_less_certain_than_the_batch(self):
        for scale in (0.1, 1.0, 10.0):
            quantizer = make_quantizer()
            output = quantizer(make_latents(quantizer, 4, 20) * scale)
            assert output.aggregated_entropy >= output.posterior_entropy - 1e-6

    def test_uniform_codes_have_no_divergence(self):
        quantizer = make_quantizer()
        with torch.no_grad():
            quantizer.codebook.fill_(1.0)
        output = quantizer(make_latents(quantizer, 4, 20))
        torch.testing.assert_close(output.kl_loss, torch.tensor(0.0), atol=1e-6, rtol=0)
        assert output.posterior_entropy.item() == pytest.approx(math.log(CODEBOOK_SIZE))

    def test_one_code_for_all_diverges_by_log_k(self):
        quantizer = make_quantizer(feature_weights=False)
        with torch.no_grad():
            quantizer.codebook.copy_(100 * torch.randn(CODEBOOK_SIZE, CODEBOOK_DIM))
        latents = quantizer.codebook[3].detach().expand(2, 5, -1)
        output = quantizer(latents)
        assert output.kl_loss.item() == pytest.approx(math.log(CODEBOOK_SIZE), rel=1e-5)
        assert output.posterior_entropy.item() == pytest.approx(0, abs=1e-6)

    def test_gradients_are_finite_on_a_code_and_for_unused_codes(self):
        # Distance 0 is under the root of the noise; posteriors of far codes underflow to 0.
        quantizer = make_quantizer(feature_weights=False)
        with torch.no_grad():
            quantizer.codebook[4:] += 1e3
        latents = quantizer.codebook[:4].detach().clone()[None].requires_grad_()
        output = quantizer(latents)
        total = output.quantized.sum() + output.commitment_loss.sum() + output.kl_loss
        (total + output.posterior_entropy + output.posterior_mean.sum()).backward()
        assert latents.grad.isfinite().all()
        assert quantizer.codebook.grad.isfinite().all()

    def test_padding_changes_nothing(self):
        quantizer = make_quantizer(**SILENT)
        mask = torch.arange(5) < torch.tensor([5, 2])[:, None]
        latents = make_latents(quantizer, 2, 5).detach()
        latents[~mask] = 1e3
        quantizer.deferred_update = True  # the temperature is the same in both forwards
        padded, plain = quantizer(latents, mask), quantizer(latents[mask][None])
        torch.testing.assert_close(padded.quantized[mask], plain.quantized[0])
        torch.testing.assert_close(padded.commitment_loss.sum(), plain.commitment_loss[0])
        for name in ("kl_loss", "posterior_entropy", "aggregated_entropy"):
            torch.testing.assert_close(getattr(padded, name), getattr(plain, name))

    def test_a_batch_of_padding_is_finite(self):
        quantizer = make_quantizer()
        latents = make_latents(quantizer, 2, 5)
        output = quantizer(latents, torch.zeros(2, 5, dtype=torch.bool))
        (output.kl_loss + output.commitment_loss.sum() + output.quantized.sum()).backward()
        assert output.kl_loss.isfinite()
        assert latents.grad.isfinite().all()


class TestState:
    def test_temperature_falls_exponentially_and_then_stays(self):
        quantizer = make_quantizer(temperatures=(2.0, 0.5), temperature_anneal_steps=4)
        seen = []
        for _ in range(6):
            seen.append(quantizer.temperature.item())
            quantizer(make_latents(quantizer, 1, 2))
        root = math.sqrt(2)
        assert seen == pytest.approx([2, 2 / root, 1, 1 / root, 0.5, 0.5])
        assert quantizer.num_updates == 6

    def test_eval_changes_no_state(self):
        quantizer = make_quantizer().eval()
        quantizer(make_latents(quantizer, 1, 2))
        assert quantizer.num_updates == 0

    def test_deferred_micro_batches_count_as_one_update(self):
        quantizer = make_quantizer()
        quantizer.deferred_update = True
        for _ in range(3):
            quantizer(make_latents(quantizer, 1, 2))
        assert quantizer.num_updates == 0
        quantizer.apply_update()
        assert quantizer.num_updates == 1

    def test_state_survives_a_state_dict(self):
        quantizer, copy = make_quantizer(), make_quantizer()
        quantizer.initialize_codebook(make_latents(quantizer, 4, 40))
        quantizer(make_latents(quantizer, 1, 2))
        copy.load_state_dict(quantizer.state_dict())
        for name in ("codebook", "codebook_initialized", "num_updates", "logit_scale"):
            assert torch.equal(getattr(copy, name), getattr(quantizer, name)), name
        assert torch.equal(copy.temperature, quantizer.temperature)
        assert copy.codebook_initialized

    @pytest.mark.parametrize("scale", [1e-3, 1.0, 50.0])
    @pytest.mark.parametrize("codebook_size", [8, 64])
    def test_initialization_sets_the_entropy_of_posteriors(self, scale, codebook_size):
        quantizer = GaussianMixtureQuantizer(codebook_size, CODEBOOK_DIM)
        latents = F.pad(scale * torch.randn(8, 100, CODEBOOK_DIM), (0, CODEBOOK_DIM))
        quantizer.initialize_codebook(latents)
        output = quantizer.eval()(latents)
        target = min(2.0, 0.5 * math.log(codebook_size))
        assert output.posterior_entropy.item() == pytest.approx(target, abs=0.02)
        assert quantizer.codebook_initialized

    def test_without_revival_codes_move_by_gradients_alone(self):
        quantizer = make_quantizer()
        before = quantizer.codebook.clone()
        for _ in range(5):
            quantizer(make_latents(quantizer, 1, 2))
        assert torch.equal(quantizer.codebook, before)

    @pytest.mark.parametrize("relaxation", ["gumbel_softmax", "straight_through"])
    def test_revival_moves_a_dead_code_to_a_latent_of_the_batch(self, relaxation):
        quantizer = make_quantizer(
            feature_weights=False, relaxation=relaxation, ema_decay=0.5, revival_threshold=0.1
        )
        with torch.no_grad():
            quantizer.codebook[-1] = 100.0
        quantizer.ema_counts.fill_(5.0)
        quantizer.ema_counts[-1] = 0.2
        before = quantizer.codebook.clone()
        latents = quantizer.codebook[:-1].detach().expand(5, -1, -1) + 0.01
        output = quantizer(latents)
        assert torch.equal(quantizer.codebook[:-1], before[:-1])
        assert (latents == quantizer.codebook[-1]).all(dim=-1).any()
        assert quantizer.ema_counts[-1] == quantizer.ema_counts[:-1].sum() / 12 + 0.1 / 12
        (output.quantized.sum() + output.commitment_loss.sum() + output.kl_loss).backward()
        assert quantizer.codebook.grad.isfinite().all()

    def test_revived_codes_are_never_padding(self):
        quantizer = make_quantizer(revival_threshold=0.9)
        latents = make_latents(quantizer, 1, 4).detach()
        latents[:, 2:] = 1e6
        for _ in range(5):
            quantizer(latents, torch.tensor([[True, True, False, False]]))
        assert quantizer.codebook.abs().max() < 10

    def test_codes_and_scale_follow_their_latents(self):
        # By hand, decay 1/2: eq. (4)-(6), and eq. (19) from the second update on.
        quantizer = GaussianMixtureQuantizer(
            2, 1, feature_weights=False, codebook_update="ema", ema_decay=0.5, gumbel_noise=False
        )
        quantizer.codebook.copy_(torch.tensor([[0.0], [4.0]]))
        quantizer.ema_sums.copy_(quantizer.codebook)
        quantizer(torch.tensor([[[1.0], [5.0]]]))  # both errors are 1
        assert quantizer.codebook.tolist() == [[0.5], [4.5]]
        assert (quantizer.ema_distance, quantizer.logit_scale) == (1, 1)
        quantizer(torch.tensor([[[0.5], [4.5]]]))  # both errors are 0
        assert quantizer.codebook.tolist() == [[0.5], [4.5]]
        assert (quantizer.ema_distance, quantizer.logit_scale) == (0.5, 2)
        quantizer(torch.zeros(1, 2, 1), torch.zeros(1, 2, dtype=torch.bool))  # nothing
        assert (quantizer.ema_distance, quantizer.logit_scale) == (0.5, 2)
        assert not list(quantizer.parameters())

    def test_latents_on_their_codes_leave_the_scale_alone(self):
        quantizer = make_quantizer(feature_weights=False, codebook_update="ema")
        quantizer(quantizer.codebook[None].clone())
        assert quantizer.logit_scale == 1

    @pytest.mark.parametrize("codebook_update", ["gradient", "ema"])
    def test_deferred_micro_batches_equal_the_large_batch(self, codebook_update):
        options = {**SILENT, "codebook_update": codebook_update}
        whole, parts = make_quantizer(**options), make_quantizer(**options)
        parts.load_state_dict(whole.state_dict())
        parts.deferred_update = True
        for _ in range(3):
            latents = make_latents(whole, 8, 5).detach()
            mask = torch.rand(8, 5) < 0.8
            whole(latents, mask)
            for rows in (slice(0, 3), slice(3, 4), slice(4, 8)):
                parts(latents[rows], mask[rows])
            parts.apply_update()
        for name, tensor in [*whole.named_buffers(), *whole.named_parameters()]:
            torch.testing.assert_close(getattr(parts, name), tensor, msg=name)

    def test_initialization_ignores_padding_and_feature_weights(self):
        quantizer = make_quantizer()
        latents, mask = make_latents(quantizer, 4, 40).detach(), torch.rand(4, 40) < 0.7
        latents[~mask] = 1e6
        latents[..., CODEBOOK_DIM:] = 1e6
        quantizer.initialize_codebook(latents, mask)
        assert quantizer.codebook.abs().max() < 10

    def test_the_codebook_keeps_its_identity(self):
        quantizer = make_quantizer()
        codebook = quantizer.codebook
        quantizer.initialize_codebook(make_latents(quantizer, 4, 40))
        quantizer(make_latents(quantizer, 1, 2))
        assert quantizer.codebook is codebook
        assert [name for name, _ in quantizer.named_parameters()] == ["codebook"]


class TestPrecision:
    def test_bfloat16_autocast_is_close_to_float32(self):
        quantizer = make_quantizer(**SILENT)
        quantizer.deferred_update = True
        latents = make_latents(quantizer, 4, 50)
        plain = quantizer(latents)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            cast = quantizer(latents)
        assert torch.equal(cast.codes, plain.codes)  # logits stay in float32
        for name in ("kl_loss", "posterior_entropy", "aggregated_entropy"):
            torch.testing.assert_close(getattr(cast, name), getattr(plain, name))
        torch.testing.assert_close(cast.quantized, plain.quantized, rtol=0, atol=0.03)
        torch.testing.assert_close(cast.commitment_loss, plain.commitment_loss, rtol=0.01, atol=0)
        cast_grad, plain_grad = (
            gradients([out.quantized, out.commitment_loss], [latents])[0] for out in (cast, plain)
        )
        assert F.cosine_similarity(cast_grad.flatten(), plain_grad.flatten(), dim=0) > 0.999

    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
    def test_half_precision_latents(self, dtype):
        quantizer = make_quantizer().eval()
        latents = make_latents(quantizer, 2, 9).to(dtype)
        output = quantizer(latents)
        assert torch.equal(output.codes, quantizer(latents.float()).codes)
        assert output.quantized.dtype == dtype
        assert output.commitment_loss.dtype == output.kl_loss.dtype == torch.float32


def test_a_configuration_names_its_quantizer():
    fields = {"codebook_size": 9, "codebook_dim": 3}
    ema = build_quantizer(GMVQConfig(**fields, quantizer="ema", ema_decay=0.5, revival_threshold=0))
    assert isinstance(ema, EMAQuantizer)
    assert (ema.ema_decay, ema.revival_threshold, ema.codebook.shape) == (0.5, 0, (9, 3))
    mixture = build_quantizer(
        GMVQConfig(
            **fields,
            feature_weights=False,
            assignment_variance=2,
            variance="fixed",
            gumbel_noise=False,
            temperature_start=3,
            temperature_end=1,
            temperature_anneal_steps=7,
            noise_anneal=True,
        )
    )
    assert isinstance(mixture, GaussianMixtureQuantizer)
    assert mixture.codebook.shape == (9, 3)
    assert mixture.input_dim == 3
    assert (mixture.assignment_variance, mixture.variance) == (2, "fixed")
    assert (mixture.gumbel_noise, mixture.noise_anneal) == (False, True)
    assert (mixture.temperatures, mixture.temperature_anneal_steps) == ((3, 1), 7)
