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
"""Topics over the codes of CIFAR-10's images: the same prior and budget, only what it is told about an image differs.

    python benchmarks/topic_image.py codes      # once: GM-VQ's codes, features of ResNet-56
    python benchmarks/topic_image.py anchors    # once: figures that need no prior, k-means on bags of codes
    python benchmarks/topic_image.py run --methods topics classes --seeds 0 1 2
    python benchmarks/topic_image.py run --methods without_logits without_clusters    # levers
    python benchmarks/topic_image.py speed      # sampling with and without cache, and by transformers' own generate
    python benchmarks/topic_image.py cross-modal    # after the runs: classes by their topics and by their names
    python benchmarks/topic_image.py sheets     # pictures of samples, from the saved run of seed 0
    python benchmarks/topic_image.py smoke      # does everything run?
    python benchmarks/topic_image.py report     # tables in docs/results/

Every run is one JSON record in benchmarks/results/topic_image/; a finished run is not repeated. The tokenizer is the
checkpoint that model_cards/gmvq-cifar10.md describes, trained by the command in its record. With `--validate` the last
5,000 training images stand in for the test set, and records go to runs/topic_image_trials/: for tuning.
"""

import argparse
import dataclasses
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from results import RESULTS, write_result
from topic_image_cross_modal import cross_modal
from topic_image_data import (
    CifarResNet,
    CodeData,
    Decoder,
    Part,
    frechet,
    make_codes,
    unigram_bits,
)
from topic_image_methods import LABELS, LEVERS, Budget, ImageMethod, bags_of, build_model
from topic_image_scores import (
    DEFINITIONS,
    Conditions,
    class_counts,
    class_topics,
    control_scores,
    likelihood_scores,
    sample_scores,
    topic_scores,
)
from topic_image_tables import FOLDER, report, sheets
from transformers import GPT2Config, GPT2LMHeadModel

from hf_vq import GMVQConfig, GMVQModel
from hf_vq.evaluation import write_record
from hf_vq.topics.metrics import kmeans_clusters, nmi, purity

TOKENIZER = Path("runs/gmvq-cifar10/best")
RUNS, TRIALS = Path("runs/topic_image"), Path("runs/topic_image_trials")


@dataclasses.dataclass(frozen=True)
class Extent:
    """How much is scored.

    Args:
        subset: images whose likelihood is also taken with topics of other images.
        num_samples: samples for a Frechet distance.
        samples_per_topic: samples for each topic, of each kind of proportions and guidance.
    """

    subset: int = 2_500
    num_samples: int = 2_500
    samples_per_topic: int = 25


def run(
    name: str,
    data: CodeData,
    decoder: Decoder,
    budget: Budget,
    extent: Extent,
    seed: int,
    folder: Path,
) -> None:
    """Train and score one method, unless its record says that it is done; topics of seed 0 are kept for pictures."""
    path = folder / f"{name}-seed{seed}.json"
    if path.exists():
        print(f"{path.name}: already there")
        return
    print(f"{path.stem}: {LABELS.get(name) or LEVERS[name][0]}", flush=True)
    method = ImageMethod(name, budget, data.codebook, data.train, seed)
    figures = method.fit(data.train, seed)
    started = time.process_time()
    conditions = Conditions(method, data.test, data.train, seed)
    figures |= likelihood_scores(conditions, extent.subset)
    figures |= sample_scores(conditions, decoder, extent.num_samples, seed)
    facts: dict[str, Any] = {}
    if name != "unconditional":
        figures |= control_scores(conditions, decoder, extent.samples_per_topic, seed)
    if name not in ("unconditional", "classes"):
        figures |= topic_scores(conditions, seed)
        facts = {
            "class_topics": class_topics(conditions),
            "class_counts": class_counts(conditions),
        }
    figures["score_cpu_seconds"] = time.process_time() - started
    record_data = {
        "name": "CIFAR-10",
        "split": data.test.name,
        "revision": data.facts["test"]["revision"],
        "tokenizer": data.facts["tokenizer"],
        "budget": dataclasses.asdict(budget),
        **facts,
    }
    write_record(path, path.stem, figures, data=record_data, seeds=[seed], definitions=DEFINITIONS)
    if name == "topics" and folder == RESULTS / FOLDER:
        method.model.save_pretrained(RUNS / path.stem)
    print(
        f"{path.stem}: {figures['bits_own']:.3f} bits per code, Frechet {figures['frechet']:.2f}, "
        f"{figures['train_cpu_seconds']:.0f} + {figures['score_cpu_seconds']:.0f} s of CPU",
        flush=True,
    )


