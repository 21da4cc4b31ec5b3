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

import math

import numpy as np
import pytest
import torch
from transformers import AutoModel

import hf_vq.models  # noqa: F401, registers the model
from hf_vq.topic_images.codes import CodeGrids

pytest.importorskip("sklearn", reason="needs the extra `topics`")

from hf_vq.topic_images.scoring import (  # noqa: E402
    IMAGE_TOPIC_DEFINITIONS,
    infer_proportions,
    score_control,
    score_topic_images,
)


@pytest.fixture
def make_model(tiny_config):
    def make(**options):
        model = AutoModel.from_config(tiny_config("topic_vq_image", **options)).eval()
        model.set_codebook(torch.randn(16, 5))
        for weight in model.parameters():
            torch.nn.init.normal_(weight, std=0.3)
        return model

    return make


@pytest.fixture
def grids():
    codes = np.random.default_rng(0).integers(0, 16, (11, 2, 3))
    return CodeGrids(codes, 16, labels=np.arange(11) % 3, class_names=["a", "b", "c"])


def bits(log_likelihood):
    return -log_likelihood.double().mean().item() / (6 * math.log(2))


def test_likelihoods_are_those_of_the_model(make_model, grids):
    model, codes = make_model(), grids.tensor()
    proportions = infer_proportions(model, grids, batch_size=4)
    torch.testing.assert_close(proportions, model.infer_topics(codes))
    scores = score_topic_images(model, grids, samples_per_topic=2, batch_size=4)
    assert scores.keys() <= IMAGE_TOPIC_DEFINITIONS.keys()
    own = model.log_likelihood(codes)
    assert scores["nll"] == pytest.approx(-own.mean().item(), rel=1e-5)
    assert scores["bits_per_code"] == pytest.approx(bits(own), rel=1e-5)
    mean = proportions.mean(0).expand(11, -1)
    for name, told in (("mean_topics", mean), ("unconditional", "unconditional")):
        expected = bits(model.log_likelihood(codes, told))
        assert scores[f"bits_per_code_{name}"] == pytest.approx(expected, rel=1e-5)
    assert scores["bits_per_code_shuffled"] != scores["bits_per_code"]
    assert scores["kl"] == pytest.approx(model(codes).kl_loss.item(), rel=1e-4)
    assert scores["bits_per_code_uniform"] == 4
    assert (scores["num_images"], scores["num_topics"], scores["num_classes"]) == (11, 4, 3)
    # Not of the batches, nor of the global generator.
    torch.manual_seed(1)
    again = score_topic_images(model, grids, samples_per_topic=2, batch_size=4)
    assert again == scores
    assert score_topic_images(model, grids, samples_per_topic=0)["nll"] == pytest.approx(
        scores["nll"], rel=1e-5
    )


def test_the_bound_counts_the_bits_of_topics(make_model, grids):
    model, codes = make_model(), grids.tensor()
    # With a posterior as narrow as this a draw is its mean.
    torch.nn.init.zeros_(model.inference.log_variance.weight)
    torch.nn.init.constant_(model.inference.log_variance.bias, -20)
    scores = score_topic_images(model, grids, samples_per_topic=0)
    expected = scores["bits_per_code"] + model(codes).kl_loss.item() / (6 * math.log(2))
    assert scores["bits_per_code_bound"] == pytest.approx(expected, rel=1e-3)


def test_topics_that_are_classes(make_model, grids, monkeypatch):
    model = make_model()
    labels = torch.from_numpy(grids.labels)

    def infer(codes, num_samples=0):
        # Found by the codes: each grid knows its place.
        rows = [int((grids.tensor() == each).flatten(1).all(1).nonzero()[0]) for each in codes]
        return torch.eye(4)[labels[rows]] * 0.9 + 0.025

    monkeypatch.setattr(model, "infer_topics", infer)
    scores = score_topic_images(model, grids, samples_per_topic=0)
    for name in ("topic_class_nmi", "topic_class_purity", "kmeans_nmi", "kmeans_purity"):
        assert scores[name] == pytest.approx(1)
    assert scores["active_topics"] == 3
    assert scores["mean_largest_topic"] == pytest.approx(0.925)
    assert scores["histogram_nmi"] < 1


def test_control(make_model, monkeypatch):
    model = make_model()
    drawn = []

    def generate(mixtures, generator, **options):
        drawn.append((mixtures, options))
        return mixtures

    monkeypatch.setattr(model, "generate", generate)
    monkeypatch.setattr(model, "infer_topics", lambda mixtures: mixtures)
    assert score_control(model, 3, batch_size=5, guidance_scale=2.0) == 1
    mixtures = torch.cat([each for each, _ in drawn])
    assert torch.equal(mixtures, torch.eye(4).repeat_interleave(3, dim=0))
    assert drawn[0][1] == {"guidance_scale": 2.0}
    monkeypatch.setattr(model, "infer_topics", lambda mixtures: mixtures.roll(1, dims=1))
    assert score_control(model, 3) == 0


def test_shares_of_codes(make_model, grids):
    train = CodeGrids(np.array([[[0, 0, 0], [1, 2, 3]]]), 16)
    shares = (np.bincount([0, 0, 0, 1, 2, 3], minlength=16) + 1) / 22
    expected = -np.log2(shares)[grids.codes].mean()
    scores = score_topic_images(make_model(), grids, train_grids=train, samples_per_topic=0)
    assert scores["bits_per_code_unigram"] == pytest.approx(expected)


def test_what_is_not_known_is_left_out(make_model, grids):
    without = CodeGrids(grids.codes, 16)
    scores = score_topic_images(make_model(condition_dropout=0.0), without, samples_per_topic=0)
    absent = {"bits_per_code_unconditional", "topic_class_nmi", "num_classes", "controllability"}
    assert not absent & scores.keys()
    with pytest.raises(ValueError, match="1 images"):
        score_topic_images(make_model(), CodeGrids(grids.codes[:1], 16))
