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
import random
import statistics
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
from results import REPORTS, RESULTS, markdown_table, mean_and_spread, read_results
from t5_vqvae_loop import LoopConfig, bucketed_batches, fit
from t5_vqvae_peers import (
    SentenceVAE,
    VectorQuantizeCodes,
    count_parameters,
    matched_free_bits,
    without_encoder,
)
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
from torch.utils.data import DataLoader
from transformers import T5Config

from hf_vq import T5VQVAEConfig, T5VQVAEForConditionalGeneration
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

Model = Any
FOLDER = "t5_vqvae_worldtree"
# The T5 of every method.
SIZE = {
    "d_model": 192,
    "d_kv": 32,
    "num_heads": 6,
    "d_ff": 768,
    "num_layers": 2,
    "dropout_rate": 0.0,
    "feed_forward_proj": "relu",
}
CODES = {
    "codebook_size": 4096,
    "commitment_loss_weight": 5.0,
    "revival_threshold": 0.01,
    "latent_positions": "cross_bias",
}
# For ema, what starts a codebook well, and keeps it alive.
UNAIDED = {"revival_threshold": 0}
MIXTURE = {"quantizer": "gaussian_mixture", "revival_threshold": 0}


@dataclass
class Method:
    """What is between encoder and decoder.

    Args:
        label: its name in the tables.
        config: fields of `T5VQVAEConfig`.
        change: what is done to the fresh model.
        from_latents: whether the codebook starts from the latents of a plain autoencoder.
    """

    label: str
    config: dict[str, Any] = field(default_factory=dict)
    change: Callable[[Model], Model] = lambda model: model
    from_latents: bool = True


def with_peer_codes(model: Model) -> Model:
    """Put vector-quantize-pytorch's codebook in place of ours."""
    model.encoder.quantizer = VectorQuantizeCodes(model.config.codebook_size, model.config.d_model)
    return model


def with_random_codes(model: Model) -> Model:
    """Say that the codebook has had its start: normal numbers."""
    for group in model.encoder.quantizer.groups:
        group.codebook_initialized.fill_(True)
    return model


METHODS = {
    "ema": Method("EMA codebook (ours)"),
    "gaussian_mixture": Method(
        "Gaussian-mixture codebook (ours)",
        {**MIXTURE, "relaxation": "straight_through", "codebook_update": "ema"}
        | {"kl_loss_weight": 0.01, "revival_threshold": 0.01},
    ),
    "gumbel": Method(
        "Gumbel-softmax codebook",
        {**MIXTURE, "variance": "none", "kl_loss_weight": 1e-3},
    ),
    "kmeans": Method("k-means codebook, then fixed", {**UNAIDED, "ema_decay": 0.999999}),
    "gradient": Method(
        "k-means start, codebook by gradient",
        {**MIXTURE, "relaxation": "straight_through", "kl_loss_weight": 0.0},
    ),
    "ema_random": Method(
        "EMA codebook, random start, no revival", UNAIDED, with_random_codes, from_latents=False
    ),
    "vq_pytorch": Method("vector-quantize-pytorch, EMA", {}, with_peer_codes),
    "token_identity": Method("token identity: no encoder", {}, without_encoder, from_latents=False),
    "none": Method("no quantizer", {"quantizer": "none"}),
    "learned_positions": Method("EMA codebook, learned positions", {"latent_positions": "learned"}),
    "no_positions": Method("EMA codebook, no positions", {"latent_positions": "none"}),
    "none_learned_positions": Method(
        "no quantizer, learned positions", {"quantizer": "none", "latent_positions": "learned"}
    ),
    "none_no_positions": Method(
        "no quantizer, no positions", {"quantizer": "none", "latent_positions": "none"}
    ),
    "vae": Method("Optimus-style VAE, 32 dimensions"),
    "vae_wide": Method("Optimus-style VAE, 256 dimensions, as many bits as the codes"),
}
QUANTIZERS = (
    *("none", "ema", "gaussian_mixture", "vq_pytorch", "gumbel", "gradient", "kmeans"),
    *("ema_random", "token_identity", "vae_wide", "vae"),
)
POSITIONS = (
    *("ema", "learned_positions", "no_positions"),
    *("none", "none_learned_positions", "none_no_positions"),
)

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


def build_model(name: str, data: Data, setting: Setting, seed: int) -> Model:
    """A fresh model."""
    torch.manual_seed(seed)
    method, tokenizer = METHODS[name], data.tokenizer
    t5 = setting.size | {
        "vocab_size": len(tokenizer),
        "pad_token_id": tokenizer.pad_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "decoder_start_token_id": tokenizer.pad_token_id,
    }
    steps = setting.loop.steps
    if name == "vae":
        return SentenceVAE(T5Config(**t5), 32, beta=1.0, free_bits=0.5, num_updates=steps)
    if name == "vae_wide":
        # The codes have about 9 bits for each of about 16 positions.
        free_bits = matched_free_bits(rate=9, positions=16, latent_dim=256)
        return SentenceVAE(T5Config(**t5), 256, beta=1.0, free_bits=free_bits, num_updates=steps)
    codes = CODES | {"codebook_size": setting.codebook_size}
    config = T5VQVAEConfig(
        **t5, **(codes | method.config), temperature_anneal_steps=max(1, int(0.8 * steps))
    )
    return method.change(T5VQVAEForConditionalGeneration(config))


