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
"""Options of a training run: dataclass, parser for YAML and command line, accelerate configs.

    training_config, data_config = parse_config(TrainingConfig, DataConfig)

reads `--config recipe.yaml --learning_rate 3e-4`: the YAML gives defaults, the command line wins.
"""

import argparse
import dataclasses
import difflib
import json
import math
import os
import re
import sys
import types
import typing
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Union

import yaml
from transformers import SchedulerType

OPTIMIZERS = ("adamw", "sgd")
# These two decide by a metric at each step, which this loop does not hand to the scheduler.
SCHEDULERS = tuple(
    s.value for s in SchedulerType if s.value not in ("reduce_lr_on_plateau", "greedy")
)
TRACKERS = ("tensorboard", "trackio", "wandb")
PRECISIONS = ("no", "bf16", "fp16")


def option(default: Any, help: str) -> Any:
    """A dataclass field with the sentence that `--help` prints."""
    if isinstance(default, (list, dict)):
        return field(default_factory=lambda: type(default)(default), metadata={"help": help})
    return field(default=default, metadata={"help": help})


@dataclass
class TrainingConfig:
    """Options of `hf_vq.training.train`; a step is one update of the weights by the optimizer."""

    output_dir: str = field(
        metadata={"help": "Folder for checkpoints, logs, the best model and the final one."}
    )
    max_steps: int | None = option(None, "Number of steps; wins over num_train_epochs.")
    num_train_epochs: float | None = option(
        None, "Number of passes over a data set of known length."
    )
    per_device_train_batch_size: int = option(32, "Examples per process in one micro-batch.")
    per_device_eval_batch_size: int = option(64, "Examples per process in one evaluation batch.")
    gradient_accumulation_steps: int = option(
        1, "Micro-batches per step; gives the update of one large batch."
    )
    optimizer: str = option("adamw", f"One of {', '.join(OPTIMIZERS)}.")
    learning_rate: float = option(1e-3, "Peak learning rate.")
    codebook_learning_rate_factor: float = option(
        1.0, "Learning rate of parameters named codebook over that of the others."
    )
    position_bias_learning_rate_factor: float = option(
        1.0,
        "Learning rate of relative position biases over that of the others; 10 aligns T5 from scratch sooner.",
    )
    lr_scheduler_type: str = option("cosine", f"One of {', '.join(SCHEDULERS)}.")
    lr_scheduler_kwargs: dict = option(
        {}, 'Further arguments of the schedule, for example {"min_lr": 1e-5}.'
    )
    warmup_steps: int = option(0, "Steps over which the learning rate rises from zero.")
    weight_decay: float = option(
        0.0, "Decay of weight matrices; biases, norms and codebooks are exempt."
    )
    adam_beta1: float = option(0.9, "AdamW's decay of the mean gradient.")
    adam_beta2: float = option(0.999, "AdamW's decay of the mean squared gradient.")
    adam_epsilon: float = option(1e-8, "AdamW's guard against division by zero.")
    max_grad_norm: float | None = option(
        1.0, "Clip the norm of all gradients to this; none turns clipping off."
    )
    seed: int = option(0, "Seed of the data order, of augmentation and of the model's noise.")
    mixed_precision: Literal["no", "bf16", "fp16"] | None = option(
        None, "Unset: what `accelerate launch` chose, else no."
    )
    torch_compile: bool = option(False, "Compile the model's forward.")
    torch_compile_backend: str = option("inductor", "Backend of torch.compile.")
    gradient_checkpointing: bool = option(
        False, "Recompute activations in backward to save memory."
    )
    ema_weights_decay: float | None = option(
        None, "Average the weights with this decay and evaluate and export the average."
    )
    logging_steps: int = option(
        50, "Steps over which logged values are averaged; NaN is noticed as often."
    )
    eval_steps: int | None = option(None, "Evaluate every so many steps; unset: once, at the end.")
    checkpointing_steps: int | None = option(
        500, "Save a checkpoint every so many steps and at the end; none: never."
    )
    checkpoints_total_limit: int | None = option(
        2, "Checkpoints to keep; the best and the newest always stay."
    )
    metric_for_best_model: str | None = option(
        None, "Evaluation metric that decides which model is best; unset: loss."
    )
    greater_is_better: bool | None = option(
        None, "Direction of metric_for_best_model, required with it."
    )
    early_stopping_patience: int | None = option(
        None, "Stop after so many evaluations in a row without a new best."
    )
    resume_from_checkpoint: str | None = option(
        None, "A checkpoint folder, or latest: the newest in output_dir, if any."
    )
    report_to: list[str] = option([], f"Trackers, any of {', '.join(TRACKERS)}.")
    project_name: str = option("hf_vq", "Project under which the trackers file the run.")
    dataloader_num_workers: int = option(
        0, "Processes per rank that prepare batches; 0 prepares them in the loop."
    )
    cpu: bool = option(False, "Train on the CPU even if there is an accelerator.")
    progress_bar: bool = option(True, "Show a progress bar on the main process.")

    def __post_init__(self) -> None:
        """Check every value that can be checked without a model or data."""
        if self.max_steps is None and self.num_train_epochs is None:
            raise ValueError("set max_steps or num_train_epochs: the length of the run is unknown")
        self._check_numbers()
        self._check_names()
        if self.metric_for_best_model is not None and self.greater_is_better is None:
            metric = self.metric_for_best_model
            raise ValueError(f"metric_for_best_model is {metric!r}: set greater_is_better too")
        if self.early_stopping_patience is not None and self.eval_steps is None:
            raise ValueError("early_stopping_patience counts evaluations: set eval_steps too")

    def count_steps(self, num_examples: int | None, num_processes: int | None = None) -> int:
        """Return the length of a run.

        Args:
            num_examples: Length of the training data; `None` if it has none.
            num_processes: How many share a step; as many as the launcher started if not given.
        """
        if self.max_steps is not None:
            return self.max_steps
        if num_examples is None:
            raise ValueError(
                "the training data has no length, so num_train_epochs is no end: set max_steps"
            )
        if num_processes is None:
            num_processes = int(os.environ.get("WORLD_SIZE", "1"))
        step = self.per_device_train_batch_size * self.gradient_accumulation_steps * num_processes
        return max(1, math.ceil((self.num_train_epochs or 0) * num_examples / step))

    def _check_numbers(self) -> None:
        at_least_one = (
            "max_steps per_device_train_batch_size per_device_eval_batch_size "
            "gradient_accumulation_steps logging_steps eval_steps checkpointing_steps "
            "checkpoints_total_limit early_stopping_patience"
        )
        at_least_zero = "warmup_steps weight_decay dataloader_num_workers seed"
        positive = (
            "num_train_epochs learning_rate codebook_learning_rate_factor "
            "position_bias_learning_rate_factor max_grad_norm adam_epsilon"
        )
        for names, is_valid, expected in (
            (at_least_one, lambda value: value >= 1, "at least 1"),
            (at_least_zero, lambda value: value >= 0, "at least 0"),
            (positive, lambda value: 0 < value < math.inf, "a positive number"),
            ("ema_weights_decay", lambda value: 0 < value < 1, "a number between 0 and 1"),
            ("adam_beta1 adam_beta2", lambda value: 0 <= value < 1, "a number from 0 to below 1"),
        ):
            for name in names.split():
                value = getattr(self, name)
                if value is not None and not is_valid(value):
                    raise ValueError(f"{name} is {value}, expected {expected}")

    def _check_names(self) -> None:
        check_name("optimizer", self.optimizer, OPTIMIZERS)
        check_name("lr_scheduler_type", self.lr_scheduler_type, SCHEDULERS)
        for tracker in self.report_to:
            check_name("tracker", tracker, TRACKERS)
        if self.mixed_precision is not None:
            check_name("mixed_precision", self.mixed_precision, PRECISIONS)


