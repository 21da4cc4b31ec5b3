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
"""The text pipelines: four tasks, batches, codes as input, registration, saving with code."""

import logging
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.utils.data import Dataset
from transformers import AutoModelForSeq2SeqLM, pipeline
from transformers.pipelines import PIPELINE_REGISTRY

from hf_vq.latent_operations import TextCodec, arithmetic, interpolate, substitute, traverse
from hf_vq.text_pipelines import TEXT_TASKS, TextCodesPipeline, register_text_pipelines
from hf_vq.text_tokenizer import train_tokenizer

TEXTS = ["a cat is an animal", "a dog barks at the big cat", "the old tree needs water"]
CAT, DOG, TREE = TEXTS


@pytest.fixture
def tokenizer():
    return train_tokenizer(TEXTS, 140)


@pytest.fixture
def model(tiny_config, tokenizer):
    config = tiny_config("t5_vqvae", vocab_size=len(tokenizer), max_latent_positions=40)
    model = AutoModelForSeq2SeqLM.from_config(config)
    model.initialize_codebook([tokenizer(TEXTS, padding=True, return_tensors="pt")])
    return model


@pytest.fixture
def make_pipe(model, tokenizer):
    register_text_pipelines()
    return lambda task, **kwargs: pipeline(task, model=model, tokenizer=tokenizer, **kwargs)


@pytest.fixture
def codec(model, tokenizer):
    return TextCodec(model, tokenizer)


class Texts(Dataset):
    def __len__(self):
        return len(TEXTS)

    def __getitem__(self, index):
        return TEXTS[index]


def test_reconstruction(make_pipe, codec):
    pipe = make_pipe("text-reconstruction")
    assert not pipe.model.training
    output = pipe(CAT)
    assert output == {
        "text": CAT,
        "codes": "-".join(map(str, codec.encode(CAT)[0, :, 0].tolist())),
        "reconstruction": codec.reconstruct(CAT)[0],
    }
    assert output == pipe(CAT)


@pytest.mark.parametrize("batch_size", [1, 2])
@pytest.mark.parametrize(
    "container", [list, iter, lambda _: Texts()], ids=["list", "generator", "dataset"]
)
def test_batches(make_pipe, container, batch_size):
    pipe = make_pipe("text-reconstruction")
    inputs = (text for text in TEXTS) if container is iter else container(TEXTS)
    assert list(pipe(inputs, batch_size=batch_size)) == [pipe(text) for text in TEXTS]
    assert pipe([]) == []


@pytest.mark.parametrize("batch_size", [1, 4])
def test_codes_are_decoded(make_pipe, codec, batch_size):
    pipe = make_pipe("text-reconstruction")
    codes = codec.encode(CAT)[0]
    expected = pipe(CAT) | {"text": None}
    forms = [pipe(CAT)["codes"], codes, codes.numpy(), codes[:, 0].tolist()]
    outputs = pipe([{"codes": form} for form in forms], batch_size=batch_size)
    assert outputs == [expected] * 4
    mixed = pipe([CAT, {"codes": forms[0]}, DOG], batch_size=batch_size)
    assert mixed == [pipe(CAT), expected, pipe(DOG)]
    assert pipe(pipe(CAT)) == expected
    changed = codes.clone()
    changed[0, 0] = (changed[0, 0] + 1) % 16
    assert pipe({"codes": changed})["codes"] != expected["codes"]
    assert pipe({"codes": np.asarray(codes)}) == expected


def test_options_of_generate(make_pipe, codec, tokenizer):
    pipe = make_pipe("text-reconstruction")
    texts = {length: pipe(CAT, generate_kwargs={"max_new_tokens": length}) for length in (1, 4)}
    for length, output in texts.items():
        ids = codec.model.generate_from_codes(codec.encode(CAT), max_new_tokens=length)
        assert output["reconstruction"] == tokenizer.decode(ids[0], skip_special_tokens=True)
    fixed = make_pipe("text-reconstruction", generate_kwargs={"max_new_tokens": 1})
    assert fixed(CAT) == texts[1]


def test_interpolation(make_pipe, codec):
    pipe = make_pipe("text-interpolation")
    pair = {"source": CAT, "target": DOG}
    assert pipe(pair) == interpolate(codec, CAT, DOG).records
    assert pipe(pair, method="walk", num_steps=4) == interpolate(codec, CAT, DOG, "walk", 4).records
    own = [pair | {"method": "staggered"}, {"source": TREE, "target": CAT}]
    for batch_size in (1, 2):
        assert pipe(own, num_steps=3, batch_size=batch_size) == [
            interpolate(codec, CAT, DOG, "staggered", 3).records,
            interpolate(codec, TREE, CAT, "latent", 3).records,
        ]


