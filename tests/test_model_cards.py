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
"""Model cards: they parse, their snippets run, and their numbers are those of the record beside them."""

import random
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from huggingface_hub import ModelCard
from PIL import Image
from torch.utils.data import DataLoader

from hf_vq import hub
from hf_vq.evaluation import evaluate_image_autoencoder, read_record, write_record
from hf_vq.models import (
    GMVQImageProcessor,
    GMVQModel,
    T5VQVAEForConditionalGeneration,
    TopicVQForImageGeneration,
    TopicVQModel,
    TopicVQProcessor,
)
from hf_vq.symbolic_equivalence import symbolic_equivalence
from hf_vq.text_data import TextCollator, train_tokenizer
from hf_vq.text_evaluation import TEXT_METRIC_DEFINITIONS, evaluate_text_autoencoder
from hf_vq.topic_images.codes import CodeGrids
from hf_vq.topic_images.image_tokenizers import image_tokenizer
from hf_vq.topic_images.pipeline import TopicVQImagePipeline
from hf_vq.topic_images.scoring import IMAGE_TOPIC_DEFINITIONS, score_topic_images
from hf_vq.topics.documents import Documents
from hf_vq.topics.encoder_choice import load_encoder
from hf_vq.topics.estimator import TopicVQ
from hf_vq.topics.scoring import SCORE_DEFINITIONS, score_topic_model

ROOT = Path(__file__).resolve().parents[1]
CARDS = sorted((ROOT / "model_cards").glob("*.md"))
RECORDS = sorted((ROOT / "model_cards").glob("*.json"))
PICTURES = sorted((ROOT / "model_cards").glob("*.png"))

cards = pytest.mark.parametrize("card", CARDS, ids=lambda path: path.stem)


@dataclass
class Published:
    """A tiny model of the kind that a card is about, what belongs to it, and the figures the card must show."""

    model: Any
    processor: Any
    record: dict[str, Any]
    shown: set[str]


@pytest.fixture
def make_published(tiny_config, tmp_path):
    def images():
        model = GMVQModel(tiny_config("gmvq", image_size=16)).eval()
        loader = [{"pixel_values": torch.rand(2, 3, 16, 16)} for _ in range(2)]
        metrics = evaluate_image_autoencoder(model, loader)
        shown = {"mse", "psnr", "ssim", "perplexity", "codebook_usage"}
        return model, GMVQImageProcessor(size=16), metrics, shown

    def texts():
        clause = " where the variable is "
        expressions = [f"x*sin(y) + 2{clause}y", f"log(z) + x**2{clause}z", f"x + 2{clause}x"]
        tokenizer = train_tokenizer(expressions, 110, isolate_symbols=True)
        config = tiny_config("t5_vqvae", vocab_size=len(tokenizer), max_latent_positions=32)
        model = T5VQVAEForConditionalGeneration(config).eval()
        rows = [{"source": text, "target": text} for text in expressions]
        loader = DataLoader(rows, 2, collate_fn=TextCollator(tokenizer))
        metrics = evaluate_text_autoencoder(
            model, loader, tokenizer=tokenizer, references=expressions, score=symbolic_equivalence
        )
        shown = {"exact_match", "symbolic_equivalence", "bleu1", "codebook_perplexity"}
        return model, tokenizer, metrics, shown

    def topics():
        themes = ("sun moon star sky comet orbit", "cat dog bird horse cow calf")
        texts = [" ".join(generator.choices(themes[i % 2].split(), k=12)) for i in range(40)]
        topics = TopicVQ(
            2,
            encoder="corpus",
            max_df=1.0,
            progress_bar=False,
            training_options={"topic_epochs": 1.0, "cpu": True},
        ).fit(texts[:30])
        topics.save_pretrained(tmp_path / "topics")
        model = TopicVQModel.from_pretrained(tmp_path / "topics").eval()
        processor = TopicVQProcessor.from_pretrained(tmp_path / "topics")
        encoder = load_encoder(model.config, folder=str(tmp_path / "topics"))
        held_out = Documents(texts[30:], ["sky", "animal"] * 5)
        metrics = score_topic_model(model, processor, encoder, held_out, texts, progress=False)
        shown = {"npmi", "diversity_10", "kmeans_purity", "kmeans_nmi", "perplexity"}
        return model, processor, metrics, shown

    def image_topics():
        tokenizer = image_tokenizer(GMVQModel(tiny_config("gmvq")).eval())
        fingerprint = tokenizer.fingerprint
        config = tiny_config("topic_vq_image", tokenizer_fingerprint=fingerprint)
        model = TopicVQForImageGeneration(config).eval()
        model.set_codebook(tokenizer.codebook)
        codes = np.random.default_rng(0).integers(0, 16, (12, 2, 3))
        grids = CodeGrids(codes, 16, labels=np.arange(12) % 3)
        metrics = score_topic_images(model, grids, train_grids=grids)
        shown = {
            "bits_per_code",
            "bits_per_code_unconditional",
            "topic_class_nmi",
            "controllability",
        }
        return model, tokenizer, metrics, shown

    generator = random.Random(0)
    kinds = {"gmvq": images, "t5-vqvae": texts, "topic-vq-image": image_topics, "topic-vq": topics}

    def make(card):
        kind = next(kind for kind in kinds if card.stem.startswith(kind))
        model, processor, metrics, shown = kinds[kind]()
        record = write_record(
            tmp_path / "record.json",
            "tiny",
            metrics,
            data={"name": "some data", "split": "test", "revision": "sha256:0"},
            seeds=[0, 1],
            definitions=TEXT_METRIC_DEFINITIONS | SCORE_DEFINITIONS | IMAGE_TOPIC_DEFINITIONS,
        )
        return Published(model, processor, record, shown)

    return make


