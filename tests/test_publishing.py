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
"""From a run to a folder for the Hub, and everything that keeps a folder from being published."""

import ast
import inspect
import json
import logging
import os
import pickle
import re
import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from huggingface_hub import HfApi, ModelCard
from PIL import Image
from safetensors.torch import load_file
from transformers import AutoModel, AutoModelForSeq2SeqLM, BertConfig

from from_file import load_script
from hf_vq import hub
from hf_vq.evaluation import weight_checksums, write_record
from hf_vq.hub_checks import check_folder, published_files
from hf_vq.models import MODELS, GMVQImageProcessor, TopicVQForImageGeneration
from hf_vq.publishing import prepare_run
from hf_vq.single_file import single_file
from hf_vq.text_data import train_tokenizer
from hf_vq.text_evaluation import TEXT_METRIC_DEFINITIONS
from hf_vq.topic_images.image_tokenizers import image_tokenizer
from hf_vq.topic_images.pipeline import TopicVQImagePipeline
from hf_vq.topic_images.scoring import IMAGE_TOPIC_DEFINITIONS

ROOT = Path(__file__).resolve().parents[1]
TOKEN = "hf_" + "secretSecret" * 3


script = load_script("publish")


def write_figures(path, figures, **options):
    data = {"name": "uoft-cs/cifar10", "split": "test", "revision": "sha256:0"}
    return write_record(path, "run/best", figures, data=data, seeds=[0], **options)


@pytest.fixture
def run(tiny_config, tmp_path):
    """A finished run: checkpoints, log, the best model and its record."""
    run = tmp_path / "run"
    model = AutoModel.from_config(tiny_config("gmvq"))
    for name in ("best", "final"):
        model.save_pretrained(run / name)
        GMVQImageProcessor(size=8).save_pretrained(run / name)
    write_figures(run / "best.json", {"mse": 0.003, "psnr": 25.0, "num_images": 10})
    (run / "checkpoint-1").mkdir()
    torch.save({}, run / "checkpoint-1" / "optimizer.bin")
    (run / "log.jsonl").write_text("{}\n")
    results = {"step": 4, "examples_seen": 16, "train_seconds": 1.5, "num_processes": 1}
    results |= {"best_model": str(run / "best"), "config": {"seed": 0, "output_dir": str(run)}}
    (run / "all_results.json").write_text(json.dumps(results))
    return run


@pytest.fixture
def folder(run):
    return prepare_run(run, "me/model", license="mit")


def test_a_run_becomes_a_folder(run, folder):
    assert folder == run / "hub"
    names = published_files(folder)
    assert {name for name in names if not name.endswith(".py")} == {
        ".eval_results/hf_vq.yaml",
        "README.md",
        "all_results.json",
        "config.json",
        "evaluation.json",
        "model.safetensors",
        "preprocessor_config.json",
    }
    assert "modeling_gmvq.py" in names
    assert check_folder(folder, "me/model") == []
    assert (folder / "evaluation.json").read_text() == (run / "best.json").read_text()
    best = load_file(run / "best" / "model.safetensors")
    for name, tensor in load_file(folder / "model.safetensors").items():
        assert torch.equal(tensor, best[name]), name
    # No path of this machine, neither in the results nor in the card.
    training = json.loads((folder / "all_results.json").read_text())
    assert training["best_model"] == "best"
    assert training["config"] == {"seed": 0, "output_dir": "run"}
    for name in names:
        assert str(run).encode() not in (folder / name).read_bytes(), name
    # Neither does code stay in the run, nor does another call find the folder of this one in its way.
    assert not list((run / "best").glob("*.py"))
    assert prepare_run(run, "me/other", license="mit") == folder
    assert check_folder(folder, "me/other") == []


def test_large_weights_are_split(run):
    folder = prepare_run(run, "me/model", license="mit", max_shard_size="10KB")
    shards = sorted(folder.glob("model-*.safetensors"))
    assert len(shards) > 1
    assert not (folder / "model.safetensors").exists()
    assert check_folder(folder, "me/model") == []
    loaded, _ = hub.load_image_autoencoder(folder)
    for name, tensor in load_file(run / "best" / "model.safetensors").items():
        assert torch.equal(loaded.state_dict()[name], tensor), name
    shards[0].unlink()
    assert f"names {shards[0].name}, which is not there" in check_folder(folder)[0]


