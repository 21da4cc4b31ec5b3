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
"""From a model and a data loader to figures of merit, and from figures to a record that can be checked.

`evaluate_image_autoencoder` goes over a whole split, on one process or several; `write_record` puts
the figures into a JSON file, together with everything that one needs to judge or repeat them.
"""

import hashlib
import inspect
import json
import logging
import math
import os
import platform
import shlex
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib import metadata
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ._extras import require

require("accelerate", extra="train")

from accelerate import Accelerator  # noqa: E402
from accelerate.data_loader import DataLoaderStateMixin  # noqa: E402

from .metrics import (  # noqa: E402
    SSIM_WINDOW_SIZE,
    CodeCounter,
    FeatureStatistics,
    RunningMean,
    mse,
    psnr,
    round_to_8_bits,
    ssim,
)
from .models.eval_mode import eval_mode  # noqa: E402

logger = logging.getLogger(__name__)

__all__ = [
    "METRIC_DEFINITIONS",
    "describe_environment",
    "evaluate_image_autoencoder",
    "format_figures",
    "read_record",
    "record_path",
    "weight_checksums",
    "write_record",
]

_HARD = "reconstructions from hard codes, clamped to [0, 1] and rounded to 8 bits"
_OUTPUT = "from the model's forward in eval mode, mean over batches weighted by their images"
METRIC_DEFINITIONS = {
    "mse": f"mean squared error over all pixels and images on [0, 1]; {_HARD}",
    "psnr": f"mean over images of 10 log10(1 / MSE of the image), in dB; {_HARD}",
    "ssim": "mean over images, positions and channels of the structural similarity (11 x 11 "
    f"Gaussian window, sigma 1.5, no padding, K1 0.01, K2 0.03); {_HARD}",
    "perplexity": "exp of the entropy of the code counts over the whole split",
    "codebook_usage": "share of the codes that occur at least once in the whole split",
    "frechet": "squared Frechet distance of Gaussians fitted to the features of the images and of "
    f"their reconstructions, in float64; {_HARD}",
    "accuracy": f"share of images whose label the feature network finds; {_HARD}",
    "images_per_second": "images encoded and decoded per second by all processes, without loading",
    "num_images": "number of images that the figures rest on",
    "batch_size": "largest batch of one process",
    "loss": f"total loss, {_OUTPUT}",
    "reconstruction_loss": f"squared error summed over the pixels of an image, {_OUTPUT}",
    "commitment_loss": f"distance of latents to codes before its weight, {_OUTPUT}",
    "kl_loss": f"KL divergence of the codes from their prior before its weight, in nats, {_OUTPUT}",
    "posterior_entropy": f"mean entropy of the code posterior of a token, in nats, {_OUTPUT}",
    "aggregated_entropy": f"entropy of the batch's mean code posterior, in nats, {_OUTPUT}",
    "mutual_information": f"aggregated_entropy minus posterior_entropy, in nats, {_OUTPUT}",
    "soft_hard_gap": "squared error of the hard codes less that of the posterior mean, summed over "
    f"the pixels of an image, {_OUTPUT}",
    "temperature": f"temperature of the relaxed codes that training had reached, {_OUTPUT}",
}

FeatureExtractor = Callable[[Tensor], Tensor | tuple[Tensor, Tensor]]


