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
"""The training loop on toy models: exact updates, exact resuming, and errors before work is lost."""

import dataclasses
import importlib.util
import json
import logging
import math
import os
import random
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.utils import DistributedType
from safetensors.torch import load_file
from torch import nn
from torch.testing import assert_close
from transformers import get_scheduler

from from_file import load_module
from hf_vq.models import GMVQImageProcessor, GMVQModel, T5VQVAEForConditionalGeneration
from hf_vq.training import TrainingConfig, accelerate_config_path, parse_config, train
from hf_vq.training_data import train_loader
from hf_vq.training_setup import build_optimizer
from hf_vq.training_state import complete_checkpoints, write_json

ROOT = Path(__file__).parents[1]
WORKER = Path(__file__).with_name("training_worker.py")

pytestmark = pytest.mark.usefixtures("accelerate_state")


worker = load_module(WORKER)
LinearModel, Points, PointStream = worker.LinearModel, worker.Points, worker.PointStream
QuantizedModel, options = worker.QuantizedModel, worker.options


def read_log(output_dir: Path) -> list[dict[str, float]]:
    """The log without the one value that depends on the machine."""
    lines = (output_dir / "log.jsonl").read_text().splitlines()
    log = [json.loads(line) for line in lines]
    return [{k: v for k, v in line.items() if k != "examples_per_second"} for line in log]


def assert_same_state(model: nn.Module, other: nn.Module, exactly: bool = True) -> None:
    states = model.state_dict(), other.state_dict()
    assert states[0].keys() == states[1].keys()
    for key, value in states[0].items():
        if exactly:
            assert torch.equal(value, states[1][key]), key
        else:
            assert_close(value, states[1][key], rtol=1e-5, atol=1e-7, msg=key)


# --- gradient accumulation ------------------------------------------------------------------------


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize("accumulation", [2, 4])
@pytest.mark.parametrize("make_model", [LinearModel, lambda: QuantizedModel(0.0, 0.0)])
def test_accumulation_equals_the_large_batch(make_model, accumulation, optimizer, tmp_path):
    models = []
    for number in (1, accumulation):
        model = make_model()
        config = options(
            tmp_path / str(number),
            max_steps=6,  # more than one pass over 32 examples, at the end of which nothing changes
            per_device_train_batch_size=8 // number,
            gradient_accumulation_steps=number,
            optimizer=optimizer,
            max_grad_norm=0.5,
        )
        train(model, Points(), config)
        models.append(model)
    assert_same_state(*models, exactly=False)
    logs = [read_log(tmp_path / str(number)) for number in (1, accumulation)]
    for here, there in zip(*logs, strict=True):
        assert here == pytest.approx(there, rel=1e-4)


