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
"""Tables and pictures of the image topic benchmark, from its records."""

import json
import statistics
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw
from results import (
    REPORTS,
    RESULTS,
    markdown_table,
    mean_and_spread,
    read_results,
    write_readme_block,
)
from topic_image_data import CLASSES, CodeData, Decoder
from topic_image_methods import LABELS, LEVERS, TOPICAL
from topic_image_scores import (
    ASKED,
    GUIDANCE_SCALES,
    NUM_OTHERS,
    asked_name,
    typical_proportions,
)

from hf_vq import TopicVQForImageGeneration

FOLDER = "topic_image"
NOTHING = "None has been recorded yet."
# Header, figure, digits, factor.
Column = tuple[str, str, int, float]
LIKELIHOOD: list[Column] = [
    ("own", "bits_own", 3, 1),
    ("of another image", "bits_shuffled", 3, 1),
    ("told nothing", "bits_unconditional", 3, 1),
    ("bound (22)", "bits_bound", 3, 1),
    ("of it divergence", "kl_bits", 3, 1),
]
REFERENCES: list[Column] = [
    ("own", "bits_own_subset", 3, 1),
    ("mirror image", "bits_mirror", 3, 1),
    ("lookalike", "bits_lookalike", 3, 1),
    ("1 of the class", "bits_other", 3, 1),
    (f"{NUM_OTHERS} of the class", "bits_others", 3, 1),
    ("mean of the class", "bits_class_mean", 3, 1),
    ("nothing", "bits_unconditional_subset", 3, 1),
]
SAMPLES: list[Column] = [
    ("FD-ResNet56", "frechet", 2, 1),
    ("FD-ResNet56, drawn topics", "frechet_prior", 2, 1),
    ("same class, %", "sample_class", 1, 100),
    ("training, min of CPU", "train_cpu_seconds", 1, 1 / 60),
    ("scoring, min of CPU", "score_cpu_seconds", 1, 1 / 60),
    ("weights, M", "num_parameters", 1, 1e-6),
]
CLUSTERS: list[Column] = [
    ("NMI", "topic_nmi", 3, 1),
    ("purity", "topic_purity", 3, 1),
    ("k-means NMI", "kmeans_nmi", 3, 1),
    ("k-means purity", "kmeans_purity", 3, 1),
    ("probe accuracy", "probe_accuracy", 3, 1),
    ("active topics", "active_topics", 1, 1),
    ("mean of the largest share", "mean_largest", 2, 1),
]
LEVER_COLUMNS: list[Column] = [
    ("own", "bits_own", 3, 1),
    ("of another image", "bits_shuffled", 3, 1),
    ("bound", "bits_bound", 3, 1),
    ("NMI", "topic_nmi", 3, 1),
    ("active topics", "active_topics", 1, 1),
    ("obeyed, %", "inferred_one_hot_g1", 1, 100),
    ("obeyed, guidance 2, %", "inferred_one_hot_g2", 1, 100),
    ("FD-ResNet56", "frechet", 2, 1),
]
Groups = dict[str, list[dict[str, Any]]]


def read_groups(names: Iterable[str] = LABELS) -> Groups:
    """The records of each method, one for each seed."""
    records = read_results(FOLDER)
    groups = {
        name: [record for stem, record in records.items() if stem.split("-")[0] == name]
        for name in names
    }
    return {name: found for name, found in groups.items() if found}


def report() -> None:
    """Render docs/results/topic_image.md and its heat map from the records."""
    groups = read_groups()
    text = (REPORTS / f"{FOLDER}.template.md").read_text(encoding="utf-8")
    anchors, speed, cross = (
        read_result(f"topic_image_{name}") for name in ("anchors", "speed", "cross_modal")
    )
    topical = {name: groups[name] for name in TOPICAL if name in groups}
    parts = {
        "budget": _budget(groups),
        "likelihood": _table(groups, LIKELIHOOD),
        "references": _table(topical, REFERENCES),
        "label": _values_text(groups.get("classes", []), "bits_own_subset", 3),
        "samples": _table(groups, SAMPLES),
        "clusters": _table(
            {k: v for k, v in groups.items() if k in (*TOPICAL, "clusters")}, CLUSTERS
        ),
        "anchor_clusters": _anchor_clusters(anchors),
        "control": _control_table(groups),
        "levers": _table(read_groups(["topics", *LEVERS]), LEVER_COLUMNS),
        "anchors": _anchors(anchors),
        "speed": _speed(speed),
        "cross_modal": _cross_modal(cross),
        "verdicts": _verdicts(groups, anchors, speed),
    }
    for key, content in parts.items():
        text = text.replace("{{" + key + "}}", content)
    (REPORTS / f"{FOLDER}.md").write_text(text, encoding="utf-8")
    write_readme_block(FOLDER, _readme_text(groups))
    if "topics" in groups:
        _plot_classes(np.array(groups["topics"][0]["data"]["class_counts"]))


