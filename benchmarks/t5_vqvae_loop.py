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

"""One training loop for all models of the text benchmarks: equal updates, data order and optimizer."""

import math
import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
from torch import nn

from hf_vq.training_setup import POSITION_BIASES

Batch = dict[str, torch.Tensor]
Collate = Callable[[list[Any]], Batch]


@dataclass
class LoopConfig:
    """Options of `fit`.

    Args:
        steps: updates in all.
        codebook_start: update at which the quantizer is switched on, its codebook from k-means; before that the model
            is a plain autoencoder.
        batch_size: texts of an update.
        learning_rate: peak of AdamW's; rises over the first 5 % of the updates, then falls as a cosine.
        latents_per_code: latents for k-means.
        bias_rate_factor: learning rate of the relative position biases over that of the rest. An alignment of
            decoder and codes needs biases of about 10, and AdamW moves a number by its learning rate at most.
        evaluations: how often the validation loss is looked at.
    """

    steps: int
    codebook_start: int
    batch_size: int = 64
    learning_rate: float = 2e-3
    latents_per_code: int = 5
    bias_rate_factor: float = 10.0
    evaluations: int = 8


def bucketed_batches(
    rows: Sequence[Any], lengths: Sequence[int], batch_size: int, seed: int, collate: Collate
) -> Iterator[Batch]:
    """Endless batches of texts of similar length, every text once in each pass, full batches only."""
    generator = random.Random(seed)
    pool = 16 * batch_size
    while True:
        order = generator.sample(range(len(rows)), len(rows))
        pools = [order[i : i + pool] for i in range(0, len(order), pool)]
        order = [i for part in pools for i in sorted(part, key=lengths.__getitem__)]
        batches = [order[i : i + batch_size] for i in range(0, len(order), batch_size)]
        for batch in generator.sample(batches, len(batches)):
            if len(batch) == min(batch_size, len(rows)):
                yield collate([rows[i] for i in batch])


def fit(
    model: nn.Module,
    batches: Iterator[Batch],
    config: LoopConfig,
    validation_loss: Callable[[nn.Module], float],
    seed: int,
) -> dict[str, float]:
    """Train a model and leave it with the weights of its lowest validation loss, in eval mode.

    Args:
        model: called as `model(**batch)`, its output has `loss`. With `initialize_codebook` it gets a codebook
            start at update `codebook_start`; the choice of the best begins there.
        batches: what it trains on.
        config: the options.
        validation_loss: of the model in eval mode.
        seed: of the k-means and of a model's own noise.
    """
    torch.manual_seed(seed)
    named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    groups = [
        {"params": [p for name, p in named if not name.endswith(POSITION_BIASES)]},
        {
            "params": [p for name, p in named if name.endswith(POSITION_BIASES)],
            "lr": config.learning_rate * config.bias_rate_factor,
        },
    ]
    optimizer = torch.optim.AdamW(
        groups, lr=config.learning_rate, betas=(0.9, 0.98), weight_decay=0.0
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step, config.steps))
    quantizer = getattr(getattr(model, "encoder", None), "quantizer", None)
    if quantizer is not None and config.codebook_start:
        model.bypass_quantizer(True)
    best, best_state, best_step, seconds = math.inf, {}, 0, 0.0
    model.train()
    for step in range(config.steps):
        started = time.monotonic()
        if quantizer is not None and step == config.codebook_start:
            start_codebook(model, batches, config, seed)
        with torch.autocast("cpu", torch.bfloat16):
            loss = model(**next(batches)).loss
        loss.backward()
        nn.utils.clip_grad_norm_([p for _, p in named], 1.0)
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
        seconds += time.monotonic() - started
        left = config.steps - 1 - step
        every = max(1, config.steps // config.evaluations)
        if left % every == 0 and step >= config.codebook_start:
            model.eval()
            value = validation_loss(model)
            print(f"  step {step + 1}: validation {value:.4f}, {seconds:.0f} s", flush=True)
            if value < best:
                best, best_step = value, step + 1
                best_state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
            model.train()
    model.load_state_dict(best_state)
    model.eval()
    return {
        "steps": config.steps,
        "best_step": best_step,
        "validation_nll": best,
        "train_seconds": seconds,
        "threads": torch.get_num_threads(),
    }


def _rate(step: int, steps: int) -> float:
    """Share of the peak learning rate."""
    rise = min(1.0, (step + 1) / max(1, steps // 20))
    return rise * max(0.02, 0.5 * (1 + math.cos(math.pi * step / steps)))


def start_codebook(model: Any, batches: Iterator[Batch], config: LoopConfig, seed: int) -> None:
    """Switch the quantizer on, its codebook from the latents of some batches unless it has one already."""
    model.bypass_quantizer(False)
    groups = model.encoder.quantizer.groups
    if all(bool(getattr(group, "codebook_initialized", False)) for group in groups):
        return
    wanted = config.latents_per_code * model.config.codebook_size
    chosen: list[Batch] = []
    for batch in islice(batches, 10_000):
        chosen.append(batch)
        wanted -= int(batch["attention_mask"].sum())
        if wanted <= 0:
            break
    generator = torch.Generator().manual_seed(seed)
    model.initialize_codebook(chosen, generator=generator)