def drop_marked(examples: list[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """A collator that skips what it dislikes, so that batches differ in size."""
    kept = [example for example in examples if example["x"][0] < 0.9]
    return {key: torch.stack([example[key] for example in kept]) for key in ("x", "y")}


def test_unequal_micro_batches_count_by_their_examples(tmp_path):
    sizes, models = [], []
    for number in (1, 2):
        model = LinearModel()
        model.register_forward_pre_hook(
            lambda module, args, kwargs: sizes.append(len(kwargs["x"])), with_kwargs=True
        )
        config = options(
            tmp_path / str(number),
            per_device_train_batch_size=8 // number,
            gradient_accumulation_steps=number,
            optimizer="sgd",
        )
        train(model, Points(), config, collate_fn=drop_marked)
        models.append(model)
    micro_sizes = sizes[4:]
    assert micro_sizes[::2] != micro_sizes[1::2]
    assert_same_state(*models, exactly=False)


class TokenModel(nn.Module):
    """A mean over real tokens, not over examples."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(3))

    def forward(self, x: torch.Tensor, mask: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"loss": ((x * self.scale).square() * mask).sum() / mask.sum()}


def test_batch_weight_makes_token_means_exact(tmp_path):
    lengths = [1, 3, 2, 1, 1, 3, 3, 2]
    data = [
        {"x": torch.arange(1.0, 4.0) * (i + 1), "mask": (torch.arange(3) < n).float()}
        for i, n in enumerate(lengths)
    ]
    models = []
    for number in (1, 4):
        model = TokenModel()
        config = options(
            tmp_path / str(number),
            max_steps=2,
            per_device_train_batch_size=8 // number,
            gradient_accumulation_steps=number,
            optimizer="sgd",
            learning_rate=1e-3,
        )
        train(model, data, config, batch_weight=lambda batch: batch["mask"].sum())
        models.append(model)
    assert_same_state(*models, exactly=False)


def test_quantizers_update_once_per_step_and_at_once_afterwards(tmp_path):
    model = QuantizedModel()
    train(model, Points(), options(tmp_path, gradient_accumulation_steps=4))
    assert model.quantizer.num_updates == 4
    assert model.quantizer.deferred_update is False


# --- what one step does ---------------------------------------------------------------------------


def test_clipping_bounds_the_step(tmp_path):
    moved = {}
    for max_norm in (None, 1e-2):
        model, start = LinearModel(), LinearModel()
        config = options(tmp_path / str(max_norm), max_steps=1, optimizer="sgd")
        config = dataclasses.replace(config, max_grad_norm=max_norm, learning_rate=1.0)
        train(model, Points(), config)
        pairs = zip(model.parameters(), start.parameters(), strict=True)
        moved[max_norm] = math.sqrt(sum(float((a - b).detach().square().sum()) for a, b in pairs))
        logged = read_log(tmp_path / str(max_norm))[0]["grad_norm"]
        assert moved[max_norm] == pytest.approx(max_norm or logged, rel=1e-4)
    assert moved[None] > 1


def test_learning_rate_follows_the_schedule(tmp_path):
    config = options(
        tmp_path,
        max_steps=8,
        lr_scheduler_type="cosine",
        warmup_steps=3,
        gradient_accumulation_steps=2,
    )
    train(LinearModel(), Points(), config)
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=config.learning_rate)
    reference = get_scheduler("cosine", optimizer, num_warmup_steps=3, num_training_steps=8)
    expected = []
    for _ in range(8):
        optimizer.step()
        reference.step()
        expected.append(reference.get_last_lr()[0])
    assert [line["learning_rate"] for line in read_log(tmp_path)] == pytest.approx(expected)


def test_weight_decay_spares_biases_norms_and_codebooks(tmp_path):
    model = worker.tiny_gmvq("gaussian_mixture")
    model.norm = nn.LayerNorm(4)
    config = options(tmp_path, weight_decay=0.1, codebook_learning_rate_factor=3.0)
    decayed, exempt, codebooks = build_optimizer(model, config).param_groups
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    matrices, spared, tables = (
        {names[id(parameter)] for parameter in group["params"]}
        for group in (decayed, exempt, codebooks)
    )
    assert [g["weight_decay"] for g in (decayed, exempt, codebooks)] == [0.1, 0.0, 0.0]
    assert [g["lr"] for g in (decayed, exempt, codebooks)] == pytest.approx([0.05, 0.05, 0.15])
    assert tables == {"quantizer.codebook"}
    assert {"norm.weight", "norm.bias"} <= spared
    assert all(name.endswith(".weight") for name in matrices)
    assert len(matrices) + len(spared) + len(tables) == len(names)


def test_position_biases_of_a_text_model_may_learn_faster(tmp_path, tiny_config):
    model = T5VQVAEForConditionalGeneration(tiny_config("t5_vqvae", latent_positions="cross_bias"))
    config = options(tmp_path, weight_decay=0.1, position_bias_learning_rate_factor=10.0)
    *others, biases = build_optimizer(model, config).param_groups
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    assert {names[id(parameter)].split(".")[-2] for parameter in biases["params"]} == {
        "relative_attention_bias",
        "latent_position_bias",
    }
    assert len(biases["params"]) == 3
    assert (biases["lr"], biases["weight_decay"]) == (pytest.approx(0.5), 0.0)
    assert {group["lr"] for group in others} == {0.05}
    assert sum(len(group["params"]) for group in (*others, biases)) == len(names)


def test_logged_parts_are_means_over_the_window(tmp_path):
    results = train(QuantizedModel(), Points(), options(tmp_path / "1", max_steps=4))
    train(QuantizedModel(), Points(), options(tmp_path / "4", max_steps=4, logging_steps=4))
    steps, (window,) = read_log(tmp_path / "1"), read_log(tmp_path / "4")
    for name in ("loss", "reconstruction_loss", "grad_norm"):
        mean = sum(line[name] for line in steps) / 4
        assert window[name] == pytest.approx(mean, rel=1e-5)
    assert set(window) == {
        "step",
        "epoch",
        "learning_rate",
        "grad_norm",
        "loss",
        "reconstruction_loss",
    }
    assert results["train_loss"] == steps[-1]["loss"]
    assert window["epoch"] == pytest.approx(4 * 4 / 32)
    assert json.loads((tmp_path / "1" / "all_results.json").read_text()) == results


# --- evaluation, averages, best model -------------------------------------------------------------


def test_evaluation_is_exact_and_leaves_training_alone(tmp_path):
    models = [QuantizedModel(), QuantizedModel()]
    held_out = Points(11)  # the last of three batches is short
    config = options(tmp_path / "with", max_steps=6, per_device_eval_batch_size=4, eval_steps=2)
    results = train(models[0], Points(), config, eval_dataset=held_out)
    train(models[1], Points(), options(tmp_path / "without", max_steps=6))
    assert_same_state(*models)
    models[0].eval()
    expected = models[0](held_out.x, held_out.y)["loss"].item()
    assert results["eval_loss"] == pytest.approx(expected, rel=1e-5)


def test_evaluation_may_have_its_own_collator(tmp_path):
    def collate(examples: list[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
        return {"x": torch.zeros(len(examples), worker.FEATURES), "y": torch.zeros(len(examples))}

    model = LinearModel()
    config = options(tmp_path, dataloader_num_workers=1)
    results = train(model, Points(), config, eval_dataset=PointStream(9), eval_collate_fn=collate)
    assert results["eval_loss"] == pytest.approx(model.linear.bias.item() ** 2, rel=1e-5)


class AverageByHand:
    """Follows the weights of a model and averages them, as its docstring says, in float64."""

    def __init__(self, model: nn.Module, decay: float):
        self.average = {k: v.detach().double().clone() for k, v in model.named_parameters()}
        self.decay, self.steps = decay, 0

    def follow(self, model: nn.Module) -> None:
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        for key, value in model.named_parameters():
            self.average[key] = decay * self.average[key] + (1 - decay) * value.detach().double()
        self.steps += 1


def test_averaged_weights_are_evaluated_and_exported_with_the_live_codebook(tmp_path, monkeypatch):
    model, seen = QuantizedModel(), []
    by_hand = AverageByHand(model, 0.8)
    apply_update = model.quantizer.apply_update
    # apply_update comes once per step, after the optimizer's.
    monkeypatch.setattr(
        model.quantizer, "apply_update", lambda: (apply_update(), by_hand.follow(model))
    )

    def evaluate(evaluated, loader, accelerator):
        seen.append({k: v.clone() for k, v in evaluated.state_dict().items()})
        assert not evaluated.training
        return {"loss": 1.0}

    config = options(tmp_path, max_steps=5, ema_weights_decay=0.8)
    train(model, Points(), config, eval_dataset=Points(4), evaluate=evaluate)
    exported = load_file(tmp_path / "final" / "model.safetensors")
    best = load_file(tmp_path / "best" / "model.safetensors")
    for key, value in model.state_dict().items():
        if key in by_hand.average:
            assert_close(exported[key].double(), by_hand.average[key], rtol=1e-5, atol=1e-6)
            assert not torch.equal(exported[key], value)  # the model keeps its own
        else:
            assert torch.equal(exported[key], value), key
        assert torch.equal(exported[key], seen[0][key])
        assert torch.equal(exported[key], best[key])


def scripted(values: list[float], name: str = "psnr") -> Any:
    """An evaluation that gives these values in turn."""
    remaining = iter(values)
    return lambda model, loader, accelerator: {name: next(remaining)}


@pytest.mark.parametrize(("greater", "best"), [(True, 6), (False, 2)])
def test_best_is_kept_by_metric_and_direction(greater, best, tmp_path):
    model, weights = LinearModel(), {}

    def evaluate(evaluated, loader, accelerator):
        step = 2 * len(weights) + 2
        weights[step] = {k: v.clone() for k, v in evaluated.state_dict().items()}
        return {"psnr": {2: 1.0, 4: 3.0, 6: 5.0, 8: math.nan, 10: 4.0}[step]}

    config = options(
        tmp_path,
        max_steps=10,
        eval_steps=2,
        checkpointing_steps=2,
        checkpoints_total_limit=2,
        metric_for_best_model="psnr",
        greater_is_better=greater,
    )
    results = train(model, Points(), config, eval_dataset=Points(4), evaluate=evaluate)
    assert results["best_step"] == best
    assert results["best_metric"] == {2: 1.0, 6: 5.0}[best]
    saved = load_file(tmp_path / "best" / "model.safetensors")
    assert all(torch.equal(saved[key], value) for key, value in weights[best].items())
    assert [path.name for path in complete_checkpoints(tmp_path)] == [
        f"checkpoint-{best}",
        "checkpoint-10",
    ]


def test_checkpoint_limit_keeps_the_newest_in_numerical_order(tmp_path):
    config = options(tmp_path, max_steps=11, checkpointing_steps=3, checkpoints_total_limit=3)
    train(LinearModel(), Points(), config)
    # 11 is no multiple of 3: the end is always saved. As text, 9 would come last.
    assert [path.name for path in complete_checkpoints(tmp_path)] == [
        "checkpoint-6",
        "checkpoint-9",
        "checkpoint-11",
    ]


def test_early_stopping_counts_evaluations_without_a_new_best(tmp_path):
    config = options(tmp_path, max_steps=20, eval_steps=2, early_stopping_patience=2)
    evaluate = scripted([5.0, 3.0, 4.0, 2.0, 2.0, 2.5, 0.0], name="loss")
    results = train(LinearModel(), Points(), config, eval_dataset=Points(4), evaluate=evaluate)
    assert (results["step"], results["best_step"], results["stopped_early"]) == (12, 8, True)


def test_unknown_metric_is_an_error_that_keeps_the_work(tmp_path):
    config = options(
        tmp_path,
        eval_steps=2,
        checkpointing_steps=100,
        metric_for_best_model="ssim",
        greater_is_better=True,
    )
    with pytest.raises(ValueError, match=r"'eval_ssim', but the evaluation gave eval_psnr"):
        train(LinearModel(), Points(), config, eval_dataset=Points(4), evaluate=scripted([1.0] * 9))
    assert [path.name for path in complete_checkpoints(tmp_path)] == ["checkpoint-2"]


# --- order of the data ----------------------------------------------------------------------------


def batches_of(dataset: Any, **arguments: Any) -> list[torch.Tensor]:
    arguments = {"collate_fn": None, "batch_size": 3, "seed": 1, "num_examples": 60} | arguments
    return [batch["x"] for batch in train_loader(dataset, **arguments)]


@pytest.mark.parametrize("make_data", [Points, PointStream])
def test_data_depend_on_the_seed_alone(make_data):
    reference = batches_of(make_data(augment=True))
    assert len(reference) == 20
    state = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].copy()
    for workers in (0, 2):
        again = batches_of(make_data(augment=True), num_workers=workers)
        assert all(torch.equal(a, b) for a, b in zip(reference, again, strict=True))
    assert torch.equal(state[0], torch.get_rng_state())
    assert state[1] == random.getstate()
    assert np.array_equal(state[2], np.random.get_state()[1])
    later = batches_of(make_data(augment=True), start=27)
    assert all(torch.equal(a, b) for a, b in zip(reference[9:], later, strict=True))
    by_rank = [batches_of(make_data(augment=True), rank=rank, num_ranks=2) for rank in (0, 1)]
    for rank in (0, 1):
        shares = zip(reference[rank::2], by_rank[rank], strict=True)
        assert all(torch.equal(a, b) for a, b in shares)
    other = batches_of(make_data(augment=True), seed=2)
    assert not all(torch.equal(a, b) for a, b in zip(reference, other, strict=True))


@pytest.mark.parametrize("make_data", [Points, PointStream])
def test_each_pass_holds_each_example_once_in_a_new_order(make_data):
    rows = torch.cat(batches_of(make_data(30), num_examples=90))
    passes = [part.tolist() for part in rows.split(30)]
    everything = sorted(Points(30).x.tolist())
    assert all(sorted(part) == everything for part in passes)
    assert passes[0] != passes[1] != passes[2]


@pytest.mark.parametrize("make_data", [Points, PointStream])
def test_one_pass_ends(make_data):
    batches = batches_of(make_data(32), num_examples=None)
    assert [len(batch) for batch in batches] == [3] * 10


def test_whole_batches_are_read_at_once_where_the_data_set_can():
    class Table(Points):
        def __getitems__(self, indices: list[int]) -> list[dict[str, torch.Tensor]]:
            return [{"x": self.x[indices].sum(0)}]

    assert [len(batch) for batch in batches_of(Table())] == [1] * 20


# --- stopping and resuming ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def killed_runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two runs, side by side, that SIGKILL ended in the middle of step 14."""
    folder = tmp_path_factory.mktemp("killed")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT / "src")}
    processes = {
        kind: subprocess.Popen(
            [sys.executable, str(WORKER), kind, str(folder / kind), "13"],
            env=environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        for kind in ("map", "stream")
    }
    for process in processes.values():
        _, errors = process.communicate(timeout=200)
        assert process.returncode == -signal.SIGKILL, errors[-2000:]
    return {kind: folder / kind for kind in processes}


@pytest.mark.parametrize("kind", ["map", "stream"])
def test_killed_run_continues_bit_exactly(kind, killed_runs, tmp_path):
    killed = killed_runs[kind]
    newest = complete_checkpoints(killed)[-1]
    assert newest.name == "checkpoint-12"
    # A kill during a save leaves this; it must neither be resumed from nor stay.
    (killed / ".unfinished-checkpoint-18").mkdir()
    (killed / ".unfinished-all_results.json").write_text('{"step": 1')
    with open(killed / "log.jsonl", "a") as file:
        file.write('{"step": 16, "loss": 1.0}\n{"step": 1')

    uninterrupted = worker.killable_run(kind, tmp_path / "whole")
    resumed = worker.killable_run(kind, killed, resume_from_checkpoint="latest")

    for folder in ("final", "best"):
        whole = load_file(tmp_path / "whole" / folder / "model.safetensors")
        continued = load_file(killed / folder / "model.safetensors")
        assert whole.keys() == continued.keys()
        assert all(torch.equal(value, continued[key]) for key, value in whole.items())
    # The live weights too, not only their average.
    states = [
        load_file(p / "checkpoint-20" / "model.safetensors") for p in (tmp_path / "whole", killed)
    ]
    assert all(torch.equal(value, states[1][key]) for key, value in states[0].items())
    assert read_log(killed) == read_log(tmp_path / "whole")
    different = {"train_seconds", "examples_per_second", "final_model", "best_model", "config"}
    for key in uninterrupted.keys() - different:
        assert resumed[key] == uninterrupted[key], key
    assert not list(killed.glob(".unfinished*"))


def test_a_kill_while_a_file_is_written_leaves_the_old_one(tmp_path, monkeypatch):
    path = tmp_path / "run.json"
    write_json(path, {"step": 1})
    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", lambda part, target: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            write_json(path, {"step": 2})
    assert json.loads(path.read_text()) == {"step": 1}
    write_json(path, {"step": 3})
    assert json.loads(path.read_text()) == {"step": 3}
    assert list(tmp_path.iterdir()) == [path]


def test_resume_continues_from_a_path_in_another_folder(tmp_path):
    whole, continued = LinearModel(), LinearModel()
    train(whole, Points(), options(tmp_path / "a", max_steps=6, checkpointing_steps=3))
    checkpoint = tmp_path / "a" / "checkpoint-3"
    config = options(tmp_path / "b", max_steps=6, resume_from_checkpoint=str(checkpoint))
    train(continued, Points(), config)
    assert_same_state(whole, continued)


def test_latest_without_a_checkpoint_starts_from_scratch(tmp_path):
    config = options(tmp_path, resume_from_checkpoint="latest")
    assert train(LinearModel(), Points(), config)["step"] == 4


def test_resume_of_a_finished_run_does_nothing_more(tmp_path):
    config = options(tmp_path, checkpointing_steps=2, resume_from_checkpoint="latest")
    first = train(LinearModel(), Points(), config, eval_dataset=Points(4))
    model = LinearModel()
    second = train(model, Points(), config, eval_dataset=Points(4))
    assert second["step"] == 4
    assert second["eval_loss"] == first["eval_loss"]
    assert len(read_log(tmp_path)) == 5


def test_changed_options_are_named_on_resuming(tmp_path, caplog):
    train(LinearModel(), Points(), options(tmp_path, checkpointing_steps=2))
    config = options(tmp_path, max_steps=5, learning_rate=0.01, resume_from_checkpoint="latest")
    with caplog.at_level(logging.WARNING, logger="hf_vq"):
        train(LinearModel(), Points(), config)
    assert "learning_rate was 0.05, now 0.01" in caplog.text
    assert "output_dir" not in caplog.text


def test_latest_does_not_begin_a_finished_run_anew(tmp_path):
    config = options(tmp_path, resume_from_checkpoint="latest")
    train(LinearModel(), Points(), config)
    weights = (tmp_path / "final" / "model.safetensors").stat().st_mtime_ns
    with pytest.raises(ValueError, match=r"finished run .*all_results.* and no checkpoint"):
        train(LinearModel(), Points(), config)
    assert (tmp_path / "final" / "model.safetensors").stat().st_mtime_ns == weights


@pytest.mark.parametrize("kept", ["checkpoint-4", "best", "final"])
def test_resume_from_elsewhere_spares_another_runs_folder(kept, tmp_path):
    train(LinearModel(), Points(), options(tmp_path / "a", max_steps=6, checkpointing_steps=6))
    (tmp_path / "b" / kept).mkdir(parents=True)
    (tmp_path / "b" / kept / "notes.txt").write_text("mine")
    checkpoint = str(tmp_path / "a" / "checkpoint-6")
    config = options(
        tmp_path / "b", max_steps=8, checkpointing_steps=1, resume_from_checkpoint=checkpoint
    )
    with pytest.raises(ValueError, match=f"holds another run .*{kept}"):
        train(LinearModel(), Points(), config)
    assert (tmp_path / "b" / kept / "notes.txt").read_text() == "mine"


def test_checkpoint_under_another_name_is_resumed(tmp_path):
    whole, continued = LinearModel(), LinearModel()
    train(whole, Points(), options(tmp_path, max_steps=4, checkpointing_steps=2))
    kept = (tmp_path / "checkpoint-2").rename(tmp_path / "kept")
    with pytest.raises(ValueError, match="checkpoint-4, which this run would overwrite"):
        train(continued, Points(), options(tmp_path, resume_from_checkpoint=str(kept)))
    (tmp_path / "checkpoint-4").rename(tmp_path.with_name(f"{tmp_path.name}-4"))
    train(continued, Points(), options(tmp_path, resume_from_checkpoint=str(kept)))
    assert_same_state(whole, continued)


def test_checkpoint_of_another_trainer_is_named(tmp_path):
    (tmp_path / "checkpoint-3").mkdir()
    (tmp_path / "checkpoint-3" / "trainer_state.json").write_text('{"global_step": 3}')
    config = options(tmp_path, resume_from_checkpoint="latest")
    with pytest.raises(ValueError, match=r"checkpoint-3: hf_vq\.training did not write it"):
        train(LinearModel(), Points(), config)


@pytest.mark.parametrize("kept", ["checkpoint-4", "best", "final"])
def test_another_runs_folder_is_refused(kept, tmp_path):
    config = options(tmp_path, checkpointing_steps=4)
    train(LinearModel(), Points(), config, eval_dataset=Points(4))
    for path in list(tmp_path.iterdir()):
        if path.name != kept:
            path.rename(tmp_path.with_name(f"{tmp_path.name}-{path.name}"))
    with pytest.raises(ValueError, match=f"holds another run .*{kept}.*resume_from_checkpoint"):
        train(LinearModel(), Points(), config)


def test_resume_from_nothing_or_from_the_past_is_refused(tmp_path):
    config = options(tmp_path, resume_from_checkpoint=str(tmp_path / "nowhere"))
    with pytest.raises(ValueError, match="nowhere.*holds no complete checkpoint"):
        train(LinearModel(), Points(), config)
    train(LinearModel(), Points(), options(tmp_path, checkpointing_steps=2))
    config = options(tmp_path, resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    with pytest.raises(ValueError, match="checkpoint-4, which this run would overwrite"):
        train(LinearModel(), Points(), config)


def test_resume_with_another_model_names_the_checkpoint(tmp_path):
    train(LinearModel(), Points(), options(tmp_path, checkpointing_steps=4))
    config = options(tmp_path, resume_from_checkpoint="latest")
    with pytest.raises(ValueError, match=r"cannot resume from .*checkpoint-4"):
        train(QuantizedModel(), Points(), config)


def test_resume_from_a_truncated_file_names_the_checkpoint(tmp_path):
    train(LinearModel(), Points(), options(tmp_path, checkpointing_steps=4))
    weights = tmp_path / "checkpoint-4" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-10])
    config = options(tmp_path, resume_from_checkpoint="latest")
    with pytest.raises(ValueError, match=r"cannot resume from .*checkpoint-4"):
        train(LinearModel(), Points(), config)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_run_stops_at_a_loss_that_is_not_finite(value, tmp_path):
    model = LinearModel()
    calls = []

    def spoil(module, arguments, output):
        calls.append(module.training)
        return {**output, "loss": output["loss"] * (value if len(calls) == 7 else 1.0)}

    model.register_forward_hook(spoil)
    config = options(
        tmp_path, max_steps=50, logging_steps=5, checkpointing_steps=3, checkpoints_total_limit=1
    )
    message = r"not finite at step 7 \(.*loss nan.*the last good checkpoint is .*checkpoint-6"
    with pytest.raises(FloatingPointError, match=message):
        train(model, Points(), config)
    assert [path.name for path in complete_checkpoints(tmp_path)] == ["checkpoint-6"]
    assert len(calls) == 9  # noticed before the next checkpoint could be written
    state = load_file(tmp_path / "checkpoint-6" / "model.safetensors")
    assert all(tensor.isfinite().all() for tensor in state.values())
    repaired = options(tmp_path, max_steps=8, resume_from_checkpoint="latest")
    assert train(LinearModel(), Points(), repaired)["step"] == 8