def test_texts_come_with_their_generation_config(tiny_config, tmp_path):
    tokenizer = train_tokenizer(["a cat is an animal"], 120)
    config = tiny_config("t5_vqvae", vocab_size=len(tokenizer))
    AutoModelForSeq2SeqLM.from_config(config).save_pretrained(tmp_path / "final")
    tokenizer.save_pretrained(tmp_path / "final")
    figures = {"exact_match": 0.5, "bleu1": 0.25}
    write_figures(tmp_path / "final.json", figures, definitions=TEXT_METRIC_DEFINITIONS)
    folder = prepare_run(tmp_path, "me/texts", license="mit")
    assert {"generation_config.json", "tokenizer.json"} <= set(published_files(folder))
    assert check_folder(folder, "me/texts") == []


def make_image_topics(tiny_config, tmp_path):
    """A finished run of images by topic, and its pipeline."""
    tokenizer = image_tokenizer(AutoModel.from_config(tiny_config("gmvq")).eval())
    config = tiny_config("topic_vq_image", tokenizer_fingerprint=tokenizer.fingerprint)
    prior = AutoModel.from_config(config).eval()
    prior.set_codebook(tokenizer.codebook)
    pipe = TopicVQImagePipeline(tokenizer.model, prior)
    pipe.set_progress_bar_config(disable=True)
    pipe.save_pretrained(tmp_path / "run" / "pipeline")
    prior.save_pretrained(tmp_path / "run" / "best")
    figures = {"bits_per_code": 5.0, "controllability": 0.9}
    path = tmp_path / "run" / "best.json"
    write_figures(path, figures, definitions=IMAGE_TOPIC_DEFINITIONS)
    return tmp_path / "run", pipe