def anchors(num_topics: int, seeds: tuple[int, ...] = (0, 1, 2)) -> None:
    """What frames the tables: entropies of codes, distances of real images, and clusters without any prior."""
    data, extent = CodeData.load(), Extent()
    test, train, size = data.test, data.train, len(data.codebook)
    labels = test.labels.numpy()
    bags = bags_of(test.codes, size)
    # Words of documents are usually weighted by how few images have them.
    rarity = -(bags_of(train.codes, size) > 0).double().mean(dim=0).clamp_min(1e-4).log()
    kinds = {
        "bags of codes": bags,
        "square roots of the counts": bags.sqrt(),
        "log-counts weighted by rarity, norm 1": torch.nn.functional.normalize(
            bags.log1p().double() * rarity, dim=-1
        ),
        "mean code vectors": data.codebook[test.codes.flatten(1)].mean(dim=1),
        "ResNet-56 features (they know the classes)": test.image_features,
    }
    clusters: dict[str, Any] = {}
    for name, rows in kinds.items():
        found = [kmeans_clusters(rows.numpy(), num_topics, seed) for seed in seeds]
        clusters[name] = {
            "nmi": [nmi(labels, each) for each in found],
            "purity": [purity(labels, each) for each in found],
        }
        print(name, clusters[name], flush=True)
    sample = torch.randperm(len(train), generator=torch.Generator().manual_seed(0))
    features = train.image_features[sample]
    content = {
        "data": {"name": "CIFAR-10", "split": "test", "revision": data.facts["test"]["revision"]},
        "tokenizer": data.facts,
        "uniform_bits": float(np.log2(size)),
        "unigram_bits": unigram_bits(train.codes, test.codes, size),
        "frechet_train": frechet(features[: len(test)], test.image_features),
        "frechet_train_few": frechet(features[: extent.num_samples], test.image_features),
        "num_few": extent.num_samples,
        "frechet_reconstructions": frechet(test.features, test.image_features),
        "num_clusters": num_topics,
        "clusters": clusters,
    }
    write_result("topic_image_anchors", content, "python benchmarks/topic_image.py anchors")


