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
"""What the sections of the demo's page share: options, plots, tables, and the page itself."""

import base64
import html
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Any

from PIL import Image
from torch import Tensor

from hf_vq.training_config import option

TEMPLATE = Path(__file__).with_suffix(".html")


@dataclass
class DemoConfig:
    """Where the demo writes, and how long it trains."""

    output_dir: str = option(
        "runs/demo", "Folder for the page and the models; those of the last demo go."
    )
    max_steps: int = option(1500, "Updates of the weights of GM-VQ.")
    text_max_steps: int = option(2000, "Updates of the weights of T5VQVAE.")
    topic_epochs: float | None = option(
        None, "Passes of TopicVQ over the documents; unset: its default."
    )
    image_topic_max_steps: int = option(600, "Updates of the weights of TopicVQ for images.")
    seed: int = option(0, "Seed of the weights, of the data order and of the codebook's start.")
    progress_bar: bool = option(True, "Show progress bars.")


@dataclass
class Section:
    """A part of the page."""

    title: str
    html: str


def table(head: Sequence[str], rows: Iterable[Sequence[str]], css_class: str = "") -> str:
    """Return a card with a table."""
    cells = "".join(f"<th>{html.escape(title)}</th>" for title in head)
    body = "".join(
        f"<tr>{''.join(f'<td>{html.escape(cell)}</td>' for cell in row)}</tr>" for row in rows
    )
    return (
        f'<div class="card scroll"><table class="{css_class}"><thead><tr>{cells}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def image_tag(image: Image.Image, text: str, css_class: str = "") -> str:
    """Return the image itself, not a link to it."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    data = base64.b64encode(buffer.getvalue()).decode()
    attributes = f'alt="{html.escape(text)}" title="{html.escape(text)}"'
    return f'<img class="{css_class}" src="data:image/png;base64,{data}" {attributes}>'


# Of every plot, in units of its own: the page scales it.
WIDTH, HEIGHT, LEFT, BOTTOM, TOP = 720, 280, 48, 28, 8
MAP_HEIGHT = 520


def legend(names: Sequence[str]) -> str:
    """Return the names with their colors."""
    items = (
        f'<span><i style="background:var(--s{i})"></i>{html.escape(name)}</span>'
        for i, name in enumerate(names)
    )
    return f'<div class="legend">{"".join(items)}</div>'


def plot(
    names: Sequence[str], marks: Sequence[str], y_ticks: Mapping[float, str], x_label: str
) -> str:
    """Return a card with a legend and a picture; `y_ticks` are heights from 0 to 1 and their labels."""
    lines = []
    for height, label in y_ticks.items():
        y = from_top(height)
        lines.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH}" y1="{y:.1f}" y2="{y:.1f}"/>')
        lines.append(f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{label}</text>')
    label = f'<text x="{WIDTH}" y="{HEIGHT - 6}" text-anchor="end">{html.escape(x_label)}</text>'
    picture = (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img">{"".join([*lines, *marks, label])}</svg>'
    )
    return f'<figure class="card plot">{legend(names)}{picture}</figure>'


def from_top(height: float) -> float:
    """Return the y of a height from 0 to 1."""
    return HEIGHT - BOTTOM - height * (HEIGHT - BOTTOM - TOP)


def counts_plot(counts: Mapping[str, Tensor]) -> str:
    """Return bars for the first row of counts and a stepped line for each of the others, each sorted."""
    rows = [row.sort(descending=True).values.tolist() for row in counts.values()]
    top = max(max(row) for row in rows)
    width = (WIDTH - LEFT) / len(rows[0])
    marks = []
    for i, count in enumerate(rows[0]):
        y = from_top(count / top)
        marks.append(
            f'<rect x="{LEFT + i * width + 0.5:.1f}" y="{y:.1f}" width="{max(width - 1, 0.5):.1f}" '
            f'height="{HEIGHT - BOTTOM - y:.1f}" fill="var(--s0)"><title>{count}</title></rect>'
        )
    for series, row in enumerate(rows[1:], start=1):
        steps = "".join(
            f"{'L' if i else 'M'}{LEFT + i * width:.1f} {from_top(count / top):.1f}h{width:.1f}"
            for i, count in enumerate(row)
        )
        marks.append(f'<path class="curve" stroke="var(--s{series})" d="{steps}"/>')
    uniform = from_top(sum(rows[0]) / len(rows[0]) / top)
    marks.append(
        f'<line x1="{LEFT}" x2="{WIDTH}" y1="{uniform:.1f}" y2="{uniform:.1f}" '
        'stroke="var(--muted)" stroke-dasharray="5 4"/>'
    )
    step = nice_step(top / 4)
    ticks = {tick * step / top: f"{tick * step:g}" for tick in range(int(top / step) + 1)}
    return plot(list(counts), marks, ticks, f"{len(rows[0])} codes, by frequency")


def nice_step(rough: float) -> float:
    """Return 1, 2 or 5 times a power of ten, no less than a rough step between ticks and than 1."""
    power = 10 ** max(math.floor(math.log10(rough)), 0) if rough > 1 else 1
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough)


def loss_plot(curves: Mapping[str, Sequence[tuple[float, float]]]) -> str:
    """Return curves over the steps, on a logarithmic scale."""
    # A part that is zero for a while has no logarithm then, and a gap in its curve says so.
    values = [y for curve in curves.values() for _, y in curve if y > 0]
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    low, high = max(low, high - 5), max(high, low + 1)
    last = max(x for curve in curves.values() for x, _ in curve)

    marks = []
    for series, curve in enumerate(curves.values()):
        path, pen = [], "M"
        for x, y in curve:
            if y < 10**low:
                pen = "M"
                continue
            height = (math.log10(y) - low) / (high - low)
            path.append(f"{pen}{LEFT + x / last * (WIDTH - LEFT):.1f} {from_top(height):.1f}")
            pen = "L"
        marks.append(f'<path class="curve" stroke="var(--s{series})" d="{"".join(path)}"/>')
    ticks = {(tick - low) / (high - low): f"{10.0**tick:g}" for tick in range(low, high + 1)}
    return plot(list(curves), marks, ticks, f"{last:,} steps")


def scatter_plot(
    points: Iterable[Sequence[float]],
    colors: Sequence[str],
    titles: Sequence[str],
    labels: Iterable[tuple[str, Sequence[float]]],
) -> str:
    """Return a card with points in the plane, and labels at places among them."""
    places = [tuple(map(float, point)) for point in points]
    low, high = (tuple(pick(axis) for axis in zip(*places, strict=True)) for pick in (min, max))

    def place(point: Sequence[float]) -> tuple[float, float]:
        x, y = ((p - a) / (b - a or 1) for p, a, b in zip(point, low, high, strict=True))
        return 8 + x * (WIDTH - 16), 8 + (1 - y) * (MAP_HEIGHT - 16)

    marks = []
    for point, color, title in zip(places, colors, titles, strict=True):
        x, y = place(point)
        marks.append(
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{color}" fill-opacity="0.7">'
            f"<title>{html.escape(title)}</title></circle>"
        )
    for label, point in labels:
        x, y = place(point)
        marks.append(
            f'<text class="label" x="{x:.1f}" y="{y:.1f}" text-anchor="middle">{html.escape(label)}</text>'
        )
    picture = f'<svg viewBox="0 0 {WIDTH} {MAP_HEIGHT}" role="img">{"".join(marks)}</svg>'
    return f'<figure class="card plot">{picture}</figure>'


def provenance(record: Mapping[str, Any]) -> str:
    """Return the command, the machine and the versions of a record."""
    hardware = record["hardware"]
    dirty = " with changes" if record["dirty"] else ""
    facts = {
        "Command": f"<code>{html.escape(record['command'])}</code>",
        "Data": f"{html.escape(record['data']['name'])}, <code>{record['data']['revision']}</code>",
        "Hardware": html.escape(
            f"{hardware['cpu']}, {hardware['cores']} cores, {hardware['threads']} threads"
        ),
        "Versions": html.escape(", ".join(f"{k} {v}" for k, v in record["versions"].items() if v)),
        "Commit": f"<code>{record['commit'] or 'not in a repository'}</code>{dirty}",
        "Date": record["date"],
    }
    items = "".join(f"<dt>{name}</dt><dd>{text}</dd>" for name, text in facts.items())
    return f'<dl class="card">{items}</dl>'


def write_page(path: Path, sections: Sequence[Section]) -> None:
    """Write all sections into one page that needs no other file."""
    template = Template(TEMPLATE.read_text(encoding="utf-8"))
    body = "\n".join(
        f"<section>\n<h2>{html.escape(section.title)}</h2>\n{section.html}\n</section>"
        for section in sections
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(template.substitute(sections=body), encoding="utf-8")
