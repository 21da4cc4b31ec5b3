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
"""Every script end to end on tiny images: two steps, resuming, figures, pictures, and mistakes that are named."""

import ast
import dataclasses
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file
from transformers import BertConfig, BertModel

from from_file import load_script
from hf_vq import GMVQConfig, GMVQImageProcessor, GMVQModel
from hf_vq.code_pictures import GAP, color_codes
from hf_vq.evaluation import read_record

ROOT = Path(__file__).resolve().parents[1]
SCRIPTS = ROOT / "scripts"

pytestmark = pytest.mark.usefixtures("apart")
RECIPES = sorted((SCRIPTS / "configs").glob("gmvq-*.yaml"))
TINY = {
    "image_size": 8,
    "hidden_size": 12,
    "residual_hidden_size": 6,
    "num_residual_blocks": 1,
    "codebook_size": 16,
    "codebook_dim": 5,
    "per_device_train_batch_size": 4,
    "checkpointing_steps": 1,
    "cpu": True,
    "progress_bar": False,
}


train_gmvq = load_script("train_gmvq")
evaluate = load_script("evaluate")
reconstruct = load_script("reconstruct")


def words(options):
    return [word for name, value in options.items() for word in (f"--{name}", str(value))]


def run_training(image_folder, output_dir, *more, **options):
    options = {"dataset": image_folder, "output_dir": output_dir, "max_steps": 2, **TINY, **options}
    return train_gmvq.main([*words(options), *more])


@pytest.fixture
def checkpoint(tmp_path):
    torch.manual_seed(0)
    fields = {f.name for f in dataclasses.fields(GMVQConfig)}
    config = GMVQConfig(**{name: value for name, value in TINY.items() if name in fields})
    GMVQModel(config).save_pretrained(tmp_path / "model")
    GMVQImageProcessor(size=8).save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def test_training_writes_model_record_and_log(image_folder, tmp_path, capsys):
    results = run_training(image_folder, tmp_path / "run", eval_split="test", eval_steps=1)
    assert results["step"] == 2
    assert json.loads((tmp_path / "run" / "all_results.json").read_text())["step"] == 2
    assert {"eval_mse", "eval_perplexity", "eval_codebook_usage"} <= results.keys()

    record = read_record(tmp_path / "run" / "best.json")
    assert record["checkpoint"] == "run/best"
    assert record["metrics"]["num_images"] == 8
    assert record["data"]["split"] == "test"
    assert record["seeds"] == [0]
    output = capsys.readouterr().out
    assert f"{record['metrics']['mse']:.5g}" in output
    assert "best.json" in output

    model = GMVQModel.from_pretrained(tmp_path / "run" / "best")
    assert bool(model.quantizer.codebook_initialized)
    assert model.config.temperature_anneal_steps == 2  # 90 % of two steps, rounded
    processor = GMVQImageProcessor.from_pretrained(tmp_path / "run" / "best")
    assert dict(processor.size) == {"height": 8, "width": 8}
    # The codebook was fitted to data: no row is left where it was drawn.
    assert len(torch.unique(model.quantizer.codebook, dim=0)) == 16


def test_resuming_equals_an_uninterrupted_run(image_folder, tmp_path):
    options = {
        "temperature_anneal_steps": 2,
        "horizontal_flip": True,
        "lr_scheduler_type": "constant",
        "test_split": "none",
    }
    run_training(image_folder, tmp_path / "whole", **options)
    run_training(image_folder, tmp_path / "parts", **options | {"max_steps": 1})
    options["resume_from_checkpoint"] = "latest"
    results = run_training(image_folder, tmp_path / "parts", **options)
    assert results["step"] == 2
    whole, parts = (
        load_file(tmp_path / name / "final" / "model.safetensors") for name in ("whole", "parts")
    )
    assert whole.keys() == parts.keys()
    for name, tensor in whole.items():
        assert torch.equal(tensor, parts[name]), name


def test_training_on_a_stream(image_folder, tmp_path):
    results = run_training(image_folder, tmp_path / "run", streaming=True, max_train_samples=12)
    assert results["step"] == 2
    assert read_record(tmp_path / "run" / "final.json")["data"]["revision"].startswith("pixels-")


def test_training_in_memory_on_gray_images_with_the_other_quantizer(image_folder, tmp_path):
    options = {"in_memory": True, "num_channels": 1, "quantizer": "ema", "codebook_warmup_steps": 1}
    run_training(image_folder, tmp_path / "run", **options)
    model = GMVQModel.from_pretrained(tmp_path / "run" / "final")
    assert (model.config.num_channels, model.config.quantizer) == (1, "ema")
    assert read_record(tmp_path / "run" / "final.json")["metrics"]["num_images"] == 8


