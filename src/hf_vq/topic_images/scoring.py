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
"""Every figure of a topic model of images on images that it was not trained on."""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hf_vq.models.eval_mode import eval_mode
from hf_vq.topics.metrics import kmeans_clusters, nmi, purity

from .codes import CodeGrids

_BITS = "bits to write a code of an image, given"
IMAGE_TOPIC_DEFINITIONS = {
    "nll": "negative log-likelihood of an image's codes given its own topics, in nats; as topics are inferred from the "
    "same codes, it is no likelihood of an image",
    "bits_per_code": f"{_BITS} the image's own topics: nll / (codes of an image * ln 2)",
    "bits_per_code_shuffled": f"{_BITS} the topics of another held-out image",
    "bits_per_code_mean_topics": f"{_BITS} the mean of the topics of all held-out images",
    "bits_per_code_unconditional": f"{_BITS} no topics, by the same model",
    "bits_per_code_bound": f"{_BITS} topics drawn from their posterior, with the bits of that posterior: an upper "
    "bound of what an image costs",
    "bits_per_code_unigram": "bits to write a code by its share in the training images",
    "bits_per_code_uniform": "bits to write a code if all are as likely",
    "kl": "divergence of the posterior of topics from their prior, in nats for an image",
    "active_topics": "topics that are the largest one of at least 1 in 1000 held-out images",
    "mean_largest_topic": "mean proportion of the largest topic of an image",
    "topic_class_nmi": "normalized mutual information of largest topics and classes",
    "topic_class_purity": "share of images whose class is the most frequent one of their largest topic; it grows with "
    "the number of topics",
    "kmeans_nmi": "normalized mutual information of classes and k-means clusters of topic proportions, as many as "
    "topics",
    "kmeans_purity": "purity of these clusters",
    "histogram_nmi": "normalized mutual information of classes and k-means clusters of code histograms, as many as "
    "topics",
    "histogram_purity": "purity of these clusters",
    "controllability": "share of images drawn for one topic alone whose largest inferred topic is that topic; chance "
    "is 1 / num_topics",
    "num_images": "held-out images",
    "num_topics": "topics of the model",
    "num_classes": "classes of the held-out images",
}
# k-means reads no more images than this.
CLUSTERED_IMAGES = 10_000


@torch.no_grad()
def score_topic_images(
    model: Any,
    grids: CodeGrids,
    *,
    train_grids: CodeGrids | None = None,
    samples_per_topic: int = 16,
    batch_size: int = 256,
    seed: int = 0,
) -> dict[str, float]:
    """Score a model on codes of held-out images.

    Args:
        model: A trained `TopicVQForImageGeneration`.
        grids: Codes of images, with classes if they are known.
        train_grids: Codes that it was trained on, for the shares of codes.
        samples_per_topic: Images to draw for each topic, to see which topic they have; 0 for none.
        batch_size: Images at a time.
        seed: Of draws, of the shuffled topics and of k-means.

    Returns:
        Figures that `IMAGE_TOPIC_DEFINITIONS` defines.
    """
    if len(grids) < 2:
        raise ValueError(f"there are {len(grids)} images to score, expected at least 2")
    with eval_mode(model), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        proportions = infer_proportions(model, grids, batch_size)
        figures = _likelihoods(model, grids, proportions, batch_size, seed)
        if samples_per_topic:
            options = (samples_per_topic, batch_size, seed)
            figures["controllability"] = score_control(model, *options)
    figures |= {
        "bits_per_code_uniform": math.log2(grids.codebook_size),
        "num_images": len(grids),
        "num_topics": proportions.shape[1],
    }
    if train_grids is not None:
        shares = (train_grids.counts() + 1) / (train_grids.counts() + 1).sum()
        figures["bits_per_code_unigram"] = float(-np.log2(shares)[grids.codes].mean())
    largest = proportions.argmax(dim=1).numpy()
    counts = np.bincount(largest)
    figures |= {
        "active_topics": int((counts >= max(1, len(grids) / 1000)).sum()),
        "mean_largest_topic": proportions.amax(dim=1).mean().item(),
    }
    if grids.labels is not None:
        figures |= _classes(grids, proportions.numpy(), largest, seed)
    return figures


