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
"""Tables of topic_ablations.py, from its records."""

import re
from collections import defaultdict
from typing import Any

from results import REPORTS, markdown_table, mean_and_spread, read_results
from topic_corpora import CORPORA

FOLDER = "topic_ablations"
# Header, figure, digits.
Column = tuple[str, str, int]
QUALITY: list[Column] = [
    ("NPMI", "npmi", 3),
    ("diversity@10", "diversity_10", 3),
    ("k-means purity", "kmeans_purity", 3),
    ("k-means NMI", "kmeans_nmi", 3),
    ("perplexity", "perplexity", 0),
]
COLUMNS: dict[str, list[Column]] = {
    "levers": QUALITY,
    "codebook": [
        *QUALITY[:4],
        ("codes in use", "used_codes", 0),
        ("their perplexity", "code_perplexity", 1),
    ],
    "expansion": QUALITY,
    "vocabulary": [
        *QUALITY,
        ("unigram perplexity", "unigram_perplexity", 0),
        ("fit, s of CPU", "train_cpu_seconds", 0),
        ("saved, MB", "saved_megabytes", 1),
    ],
    "encoder": QUALITY,
    "skew": [
        *QUALITY[:4],
        ("probe macro F1", "probe_macro_f1", 3),
        ("covered classes", "covered_classes", 1),
        ("of the rarer half", "covered_rare_classes", 1),
    ],
    "neighbors": [
        ("correlation of cosine and shared codes", "code_overlap_correlation", 3),
        ("hyperplanes", "hyperplane_correlation", 3),
        ("permuted", "permuted_overlap_correlation", 3),
        ("recall of 10 neighbors", "neighbor_recall", 3),
        ("by chance", "chance_recall", 4),
        ("code and class, NMI", "code_class_nmi", 3),
        ("permuted codes", "permuted_code_class_nmi", 3),
        ("NPMI of words of a code", "shared_code_npmi", 3),
        ("of matched words", "matched_npmi", 3),
    ],
}
NAME = re.compile(r"(?P<experiment>\w+)-(?P<corpus>\w+)-(?P<row>.+)-k(?P<topics>\d+)-seed\d+")
Groups = dict[tuple[str, str, int], dict[str, list[dict[str, Any]]]]


def read_groups() -> Groups:
    """Records by experiment, corpus and number of topics, and then by row; of each row one for each seed."""
    found: Groups = defaultdict(lambda: defaultdict(list))
    for stem, record in read_results(FOLDER).items():
        name = NAME.fullmatch(stem)
        if name is None:
            raise ValueError(f"{stem}.json is not a record of {FOLDER}")
        key = name["experiment"], name["corpus"], int(name["topics"])
        found[key][name["row"]].append(record)
    return dict(sorted(found.items()))


def report() -> None:
    """Render docs/results/topic_ablations.md from its template and the records."""
    text = (REPORTS / f"{FOLDER}.template.md").read_text(encoding="utf-8")
    groups = read_groups()
    for experiment, columns in COLUMNS.items():
        parts = [
            f"{CORPORA[corpus]}{f', K = {topics}' if topics else ''}\n\n{_table(found, columns)}"
            for (name, corpus, topics), found in groups.items()
            if name == experiment
        ]
        text = text.replace("{{" + experiment + "}}", "\n\n".join(parts) or "Not run yet.")
    (REPORTS / f"{FOLDER}.md").write_text(text, encoding="utf-8")


def _table(found: dict[str, list[dict[str, Any]]], columns: list[Column]) -> str:
    shown = [column for column in columns if any(_values(r, column[1]) for r in found.values())]
    rows = [
        [row.replace("-", " "), *(_cell(records, key, digits) for _, key, digits in shown)]
        + [str(len(records))]
        for row, records in sorted(found.items(), key=lambda item: _natural(item[0]))
    ]
    return markdown_table(["", *(header for header, _, _ in shown), "seeds"], rows)


def _natural(row: str) -> list[Any]:
    """Numbers by size."""
    parts = re.split(r"(\d+(?:\.\d+)?)", row)
    return [float(part) if i % 2 else part for i, part in enumerate(parts)]


def _values(records: list[dict[str, Any]], key: str) -> list[float]:
    return [r["metrics"][key] for r in records if r["metrics"].get(key) is not None]


def _cell(records: list[dict[str, Any]], key: str, digits: int) -> str:
    values = _values(records, key)
    return mean_and_spread(values, digits) if values else "–"
