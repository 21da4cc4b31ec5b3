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
"""The guide docs/publishing.md: its snippets, in their order, by one user of the Hub."""

import json
import re
from pathlib import Path

import pytest
import torch
import transformers
from huggingface_hub import HfApi
from peft import PeftModel
from transformers import AutoModel, AutoModelForSeq2SeqLM

from hf_vq import hub as our_hub
from hf_vq.evaluation import write_record
from hf_vq.models import GMVQImageProcessor, T5VQVAEForConditionalGeneration
from hf_vq.text_data import train_tokenizer
from hub_server.tokens import ANN

GUIDE = Path(__file__).resolve().parents[3] / "docs" / "publishing.md"
# looked for without importing the exporters, of which older ones warn
HAS_RUNNERS = bool(list((Path(transformers.__file__).parent / "exporters").glob("runners*")))
SENTENCES = ["a cat is an animal", "an animal is a cat"]


def make_run(tiny_config):
    """What `train_gmvq.py` leaves behind."""
    model = AutoModel.from_config(tiny_config("gmvq"))
    model.save_pretrained("runs/gmvq-cifar10/best")
    GMVQImageProcessor(size=8).save_pretrained("runs/gmvq-cifar10/best")
    data = {"name": "uoft-cs/cifar10", "split": "test", "revision": "sha256:0"}
    write_record("runs/gmvq-cifar10/best.json", "best", {"mse": 0.003}, data=data, seeds=[0])


def upload_text_model(tiny_config, repo_id):
    tokenizer = train_tokenizer(SENTENCES, 120)
    config = tiny_config("t5_vqvae", vocab_size=len(tokenizer))
    folder = our_hub.save_for_hub(
        AutoModelForSeq2SeqLM.from_config(config), tokenizer, "runs/texts"
    )
    HfApi().create_repo(repo_id)
    HfApi().upload_folder(repo_id=repo_id, folder_path=folder)


# Of peft, Trainer and the exporter, about each other and about a machine without a GPU.
@pytest.mark.filterwarnings("ignore")
def test_the_snippets_run(
    hub, tiny_config, image_folder, make_images, tmp_path, monkeypatch, caplog
):
    monkeypatch.chdir(tmp_path)
    make_run(tiny_config)
    upload_text_model(tiny_config, "ann/guide-t5-vqvae-sentences")
    make_images(1)[0].save("image.png")
    image_folder.rename(tmp_path / "my_images")
    pairs = [{"source": SENTENCES[i % 2], "target": SENTENCES[1 - i % 2]} for i in range(8)]
    Path("pairs.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in pairs))

    text = GUIDE.read_text().replace("your-name/", "ann/guide-")
    snippets = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(snippets) == 8
    namespace = {}
    for snippet in snippets:
        if "OnnxExporter" in snippet and not HAS_RUNNERS:
            continue  # older exporters answer unlike
        steps = snippet.replace("max_steps=1000", "max_steps=2")
        exec(compile(steps, GUIDE.name, "exec"), namespace)
    half = namespace["half"]
    assert half.encoder.conv_out.weight.dtype == torch.bfloat16
    assert namespace["codes"].shape == (2, 2)
    if HAS_RUNNERS:
        published, _ = our_hub.load_image_autoencoder("ann/guide-gmvq-cifar10")
        expected = published(namespace["pixel_values"]).reconstruction
        torch.testing.assert_close(torch.as_tensor(namespace["reconstruction"]), expected)

    mine, _ = our_hub.load_image_autoencoder("ann/guide-gmvq-mine")
    assert mine.encoder.conv_out.weight.dtype == torch.float32
    assert hub.storage.repositories["model", "ann/guide-gmvq-mine"].at("main").files.keys() >= {
        "config.json",
        "model.safetensors",
        "preprocessor_config.json",
    }
    assert type(namespace["merged"]) is T5VQVAEForConditionalGeneration
    adapted = namespace["trainer"].model
    assert isinstance(adapted, PeftModel)
    assert torch.equal(namespace["merged"].codebook, adapted.get_base_model().codebook)
    # Nobody wrote the token down.
    assert ANN not in caplog.text
    for (_, name), repository in hub.storage.repositories.items():
        for path, blob in repository.at("main").files.items():
            assert ANN.encode() not in blob.content, f"{name}: {path}"
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert not [path for path in written if ANN.encode() in path.read_bytes()]
