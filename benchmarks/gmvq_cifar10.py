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
"""GM-VQ against other quantizers on CIFAR-10: same encoder, decoder, loop and updates, only the quantizer differs.

    python benchmarks/gmvq_cifar10.py run --methods gmvq vq_ema_revived --seeds 0 1 2   # any subset
    python benchmarks/gmvq_cifar10.py run --methods gmvq --seeds 0 --steps 4500 --name long
    python benchmarks/gmvq_cifar10.py anchors     # patch k-means, Gaussian rate-distortion reference
    python benchmarks/gmvq_cifar10.py overhead    # the quantizer's share of a training step
    python benchmarks/gmvq_cifar10.py smoke       # does everything run?
    python benchmarks/gmvq_cifar10.py report      # tables and plot in docs/results/

Setting A: 8 x 8 codes of 1024, width 64, pixels in [0, 1]. Training uses all 50,000 training images (with --validate
the last 5,000 are held out and scored instead of the test set: for tuning); the figures are of the whole test set, from
hard codes only. Every run is one JSON record in benchmarks/results/gmvq_cifar10/; a finished run is not repeated.
"""

import argparse
import functools
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import datasets
import torch
import yaml
from peer_quantizers import PEERS, PeerQuantizer
from PIL import Image
from results import (
    REPORTS,
    RESULTS,
    markdown_table,
    mean_and_spread,
    read_results,
    write_readme_block,
    write_result,
)
from torch.utils.data import DataLoader

from hf_vq import GMVQConfig, GMVQImageProcessor, GMVQModel
from hf_vq.codebook_start import start_codebook
from hf_vq.data import ImageCollator, InMemoryImages, load_images
from hf_vq.evaluation import evaluate_image_autoencoder, write_record
from hf_vq.models.vector_quantization import QuantizerOutput, entropy, kmeans, nearest_codes
from hf_vq.training import TrainingConfig, train

ARCHITECTURE = {"hidden_size": 128, "residual_hidden_size": 32, "num_residual_blocks": 2}
TUNED = {
    "relaxation": "straight_through",
    "codebook_update": "ema",
    "feature_weights": False,
    "ema_decay": 0.95,
    "commitment_loss_weight": 0.02,
}
# Ours: (label, configuration).
OURS: dict[str, tuple[str, dict]] = {
    "gmvq": ("GM-VQ (ours)", {**TUNED, "kl_loss_weight": 4.0, "revival_threshold": 0.5}),
    "gmvq_light": (
        "GM-VQ (ours), divergence and revival weaker",
        {**TUNED, "kl_loss_weight": 1.0, "revival_threshold": 0.25},
    ),
    "ema": ("EMA quantizer (ours)", {"quantizer": "ema", "commitment_loss_weight": 0.19}),
    "gmvq_paper": ("GM-VQ as published (ours)", {}),
}
CARD_RECIPE = REPORTS.parent.parent / "scripts" / "configs" / "gmvq-cifar10.yaml"
CARD_RECORD = REPORTS.parent.parent / "model_cards" / "gmvq-cifar10.json"
DEFINITIONS = {
    "steps": "updates, warm-up included",
    "train_seconds": "wall time of training, of a machine that other work shared",
    "threads": "CPU threads of the run",
}


def config_for(method: str, steps: int) -> GMVQConfig:
    """The model of a method; peers have their quantizer replaced afterwards."""
    own = OURS[method][1] if method in OURS else {"quantizer": "ema", "commitment_loss_weight": 1.0}
    return GMVQConfig(**ARCHITECTURE, **own, temperature_anneal_steps=max(1, int(0.9 * steps)))


def build_model(method: str, steps: int, seed: int) -> GMVQModel:
    """A fresh model, the same weights for every quantizer of equal input width."""
    torch.manual_seed(seed)
    model = GMVQModel(config_for(method, steps))
    if method in PEERS:
        model.quantizer = PeerQuantizer(
            method, model.config.codebook_size, model.config.codebook_dim
        )
        if method == "gumbel":
            model.quantizer.peer.anneal_steps = int(0.9 * steps)
    return model.to(memory_format=torch.channels_last)


def load_cifar10(source: str, validate: bool) -> tuple[InMemoryImages, InMemoryImages, str]:
    """Training images, held-out images and the name of the held-out split."""
    processor = GMVQImageProcessor(size={"height": 32, "width": 32})
    splits = ("train[:-5000]", "train[-5000:]") if validate else ("train", "test")
    train_data, test_data = (
        InMemoryImages(load_images(source, split), processor) for split in splits
    )
    return train_data, test_data, splits[1]


