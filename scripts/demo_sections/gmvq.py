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
"""The demo of GM-VQ: codes of handwritten digits, beside k-means on patches."""

import json
import math
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from accelerate.utils import set_seed
from demo_sections.page import (
    DemoConfig,
    Section,
    counts_plot,
    image_tag,
    loss_plot,
    provenance,
    table,
)
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader
from transformers import AutoModel, pipeline
from transformers.models.auto.image_processing_auto import AutoImageProcessor

from hf_vq import GMVQConfig, GMVQImageProcessor, GMVQModel
from hf_vq.code_pictures import color_codes
from hf_vq.codebook_start import start_codebook
from hf_vq.data import ImageCollator, InMemoryImages, data_revision, load_digits_images
from hf_vq.evaluation import evaluate_image_autoencoder, write_record
from hf_vq.metrics import code_counts, codebook_perplexity, codebook_usage, mse, psnr
from hf_vq.models.vector_quantization import kmeans, nearest_codes
from hf_vq.training import TrainingConfig, train

NUM_SHOWN = 24


def gmvq_section(config: DemoConfig) -> Section:
    """Train GM-VQ on handwritten digits, compare it with k-means on patches, and reload it."""
    folder = Path(config.output_dir) / "gmvq-demo"  # a name that no real run bears
    shutil.rmtree(folder, ignore_errors=True)  # `train` would not overwrite the last demo's
    digits = load_digits_images()
    processor = GMVQImageProcessor(size=8, do_grayscale=True)
    train_images = InMemoryImages(digits["train"], processor)
    test_images = InMemoryImages(digits["test"], processor)
    model, results = train_gmvq(config, folder, train_images, processor)

    collate = ImageCollator(processor)
    metrics = evaluate_image_autoencoder(model, DataLoader(test_images, 256, collate_fn=collate))
    originals, held_out = list(digits["test"]["image"]), all_pixels(test_images)
    checkpoint = results["final_model"]
    check_reload(model, checkpoint, originals, held_out)
    outputs = pipeline("image-reconstruction", model=checkpoint)(originals[:NUM_SHOWN])

    baselines, baseline_counts = score_baselines(
        all_pixels(train_images), held_out, model.config, config.seed
    )
    with torch.no_grad():
        codes = model.eval().encode(held_out).codes
    counts = code_counts(codes, model.config.codebook_size)
    record = write_record(
        folder / "final.json",
        f"{folder.name}/final",
        metrics,
        data={
            "name": "sklearn.datasets.load_digits",
            "split": "test",
            "revision": data_revision(test_images),
        },
        seeds=[config.seed],
    )
    rows = {"GM-VQ": metrics, **baselines}
    print_summary(rows, results)
    log = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    content = [
        describe_run(model, results, metrics, baselines, len(train_images)),
        metrics_table(rows),
        "<h3>Held-out images</h3>",
        f"<p>Original, reconstruction and map of the codes, for the first {NUM_SHOWN} of {len(held_out)} "
        "images that the model was not trained on. Codes whose vectors are alike have similar colors.</p>",
        image_grid(originals[:NUM_SHOWN], outputs, color_codes(model.quantizer.codebook)),
        "<h3>Use of the codebook</h3>",
        "<p>How often each code occurs in the held-out images, the most frequent first. On the dashed line "
        "all codes would be equally frequent, and each would carry the most information.</p>",
        counts_plot({"GM-VQ": counts, "k-means on patches": baseline_counts}),
        "<h3>Training</h3>",
        "<p>The loss of GM-VQ and its weighted parts, summed over the pixels or the codes of an image, averaged over "
        "batches.</p>",
        loss_plot(loss_parts(log, model.config)),
        "<h3>Where this comes from</h3>",
        provenance(record),
    ]
    return Section("GM-VQ on handwritten digits", "\n".join(content))


