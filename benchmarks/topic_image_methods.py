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
"""The methods of the image topic benchmark: one prior, one budget, different things that it is told about an image."""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from sklearn.cluster import MiniBatchKMeans
from topic_image_data import CLASSES, Part, in_batches
from topic_image_pixelcnn import TopicPixelCNN
from torch import nn

from hf_vq import TopicVQForImageGeneration, TopicVQImageConfig

LABELS = {
    "topics": "TopicVQ for images (ours)",
    "unconditional": "the same prior, told nothing",
    "classes": "the same prior, told the class label",
    "clusters": "the same prior, told the k-means cluster of the bag of codes",
    "published": "as published, transformer prior",
    "pixelcnn": "as published, gated PixelCNN",
}
# Ours without one of its levers: what it is called, and what takes the lever's place.
LEVERS: dict[str, tuple[str, dict[str, Any]]] = {
    "without_logits": ("topics told by the prefix alone", {"condition": "prefix"}),
    "with_layers": ("topics added in every layer", {"condition": "prefix_and_layers"}),
    "without_clusters": ("topics start at random", {"topic_init": "random"}),
    "with_map": (
        "inference reads the map",
        {"inference_network": "map", "inference_hidden_sizes": [256]},
    ),
    "without_temperature": ("temperature of topics 1", {"topic_temperature": 1.0}),
    "with_codebook": ("the prefix has the topics' codes", {"topic_condition": "codebook"}),
}
# Those that infer what they are told.
TOPICAL = ("topics", "published", "pixelcnn", *LEVERS)


# That topics start as clusters of.
STARTING_IMAGES = 10_000


@dataclass(frozen=True)
class Budget:
    """What every method is trained with.

    Args:
        steps: updates.
        batch_size: images of an update.
        num_topics: K, and the number of clusters.
        hidden_size: width of the transformer prior.
        num_layers: its layers.
        num_heads: its attention heads.
        learning_rate: peak of AdamW's; rises over the first 5 % of the updates, then falls as a cosine.
        pixelcnn_width: channels of the PixelCNN.
        pixelcnn_layers: its layers.
    """

    steps: int = 1000
    batch_size: int = 32
    num_topics: int = 20
    hidden_size: int = 128
    num_layers: int = 4
    num_heads: int = 4
    learning_rate: float = 3e-3
    pixelcnn_width: int = 64
    pixelcnn_layers: int = 15


def num_conditions(name: str, budget: Budget) -> int:
    """How many different things a method can be told: topics, clusters, classes, or one."""
    return {"classes": len(CLASSES), "unconditional": 1}.get(name, budget.num_topics)


def build_model(name: str, budget: Budget, codebook: torch.Tensor, grid_size: Sequence[int]) -> Any:
    """The untrained model of a method."""
    if name == "pixelcnn":
        width, layers = budget.pixelcnn_width, budget.pixelcnn_layers
        return TopicPixelCNN(codebook, tuple(grid_size), budget.num_topics, width, layers)
    # Labels and clusters are told as topics are; what raises which codes is then learned from the prior alone.
    special: dict[str, Any] = {}
    if name in LEVERS:
        special |= LEVERS[name][1]
    if name == "published":
        special["variant"] = "published"
    if name == "unconditional":
        special |= {"condition": "prefix", "condition_dropout": 0.0}
    # One pass over the images or little more: there is nothing that dropout could help against.
    no_dropout = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
    config = TopicVQImageConfig(
        num_topics=num_conditions(name, budget),
        codebook_size=len(codebook),
        codebook_dim=codebook.shape[1],
        grid_size=list(grid_size),
        hidden_size=budget.hidden_size,
        num_hidden_layers=budget.num_layers,
        num_attention_heads=budget.num_heads,
        decoder_config={"model_type": "gpt2", **no_dropout},
        **special,
    )
    model = TopicVQForImageGeneration(config)
    model.set_codebook(codebook)
    return model