@torch.no_grad()
def infer_proportions(model: Any, grids: CodeGrids, batch_size: int = 256) -> Tensor:
    """Topic proportions of every image, `(images, num_topics)` on the CPU."""
    batches = (
        model.infer_topics(codes).float().cpu() for _, codes in _batches(model, grids, batch_size)
    )
    return torch.cat(list(batches))


@torch.no_grad()
def score_control(
    model: Any, samples_per_topic: int, batch_size: int = 256, seed: int = 0, **options: Any
) -> float:
    """Share of images drawn for one topic whose largest inferred topic is that one.

    Args:
        model: A trained `TopicVQForImageGeneration`.
        samples_per_topic: Images to draw for each topic.
        batch_size: Images at a time.
        seed: Of the draws.
        options: Of `generate`, for example `guidance_scale`.
    """
    wanted = torch.arange(model.config.num_topics).repeat_interleave(samples_per_topic)
    generator = torch.Generator(model.device).manual_seed(seed)
    found = []
    for topics in wanted.split(batch_size):
        mixtures = torch.eye(model.config.num_topics)[topics].to(model.device)
        codes = model.generate(mixtures, generator=generator, **options)
        found.append(model.infer_topics(codes).argmax(dim=1).cpu())
    return (torch.cat(found) == wanted).double().mean().item()


def _batches(model: Any, grids: CodeGrids, batch_size: int) -> Iterator[tuple[slice, Tensor]]:
    for start in range(0, len(grids), batch_size):
        rows = slice(start, start + batch_size)
        yield rows, grids.tensor(rows).to(model.device)


def _likelihoods(
    model: Any, grids: CodeGrids, proportions: Tensor, batch_size: int, seed: int
) -> dict[str, float]:
    # One place further in a random order: nobody keeps its own.
    order = torch.randperm(len(grids), generator=torch.Generator().manual_seed(seed))
    others = torch.empty_like(order)
    others[order] = order.roll(1)
    mean = proportions.mean(dim=0, keepdim=True)
    totals: dict[str, float] = {}

    def add(name: str, values: Tensor) -> None:
        totals[name] = totals.get(name, 0.0) + values.double().sum().item()

    for rows, codes in _batches(model, grids, batch_size):

        def nll(told: Tensor | str, codes: Tensor = codes) -> Tensor:
            told = told if isinstance(told, str) else told.to(codes.device)
            return -model.log_likelihood(codes, told)

        own = proportions[rows]
        add("own", nll(own))
        add("shuffled", nll(proportions[others[rows]]))
        add("mean_topics", nll(mean.expand_as(own)))
        if model.config.condition_dropout:
            add("unconditional", nll("unconditional"))
        kl = model(codes).kl_loss * len(codes)
        add("kl", kl)
        add("bound", nll(model.infer_topics(codes, num_samples=1)))
        add("bound", kl)
    nats = {name: total / len(grids) for name, total in totals.items()}
    bits = 1 / (math.prod(grids.grid_size) * math.log(2))
    return {
        "nll": nats["own"],
        "kl": nats.pop("kl"),
        "bits_per_code": nats.pop("own") * bits,
        **{f"bits_per_code_{name}": value * bits for name, value in nats.items()},
    }


def _classes(
    grids: CodeGrids, proportions: np.ndarray, largest: np.ndarray, seed: int
) -> dict[str, float]:
    labels = grids.label_names()
    few = slice(min(len(grids), CLUSTERED_IMAGES))
    number = min(proportions.shape[1], len(labels[few]))
    clusters = kmeans_clusters(proportions[few], number, seed)
    beside = kmeans_clusters(grids.histograms()[few], number, seed)
    return {
        "topic_class_nmi": nmi(labels, largest),
        "topic_class_purity": purity(labels, largest),
        "kmeans_nmi": nmi(labels[few], clusters),
        "kmeans_purity": purity(labels[few], clusters),
        "histogram_nmi": nmi(labels[few], beside),
        "histogram_purity": purity(labels[few], beside),
        "num_classes": len(set(labels)),
    }


__all__ = [
    "IMAGE_TOPIC_DEFINITIONS",
    "infer_proportions",
    "score_control",
    "score_topic_images",
]
