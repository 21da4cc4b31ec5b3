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
"""Pictures of codes: paths of interpolations, traversals, a codebook in two dimensions, the code map of sentences.

Each function returns a matplotlib figure; `figure.savefig("path.png")` writes it.
"""

import difflib
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from ._extras import require

require("matplotlib", extra="plots")

# ruff: noqa: E402  the import below needs the extra
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from .code_format import parse_codes
from .code_pictures import color_codes
from .latent_tables import OperationTable
from .text_codec import TextCodec, TextOrCodes

NEW_WORD = "#c0392b"
# Of words, in which a dollar is a dollar; matplotlib would set what is between two as a formula.
VERBATIM: dict[str, Any] = {"parse_math": False}


def plot_path(table: OperationTable) -> Figure:
    """One path of `interpolate`, a line for each `t`, with the words that are new in a line in red and bold."""
    if not table.records or "t" not in table[0]:
        raise ValueError(f"plot_path takes a table of interpolate, got {table.operation!r}")
    records = [table[0]]
    for record in table.records[1:]:
        if record["t"] <= records[-1]["t"]:
            break
        records.append(record)
    words = [record["text"].split() for record in records]
    width = max((len(record["text"]) for record in records), default=0) + 8
    figure = Figure(
        figsize=(max(4.0, 0.1 * width), 0.32 * len(records) + 0.4), layout="constrained"
    )
    axes = figure.add_subplot()
    axes.set(xlim=(0, width), ylim=(len(records), -0.5))
    axes.axis("off")
    for line, (record, now) in enumerate(zip(records, words, strict=True)):
        new = _new_words(words[line - 1] if line else now, now)
        text: dict[str, Any] = {"family": "monospace", "fontsize": 9, "va": "center", **VERBATIM}
        axes.text(0, line, f"{record['t']:.2f}", color="gray", **text)
        column = 6
        for index, word in enumerate(now):
            style: dict[str, Any] = {"color": NEW_WORD, "weight": "bold"} if index in new else {}
            axes.text(column, line, word, **text, **style)
            column += len(word) + 1
    axes.set_title(table.operation, fontsize=10, loc="left")
    return figure


def plot_codebook(
    codec: TextCodec,
    texts: Sequence[str],
    roles: Sequence[Sequence[str | None]] | None = None,
    *,
    group: int = 0,
    num_labels: int = 20,
) -> Figure:
    """The codes on the first two principal components of the codebook.

    A dot is as large as the code is frequent in the texts, and as dark, or with `roles` it has the color of
    the role in which the code stands most often. Codes that do not occur are gray crosses.

    Args:
        codec: The model and its tokenizer.
        texts: Where to count.
        roles: For each text the role of each of its words, None for a word without.
        group: Which codebook, if there are several.
        num_labels: How many of the most frequent codes are labeled with their most frequent word.
    """
    counts, names, words = _count(codec, texts, roles, group)
    points = _principal_plane(codec.space().codebooks[group])
    figure = Figure(figsize=(7, 6), layout="constrained")
    axes = figure.add_subplot()
    unused = [code for code in range(codec.codebook_size) if not counts[code]]
    x, y = points.T
    axes.scatter(
        x[unused], y[unused], marker="x", s=8, linewidths=0.5, c="lightgray", label="unused"
    )
    used = sorted(counts, key=lambda code: (counts[code], code))
    sizes = torch.tensor([counts[code] for code in used], dtype=torch.float64)
    areas = 8 + 200 * sizes / sizes.max()
    if roles is None:
        dots = axes.scatter(x[used], y[used], s=areas, c=sizes.log10(), cmap="viridis_r", alpha=0.8)
        figure.colorbar(dots, ax=axes, label="log10 of the count")
    else:
        for number, name in enumerate(sorted(set(names.values()))):
            chosen = [i for i, code in enumerate(used) if names[code] == name]
            codes = [used[i] for i in chosen]
            axes.scatter(
                x[codes],
                y[codes],
                s=areas[chosen],
                color=f"C{number % 10}",
                alpha=0.8,
                label=name,
            )
        axes.legend(fontsize=8, markerscale=0.5, loc="center left", bbox_to_anchor=(1, 0.5))
    for code in used[::-1][:num_labels]:
        axes.annotate(words[code], points[code].tolist(), fontsize=7, **VERBATIM)
    axes.set(xlabel="first principal component", ylabel="second principal component")
    return figure


def plot_code_map(codec: TextCodec, texts: TextOrCodes | Sequence[TextOrCodes]) -> Figure:
    """A line for each sentence, a cell for each code; codes that are near each other have similar colors."""
    sentences = codec.read(texts)
    colors = [color_codes(codebook) / 255 for codebook in codec.space().codebooks]
    lines = [(sentence, group) for sentence in sentences for group in range(len(colors))]
    longest = max(len(sentence.codes) for sentence in sentences)
    figure = Figure(figsize=(0.75 * longest + 0.3, 0.8 * len(lines) + 0.2), layout="constrained")
    axes = figure.add_subplot()
    axes.set(xlim=(0, longest), ylim=(len(lines), 0))
    axes.axis("off")
    text: dict[str, Any] = {"ha": "center", "va": "center", **VERBATIM}
    for line, (sentence, group) in enumerate(lines):
        for position, code in enumerate(sentence.codes[:, group].tolist()):
            _draw_cell(axes, (position, line, 1, 0.5), code, colors[group][code])
            piece = codec.piece(sentence, position)
            if group == 0 and piece is not None:
                axes.text(position + 0.5, line + 0.75, piece, fontsize=8, **text)
    return figure


