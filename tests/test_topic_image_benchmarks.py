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
"""The parts of the image topic benchmark that decide what its tables say."""

import math
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.linalg import sqrtm

from hf_vq.evaluation import read_record

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

import topic_image  # noqa: E402
import topic_image_tables  # noqa: E402
from topic_image_cross_modal import compare_distances, cosine, hellinger  # noqa: E402
from topic_image_data import CifarResNet, Part, frechet, unigram_bits  # noqa: E402
from topic_image_methods import LABELS, Budget, ImageMethod, bags_of, build_model  # noqa: E402
from topic_image_pixelcnn import GatedPixelCNN, TopicPixelCNN  # noqa: E402
from topic_image_scores import (  # noqa: E402
    ASKED,
    DEFINITIONS,
    GUIDANCE_SCALES,
    Conditions,
    asked_name,
    bits_per_code,
    topic_centroids,
    typical_proportions,
)

RECORDS = sorted((topic_image.RESULTS / topic_image.FOLDER).glob("*.json"))


def test_frechet_distance_is_that_of_a_matrix_root() -> None:
    generator = np.random.default_rng(0)
    one, other = generator.normal(size=(300, 5)), 2 * generator.normal(size=(200, 5)) + 1
    covariances = [np.cov(rows.T) for rows in (one, other)]
    root = sqrtm(covariances[0] @ covariances[1]).real
    expected = np.square(one.mean(0) - other.mean(0)).sum()
    expected += np.trace(covariances[0] + covariances[1] - 2 * root)
    found = frechet(torch.from_numpy(one), torch.from_numpy(other))
    assert found == pytest.approx(expected, rel=1e-6)


def test_resnet_is_the_one_of_the_paper() -> None:
    # 6 n + 2 = 56 layers with weights; 0.85 M of them, as table 6 of the paper says.
    model = CifarResNet().eval()
    layers = [m for m in model.modules() if isinstance(m, torch.nn.Conv2d | torch.nn.Linear)]
    assert len(layers) == 56
    assert sum(p.numel() for p in model.parameters()) == pytest.approx(0.85e6, rel=0.01)
    images = torch.rand(3, 3, 32, 32)
    assert model(images).shape == (3, 64)
    assert model.classify(model(images)).shape == (3,)


def small_pixelcnn() -> GatedPixelCNN:
    torch.manual_seed(0)
    return GatedPixelCNN(11, condition_dim=3, width=8, num_layers=3, head_width=16).double()


@pytest.mark.parametrize("position", [(0, 0), (0, 4), (2, 0), (2, 3), (3, 4)])
def test_a_code_depends_on_those_before_it_and_on_no_other(position: tuple[int, int]) -> None:
    model, (row, column) = small_pixelcnn(), position
    codes = torch.randint(11, (1, 4, 5))
    embedded = model.embed(codes).detach().requires_grad_()
    model.embed.forward = lambda _: embedded
    model(codes, torch.randn(1, 3).double())[0, :, row, column].square().sum().backward()
    seen = embedded.grad[0].abs().sum(dim=-1) > 0
    before = torch.arange(20).view(4, 5) < 5 * row + column
    assert not seen[~before].any()
    # Its nearest neighbors, at least, are seen.
    for r, c in ((row, column - 1), (row - 1, column), (row - 1, column + 1)):
        if r >= 0 and 0 <= c < 5:
            assert seen[r, c]


def test_pixelcnn_samples_follow_its_own_probabilities() -> None:
    model, condition = small_pixelcnn(), torch.randn(6, 3).double()
    for parameter in model.head[2].parameters():
        torch.nn.init.normal_(parameter, std=30.0)  # so sure of itself that a draw is its mode
    codes = model.sample(condition, 4, 5, torch.Generator().manual_seed(0))
    assert codes.shape == (6, 4, 5)
    with torch.no_grad():
        logits = model(codes, condition)
    assert (logits.argmax(dim=1) == codes).float().mean() > 0.95


def test_pixelcnn_teaches_topics_through_the_bag_alone() -> None:
    torch.manual_seed(0)
    model = TopicPixelCNN(torch.randn(13, 4), (3, 3), num_topics=2, width=4, num_layers=2)
    codes = torch.randint(13, (6, 3, 3))
    output = model(codes)
    output.prior_loss.backward(retain_graph=True)
    assert model.topic_codes.grad is None
    assert model.inference.mean.weight.grad is None
    assert model.decoder.layers[0].condition.weight.grad.abs().sum() > 0
    expected = output.prior_loss / 9 + output.code_loss + output.kl_loss
    assert output.loss.item() == pytest.approx(expected.item())
    output.loss.backward()
    assert model.topic_codes.grad.abs().sum() > 0
    assert model.inference.mean.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("name", LABELS)