def _readme_text(groups: Groups) -> str:
    columns: list[Column] = [
        ("bits per code", "bits_own", 3, 1),
        ("of another image", "bits_shuffled", 3, 1),
        ("with the bits of the topics", "bits_bound", 3, 1),
        ("obeyed, %", "inferred_one_hot_g1", 1, 100),
        ("obeyed, guidance 1.5, %", "inferred_one_hot_g1.5", 1, 100),
        ("FD-ResNet56", "frechet", 2, 1),
    ]
    return (
        f"CIFAR-10 test images as 64 codes of our GM-VQ; {_budget(groups)}, minutes of one CPU core; only what the "
        "prior is told about an image differs; mean ± standard deviation over seeds. An image's own topics are "
        "inferred from the codes that are then predicted, so the third column is the one to hold against a prior "
        'that is told nothing. "Obeyed": samples that are given back the topic (the label, by ResNet-56) that they '
        "were drawn for. Other conditions, what topics have to do with classes, levers, pictures and speed: "
        "[docs/results/topic_image.md](docs/results/topic_image.md)."
        f"\n\n{_table(groups, columns)}"
    )


def read_result(name: str) -> dict[str, Any] | None:
    """A record of `write_result`, if it is there."""
    path = RESULTS / f"{name}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def _values(records: list[dict], key: str) -> list[float]:
    return [r["metrics"][key] for r in records if r["metrics"].get(key) is not None]


def _values_text(records: list[dict], key: str, digits: int, factor: float = 1) -> str:
    values = [factor * value for value in _values(records, key)]
    return mean_and_spread(values, digits) if values else "–"


def _table(groups: Groups, columns: list[Column]) -> str:
    if not groups:
        return NOTHING
    rows = [
        [LABELS.get(name) or LEVERS[name][0]]
        + [_values_text(records, key, digits, factor) for _, key, digits, factor in columns]
        + [str(len(records))]
        for name, records in groups.items()
    ]
    return markdown_table(["", *(column[0] for column in columns), "seeds"], rows)


def _budget(groups: Groups) -> str:
    budgets = [record["data"]["budget"] for records in groups.values() for record in records]
    if not budgets:
        return NOTHING
    if any(budget != budgets[0] for budget in budgets):
        raise ValueError("the records are of different budgets: their tables would compare nothing")
    budget = budgets[0]
    return (
        f"{budget['steps']} updates of {budget['batch_size']} images, a transformer of {budget['num_layers']} layers "
        f"of width {budget['hidden_size']}, K = {budget['num_topics']} topics or clusters; the PixelCNN has "
        f"{budget['pixelcnn_layers']} layers of width {budget['pixelcnn_width']}"
    )


def _control_table(groups: Groups) -> str:
    rows = []
    for name, records in groups.items():
        for kind in ASKED:
            cells = [
                _values_text(records, asked_name(judge, kind, scale), 1, 100)
                for judge in ("inferred", "centroid")
                for scale in GUIDANCE_SCALES
            ]
            if any(cell != "–" for cell in cells):
                frame = [_values_text(records, f"centroid_{x}", 1, 100) for x in ("real", "chance")]
                rows.append([f"{LABELS[name]}: {kind.replace('_', '-')}", *cells, *frame])
    judges = [f"{judge} {s:g}" for judge in ("itself", "ResNet") for s in GUIDANCE_SCALES]
    header = ["", *judges, "ResNet, real images", "chance"]
    return markdown_table(header, rows) if rows else NOTHING