def test_gradient_that_is_not_finite_stops_the_run_too(tmp_path):
    class Root(LinearModel):
        def forward(self, x, y):
            return {"loss": (self.linear(x) * 0.0).sum().sqrt()}  # value 0, gradient infinite

    with pytest.raises(
        FloatingPointError, match=r"step 1 .*grad_norm.*no checkpoint had been saved"
    ):
        train(Root(), Points(), options(tmp_path))


# --- models, precision, compilation ---------------------------------------------------------------


@pytest.mark.parametrize("quantizer", ["ema", "gaussian_mixture"])
def test_image_model_is_exported_with_its_processor(quantizer, tmp_path):
    model = worker.tiny_gmvq(quantizer)
    processor = GMVQImageProcessor(size={"height": 8, "width": 8})
    config = options(
        tmp_path, max_steps=12, optimizer="adamw", learning_rate=1e-2, gradient_accumulation_steps=2
    )
    held_out = worker.Images(6)
    results = train(model, worker.Images(16), config, eval_dataset=held_out, processor=processor)
    assert results["eval_loss"] < read_log(tmp_path)[0]["loss"]
    assert "perplexity" in read_log(tmp_path)[0]
    for folder in ("best", "final"):
        loaded = GMVQModel.from_pretrained(tmp_path / folder).eval()
        assert_same_state(loaded, model)
        assert GMVQImageProcessor.from_pretrained(tmp_path / folder).size == processor.size
    assert model.quantizer.num_updates == 12