def test_every_method_is_given_what_its_row_says(name: str) -> None:
    data = topic_image.synthetic_data(40)
    budget = Budget(
        num_topics=3, hidden_size=8, num_layers=1, num_heads=1, pixelcnn_width=4, pixelcnn_layers=1
    )
    method = ImageMethod(name, budget, data.codebook, data.train, seed=0)
    told = method.condition(data.test.codes, data.test.labels)
    columns = {"unconditional": 1, "classes": 10}.get(name, 3)
    assert told.shape == (40, columns)
    torch.testing.assert_close(told.sum(dim=1), torch.ones(40))
    if name == "classes":
        assert torch.equal(told.argmax(dim=1), data.test.labels)
    assert method.can_be_guided == (name in ("topics", "classes", "clusters"))
    bits = bits_per_code(method.log_likelihood(data.test.codes, told), data.test.codes)
    assert bits.mean().item() == pytest.approx(math.log2(24), abs=0.3)  # untrained


def test_priors_of_the_compared_methods_have_one_size() -> None:
    def decoder_weights(name: str) -> int:
        model = build_model(name, Budget(), torch.randn(1024, 8), (8, 8))
        return sum(parameter.numel() for parameter in model.decoder.parameters())

    sizes = {decoder_weights(name) for name in LABELS if name != "pixelcnn"}
    assert len(sizes) == 1


def test_conditions_of_other_images_are_of_other_images() -> None:
    labels = torch.tensor([0, 0, 0, 1, 1, 1])
    features = torch.arange(6.0)[:, None].expand(6, 64)
    codes = torch.arange(6)[:, None, None]
    part = Part("p", codes, codes, labels, features, features)
    # An image is told its own number.
    method = SimpleNamespace(condition=lambda codes, labels: torch.eye(6)[codes[:, 0, 0]])
    conditions = Conditions(method, part, part[torch.tensor([5, 4, 3, 2, 1, 0])], seed=0)
    told = conditions.shuffled().argmax(dim=1)
    assert sorted(told.tolist()) == list(range(6))
    assert (told != torch.arange(6)).all()
    others = conditions.others(1).argmax(dim=1)
    assert (others != torch.arange(6)).all()
    assert torch.equal(labels[others], labels)
    two = conditions.others(2)
    expected = (labels[:, None] == labels).float() * (1 - torch.eye(6)) / 2
    torch.testing.assert_close(two, expected)
    assert torch.equal(conditions.lookalike().argmax(dim=1), torch.arange(6))
    torch.testing.assert_close(conditions.class_mean(), (labels[:, None] == labels).float() / 3)


def test_bags_and_entropies_by_hand() -> None:
    codes = torch.tensor([[[0, 2], [2, 2]]])
    assert bags_of(codes, 4).tolist() == [[1, 0, 3, 0]]
    # One more of each than the train counts: 2/8, 1/8, 4/8, 1/8.
    assert unigram_bits(codes, codes, 4) == pytest.approx((2 + 3 * 1) / 4)
    nats = torch.tensor([-4 * math.log(8.0)])
    assert bits_per_code(nats, codes).item() == pytest.approx(3.0)


def test_typical_proportions_and_centroids_by_hand() -> None:
    proportions = torch.tensor([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8]])
    torch.testing.assert_close(typical_proportions(proportions), proportions[[0, 2]])
    features = torch.tensor([[1.0, 0.0], [3.0, 0.0], [0.0, 5.0]])
    centroids = topic_centroids(features, torch.tensor([0, 0, 2]), 4)
    assert centroids[[0, 2]].tolist() == [[2, 0], [0, 5]]
    assert centroids[[1, 3]].isinf().all()


def test_permutations_find_a_relation_and_no_other() -> None:
    generator = np.random.default_rng(0)
    rows = generator.dirichlet(np.ones(6), size=10)
    same = compare_distances(hellinger(rows), cosine(np.sqrt(rows)), num_permutations=200)
    assert same["spearman"] == pytest.approx(1)
    assert same["p_value"] == pytest.approx(1 / 201)
    unlike = compare_distances(hellinger(rows), cosine(generator.normal(size=(10, 6))), 200)
    assert unlike["p_value"] > 0.05


