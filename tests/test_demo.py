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
"""The demo at smoke size: a page that stands alone, a model that reloads, and an error if it does not."""

import json
from html.parser import HTMLParser
from pathlib import Path

import datasets
import pytest
import torch

from hf_vq import GMVQModel
from hf_vq.evaluation import read_record

SCRIPTS = Path(__file__).resolve().parents[1] / "scripts"

pytest.importorskip("sklearn", reason="needs the extra `demo`")


@pytest.fixture
def demo(tmp_path, monkeypatch, accelerate_state):
    """The script as a module, with the cache of data sets and Accelerate's state to itself."""
    monkeypatch.syspath_prepend(str(SCRIPTS))  # it finds its neighbor there
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.chdir(tmp_path)
    import demo
    from demo_sections import t5_vqvae, topic_vq

    monkeypatch.setattr(topic_vq, "MAX_PER_LIBRARY", 8)
    monkeypatch.setattr(topic_vq, "NUM_TOPICS", 5)
    # Sympy takes its time.
    for name, number in (("NUM_TRAIN", 200), ("NUM_TEST", 40), ("NUM_EDITS", 10)):
        monkeypatch.setattr(t5_vqvae, name, number)
    return demo


class Page(HTMLParser):
    """What a page holds: its tags with their attributes, and its text."""

    VOID = {"meta", "img", "line", "rect", "path", "circle"}

    def __init__(self, text):
        super().__init__()
        self.tags, self.text, self.open = [], "", []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


OPTIONS = ["--max_steps", "3", "--text_max_steps", "8", "--topic_epochs", "3"]
OPTIONS += ["--image_topic_max_steps", "2", "--progress_bar", "false"]


