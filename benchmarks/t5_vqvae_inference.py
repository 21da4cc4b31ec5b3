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
"""Inference through codes: two premises to a conclusion, and a problem of calculus to its result.

    python benchmarks/t5_vqvae_inference.py run --tasks entailment symbolic --methods ema plain --seeds 0
    python benchmarks/t5_vqvae_inference.py smoke       # does everything run?
    python benchmarks/t5_vqvae_inference.py report      # tables in docs/results/

Beside T5VQVAE stands a plain T5 of the same size, data order and updates: `quantizer="none"` without positions, which
gives T5ForConditionalGeneration's logits. Both start from scratch, with a tokenizer of the training part, of which 5 %
select the best weights. Scored are the test rows that do not occur in training in any spelling or order of premises,
with 95 % bootstrap intervals over them. Every run is one JSON record in benchmarks/results/t5_vqvae_inference/.
"""

import argparse
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from results import REPORTS, RESULTS, markdown_table, read_results
from t5_vqvae_loop import LoopConfig, bucketed_batches, fit
from t5_vqvae_peers import count_parameters
from torch.utils.data import DataLoader

from hf_vq import T5VQVAEConfig, T5VQVAEForConditionalGeneration
from hf_vq.evaluation import write_record
from hf_vq.math_data import SHIFTED_SPLITS, generate_inference
from hf_vq.symbolic_equivalence import symbolic_equivalence
from hf_vq.text_data import (
    SOURCE_SEPARATOR,
    TextCollator,
    check_splits_disjoint,
    load_text_dataset,
    text_revision,
    train_tokenizer,
)
from hf_vq.text_evaluation import TEXT_METRIC_DEFINITIONS, evaluate_text_autoencoder
from hf_vq.text_metrics import bleu1, exact_match

FOLDER = "t5_vqvae_inference"
SIZE = {
    "d_model": 192,
    "d_kv": 32,
    "num_heads": 6,
    "d_ff": 768,
    "num_layers": 2,
    "dropout_rate": 0.1,
    "feed_forward_proj": "relu",
}
CODES = {
    "quantize_after_layer": 1,
    "commitment_loss_weight": 5.0,
    "revival_threshold": 0.01,
    "latent_positions": "cross_bias",
}
METHODS: dict[str, tuple[str, dict[str, Any]]] = {
    "ema": ("T5VQVAE", CODES),
    "plain": ("plain T5", {"quantizer": "none", "latent_positions": "none"}),
}
NUM_BOOTSTRAP = 1000
DEFINITIONS = TEXT_METRIC_DEFINITIONS | {
    "symbolic_equivalence": "share of results that equal the reference at random points, or whose derivative "
    "equals the integrand",
    "parse_rate": "share of results that are formulas",
    "parameters": "numbers that are learned, codebooks included",
    "steps": "updates, those before the codebook's start included",
    "best_step": "update whose weights are used, by the validation loss",
    "validation_nll": "nll of the validation part at that update",
    "train_seconds": "wall time of training, of a machine that other work shared",
    "threads": "CPU threads of the run",
}

Rows = list[dict[str, Any]]
Score = Callable[[list[str], list[str]], dict[str, float]]


@dataclass
class Task:
    """Rows of `source` and `target`, and what is made of them."""

    name: str
    train: Rows
    validation: Rows
    tests: dict[str, Rows]
    revision: str
    tokenizer: Any
    codebook_size: int
    formulas: bool = False

    def loader(self, rows: Rows) -> DataLoader:
        """Batches in the order of the rows."""
        return DataLoader(rows, 64, collate_fn=TextCollator(self.tokenizer))


def load_entailment(path: str) -> Task:
    """EntailmentBank's steps of two premises, the authors' split, without test rows known from training."""
    columns = {"source_column": ["premise1", "premise2"], "target_column": "conclusion"}
    training = load_text_dataset(path, "train", **columns)
    test = load_text_dataset(path, "test", **columns)
    test = test.select(check_splits_disjoint(training, test, allow_overlap=True).novel_rows)
    parts = training.train_test_split(0.05, seed=0)
    train, validation = parts["train"].to_list(), parts["test"].to_list()
    texts = [part for row in train for part in row["source"].split(SOURCE_SEPARATOR)]
    tokenizer = train_tokenizer([*texts, *(row["target"] for row in train)], 1000)
    return Task(
        *("EntailmentBank", train, validation, {"test": test.to_list()}),
        *(text_revision(test), tokenizer, 2048),
    )