def test_bf16_trains_float32_weights(tmp_path):
    model = LinearModel()
    config = options(tmp_path, mixed_precision="bf16")
    dtypes = set()
    model.linear.register_forward_hook(lambda module, args, output: dtypes.add(output.dtype))
    train(model, Points(), config)
    assert dtypes == {torch.bfloat16}
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    dtypes.clear()
    model(**{k: v[None] for k, v in Points()[0].items()})
    assert dtypes == {torch.float32}  # the caller's model is free of autocast again


def test_forward_keeps_its_decorators_after_bf16(tmp_path):
    """Accelerate's own unwrapping would leave the innermost function, without what reads `return_dict`."""
    model = worker.tiny_gmvq("ema")
    train(model, worker.Images(16), options(tmp_path, mixed_precision="bf16"))
    assert isinstance(model(worker.Images(2)[0]["pixel_values"][None], return_dict=False), tuple)


def test_fp16_without_an_accelerator_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="mixed_precision is fp16, which the CPU does not offer"):
        train(LinearModel(), Points(), options(tmp_path, mixed_precision="fp16"))


def test_step_that_the_loss_scaler_skips_is_not_a_lost_run(tmp_path, monkeypatch):
    """As in fp16 on a GPU: an overflow in step 2 skips the update, and the schedule waits."""
    model, calls = LinearModel(), []

    def overflow(gradient):
        calls.append(gradient)
        return gradient * (math.inf if len(calls) == 2 else 1.0)

    def build_with_scaler(config: TrainingConfig) -> Accelerator:
        accelerator = Accelerator(cpu=True)
        accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
        return accelerator

    model.linear.weight.register_hook(overflow)
    monkeypatch.setattr("hf_vq.training.build_accelerator", build_with_scaler)
    config = options(tmp_path, max_steps=4, lr_scheduler_type="linear")
    train(model, Points(), config)
    rates = [line["learning_rate"] for line in read_log(tmp_path)]
    assert rates == pytest.approx([0.05 * share for share in (0.75, 0.75, 0.5, 0.25)])
    assert all(parameter.isfinite().all() for parameter in model.parameters())


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_on_a_gpu_learns_and_resumes(precision, tmp_path):
    overrides = {"cpu": False, "mixed_precision": precision, "checkpointing_steps": 10}
    config = options(tmp_path, max_steps=20, **overrides)
    train(QuantizedModel(), Points(), config)
    resumed = options(tmp_path, max_steps=30, resume_from_checkpoint="latest", **overrides)
    train(QuantizedModel(), Points(), resumed)
    losses = [line["loss"] for line in read_log(tmp_path)]
    assert len(losses) == 30
    assert sum(losses[-5:]) < 0.5 * sum(losses[:5])


