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
# /// script
# requires-python = ">=3.11"
# dependencies = ["hf_vq[train]"]
# ///
"""Train T5VQVAE on texts of the Hub, of a local file, or on mathematics that it generates.

    python scripts/train_t5_vqvae.py --config scripts/configs/t5-vqvae-expressions.yaml
    python scripts/train_t5_vqvae.py --dataset texts.txt --source_column text --train_split 'train[:-500]' \
        --test_splits 'train[-500:]' --max_steps 1000 --output_dir runs/mine
    python scripts/train_t5_vqvae.py --init_from google-t5/t5-base --dataset pairs/ --source_column question \
        --target_column answer --learning_rate 5e-5 --num_train_epochs 10 --output_dir runs/pairs
    python scripts/train_t5_vqvae.py --stage prior --checkpoint runs/mine/best --dataset texts.txt \
        --source_column text --test_splits 'train[-500:]' --train_split 'train[:-500]' --max_steps 1000 \
        --output_dir runs/mine-prior

Without `--init_from` a small T5 starts from scratch, and without `--tokenizer` one is trained on the training texts.
The model that is best on held-out training texts is scored on the test split: `<output_dir>/best.json`. Several GPUs:
`accelerate launch --num_processes 4 scripts/train_t5_vqvae.py ...`. A minute on a CPU: the first recipe with
`--max_steps 100 --max_train_samples 2000 --max_test_samples 200`. `--test_splits` with nothing after it: no test.
`--resume_from_checkpoint latest` continues a run; `--help` lists every option.
"""

import dataclasses
import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass, make_dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch.utils.data import DataLoader
from transformers import AutoTokenizer

from hf_vq import T5VQVAEConfig, T5VQVAEForConditionalGeneration
from hf_vq.code_prior import CodePrior, two_part_code_length
from hf_vq.codebook_start import endless, start_codebook
from hf_vq.evaluation import format_figures, write_record
from hf_vq.hub import load_text_autoencoder
from hf_vq.latent_operations import TextCodec
from hf_vq.symbolic_equivalence import symbolic_equivalence
from hf_vq.text_data import (
    TextCollator,
    add_missing_characters,
    text_revision,
    train_tokenizer,
)
from hf_vq.text_evaluation import TEXT_METRIC_DEFINITIONS, evaluate_text_autoencoder
from hf_vq.text_splits import MATHEMATICS, TextConfig, load_texts
from hf_vq.training import TrainingConfig, parse_config, train
from hf_vq.training_config import field_help, option

# Of a T5 from scratch; d_kv is d_model / num_heads.
SMALL_T5 = {
    "d_model": 256,
    "d_ff": 1024,
    "num_layers": 4,
    "num_heads": 4,
    "dropout_rate": 0.1,
    "feed_forward_proj": "relu",
}
# What stands for the signs of a split that not every file system takes.
IN_FILE_NAMES = str.maketrans({"[": "-", ":": "_", "%": "p", "]": None})
PRIOR_DEFINITIONS = {
    "bits": "code_bits + text_bits: bits of a text in two parts, for each of its pieces, </s> counted",
    "code_bits": "-log2 of the prior's probability of the codes of a text, for each of its pieces",
    "text_bits": "-log2 of the probability of a text given its codes, for each of its pieces",
}
SHOWN = (
    "exact_match",
    "symbolic_equivalence",
    "bleu1",
    "corpus_bleu4",
    "nll",
    "rate",
    *PRIOR_DEFINITIONS,
)


@dataclass
class StartConfig:
    """What a run starts from."""

    stage: Literal["autoencoder", "prior"] = option(
        "autoencoder", "What to train; prior: a small GPT-2 that writes codes of a checkpoint."
    )
    init_from: str | None = option(
        None, "Hub id or folder of a T5 or T5VQVAE to start from; unset: from scratch."
    )
    tokenizer: str | None = option(
        None, "Hub id or folder; unset: that of init_from, or one trained on the training texts."
    )
    vocab_size: int = option(4096, "Pieces of a trained tokenizer, at most.")
    isolate_symbols: bool = option(
        False, "A trained tokenizer makes each digit and operator a piece, as formulas want it."
    )
    extend_tokenizer: bool = option(
        True, "Give pieces to characters of the training texts that a tokenizer lacks."
    )
    codebook_warmup_steps: int = option(0, "Steps without the quantizer before codes are chosen.")
    codebook_warmup_learning_rate: float | None = option(
        None, "Learning rate of these steps; unset: learning_rate."
    )
    latents_per_code: int = option(20, "Latents for each code, for k-means at the start.")


