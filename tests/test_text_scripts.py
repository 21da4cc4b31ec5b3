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
"""The text scripts end to end on tiny models: two steps, resuming, figures, edits, and mistakes that are named."""

import csv
import dataclasses
import json
import math
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file
from transformers import T5Config, T5ForConditionalGeneration

from from_file import load_script
from hf_vq import T5VQVAEConfig, T5VQVAEForConditionalGeneration
from hf_vq.evaluation import read_record
from hf_vq.hub import load_text_autoencoder
from hf_vq.text_data import train_tokenizer
from hf_vq.text_splits import TextConfig, load_texts

SCRIPTS = Path(__file__).resolve().parents[1] / "scripts"

pytestmark = pytest.mark.usefixtures("apart")
RECIPES = sorted((SCRIPTS / "configs").glob("t5-vqvae-*.yaml"))
NOUNS = ["cat", "dog", "star", "rock", "tree", "lake", "bird", "leaf", "sun", "ice"]
SENTENCES = [f"a {a} is a kind of {b}" for a in NOUNS for b in NOUNS if a != b]
TINY = {
    "vocab_size": 150,
    "d_model": 16,
    "d_ff": 24,
    "num_layers": 1,
    "num_heads": 2,
    "codebook_size": 12,
    "max_latent_positions": 32,
    "per_device_train_batch_size": 8,
    "checkpointing_steps": 1,
    "max_steps": 2,
    "cpu": True,
    "progress_bar": False,
}


training = load_script("train_t5_vqvae")
evaluate_text = load_script("evaluate_text")
edit_text = load_script("edit_text")