@pytest.mark.parametrize("by_option", [True, False])
def test_compiled_model_saves_under_its_own_names(by_option, tmp_path):
    plain, model = LinearModel(), LinearModel()
    config = options(
        tmp_path / "compiled",
        torch_compile=by_option,
        torch_compile_backend="eager",
        checkpointing_steps=2,
    )
    given = model if by_option else torch.compile(model, backend="eager")
    train(given, Points(), config)
    train(plain, Points(), options(tmp_path / "plain"))
    assert_same_state(model, plain)
    for folder in ("final", "checkpoint-4"):
        saved = load_file(tmp_path / "compiled" / folder / "model.safetensors")
        assert saved.keys() == plain.state_dict().keys()


def test_gradient_checkpointing_needs_a_model_that_offers_it(tmp_path):
    with pytest.raises(ValueError, match="LinearModel does not offer"):
        train(LinearModel(), Points(), options(tmp_path, gradient_checkpointing=True))


def test_hook_runs_once_on_one_pass_and_not_on_resuming(tmp_path):
    calls = []

    def initialize(accelerator: Accelerator, model: nn.Module, loader: Any) -> None:
        passes = [[batch["x"] for batch in loader] for _ in range(2)]
        calls.append([len(batches) for batches in passes])

    config = options(tmp_path, checkpointing_steps=2, resume_from_checkpoint="latest")
    train(LinearModel(), Points(), config, before_training=initialize)
    train(LinearModel(), Points(), config, before_training=initialize)
    assert calls == [[8, 8]]