class ImageMethod:
    """A prior over codes and what it is told: proportions `(N, K)`, of topics, of classes or of nothing.

    Args:
        name: key of `LABELS`.
        budget: sizes.
        codebook: `(C, D)`.
        train: images that the bag clusters are found in.
        seed: of the weights and of k-means.
    """

    def __init__(
        self, name: str, budget: Budget, codebook: torch.Tensor, train: Part, seed: int
    ) -> None:
        """See the class."""
        torch.manual_seed(seed)
        self.name, self.budget = name, budget
        self.is_topical = name in TOPICAL
        self.num_conditions = num_conditions(name, budget)
        self.codebook_size = len(codebook)
        self.grid_size = tuple(train.codes.shape[1:])
        self.model: Any = build_model(name, budget, codebook, self.grid_size)
        if name != "pixelcnn":
            counts = torch.bincount(train.codes.flatten(), minlength=len(codebook))
            self.model.set_background(counts)
            if self.is_topical:  # the model starts its topics there or leaves them alone
                sample = torch.randperm(len(train), generator=torch.Generator().manual_seed(seed))
                self.model.initialize_topics(
                    train.codes[sample[:STARTING_IMAGES]], torch.Generator().manual_seed(seed)
                )
            self.model.begin_training(budget.steps)
        # The prior runs in bfloat16, several times as fast on a CPU; topics and losses stay in float32.
        in_bfloat16 = torch.autocast("cpu", torch.bfloat16)
        self.model.decoder.forward = in_bfloat16(self.model.decoder.forward)
        if name == "clusters":
            self.kmeans = MiniBatchKMeans(
                budget.num_topics, n_init=10, batch_size=4096, random_state=seed
            )
            self.kmeans.fit(self._bags(train.codes))

    def _bags(self, codes: torch.Tensor) -> Any:
        return bags_of(codes, self.codebook_size).numpy()

    @property
    def can_be_guided(self) -> bool:
        """Whether it has learned to go without the condition."""
        return self.name != "pixelcnn" and bool(self.model.config.condition_dropout)

    @property
    def temperature(self) -> float:
        """Of the softmax that makes proportions."""
        return 1.0 if self.name == "pixelcnn" else float(self.model.config.topic_temperature)

    def condition(self, codes: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """What it is told about these images, `(N, K)`."""
        if self.is_topical:
            self.model.eval()
            return in_batches(self.model.infer_topics, codes).float()
        if self.name == "classes":
            return F.one_hot(labels, len(CLASSES)).float()
        if self.name == "clusters":
            found = torch.from_numpy(self.kmeans.predict(self._bags(codes))).long()
            return F.one_hot(found, self.num_conditions).float()
        return torch.ones(len(codes), 1)

    @torch.inference_mode()
    def posterior(self, codes: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and log-variance of the topics `(N, K)`, before the softmax."""

        def find(part: torch.Tensor) -> torch.Tensor:
            if self.name == "pixelcnn":
                return torch.cat(self.model.posterior(part), dim=-1)
            found = self.model(part, return_loss=False)
            return torch.cat([found.posterior_mean, found.posterior_log_variance], dim=-1)

        return in_batches(find, codes).chunk(2, dim=-1)

    def fit(self, train: Part, seed: int) -> dict[str, float]:
        """Train; every method sees the same images in the same order, half of them mirrored."""
        budget, model = self.budget, self.model
        told = None if self.is_topical else self.condition(train.codes, train.labels)
        told_mirrored = None if told is None else self.condition(train.mirrored, train.labels)
        torch.manual_seed(seed)
        generator = torch.Generator().manual_seed(seed)
        optimizer = _optimizer(model, budget.learning_rate)
        prior = {id(parameter) for parameter in model.decoder.parameters()}
        parts = [
            [p for p in model.parameters() if (id(p) in prior) == of_prior]
            for of_prior in (True, False)
        ]
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: _rate(step, budget.steps)
        )
        wall, cpu = time.perf_counter(), time.process_time()
        model.train()
        order = torch.empty(0, dtype=torch.int64)
        for step in range(budget.steps):
            if len(order) < budget.batch_size:
                order = torch.randperm(len(train), generator=generator)
            rows, order = order[: budget.batch_size], order[budget.batch_size :]
            mirror = torch.rand(len(rows), generator=generator) < 0.5
            codes = torch.where(mirror[:, None, None], train.mirrored[rows], train.codes[rows])
            if told is None:
                output = model(codes=codes)
                loss = output.loss
            else:
                known = torch.where(mirror[:, None], told_mirrored[rows], told[rows])
                output = model(codes=codes, topic_proportions=known)
                loss = output.prior_loss
            loss.backward()
            # Each for itself: the scale of the bag's loss must not decide how large a step the prior makes.
            for parameters in parts:
                nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            optimizer.zero_grad()
            schedule.step()
            if (step + 1) % 100 == 0:
                bits = output.prior_loss.item() / codes[0].numel() / math.log(2)
                seconds = time.perf_counter() - wall
                print(f"  step {step + 1}: {bits:.3f} bits per code, {seconds:.0f} s", flush=True)
        model.eval()
        return {
            "steps": budget.steps,
            "train_seconds": time.perf_counter() - wall,
            "train_cpu_seconds": time.process_time() - cpu,
            "num_parameters": sum(p.numel() for p in model.parameters()),
            "threads": torch.get_num_threads(),
        }

    @torch.inference_mode()
    def log_likelihood(self, codes: torch.Tensor, told: torch.Tensor | str) -> torch.Tensor:
        """Log-probabilities of images in nats, `(N,)`; `told` may be `"unconditional"`."""
        if isinstance(told, str):
            return in_batches(lambda c: self.model.log_likelihood(c, told), codes)
        return in_batches(self.model.log_likelihood, codes, told)

    @torch.inference_mode()
    def sample(self, told: torch.Tensor, seed: int, guidance_scale: float = 1.0) -> torch.Tensor:
        """Codes `(N, rows, columns)`, one image for each row, from the whole distribution."""
        generator = torch.Generator().manual_seed(seed)
        options = {} if guidance_scale == 1 else {"guidance_scale": guidance_scale}
        if self.name != "pixelcnn":
            options["do_sample"] = True
        return in_batches(
            lambda t: self.model.generate(topic_proportions=t, generator=generator, **options),
            told,
        )


def bags_of(codes: torch.Tensor, codebook_size: int) -> torch.Tensor:
    """How often each code occurs in each image, `(N, C)`."""
    flat = codes.flatten(1)
    ones = torch.ones(flat.shape)
    return torch.zeros(len(flat), codebook_size).scatter_add_(1, flat, ones)


def _optimizer(model: nn.Module, learning_rate: float) -> torch.optim.Optimizer:
    matrices = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim <= 1]
    groups = [{"params": matrices, "weight_decay": 0.01}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=learning_rate, betas=(0.9, 0.95))


def _rate(step: int, steps: int) -> float:
    warmup = max(1, steps // 20)
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))
