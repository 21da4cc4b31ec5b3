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
"""A codebook's start: a short warm-up of the autoencoder without its quantizer, then codes from its latents.

A codebook that starts from the latents of an untrained encoder loses most of its codes in the first updates,
when all images move towards one gray mean: on CIFAR-10 that costs a third of the error after a short run
(docs/results/).
"""

import logging
import sys
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

import torch

from ._extras import require

require("accelerate", extra="train")

# ruff: noqa: E402  the import below needs the extra
from accelerate import Accelerator
from accelerate.utils import tqdm

logger = logging.getLogger(__name__)

__all__ = ["start_codebook"]


def start_codebook(
    accelerator: Accelerator,
    model: Any,
    batches: Iterable[dict[str, torch.Tensor]],
    *,
    warmup_steps: int = 0,
    learning_rate: float = 1e-3,
    latents_per_code: int = 20,
    seed: int = 0,
) -> int:
    """Prepare an untrained model for `train`: made for its argument `before_training`.

    With several processes each warms up its own copy; `train` then gives all of them rank 0's.

    Args:
        accelerator: Gives the precision of the warm-up.
        model: Has `bypass_quantizer(bool)`, `initialize_codebook(batches, generator=)` and an output with
            `.loss`.
        batches: Training batches, dicts that the model takes, with `pixel_values`.
        warmup_steps: Updates without the quantizer, at a constant learning rate; 0 for none.
        learning_rate: Of AdamW, in the warm-up.
        latents_per_code: How many latents the codebook is fitted to, for each of its codes.
        seed: Of the choice of first codes.

    Returns:
        The number of updates taken, fewer than `warmup_steps` if the batches ran out.
    """
    batches = iter(batches)
    steps = _warm_up(accelerator, model, islice(batches, warmup_steps), warmup_steps, learning_rate)
    images = [batch["pixel_values"] for batch in islice(batches, 1)]
    if not images:
        raise ValueError(
            f"the data ended after {steps} batches of warm-up, and the codebook needs some to start from: "
            f"use fewer than {warmup_steps} warm-up steps"
        )
    latents_per_batch = model.encode(images[0][:1]).codes.numel() * len(images[0])
    wanted = latents_per_code * model.config.codebook_size
    images += [batch["pixel_values"] for batch in islice(batches, wanted // latents_per_batch)]
    model.initialize_codebook(images, generator=torch.Generator().manual_seed(seed))
    return steps


def _warm_up(
    accelerator: Accelerator, model: Any, batches: Iterator, total: int, learning_rate: float
) -> int:
    if total == 0:
        return 0
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate, weight_decay=0.0)
    model.bypass_quantizer(True)
    steps = 0
    hidden = not sys.stderr.isatty()
    for batch in tqdm(batches, total=total, desc="warm-up", leave=False, disable=hidden):
        with accelerator.autocast():
            loss = model(**batch).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1000.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        steps += 1
    model.bypass_quantizer(False)
    return steps