def test_smoke_records_and_the_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    topic_image.smoke()
    assert capsys.readouterr().out.count("bits per code") == len(LABELS)
    # The same once more, kept: every column of every table is a figure with a definition.
    budget = Budget(steps=2, batch_size=8, num_topics=3, hidden_size=8, num_layers=1, num_heads=1)
    extent = topic_image.Extent(subset=10, num_samples=70, samples_per_topic=2)
    data, decoder = topic_image.synthetic_data(), topic_image.SyntheticDecoder()
    for name in ("topics", "unconditional"):
        topic_image.run(name, data, decoder, budget, extent, 0, tmp_path / "topic_image")
        topic_image.run(name, data, decoder, budget, extent, 0, tmp_path / "topic_image")
    assert capsys.readouterr().out.count("already there") == 2
    record = read_record(tmp_path / "topic_image" / "topics-seed0.json")
    tables = topic_image_tables
    columns = [*tables.LIKELIHOOD, *tables.REFERENCES, *tables.SAMPLES, *tables.CLUSTERS]
    asked = {
        asked_name(judge, kind, scale)
        for judge in ("inferred", "centroid")
        for kind in ASKED
        for scale in GUIDANCE_SCALES
    }
    assert {key for _, key, _, _ in columns} | asked <= record["metrics"].keys()
    assert record["metrics"].keys() <= DEFINITIONS.keys()

    import results

    template = (tables.REPORTS / "topic_image.template.md").read_text("utf-8")
    (tmp_path / "topic_image.template.md").write_text(template, "utf-8")
    monkeypatch.setattr(results, "RESULTS", tmp_path)
    monkeypatch.setattr(tables, "RESULTS", tmp_path)
    monkeypatch.setattr(tables, "REPORTS", tmp_path)
    (tmp_path / "README.md").write_text(results.README.read_text("utf-8"), "utf-8")
    monkeypatch.setattr(results, "README", tmp_path / "README.md")
    tables.report()
    page = (tmp_path / "topic_image.md").read_text("utf-8")
    assert "{{" not in page
    assert page.count(LABELS["topics"]) > 3
    assert tables.NOTHING in page
    assert (tmp_path / "topic_image_classes.png").exists()


def test_the_page_and_the_readme_are_made_from_the_records(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import results

    tables, readme = topic_image_tables, results.README.read_text("utf-8")
    page = (tables.REPORTS / "topic_image.md").read_text("utf-8")
    template = (tables.REPORTS / "topic_image.template.md").read_text("utf-8")
    (tmp_path / "topic_image.template.md").write_text(template, "utf-8")
    (tmp_path / "README.md").write_text(readme, "utf-8")
    monkeypatch.setattr(tables, "REPORTS", tmp_path)
    monkeypatch.setattr(results, "README", tmp_path / "README.md")
    tables.report()
    assert (tmp_path / "topic_image.md").read_text("utf-8") == page
    assert (tmp_path / "README.md").read_text("utf-8") == readme


def test_anchors_and_sheets_are_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = topic_image.synthetic_data()
    written = {}
    monkeypatch.setattr(topic_image.CodeData, "load", lambda validate=False: data)
    monkeypatch.setattr(
        topic_image, "write_result", lambda name, *rest: written.update({name: rest})
    )
    monkeypatch.setattr(topic_image_tables, "REPORTS", tmp_path)
    topic_image.anchors(num_topics=3, seeds=(0, 1))
    ((content, _),) = written.values()
    assert content["uniform_bits"] == pytest.approx(math.log2(24))
    assert content["unigram_bits"] == pytest.approx(math.log2(24), abs=0.05)
    assert content["frechet_train"] > 0
    assert all(len(found["nmi"]) == 2 for found in content["clusters"].values())
    assert "bags of codes" in topic_image_tables._anchor_clusters(content)

    budget = Budget(num_topics=3, hidden_size=8, num_layers=1, num_heads=1)
    model = build_model("topics", budget, data.codebook, (8, 8))
    model.save_pretrained(tmp_path / "model")
    topic_image.sheets(tmp_path / "model", topic_image.SyntheticDecoder(), 2, 3)
    with Image.open(tmp_path / "topic_image_topics.png") as sheet:
        # Two images, half of one as a gap and three samples, each pixel twice; three topics.
        assert sheet.size == (80 + 2 * (5 * 32 + 16), 2 * 3 * 32)
    assert (tmp_path / "topic_image_references.png").exists()


def test_committed_records_are_whole() -> None:
    for path in RECORDS:
        record = read_record(path)
        assert record["commit"], path.name
        assert record["data"]["split"] == "test", path.name
        assert record["metrics"]["num_images"] == 10_000, path.name
        assert 5 < record["metrics"]["bits_own"] < 10, path.name
