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

import datasets
import numpy as np
import pytest
import torch
from transformers import AutoModel

import hf_vq.models  # noqa: F401, registers the model
from hf_vq import GMVQImageProcessor
from hf_vq.data import InMemoryImages, load_images
from hf_vq.topic_images.codes import CodeGrids, encode_images
from hf_vq.topic_images.image_tokenizers import image_tokenizer


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "datasets")


@pytest.fixture
def tokenizer(tiny_config):
    return image_tokenizer(AutoModel.from_config(tiny_config("gmvq")).eval())


@pytest.fixture
def processor():
    return GMVQImageProcessor(size=8)


@pytest.fixture
def labeled(make_images):
    """Seven images of two classes, in a data set and as they are."""
    features = datasets.Features(
        {"image": datasets.Image(), "kind": datasets.ClassLabel(names=["cat", "dog"])}
    )
    images = make_images(7)
    rows = {"image": images, "kind": [0, 1, 1, 0, 1, 0, 0]}
    return datasets.Dataset.from_dict(rows, features=features), images


class Counted:
    """A tokenizer that notes how many images it got."""

    def __init__(self, tokenizer, monkeypatch, stop_after=None):
        self.sizes, encode = [], tokenizer.encode

        def counted(pixels):
            if stop_after is not None and len(self.sizes) == stop_after:
                raise KeyboardInterrupt
            self.sizes.append(len(pixels))
            return encode(pixels)

        monkeypatch.setattr(tokenizer, "encode", counted)


def test_codes_are_those_of_each_image(tokenizer, processor, labeled, tmp_path):
    dataset, images = labeled
    expected = tokenizer.encode(processor(images, return_tensors="pt").pixel_values)
    options = {"label_column": "kind", "batch_size": 3, "progress": False}
    for cache_dir in (None, tmp_path / "codes"):
        grids = encode_images(dataset, tokenizer, processor, cache_dir, **options)
        assert torch.equal(grids.tensor(), expected)
        assert torch.equal(grids[2]["codes"], expected[2])
        assert torch.equal(grids.__getitems__([4, 1])[1]["codes"], expected[1])
        assert grids.codes.dtype == np.uint16
        assert (len(grids), grids.grid_size, grids.codebook_size) == (7, (2, 2), 16)
        assert grids.label_names() == ["cat", "dog", "dog", "cat", "dog", "cat", "cat"]
        assert grids.fingerprint == tokenizer.fingerprint
        assert grids.revision.startswith("sha256:")
        assert set(grids[0]) == {"codes"}  # no label
    assert isinstance(grids.codes, np.memmap)


def test_codes_of_images_in_memory(tokenizer, processor, labeled):
    dataset, _ = labeled
    images = InMemoryImages(dataset, processor, label_column="kind")
    grids = encode_images(images, tokenizer, progress=False)
    expected = encode_images(dataset, tokenizer, processor, progress=False)
    assert torch.equal(grids.tensor(), expected.tensor())
    assert (grids.revision, expected.labels) == (expected.revision, None)
    assert grids.labels.tolist() == [0, 1, 1, 0, 1, 0, 0]


def test_all_images_have_a_label_or_none(tokenizer, processor, labeled):
    dataset, images = labeled

    def encode(kinds):
        rows = datasets.Dataset.from_dict({"image": images, "kind": kinds})
        return encode_images(rows, tokenizer, processor, label_column="kind", progress=False)

    assert encode([-1] * 7).labels is None
    with pytest.raises(ValueError, match="1 of 7 images have the label -1"):
        encode([0] * 6 + [-1])
    with pytest.raises(ValueError, match=r"no column 'knid'; the columns are \['image', 'kind'\]"):
        encode_images(dataset, tokenizer, processor, label_column="knid", progress=False)