def field_help(config_class: type, name: str) -> str:
    """Return what the docstring of a model's config says about a field."""
    pattern = rf"^ *{name}: (.*?)(?=^ *\w+: |\Z)"
    found = re.search(pattern, config_class.__doc__ or "", re.MULTILINE | re.DOTALL)
    return " ".join(found[1].split()) if found else ""


def model_options(
    config_class: type,
    without: Collection[str] = (),
    replaced: Mapping[str, tuple[Any, Any]] | None = None,
) -> type:
    """Make a dataclass of options from the fields that a model's config itself declares.

    Args:
        config_class: The config of a model.
        without: Fields that are no options, since data or later wishes decide them.
        replaced: Fields whose type and `option` are others than the config's.
    """
    options = []
    for f in dataclasses.fields(config_class):
        if f.name in without or f.name not in vars(config_class)["__annotations__"] or not f.init:
            continue
        default = list(f.default) if isinstance(f.default, tuple) else f.default
        own = f.type, option(default, field_help(config_class, f.name))
        options.append((f.name, *(replaced or {}).get(f.name, own)))
    return dataclasses.make_dataclass("ModelConfig", options)


def check_name(what: str, name: str, known: Sequence[str]) -> None:
    """Raise a `ValueError` that names the stranger and the nearest known name."""
    if name not in known:
        nearest = difflib.get_close_matches(name, known, n=1, cutoff=0.0)
        hint = f"; did you mean {nearest[0]!r}?" if nearest else ""
        raise ValueError(f"unknown {what} {name!r}{hint} Known: {', '.join(known)}")


