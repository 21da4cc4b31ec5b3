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
"""One Accelerate loop for any model whose output has `.loss`.

    config = TrainingConfig(output_dir="runs/a", max_steps=1000)
    results = train(model, train_dataset, config, eval_dataset=held_out)

A step is one update of the weights: `gradient_accumulation_steps` micro-batches on each process,
together the gradient of one large batch. `output_dir` then holds `checkpoint-<step>` (everything
needed to continue), `best` and `final` (`save_pretrained` folders), `log.jsonl` and
`all_results.json`. On several GPUs, start the script with `accelerate launch --config_file` and a
file of `hf_vq.training.accelerate_config_path`, or with `torchrun`.
"""

import json
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch

from ._extras import require

require("accelerate", extra="train")

# ruff: noqa: E402  the imports below need the extra
from accelerate import Accelerator
from accelerate.logging import get_logger
from accelerate.utils import (
    DistributedType,
    broadcast_object_list,
    extract_model_from_parallel,
    send_to_device,
    set_seed,
    tqdm,
)
from torch import nn
from torch.utils.data import DataLoader

from .training_config import TrainingConfig, accelerate_config_path, parse_config
from .training_data import Collate, check_dataset, is_sized_map, num_examples, seeded, train_loader
from .training_setup import (
    broadcast_model,
    build_accelerator,
    build_optimizer,
    build_scheduler,
    wrap,
)
from .training_state import (
    STATE_FILE,
    Progress,
    WeightAverage,
    Window,
    checkpoint_to_resume,
    complete_checkpoints,
    delete_old_checkpoints,
    publish,
    read_state,
    scalar_fields,
    tidy_output_dir,
    unfinished,
    write_json,
)

__all__ = ["TrainingConfig", "accelerate_config_path", "evaluate_loss", "parse_config", "train"]

logger = get_logger(__name__)

Evaluate = Callable[[nn.Module, DataLoader, Accelerator], dict[str, float]]
BatchWeight = Callable[[dict[str, Any]], int | torch.Tensor]
BeforeTraining = Callable[[Accelerator, nn.Module, Iterable[dict[str, Any]]], None]
# Options that say where a run goes and how it is watched, not what it computes.
NEUTRAL_OPTIONS = {
    "output_dir",
    "resume_from_checkpoint",
    "report_to",
    "project_name",
    "progress_bar",
}


def train(
    model: nn.Module,
    train_dataset: Any,
    config: TrainingConfig,
    *,
    eval_dataset: Any = None,
    collate_fn: Collate | None = None,
    eval_collate_fn: Collate | None = None,
    evaluate: Evaluate | None = None,
    processor: Any = None,
    before_training: BeforeTraining | None = None,
    batch_weight: BatchWeight | None = None,
) -> dict[str, Any]:
    """Train a model and leave its checkpoints, logs and results in `config.output_dir`.

    Args:
        model: called as `model(**batch)`; its output has `loss`, 0-dim, a mean over the batch.
            Every other 0-dim floating point field of the output is logged.
        train_dataset: map-style or iterable, of what `collate_fn` takes; iterable ones must restart
            when iterated again.
        config: the options.
        eval_dataset: held-out data.
        collate_fn: list of examples to the dict that the model takes; PyTorch's default if None.
        eval_collate_fn: the same for `eval_dataset`, for example without augmentation; `collate_fn`
            if None.
        evaluate: `(model, loader, accelerator)` to a dict of floats; the mean loss if None. It gets
            the model itself, in eval mode, without gradients.
        processor: saved beside the model.
        before_training: `(accelerator, model, loader)`, called once and not on resuming, for example
            to initialize a codebook. Each iteration over the loader gives one pass of training
            batches. What the call does to rank 0's model holds for all ranks.
        batch_weight: how many items the loss of a batch is the mean of, for example its label
            tokens; its examples if None. Micro-batches count by this weight.

    Returns:
        The content of `all_results.json`.

    Raises:
        FloatingPointError: if the loss or the gradient is not finite; the message names the last
            good checkpoint.
    """
    collates = collate_fn, eval_collate_fn or collate_fn
    run = _Run(model, train_dataset, config, eval_dataset, collates, processor)
    run.evaluate = evaluate or evaluate_loss
    run.batch_weight = batch_weight or num_examples
    try:
        run.start(before_training)
        return run.loop()
    finally:
        run.release()


