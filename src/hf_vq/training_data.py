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
"""Training batches whose order depends on the seed alone.

The examples form one endless stream: pass after pass over the data set, each map-style pass in its
own random order. Micro-batches are cut from that stream, full ones only, and dealt to the ranks in
turn. So the examples of step 7 are the same on one process with a batch of 8, on two with 4, and
with accumulation; and a run is resumed by one number, the position in the stream. All randomness of
a batch is seeded by its position, so it does not depend on worker processes.
"""

import itertools
import random
from collections.abc import Callable, Iterable, Iterator, Sized
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset, default_collate

Collate = Callable[[list[Any]], dict[str, Any]]


@contextmanager
def seeded(*key: int, device: torch.device | None = None) -> Iterator[None]:
    """Seed the global generators from `key`, and put back their former states afterwards."""
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    cuda = device if device is not None and device.type == "cuda" else None
    cuda_state = torch.cuda.get_rng_state(cuda) if cuda is not None else None
    seed = int(np.random.SeedSequence(key).generate_state(1)[0])
    random.seed(seed)
    np.random.seed(seed)
    # Not torch.manual_seed, which would reseed the accelerators too.
    torch.default_generator.manual_seed(seed)
    if cuda is not None:
        torch.cuda.manual_seed(seed)
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])
        if cuda is not None and cuda_state is not None:
            torch.cuda.set_rng_state(cuda_state, cuda)


class _MapBatches(Dataset):
    """Item `position` is the micro-batch that begins there in the endless shuffled stream."""

    def __init__(self, dataset: Any, collate_fn: Collate, batch_size: int, seed: int):
        self.dataset, self.collate_fn, self.batch_size, self.seed = (
            dataset,
            collate_fn,
            batch_size,
            seed,
        )
        self._orders: dict[int, torch.Tensor] = {}

    def _order(self, epoch: int) -> torch.Tensor:
        if epoch not in self._orders:
            # A batch may straddle two passes, so keep the order of the one before.
            self._orders = {e: order for e, order in self._orders.items() if e == epoch - 1}
            generator = torch.Generator().manual_seed(self.seed * 1_000_003 + epoch)
            self._orders[epoch] = torch.randperm(len(self.dataset), generator=generator)
        return self._orders[epoch]

    def _indices(self, position: int) -> list[int]:
        indices: list[int] = []
        while len(indices) < self.batch_size:
            epoch, offset = divmod(position + len(indices), len(self.dataset))
            missing = self.batch_size - len(indices)
            indices += self._order(epoch)[offset : offset + missing].tolist()
        return indices

    def __getitem__(self, position: int) -> dict[str, Any]:
        indices = self._indices(position)
        with seeded(self.seed, position):
            if hasattr(
                self.dataset, "__getitems__"
            ):  # one read for the whole batch, as in PyTorch's own fetcher
                return self.collate_fn(self.dataset.__getitems__(indices))
            return self.collate_fn([self.dataset[index] for index in indices])


class _StreamBatches(IterableDataset):
    """Micro-batches of an iterable data set, those that begin at `positions`.

    The examples between them are read and dropped.

    Reading again from the start is the one way to resume that is exact for every data set, shuffle
    buffers included.
    """

    def __init__(
        self,
        dataset: Any,
        collate_fn: Collate,
        batch_size: int,
        seed: int,
        positions: range,
        one_pass: bool,
    ):
        self.dataset, self.collate_fn, self.batch_size, self.seed = (
            dataset,
            collate_fn,
            batch_size,
            seed,
        )
        self.positions, self.one_pass = positions, one_pass

    def _examples(self) -> Iterator[Any]:
        for epoch in itertools.count():
            if hasattr(self.dataset, "set_epoch"):
                self.dataset.set_epoch(epoch)
            number = 0
            for number, example in enumerate(self.dataset, start=1):  # noqa: B007, the last value is used below
                yield example
            if number < self.batch_size:
                raise ValueError(
                    f"train_dataset gave {number} examples in pass {epoch + 1}, fewer than one "
                    f"batch of {self.batch_size}; iterated again, it must give all of them again"
                )
            if self.one_pass:
                return

    def __iter__(self) -> Iterator[dict[str, Any]]:
        examples = self._examples()
        for position in range(0, self.positions.stop, self.batch_size):
            batch = None
            with seeded(self.seed, position):
                chosen = list(itertools.islice(examples, self.batch_size))
                if len(chosen) < self.batch_size:
                    return
                if position in self.positions:
                    batch = self.collate_fn(chosen)
            if batch is not None:
                yield batch