# --- errors before any work -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "overrides", "message"),
    [
        ([], {}, "train_dataset has 0 examples, expected at least one batch of 4"),
        (Points(3), {}, "train_dataset has 3 examples, expected at least one batch of 4"),
        (PointStream(3), {}, "gave 3 examples in pass 1, fewer than one batch of 4"),
        (PointStream(0), {}, "gave 0 examples in pass 1"),
        (PointStream(), {"max_steps": None, "num_train_epochs": 1}, "no length.*set max_steps"),
        (7, {}, "int, which can be neither indexed nor iterated"),
        (Points(), {"eval_steps": 2}, "eval_steps is 2, but there is no eval_dataset"),
        ([{"a": 1.0}] * 4, {}, "unexpected keyword argument 'a'"),
    ],
)
def test_data_that_cannot_be_trained_on(data, overrides, message, tmp_path):
    with pytest.raises((ValueError, TypeError), match=message):
        train(LinearModel(), data, options(tmp_path, **overrides))


def test_empty_evaluation_data_is_refused(tmp_path):
    with pytest.raises(ValueError, match="eval_dataset has 0 examples"):
        train(LinearModel(), Points(), options(tmp_path), eval_dataset=[])


def test_model_without_trainable_parameters_or_loss_is_refused(tmp_path):
    with pytest.raises(ValueError, match="LinearModel has no trainable parameter"):
        train(LinearModel().requires_grad_(False), Points(), options(tmp_path / "a"))

    class Silent(LinearModel):
        def forward(self, x, y):
            return {"loss": super().forward(x, y)["loss"][None]}

    with pytest.raises(ValueError, match="needs a 0-dim `loss`, got fields loss"):
        train(Silent(), Points(), options(tmp_path / "b"))