def evaluate_loss(
    model: nn.Module, loader: DataLoader, accelerator: Accelerator
) -> dict[str, float]:
    """Mean loss over a data set; see `evaluate_means`."""
    return {"loss": evaluate_means(model, loader, accelerator)["loss"]}


@torch.no_grad()
def evaluate_means(
    model: nn.Module, loader: DataLoader, accelerator: Accelerator
) -> dict[str, float]:
    """Mean over a data set of the loss and of every other 0-dim floating point field of the output.

    The examples with which the last batch is filled up, so that all ranks have one, do not count.
    """
    totals: dict[str, torch.Tensor] = {}
    number = torch.zeros((), device=accelerator.device)
    for batch in loader:
        size = num_examples(batch)
        valid, state = size, accelerator.gradient_state
        if state.end_of_dataloader and state.remainder > 0:
            valid = min(max(state.remainder - accelerator.process_index * size, 0), size)
        if 0 < valid < size:
            batch = {k: v[:valid] if torch.is_tensor(v) and v.ndim else v for k, v in batch.items()}
        # A rank without any example left still takes part: a sharded model needs all ranks in its
        # forward.
        for name, value in scalar_fields(model(**batch)).items():
            share = value.to(number) * valid if valid else torch.zeros_like(number)
            totals[name] = totals.get(name, 0.0) + share
        number += valid
    sums = accelerator.reduce(torch.stack([*totals.values(), number]), "sum").tolist()
    return {name: total / sums[-1] for name, total in zip(totals, sums, strict=False)}