@pytest.fixture
def texts(tmp_path):
    """Write a folder with the columns text and roles: 80 sentences to train on, 10 to test."""
    folder = tmp_path / "texts"
    folder.mkdir()
    for name, rows in (("train", SENTENCES[:80]), ("test", SENTENCES[80:])):
        with (folder / f"{name}.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["text", "roles"])
            writer.writerows([text, "ARG0 ARG0 V V V V ARG1"] for text in rows)
    return folder


def words(options):
    pairs = (
        (name, value if isinstance(value, list) else [value]) for name, value in options.items()
    )
    return [word for name, values in pairs for word in (f"--{name}", *map(str, values))]


def run(texts, output_dir, *more, **options):
    options = {
        "dataset": texts,
        "source_column": "text",
        "output_dir": output_dir,
        **TINY,
        **options,
    }
    return training.main([*words(options), *more])


@pytest.fixture
def tokenizer():
    return train_tokenizer(SENTENCES, 150)


def test_each_split_has_a_record_of_its_own(tmp_path, monkeypatch):
    names = []
    monkeypatch.setattr(training, "write_record", lambda path, *_, **__: names.append(path.name))
    monkeypatch.setattr(training, "format_figures", lambda *_: "")
    splits = ["test", "test_length", "test[:50]", "test[50:]", "test[-50:]", "test[:50%]"]
    data = training.TextConfig("texts", test_splits=splits)
    for split in splits:
        training.report(tmp_path / "best", {}, data, split, [], seed=0)
    assert names[:2] == ["best.json", "best-test_length.json"]
    assert len(set(names)) == len(splits)


@pytest.fixture
def checkpoint(tmp_path, tokenizer):
    torch.manual_seed(0)
    config = T5VQVAEConfig(
        vocab_size=len(tokenizer),
        d_model=16,
        d_kv=8,
        d_ff=24,
        num_layers=1,
        num_heads=2,
        codebook_size=12,
        decoder_start_token_id=0,
    )
    T5VQVAEForConditionalGeneration(config).save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def test_training_writes_model_record_and_log(texts, tmp_path, capsys):
    results = run(texts, tmp_path / "run", eval_steps=1, eval_decoding=True)
    assert results["step"] == 2
    assert {"eval_nll", "eval_exact_match", "eval_codebook_perplexity"} <= results.keys()
    assert results["eval_num_texts"] == 4  # 5 % of the training texts

    record = read_record(tmp_path / "run" / "best.json")
    assert record["checkpoint"] == "run/best"
    assert record["metrics"]["num_texts"] == 10
    assert {"exact_match", "bleu1", "corpus_bleu4", "nll", "rate"} <= record["metrics"].keys()
    assert (record["data"]["split"], record["seeds"]) == ("test", [0])
    output = capsys.readouterr().out
    assert f"{record['metrics']['nll']:.5g}" in output
    assert "best.json" in output

    model, tokenizer = load_text_autoencoder(tmp_path / "run" / "best")
    assert all(group.codebook_initialized for group in model.encoder.quantizer.groups)
    assert model.config.temperature_anneal_steps == 2  # 90 % of two steps, rounded
    assert (
        tokenizer.decode(tokenizer(SENTENCES[0]).input_ids, skip_special_tokens=True)
        == SENTENCES[0]
    )


def test_resuming_equals_an_uninterrupted_run(texts, tmp_path):
    options = {
        "lr_scheduler_type": "constant",
        "temperature_anneal_steps": 2,
        "codebook_warmup_steps": 2,
    }
    run(texts, tmp_path / "whole", **options)
    run(texts, tmp_path / "parts", **options | {"max_steps": 1})
    results = run(texts, tmp_path / "parts", **options, resume_from_checkpoint="latest")
    assert results["step"] == 2
    whole, parts = (
        load_file(tmp_path / name / "final" / "model.safetensors") for name in ("whole", "parts")
    )
    assert whole.keys() == parts.keys()
    for name, tensor in whole.items():
        assert torch.equal(tensor, parts[name]), name


def test_training_without_quantizer_and_with_roles(texts, tmp_path):
    run(texts, tmp_path / "plain", quantizer="none", eval_split="train[-8:]")
    model, _ = load_text_autoencoder(tmp_path / "plain" / "best")
    assert model.config.quantizer == "none"
    assert "rate" not in read_record(tmp_path / "plain" / "best.json")["metrics"]

    roles = {"ARG0": [0, 4], "V": [4, 8], "ARG1": [8, 12]}
    run(texts, tmp_path / "roles", role_column="roles", role_ranges=json.dumps(roles))
    model, tokenizer = load_text_autoencoder(tmp_path / "roles" / "best")
    assert model.config.role_ranges == roles


def test_a_plain_t5_is_where_training_starts(texts, tmp_path, tokenizer):
    sizes = {"d_model": 16, "d_kv": 8, "d_ff": 24, "num_layers": 1, "num_heads": 2}
    config = T5Config(vocab_size=len(tokenizer), decoder_start_token_id=0, **sizes)
    plain = T5ForConditionalGeneration(config)
    plain.save_pretrained(tmp_path / "t5")
    tokenizer.save_pretrained(tmp_path / "t5")
    start = training.StartConfig(init_from=str(tmp_path / "t5"))
    model = training.build_model({"codebook_size": 12, "d_model": None}, start, tokenizer)
    weights = model.state_dict()
    for name, tensor in plain.state_dict().items():
        assert torch.equal(weights[name], tensor), name

    options = {name: value for name, value in TINY.items() if name not in {*sizes, "vocab_size"}}
    argv = words({"dataset": texts, "source_column": "text", "output_dir": "run", **options})
    assert training.main([*argv, "--init_from", str(tmp_path / "t5")])["step"] == 2
    with pytest.raises(ValueError, match="d_ff, d_model: init_from brings its own sizes"):
        training.build_model({"d_model": 8, "d_ff": 8}, start, tokenizer)


def test_a_trained_codebook_is_kept(texts, checkpoint, tokenizer, tmp_path):
    start = training.StartConfig(init_from=str(checkpoint))
    assert training.build_model({}, start, tokenizer).config.codebook_size == 12
    larger = train_tokenizer([*SENTENCES, "ünknöwn"], 160)
    model = training.build_model({}, start, larger)
    assert model.get_input_embeddings().num_embeddings == len(larger)


def test_inference_on_generated_mathematics(tmp_path):
    options = {"max_train_samples": 60, "max_test_samples": 6, "max_latent_positions": 128}
    splits = ["test", "test_length"]
    options |= {"isolate_symbols": True, "max_steps": 1, "test_splits": splits}
    argv = words({"dataset": "math:inference", "output_dir": "run", **TINY, **options})
    training.main(argv)
    for name in ("best", "best-test_length"):
        record = read_record(f"run/{name}.json")
        assert record["metrics"]["num_texts"] == 6
        assert (
            0 <= record["metrics"]["symbolic_equivalence"] <= record["metrics"]["parse_rate"] <= 1
        )
    # The test splits stay the same, whatever is trained on.
    record = evaluate_text.main(
        words(
            {"checkpoint": "run/best", "dataset": "math:inference", "max_samples": 6, "cpu": True}
        )
    )
    assert record["data"]["revision"] == read_record("run/best.json")["data"]["revision"]


def test_a_prior_over_the_codes(texts, checkpoint, tmp_path, capsys):
    options = {"stage": "prior", "checkpoint": checkpoint, "num_samples": 3, "prior_num_layers": 1}
    options |= {"prior_hidden_size": 16, "prior_num_heads": 2}
    results = run(texts, tmp_path / "prior", **options)
    assert results["step"] == 2
    metrics = read_record(tmp_path / "prior" / "best.json")["metrics"]
    assert metrics["bits"] == pytest.approx(metrics["code_bits"] + metrics["text_bits"])
    # Untrained, a choice among 12 codes and the stop code costs about as much as an even one.
    assert metrics["code_bits"] == pytest.approx(math.log2(12), rel=0.3)
    assert capsys.readouterr().out.count("sample") == 3
    with pytest.raises(ValueError, match="set checkpoint"):
        run(texts, tmp_path / "other", stage="prior")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"codebok_size": 3}, r"codebok_size.*codebook_size"),
        ({"codebook_size": 0}, "codebook_size is 0"),
        ({"quantizer": "vq"}, "quantizer is 'vq'"),
        ({"source_column": "sentence"}, r"no column 'sentence'.*'text'"),
        ({"source_column": []}, "source_column is not set"),
        ({"test_splits": "tset"}, "tset"),
        ({"dataset": "absent.csv"}, r"absent\.csv"),
        (
            {"dataset": "math:expressions", "test_splits": "ood", "max_train_samples": 9},
            "test split 'ood'",
        ),
        ({"max_length": 5}, "more than max_length=5"),
        ({"max_latent_positions": 4}, "more than max_length=4"),
        ({"test_splits": "train[:20]"}, "test rows occur in the training split"),
        ({"vocab_size": 20}, "vocab_size must be at least"),
    ],
)
def test_wrong_options_are_named(texts, tmp_path, options, message):
    if "math" in str(options.get("dataset")):
        options |= {"max_test_samples": 2}
    with pytest.raises(Exception, match=message):
        run(texts, tmp_path / "run", **options)
    assert not (tmp_path / "run").exists()


