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
"""The Python blocks of README.md run, with a tiny model in place of the one on the Hub."""

import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hf_vq import GMVQImageProcessor, GMVQModel, T5VQVAEForConditionalGeneration
from hf_vq.text_data import train_tokenizer

README = (Path(__file__).resolve().parents[1] / "README.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)

THEMES = (
    "sun moon star sky comet orbit",
    "cat dog bird horse cow calf",
    "bread cheese soup cake rice",
)
DOCUMENTS = [" ".join(random.Random(i).choices(THEMES[i % 3].split(), k=12)) for i in range(60)]


def test_the_readme_has_examples() -> None:
    assert len(BLOCKS) >= 2


def save_text_model(folder: Path, tiny_config: Callable[..., Any]) -> None:
    tokenizer = train_tokenizer(["a cat is an animal", "a dog barks"], 120)
    tokenizer.save_pretrained(folder)
    config = tiny_config("t5_vqvae", vocab_size=len(tokenizer))
    T5VQVAEForConditionalGeneration(config).save_pretrained(folder)


@pytest.mark.parametrize("code", BLOCKS, ids=[f"block {i}" for i in range(len(BLOCKS))])
def test_a_block_of_the_readme_runs(
    code: str,
    tiny_config: Callable[..., Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # from_pretrained takes a folder of this name before it asks the Hub.
    folder = tmp_path / "your-name" / "gmvq-cifar10"
    GMVQModel(tiny_config("gmvq")).save_pretrained(folder)
    GMVQImageProcessor(size=8).save_pretrained(folder)
    save_text_model(tmp_path / "your-name" / "t5-vqvae-sentences", tiny_config)
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"documents": DOCUMENTS}
    # No encoder at hand: one is made from the documents.
    exec(code.replace("sentence-transformers/all-MiniLM-L6-v2", "corpus"), names)
    if "picture" in names:
        assert names["picture"].size == (8, 8)
        assert names["codes"].shape == (1, 2, 2)
    elif "edited" in names:
        assert names["edited"][0]["expected"] == "a dog is an animal"
        assert len(names["average"]) == 1
    elif "topics" in names:
        assert names["proportions"].shape == (1, 20)
        assert (tmp_path / "my-topics" / "model.safetensors").is_file()
    else:
        assert [result["codes"].shape for result in names["results"]] == [(2, 2)] * 4
