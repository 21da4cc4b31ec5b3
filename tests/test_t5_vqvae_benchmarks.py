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
"""The text benchmarks at smoke size, and what they have left behind."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from hf_vq.evaluation import read_record

pytest.importorskip("vector_quantize_pytorch", reason="needs the extra `bench`")
BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
RESULTS = BENCHMARKS / "results"
FOLDERS = ("t5_vqvae_worldtree", "t5_vqvae_inference")


@pytest.fixture
def benchmark(monkeypatch, request):
    """A script as a module; scripts find their neighbors through the path."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return __import__(request.param)


def run_script(*arguments):
    result = subprocess.run(
        [sys.executable, *arguments], cwd=BENCHMARKS, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr[-2000:]
    return result.stdout


def test_every_method_runs():
    assert run_script("t5_vqvae_worldtree.py", "smoke").count("exact match") == 20


def test_inference_and_overhead_run():
    assert run_script("t5_vqvae_inference.py", "smoke").count("exact match") == 2
    assert run_script("t5_vqvae_overhead.py", "--smoke").count("tiny") == 2


@pytest.mark.parametrize("name", FOLDERS)
def test_committed_records_are_whole(name):
    records = sorted((RESULTS / name).glob("*.json"))
    if not records:
        pytest.skip(f"no run of {name} has been recorded yet")
    for path in records:
        record = read_record(path)
        assert record["commit"], path.name
        assert 0 <= record["metrics"]["exact_match"] <= 1, path.name


@pytest.mark.parametrize("benchmark", ["t5_vqvae_tables", "t5_vqvae_inference"], indirect=True)
def test_the_tables_are_rendered_from_the_records(benchmark, tmp_path, monkeypatch):
    name = benchmark.FOLDER
    if not (benchmark.REPORTS / f"{name}.md").exists():
        pytest.skip(f"no run of {name} has been recorded yet")
    committed = (benchmark.REPORTS / f"{name}.md").read_text(encoding="utf-8")
    template = (benchmark.REPORTS / f"{name}.template.md").read_text(encoding="utf-8")
    (tmp_path / f"{name}.template.md").write_text(template, encoding="utf-8")
    monkeypatch.setattr(benchmark, "REPORTS", tmp_path)
    monkeypatch.setattr(benchmark, "_plot", lambda *_: None, raising=False)
    import results

    readme = results.README.read_text(encoding="utf-8")
    monkeypatch.setattr(results, "README", tmp_path / "README.md")
    results.README.write_text(readme, encoding="utf-8")
    benchmark.report()
    assert (tmp_path / f"{name}.md").read_text(encoding="utf-8") == committed
    assert results.README.read_text(encoding="utf-8") == readme


@pytest.mark.parametrize("benchmark", ["t5_vqvae_scores"], indirect=True)
def test_a_noun_is_replaced_only_where_it_is_the_subject(benchmark):
    rows = [
        {"source": "a dog is an animal", "roles": ["ARG1", "ARG1", "V", "ARG2", "ARG2"]},
        {"source": "cats chase mice", "roles": ["ARG0", "V", "ARG1"]},
        {"source": "the old tree has leaves", "roles": ["ARG1", "ARG1", "ARG1", "V", "ARG2"]},
        {"source": "it is cold", "roles": ["ARG1", "V", "ARG2"]},
        {"source": "to boil means to boil", "roles": ["ARG1", "ARG1", "V", "ARG2", "ARG2"]},
    ]
    assert [benchmark.subject_noun(row) for row in rows] == ["dog", "cats", None, None, None]
    drawn = benchmark.draw_substitutions(rows, 5, seed=0)
    assert drawn == benchmark.draw_substitutions(rows, 5, seed=0)
    for text, noun, donor, new in drawn:
        assert noun in text.split()
        assert new in donor.split()
        assert new not in text.split()


@pytest.mark.parametrize("benchmark", ["t5_vqvae_scores"], indirect=True)
def test_words_of_like_company_have_near_vectors(benchmark):
    texts = [f"a {noun} eats {food}" for noun in ("dog", "cat") for food in ("meat", "fish")] * 3
    texts += [
        f"the {noun} orbits its {star}" for noun in ("earth", "mars") for star in ("sun",)
    ] * 3
    vectors = benchmark.word_vectors(texts, dim=4)
    distance = {
        other: np.linalg.norm(vectors["dog"] - vectors[other]) for other in ("cat", "earth")
    }
    assert distance["cat"] < 0.5 * distance["earth"]


@pytest.mark.parametrize("benchmark", ["t5_vqvae_loop"], indirect=True)
def test_each_pass_holds_every_text_once(benchmark):
    rows = [[length] * length for length in range(1, 65)]
    batches = benchmark.bucketed_batches(rows, [len(row) for row in rows], 8, 0, list)
    batches = [next(batches) for _ in range(8)]
    assert sorted(len(row) for batch in batches for row in batch) == list(range(1, 65))
    assert all(max(map(len, batch)) - min(map(len, batch)) == 7 for batch in batches)


@pytest.mark.parametrize("benchmark", ["t5_vqvae_peers"], indirect=True)
def test_a_sentence_latent_is_all_that_the_decoder_reads(benchmark):
    from transformers import T5Config

    torch.manual_seed(0)
    config = T5Config(vocab_size=20, d_model=16, d_kv=8, d_ff=32, num_layers=1, num_heads=2)
    config.decoder_start_token_id = 0
    model = benchmark.SentenceVAE(config, 4, beta=1.0, free_bits=0.0, num_updates=8).eval()
    ids = torch.tensor([[5, 6, 7, 1], [8, 9, 1, 0]])
    mask = (ids > 0).long()
    options = {"max_new_tokens": 6, "do_sample": False}
    with torch.no_grad():
        written = model.generate(ids, mask, **options)
        latents = model.posterior(ids, mask)[0]
        alone = model.generate_from_latents(latents[1:], **options)
    assert torch.equal(written[1:, : alone.shape[1]], alone)
    labels = ids.masked_fill(mask == 0, -100)
    output = model.train()(ids, mask, labels)
    output.loss.backward()
    for layer in (model.to_memory, model.to_shift):
        assert layer.weight.grad.abs().sum() > 0
