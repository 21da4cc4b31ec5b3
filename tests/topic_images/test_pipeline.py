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

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import AutoModel

import hf_vq.models  # noqa: F401, registers the models
from hf_vq.topic_images.image_tokenizers import image_tokenizer, read_images

diffusers = pytest.importorskip("diffusers", reason="needs the extra `image`")

from hf_vq.topic_images.pipeline import TopicVQImagePipeline  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")

K = 4


@pytest.fixture
def make_pipe(tiny_config):
    """Make a pipeline of images of 8 x 12 pixels; topics of the untrained prior do differ."""

    def make(tokenizer=None, **options):
        torch.manual_seed(0)
        tokenizer = AutoModel.from_config(tiny_config("gmvq")) if tokenizer is None else tokenizer
        config = tiny_config(
            "topic_vq_image",
            tokenizer_fingerprint=image_tokenizer(tokenizer).fingerprint,
            **options,
        )
        prior = AutoModel.from_config(config)
        prior.set_codebook(image_tokenizer(tokenizer).codebook)
        for weight in prior.parameters():
            torch.nn.init.normal_(weight, std=0.5)
        pipe = TopicVQImagePipeline(tokenizer, prior)
        pipe.set_progress_bar_config(disable=True)
        return pipe

    return make


@pytest.fixture
def pipe(make_pipe):
    return make_pipe()


def codes_of(pipe, **options):
    return pipe(output_type="codes", **({"generator": 0} | options)).images


def test_models_are_put_into_eval_mode(pipe):
    assert not pipe.tokenizer.training
    assert not pipe.prior.training
    assert pipe.image_size == (8, 12)


def test_by_topic_is_what_the_prior_draws(pipe):
    output = pipe(topics=[2, 0], num_images_per_prompt=3, generator=7, temperature=0.9, top_k=5)
    expected = pipe.prior.generate(
        torch.eye(K)[[2, 2, 2, 0, 0, 0]],
        generator=torch.Generator().manual_seed(7),
        temperature=0.9,
        top_k=5,
    )
    assert torch.equal(output.codes, expected)
    assert torch.equal(output.topic_proportions, torch.eye(K)[[2, 2, 2, 0, 0, 0]])
    pixels = image_tokenizer(pipe.tokenizer).decode(expected).movedim(1, -1)
    for image, array in zip(output.images, pixels.numpy(), strict=True):
        assert image.size == (12, 8)
        np.testing.assert_array_equal(np.asarray(image), (array * 255).round())
    one = codes_of(pipe, topics=2, generator=7)
    assert one.shape == (1, 2, 3)


def test_by_mixture(pipe):
    mixture = [0.1, 0.2, 0.3, 0.4]
    expected = pipe.prior.generate(
        torch.tensor([mixture, mixture]), generator=torch.Generator().manual_seed(0)
    )
    forms = (mixture, np.array(mixture), torch.tensor(mixture), torch.tensor([mixture]).double())
    for form in forms:
        drawn = codes_of(pipe, topic_proportions=form, num_images_per_prompt=2)
        assert torch.equal(drawn, expected)
    onehot = codes_of(pipe, topic_proportions=torch.eye(K))
    assert torch.equal(onehot, codes_of(pipe, topics=range(K)))


def test_by_reference_images(pipe, make_images):
    images = make_images(2, size=20)
    codes = image_tokenizer(pipe.tokenizer).encode(read_images(images, 3, (8, 12)))
    proportions = pipe.prior.infer_topics(codes)
    assert torch.equal(pipe.infer_topics(images), proportions)
    output = pipe(reference_images=images, num_images_per_prompt=2, generator=0)
    assert torch.equal(output.topic_proportions, proportions.repeat_interleave(2, dim=0))
    mixed = proportions.mean(dim=0)
    drawn = codes_of(pipe, topic_proportions=proportions, num_images_per_prompt=2)
    assert torch.equal(output.codes, drawn)
    assert codes_of(pipe, topic_proportions=mixed).shape == (1, 2, 3)


def test_without_topics(pipe, make_pipe):
    output = pipe(num_images_per_prompt=5, generator=0)
    generator = torch.Generator().manual_seed(0)
    expected = pipe.prior.generate("unconditional", num_images=5, generator=generator)
    assert torch.equal(output.codes, expected)
    assert output.topic_proportions is None
    # A prior that always had topics gets some of those that images have.
    other = make_pipe(condition_dropout=0.0)
    generator = torch.Generator().manual_seed(0)
    expected = other.prior.generate(None, num_images=5, generator=generator)
    assert torch.equal(codes_of(other, num_images_per_prompt=5), expected)


