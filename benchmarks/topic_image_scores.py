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
"""The scores of the image topic benchmark, and what each of them means.

Conditions are always rows of proportions `(N, K)`; see `topic_image_methods.ImageMethod`. A likelihood given topics of
the same image flatters a model, as topics know the image: so it stands beside a bound that pays for that, and beside
likelihoods given topics of other images.
"""

import math
from typing import Any

import torch
from sklearn.linear_model import LogisticRegression
from topic_image_data import CLASSES, Decoder, Part, frechet, in_batches
from topic_image_methods import ImageMethod

from hf_vq.models.topic_inference import sample_proportions
from hf_vq.topics.metrics import kmeans_clusters, nmi, purity

GUIDANCE_SCALES = (1.0, 1.5, 2.0, 3.0)
ASKED = ("one_hot", "typical")
# Of a topic: the images with the most of it, whose mean proportions are "typical".
TYPICAL_SHARE = 0.01
NUM_OTHERS = 10

_BITS = "bits per code of the images' codes (nats / (64 ln 2))"
DEFINITIONS = {
    "bits_own": f"{_BITS}, told what it infers from the image itself (or its label, or cluster)",
    "bits_shuffled": f"{_BITS}, told that of a random other image",
    "bits_unconditional": f"{_BITS}, told nothing, by a prior that learned to go without",
    "bits_bound": f"{_BITS}, upper bound: told a draw from the topics' posterior, plus its divergence from their prior",
    "kl_bits": "that divergence, in bits per code",
    "bits_mirror": f"{_BITS}, told the topics of the image's mirror image",
    "bits_lookalike": f"{_BITS}, told the topics of the training image with the nearest ResNet-56 features",
    "bits_other": f"{_BITS}, told the topics of one other image of the class",
    "bits_others": f"{_BITS}, told the mean topics of {NUM_OTHERS} other images of the class",
    "bits_class_mean": f"{_BITS}, told the mean topics of the class's training images",
    "bits_own_subset": "bits_own over the images of the five figures with other images' topics",
    "bits_unconditional_subset": "bits_unconditional over the same images",
    "num_subset": "number of these images",
    "num_images": "number of images that the other likelihoods and the topics are scored on",
    "frechet": "squared Frechet distance of ResNet-56 features of samples from those of the images; each sample is "
    "told what belongs to a random training image",
    "frechet_prior": "the same, of samples whose topics are drawn from the prior of topics",
    "num_samples": "samples behind a Frechet distance",
    "sample_class": "share of these samples that ResNet-56 gives the class of the image they were told of",
    "topic_nmi": "normalized mutual information of an image's largest topic (or its cluster) and its class",
    "topic_purity": "share of images whose class is the most frequent one of their largest topic",
    "kmeans_nmi": "topic_nmi of clusters from k-means on the proportions, as many as topics",
    "kmeans_purity": "topic_purity of the same",
    "kmeans_classes_nmi": "kmeans_nmi of as many clusters as classes",
    "probe_accuracy": "accuracy of a logistic regression from proportions to class, trained on 10,000 training images",
    "active_topics": "topics that are the largest one of at least 0.1 % of the images",
    "mean_largest": "mean of the largest proportion of an image",
    "centroid_real": "share of real images, decoded from their codes, whose nearest topic centroid in ResNet-56 "
    "features is that of their largest topic",
    "centroid_chance": "the same share if centroids were picked at random",
    "num_asked": "samples of each setting of topic and guidance",
    "steps": "updates",
    "train_seconds": "wall time of training, on a machine that other work shared",
    "train_cpu_seconds": "processor time of the same",
    "score_cpu_seconds": "processor time of scoring",
    "num_parameters": "weights",
    "threads": "CPU threads",
}


def asked_name(what: str, proportions: str, scale: float) -> str:
    """Name of a figure of samples that were asked for a topic."""
    return f"{what}_{proportions}_g{scale:g}"


for _asked in ASKED:
    for _scale in GUIDANCE_SCALES:
        _told = f"samples told a topic ({_asked.replace('_', '-')} proportions, guidance scale {_scale:g})"
        DEFINITIONS[asked_name("inferred", _asked, _scale)] = (
            f"share of {_told} that the method itself gives that topic as the largest (or that class, by ResNet-56)"
        )
        DEFINITIONS[asked_name("centroid", _asked, _scale)] = (
            f"share of {_told} whose nearest topic centroid in ResNet-56 features is that topic's; centroids are means "
            "of test images, decoded from their codes, by largest topic"
        )