class _Run:
    """The parts of one training run, and the methods that `train` calls on them."""

    evaluate: Evaluate
    batch_weight: BatchWeight

    def __init__(
        self,
        model: nn.Module,
        train_dataset: Any,
        config: TrainingConfig,
        eval_dataset: Any,
        collates: tuple[Collate | None, Collate | None],
        processor: Any,
    ):
        self.config, self.processor = config, processor
        self.output_dir = Path(config.output_dir)
        self.resume_from = checkpoint_to_resume(config)
        self.accelerator = accelerator = build_accelerator(config)
        self.micro_batch = config.per_device_train_batch_size
        self.global_batch = (
            self.micro_batch * accelerator.num_processes * config.gradient_accumulation_steps
        )
        check_dataset("train_dataset", train_dataset, self.micro_batch * accelerator.num_processes)
        self.train_dataset, self.collate_fn = train_dataset, collates[0]
        length = len(train_dataset) if is_sized_map(train_dataset) else None
        self.max_steps = config.count_steps(length, self.accelerator.num_processes)
        if eval_dataset is None and config.eval_steps is not None:
            raise ValueError(f"eval_steps is {config.eval_steps}, but there is no eval_dataset")
        self.eval_loader: DataLoader | None = None
        if eval_dataset is not None:
            check_dataset("eval_dataset", eval_dataset, 1)
            loader = DataLoader(
                eval_dataset,
                config.per_device_eval_batch_size,
                collate_fn=collates[1],
                # Workers of an iterable data set would each read all of it.
                num_workers=config.dataloader_num_workers if is_sized_map(eval_dataset) else 0,
            )
            self.eval_loader = accelerator.prepare_data_loader(loader)

        self.compiled = config.torch_compile or hasattr(model, "_orig_mod")
        self.model = extract_model_from_parallel(model, keep_torch_compile=False).to(
            accelerator.device
        )
        self.wrapped = self.model
        if config.gradient_checkpointing:
            if not hasattr(self.model, "gradient_checkpointing_enable"):
                raise ValueError(
                    f"gradient_checkpointing: {type(self.model).__name__} does not offer it"
                )
            self.model.gradient_checkpointing_enable()
        if self.compiled:
            # In place, unlike torch.compile(model): names in the state dict stay what they are.
            self.model.compile(backend=config.torch_compile_backend)
        self.progress = Progress()
        self.average: WeightAverage | None = None
        self.window = Window(accelerator)
        self.deferring = [m for m in self.model.modules() if hasattr(m, "apply_update")]

    def start(self, before_training: BeforeTraining | None) -> None:
        """Initialize or resume, and hand model and optimizer to Accelerate."""
        accelerator, config = self.accelerator, self.config
        # Every rank has looked into output_dir before one of them writes there.
        accelerator.wait_for_everyone()
        set_seed(config.seed, device_specific=True)
        self.model.train()
        if before_training is not None and self.resume_from is None:
            before_training(accelerator, self.model, self._loader(one_pass=True))
        if accelerator.num_processes > 1:
            broadcast_model(self.model)
        self._prepare()
        for module in self.deferring:
            module.deferred_update = True
        if self.resume_from is not None:
            self._resume(self.resume_from)
        if accelerator.is_main_process:
            tidy_output_dir(self.output_dir, self.progress.step)
        settings = {
            k: v if isinstance(v, (int, float, str)) else str(v) for k, v in vars(config).items()
        }
        accelerator.init_trackers(config.project_name, config=settings)

    def _prepare(self) -> None:
        accelerator, config = self.accelerator, self.config
        optimizer = build_optimizer(self.model, config)
        self.scheduler = build_scheduler(optimizer, config, self.max_steps)
        self.wrapped, self.optimizer = wrap(accelerator, self.model, optimizer, config)
        self.model = accelerator.unwrap_model(self.wrapped)
        accelerator.register_for_checkpointing(self.scheduler)
        if config.ema_weights_decay is not None:
            if accelerator.distributed_type in (DistributedType.FSDP, DistributedType.DEEPSPEED):
                kind = accelerator.distributed_type.value
                raise ValueError(f"ema_weights_decay does not work with {kind}: use ddp")
            self.average = WeightAverage(self.model, config.ema_weights_decay)
            accelerator.register_for_checkpointing(self.average)

    def _loader(self, one_pass: bool = False) -> Iterable[dict[str, Any]]:
        accelerator, seen = self.accelerator, self.progress.examples_seen
        remaining = (self.max_steps - self.progress.step) * self.global_batch
        loader = train_loader(
            self.train_dataset,
            self.collate_fn,
            self.micro_batch,
            seed=self.config.seed,
            rank=accelerator.process_index,
            num_ranks=accelerator.num_processes,
            start=0 if one_pass else seen,
            num_examples=None if one_pass else seen + remaining,
            num_workers=self.config.dataloader_num_workers,
            pin_memory=accelerator.device.type == "cuda",
        )
        return _OnDevice(loader, accelerator.device)

    def loop(self) -> dict[str, Any]:
        """Take all steps, evaluating, logging and saving on the way."""
        config, progress = self.config, self.progress
        batches = iter(self._loader())
        self.window.restart_clock()
        started, first_step = time.monotonic(), progress.step
        with tqdm(
            total=self.max_steps, initial=progress.step, disable=not config.progress_bar
        ) as bar:
            while not self._is_finished():
                self._take_step([next(batches) for _ in range(config.gradient_accumulation_steps)])
                last = progress.step == self.max_steps
                if last or self._is_due(config.logging_steps):
                    bar.set_postfix(loss=f"{self._log_window():.4g}")
                if self.eval_loader is not None and (last or self._is_due(config.eval_steps)):
                    self._evaluate(self.eval_loader)
                if config.checkpointing_steps and (
                    self._is_finished() or self._is_due(config.checkpointing_steps)
                ):
                    self._save_checkpoint()
                bar.update()
        seconds = time.monotonic() - started
        return self._finish(seconds, (progress.step - first_step) * self.global_batch / seconds)

    def _is_due(self, every: int | None) -> bool:
        return every is not None and self.progress.step % every == 0

    def _is_finished(self) -> bool:
        patience = self.config.early_stopping_patience
        stopped = patience is not None and self.progress.evaluations_without_improvement >= patience
        return stopped or self.progress.step >= self.max_steps

    def _take_step(self, micro_batches: list[dict[str, Any]]) -> None:
        """One update from the micro-batches of all ranks, each weighted by its share of items."""
        accelerator = self.accelerator
        counts = [self.batch_weight(batch) for batch in micro_batches]
        weights = torch.stack(
            [torch.as_tensor(w, dtype=torch.float32, device=accelerator.device) for w in counts]
        )
        shares = weights / accelerator.reduce(weights.sum(), "sum")
        # Undoes the division by accumulation steps in `backward` and the mean over ranks in DDP and
        # FSDP.
        scale = accelerator.gradient_accumulation_steps * accelerator.num_processes
        for batch, share in zip(micro_batches, shares, strict=True):
            with accelerator.accumulate(self.wrapped):
                fields = scalar_fields(self.wrapped(**batch))
                accelerator.backward(fields["loss"] * (share * scale))
                self.window.add(fields, share)
                if accelerator.sync_gradients:
                    clip = self.config.max_grad_norm or math.inf
                    norm = accelerator.clip_grad_norm_(self.wrapped.parameters(), clip)
                self.optimizer.step()
                self.optimizer.zero_grad()
        if not self.optimizer.step_was_skipped:
            self.scheduler.step()
        for module in self.deferring:
            module.apply_update()
        if self.average is not None:
            self.average.update()
        self.progress.step += 1
        self.progress.examples_seen += self.global_batch
        self.window.end_step(self.progress.step, norm)

    def _log_window(self) -> float:
        self._check_finite()
        progress, averages = self.progress, self.window.averages()
        values = {
            "step": progress.step,
            "learning_rate": self.scheduler.get_last_lr()[0],
            **averages,
        }
        if is_sized_map(self.train_dataset):
            values["epoch"] = progress.examples_seen / len(self.train_dataset)
        values["examples_per_second"] = self.window.steps_per_second() * self.global_batch
        self.window.clear()
        progress.last_loss = averages["loss"]
        self._write_log(values, "train")
        return averages["loss"]

    def _write_log(self, values: Mapping[str, Any], tracker_prefix: str) -> None:
        if self.accelerator.is_main_process:
            with open(self.output_dir / "log.jsonl", "a", encoding="utf-8") as file:
                file.write(json.dumps(values) + "\n")
        tracked = {
            f"{tracker_prefix}/{k.removeprefix('eval_')}": v
            for k, v in values.items()
            if k != "step"
        }
        self.accelerator.log(tracked, step=self.progress.step)

    def _check_finite(self) -> None:
        bad_step = self.window.first_bad_step()
        if bad_step is None:
            return
        good = complete_checkpoints(self.output_dir)
        where = (
            f"the last good checkpoint is {good[-1]}" if good else "no checkpoint had been saved"
        )
        raise FloatingPointError(
            f"loss or gradient is not finite at step {bad_step} ({self.window.describe()}); "
            f"{where}. "
            "A lower learning_rate or max_grad_norm, or bf16 in place of fp16, may help."
        )

    def _evaluate(self, loader: DataLoader) -> None:
        """Evaluate, with the averaged weights if there are any, and save the best model."""
        self._check_finite()
        progress = self.progress
        # Seeded, so that evaluations compare, and so that training goes on as if there were none.
        with (
            self._export_weights(),
            seeded(self.config.seed, device=self.accelerator.device),
            torch.no_grad(),
        ):
            self.model.eval()
            metrics = self.evaluate(self.model, loader, self.accelerator)
            self.model.train()
        # Rank 0 decides for all, or ranks could part ways over the last digit.
        metrics = broadcast_object_list([{k: float(v) for k, v in metrics.items()}])[0]
        progress.last_metrics = {f"eval_{k.removeprefix('eval_')}": v for k, v in metrics.items()}
        self._write_log({"step": progress.step, **progress.last_metrics}, "eval")
        metric = self._metric()
        if self._is_best(metric):
            progress.best_metric, progress.best_step = metric, progress.step
            progress.evaluations_without_improvement = 0
            self._export("best")
        else:
            progress.evaluations_without_improvement += 1
        self.window.restart_clock()

    def _metric(self) -> float:
        name = f"eval_{(self.config.metric_for_best_model or 'loss').removeprefix('eval_')}"
        if name not in self.progress.last_metrics:
            if self.config.checkpointing_steps is not None:
                self._save_checkpoint()  # the steps so far are worth keeping
            known = ", ".join(self.progress.last_metrics)
            raise ValueError(f"metric_for_best_model is {name!r}, but the evaluation gave {known}")
        return self.progress.last_metrics[name]

    def _is_best(self, metric: float) -> bool:
        best = self.progress.best_metric
        if math.isnan(metric):
            return False
        return best is None or (metric > best if self.config.greater_is_better else metric < best)

    def _export_weights(self) -> AbstractContextManager[None]:
        return self.average.swapped_in() if self.average is not None else nullcontext()

    def _export(self, name: str) -> None:
        """Write the model and its processor to `output_dir/name`, which is never half there."""
        accelerator, temporary = self.accelerator, unfinished(self.output_dir / name)
        with self._export_weights():
            if hasattr(self.model, "save_pretrained"):
                self.model.save_pretrained(
                    temporary,
                    is_main_process=accelerator.is_main_process,
                    state_dict=accelerator.get_state_dict(self.wrapped),
                    save_function=accelerator.save,
                )
            else:
                accelerator.save_model(self.wrapped, temporary)
        if accelerator.is_main_process and self.processor is not None:
            self.processor.save_pretrained(temporary)
        self._publish(self.output_dir / name)

    def _save_checkpoint(self) -> None:
        self._check_finite()
        name = f"checkpoint-{self.progress.step}"
        temporary, window = unfinished(self.output_dir / name), self.window.state()
        self.accelerator.save_state(str(temporary))
        if self.accelerator.is_main_process:
            state = {"progress": vars(self.progress), "window": window, "config": vars(self.config)}
            state["num_processes"] = self.accelerator.num_processes
            (temporary / STATE_FILE).write_text(json.dumps(state, indent=2), encoding="utf-8")
        self._publish(self.output_dir / name)
        if self.accelerator.is_main_process and self.config.checkpoints_total_limit is not None:
            limit = self.config.checkpoints_total_limit
            delete_old_checkpoints(self.output_dir, limit, self.progress.best_step)
        self.window.restart_clock()

    def _publish(self, target: Path) -> None:
        self.accelerator.wait_for_everyone()  # all ranks have written their part
        if self.accelerator.is_main_process:
            publish(target)
        self.accelerator.wait_for_everyone()

    def _resume(self, checkpoint: Path) -> None:
        state = read_state(checkpoint)
        if state["num_processes"] != self.accelerator.num_processes:
            raise ValueError(
                f"{checkpoint} was written by {state['num_processes']} processes, "
                f"this run has {self.accelerator.num_processes}"
            )
        changed = {k: v for k, v in state["config"].items() if vars(self.config).get(k) != v}
        for name in changed.keys() - NEUTRAL_OPTIONS:
            logger.warning("%s was %s, now %s", name, changed[name], vars(self.config).get(name))
        try:
            self.accelerator.load_state(str(checkpoint))
        except Exception as error:
            raise ValueError(f"cannot resume from {checkpoint}: {error}") from error
        self.progress = Progress(**state["progress"])
        self.window.load_state(state["window"])
        logger.info("Resumed at step %d from %s", self.progress.step, checkpoint)

    def _finish(self, seconds: float, examples_per_second: float) -> dict[str, Any]:
        progress = self.progress
        self._export("final")
        results = {
            "step": progress.step,
            "examples_seen": progress.examples_seen,
            "stopped_early": progress.step < self.max_steps,
            "train_loss": progress.last_loss,
            **progress.last_metrics,
            "best_metric": progress.best_metric,
            "best_step": progress.best_step,
            "best_model": str(self.output_dir / "best") if progress.best_step is not None else None,
            "final_model": str(self.output_dir / "final"),
            "num_parameters": sum(p.numel() for p in self.model.parameters()),
            "num_processes": self.accelerator.num_processes,
            "train_seconds": seconds,
            "examples_per_second": examples_per_second,
            "config": vars(self.config),
        }
        if self.accelerator.is_main_process:
            write_json(self.output_dir / "all_results.json", results)
        return results

    def release(self) -> None:
        """Give the caller's model back: no autocast, no compilation, no deferred updates."""
        for module in self.deferring:
            module.deferred_update = False
        self.accelerator.unwrap_model(self.wrapped, keep_fp32_wrapper=False)
        # Accelerate takes off its own wrappers of `forward` and with them the decorators below, such as the one that
        # reads `return_dict`: without an attribute of the instance the class's own method is back.
        vars(self.model).pop("forward", None)
        if self.compiled:
            self.model._compiled_call_impl = None
        # Not end_training(), which would take the process group away from whoever evaluates next.
        for tracker in getattr(self.accelerator, "trackers", []):
            tracker.finish()
        self.accelerator.free_memory()


class _OnDevice:
    """A loader whose batches are moved to a device."""

    def __init__(self, loader: DataLoader, device: torch.device):
        self.loader, self.device = loader, device

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for batch in self.loader:
            yield send_to_device(batch, self.device, non_blocking=True)