def test_guidance(pipe):
    proportions = torch.eye(K)[:2]
    expected = pipe.prior.generate(
        proportions, guidance_scale=3.0, generator=torch.Generator().manual_seed(0)
    )
    assert torch.equal(codes_of(pipe, topics=[0, 1], guidance_scale=3.0), expected)


def test_completing_keeps_the_upper_rows(pipe, make_images):
    tokenizer = image_tokenizer(pipe.tokenizer)
    image = make_images(1, size=12)[0].crop((0, 0, 12, 8))
    strip = image.crop((0, 0, 12, 4))
    kept = tokenizer.encode(read_images(strip, 3))
    output = pipe(partial_images=image, num_images_per_prompt=3, generator=0)
    assert torch.equal(output.codes[:, :1], kept.expand(3, -1, -1))
    assert len(output.codes[:, 1].unique(dim=0)) > 1
    # What lies below the kept rows makes no difference, nor whether it is there.
    black = Image.new("RGB", (12, 8))
    black.paste(strip, (0, 0))
    for partial in (black, strip):
        codes = codes_of(pipe, partial_images=partial, num_images_per_prompt=3)
        assert torch.equal(codes, output.codes)
    # With topics: as many partial images as prompts, or one of either.
    both = codes_of(pipe, partial_images=[strip, strip], topics=[1, 2])
    assert torch.equal(both, codes_of(pipe, partial_images=strip, topics=[1, 2]))
    assert torch.equal(both[:, :1], kept.expand(2, -1, -1))
    expected = pipe.prior.generate(
        torch.eye(K)[[1, 2]],
        codes=kept.flatten(1).expand(2, -1),
        generator=torch.Generator().manual_seed(0),
    )
    assert torch.equal(both, expected)
    assert codes_of(pipe, partial_images=[strip, strip], topics=1).shape == (2, 2, 3)


def test_all_rows_but_one_can_be_kept(make_pipe):
    pipe = make_pipe(grid_size=[4, 3])
    pixels = torch.rand(1, 3, 16, 12)
    tokenizer = image_tokenizer(pipe.tokenizer)
    for kept in (1, 3):
        codes = codes_of(pipe, partial_images=pixels, kept_rows=kept)
        expected = tokenizer.encode(pixels[:, :, : 4 * kept])
        assert torch.equal(codes[:, :kept], expected)


def test_seeds(pipe):
    first = codes_of(pipe, topics=[0, 1, 2])
    assert torch.equal(codes_of(pipe, topics=[0, 1, 2]), first)
    assert torch.equal(
        codes_of(pipe, topics=[0, 1, 2], generator=torch.Generator().manual_seed(0)), first
    )
    assert not torch.equal(codes_of(pipe, topics=[0, 1, 2], generator=1), first)
    # A seed for each image makes it the same in every batch.
    seeds = [5, 6, 7, 8]
    options = {"topics": [0, 1], "num_images_per_prompt": 2}
    whole = codes_of(pipe, **options, generator=seeds)
    assert torch.equal(codes_of(pipe, **options, generator=seeds, batch_size=3), whole)
    assert torch.equal(codes_of(pipe, topics=1, generator=7), whole[2:3])
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    assert torch.equal(codes_of(pipe, **options, generator=generators), whole)
    # Greedy codes need none.
    greedy = codes_of(pipe, topics=1, do_sample=False, generator=None)
    assert torch.equal(codes_of(pipe, topics=1, do_sample=False, generator=None), greedy)


def test_output_types(pipe):
    options = {"topics": [0, 1, 2], "generator": 0}
    tensor = pipe(output_type="pt", **options).images
    assert tensor.shape == (3, 3, 8, 12)
    array = pipe(output_type="np", **options).images
    np.testing.assert_array_equal(array, tensor.movedim(1, -1).numpy())
    images, codes, proportions = pipe(return_dict=False, **options)
    assert [image.mode for image in images] == ["RGB"] * 3
    assert torch.equal(codes, codes_of(pipe, topics=[0, 1, 2]))
    assert torch.equal(proportions, torch.eye(K)[:3])


def test_gray_images(make_pipe, tiny_config, make_images):
    pipe = make_pipe(AutoModel.from_config(tiny_config("gmvq", num_channels=1)))
    output = pipe(reference_images=make_images(1))
    assert [image.mode for image in output.images] == ["L"]
    assert pipe(output_type="np").images.shape == (1, 8, 12, 1)


def test_progress_bar_counts_images(pipe, capsys):
    pipe.set_progress_bar_config(disable=False)
    pipe(topics=[0, 1, 2], batch_size=2)
    assert "3/3" in capsys.readouterr().err


