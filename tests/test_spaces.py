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
"""The demos of spaces/: every button, asked by gradio's own client, and the pages in a browser."""

import ast
import io
import os
import random
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from huggingface_hub import RepoCard
from PIL import Image

from hf_vq import (
    GMVQImageProcessor,
    GMVQModel,
    T5VQVAEForConditionalGeneration,
    TopicVQForImageGeneration,
)
from hf_vq.hub import load_image_autoencoder, load_text_autoencoder
from hf_vq.latent_operations import TextCodec, substitute
from hf_vq.text_data import train_tokenizer
from hf_vq.topic_images.image_tokenizers import image_tokenizer
from hf_vq.topic_images.pipeline import TopicVQImagePipeline
from hf_vq.topics.estimator import TopicVQ

ROOT = Path(__file__).resolve().parents[1]
SPACES = sorted(path.parent for path in (ROOT / "spaces").glob("*/app.py"))
NAMES = [path.name for path in SPACES]
THEMES = ("sun moon star sky comet orbit", "cat dog bird horse cow calf", "bread cheese soup cake")
DOCUMENTS = [" ".join(random.Random(i).choices(THEMES[i % 3].split(), k=12)) for i in range(60)]
TEXT, OTHER = "a cat is an animal", "a dog barks"


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Write a tiny checkpoint for each demo."""
    from transformers import AutoConfig

    def config(model_type: str, **sizes: Any) -> Any:
        return AutoConfig.for_model(model_type, **sizes)

    folder = tmp_path_factory.mktemp("checkpoints")
    codes = {"codebook_size": 16, "codebook_dim": 5}
    images = GMVQModel(config("gmvq", image_size=16, hidden_size=12, **codes)).eval()
    images.save_pretrained(folder / "gmvq")
    GMVQImageProcessor(size=16).save_pretrained(folder / "gmvq")

    tokenizer = train_tokenizer([TEXT, OTHER], 120)
    tokenizer.save_pretrained(folder / "t5_vqvae")
    sizes = {"d_model": 12, "d_kv": 5, "d_ff": 20, "num_layers": 2, "num_heads": 2}
    text_config = config(
        "t5_vqvae", vocab_size=len(tokenizer), decoder_start_token_id=0, codebook_size=16, **sizes
    )
    T5VQVAEForConditionalGeneration(text_config).save_pretrained(folder / "t5_vqvae")

    options = {"topic_epochs": 1}
    topics = TopicVQ(4, encoder="corpus", training_options=options, progress_bar=False)
    topics.fit(DOCUMENTS).save_pretrained(folder / "topic_vq")

    prior_config = config(
        "topic_vq_image",
        num_topics=3,
        grid_size=[4, 4],
        hidden_size=12,
        num_hidden_layers=1,
        num_attention_heads=2,
        inference_channels=7,
        **codes,
    )
    prior = TopicVQForImageGeneration(prior_config)
    prior.set_codebook(image_tokenizer(images).codebook)
    TopicVQImagePipeline(images, prior.eval()).save_pretrained(folder / "topic_vq_image")
    return {name: folder / name for name in NAMES}


@pytest.fixture(scope="module")
def addresses(checkpoints: dict[str, Path]) -> Iterator[dict[str, str]]:
    """Serve all demos in a process of their own, since gradio warns of much that is not ours."""
    if find_spec("gradio") is None:
        pytest.skip("gradio serves the demos: pip install -e '.[spaces]'")
    arguments = [f"{name}={folder}" for name, folder in checkpoints.items()]
    environment = os.environ | {"GRADIO_ANALYTICS_ENABLED": "False", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(ROOT / "tests" / "serve_spaces.py"), *arguments]
    server = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    lines = [server.stdout.readline().split() for _ in NAMES]
    try:
        yield {name: address for name, address in lines}
    finally:
        server.kill()
        server.communicate()


@pytest.fixture
def ask(addresses: dict[str, str]) -> Iterator[Callable[..., Any]]:
    """Return `ask("gmvq", "/reconstruct", ...)`: what a button of a demo answers."""
    from gradio_client import Client

    clients: dict[str, Any] = {}

    def predict(name: str, endpoint: str, *inputs: Any) -> Any:
        if name not in clients:
            clients[name] = Client(addresses[name], verbose=False)
        return clients[name].predict(*inputs, api_name=endpoint)

    yield predict
    for client in clients.values():
        client.close()


@pytest.fixture
def picture(tmp_path: Path) -> Any:
    from gradio_client import handle_file

    Image.linear_gradient("L").convert("RGB").resize((40, 30)).save(tmp_path / "picture.png")
    return handle_file(str(tmp_path / "picture.png"))


def test_images_as_codes(ask: Callable[..., Any], picture: Any) -> None:
    seen, code_map, painted, facts = ask("gmvq", "/reconstruct", picture, 16, 0)
    assert "4 x 4 codes" in facts
    assert "8 bytes in place of 768" in facts
    for path in (seen, code_map, painted):
        with Image.open(path) as image:
            assert image.size == (384, 384)
    with Image.open(code_map) as image:  # one color for each code
        assert len(image.convert("RGB").getcolors()) <= 16
    assert "8 x 8 codes" in ask("gmvq", "/reconstruct", picture, 32, 50)[3]
    codes, painted = ask("gmvq", "/mix", picture, picture, 16, 50)
    assert Path(painted).is_file()
    with pytest.raises(Exception, match="Choose an image first"):
        ask("gmvq", "/mix", picture, None, 16, 50)


def test_sentences_as_codes(ask: Callable[..., Any]) -> None:
    pieces, codes = ask("t5_vqvae", "/read", TEXT)
    assert [row[1] for row in pieces["data"]] == codes.split("-")
    assert isinstance(ask("t5_vqvae", "/write", codes), str)
    _, expected = ask("t5_vqvae", "/edit", "put in its place", TEXT, "cat", OTHER, "dog")
    assert expected == "a dog is an animal"
    _, expected = ask("t5_vqvae", "/edit", "put behind it", TEXT, "cat", OTHER, "barks")
    assert expected == "a cat barks is an animal"
    assert len(ask("t5_vqvae", "/path", TEXT, OTHER, "staggered", 4)["data"]) == 5
    assert len(ask("t5_vqvae", "/neighbors", TEXT, "cat", 3)["data"]) == 3
    with pytest.raises(Exception, match="'zebra' does not occur in 'a cat is an animal'"):
        ask("t5_vqvae", "/neighbors", TEXT, "zebra", 3)
    with pytest.raises(Exception, match="At most 500 characters"):
        ask("t5_vqvae", "/read", "cat " * 200)
    with pytest.raises(Exception, match="codes"):
        ask("t5_vqvae", "/write", "99-99")


def test_topics_of_documents(ask: Callable[..., Any]) -> None:
    text = "The moon and a star; a dog."
    shares, pieces = ask("topic_vq", "/place", text)
    values = [entry["confidence"] for entry in shares["confidences"]]
    assert values == sorted(values, reverse=True)
    assert 0 < sum(values) <= 1.0001
    assert "".join(piece["token"] for piece in pieces) == text
    owners = {piece["token"]: piece["class_or_confidence"] for piece in pieces}
    assert owners["moon"] is not None
    assert owners["The "] is None  # no word that a topic could own
    (name, *_) = [entry["label"] for entry in shares["confidences"]]
    assert len(ask("topic_vq", "/words", name, 5)["confidences"]) == 5
    assert len(ask("topic_vq", "/search", "orbit of a comet")["data"]) == 4
    for endpoint in ("/search", "/place"):
        with pytest.raises(Exception, match="No word of this text"):
            ask("topic_vq", endpoint, "quark")
        with pytest.raises(Exception, match="A text of 1 to"):
            ask("topic_vq", endpoint, " ")


def test_images_by_topic(ask: Callable[..., Any], picture: Any) -> None:
    def draw(seed: int) -> list[bytes]:
        drawn = ask("topic_vq_image", "/mixture", "topic 0", "topic 2", 30, 1.5, 1, 2, seed)
        return [Image.open(entry["image"]).tobytes() for entry in drawn]

    assert len(draw(0)) == 2
    assert draw(0) == draw(0)
    assert draw(0) != draw(1)
    sheet = ask("topic_vq_image", "/all_topics", 2, 0)
    assert [entry["caption"] for entry in sheet] == [f"topic {t}" for t in (0, 0, 1, 1, 2, 2)]
    shares, alike = ask("topic_vq_image", "/like", picture, 1, 1, 3, 0)
    assert sum(entry["confidence"] for entry in shares["confidences"]) == pytest.approx(1, abs=1e-3)
    assert len(alike) == 3


def test_a_demo_is_a_program(checkpoints: dict[str, Path]) -> None:
    if find_spec("gradio") is None:
        pytest.skip("gradio serves the demos: pip install -e '.[spaces]'")
    command = [sys.executable, str(ROOT / "spaces" / "gmvq" / "app.py"), "--checkpoint", "missing"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode != 0
    assert "cannot load missing" in result.stderr


def shown(page: Any, label: str) -> Any:
    """Return the image that a page shows under a label, as soon as it has one."""
    heading = page.get_by_test_id("block-label").filter(has_text=label)
    image = page.locator(".block:visible").filter(has=heading).locator("img[src*='/file=']")
    return image.first


def pixels(page: Any, image: Any) -> np.ndarray:
    content = page.request.get(image.get_attribute("src")).body()
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))


# Resolves when a page has not changed for half a second.
SETTLED = """() => new Promise(resolve => {
    const wait = () => setTimeout(() => { observer.disconnect(); resolve(); }, 500);
    let timer = wait();
    const observer = new MutationObserver(() => { clearTimeout(timer); timer = wait(); });
    observer.observe(document.body, {attributes: true, childList: true, subtree: true});
})"""


def open_tab(page: Any, name: str) -> None:
    """Open a tab as a visitor does, who looks before typing: gradio still fills it with its first values."""
    page.get_by_role("tab", name=name).click()
    page.evaluate(SETTLED)


def cell(page: Any, text: str) -> Any:
    """The cell of a table, which is a button in older gradio."""
    older = page.get_by_role("button", name=text, exact=True)
    found = page.get_by_role("gridcell", name=text, exact=True).or_(older)
    return found.filter(visible=True).first


@pytest.mark.slow
@torch.no_grad()
def test_a_visitor_reconstructs_an_image(
    addresses: dict[str, str],
    browse: Callable[..., Any],
    checkpoints: dict[str, Path],
    picture: Any,
) -> None:
    from playwright.sync_api import expect

    page = browse(addresses["gmvq"])
    # The page asks once by itself.
    expect(page.get_by_text(re.compile(r"16 x 16 codes, \d+ different"))).to_be_visible()
    page.get_by_role("button", name="Remove Image").click()
    page.locator("input[type=file]").first.set_input_files(picture["path"])
    shown(page, "Image").wait_for()
    page.get_by_label("number input for Side of the image").fill("32")
    page.get_by_role("button", name="Reconstruct", exact=True).click()
    expect(
        page.get_by_text(re.compile(r"8 x 8 codes.* 32 bytes in place of 3,072"))
    ).to_be_visible()

    model, processor = load_image_autoencoder(str(checkpoints["gmvq"]))
    with Image.open(picture["path"]) as image:
        seen = processor(image, size=32, return_tensors="pt").pixel_values
    painted = model.decode(codes=model.encode(seen).codes).reconstruction
    for label, expected in (("What the model sees", seen), ("Painted from the codes", painted)):
        (image,) = processor.post_process(expected)
        enlarged = np.asarray(image.resize((384, 384), Image.Resampling.NEAREST))
        assert np.array_equal(pixels(page, shown(page, label)), enlarged), label

    intact = shown(page, "Painted from the codes").get_attribute("src")
    page.get_by_label("number input for Codes replaced").fill("100")
    page.get_by_role("button", name="Reconstruct", exact=True).click()
    expect(shown(page, "Painted from the codes")).not_to_have_attribute("src", intact)
    open_tab(page, "Mix two images")
    page.get_by_role("button", name="Mix", exact=True).click()
    assert pixels(page, shown(page, "Painted from the codes")).shape == (384, 384, 3)


@pytest.mark.slow
def test_a_visitor_edits_the_codes_of_a_sentence(
    addresses: dict[str, str], browse: Callable[..., Any], checkpoints: dict[str, Path]
) -> None:
    from playwright.sync_api import expect

    codec = TextCodec(*load_text_autoencoder(str(checkpoints["t5_vqvae"])))
    page = browse(addresses["t5_vqvae"])
    codes = page.get_by_label("Codes: change some")
    expect(codes).to_have_value(re.compile(r"^\d+(-\d+){5}$"))  # five words and the end
    for word in TEXT.split():
        expect(cell(page, word)).to_be_visible()
    was = codes.input_value().split("-")
    edits = ["-".join([was[0], str(code), *was[2:]]) for code in range(16)]
    written = codec.decode(edits)
    # An untrained model writes the same for most; one of them that shows is enough.
    edit, text = next((e, t) for e, t in zip(edits, written, strict=True) if t)
    codes.fill(edit)
    page.get_by_role("button", name="To a sentence").click()
    expect(page.get_by_label("Sentence of these codes")).to_have_value(text)

    open_tab(page, "Edit words")
    page.get_by_label("Words of it").fill("animal")
    page.get_by_role("button", name="Edit", exact=True).click()
    expect(page.get_by_label("As the same edit of the words")).to_have_value("a cat is an dog")
    (row,) = substitute(codec, TEXT, "animal", donor=OTHER, donor_span="dog")
    expect(page.get_by_label("By its codes")).to_have_value(row["text"])
    page.get_by_label("Words of it").fill("zebra")
    page.get_by_role("button", name="Edit", exact=True).click()
    message = "'zebra' does not occur in 'a cat is an animal'"
    expect(page.get_by_text(message)).to_be_visible()


@pytest.mark.slow
def test_a_visitor_explores_topics(
    addresses: dict[str, str], browse: Callable[..., Any], checkpoints: dict[str, Path]
) -> None:
    from playwright.sync_api import expect

    topics = TopicVQ.from_pretrained(checkpoints["topic_vq"])
    names = [f"{row['topic']}: {row['label']}" for row in topics.topic_table()]
    page = browse(addresses["topic_vq"])
    expect(page.get_by_role("button", name="Find its topics")).to_be_visible()
    page.evaluate(SETTLED)
    text = "The moon and a star; a dog."
    page.get_by_role("textbox", name="Text").fill(text)
    page.get_by_role("button", name="Find its topics").click()
    largest = names[topics.place([text]).topic_proportions[0].argmax()]
    expect(page.get_by_role("heading", name=largest)).to_be_visible()
    expect(page.get_by_text("%").first).to_be_visible()
    expect(page.get_by_text("moon", exact=True)).to_be_visible()

    open_tab(page, "All topics")
    for row in topics.topic_table():
        expect(cell(page, ", ".join(row["words"]))).to_be_visible()
    topic = page.get_by_role("combobox", name="Topic")
    for number in (0, 2):
        if number:
            topic.click()
            page.get_by_role("option", name=names[number]).click()
        (first, *_) = topics.topic_words(number, 15)
        expect(page.get_by_role("heading", name=first["word"], exact=True)).to_be_visible()

    open_tab(page, "Search")
    page.get_by_label("A word, a sentence or a document").fill("orbit of a comet")
    page.get_by_role("button", name="Search", exact=True).click()
    for row in topics.find_topics("orbit of a comet"):
        expect(cell(page, f"{row['similarity']:.2f}")).to_be_visible()
        expect(cell(page, ", ".join(row["words"]))).to_be_visible()
    page.get_by_label("A word, a sentence or a document").fill("quark")
    page.get_by_role("button", name="Search", exact=True).click()
    expect(page.get_by_text("No word of this text is one that the model knows")).to_be_visible()


@pytest.mark.slow
def test_a_visitor_draws_images_by_topic(
    addresses: dict[str, str], browse: Callable[..., Any], picture: Any
) -> None:
    from playwright.sync_api import expect

    page = browse(addresses["topic_vq_image"])
    thumbnails = page.get_by_role("button", name=re.compile(r"Thumbnail \d+ of"))
    expect(thumbnails).to_have_count(12)  # the page asks once by itself
    first = thumbnails.first.locator("img")
    before = pixels(page, first)
    address = first.get_attribute("src")
    page.get_by_role("combobox", name="Topic", exact=True).click()
    page.get_by_role("option", name="topic 1").click()
    page.get_by_label("number input for Images").fill("3")
    page.get_by_role("spinbutton", name="Seed").fill("1")
    page.get_by_role("button", name="Draw", exact=True).click()
    expect(thumbnails).to_have_count(3)
    expect(first).not_to_have_attribute("src", address)
    assert pixels(page, first).shape == before.shape
    assert not np.array_equal(pixels(page, first), before)

    open_tab(page, "All topics")
    page.get_by_label("number input for Images of each").fill("2")
    page.get_by_role("button", name="Draw", exact=True).click()
    expect(thumbnails.filter(visible=True)).to_have_count(6)
    for number in range(3):
        expect(page.get_by_text(f"topic {number}", exact=True).filter(visible=True)).to_have_count(
            2
        )

    open_tab(page, "Like an image")
    page.locator("input[type=file]").first.set_input_files(picture["path"])
    shown(page, "Image").wait_for()
    page.get_by_role("button", name="Draw images with its topics").click()
    expect(thumbnails.filter(visible=True)).to_have_count(12)
    expect(page.get_by_role("meter").filter(visible=True)).to_have_count(3)


@pytest.mark.parametrize("space", SPACES, ids=NAMES)
def test_a_space_is_complete(space: Path) -> None:
    card = RepoCard.load(space / "README.md", repo_type="space", ignore_metadata_errors=False)
    data = card.data.to_dict()
    assert data["sdk"] == "gradio"
    assert (space / data["app_file"]).is_file()
    assert len(data["short_description"]) <= 60  # the Hub cuts longer ones
    pins = (ROOT / "constraints.txt").read_text()
    assert f"gradio=={data['sdk_version']}\n" in pins, "the version that the tests run"
    (model,) = data["models"]
    app = (space / "app.py").read_text()
    assert f'"{model}"' in app
    assert f"`{model}`" in card.text
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert (space / "requirements.txt").read_text().startswith("hf_vq[spaces]")
    assert "spaces" in extras["optional-dependencies"]
    assert "trust_remote_code" not in app


@pytest.mark.parametrize("space", SPACES, ids=NAMES)
def test_a_space_stands_alone(space: Path) -> None:
    tree = ast.parse((space / "app.py").read_text())
    imported = {
        node.module.partition(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module
    } | {
        alias.name.partition(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Import)
        for alias in node.names
    }
    libraries = {"gradio", "hf_vq", "numpy", "PIL", "sklearn", "torch"}
    assert imported - set(sys.stdlib_module_names) <= libraries
    assert re.search(r"\]\(" + space.name + r"/app\.py\)", (ROOT / "spaces/README.md").read_text())
