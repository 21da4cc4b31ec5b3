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

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoModel

import hf_vq.models  # noqa: F401, registers the model
from hf_vq import GMVQImageProcessor
from hf_vq.topic_images.image_tokenizers import image_tokenizer, read_images

# diffusers warns of what it does itself while its models are made.
pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")


@pytest.fixture
def gmvq(tiny_config):
    """Two models of one configuration: alike in everything but their weights."""
    return [AutoModel.from_config(tiny_config("gmvq")).eval() for _ in range(2)]


@pytest.fixture
def make_vq_model():
    """Make a VQModel of diffusers, 4 pixels to a code."""
    diffusers = pytest.importorskip("diffusers", reason="needs the extra `image`")

    def make(**options):
        config = {
            "block_out_channels": (4, 4, 8),
            "down_block_types": ("DownEncoderBlock2D",) * 3,
            "up_block_types": ("UpDecoderBlock2D",) * 3,
            "norm_num_groups": 2,
            "latent_channels": 3,
            "vq_embed_dim": 5,
            "num_vq_embeddings": 16,
        }
        return diffusers.VQModel(**config | options).eval()

    return make


def test_codes_are_those_of_gmvq(gmvq):
    model, _ = gmvq
    tokenizer = image_tokenizer(model)
    assert image_tokenizer(tokenizer) is tokenizer
    pixels = torch.rand(3, 3, 8, 12)
    codes = tokenizer.encode(pixels)
    assert torch.equal(codes, model.encode(pixels).codes)
    assert codes.shape == (3, *tokenizer.grid_size(8, 12)) == (3, 2, 3)
    expected = model.decode(codes=codes).reconstruction.clamp(0, 1)
    assert torch.equal(tokenizer.decode(codes), expected)
    assert torch.equal(tokenizer.decode(codes.int()), expected)
    assert (tokenizer.codebook_size, tokenizer.codebook_dim) == (16, 5)
    assert (tokenizer.num_channels, tokenizer.stride) == (3, 4)


@pytest.mark.parametrize(
    "options",
    [
        {},
        # Its norms have 32 groups, and codes as wide as latents.
        {"norm_type": "spatial", "block_out_channels": (32, 32, 32), "vq_embed_dim": 3},
        {"lookup_from_codebook": True},
    ],
    ids=["group", "spatial", "lookup"],
)
def test_codes_are_those_of_diffusers(make_vq_model, options):
    model = make_vq_model(**options)
    tokenizer = image_tokenizer(model)
    pixels = torch.rand(2, 3, 8, 16)
    codes = tokenizer.encode(pixels)
    assert codes.shape == (2, 2, 4)
    assert codes.dtype == torch.int64
    # The nearest codes, found without diffusers; and the images that its own forward gives.
    latents = model.encode(2 * pixels - 1).latents.movedim(1, -1)
    distances = (latents[..., None, :] - model.quantize.embedding.weight).square().sum(-1)
    assert torch.equal(codes, distances.argmin(-1))
    with torch.no_grad():
        expected = ((model(2 * pixels - 1).sample + 1) / 2).clamp(0, 1)
    torch.testing.assert_close(tokenizer.decode(codes), expected)
    assert (tokenizer.codebook_size, tokenizer.codebook_dim) == (16, model.config.vq_embed_dim)
    assert (tokenizer.num_channels, tokenizer.stride) == (3, 4)


def test_a_fingerprint_is_that_of_what_decides_codes(gmvq, make_vq_model, tmp_path):
    for first, second in (gmvq, (make_vq_model(), make_vq_model())):
        fingerprint = image_tokenizer(first).fingerprint
        assert fingerprint != image_tokenizer(second).fingerprint
        first.save_pretrained(tmp_path / type(first).__name__)
        reloaded = type(first).from_pretrained(tmp_path / type(first).__name__)
        assert image_tokenizer(reloaded).fingerprint == fingerprint
        # Not the decoder's weights, but any other.
        with torch.no_grad():
            next(reloaded.decoder.parameters()).add_(1)
            assert image_tokenizer(reloaded).fingerprint == fingerprint
            next(reloaded.encoder.parameters()).flatten()[0] += 1e-3
            assert image_tokenizer(reloaded).fingerprint != fingerprint


def test_state_of_training_is_not_in_the_fingerprint(gmvq):
    model, _ = gmvq
    fingerprint = image_tokenizer(model).fingerprint
    model.quantizer.codebook_initialized.fill_(True)
    model.quantizer.num_updates.add_(1)
    assert image_tokenizer(model).fingerprint == fingerprint


