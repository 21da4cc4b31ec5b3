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
"""Two ranks on the CPU compute what one rank computes with the whole batch.

All scenarios share one start of two processes, since that start is what takes the time.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch.testing import assert_close

from from_file import load_module

ROOT = Path(__file__).parents[1]
WORKER = Path(__file__).with_name("training_worker.py")

pytestmark = pytest.mark.usefixtures("accelerate_state")


@pytest.fixture(scope="module")
def worker() -> ModuleType:
    return load_module(WORKER)


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, Any]]]:
    """The folder of the two-process run, and what each rank left there."""
    output_dir = tmp_path_factory.mktemp("ranks")
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command = [*launcher, "--nproc_per_node", "2", str(WORKER), "ranks", str(output_dir)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr[-3000:]  # the worker fails unless there are two ranks
    return output_dir, [torch.load(output_dir / f"rank{rank}.pt") for rank in range(2)]


NAMES = ["linear", "ema", "stream", "gmvq_ema", "gmvq", "accumulated"]


def test_every_comparison_is_tested(worker):
    assert NAMES == list(worker.COMPARISONS)


@pytest.mark.parametrize("name", NAMES)
def test_two_ranks_give_the_update_of_one(name, ranks, worker, tmp_path):
    _, (first, second) = ranks
    alone = worker.comparison(name, tmp_path, num_ranks=1)
    assert set(first[name]["state"]) == set(alone["state"])
    for key, value in alone["state"].items():
        # Same weights and codebooks on both ranks to the last bit, else they would drift apart.
        assert torch.equal(first[name]["state"][key], second[name]["state"][key]), key
        assert_close(first[name]["state"][key], value, rtol=1e-4, atol=1e-6, msg=f"{name} {key}")
    if name != "gmvq":  # its aggregated-posterior KL is a term of the batch, which differs here
        # 9 held-out examples in batches of 2 x 4: what fills up the last one must not count.
        assert first[name]["eval_loss"] == pytest.approx(alone["eval_loss"], rel=1e-5)


@pytest.mark.parametrize("name", ["gmvq_ema", "gmvq", "ema"])
def test_the_comparison_moves_the_codebook(name, ranks, worker):
    _, (first, _) = ranks
    before = worker.COMPARISONS[name][0]().state_dict()
    moved = first[name]["state"]["quantizer.codebook"] - before["quantizer.codebook"]
    assert moved.abs().max() > 1e-4
    assert first[name]["state"]["quantizer.num_updates"] == 3


@pytest.mark.parametrize("name", ["linear", "accumulated"])
def test_log_and_learning_rate_do_not_depend_on_ranks(name, ranks, worker, tmp_path):
    folder, _ = ranks
    worker.comparison(name, tmp_path, num_ranks=1)
    logs = []
    for directory in (folder, tmp_path):
        lines = (directory / name / "log.jsonl").read_text().splitlines()
        logs.append([json.loads(line) for line in lines])
    assert len(logs[0]) == len(logs[1]) == 4  # three steps, one evaluation
    for here, there in zip(*logs, strict=True):
        assert set(here) == set(there)
        for key in set(here) - {"examples_per_second"}:
            assert here[key] == pytest.approx(there[key], rel=1e-4), key


def test_resuming_on_two_ranks_is_bit_exact(ranks):
    for result in ranks[1]:
        whole, halves = result["resumed"]
        for key, value in whole.items():
            assert torch.equal(value, halves[key]), key
    # The noise of the ranks is their own, and yet what they share stays equal.
    first, second = (result["resumed"][0]["quantizer.codebook"] for result in ranks[1])
    assert torch.equal(first, second)


def test_fully_sharded_step_equals_one_process(ranks, worker):
    alone = worker.fully_sharded_step(worker.QuantizedModel(0.0, 0.0), shard=False)
    for result in ranks[1]:
        for key, value in alone.items():
            assert_close(result["sharded"][key], value, rtol=1e-5, atol=1e-6, msg=key)


def test_all_ranks_stop_when_one_has_a_nan(ranks):
    for result in ranks[1]:
        assert "step 3" in result["nan"]


def test_broadcast_reaches_every_parameter_and_buffer(ranks):
    for result in ranks[1]:
        for key, value in result["broadcast"].items():
            assert (value == 1).all(), key


def test_hook_on_rank_0_holds_for_all(ranks):
    for result in ranks[1]:
        assert_close(result["initialized"], torch.tensor([10.0]))