def render(card, published, repo_id="user/model", pictures=PICTURES):
    recipe = (ROOT / "scripts" / "configs" / f"{card.stem}.yaml").read_text()
    config = published.model.config.to_dict()
    stage = {"step": 4, "examples_seen": 16, "train_seconds": 1.5, "num_processes": 1}
    return hub.render_card(
        card,
        published.record,
        recipe=recipe.strip(),
        repo_id=repo_id,
        config=config,
        training=[stage],
        pictures=[path.name for path in pictures],
    )


def metric_values(metadata):
    (result,) = metadata["model-index"][0]["results"]
    return {metric["type"]: metric["value"] for metric in result["metrics"]}


def check_figures(text, published):
    metrics = published.record["metrics"]
    values = metric_values(ModelCard(text).data.to_dict())
    assert published.shown <= values.keys()
    for name, value in values.items():
        assert value == metrics[name]
    rows = dict(re.findall(r"^\| (\w+) \| (\S+) \|", text, re.MULTILINE))
    assert rows.keys() >= values.keys()
    for name, value in rows.items():
        if name != "figure":
            assert float(value) == pytest.approx(metrics[name], rel=1e-3)


@cards
def test_figures_equal_the_record(card, make_published):
    published = make_published(card)
    text = render(card, published)
    check_figures(text, published)
    assert "{" not in re.sub(r"```.*?```|`[^`]*`", "", text, flags=re.DOTALL)
    assert text.startswith("---\n")
    assert "\n\n\n" not in text


@cards
def test_metadata(card, make_published):
    data = ModelCard(render(card, make_published(card))).data
    assert data.license == "apache-2.0"
    assert data.library_name == ("diffusers" if "image-" in card.stem else "transformers")
    assert data.pipeline_tag
    # What is generated is no data set of the Hub, to which the Hub would link.
    assert bool(data.datasets) == (card.stem != "t5-vqvae-expressions")
    assert set(data.metrics) <= metric_values(data.to_dict()).keys()
    (entry,) = {result.dataset_name for result in data.eval_results}
    assert entry
    assert data.model_name == card.stem


@cards
def test_no_figure_is_typed(card):
    """What the record does not fill in would not change with it."""
    text = re.sub(r"\{\{.*?\}\}|\{%.*?%\}|```.*?```", "", card.read_text(), flags=re.DOTALL)
    text = re.sub(r"apache-2.0|2410.10180|2402.00723|2312.11532|by/2.0/|CC BY 4.0", "", text)
    assert re.findall(r"\d+\.\d+|\d+ ?%|e-\d", text) == []


@cards
def test_snippets_run(card, make_published, tmp_path, monkeypatch, make_images):
    published, folder = make_published(card), tmp_path / "published"
    text = render(card, published, repo_id=str(folder))
    if card.stem.startswith("topic-vq-image"):
        pipe = TopicVQImagePipeline(published.processor.model, published.model)
        hub.save_pipeline_for_hub(pipe, folder, card=text)
    else:
        hub.save_for_hub(published.model, published.processor, folder, card=text)
    monkeypatch.chdir(tmp_path)
    make_images(1, size=20)[0].save("image.png")
    snippets = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(snippets) >= 3
    namespace = {}
    for snippet in snippets:
        exec(compile(snippet, card.name, "exec"), namespace)
    if card.stem.startswith("gmvq"):
        assert Path("reconstruction.png").is_file()
        assert namespace["image"].size == (16, 16)
        # The call in the text below the snippets.
        (call,) = re.findall(r"`(reconstruct\(.*?\)\s*)`", text, re.DOTALL)
        assert eval(call, namespace)["reconstruction"].size == (32, 32)
    elif card.stem.startswith("t5-vqvae"):
        assert namespace["output"].keys() == {"text", "codes", "reconstruction"}
    elif card.stem.startswith("topic-vq-image"):
        assert len(namespace["images"]) == 4
        assert Path("sample.png").is_file()
        assert namespace["proportions"].shape == (1, 4)
        assert namespace["similar"][0].size == (12, 8)
        assert namespace["mixed"][0].size == (12, 8)
    else:
        assert len(namespace["output"]["topics"]) == 2
        assert namespace["proportions"].shape == (2, 2)
        assert Path("topics.png").is_file()
        assert Path("hierarchy.png").is_file()


@pytest.mark.parametrize("path", RECORDS, ids=lambda path: path.stem)
def test_committed_records_fill_their_cards(path, make_published):
    card = path.with_suffix(".md")
    published = make_published(card)
    published.record = read_record(path)
    check_figures(render(card, published), published)


@cards
def test_every_card_shows_pictures_of_its_model(card, make_published):
    shown = re.findall(r"!\[([^\]]+)\]\(([^)]+)\)", card.read_text())
    own = {path.name for path in PICTURES if re.match(rf"{card.stem}(-[a-z]+)?\.png", path.name)}
    assert {name for _, name in shown} == own
    assert 1 <= len(own) <= 2
    checksums = (card.parent / f"{card.stem}.sha256").read_text()
    for path in sorted(card.parent / name for name in own):
        assert path.stat().st_size < 200_000
        with Image.open(path) as picture:
            assert picture.text["weights"] in checksums  # those that the card is about drew it
    # A run of somebody else, without pictures, has a card without them.
    published = make_published(card)
    text = render(card, published, pictures=[])
    assert "![" not in text
    assert "\n\n\n" not in text


def test_every_picture_is_shown():
    text = "".join(card.read_text() for card in CARDS)
    assert [path.name for path in PICTURES if f"]({path.name})" not in text] == []
