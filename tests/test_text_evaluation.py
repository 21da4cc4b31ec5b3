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
"""Evaluation of a text autoencoder: figures of the whole split, decoded from codes, on one process and on two.

Run as a script by `torchrun`, this file is a worker that writes the figures of its rank.
"""

import json
import math
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from torch.utils.data import DataLoader

import hf_vq.evaluation
from hf_vq import T5VQVAEConfig, T5VQVAEForConditionalGeneration
from hf_vq.evaluation import write_record
from hf_vq.text_data import TextCollator, train_tokenizer
from hf_vq.text_evaluation import TEXT_METRIC_DEFINITIONS, evaluate_text_autoencoder

TEXTS = [
    "a cat is an animal",
    "rain",
    "the sun is a kind of star in the sky",
    "ice is cold",
    "a leaf is a part of a tree",
    "rocks are hard",
    "water",
]


def make_model(**options):
    torch.manual_seed(0)
    tokenizer = train_tokenizer(TEXTS, 140)
    config = T5VQVAEConfig(
        vocab_size=len(tokenizer),
        d_model=16,
        d_kv=8,
        d_ff=24,
        num_layers=1,
        num_heads=2,
        codebook_size=8,
        decoder_start_token_id=0,
        **options,
    )
    return T5VQVAEForConditionalGeneration(config), tokenizer


def make_loader(tokenizer, batch_size, targets=TEXTS):
    rows = [{"source": a, "target": b} for a, b in zip(TEXTS, targets, strict=True)]
    return DataLoader(rows, batch_size, collate_fn=TextCollator(tokenizer))


def evaluate(batch_size, accelerator=None, **options):
    model, tokenizer = make_model(**options)
    return evaluate_text_autoencoder(
        model,
        make_loader(tokenizer, batch_size),
        accelerator,
        tokenizer=tokenizer,
        references=TEXTS,
    )


@pytest.mark.parametrize("options", [{}, {"codes_per_token": 2}], ids=["one code", "two codes"])
def test_figures_equal_those_of_one_text_at_a_time(options):
    figures = evaluate(3, **options)
    model, tokenizer = make_model(**options)
    model.eval()
    nll = commitment = pieces = right = 0
    codes = Counter()
    for text in TEXTS:
        ids = tokenizer(text, return_tensors="pt").input_ids
        with torch.no_grad():
            output = model(input_ids=ids, labels=ids)
            written = model.generate_from_codes(output.codes, max_new_tokens=30, do_sample=False)
        pieces += ids.numel()
        nll += output.reconstruction_loss.item() * ids.numel()
        commitment += output.commitment_loss.item() * ids.numel()
        codes.update(map(tuple, output.codes[0].tolist()))
        right += tokenizer.decode(written[0], skip_special_tokens=True) == text
    assert figures["nll"] == pytest.approx(nll / pieces, rel=1e-5)
    assert figures["token_perplexity"] == pytest.approx(math.exp(nll / pieces), rel=1e-4)
    assert figures["commitment_loss"] == pytest.approx(commitment / pieces, rel=1e-4)
    assert figures["exact_match"] == right / len(TEXTS)
    shares = [count / pieces for count in codes.values()]
    assert figures["rate"] == pytest.approx(-sum(p * math.log2(p) for p in shares))
    assert (figures["num_texts"], figures["batch_size"]) == (7, 3)
    assert figures.keys() <= TEXT_METRIC_DEFINITIONS.keys()


def test_padding_changes_nothing():
    one, all_together = evaluate(1), evaluate(7)
    for name in one.keys() - {"texts_per_second", "batch_size"}:
        assert one[name] == pytest.approx(all_together[name], rel=1e-5), name


