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
"""Which words stand for a topic: rankings of the same trained model, eq. (22)-(24) and (32) of docs/topics.md."""

import torch


def rank_by_relevance(
    topic_word_probs: torch.Tensor, word_probs: torch.Tensor, weight: float
) -> torch.Tensor:
    """Mean of log-probability and log-lift, `(K, V)`, eq. (22); `word_probs` is `(V,)`."""
    log_probs = topic_word_probs.clamp_min(1e-30).log()
    return log_probs - (1 - weight) * word_probs.clamp_min(1e-30).log()


def rank_by_frex(topic_word_probs: torch.Tensor, weight: float) -> torch.Tensor:
    """Harmonic mean of the ranks of probability and of exclusivity, `(K, V)`, eq. (23)."""
    exclusivity = topic_word_probs / topic_word_probs.sum(dim=0).clamp_min(1e-30)
    return 1 / (weight / _rank_shares(exclusivity) + (1 - weight) / _rank_shares(topic_word_probs))


def rank_by_ctfidf(topic_word_counts: torch.Tensor) -> torch.Tensor:
    """Counts of words in topics, weighted down for words of all topics, `(K, V)`, eq. (24)."""
    word_counts = topic_word_counts.sum(dim=0)
    words_per_topic = topic_word_counts.sum() / len(topic_word_counts)
    return topic_word_counts * torch.log1p(words_per_topic / word_counts.clamp_min(1e-12))


def rank_by_exclusivity(
    damped_word_counts: torch.Tensor, explained_word_counts: torch.Tensor, exponent: float
) -> torch.Tensor:
    """How frequent a word is in the topic, times how much it is the topic's own, `(K, V)`, eq. (32)."""
    frequency, explained = (
        counts / counts.sum(dim=1, keepdim=True).clamp_min(1e-12)
        for counts in (damped_word_counts, explained_word_counts)
    )
    owned = explained / explained.sum(dim=0).clamp_min(1e-12)
    largest = owned.max(dim=0).values.clamp_min(1e-12)
    return frequency * owned * (owned / largest) ** exponent


def _rank_shares(values: torch.Tensor) -> torch.Tensor:
    """For each entry of a row the share of the row that is not above it, in (0, 1]."""
    order = values.argsort(dim=-1, stable=True)
    ranks = torch.arange(1, values.shape[-1] + 1, device=values.device).expand_as(values)
    return torch.empty_like(values).scatter_(-1, order, ranks.to(values)) / values.shape[-1]