def saved(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_saved_and_loaded_as_one_repository(pipe, tmp_path, capsys):
    pipe.save_pretrained(tmp_path)
    assert saved(tmp_path) == {
        "model_index.json",
        "pipeline.py",
        "image_tokenizers.py",
        "tokenizer/config.json",
        "tokenizer/model.safetensors",
        "prior/config.json",
        "prior/generation_config.json",
        "prior/model.safetensors",
    }
    expected = pipe(topics=[0, 3], generator=0, output_type="pt").images
    loaded = TopicVQImagePipeline.from_pretrained(tmp_path)
    assert torch.equal(loaded(topics=[0, 3], generator=0, output_type="pt").images, expected)
    loaded.save_pretrained(tmp_path)  # onto itself
    custom = diffusers.DiffusionPipeline.from_pretrained(
        str(tmp_path), custom_pipeline=str(tmp_path), trust_remote_code=True
    )
    assert type(custom).__module__.startswith("diffusers_modules")
    assert torch.equal(custom(topics=[0, 3], generator=0, output_type="pt").images, expected)
    custom.save_pretrained(tmp_path / "again")
    assert saved(tmp_path / "again") == saved(tmp_path) - {
        name for name in saved(tmp_path) if name.startswith("again")
    }
    part = TopicVQImagePipeline.from_pretrained(tmp_path, prior=pipe.prior)
    assert part.prior is pipe.prior


@pytest.mark.parametrize("part", ["tokenizer", "prior"])
def test_a_missing_weight_is_not_made_up(part, pipe, tmp_path):
    pipe.save_pretrained(tmp_path)
    file = tmp_path / part / "model.safetensors"
    weights = load_file(file)
    name = sorted(weights)[0]
    del weights[name]
    save_file(weights, file, metadata={"format": "pt"})
    with pytest.raises(ValueError, match=f"{part} lacks the weights {name}"):
        TopicVQImagePipeline.from_pretrained(tmp_path)


def test_the_file_itself_is_a_custom_pipeline(pipe, tmp_path):
    from hf_vq.topic_images import pipeline

    pipe.save_pretrained(tmp_path)
    custom = diffusers.DiffusionPipeline.from_pretrained(
        str(tmp_path), custom_pipeline=str(Path(pipeline.__file__)), trust_remote_code=True
    )
    codes = codes_of(pipe, topics=1)
    assert torch.equal(codes_of(custom, topics=1), codes)


def test_half_precision(pipe, tmp_path):
    pipe.save_pretrained(tmp_path)
    for dtype in (torch.bfloat16, torch.float16):
        half = TopicVQImagePipeline.from_pretrained(tmp_path, torch_dtype=dtype)
        half.set_progress_bar_config(disable=True)
        assert half.tokenizer.encoder.conv_mid.weight.dtype == dtype
        assert codes_of(half, topics=[1, 2]).shape == (2, 2, 3)


def test_cast_in_place(pipe):
    assert pipe.to(torch.bfloat16).tokenizer.encoder.conv_mid.weight.dtype == torch.bfloat16
    assert pipe.prior.topic_codes.dtype == torch.float32
    assert codes_of(pipe, topics=[1, 2]).shape == (2, 2, 3)


def test_images_of_diffusers_own_model(make_pipe, tmp_path):
    model = diffusers.VQModel(
        block_out_channels=(4, 4, 8),
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        norm_num_groups=2,
        vq_embed_dim=5,
        num_vq_embeddings=16,
    )
    pipe = make_pipe(model)
    pipe.save_pretrained(tmp_path)
    loaded = TopicVQImagePipeline.from_pretrained(tmp_path)
    images = torch.rand(2, 3, 8, 12)
    for options in ({"topics": [0, 1]}, {"reference_images": images}, {"partial_images": images}):
        expected = pipe(**options, generator=0, output_type="pt").images
        assert torch.equal(loaded(**options, generator=0, output_type="pt").images, expected)


def test_another_image_model_is_refused(pipe, tiny_config, tmp_path):
    other = AutoModel.from_config(tiny_config("gmvq"))
    with pytest.raises(ValueError, match="GMVQModel has another codebook"):
        TopicVQImagePipeline(other, pipe.prior)
    other.quantizer.codebook.data.copy_(pipe.tokenizer.quantizer.codebook)
    with pytest.raises(ValueError, match=r"fingerprint sha256:.*the same codebook behind another"):
        TopicVQImagePipeline(other, pipe.prior)
    small = AutoModel.from_config(tiny_config("gmvq", codebook_size=8))
    with pytest.raises(ValueError, match=r"8 codes of width 5.*16 of width 5"):
        TopicVQImagePipeline(small, pipe.prior)
    # Also when a saved pipeline's part was replaced.
    pipe.save_pretrained(tmp_path)
    AutoModel.from_config(tiny_config("gmvq")).save_pretrained(tmp_path / "tokenizer")
    with pytest.raises(ValueError, match="another codebook"):
        TopicVQImagePipeline.from_pretrained(tmp_path)


@pytest.mark.parametrize(
    ("remove", "message"),
    [
        ("model_index.json", r"no saved pipeline.*model_index\.json"),
        ("prior", r"lacks prior/config\.json, the weights in prior/"),
        ("tokenizer/model.safetensors", "lacks the weights in tokenizer/"),
        ("prior/config.json", r"lacks prior/config\.json"),
    ],
)
def test_an_incomplete_folder_is_refused(pipe, tmp_path, remove, message):
    pipe.save_pretrained(tmp_path)
    path = tmp_path / remove
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()
    with pytest.raises(ValueError, match=message):
        TopicVQImagePipeline.from_pretrained(tmp_path)


def test_an_index_without_a_component_is_refused(pipe, tmp_path):
    pipe.save_pretrained(tmp_path)
    index = json.loads((tmp_path / "model_index.json").read_text())
    del index["prior"]
    (tmp_path / "model_index.json").write_text(json.dumps(index))
    with pytest.raises(ValueError, match=r"lacks prior in model_index\.json"):
        TopicVQImagePipeline.from_pretrained(tmp_path)


def test_numbers_of_numpy_and_torch_are_topics_and_seeds(pipe):
    expected = codes_of(pipe, topics=[1], generator=3)
    for topics in (np.int64(1), torch.tensor(1), np.array([1]), torch.tensor([1])):
        assert torch.equal(codes_of(pipe, topics=topics, generator=np.int64(3)), expected)


@pytest.mark.parametrize("topics", [1.5, [1.5], "1", "12"])
def test_what_is_no_whole_number_is_no_topic(pipe, topics):
    with pytest.raises(TypeError, match="cannot be interpreted as an integer"):
        pipe(topics=topics)


IMAGE = torch.zeros(3, 8, 12)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"topics": 4}, "no topic 4: topics are 0 to 3"),
        ({"topics": [0, -1]}, "no topic -1"),
        ({"topics": []}, "topics is empty"),
        ({"topics": 1, "reference_images": IMAGE}, "topics and reference_images are given"),
        ({"topic_proportions": [0.5, 0.5]}, r"shape \(2,\), expected \(4,\)"),
        ({"topic_proportions": [0.5, 0.5, 0.5, 0.5]}, "sums to 1.*with sums from 2 to 2"),
        ({"topic_proportions": [1.5, -0.5, 0, 0]}, "not negative.*from -0.5 to 1.5"),
        ({"topic_proportions": [1.0, float("nan"), 0, 0]}, "a mixture is"),
        ({"reference_images": torch.zeros(3, 8, 8)}, "8 x 8 pixels, expected 8 x 12"),
        ({"partial_images": torch.zeros(3, 8, 8)}, "8 x 8 pixels, expected 12 columns"),
        ({"partial_images": torch.zeros(3, 12, 12)}, "12 x 12 pixels.*at most 8 rows"),
        ({"partial_images": torch.zeros(3, 6, 12)}, "stride, 4"),
        ({"partial_images": IMAGE, "kept_rows": 2}, "kept_rows is 2, expected 1 to 1"),
        ({"partial_images": IMAGE, "kept_rows": 0}, "kept_rows is 0"),
        ({"kept_rows": 1}, "kept_rows is given without partial_images"),
        ({"partial_images": [IMAGE] * 2, "topics": [0, 1, 2]}, "3 prompts and 2 partial images"),
        ({"guidance_scale": 2.0}, "no topics to guide to"),
        ({"topics": 0, "guidance_scale": float("inf")}, "guidance_scale is inf, expected a finite"),
        ({"topics": 0, "generator": [1, 2]}, "2 generators for 1 images"),
        ({"topics": 0, "output_type": "png"}, "output_type is 'png'"),
        ({"topics": 0, "num_images_per_prompt": 0}, "num_images_per_prompt is 0"),
        ({"topics": 0, "batch_size": 0}, "batch_size is 0"),
    ],
    ids=str,
)
def test_mistakes_are_named(pipe, options, message):
    with pytest.raises(ValueError, match=message):
        pipe(**options)


def test_guidance_needs_a_prior_that_knows_images_without_topics(make_pipe):
    pipe = make_pipe(condition_dropout=0.0)
    with pytest.raises(ValueError, match=r"guidance_scale is 2\.0.*condition_dropout=0"):
        pipe(topics=1, guidance_scale=2.0)