def test_temperature_follows_the_length_of_the_run(monkeypatch):
    config = train_gmvq.TrainingConfig(
        output_dir="x",
        num_train_epochs=3,
        per_device_train_batch_size=10,
        gradient_accumulation_steps=2,
    )
    assert config.count_steps(101) == 16  # 303 images in batches of 20
    monkeypatch.setenv("WORLD_SIZE", "4")
    assert config.count_steps(101) == 4
    with pytest.raises(ValueError, match="max_steps"):
        config.count_steps(None)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"codebok_size": 3}, r"codebok_size.*codebook_size"),
        ({"codebook_size": 0}, "codebook_size is 0"),
        ({"image_size": 10}, "image_size is 10"),
        ({"num_channels": 2}, "num_channels is 2"),
        ({"codebook_size": "many"}, "codebook_size is 'many'"),
        ({"kl": "albo"}, "kl is 'albo'"),
        ({"test_split": "tset"}, "tset"),
    ],
)
def test_wrong_options_are_named(image_folder, tmp_path, options, message):
    with pytest.raises(Exception, match=message):
        run_training(image_folder, tmp_path / "run", **options)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("modle:\n  image_size: 8\n", r"modle.*model"),
        ("model:\n  image_sise: 8\n", r"image_sise.*image_size"),
        ("learning_rte: 1.0\n", r"learning_rte.*learning_rate"),
    ],
)
def test_unknown_keys_of_a_recipe_are_named(image_folder, tmp_path, text, message):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(text)
    with pytest.raises(ValueError, match=message):
        run_training(image_folder, tmp_path / "run", "--config", str(recipe))


def test_unusable_data_is_named(tmp_path, image_folder):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="empty"):
        run_training(tmp_path / "empty", tmp_path / "run")
    with pytest.raises(ValueError, match="absent"):
        run_training(tmp_path / "absent", tmp_path / "run")
    (image_folder / "train" / "03.png").write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"03\.png"):
        run_training(image_folder, tmp_path / "run", max_steps=4)
    assert run_training(image_folder, tmp_path / "run2", on_corrupt="skip")["step"] == 2


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_recipes(recipe):
    """A recipe parses, states nothing but differences, and goes to a folder of its name."""
    classes = (
        train_gmvq.TrainingConfig,
        train_gmvq.DataConfig,
        train_gmvq.ModelConfig,
        train_gmvq.CodebookConfig,
    )
    parsed = train_gmvq.parse_config(*classes, argv=["--config", str(recipe)])
    options, defaults = {}, {}
    for instance in parsed:
        options |= dataclasses.asdict(instance)
        defaults |= {f.name: f.default for f in dataclasses.fields(instance)}
    sections = yaml.safe_load(recipe.read_text())
    for section in sections.values():
        for name in section:
            assert options[name] != defaults[name], f"{name} is the default"
    assert options["output_dir"] == f"runs/{recipe.stem}"
    config = GMVQConfig(**dataclasses.asdict(parsed[2]) | {"temperature_anneal_steps": 1})
    stride = 2**config.num_downsamples
    grids = {
        "gmvq-cifar10": 8,
        "gmvq-cifar10-16x16": 16,
        "gmvq-celeba-64": 16,
        "gmvq-celeba-128": 16,
    }
    assert config.image_size // stride == grids[recipe.stem]


def test_model_options_are_those_of_the_config():
    own = set(vars(GMVQConfig)["__annotations__"])
    fields = dataclasses.fields(train_gmvq.ModelConfig)
    assert {f.name for f in fields} == own - {"model_type", "keys_to_ignore_at_inference"}
    for f in fields:
        assert f.metadata["help"], f.name


def test_evaluation(checkpoint, image_folder, tmp_path, capsys):
    argv = words({"checkpoint": checkpoint, "dataset": image_folder, "batch_size": 3, "cpu": True})
    record = evaluate.main(argv)
    assert record == read_record(tmp_path / "model.json")
    assert record["metrics"]["num_images"] == 8
    assert record["data"]["name"] == "images"
    assert "perplexity" in capsys.readouterr().out

    # An independent computation of the headline figure.
    model = GMVQModel.from_pretrained(checkpoint).eval()
    files = sorted((image_folder / "test").iterdir())
    pixels = GMVQImageProcessor(size=8)([Image.open(f) for f in files], return_tensors="pt")
    with torch.no_grad():
        reconstruction = model(pixels.pixel_values).reconstruction
    rounded = (reconstruction.clamp(0, 1) * 255).round() / 255
    mse = (rounded - pixels.pixel_values).square().mean().item()
    assert record["metrics"]["mse"] == pytest.approx(mse, rel=1e-5)

    streamed = evaluate.main([*argv, "--streaming", "--output", str(tmp_path / "b.json")])
    assert streamed["metrics"]["mse"] == pytest.approx(record["metrics"]["mse"], rel=1e-6)
    one = [*argv, "--max_samples", "1", "--output", str(tmp_path / "c" / "d.json")]
    assert evaluate.main(one)["metrics"]["num_images"] == 1


