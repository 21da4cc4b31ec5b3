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
"""Topic inference and the ranking of words: beside plain implementations, from the equations of docs/topics.md."""

import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.distributions import Dirichlet, MultivariateNormal, kl_divergence

from hf_vq.models.configuration_topic_vq import VARIANTS
from hf_vq.models.topic_inference import (
    BagFeatures,
    TopicInference,
    TopicMixture,
    TopicPrior,
    TopicProduct,
    log_sum_exp,
    sample_proportions,
    topic_similarity,
    word_ambiguity,
)
from hf_vq.models.topic_ranking import (
    rank_by_ctfidf,
    rank_by_exclusivity,
    rank_by_frex,
    rank_by_relevance,
)
from standardization import standardized, standardized_on

ROOT = Path(__file__).resolve().parents[2]
TOPICS = (ROOT / "docs" / "topics.md").read_text()


def make_prior(num_topics, **options):
    prior = TopicPrior(num_topics, **options)
    with torch.no_grad():
        for tensor, value in prior.initial_values():
            tensor.copy_(value)
    return prior


class TestTopicPrior:
    def test_it_starts_as_the_paper_has_it(self):
        prior = make_prior(10, mean_init=0.1)
        torch.testing.assert_close(prior.mean, torch.full((10,), 0.1))
        torch.testing.assert_close(prior.log_variance.exp(), torch.full((10,), 0.9))

    @pytest.mark.parametrize("concentration", [50.0, [30.0, 60.0, 90.0]])
    def test_it_starts_close_to_a_dirichlet_distribution(self, concentration):
        prior = make_prior(3, concentration=concentration)
        dirichlet = Dirichlet(torch.as_tensor(concentration).expand(3))
        logs = dirichlet.sample((100_000,)).log()
        logs = logs - logs.mean(dim=1, keepdim=True)  # the basis of the softmax
        torch.testing.assert_close(prior.mean, logs.mean(dim=0), atol=0.02, rtol=0)
        torch.testing.assert_close(prior.log_variance.exp(), logs.var(dim=0), atol=0, rtol=0.05)

    def test_one_topic_has_a_finite_prior(self):
        prior = make_prior(1)
        assert prior.log_variance.isfinite().all()

    def test_the_divergence_is_that_of_normal_distributions(self):
        prior = TopicPrior(5)
        with torch.no_grad():
            prior.mean.normal_()
            prior.log_variance.normal_()
        mean, log_variance = torch.randn(7, 5), torch.randn(7, 5)
        expected = kl_divergence(
            MultivariateNormal(mean, torch.diag_embed(log_variance.exp())),
            MultivariateNormal(prior.mean, prior.log_variance.exp().diag()),
        )
        torch.testing.assert_close(prior.divergence(mean, log_variance), expected)

    def test_a_fixed_prior_has_no_parameters(self):
        assert not list(TopicPrior(3, learned=False).parameters())
        assert len(list(TopicPrior(3).parameters())) == 2

    def test_its_variance_stays_positive_at_any_learning_rate(self):
        # Defect T13: a raw variance goes through zero, and the loss becomes NaN.
        prior = make_prior(4)
        optimizer = torch.optim.Adam(prior.parameters(), lr=0.5)
        for _ in range(1000):
            loss = prior.divergence(torch.randn(8, 4), torch.full((8, 4), -6.0)).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            assert loss.isfinite()
        assert (prior.log_variance.exp() > 0).all()


class TestTopicInference:
    def test_it_is_equation_8(self):
        network = TopicInference(6, [5, 4], 3).train()
        bags = torch.rand(9, 6)
        first, second = network.layers
        hidden = torch.tanh(second(torch.tanh(first(bags))))
        for output, linear in zip(network(bags), (network.mean, network.log_variance), strict=True):
            raw = hidden @ linear.weight.T
            expected = (raw - raw.mean(dim=0)) / torch.sqrt(raw.var(dim=0, unbiased=False) + 1e-5)
            torch.testing.assert_close(output, expected)

    def test_dropout_acts_in_training_only(self):
        network = TopicInference(6, [5], 3, dropout=0.5)
        bags = torch.rand(9, 6)
        assert not torch.equal(network(bags)[0], network(bags)[0])
        network.eval()
        assert torch.equal(network(bags)[0], network(bags)[0])

    def test_a_training_batch_of_one_is_refused(self):
        network = TopicInference(6, [5], 3)
        with pytest.raises(
            ValueError, match="a training batch has 1 document, expected at least 2"
        ):
            network(torch.rand(1, 6))
        assert network.eval()(torch.rand(1, 6))[0].shape == (1, 3)

    def test_draws_have_mean_and_variance(self):
        mean, log_variance = torch.tensor([[0.5, -1.0]]), torch.tensor([[-1.0, 0.3]])
        draws = sample_proportions(mean.expand(200_000, 2), log_variance.expand(200_000, 2))
        torch.testing.assert_close(draws.sum(dim=1), torch.ones(200_000))
        logits = torch.log(draws[:, 0] / draws[:, 1])  # the difference of two normal numbers
        assert logits.mean().item() == pytest.approx(1.5, abs=0.02)
        assert logits.var().item() == pytest.approx(math.exp(-1) + math.exp(0.3), rel=0.02)