@dataclass
class PriorConfig:
    """The prior over codes, for `--stage prior`."""

    checkpoint: str | None = option(None, "Folder or Hub id of the trained T5VQVAE.")
    prior_hidden_size: int = option(256, "Width of the prior.")
    prior_num_layers: int = option(4, "Its blocks.")
    prior_num_heads: int = option(4, "Its attention heads.")
    prior_dropout: float = option(0.1, "Everywhere in it.")
    num_samples: int = option(8, "Texts to write from sampled codes in the end.")


# Of a word: "none" would mean None where None is allowed, and it is one of the quantizers.
UNSET = "unset"


def model_option(name: str, kind: Any, default: Any, text: str) -> tuple[str, Any, Any]:
    """Make an option whose default is the checkpoint's value or, from scratch, ours."""
    text = f"{text} Unset: {default}, or what init_from has."
    if name == "temperature_anneal_steps":
        text = f"{text.partition(' Unset')[0]} Unset: 90 % of all."
    return (
        (name, str, option(UNSET, text)) if kind is str else (name, kind | None, option(None, text))
    )


ModelConfig = make_dataclass(
    "ModelConfig",
    [
        *(
            model_option(name, type(default), default, "As in T5Config.")
            for name, default in SMALL_T5.items()
        ),
        *(
            model_option(f.name, f.type, f.default, field_help(T5VQVAEConfig, f.name))
            for f in dataclasses.fields(T5VQVAEConfig)
            if f.name in vars(T5VQVAEConfig)["__annotations__"]
        ),
    ],
)


def load_tokenizer(start: StartConfig, texts: list[str]) -> Any:
    """Return the tokenizer that the options name, or one made for the texts."""
    name = start.tokenizer or start.init_from
    if name is None:
        return train_tokenizer(texts, start.vocab_size, isolate_symbols=start.isolate_symbols)
    tokenizer = AutoTokenizer.from_pretrained(name)
    if start.extend_tokenizer:
        tokenizer, added = add_missing_characters(tokenizer, texts)
        if added:
            logging.info("the tokenizer lacked %s", " ".join(added))
    return tokenizer


