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
"""What every test shares: no network, a seed, tiny configurations, data made on the spot."""

import os

# Before anything imports huggingface_hub, which reads it once.
os.environ["HF_HUB_OFFLINE"] = "1"

import random
import shutil
import socket
import subprocess
import sysconfig
import urllib.parse
import venv
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

# One entry per row of the MODELS table: small enough that a forward takes milliseconds, and no two
# sizes are equal, so that a swapped axis cannot go unnoticed.
TINY_CONFIGS: dict[str, dict[str, Any]] = {
    "gmvq": {
        "image_size": 8,
        "hidden_size": 12,
        "residual_hidden_size": 6,
        "num_residual_blocks": 1,
        "num_downsamples": 2,
        "codebook_size": 16,
        "codebook_dim": 5,
        "temperature_anneal_steps": 10,
    },
    "t5_vqvae": {
        "vocab_size": 50,
        "d_model": 12,
        "d_kv": 5,
        "d_ff": 20,
        "num_layers": 2,
        "num_heads": 2,
        "relative_attention_num_buckets": 8,
        "dropout_rate": 0.0,
        "decoder_start_token_id": 0,
        "codebook_size": 16,
        "max_latent_positions": 14,
        "temperature_anneal_steps": 10,
    },
    "topic_vq": {
        "num_topics": 4,
        "vocab_size": 23,
        "word_embedding_dim": 12,
        "codebook_size": 16,
        "codebook_dim": 5,
        "codes_per_token": 3,
        "word_decoder_hidden_sizes": [10, 11],
    },
    "topic_vq_image": {
        "num_topics": 4,
        "codebook_size": 16,
        "codebook_dim": 5,
        "grid_size": [2, 3],
        "hidden_size": 12,
        "num_hidden_layers": 2,
        "num_attention_heads": 3,
        "inference_channels": 7,
        "inference_hidden_sizes": [9, 8],
    },
}


@pytest.fixture(autouse=True)
def seed() -> int:
    """Seed every generator, so that a test gives the same numbers alone and in company."""
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)
    return 0


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a test talk to its own machine only (distributed tests do) and never to the Hub."""
    connect = socket.socket.connect

    def connect_locally(self: socket.socket, address: Any) -> None:
        local = self.family == socket.AF_UNIX or address[0] in ("localhost", "127.0.0.1", "::1")
        if not local:
            raise OSError(f"tests are offline, connection to {address} refused")
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", connect_locally)


@pytest.fixture
def accelerate_state() -> Iterator[None]:
    """Forget when the test ends what Accelerate knows about devices and processes."""
    # Here and below: the suites of hub_server/ must be the first to import what imports huggingface_hub.
    from accelerate.state import AcceleratorState, GradientState, PartialState

    yield
    for state in (AcceleratorState, PartialState, GradientState):
        state._reset_state()


@pytest.fixture
def apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, accelerate_state: None) -> None:
    """Keep the cache of data sets, the working directory and Accelerate's state to one test."""
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="session")
def fresh_python(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The Python of a fresh virtual environment that has every library of this one, but not hf_vq."""
    folder = tmp_path_factory.mktemp("fresh") / "venv"
    venv.create(folder, symlinks=True)
    (packages,) = folder.glob("lib/python*/site-packages")
    for entry in Path(sysconfig.get_path("purelib")).iterdir():
        if "hf_vq" not in entry.name:
            (packages / entry.name).symlink_to(entry)
    python = str(folder / "bin" / "python")
    look = "import importlib.util; raise SystemExit(importlib.util.find_spec('hf_vq') is not None)"
    subprocess.run([python, "-c", look], check=True, cwd=folder)
    return python


@pytest.fixture
def tiny_config() -> Callable[..., Any]:
    """Return `tiny_config("gmvq", codebook_size=8)`: a small configuration of a model type."""

    def make(model_type: str, **overrides: Any) -> Any:
        from transformers import AutoConfig

        import hf_vq.models  # noqa: F401  registers the model types

        return AutoConfig.for_model(model_type, **(TINY_CONFIGS[model_type] | overrides))

    return make


@pytest.fixture
def make_images() -> Callable[..., list[Image.Image]]:
    """Return `make_images(count, size=8, mode="RGB")`: smooth pictures, the same at each call."""

    def make(count: int, size: int = 8, mode: str = "RGB") -> list[Image.Image]:
        generator = np.random.default_rng(0)
        corners = generator.integers(0, 256, (count, 2, 2, 3), dtype=np.uint8)
        return [
            Image.fromarray(pixels).resize((size, size), Image.Resampling.BILINEAR).convert(mode)
            for pixels in corners
        ]

    return make


@pytest.fixture
def image_folder(tmp_path: Path, make_images: Callable[..., list[Image.Image]]) -> Path:
    """Write 16 training and 8 test images as PNG files: `image_folder/{train,test}/00.png`."""
    folder = tmp_path / "images"
    images = make_images(24)
    for split, part in (("train", images[:16]), ("test", images[16:])):
        (folder / split).mkdir(parents=True)
        for index, image in enumerate(part):
            image.save(folder / split / f"{index:02d}.png")
    return folder


# Chromium on a machine that is closed, shared and without a screen.
BROWSER_FLAGS = """--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking
    --disable-component-update --disable-sync --disable-dev-shm-usage""".split()
BROWSER_PATIENCE = 120  # seconds for a condition: the machine may be busy


@pytest.fixture
def browse() -> Iterator[Callable[..., Any]]:
    """Return `browse(address, width=1280)`: a page of playwright in a fresh profile of a real browser.

    Pages reach this machine only. When the test ends, none may have raised an error or logged one, but for what they
    would have fetched from elsewhere.
    """
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    if program is None:
        pytest.skip("needs a browser: apt-get install chromium")
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    playwright.expect.set_options(timeout=BROWSER_PATIENCE * 1000)
    errors: list[str] = []

    def is_local(url: str) -> bool:
        return urllib.parse.urlsplit(url).hostname in ("127.0.0.1", "localhost", None)

    def note(message: Any) -> None:
        if message.type == "error" and is_local(message.location["url"]):
            errors.append(f"{message.location['url']}: {message.text}")

    with playwright.sync_playwright() as play:
        browser = play.chromium.launch(
            executable_path=program, args=BROWSER_FLAGS, timeout=BROWSER_PATIENCE * 1000
        )

        def open_page(address: str, width: int = 1280, height: int = 900) -> Any:
            page = browser.new_page(viewport={"width": width, "height": height})
            page.set_default_timeout(BROWSER_PATIENCE * 1000)
            page.on("pageerror", lambda error: errors.append(f"{address}: {error}"))
            page.on("console", note)
            page.route(lambda url: not is_local(url), lambda route: route.abort())
            page.goto(address)
            return page

        yield open_page
        browser.close()
    assert errors == []
