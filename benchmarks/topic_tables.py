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
"""Tables and plots of the topic benchmark, from its records."""

import json
import statistics
from collections import defaultdict
from typing import Any

from results import (
    REPORTS,
    RESULTS,
    markdown_table,
    mean_and_spread,
    read_results,
    write_readme_block,
)
from topic_corpora import CORPORA
from topic_methods import LABELS, OURS

from hf_vq.topics.metrics import topic_stability

FOLDER = "topic_text"
# Header, figure, digits, whether more is better; None where it is neither.
Column = tuple[str, str, int, bool | None]
HEADLINE: list[Column] = [
    ("NPMI", "npmi", 3, True),
    ("diversity@10", "diversity_10", 3, True),
    ("k-means purity", "kmeans_purity", 3, True),
    ("k-means NMI", "kmeans_nmi", 3, True),
]
COHERENCE: list[Column] = [
    ("NPMI, best half", "npmi_best_half", 3, True),
    ("C_V", "c_v", 3, True),
    ("diversity@25", "diversity_25", 3, True),
    ("words of one topic only", "unique_words_10", 3, True),
    ("inverted RBO", "inverted_rbo", 3, True),
    ("topics", "num_topics", 0, None),
]
DOCUMENTS: list[Column] = [
    ("top purity", "top_purity", 3, True),
    ("top NMI", "top_nmi", 3, True),
    ("own purity", "own_purity", 3, None),
    ("own NMI", "own_nmi", 3, None),
    ("purity, k = classes", "kmeans_classes_purity", 3, True),
    ("NMI, k = classes", "kmeans_classes_nmi", 3, True),
    ("probe accuracy", "probe_accuracy", 3, True),
    ("perplexity", "perplexity", 0, False),
    ("active topics", "active_topics", 0, None),
    ("fit, s of CPU", "train_cpu_seconds", 0, False),
    ("place, s of CPU", "place_cpu_seconds", 1, False),
]
RERANKED: list[Column] = [
    ("NPMI", "npmi", 3, True),
    ("diversity@10", "diversity_10", 3, True),
    ("NPMI, our ranking", "reranked_npmi", 3, True),
    ("diversity@10, our ranking", "reranked_diversity_10", 3, True),
]
# A setting is a corpus and a number of topics; a group is its records of one method, one for each seed.
Groups = dict[tuple[str, int], dict[str, list[dict[str, Any]]]]
NOTHING = "None has been recorded yet."


def read_groups() -> Groups:
    """The records, by corpus and number of topics, and then by method, in the order of `LABELS`."""
    found: dict[tuple[str, int], dict[str, list]] = defaultdict(lambda: defaultdict(list))
    for stem, record in read_results(FOLDER).items():
        corpus, method, topics, _ = stem.split("-")
        found[corpus, int(topics.removeprefix("k"))][method].append(record)
    return {
        setting: {name: methods[name] for name in LABELS if name in methods}
        for setting, methods in sorted(found.items())
    }


def report() -> None:
    """Render docs/results/topic_text.md and its plots from the records."""
    groups = read_groups()
    text = (REPORTS / f"{FOLDER}.template.md").read_text(encoding="utf-8")
    parts = {"speed": _speed_table(), "state": _state(groups), "winners": _winners(groups)}
    for corpus in CORPORA:
        for kind, table in (
            ("headline", _headline),
            ("coherence", lambda methods: _table(methods, COHERENCE)),
            ("documents", lambda methods: _table(methods, DOCUMENTS)),
            ("reranked", lambda methods: _table(methods, RERANKED)),
        ):
            tables = [
                f"K = {k}\n\n{table(methods)}"
                for (name, k), methods in groups.items()
                if name == corpus and k in (20, 50)
            ]
            parts[f"{kind}_{corpus}"] = "\n\n".join(tables) or NOTHING
    for key, content in parts.items():
        text = text.replace("{{" + key + "}}", content)
    (REPORTS / f"{FOLDER}.md").write_text(text, encoding="utf-8")
    _plot(groups)
    write_readme_block(
        "topic_vq",
        "20 Newsgroups, the same documents, vocabulary and encoder for every method; topics scored by their 10 best "
        "words, all topics, and k-means on the proportions of test documents; mean ± standard deviation over seeds. "
        "What of it is the ranking of words, other corpora, speed and what has not been run: "
        f"[docs/results/{FOLDER}.md](docs/results/{FOLDER}.md).\n\n"
        + parts["headline_20newsgroups"],
    )


def _values(records: list[dict], key: str) -> list[float]:
    figures = [record["metrics"].get(key) for record in records]
    return [value for value in figures if value is not None]


def _mean(records: list[dict], key: str) -> float | None:
    values = _values(records, key)
    return statistics.mean(values) if values else None


def _cell(records: list[dict], key: str, digits: int, best: bool = False) -> str:
    values = _values(records, key)
    if not values:
        return "–"
    text = mean_and_spread(values, digits)
    return f"**{text}**" if best else text


def _best(methods: dict[str, list], key: str, more_is_better: bool | None) -> str | None:
    means = {name: _mean(records, key) for name, records in methods.items()}
    known = {name: value for name, value in means.items() if value is not None}
    if len(known) < 2 or more_is_better is None:
        return None
    return (max if more_is_better else min)(known, key=lambda name: known[name])


def _table(methods: dict[str, list], columns: list[Column]) -> str:
    best = {key: _best(methods, key, more) for _, key, _, more in columns}
    rows = [
        [LABELS[name]]
        + [_cell(records, key, digits, best[key] == name) for _, key, digits, _ in columns]
        + [str(len(records))]
        for name, records in methods.items()
    ]
    return markdown_table(["", *(column[0] for column in columns), "seeds"], rows)