def build_model(options: dict[str, Any], start: StartConfig, tokenizer: Any) -> Any:
    """Return a T5VQVAE, from scratch or with the weights of a T5 or a T5VQVAE."""
    given = {name: value for name, value in options.items() if value not in (None, UNSET)}
    if start.init_from is None:
        sizes = SMALL_T5 | given
        config = T5VQVAEConfig(
            **{"d_kv": sizes["d_model"] // sizes["num_heads"]} | sizes,
            vocab_size=len(tokenizer),
            pad_token_id=tokenizer.pad_token_id,
            eos_token_id=tokenizer.eos_token_id,
            decoder_start_token_id=tokenizer.pad_token_id,
        )
        return T5VQVAEForConditionalGeneration(config)
    sizes = given.keys() & SMALL_T5.keys() - {"dropout_rate"}
    if sizes:
        raise ValueError(f"{', '.join(sorted(sizes))}: init_from brings its own sizes")
    config = T5VQVAEConfig.from_pretrained(start.init_from, **given)
    model = T5VQVAEForConditionalGeneration.from_pretrained(
        start.init_from, config=config, dtype=torch.float32, use_safetensors=True
    )
    if len(tokenizer) > config.vocab_size:
        model.resize_token_embeddings(len(tokenizer))
    return model


def check_lengths(collator: TextCollator, *splits: Any) -> None:
    """Let the collator refuse a text that is too long before the training, not in its midst."""
    for split in splits:
        for begin in range(0, len(split), 1000):
            collator(split.select(range(begin, min(begin + 1000, len(split)))).to_list())


def train_autoencoder(
    training: TrainingConfig, data: TextConfig, start: StartConfig, options: dict[str, Any]
) -> dict[str, Any]:
    """Train, then score the best model on the test splits; returns what `train` does."""
    train_texts, eval_texts, tests = load_texts(data)
    tokenizer = load_tokenizer(start, train_texts["source"][:] + train_texts["target"][:])
    if options["temperature_anneal_steps"] is None:
        options["temperature_anneal_steps"] = max(
            1, round(0.9 * training.count_steps(len(train_texts)))
        )
    set_seed(training.seed)  # of the initial weights
    model = build_model(options, start, tokenizer)
    learned = model.config.latent_positions == "learned"
    collator = TextCollator(
        tokenizer,
        max_length=data.max_length or (model.config.max_latent_positions if learned else None),
        role_names=list(model.config.role_ranges) if model.config.role_ranges else None,
        rest_role=data.rest_role,
        truncation=data.truncation,
        append_eos=data.append_eos,
    )
    check_lengths(collator, train_texts, eval_texts, *tests.values())

    def before_training(accelerator: Accelerator, model: Any, loader: Any) -> None:
        quantizer = model.encoder.quantizer
        if quantizer is None or all(group.codebook_initialized for group in quantizer.groups):
            return
        start_codebook(
            accelerator,
            model,
            endless(loader),
            warmup_steps=start.codebook_warmup_steps,
            learning_rate=start.codebook_warmup_learning_rate or training.learning_rate,
            max_grad_norm=training.max_grad_norm or math.inf,
            latents_per_code=start.latents_per_code,
            seed=training.seed,
        )

    results = train(
        model,
        train_texts,
        training,
        eval_dataset=eval_texts,
        collate_fn=collator,
        evaluate=partial(
            evaluate_text_autoencoder,
            tokenizer=tokenizer if data.eval_decoding else None,
            references=eval_texts["target"][:] if data.eval_decoding else None,
        ),
        processor=tokenizer,
        before_training=before_training,
        batch_weight=lambda batch: (batch["labels"] != -100).sum(),
    )
    checkpoint = Path(results["best_model"] or results["final_model"])
    model, _ = load_text_autoencoder(checkpoint)
    accelerator = Accelerator(cpu=training.cpu)
    for name, test in tests.items():
        metrics = evaluate_text_autoencoder(
            model.to(accelerator.device),
            DataLoader(test, training.per_device_eval_batch_size, collate_fn=collator),
            accelerator,
            tokenizer=tokenizer,
            references=test["target"][:],
            score=partial(symbolic_equivalence, sources=test["source"][:])
            if data.symbolic or data.dataset in MATHEMATICS
            else None,
        )
        if accelerator.is_main_process:
            report(checkpoint, metrics, data, name, test, training.seed)
    accelerator.end_training()
    return results


def report(
    checkpoint: Path, metrics: dict[str, float], data: TextConfig, split: str, test: Any, seed: int
) -> None:
    """Write a record beside the checkpoint and print what matters most."""
    # The first split is the one that a model card asks for. Others have names of their own: test[:9] and test[9:] too.
    ending = "" if split == data.test_splits[0] else "-" + split.translate(IN_FILE_NAMES)
    path = checkpoint.parent / f"{checkpoint.name}{ending}.json"
    source = {
        "name": data.dataset,
        "split": split,
        "revision": text_revision(test),
        "novel_only": data.novel_test_texts,
        "max_samples": data.max_test_samples,
    }
    definitions = TEXT_METRIC_DEFINITIONS | PRIOR_DEFINITIONS
    name = f"{checkpoint.parent.name}/{checkpoint.name}"
    write_record(path, name, metrics, data=source, seeds=[seed], definitions=definitions)
    print(f"split {split}\n{format_figures(metrics, path, SHOWN)}")


def train_prior(training: TrainingConfig, data: TextConfig, options: PriorConfig) -> dict[str, Any]:
    """Train a prior over the codes of a checkpoint, measure it and write texts from it."""
    if options.checkpoint is None:
        raise ValueError("stage is prior: set checkpoint, the model whose codes it learns")
    model, tokenizer = load_text_autoencoder(options.checkpoint)
    train_texts, eval_texts, tests = load_texts(data)
    accelerator = Accelerator(cpu=training.cpu)
    codec = TextCodec(model.to(accelerator.device), tokenizer)
    codes = codec.encode(train_texts["source"][:])
    held_out = codec.encode(eval_texts["source"][:])
    longest = [codec.encode(test["source"][:]).shape[1] for test in tests.values()]
    set_seed(training.seed)  # of the initial weights
    prior = CodePrior.create(
        codec.codebook_size,
        codec.codes_per_token,
        max_codes=max(codes.shape[1], held_out.shape[1], *longest),
        hidden_size=options.prior_hidden_size,
        num_layers=options.prior_num_layers,
        num_heads=options.prior_num_heads,
        dropout=options.prior_dropout,
    )
    results = prior.fit(codes, training, held_out)
    if not accelerator.is_main_process:
        return results
    checkpoint = Path(results["best_model"] or results["final_model"])
    best = CodePrior.from_pretrained(checkpoint)
    for name, test in tests.items():
        table = two_part_code_length(codec, best, test["source"][:])
        pieces = sum(row["pieces"] for row in table)
        metrics = {key: sum(row[key] for row in table) / pieces for key in PRIOR_DEFINITIONS}
        report(checkpoint, metrics, data, name, test, training.seed)
    for text in codec.decode(best.sample(options.num_samples, seed=training.seed)):
        print(f"{'sample':>20} {text}")
    return results


def main(argv: Sequence[str] | None = None) -> dict[str, Any]:
    """Train what the options name; returns what `train` does."""
    classes = TrainingConfig, TextConfig, StartConfig, ModelConfig, PriorConfig
    training, data, start, model_options, prior = parse_config(*classes, argv=argv)
    if start.stage == "prior":
        return train_prior(training, data, prior)
    return train_autoencoder(training, data, start, dataclasses.asdict(model_options))


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    main()