def train_loader(
    dataset: Any,
    collate_fn: Collate | None,
    batch_size: int,
    *,
    seed: int,
    rank: int = 0,
    num_ranks: int = 1,
    start: int = 0,
    num_examples: int | None = None,
    num_workers: int = 0,
    pin_memory: bool = False,
) -> DataLoader:
    """Micro-batches of one rank.

    Args:
        dataset: map-style or iterable; a `set_epoch` method of an iterable one is called before
            each pass.
        collate_fn: list of examples to batch; PyTorch's default if None. It and the data set may
            draw from the global generators of `random`, `numpy` and `torch`, which are seeded for
            each batch.
        batch_size: examples in one micro-batch.
        seed: seed of the order and of each batch.
        rank: which process this is.
        num_ranks: number of processes; each takes every `num_ranks`-th micro-batch.
        start: position in the stream, in examples, to begin at: what all ranks together have used
            so far.
        num_examples: position to stop at; None for one pass over the data.
        num_workers: worker processes. An iterable data set is read by one at most, since the stream
            has one order.
        pin_memory: copy batches to page-locked memory.

    Returns:
        A loader that yields what `collate_fn` returns.
    """
    collate_fn = collate_fn or default_collate
    one_pass = num_examples is None
    is_map_style = is_sized_map(dataset)
    # 2**62 stands for the unknown length of an iterable data set, which ends its one pass itself.
    stop = (
        num_examples
        if num_examples is not None
        else len(dataset) - batch_size + 1
        if is_map_style
        else 2**62
    )
    positions = range(start + rank * batch_size, stop, num_ranks * batch_size)
    batches: Dataset = (
        _MapBatches(dataset, collate_fn, batch_size, seed)
        if is_map_style
        else _StreamBatches(dataset, collate_fn, batch_size, seed, positions, one_pass)
    )
    return DataLoader(
        batches,
        batch_size=None,
        sampler=positions if is_map_style else None,
        num_workers=num_workers if is_map_style else min(num_workers, 1),
        pin_memory=pin_memory,
        # Without its own generator, building an iterator draws from the global one and shifts the
        # model's noise.
        generator=torch.Generator().manual_seed(seed),
    )


def is_sized_map(dataset: Any) -> bool:
    """Whether the data set has a length and is read by index."""
    return (
        isinstance(dataset, Sized)
        and hasattr(dataset, "__getitem__")
        and not isinstance(dataset, IterableDataset)
    )


def check_dataset(name: str, dataset: Any, batch_size: int) -> None:
    """Raise unless a data set of known length fills a batch, or an unsized one can be iterated."""
    if is_sized_map(dataset):
        if len(dataset) < batch_size:
            raise ValueError(
                f"{name} has {len(dataset)} examples, expected at least one batch of {batch_size}"
            )
    elif not isinstance(dataset, Iterable):
        raise ValueError(
            f"{name} is a {type(dataset).__name__}, which can be neither indexed nor iterated"
        )


def num_examples(batch: dict[str, Any]) -> int:
    """Examples in a batch: the first dimension of its first tensor."""
    for value in batch.values():
        if torch.is_tensor(value) and value.ndim:
            return len(value)
    raise ValueError(f"the batch holds no tensor with a batch dimension, only {', '.join(batch)}")