class Conditions:
    """What a method is told about the images of a part, in all the ways that likelihoods compare."""

    def __init__(self, method: ImageMethod, part: Part, train: Part, seed: int):
        """See the class."""
        self.method, self.part, self.train = method, part, train
        self.generator = torch.Generator().manual_seed(seed)
        self.own = method.condition(part.codes, part.labels)
        self.of_train = method.condition(train.codes, train.labels)

    def shuffled(self) -> torch.Tensor:
        """Of a random other image: one cyclic permutation."""
        order = torch.randperm(len(self.own), generator=self.generator)
        told = torch.empty_like(self.own)
        told[order] = self.own[order.roll(1)]
        return told

    def mirror(self) -> torch.Tensor:
        """Of the mirror image."""
        return self.method.condition(self.part.mirrored, self.part.labels)

    def lookalike(self) -> torch.Tensor:
        """Of the training image whose ResNet features are nearest."""
        nearest = in_batches(
            lambda rows: torch.cdist(rows, self.train.image_features).argmin(dim=1),
            self.part.image_features,
        )
        return self.of_train[nearest]

    def others(self, number: int) -> torch.Tensor:
        """The mean of several other images of the class."""
        told = torch.empty_like(self.own)
        for label in self.part.labels.unique():
            members = (self.part.labels == label).nonzero()[:, 0]
            order = members[torch.randperm(len(members), generator=self.generator)]
            shifts = range(1, min(number, len(members) - 1) + 1)
            told[order] = torch.stack([self.own[order.roll(i)] for i in shifts]).mean(dim=0)
        return told

    def class_mean(self) -> torch.Tensor:
        """The mean of all training images of the class."""
        means = torch.stack([self.of_train[self.train.labels == k].mean(0) for k in range(10)])
        return means[self.part.labels]


def likelihood_scores(conditions: Conditions, subset: int) -> dict[str, float]:
    """Bits per code, told different things; those of other images over the first `subset` images only."""
    method, part = conditions.method, conditions.part

    def bits(told: torch.Tensor | str, number: int) -> torch.Tensor:
        return bits_per_code(method.log_likelihood(part.codes[:number], told), part.codes)

    size, subset = len(part), min(subset, len(part))
    own = bits(conditions.own, size)
    figures = {
        "bits_own": own.mean().item(),
        "bits_own_subset": own[:subset].mean().item(),
        "num_images": size,
        "num_subset": subset,
    }
    if method.name != "unconditional":
        figures["bits_shuffled"] = bits(conditions.shuffled(), size).mean().item()
    if method.can_be_guided:
        nothing = bits("unconditional", size)
        figures["bits_unconditional"] = nothing.mean().item()
        figures["bits_unconditional_subset"] = nothing[:subset].mean().item()
    if not method.is_topical:
        return figures
    mean, log_variance = method.posterior(part.codes)
    kl = bits_per_code(-method.model.prior.divergence(mean, log_variance), part.codes)
    torch.manual_seed(0)
    drawn = bits(sample_proportions(mean, log_variance, method.temperature), size)
    figures |= {"kl_bits": kl.mean().item(), "bits_bound": (drawn + kl).mean().item()}
    references = {
        "mirror": conditions.mirror(),
        "lookalike": conditions.lookalike(),
        "other": conditions.others(1),
        "others": conditions.others(NUM_OTHERS),
        "class_mean": conditions.class_mean(),
    }
    for name, told in references.items():
        figures[f"bits_{name}"] = bits(told[:subset], subset).mean().item()
    return figures


def bits_per_code(log_likelihoods: torch.Tensor, codes: torch.Tensor) -> torch.Tensor:
    """Log-probabilities of images in nats to bits per code."""
    return -log_likelihoods.double() / (codes[0].numel() * math.log(2))


def topic_scores(conditions: Conditions, seed: int) -> dict[str, float]:
    """Topics and classes: what knowing one says of the other."""
    own, labels = conditions.own, conditions.part.labels.numpy()
    largest = own.argmax(dim=1)
    counts = torch.bincount(largest, minlength=own.shape[1])
    figures = {
        "topic_nmi": nmi(labels, largest.numpy()),
        "topic_purity": purity(labels, largest.numpy()),
        "active_topics": int((counts >= 1e-3 * len(own)).sum()),
        "mean_largest": own.amax(dim=1).mean().item(),
    }
    if conditions.method.is_topical:
        clusters = kmeans_clusters(own.numpy(), own.shape[1], seed)
        few = kmeans_clusters(own.numpy(), len(CLASSES), seed)
        probe = LogisticRegression(max_iter=1000)
        probe.fit(conditions.of_train[:10_000].numpy(), conditions.train.labels[:10_000].numpy())
        figures |= {
            "kmeans_nmi": nmi(labels, clusters),
            "kmeans_purity": purity(labels, clusters),
            "kmeans_classes_nmi": nmi(labels, few),
            "probe_accuracy": float(probe.score(own.numpy(), labels)),
        }
    return figures