def run(method: str, seed: int, arguments: argparse.Namespace, folder: Path) -> None:
    """Train and score one method once; the record is the proof that it is done."""
    suffix = f"-{arguments.name}" if arguments.name else ""
    path = folder / f"{method}{suffix}-seed{seed}.json"
    if path.exists():
        print(f"{path.name}: already there")
        return
    train_data, test_data, test_split = arguments.load()
    model = build_model(method, arguments.steps, seed)

    def before_training(accelerator, model, batches):
        start_codebook(accelerator, model, batches, warmup_steps=arguments.warmup_steps, seed=seed)

    with tempfile.TemporaryDirectory() as folder:
        config = TrainingConfig(
            output_dir=folder,
            max_steps=arguments.steps - arguments.warmup_steps,
            per_device_train_batch_size=arguments.batch_size,
            learning_rate=1e-3,
            warmup_steps=100,
            weight_decay=1e-4,
            adam_beta2=0.99,
            max_grad_norm=None,
            mixed_precision="bf16",
            checkpointing_steps=None,
            logging_steps=100,
            seed=seed,
            cpu=not torch.cuda.is_available(),
            progress_bar=sys.stderr.isatty(),
        )
        started = time.monotonic()
        train(
            model,
            train_data,
            config,
            collate_fn=ImageCollator(horizontal_flip=True),
            before_training=before_training,
        )
        seconds = time.monotonic() - started
    metrics = evaluate_image_autoencoder(
        model, DataLoader(test_data, 500, collate_fn=ImageCollator())
    )
    metrics |= {
        "steps": arguments.steps,
        "train_seconds": seconds,
        "threads": torch.get_num_threads(),
    }
    print(
        f"{path.stem}: mse {1e3 * metrics['mse']:.3f}e-3, perplexity {metrics['perplexity']:.0f}",
        flush=True,
    )
    write_record(
        path,
        path.stem,
        metrics,
        data={"name": "CIFAR-10", "split": test_split, "revision": test_data.revision},
        seeds=[seed],
        definitions=DEFINITIONS,
    )


def overhead(arguments: argparse.Namespace) -> None:
    """Time of a training step with each quantizer over that with none, in turns within one run."""
    images = torch.rand(arguments.batch_size, 3, 32, 32).contiguous(
        memory_format=torch.channels_last
    )
    record: dict[str, object] = {
        "batch_size": arguments.batch_size,
        "threads": torch.get_num_threads(),
        "networks": {},
    }
    for hidden_size, residual in ((128, 32), (256, 256)):
        steps = {}
        for name in ("identity", "gmvq", "gmvq_paper", "ema", "vq_ema_revived"):
            torch.manual_seed(0)
            sizes = {"hidden_size": hidden_size, "residual_hidden_size": residual}
            kind = OURS[name][1] if name in OURS else {"quantizer": "ema"}
            model = GMVQModel(GMVQConfig(**sizes, **kind)).to(memory_format=torch.channels_last)
            if name in PEERS:
                model.quantizer = PeerQuantizer(name, 1024, 64)
            elif name == "identity":
                model.quantizer = _Identity(model.quantizer)
            steps[name] = _step_of(model, images)
        seconds: dict[str, list[float]] = {name: [] for name in steps}
        for _ in range(arguments.repeats):
            for name, step in steps.items():
                started = time.perf_counter()
                step()
                seconds[name].append(time.perf_counter() - started)
        # The first round warms up; medians, since other work shares the machine.
        medians = {name: statistics.median(values[1:]) for name, values in seconds.items()}
        ratios = {name: value / medians["identity"] for name, value in medians.items()}
        record["networks"][f"hidden_size={hidden_size}, residual_hidden_size={residual}"] = {
            "seconds": medians,
            "ratio_to_identity": ratios,
        }
        print(hidden_size, {name: round(ratio, 3) for name, ratio in ratios.items()}, flush=True)
    write_result("gmvq_overhead", record, command="python benchmarks/gmvq_cifar10.py overhead")