def test_a_killed_pass_goes_on(tokenizer, processor, labeled, tmp_path, monkeypatch):
    dataset, _ = labeled
    options = {"batch_size": 2, "progress": False}
    expected = encode_images(dataset, tokenizer, processor, **options).tensor()
    with monkeypatch.context() as patch:
        counted = Counted(tokenizer, patch, stop_after=2)
        with pytest.raises(KeyboardInterrupt):
            encode_images(dataset, tokenizer, processor, tmp_path, **options)
    (folder,) = [path for path in tmp_path.iterdir() if (path / "state.json").is_file()]
    with (folder / "codes.bin").open("ab") as file:
        file.write(b"half a grid")  # a process may die while it writes
    with monkeypatch.context() as patch:
        counted = Counted(tokenizer, patch)
        grids = encode_images(dataset, tokenizer, processor, tmp_path, **options)
        assert counted.sizes == [2, 1]
        assert torch.equal(grids.tensor(), expected)
        encode_images(dataset, tokenizer, processor, tmp_path, **options)
        assert counted.sizes == [2, 1]  # all of it lay there


def test_the_cache_minds_tokenizer_processor_and_images(
    tokenizer, processor, labeled, tmp_path, monkeypatch, tiny_config
):
    dataset, _ = labeled
    other = image_tokenizer(AutoModel.from_config(tiny_config("gmvq")).eval())
    counts = [Counted(each, monkeypatch) for each in (tokenizer, other)]
    folder = tmp_path / "codes"
    for arguments in (
        (dataset, tokenizer, processor),
        (dataset, other, processor),
        (dataset, tokenizer, GMVQImageProcessor(size=16)),
        (dataset.select(range(6)), tokenizer, processor),
    ):
        encode_images(*arguments, folder, progress=False)
    assert [count.sizes for count in counts] == [[7, 7, 6], [7]]
    assert sum(path.is_dir() for path in folder.iterdir()) == 4


def test_codes_of_large_codebooks_fit(tiny_config, processor, labeled):
    model = AutoModel.from_config(tiny_config("gmvq", codebook_size=2**16 + 2)).eval()
    tokenizer = image_tokenizer(model)
    grids = encode_images(labeled[0], tokenizer, processor, progress=False)
    assert grids.codes.dtype == np.int32


def test_counts_and_histograms():
    grids = CodeGrids([[[0, 1], [1, 3]], [[2, 2], [2, 2]]], 5)
    assert grids.counts().tolist() == [1, 2, 4, 1, 0]
    np.testing.assert_allclose(
        grids.histograms(), [[0.25, 0.5, 0, 0.25, 0], [0, 0, 1, 0, 0]], rtol=1e-6
    )


def test_classes_without_names():
    grids = CodeGrids(np.zeros((2, 1, 1), int), 5, labels=[3, 4])
    assert grids.label_names() == ["3", "4"]
    with pytest.raises(ValueError, match="no labels"):
        CodeGrids(np.zeros((2, 1, 1), int), 5).label_names()


@pytest.mark.parametrize(
    ("codes", "options", "message"),
    [
        (np.zeros((2, 2), int), {}, r"expected integers \(images, rows, columns\)"),
        (np.zeros((2, 2, 2)), {}, "float64"),
        (np.full((2, 2, 2), 5), {}, "from 5 to 5, expected 0 to 4"),
        (np.full((2, 2, 2), -1), {}, "from -1 to -1"),
        (np.zeros((2, 2, 2), int), {"labels": [1, 2, 3]}, r"2 images have labels of shape \(3,\)"),
    ],
)
def test_wrong_codes_are_named(codes, options, message):
    with pytest.raises(ValueError, match=message):
        CodeGrids(codes, 5, **options)


def test_what_cannot_be_encoded(tokenizer, processor, labeled, image_folder):
    stream = load_images(image_folder, "train", streaming=True)
    with pytest.raises(ValueError, match="stream"):
        encode_images(stream, tokenizer, processor)
    with pytest.raises(ValueError, match="no images"):
        encode_images(labeled[0].select([]), tokenizer, processor)
    with pytest.raises(ValueError, match=r"10 x 10 pixels.*stride, 4"):
        encode_images(labeled[0], tokenizer, GMVQImageProcessor(size=10))
