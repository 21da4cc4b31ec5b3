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

import dataclasses
from pathlib import Path

import datasets
import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file

from from_file import load_script
from hf_vq import GMVQImageProcessor, GMVQModel, TopicVQForImageGeneration, TopicVQImageConfig
from hf_vq.evaluation import read_record

pytest.importorskip("diffusers", reason="needs the extra `image`")
pytest.importorskip("sklearn", reason="needs the extra `topics`")

from hf_vq.topic_images.pipeline import TopicVQImagePipeline  # noqa: E402

pytestmark = [
    pytest.mark.usefixtures("apart"),
    pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning"),
]

SCRIPTS = Path(__file__).resolve().parents[1] / "scripts"
RECIPES = sorted((SCRIPTS / "configs").glob("topic-vq-image-*.yaml"))
TINY = {
    "num_topics": 3,
    "hidden_size": 12,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "inference_channels": 5,
    "max_steps": 3,
    "per_device_train_batch_size": 5,
    "per_device_eval_batch_size": 3,
    "checkpointing_steps": 1,
    "samples_per_topic": 2,
    "cpu": True,
    "progress_bar": False,
}


training = load_script("train_topic_vq_image")
evaluation = load_script("evaluate_topic_images")


@pytest.fixture
def labeled_images(tmp_path):
    """Write images of two classes, bright and dark, as parquet files."""
    generator = np.random.default_rng(0)
    features = datasets.Features(
        {"img": datasets.Image(), "label": datasets.ClassLabel(names=["dark", "bright"])}
    )
    for split, number in (("train", 14), ("test", 7)):
        labels = [index % 2 for index in range(number)]
        pixels = [generator.integers(100 * k, 100 * k + 90, (8, 8, 3), np.uint8) for k in labels]
        rows = {"img": [Image.fromarray(image) for image in pixels], "label": labels}
        dataset = datasets.Dataset.from_dict(rows, features=features)
        (tmp_path / "images").mkdir(exist_ok=True)
        dataset.to_parquet(tmp_path / "images" / f"{split}-00000.parquet")
    return tmp_path / "images"


@pytest.fixture
def tokenizer(tmp_path, tiny_config):
    folder = tmp_path / "gmvq"
    GMVQModel(tiny_config("gmvq")).save_pretrained(folder)
    GMVQImageProcessor(size=8).save_pretrained(folder)
    return folder


def words(options):
    return [word for name, value in options.items() for word in (f"--{name}", str(value))]


@pytest.fixture
def run(labeled_images, tokenizer, tmp_path):
    def run(output_dir, **options):
        common = {"tokenizer": tokenizer, "dataset": labeled_images, "label_column": "label"}
        return training.main(words({**common, "output_dir": output_dir, **TINY, **options}))

    return run


def test_training_writes_pipeline_record_and_best_model(run, tmp_path, capsys):
    results = run("run", train_split="train[:-4]", eval_split="train[-4:]", eval_steps=1)
    assert results["step"] == 3
    assert {"eval_loss", "eval_prior_loss", "eval_kl_loss"} <= results.keys()
    record = read_record("run/best.json")
    metrics = record["metrics"]
    assert (record["checkpoint"], record["seeds"]) == ("run/best", [0])
    assert (metrics["num_images"], metrics["num_classes"], metrics["num_topics"]) == (7, 2, 3)
    assert metrics["bits_per_code"] == pytest.approx(metrics["nll"] / (4 * np.log(2)))
    assert record["data"]["tokenizer"] == "gmvq"
    output = capsys.readouterr().out
    assert f"{metrics['bits_per_code']:.5g}" in output
    assert "best.json" in output

    pipe = TopicVQImagePipeline.from_pretrained("run/pipeline")
    assert pipe.prior.config.tokenizer_fingerprint == record["data"]["tokenizer_fingerprint"]
    best = load_file("run/best/model.safetensors")
    for name, tensor in pipe.prior.state_dict().items():
        assert torch.equal(tensor, best[name])
    assert [image.size for image in pipe(topics=[0, 2]).images] == [(8, 8)] * 2
    frequencies = pipe.prior.code_mixture.bias
    assert frequencies.isfinite().all()


