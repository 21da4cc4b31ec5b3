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
import json
import os
import random
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import RepoCard
from PIL import Image

from hf_vq import (
    GMVQImageProcessor,
    GMVQModel,
    T5VQVAEForConditionalGeneration,
    TopicVQForImageGeneration,
)
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


# What a person would read in each page after it has loaded, and asked its model once.
VISIBLE = {
    "gmvq": ("Images as codes", r"codes, \d+ different"),
    "t5_vqvae": ("Sentences as codes", "piece"),
    "topic_vq": ("Topics of documents", r"\d+%"),
    "topic_vq_image": ("Images by topic", "Share of the first"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_page_in_a_browser(name: str, addresses: dict[str, str], tmp_path: Path) -> None:
    browser = shutil.which("chromium")
    if browser is None or find_spec("playwright") is None:
        pytest.skip("needs chromium (Debian: apt-get install chromium) and pip install playwright")
    # In a process of its own: playwright's event loop warns at its end.
    program = f"""
import json, sys
from playwright.sync_api import sync_playwright
errors = []
with sync_playwright() as play:
    page = play.chromium.launch(executable_path={browser!r}, args=["--no-sandbox"]).new_page()
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto({addresses[name]!r}, timeout=60_000)
    page.get_by_role("heading", name={VISIBLE[name][0]!r}).wait_for(timeout=60_000)
    page.wait_for_function(
        "pattern => new RegExp(pattern).test(document.body.innerText)", arg={VISIBLE[name][1]!r}, timeout=60_000
    )
    page.screenshot(path={str(tmp_path / "page.png")!r})
print(json.dumps(errors))
"""
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr[-2000:]
    assert json.loads(result.stdout) == []
    with Image.open(tmp_path / "page.png") as shot:
        assert len(shot.convert("RGB").getcolors(2**20)) > 50


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