def test_number_of_epochs_gives_the_number_of_steps(tmp_path):
    config = options(tmp_path, max_steps=None, num_train_epochs=1.5)
    assert train(LinearModel(), Points(30), config)["step"] == 12  # 45 / 4, rounded up


# --- trackers -------------------------------------------------------------------------------------


def test_tensorboard_gets_training_and_evaluation(tmp_path):
    event_accumulator = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator"
    )
    config = options(tmp_path, report_to=["tensorboard"], eval_steps=2)
    train(LinearModel(), Points(), config, eval_dataset=Points(4))
    events = event_accumulator.EventAccumulator(str(tmp_path / "hf_vq")).Reload()
    losses = [event.value for event in events.Scalars("train/loss")]
    assert losses == pytest.approx([line["loss"] for line in read_log(tmp_path) if "loss" in line])
    assert [event.step for event in events.Scalars("eval/loss")] == [2, 4]


def test_tracker_that_is_not_installed_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match="wandb, which is not installed: `pip install wandb`"):
        train(LinearModel(), Points(), options(tmp_path, report_to=["wandb"]))


# --- options --------------------------------------------------------------------------------------


@dataclasses.dataclass
class ToyArguments:
    dataset: str
    split: str = "train"
    crop: int | None = 8
    sizes: list[int] = dataclasses.field(default_factory=list)
    mode: Literal["no", "yes"] = "yes"
    flip: bool = False
    scale: float | int = 1.0


def write(path: Path, text: str) -> str:
    path.write_text(text)
    return str(path)


def test_yaml_gives_defaults_and_the_command_line_wins(tmp_path):
    yaml_file = write(
        tmp_path / "recipe.yaml",
        "learning_rate: 3e-4\nmax_steps: 1e3\nweight_decay: 1\ndataset: digits\noutput_dir: runs/a\n"
        "max_grad_norm: null\nlr_scheduler_kwargs: {min_lr: 1.0e-5}\nsizes: [1, 2]\nmode: no\n"
        "report_to: tensorboard\n",
    )
    argv = ["--config", yaml_file, "--weight-decay=0.1", "--max_steps", "20", "--crop", "none"]
    training, toy = parse_config(TrainingConfig, ToyArguments, argv=[*argv, "--flip"])
    assert (training.learning_rate, training.max_steps, training.weight_decay) == (3e-4, 20, 0.1)
    assert isinstance(training.max_steps, int)
    assert training.max_grad_norm is None
    assert training.lr_scheduler_kwargs == {"min_lr": 1e-5}
    assert training.report_to == ["tensorboard"]
    assert toy == ToyArguments("digits", crop=None, sizes=[1, 2], mode="no", flip=True)


def test_command_line_alone(tmp_path):
    argv = "--dataset d --sizes 3 4 --flip false --scale 0.5 --mode no".split()
    (toy,) = parse_config(ToyArguments, argv=argv)
    assert toy == ToyArguments("d", sizes=[3, 4], mode="no", flip=False, scale=0.5)
    argv = ["--output_dir", "o", "--max_steps", "1", "--lr_scheduler_kwargs", '{"num_cycles": 2}']
    (training,) = parse_config(TrainingConfig, argv=argv)
    assert training.lr_scheduler_kwargs == {"num_cycles": 2}


def test_the_words_of_a_choice_are_named(capsys):
    with pytest.raises(ValueError, match="mode is 'maybe', expected one of no, yes"):
        parse_config(ToyArguments, argv=["--dataset", "d", "--mode", "maybe"])
    with pytest.raises(SystemExit):
        parse_config(ToyArguments, argv=["--help"])
    assert "one of no, yes; default: yes" in " ".join(capsys.readouterr().out.split())


