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

"""T5VQVAE on explanatory sentences: the same T5, updates and data, only what is between encoder and decoder differs.

    python benchmarks/t5_vqvae_worldtree.py run --methods ema none --seeds 0 1 2     # any subset
    python benchmarks/t5_vqvae_worldtree.py smoke       # does everything run?
    python benchmarks/t5_vqvae_worldtree.py report      # tables and plot in docs/results/

12,000 + 3,440 WorldTree sentences, the authors' split, 5 % of the training part held out to select the best weights.
The T5 is small and starts from scratch, with a tokenizer of the training part. Every run is one JSON record in
benchmarks/results/t5_vqvae_worldtree/; a finished run is not repeated.
"""

import argparse
import logging
import random
import tempfile
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
from results import RESULTS
from t5_vqvae_loop import LoopConfig, bucketed_batches, fit
from t5_vqvae_methods import CODES, METHODS, SIZE, Model, build_model
from t5_vqvae_peers import SentenceVAE, count_parameters
from t5_vqvae_scores import (
    VECTORS,
    draw_substitutions,
    paths_of_codes,
    paths_of_latents,
    score_edits,
    score_paths,
    score_substitutions,
    word_order_errors,
    word_vectors,
)
from t5_vqvae_tables import FOLDER, report
from torch.utils.data import DataLoader

from hf_vq.evaluation import write_record
from hf_vq.interpolation_smoothness import choose_pairs
from hf_vq.latent_operations import TextCodec
from hf_vq.text_data import (
    TextCollator,
    check_splits_disjoint,
    decode_texts,
    load_text_dataset,
    text_revision,
    train_tokenizer,
)
from hf_vq.text_evaluation import TEXT_METRIC_DEFINITIONS, evaluate_text_autoencoder
from hf_vq.text_metrics import bleu1, corpus_bleu4, exact_match

_PATHS = "paths of 11 sentences between seeded pairs of test sentences"
DEFINITIONS = TEXT_METRIC_DEFINITIONS | {
    "novel_exact_match": "exact_match over test sentences that are in the training part in no spelling",
    "novel_bleu1": "bleu1 over the same",
    "novel_corpus_bleu4": "corpus_bleu4 over the same",
    "num_novel_texts": "number of such test sentences",
    "word_order_errors": "share of texts that have the words of the reference in another order",
    "kl_loss": "divergence before its weight, in nats; of a VAE for a sentence, of a codebook for a position",
    "substitution_success": "share of substitutions of one subject noun after which the decoded sentence "
    "has the new noun, lacks the old one, and has all other content words",
    "substitution_exact_match": "share of them whose decoded sentence equals the edited string",
    "substitution_ceiling": "substitution_success of reconstructions of the edited strings",
    "num_substitutions": "number of substitutions",
    "edit_effect": "share of edits that change the decoded sentence; an edit puts one of the 5 nearest other "
    "codes into one seeded position",
    "edit_locality": "share of the edits with effect after which at most one word differs",
    "edit_distance": "mean word-level edit distance of the edits with effect",
    "parameters": "numbers that are learned, codebooks included",
    "steps": "updates, those before the codebook's start included",
    "best_step": "update whose weights are used, by the validation loss",
    "validation_nll": "nll of the held-out 5 % of the training sentences at that update",
    "train_seconds": "wall time of training, of a machine that other work shared",
    "threads": "CPU threads of the run",
}


@dataclass
class Setting:
    """How large a run is."""

    loop: LoopConfig
    size: dict[str, Any]
    codebook_size: int
    num_draws: int = 200