@torch.no_grad()
def evaluate_image_autoencoder(
    model: Any,
    loader: Iterable[Mapping[str, Tensor]],
    accelerator: Accelerator | None = None,
    max_batches: int | None = None,
    feature_extractor: FeatureExtractor | None = None,
) -> dict[str, float]:
    """Score an autoencoder on all images of a loader, decoding from its hard codes only.

    Every process gets the figures of the whole split: results are gathered, and the images that
    Accelerate repeats to even out the last batches are dropped. (The loss and its parts are means
    of one batch, so that repeats in the last batch still weigh in theirs.) The model is put in eval
    mode, runs in the type of its weights, and gets its modes back.

    Args:
        model: Module with `config.codebook_size`, `encode(pixel_values).codes`,
            `decode(codes=...).reconstruction` and a forward whose output has scalar losses; it may
            be wrapped by the accelerator.
        loader: Batches with `pixel_values` on [0, 1] and, for the accuracy, `labels`. It is
            prepared with the accelerator here unless it has been.
        accelerator: Where to run, on how many processes; on the model's device alone if `None`.
        max_batches: Stop after this many batches of each process, for a quick look.
        feature_extractor: Network for the Frechet distance, on the model's device: images on [0, 1]
            to features (batch, features), or to a tuple of features and class logits.

    Returns:
        `mse`, `psnr`, `ssim` (for images that hold its window), `perplexity`, `codebook_usage`,
        `frechet` and `accuracy` (with a feature extractor), `images_per_second`, `num_images`,
        `batch_size`, and every scalar of the model's output except its perplexity of single
        batches. `METRIC_DEFINITIONS` defines them.

    Raises:
        ValueError: If the loader gives no batch.
    """
    if max_batches is not None and max_batches < 1:
        raise ValueError(f"max_batches must be at least 1, got {max_batches}")
    if accelerator is not None:
        model = accelerator.unwrap_model(model)
        if not isinstance(loader, DataLoaderStateMixin):
            loader = accelerator.prepare_data_loader(loader)
    totals = _Totals(model.config.codebook_size)
    seconds, batch_size = 0.0, 0
    with eval_mode(model), signed_off(loader):
        for batch in islice(loader, max_batches):
            images = batch["pixel_values"].to(next(model.parameters()).device)
            batch_size = max(batch_size, len(images))
            synchronize(images.device)
            start = time.perf_counter()
            codes = model.encode(images).codes
            reconstruction = model.decode(codes=codes).reconstruction
            synchronize(images.device)
            seconds += time.perf_counter() - start

            figures = _figures_per_image(images, reconstruction) | _output_scalars(model, images)
            results = {"codes": codes, "figures": figures}
            if feature_extractor is not None:
                results |= _features(feature_extractor, images, reconstruction, batch.get("labels"))
            totals.add(results if accelerator is None else accelerator.gather_for_metrics(results))
    if batch_size == 0:
        raise ValueError("the loader gave no batch to evaluate")
    metrics = totals.compute()
    metrics["images_per_second"] = metrics["num_images"] / seconds
    return metrics | {"batch_size": batch_size}


class _Totals:
    """What the batches of a split add up to."""

    def __init__(self, codebook_size: int):
        self.codes = CodeCounter(codebook_size)
        self.means: dict[str, RunningMean] = defaultdict(RunningMean)
        self.features: dict[str, FeatureStatistics] = defaultdict(FeatureStatistics)

    def add(self, results: dict[str, Any]) -> None:
        self.codes.update(results["codes"])
        for name, values in results["figures"].items():
            self.means[name].update(values)
        for name, values in results.get("features", {}).items():
            self.features[name].update(values)
        if "accuracy" in results:
            self.means["accuracy"].update(results["accuracy"])

    def compute(self) -> dict[str, float]:
        metrics = {name: mean.compute() for name, mean in self.means.items()}
        metrics["perplexity"] = self.codes.perplexity()
        metrics["codebook_usage"] = self.codes.usage()
        if self.features:
            images, reconstructions = self.features["images"], self.features["reconstructions"]
            metrics["frechet"] = images.distance(reconstructions)
        return metrics | {"num_images": self.means["mse"].count}


@contextmanager
def signed_off(loader: Iterable) -> Iterator[None]:
    """Sign the loader off in the end, which Accelerate misses when an iteration stops early.

    It would stay the active loader, and tell a training loop around this when its data end.
    """
    try:
        yield
    finally:
        if isinstance(loader, DataLoaderStateMixin):
            loader.end()