def parse_config(*config_classes: type, argv: Sequence[str] | None = None) -> tuple[Any, ...]:
    """Build one instance of each dataclass from `--config file.yaml` and the command line.

    The command line wins. The YAML is flat, or has one section per dataclass, named after the class
    without its ending (`training:` for `TrainingConfig`). `none` stands for None, lists take
    several words, dicts take JSON.

    Args:
        *config_classes: dataclasses with distinct field names.
        argv: the command line without the program's name; `sys.argv[1:]` if not given.

    Returns:
        The instances, in the order of the classes.

    Raises:
        ValueError: for an unknown name, in the YAML or on the command line, and for a value of the
            wrong type.

    Examples:
        >>> from hf_vq.training import TrainingConfig, parse_config
        >>> argv = ["--output_dir", "runs/a", "--max_steps", "1e3"]
        >>> (config,) = parse_config(TrainingConfig, argv=argv)
        >>> config.max_steps, config.learning_rate
        (1000, 0.001)
    """
    owners = _owners(config_classes)
    parser = _build_parser(config_classes)
    known, strangers = parser.parse_known_args(
        _with_underscores(sys.argv[1:] if argv is None else argv)
    )
    for stranger in strangers:
        if stranger.startswith("--"):
            check_name("option", stranger.split("=")[0].removeprefix("--"), [*owners, "config"])
        raise ValueError(f"{stranger!r} on the command line belongs to no option")
    given = vars(known)
    path = given.pop("config", None)
    values = _read_yaml(path, config_classes, owners) if path else {}
    values.update(given)
    arguments: dict[type, dict[str, Any]] = {cls: {} for cls in config_classes}
    for name, value in values.items():
        arguments[owners[name]][name] = _convert(name, value, _type_of(owners[name], name))
    for cls in config_classes:
        missing = [f.name for f in _fields(cls) if _is_required(f) and f.name not in arguments[cls]]
        if missing:
            raise ValueError(f"required and not given: {', '.join(missing)}")
    return tuple(cls(**arguments[cls]) for cls in config_classes)


def _fields(cls: type) -> list[dataclasses.Field]:
    return [f for f in dataclasses.fields(cls) if f.init]


def _is_required(f: dataclasses.Field) -> bool:
    return f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING


def _owners(config_classes: Sequence[type]) -> dict[str, type]:
    owners: dict[str, type] = {}
    for cls in config_classes:
        for f in _fields(cls):
            if f.name in owners or f.name == "config":
                raise ValueError(
                    f"{cls.__name__}.{f.name}: the name is taken; options need distinct names"
                )
            owners[f.name] = cls
    return owners


def _build_parser(config_classes: Sequence[type]) -> argparse.ArgumentParser:
    # No abbreviations: `--eval` would silently mean another option as soon as one more begins like
    # it.
    parser = argparse.ArgumentParser(allow_abbrev=False, argument_default=argparse.SUPPRESS)
    parser.add_argument(
        "--config", metavar="FILE", help="YAML file with defaults for the options below."
    )
    for cls in config_classes:
        group = parser.add_argument_group(cls.__name__)
        for f in _fields(cls):
            default = "required" if _is_required(f) else f"default: {_default(f)}"
            alternatives = _alternatives(_type_of(cls, f.name))
            kinds = [typing.get_origin(kind) or kind for kind in alternatives]
            choices = [
                _describe(kind) for kind in alternatives if typing.get_origin(kind) is Literal
            ]
            text = "; ".join([*choices, default])
            text = f"{f.metadata.get('help', '')} ({text})".replace("%", "%%")
            words: dict[str, Any] = (
                {"nargs": "*"}
                if list in kinds
                else {"nargs": "?", "const": True}
                if bool in kinds
                else {}
            )
            group.add_argument(
                f"--{f.name}", help=text.strip(), metavar=f.name.split("_")[-1].upper(), **words
            )
    return parser


def _default(f: dataclasses.Field) -> Any:
    if f.default_factory is not dataclasses.MISSING:
        return f.default_factory()
    return f.default