def smoke(arguments: argparse.Namespace) -> None:
    """Every method for a few steps: that it runs and gives finite figures, not how good it is."""
    pixels = torch.randint(
        256, (96, 32, 32, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8
    )
    noise = datasets.Dataset.from_dict(
        {"image": [Image.fromarray(image.numpy()) for image in pixels]}
    )
    images = InMemoryImages(noise, GMVQImageProcessor())
    arguments.load = lambda: (images, images, "noise")
    arguments.steps, arguments.warmup_steps, arguments.batch_size, arguments.name = 5, 2, 16, ""
    with tempfile.TemporaryDirectory() as folder:
        for method in (*OURS, *PEERS):
            run(method, 0, arguments, Path(folder))


class _Identity(torch.nn.Module):
    """No quantizer: the decoder reads the latents. Keeps the width of the encoder's output."""

    def __init__(self, quantizer: torch.nn.Module):
        super().__init__()
        self.input_dim, self.codebook_dim = quantizer.input_dim, quantizer.codebook_dim

    def forward(self, latents: torch.Tensor, mask: None = None) -> QuantizerOutput:
        vectors, zero = latents[..., : self.codebook_dim], latents.new_zeros(())
        codes = torch.zeros(latents.shape[:-1], dtype=torch.int64)
        return QuantizerOutput(
            vectors, vectors, codes, latents.new_zeros(len(latents)), zero, zero, zero
        )

    def proxies(self, latents: torch.Tensor) -> torch.Tensor:
        return latents[..., : self.codebook_dim]


def _step_of(model: GMVQModel, images: torch.Tensor) -> Callable[[], None]:
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    model.train()

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16):
            loss = model(images).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def anchors(arguments: argparse.Namespace) -> None:
    """Figures that frame the table: what patch k-means reaches, and what a Gaussian source would allow."""
    train_data, test_data, _ = load_cifar10(arguments.data, validate=False)
    train_pixels, test_pixels = train_data.pixels / 255, test_data.pixels / 255
    train_patches, test_patches = (
        torch.nn.functional.unfold(pixels, 4, stride=4).movedim(1, 2).flatten(0, 1)
        for pixels in (train_pixels, test_pixels)
    )
    generator = torch.Generator().manual_seed(0)
    sample = train_patches[torch.randint(len(train_patches), (100_000,), generator=generator)]
    centers, _ = kmeans(sample, 1024, num_iterations=30, generator=generator)
    codes = nearest_codes(test_patches, centers)
    counts = torch.bincount(codes, minlength=1024).double()
    covariance = torch.cov(train_pixels.flatten(1).T)
    result = {
        "data": {"name": "CIFAR-10", "split": "test", "revision": test_data.revision},
        "patch_kmeans_mse": (centers[codes] - test_patches).square().mean().item(),
        "patch_kmeans_perplexity": entropy(counts / counts.sum()).exp().item(),
        "gaussian_reference_mse": _distortion(torch.linalg.eigvalsh(covariance.double()), bits=640),
        "bits": 640,
    }
    print(result)
    write_result("gmvq_anchors", result, command="python benchmarks/gmvq_cifar10.py anchors")


def _distortion(variances: torch.Tensor, bits: float) -> float:
    """Reverse water-filling: error per dimension of a Gaussian source with these variances at so many bits."""
    low, high = 0.0, variances.max().item()
    for _ in range(100):
        level = (low + high) / 2
        rate = 0.5 * torch.log2(variances.clamp_min(level) / level).sum().item()
        low, high = (level, high) if rate > bits else (low, level)
    return variances.clamp(min=0, max=level).mean().item()


def report(arguments: argparse.Namespace) -> None:
    """Render docs/results/gmvq_cifar10.md and its plot from the records."""
    labels = {
        **{name: label for name, (label, _) in OURS.items()},
        **{name: label for name, (label, _) in PEERS.items()},
    }
    groups: dict[str, list[dict]] = {}
    for stem, record in read_results("gmvq_cifar10").items():
        groups.setdefault(stem.rsplit("-seed", 1)[0], []).append(record["metrics"])
    tables = {"comparison": [], "long": []}
    for name, runs in sorted(
        groups.items(), key=lambda item: statistics.mean(run["mse"] for run in item[1])
    ):
        method, _, kind = name.partition("-")
        row = [
            labels[method],
            mean_and_spread([1e3 * run["mse"] for run in runs], 3),
            mean_and_spread([run["psnr"] for run in runs], 2),
            mean_and_spread([run["ssim"] for run in runs], 3),
            mean_and_spread([run["perplexity"] for run in runs], 0),
            mean_and_spread([100 * run["codebook_usage"] for run in runs], 1),
            str(runs[0]["steps"]),
            f"{statistics.mean(run['train_seconds'] for run in runs) / 60:.0f}",
            str(len(runs)),
        ]
        tables["long" if kind else "comparison"].append(row)
    header = [
        "quantizer",
        "MSE e-3",
        "PSNR",
        "SSIM",
        "perplexity",
        "usage %",
        "updates",
        "minutes",
        "seeds",
    ]
    REPORTS.mkdir(parents=True, exist_ok=True)
    template = (REPORTS / "gmvq_cifar10.template.md").read_text(encoding="utf-8")
    frame = json.loads((RESULTS / "gmvq_anchors.json").read_text(encoding="utf-8"))
    for key in ("patch_kmeans_mse", "gaussian_reference_mse"):
        template = template.replace("{{" + key + "}}", f"{1e3 * frame[key]:.2f}e-3")
    perplexity = f"{frame['patch_kmeans_perplexity']:.0f}"
    template = template.replace("{{patch_kmeans_perplexity}}", perplexity)
    card = json.loads(CARD_RECORD.read_text(encoding="utf-8"))
    training = yaml.safe_load(CARD_RECIPE.read_text(encoding="utf-8"))["training"]
    template = template.replace("{{card_steps}}", str(training["max_steps"]))
    batch = str(training["per_device_train_batch_size"])
    template = template.replace("{{card_batch}}", batch)
    template = template.replace("{{card_mse}}", f"{1e3 * card['metrics']['mse']:.3f}e-3")
    template = template.replace("{{card_perplexity}}", f"{card['metrics']['perplexity']:.0f}")
    template = template.replace("{{card_usage}}", f"{card['metrics']['codebook_usage']:.1%}")
    for key, rows in tables.items():
        table = markdown_table(header, rows) if rows else ""
        template = template.replace("{{" + key + "}}", table)
    template = template.replace("{{overhead}}", _overhead_table())
    (REPORTS / "gmvq_cifar10.md").write_text(template, encoding="utf-8")
    columns = (0, 1, 4, 5, 8)
    table = markdown_table(
        [header[i] for i in columns], [[row[i] for i in columns] for row in tables["comparison"]]
    )
    write_readme_block(
        "gmvq",
        "CIFAR-10 test set, 64 codes of 1024 for an image, equal network and updates "
        f"({tables['comparison'][0][6]} of 128 images: minutes on a CPU core), only the quantizer differs; "
        "mean ± standard deviation over seeds. Protocol, anchors, longer runs and step times are in "
        f"[docs/results/gmvq_cifar10.md](docs/results/gmvq_cifar10.md).\n\n{table}",
    )
    _plot(groups, labels)


