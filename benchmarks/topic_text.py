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
"""TopicVQ beside other topic models: the same documents, words, encoder and scores; only the model differs.

    python benchmarks/topic_text.py run --methods topic_vq bertopic --corpora bbc_news --num-topics 20 50 --seeds 0 1 2
    python benchmarks/topic_text.py smoke       # does everything that is installed run?
    python benchmarks/topic_text.py speed       # beside BERTopic: fit, transform, size, two runs with one seed
    python benchmarks/topic_text.py report      # tables and plots in docs/results/

Every run is one JSON record in benchmarks/results/topic_text/; a finished run is not repeated. Word and document
embeddings are made once by topic_corpora.py and count for nobody's time. The peers need an environment of their own:
see benchmarks/README.md.
"""

import argparse
import tempfile
import time
import warnings
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
from results import RESULTS, write_result
from topic_corpora import CORPORA, Corpus, Part
from topic_methods import METHODS, OURS
from topic_peers import TopicMethod
from topic_tables import FOLDER, report

from hf_vq.evaluation import write_record
from hf_vq.topics.coherence import CoherenceReference
from hf_vq.topics.evaluation import TOPIC_METRIC_DEFINITIONS, evaluate_topics
from hf_vq.topics.metrics import nmi, purity, unigram_perplexity

PACKAGES = (
    *("scikit-learn", "scipy", "tomotopy", "bertopic", "umap-learn", "hdbscan", "fastopic"),
    *("topmost", "sentence-transformers"),
)
DEFINITIONS = TOPIC_METRIC_DEFINITIONS | {
    "unigram_perplexity": "perplexity of the same words by their shares in training, one added to each count",
    "num_classes": "different labels of the test documents",
    "train_seconds": "wall time of fitting, given embeddings, of a machine that other work shared",
    "train_cpu_seconds": "processor time of the same",
    "place_seconds": "wall time of placing the test documents, given embeddings",
    "place_cpu_seconds": "processor time of the same",
    "num_train_documents": "training documents",
    "num_documents": "test documents",
    "threads": "CPU threads of the run",
    "saved_megabytes": "size of the saved model and its processor",
    "used_codes": "codes that some word of the training documents has among its own",
    "code_perplexity": "exp of the entropy of codes over the words of the training documents, by their weights",
    "outlier_share": "share of training documents that BERTopic puts into no topic",
    "own_purity": "purity of test documents and their labels; clusters: BERTopic's own assignment, outliers are one",
    "own_nmi": "normalized mutual information of the same",
    "reranked_npmi": "npmi if words are ranked by TopicVQ's rule from the training documents' proportions: "
    "phi_kw p(k|w)^2 of the expected counts theta' y",
    "reranked_diversity_10": "diversity_10 of the same words",
}


class Clock:
    """Seconds since it was made: on the wall, and of the processor."""

    def __init__(self) -> None:
        self.wall, self.cpu = time.perf_counter(), time.process_time()

    def read(self, name: str) -> dict[str, float]:
        """Two figures."""
        return {
            f"{name}_seconds": time.perf_counter() - self.wall,
            f"{name}_cpu_seconds": time.process_time() - self.cpu,
        }


class Bench:
    """A corpus with what all runs on it share."""

    def __init__(self, name: str, limit: int | None = None):
        self.corpus = Corpus(name, limit)
        self.reference = CoherenceReference(self.corpus.reference_texts, self.corpus.vocabulary)
        self.halves, self.rest = self.corpus.test.halves(self.corpus.processor)
        self.counts = self.corpus.counts(self.corpus.train)

    def words_of(self, ids: np.ndarray) -> list[list[str]]:
        """Words of the vocabulary."""
        return [[self.corpus.vocabulary[i] for i in topic] for topic in ids]


def score(method: TopicMethod, bench: Bench, num_topics: int, seed: int) -> tuple[dict, list]:
    """Fit and score a method; its figures and its topics."""
    corpus = bench.corpus
    train, test = method.prepare(corpus.train), method.prepare(corpus.test)
    clock = Clock()
    method.fit(train, num_topics, seed)
    figures = clock.read("train")
    clock = Clock()
    proportions = method.place(test)
    figures |= clock.read("place")
    if hasattr(method, "assign"):
        assigned = method.assign(test)
        labels = corpus.test.labels
        figures |= {"own_purity": purity(labels, assigned), "own_nmi": nmi(labels, assigned)}
    train_proportions = method.place(train)
    log_probs = _predict(method, bench.halves)
    topics = bench.words_of(method.ranked_words(25))
    figures |= evaluate_topics(
        topics,
        bench.reference,
        texts=corpus.reference_texts,
        topic_proportions=proportions,
        labels=corpus.test.labels,
        train_topic_proportions=train_proportions,
        train_labels=corpus.train.labels,
        word_log_probs=log_probs,
        word_counts=bench.rest,
    )
    reranked = evaluate_topics(
        bench.words_of(rank_as_ours(train_proportions, bench.counts)), bench.reference
    )
    figures |= {f"reranked_{name}": reranked[name] for name in ("npmi", "diversity_10")}
    figures |= method.facts() | {
        "unigram_perplexity": unigram_perplexity(bench.counts, bench.rest),
        "num_classes": len(np.unique(corpus.test.labels)),
        "num_train_documents": len(corpus.train.documents),
        "num_documents": len(corpus.test.documents),
        "threads": torch.get_num_threads(),
    }
    return figures, topics