PIPELINE_ALONE = """
import sys
import torch
from diffusers import DiffusionPipeline

folder, image, output = sys.argv[1:]
for trust in ({}, {"trust_remote_code": False}):
    try:
        DiffusionPipeline.from_pretrained(folder, custom_pipeline="pipeline", **trust)
    except ValueError as error:
        assert "trust_remote_code" in str(error), error
    else:
        raise AssertionError("the code ran without trust")
pipe = DiffusionPipeline.from_pretrained(folder, custom_pipeline="pipeline", trust_remote_code=True)
pipe.set_progress_bar_config(disable=True)
assert type(pipe.prior).__module__ == "diffusers_modules.local.modeling_topic_vq_image"
from PIL import Image
proportions = pipe.infer_topics(Image.open(image))
torch.save((pipe(topics=[0, 2], generator=1, output_type="pt").images, proportions), output)
"""


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
def test_images_by_topic_work_without_the_package(tiny_config, tmp_path, make_images, fresh_python):
    """A repository in the layout of diffusers; with hf_vq its own classes are taken, without it those that it holds."""
    run, pipe = make_image_topics(tiny_config, tmp_path)
    folder = prepare_run(run, "me/topics", license="mit", max_shard_size="10KB")
    assert check_folder(folder, "me/topics") == []
    names = set(published_files(folder))
    assert {name for name in names if name.endswith((".py", ".json")) or name[0] == "."} == {
        "evaluation.json",
        ".eval_results/hf_vq.yaml",
        "image_tokenizers.py",
        "model_index.json",
        "pipeline.py",
        "prior/config.json",
        "prior/generation_config.json",
        "prior/model.safetensors.index.json",
        "prior/modeling_topic_vq_image.py",
        "tokenizer/config.json",
        "tokenizer/model.safetensors.index.json",
        "tokenizer/modeling_gmvq.py",
    }
    for name in ("pipeline.py", "prior/modeling_topic_vq_image.py"):
        source = (folder / name).read_text()
        (folder / name).unlink()
        assert check_folder(folder) == [
            f"model_index.json names the code {name}, which is not there"
        ]
        (folder / name).write_text(source)
    assert ModelCard.load(folder / "README.md").data.library_name == "diffusers"
    drawn = pipe(topics=[0, 2], generator=1, output_type="pt").images
    loaded = TopicVQImagePipeline.from_pretrained(folder)
    loaded.set_progress_bar_config(disable=True)
    assert type(loaded.prior) is TopicVQForImageGeneration
    assert torch.equal(loaded(topics=[0, 2], generator=1, output_type="pt").images, drawn)

    (image,) = make_images(1, size=12)
    image.save(tmp_path / "image.png")
    paths = [str(folder), str(tmp_path / "image.png"), str(tmp_path / "out.pt")]
    done = subprocess.run(
        [fresh_python, "-c", PIPELINE_ALONE, *paths],
        capture_output=True,
        text=True,
        env=os.environ | {"HF_MODULES_CACHE": str(tmp_path / "modules")},
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 0, done.stderr
    images, proportions = torch.load(tmp_path / "out.pt", weights_only=True)
    assert torch.equal(images, drawn)
    torch.testing.assert_close(proportions, pipe.infer_topics(Image.open(tmp_path / "image.png")))


def test_code_in_one_file(tmp_path):
    """Each model's code fits into one file; what does not is refused."""
    for _, model_class, _ in MODELS:
        source = single_file(inspect.getsourcefile(model_class))
        assert f"class {model_class.__name__}(" in source
        assert not re.search(r"^\s*from \.", source, re.MULTILINE)
    (tmp_path / "a.py").write_text("X = 1\n")
    (tmp_path / "b.py").write_text("from .a import (\n    X,\n)\n\nY = X + 1\n")
    (tmp_path / "c.py").write_text("from .b import Y\nfrom .a import X\n\nZ = X + Y\n")
    namespace = {}
    exec(single_file(tmp_path / "c.py"), namespace)
    assert namespace["Z"] == 3
    (tmp_path / "d.py").write_text("from .a import X\n\n\ndef X():\n    pass\n")
    with pytest.raises(ValueError, match=r"a.py and d.py both define X"):
        single_file(tmp_path / "d.py")
    for line in (
        "from .a import X as W",
        "from . import a",
        "from .a import *",
        "from ..a import X",
    ):
        (tmp_path / "e.py").write_text(f"{line}\n")
        with pytest.raises(ValueError, match=r"e.py, line 1: expected `from .sibling import name`"):
            single_file(tmp_path / "e.py")


def test_the_card_tells_what_training_came_to(run):
    text = (prepare_run(run, "me/model", license="mit") / "README.md").read_text()
    assert "4 updates, 16 examples, 2 seconds with\n1 process." in text
    assert "```yaml\nseed: 0\noutput_dir: run\n```" in text
    # Topics are learned in stages, of which the first may have nothing to train.
    stage = json.loads((run / "all_results.json").read_text())
    stages = {"codebook": {"step": 0}, "topics": stage | {"step": 7}, "final_model": None}
    (run / "all_results.json").write_text(json.dumps(stages))
    folder = prepare_run(run, "me/model", license="mit")
    assert check_folder(folder, "me/model") == []
    text = (folder / "README.md").read_text()
    assert re.findall(r"(\d+) updates", text) == ["7"]
    assert "```yaml\ntopics:\n  seed: 0\n  output_dir: run\n```" in text
    # What another trainer wrote there has neither.
    (run / "all_results.json").write_text(json.dumps({"train_loss": 0.5}))
    folder = prepare_run(run, "me/model", license="mit")
    assert check_folder(folder, "me/model") == []
    assert "updates" not in (folder / "README.md").read_text()


def test_the_results_of_a_neighbor_are_not_those_of_a_model_by_itself(run):
    shutil.copytree(run / "best", run / "alone")
    write_figures(run / "alone.json", {"mse": 0.003, "psnr": 25.0})
    folder = prepare_run(run / "alone", "me/model", license="mit")
    assert not (folder / "all_results.json").exists()
    assert "updates" not in (folder / "README.md").read_text()


def test_a_card_of_ones_own(run, tmp_path):
    card, recipe = ROOT / "model_cards" / "gmvq-cifar10.md", "seed: 3\nmax_steps: 5"
    figures = {"mse": 0.003, "psnr": 25.0, "ssim": 0.9, "perplexity": 9.0, "codebook_usage": 1.0}
    write_figures(run / "best.json", figures | {"num_images": 10})
    folder = prepare_run(run, "me/model", card=card, recipe=recipe)
    assert check_folder(folder, "me/model") == []
    assert f"```yaml\n{recipe}\n```" in (folder / "README.md").read_text()
    (tmp_path / "card.md").write_text("---\n[\n---\n")
    with pytest.raises(ValueError, match="the metadata of the card cannot be read"):
        prepare_run(run, "me/model", card=tmp_path / "card.md")


def test_what_a_run_lacks_has_a_name(run, tmp_path, tiny_config):
    with pytest.raises(ValueError, match="absent holds no finished model"):
        prepare_run(tmp_path / "absent", "me/model")
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "thesis.txt").write_text("years of work")
    with pytest.raises(ValueError, match="taken holds something else"):
        prepare_run(run, "me/model", tmp_path / "taken", license="mit")
    assert (tmp_path / "taken" / "thesis.txt").is_file()
    (run / "best.json").unlink()
    with pytest.raises(ValueError, match=r"best.json is missing: .*scripts/evaluate.py"):
        prepare_run(run, "me/model")
    (run / "best" / "model.safetensors").unlink()
    torch.save({}, run / "best" / "pytorch_model.bin")
    with pytest.raises(ValueError, match=r"best holds weights as a pickle \(pytorch_model.bin\)"):
        prepare_run(run, "me/model")
    write_figures(tmp_path / "other.json", {"mse": 1.0})
    BertConfig().save_pretrained(tmp_path / "other")
    with pytest.raises(ValueError, match=r"'bert', expected one of 'gmvq', 't5_vqvae', 'topic_vq'"):
        prepare_run(tmp_path / "other", "me/model")
    write_figures(tmp_path / "best.json", {"mse": 1.0})
    AutoModel.from_config(tiny_config("topic_vq_image")).save_pretrained(tmp_path / "best")
    with pytest.raises(ValueError, match="pipeline is missing: it holds the image tokenizer"):
        prepare_run(tmp_path, "me/model")