def load_symbolic(num_train: int, num_test: int) -> Task:
    """Generated problems of calculus, no formula of which occurs twice, and four shifted test splits."""
    splits = generate_inference(num_train, max(8, num_train // 20), num_test, num_test // 2)
    rows = {name: split.to_list() for name, split in splits.items()}
    texts = [row[column] for row in rows["train"] for column in ("source", "target")]
    return Task(
        *("calculus, generated", rows["train"], rows["validation"]),
        {name: rows[name] for name in ("test", *SHIFTED_SPLITS)},
        text_revision(splits["test"]),
        train_tokenizer(texts, 200, isolate_symbols=True),
        codebook_size=512,
        formulas=True,
    )


def build_model(method: str, task: Task, size: dict[str, Any], seed: int) -> Any:
    """A fresh model."""
    torch.manual_seed(seed)
    tokenizer = task.tokenizer
    config = T5VQVAEConfig(
        **size,
        **METHODS[method][1],
        codebook_size=task.codebook_size,
        vocab_size=len(tokenizer),
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        decoder_start_token_id=tokenizer.pad_token_id,
    )
    return T5VQVAEForConditionalGeneration(config)


def run(
    method: str, task: Task, size: dict[str, Any], loop: LoopConfig, seed: int, path: Path
) -> None:
    """Train and score one method once; the record is the proof that it is done."""
    if path.exists():
        print(f"{path.name}: already there")
        return
    model = build_model(method, task, size, seed)
    if model.encoder.quantizer is None:
        loop = LoopConfig(**vars(loop) | {"codebook_start": 0})
    lengths = [len(row["source"]) + len(row["target"]) for row in task.train]
    collate = TextCollator(task.tokenizer)
    batches = bucketed_batches(task.train, lengths, loop.batch_size, seed, collate)
    validation = task.loader(task.validation)
    metrics = fit(
        model, batches, loop, lambda m: evaluate_text_autoencoder(m, validation)["nll"], seed
    )
    metrics["parameters"] = count_parameters(model)
    definitions = dict(DEFINITIONS)
    for split, rows in task.tests.items():
        rows = sorted(rows, key=lambda row: len(row["target"]))
        figures = evaluate_text_autoencoder(
            model,
            task.loader(rows),
            tokenizer=task.tokenizer,
            references=[row["target"] for row in rows],
            score=partial(score_rows, sources=[row["source"] for row in rows], task=task),
        )
        prefix = "" if split == "test" else f"{split}_"
        metrics |= {f"{prefix}{name}": value for name, value in figures.items()}
        for name in figures:
            definitions[f"{prefix}{name}"] = _definition(name) + (f" of {split}" if prefix else "")
    print(f"{path.stem}: exact match {100 * metrics['exact_match']:.1f} %", flush=True)
    write_record(
        path,
        path.stem,
        metrics,
        data={"name": task.name, "split": "test", "revision": task.revision},
        seeds=[seed],
        definitions=definitions,
    )


def _definition(name: str) -> str:
    for end in ("low", "high"):
        if name.endswith(f"_{end}"):
            return f"{end} end of the 95 % bootstrap interval of {name.removesuffix(f'_{end}')} over test rows"
    return DEFINITIONS[name]


def score_rows(
    predictions: list[str], references: list[str], sources: list[str], task: Task
) -> dict[str, float]:
    """Intervals of the mean figures, and for formulas whether they have the right values."""
    scores: dict[str, Score] = {
        "exact_match": lambda p, r: {"value": exact_match(p, r)},
        "bleu1": lambda p, r: {"value": bleu1(p, r)},
    }
    pairs = list(zip(predictions, references, strict=True))
    rows = {name: [score([p], [r])["value"] for p, r in pairs] for name, score in scores.items()}
    figures: dict[str, float] = {}
    if task.formulas:
        found = [
            symbolic_equivalence([p], [r], [s]) for (p, r), s in zip(pairs, sources, strict=True)
        ]
        for name in ("symbolic_equivalence", "parse_rate"):
            rows[name] = [row[name] for row in found]
            figures[name] = float(np.mean(rows[name]))
    for name, values in rows.items():
        low, high = interval(values)
        figures |= {f"{name}_low": low, f"{name}_high": high}
    return figures


def interval(values: list[float]) -> tuple[float, float]:
    """95 % bootstrap interval of a mean."""
    draws = np.random.default_rng(0).choice(values, (NUM_BOOTSTRAP, len(values))).mean(axis=1)
    low, high = np.quantile(draws, (0.025, 0.975))
    return float(low), float(high)


def report() -> None:
    """Render docs/results/t5_vqvae_inference.md from the records."""
    metrics = {stem: record["metrics"] for stem, record in read_results(FOLDER).items()}
    text = (REPORTS / f"{FOLDER}.template.md").read_text(encoding="utf-8")
    names = {"exact_match": "exact match %", "bleu1": "BLEU-1 %"}
    columns = {
        "entailment": names,
        "symbolic": names | {"symbolic_equivalence": "equivalent %", "parse_rate": "parsed %"},
    }
    for task, figures in columns.items():
        header = ["model", *figures.values(), "BLEU-4", "NLL", "parameters e6", "seed", "rows"]
        rows = []
        for stem, found in metrics.items():
            if stem.startswith(task):
                method, seed = stem.removeprefix(f"{task}-").split("-seed")
                cells = [_with_interval(found, name) for name in figures]
                cells += [f"{found['corpus_bleu4']:.1f}", f"{found['nll']:.3f}"]
                cells += [f"{1e-6 * found['parameters']:.1f}", seed, f"{found['num_texts']:.0f}"]
                rows.append([METHODS[method][0], *cells])
        text = text.replace("{{" + task + "}}", _table_or_note(header, rows))
    rows = [
        [METHODS[stem.split("-")[1]][0], split.removeprefix("test_")]
        + [_with_interval(found, f"{split}_{name}") for name in columns["symbolic"]]
        for stem, found in metrics.items()
        if stem.startswith("symbolic")
        for split in SHIFTED_SPLITS
    ]
    header = ["model", "unseen", *columns["symbolic"].values()]
    text = text.replace("{{shifted}}", _table_or_note(header, rows))
    (REPORTS / f"{FOLDER}.md").write_text(text, encoding="utf-8")


def _with_interval(metrics: dict[str, float], name: str) -> str:
    value, low, high = (100 * metrics[f"{name}{end}"] for end in ("", "_low", "_high"))
    return f"{value:.1f} ({low:.1f} to {high:.1f})"


def _table_or_note(header: list[str], rows: list[list[str]]) -> str:
    return markdown_table(header, rows) if rows else "None has been recorded yet."


def smoke() -> None:
    """Both methods for a few steps: that they run and give figures, not how good they are."""
    size = SIZE | {"d_model": 16, "d_kv": 8, "num_heads": 2, "d_ff": 32, "num_layers": 2}
    task = load_symbolic(num_train=64, num_test=8)
    task.codebook_size = 16
    with tempfile.TemporaryDirectory() as folder:
        for method in METHODS:
            loop = LoopConfig(steps=4, codebook_start=2, batch_size=16, evaluations=1)
            run(method, task, size, loop, 0, Path(folder) / f"symbolic-{method}-seed0.json")


def main() -> None:
    """Parse and dispatch."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    subparsers = parser.add_subparsers(dest="command", required=True)
    run_parser = subparsers.add_parser("run", help="train and score")
    tasks = ("entailment", "symbolic")
    run_parser.add_argument("--tasks", nargs="+", default=list(tasks), choices=tasks)
    run_parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=METHODS)
    run_parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    run_parser.add_argument("--steps", type=int, default=1500, help="updates")
    run_parser.add_argument(
        "--codebook-start", type=int, default=300, help="of these, before there is a codebook"
    )
    run_parser.add_argument("--data", default=".data/entailment", help="folder or Hub id")
    run_parser.add_argument("--threads", type=int, default=1)
    for name, purpose in (("smoke", "both methods for a few steps"), ("report", "the tables")):
        subparsers.add_parser(name, help=purpose).add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.command != "run":
        {"smoke": smoke, "report": report}[arguments.command]()
        return
    load = {
        "entailment": cache(lambda: load_entailment(arguments.data)),
        "symbolic": cache(lambda: load_symbolic(8000, 500)),
    }
    loop = LoopConfig(arguments.steps, arguments.codebook_start)
    for seed in arguments.seeds:
        for task in arguments.tasks:
            for method in arguments.methods:
                path = RESULTS / FOLDER / f"{task}-{method}-seed{seed}.json"
                run(method, load[task](), SIZE, loop, seed, path)


if __name__ == "__main__":
    main()