def test_traversal(make_pipe, codec):
    pipe = make_pipe("text-traversal")
    assert pipe({"text": CAT, "at": "cat"}, num_codes=3) == traverse(codec, CAT, "cat", 3).records


def test_editing(make_pipe, codec):
    pipe = make_pipe("text-editing")
    edit = {
        "operation": "substitute",
        "text": CAT,
        "span": "cat",
        "donor": DOG,
        "donor_span": "dog",
    }
    total = {"operation": "sum", "operands": [CAT, DOG]}
    expected = [substitute(codec, CAT, "cat", DOG, "dog")[0], arithmetic(codec, "sum", CAT, DOG)[0]]
    assert pipe(edit) == expected[0]
    assert pipe(edit)["expected"] == "a dog is an animal"
    assert pipe([edit, total]) == pipe([edit, total], batch_size=2) == expected


def test_mistakes_are_named(make_pipe, model, tokenizer):
    pipe = make_pipe("text-reconstruction")
    with pytest.raises(ValueError, match="needs at least one word"):
        pipe("")
    with pytest.raises(ValueError, match=r'needs the key "codes", got \[\'text\'\]'):
        pipe({"text": CAT})
    with pytest.raises(ValueError, match=r"\[0, 16\), got 16"):
        pipe({"codes": "3-16"})
    with pytest.raises(TypeError, match="takes no argument 'method'"):
        pipe(CAT, method="walk")
    with pytest.raises(ValueError, match="text-interpolation takes a dictionary of arguments"):
        make_pipe("text-interpolation")(CAT)
    with pytest.raises(TypeError, match="target"):
        make_pipe("text-interpolation")({"source": CAT})
    editing = make_pipe("text-editing")
    with pytest.raises(ValueError, match="operation is 'insert', expected one of"):
        editing({"operation": "insert", "text": CAT})
    with pytest.raises(ValueError, match='takes "operands" alone'):
        editing({"operation": "sum", "text": CAT})
    with pytest.raises(ValueError, match="\"operands\" is 'ab', expected a list"):
        editing({"operation": "sum", "operands": "ab"})
    with pytest.raises(ValueError, match="an input holds 2 edits, expected one"):
        editing({"operation": "substitute", "text": ["a cat", "a dog"], "span": "a", "donor": "a"})
    with pytest.raises(ValueError, match="'cow' does not occur"):
        editing({"operation": "substitute", "text": CAT, "span": "cow", "donor": "dog"})
    with pytest.raises(ValueError, match="needs a tokenizer"):
        TextCodesPipeline(model=model, task="text-editing")
    with pytest.raises(ValueError, match="task is ''"):
        TextCodesPipeline(model=model, tokenizer=tokenizer)


def test_registration(caplog, monkeypatch):
    with caplog.at_level(logging.WARNING):
        register_text_pipelines()
        register_text_pipelines()
    assert not caplog.records
    for task in TEXT_TASKS:
        assert PIPELINE_REGISTRY.supported_tasks[task]["impl"] is TextCodesPipeline
    other = {task: {"impl": SimpleNamespace} for task in TEXT_TASKS}
    monkeypatch.setattr(PIPELINE_REGISTRY, "supported_tasks", other)
    with pytest.raises(ValueError, match=r"text-reconstruction.*SimpleNamespace"):
        register_text_pipelines()


def test_importing_the_package_registers_the_tasks():
    import hf_vq  # noqa: F401

    assert set(TEXT_TASKS) <= set(PIPELINE_REGISTRY.get_supported_tasks())


def test_saved_and_loaded(make_pipe, tmp_path):
    make_pipe("text-reconstruction").save_pretrained(tmp_path)
    for name in ("text_pipelines", "text_codec", "span_operations", "code_space", "_extras"):
        assert (tmp_path / f"{name}.py").is_file()
    pair = {"source": CAT, "target": DOG}
    expected = make_pipe("text-interpolation")(pair, num_steps=2)
    for trust in (False, True):  # where the package is installed, no other code is needed
        loaded = pipeline("text-interpolation", model=str(tmp_path), trust_remote_code=trust)
        assert loaded(pair, num_steps=2) == expected
    with torch.no_grad():
        again = pipeline("text-reconstruction", model=str(tmp_path), trust_remote_code=True)
        assert again(CAT) == make_pipe("text-reconstruction")(CAT)