def test_unusable_checkpoints_are_named(checkpoint, image_folder, tmp_path):
    def run(folder):
        return evaluate.main(words({"checkpoint": folder, "dataset": image_folder, "cpu": True}))

    shutil.copytree(checkpoint, tmp_path / "truncated")
    weights = tmp_path / "truncated" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(ValueError, match=r"truncated are truncated or damaged"):
        run(tmp_path / "truncated")
    bert = BertConfig(
        hidden_size=4, num_hidden_layers=1, num_attention_heads=1, intermediate_size=4, vocab_size=9
    )
    BertModel(bert).save_pretrained(tmp_path / "bert")
    with pytest.raises(ValueError, match=r"'bert', expected 'gmvq'"):
        run(tmp_path / "bert")
    with pytest.raises(ValueError, match=r"cannot load .*absent"):
        run(tmp_path / "absent")


def test_reconstruction_of_files(checkpoint, image_folder, tmp_path, make_images):
    (single,) = make_images(1, size=20)
    single.save(tmp_path / "single.jpg")
    options = {"checkpoint": checkpoint, "num_images": 3, "magnify": 4, "output": "out/picture.png"}
    path = reconstruct.main(
        [*words(options), "--images", str(tmp_path / "single.jpg"), str(image_folder / "test")]
    )
    picture = np.asarray(Image.open(path))
    gap = GAP
    assert picture.shape == (3 * (32 + gap) - gap, 3 * (32 + gap) - gap, 3)
    # The second column begins with the first image of the folder, each pixel four times as large.
    original = np.asarray(Image.open(image_folder / "test" / "00.png"))
    assert np.array_equal(picture[:32:4, 32 + gap : 64 + gap : 4], original)
    # A code covers 4 x 4 pixels of the image, 16 x 16 of the picture, in one color.
    code = picture[-32:-16, :16].reshape(-1, 3)
    assert (code == code[0]).all()


def test_reconstruction_of_a_data_set(checkpoint, image_folder, capsys):
    reconstruct.main(
        words({"checkpoint": checkpoint, "dataset": image_folder, "split": "train", "magnify": 1})
    )
    with Image.open("reconstructions.png") as picture:
        assert picture.width == 8 * (8 + GAP) - GAP
    assert "8 images" in capsys.readouterr().out


def test_code_colors():
    codebook = torch.tensor([[0.0, 0, 0, 0], [1, 0, 0, 0], [2, 0, 0, 0], [100, 0, 0, 0]])
    red = color_codes(codebook)[:, 0].tolist()
    assert red in ([0, 85, 170, 255], [255, 170, 85, 0])  # a direction has two signs
    assert color_codes(torch.zeros(1, 2)).shape == (1, 3)


def test_nothing_to_reconstruct_is_named(checkpoint, tmp_path):
    base = ["--checkpoint", str(checkpoint)]
    with pytest.raises(ValueError, match="either images or a dataset"):
        reconstruct.main(base)
    with pytest.raises(ValueError, match="absent.png"):
        reconstruct.main([*base, "--images", "absent.png"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="empty holds no image files"):
        reconstruct.main([*base, "--images", str(tmp_path / "empty")])
    (tmp_path / "broken.png").write_text("no image")
    with pytest.raises(OSError, match=r"broken\.png"):
        reconstruct.main([*base, "--images", str(tmp_path / "broken.png")])
    with pytest.raises(ValueError, match="num_images is 0"):
        reconstruct.main([*base, "--images", "x", "--num_images", "0"])


@pytest.mark.parametrize("script", sorted(SCRIPTS.glob("*.py")), ids=lambda path: path.stem)
def test_header_names_the_extras_that_are_needed(script):
    """PEP 723: `uv run script.py` installs what the header says."""
    text = script.read_text()
    block = re.search(r"^# /// script\n((?:#.*\n)+?)# ///$", text, re.MULTILINE)
    header = tomllib.loads(re.sub(r"^# ?", "", block[1], flags=re.MULTILINE))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert header["requires-python"] == project["requires-python"]
    (dependency,) = header["dependencies"]
    extras = re.fullmatch(r"hf_vq\[([\w,]+)\]", dependency)[1].split(",")
    assert set(extras) <= set(project["optional-dependencies"])
    assert ast.get_docstring(ast.parse(text)), "the docstring tells how to call it"


def test_scripts_run_as_programs(checkpoint, image_folder):
    """In a process of its own: imports, logging and the command line as a user has them."""
    command = [sys.executable, SCRIPTS / "evaluate.py", "--checkpoint", checkpoint, "--dataset"]
    done = subprocess.run(
        [str(word) for word in [*command, image_folder, "--cpu", "--output", "record.json"]],
        capture_output=True,
        text=True,
        env={**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT / "src")},
    )
    assert done.returncode == 0, done.stderr
    assert read_record("record.json")["command"].startswith("python ")
