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
"""Models on the Hub: published, pushed, and loaded in the ways that people load them."""

import logging
import os
import subprocess
from pathlib import Path

import datasets
import numpy as np
import pytest
import torch
from huggingface_hub import HfApi, ModelCard
from transformers import AutoModel, AutoModelForSeq2SeqLM, AutoTokenizer, pipeline

from from_file import load_script
from hf_vq import hub as our_hub
from hf_vq.evaluation import write_record
from hf_vq.models import (
    GMVQImageProcessor,
    GMVQModel,
    T5VQVAEForConditionalGeneration,
    TopicVQConfig,
    TopicVQModel,
    TopicVQProcessor,
)
from hf_vq.publishing import prepare_run
from hf_vq.text_data import train_tokenizer
from hub_server.tokens import ANN, BOB

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def model(tiny_config):
    return AutoModel.from_config(tiny_config("gmvq")).eval()


@pytest.fixture
def run(model, tmp_path):
    model.save_pretrained(tmp_path / "run" / "best")
    GMVQImageProcessor(size=8).save_pretrained(tmp_path / "run" / "best")
    data = {"name": "uoft-cs/cifar10", "split": "test", "revision": "sha256:0"}
    figures = {"mse": 0.003, "psnr": 25.0}
    write_record(tmp_path / "run" / "best.json", "run/best", figures, data=data, seeds=[0])
    return tmp_path / "run"


def assert_equal(loaded, model):
    assert loaded.state_dict().keys() == model.state_dict().keys()
    for name, tensor in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor), name


# It runs in an environment without hf_vq; the second time offline.
STRANGER = """
import sys
import numpy as np
from transformers import AutoModel, pipeline

repo_id, revision, image, output = sys.argv[1:]
try:
    AutoModel.from_pretrained(repo_id, revision=revision, trust_remote_code=False)
except ValueError as error:
    assert "trust_remote_code" in str(error), error
else:
    raise AssertionError("the code ran without trust")
task = "image-reconstruction"
answer = pipeline(task, model=repo_id, revision=revision, trust_remote_code=True)(image)
np.savez(output, codes=answer["codes"], picture=np.asarray(answer["reconstruction"]))
"""


def run_stranger(python, repo_id, revision, image, output, **environment):
    command = [python, "-c", STRANGER, repo_id, revision, str(image), str(output)]
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        cwd=output.parent,
        stdin=subprocess.DEVNULL,
        timeout=120,
    )


def test_a_run_is_published_and_a_stranger_loads_it(
    hub, run, model, repo_id, tmp_path, make_images, capsys, fresh_python
):
    """The script publishes; a process that has no hf_vq loads the code from the Hub, then again from its cache."""
    script = load_script("publish")
    folder = script.main(
        [str(run), repo_id, "--license", "mit", "--max-shard-size", "10KB", "--private"]
    )
    assert f"{hub.endpoint}/{repo_id}/commit/" in capsys.readouterr().out
    info = HfApi().model_info(repo_id)
    assert info.private
    assert info.pipeline_tag == "image-to-image"
    shards = [file.rfilename for file in info.siblings if file.rfilename.endswith(".safetensors")]
    assert len(shards) > 1
    card = ModelCard.load(repo_id)
    assert card.data.license == "mit"
    results = {result.metric_type: result.metric_value for result in card.data.eval_results}
    assert results == {"mse": 0.003, "psnr": 25.0}
    files = hub.storage.repositories["model", repo_id].at("main").files
    assert not [path for path in files if path.startswith(("best", "checkpoint"))]
    assert files["README.md"].content == (folder / "README.md").read_bytes()
    assert not [path for path, blob in files.items() if ANN.encode() in blob.content]

    (image,) = make_images(1)
    image.save(tmp_path / "image.png")
    arguments = fresh_python, repo_id, info.sha, tmp_path / "image.png", tmp_path / "out.npz"
    first = run_stranger(*arguments)
    assert first.returncode == 0, first.stderr
    pixels = GMVQImageProcessor(size=8)(image, return_tensors="pt").pixel_values
    with torch.no_grad():
        expected = model.encode(pixels).codes[0]
    assert np.array_equal(np.load(tmp_path / "out.npz")["codes"], expected)
    (tmp_path / "out.npz").unlink()
    asked = len(hub.requests)
    again = run_stranger(*arguments, HF_HUB_OFFLINE="1")
    assert again.returncode == 0, again.stderr
    assert np.array_equal(np.load(tmp_path / "out.npz")["codes"], expected)
    assert len(hub.requests) == asked
    assert ANN not in first.stdout + first.stderr + again.stdout + again.stderr