def mean_ranks(methods: dict[str, list]) -> dict[str, float]:
    """The mean of each method's ranks by the headline figures; equals share the mean of their ranks."""
    ranks: dict[str, list[float]] = {name: [] for name in methods}
    for _, key, _, _ in HEADLINE:
        means = {name: _mean(records, key) for name, records in methods.items()}
        if None in means.values():
            continue
        for name, value in means.items():
            above = sum(other > value for other in means.values())
            equal = sum(other == value for other in means.values())
            ranks[name].append(above + (equal + 1) / 2)
    return {name: statistics.mean(found) for name, found in ranks.items() if found}


def _headline(methods: dict[str, list]) -> str:
    ranks = mean_ranks(methods)
    keys = [*HEADLINE, ("NPMI x diversity", "topic_quality", 3, True)]
    best = {key: _best(methods, key, more) for _, key, _, more in keys}
    rows = []
    for name in sorted(methods, key=lambda name: ranks[name]):
        records = methods[name]
        cells = [_cell(records, key, digits, best[key] == name) for _, key, digits, _ in keys]
        topics = [record["data"]["topics"] for record in records]
        split = [[words.split() for words in run] for run in topics]
        stable = f"{topic_stability(split):.2f}" if len(split) > 1 else "–"
        rows.append([LABELS[name], f"{ranks[name]:.2f}", *cells, stable, str(len(records))])
    header = ["", "mean rank", *(column[0] for column in keys), "stability", "seeds"]
    return markdown_table(header, rows)


def _winners(groups: Groups) -> str:
    """One sentence for each setting: who is first by rank and by each figure."""
    lines = []
    for (corpus, k), methods in groups.items():
        if k not in (20, 50) or len(methods) < 2:
            continue
        ranks = mean_ranks(methods)
        first = min(ranks, key=lambda name: ranks[name])
        others = [
            f"{header}: {LABELS[name]}"
            for header, key, _, more in [*HEADLINE, ("NPMI x diversity", "topic_quality", 3, True)]
            if (name := _best(methods, key, more)) is not None
        ]
        lines.append(
            f"- {CORPORA[corpus]}, K = {k}, {len(methods)} methods: best mean rank {LABELS[first]} "
            f"({ranks[first]:.2f}); {'; '.join(others)}."
        )
    return "\n".join(lines) or NOTHING


def _state(groups: Groups) -> str:
    """What has been run, so that nobody takes a part for the whole."""
    lines = []
    for (corpus, k), methods in groups.items():
        missing = [LABELS[name] for name in LABELS if name not in methods]
        if missing and k in (20, 50):
            lines.append(f"- {CORPORA[corpus]}, K = {k}: not run yet: {', '.join(missing)}.")
    settings = {(corpus, k) for corpus in CORPORA for k in (20, 50)} - groups.keys()
    lines += [f"- {CORPORA[corpus]}, K = {k}: nothing run yet." for corpus, k in sorted(settings)]
    return "\n".join(lines) or "Every method has been run in every setting."


def _speed_table() -> str:
    path = RESULTS / "topic_speed.json"
    if not path.exists():
        return NOTHING
    record = json.loads(path.read_text(encoding="utf-8"))
    keys = ("first_fit_seconds", "fit_seconds", "fit_cpu_seconds", "transform_seconds")
    rows = [
        [
            LABELS[name],
            *(f"{found[key]:.1f}" for key in keys),
            f"{found['saved_megabytes']:.1f}" if "saved_megabytes" in found else "–",
            "yes" if found["same_with_one_seed"] else "no",
        ]
        for name, found in record["methods"].items()
    ]
    header = ["", "first fit, s", "second fit, s", "its CPU, s", "place, s", "saved, MB"]
    table = markdown_table([*header, "two runs with one seed are equal"], rows)
    ours, peer = record["methods"]["topic_vq"], record["methods"]["bertopic"]
    first, again, placed = (peer[key] / ours[key] for key in (keys[0], keys[1], keys[3]))
    return (
        f"{table}\n\n{record['corpus']}, K = {record['num_topics']}, {record['new_documents']:,} new documents, "
        f"{record['threads']} thread{'s' * (record['threads'] > 1)}: BERTopic takes {first:.1f} times our time "
        f"for the first fit, {again:.1f} times for the second, and {placed:.1f} times to place documents."
    )


def _plot(groups: Groups) -> None:
    """NPMI and diversity over the number of topics, one row of pictures for each corpus."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    corpora = [name for name in CORPORA if any(corpus == name for corpus, _ in groups)]
    if not corpora:
        return
    figure, axes = pyplot.subplots(
        len(corpora), 2, figsize=(9, 3.2 * len(corpora)), squeeze=False, sharex=True
    )
    for row, corpus in zip(axes, corpora, strict=True):
        for axis, (header, key, _, _) in zip(row, HEADLINE[:2], strict=True):
            for name, label in LABELS.items():
                points = [
                    (k, _mean(methods[name], key))
                    for (found, k), methods in groups.items()
                    if found == corpus and name in methods
                ]
                style = {"linewidth": 2.2} if name in OURS else {"linestyle": "--"}
                if points:
                    axis.plot(*zip(*points, strict=True), marker="o", label=label, **style)
            axis.set(title=f"{CORPORA[corpus]}: {header}", xlabel="topics")
    handles: dict[str, Any] = {}
    for axis in axes.flat:
        handles |= {line.get_label(): line for line in axis.get_lines()}
    figure.legend(handles.values(), handles, loc="lower center", ncols=4, fontsize=7)
    figure.tight_layout(rect=(0, 0.3 / len(corpora) / 2, 1, 1))
    figure.savefig(REPORTS / f"{FOLDER}.png", dpi=110)
    pyplot.close(figure)