def run(name: str, seed: int, data: Data, setting: Setting, folder: Path) -> None:
    """Train and score one method once; the record is the proof that it is done."""
    path = folder / f"{name}-seed{seed}.json"
    if path.exists():
        print(f"{path.name}: already there")
        return
    model = build_model(name, data, setting, seed)
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


# Header, figure, factor, digits.
Column = tuple[str, str, float, int]
RECONSTRUCTION: list[Column] = [
    ("exact match %", "exact_match", 100, 1),
    ("BLEU-1", "bleu1", 1, 3),
    ("BLEU-4", "corpus_bleu4", 1, 1),
    ("new sentences: exact match %", "novel_exact_match", 100, 1),
    ("NLL", "nll", 1, 3),
    ("usage %", "codebook_usage", 100, 1),
    ("perplexity", "codebook_perplexity", 1, 0),
    ("bits", "rate", 1, 2),
    ("parameters e6", "parameters", 1e-6, 1),
    ("minutes", "train_seconds", 1 / 60, 0),
]
CONTROL: list[Column] = [
    ("noun substituted %", "substitution_success", 100, 1),
    ("ceiling %", "substitution_ceiling", 100, 1),
    ("edits with effect %", "edit_effect", 100, 1),
    ("of these local %", "edit_locality", 100, 1),
    ("words changed", "edit_distance", 1, 2),
]
PATHS: list[Column] = [
    ("IS, original", "{}_original_mean", 1, 3),
    ("IS, decoded", "{}_decoded_mean", 1, 3),
    ("sentences", "{}_distinct", 1, 1),
    ("largest step", "{}_max_step_share", 1, 2),
]
ORDER: list[Column] = [
    ("exact match %", "exact_match", 100, 1),
    ("BLEU-4", "corpus_bleu4", 1, 1),
    ("right words, wrong order %", "word_order_errors", 100, 2),
    ("perplexity", "codebook_perplexity", 1, 0),
    ("substituted exactly %", "substitution_exact_match", 100, 1),
    ("edits local %", "edit_locality", 100, 1),
    ("words changed", "edit_distance", 1, 2),
]


def report(arguments: argparse.Namespace) -> None:
    """Render docs/results/t5_vqvae_worldtree.md and its plot from the records."""
    groups: dict[str, list[dict]] = {}
    for stem, record in read_results(FOLDER).items():
        groups.setdefault(stem.rsplit("-seed", 1)[0], []).append(record["metrics"])
    text = (REPORTS / f"{FOLDER}.template.md").read_text(encoding="utf-8")
    control = [name for name in QUANTIZERS if "substitution_success" in groups.get(name, [{}])[0]]
    tables = {
        "reconstruction": _table(groups, QUANTIZERS, RECONSTRUCTION),
        "control": _table(groups, control, CONTROL),
        "positions": _table(groups, POSITIONS, ORDER),
    }
    for kind in ("latent", "staggered"):
        columns = [(header, key.format(f"path_{kind}"), *rest) for header, key, *rest in PATHS]
        named = [name for name in QUANTIZERS if columns[0][1] in groups.get(name, [{}])[0]]
        tables[f"paths_{kind}"] = _table(groups, named, columns)
    for key, table in tables.items():
        text = text.replace("{{" + key + "}}", table)
    (REPORTS / f"{FOLDER}.md").write_text(text, encoding="utf-8")
    _plot(groups)


def _table(groups: dict[str, list[dict]], names: Any, columns: list[Column]) -> str:
    rows = []
    for name in names:
        if name in groups:
            cells = [_cell(groups[name], *column[1:]) for column in columns]
            rows.append([METHODS[name].label, *cells, str(len(groups[name]))])
    header = ["between encoder and decoder", *(column[0] for column in columns), "seeds"]
    return markdown_table(header, rows) if rows else "None has been recorded yet."


def _cell(runs: list[dict], key: str, factor: float, digits: int) -> str:
    values = [factor * run[key] for run in runs if run.get(key) is not None]
    return mean_and_spread(values, digits) if values else "–"


def _plot(groups: dict[str, list[dict]]) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    names = [name for name in dict.fromkeys((*QUANTIZERS, *POSITIONS)) if name in groups]
    figure, axes = pyplot.subplots(figsize=(7, 0.35 * len(names) + 1.2))
    for place, name in enumerate(reversed(names)):
        values = [100 * run["exact_match"] for run in groups[name]]
        ours = "(ours)" in METHODS[name].label
        axes.barh(place, statistics.mean(values), color="tab:blue" if ours else "tab:gray")
        axes.plot(values, [place] * len(values), "k.", markersize=4)
    axes.set_yticks(
        range(len(names)), [METHODS[name].label for name in reversed(names)], fontsize=7
    )
    axes.set(xlabel="exact match %, 3,440 test sentences", title="WorldTree, equal updates")
    figure.tight_layout()
    figure.savefig(REPORTS / f"{FOLDER}.png", dpi=120)


def smoke(arguments: argparse.Namespace) -> None:
    """Every method for a few steps: that it runs and gives figures, not how good it is."""
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
    size = SIZE | {"d_model": 16, "d_kv": 8, "num_heads": 2, "d_ff": 32, "num_layers": 1}
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
        {"smoke": smoke, "report": report}[arguments.command](arguments)


if __name__ == "__main__":
    main()
