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

from .models.eval_mode import eval_mode

logger = logging.getLogger(__name__)

__all__ = ["endless", "start_codebook"]


def start_codebook(
    accelerator: Accelerator,
    model: Any,
    batches: Iterable[dict[str, torch.Tensor]],
    *,
    warmup_steps: int = 0,
    learning_rate: float = 1e-3,
    max_grad_norm: float = 1000.0,
    latents_per_code: int = 20,
    seed: int = 0,
) -> int:
    """Prepare an untrained model for `train`: made for its argument `before_training`.

    With several processes each warms up its own copy; `train` then gives all of them rank 0's.

    Args:
        accelerator: Gives the precision of the warm-up.
        model: Has `encode`, `bypass_quantizer(bool)`, `initialize_codebook(batches, generator=)` and an output
            with `.loss`; its `main_input_name` and `attention_mask`, if there is one, are what it encodes.
        batches: Training batches, dicts that the model takes; `endless` for a warm-up of several passes.
        warmup_steps: Updates without the quantizer, at a constant learning rate; 0 for none.
        learning_rate: Of AdamW, in the warm-up.
        max_grad_norm: To which the gradient is clipped in the warm-up; a loss that is a sum needs a large one.
        latents_per_code: How many latents the codebook is fitted to, for each of its codes.
        seed: Of the choice of first codes.

    Returns:
        The number of updates taken, fewer than `warmup_steps` if the batches ran out.
    """
    batches = iter(batches)
    warm_up = islice(batches, warmup_steps)
    steps = _warm_up(accelerator, model, warm_up, warmup_steps, learning_rate, max_grad_norm)
    chosen = list(islice(batches, 1))
    if not chosen:
        raise ValueError(
            f"the data ended after {steps} batches of warm-up, and the codebook needs some to start from: "
            f"use fewer than {warmup_steps} warm-up steps"
        )
    num_codes = model.config.codebook_size * getattr(model.config, "codes_per_token", 1)
    more = latents_per_code * num_codes // _count_latents(model, chosen[0])
    chosen += islice(batches, more)
    model.initialize_codebook(chosen, generator=torch.Generator().manual_seed(seed))
    return steps


def endless(batches: Iterable[dict[str, torch.Tensor]]) -> Iterator[dict[str, torch.Tensor]]:
    """Pass after pass over batches that can be iterated again; none if a pass gives none."""
    while True:
        batch = None
        for batch in batches:  # noqa: B007  the last value is used below
            yield batch
        if batch is None:
            return


@torch.no_grad()
def _count_latents(model: Any, batch: dict[str, torch.Tensor]) -> int:
    with eval_mode(model):
        names = [name for name in (model.main_input_name, "attention_mask") if name in batch]
        codes = model.encode(**{name: batch[name] for name in names}).codes
    return max(1, int((codes >= 0).sum()))


def _warm_up(
    accelerator: Accelerator,
    model: Any,
    batches: Iterator,
    total: int,
    learning_rate: float,
    max_grad_norm: float,
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
        torch.nn.utils.clip_grad_norm_(model.parameters(), max_grad_norm)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        steps += 1
    model.bypass_quantizer(False)
    return steps
