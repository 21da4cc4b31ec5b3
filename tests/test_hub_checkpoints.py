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
"""Checkpoints of this project: from a recipe to a folder for the Hub, a record and a checksum."""

import hashlib
import json
from pathlib import Path

import pytest

from from_file import load_script

ROOT = Path(__file__).resolve().parents[1]
script = load_script("make_checkpoints")


def test_each_checkpoint_has_a_recipe_a_card_and_a_script():
    for name, training in script.CHECKPOINTS.items():
        assert (ROOT / "scripts" / "configs" / f"{name}.yaml").is_file()
        assert (ROOT / "model_cards" / f"{name}.md").is_file()
        assert (ROOT / "scripts" / training).is_file()
    assert {path.stem for path in (ROOT / "model_cards").glob("*.md")} == set(script.CHECKPOINTS)
    assert "scripts/make_checkpoints.py" in (ROOT / "Makefile").read_text()


def test_a_checkpoint_is_trained_scored_and_written(image_folder, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    options = {
        "dataset": image_folder,
        "train_split": "train",
        "eval_split": "test",
        "image_size": 16,
        "hidden_size": 12,
        "residual_hidden_size": 6,
        "codebook_size": 16,
        "codebook_dim": 5,
        "codebook_warmup_steps": 1,
        "max_steps": 2,
        "per_device_train_batch_size": 4,
        "eval_steps": 1,
        "cpu": True,
        "progress_bar": False,
    }
    given = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    place = ["--runs", str(tmp_path / "runs"), "--cards", str(tmp_path / "cards"), "--user", "me"]
    (folder,) = script.main(["gmvq-cifar10", *place, "--", *given])
    assert folder == tmp_path / "runs" / "gmvq-cifar10" / "hub"
    assert "hf upload me/gmvq-cifar10" in capsys.readouterr().out
    record = json.loads((tmp_path / "cards" / "gmvq-cifar10.json").read_text())
    assert record["metrics"]["num_images"] == 8
    digest, name = (tmp_path / "cards" / "gmvq-cifar10.sha256").read_text().split()
    assert digest == hashlib.sha256((folder / name).read_bytes()).hexdigest()
    for ending in ("", "-photographs"):
        picture = f"gmvq-cifar10{ending}.png"
        assert (tmp_path / "cards" / picture).read_bytes() == (folder / picture).read_bytes()
        assert f"]({picture})" in (folder / "README.md").read_text()
    # What is finished is not trained again.
    monkeypatch.setattr(script.subprocess, "run", lambda *args, **kwargs: pytest.fail("trained"))
    assert script.main(["gmvq-cifar10", *place]) == [folder]


def test_mistakes_are_named(capsys, tmp_path, monkeypatch):
    for arguments, message in (
        (["gmvq"], "there is no checkpoint 'gmvq': expected one of gmvq-cifar10, t5-vqvae"),
        (["--", "--seed", "1"], "options of a training script go with one checkpoint"),
    ):
        with pytest.raises(SystemExit):
            script.main(arguments)
        assert message in capsys.readouterr().err
    monkeypatch.setattr(script.subprocess, "run", lambda *args, **kwargs: None)
    with pytest.raises(ValueError, match="has no record beside its model: train with a test split"):
        script.main(["gmvq-cifar10", "--runs", str(tmp_path)])
