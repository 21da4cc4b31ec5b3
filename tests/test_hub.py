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
"""Publishing: code travels along and works alone, nothing of it stays behind in this process; loading refuses junk."""

import json
import os
import subprocess
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from huggingface_hub import ModelCard
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import AutoModel, AutoModelForSeq2SeqLM, BertConfig, BertModel

import hf_vq
from hf_vq import hub, text_pipelines
from hf_vq.models.image_processing_gmvq import GMVQImageProcessor
from hf_vq.text_codec import TextCodec
from hf_vq.text_data import train_tokenizer

CARD = "---\nlicense: apache-2.0\n---\n# A card\n"


@pytest.fixture
def model(tiny_config):
    return AutoModel.from_config(tiny_config("gmvq"))


@pytest.fixture
def processor():
    return GMVQImageProcessor(size=8)


@pytest.fixture
def published(model, processor, tmp_path):
    return hub.save_for_hub(model, processor, tmp_path / "published", card=CARD)


def test_folder_is_complete(published):
    names = {path.name for path in published.iterdir()}
    assert {name for name in names if not name.endswith(".py")} == {
        "README.md",
        "config.json",
        "model.safetensors",
        "preprocessor_config.json",
    }
    source = Path(hf_vq.__file__).parent
    code = {path.name: path.read_text() for path in published.glob("*.py")}
    assert code.keys() >= {"modeling_gmvq.py", "vector_quantization.py", "pipelines.py"}
    for name, text in code.items():
        folder = source if name == "pipelines.py" else source / "models"
        assert text == (folder / name).read_text()
    config = json.loads((published / "config.json").read_text())
    assert config["auto_map"] == {
        "AutoConfig": "configuration_gmvq.GMVQConfig",
        "AutoModel": "modeling_gmvq.GMVQModel",
    }
    assert config["custom_pipelines"]["image-reconstruction"] == {
        "impl": "pipelines.ImageReconstructionPipeline",
        "pt": ["AutoModel"],
        "type": "image",
    }
    processor = json.loads((published / "preprocessor_config.json").read_text())
    assert processor["auto_map"] == {
        "AutoImageProcessor": "image_processing_gmvq.GMVQImageProcessor"
    }
    assert ModelCard.load(published / "README.md").data.license == "apache-2.0"


ALONE = """
import sys
import numpy as np
import torch
from PIL import Image
from transformers import AutoModel, pipeline
from transformers.models.auto.image_processing_auto import AutoImageProcessor

folder, image, output = sys.argv[1:]
model = AutoModel.from_pretrained(folder, trust_remote_code=True).eval()
processor = AutoImageProcessor.from_pretrained(folder, trust_remote_code=True)
pixel_values = processor(Image.open(image), return_tensors="pt").pixel_values
with torch.no_grad():
    forward = model(pixel_values)
for kwargs in ({}, {"trust_remote_code": False}):
    try:
        pipeline("image-reconstruction", model=folder, **kwargs)
    except ValueError as error:
        assert "trust_remote_code" in str(error), error
    else:
        raise AssertionError("the code ran without trust")
answer = pipeline("image-reconstruction", model=folder, trust_remote_code=True)(image)
np.savez(
    output,
    reconstruction=forward.reconstruction,
    codes=forward.codes,
    pipeline_reconstruction=np.asarray(answer["reconstruction"]),
    pipeline_codes=answer["codes"],
)
assert "hf_vq" not in sys.modules
"""


def test_it_works_without_the_package(
    model, processor, published, tmp_path, make_images, fresh_python
):
    (image,) = make_images(1)
    image.save(tmp_path / "image.png")
    environment = {
        **os.environ,
        "HF_HUB_OFFLINE": "1",
        "HF_MODULES_CACHE": str(tmp_path / "modules"),
        "TOKENIZERS_PARALLELISM": "false",
    }
    command = [fresh_python, "-c", ALONE, published, tmp_path / "image.png", tmp_path / "out.npz"]
    done = subprocess.run(
        [str(word) for word in command],
        capture_output=True,
        text=True,
        env=environment,
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 0, done.stderr
    output = np.load(tmp_path / "out.npz")
    pixel_values = processor(Image.open(tmp_path / "image.png"), return_tensors="pt").pixel_values
    with torch.no_grad():
        expected = model.eval()(pixel_values)
    assert np.array_equal(output["codes"], expected.codes)
    assert np.array_equal(output["pipeline_codes"], expected.codes[0])
    np.testing.assert_array_equal(output["reconstruction"], expected.reconstruction)
    (picture,) = processor.post_process(expected.reconstruction)
    assert np.array_equal(output["pipeline_reconstruction"], np.asarray(picture))


def test_nothing_stays_behind(model, processor, published, tmp_path):
    for cls in (type(model), type(model.config), type(processor)):
        assert cls._auto_class is None
    assert model.training
    model.save_pretrained(tmp_path / "later")
    processor.save_pretrained(tmp_path / "later")
    assert not list((tmp_path / "later").glob("*.py"))
    for file in (tmp_path / "later").glob("*.json"):
        assert not {"auto_map", "custom_pipelines"} & json.loads(file.read_text()).keys()


def test_nothing_stays_behind_after_a_failure(model, processor):
    def fail():
        with hub.attach_code(model, processor):
            assert type(model)._auto_class == "AutoModel"
            raise RuntimeError("disk full")

    pytest.raises(RuntimeError, fail)
    assert type(model)._auto_class is None
    assert "_auto_class" not in vars(type(model))


def test_only_our_models_are_published(processor, tmp_path):
    with pytest.raises(ValueError, match=r"SimpleNamespace is no model of hf_vq.*GMVQModel"):
        with hub.attach_code(SimpleNamespace(), processor):
            pass


def test_published_folder_loads_here_too(model, processor, published):
    loaded, loaded_processor = hub.load_image_autoencoder(published)
    assert type(loaded) is type(model)
    assert not loaded.training
    assert type(loaded_processor) is GMVQImageProcessor
    for name, tensor in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor), name