def _overhead_table() -> str:
    record = json.loads((RESULTS / "gmvq_overhead.json").read_text(encoding="utf-8"))
    names = list(next(iter(record["networks"].values()))["ratio_to_identity"])
    rows = [
        [network, *(f"{figures['ratio_to_identity'][name]:.2f}" for name in names)]
        for network, figures in record["networks"].items()
    ]
    return markdown_table(["network", *names], rows)


def _plot(groups: dict[str, list[dict]], labels: dict[str, str]) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4.5))
    for name, runs in groups.items():
        if "-" in name:
            continue
        ours = name in OURS
        x, y = [run["perplexity"] for run in runs], [1e3 * run["mse"] for run in runs]
        axes.scatter(x, y, marker="*" if ours else "o", s=90 if ours else 40, label=labels[name])
    axes.set(
        xlabel="perplexity of the test set's codes",
        ylabel="MSE e-3",
        title="CIFAR-10 test, 64 codes of 1024, equal updates",
    )
    axes.legend(fontsize=7)
    figure.tight_layout()
    figure.savefig(REPORTS / "gmvq_cifar10.png", dpi=120)


def main() -> None:
    """Parse and dispatch."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    subparsers = parser.add_subparsers(dest="command", required=True)
    run_parser = subparsers.add_parser("run", help="train and score")
    run_parser.add_argument("--methods", nargs="+", required=True, choices=[*OURS, *PEERS])
    run_parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    run_parser.add_argument("--steps", type=int, default=1500, help="updates, warm-up included")
    run_parser.add_argument(
        "--warmup-steps", type=int, default=100, help="of these, without quantizer"
    )
    run_parser.add_argument("--batch-size", type=int, default=128)
    run_parser.add_argument("--data", default=".data/cifar10", help="folder or Hub id of CIFAR-10")
    run_parser.add_argument("--name", default="", help="keeps runs of another length apart")
    run_parser.add_argument("--threads", type=int, default=2)
    run_parser.add_argument(
        "--validate",
        action="store_true",
        help="hold out 5,000 training images, leave the test set alone",
    )
    overhead_parser = subparsers.add_parser("overhead", help="time a training step")
    overhead_parser.add_argument("--batch-size", type=int, default=256)
    overhead_parser.add_argument("--repeats", type=int, default=11)
    overhead_parser.add_argument("--threads", type=int, default=2)
    anchors_parser = subparsers.add_parser("anchors", help="patch k-means, Gaussian reference")
    anchors_parser.add_argument("--data", default=".data/cifar10")
    anchors_parser.add_argument("--threads", type=int, default=2)
    subparsers.add_parser(
        "smoke", help="every method for a few steps on noise, nothing is kept"
    ).add_argument("--threads", type=int, default=1)
    subparsers.add_parser("report", help="tables and plot").add_argument(
        "--threads", type=int, default=1
    )
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.command == "run":
        arguments.load = functools.cache(lambda: load_cifar10(arguments.data, arguments.validate))
        for seed in arguments.seeds:
            for method in arguments.methods:
                run(method, seed, arguments, RESULTS / "gmvq_cifar10")
    else:
        commands = {"anchors": anchors, "overhead": overhead, "report": report, "smoke": smoke}
        commands[arguments.command](arguments)


if __name__ == "__main__":
    main()