def test_figures_belong_to_the_weights(run):
    """The record's checksums are those of the checkpoint, however it is split, and whatever lies below it."""

    def score():
        record = write_figures(run / "best.json", {"mse": 0.003})
        record |= {"weights": weight_checksums(run / "best")}
        (run / "best.json").write_text(json.dumps(record))

    score()
    for _ in range(2):  # of a model's own folder, `hub` lies in it
        folder = prepare_run(run / "best", "me/model", run / "best" / "hub", license="mit")
        assert check_folder(folder, "me/model") == []
    model, _ = hub.load_image_autoencoder(run / "best")
    (run / "best" / "model.safetensors").unlink()
    model.save_pretrained(run / "best", max_shard_size="10KB")
    with pytest.raises(
        ValueError, match=r"best.json holds the figures of other weights than .*1-of"
    ):
        prepare_run(run, "me/model", license="mit")
    score()
    assert check_folder(prepare_run(run, "me/model", license="mit"), "me/model") == []


def test_paths_of_the_machine_stay_at_home(run):
    results = json.loads((run / "all_results.json").read_text())
    results["config"] |= {
        "files": ["/home/alice/a.csv", "b.csv"],
        "command": "run --x /home/alice/y --z=file:///home/alice/z p:/home/alice/x and/or a/b",
        "separator": "/",
        "homepage": "https://example.org/home/alice",
        "windows": "at C:\\Users\\alice\\w",
    }
    (run / "all_results.json").write_text(json.dumps(results))
    folder = prepare_run(run, "me/model", license="mit")
    assert json.loads((folder / "all_results.json").read_text())["config"] == {
        "seed": 0,
        "output_dir": "run",
        "files": ["a.csv", "b.csv"],
        "command": "run --x y --z=z p:x and/or a/b",
        "separator": "/",
        "homepage": "https://example.org/home/alice",
        "windows": "at w",
    }
    recipe = "dataset: /home/alice/cifar10\nseed: 3"
    folder = prepare_run(run, "me/model", license="mit", recipe=recipe)
    assert "```yaml\ndataset: cifar10\nseed: 3\n```" in (folder / "README.md").read_text()


def test_pictures_are_files_of_the_run(run, tmp_path):
    picture = run / "pictures" / "a.png"
    picture.parent.mkdir()
    picture.symlink_to("/etc/hostname")
    with pytest.raises(ValueError, match=r"a.png is a link or a folder, expected a file"):
        prepare_run(run, "me/model", license="mit")
    picture.unlink()
    picture.write_text("no picture")
    with pytest.raises(ValueError, match=r"a.png holds no PNG image"):
        prepare_run(run, "me/model", license="mit")
    Image.new("RGB", (8, 8)).save(picture)
    assert check_folder(prepare_run(run, "me/model", license="mit"), "me/model") == []


def test_what_others_added_is_not_replaced(run, folder):
    (folder / ".git" / "objects").mkdir(parents=True)
    (folder / ".git" / "HEAD").write_text("ref: refs/heads/main\n")
    (folder / "notes.md").write_text("years of work")
    with pytest.raises(ValueError, match=r"hub holds .git, notes.md, which this does not write"):
        prepare_run(run, "me/model", license="mit")
    assert (folder / "notes.md").is_file()
    assert (folder / ".git" / "HEAD").is_file()