def test_revisions_pull_requests_and_repeated_publishing(hub, run, model, repo_id, login):
    folder = prepare_run(run, repo_id, license="mit")
    first = our_hub.publish(repo_id, folder)
    assert our_hub.publish(repo_id, folder).oid == first.oid
    assert hub.count("PUT", "/storage/") == 1
    assert hub.count("POST", "/commit/") == 1
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1.0)
    model.save_pretrained(run / "best")
    folder = prepare_run(run, repo_id, license="mit")
    branch = our_hub.publish(repo_id, folder, revision="next")
    login(BOB)
    proposed = our_hub.publish(repo_id, folder, create_pr=True)
    assert proposed.pr_num == 1
    assert hub.count("PUT", "/storage/") == 2  # the same weights on the branch and in the request
    for revision in ("next", branch.oid, "refs/pr/1"):
        loaded, _ = our_hub.load_image_autoencoder(repo_id, revision)
        assert_equal(loaded, model)
    old, _ = our_hub.load_image_autoencoder(repo_id)
    weight = next(iter(old.parameters()))
    torch.testing.assert_close(weight + 1.0, next(iter(model.parameters())))


@pytest.mark.parametrize(
    ("path", "uploads"), [("/commit/", 1), ("/preupload/", 0), ("/storage/", 0)]
)
def test_publishing_goes_on_after_a_broken_connection(
    hub, run, model, repo_id, capsys, caplog, monkeypatch, path, uploads
):
    """The same command again, and what arrived is not sent twice; the token is in no log, be it ever so talkative."""
    caplog.set_level(logging.DEBUG)
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda seconds: None)
    script, arguments = load_script("publish"), [str(run), repo_id, "--license", "mit"]
    hub.faults.add("cut_upload", path, times=100, after=20)
    with pytest.raises(Exception, match="disconnected|reset|Broken pipe|Error while uploading"):
        script.main(arguments)
    repository = hub.storage.repositories["model", repo_id]
    assert list(repository.at("main").files) == [".gitattributes"]
    assert len(hub.storage.objects) == uploads
    hub.faults.clear()
    hub.requests.clear()
    script.main(arguments)
    assert hub.count("PUT", "/storage/") == 1 - uploads
    loaded, _ = our_hub.load_image_autoencoder(repo_id)
    assert_equal(loaded, model)
    shown = capsys.readouterr()
    assert ANN not in caplog.text + shown.out + shown.err


def test_push_to_hub_and_every_way_back(hub, model, repo_id, tmp_path):
    """Models and processors push themselves; without the network, what was loaded once loads again."""
    commit = model.push_to_hub(repo_id, commit_message="Push", private=True)
    processor = GMVQImageProcessor(size=8)
    processor.push_to_hub(repo_id)
    assert HfApi().model_info(repo_id).private
    names = HfApi().list_repo_files(repo_id)
    assert {"config.json", "model.safetensors", "preprocessor_config.json"} <= set(names)
    assert not [name for name in names if name.endswith((".py", ".bin", ".pt"))]
    assert_equal(GMVQModel.from_pretrained(repo_id), model)
    assert_equal(AutoModel.from_pretrained(repo_id, revision=commit.oid), model)
    half = GMVQModel.from_pretrained(repo_id, dtype=torch.bfloat16)
    assert next(half.encoder.parameters()).dtype == torch.bfloat16
    assert GMVQImageProcessor.from_pretrained(repo_id).size == processor.size
    model.save_pretrained(tmp_path / "inner" / "part")
    HfApi().upload_folder(repo_id=repo_id, folder_path=tmp_path / "inner")
    assert_equal(GMVQModel.from_pretrained(repo_id, subfolder="part"), model)
    assert_equal(GMVQModel.from_pretrained(repo_id), model)  # of the newest commit
    hub.stop()
    try:
        assert_equal(GMVQModel.from_pretrained(repo_id, local_files_only=True), model)
        assert_equal(GMVQModel.from_pretrained(repo_id), model)
        assert_equal(GMVQModel.from_pretrained(repo_id, subfolder="part"), model)
        with pytest.raises(OSError, match="ann/never-seen"):
            GMVQModel.from_pretrained("ann/never-seen")
    finally:
        hub.start()