def _with_underscores(argv: Sequence[str]) -> list[str]:
    """`--learning-rate=1` to `--learning_rate=1`; values stay as they are."""
    return [re.sub(r"^--[^=]+", lambda m: "--" + m[0][2:].replace("-", "_"), word) for word in argv]


def _read_yaml(
    path: str, config_classes: Sequence[type], owners: Mapping[str, type]
) -> dict[str, Any]:
    if not Path(path).is_file():
        raise ValueError(f"--config {path}: no such file")
    content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise ValueError(f"{path}: expected `name: value` lines, got {type(content).__name__}")
    sections = {_section(cls): {f.name for f in _fields(cls)} for cls in config_classes}
    values: dict[str, Any] = {}
    for key, value in content.items():
        if key in sections and key not in owners and isinstance(value, dict):
            for name in value:
                check_name(f"key in section {key} of {path}", str(name), sorted(sections[key]))
            values.update(value)
        else:
            check_name(f"key in {path}", str(key), [*owners, *sections])
            if key not in owners:
                raise ValueError(
                    f"{path}: section {key} is {value!r}, expected `name: value` lines"
                )
            values[key] = value
    return values


def _section(cls: type) -> str:
    stem = re.sub(r"(Config|Arguments|Options)$", "", cls.__name__)
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", stem).lower()


def _type_of(cls: type, name: str) -> Any:
    return typing.get_type_hints(cls)[name]


def _alternatives(kind: Any) -> tuple[Any, ...]:
    return typing.get_args(kind) if typing.get_origin(kind) in (Union, types.UnionType) else (kind,)


def _convert(name: str, value: Any, kind: Any) -> Any:
    """A YAML value or a word of the command line as the type that the dataclass declares."""
    kinds = _alternatives(kind)
    if type(None) in kinds and (value is None or str(value).lower() in ("none", "null")):
        return None
    if int in kinds and float in kinds:  # 20 is a number of documents, and 1.0 a share of them
        other = float if re.fullmatch(r"[+-]?\d+", str(value)) else int
        kinds = tuple(kind for kind in kinds if kind is not other)
    for alternative in kinds:
        try:
            return _convert_one(name, value, alternative)
        except (KeyError, TypeError, ValueError):
            continue
    expected = " or ".join(_describe(k) for k in kinds)
    raise ValueError(f"{name} is {value!r}, expected {expected}")


def _describe(kind: Any) -> str:
    if kind is type(None):
        return "none"
    if typing.get_origin(kind) is Literal:
        return f"one of {', '.join(map(str, typing.get_args(kind)))}"
    return getattr(kind, "__name__", str(kind))


def _convert_one(name: str, value: Any, kind: Any) -> Any:
    origin, parameters = typing.get_origin(kind) or kind, typing.get_args(kind)
    if origin is bool:
        return {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}[
            str(value).lower()
        ]
    if origin is int and not isinstance(value, bool):
        if float(value) != int(float(value)):
            raise ValueError
        return (
            int(value)
            if isinstance(value, int) or re.fullmatch(r"[+-]?\d+", str(value))
            else int(float(value))
        )
    if origin is float and not isinstance(value, bool):
        return float(value)
    if origin is str and isinstance(value, (str, int, float)) and not isinstance(value, bool):
        return str(value)
    if origin is Literal:
        # YAML reads a bare `no` as False.
        word = {False: "no", True: "yes"}.get(value, value) if isinstance(value, bool) else value
        return parameters[parameters.index(word)]
    if origin in (list, tuple):
        words = value if isinstance(value, (list, tuple)) else [value]
        return origin(_convert(name, word, parameters[0]) if parameters else word for word in words)
    if origin is dict:
        content = json.loads(value) if isinstance(value, str) else value
        if not isinstance(content, dict):
            raise ValueError
        return content
    raise TypeError


def accelerate_config_path(name: str) -> Path:
    """Path of an accelerate config: single, ddp, fsdp2, deepspeed_zero2 or deepspeed_zero3.

    Use it as

        config=$(python -c 'import hf_vq.training as t; print(t.accelerate_config_path("ddp"))')
        accelerate launch --config_file "$config" --num_processes 4 scripts/train_gmvq.py ...

    Examples:
        >>> from hf_vq.training import accelerate_config_path
        >>> accelerate_config_path("ddp").name
        'ddp.yaml'
    """
    folder = Path(__file__).parent / "accelerate_configs"
    check_name("accelerate config", name, sorted(path.stem for path in folder.glob("*.yaml")))
    return folder / f"{name}.yaml"
