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
"""What a run keeps besides the model: averages, progress, and its checkpoint folders."""

import dataclasses
import json
import re
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import nn

from .training_config import TrainingConfig

STATE_FILE = "trainer_state.json"


@dataclasses.dataclass
class Progress:
    """Where a run stands; saved with each checkpoint."""

    step: int = 0
    examples_seen: int = 0
    best_metric: float | None = None
    best_step: int | None = None
    evaluations_without_improvement: int = 0
    last_metrics: dict[str, float] = dataclasses.field(default_factory=dict)
    last_loss: float | None = None


class WeightAverage:
    """Exponential moving average of the trainable parameters.

    Buffers, such as EMA codebooks, stay the model's own.

    The decay starts low, at 0.1, so that the average soon forgets the initial weights.
    """

    def __init__(self, model: nn.Module, decay: float):
        self.decay = decay
        self.num_updates = 0
        self.parameters: list[torch.Tensor] = [p for p in model.parameters() if p.requires_grad]
        self.average = [p.detach().clone() for p in self.parameters]

    @torch.no_grad()
    def update(self) -> None:
        """Move the average towards the parameters; once per step."""
        decay = min(self.decay, (1 + self.num_updates) / (10 + self.num_updates))
        torch._foreach_lerp_(self.average, self.parameters, 1 - decay)
        self.num_updates += 1

    @contextmanager
    def swapped_in(self) -> Iterator[None]:
        """Give the model the averaged weights inside the block, and its own again after it."""
        own = [p.detach().clone() for p in self.parameters]
        self._set(self.average)
        try:
            yield
        finally:
            self._set(own)

    @torch.no_grad()
    def _set(self, values: list[torch.Tensor]) -> None:
        for parameter, value in zip(self.parameters, values, strict=True):
            parameter.copy_(value)

    def state_dict(self) -> dict[str, Any]:
        """What `load_state_dict` takes."""
        return {"num_updates": self.num_updates, "average": self.average}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a `state_dict`."""
        self.num_updates = state["num_updates"]
        for own, value in zip(self.average, state["average"], strict=True):
            own.copy_(value)


class Window:
    """Averages of logged values since the last log line, on the device until they are read."""

    def __init__(self, accelerator: Accelerator):
        self.accelerator = accelerator
        self.bad_step = torch.zeros((), dtype=torch.int64, device=accelerator.device)
        self.clear()

    def clear(self) -> None:
        """Begin a new window."""
        self.sums: dict[str, torch.Tensor] = {}
        self.num_steps = 0
        self.restart_clock()

    def restart_clock(self) -> None:
        """Leave out of the speed what is not training."""
        self.clock, self.clock_steps = time.monotonic(), self.num_steps

    def add(self, fields: dict[str, torch.Tensor], share: torch.Tensor | float) -> None:
        """Add values that count by `share`; the shares of one step add up to 1 over all ranks."""
        for name, value in fields.items():
            self.sums[name] = self.sums.get(name, 0.0) + value.detach().float() * share

    def end_step(self, step: int, grad_norm: torch.Tensor | float | None) -> None:
        """Count a step, and remember the first one with a loss or gradient that is not finite."""
        self.num_steps += 1
        finite = torch.isfinite(self.sums["loss"])
        if grad_norm is not None:  # DeepSpeed may have none
            grad_norm = torch.as_tensor(grad_norm, device=self.accelerator.device)
            self.add({"grad_norm": grad_norm}, 1 / self.accelerator.num_processes)
            if (
                self.accelerator.scaler is None
            ):  # with a scaler, an infinite norm is a skipped step, not a lost run
                finite = finite & torch.isfinite(grad_norm)
        self.bad_step = torch.where(finite | (self.bad_step > 0), self.bad_step, step)

    def first_bad_step(self) -> int | None:
        """The first step that was not finite on some rank, if there was one."""
        steps = [
            step for step in self.accelerator.gather(self.bad_step.reshape(1)).tolist() if step
        ]
        return min(steps, default=None)

    def averages(self) -> dict[str, float]:
        """Mean of each value over the steps of the window."""
        return {name: value / self.num_steps for name, value in self.state()["sums"].items()}

    def describe(self) -> str:
        """The averages in one line."""
        return ", ".join(f"{name} {value:.4g}" for name, value in self.averages().items())

    def steps_per_second(self) -> float:
        """Speed since the clock was restarted."""
        return (self.num_steps - self.clock_steps) / max(time.monotonic() - self.clock, 1e-9)

    def state(self) -> dict[str, Any]:
        """Sums over ranks. Rank 0 goes on with them and the others with zero, as after resuming."""
        if not self.sums:
            return {"sums": {}, "num_steps": self.num_steps}
        names = sorted(self.sums)
        totals = self.accelerator.reduce(torch.stack([self.sums[name] for name in names]), "sum")
        own = totals * float(self.accelerator.is_main_process)
        self.sums = dict(zip(names, own.unbind(), strict=True))
        return {"sums": dict(zip(names, totals.tolist(), strict=True)), "num_steps": self.num_steps}

    def load_state(self, state: dict[str, Any]) -> None:
        """Restore a `state`."""
        factor = float(self.accelerator.is_main_process)
        self.sums = {
            k: torch.tensor(v * factor, device=self.accelerator.device)
            for k, v in state["sums"].items()
        }
        self.num_steps = state["num_steps"]


def scalar_fields(output: Any) -> dict[str, torch.Tensor]:
    """The loss and every other 0-dim floating point field of a model's output."""
    fields = dict(output) if isinstance(output, Mapping) else vars(output)
    scalars = {
        k: v
        for k, v in fields.items()
        if torch.is_tensor(v) and v.ndim == 0 and v.is_floating_point()
    }
    if "loss" not in scalars:
        raise ValueError(f"the model's output needs a 0-dim `loss`, got fields {', '.join(fields)}")
    return scalars


