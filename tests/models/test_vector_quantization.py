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
"""Nearest codes, k-means and the EMA quantizer: against brute force, by hand, and beside peers."""

import re
import warnings
from pathlib import Path

import pytest
import torch
from sklearn.cluster import KMeans
from torch import nn

from hf_vq.models import vector_quantization
from hf_vq.models.vector_quantization import (
    EMAQuantizer,
    entropy,
    kmeans,
    nearest_codes,
    straight_through,
)


def brute_force_codes(latents: torch.Tensor, codebook: torch.Tensor, k: int = 1) -> torch.Tensor:
    """Every distance in float64, and a sort that keeps the order of equals."""
    differences = latents.double()[..., None, :] - codebook.double()
    order = differences.square().sum(dim=-1).argsort(dim=-1, stable=True)
    return order[..., 0] if k == 1 else order[..., :k]


class TestNearestCodes:
    @pytest.mark.parametrize("codebook_size", [1, 2, 37, 300])
    @pytest.mark.parametrize("dim", [1, 5, 64])
    def test_agrees_with_brute_force(self, codebook_size, dim):
        latents, codebook = torch.randn(3, 50, dim), torch.randn(codebook_size, dim)
        codes = nearest_codes(latents, codebook)
        assert codes.dtype == torch.int64
        assert torch.equal(codes, brute_force_codes(latents, codebook))

    @pytest.mark.parametrize("k", [2, 7])
    def test_k_nearest_come_nearest_first(self, k):
        latents, codebook = torch.randn(4, 9, 6), torch.randn(7, 6)
        codes = nearest_codes(latents, codebook, k)
        assert codes.shape == (4, 9, k)
        assert torch.equal(codes, brute_force_codes(latents, codebook, k))

    @pytest.mark.parametrize("k", [0, 8, -1])
    def test_refuses_a_bad_k(self, k):
        with pytest.raises(ValueError, match=f"k is {k}, expected 1 to the codebook size, 7"):
            nearest_codes(torch.randn(2, 6), torch.randn(7, 6), k)

    def test_refuses_another_width(self):
        with pytest.raises(ValueError, match="latents have 5 dimensions, the codebook 6"):
            nearest_codes(torch.randn(2, 5), torch.randn(7, 6))

    @pytest.mark.parametrize("codebook_size", [3, 5, 9, 16, 50])
    @pytest.mark.parametrize("rows", [1, 2, 7, 13, 64])
    def test_of_equal_codes_the_lowest_wins(self, codebook_size, rows):
        # Sizes that leave columns over after the blocks of a matrix product, where another kernel
        # once rounded the second copy differently.
        for dim in (3, 33, 64):
            codebook = torch.randn(codebook_size, dim).repeat(2, 1)
            assert nearest_codes(torch.randn(rows, dim), codebook).max() < codebook_size

    def test_halfway_between_two_codes_the_lowest_wins(self):
        codebook = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
        assert nearest_codes(torch.zeros(1, 2), codebook).item() == 0
        assert nearest_codes(torch.zeros(1, 2), codebook, k=4).tolist() == [[0, 1, 2, 3]]

    @pytest.mark.parametrize("k", [1, 3])
    def test_blocks_change_nothing(self, k, monkeypatch):
        latents, codebook = torch.randn(101, 8), torch.randn(20, 8)
        whole = nearest_codes(latents, codebook, k)
        monkeypatch.setattr(vector_quantization, "MAX_BLOCK_ENTRIES", 7 * 32)
        assert torch.equal(nearest_codes(latents, codebook, k), whole)
        monkeypatch.setattr(vector_quantization, "MAX_BLOCK_ENTRIES", 1)
        assert torch.equal(nearest_codes(latents, codebook, k), whole)

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
    def test_decides_in_float32(self, dtype):
        latents, codebook = torch.randn(200, 16).to(dtype), torch.randn(64, 16).to(dtype)
        assert torch.equal(nearest_codes(latents, codebook), brute_force_codes(latents, codebook))

    def test_autocast_changes_nothing(self):
        # In bfloat16 these codes would be one and the same number.
        codebook = 100 + torch.arange(64.0)[:, None] / 128
        latents = codebook.flip(0) + 1e-3
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert torch.equal(nearest_codes(latents, codebook), torch.arange(63, -1, -1))

    def test_far_from_the_origin(self):
        # ||z||^2 - 2 z.e + ||e||^2 without centering is off by more than the distances here.
        codebook = 1000 + torch.randn(32, 8)
        latents = 1000 + torch.randn(100, 8)
        assert torch.equal(nearest_codes(latents, codebook), brute_force_codes(latents, codebook))

    @pytest.mark.parametrize("k", [1, 3])
    def test_ranges_leave_the_nearest_of_their_codes(self, k, monkeypatch):
        monkeypatch.setattr(vector_quantization, "MAX_BLOCK_ENTRIES", 64)  # several blocks
        latents, codebook = torch.randn(4, 5, 6), torch.randn(20, 6)
        starts = torch.randint(0, 16, (4, 5))
        ends = starts + torch.randint(3, 5, (4, 5))
        codes = nearest_codes(latents, codebook, k, torch.stack([starts, ends], dim=-1))
        distances = torch.cdist(latents, codebook[None])
        columns = torch.arange(20)
        outside = (columns < starts[..., None]) | (columns >= ends[..., None])
        expected = distances.masked_fill(outside, torch.inf).argsort(dim=-1)[..., :k]
        assert torch.equal(codes, expected if k > 1 else expected[..., 0])

    def test_of_nothing_is_nothing(self):
        assert nearest_codes(torch.randn(0, 4), torch.randn(5, 4)).shape == (0,)
        assert nearest_codes(torch.randn(2, 0, 4), torch.randn(5, 4), k=3).shape == (2, 0, 3)

    def test_has_no_gradient(self):
        latents = torch.randn(3, 4, requires_grad=True)
        assert not nearest_codes(latents, torch.randn(5, 4, requires_grad=True)).requires_grad


