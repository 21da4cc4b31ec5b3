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
"""Evaluation of an autoencoder that can be worked by hand, of GM-VQ, on two processes; and records.

Run as a script by `torchrun`, this file is a worker that writes the figures of its rank.
"""

import json
import math
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import GradientState
from torch import nn
from torch.utils.data import DataLoader
from transformers.utils import ModelOutput

import hf_vq.evaluation
from hf_vq.evaluation import (
    METRIC_DEFINITIONS,
    describe_environment,
    evaluate_image_autoencoder,
    format_figures,
    read_record,
    record_path,
    write_record,
)
from hf_vq.metrics import FeatureStatistics, mse, psnr, round_to_8_bits, ssim

DATA = {"name": "pictures", "split": "test", "revision": "sha256:00"}


class GrayLevels(nn.Module):
    """One code for each 2 x 2 patch: the nearest of K gray levels from 0 to 1.

    Its forward, other than decode, gives the image itself: whoever scores that is found out.
    """

    def __init__(self, codebook_size: int = 5):
        super().__init__()
        self.config = SimpleNamespace(codebook_size=codebook_size)
        self.levels = nn.Parameter(torch.linspace(0, 1, codebook_size))
        self.dropout, self.frozen = nn.Dropout(), nn.Dropout().eval()
        self.fails = False

    def encode(self, pixel_values: torch.Tensor) -> ModelOutput:
        assert not self.training
        assert not torch.is_grad_enabled()
        means = nn.functional.avg_pool2d(pixel_values.mean(1, keepdim=True), 2)
        return ModelOutput(codes=(means.movedim(1, -1) - self.levels).abs().argmin(-1))

    def decode(self, codes: torch.Tensor) -> ModelOutput:
        if self.fails:
            raise RuntimeError("failed")
        gray = self.levels[codes].repeat_interleave(2, -1).repeat_interleave(2, -2)
        return ModelOutput(reconstruction=gray[:, None].expand(-1, 3, -1, -1))

    def forward(self, pixel_values: torch.Tensor) -> ModelOutput:
        return ModelOutput(
            loss=pixel_values.square().sum() / len(pixel_values),
            reconstruction=pixel_values,
            perplexity=torch.tensor(-1.0),
        )


def make_images(count: int, size: int = 12) -> torch.Tensor:
    images = torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(0))
    return (images * torch.linspace(0.2, 1, count)[:, None, None, None] * 255).round() / 255


def make_loader(images: torch.Tensor, batch_size: int, labels: list | None = None) -> DataLoader:
    rows = [{"pixel_values": image} for image in images]
    if labels is not None:
        rows = [{**row, "labels": label} for row, label in zip(rows, labels, strict=True)]
    return DataLoader(rows, batch_size=batch_size)


def mean_color(images: torch.Tensor) -> torch.Tensor:
    return images.mean(dim=(2, 3))


def worker(result: str) -> None:
    accelerator = Accelerator(cpu=True)
    figures = evaluate_on_this_rank(accelerator)
    Path(f"{result}.{accelerator.process_index}").write_text(json.dumps(figures))
    # The wrapped model is gone by now: one that outlives its process group can hang in gloo.
    accelerator.free_memory()
    accelerator.end_training()


def evaluate_on_this_rank(accelerator: Accelerator) -> dict[str, float]:
    model, loader = accelerator.prepare(GrayLevels(), make_loader(make_images(11), 3))
    figures = evaluate_image_autoencoder(model, loader, accelerator, feature_extractor=mean_color)
    plain = evaluate_image_autoencoder(model, make_loader(make_images(11), 3), accelerator)
    return {**figures, "unprepared": plain["mse"], "processes": accelerator.num_processes}