def test_a_model_that_says_the_target_is_scored_as_right(monkeypatch):
    model, tokenizer = make_model()
    collator = TextCollator(tokenizer)
    rows = [{"source": text, "target": text} for text in TEXTS]
    labels = collator(rows)["labels"]
    monkeypatch.setattr(
        model, "generate_from_codes", lambda codes, **_: labels.masked_fill(labels < 0, 0)
    )
    loader = make_loader(tokenizer, 7)
    figures = evaluate_text_autoencoder(model, loader, tokenizer=tokenizer, references=TEXTS)
    for name in ("exact_match", "token_exact_match", "bleu1"):
        assert figures[name] == 1
    assert figures["corpus_bleu4"] == pytest.approx(100)
    # What the tokenizer cannot spell is wrong by the texts as they were, and unseen without them.
    references = ["ünspelled", *TEXTS[1:]]
    figures = evaluate_text_autoencoder(model, loader, tokenizer=tokenizer, references=references)
    assert figures["exact_match"] == pytest.approx(6 / 7)
    assert evaluate_text_autoencoder(model, loader, tokenizer=tokenizer)["exact_match"] == 1


def test_a_model_without_codes_and_modes(tmp_path):
    model, tokenizer = make_model(quantizer="none")
    model.train()
    model.decoder.eval()
    figures = evaluate_text_autoencoder(
        model,
        make_loader(tokenizer, 4),
        tokenizer=tokenizer,
        score=lambda predictions, references: {"length": len(predictions)},
    )
    assert model.training
    assert not model.decoder.training
    assert figures["length"] == 7
    assert not {"rate", "codebook_usage", "commitment_loss"} & figures.keys()
    definitions = TEXT_METRIC_DEFINITIONS | {"length": "number of predictions"}
    data = {"name": "texts", "split": "test", "revision": "sha256:0"}
    path = tmp_path / "a.json"
    record = write_record(path, "a", figures, data=data, seeds=[0], definitions=definitions)
    assert record["metrics"]["nll"] == figures["nll"]


def test_without_a_tokenizer_nothing_is_decoded(monkeypatch):
    model, tokenizer = make_model()
    monkeypatch.setattr(model, "generate", None)
    figures = evaluate_text_autoencoder(model, make_loader(tokenizer, 4))
    assert {"nll", "loss", "rate"} <= figures.keys()
    assert not {"exact_match", "bleu1"} & figures.keys()


def test_unusable_data_is_named():
    model, tokenizer = make_model()
    with pytest.raises(ValueError, match="no batch"):
        evaluate_text_autoencoder(model, [])
    with pytest.raises(ValueError, match="2 references, but the loader gave 7 texts"):
        evaluate_text_autoencoder(
            model, make_loader(tokenizer, 4), tokenizer=tokenizer, references=TEXTS[:2]
        )


def worker(result):
    accelerator = Accelerator(cpu=True)
    figures = evaluate(2, accelerator) | {"processes": accelerator.num_processes}
    Path(f"{result}.{accelerator.process_index}").write_text(json.dumps(figures))
    accelerator.free_memory()
    accelerator.end_training()


def test_two_processes_give_the_figures_of_one(tmp_path):
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2"]
    launcher += ["--rdzv-backend", "c10d", "--rdzv-endpoint", "localhost:0"]
    result = tmp_path / "figures"
    package = str(Path(hf_vq.evaluation.__file__).parents[1])
    done = subprocess.run(
        [*launcher, __file__, str(result)],
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": package},
        capture_output=True,
        text=True,
        timeout=300,  # it takes seconds, unless the machine is busy
    )
    assert done.returncode == 0, done.stderr
    one = evaluate(2)
    for rank in (0, 1):
        figures = json.loads(Path(f"{result}.{rank}").read_text())
        assert (figures["processes"], figures["num_texts"]) == (2, 7)
        for name in ("nll", "exact_match", "bleu1", "codebook_usage", "rate"):
            assert figures[name] == pytest.approx(one[name], rel=1e-6), name


if __name__ == "__main__":
    worker(sys.argv[1])