def test_straight_through_has_the_value_of_one_and_the_gradient_of_the_other():
    latents = torch.tensor([1.0, 2.0], requires_grad=True)
    quantized = torch.tensor([1.5, 1.75], requires_grad=True)
    out = straight_through(latents, quantized)
    out.backward(torch.tensor([3.0, -4.0]))
    assert out.tolist() == [1.5, 1.75]
    assert latents.grad.tolist() == [3.0, -4.0]
    assert quantized.grad is None


def test_entropy_has_a_finite_gradient_at_zero():
    probabilities = torch.tensor([[0.0, 1.0], [0.5, 0.5]], requires_grad=True)
    values = entropy(probabilities)
    values.sum().backward()
    torch.testing.assert_close(values, torch.tensor([0.0, 2.0]).log().clamp_min(0))
    assert probabilities.grad.isfinite().all()


class TestKMeans:
    def test_finds_separate_clusters(self):
        corners = torch.tensor([[0.0, 0.0], [0.0, 10.0], [10.0, 0.0]])
        vectors = (corners[:, None] + 0.1 * torch.randn(3, 20, 2)).flatten(0, 1)
        centers, counts = kmeans(vectors, 3)
        nearest = nearest_codes(corners, centers)
        assert sorted(nearest.tolist()) == [0, 1, 2]
        torch.testing.assert_close(centers[nearest], vectors.view(3, 20, 2).mean(dim=1))
        assert counts.tolist() == [20, 20, 20]

    @pytest.mark.parametrize("num_clusters", [1, 8, 40])
    def test_is_no_worse_than_scikit_learn(self, num_clusters):
        vectors = torch.randn(400, 6) * torch.linspace(0.2, 2, 6)
        centers, _ = kmeans(vectors, num_clusters, num_iterations=20)
        inertia = (vectors - centers[nearest_codes(vectors, centers)]).square().sum().item()
        peer = KMeans(num_clusters, n_init=1, max_iter=20, random_state=0).fit(vectors.numpy())
        assert inertia <= 1.1 * peer.inertia_

    @pytest.mark.parametrize("num_vectors", [1, 5, 8])
    def test_up_to_as_many_clusters_as_vectors(self, num_vectors):
        vectors = torch.randn(num_vectors, 3)
        centers, counts = kmeans(vectors, 8)
        codes = nearest_codes(vectors, centers)
        torch.testing.assert_close(centers[codes], vectors)
        assert counts.sum() == num_vectors
        assert len(centers.unique(dim=0)) == 8  # the surplus is jittered

    def test_duplicates(self):
        vectors = torch.tensor([[0.0, 0.0], [4.0, 4.0]]).repeat(10, 1)
        centers, counts = kmeans(vectors, 5)
        assert sorted(counts.tolist()) == [0, 0, 0, 10, 10]
        assert len(centers.unique(dim=0)) == 5
        assert centers.isfinite().all()

    def test_one_vector_many_times(self):
        centers, counts = kmeans(torch.full((12, 3), 2.0), 4)
        assert sorted(counts.tolist()) == [0, 0, 0, 12]
        torch.testing.assert_close(centers, torch.full((4, 3), 2.0), atol=0.05, rtol=0)

    def test_many_vectors_for_each_cluster_leave_none_empty(self):
        assert kmeans(torch.randn(500, 4), 50)[1].min() >= 1

    def test_the_generator_decides(self):
        vectors = torch.randn(100, 4)
        first, again, other = (
            kmeans(vectors, 10, num_iterations=2, generator=torch.Generator().manual_seed(seed))[0]
            for seed in (1, 1, 2)
        )
        assert torch.equal(first, again)
        assert not torch.equal(first, other)

    def test_no_iteration_gives_vectors_of_the_data(self):
        vectors = torch.randn(30, 4)
        centers, _ = kmeans(vectors, 6, num_iterations=0)
        assert (centers[:, None] == vectors).all(dim=-1).any(dim=-1).all()

    @pytest.mark.parametrize("vectors", [torch.randn(3), torch.randn(0, 3), torch.randn(2, 2, 2)])
    def test_refuses_other_shapes(self, vectors):
        with pytest.raises(ValueError, match=r"k-means needs vectors of shape"):
            kmeans(vectors, 2)

    def test_refuses_nan(self):
        with pytest.raises(ValueError, match="k-means needs finite vectors, got NaN"):
            kmeans(torch.tensor([[0.0], [torch.nan]]), 2)


