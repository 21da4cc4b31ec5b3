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
"""The image pipeline: every form of input, batches, decoding from codes, registration."""

import logging
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import Dataset
from transformers import AutoModel, pipeline
from transformers.pipelines import PIPELINE_REGISTRY

import hf_vq.models  # noqa: F401, registers the processor and the model
from hf_vq.models.image_processing_gmvq import GMVQImageProcessor
from hf_vq.pipelines import TASK, ImageReconstructionPipeline, register_pipelines


@pytest.fixture
def model(tiny_config):
    return AutoModel.from_config(tiny_config("gmvq"))


@pytest.fixture
def pipe(model):
    register_pipelines()
    return pipeline(
        TASK, model=model, image_processor=GMVQImageProcessor(size=model.config.image_size)
    )


def same(output, expected):
    return np.array_equal(output["codes"], expected["codes"]) and np.array_equal(
        np.asarray(output["reconstruction"]), np.asarray(expected["reconstruction"])
    )


def test_output_is_what_the_model_gives(pipe, model, make_images):
    (image,) = make_images(1)
    output = pipe(image)
    assert sorted(output) == ["codes", "reconstruction"]
    pixel_values = pipe.image_processor(image, return_tensors="pt").pixel_values
    with torch.no_grad():
        expected = model(pixel_values)
    assert output["codes"].dtype == np.int64
    assert np.array_equal(output["codes"], expected.codes[0].numpy())
    (reconstruction,) = pipe.image_processor.post_process(expected.reconstruction)
    assert np.array_equal(np.asarray(output["reconstruction"]), np.asarray(reconstruction))


def test_model_is_put_into_eval_mode(pipe, make_images):
    # transformers does not do it for a model that is passed in, and its noise would change every output.
    assert not pipe.model.training
    image, _ = make_images(2)
    assert same(pipe(image), pipe(image))


def test_every_form_of_input(pipe, make_images, tmp_path):
    (image,) = make_images(1)
    expected = pipe(image)
    path = tmp_path / "image.png"
    image.save(path)
    pixels = np.asarray(image)
    tensor = torch.from_numpy(pixels.copy()).permute(2, 0, 1)
    for form in (path, str(path), pixels, tensor, tensor / 255):
        assert same(pipe(form), expected)


def test_rotation_in_the_file_is_applied(pipe, make_images, tmp_path):
    (image,) = make_images(1)
    exif = Image.Exif()
    exif[0x0112] = 3  # stored upside down
    image.rotate(180).save(tmp_path / "image.png", exif=exif)
    assert same(pipe(tmp_path / "image.png"), pipe(image))


class Images(Dataset):
    def __init__(self, images):
        self.images = images

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        return self.images[index]


@pytest.mark.parametrize("batch_size", [1, 2])
@pytest.mark.parametrize(
    "container",
    [
        list,
        tuple,
        lambda images: (image for image in images),
        Images,
        lambda images: np.stack([np.asarray(image) for image in images]),
        lambda images: torch.stack(
            [torch.tensor(np.asarray(image)).permute(2, 0, 1) for image in images]
        ),
    ],
    ids=["list", "tuple", "generator", "dataset", "array", "tensor"],
)
def test_batches(pipe, make_images, container, batch_size):
    images = make_images(3)
    expected = [pipe(image) for image in images]
    outputs = list(pipe(container(images), batch_size=batch_size))
    assert [np.array_equal(o["codes"], e["codes"]) for o, e in zip(outputs, expected, strict=True)]
    for output, one in zip(outputs, expected, strict=True):
        # A batched convolution may round differently, which 8 bits hide but for one step.
        difference = np.asarray(output["reconstruction"], dtype=int) - np.asarray(
            one["reconstruction"]
        )
        assert np.abs(difference).max() <= 1


def test_no_images(pipe):
    assert pipe([]) == []