def test_figures_are_those_of_the_whole_split_decoded_from_codes() -> None:
    images, model = make_images(11), GrayLevels().eval()
    with torch.no_grad():
        codes = model.encode(images).codes
        reconstruction = model.decode(codes).reconstruction
    figures = evaluate_image_autoencoder(model, make_loader(images, 4))
    # By hand: all images count the same, whatever the size of their batch.
    shares = torch.bincount(codes.flatten(), minlength=5).double() / codes.numel()
    entropy = -sum(p * math.log(p) for p in shares.tolist() if p > 0)
    errors = (reconstruction.double() * 255).round() / 255 - images.double()
    assert figures["mse"] == pytest.approx(errors.square().mean().item(), rel=1e-6)
    assert figures["psnr"] == pytest.approx(psnr(reconstruction, images).mean().item())
    assert figures["ssim"] == pytest.approx(ssim(reconstruction, images).mean().item())
    assert figures["perplexity"] == pytest.approx(math.exp(entropy))
    assert figures["codebook_usage"] == (shares > 0).double().mean().item()
    assert figures["loss"] == pytest.approx(images.square().sum().item() / 11, rel=1e-6)
    assert (figures["num_images"], figures["batch_size"]) == (11, 4)
    assert figures["images_per_second"] > 0
    assert set(figures) <= set(METRIC_DEFINITIONS)


def test_small_images_have_no_ssim() -> None:
    figures = evaluate_image_autoencoder(GrayLevels(), make_loader(make_images(4, size=8), 4))
    assert "mse" in figures
    assert "ssim" not in figures


@pytest.mark.parametrize("fails", [False, True])
def test_every_module_gets_its_mode_back(fails: bool) -> None:
    model = GrayLevels().train()
    model.frozen.eval()
    model.fails = fails
    try:
        evaluate_image_autoencoder(model, make_loader(make_images(4), 4))
    except RuntimeError:
        assert fails
    assert (model.training, model.dropout.training, model.frozen.training) == (True, True, False)


