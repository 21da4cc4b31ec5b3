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
"""The documentation site builds without a warning, its links lead somewhere, and its model pages run."""

import os
import random
import re
import shutil
import subprocess
import sys
import threading
import urllib.parse
from collections.abc import Callable, Iterator
from functools import partial
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

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
MODEL_PAGES = sorted((ROOT / "docs" / "models").glob("*.md"))
THEMES = ("sun moon star sky comet orbit", "cat dog bird horse cow calf", "bread cheese soup cake")
DOCUMENTS = [" ".join(random.Random(i).choices(THEMES[i % 3].split(), k=12)) for i in range(60)]


class Page(HTMLParser):
    """What a page points to, what can be pointed to in it, and its formulas."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.targets: set[str] = set()
        self.anchors: set[str] = set()
        self.formulas: list[str] = []
        self._in_formula = False
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.targets |= {values[name] or "" for name in ("href", "src") if name in values}
        self.anchors |= {values[name] or "" for name in ("id", "name") if name in values}
        self._in_formula = "arithmatex" in (values.get("class") or "").split()

    def handle_data(self, data: str) -> None:
        if self._in_formula:
            self.formulas.append(data.strip())
            self._in_formula = False


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    for library in ("mkdocs", "material", "mkdocstrings"):
        if find_spec(library) is None:
            pytest.skip(f"{library} builds the site: pip install -e '.[docs]'")
    folder = tmp_path_factory.mktemp("docs") / "site"
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}  # what is said there is in mkdocs.yml
    result = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr[-3000:]
    assert "WARNING" not in result.stderr
    return folder


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, Page]:
    return {path: Page(path.read_text(encoding="utf-8")) for path in site.rglob("*.html")}


def test_every_model_and_document_has_a_page(site: Path) -> None:
    names = {path.relative_to(site).as_posix() for path in site.rglob("*.html")}
    documents = [path.relative_to(ROOT / "docs") for path in (ROOT / "docs").rglob("*.md")]
    expected = {p.with_suffix(".html").as_posix() for p in documents if ".template" not in p.name}
    assert expected <= names
    assert {"index.html", "CHANGELOG.html", "examples/image_tokens.py.html"} <= names


def test_links_lead_to_files_and_anchors(site: Path, pages: dict[Path, Page]) -> None:
    broken, checked = [], 0
    for path, page in pages.items():
        if path.name == "404.html":  # its links begin at the root of a server
            continue
        for target in page.targets:
            url = urllib.parse.urlsplit(target)
            if url.scheme or url.netloc:
                assert url.scheme in ("https", "mailto", "data"), target
                continue
            checked += 1
            place = path.parent / urllib.parse.unquote(url.path) if url.path else path
            place = Path(os.path.normpath(place))
            place = place / "index.html" if place.is_dir() else place
            anchor = urllib.parse.unquote(url.fragment)
            if not place.is_file():
                broken.append(f"{path.relative_to(site)} -> {target}")
            elif anchor and place in pages and anchor not in pages[place].anchors:
                broken.append(f"{path.relative_to(site)} -> {target} (no such anchor)")
    assert not broken, "\n".join(broken)
    assert checked > 1000


def test_classes_are_linked_as_docstrings_name_them(site: Path) -> None:
    html = (site / "models" / "gmvq.html").read_text(encoding="utf-8")
    assert re.search(r'Configuration of <a [^>]*href="#hf_vq.GMVQModel"[^>]*><code>GMVQModel', html)
    assert "[<code>" not in html


def test_formulas_reach_katex_whole(site: Path, pages: dict[Path, Page]) -> None:
    formulas = pages[site / "quantization.html"].formulas
    assert sum(r"\tag{" in formula for formula in formulas) >= 24
    for path, page in pages.items():
        for formula in page.formulas:
            assert formula[:2] in (r"\(", r"\["), (path, formula)
            assert formula.endswith((r"\)", r"\]")), (path, formula)
            assert formula.count("{") - formula.count(r"\{") == (
                formula.count("}") - formula.count(r"\}")
            ), (path, formula)


class QuietHandler(SimpleHTTPRequestHandler):
    """Files of a folder, without a line on stderr for each."""

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def address(site: Path) -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(QuietHandler, directory=site)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.slow
@pytest.mark.parametrize("width", [1280, 390], ids=["screen", "phone"])
def test_every_page_fits(width: int, site: Path, address: str, browse: Callable[..., Any]) -> None:
    page = browse(f"{address}/index.html", width)
    for path in sorted(site.rglob("*.html")):
        name = path.relative_to(site).as_posix()
        page.goto(f"{address}/{name}")
        assert page.evaluate("document.documentElement.scrollWidth") <= width, name
        empty = "[...document.images].filter(image => !image.naturalWidth).map(image => image.src)"
        assert page.evaluate(empty) == [], name


@pytest.mark.slow
def test_readers_find_what_they_search_for(address: str, browse: Callable[..., Any]) -> None:
    from playwright.sync_api import expect

    page = browse(f"{address}/index.html")
    page.get_by_role("textbox", name="Search").fill("offload_folder")
    page.locator(".md-search-result__link").filter(
        has_text=re.compile(r"^\s*Loading")
    ).first.click()
    expect(page).to_have_url(re.compile(r"publishing\.html.*#loading"))
    expect(page.get_by_role("heading", name="Loading", level=2)).to_be_in_viewport()


@pytest.fixture
def checkpoints(tmp_path: Path, tiny_config: Callable[..., Any]) -> Path:
    """Write tiny models under the names that the pages use."""
    folder = tmp_path / "your-name"
    config = tiny_config("gmvq", image_size=32)
    tokenizer = GMVQModel(config).eval()
    tokenizer.save_pretrained(folder / "gmvq-cifar10")
    GMVQImageProcessor(size=32).save_pretrained(folder / "gmvq-cifar10")

    codec = train_tokenizer(["a cat is an animal", "a dog barks"], 120)
    codec.save_pretrained(folder / "t5-vqvae-sentences")
    text_config = tiny_config("t5_vqvae", vocab_size=len(codec))
    T5VQVAEForConditionalGeneration(text_config).save_pretrained(folder / "t5-vqvae-sentences")

    options = {"topic_epochs": 1}
    topics = TopicVQ(4, encoder="corpus", training_options=options, progress_bar=False)
    topics.fit(DOCUMENTS).save_pretrained(folder / "topic-vq-news")

    prior = TopicVQForImageGeneration(tiny_config("topic_vq_image", grid_size=[8, 8]))
    prior.set_codebook(image_tokenizer(tokenizer).codebook)
    TopicVQImagePipeline(tokenizer, prior.eval()).save_pretrained(folder / "topic-vq-image-cifar10")
    return tmp_path


@pytest.mark.parametrize("page", MODEL_PAGES, ids=lambda page: page.stem)
def test_the_snippets_of_a_model_page_run(
    page: Path, checkpoints: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(checkpoints)
    blocks = re.findall(r"```python\n(.*?)```", page.read_text(), flags=re.DOTALL)
    assert blocks
    names: dict[str, Any] = {"documents": DOCUMENTS}
    for block in blocks:
        exec(block, names)
    if page.stem == "gmvq":
        assert names["picture"].size == (32, 32)
    elif page.stem == "t5_vqvae":
        assert len(names["texts"]) == 1
    elif page.stem == "topic_vq":
        assert names["proportions"].shape == (1, 20)
    elif page.stem == "topic_vq_image":
        assert len(names["images"]) == 8
        assert names["like"].topic_proportions.shape == (4, 4)
    else:
        raise AssertionError(f"say what {page.name} shows")


def test_the_mathematics_is_what_katex_understands(site: Path, pages: dict[Path, Page]) -> None:
    """With KaTeX of npm at hand (`HF_VQ_KATEX=folder` of the package), parse every formula as a browser does."""
    folder = os.environ.get("HF_VQ_KATEX")
    if not folder or shutil.which("node") is None:
        pytest.skip("HF_VQ_KATEX names no folder of the npm package katex, or there is no node")
    formulas = "\0".join(formula for page in pages.values() for formula in page.formulas)
    program = (
        f"const katex = require({folder + '/dist/katex.js'!r});"
        "for (const text of require('fs').readFileSync(0, 'utf8').split('\\0'))"
        "katex.renderToString(text.slice(2, -2), {displayMode: text[1] === '[', strict: 'error'});"
    )
    result = subprocess.run(
        ["node", "-e", program], input=formulas, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr[-2000:]