def _anchors(anchors: dict[str, Any] | None) -> str:
    if anchors is None:
        return NOTHING
    rows = [
        ["bits per code: uniform", f"{anchors['uniform_bits']:.3f}"],
        ["bits per code: how often codes occur", f"{anchors['unigram_bits']:.3f}"],
        ["FD-ResNet56: 10,000 training images", f"{anchors['frechet_train']:.2f}"],
        [
            f"FD-ResNet56: {anchors['num_few']:,} training images",
            f"{anchors['frechet_train_few']:.2f}",
        ],
        [
            "FD-ResNet56: the test images through the tokenizer",
            f"{anchors['frechet_reconstructions']:.2f}",
        ],
    ]
    return markdown_table(["anchor", "value"], rows)


def _anchor_clusters(anchors: dict[str, Any] | None) -> str:
    if anchors is None:
        return NOTHING
    rows = [
        [name, mean_and_spread(found["nmi"], 3), mean_and_spread(found["purity"], 3)]
        for name, found in anchors["clusters"].items()
    ]
    return markdown_table([f"{anchors['num_clusters']} clusters of", "NMI", "purity"], rows)


def _speed(record: dict[str, Any] | None) -> str:
    if record is None:
        return NOTHING
    rows = [[name, f"{value:.2f}"] for name, value in record["seconds"].items()]
    threads = record["threads"]
    return (
        f"{markdown_table(['', 'seconds'], rows)}\n\n{record['num_images']} images of {record['num_codes']} codes, "
        f"{record['num_layers']} layers of width {record['hidden_size']}, {threads} thread{'s' * (threads > 1)}, "
        f"float32; medians of {record['repeats']} rounds. The cache makes sampling {record['cache_speedup']:.1f} "
        f"times as fast, and transformers' `generate` takes {record['speed_of_gpt2']:.2f} times our time."
    )


def _cross_modal(record: dict[str, Any] | None) -> str:
    if record is None:
        return NOTHING
    rows = [
        [name] + [f"{found[t]['spearman']:.2f} (p = {found[t]['p_value']:.3f})" for t in found]
        for name, found in record["comparisons"].items()
    ]
    return markdown_table(
        ["classes by", "class names", "names and glosses", "needed for p = 0.05"], rows
    )


def _verdicts(groups: Groups, anchors: dict[str, Any] | None, speed: dict[str, Any] | None) -> str:
    """The aims, and whether they are reached, as the records say."""

    def mean(name: str, key: str) -> float | None:
        values = _values(groups.get(name, []), key)
        return statistics.mean(values) if values else None

    lines = []

    def say(aim: str, one: float | None, other: float | None, less: bool, digits: int = 3) -> None:
        if one is None or other is None:
            lines.append(f"- {aim}: not recorded yet.")
            return
        reached = one < other if less else one >= other
        sign = "reached" if reached else "not reached"
        lines.append(f"- {aim}: {sign} ({one:.{digits}f} against {other:.{digits}f}).")

    ours = [mean("topics", key) for key in ("bits_own", "bits_bound", "bits_others", "bits_mirror")]
    nothing, label = mean("unconditional", "bits_own"), mean("classes", "bits_own_subset")
    say(
        "topics of the image itself lower the bits per code of the same prior",
        ours[0],
        nothing,
        True,
    )
    say("and do so after paying for the topics (bound)", ours[1], nothing, True)
    for name in ("published", "pixelcnn"):
        say(f"bits per code below {LABELS[name]}", ours[0], mean(name, "bits_own"), True)
    say("the mirror image tells more than the class label", ours[3], label, True)
    say(f"{NUM_OTHERS} other images of the class tell more than its label", ours[2], label, True)
    kmeans = anchors and statistics.mean(anchors["clusters"]["bags of codes"]["nmi"])
    say(
        "NMI with classes above that of k-means on bags of codes",
        mean("topics", "topic_nmi"),
        kmeans,
        False,
    )
    say(
        "Frechet distance below the same prior's, told nothing",
        mean("topics", "frechet"),
        mean("unconditional", "frechet"),
        True,
        2,
    )
    best = [
        mean("topics", asked_name("inferred", kind, scale))
        for kind in ASKED
        for scale in GUIDANCE_SCALES
    ]
    known = [value for value in best if value is not None]
    say("samples given back their topic, best setting", max(known) if known else None, 0.8, False)
    judged = [
        mean("topics", asked_name("centroid", kind, scale))
        for kind in ASKED
        for scale in GUIDANCE_SCALES
    ]
    seen = [value for value in judged if value is not None]
    say(
        "samples nearest to their topic by ResNet-56, best setting, against chance",
        max(seen) if seen else None,
        mean("topics", "centroid_chance"),
        False,
    )
    say("speed of the cache", speed and speed["cache_speedup"], 5.0, False, 1)
    say("time of GPT-2's generate over ours", speed and speed["speed_of_gpt2"], 1.0, False, 2)
    return "\n".join(lines)