def test_a_codebook_is_known_again_in_half_precision(gmvq):
    first, second = (image_tokenizer(model) for model in gmvq)
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        assert first.has_codebook(first.codebook.to(dtype))
        assert not second.has_codebook(first.codebook.to(dtype))
    assert not first.has_codebook(first.codebook[:-1])


def test_types_of_weights(gmvq):
    model, _ = gmvq
    assert image_tokenizer(model).dtype == torch.float32
    model.encoder.to(torch.bfloat16)
    assert image_tokenizer(model).dtype == torch.bfloat16


def test_mistakes_are_named(gmvq):
    tokenizer = image_tokenizer(gmvq[0])
    with pytest.raises(ValueError, match=r"10 x 8 pixels.*stride, 4"):
        tokenizer.encode(torch.rand(1, 3, 10, 8))
    with pytest.raises(ValueError, match=r"\(1, 1, 8, 8\).*\(batch, 3,"):
        tokenizer.encode(torch.rand(1, 1, 8, 8))
    with pytest.raises(ValueError, match=r"from 0 to 16.*another codebook"):
        tokenizer.decode(torch.tensor([[[0, 16]]]))
    for codes in (torch.zeros(2, 2, dtype=torch.long), torch.zeros(1, 2, 2)):
        with pytest.raises(ValueError, match=r"expected integers \(batch, rows, columns\)"):
            tokenizer.decode(codes)
    with pytest.raises(ValueError, match=r"Linear is no image model.*GMVQModel.*VQModel"):
        image_tokenizer(torch.nn.Linear(2, 2))


def test_images_are_read_as_the_processor_reads_them(make_images):
    for size, mode, channels in ((8, "RGB", 3), (20, "RGB", 3), (20, "L", 1), (8, "RGBA", 3)):
        images = make_images(2, size=size, mode=mode)
        processor = GMVQImageProcessor(size=8, do_grayscale=channels == 1)
        expected = processor(images, return_tensors="pt").pixel_values
        assert torch.equal(read_images(images, channels, (8, 8)), expected)
        assert torch.equal(read_images(images[0], channels, (8, 8)), expected[:1])
    wide = Image.fromarray(np.asarray(images[0]).repeat(2, axis=1))
    expected = GMVQImageProcessor(size=8)(wide, return_tensors="pt").pixel_values
    assert torch.equal(read_images(wide, 3, (8, 8)), expected)


@pytest.mark.parametrize("channels", [1, 3])
def test_images_of_16_bits_keep_their_gray(channels):
    deep = Image.fromarray(np.linspace(0, 65535, 64).astype(np.uint16).reshape(8, 8))
    processor = GMVQImageProcessor(size=8, do_grayscale=channels == 1)
    expected = processor(deep, return_tensors="pt").pixel_values
    torch.testing.assert_close(
        read_images(deep, channels, (8, 8)), expected, atol=0.5 / 255, rtol=0
    )


def test_every_form_of_images(make_images):
    images = make_images(2)
    expected = read_images(images, 3)
    arrays = np.stack([np.asarray(image) for image in images])
    tensors = torch.from_numpy(arrays).movedim(-1, 1)
    for form in (tuple(images), arrays, list(arrays), arrays / 255, tensors, tensors / 255):
        torch.testing.assert_close(read_images(form, 3, (8, 8)), expected)
    torch.testing.assert_close(read_images(arrays[0], 3), expected[:1])
    torch.testing.assert_close(read_images(tensors[0], 3), expected[:1])
    gray = make_images(1, mode="L")[0]
    assert torch.equal(read_images(np.asarray(gray), 1), read_images(gray, 1))


@pytest.mark.parametrize(
    ("images", "message"),
    [
        ([], "no images"),
        ([torch.rand(3, 8, 8), torch.rand(3, 8, 4)], "unlike sizes: 8 x 4, 8 x 8"),
        (["cat.png"], "an image is str"),
        (Image.new("F", (8, 8)), "mode 'F' has no agreed range"),
        (torch.rand(1, 1, 8, 8), "3 channels"),
        (torch.rand(1, 3, 8, 8) + 1, r"floats in \[0, 1\]"),
        (torch.full((1, 3, 8, 8), torch.nan), r"floats in \[0, 1\]"),
    ],
)
def test_wrong_images_are_named(images, message):
    with pytest.raises(ValueError, match=message):
        read_images(images, 3)


def test_an_array_of_another_size_is_refused():
    with pytest.raises(ValueError, match="8 x 4 pixels, expected 8 x 8"):
        read_images(torch.rand(1, 3, 8, 4), 3, (8, 8))