class NaiveProduct(nn.Module):
    """Eq. (12), (15) and (18) word for word: mixture, torch's batch norm, bias, log-softmax, sum."""

    def __init__(self, num_outcomes, bias=None):
        super().__init__()
        self.norm = nn.BatchNorm1d(num_outcomes, affine=False)
        self.bias = bias

    def forward(self, proportions, scores):
        logits = self.norm(proportions @ scores)
        return torch.log_softmax(logits if self.bias is None else logits + self.bias, dim=-1)


class TestTopicProduct:
    @pytest.mark.parametrize("background", [False, True])
    @pytest.mark.parametrize("sparse", [False, True])
    def test_it_is_a_standardized_mixture(self, background, sparse):
        product = TopicProduct(8, background)
        if background:
            nn.init.normal_(product.bias)
        naive = NaiveProduct(8, product.bias)
        counts = torch.randint(0, 4, (6, 8)).float()
        for training in (True, True, False):
            product.train(training)
            naive.train(training)
            proportions = torch.rand(6, 3).requires_grad_()
            scores = torch.randn(3, 8).requires_grad_()
            expected = (counts * naive(proportions, scores)).sum(dim=1)
            found = product.log_likelihood(
                proportions, scores, counts.to_sparse() if sparse else counts
            )
            torch.testing.assert_close(found, expected)
            weights = torch.randn(6)
            wanted = torch.autograd.grad((expected * weights).sum(), (proportions, scores))
            grads = torch.autograd.grad((found * weights).sum(), (proportions, scores))
            for gradient, other in zip(grads, wanted, strict=True):
                torch.testing.assert_close(gradient, other, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(product.running_mean, naive.norm.running_mean)
        torch.testing.assert_close(product.running_variance, naive.norm.running_var)
        torch.testing.assert_close(
            product.log_probabilities(proportions, scores), naive(proportions, scores)
        )

    def test_topics_that_all_documents_share_alike_stay_finite(self):
        product = TopicProduct(8)
        scores = (1e4 * torch.randn(3, 8)).requires_grad_()
        product.log_likelihood(torch.full((6, 3), 1 / 3), scores, torch.ones(6, 8)).sum().backward()
        assert scores.grad.isfinite().all()

    def test_the_logarithm_of_a_sum_of_large_exponentials(self):
        logits = (100 * torch.randn(4, 9)).requires_grad_()
        torch.testing.assert_close(log_sum_exp(logits), logits.logsumexp(dim=1))
        found = torch.autograd.grad(log_sum_exp(logits).sum(), logits)[0]
        torch.testing.assert_close(found, torch.softmax(logits.detach(), dim=1))


class TestTopicMixture:
    @pytest.mark.parametrize("background", [False, True])
    @pytest.mark.parametrize("layout", ["dense", "coo", "csr"])
    @pytest.mark.filterwarnings("ignore:Sparse CSR tensor support")
    def test_each_word_has_a_topic(self, background, layout):
        mixture = TopicMixture(8, background)
        if background:
            nn.init.normal_(mixture.bias)
        counts = torch.randint(0, 3, (6, 8)).float()
        counts[2] = 0
        proportions = torch.softmax(torch.randn(6, 3), dim=1).requires_grad_()
        scores = torch.randn(3, 8).requires_grad_()
        bias = mixture.bias if background else 0.0
        topics = torch.softmax(scores + bias, dim=1)
        expected = [
            sum(
                counts[document, word]
                * torch.log(sum(proportions[document, k] * topics[k, word] for k in range(3)))
                for word in range(8)
            )
            for document in range(6)
        ]
        given = {"dense": counts, "coo": counts.to_sparse(), "csr": counts.to_sparse_csr()}[layout]
        found = mixture.log_likelihood(proportions, scores, given)
        torch.testing.assert_close(found, torch.stack(expected))
        weights = torch.randn(6)
        wanted = torch.autograd.grad(torch.stack(expected) @ weights, (proportions, scores))
        grads = torch.autograd.grad(found @ weights, (proportions, scores))
        torch.testing.assert_close(grads, wanted, rtol=1e-4, atol=1e-5)
        log_probs = mixture.log_probabilities(proportions, scores)
        torch.testing.assert_close(log_probs.exp().sum(dim=1), torch.ones(6))


@pytest.mark.parametrize("combination", [TopicProduct, TopicMixture])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_changes_nothing(combination, dtype):
    """Rare words and rarer probabilities: in float16 what keeps logarithms finite would itself be 0."""
    scores = 30 * torch.randn(3, 200)
    proportions = torch.softmax(torch.randn(6, 3), dim=1)
    counts = torch.randint(0, 2, (6, 200)).float()
    results = []
    for enabled in (False, True):
        torch.manual_seed(0)
        mixture = combination(200, background=True)
        given = scores.clone().requires_grad_()
        with torch.autocast("cpu", dtype=dtype, enabled=enabled):
            found = mixture.log_likelihood(proportions, given, counts)
            mixture.eval()
            log_probs = mixture.log_probabilities(proportions, given)
        found.sum().backward()
        results.append((found, log_probs, given.grad, *mixture.buffers()))
    assert results[0][0].isfinite().all()
    torch.testing.assert_close(*results, rtol=0, atol=0)


class TestBagFeatures:
    @pytest.mark.parametrize("kind", ["counts", "log1p", "shares", "log_idf"])
    @pytest.mark.parametrize("document_dim", [0, 4])
    def test_standardized_parts(self, kind, document_dim):
        counts = torch.poisson(torch.rand(50, 7) * torch.arange(7))
        vectors = 3 + torch.randn(50, 4)
        features = BagFeatures(7, document_dim, kind, scaled=True)
        features.fit(counts, vectors)
        found = features(counts, vectors)
        assert found.shape == (50, features.width)
        for part in (found[:, :7], found[:, 7:])[: 1 + bool(document_dim)]:
            torch.testing.assert_close(
                part.mean(dim=0), torch.zeros(part.shape[1]), atol=1e-4, rtol=0
            )
            torch.testing.assert_close(part.square().mean(), torch.ones(()), atol=1e-3, rtol=0)

    def test_a_code_of_all_documents_says_nothing(self):
        counts = torch.rand(20, 5) + 0.1
        counts[:10, 1] = 0.0
        features = BagFeatures(5, 0, "log_idf", scaled=False)
        features.fit(counts)
        torch.testing.assert_close(
            features.inverse_frequency, torch.tensor([0.0, math.log(2), 0.0, 0.0, 0.0])
        )
        assert features(torch.zeros(1, 5)).isfinite().all()


class TestTopicSimilarity:
    def test_by_hand(self):
        # cosines 0, -1 and 0.6: only the last counts, in both orders, of six ordered pairs
        topics = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
        assert topic_similarity(topics).item() == 0
        topics[2] = torch.tensor([0.6, -0.8])
        assert topic_similarity(topics).item() == pytest.approx(2 * 0.36 / 6)

    def test_one_topic_is_alone(self):
        assert topic_similarity(torch.tensor([[1.0, 0.0]])).item() == 0


def shares(values, index):
    return np.mean([other <= values[index] for other in values])


class TestRanking:
    def test_frex_is_the_harmonic_mean_of_two_ranks(self):
        probs = torch.softmax(torch.randn(3, 11), dim=1)
        found, exclusive = rank_by_frex(probs, 0.3), (probs / probs.sum(dim=0)).numpy()
        for topic in range(3):
            for word in range(11):
                ranks = shares(exclusive[topic], word), shares(probs[topic].numpy(), word)
                expected = 1 / (0.3 / ranks[0] + 0.7 / ranks[1])
                assert found[topic, word].item() == pytest.approx(expected)

    def test_relevance_between_probability_and_lift(self):
        probs, frequencies = torch.softmax(torch.randn(3, 11), dim=1), torch.rand(11)
        frequencies = frequencies / frequencies.sum()
        torch.testing.assert_close(rank_by_relevance(probs, frequencies, 1.0), probs.log())
        lift = (probs / frequencies).log()
        torch.testing.assert_close(rank_by_relevance(probs, frequencies, 0.0), lift)
        half = 0.5 * probs.log() + 0.5 * lift
        torch.testing.assert_close(rank_by_relevance(probs, frequencies, 0.5), half)

    def test_ctfidf_by_hand(self):
        counts = torch.tensor([[4.0, 0.0, 2.0], [0.0, 4.0, 2.0]])  # 6 words per topic, 4 of each
        expected = counts * math.log(1 + 6 / 4)
        torch.testing.assert_close(rank_by_ctfidf(counts), expected)
        assert (rank_by_ctfidf(torch.zeros(2, 3)) == 0).all()

    def test_exclusivity_by_hand(self):
        counts = torch.tensor([[4.0, 0.0, 4.0], [0.0, 4.0, 4.0]])
        explained = torch.tensor([[6.0, 0.0, 2.0], [0.0, 2.0, 6.0]])
        # a word's shares of two topics that explain 8 words each: 1 and 0, 0 and 1, 1/4 and 3/4
        expected = torch.tensor([[0.5, 0.0, 0.5 / 4 / 9], [0.0, 0.5, 0.5 * 3 / 4]])
        torch.testing.assert_close(rank_by_exclusivity(counts, explained, 2.0), expected)
        expected[0, 2] = 0.5 / 4
        torch.testing.assert_close(rank_by_exclusivity(counts, explained, 0.0), expected)
        nothing = torch.zeros(2, 3)
        assert (rank_by_exclusivity(nothing, nothing, 2.0) == 0).all()


class TestWordAmbiguity:
    def test_by_hand(self):
        # word 0 is of topic 0 alone, word 1 of both alike, in the eyes of topics of unequal size
        log_probs = torch.log(torch.tensor([[0.5, 0.2], [1e-20, 0.6]]))
        shares = torch.tensor([0.75, 0.25])
        found = word_ambiguity(log_probs, shares, torch.tensor([0.3, 0.7]))
        assert found.item() == pytest.approx(0.7 * math.log(2), rel=1e-5)

    def test_its_gradient_makes_words_exclusive(self):
        scores = torch.randn(3, 5).requires_grad_()
        optimizer = torch.optim.Adam([scores], lr=0.1)
        weights = torch.full((3,), 1 / 3), torch.full((5,), 0.2)
        for _ in range(200):
            loss = word_ambiguity(torch.log_softmax(scores, dim=1), *weights)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        assert loss < 0.05


class TestDocumentation:
    def test_equations_are_numbered_without_gaps_and_citations_exist(self):
        tags = re.findall(r"\\tag\{(\d+)\}", TOPICS)
        assert tags == [str(number) for number in range(1, len(tags) + 1)]
        cited = set()
        for file in (ROOT / "src" / "hf_vq").rglob("*.py"):
            if "docs/topics.md" in file.read_text():
                for citation in re.findall(
                    r"[Ee]q\. (\(\d+\)(?:(?:-|, | and | or |, or )\(\d+\))*)", file.read_text()
                ):
                    cited |= set(re.findall(r"\d+", citation))
        assert cited
        assert cited <= set(tags), sorted(cited - set(tags))

    def test_the_table_of_variants_is_the_code(self):
        rows = re.findall(r"^\| `(\w+)` \| (.+) \| (.+) \| (.+) \|$", TOPICS, re.MULTILINE)
        documented = {name: cells for name, *cells in rows if name in VARIANTS["published"]}
        assert documented.keys() == VARIANTS["published"].keys()
        for name, cells in documented.items():
            for variant, cell in zip(VARIANTS, cells, strict=True):
                value = cell.strip("`").replace("true", "True").replace("false", "False")
                expected = VARIANTS[variant][name]
                assert value == ("1 / K" if expected is None else repr(expected).replace("'", '"'))

    def test_every_variant_fills_the_same_fields(self):
        assert len({frozenset(levers) for levers in VARIANTS.values()}) == 1


def test_naive_and_fast_agree_on_large_numbers():
    # Log-frequencies and long documents: the two large terms of the likelihood must not cancel badly.
    mixture = TopicProduct(5000, background=True)
    nn.init.uniform_(mixture.bias, -12, -4)
    counts = torch.poisson(torch.full((4, 5000), 0.5))
    proportions, scores = torch.rand(4, 20), torch.randn(20, 5000)
    found = mixture.log_likelihood(proportions, scores, counts)
    logits = F.batch_norm((proportions @ scores).double(), None, None, training=True)
    expected = (counts * torch.log_softmax(logits + mixture.bias.double(), dim=1)).sum(dim=1)
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=0)


def test_two_processes_standardize_over_the_batch_of_both(tmp_path):
    torch.multiprocessing.spawn(standardized_on, (str(tmp_path),), nprocs=2)
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in range(2))
    whole = standardized(slice(None))
    torch.testing.assert_close(
        torch.cat([first.pop("mean"), second.pop("mean")]), whole.pop("mean")
    )
    gradients = (first.pop("gradients") + second.pop("gradients")) / 2
    torch.testing.assert_close(gradients, whole.pop("gradients"), atol=1e-5, rtol=1e-4)
    for name, value in whole.items():
        assert torch.equal(first[name], second[name]), name
        torch.testing.assert_close(first[name], value, msg=name)
