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
"""The demo of T5VQVAE: generated mathematics as codes, and what one can do to an expression through them."""

import html
import json
import random
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import datasets
import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from demo_sections.page import DemoConfig, Section, loss_plot, provenance, table
from torch.utils.data import DataLoader
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

from hf_vq import T5VQVAEConfig, T5VQVAEForConditionalGeneration
from hf_vq.codebook_start import endless, start_codebook
from hf_vq.evaluation import write_record
from hf_vq.latent_operations import (
    OperationTable,
    TextCodec,
    format_codes,
    interpolate,
    substitute,
    traverse,
)
from hf_vq.math_data import generate_expressions
from hf_vq.symbolic_equivalence import VARIABLE_CLAUSE, symbolic_equivalence
from hf_vq.text_data import TextCollator, text_revision, train_tokenizer
from hf_vq.text_evaluation import TEXT_METRIC_DEFINITIONS, evaluate_text_autoencoder
from hf_vq.training import TrainingConfig, train

NUM_TRAIN, NUM_TEST, NUM_SHOWN, NUM_EDITS = 12_000, 500, 8, 200
EDIT_DEFINITIONS = {
    "substitution_exact_match": f"share of {NUM_EDITS} random edits, in which the codes of one letter of an unseen "
    "expression are replaced by those of another letter, whose decoded text equals the same edit of the text, up to "
    "white space",
}
FIGURES = {
    "exact_match": ("come back exactly as they were", ".1%"),
    "symbolic_equivalence": (
        "come back with the same value, as numbers at random points tell",
        ".1%",
    ),
    "substitution_exact_match": (
        f"of {NUM_EDITS} replaced letters: exactly the intended text",
        ".1%",
    ),
    "codebook_usage": ("codes used", ".0%"),
    "codebook_perplexity": ("perplexity of the codes", ".1f"),
    "rate": ("bits in a code", ".2f"),
}


def t5_vqvae_section(config: DemoConfig) -> Section:
    """Train T5VQVAE on generated expressions, measure it on unseen ones, edit some, and reload it."""
    folder = Path(config.output_dir) / "t5-vqvae-demo"  # a name that no real run bears
    shutil.rmtree(folder, ignore_errors=True)  # `train` would not overwrite the last demo's
    splits = expressions(config.seed)
    tokenizer = train_tokenizer(splits["train"]["source"][:], 160, isolate_symbols=True)
    collator = TextCollator(tokenizer)
    model, results = train_t5_vqvae(config, folder, splits["train"], tokenizer, collator)

    unseen = splits["test"]["source"][:]
    codec = TextCodec(model, tokenizer, batch_size=250)
    check_reload(codec, results["final_model"], unseen[:100])
    metrics = evaluate_text_autoencoder(
        model,
        DataLoader(splits["test"], 250, collate_fn=collator),
        tokenizer=tokenizer,
        references=unseen,
        score=symbolic_equivalence,
    )
    metrics["substitution_exact_match"] = score_substitutions(codec, unseen, config.seed)
    record = write_record(
        folder / "final.json",
        f"{folder.name}/final",
        metrics,
        data={
            "name": "hf_vq.math_data.generate_expressions",
            "split": "test",
            "revision": text_revision(splits["test"]),
        },
        seeds=[config.seed],
        definitions=TEXT_METRIC_DEFINITIONS | EDIT_DEFINITIONS,
    )
    print_summary(metrics, results)
    log = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    content = [
        describe_run(model, results, metrics),
        table(
            ["of unseen expressions", ""],
            ([FIGURES[k][0], format(metrics[k], FIGURES[k][1])] for k in FIGURES),
        ),
        "<h3>Unseen expressions</h3>",
        "<p>Each symbol becomes one code, and the decoder reads nothing but the codes.</p>",
        reconstruction_table(codec, unseen[:NUM_SHOWN]),
        *operation_tables(codec, unseen),
        "<h3>Training</h3>",
        "<p>The loss and its weighted parts in nats per symbol, averaged over batches, after a warm-up without "
        "quantizer.</p>",
        loss_plot(loss_parts(log, model.config)),
        "<h3>Where this comes from</h3>",
        provenance(record),
    ]
    return Section("T5VQVAE on generated mathematics", "\n".join(content))