@dataclass
class Data:
    """The sentences, and what is made of them once for all runs."""

    train: list[dict]
    validation: list[dict]
    test: list[dict]
    revision: str
    vocab_size: int

    @classmethod
    def load(cls, path: str, vocab_size: int) -> "Data":
        """Read the splits; the test sentences come shortest first, which decodes faster."""
        columns = {"source_column": "text", "role_column": "roles"}
        training = load_text_dataset(path, "train", **columns)
        test = load_text_dataset(path, "test", **columns)
        novel = set(check_splits_disjoint(training, test).novel_rows)
        rows = [row | {"novel": i in novel} for i, row in enumerate(test.to_list())]
        rows.sort(key=lambda row: len(row["source"]))
        parts = training.train_test_split(0.05, seed=0)
        splits = parts["train"].to_list(), parts["test"].to_list(), rows
        return cls(*splits, text_revision(test), vocab_size)

    @cached_property
    def tokenizer(self) -> Any:
        """A tokenizer of the training part."""
        return train_tokenizer([row["source"] for row in self.train], self.vocab_size)

    @cached_property
    def collate(self) -> TextCollator:
        """Rows to a batch."""
        return TextCollator(self.tokenizer)

    @cached_property
    def lengths(self) -> list[int]:
        """Pieces of each training sentence."""
        return [
            len(ids) for ids in self.tokenizer([row["source"] for row in self.train])["input_ids"]
        ]

    @cached_property
    def vectors(self) -> dict:
        """Word vectors, for distances of sentences."""
        return word_vectors([row["source"] for row in self.train])

    def loader(self, rows: list[dict]) -> DataLoader:
        """Batches in the order of the rows."""
        return DataLoader(rows, 128, collate_fn=self.collate)


def run(name: str, seed: int, data: Data, setting: Setting, folder: Path) -> None:
    """Train and score one method once; the record is the proof that it is done."""
    path = folder / f"{name}-seed{seed}.json"
    if path.exists():
        print(f"{path.name}: already there")
        return
    model = build_model(
        name, data.tokenizer, setting.size, setting.codebook_size, setting.loop.steps, seed
    )
    start = setting.loop.codebook_start if METHODS[name].from_latents else 0
    loop = LoopConfig(**vars(setting.loop) | {"codebook_start": start})
    batches = bucketed_batches(data.train, data.lengths, loop.batch_size, seed, data.collate)
    validation = data.loader(data.validation)
    metrics = fit(
        model, batches, loop, lambda m: evaluate_text_autoencoder(m, validation)["nll"], seed
    )
    metrics["parameters"] = count_parameters(model)
    references = [row["source"] for row in data.test]
    novel = [row["novel"] for row in data.test]
    metrics |= evaluate_text_autoencoder(
        model,
        data.loader(data.test),
        tokenizer=data.tokenizer,
        references=references,
        score=partial(score_texts, novel=novel),
    )
    definitions = DEFINITIONS | score_control(model, data, setting, metrics)
    print(
        f"{path.stem}: exact match {100 * metrics['exact_match']:.1f} %, "
        f"BLEU-4 {metrics['corpus_bleu4']:.1f}",
        flush=True,
    )
    write_record(
        path,
        path.stem,
        metrics,
        data={"name": "WorldTree", "split": "test", "revision": data.revision},
        seeds=[seed],
        definitions=definitions,
    )


def score_texts(
    predictions: list[str], references: list[str], novel: list[bool]
) -> dict[str, float]:
    """Figures of the test sentences that are new, and of word order."""
    pairs = zip(predictions, references, novel, strict=True)
    written, wanted = zip(*[(p, r) for p, r, is_new in pairs if is_new], strict=True)
    return {
        "novel_exact_match": exact_match(written, wanted),
        "novel_bleu1": bleu1(written, wanted),
        "novel_corpus_bleu4": corpus_bleu4(written, wanted),
        "num_novel_texts": len(written),
        "word_order_errors": word_order_errors(predictions, references),
    }