def test_texts_and_their_tokenizer(tiny_config, repo_id):
    tokenizer = train_tokenizer(["a cat is an animal"], 120)
    config = tiny_config("t5_vqvae", vocab_size=len(tokenizer))
    model = AutoModelForSeq2SeqLM.from_config(config).eval()
    model.push_to_hub(repo_id)
    tokenizer.push_to_hub(repo_id)
    assert AutoTokenizer.from_pretrained(repo_id).get_vocab() == tokenizer.get_vocab()
    loaded, _ = our_hub.load_text_autoencoder(repo_id)
    assert type(loaded) is T5VQVAEForConditionalGeneration
    assert_equal(loaded, model)
    answer = pipeline("text-reconstruction", model=repo_id)("a cat is an animal")
    ids = tokenizer("a cat is an animal", return_tensors="pt").input_ids
    assert answer["codes"] == "-".join(map(str, model.encode(ids).codes.flatten().tolist()))


def test_an_old_revision_of_topics_has_its_own_encoder(repo_id, tmp_path):
    pytest.importorskip("sklearn", reason="needs the extra `topics`")
    from hf_vq.topics.corpus_encoder import CorpusEncoder
    from hf_vq.topics.estimator import TopicVQ

    texts = ["sun moon star", "star sun sky", "cat dog pet", "dog cat horse"] * 3
    processor = TopicVQProcessor().fit_vocabulary(texts)
    HfApi().create_repo(repo_id)
    commits = []
    for dim in (2, 3):
        encoder = CorpusEncoder.fit(texts, processor, dim=dim)
        config = TopicVQConfig(
            num_topics=2,
            vocab_size=processor.vocab_size,
            word_embedding_dim=dim,
            encoder_name_or_path="corpus",
            encoder_fingerprint=encoder.fingerprint,
        )
        topics = TopicVQ.from_parts(TopicVQModel(config), processor, encoder=encoder)
        topics.save_pretrained(tmp_path / str(dim))
        commits.append(HfApi().upload_folder(repo_id=repo_id, folder_path=tmp_path / str(dim)))
    loaded = TopicVQ.from_pretrained(repo_id, revision=commits[0].oid)
    expected = TopicVQ.from_pretrained(tmp_path / "2").transform(texts)
    np.testing.assert_array_equal(loaded.transform(texts), expected)


def test_data_sets(repo_id, tmp_path, make_images):
    """Pushed as parquet files in shards, and read back whole, by split, and as a stream."""
    texts = datasets.Dataset.from_dict({"text": [f"text {i}" for i in range(10)]})
    images = datasets.Dataset.from_dict({"image": make_images(3)}).cast_column(
        "image", datasets.Image()
    )
    texts.push_to_hub(repo_id, split="train", num_shards=2)
    texts.select(range(2)).push_to_hub(repo_id, split="test")
    images.push_to_hub(f"{repo_id}-images")
    cache = str(tmp_path / "cache")
    loaded = datasets.load_dataset(repo_id, cache_dir=cache)
    assert {split: rows["text"][:] for split, rows in loaded.items()} == {
        "train": [f"text {i}" for i in range(10)],
        "test": ["text 0", "text 1"],
    }
    stream = datasets.load_dataset(repo_id, split="test", streaming=True)
    assert [row["text"] for row in stream] == ["text 0", "text 1"]
    (first, *_) = datasets.load_dataset(f"{repo_id}-images", split="train", cache_dir=cache)[
        "image"
    ]
    assert np.array_equal(np.asarray(first), np.asarray(make_images(1)[0]))


