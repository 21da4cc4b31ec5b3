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
"""What topics of images look like: samples, the images nearest to them, their classes; as PNG files and as a page."""

import base64
import html
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from hf_vq._extras import require
from hf_vq.code_pictures import GAP, draw

Rows = Sequence[Sequence[Image.Image]]

TILE = 48  # pixels of the longer side of an image in a sheet
PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title><style>
body {{ font: 16px/1.5 sans-serif; margin: 2em auto; max-width: 75em; padding: 0 1em; }}
img {{ image-rendering: pixelated; max-width: 100%; }}
table {{ border-collapse: collapse; font-size: 13px; }}
th, td {{ padding: .2em .5em; text-align: right; font-weight: normal; }}
</style></head><body><h1>{title}</h1>
{content}
</body></html>
"""


@dataclass
class TopicPictures:
    """What a pipeline draws for its topics, and what real images say of them.

    Attributes:
        names: Of the topics.
        samples: Images that were drawn for each topic.
        nearest: The real images that have the most of each topic, the first has most.
        references: Some real images.
        like_references: Images that were drawn with the topics of each of them.
        class_shares: `(topics, classes)`, see `class_shares`; None without classes.
        class_names: Names of the classes.
    """

    names: list[str]
    samples: list[list[Image.Image]]
    nearest: list[list[Image.Image]]
    references: list[Image.Image]
    like_references: list[list[Image.Image]]
    class_shares: np.ndarray | None = None
    class_names: list[str] | None = None


def picture_topics(
    pipe: Any,
    images: Sequence[Image.Image],
    labels: Sequence[str] | None = None,
    *,
    proportions: Any = None,
    images_per_topic: int = 8,
    num_references: int = 6,
    seed: int = 0,
    **options: Any,
) -> TopicPictures:
    """Draw images for every topic and for some references, and find the real images nearest to each topic.

    Args:
        pipe: A `TopicVQImagePipeline`.
        images: Real images.
        labels: The class of each, in words.
        proportions: `(images, topics)`, if they are known; else they are inferred here.
        images_per_topic: Samples of each topic, real images of each topic, samples of each reference.
        num_references: How many of the images, drawn at random, are references.
        seed: Of the samples and of the choice of references.
        options: Of the pipeline's call, for example `guidance_scale=2.0`.
    """
    if len(images) < max(images_per_topic, num_references):
        raise ValueError(
            f"there are {len(images)} images, expected at least images_per_topic and num_references"
        )
    proportions = pipe.infer_topics(images) if proportions is None else proportions
    proportions = np.asarray(torch.as_tensor(proportions).float().cpu())
    num_topics = proportions.shape[1]
    names = pipe.prior.config.topic_labels or [f"topic {topic}" for topic in range(num_topics)]
    options = {"num_images_per_prompt": images_per_topic, "generator": seed, **options}
    chosen = np.random.default_rng(seed).choice(len(images), num_references, replace=False)
    references = [images[int(row)] for row in chosen]
    samples = pipe(topics=range(num_topics), **options).images
    like = pipe(topic_proportions=proportions[chosen], **options).images if num_references else []
    pictures = TopicPictures(
        list(names),
        samples=_rows(samples, images_per_topic),
        nearest=[
            [images[int(row)] for row in rows]
            for rows in nearest_images(proportions, images_per_topic)
        ],
        references=references,
        like_references=_rows(like, images_per_topic),
    )
    if labels is not None:
        pictures.class_names = sorted(set(labels))
        pictures.class_shares = class_shares(proportions, labels, pictures.class_names)
    return pictures


def _rows(images: Sequence[Image.Image], length: int) -> list[list[Image.Image]]:
    return [list(images[start : start + length]) for start in range(0, len(images), length)]


def nearest_images(proportions: np.ndarray, number: int) -> np.ndarray:
    """Rows of the images that have the most of each topic, `(topics, number)`, the first has most."""
    return np.argsort(-proportions, axis=0, kind="stable")[:number].T


def class_shares(
    proportions: np.ndarray, labels: Sequence[str], class_names: Sequence[str]
) -> np.ndarray:
    """Share of each class in each topic, `(topics, classes)`: an image counts as its proportion of the topic says."""
    members = np.asarray(labels)[:, None] == np.asarray(class_names)
    weights = proportions.T @ members.astype(np.float64)
    return weights / np.maximum(weights.sum(axis=1, keepdims=True), 1e-12)


def image_sheet(rows: Rows, names: Sequence[str] | None = None, tile: int = TILE) -> Image.Image:
    """One picture of all images, a row for each list of them, with the names of the rows before them.

    Args:
        rows: Images, as many in each row; all are shown in the size of the first.
        names: One for each row.
        tile: Images are enlarged to nearly so many pixels, each as often as the others; names grow with them.
    """
    if not rows or not rows[0]:
        raise ValueError("there are no images, expected at least one row")
    width, height = rows[0][0].size
    scale = max(1, tile // max(width, height))
    size = (width * scale, height * scale)
    sheet = draw(rows, size)
    if names is None:
        return sheet
    names = [name[:16] for name in names]
    font = ImageFont.load_default(size=max(10, tile // 5))
    margin = 2 * GAP + math.ceil(max(font.getlength(name) for name in names))
    picture = Image.new("RGB", (margin + sheet.width, sheet.height), "white")
    picture.paste(sheet, (margin, 0))
    pen = ImageDraw.Draw(picture)
    for row, name in enumerate(names):
        middle = row * (size[1] + GAP) + size[1] // 2
        pen.text((margin - GAP, middle), name, fill="black", anchor="rm", font=font)
    return picture


def plot_class_shares(pictures: TopicPictures) -> Any:
    """The shares of classes in topics as a heat map, a figure of matplotlib."""
    require("matplotlib", extra="plots")
    from matplotlib.figure import Figure

    shares, classes = _classes(pictures)
    size = (0.5 * len(classes) + 3, 0.25 * len(shares) + 2)
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.add_subplot()
    cells = axes.imshow(shares, cmap="Blues", vmin=0, vmax=max(shares.max(), 1e-12), aspect="auto")
    axes.set_yticks(range(len(shares)), pictures.names, fontsize=7)
    axes.set_xticks(range(len(classes)), classes, fontsize=7, rotation=45, ha="right")
    figure.colorbar(cells, ax=axes, label="share of the class")
    return figure


def _classes(pictures: TopicPictures) -> tuple[np.ndarray, list[str]]:
    if pictures.class_shares is None or pictures.class_names is None:
        raise ValueError("classes of the images are not known: give labels")
    return pictures.class_shares, pictures.class_names


def class_table(pictures: TopicPictures) -> str:
    """The same as a table in HTML, a cell the darker the larger the share."""
    shares, classes = _classes(pictures)
    head = "".join(f"<th>{html.escape(name)}</th>" for name in ("", *classes))
    rows, darkest = [], max(shares.max(), 1e-12)
    for name, row in zip(pictures.names, shares, strict=True):
        cells = [f"<th>{html.escape(name)}</th>"]
        for share in row:
            shade = share / darkest
            color = "white" if shade > 0.6 else "black"
            cells.append(
                f'<td style="background:rgba(8,69,148,{shade:.2f});color:{color}">{share:.0%}</td>'
            )
        rows.append(f"<tr>{''.join(cells)}</tr>")
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"


def sheets(pictures: TopicPictures) -> dict[str, Image.Image]:
    """The sheets by name: samples, nearest, and references, each beside what was drawn like it."""
    found = {
        "samples": image_sheet(pictures.samples, pictures.names),
        "nearest": image_sheet(pictures.nearest, pictures.names),
    }
    if pictures.references:
        pairs = zip(pictures.references, pictures.like_references, strict=True)
        rows = [[reference.resize(row[0].size), *row] for reference, row in pairs]
        found["references"] = image_sheet(rows)
    return found


TITLES = {
    "samples": "Drawn for each topic",
    "nearest": "Real images that have the most of each topic",
    "references": "Real images (left), and images drawn with their topics",
}


def topics_page(pictures: TopicPictures, title: str = "Topics of images") -> str:
    """A page in HTML with all of it, which needs no other file."""
    parts = []
    for name, sheet in sheets(pictures).items():
        buffer = io.BytesIO()
        sheet.save(buffer, "PNG")
        data = base64.b64encode(buffer.getvalue()).decode()
        parts.append(
            f'<h2>{TITLES[name]}</h2>\n<img src="data:image/png;base64,{data}" alt="{TITLES[name]}">'
        )
    if pictures.class_shares is not None:
        parts.append(f"<h2>Classes of each topic</h2>\n{class_table(pictures)}")
    return PAGE.format(title=html.escape(title), content="\n".join(parts))


def save_pictures(pictures: TopicPictures, folder: str | Path) -> list[Path]:
    """Write the sheets and the heat map as PNG, and the page as `index.html`; returns their paths."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, sheet in sheets(pictures).items():
        paths.append(folder / f"{name}.png")
        sheet.save(paths[-1])
    if pictures.class_shares is not None:
        paths.append(folder / "classes.png")
        plot_class_shares(pictures).savefig(paths[-1])
    paths.append(folder / "index.html")
    paths[-1].write_text(topics_page(pictures), encoding="utf-8")
    return paths


__all__ = [
    "TopicPictures",
    "class_shares",
    "class_table",
    "image_sheet",
    "nearest_images",
    "picture_topics",
    "plot_class_shares",
    "save_pictures",
    "sheets",
    "topics_page",
]