def complete_checkpoints(output_dir: str | Path) -> list[Path]:
    """The checkpoints of a run by step number, without half-written ones."""
    paths = [
        path for path in Path(output_dir).glob("checkpoint-*") if (path / STATE_FILE).is_file()
    ]
    return sorted((path for path in paths if _is_numbered(path)), key=step_of)


def _is_numbered(path: Path) -> bool:
    return re.fullmatch(r"checkpoint-\d+", path.name) is not None


def step_of(checkpoint: Path) -> int:
    """The step at which a checkpoint was saved, by the name that it has in `output_dir`."""
    return int(checkpoint.name.rpartition("-")[2])


def read_state(checkpoint: Path) -> dict[str, Any]:
    """What a checkpoint says of its run; transformers' Trainer has a file of the same name."""
    state = json.loads((checkpoint / STATE_FILE).read_text(encoding="utf-8"))
    if "progress" not in state:
        raise ValueError(f"cannot resume from {checkpoint}: hf_vq.training did not write it")
    return state


def checkpoint_to_resume(config: TrainingConfig) -> Path | None:
    """The checkpoint that the options mean; an error rather than overwriting another run."""
    output_dir, wanted = Path(config.output_dir), config.resume_from_checkpoint
    present = complete_checkpoints(output_dir)
    if wanted == "latest":
        # What a run writes last: one that was killed before it may begin again.
        results = output_dir / "all_results.json"
        if not present and results.exists():
            raise ValueError(
                f"output_dir holds a finished run ({results}) and no checkpoint to go on from: choose another one"
            )
        return present[-1] if present else None
    checkpoint = None if wanted is None else Path(wanted)
    if checkpoint is not None:
        if not (checkpoint / STATE_FILE).is_file():
            raise ValueError(
                f"resume_from_checkpoint is {wanted!r}, which holds no complete checkpoint"
            )
        if checkpoint.resolve().parent == output_dir.resolve():
            later = [
                path
                for path in present
                if step_of(path) > read_state(checkpoint)["progress"]["step"]
            ]
            if later:
                raise ValueError(
                    f"output_dir holds {later[-1]}, which this run would overwrite: choose another one"
                )
            return checkpoint
    # A run that begins in this folder. A checkpoint of other people counts even if it is none of ours.
    numbered = [path for path in output_dir.glob("checkpoint-*") if _is_numbered(path)]
    taken = [
        path for path in (*numbered, output_dir / "best", output_dir / "final") if path.exists()
    ]
    if taken:
        raise ValueError(
            f"output_dir holds another run ({taken[0]}): choose another one, "
            "or set resume_from_checkpoint: latest"
        )
    return checkpoint


def unfinished(target: Path) -> Path:
    """Where a folder is written before `publish` gives it its name."""
    return target.with_name(f".unfinished-{target.name}")


def publish(target: Path) -> None:
    """Rename a finished folder; a kill meanwhile leaves the old one, the new one, or both."""
    replaced = target.with_name(f".replaced-{target.name}")
    if target.exists():
        target.rename(replaced)
    unfinished(target).rename(target)
    shutil.rmtree(replaced, ignore_errors=True)


def delete_old_checkpoints(output_dir: Path, limit: int, best_step: int | None) -> None:
    """Keep `limit` checkpoints: the best and the newest in any case, then the next newest."""
    checkpoints = complete_checkpoints(output_dir)
    kept = {path for path in checkpoints if step_of(path) == best_step} | {checkpoints[-1]}
    for path in reversed(checkpoints):
        if path not in kept and len(kept) >= limit:
            shutil.rmtree(path)
        else:
            kept.add(path)


def tidy_output_dir(output_dir: Path, step: int) -> None:
    """Drop what a killed run left half-written, and log lines after `step`."""
    output_dir.mkdir(parents=True, exist_ok=True)
    for replaced in output_dir.glob(".replaced-*"):
        target = output_dir / replaced.name.removeprefix(".replaced-")
        if not target.exists():
            replaced.rename(target)
    for left_over in (*output_dir.glob(".replaced-*"), *output_dir.glob(".unfinished-*")):
        if left_over.is_file():
            left_over.unlink()
        else:
            shutil.rmtree(left_over)
    log = output_dir / "log.jsonl"
    lines = log.read_text(encoding="utf-8").splitlines(keepends=True) if log.exists() else []
    # A line that was being written during a kill has no line end.
    kept = [line for line in lines if line.endswith("\n") and json.loads(line)["step"] <= step]
    write_whole(log, "".join(kept))


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file, whole or not at all."""
    write_whole(path, json.dumps(content, indent=2))


def write_whole(path: Path, text: str) -> None:
    """Write a file such that a kill leaves the old one or the new one, and no part of it."""
    part = path.with_name(f".unfinished-{path.name}")
    part.write_text(text, encoding="utf-8")
    part.replace(path)
