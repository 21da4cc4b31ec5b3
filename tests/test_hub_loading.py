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
"""A saved checkpoint, loaded in every way that people do it: the same numbers come out of all of them.

Revisions, offline caches and remote code are in `test_hub.py` and `hub_server/suites/`; adapters of peft and half
precision in depth with the models.
"""

import json

import datasets
import numpy as np
import pytest
import torch
from transformers import AutoModel, AutoModelForSeq2SeqLM, pipeline
from transformers.models.auto.image_processing_auto import AutoImageProcessor
from transformers.pipelines.pt_utils import KeyDataset

from hf_vq import hub
from hf_vq.models import MODELS, GMVQImageProcessor
from hf_vq.text_data import train_tokenizer

AUTO_CLASSES = {row[0].model_type: row[2] for row in MODELS}
# What stays in float32 when the rest is loaded in half precision.
HALF = {"gmvq": "encoder", "t5_vqvae": "decoder"}

every_model = pytest.mark.parametrize("model_type", AUTO_CLASSES)


@pytest.fixture
def make_inputs(tiny_config):
    """Inputs of a forward, by model type."""

    def make(model_type, batch_size=2):
        config = tiny_config(model_type)
        if model_type == "gmvq":
            return {"pixel_values": torch.rand(batch_size, 3, 8, 8)}
        if model_type == "t5_vqvae":
            input_ids = torch.randint(2, config.vocab_size, (batch_size, 7))
            mask = torch.ones_like(input_ids)
            mask[0, 5:] = 0
            return {"input_ids": input_ids, "attention_mask": mask, "decoder_input_ids": input_ids}
        if model_type == "topic_vq":
            return {
                "word_embeddings": torch.randn(batch_size, 7, config.word_embedding_dim),
                "word_counts": torch.randint(0, 3, (batch_size, config.vocab_size)).float(),
                "document_vectors": torch.randn(batch_size, config.word_embedding_dim),
            }
        return {"codes": torch.randint(config.codebook_size, (batch_size, *config.grid_size))}

    return make


@pytest.fixture
def make_model(tiny_config):
    def make(model_type, **options):
        model = AUTO_CLASSES[model_type].from_config(tiny_config(model_type, **options)).eval()
        if model_type == "topic_vq_image":
            model.set_codebook(torch.randn(model.config.codebook_size, model.config.codebook_dim))
        return model

    return make


@torch.no_grad()
def outputs(model, inputs):
    return {name: value for name, value in model(**inputs).items() if torch.is_tensor(value)}


def assert_equal(found, expected):
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.equal(found[name], value), name


@every_model
def test_folders_shards_and_devices(model_type, make_model, make_inputs, tmp_path):
    auto_class, inputs = AUTO_CLASSES[model_type], make_inputs(model_type)
    model = make_model(model_type)
    expected = outputs(model, inputs)
    part = tmp_path / "repository" / "part"
    model.save_pretrained(part, max_shard_size="3KB")
    assert len(list(part.glob("model-*-of-*.safetensors"))) > 1
    assert not list(part.glob("*.bin"))
    ways = {
        "folder": (part, {}),
        "subfolder": (part.parent, {"subfolder": "part"}),
        "low memory": (part, {"low_cpu_mem_usage": True}),
        "a device": (part, {"device_map": "cpu"}),
        "a map": (part, {"device_map": {"": "cpu"}}),
        "an automatic map": (part, {"device_map": "auto"}),
    }
    for folder, options in ways.values():
        assert_equal(outputs(auto_class.from_pretrained(folder, **options), inputs), expected)


@every_model
def test_loading_makes_no_second_copy_of_the_weights(model_type, make_model, tmp_path, monkeypatch):
    """They go from the file into the model: before that, its parameters have no memory."""
    model = make_model(model_type)
    model.save_pretrained(tmp_path)
    devices, post_init = set(), type(model).post_init

    def note(self):
        devices.update(parameter.device.type for parameter in self.parameters())
        post_init(self)

    monkeypatch.setattr(type(model), "post_init", note)
    AUTO_CLASSES[model_type].from_pretrained(tmp_path)
    assert devices == {"meta"}