def test_a_token_is_not_written(run):
    results = json.loads((run / "all_results.json").read_text())
    results["config"]["command"] = f"train --token {TOKEN}"
    (run / "all_results.json").write_text(json.dumps(results))
    with pytest.raises(ValueError, match=r"hub was not written:\n- README.md holds an") as caught:
        prepare_run(run, "me/model", license="mit")
    assert "\n- all_results.json holds an access token" in str(caught.value)
    assert TOKEN not in str(caught.value)
    assert {path.name for path in run.iterdir() if path.is_dir()} == {
        "best",
        "final",
        "checkpoint-1",
    }


@pytest.mark.parametrize("size", ["10", "banana", "0GB", "", "5 GB "])
def test_what_is_no_size_is_refused(run, size):
    with pytest.raises(ValueError, match=f"max_shard_size is '{size}', expected a size such as"):
        prepare_run(run, "me/model", license="mit", max_shard_size=size)


def test_files_that_cannot_be_read_have_a_name(run, tmp_path):
    for target in (tmp_path / "file", tmp_path / "link"):
        target.write_text("text") if target.name == "file" else target.symlink_to(run)
        with pytest.raises(ValueError, match=f"{target.name} is a file or a link, expected a fol"):
            prepare_run(run, "me/model", target, license="mit")
    (run / "all_results.json").write_text("[]")
    with pytest.raises(ValueError, match=r"all_results.json cannot be read: expected an object"):
        prepare_run(run, "me/model", license="mit")
    (run / "best" / "config.json").write_text("{")
    with pytest.raises(ValueError, match=r"best/config.json cannot be read: Expecting property"):
        prepare_run(run, "me/model", license="mit")


def test_a_failure_leaves_no_folder(run, monkeypatch):
    monkeypatch.setattr("hf_vq.publishing._write_json", lambda path, content: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        prepare_run(run, "me/model", license="mit")
    assert {path.name for path in run.iterdir() if path.is_dir()} == {
        "best",
        "final",
        "checkpoint-1",
    }


def damage_record(folder):
    record = json.loads((folder / "evaluation.json").read_text())
    record["metrics"]["mse"] = 0.002
    (folder / "evaluation.json").write_text(json.dumps(record))


def lead_outside(folder):
    (folder / "notes.txt").symlink_to("/etc/passwd")


def name_a_shard_outside(folder):
    index = {"weight_map": {"a": "../best/model.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def truncate(folder):
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-10])


def write_token(folder):
    (folder / "notes.txt").write_text(f"login with {TOKEN}")


def name_a_local_encoder(folder):
    config = json.loads((folder / "config.json").read_text())
    config["encoder_name_or_path"] = "models/mine/minilm"
    (folder / "config.json").write_text(json.dumps(config))


def change_json(name, **fields):
    def change(folder):
        content = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps(content | fields))

    return change


def write(name, content):
    def damage(folder):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(content)

    return damage


def remove(name):
    return lambda folder: (folder / name).unlink()


def lead_nowhere(folder):
    (folder / "notes.txt").symlink_to("absent.txt")


def show_by_reference(folder):
    with (folder / "README.md").open("a") as file:
        file.write("\n![words][picture] ![Other]\n\n[picture]: absent.png\n[other]: <gone.png>\n")