def test_features_give_a_distance_and_logits_an_accuracy() -> None:
    images, model = make_images(9), GrayLevels().eval()
    labels = [0, 1, 2] * 3

    def features_and_logits(pixel_values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        features = mean_color(pixel_values)
        return features, features

    loader = make_loader(images, 4, labels)
    figures = evaluate_image_autoencoder(model, loader, feature_extractor=features_and_logits)
    with torch.no_grad():
        reconstruction = model.decode(model.encode(images).codes).reconstruction
    real, decoded = FeatureStatistics(), FeatureStatistics()
    real.update(mean_color(images))
    decoded.update(mean_color(round_to_8_bits(reconstruction).float()))
    assert figures["frechet"] == pytest.approx(real.distance(decoded), rel=1e-6)
    assert figures["frechet"] > 0
    # A gray reconstruction has three equal logits, and the first of them wins.
    assert figures["accuracy"] == pytest.approx(1 / 3)
    without_labels = evaluate_image_autoencoder(
        model, make_loader(images, 4), feature_extractor=features_and_logits
    )
    assert "accuracy" not in without_labels
    assert without_labels["frechet"] == pytest.approx(figures["frechet"])


def test_a_quick_look_stops_early_and_leaves_no_trace() -> None:
    images, accelerator = make_images(10), Accelerator(cpu=True)
    model = GrayLevels()
    loader = accelerator.prepare_data_loader(make_loader(images, 2))
    figures = evaluate_image_autoencoder(model, loader, accelerator, max_batches=3)
    assert figures["num_images"] == 6
    with torch.no_grad():
        model.eval()
        reconstruction = model.decode(model.encode(images[:6]).codes).reconstruction
    assert figures["mse"] == pytest.approx(mse(reconstruction, images[:6]).mean().item())
    # Accelerate would go on to take this loader for the one that a training loop is reading.
    assert not GradientState().in_dataloader


def test_bad_arguments_are_named() -> None:
    with pytest.raises(ValueError, match="gave no batch"):
        evaluate_image_autoencoder(GrayLevels(), [])
    with pytest.raises(ValueError, match="max_batches must be at least 1, got 0"):
        evaluate_image_autoencoder(GrayLevels(), make_loader(make_images(2), 2), max_batches=0)


def test_two_processes_give_the_figures_of_one(tmp_path: Path) -> None:
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2"]
    launcher += ["--rdzv-backend", "c10d", "--rdzv-endpoint", "localhost:0"]
    result = tmp_path / "figures"
    package = str(Path(hf_vq.evaluation.__file__).parents[1])
    done = subprocess.run(
        [*launcher, __file__, str(result)],
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": package},
        capture_output=True,
        text=True,
        timeout=300,  # it takes seconds, unless the machine is busy
    )
    assert done.returncode == 0, done.stderr
    ranks = [json.loads(Path(f"{result}.{rank}").read_text()) for rank in (0, 1)]
    one = evaluate_image_autoencoder(
        GrayLevels(), make_loader(make_images(11), 3), feature_extractor=mean_color
    )
    for figures in ranks:
        assert figures["processes"] == 2
        assert figures["num_images"] == 11  # the last batches are filled up with repeats
        for name in ("mse", "psnr", "ssim", "perplexity", "codebook_usage", "frechet"):
            assert figures[name] == pytest.approx(one[name], rel=1e-9)
        assert figures["unprepared"] == pytest.approx(one["mse"], rel=1e-9)


@pytest.mark.parametrize("quantizer", ["gaussian_mixture", "ema"])
def test_gmvq_is_scored_from_its_hard_codes(
    tiny_config: Callable[..., Any], quantizer: str
) -> None:
    from hf_vq.models import GMVQModel

    config = tiny_config("gmvq", quantizer=quantizer)
    model = GMVQModel(config).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    images = make_images(10)
    accelerator = Accelerator(cpu=True)
    wrapped, loader = accelerator.prepare(model, make_loader(images, 4))
    figures = evaluate_image_autoencoder(wrapped, loader, accelerator)

    assert model.training
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name
    model.eval()
    with torch.no_grad():
        codes = model.encode(images).codes
        reconstruction = model.decode(codes=codes).reconstruction
        batches = [model(part, output_soft_hard_gap=True) for part in images.split(4)]
    assert figures["mse"] == pytest.approx(mse(reconstruction, images).mean().item(), rel=1e-6)
    assert figures["codebook_usage"] == len(codes.unique()) / config.codebook_size
    for name in ("loss", "reconstruction_loss", "kl_loss", "mutual_information", "soft_hard_gap"):
        expected = sum(n * out[name].item() for n, out in zip((4, 4, 2), batches, strict=True)) / 10
        assert figures[name] == pytest.approx(expected, rel=1e-4, abs=1e-6), name
    parts = config.commitment_loss_weight * figures["commitment_loss"]
    parts += config.kl_loss_weight * figures["kl_loss"] + figures["reconstruction_loss"]
    assert figures["loss"] == pytest.approx(parts, rel=1e-5)
    assert set(figures) <= set(METRIC_DEFINITIONS)


def test_a_record_holds_what_one_needs_to_repeat_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    command = ["python", str(tmp_path / "scripts" / "evaluate.py"), "--out=/secret/place/a.json"]
    command += ["--checkpoint", "/secret/gmvq-cifar10", "--lr=1e-3", "hf://someone/pictures"]
    written = write_record(
        tmp_path / "new" / "gmvq.json",
        "gmvq-cifar10",
        {"mse": 0.004, "psnr": math.inf, "speed": 7},
        data={**DATA, "name": "/secret/pictures", "num_images": 8},
        seeds=[0, 1],
        definitions={"speed": "how fast it goes"},
        command=command,
    )
    text = (tmp_path / "new" / "gmvq.json").read_text()
    record = read_record(tmp_path / "new" / "gmvq.json")
    assert record == written
    assert record["metrics"] == {"mse": 0.004, "psnr": None, "speed": 7}
    assert record["definitions"]["mse"] == METRIC_DEFINITIONS["mse"]
    assert record["definitions"]["speed"] == "how fast it goes"
    assert record["data"] == {**DATA, "num_images": 8}
    assert record["seeds"] == [0, 1]
    assert record["versions"]["torch"] == torch.__version__
    assert record["hardware"]["cores"] >= 1
    assert record["command"] == (
        "python scripts/evaluate.py --out=a.json --checkpoint gmvq-cifar10 --lr=1e-3 "
        "hf://someone/pictures"
    )
    assert "secret" not in text
    assert str(tmp_path) not in text


def test_a_record_tells_of_the_command_that_ran(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["scripts/evaluate.py", "--split", "test"])
    record = write_record(tmp_path / "a.json", "a", {"mse": 1.0}, data=DATA, seeds=[0])
    assert record["command"] == "python scripts/evaluate.py --split test"


def test_a_record_of_a_folder_tells_its_weights_apart(tmp_path: Path) -> None:
    folder = tmp_path / "run" / "final"
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(b"abc")
    write_record(tmp_path / "a.json", str(folder), {"mse": 1.0}, data=DATA, seeds=[0])
    record = read_record(tmp_path / "a.json")
    assert record["checkpoint"] == "final"
    digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert record["weights"] == {"model.safetensors": digest}
    assert "weights" not in write_record(
        tmp_path / "b.json", "user/model", {"mse": 1.0}, data=DATA, seeds=[0]
    )


def test_the_record_of_a_checkpoint_lies_beside_its_folder(tmp_path: Path) -> None:
    (tmp_path / "final").mkdir()
    assert record_path(tmp_path / "final") == tmp_path / "final.json"
    assert record_path("someone/some-model") == Path("some-model.json")


def test_figures_are_printed_by_name_and_in_the_order_asked_for() -> None:
    metrics = {"mse": 0.00123456, "psnr": 29.0, "fid": None}
    assert format_figures(metrics, "a.json", ["psnr", "fid", "ssim"]).splitlines() == [
        "       psnr 29",
        "        fid -",
        "all figures a.json",
    ]
    assert format_figures(metrics, "a.json").splitlines()[0] == "        mse 0.0012346"


def test_a_figure_without_a_definition_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="'speed' needs a definition"):
        write_record(tmp_path / "a.json", "a", {"speed": 1.0}, data=DATA, seeds=[0])
    data = {"name": "pictures", "split": "test"}
    with pytest.raises(ValueError, match="name, split and revision, got .*'name', 'split'"):
        write_record(tmp_path / "a.json", "a", {"mse": 1.0}, data=data, seeds=[0])
    assert not (tmp_path / "a.json").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"commit": 3}, "commit has the wrong type: 3"),
        ({"metrics": {}}, "metrics must not be empty"),
        ({"definitions": {}}, "each must have a definition"),
        ({"metrics": {"mse": "low"}}, "'mse' must be a finite number or null, got 'low'"),
        ({"metrics": {"mse": math.nan}}, "'mse' must be a finite number or null, got nan"),
        ({"metrics": {"mse": True}}, "got True"),
        ({"data": {"name": "a"}}, "data must have name, split and revision"),
        ({"seeds": ["0"]}, "seeds must be integers"),
        ({"date": "yesterday"}, "yesterday"),
        ({"extra": 1}, "must have the fields"),
        ({"weights": "sha256:0"}, "weights has the wrong type"),
    ],
)
def test_reading_checks_a_record(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    path = tmp_path / "a.json"
    record = write_record(path, "a", {"mse": 1.0}, data=DATA, seeds=[0])
    path.write_text(json.dumps({**record, **change}))
    with pytest.raises(ValueError, match=message) as error:
        read_record(path)
    assert "a.json is not a record" in str(error.value)


@pytest.mark.parametrize("text", ["", "{", "[]"])
def test_reading_refuses_what_is_no_record(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(ValueError, match=r"a\.json is not a record"):
        read_record(tmp_path / "a.json")


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_the_commit_is_that_of_the_source_and_of_nothing_around_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def git(*arguments: str) -> str:
        settings = ["-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false"]
        command = ["git", *settings, *arguments]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    def state() -> tuple[str | None, bool | None]:
        environment = describe_environment()
        return environment["commit"], environment["dirty"]

    source, record = tmp_path / "package" / "evaluation.py", tmp_path / "a.json"
    source.parent.mkdir()
    source.write_text("a = 1\n")
    record.write_text("{}")
    monkeypatch.setattr(hf_vq.evaluation, "__file__", str(source))
    assert state() == (None, None)
    git("init")
    assert state() == (None, None)
    git("add", "a.json")
    git("commit", "-m", "Add a record")
    assert state() == (None, None)  # as for a package installed inside another repository
    git("add", "package")
    git("commit", "-m", "Add the source")
    commit = git("rev-parse", "HEAD")
    assert state() == (commit, False)
    record.write_text("[]")
    assert state() == (commit, False)
    source.write_text("a = 2\n")
    assert state() == (commit, True)


if __name__ == "__main__":
    worker(sys.argv[1])