def synchronize(device: torch.device) -> None:
    """Wait for the device, before the clock is read."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)


def _figures_per_image(images: Tensor, reconstruction: Tensor) -> dict[str, Tensor]:
    figures = {"mse": mse(reconstruction, images), "psnr": psnr(reconstruction, images)}
    if min(images.shape[-2:]) >= SSIM_WINDOW_SIZE:
        figures["ssim"] = ssim(reconstruction, images)
    return figures


def _output_scalars(model: Any, images: Tensor) -> dict[str, Tensor]:
    """Each scalar of the forward, once per image, so that batches weigh by their images."""
    offered = inspect.signature(model.forward).parameters
    options = {"output_soft_hard_gap": True} if "output_soft_hard_gap" in offered else {}
    return {
        name: value.detach().expand(len(images)).clone()
        for name, value in model(images, **options).items()
        # The perplexity of one batch must not be taken for that of the split.
        if isinstance(value, Tensor) and value.ndim == 0 and name != "perplexity"
    }


def _features(
    extractor: FeatureExtractor, images: Tensor, reconstruction: Tensor, labels: Tensor | None
) -> dict[str, Any]:
    features, _ = _features_and_logits(extractor, images)
    decoded = round_to_8_bits(reconstruction).to(images)
    decoded_features, logits = _features_and_logits(extractor, decoded)
    results: dict[str, Any] = {
        "features": {"images": features, "reconstructions": decoded_features}
    }
    if logits is not None and labels is not None:
        results["accuracy"] = (logits.argmax(dim=-1) == labels.to(logits.device)).double()
    return results


def _features_and_logits(
    extractor: FeatureExtractor, images: Tensor
) -> tuple[Tensor, Tensor | None]:
    result = extractor(images)
    return result if isinstance(result, tuple) else (result, None)


def write_record(
    path: str | Path,
    checkpoint: str,
    metrics: Mapping[str, float],
    *,
    data: Mapping[str, Any],
    seeds: Sequence[int],
    definitions: Mapping[str, str] | None = None,
    command: Sequence[str] | None = None,
) -> dict[str, Any]:
    """Write `<checkpoint>.json`: the figures and what one needs to judge or repeat them.

    If the checkpoint is a folder, the record also holds the SHA-256 of its weights, in `weights`.

    Paths of this machine are cut down to what lies under the working directory, or to a name. A
    figure that is not finite, which JSON cannot hold, becomes `null`.

    Args:
        path: The file to write.
        checkpoint: Name of the checkpoint, or its Hub id.
        metrics: The figures.
        data: What they were measured on: `name`, `split` and `revision`, and anything else that
            fits JSON. `hf_vq.data.data_revision` gives the revision.
        seeds: Seed of each training run behind the figures.
        definitions: What each figure means, in addition to or instead of `METRIC_DEFINITIONS`.
        command: The command line, if not that of this process.

    Returns:
        The record as `read_record` reads it.

    Raises:
        ValueError: If a figure has no definition or a field is not what it must be.
    """
    known = {**METRIC_DEFINITIONS, **(definitions or {})}
    command = ["python", *sys.argv] if command is None else command
    for name in metrics:
        if name not in known:
            raise ValueError(f"metric {name!r} needs a definition")
        if not math.isfinite(metrics[name]):
            logger.warning("%s is %s, written as null", name, metrics[name])
    record = {
        "checkpoint": _portable(checkpoint),
        "metrics": {name: v if math.isfinite(v) else None for name, v in metrics.items()},
        "definitions": {name: known[name] for name in metrics},
        "data": {name: _portable(v) if isinstance(v, str) else v for name, v in data.items()},
        "seeds": list(seeds),
        **describe_environment(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": shlex.join(_portable(word) for word in command),
    }
    weights = weight_checksums(checkpoint)
    if weights:
        record["weights"] = weights
    _check_record(record)
    text = json.dumps(record, indent=2, allow_nan=False) + "\n"
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return record


def weight_checksums(checkpoint: str | Path, pattern: str = "*.safetensors") -> dict[str, str]:
    """The SHA-256 of each file of weights by its path in the folder; none if the checkpoint is no folder here.

    What lies deeper, a folder for the Hub for example, counts only for a pattern such as `"**/*.safetensors"`.
    """
    folder, checksums = Path(checkpoint), {}
    for path in sorted(folder.glob(pattern)):
        with path.open("rb") as file:
            name = path.relative_to(folder).as_posix()
            checksums[name] = hashlib.file_digest(file, "sha256").hexdigest()
    return checksums


def record_path(checkpoint: str | Path) -> Path:
    """`<checkpoint>.json` beside the folder of a checkpoint; in the working directory for a Hub id."""
    folder = Path(checkpoint)
    beside = folder.resolve().parent if folder.is_dir() else Path()
    return beside / f"{folder.resolve().name}.json"


def format_figures(
    metrics: Mapping[str, float | None], path: str | Path, names: Iterable[str] | None = None
) -> str:
    """Lines for the terminal: the figures, or those of them that are named, and where all of them are."""
    shown = [name for name in names or metrics if name in metrics]
    values = {name: "-" if metrics[name] is None else f"{metrics[name]:.5g}" for name in shown}
    lines = {**values, "all figures": str(path)}
    width = max(len(name) for name in lines)
    return "\n".join(f"{name:>{width}} {value}" for name, value in lines.items())


def read_record(path: str | Path) -> dict[str, Any]:
    """Read a record of `write_record`.

    Raises:
        ValueError: If the file is no JSON or not a complete record; the message names it.
    """
    try:
        record = json.loads(Path(path).read_text(encoding="utf-8"))
        _check_record(record)
    except ValueError as error:
        raise ValueError(f"{path} is not a record: {error}") from error
    return record


_RECORD_TYPES: dict[str, type | tuple[type, ...]] = {
    "checkpoint": str,
    "metrics": dict,
    "definitions": dict,
    "data": dict,
    "seeds": list,
    "hardware": dict,
    "versions": dict,
    "commit": (str, type(None)),
    "dirty": (bool, type(None)),
    "date": str,
    "command": str,
}
_OPTIONAL_TYPES: dict[str, type] = {"weights": dict}


def _check_record(record: Any) -> None:
    if not isinstance(record, dict) or record.keys() - _OPTIONAL_TYPES != _RECORD_TYPES.keys():
        found = sorted(record) if isinstance(record, dict) else type(record).__name__
        raise ValueError(f"it must have the fields {sorted(_RECORD_TYPES)}, got {found}")
    for field, kinds in (_RECORD_TYPES | _OPTIONAL_TYPES).items():
        if field in record and not isinstance(record[field], kinds):
            raise ValueError(f"{field} has the wrong type: {record[field]!r}")
    if not record["metrics"] or record["metrics"].keys() != record["definitions"].keys():
        raise ValueError("metrics must not be empty, and each must have a definition")
    for name, value in record["metrics"].items():
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not (value is None or is_number and math.isfinite(value)):
            raise ValueError(f"metric {name!r} must be a finite number or null, got {value!r}")
    if not {"name", "split", "revision"} <= record["data"].keys():
        raise ValueError(f"data must have name, split and revision, got {sorted(record['data'])}")
    if not all(type(seed) is int for seed in record["seeds"]):
        raise ValueError(f"seeds must be integers, got {record['seeds']}")
    datetime.fromisoformat(record["date"])


def _portable(word: str) -> str:
    """Strip the folders of this machine from an absolute path, also in `--option=/a/path`."""
    option, equals, value = word.rpartition("=")
    path = Path(value)
    if path.is_absolute():
        here = Path.cwd()
        value = path.relative_to(here).as_posix() if path.is_relative_to(here) else path.name
    return option + equals + value


def describe_environment() -> dict[str, Any]:
    """Return what a record tells about machine and software: no host name, no path.

    Returns:
        `hardware` (cpu, cores, threads, gpus, processes), `versions`, `commit` of this source code
        (`None` outside its repository) and `dirty`, whether it differed from that commit.
    """
    distributed = torch.distributed.is_available() and torch.distributed.is_initialized()
    hardware = {
        "cpu": _cpu_name(),
        "cores": len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
        "processes": torch.distributed.get_world_size() if distributed else 1,
    }
    versions: dict[str, str | None] = {"python": platform.python_version()}
    for name in ("hf_vq", "torch", "transformers", "accelerate", "datasets", "numpy", "pillow"):
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = None
    return {"hardware": hardware, "versions": versions, **_source_state()}


def _cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _source_state() -> dict[str, Any]:
    source = Path(__file__)
    # An installed copy may lie inside somebody else's repository, which then does not track it.
    if _git("ls-files", "--error-unmatch", source.name, folder=source.parent) is None:
        return {"commit": None, "dirty": None}
    # Records are written one after the other, and do not make the code another.
    changes = _git(
        "status",
        "--porcelain",
        "--untracked-files=no",
        "--",
        ":(top)",
        ":(top,exclude)*.json",
        folder=source.parent,
    )
    return {"commit": _git("rev-parse", "HEAD", folder=source.parent), "dirty": changes != ""}


def _git(*arguments: str, folder: Path) -> str | None:
    try:
        done = subprocess.run(
            ["git", *arguments], cwd=folder, capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()