DAMAGES = {
    "it lacks encoder.safetensors, the word vectors": change_json(
        "config.json", encoder_name_or_path="corpus"
    ),
    "names the encoder 'models/mine/minilm', a folder of this machine": name_a_local_encoder,
    "mse is 0.003 in the card, but 0.002 in the evaluation record": damage_record,
    "notes.txt is a link that leaves the folder": lead_outside,
    "which is not in its folder": name_a_shard_outside,
    "model.safetensors is truncated or damaged": truncate,
    "notes.txt holds an access token": write_token,
    "sub/weights.pt may hold a pickle: loading it can run any code": lambda folder: (
        (folder / "sub").mkdir(),
        torch.save({}, folder / "sub" / "weights.pt"),
    ),
    "it lacks README.md": lambda folder: (folder / "README.md").unlink(),
    "it lacks config.json": lambda folder: (folder / "config.json").unlink(),
    "it lacks weights in safetensors": lambda folder: (folder / "model.safetensors").unlink(),
    "config.json names the code modeling_gmvq.py, which is not there": remove("modeling_gmvq.py"),
    "config.json names the code pipelines.py, which is not there": remove("pipelines.py"),
    "preprocessor_config.json names the code image_processing_gmvq.py": remove(
        "image_processing_gmvq.py"
    ),
    "modeling_gmvq.py imports vector_quantization.py, which is": remove("vector_quantization.py"),
    "it lacks preprocessor_config.json, without which gmvq": remove("preprocessor_config.json"),
    "config.json holds '/home/alice/run', a path of this machine": change_json(
        "config.json", decoder={"_name_or_path": "/home/alice/run"}
    ),
    "'file:///home/alice/run', a path": change_json("config.json", x=["file:///home/alice/run"]),
    "notes.txt is neither a file nor a link to one": lead_nowhere,
    "README.md cannot be read: 'utf-8' codec can't decode": write("README.md", b"caf\xe9"),
    "config.json cannot be read: Expecting": write("config.json", b"{"),
    "config.json cannot be read: expected an object, got list": write("config.json", b"[]"),
    "config.json cannot be read: 'list' object has no": change_json(
        "config.json", auto_map=["a.B"]
    ),
    "evaluation.json cannot be read: Expecting": write("evaluation.json", b"{"),
    "evaluation.json cannot be read: expected an evaluation": write("evaluation.json", b"{}"),
    "index.json has no weight_map, expected": write("model.safetensors.index.json", b"{}"),
    "pipelines.py cannot be read: invalid syntax": write("pipelines.py", b"1 +* 2"),
    "the card shows the picture absent.png, which": show_by_reference,
    "the card shows the picture gone.png, which": show_by_reference,
}


@pytest.mark.parametrize("problem", DAMAGES)
def test_a_folder_that_is_refused(folder, problem, monkeypatch, caplog):
    monkeypatch.setattr(HfApi, "create_repo", lambda *args, **kwargs: pytest.fail("it went out"))
    DAMAGES[problem](folder)
    with pytest.raises(ValueError, match="hub is not ready to publish:") as caught:
        hub.publish("me/model", folder)
    assert problem in str(caught.value)
    assert TOKEN not in str(caught.value) + caplog.text


@pytest.mark.parametrize(
    "name",
    "a.npz a.pkl.gz a.pt2 a.th a.dill a.tar a.zip a.model a.keras weights A.BIN json".split(),
)
def test_what_may_hold_a_pickle_is_refused(folder, name):
    (folder / name).write_bytes(pickle.dumps({}))
    (problem,) = check_folder(folder, "me/model")
    assert problem.startswith(f"{name} may hold a pickle: loading it can run any code")
    assert "expected a file in .safetensors .json" in problem


def test_what_people_add_is_published(folder):
    for name in ("LICENSE", ".gitattributes", "picture.jpg", "merges.txt", "chat_template.jinja"):
        (folder / name).write_text("some text")
    (folder / "spiece.model").write_bytes(b"\n\x0e\n\x05<unk>")  # as sentencepiece writes it
    assert check_folder(folder, "me/model") == []


REPO_IDS = ["", "gmvq", "a/b/c", "../x/y", "your-name/", "no spaces/x y", "https://hf.co/a/b"]


@pytest.mark.parametrize("repo_id", [*REPO_IDS, "a/b.git", "a/" + "b" * 200])
def test_what_is_no_repository_is_refused(folder, repo_id):
    (problem, *_) = check_folder(folder, repo_id)
    assert problem.startswith(f"{repo_id!r} cannot be a repository, expected user/name")


def test_the_token_in_use_is_found_whatever_its_form(folder, monkeypatch):
    (folder / "notes.txt").write_text("a-token-of-another-kind")
    assert check_folder(folder, "me/model") == []
    assert (
        "notes.txt holds an access token"
        in check_folder(folder, token="a-token-of-another-kind")[0]
    )
    monkeypatch.setenv("HF_TOKEN", "a-token-of-another-kind")
    assert "notes.txt holds an access token" in check_folder(folder)[0]


