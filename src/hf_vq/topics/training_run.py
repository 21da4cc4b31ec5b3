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
"""A run of TopicVQ's stages: its options, and the folders from which it is resumed.

`output_dir` holds `run.json`, what the run is about, and a folder for each stage, which is complete or continued.
"""

import hashlib
import json
import math
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from hf_vq._extras import require

require("accelerate", extra="train")

# ruff: noqa: E402  the imports below need the extra
from accelerate import PartialState
from transformers.utils import logging as transformers_logging

from hf_vq.training import TrainingConfig
from hf_vq.training_config import option
from hf_vq.training_state import publish, unfinished, write_json

Save = Callable[[Path], Any]
# How long topics learn: few documents need as many steps as some thousands, many need to be seen a few times.
LEAST_STEPS, LEAST_PASSES = 300, 3
# Options that say where a run goes and how it is watched, not what it computes.
NEUTRAL_OPTIONS = {"output_dir", "resume_from_checkpoint", "checkpointing_steps", "progress_bar"}


@dataclass
class TopicTrainingConfig:
    """Options of `train_topic_vq`."""

    output_dir: str | None = option(None, "Folder for stages and model; unset: keep neither.")
    codebook_words: int = option(19_200, "Words to fit the codebook to, drawn from all documents.")
    codebook_epochs: float | None = option(
        None, "Passes over these words; unset: none after a start by PCA, else 3."
    )
    codebook_batch_size: int = option(2048, "Words per process in a step of the codebook.")
    codebook_learning_rate: float = option(1e-3, "Peak learning rate of the autoencoder.")
    codebook_warmup_epochs: float = option(
        1.0, "Further passes, before codes are chosen, in which the autoencoder has no codebook."
    )
    latents_per_code: int = option(64, "Latents for each code, for k-means at the start.")
    start_documents: int = option(20_000, "Documents from whose clusters topics start, at most.")
    topic_epochs: float | None = option(
        None,
        f"Passes over the documents; unset: {LEAST_STEPS} steps, or {LEAST_PASSES} passes if these are more.",
    )
    topic_batch_size: int = option(256, "Documents per process in a step of the topics.")
    topic_learning_rate: float = option(8e-3, "Peak learning rate of the topics.")
    warmup_share: float = option(0.1, "Share of a stage in which the learning rate rises.")
    weight_decay: float = option(0.01, "Of weight matrices, in both stages.")
    lr_scheduler_type: str = option("cosine", "Schedule of both stages, as in TrainingConfig.")
    eval_epochs: float = option(5.0, "Passes between evaluations, if there are held-out documents.")
    early_stopping_patience: int | None = option(
        None, "Stop after so many evaluations in a row without a better bound."
    )
    seed: int = option(0, "Seed of the sample of words, of the order and of the model's noise.")
    mixed_precision: Literal["no", "bf16", "fp16"] | None = option(
        None, "Unset: what `accelerate launch` chose, else no."
    )
    cpu: bool = option(False, "Train on the CPU even if there is an accelerator.")
    checkpointing_steps: int | None = option(
        None,
        "Save a checkpoint of a stage every so many steps; unset: a killed stage begins again.",
    )
    resume_from_checkpoint: Literal["latest"] | None = option(
        None, "latest: go on with the run in output_dir, if there is one."
    )
    progress_bar: bool = option(True, "Show progress bars on the main process.")

    def __post_init__(self) -> None:
        """Check numbers; `TrainingConfig` checks those that it gets."""
        for name in (
            "codebook_words",
            "codebook_batch_size",
            "latents_per_code",
            "start_documents",
        ):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, expected at least 1")
        if self.topic_batch_size < 2:
            # Posteriors are standardized over the batch.
            raise ValueError(f"topic_batch_size is {self.topic_batch_size}, expected at least 2")
        for name in ("codebook_epochs", "topic_epochs", "eval_epochs"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise ValueError(f"{name} is {value}, expected a positive number")
        if not 0 <= self.warmup_share < 1:
            raise ValueError(f"warmup_share is {self.warmup_share}, expected 0 to below 1")
        if self.codebook_warmup_epochs < 0:
            raise ValueError(
                f"codebook_warmup_epochs is {self.codebook_warmup_epochs}, expected at least 0"
            )
        if self.output_dir is None and self.resume_from_checkpoint is not None:
            raise ValueError("resume_from_checkpoint is latest: set output_dir, where the run is")


def fit_batch(batch_size: int, number: int) -> int:
    """A batch that the data can fill on every process."""
    return max(1, min(batch_size, number // PartialState().num_processes))


def count_steps(epochs: float, number: int, batch_size: int) -> int:
    """Steps of so many passes over a number of examples, by all processes together."""
    return max(1, math.ceil(epochs * number / (batch_size * PartialState().num_processes)))


def count_topic_steps(config: TopicTrainingConfig, number: int, batch_size: int) -> int:
    """Steps of the topic stage on a number of documents."""
    if config.topic_epochs is not None:
        return count_steps(config.topic_epochs, number, batch_size)
    return max(LEAST_STEPS, count_steps(LEAST_PASSES, number, batch_size))


def stage_config(
    config: TopicTrainingConfig, folder: Path, learning_rate: float, batch_size: int, steps: int
) -> TrainingConfig:
    """The options of the loop for one stage."""
    return TrainingConfig(
        output_dir=str(folder),
        max_steps=steps,
        per_device_train_batch_size=batch_size,
        per_device_eval_batch_size=batch_size,
        learning_rate=learning_rate,
        lr_scheduler_type=config.lr_scheduler_type,
        warmup_steps=round(config.warmup_share * steps),
        weight_decay=config.weight_decay,
        max_grad_norm=None,
        seed=config.seed,
        mixed_precision=config.mixed_precision,
        cpu=config.cpu,
        logging_steps=max(1, steps // 50),
        checkpointing_steps=config.checkpointing_steps,
        resume_from_checkpoint="latest" if config.resume_from_checkpoint else None,
        progress_bar=config.progress_bar,
    )


@contextmanager
def stage_folder(config: TopicTrainingConfig, name: str) -> Iterator[Path]:
    """Where a stage keeps its files; a temporary folder if nothing is to stay."""
    if config.output_dir is None and PartialState().num_processes > 1:
        raise ValueError("several processes share their stages through output_dir: set it")
    with hidden_bars():
        if config.output_dir is not None:
            yield Path(config.output_dir) / name
        else:
            with tempfile.TemporaryDirectory() as folder:
                yield Path(folder) / name


@contextmanager
def hidden_bars() -> Iterator[None]:
    """Hide transformers' bars for reading and writing weights: a stage has a bar of its own."""
    bars = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        if bars:
            transformers_logging.enable_progress_bar()


def finished_stage(config: TopicTrainingConfig, name: str) -> Path | None:
    """The model that a stage has ended with, if it is to be taken from there."""
    if config.output_dir is None or config.resume_from_checkpoint is None:
        return None
    folder = Path(config.output_dir) / name
    if not (folder / "all_results.json").is_file():
        return None
    results = stage_results(folder / "final")
    # By its name: the folder may have been moved since the path was written down.
    return folder / Path(results["best_model"] or results["final_model"]).name


def stage_results(checkpoint: Path) -> dict[str, Any]:
    """What `train` returned, of the stage that a checkpoint is from."""
    return json.loads((checkpoint.parent / "all_results.json").read_text(encoding="utf-8"))


def finish_without_steps(model: Any, config: TopicTrainingConfig, folder: Path) -> dict[str, Any]:
    """Write what `train` would, of a stage that is over as soon as it has begun."""
    results: dict[str, Any] = {"step": 0, "best_model": None, "final_model": str(folder / "final")}
    if config.output_dir is None:
        return results
    state = PartialState()
    if state.is_main_process:
        model.save_pretrained(unfinished(folder / "final"))
        publish(folder / "final")
        write_json(folder / "all_results.json", results)
    state.wait_for_everyone()
    load_weights(model, folder / "final")  # those of one process for all
    return results


def load_weights(model: Any, folder: Path) -> None:
    """Into the model that there is: whoever called goes on with it."""
    saved = type(model).from_pretrained(folder, use_safetensors=True)
    model.load_state_dict(saved.state_dict())


def check_output_dir(model: Any, embeddings: Any, config: TopicTrainingConfig) -> None:
    """Refuse a folder with another run, and take down what this one is about."""
    settings: dict[str, Any] = {
        "model": {
            k: v for k, v in model.config.to_diff_dict().items() if k != "transformers_version"
        },
        "training": {k: v for k, v in vars(config).items() if k not in NEUTRAL_OPTIONS},
        "documents": embeddings.documents_digest,
        "encoder": embeddings.fingerprint,
        "vocabulary": _hash(embeddings.processor.vocabulary),
    }
    settings = json.loads(json.dumps(settings))
    path = Path(config.output_dir or "") / "run.json"
    present = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None
    state = PartialState(cpu=config.cpu)
    state.wait_for_everyone()  # all have looked before one writes
    if present is not None and config.resume_from_checkpoint is None:
        raise ValueError(
            f"output_dir holds another run ({path}): choose another one, or set "
            "resume_from_checkpoint: latest"
        )
    if present is not None and present != settings:
        raise ValueError(f"{path} is of another run: {_differences(present, settings)}")
    if present is None and state.is_main_process:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, settings)
    state.wait_for_everyone()


def _hash(words: Sequence[str]) -> str:
    return hashlib.sha256(json.dumps(list(words)).encode()).hexdigest()


def _differences(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> str:
    texts = []
    for name in sorted(old.keys() | new.keys()):
        before, now = old.get(name), new.get(name)
        if isinstance(before, dict) and isinstance(now, dict):
            texts.append(_differences(before, now, f"{name}."))
        elif before != now:
            texts.append(f"{prefix}{name} was {before}, now {now}")
    return ", ".join(text for text in texts if text)


def export(
    model: Any, config: TopicTrainingConfig, save_with: Sequence[Save], results: dict[str, Any]
) -> Path:
    """Write the finished model, what belongs to it, and the results of all stages."""
    folder = Path(config.output_dir or "") / "final"
    state = PartialState()
    if state.is_main_process:
        with hidden_bars():
            model.save_pretrained(unfinished(folder))
        for save in save_with:
            save(unfinished(folder))
        publish(folder)
        write_json(folder.with_name("all_results.json"), results)
    state.wait_for_everyone()
    return folder
