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
"""Topic inference: bags to topic proportions and back, with torch alone.

A bag is a row of counts, of codes or of words. The inference network reads one and gives a normal
distribution whose softmax are the topic proportions; a mixture turns proportions into probabilities of codes
or words. Equation numbers refer to docs/topics.md.
"""

from collections.abc import Callable, Iterator
from functools import wraps
from typing import Any

import torch
import torch.nn.functional as F
from torch import distributed, nn

# Keeps logarithms of probabilities that underflow finite; a clamp would cost a mask in the backward pass.
TINY = 1e-30
# Codes that a cluster is given beside its own, by how often they occur anywhere, eq. (30) and (I13).
SMOOTHING = 50


class TopicPrior(nn.Module):
    """Normal prior of the topic proportions, before their softmax, eq. (10), learned unless told otherwise.

    Args:
        num_topics: K.
        concentration: of the Dirichlet distribution that it approximates at its start, one number or K.
        mean_init: added to its mean at its start.
        learned: whether mean and log-variance are parameters.
    """

    mean: torch.Tensor
    log_variance: torch.Tensor

    def __init__(
        self,
        num_topics: int,
        concentration: float | list[float] = 1.0,
        mean_init: float = 0.0,
        learned: bool = True,
    ):
        """See the class."""
        super().__init__()
        self.num_topics, self.concentration, self.mean_init = num_topics, concentration, mean_init
        for name in ("mean", "log_variance"):
            values = torch.zeros(num_topics)
            setattr(self, name, nn.Parameter(values) if learned else nn.Buffer(values))

    def initial_values(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Laplace approximation of the Dirichlet distribution on the softmax basis, eq. (10)."""
        topics = self.num_topics
        concentration = torch.as_tensor(self.concentration, dtype=torch.float32).expand(topics)
        mean = concentration.log() - concentration.log().mean() + self.mean_init
        variance = (1 - 2 / topics) / concentration + (1 / concentration).mean() / topics
        yield self.mean, mean
        # One topic has all of every document: its variance is 0, and any number will do.
        yield self.log_variance, (variance if topics > 1 else 1 / concentration).log()

    def sample(self, number: int, generator: torch.Generator | None = None) -> torch.Tensor:
        """Draws before their softmax, `(number, K)`, eq. (10)."""
        device = self.mean.device if generator is None else generator.device
        noise = torch.randn(number, self.num_topics, generator=generator, device=device)
        return self.mean + torch.exp(0.5 * self.log_variance) * noise.to(self.mean)

    def divergence(self, mean: torch.Tensor, log_variance: torch.Tensor) -> torch.Tensor:
        """KL divergence of posteriors `(B, K)` from the prior, `(B,)`, eq. (11)."""
        variance, difference = log_variance.exp(), mean - self.mean
        ratios = (variance + difference.square()) * torch.exp(-self.log_variance)
        return 0.5 * (ratios - 1 + self.log_variance - log_variance).sum(dim=-1)


class BagFeatures(nn.Module):
    """Bags of codes, and vectors of documents if there are any, as the inference network reads them.

    Args:
        codebook_size: C.
        document_dim: H, 0 without document vectors.
        kind: what is made of a bag: `"counts"`, `"log1p"`, `"shares"` or `"log_idf"`, eq. (27).
        scaled: whether both parts are standardized, each with means by dimension and one deviation.
    """

    def __init__(self, codebook_size: int, document_dim: int, kind: str, scaled: bool):
        """See the class."""
        super().__init__()
        self.kind, self.scaled = kind, scaled
        self.width = codebook_size + document_dim
        self.inverse_frequency = nn.Buffer(torch.ones(codebook_size))
        self.bag_mean = nn.Buffer(torch.zeros(codebook_size))
        self.bag_std = nn.Buffer(torch.ones(()))
        self.document_mean = nn.Buffer(torch.zeros(document_dim)) if document_dim else None
        self.document_std = nn.Buffer(torch.ones(())) if document_dim else None

    def initial_values(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Each buffer and what it starts as: nothing is weighted or scaled."""
        for name, buffer in self.named_buffers():
            yield buffer, torch.full_like(buffer, 0 if name.endswith("mean") else 1)

    @torch.no_grad()
    def fit(self, code_counts: torch.Tensor, document_vectors: torch.Tensor | None = None) -> None:
        """Set weights and scales from training documents, eq. (27)."""
        if self.kind == "log_idf":
            # A word has all codes of its neighborhood a little: a twentieth of a word is not yet an occurrence.
            shares = (code_counts > 0.05).float().mean(dim=0)
            self.inverse_frequency.copy_(-shares.clamp_min(1e-3).log())
        if self.scaled:
            _fit_scale(self._bags(code_counts), self.bag_mean, self.bag_std)
            if self.document_mean is not None and self.document_std is not None:
                vectors = _directions(document_vectors)
                _fit_scale(vectors, self.document_mean, self.document_std)

    def forward(
        self, code_counts: torch.Tensor, document_vectors: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Bags `(B, C)` and vectors `(B, H)` to features `(B, C + H)`."""
        bags = (self._bags(code_counts) - self.bag_mean) / self.bag_std
        if self.document_mean is None or self.document_std is None:
            return bags
        vectors = (_directions(document_vectors) - self.document_mean) / self.document_std
        return torch.cat([bags, vectors], dim=-1)

    def _bags(self, code_counts: torch.Tensor) -> torch.Tensor:
        if self.kind == "counts":
            return code_counts
        if self.kind == "shares":
            return code_counts / code_counts.sum(dim=-1, keepdim=True).clamp_min(1e-12)
        logs = torch.log1p(code_counts)
        if self.kind == "log1p":
            return logs
        return F.normalize(logs * self.inverse_frequency, dim=-1)


def _directions(document_vectors: torch.Tensor | None) -> torch.Tensor:
    if document_vectors is None:
        raise ValueError("document_vector is True: topics need document_vectors as well")
    return F.normalize(document_vectors.float(), dim=-1)


def _fit_scale(values: torch.Tensor, mean: torch.Tensor, std: torch.Tensor) -> None:
    mean.copy_(values.mean(dim=0))
    std.copy_((values - mean).square().mean().sqrt().clamp_min(1e-6))


def several_ranks() -> bool:
    """Whether this is one of several processes that train together."""
    return (
        distributed.is_available()
        and distributed.is_initialized()
        and distributed.get_world_size() > 1
    )


def sum_over_ranks(values: torch.Tensor) -> torch.Tensor:
    """The sum of a tensor over all processes, with its gradient; itself if there is one process."""
    if not several_ranks():
        return values
    # Here, since not every build of torch has it.
    from torch.distributed.nn.functional import all_reduce

    return all_reduce(values)


def batch_mean(rows: torch.Tensor) -> tuple[torch.Tensor, float]:
    """Mean of the rows `(B, *)` of all processes, with its gradient, and the number of rows."""
    if not several_ranks():
        return rows.mean(dim=0), len(rows)
    # the processes may have unequal batches
    count = float(sum_over_ranks(rows.new_tensor(float(len(rows)))))
    return sum_over_ranks(rows.sum(dim=0)) / count, count


class BatchStandardization(nn.BatchNorm1d):
    """Standardizes over the batch of all processes: `SyncBatchNorm` does so on GPUs only."""

    def __init__(self, width: int):
        """See the class; without scale or shift."""
        super().__init__(width, affine=False)

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """`(B, width)` to the same."""
        if not self.training or not several_ranks():
            return super().forward(input)
        mean, count = batch_mean(input)
        centered = input - mean
        variance, _ = batch_mean(centered.square())
        own: Any = self  # whose moments the base class declares as optional
        with torch.no_grad():
            own.running_mean.lerp_(mean, own.momentum)
            own.running_var.lerp_(variance * (count / max(1, count - 1)), own.momentum)
            own.num_batches_tracked.add_(1)
        return centered * torch.rsqrt(variance + self.eps)


class TopicInference(nn.Module):
    """Bags `(B, input_dim)` to mean and log-variance `(B, K)` of the posterior, eq. (8).

    Both outputs are standardized over the batch, without scale or shift: so nobody's posterior collapses onto
    the prior, and micro-batches are not parts of a large batch.
    """

    def __init__(
        self, input_dim: int, hidden_sizes: list[int], num_topics: int, dropout: float = 0.0
    ):
        """See the class."""
        super().__init__()
        widths = [input_dim, *hidden_sizes]
        self.layers = nn.ModuleList(
            nn.Linear(narrow, wide) for narrow, wide in zip(widths, widths[1:], strict=False)
        )
        self.dropout = dropout
        # without biases, which standardizing would take away again
        self.mean = nn.Linear(widths[-1], num_topics, bias=False)
        self.log_variance = nn.Linear(widths[-1], num_topics, bias=False)
        self.mean_norm = BatchStandardization(num_topics)
        self.log_variance_norm = BatchStandardization(num_topics)

    def forward(self, bags: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """See the class; a batch of one has no statistics, in training."""
        if self.training and len(bags) < 2:
            raise ValueError(
                f"a training batch has {len(bags)} document, expected at least 2: posteriors are standardized "
                "over the batch"
            )
        hidden = bags
        for layer in self.layers:
            hidden = torch.tanh(layer(hidden))
        hidden = F.dropout(hidden, self.dropout, self.training)
        # through the modules, not their weights: those may be on disk, or quantized
        mean, log_variance = self.mean(hidden).float(), self.log_variance(hidden).float()
        return self.mean_norm(mean), self.log_variance_norm(log_variance)


def without_autocast(method: Callable[..., Any]) -> Callable[..., Any]:
    """Keeps the products of a method in float32: sums over words and logarithms of small probabilities need it."""

    @wraps(method)
    def run(self: Any, proportions: torch.Tensor, *others: torch.Tensor) -> Any:
        with torch.autocast(proportions.device.type, enabled=False):
            return method(self, proportions, *others)

    return run


def sample_proportions(
    mean: torch.Tensor, log_variance: torch.Tensor, temperature: float = 1.0
) -> torch.Tensor:
    """A draw of the topic proportions `(B, K)`, eq. (9)."""
    noise = torch.randn_like(mean)
    return torch.softmax((mean + torch.exp(0.5 * log_variance) * noise) / temperature, dim=-1)


class TopicProduct(nn.Module):
    """Topic proportions to probabilities of codes, eq. (12), or words, eq. (15), with the background of eq. (18).

    A product of the topics' distributions, each to the power of its proportion: the logits of a document are
    the mixture of the topics' scores, standardized over the documents of the batch. Hence micro-batches are
    not parts of a large batch. Standardizing is scaling the scores and centering the proportions, and neither
    the moments nor the likelihood of a bag needs the documents-by-words matrix more than once, in the softmax.

    Args:
        num_outcomes: codes or words, M.
        background: whether there is a bias, which starts as the log-frequency of the outcomes.
        momentum: weight of a batch in the running moments.
    """

    eps = 1e-5

    def __init__(self, num_outcomes: int, background: bool = False, momentum: float = 0.1):
        """See the class."""
        super().__init__()
        self.momentum = momentum
        self.running_mean = nn.Buffer(torch.zeros(num_outcomes))
        self.running_variance = nn.Buffer(torch.ones(num_outcomes))
        self.bias = nn.Parameter(torch.zeros(num_outcomes)) if background else None

    def initial_values(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Each tensor and what it starts as."""
        yield self.running_mean, torch.zeros_like(self.running_mean)
        yield self.running_variance, torch.ones_like(self.running_variance)
        if self.bias is not None:
            yield self.bias, torch.zeros_like(self.bias)

    @without_autocast
    def standardize(
        self, proportions: torch.Tensor, scores: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Weights `(B, K)`, scores `(K, M)` and offset `(M,)` with `logits = weights @ scores + offset`.

        Moments are those of the batch in training, and running ones otherwise.
        """
        if self.training:
            center, count = batch_mean(proportions)
            weights = proportions - center
            covariance = sum_over_ranks(weights.T @ weights) / count
            variance = ((covariance @ scores) * scores).sum(dim=0).clamp_min(0)
            with torch.no_grad():
                unbiased = variance * (count / max(1, count - 1))
                self.running_mean.lerp_(center @ scores, self.momentum)
                self.running_variance.lerp_(unbiased, self.momentum)
            scores = scores * torch.rsqrt(variance + self.eps)
            offset = torch.zeros_like(self.running_mean)
        else:
            scale = torch.rsqrt(self.running_variance + self.eps)
            weights, scores, offset = proportions, scores * scale, -self.running_mean * scale
        return weights, scores, offset if self.bias is None else offset + self.bias

    @without_autocast
    def log_probabilities(self, proportions: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """`(B, M)`, eq. (12) and (15)."""
        weights, scores, offset = self.standardize(proportions, scores)
        return torch.log_softmax(torch.addmm(offset, weights, scores).float(), dim=-1)

    @without_autocast
    def log_likelihood(
        self, proportions: torch.Tensor, scores: torch.Tensor, counts: torch.Tensor
    ) -> torch.Tensor:
        """Log-probability of bags `(B, M)`, dense or sparse, `(B,)`: the negative of a document's loss.

        A sum over outcomes of counts and log-softmax, as counts-by-scores less the bag's total times the
        logarithm of the softmax's denominator.
        """
        weights, scores, offset = self.standardize(proportions, scores)
        denominator = log_sum_exp(torch.addmm(offset, weights, scores))
        rows = torch.cat([scores, offset[None], torch.ones_like(offset)[None]])
        moments = counts @ rows.T
        matched = (moments[:, :-2] * weights).sum(dim=-1) + moments[:, -2]
        return matched - moments[:, -1] * denominator


class TopicMixture(nn.Module):
    """Topic proportions to probabilities of codes or words: the mixture of the topics' distributions, eq. (28).

    Args:
        num_outcomes: codes or words, M.
        background: whether there is a bias, which starts as the log-frequency of the outcomes.
    """

    def __init__(self, num_outcomes: int, background: bool = False):
        """See the class."""
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(num_outcomes)) if background else None

    def initial_values(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Each tensor and what it starts as."""
        if self.bias is not None:
            yield self.bias, torch.zeros_like(self.bias)

    def topics(self, scores: torch.Tensor) -> torch.Tensor:
        """Scores `(K, M)` to the topics' distributions, eq. (21)."""
        return torch.softmax(scores if self.bias is None else scores + self.bias, dim=-1)

    @without_autocast
    def log_probabilities(self, proportions: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """`(B, M)`, eq. (28)."""
        return (proportions @ self.topics(scores) + TINY).log()

    @without_autocast
    def log_likelihood(
        self, proportions: torch.Tensor, scores: torch.Tensor, counts: torch.Tensor
    ) -> torch.Tensor:
        """Log-probability of bags `(B, M)`, dense or sparse, `(B,)`.

        With sparse bags only the probabilities of words that occur are ever computed.
        """
        if counts.layout == torch.strided:
            return (counts * self.log_probabilities(proportions, scores)).sum(dim=-1)
        documents, outcomes, values = entries(counts)
        topics = self.topics(scores).T.contiguous()
        shares = proportions.index_select(0, documents)
        probabilities = (shares * topics.index_select(0, outcomes)).sum(dim=-1)
        logs = values * (probabilities + TINY).log()
        return logs.new_zeros(len(counts)).index_add(0, documents, logs)


def entries(counts: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Rows, columns and values of a sparse matrix."""
    if counts.layout == torch.sparse_csr:
        lengths = counts.crow_indices().diff()
        rows = torch.arange(len(lengths), device=counts.device).repeat_interleave(lengths)
        return rows, counts.col_indices(), counts.values()
    counts = counts.coalesce()
    rows, columns = counts.indices()
    return rows, columns, counts.values()


def log_sum_exp(logits: torch.Tensor) -> torch.Tensor:
    """Over the last dimension, in float32; `log_softmax` has the faster kernels for value and gradient."""
    logits = logits.float()
    return logits[:, 0] - torch.log_softmax(logits, dim=-1)[:, 0]


def cluster_topics(bags: torch.Tensor, clusters: torch.Tensor, num_topics: int) -> torch.Tensor:
    """Scores of codes `(K, C)`: what is special in the bags `(N, C)` of each cluster, eq. (30) and (I13)."""
    frequencies = bags.sum(dim=0) + 1e-3
    frequencies = frequencies / frequencies.sum()
    totals = bags.new_zeros(num_topics, bags.shape[1]).index_add_(0, clusters, bags)
    totals += SMOOTHING * frequencies
    shares = totals / totals.sum(dim=1, keepdim=True)
    return torch.log(shares / frequencies)


def topic_similarity(topic_embeddings: torch.Tensor) -> torch.Tensor:
    """Mean over pairs of topics of their squared positive cosine, eq. (20); `topic_embeddings` have norm 1."""
    num_topics = len(topic_embeddings)
    similarities = (topic_embeddings @ topic_embeddings.T).clamp_min(0).square()
    others = similarities.sum() - similarities.diagonal().sum()
    return others / max(1, num_topics * (num_topics - 1))


def word_ambiguity(
    topic_word_log_probs: torch.Tensor, topic_shares: torch.Tensor, word_shares: torch.Tensor
) -> torch.Tensor:
    """Mean over words `(V,)` of the entropy of a word's topic, in nats, eq. (33); `topic_shares` is `(K,)`."""
    log_joint = topic_word_log_probs + topic_shares.clamp_min(1e-30).log()[:, None]
    log_topics = torch.log_softmax(log_joint, dim=0)
    return -((log_topics.exp() * log_topics).sum(dim=0) * word_shares).sum()


def count_topic_words(
    proportions: torch.Tensor, topic_word_probs: torch.Tensor, word_counts: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Words of documents shared out to topics, `(K, V)`: tf of eq. (24), tf' and em of eq. (31).

    Args:
        proportions: `(B, K)`; a document's words go to its topics in these shares.
        topic_word_probs: `(K, V)`; or each to the topics that explain it, by Bayes' rule.
        word_counts: `(B, V)`, dense or sparse.
    """
    if word_counts.layout == torch.strided:
        word_counts = word_counts.to_sparse()
    documents, words, values = entries(word_counts)
    shares = proportions.index_select(0, documents)
    topics = topic_word_probs.T.contiguous()
    likelihoods = (shares * topics.index_select(0, words)).sum(dim=-1).clamp_min(1e-30)
    damped = values.log1p()
    counts, damped_counts, by_likelihood = (
        torch.zeros_like(topics).index_add_(0, words, shares * weights[:, None])
        for weights in (values, damped, damped / likelihoods)
    )
    return counts.T, damped_counts.T, by_likelihood.T * topic_word_probs