# T5VQVAE without its embeddings, which encoder and decoder share; topics without the small parts that are read as
# tensors and not called as modules, and so are never fetched from disk.
LARGE_PARTS = {
    "gmvq": ["encoder", "decoder"],
    "t5_vqvae": ["encoder.block", "decoder.block"],
    "topic_vq": ["autoencoder", "inference", "word_decoder"],
    "topic_vq_image": ["inference", "decoder"],
}


def device_map(model, on_disk, prefix=""):
    """The map that has some modules on disk, and all else in memory."""
    places = {name: "cpu" for name, _ in model.named_parameters(prefix, recurse=False)}
    for name, part in model.named_children():
        name = f"{prefix}.{name}".removeprefix(".")
        if any(other.startswith(f"{name}.") for other in on_disk):
            places |= device_map(part, on_disk, name)
        else:
            places[name] = "disk" if name in on_disk else "cpu"
    return places


@every_model
@pytest.mark.filterwarnings("ignore:The following device_map keys:UserWarning")  # of a parameter
def test_a_part_on_disk(model_type, make_model, make_inputs, tmp_path):
    """For machines with less memory than weights."""
    model, inputs = make_model(model_type), make_inputs(model_type)
    model.save_pretrained(tmp_path / "model")
    loaded = AUTO_CLASSES[model_type].from_pretrained(
        tmp_path / "model",
        device_map=device_map(model, LARGE_PARTS[model_type]),
        offload_folder=tmp_path / "offloaded",
    )
    for name in LARGE_PARTS[model_type]:
        assert {p.device.type for p in loaded.get_submodule(name).parameters()} == {"meta"}
    assert_equal(outputs(loaded, inputs), outputs(model, inputs))


@pytest.mark.filterwarnings("ignore:The following device_map keys:UserWarning")
def test_as_much_in_memory_as_there_is(make_model, tmp_path):
    """An automatic map puts the decoder on disk, which is most of images by topic; drawing is as before."""
    model = make_model("topic_vq_image")
    model.save_pretrained(tmp_path / "model")
    size = sum(value.nbytes for value in model.state_dict().values())
    loaded = AutoModel.from_pretrained(
        tmp_path / "model",
        device_map="auto",
        max_memory={"cpu": int(0.7 * size)},
        offload_folder=tmp_path / "offloaded",
    )
    assert loaded.hf_device_map["decoder.transformer.h"] == "disk"
    assert loaded.hf_device_map["condition"] == "cpu"
    drawn, expected = (
        part.generate(num_images=3, generator=torch.Generator().manual_seed(0))
        for part in (loaded, model)
    )
    assert torch.equal(drawn, expected)


@every_model
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_precision_and_what_was_saved(model_type, dtype, make_model, make_inputs, tmp_path):
    auto_class, inputs = AUTO_CLASSES[model_type], make_inputs(model_type)
    make_model(model_type).save_pretrained(tmp_path)
    half = auto_class.from_pretrained(tmp_path, dtype=dtype)
    assert dtype in {parameter.dtype for parameter in half.parameters()}
    codebooks = [value for name, value in half.state_dict().items() if name.endswith("codebook")]
    assert {value.dtype for value in codebooks} == {torch.float32}
    expected = outputs(half, inputs)
    assert all(value.isfinite().all() for value in expected.values())
    half.save_pretrained(tmp_path / "half")
    again = auto_class.from_pretrained(tmp_path / "half", dtype="auto")
    for name, value in half.state_dict().items():
        assert torch.equal(again.state_dict()[name].float(), value.float()), name
    if model_type in HALF:  # the topic models are in float32 but for a layer or two
        assert again.dtype == dtype
        assert_equal(outputs(again, inputs), expected)
    whole = auto_class.from_pretrained(tmp_path / "half", dtype=torch.float32)
    assert {p.dtype for p in whole.parameters() if p.is_floating_point()} == {torch.float32}