def test_checkpoint_of_another_model(tmp_path):
    config = BertConfig(
        hidden_size=4, num_hidden_layers=1, num_attention_heads=1, intermediate_size=4, vocab_size=9
    )
    BertModel(config).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"holds a model of type 'bert', expected 'gmvq'"):
        hub.load_image_autoencoder(tmp_path)


def test_truncated_weights(published):
    weights = published / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(ValueError, match=r"published are truncated or damaged: .*"):
        hub.load_image_autoencoder(published)


def test_missing_weights(published):
    weights = load_file(published / "model.safetensors")
    del weights["decoder.conv_in.bias"]
    save_file(weights, published / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"lacks the weights decoder.conv_in.bias"):
        hub.load_image_autoencoder(published)


def test_no_checkpoint(tmp_path):
    with pytest.raises(ValueError, match="cannot load .*absent"):
        hub.load_image_autoencoder(tmp_path / "absent")


def test_pickles_are_refused(published):
    weights = load_file(published / "model.safetensors")
    (published / "model.safetensors").unlink()
    torch.save(weights, published / "pytorch_model.bin")
    with pytest.raises(
        ValueError, match=r"pytorch_model.bin may hold a pickle: loading it can run"
    ):
        hub.load_image_autoencoder(published)


@pytest.mark.parametrize(
    "shard", ["../elsewhere/model.safetensors", "/model.safetensors", "..\\\\x"]
)
def test_shards_from_somewhere_else_are_refused(model, processor, tmp_path, shard):
    folder = hub.save_for_hub(model, processor, tmp_path / "sharded", max_shard_size="10KB")
    index = folder / "model.safetensors.index.json"
    content = json.loads(index.read_text())
    content["weight_map"]["decoder.conv_in.bias"] = shard
    index.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"index.json names .*, which is not in its folder"):
        hub.load_image_autoencoder(folder)


def test_every_row_can_be_attached():
    # The names in MODELS are what transformers writes into auto_map.
    import transformers

    for _, _, auto_class in hf_vq.models.MODELS:
        assert hasattr(transformers, auto_class.__name__)


TEXT_ALONE = """
import json
import sys
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer, pipeline

folder, text = sys.argv[1:]
model = AutoModelForSeq2SeqLM.from_pretrained(folder, trust_remote_code=True).eval()
tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=True)
codes = model.encode(tokenizer(text, return_tensors="pt").input_ids).codes
answer = pipeline("text-reconstruction", model=folder, trust_remote_code=True)(text)
path = pipeline("text-interpolation", model=folder, trust_remote_code=True)(
    {"source": text, "target": text, "num_steps": 2}
)
assert "hf_vq" not in sys.modules
print(json.dumps({"codes": codes.tolist(), "answer": answer, "path": path}))
"""


@pytest.fixture
def text_model(tiny_config):
    tokenizer = train_tokenizer(["a cat is an animal"], 120)
    model = AutoModelForSeq2SeqLM.from_config(
        tiny_config("t5_vqvae", vocab_size=len(tokenizer))
    ).eval()
    return model, tokenizer


def test_a_text_model_works_without_the_package(text_model, tmp_path, fresh_python):
    model, tokenizer = text_model
    folder = hub.save_for_hub(model, tokenizer, tmp_path / "texts", card=CARD)
    config = json.loads((folder / "config.json").read_text())
    assert config["custom_pipelines"].keys() == set(text_pipelines.TEXT_TASKS)
    text = "a cat is an animal"
    done = subprocess.run(
        [fresh_python, "-c", TEXT_ALONE, str(folder), text],
        capture_output=True,
        text=True,
        env={
            **os.environ,
            "HF_HUB_OFFLINE": "1",
            "HF_MODULES_CACHE": str(tmp_path / "modules"),
            "TOKENIZERS_PARALLELISM": "false",
        },
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 0, done.stderr
    output = json.loads(done.stdout.splitlines()[-1])
    codec = TextCodec(model, tokenizer)
    assert output["codes"] == codec.encode([text]).tolist()
    assert output["answer"]["reconstruction"] == codec.reconstruct([text])[0]
    assert [row["t"] for row in output["path"]] == [0, 0.5, 1]


def test_each_loader_takes_its_kind_of_model(text_model, published, tmp_path):
    model, tokenizer = text_model
    hub.save_for_hub(model, tokenizer, tmp_path / "texts")
    loaded, loaded_tokenizer = hub.load_text_autoencoder(tmp_path / "texts")
    assert torch.equal(loaded.codebook, model.codebook)
    assert loaded_tokenizer.get_vocab() == tokenizer.get_vocab()
    with pytest.raises(ValueError, match=r"type 't5_vqvae', expected 'gmvq'"):
        hub.load_image_autoencoder(tmp_path / "texts")
    with pytest.raises(ValueError, match=r"type 'gmvq', expected 't5_vqvae'"):
        hub.load_text_autoencoder(published)