def test_demo(demo, capsys):
    from demo_sections import gmvq

    path = demo.main(OPTIONS)
    assert path == Path("runs/demo/index.html")
    assert capsys.readouterr().out.endswith(f"page: {path}\n")

    page = Page(path.read_text(encoding="utf-8"))
    assert not page.open
    assert not {"script", "link", "iframe"} & {tag for tag, _ in page.tags}
    for _, attributes in page.tags:
        for name in ("src", "href"):
            assert attributes.get(name, "data:").startswith("data:")
    images = [attributes for tag, attributes in page.tags if tag == "img"]
    assert len(images) == 3 * gmvq.NUM_SHOWN + 3  # and a sheet each of samples, nearest, references
    assert sum(tag == "rect" for tag, _ in page.tags) == 64  # one bar for each code
    record = read_record("runs/demo/gmvq-demo/final.json")
    assert record["metrics"]["num_images"] == 360
    assert f"{record['metrics']['mse']:.5f}" in page.text
    assert record["data"]["revision"] in page.text
    check_text_section(page)
    check_topic_section(page)
    check_image_topic_section(page)

    # Another run starts its curves afresh, in place of the last ones.
    demo.main(OPTIONS)
    log = Path("runs/demo/gmvq-demo/log.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in log] == [1, 2, 3]


def check_text_section(page):
    record = read_record("runs/demo/t5-vqvae-demo/final.json")
    metrics = record["metrics"]
    assert metrics["num_texts"] == 40
    for name in ("exact_match", "symbolic_equivalence", "substitution_exact_match"):
        assert f"{metrics[name]:.1%}" in page.text
    assert record["data"]["revision"] in page.text
    for title in ("Interpolation", "Traversal", "Substitution"):
        assert title in page.text


def check_topic_section(page):
    metrics = read_record("runs/demo/topic-vq-demo/final.json")["metrics"]
    assert metrics["num_topics"] == 5
    for name in ("kmeans_purity", "probe_accuracy"):
        assert f"{metrics[name]:.1%}" in page.text
    assert sum(tag == "circle" for tag, _ in page.tags) == metrics["num_documents"] > 10
    labels = [a for tag, a in page.tags if tag == "text" and a.get("class") == "label"]
    assert len(labels) == 5


def check_image_topic_section(page):
    record = read_record("runs/demo/topic-vq-image-demo/final.json")
    metrics = record["metrics"]
    assert (metrics["num_images"], metrics["num_classes"]) == (360, 10)
    for name in ("bits_per_code", "bits_per_code_unconditional", "topic_class_nmi"):
        assert f"{metrics[name]:.3f}" in page.text
    assert f"{metrics['controllability']:.1%}" in page.text
    assert Path("runs/demo/topic-vq-image-demo/pipeline/model_index.json").is_file()


def test_letters_are_not_those_of_functions(demo):
    from demo_sections import t5_vqvae

    assert t5_vqvae.letters_of("x*sin(y) + log(2*z)**t") == [0, 6, 17, 21]


def test_a_model_that_reloads_differently_ends_the_demo(demo, monkeypatch):
    save = GMVQModel.save_pretrained

    def save_something_else(self, *args, **kwargs):
        weights = {name: torch.zeros_like(w) for name, w in self.state_dict().items()}
        save(self, *args, **kwargs | {"state_dict": weights})

    monkeypatch.setattr(GMVQModel, "save_pretrained", save_something_else)
    monkeypatch.setattr(demo, "DEMOS", demo.DEMOS[:1])
    with pytest.raises(
        SystemExit, match=r"gmvq-demo/final: the codes of the reloaded model differ"
    ):
        demo.main(OPTIONS)
    assert not Path("runs/demo/index.html").exists()


def test_baselines(demo, tiny_config):
    from demo_sections import gmvq

    config = tiny_config("gmvq", num_channels=1, num_downsamples=1, codebook_size=3)
    patches = torch.tensor([0.0, 0.4, 1.0])[torch.randint(3, (20, 1, 4, 4))]
    images = patches.repeat_interleave(2, dim=-1).repeat_interleave(2, dim=-2)
    scores, counts = gmvq.score_baselines(images, images, config, seed=0)
    # Three flat patches need no more than three codes; nothing is lost but 8 bits' rounding.
    assert scores["k-means on patches"]["mse"] < 1e-8
    assert sorted(counts.tolist()) == sorted((patches == v).sum().item() for v in patches.unique())
    eight_bits = (images * 255).round().double() / 255
    variance = (eight_bits - eight_bits.mean(dim=0)).square().mean().item()
    assert scores["mean image"]["mse"] == pytest.approx(variance, rel=1e-2)


def test_plots(demo):
    from demo_sections import page

    bars = page.counts_plot({"a": torch.tensor([1, 4, 0]), "b": torch.tensor([2, 2, 1])})
    heights = [float(attributes["height"]) for tag, attributes in Page(bars).tags if tag == "rect"]
    assert heights == pytest.approx([244, 61, 0], abs=0.1)  # sorted, to scale
    curve = page.loss_plot({"loss": [(1, 100.0), (2, 0.0), (3, 1.0), (4, 10.0)]})
    (path,) = [attributes["d"] for tag, attributes in Page(curve).tags if tag == "path"]
    assert path.count("M") == 2  # the zero is a gap
    points = page.scatter_plot(
        [(0, 1), (2, 3), (4, 1)], ["#000"] * 3, ["<a>", "b", "c"], [("d", (2, 2))]
    )
    circles = [a for tag, a in Page(points).tags if tag == "circle"]
    assert [float(a["cx"]) for a in circles] == [8, 360, 712]  # from edge to edge
    assert [float(a["cy"]) for a in circles] == [512, 8, 512]
    assert "<title>&lt;a&gt;</title>" in points
    assert [page.nice_step(rough) for rough in (0.3, 1.2, 40, 50.0, 60)] == [1, 2, 50, 50, 100]


def test_wrong_options_are_named(demo):
    for name in ("max_steps", "text_max_steps", "image_topic_max_steps"):
        with pytest.raises(ValueError, match=f"{name} is 0"):
            demo.main([f"--{name}", "0"])