def test_known_test_texts_are_left_out_when_asked(texts):
    config = TextConfig(
        dataset=str(texts),
        source_column=["text"],
        eval_split="train[:5]",
        test_splits=["train[70:]", "test"],
        novel_test_texts=True,
        train_split="train[:75]",
    )
    training_texts, held_out, tests = load_texts(config)
    assert (len(training_texts), len(held_out)) == (75, 5)
    assert [len(test) for test in tests.values()] == [5, 10]


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_recipes(recipe):
    """A recipe parses, states nothing but differences, and goes to a folder of its name."""
    classes = (
        training.TrainingConfig,
        training.TextConfig,
        training.StartConfig,
        training.ModelConfig,
        training.PriorConfig,
    )
    parsed = training.parse_config(*classes, argv=["--config", str(recipe)])
    options, defaults = {}, {}
    for instance in parsed:
        options |= dataclasses.asdict(instance)
        defaults |= {f.name: f.default for f in dataclasses.fields(instance)}
    sections = yaml.safe_load(recipe.read_text())
    for section in sections.values():
        for name in section:
            assert options[name] != defaults[name], f"{name} is the default"
    assert options["output_dir"] == f"runs/{recipe.stem}"
    for name in sections.get("model", {}):
        default = training.SMALL_T5.get(name, getattr(T5VQVAEConfig(), name, None))
        assert options[name] != default, f"{name} is the default"


def test_model_options_are_those_of_the_config():
    own = set(vars(T5VQVAEConfig)["__annotations__"]) | set(training.SMALL_T5)
    fields = dataclasses.fields(training.ModelConfig)
    assert {f.name for f in fields} == own - {"model_type", "keys_to_ignore_at_inference"}
    for f in fields:
        assert len(f.metadata["help"].split()) > 5, f.name