def expressions(seed: int) -> dict[str, datasets.Dataset]:
    """Return expressions without the clause that names their variable, no test expression among the training ones."""
    splits = generate_expressions(NUM_TRAIN, 0, NUM_TEST, 0, seed=seed)

    def bare(split: datasets.Dataset) -> datasets.Dataset:
        texts = [text.partition(VARIABLE_CLAUSE)[0] for text in split["source"]]
        return datasets.Dataset.from_dict({"source": texts, "target": texts})

    return {name: bare(split) for name, split in splits.items()}


def train_t5_vqvae(
    config: DemoConfig,
    folder: Path,
    texts: datasets.Dataset,
    tokenizer: Any,
    collator: TextCollator,
) -> tuple[T5VQVAEForConditionalGeneration, dict[str, Any]]:
    """Return the trained model and what `train` returns."""
    set_seed(config.seed)  # of the initial weights
    model = T5VQVAEForConditionalGeneration(
        T5VQVAEConfig(
            vocab_size=len(tokenizer),
            d_model=128,
            d_kv=32,
            d_ff=512,
            num_layers=2,
            num_heads=4,
            dropout_rate=0.0,
            decoder_start_token_id=tokenizer.pad_token_id,
            codebook_size=128,
            max_latent_positions=64,
        )
    )
    warmup_steps = config.text_max_steps // 4
    training = TrainingConfig(
        output_dir=str(folder),
        max_steps=config.text_max_steps - warmup_steps,
        per_device_train_batch_size=64,
        learning_rate=2e-3,
        warmup_steps=config.text_max_steps // 50,
        adam_beta2=0.98,
        logging_steps=max(1, config.text_max_steps // 50),
        checkpointing_steps=None,
        seed=config.seed,
        cpu=True,
        progress_bar=config.progress_bar,
    )

    def before_training(accelerator: Accelerator, model: Any, loader: Any) -> None:
        start_codebook(
            accelerator,
            model,
            endless(loader),
            warmup_steps=warmup_steps,
            learning_rate=training.learning_rate / 2,
            max_grad_norm=1.0,
            seed=config.seed,
        )

    results = train(
        model,
        texts,
        training,
        collate_fn=collator,
        processor=tokenizer,
        before_training=before_training,
        batch_weight=lambda batch: (batch["labels"] != -100).sum(),
    )
    return model.eval(), results


def check_reload(codec: TextCodec, folder: str, texts: Sequence[str]) -> None:
    """End the program with an error unless the saved model and tokenizer are those in memory."""
    reloaded = TextCodec(
        AutoModelForSeq2SeqLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    )
    expected, found = codec.encode(texts), reloaded.encode(texts)
    pairs = {
        "codes": torch.equal(expected, found),
        "reconstructions": codec.decode(expected) == reloaded.decode(expected),
    }
    for name, are_equal in pairs.items():
        if not are_equal:
            raise SystemExit(
                f"{folder}: the {name} of the reloaded model differ from those of the saved one"
            )


def letters_of(text: str) -> list[int]:
    """Return where the letters stand that are no part of a function's name."""
    return [match.start() for match in re.finditer(r"(?<![a-z])[a-z](?![a-z])", text)]


def score_substitutions(codec: TextCodec, texts: Sequence[str], seed: int) -> float:
    """Return how often the codes of another letter, put in place of a letter's, give the intended text."""
    generator = random.Random(seed)
    edits = []
    for _ in range(NUM_EDITS):
        text, donor = generator.sample(texts, 2)
        places = [generator.choice(letters_of(word)) for word in (text, donor)]
        spans = [(place, place + 1) for place in places]
        edits.append((text, spans[0], donor, spans[1]))
    columns = [list(column) for column in zip(*edits, strict=True)]
    rows = substitute(codec, *columns)
    return sum(same(row["text"], row["expected"]) for row in rows) / len(rows)


def same(text: str, other: str) -> bool:
    """Return whether two formulas are equal up to white space, which goes with the symbol that follows it."""
    return "".join(text.split()) == "".join(other.split())


def print_summary(metrics: Mapping[str, float], results: Mapping[str, Any]) -> None:
    """Print the figures."""
    print(
        f"\ntrained for {results['train_seconds']:.0f} s; of {metrics['num_texts']} unseen expressions:"
    )
    for name, (meaning, spec) in FIGURES.items():
        print(f"{metrics[name]:>8{spec}}  {meaning}")
    print("saved, reloaded: the same codes and reconstructions")


def describe_run(
    model: T5VQVAEForConditionalGeneration, results: Mapping[str, Any], metrics: Mapping[str, float]
) -> str:
    """Return a paragraph that says what was done and how well it went."""
    return (
        f"<p>A T5 of {results['num_parameters']:,} parameters with a codebook of {model.config.codebook_size} between "
        f"encoder and decoder was trained from scratch on {NUM_TRAIN:,} generated expressions, {results['step']:,} "
        f"updates in {results['train_seconds']:.0f} seconds after a warm-up without quantizer. Of "
        f"{metrics['num_texts']} expressions that it has not seen, it gives back {metrics['exact_match']:.1%} "
        f"symbol for symbol, from the codes alone; {metrics['symbolic_equivalence']:.1%} have the value of the "
        "original. Saved and loaded again, it gives the same codes and reconstructions.</p>"
    )


def reconstruction_table(codec: TextCodec, texts: Sequence[str]) -> str:
    """Return expressions, their codes, and what comes back."""
    rows = [sentence.codes for sentence in codec.read(list(texts))]
    written = codec.decode(rows)
    return table(
        ["expression", "codes", "reconstruction"],
        ([t, format_codes(c), w] for t, c, w in zip(texts, rows, written, strict=True)),
        "text",
    )


def operation_tables(codec: TextCodec, texts: Sequence[str]) -> list[str]:
    """Return an interpolation, a traversal and a substitution, on the first unseen expressions that fit."""
    source, target = [text for text in texts if 8 <= len(text) <= 16][:2]
    edited = next(text for text in texts if len(text) <= 24 and len(letters_of(text)) > 1)
    place = letters_of(edited)[0]
    span = (place, place + 1)
    path = interpolate(codec, source, target, method="staggered", num_steps=8)
    # The last of them: a space before the letter is a piece of its own.
    _, end = codec.read(edited)[0].positions(*span)
    neighbors = traverse(codec, edited, end - 1, 8)
    spliced = substitute(codec, edited, span, source)
    return [
        "<h3>Interpolation</h3>",
        f"<p>From <code>{html.escape(source)}</code> to <code>{html.escape(target)}</code>: position by position, the "
        "codes of the one give way to those of the other, near ones first.</p>",
        columns_of(path, "t", "text", "changed"),
        "<h3>Traversal</h3>",
        f"<p>The code of <code>{html.escape(edited[place])}</code> in <code>{html.escape(edited)}</code>, replaced by "
        "the codes nearest to it.</p>",
        columns_of(neighbors, "rank", "code", "text", "changed"),
        "<h3>Substitution</h3>",
        f"<p>The codes of <code>{html.escape(source)}</code>, without its end, in place of that one code. As text the "
        "edit gives what stands under expected.</p>",
        columns_of(spliced, "codes", "text", "expected"),
    ]


def columns_of(operation: OperationTable, *names: str) -> str:
    """Return columns of the result of an operation."""
    return table(names, ([str(row[name]) for name in names] for row in operation), "text")


def loss_parts(
    log: Sequence[Mapping[str, float]], config: T5VQVAEConfig
) -> dict[str, list[tuple[float, float]]]:
    """Return the curves of the loss and of its parts with their weights."""
    weight = config.commitment_loss_weight
    parts = {"loss": 1.0, "reconstruction_loss": 1.0, "commitment_loss": weight}
    return {
        (name if factor == 1 else f"{factor:g} · {name}"): [
            (line["step"], factor * line[name]) for line in log if name in line
        ]
        for name, factor in parts.items()
    }
