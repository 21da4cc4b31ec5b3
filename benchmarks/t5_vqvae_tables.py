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
"""Tables and plot of the WorldTree benchmark, from its records."""

import json
import statistics
from typing import Any

from results import (
    REPORTS,
    RESULTS,
    markdown_table,
    mean_and_spread,
    read_results,
    write_readme_block,
)
from t5_vqvae_methods import METHODS, POSITIONS, QUANTIZERS

FOLDER = "t5_vqvae_worldtree"
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
README_COLUMNS: list[Column] = [
    *RECONSTRUCTION[:3],
    CONTROL[0],
    ("smoothness of paths", "path_latent_original_mean", 1, 2),
    ("perplexity", "codebook_perplexity", 1, 0),
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


def report() -> None:
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
    tables["overhead"] = _overhead_table()
    some = next(iter(groups.values()))[0]
    numbers = {key: f"{some[key]:,}" for key in ("steps", "num_novel_texts")}
    for key, content in (tables | numbers).items():
        text = text.replace("{{" + key + "}}", content)
    (REPORTS / f"{FOLDER}.md").write_text(text, encoding="utf-8")
    _plot(groups)
    write_readme_block(
        "t5_vqvae",
        "WorldTree, 3,440 test sentences written again from their codes, one of 4,096 for each piece; the same "
        f"small T5 from scratch and the same {some['steps']:,} updates (minutes on one CPU core), only what is "
        "between encoder and decoder differs; mean ± standard deviation over seeds. Noun: one subject is replaced "
        "through its codes. Smoothness of straight paths between sentences: higher is smoother. Protocol, "
        "definitions and more rows are in "
        f"[docs/results/{FOLDER}.md](docs/results/{FOLDER}.md).\n\n"
        + _table(groups, QUANTIZERS, README_COLUMNS),
    )


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


def _overhead_table() -> str:
    path = RESULTS / "t5_vqvae_overhead.json"
    if not path.exists():
        return "None has been recorded yet."
    record = json.loads(path.read_text(encoding="utf-8"))
    rows = [
        [f"{size}, {what}"]
        + [
            f"{found['milliseconds'][name]:.1f} ({found['ratio_to_plain'][name]:.3f})"
            for name in found["milliseconds"]
        ]
        for size, kinds in record["sizes"].items()
        for what, found in kinds.items()
    ]
    names = next(iter(next(iter(record["sizes"].values())).values()))["milliseconds"]
    return markdown_table(["size", *names], rows)


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