def test_evaluation(checkpoint, texts, tmp_path, capsys):
    argv = words(
        {
            "checkpoint": checkpoint,
            "dataset": texts,
            "source_column": "text",
            "batch_size": 3,
            "cpu": True,
        }
    )
    record = evaluate_text.main(argv)
    assert record == read_record(tmp_path / "model.json")
    assert record["metrics"]["num_texts"] == 10
    assert "exact_match" in capsys.readouterr().out

    # An independent computation, one text at a time and without padding.
    model, tokenizer = load_text_autoencoder(checkpoint)
    nll, pieces, right = 0.0, 0, 0
    for text in SENTENCES[80:]:
        ids = tokenizer(text, return_tensors="pt").input_ids
        with torch.no_grad():
            nll += model(input_ids=ids, labels=ids).reconstruction_loss.item() * ids.numel()
            written = model.generate(input_ids=ids, max_new_tokens=30, do_sample=False)
        pieces += ids.numel()
        right += tokenizer.decode(written[0], skip_special_tokens=True).split() == text.split()
    assert record["metrics"]["nll"] == pytest.approx(nll / pieces, rel=1e-4)
    assert record["metrics"]["exact_match"] == right / 10


TEXTS = ["a cat is a kind of dog", "a star is a kind of rock"]


@pytest.mark.parametrize(
    ("options", "rows"),
    [
        ({"text": TEXTS}, 2),
        ({"operation": "interpolate", "text": TEXTS, "num_steps": 4, "method": "staggered"}, 5),
        ({"operation": "mean", "text": TEXTS}, 1),
        ({"operation": "traverse", "text": TEXTS[0], "at": 1, "num_codes": 3}, 3),
        ({"operation": "nearest", "text": TEXTS[0], "at": 2, "num_codes": 3}, 3),
        (
            {
                "operation": "substitute",
                "text": TEXTS[0],
                "span": "cat",
                "donor": TEXTS[1],
                "donor_span": "star",
            },
            1,
        ),
        (
            {
                "operation": "specify",
                "text": TEXTS[0],
                "span": "cat",
                "donor": "lake",
                "side": "left",
            },
            1,
        ),
        ({"operation": "conjoin", "text": TEXTS[0], "span": "cat", "donor": "lake"}, 1),
    ],
    ids=lambda value: value.get("operation", "reconstruct") if isinstance(value, dict) else "",
)
def test_edits(checkpoint, options, rows, capsys):
    table = edit_text.main(
        [*words({"checkpoint": checkpoint, **options}), "--output", "out/table.csv"]
    )
    assert len(table) == rows
    assert str(table) in capsys.readouterr().out
    with Path("out/table.csv").open(newline="") as file:
        written = list(csv.DictReader(file))
    assert [row.get("text", "") for row in written] == [row.get("text", "") for row in table]
    if options.get("operation") == "substitute":
        assert table[0]["expected"] == "a star is a kind of dog"


def test_pictures_and_lines_of_json(checkpoint):
    pytest.importorskip("matplotlib", reason="needs the extra `plots`")
    base = words({"checkpoint": checkpoint, "text": TEXTS})
    edit_text.main([*base, "--output", "table.jsonl", "--picture", "codes.png"])
    assert [
        json.loads(line)["input"] for line in Path("table.jsonl").read_text().splitlines()
    ] == TEXTS
    edit_text.main([*base, "--operation", "interpolate", "--picture", "path.png"])
    assert Path("codes.png").stat().st_size > 0
    assert Path("path.png").stat().st_size > 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"operation": "interpolate", "text": TEXTS[0]}, r"interpolate takes 2 text\(s\), got 1"),
        ({"operation": "substitute", "text": TEXTS[0], "span": "cat"}, "substitute needs donor"),
        (
            {"operation": "substitute", "text": TEXTS[0], "span": "cow", "donor": "dog"},
            "'cow' does not occur",
        ),
        ({"operation": "traverse", "text": TEXTS[0]}, "traverse needs at"),
        ({"operation": "replace", "text": TEXTS[0]}, "operation is 'replace'"),
        ({"text": TEXTS[0], "output": "table.xlsx"}, r"expected a name in \.csv or \.jsonl"),
        ({"text": []}, "text is empty"),
    ],
)
def test_wrong_edits_are_named(checkpoint, options, message):
    with pytest.raises(ValueError, match=message):
        edit_text.main(words({"checkpoint": checkpoint, **options}))