def speed(num_images: int = 64, repeats: int = 7) -> None:
    """Sampling 64 images: ours with and without cache, and GPT-2 by transformers' `generate`, in turns."""
    budget = Budget()
    torch.manual_seed(0)
    model = build_model("topics", budget, torch.randn(1024, 64), (8, 8)).eval()
    sizes = {"n_embd": budget.hidden_size, "n_layer": budget.num_layers, "n_head": budget.num_heads}
    no_tokens = dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id"))
    gpt2 = GPT2LMHeadModel(
        GPT2Config(vocab_size=1024, n_positions=65, tie_word_embeddings=False, **sizes, **no_tokens)
    ).eval()
    proportions = model.sample_topics(num_images)
    start = torch.zeros(num_images, 1, dtype=torch.int64)
    mask = torch.ones_like(start)
    ways: dict[str, Callable[[], torch.Tensor]] = {
        "ours, cache": lambda: model.generate(proportions),
        "ours, no cache": lambda: model.generate(proportions, use_cache=False),
        "ours, cache, guided": lambda: model.generate(proportions, guidance_scale=2.0),
        "GPT-2, generate": lambda: gpt2.generate(
            start, attention_mask=mask, max_new_tokens=64, do_sample=True, top_k=0
        ),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(repeats + 1):
        for name, sample in ways.items():
            started = time.perf_counter()
            assert sample().numel() >= 64 * num_images
            seconds[name].append(time.perf_counter() - started)
    # The first round warms up; medians, since other work shares the machine.
    medians = {name: statistics.median(values[1:]) for name, values in seconds.items()}
    content = {
        "num_images": num_images,
        "num_codes": 64,
        "hidden_size": budget.hidden_size,
        "num_layers": budget.num_layers,
        "threads": torch.get_num_threads(),
        "repeats": repeats,
        "seconds": medians,
        "cache_speedup": medians["ours, no cache"] / medians["ours, cache"],
        "speed_of_gpt2": medians["GPT-2, generate"] / medians["ours, cache"],
    }
    print(content)
    write_result("topic_image_speed", content, "python benchmarks/topic_image.py speed")


def synthetic_data(num_images: int = 128, codebook_size: int = 24) -> CodeData:
    """Codes, labels and features that mean nothing, on a small map."""
    generator = torch.Generator().manual_seed(0)

    def part(name: str) -> Part:
        codes = torch.randint(codebook_size, (num_images, 8, 8), generator=generator)
        labels = torch.arange(num_images) % 10
        features = torch.randn(2, num_images, 64, generator=generator)
        return Part(name, codes, codes.flip(-1), labels, features[0], features[1])

    codebook = torch.randn(codebook_size, 4, generator=generator)
    facts = {"tokenizer": "none", "test": {"revision": "synthetic"}}
    return CodeData(part("train"), part("test"), codebook, facts)


class SyntheticDecoder(Decoder):
    """An untrained tokenizer and an untrained ResNet."""

    def __init__(self, codebook_size: int = 24):
        """See the class."""
        config = GMVQConfig(codebook_size=codebook_size, codebook_dim=4, hidden_size=8)
        torch.manual_seed(0)
        self.tokenizer, self.resnet = GMVQModel(config).eval(), CifarResNet(num_blocks=1).eval()


def smoke() -> None:
    """Every method for a few steps on codes that mean nothing: that it runs, not how good it is."""
    budget = Budget(
        steps=3,
        batch_size=16,
        num_topics=4,
        hidden_size=16,
        num_layers=2,
        num_heads=2,
        pixelcnn_width=8,
        pixelcnn_layers=2,
    )
    extent = Extent(subset=32, num_samples=70, samples_per_topic=4)
    data, decoder = synthetic_data(), SyntheticDecoder()
    with tempfile.TemporaryDirectory() as folder:
        for name in LABELS:
            run(name, data, decoder, budget, extent, 0, Path(folder))


def main() -> None:
    """Parse and dispatch."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    subparsers = parser.add_subparsers(dest="command", required=True)
    run_parser = subparsers.add_parser("run", help="train and score")
    run_parser.add_argument("--methods", nargs="+", required=True, choices=(*LABELS, *LEVERS))
    run_parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    run_parser.add_argument("--validate", action="store_true", help="leave the test set alone")
    run_parser.add_argument("--steps", type=int, default=Budget.steps, help="updates")
    for name, help_text in (
        ("codes", "codes and features, once"),
        ("anchors", "figures that need no prior"),
        ("speed", "time of sampling"),
        ("cross-modal", "classes by their topics and by their names"),
        ("sheets", "pictures of samples"),
        ("smoke", "whether everything runs"),
        ("report", "tables and plots"),
    ):
        subparsers.add_parser(name, help=help_text)
    for subparser in subparsers.choices.values():
        subparser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.command == "run":
        data, decoder = CodeData.load(arguments.validate), Decoder(TOKENIZER)
        folder = TRIALS if arguments.validate else RESULTS / FOLDER
        budget = Budget(steps=arguments.steps)
        for seed in arguments.seeds:
            for method in arguments.methods:
                run(method, data, decoder, budget, Extent(), seed, folder)
    else:
        commands: dict[str, Callable[[], None]] = {
            "codes": lambda: make_codes(TOKENIZER),
            "anchors": lambda: anchors(Budget.num_topics),
            "speed": speed,
            "cross-modal": cross_modal,
            "sheets": lambda: sheets(RUNS / "topics-seed0", Decoder(TOKENIZER)),
            "smoke": smoke,
            "report": report,
        }
        commands[arguments.command]()


if __name__ == "__main__":
    main()