def state_of(module: nn.Module) -> dict[str, torch.Tensor]:
    """Every buffer and parameter, also those that are not saved."""
    tensors = [*module.named_buffers(), *module.named_parameters()]
    return {name: tensor.detach().clone() for name, tensor in tensors}


def assert_equal_states(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> None:
    assert first.keys() == second.keys()
    for name, tensor in first.items():
        assert torch.equal(tensor, second[name]), name


def integers(*shape: int) -> torch.Tensor:
    """Whole numbers: float32 adds them exactly, in any order."""
    return torch.randint(-8, 9, shape).float()


class TestEMAQuantizer:
    def test_by_hand(self):
        # Two codes, three latents; decay 1/2, so that every number is a short fraction.
        quantizer = EMAQuantizer(2, 2, ema_decay=0.5, revival_threshold=0.0)
        quantizer.codebook.copy_(torch.tensor([[0.0, 0.0], [4.0, 4.0]]))
        quantizer.ema_sums.copy_(quantizer.codebook)
        latents = torch.tensor([[[1.0, 0.0], [0.0, 1.0], [4.0, 2.0]]], requires_grad=True)
        output = quantizer(latents)
        assert output.codes.tolist() == [[0, 0, 1]]
        assert output.quantized.tolist() == [[[0.0, 0.0], [0.0, 0.0], [4.0, 4.0]]]
        assert output.commitment_loss.tolist() == [1 + 1 + 4]
        assert output.kl_loss.item() == output.posterior_entropy.item() == 0
        shares = torch.tensor([2 / 3, 1 / 3])
        torch.testing.assert_close(output.aggregated_entropy, -(shares * shares.log()).sum())
        assert quantizer.ema_counts.tolist() == [0.5 + 0.5 * 2, 0.5 + 0.5 * 1]  # eq. (4)
        assert quantizer.ema_sums.tolist() == [[0.5, 0.5], [4.0, 3.0]]  # eq. (5)
        torch.testing.assert_close(
            quantizer.codebook, torch.tensor([[1 / 3, 1 / 3], [4.0, 3.0]])
        )  # eq. (6)
        assert quantizer.num_updates == 1

        output.commitment_loss.sum().backward()
        assert latents.grad.tolist() == [[[2.0, 0.0], [0.0, 2.0], [0.0, -4.0]]]  # 2 (z - e)

    def test_decoder_gradient_reaches_the_latents_unchanged(self):
        latents = torch.randn(2, 3, 4, requires_grad=True)
        gradient = torch.randn(2, 3, 4)
        EMAQuantizer(8, 4)(latents).quantized.backward(gradient)
        assert torch.equal(latents.grad, gradient)

    def test_agrees_with_a_peer_over_several_updates(self):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the peer's own, at import
            from vector_quantize_pytorch import VectorQuantize
        peer = VectorQuantize(6, 12, decay=0.99, eps=1e-12, rotation_trick=False)
        ours = EMAQuantizer(12, 6, ema_decay=0.99, revival_threshold=0.0)
        ours.codebook.copy_(peer.codebook)
        ours.ema_sums.copy_(peer.codebook)
        for _ in range(20):
            latents = torch.randn(4, 25, 6)
            quantized, codes, _ = peer(latents)
            output = ours(latents)
            assert torch.equal(output.codes, codes)
            torch.testing.assert_close(output.quantized, quantized)
        assert (ours.codebook - ours.ema_sums).abs().max() > 0.1  # it has moved
        torch.testing.assert_close(ours.codebook, peer.codebook, rtol=1e-4, atol=1e-5)

    def test_commitment_loss_is_per_example(self):
        quantizer = EMAQuantizer(8, 4).eval()
        latents = torch.randn(3, 2, 5, 4)
        together = quantizer(latents).commitment_loss
        apart = torch.cat([quantizer(example[None]).commitment_loss for example in latents])
        torch.testing.assert_close(together, apart)

    def test_padding_changes_nothing(self):
        lengths = (5, 2)
        mask = torch.arange(5) < torch.tensor(lengths)[:, None]
        latents = integers(2, 5, 4)
        latents[~mask] = 1e6
        padded, plain = (EMAQuantizer(6, 4, revival_threshold=0.0) for _ in range(2))
        plain.load_state_dict(padded.state_dict())
        output = padded(latents, mask)
        expected = plain(latents[mask][None])
        assert torch.equal(output.codes[mask], expected.codes[0])
        assert torch.equal(output.codes[~mask], torch.full((3,), -1))
        assert torch.equal(output.quantized[mask], expected.quantized[0])
        assert not output.quantized[~mask].any()
        torch.testing.assert_close(output.commitment_loss.sum(), expected.commitment_loss[0])
        assert torch.equal(output.aggregated_entropy, expected.aggregated_entropy)
        assert_equal_states(state_of(padded), state_of(plain))
        assert not padded.embed(output.codes)[~mask].any()

    def test_a_batch_of_padding_leaves_the_codebook_alone(self):
        quantizer = EMAQuantizer(6, 4)
        before = quantizer.codebook.clone()
        quantizer(torch.randn(2, 3, 4), torch.zeros(2, 3, dtype=torch.bool))
        torch.testing.assert_close(quantizer.codebook, before)

    def test_a_start_from_many_batches_weighs_as_much_as_one(self):
        # Four latents of each code in two batches, then an update in which both codes see two latents: decay 1/2
        # puts each code halfway.
        quantizer = EMAQuantizer(2, 1, ema_decay=0.5, revival_threshold=0.0)
        start = torch.tensor([0.0, 8.0]).repeat(4)[:, None]
        quantizer.initialize_codebook(start, num_batches=2)
        assert sorted(quantizer.codebook.flatten().tolist()) == [0.0, 8.0]
        assert quantizer.ema_counts.tolist() == [2.0, 2.0]
        quantizer(torch.tensor([[[1.0], [1.0], [9.0], [9.0]]]))
        assert sorted(quantizer.codebook.flatten().tolist()) == [0.5, 8.5]

    def test_revival_moves_a_dead_code_to_a_latent_of_the_batch(self):
        quantizer = EMAQuantizer(3, 2, ema_decay=0.5, revival_threshold=0.2)
        quantizer.codebook.copy_(torch.tensor([[0.0, 0.0], [5.0, 5.0], [100.0, 100.0]]))
        quantizer.ema_counts.copy_(torch.tensor([8.0, 8.0, 0.5]))
        quantizer.ema_sums.copy_(quantizer.codebook * quantizer.ema_counts[:, None])
        latents = torch.tensor([[0.0, 1.0], [1.0, 0.0], [5.0, 6.0], [6.0, 5.0]])
        quantizer(latents[None])
        # Counts before revival: (5, 5, 0.25), mean 3.4167; the third is below a fifth of that.
        torch.testing.assert_close(quantizer.ema_counts, torch.tensor([5.0, 5.0, 10.25 / 3]))
        assert (quantizer.codebook[2] - latents).abs().sum(dim=-1).min() < 1e-5

    def test_revived_codes_are_never_padding(self):
        quantizer = EMAQuantizer(64, 2, revival_threshold=0.9)
        mask = torch.tensor([[True, True, False, False]])
        latents = torch.tensor([[[0.0, 0.0], [1.0, 1.0], [1e6, 1e6], [1e6, 1e6]]])
        for _ in range(20):
            quantizer(latents, mask)
        assert quantizer.codebook.abs().max() < 10

    def test_without_revival_an_unused_code_stays_where_it_is(self):
        quantizer = EMAQuantizer(2, 1, ema_decay=0.5, revival_threshold=0.0)
        quantizer.codebook.copy_(torch.tensor([[0.0], [50.0]]))
        quantizer.ema_sums.copy_(quantizer.codebook)
        for _ in range(200):  # 2 ** -200 is zero in float32
            quantizer(torch.zeros(1, 4, 1))
        torch.testing.assert_close(quantizer.codebook, torch.tensor([[0.0], [50.0]]))

    def test_eval_changes_no_state(self):
        quantizer = EMAQuantizer(6, 4).eval()
        before = state_of(quantizer)
        quantizer(torch.randn(2, 3, 4))
        assert_equal_states(state_of(quantizer), before)

    def test_deferred_micro_batches_equal_the_large_batch_exactly(self):
        whole, parts = (EMAQuantizer(6, 4, revival_threshold=0.0) for _ in range(2))
        parts.load_state_dict(whole.state_dict())
        parts.deferred_update = True
        latents = integers(8, 5, 4)
        mask = torch.rand(8, 5) < 0.8
        whole(latents, mask)
        before = parts.codebook.clone()
        for rows in (slice(0, 3), slice(3, 4), slice(4, 8)):
            parts(latents[rows], mask[rows])
        assert torch.equal(parts.codebook, before)
        parts.apply_update()
        assert_equal_states(state_of(parts), state_of(whole))

    def test_buffers_keep_their_identity(self):
        # An optimizer, a wrapper or a captured graph may hold the tensors.
        quantizer = EMAQuantizer(6, 4)
        before = dict(quantizer.named_buffers())
        quantizer(torch.randn(2, 30, 4))
        quantizer.initialize_codebook(torch.randn(2, 30, 4))
        after = dict(quantizer.named_buffers())
        assert all(after[name] is buffer for name, buffer in before.items())
        assert not list(quantizer.parameters())

    def test_pending_sums_are_not_saved(self):
        assert not [name for name in EMAQuantizer(6, 4).state_dict() if "pending" in name]

    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
    def test_half_precision_latents(self, dtype):
        quantizer = EMAQuantizer(16, 4)
        latents = torch.randn(2, 9, 4).to(dtype)
        expected = brute_force_codes(latents, quantizer.codebook)
        output = quantizer(latents)
        assert torch.equal(output.codes, expected)
        assert output.quantized.dtype == dtype
        assert output.commitment_loss.dtype == quantizer.codebook.dtype == torch.float32

    def test_half_precision_averages_would_stand_still(self):
        quantizer = EMAQuantizer(16, 4).to(torch.bfloat16)
        with pytest.raises(ValueError, match=r"averages of the codebook are torch.bfloat16, exp"):
            quantizer(torch.randn(2, 9, 4))

    @pytest.mark.parametrize("method", ["kmeans", "data"])
    def test_initialization_sets_statistics_that_agree_with_the_codebook(self, method):
        quantizer = EMAQuantizer(8, 4)
        latents, mask = torch.randn(4, 40, 4), torch.rand(4, 40) < 0.7
        latents[~mask] = 1e6
        quantizer.initialize_codebook(latents, mask, method=method)
        assert quantizer.codebook_initialized
        assert quantizer.codebook.abs().max() < 10
        torch.testing.assert_close(
            quantizer.ema_sums / quantizer.ema_counts[:, None], quantizer.codebook
        )
        assert quantizer.ema_counts.sum() == mask.sum()

    def test_initialization_refuses_an_unknown_method(self):
        with pytest.raises(ValueError, match="'zeros', expected 'kmeans' or 'data'"):
            EMAQuantizer(8, 4).initialize_codebook(torch.randn(9, 4), method="zeros")

    def test_refuses_bad_latents_and_masks(self):
        quantizer = EMAQuantizer(8, 4)
        with pytest.raises(ValueError, match="latents have 5 dimensions, this quantizer takes 4"):
            quantizer(torch.randn(2, 3, 5))
        with pytest.raises(ValueError, match=r"mask is torch.float32 of shape \(2, 3\)"):
            quantizer(torch.randn(2, 3, 4), torch.ones(2, 3))
        with pytest.raises(ValueError, match=r"of shape \(2, 4\), expected torch.bool"):
            quantizer(torch.randn(2, 3, 4), torch.ones(2, 4, dtype=torch.bool))


def test_cited_equations_exist():
    root = Path(__file__).resolve().parents[2]
    tags = re.findall(r"\\tag\{(\d+)\}", (root / "docs" / "quantization.md").read_text())
    assert tags == [str(number) for number in range(1, len(tags) + 1)]
    cited = set()
    for file in (root / "src" / "hf_vq" / "models").glob("*.py"):
        if "docs/topics.md" in file.read_text():
            continue  # test_topic_inference.py looks at these
        for citation in re.findall(
            r"[Ee]q\. (\(\d+\)(?:(?:-|, | and | or |, or )\(\d+\))*)", file.read_text()
        ):
            cited |= set(re.findall(r"\d+", citation))
    assert cited
    assert cited <= set(tags), sorted(cited - set(tags))