@pytest.mark.parametrize("model_type", ["topic_vq", "topic_vq_image"])
def test_topic_models_compile_without_a_break(model_type, make_model, make_inputs):
    """As the others do, see their own tests; documents of unlike length, with a mask, break the graph once."""
    model, inputs = make_model(model_type), make_inputs(model_type)
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    for name, value in outputs(model, inputs).items():
        torch.testing.assert_close(outputs(compiled, inputs)[name], value)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model_type", "dynamic"),
    # A dynamic graph of T5VQVAE works as well, and takes several times as long.
    [("gmvq", True), ("t5_vqvae", False), ("topic_vq", True), ("topic_vq_image", True)],
)
@pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning"
)
def test_onnx_runtime_gives_equal_outputs(model_type, dynamic, make_model, make_inputs, tmp_path):
    """All outputs of `transformers.exporters`, saved and loaded; with a dynamic graph for another batch size."""
    pytest.importorskip("onnxscript", reason="needs onnxscript")
    pytest.importorskip("onnxruntime", reason="needs onnxruntime")
    pytest.importorskip("transformers.exporters.runners", reason="older exporters answer unlike")
    from transformers.exporters.exporter_onnx import OnnxConfig, OnnxExporter

    model = make_model(model_type)
    exported = OnnxExporter().export(
        model, make_inputs(model_type), config=OnnxConfig(dynamic=dynamic)
    )
    inputs = make_inputs(model_type, 3 if dynamic else 2)
    expected, found = outputs(model, inputs), exported(**inputs)
    for name, value in expected.items():
        torch.testing.assert_close(
            torch.as_tensor(found[name]), value, rtol=1e-4, atol=1e-5, msg=name
        )


@pytest.fixture
def int8():
    quantization = pytest.importorskip("torchao.quantization", reason="needs torchao")
    from transformers import TorchAoConfig

    return TorchAoConfig(quantization.Int8WeightOnlyConfig())


def test_int8_weights_of_torchao(int8, make_model, make_inputs, tmp_path):
    """The transformer's weights in 8 bits, the codebook as it was; saved and loaded as such."""
    model = make_model("t5_vqvae", d_model=32, d_kv=16, d_ff=64)
    inputs = make_inputs("t5_vqvae", batch_size=20)
    model.save_pretrained(tmp_path)
    small = AutoModelForSeq2SeqLM.from_pretrained(tmp_path, quantization_config=int8)
    kinds = {name: type(value).__name__ for name, value in small.state_dict().items()}
    in_blocks = {name: kind for name, kind in kinds.items() if ".block." in name}
    linear = {name for name, part in model.named_modules() if isinstance(part, torch.nn.Linear)}
    assert {name for name, kind in kinds.items() if kind == "Int8Tensor"} == {
        f"{name}.weight" for name in linear if f"{name}.weight" in in_blocks
    }
    assert torch.equal(small.codebook, model.codebook)
    found, expected = outputs(small, inputs), outputs(model, inputs)
    mask = inputs["attention_mask"].bool()
    assert (found["codes"] == expected["codes"])[mask].float().mean() > 0.9
    # With the same codes, the decoder says nearly the same.
    given = {name: inputs[name] for name in ("attention_mask", "decoder_input_ids")}
    with torch.no_grad():
        found_logits, expected_logits = (
            part.decode(codes=expected["codes"], **given).logits for part in (small, model)
        )
    torch.testing.assert_close(found_logits, expected_logits, rtol=0.05, atol=0.05)
    small.save_pretrained(tmp_path / "small")
    assert not list((tmp_path / "small").glob("*.bin"))
    again = AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "small")
    assert_equal(outputs(again, inputs), found)