def test_sections_are_named_after_the_classes(tmp_path):
    yaml_file = write(
        tmp_path / "recipe.yaml",
        "training:\n  output_dir: o\n  max_steps: 3\ntoy:\n  dataset: d\n  crop: 4\n",
    )
    training, toy = parse_config(TrainingConfig, ToyArguments, argv=["--config", yaml_file])
    assert (training.max_steps, toy.crop) == (3, 4)


@pytest.mark.parametrize(
    ("text", "argv", "message"),
    [
        ("learning_rat: 1", [], "'learning_rat'; did you mean 'learning_rate'"),
        ("training: {crop: 1}", [], "section training .* 'crop'"),
        ("toy: 3", [], "section toy is 3"),
        ("- a\n- b", [], "expected `name: value` lines, got list"),
        ("", ["--max_step", "3"], "unknown option 'max_step'; did you mean 'max_steps'"),
        ("", ["--crops=3"], "'crops'; did you mean 'crop'"),
        ("", ["stray"], "'stray' on the command line belongs to no option"),
        ("max_steps: 2.5", [], "max_steps is 2.5, expected int or none"),
        ("max_steps: yes", [], "max_steps is True, expected int or none"),
        ("learning_rate: fast", [], "learning_rate is 'fast', expected float"),
        ("flip: maybe", [], "flip is 'maybe', expected bool"),
        ("mode: sometimes", [], "mode is 'sometimes'"),
        ("sizes: [1, big]", [], "sizes is .*big"),
        ("lr_scheduler_kwargs: 3", [], "lr_scheduler_kwargs is 3, expected dict"),
        ("dataset: null", [], "dataset is None, expected str"),
    ],
)
def test_bad_options_are_named(text, argv, message, tmp_path):
    yaml_file = write(tmp_path / "recipe.yaml", text)
    base = ["--config", yaml_file, "--output_dir", "o"]
    with pytest.raises(ValueError, match=message):
        parse_config(TrainingConfig, ToyArguments, argv=[*base, *argv])


def test_missing_options_are_named(tmp_path):
    with pytest.raises(ValueError, match="required and not given: dataset"):
        parse_config(ToyArguments, argv=[])
    with pytest.raises(ValueError, match="no such file"):
        parse_config(ToyArguments, argv=["--config", str(tmp_path / "none.yaml")])


def test_help_explains_every_training_option(capsys):
    with pytest.raises(SystemExit):
        parse_config(TrainingConfig, argv=["--help"])
    text = capsys.readouterr().out
    for field in dataclasses.fields(TrainingConfig):
        assert f"--{field.name}" in text
        assert field.metadata["help"].endswith("."), field.name


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"max_steps": None}, "set max_steps or num_train_epochs"),
        ({"max_steps": 0}, "max_steps is 0, expected at least 1"),
        ({"per_device_train_batch_size": 0}, "per_device_train_batch_size is 0"),
        ({"gradient_accumulation_steps": -1}, "gradient_accumulation_steps is -1"),
        ({"warmup_steps": -1}, "warmup_steps is -1, expected at least 0"),
        ({"learning_rate": 0.0}, "learning_rate is 0.0, expected a positive number"),
        ({"learning_rate": math.nan}, "learning_rate is nan"),
        ({"ema_weights_decay": 1.0}, "ema_weights_decay is 1.0"),
        ({"optimizer": "adamx"}, "unknown optimizer 'adamx'; did you mean 'adamw'"),
        (
            {"lr_scheduler_type": "cosin"},
            "unknown lr_scheduler_type 'cosin'; did you mean 'cosine'",
        ),
        ({"lr_scheduler_type": "reduce_lr_on_plateau"}, "unknown lr_scheduler_type"),
        ({"report_to": ["tensorbord"]}, "did you mean 'tensorboard'"),
        ({"mixed_precision": "bf8"}, "unknown mixed_precision 'bf8'"),
        ({"metric_for_best_model": "psnr"}, "'psnr': set greater_is_better"),
        ({"early_stopping_patience": 3}, "set eval_steps"),
    ],
)
def test_bad_training_options_are_refused(overrides, message):
    with pytest.raises(ValueError, match=message):
        TrainingConfig(**({"output_dir": "o", "max_steps": 1} | overrides))


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("single", DistributedType.NO),
        ("ddp", DistributedType.MULTI_GPU),
        ("fsdp2", DistributedType.FSDP),
        ("deepspeed_zero2", DistributedType.DEEPSPEED),
        ("deepspeed_zero3", DistributedType.DEEPSPEED),
    ],
)
def test_packaged_accelerate_configs_load(name, kind):
    config = load_config_from_file(str(accelerate_config_path(name)))
    assert config.distributed_type == kind
    assert config.mixed_precision == "no"  # TrainingConfig decides
    if kind == DistributedType.FSDP:
        assert config.fsdp_config["fsdp_version"] == 2
    if kind == DistributedType.DEEPSPEED:
        assert config.deepspeed_config["zero_stage"] == int(name[-1])


def test_all_packaged_accelerate_configs_are_known():
    with pytest.raises(ValueError, match="unknown accelerate config 'dpp'; did you mean 'ddp'"):
        accelerate_config_path("dpp")
    folder = accelerate_config_path("ddp").parent
    assert sorted(path.stem for path in folder.iterdir()) == [
        "ddp",
        "deepspeed_zero2",
        "deepspeed_zero3",
        "fsdp2",
        "single",
    ]
