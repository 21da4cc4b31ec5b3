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
"""Every file of examples/ runs, at a size of seconds, and does what it says."""

import ast
import io
import re
import wave
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from from_file import load_module
from hf_vq.topic_images.pipeline import TopicVQImagePipeline

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
FILES = sorted(EXAMPLES.glob("*.py"))
README = EXAMPLES / "README.md"

pytestmark = [
    # peft asks for the switch by the name that transformers 5.23 replaces
    pytest.mark.filterwarnings("ignore:.*is deprecated and will be removed in v6:FutureWarning"),
    # `Trainer` pins memory by default, with or without an accelerator
    pytest.mark.filterwarnings("ignore:'pin_memory' argument is set as true:UserWarning"),
    # T5's shared embeddings come apart when adapters are merged into them
    pytest.mark.filterwarnings("ignore:Input and output embeddings are no longer tied:UserWarning"),
]


def example(name: str) -> Any:
    """Return the module of an example, without what runs when it is a script."""
    return load_module(EXAMPLES / f"{name}.py", f"example_{name}")


def test_image_tokens(tmp_path: Path) -> None:
    results = example("image_tokens").main(tmp_path, steps=10)
    outputs, halves = results["outputs"], results["halves"]
    assert [output["codes"].shape for output in outputs] == [(2, 2)] * 12
    assert len(halves) == 12
    # An image whose neighbor has the same lower codes is its own mixture.
    for index, (output, mixed) in enumerate(zip(outputs, halves, strict=True)):
        below = outputs[(index + 1) % 12]["codes"][1]
        if (output["codes"][1] == below).all():
            assert mixed.tobytes() == output["reconstruction"].tobytes()
    with Image.open(tmp_path / "digits.png") as sheet:
        assert sheet.size == (12 * 68 - 4, 4 * 68 - 4)


def test_edit_sentences(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    module = example("edit_sentences")
    assert not set(module.HELD_OUT) & set(module.sentences())
    codec = module.main(tmp_path, steps=4)
    printed = capsys.readouterr().out
    assert "expected: the big owl sees a dog" in printed
    assert "expected: the big cat sees a young dog" in printed
    assert "interpolation (staggered)" in printed
    assert codec.encode(list(module.HELD_OUT)).shape[0] == 2


def test_topics_of_a_corpus(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    module = example("topics_of_a_corpus")
    topics = module.main(
        tmp_path, num_topics=4, topic_epochs=2, max_per_library=40, libraries=("PIL", "networkx")
    )
    assert "the same proportions" in capsys.readouterr().out
    assert len(topics.topics_) == 4  # the merge was taken back
    assert "the topic of the first document" in str(topics.topic_table())
    assert (tmp_path / "map.html").stat().st_size > 1000


def test_images_by_topic(tmp_path: Path) -> None:
    example("images_by_topic").main(tmp_path, steps=10, num_topics=3)
    pipe = TopicVQImagePipeline.from_pretrained(tmp_path / "pipeline")
    pipe.set_progress_bar_config(disable=True)
    assert pipe(topics=[2], generator=0).images[0].size == (8, 8)
    with Image.open(tmp_path / "topics.png") as sheet:
        assert sheet.size == (8 * 52 - 4, 3 * 52 - 4)


def test_swap_quantizers() -> None:
    module = example("swap_quantizers")
    errors = module.main(steps=10)
    assert len(errors) == 4
    assert all(0 < error < 1 for error in errors.values())
    latents = torch.randn(2, 5, 8)
    quantizer = module.CosineQuantizer(32, 8).eval()
    # Only the direction of a latent decides.
    assert torch.equal(quantizer.assign(latents), quantizer.assign(3 * latents))
    assert torch.equal(quantizer(latents).codes, quantizer.assign(latents))


def test_a_fourth_model(tmp_path: Path) -> None:
    module = example("a_fourth_model")
    model = module.main(tmp_path, steps=4)
    sound = module.sounds(1, seed=2)
    with torch.no_grad():
        codes = model.encode(sound)
        assert torch.equal(model.decode(codes), model(sound).reconstruction)
    assert codes.shape[1] * module.STRIDE == sound.shape[1]
    with wave.open(str(tmp_path / "from_codes.wav")) as file:
        assert file.getnframes() == 8 * sound.shape[1]
    # `_init_weights` also fills what a checkpoint lacks.
    torch.manual_seed(0)
    fresh = module.SoundVQModel.from_pretrained(None, config=model.config, state_dict={})
    assert all(tensor.isfinite().all() for tensor in fresh.state_dict().values())
    assert fresh.quantizer.ema_counts.eq(1).all()


def test_fine_tune_with_trainer(tmp_path: Path) -> None:
    module = example("fine_tune_with_trainer")
    evaluations = module.main(tmp_path, steps=3)
    assert evaluations["gmvq"]["eval_loss"] > 0
    assert evaluations["topic_vq_image"]["eval_loss"] > 0
    assert "npmi" in evaluations["topic_vq"]
    folder = tmp_path / "gmvq"
    assert {"config.json", "model.safetensors", "preprocessor_config.json"} <= {
        path.name for path in folder.iterdir()
    }
    # Three steps of two micro-batches each: the codebook moved three times.
    model = module.GMVQModel.from_pretrained(folder)
    assert model.quantizer.num_updates == 3


def test_fine_tune_with_lora(tmp_path: Path) -> None:
    shares = example("fine_tune_with_lora").main(tmp_path, steps=4)
    assert all(0 <= share <= 1 for share in shares.values())
    saved = {path.name for path in (tmp_path / "adapters").iterdir()}
    assert {"adapter_config.json", "adapter_model.safetensors"} <= saved


def test_each_example_is_tested_and_listed() -> None:
    listed = re.findall(r"\]\((\w+)\.py\)", README.read_text())
    names = [file.stem for file in FILES]
    assert sorted(listed) == names
    assert all(f"test_{name}" in globals() for name in names)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_an_example_is_short_and_says_how_to_run_it(file: Path) -> None:
    text = file.read_text()
    docstring = ast.get_docstring(ast.parse(text)) or ""
    assert f"python examples/{file.name}" in docstring
    assert len(io.StringIO(text).readlines()) <= 180