@torch.no_grad()
def score_control(
    model: Model, data: Data, setting: Setting, metrics: dict[str, float]
) -> dict[str, str]:
    """Add the figures of control to the metrics, and return the definitions that come with them."""
    number = setting.num_draws
    sentences = [row["source"] for row in data.test]
    pairs = choose_pairs(sentences, data.vectors, num_pairs=number)
    if isinstance(model, SentenceVAE):
        kinds = {"latent": _paths_of_sentence_latents(model, data, pairs)}
    elif model.encoder.quantizer is None:
        return {}
    else:
        codec = TextCodec(model, data.tokenizer, batch_size=128)
        kinds = {kind: paths_of_codes(codec, pairs, kind) for kind in ("latent", "staggered")}
        metrics |= score_substitutions(codec, draw_substitutions(data.test, number, seed=0))
        texts = random.Random(0).sample(sentences, number // 2)
        metrics |= score_edits(codec, texts, seed=0)
    definitions = {}
    for kind, paths in kinds.items():
        found = score_paths(paths, pairs, data.vectors, f"path_{kind}")
        metrics |= found
        definitions |= {
            name: f"{name.removeprefix(f'path_{kind}_')} of hf_vq.interpolation_smoothness, over {_PATHS}; "
            f"method {kind}; word vectors: {VECTORS}"
            for name in found
        }
    return definitions


def _paths_of_sentence_latents(
    model: SentenceVAE, data: Data, pairs: list[tuple[str, str]]
) -> list[list[str]]:
    texts = [{"source": text} for pair in pairs for text in pair]
    latents = torch.cat([model.encode(**batch).mean for batch in data.loader(texts)])

    def decode(points: torch.Tensor) -> list[str]:
        written = []
        for part in points.split(128):
            ids = model.generate_from_latents(part, max_new_tokens=64, do_sample=False)
            written += decode_texts(data.tokenizer, ids)
        return written

    return paths_of_latents(latents.unflatten(0, (-1, 2)), decode)


def smoke() -> None:
    """Every method for a few steps: that it runs and gives figures, not how good it is."""
    # An untrained model writes the same nonsense all along a path, which has no smoothness.
    logging.getLogger("hf_vq.evaluation").setLevel(logging.ERROR)
    generator = random.Random(0)
    nouns = [a + b for a in ("ro", "ti", "mu", "ka") for b in ("ck", "ger", "d", "lent", "bo")]
    sentences = {
        f"a {generator.choice(nouns)} is a kind of {generator.choice(nouns)}" for _ in range(400)
    }
    roles = ["ARG1", "ARG1", "V", *["ARG2"] * 4]
    rows = [
        {"source": text, "target": text, "roles": roles, "novel": i % 2 == 0}
        for i, text in enumerate(sorted(sentences))
    ]
    data = Data(rows[:96], rows[96:112], rows[112:136], "none", vocab_size=140)
    size = SIZE | {"d_model": 16, "d_kv": 8, "num_heads": 2, "d_ff": 32, "num_layers": 2}
    loop = LoopConfig(steps=4, codebook_start=2, batch_size=16, evaluations=1)
    setting = Setting(loop, size, codebook_size=16, num_draws=4)
    with tempfile.TemporaryDirectory() as folder:
        for name in METHODS:
            run(name, 0, data, setting, Path(folder))


def main() -> None:
    """Parse and dispatch."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    subparsers = parser.add_subparsers(dest="command", required=True)
    run_parser = subparsers.add_parser("run", help="train and score")
    run_parser.add_argument("--methods", nargs="+", required=True, choices=METHODS)
    run_parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    run_parser.add_argument("--steps", type=int, default=1600, help="updates")
    run_parser.add_argument(
        "--codebook-start", type=int, default=300, help="of these, before there is a codebook"
    )
    run_parser.add_argument("--vocab-size", type=int, default=1000, help="pieces of the tokenizer")
    run_parser.add_argument("--data", default=".data/worldtree", help="folder or Hub id")
    run_parser.add_argument("--threads", type=int, default=1)
    for name, purpose in (("smoke", "every method for a few steps"), ("report", "tables, plot")):
        subparsers.add_parser(name, help=purpose).add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.command == "run":
        data = Data.load(arguments.data, arguments.vocab_size)
        loop = LoopConfig(arguments.steps, arguments.codebook_start)
        setting = Setting(loop, SIZE, CODES["codebook_size"])
        for seed in arguments.seeds:
            for name in arguments.methods:
                run(name, seed, data, setting, RESULTS / FOLDER)
    else:
        {"smoke": smoke, "report": report}[arguments.command]()


if __name__ == "__main__":
    main()