def _plot_classes(counts: np.ndarray) -> None:
    """Heat map of classes in each topic, topics in the order of their main class."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    shares = counts / counts.sum(axis=1, keepdims=True).clip(1)
    order = np.lexsort((-shares.max(axis=1), shares.argmax(axis=1)))
    figure, axes = pyplot.subplots(figsize=(6, 0.28 * len(counts) + 1.5))
    image = axes.imshow(shares[order], aspect="auto", cmap="viridis", vmin=0)
    axes.set_xticks(range(len(CLASSES)), CLASSES, rotation=45, ha="right")
    axes.set_yticks(range(len(counts)), [f"{k} ({counts[k].sum()})" for k in order], fontsize=7)
    axes.set(ylabel="topic (test images)", title="Classes of the images of each topic")
    figure.colorbar(image, label="share")
    figure.tight_layout()
    figure.savefig(REPORTS / f"{FOLDER}_classes.png", dpi=110)
    pyplot.close(figure)


@torch.inference_mode()
def sheets(
    checkpoint: Path, decoder: Decoder, num_real: int = 6, num_samples: int = 8, scale: float = 2.0
) -> None:
    """Pictures of a trained model: each topic's images and samples, and references with samples of their topics."""
    model, data = TopicVQForImageGeneration.from_pretrained(checkpoint).eval(), CodeData.load()
    codes = data.test.codes
    proportions = torch.cat([model.infer_topics(part) for part in codes.split(500)])
    best = proportions.topk(num_real, dim=0).indices.T
    generator = torch.Generator().manual_seed(0)
    told = typical_proportions(proportions).repeat_interleave(num_samples, dim=0)
    drawn = model.generate(told, guidance_scale=scale, generator=generator)
    _sheet(
        decoder.images(codes[best.flatten()]),
        decoder.images(drawn),
        len(best),
        [f"{k}" for k in range(len(best))],
        REPORTS / f"{FOLDER}_topics.png",
    )
    references = torch.arange(12)
    told = proportions[references].repeat_interleave(num_samples, dim=0)
    drawn = model.generate(told, guidance_scale=scale, generator=generator)
    names = [CLASSES[label] for label in data.test.labels[references].tolist()]
    images = decoder.images(codes[references]), decoder.images(drawn)
    _sheet(*images, len(references), names, REPORTS / f"{FOLDER}_references.png")


def _sheet(
    left: torch.Tensor, right: torch.Tensor, num_rows: int, names: list[str], path: Path
) -> None:
    """Rows of a name, images, a gap and samples, each pixel twice as large."""
    height, width = left.shape[-2:]
    grids = [
        images.unflatten(0, (num_rows, -1)).permute(0, 3, 1, 4, 2).flatten(0, 1).flatten(1, 2)
        for images in (left, right)
    ]
    gap = torch.ones(len(grids[0]), width // 2, 3)
    pixels = (torch.cat([grids[0], gap, grids[1]], dim=1) * 255).round().to(torch.uint8).numpy()
    picture = Image.fromarray(pixels).resize(
        (2 * pixels.shape[1], 2 * pixels.shape[0]), Image.Resampling.NEAREST
    )
    sheet = Image.new("RGB", (picture.width + 80, picture.height), "white")
    sheet.paste(picture, (80, 0))
    for row, name in enumerate(names):
        ImageDraw.Draw(sheet).text((6, 2 * height * row + height - 6), name, fill="black")
    sheet.save(path)