@pytest.mark.parametrize("batch_size", [1, 2])
def test_codes_are_decoded(pipe, make_images, batch_size):
    outputs = pipe(make_images(3))
    again = pipe(outputs, batch_size=batch_size)
    assert all(np.array_equal(a["codes"], o["codes"]) for a, o in zip(again, outputs, strict=True))
    # One code changed changes the image.
    codes = outputs[0]["codes"].copy()
    assert same(pipe({"codes": codes}), outputs[0])
    codes[0, 0] = (codes[0, 0] + 1) % pipe.model.config.codebook_size
    assert not same(pipe({"codes": codes}), outputs[0])
    assert same(pipe({"codes": codes.tolist()}), pipe({"codes": torch.tensor(codes)}))


def test_grids_of_different_size_are_not_padded(pipe):
    # transformers would fill the shorter grid up with zeros, and zero is a code.
    grids = [{"codes": np.ones((2, 2), dtype=int)}, {"codes": np.ones((3, 2), dtype=int)}]
    assert [output["codes"].shape for output in pipe(grids)] == [(2, 2), (3, 2)]
    with pytest.raises(RuntimeError, match="[Ss]izes of tensors"):
        pipe(grids, batch_size=2)


def test_options_of_the_image_processor(pipe, make_images):
    (image,) = make_images(1, size=32)
    assert pipe(image)["reconstruction"].size == (8, 8)
    assert pipe(image, image_processor_kwargs={"size": 16})["reconstruction"].size == (16, 16)
    with pytest.raises(TypeError, match="sise"):
        pipe(image, sise=16)


def test_gray_images(tiny_config, make_images):
    model = AutoModel.from_config(tiny_config("gmvq", num_channels=1))
    processor = GMVQImageProcessor(size=8, do_grayscale=True)
    pipe = ImageReconstructionPipeline(model=model, image_processor=processor)
    assert pipe(make_images(1)[0])["reconstruction"].mode == "L"


def test_bfloat16(pipe, make_images, tmp_path):
    (image,) = make_images(1)
    pipe.save_pretrained(tmp_path)
    half = pipeline(TASK, model=str(tmp_path), dtype=torch.bfloat16, trust_remote_code=True)
    assert half.model.decoder.conv_in.weight.dtype == torch.bfloat16
    difference = np.asarray(half(image)["reconstruction"], dtype=int) - np.asarray(
        pipe(image)["reconstruction"]
    )
    assert np.abs(difference).mean() < 4


def test_mistakes_are_named(pipe, tmp_path, model):
    with pytest.raises(FileNotFoundError, match="absent.png"):
        pipe("absent.png")
    (tmp_path / "broken.png").write_text("no image")
    with pytest.raises(OSError, match="broken.png"):
        pipe(tmp_path / "broken.png")
    with pytest.raises(ValueError, match=r"'image'"):
        pipe({"image": 1})
    for codes in (np.zeros((1, 2, 2), dtype=int), np.zeros((2, 2)), np.zeros((2, 2), dtype=bool)):
        with pytest.raises(ValueError, match=r"codes must be integers of shape \(height, width\)"):
            pipe({"codes": codes})
    with pytest.raises(ValueError, match="16"):
        pipe({"codes": np.full((2, 2), 16)})
    with pytest.raises(ValueError, match="image_processor"):
        ImageReconstructionPipeline(model=model)


def test_registration(caplog, monkeypatch):
    with caplog.at_level(logging.WARNING):
        register_pipelines()
        register_pipelines()
    assert not caplog.records
    assert PIPELINE_REGISTRY.supported_tasks[TASK]["impl"] is ImageReconstructionPipeline
    other = {TASK: {"impl": SimpleNamespace}}
    monkeypatch.setattr(PIPELINE_REGISTRY, "supported_tasks", other)
    with pytest.raises(ValueError, match=r"image-reconstruction.*SimpleNamespace"):
        register_pipelines()


def test_importing_the_package_registers_the_task():
    import hf_vq  # noqa: F401

    assert TASK in PIPELINE_REGISTRY.get_supported_tasks()


def test_saved_and_loaded(pipe, make_images, tmp_path):
    (image,) = make_images(1)
    pipe.save_pretrained(tmp_path)
    assert (tmp_path / "pipelines.py").is_file()
    for trust in (False, True):  # where the package is installed, no other code is needed
        loaded = pipeline(TASK, model=str(tmp_path), trust_remote_code=trust)
        assert same(loaded(image), pipe(image))