def train_gmvq(
    config: DemoConfig, folder: Path, images: InMemoryImages, processor: GMVQImageProcessor
) -> tuple[GMVQModel, dict[str, Any]]:
    """Return the trained model and what `train` returns."""
    set_seed(config.seed)  # of the initial weights
    model = GMVQModel(
        GMVQConfig(
            image_size=8,
            num_channels=1,
            num_downsamples=2,
            hidden_size=64,
            codebook_size=64,
            codebook_dim=16,
            relaxation="straight_through",
            codebook_update="ema",
            feature_weights=False,
            revival_threshold=0.05,
            commitment_loss_weight=0.005,
            kl_loss_weight=0.3,
            temperature_anneal_steps=config.max_steps,
        )
    )
    training = TrainingConfig(
        output_dir=str(folder),
        max_steps=config.max_steps,
        per_device_train_batch_size=64,
        learning_rate=2e-3,
        warmup_steps=config.max_steps // 50,
        adam_beta2=0.99,
        max_grad_norm=1000.0,
        logging_steps=max(1, config.max_steps // 50),
        checkpointing_steps=None,
        seed=config.seed,
        cpu=True,
        progress_bar=config.progress_bar,
    )

    def before_training(accelerator: Accelerator, model: Any, loader: Any) -> None:
        def batches():
            while True:
                yield from loader

        start_codebook(
            accelerator,
            model,
            batches(),
            warmup_steps=config.max_steps // 10,
            learning_rate=training.learning_rate,
            seed=config.seed,
        )

    results = train(
        model,
        images,
        training,
        collate_fn=ImageCollator(processor),
        processor=processor,
        before_training=before_training,
    )
    return model.eval(), results


def all_pixels(images: InMemoryImages) -> Tensor:
    """Return the whole data set as one batch."""
    return torch.stack(
        [row["pixel_values"] for row in images.__getitems__(list(range(len(images))))]
    )


@torch.no_grad()
def check_reload(
    model: GMVQModel, folder: str, images: list[Image.Image], pixel_values: Tensor
) -> None:
    """End the program with an error unless the saved model and processor are those in memory, to the bit."""
    reloaded = AutoModel.from_pretrained(folder).eval()
    processor = AutoImageProcessor.from_pretrained(folder)
    expected, found = model.encode(pixel_values).codes, reloaded.encode(pixel_values).codes
    pairs = {
        "pixels": (pixel_values, processor(images, return_tensors="pt").pixel_values),
        "codes": (expected, found),
        "reconstructions": (
            model.decode(codes=expected).reconstruction,
            reloaded.decode(codes=found).reconstruction,
        ),
    }
    for name, (saved, loaded) in pairs.items():
        if not torch.equal(saved, loaded):
            raise SystemExit(
                f"{folder}: the {name} of the reloaded model differ from those of the saved one"
            )


def score_baselines(
    train_pixels: Tensor, test_pixels: Tensor, config: GMVQConfig, seed: int
) -> tuple[dict[str, dict[str, float]], Tensor]:
    """Return the figures of k-means on patches and of the mean image, and the code counts of the former."""
    stride = 2**config.num_downsamples

    def patches(pixels: Tensor) -> Tensor:
        return F.unfold(pixels, stride, stride=stride).movedim(1, -1)

    generator = torch.Generator().manual_seed(seed)
    centers, _ = kmeans(
        patches(train_pixels).flatten(0, 1), config.codebook_size, 50, generator=generator
    )
    codes = nearest_codes(patches(test_pixels), centers)
    decoded = F.fold(centers[codes].movedim(-1, 1), test_pixels.shape[-2:], stride, stride=stride)
    counts = code_counts(codes, config.codebook_size)
    mean_image = train_pixels.mean(dim=0).expand_as(test_pixels)
    return {
        "k-means on patches": {
            **errors(decoded, test_pixels),
            "codebook_usage": codebook_usage(counts),
            "perplexity": codebook_perplexity(counts),
        },
        "mean image": errors(mean_image, test_pixels),
    }, counts


def errors(reconstruction: Tensor, pixels: Tensor) -> dict[str, float]:
    """Return the figures as `evaluate_image_autoencoder` has them."""
    return {
        "mse": mse(reconstruction, pixels).mean().item(),
        "psnr": psnr(reconstruction, pixels).mean().item(),
    }


def loss_parts(
    log: Sequence[Mapping[str, float]], config: GMVQConfig
) -> dict[str, list[tuple[float, float]]]:
    """Return the curves of the loss and of its parts with their weights."""
    weights = {
        "loss": 1.0,
        "reconstruction_loss": 1.0,
        "commitment_loss": config.commitment_loss_weight,
        "kl_loss": config.kl_loss_weight,
    }
    return {
        (name if weight == 1 else f"{weight:g} · {name}"): [
            (line["step"], weight * line[name]) for line in log if name in line
        ]
        for name, weight in weights.items()
    }


COLUMNS = {
    "mse": ("MSE", ".5f"),
    "psnr": ("PSNR, dB", ".2f"),
    "codebook_usage": ("codes used", ".0%"),
    "perplexity": ("perplexity", ".1f"),
}


def figures(row: Mapping[str, float]) -> list[str]:
    """Return the cells of a row of the table."""
    return [format(row[name], spec) if name in row else "–" for name, (_, spec) in COLUMNS.items()]


def print_summary(rows: Mapping[str, Mapping[str, float]], results: Mapping[str, Any]) -> None:
    """Print the table."""
    print(f"\ntrained for {results['train_seconds']:.0f} s; figures of the held-out images:")
    print(" " * 20 + "".join(f"{title:>12}" for title, _ in COLUMNS.values()))
    for name, row in rows.items():
        print(f"{name:<20}" + "".join(f"{cell:>12}" for cell in figures(row)))
    print("saved, reloaded: the same codes and reconstructions, to the bit")


def describe_run(
    model: GMVQModel,
    results: Mapping[str, Any],
    metrics: Mapping[str, float],
    baselines: Mapping[str, Mapping[str, float]],
    num_train_images: int,
) -> str:
    """Return a paragraph that says what was done and how it compares."""
    config = model.config
    side = config.image_size // 2**config.num_downsamples
    bits = side**2 * math.log2(config.codebook_size)
    share = metrics["mse"] / baselines["k-means on patches"]["mse"]
    verdict = (
        f"{1 - share:.0%} below"
        if share < 0.995
        else "equal to"
        if share < 1.005
        else f"{share - 1:.0%} above"
    )
    return (
        f"<p>An autoencoder of {results['num_parameters']:,} parameters was trained on {num_train_images:,} "
        f"digits of {config.image_size} × {config.image_size} pixels, {results['step']:,} updates in "
        f"{results['train_seconds']:.0f} seconds. It turns an image into {side} × {side} codes out of "
        f"{config.codebook_size}, {bits:g} bits. On held-out digits its mean squared error is {verdict} that "
        "of k-means on patches with as many codes and bits. Saved and loaded again, it gives the same codes "
        "and reconstructions, to the bit.</p>"
    )


def metrics_table(rows: Mapping[str, Mapping[str, float]]) -> str:
    """Return the figures as a table."""
    head = ["", *(title for title, _ in COLUMNS.values())]
    return table(head, ([name, *figures(row)] for name, row in rows.items()))


def image_grid(
    originals: Sequence[Image.Image], outputs: Sequence[Mapping[str, Any]], colors: Any
) -> str:
    """Return each original above its reconstruction and its code map."""
    cells = []
    for original, output in zip(originals, outputs, strict=True):
        codes = output["codes"]
        text = "codes " + " / ".join(" ".join(map(str, row)) for row in codes.tolist())
        tags = [
            image_tag(original, "original"),
            image_tag(output["reconstruction"], "reconstruction"),
            image_tag(Image.fromarray(colors[codes]), text, "codes"),
        ]
        cells.append(f"<figure>{''.join(tags)}</figure>")
    return f'<div class="card images">{"".join(cells)}</div>'