PIPELINE_STRANGER = """
import sys
import torch
from diffusers import DiffusionPipeline

repo_id, revision, output = sys.argv[1:]
try:
    DiffusionPipeline.from_pretrained(repo_id, custom_pipeline="pipeline", revision=revision)
except ValueError as error:
    assert "trust_remote_code" in str(error), error
else:
    raise AssertionError("the code ran without trust")
pipe = DiffusionPipeline.from_pretrained(
    repo_id, custom_pipeline="pipeline", revision=revision, trust_remote_code=True
)
torch.save(pipe(topics=[1], generator=3).codes, output)
"""


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
def test_the_pipeline_of_images_by_topic(hub, tiny_config, repo_id, tmp_path, login, fresh_python):
    diffusers = pytest.importorskip("diffusers", reason="needs the extra `image`")
    from hf_vq.topic_images.image_tokenizers import image_tokenizer
    from hf_vq.topic_images.pipeline import TopicVQImagePipeline
    from hf_vq.topic_images.scoring import IMAGE_TOPIC_DEFINITIONS

    tokenizer = AutoModel.from_config(tiny_config("gmvq"))
    fingerprint = image_tokenizer(tokenizer).fingerprint
    prior = AutoModel.from_config(tiny_config("topic_vq_image", tokenizer_fingerprint=fingerprint))
    prior.set_codebook(image_tokenizer(tokenizer).codebook)
    pipe = TopicVQImagePipeline(tokenizer, prior)
    pipe.set_progress_bar_config(disable=True)
    drawn = pipe(topics=[1], generator=3).codes

    def assert_draws_the_same(loaded):
        loaded.set_progress_bar_config(disable=True)
        assert torch.equal(loaded(topics=[1], generator=3).codes, drawn)

    # As it saves itself, for people with hf_vq.
    pipe.save_pretrained(tmp_path / "run" / "pipeline", push_to_hub=True, repo_id=f"{repo_id}-own")
    assert_draws_the_same(TopicVQImagePipeline.from_pretrained(f"{repo_id}-own"))

    # As it is published, for everybody.
    prior.save_pretrained(tmp_path / "run" / "best")
    data = {"name": "uoft-cs/cifar10", "split": "test", "revision": "sha256:0"}
    write_record(
        tmp_path / "run" / "best.json",
        "run/best",
        {"bits_per_code": 5.0, "controllability": 0.9},
        data=data,
        seeds=[0],
        definitions=IMAGE_TOPIC_DEFINITIONS,
    )
    folder = prepare_run(tmp_path / "run", repo_id, license="mit")
    commit = our_hub.publish(repo_id, folder)
    login(None)
    assert_draws_the_same(TopicVQImagePipeline.from_pretrained(repo_id, revision=commit.oid))
    assert_draws_the_same(
        diffusers.DiffusionPipeline.from_pretrained(
            repo_id, custom_pipeline=repo_id, trust_remote_code=True
        )
    )
    arguments = [repo_id, commit.oid, str(tmp_path / "out.pt")]
    done = subprocess.run(
        [fresh_python, "-c", PIPELINE_STRANGER, *arguments],
        capture_output=True,
        text=True,
        env=os.environ | {"HF_HOME": str(tmp_path / "home")},
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert torch.equal(torch.load(tmp_path / "out.pt", weights_only=True), drawn)
    hub.stop()
    try:
        assert_draws_the_same(TopicVQImagePipeline.from_pretrained(repo_id, revision=commit.oid))
        with pytest.raises(OSError, match="cannot find the appropriate snapshot folder"):
            TopicVQImagePipeline.from_pretrained("ann/never-seen")
    finally:
        hub.start()