def plot_traversals(codec: TextCodec, table: OperationTable) -> Figure:
    """The traversals of a table of `traverse`, one below the other.

    Each begins with the pieces of its input above their codes. Every further line has one code exchanged, the framed
    one. To the right stands what the codes of a line give, in red and bold the words that this has changed.
    """
    if not table.records or not {"rank", "text"} <= table[0].keys():
        raise ValueError(f"plot_traversals takes a table of traverse, got {table.operation!r}")
    colors = [color_codes(codebook) / 255 for codebook in codec.space().codebooks]
    rows = [parse_codes(record["codes"]) for record in table.records]
    left = max(len(codes) for codes in rows) + 0.5  # in cells, like everything here
    character = 0.18
    width = left + character * max(len(record["text"]) for record in table.records)
    height = len(rows) + 1.4 * sum(record["rank"] == 0 for record in table.records) + 0.1
    figure = Figure(figsize=(0.42 * width, 0.3 * height), layout="constrained")
    axes = figure.add_subplot()
    axes.set(xlim=(-0.1, width), ylim=(height, 0))
    axes.axis("off")
    line, unedited = 0.0, list[str]()
    small: dict[str, Any] = {"fontsize": 8, "ha": "center", "va": "center", **VERBATIM}
    written: dict[str, Any] = {"family": "monospace", "fontsize": 9, "va": "center", **VERBATIM}
    for record, codes in zip(table.records, rows, strict=True):
        begins = record["rank"] == 0
        if begins:
            unedited = record["text"].split()
            # A code that stands for no text, since the input was bare codes, has no piece.
            (sentence,) = codec.read(codes if record["piece"] is None else record["input"])
            for position in range(len(codes)):
                if piece := codec.piece(sentence, position):
                    axes.text(position + 0.5, line + 1, piece, **small)
            line += 1.4
        for position, code in enumerate(codes[:, record["group"]].tolist()):
            tried = position == record["position"]
            if begins or tried:
                _draw_cell(axes, (position, line, 1, 1), code, colors[record["group"]][code], tried)
        column = left
        new = _new_words(unedited, words := record["text"].split())
        for index, word in enumerate(words):
            style: dict[str, Any] = {"color": NEW_WORD, "weight": "bold"} if index in new else {}
            axes.text(column, line + 0.5, word, **written, **style)
            column += character * (len(word) + 1)
        line += 1
    return figure


def _draw_cell(
    axes: Any,
    place: tuple[float, float, float, float],
    code: int,
    color: np.ndarray,
    framed: bool = False,
) -> None:
    """A code on its color, at (x, y, width, height)."""
    x, y, width, height = place
    edge = {"edgecolor": "black", "linewidth": 2, "zorder": 2} if framed else {"edgecolor": "white"}
    axes.add_patch(Rectangle((x, y), width, height, facecolor=color, **edge))
    axes.text(
        x + width / 2,
        y + height / 2,
        str(code),
        fontsize=8,
        color="white" if float(color.mean()) < 0.5 else "black",
        ha="center",
        va="center",
        zorder=3,
    )


def _new_words(before: list[str], after: list[str]) -> set[int]:
    matcher = difflib.SequenceMatcher(a=before, b=after, autojunk=False)
    return {
        index
        for tag, _, _, start, end in matcher.get_opcodes()
        if tag != "equal"
        for index in range(start, end)
    }


def _count(
    codec: TextCodec,
    texts: Sequence[str],
    roles: Sequence[Sequence[str | None]] | None,
    group: int,
) -> tuple[Counter[int], dict[int, str], dict[int, str]]:
    """How often each code occurs, its most frequent role and its most frequent word."""
    seen_roles: dict[int, Counter[str]] = {}
    seen_words: dict[int, Counter[str]] = {}
    for row, sentence in enumerate(codec.read(texts)):
        for code, word in zip(
            sentence.codes[:, group].tolist(), codec.words(sentence), strict=True
        ):
            index, text = word
            role = None if roles is None or index is None else roles[row][index]
            seen_roles.setdefault(code, Counter())[role or "none"] += 1
            seen_words.setdefault(code, Counter())[text] += 1
    counts = Counter({code: words.total() for code, words in seen_words.items()})
    names = {code: _most_common(roles_of) for code, roles_of in seen_roles.items()}
    return counts, names, {code: _most_common(words) for code, words in seen_words.items()}


def _most_common(counts: Counter[str]) -> str:
    return min(counts, key=lambda name: (-counts[name], name))


def _principal_plane(codebook: torch.Tensor) -> Any:
    centered = codebook.cpu() - codebook.cpu().mean(dim=0)
    axes = torch.linalg.svd(centered, full_matrices=False).Vh[:2]
    # The sign of a principal component is arbitrary: its largest entry is positive.
    axes = axes * axes.gather(1, axes.abs().argmax(dim=1, keepdim=True)).sign()
    return (centered @ axes.T).numpy()


__all__ = ["plot_code_map", "plot_codebook", "plot_path", "plot_traversals"]