def test_what_publish_asks_of_the_hub(folder, monkeypatch):
    calls = []

    def record(name, result=None):
        def call(self, *args, **kwargs):
            calls.append((name, self.token, args, kwargs))
            return result

        return call

    commit = SimpleNamespace(commit_url="https://huggingface.co/me/model/commit/1")
    monkeypatch.setattr(HfApi, "create_repo", record("create_repo"))
    monkeypatch.setattr(HfApi, "create_branch", record("create_branch"))
    monkeypatch.setattr(HfApi, "upload_folder", record("upload_folder", commit))
    assert hub.publish("me/model", folder, private=True, revision="next", token=TOKEN) is commit
    create, branch, upload = calls
    assert create == ("create_repo", TOKEN, ("me/model",), {"private": True, "exist_ok": True})
    assert branch[3] == {"branch": "next", "exist_ok": True}
    assert upload[3]["folder_path"] == folder
    assert upload[3]["revision"] == "next"
    assert {"checkpoint*/**", "optimizer.*"} <= set(upload[3]["ignore_patterns"])
    del calls[:]
    hub.publish("me/model", folder, create_pr=True)
    assert [call[0] for call in calls] == ["create_repo", "upload_folder"]
    assert calls[1][3]["create_pr"] is True
    with pytest.raises(ValueError, match=r"a pull request goes to main, not to 'next'"):
        hub.publish("me/model", folder, create_pr=True, revision="next")


def test_the_script_shows_what_it_would_publish(run, tmp_path, capsys, monkeypatch, caplog):
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    target = tmp_path / "shown"
    arguments = [str(run), "me/model", "--dry-run", "--folder", str(target)]
    assert script.main([*arguments, "--license", "mit"]) == target
    output = capsys.readouterr()
    for name in published_files(target):
        size = (target / name).stat().st_size
        assert f"{size:>12,}  {name}\n" in output.out
    with pytest.raises(SystemExit):
        script.main(arguments)
    refused = capsys.readouterr()
    assert "it would be refused:\n- the card states no license" in refused.err
    written = b"".join(path.read_bytes() for path in target.rglob("*") if path.is_file())
    shown = output.out + output.err + refused.out + refused.err + caplog.text
    assert TOKEN not in shown
    assert TOKEN.encode() not in written


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--card", "absent.md"], "cannot fill absent.md: [Errno 2] No such file"),
        (["--recipe", "absent.yaml"], "cannot read the recipe absent.yaml: [Errno 2] No such file"),
        (
            ["--license", "banana"],
            "the Hub knows no licence 'banana', expected one of afl-3.0, agpl",
        ),
        (["--max-shard-size", "banana"], "max_shard_size is 'banana', expected a size such as"),
    ],
)
def test_the_script_says_what_is_wrong(run, capsys, words, message):
    with pytest.raises(SystemExit):
        script.main([str(run), "me/model", "--dry-run", "--license", "mit", *words])
    assert message in capsys.readouterr().err
    assert not (run / "hub").exists()


def test_the_script_looks_at_the_name_first(tmp_path, capsys):
    for repo_id in ("model", "me/model.git"):
        with pytest.raises(SystemExit):
            script.main([str(tmp_path / "absent"), repo_id, "--dry-run"])
        assert f"{repo_id!r} cannot be a repository, expected user/name" in capsys.readouterr().err


def test_we_never_trust_remote_code():
    """Only users do: no call of ours passes `trust_remote_code`."""
    for file in [*(ROOT / "src").rglob("*.py"), *(ROOT / "scripts").rglob("*.py")]:
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.keyword):
                assert node.arg != "trust_remote_code", f"{file.name}:{node.value.lineno}"


def test_we_load_only_safetensors():
    """No model is loaded by a call that would fall back to a pickle."""
    without = re.compile(
        r"(?i)tokenizer|config|processor|pipeline|^cls$|^super|^topicvq$|^codeprior$"
    )
    for file in [*(ROOT / "src").rglob("*.py"), *(ROOT / "scripts").glob("*.py")]:
        for node in ast.walk(ast.parse(file.read_text())):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
                continue
            owner = ast.unparse(node.func.value)
            if node.func.attr == "from_pretrained" and not without.search(owner):
                place = f"{file.name}:{node.lineno}: {owner}"
                assert "use_safetensors" in ast.unparse(node), place


def test_we_never_unpickle():
    """No call of ours reads a pickle: `torch.load` and its kin."""
    loaders = {("torch", "load"), ("pickle", "load"), ("pickle", "loads"), ("joblib", "load")}
    for file in (ROOT / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                assert (node.value.id, node.attr) not in loaders, f"{file.name}:{node.lineno}"