def test_int8_topics_of_images(int8, make_model, make_inputs, tmp_path):
    """Inference and prefix in 8 bits; the decoder of codes, which is not made of linear layers, as it was."""
    model, inputs = make_model("topic_vq_image"), make_inputs("topic_vq_image")
    model.save_pretrained(tmp_path)
    small = AutoModel.from_pretrained(tmp_path, quantization_config=int8)
    kinds = {name: type(value).__name__ for name, value in small.state_dict().items()}
    parts = {name.partition(".")[0] for name, kind in kinds.items() if kind == "Int8Tensor"}
    assert parts == {"inference", "condition"}
    assert torch.equal(small.codebook, model.codebook)
    found, expected = outputs(small, inputs), outputs(model, inputs)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=0.05, atol=0.05, msg=name)


def test_pipelines_take_rows_of_data_sets(make_model, tiny_config, make_images):
    model = AutoModel.from_config(tiny_config("gmvq"))
    processor = GMVQImageProcessor(size=8)
    images = datasets.Dataset.from_dict({"image": make_images(3)}).cast_column(
        "image", datasets.Image()
    )
    reconstruct = pipeline("image-reconstruction", model=model, image_processor=processor)
    expected = [reconstruct(image)["codes"] for image in make_images(3)]
    for rows in (KeyDataset(images, "image"), list(images["image"])):
        found = [output["codes"] for output in reconstruct(rows, batch_size=2)]
        assert np.array_equal(found, expected)
    tokenizer = train_tokenizer(["a cat is an animal"], 120)
    texts = datasets.Dataset.from_dict({"text": ["a cat", "an animal", "a cat is an animal"]})
    codec = make_model("t5_vqvae", vocab_size=len(tokenizer))
    reconstruct = pipeline("text-reconstruction", model=codec, tokenizer=tokenizer)
    expected = [reconstruct(text)["codes"] for text in texts["text"]]
    for rows in (KeyDataset(texts, "text"), list(texts["text"])):
        assert [output["codes"] for output in reconstruct(rows, batch_size=2)] == expected


def test_the_package_asks_nobody_to_trust_the_copy_of_itself(make_model, tmp_path):
    """Whoever has hf_vq needs no `trust_remote_code`, and what is saved next points to no code that it lacks."""
    model, processor = make_model("gmvq"), GMVQImageProcessor(size=8)
    published = hub.save_for_hub(model, processor, tmp_path / "published")
    image = np.zeros((8, 8, 3), dtype=np.uint8)
    answer = pipeline("image-reconstruction", model=str(published))(image)
    child = AutoModel.from_pretrained(published)
    child.save_pretrained(tmp_path / "child")
    AutoImageProcessor.from_pretrained(published).save_pretrained(tmp_path / "child")
    for file in (tmp_path / "child").glob("*.json"):
        assert not {"auto_map", "custom_pipelines"} & json.loads(file.read_text()).keys(), file
    again = pipeline("image-reconstruction", model=str(tmp_path / "child"))(image)
    assert np.array_equal(again["codes"], answer["codes"])
    config = json.loads((published / "config.json").read_text())
    assert config["auto_map"]
    assert config["custom_pipelines"]


@every_model
def test_weights_in_a_pickle_are_refused_with_the_reason(model_type, make_model, tmp_path):
    model = make_model(model_type)
    model.config.save_pretrained(tmp_path)
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(ValueError, match="no file of safetensors in .*: a pickle can run code"):
        AUTO_CLASSES[model_type].from_pretrained(tmp_path)
    with pytest.raises(ValueError, match="use_safetensors is False: a pickle can run code"):
        AUTO_CLASSES[model_type].from_pretrained(tmp_path, use_safetensors=False)
    with pytest.raises(OSError, match="nowhere"):
        type(model).from_pretrained(tmp_path / "nowhere")


def test_a_failed_download_of_weights_is_no_missing_file(make_model, tmp_path, monkeypatch):
    def fail(*args, **options):
        raise OSError("403 Client Error for url: https://hub/resolve/main/model.safetensors")

    make_model("gmvq").save_pretrained(tmp_path)
    monkeypatch.setattr("transformers.modeling_utils._get_resolved_checkpoint_files", fail)
    with pytest.raises(OSError, match="403 Client Error"):
        AutoModel.from_pretrained(tmp_path)