def sample_scores(
    conditions: Conditions, decoder: Decoder, num_samples: int, seed: int
) -> dict[str, float]:
    """Samples beside the real images: as likely told things as training images are, or drawn topics."""
    method, part, train = conditions.method, conditions.part, conditions.train
    rows = torch.randperm(len(train), generator=conditions.generator)[:num_samples]
    features = decoder.features(method.sample(conditions.of_train[rows], seed))
    classes = decoder.resnet.classify(features)
    figures = {
        "frechet": frechet(features, part.image_features),
        "num_samples": len(rows),
        "sample_class": (classes == train.labels[rows]).double().mean().item(),
    }
    if method.is_topical:
        draws = method.model.prior.sample(len(rows), conditions.generator).detach()
        drawn = (draws / method.temperature).softmax(dim=-1)
        features = decoder.features(method.sample(drawn, seed))
        figures["frechet_prior"] = frechet(features, part.image_features)
    return figures


def typical_proportions(proportions: torch.Tensor) -> torch.Tensor:
    """For each topic the mean proportions of the images that have the most of it, `(K, K)`."""
    number = max(1, round(TYPICAL_SHARE * len(proportions)))
    best = proportions.topk(number, dim=0).indices
    return proportions[best].mean(dim=0)


def control_scores(
    conditions: Conditions, decoder: Decoder, samples_per_topic: int, seed: int
) -> dict[str, float]:
    """Samples that were asked for one topic (class, cluster): do they have it?

    Two judges: what the method itself says of the codes, and an independent network, which knows a topic by the mean
    features of the real images that have it.
    """
    method, part = conditions.method, conditions.part
    size = conditions.own.shape[1]
    largest = conditions.own.argmax(dim=1)
    centroids = topic_centroids(part.features, largest, size)
    figures = {
        "centroid_real": _nearest_share(part.features, centroids, largest),
        "centroid_chance": 1 / int(centroids.isfinite().all(dim=1).sum()),
        "num_asked": size * samples_per_topic,
    }
    wanted = torch.arange(size).repeat_interleave(samples_per_topic)
    kinds = {"one_hot": torch.eye(size)}
    if method.is_topical:
        kinds["typical"] = typical_proportions(conditions.own)
    for kind, proportions in kinds.items():
        for scale in GUIDANCE_SCALES if method.can_be_guided else (1.0,):
            codes = method.sample(proportions[wanted], seed, guidance_scale=scale)
            features = decoder.features(codes)
            if method.name == "classes":
                found = decoder.resnet.classify(features)
            else:
                found = method.condition(codes, wanted).argmax(dim=1)
            figures[asked_name("inferred", kind, scale)] = (found == wanted).double().mean().item()
            share = _nearest_share(features, centroids, wanted)
            figures[asked_name("centroid", kind, scale)] = share
    return figures


def topic_centroids(features: torch.Tensor, largest: torch.Tensor, size: int) -> torch.Tensor:
    """Mean features of the images of each topic, `(K, F)`; infinite, and so nearest to nothing, without images."""
    centroids = torch.full((size, features.shape[1]), math.inf)
    for topic in largest.unique():
        centroids[topic] = features[largest == topic].mean(dim=0)
    return centroids


def _nearest_share(features: torch.Tensor, centroids: torch.Tensor, wanted: torch.Tensor) -> float:
    distances = (features[:, None] - centroids).square().sum(dim=-1)
    return (distances.argmin(dim=1) == wanted).double().mean().item()


def class_topics(conditions: Conditions) -> list[list[float]]:
    """Mean proportions of the images of each class, for the comparison with what classes are called."""
    own, labels = conditions.own, conditions.part.labels
    means = torch.stack([own[labels == label].mean(dim=0) for label in range(len(CLASSES))])
    return [[round(value, 6) for value in row] for row in means.tolist()]


def class_counts(conditions: Conditions) -> list[list[int]]:
    """Images of each largest topic (rows) and class."""
    own = conditions.own
    flat = own.argmax(dim=1) * len(CLASSES) + conditions.part.labels
    counts: Any = torch.bincount(flat, minlength=own.shape[1] * len(CLASSES))
    return counts.reshape(own.shape[1], len(CLASSES)).tolist()