def rank_as_ours(proportions: np.ndarray, counts: object, top_n: int = 10) -> np.ndarray:
    """Words by phi_kw p(k|w)^2 of the expected counts of a word in a topic, for whatever model gave the proportions."""
    expected = np.asarray((counts.T @ proportions).T) + 1e-12
    of_topic = expected / expected.sum(axis=1, keepdims=True)
    of_word = expected / expected.sum(axis=0, keepdims=True)
    return np.argsort(-of_topic * of_word**2, axis=1, kind="stable")[:, :top_n]


def _predict(method: TopicMethod, halves: Part) -> np.ndarray | None:
    return method.word_log_probs(method.mix(method.prepare(halves)))


def run(name: str, bench: Bench, num_topics: int, seed: int, folder: Path) -> None:
    """Do one run, unless its record says that it is done."""
    path = folder / f"{bench.corpus.name}-{name}-k{num_topics}-seed{seed}.json"
    if path.exists():
        print(f"{path.name}: already there")
        return
    figures, topics = score(METHODS[name](bench.corpus), bench, num_topics, seed)
    print(
        f"{path.stem}: NPMI {figures['npmi']:.3f}, diversity {figures['diversity_10']:.2f}, k-means purity "
        f"{figures['kmeans_purity']:.3f}, NMI {figures['kmeans_nmi']:.3f}, {figures['train_seconds']:.0f} s",
        flush=True,
    )
    data = {
        "name": CORPORA[bench.corpus.name],
        "split": "test",
        "revision": bench.corpus.revision,
        "topics": [" ".join(words[:10]) for words in topics],
        "packages": installed_packages(),
    }
    write_record(path, path.stem, figures, data=data, seeds=[seed], definitions=DEFINITIONS)


def installed_packages() -> dict[str, str]:
    """Versions of the peers that are installed."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def smoke() -> None:
    """Every method whose package is installed, on a few documents: that it runs, not how good it is."""
    bench = Bench("bbc_news", limit=150)
    for _, _, training in OURS.values():
        training |= {"codebook_words": 2000, "codebook_epochs": 1.0, "topic_epochs": 2.0}
    with tempfile.TemporaryDirectory() as folder:
        for name in METHODS:
            try:
                run(name, bench, 5, 0, Path(folder))
            except ModuleNotFoundError as error:
                print(f"{name}: left out, {error.name} is not installed")


def speed(name: str, num_topics: int) -> None:
    """Ours and BERTopic on one corpus: fit, placing the test documents, size, and whether two runs agree.

    Each is fitted twice: the first fit of a process, which is what most people wait for, compiles UMAP for BERTopic.
    """
    corpus = Corpus(name)
    found: dict[str, dict] = {}
    for method_name in ("topic_vq", "bertopic"):
        runs = [_timed_run(method_name, corpus, num_topics) for _ in range(2)]
        figures: dict[str, Any] = {}
        for key, first in runs[0][0].items():
            if key.endswith("seconds"):
                figures |= {f"first_{key}": first, key: runs[1][0][key]}
            else:
                figures[key] = first
        same = (
            np.array_equal(one, other)
            for one, other in zip(*(run[1:] for run in runs), strict=True)
        )
        found[method_name] = figures | {"same_with_one_seed": all(same)}
        print(method_name, found[method_name], flush=True)
    content = {
        "corpus": CORPORA[name],
        "num_topics": num_topics,
        "new_documents": len(corpus.test.documents),
        "threads": torch.get_num_threads(),
        "packages": installed_packages(),
        "methods": found,
    }
    command = f"python benchmarks/topic_text.py speed --threads {torch.get_num_threads()}"
    write_result("topic_speed", content, command)


def _timed_run(
    name: str, corpus: Corpus, num_topics: int
) -> tuple[dict[str, float], np.ndarray, np.ndarray]:
    method = METHODS[name](corpus)
    train, inputs = method.prepare(corpus.train), method.prepare(corpus.test)
    clock = Clock()
    method.fit(train, num_topics, seed=0)
    figures = clock.read("fit")
    clock = Clock()
    # BERTopic's `transform` gives the topic of a document and no proportions.
    placed = getattr(method, "assign", method.place)(inputs)
    figures |= clock.read("transform") | method.facts()
    return figures, method.ranked_words(25), placed


def main() -> None:
    """Parse and dispatch."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    subparsers = parser.add_subparsers(dest="command", required=True)
    run_parser = subparsers.add_parser("run", help="fit and score")
    run_parser.add_argument("--methods", nargs="+", required=True, choices=METHODS)
    run_parser.add_argument("--corpora", nargs="+", default=list(CORPORA), choices=CORPORA)
    run_parser.add_argument("--num-topics", nargs="+", type=int, default=[20, 50])
    run_parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    speed_parser = subparsers.add_parser("speed", help="beside BERTopic")
    speed_parser.add_argument("--corpus", default="20newsgroups", choices=CORPORA)
    speed_parser.add_argument("--num-topics", type=int, default=50)
    subparsers.add_parser("smoke", help="whether everything runs")
    subparsers.add_parser("report", help="tables and plots")
    for subparser in subparsers.choices.values():
        subparser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    # The peers warn of their own affairs.
    warnings.simplefilter("ignore")
    if arguments.command == "run":
        for name in arguments.corpora:
            bench = Bench(name)
            for num_topics in arguments.num_topics:
                for seed in arguments.seeds:
                    for method in arguments.methods:
                        run(method, bench, num_topics, seed, RESULTS / FOLDER)
    elif arguments.command == "speed":
        speed(arguments.corpus, arguments.num_topics)
    else:
        {"smoke": smoke, "report": report}[arguments.command]()


if __name__ == "__main__":
    main()
