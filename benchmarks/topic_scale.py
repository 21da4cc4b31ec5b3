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
"""Does TopicVQ train on a million short documents in bounded memory?

    python benchmarks/topic_scale.py run                       # 10,000, 100,000 and 1,000,000 documents
    python benchmarks/topic_scale.py run --sizes 10000         # one of them
    python benchmarks/topic_scale.py report                    # table and curves, from the records
    python benchmarks/topic_scale.py smoke                     # does it run?

Documents are synthetic: a dozen words, drawn from a topic of their own and from what all share. They lie in a text
file, which a child process streams: vocabulary, word vectors from the first documents, codebook, bags on disk, topics.
What the process keeps for itself (anonymous memory) is measured ten times a second beside its whole resident memory, of
which pages of files that the system could drop at any time are a part. Records: benchmarks/results/topic_scale/.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import torch
from results import REPORTS, markdown_table, read_results, write_result

from hf_vq import TopicVQConfig, TopicVQModel, TopicVQProcessor
from hf_vq.topics.corpus import TopicCorpus
from hf_vq.topics.documents import TextStream
from hf_vq.topics.metrics import nmi
from hf_vq.topics.streamed_embeddings import StreamedWordEmbeddings
from hf_vq.topics.training import TopicTrainingConfig, topic_proportions, train_topic_vq
from hf_vq.topics.word_embeddings import CorpusEncoder

matplotlib.use("Agg")

import matplotlib.pyplot as plt  # noqa: E402

FOLDER = "topic_scale"
SIZES = (10_000, 100_000, 1_000_000)
NUM_TOPICS, VOCABULARY, WORDS, OWN_WORDS = 50, 5_000, 12, 0.7
# Of the corpus that word vectors are made from and of the documents that are scored.
ENCODED_FIRST, SCORED = 20_000, 10_000
INTERVAL = 0.1


def documents(number: int, seed: int = 0) -> Iterator[tuple[int, str]]:
    """Yield topic and text of synthetic documents, some thousand at a time in memory."""
    generator = np.random.default_rng(seed)
    ranks = 1 / np.arange(1, VOCABULARY + 1)
    shared = np.cumsum(ranks / ranks.sum())
    owned = VOCABULARY // NUM_TOPICS
    for start in range(0, number, 10_000):
        size = min(10_000, number - start)
        topics = generator.integers(NUM_TOPICS, size=size)
        everywhere = np.searchsorted(shared, generator.random((size, WORDS)))
        own = topics[:, None] + NUM_TOPICS * generator.integers(owned, size=(size, WORDS))
        words = np.where(generator.random((size, WORDS)) < OWN_WORDS, own, everywhere)
        for topic, row in zip(topics.tolist(), words.tolist(), strict=True):
            yield topic, " ".join(f"w{word:04d}" for word in row)


class MemoryCurve(threading.Thread):
    """Measures the memory of this process until it is stopped: seconds, own and resident megabytes."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.points: list[tuple[float, float, float]] = []
        self.ended = threading.Event()
        self.started = time.monotonic()

    def run(self) -> None:
        """Measure now and then."""
        while not self.ended.wait(INTERVAL):
            self.measure()

    def measure(self) -> tuple[float, float, float]:
        """Measure now."""
        lines = Path("/proc/self/status").read_text().splitlines()
        kilobytes = {
            name: int(line.split()[1])
            for line in lines
            if (name := line.partition(":")[0]) in ("RssAnon", "VmRSS")
        }
        seconds = time.monotonic() - self.started
        self.points.append((seconds, kilobytes["RssAnon"] / 1e3, kilobytes["VmRSS"] / 1e3))
        return self.points[-1]

    def stop(self) -> dict[str, Any]:
        """End, and return the peaks and at most 200 points of the curve, each the largest of its stretch."""
        self.ended.set()
        self.join()
        self.measure()
        step = -(-len(self.points) // 200)
        curve = [
            [round(max(column), 1) for column in zip(*self.points[i : i + step], strict=True)]
            for i in range(0, len(self.points), step)
        ]
        _, own, resident = (max(column) for column in zip(*self.points, strict=True))
        return {"peak_own_mb": own, "peak_resident_mb": resident, "curve": curve}


def train_in_this_process(number: int, epochs: float | None) -> dict[str, Any]:
    """Train on so many documents; times, memory, and whether the topics are those of the documents."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with (folder / "texts.txt").open("w") as file:
            file.writelines(f"{text}\n" for _, text in documents(number))
        memory = MemoryCurve()
        memory.start()
        clock = Clock()
        stream = TextStream(folder / "texts.txt")
        processor = TopicVQProcessor(token_pattern=r"\w+").fit_vocabulary(stream, min_df=5)
        clock.stop("vocabulary")
        encoder = CorpusEncoder.fit(islice(stream, ENCODED_FIRST), processor)
        clock.stop("word_vectors")
        torch.manual_seed(0)
        config = TopicVQConfig(
            num_topics=NUM_TOPICS,
            vocab_size=processor.vocab_size,
            word_embedding_dim=encoder.dim,
        )
        model = TopicVQModel(config)
        embeddings = StreamedWordEmbeddings(stream, processor, encoder)
        training = TopicTrainingConfig(
            str(folder / "run"), topic_epochs=epochs, cpu=True, progress_bar=False
        )
        results = train_topic_vq(model, embeddings, training)
        clock.stop("training")
        content = {"memory": memory.stop(), "seconds": clock.seconds}
        content["seconds"]["of_it_topic_steps"] = results["topics"]["train_seconds"]
        bags = TopicCorpus.load(folder / "run" / "bags" / "train")
        rows = range(min(number, SCORED))
        known = TopicCorpus(
            bags.code_counts[: len(rows)],
            bags.word_counts[: len(rows)],
            bags.num_words[: len(rows)],
            None if bags.document_vectors is None else bags.document_vectors[: len(rows)],
        )
        found = topic_proportions(model, known).argmax(axis=1)
        truth = [topic for topic, _ in islice(documents(number), len(rows))]
        sizes = {
            part: sum(f.stat().st_size for f in (folder / part).rglob("*") if f.is_file()) / 1e6
            for part in ("texts.txt", "run/bags", "run/final")
        }
        sizes["texts.txt"] = (folder / "texts.txt").stat().st_size / 1e6
        return content | {
            "documents": number,
            "steps": results["topics"]["step"],
            "documents_per_second": number / clock.total,
            "disk_mb": sizes,
            "nmi_with_the_drawn_topics": nmi(truth, found.tolist()),
        }


class Clock:
    """Seconds of one part after the other."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.last = self.first = time.monotonic()

    def stop(self, part: str) -> None:
        """End a part."""
        now = time.monotonic()
        self.seconds[part], self.last = now - self.last, now

    @property
    def total(self) -> float:
        """All parts together."""
        return self.last - self.first


def run(sizes: Sequence[int]) -> None:
    """Train on each number of documents in a process of its own, and write the records."""
    for number in sizes:
        command = [sys.executable, __file__, "child", "--sizes", str(number)]
        output = subprocess.run(command, capture_output=True, text=True, check=False)
        if output.returncode:
            raise RuntimeError(output.stderr[-3000:])
        content = json.loads(output.stdout.splitlines()[-1])
        command_line = f"python benchmarks/topic_scale.py run --sizes {number}"
        print(write_result(f"{FOLDER}/{number}", content, command_line))


def report() -> None:
    """Write docs/results/topic_scale.md and .png from the records."""
    records = sorted(read_results(FOLDER).values(), key=lambda record: record["documents"])
    header = ["documents", "peak memory of its own, MB", "peak resident, MB", "bags on disk, MB"]
    header += ["steps", "minutes", "documents a second", "NMI with the drawn topics"]
    rows = [
        [
            f"{r['documents']:,}",
            f"{r['memory']['peak_own_mb']:.0f}",
            f"{r['memory']['peak_resident_mb']:.0f}",
            f"{r['disk_mb']['run/bags']:.0f}",
            f"{r['steps']:,}",
            f"{r['documents'] / r['documents_per_second'] / 60:.1f}",
            f"{r['documents_per_second']:.0f}",
            f"{r['nmi_with_the_drawn_topics']:.3f}",
        ]
        for r in records
    ]
    hardware = records[0]["hardware"]
    text = TEMPLATE.format(
        table=markdown_table(header, rows),
        words=WORDS,
        vocabulary=f"{VOCABULARY:,}",
        topics=NUM_TOPICS,
        machine=f"{hardware['cpu']}, {hardware['cores']} cores",
        commits=", ".join(sorted({f"`{r['commit'][:7]}`" for r in records})),
    )
    (REPORTS / f"{FOLDER}.md").write_text(text, encoding="utf-8")
    _plot(records)


TEMPLATE = """# TopicVQ on up to a million documents

Written by `benchmarks/topic_scale.py report` from the records in `benchmarks/results/topic_scale/`; do not edit.

Synthetic documents of {words} words over a vocabulary of {vocabulary}, in a text file that is streamed; {topics}
topics; word vectors made from the first documents. Memory of its own is what the process cannot give back (anonymous
memory, the libraries' included); resident memory also counts pages of files that the system may drop. Other work ran on
the machine at the same time ({machine}), so seconds are upper bounds. Commits {commits}.

{table}

![Memory over time](topic_scale.png)
"""


def _plot(records: Sequence[dict[str, Any]]) -> None:
    figure, axes = plt.subplots(figsize=(8, 4), layout="constrained")
    for record in records:
        seconds, own, _ = np.array(record["memory"]["curve"]).T
        axes.plot(seconds / seconds[-1], own, label=f"{record['documents']:,} documents")
    axes.set(xlabel="share of the run", ylabel="memory of its own, MB", ylim=(0, None))
    axes.legend()
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(REPORTS / f"{FOLDER}.png", dpi=120)
    plt.close(figure)


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("action", choices=["run", "report", "smoke", "child"])
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    options = parser.parse_args()
    if options.action == "run":
        run(options.sizes)
    elif options.action == "report":
        report()
    elif options.action == "child":
        print(json.dumps(train_in_this_process(options.sizes[0], None)))
    else:
        content = train_in_this_process(500, 1.0)
        memory = content["memory"]
        print(f"{content['documents']} documents, at most {memory['peak_own_mb']:.0f} MB")


if __name__ == "__main__":
    main()