def test_a_pipeline_is_scored_and_drawn(run, labeled_images, capsys):
    run("run")
    expected = read_record("run/final.json")["metrics"]
    options = {"pipeline": "run/pipeline", "dataset": labeled_images, "label_column": "label"}
    options |= {"pictures": "drawn", "batch_size": TINY["per_device_eval_batch_size"]}
    options |= {"samples_per_topic": TINY["samples_per_topic"]}
    record = evaluation.main([*words(options), "--cpu"])
    assert read_record("run/pipeline.json")["metrics"] == record["metrics"]
    # The script that trains knows the shares of codes in training as well.
    shared = record["metrics"].keys() & expected.keys()
    assert {"bits_per_code", "topic_class_nmi", "controllability"} <= shared
    for name in shared:
        assert record["metrics"][name] == pytest.approx(expected[name]), name
    pictures = sorted(path.name for path in Path("drawn").iterdir())
    assert "drawn" in capsys.readouterr().out
    assert any(name.endswith(".png") for name in pictures)
    assert any(name.endswith(".html") for name in pictures)


def test_resuming_equals_an_uninterrupted_run(run, tmp_path, monkeypatch):
    run("whole", test_split="none")
    forward, steps = TopicVQForImageGeneration.forward, []

    def die(model, **batch):
        steps.append(0)
        if len(steps) == 3:
            raise KeyboardInterrupt
        return forward(model, **batch)

    with monkeypatch.context() as patch:
        patch.setattr(TopicVQForImageGeneration, "forward", die)
        with pytest.raises(KeyboardInterrupt):
            run("parts", test_split="none")
    assert Path("parts/checkpoint-2").is_dir()
    run("parts", test_split="none", resume_from_checkpoint="latest")
    assert not Path("parts/final.json").exists()
    whole, parts = (load_file(f"{name}/final/model.safetensors") for name in ("whole", "parts"))
    for name, tensor in whole.items():
        assert torch.equal(tensor, parts[name]), name


def test_codes_are_shared_between_runs(run, tmp_path, monkeypatch):
    run("first", cache_dir="codes")
    tokenizer = training.ImageTokenizer
    monkeypatch.setattr(tokenizer, "encode", lambda *_: pytest.fail("encoded again"))
    run("second", cache_dir="codes", variant="published", seed=1)
    model = TopicVQForImageGeneration.from_pretrained("second/final")
    assert model.config.variant == "published"
    assert "bits_per_code_unconditional" not in read_record("second/final.json")["metrics"]


def test_a_tokenizer_of_diffusers(run, tmp_path):
    from diffusers import VQModel

    model = VQModel(
        block_out_channels=(4, 4, 8),
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        norm_num_groups=2,
        num_vq_embeddings=16,
        sample_size=8,
    )
    model.save_pretrained("ldm/vqvae")
    run("run", tokenizer="ldm", test_split="none")
    pipe = TopicVQImagePipeline.from_pretrained("run/pipeline")
    assert type(pipe.tokenizer) is VQModel
    assert pipe(topics=1).images[0].size == (8, 8)
    run("larger", tokenizer="ldm", tokenizer_subfolder="vqvae", image_size=16, test_split="none")
    assert TopicVQImagePipeline.from_pretrained("larger/pipeline").image_size == (16, 16)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_topic": 3}, r"num_topic.*num_topics"),
        ({"num_topics": 0}, "num_topics is 0"),
        ({"test_split": "tset"}, "tset"),
        ({"tokenizer": "absent"}, r"absent has no config\.json"),
        ({"tokenizer_subfolder": "vq"}, r"no config\.json.*its folder vq"),
        ({"image_size": 10}, "stride, 4"),
        ({"variant": "best"}, "variant is 'best'"),
    ],
)
def test_wrong_options_are_named(run, options, message):
    with pytest.raises(Exception, match=message):
        run("run", **options)


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_recipes(recipe):
    """A recipe parses, states nothing but differences, and goes to a folder of its name."""
    classes = (training.TrainingConfig, training.DataConfig, training.ModelConfig)
    configs = training.parse_config(*classes, argv=["--config", str(recipe)])
    assert configs[0].output_dir == f"runs/{recipe.stem}"
    stated = {name for section in yaml.safe_load(recipe.read_text()).values() for name in section}
    for config in configs:
        for field in dataclasses.fields(config):
            if field.name in stated and field.default is not dataclasses.MISSING:
                assert getattr(config, field.name) != field.default, field.name
    options = dataclasses.asdict(configs[2])
    TopicVQImageConfig(**options)
    name = Path(configs[1].tokenizer).parent.name
    assert (SCRIPTS / "configs" / f"{name}.yaml").is_file()
