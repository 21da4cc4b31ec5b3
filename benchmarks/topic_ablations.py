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
"""What makes TopicVQ work: one thing is changed at a time, on the documents, words and scores of `topic_text.py`.

    python benchmarks/topic_ablations.py run --experiments levers --corpora bbc_news --num-topics 20 50 --seeds 0 1 2
    python benchmarks/topic_ablations.py list        # the rows of each experiment
    python benchmarks/topic_ablations.py smoke       # does everything run?
    python benchmarks/topic_ablations.py report      # tables in docs/results/

Every run is one JSON record in benchmarks/results/topic_ablations/; a finished run is not repeated.

| experiment | question |
|---|---|
| `levers` | What does each lever bring: the recommended form without it, the published form with it? |
| `codebook` | Does longer training of its codebook mend the published form, or another start of it? |
| `expansion` | Codes for a word (1, 3, 5) by codes in the book (100 to 600) |
| `vocabulary` | Topics of 1,600 to 100,000 words |
| `encoder` | Which layer, does context matter, do scaled embeddings? |
| `skew` | Classes of sizes proportional to rank^-a: which of them still have a topic? |
| `neighbors` | Do words that share codes mean the same? |
"""

import argparse
import copy
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from results import RESULTS
from scipy.stats import spearmanr
from topic_ablation_tables import FOLDER, report
from topic_corpora import CORPORA, DATA, Corpus, Part
from topic_methods import AUTHORS, METHODS, TopicVq
from topic_peers import TopicMethod
from topic_text import DEFINITIONS as TEXT_DEFINITIONS
from topic_text import Bench, score
from transformers import AutoModel

from hf_vq.evaluation import write_record
from hf_vq.models.configuration_topic_vq import VARIANTS, TopicVQConfig
from hf_vq.models.modeling_topic_vq import TopicVQModel
from hf_vq.models.processing_topic_vq import TopicVQProcessor
from hf_vq.topics.coherence import CoherenceReference
from hf_vq.topics.metrics import nmi
from hf_vq.topics.training import TopicTrainingConfig, fit_codebook
from hf_vq.topics.word_embeddings import ContextualEncoder, CorpusEncoder, WordEmbeddings

DEFINITIONS = TEXT_DEFINITIONS | {
    "covered_classes": "classes that most of the documents of some topic have, by largest topics of test documents",
    "covered_rare_classes": "the same, of the rarer half of the classes of the training documents",
    "code_overlap_correlation": "Spearman correlation over pairs of word occurrences of the cosine of their embeddings "
    "and the weight that their codes share",
    "permuted_overlap_correlation": "the same with codes of other words: chance",
    "hyperplane_correlation": "the same with equal bits of as many random hyperplanes as a code has bits, per code",
    "code_class_nmi": "normalized mutual information of the nearest code of a word's occurrences and the classes of "
    "their documents, mean over words with at least 30 occurrences: how far codes tell meanings of one word apart",
    "permuted_code_class_nmi": "the same with the codes of a word's occurrences permuted: chance",
    "shared_code_npmi": "mean NPMI of pairs of words whose most frequent nearest code is the same",
    "matched_npmi": "mean NPMI of the same first words and words about as frequent as the second, of other codes",
    "neighbor_recall": "share of the 10 nearest word occurrences, other words only, that are also among the 10 nearest "
    "after quantization",
    "chance_recall": "neighbor_recall of a random choice",
}
# Of a word, for the codes of its occurrences to be compared with classes.
LEAST_OCCURRENCES = 30
SHOWN = ("npmi", "diversity_10", "kmeans_nmi", "code_overlap_correlation", "neighbor_recall")
# Fields that belong together: a lever, under the name that its rows have.
LEVERS = {
    "scaling": ["embedding_scaling"],
    "codebook": [
        *("autoencoder_hidden_sizes", "autoencoder_init", "codebook_dim", "codebook_init"),
        *("codebook_update", "revival_threshold", "distance"),
    ],
    "expansion": ["expansion_weights", "expansion_reduction"],
    "inference": ["inference_hidden_sizes", "inference_input", "inference_scaling"],
    "document-vector": ["document_vector"],
    "start": ["topic_init"],
    "mixture": ["topic_combination"],
    "temperature": ["topic_temperature", "proportion_temperature"],
    "decoder": ["word_decoder", "topic_standardization"],
    "background": ["background"],
    "code-loss": ["code_loss_weight"],
    "separation": ["topic_separation", "topic_separation_weight"],
    "ranking": ["topic_word_ranking"],
}


def _with_vocabulary(corpus: Corpus, size: int) -> Corpus:
    """The most frequent content words of the training documents, as they are written."""
    rule = {"stop_words": "english"}
    finder = TopicVQProcessor(vocabulary=corpus.vocabulary, **rule)
    texts = {
        part: [[word for word, _, _ in finder.content_words(text)] for text in part_.documents]
        for part, part_ in (("train", corpus.train), ("test", corpus.test))
    }
    counts = Counter(word for text in texts["train"] for word in text)
    ranked = sorted(counts, key=lambda word: (-counts[word], word))[:size]
    known, found = set(ranked), copy.copy(corpus)
    found.processor = TopicVQProcessor(vocabulary=ranked, **rule)
    parts = {
        name: replace(
            part, words=[[word for word in text if word in known] for text in texts[name]]
        )
        for name, part in (("train", corpus.train), ("test", corpus.test))
    }
    found.train, found.test = parts["train"], parts["test"]
    found.reference_texts = [text for part in parts.values() for text in part.words]
    return found


def _with_encoder(corpus: Corpus, make: Callable[[Corpus], Any]) -> Corpus:
    """Word embeddings by another encoder."""
    found = copy.copy(corpus)
    found.encoder = make(corpus)
    return found


def _corpus_encoder(corpus: Corpus) -> CorpusEncoder:
    return CorpusEncoder.fit(corpus.train.documents, corpus.processor)


class _UntrainedEncoder(ContextualEncoder):
    """MiniLM's architecture and tokenizer with random weights: what the shape alone brings."""

    def __init__(self, name_or_path: Path):
        super().__init__(name_or_path)
        torch.manual_seed(0)
        self.model = AutoModel.from_config(self.model.config).eval().requires_grad_(False)
        self.fingerprint = self._fingerprint()


def _without_context(corpus: Corpus) -> Corpus:
    """Each occurrence of a word has the word's mean vector over the training documents, as GloVe's would be."""
    full = corpus.embeddings(corpus.train)
    sums = np.zeros((len(full.words), full.dim), np.float32)
    np.add.at(sums, full.surface_ids, np.asarray(full.vectors, np.float32))
    counts = np.bincount(full.surface_ids, minlength=len(sums))
    means = dict(zip(full.words, sums / np.maximum(counts, 1)[:, None], strict=True))
    found = copy.copy(corpus)

    def embeddings(part: Part) -> WordEmbeddings:
        given = corpus.embeddings(part)
        table = np.stack([means.get(word, np.zeros(full.dim, np.float32)) for word in given.words])
        documents = np.repeat(np.arange(len(given.num_words)), given.num_words)
        vectors = table[given.surface_ids].astype(np.float16)
        document_vectors = np.zeros((len(given.num_words), full.dim), np.float32)
        np.add.at(document_vectors, documents, vectors)
        document_vectors /= np.maximum(given.num_words, 1)[:, None]
        return WordEmbeddings(
            vectors,
            given.num_words,
            given.surface_ids,
            given.words,
            document_vectors,
            given.processor,
            f"{given.fingerprint}-means",
        )

    found.embeddings = embeddings
    return found


def _skewed(corpus: Corpus, exponent: float) -> Corpus:
    """Fewer training documents, of classes that shrink with their rank."""
    full = corpus.train
    rows = skewed_rows(full.labels, exponent)
    found = copy.copy(corpus)
    found.train = Part(
        [full.documents[row] for row in rows], [full.words[row] for row in rows], full.labels[rows]
    )

    def embeddings(part: Part) -> WordEmbeddings:
        if part is found.train:
            return take_documents(corpus.embeddings(full), rows)
        return corpus.embeddings(part)

    found.embeddings = embeddings
    return found


def skewed_rows(labels: np.ndarray, exponent: float) -> np.ndarray:
    """Rows of which classes have (rank + 1)^-exponent of the size of the smallest; ranks by label."""
    classes, sizes = np.unique(labels, return_counts=True)
    generator = np.random.default_rng(0)
    kept = [
        generator.choice(
            np.flatnonzero(labels == label),
            max(1, round(sizes.min() * (rank + 1) ** -exponent)),
            replace=False,
        )
        for rank, label in enumerate(classes)
    ]
    return np.sort(np.concatenate(kept))


def take_documents(embeddings: WordEmbeddings, rows: np.ndarray) -> WordEmbeddings:
    """The embeddings of some documents, in memory."""
    starts, stops = embeddings.offsets[rows], embeddings.offsets[rows + 1]
    words = np.concatenate([np.arange(a, b) for a, b in zip(starts, stops, strict=True)])
    return WordEmbeddings(
        np.asarray(embeddings.vectors[words]),
        embeddings.num_words[rows],
        embeddings.surface_ids[words],
        embeddings.words,
        embeddings.document_vectors[rows],
        embeddings.processor,
        embeddings.fingerprint,
    )


def covered_classes(proportions: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Classes that are the most frequent of some topic; the rarer ones are those with the larger labels."""
    top, classes = proportions.argmax(axis=1), np.unique(labels)
    covered = {Counter(labels[top == topic]).most_common(1)[0][0] for topic in np.unique(top)}
    rare = covered & set(classes[len(classes) // 2 :])
    return {"covered_classes": len(covered), "covered_rare_classes": len(rare)}


@dataclass
class Row:
    """One thing that is changed."""

    options: dict[str, Any] = field(default_factory=dict)
    corpus: Callable[[Corpus], Corpus] | None = None
    training: dict[str, Any] = field(default_factory=dict)
    method: str | None = None  # a peer in TopicVQ's place


def rows() -> dict[str, dict[str, Row]]:
    """All rows of all experiments."""
    recommended, published = VARIANTS["recommended"], VARIANTS["published"]
    # The authors' schedule, but for their many passes over the words.
    schedule = AUTHORS | {"codebook_epochs": 3.0}
    levers = {
        "recommended": Row(),
        "published": Row({"variant": "published"}, training=schedule),
    }
    for name, fields in LEVERS.items():
        levers[f"recommended-without-{name}"] = Row({f: published[f] for f in fields})
        levers[f"published-with-{name}"] = Row(
            {"variant": "published"} | {f: recommended[f] for f in fields}, training=schedule
        )
    minilm = DATA / "minilm"
    layers: dict[str, Any] = {"layer-2": -2, "layers-4": (-1, -2, -3, -4)}
    batches = AUTHORS | {"codebook_batch_size": 128}
    schedules = {
        "passes30": AUTHORS,
        "passes30-in-batches-of-128": batches,
        "passes100-in-batches-of-128": batches | {"codebook_epochs": 100.0},
    }
    # The first three are rows of `levers` again, for how many codes they use.
    codebooks = {
        "passes3": levers["published"],
        "passes3-with-scaling": levers["published-with-scaling"],
        "passes3-with-codebook": levers["published-with-codebook"],
    } | {name: Row({"variant": "published"}, training=made) for name, made in schedules.items()}
    return {
        "levers": levers,
        "codebook": codebooks,
        "expansion": {
            f"codes{size}-of-word{number}": Row({"codebook_size": size, "codes_per_token": number})
            for size in (100, 200, 300, 600)
            for number in (1, 3, 5)
        },
        "vocabulary": {
            f"words{size}": Row(corpus=partial(_with_vocabulary, size=size))
            for size in (1600, 5000, 20_000, 50_000, 100_000)
        },
        "encoder": {
            "layer-1": Row(),
            "layer-1-unscaled": Row({"embedding_scaling": "none"}),
            "without-context": Row(corpus=_without_context),
            "corpus": Row(corpus=partial(_with_encoder, make=_corpus_encoder)),
            "untrained": Row(
                corpus=partial(_with_encoder, make=lambda _: _UntrainedEncoder(minilm))
            ),
        }
        | {
            name: Row(
                corpus=partial(
                    _with_encoder,
                    make=lambda _, layer=layer: ContextualEncoder(minilm, layer=layer),
                )
            )
            for name, layer in layers.items()
        },
        "skew": {
            f"exponent{a}{name}": Row(corpus=partial(_skewed, exponent=a), method=method)
            for a in (0.0, 0.5, 1.0, 1.5)
            for name, method in (("", None), ("-lda", "lda"), ("-bertopic", "bertopic"))
        },
        "neighbors": {f"word{n}": Row({"codes_per_token": n}) for n in (1, 3, 5)},
    }


@torch.no_grad()
def score_neighbors(
    corpus: Corpus,
    reference: CoherenceReference,
    options: dict[str, Any],
    seed: int,
    number: int,
) -> dict[str, float]:
    """Whether codes keep what is near in the embeddings, over pairs of word occurrences of the test documents."""
    train, test = corpus.embeddings(corpus.train), corpus.embeddings(corpus.test)
    torch.manual_seed(seed)
    model = TopicVQModel(
        TopicVQConfig(vocab_size=len(corpus.vocabulary), word_embedding_dim=train.dim, **options)
    )
    fit_codebook(model, train, TopicTrainingConfig(seed=seed, progress_bar=False, cpu=True))
    model.eval()
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.randperm(len(test.vectors), generator=generator)[: min(number, 4000)].numpy()
    vectors = torch.from_numpy(np.asarray(test.vectors)[chosen]).float()
    output = model.encode(vectors[None])
    bags = torch.zeros(len(chosen), model.config.codebook_size)
    bags.scatter_add_(1, output.codes[0], output.code_weights[0].float())
    scaled = model.autoencoder.scale(vectors)
    normal, quantized = (
        torch.nn.functional.normalize(v, dim=1) for v in (scaled, output.quantized[0])
    )
    first, second = torch.randint(len(chosen), (2, number), generator=generator)
    cosines = (normal[first] * normal[second]).sum(dim=1)
    bits = max(1, round(np.log2(model.config.codebook_size))) * model.config.codes_per_token
    sides = normal @ torch.randn(normal.shape[1], bits, generator=generator) > 0
    other = torch.randperm(len(chosen), generator=generator)
    overlaps = {
        "code_overlap_correlation": torch.minimum(bags[first], bags[second]).sum(dim=1),
        "permuted_overlap_correlation": torch.minimum(bags[other[first]], bags[other[second]]).sum(
            dim=1
        ),
        "hyperplane_correlation": (sides[first] == sides[second]).float().sum(dim=1),
    }
    figures = {
        name: float(spearmanr(cosines, values).statistic) for name, values in overlaps.items()
    }
    words = torch.from_numpy(np.asarray(test.surface_ids)[chosen])
    same = words[:, None] == words
    near, after = ((v @ v.T).masked_fill(same, -2.0).topk(10).indices for v in (normal, quantized))
    kept = (near[:, :, None] == after[:, None]).any(dim=2).float().mean()
    figures |= {"neighbor_recall": float(kept), "chance_recall": 10 / len(chosen)}
    return figures | score_words(corpus, model, reference, generator)


def score_words(
    corpus: Corpus, model: TopicVQModel, reference: CoherenceReference, generator: torch.Generator
) -> dict[str, float]:
    """What the nearest codes know of words: of their meanings in context, and of words that go together."""
    test = corpus.embeddings(corpus.test)
    codes = np.concatenate(
        [
            model.encode(torch.from_numpy(np.array(part)).float()[None]).codes[0, :, 0].numpy()
            for part in np.array_split(test.vectors, max(1, len(test.vectors) // 4096))
        ]
    )
    labels = np.repeat(corpus.test.labels, test.num_words)
    words = test.word_ids
    found, permuted, modal = [], [], {}
    for word in np.unique(words[words >= 0]):
        rows = np.flatnonzero(words == word)
        modal[word] = np.bincount(codes[rows]).argmax()
        if len(rows) >= LEAST_OCCURRENCES:
            found.append(nmi(labels[rows], codes[rows]))
            order = torch.randperm(len(rows), generator=generator).numpy()
            permuted.append(nmi(labels[rows], codes[rows][order]))
    matrix = reference.npmi(corpus.vocabulary)
    frequencies = np.asarray(corpus.counts(corpus.train).sum(axis=0)).ravel()
    shared, matched = word_pairs(modal, frequencies, generator)
    return {
        "code_class_nmi": float(np.mean(found)) if found else 0.0,
        "permuted_code_class_nmi": float(np.mean(permuted)) if found else 0.0,
        "shared_code_npmi": float(matrix[tuple(shared.T)].mean()) if len(shared) else 0.0,
        "matched_npmi": float(matrix[tuple(matched.T)].mean()) if len(shared) else 0.0,
    }


def word_pairs(
    modal: dict[int, int], frequencies: np.ndarray, generator: torch.Generator, number: int = 4000
) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of words of one most frequent code, and each first word with a word of another code.

    That other word is one of the ten next more or less frequent ones than the second word.
    """
    words = np.array(sorted(modal, key=lambda word: -frequencies[word]))
    codes = np.array([modal[word] for word in words])

    def draw(ranks: np.ndarray) -> int:
        return int(ranks[torch.randint(len(ranks), (1,), generator=generator)])

    shared, matched = [], []
    for first in torch.randint(len(words), (number,), generator=generator).tolist():
        partners = np.flatnonzero(codes == codes[first])
        partners = partners[partners != first]
        if not len(partners):
            continue
        second = draw(partners)
        near = np.arange(max(0, second - 10), min(len(words), second + 11))
        others = near[codes[near] != codes[first]]
        if len(others):
            shared.append((words[first], words[second]))
            matched.append((words[first], words[draw(others)]))
    return np.array(shared), np.array(matched)


def runs(experiment: str, names: list[str] | None) -> Iterator[tuple[str, Row]]:
    """The rows that were asked for."""
    for name, row in rows()[experiment].items():
        if not names or name in names:
            yield name, row


def bench_of(row: Row, bench: Bench) -> Bench:
    """What the runs of a row share: its own documents or words, if it has any."""
    if row.corpus is None:
        return bench
    bench = copy.copy(bench)
    bench.corpus = corpus = row.corpus(bench.corpus)
    bench.halves, bench.rest = corpus.test.halves(corpus.processor)
    bench.counts = corpus.counts(corpus.train)
    bench.reference = CoherenceReference(corpus.reference_texts, corpus.vocabulary)
    return bench


def run(
    path: Path,
    experiment: str,
    name: str,
    row: Row,
    bench: Bench,
    num_topics: int,
    seed: int,
    **training: Any,
) -> None:
    """Do one run and write its record."""
    corpus = bench.corpus
    topics: list[list[str]] = []
    if experiment == "neighbors":
        pairs = training.get("pairs", 100_000)
        figures = score_neighbors(corpus, bench.reference, row.options, seed, pairs)
    else:
        method: TopicMethod = TopicVq(corpus, row.options, row.training | training)
        if row.method is not None:
            method = METHODS[row.method](corpus)
        figures, topics = score(method, bench, num_topics, seed)
        placed = method.place(method.prepare(corpus.test))
        figures |= covered_classes(placed, corpus.test.labels)
    shown = [key for key in SHOWN if key in figures]
    print(f"{path.stem}: " + ", ".join(f"{key} {figures[key]:.3f}" for key in shown), flush=True)
    data = {
        "name": CORPORA[corpus.name],
        "split": "test",
        "revision": corpus.revision,
        "row": name,
        "options": row.options,
        "training": row.training,
        "topics": [" ".join(words[:10]) for words in topics],
    }
    write_record(path, path.stem, figures, data=data, seeds=[seed], definitions=DEFINITIONS)


def run_missing(
    experiment: str, name: str, row: Row, bench: Bench, settings: list[tuple[int, int]]
) -> None:
    """Do the runs of a row, each a number of topics and a seed, but for those that have a record."""
    prefix = f"{experiment}-{bench.corpus.name}-{name}"
    paths = {
        RESULTS / FOLDER / f"{prefix}-k{num_topics}-seed{seed}.json": (num_topics, seed)
        for num_topics, seed in settings
    }
    missing = {path: setting for path, setting in paths.items() if not path.exists()}
    print(f"{prefix}: {len(paths) - len(missing)} of {len(paths)} already there")
    if missing:
        own = bench_of(row, bench)
        for path, (num_topics, seed) in missing.items():
            run(path, experiment, name, row, own, num_topics, seed)


def smoke() -> None:
    """A row of each experiment on a few documents: that it runs, not how good it is."""
    bench = Bench("bbc_news", limit=120)
    chosen = {
        "levers": ["recommended-without-mixture", "published-with-ranking"],
        "codebook": ["passes3-with-codebook"],
        "expansion": ["codes100-of-word3"],
        "vocabulary": ["words1600"],
        "encoder": ["corpus"],
        "skew": ["exponent1.0"],
        "neighbors": ["word3"],
    }
    with tempfile.TemporaryDirectory() as folder:
        for experiment, names in chosen.items():
            for name, row in runs(experiment, names):
                extra = {"pairs": 500} if experiment == "neighbors" else {"topic_epochs": 2.0}
                path = Path(folder) / f"{experiment}-{name}.json"
                run(path, experiment, name, row, bench_of(row, bench), 5, 0, **extra)


def main() -> None:
    """Parse and dispatch."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    subparsers = parser.add_subparsers(dest="command", required=True)
    run_parser = subparsers.add_parser("run", help="fit and score")
    run_parser.add_argument("--experiments", nargs="+", required=True, choices=rows())
    run_parser.add_argument("--rows", nargs="+", help="of these experiments; all without it")
    run_parser.add_argument("--corpora", nargs="+", default=["bbc_news"], choices=CORPORA)
    run_parser.add_argument("--num-topics", nargs="+", type=int, default=[20, 50])
    run_parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    subparsers.add_parser("list", help="rows of each experiment")
    subparsers.add_parser("smoke", help="whether everything runs")
    subparsers.add_parser("report", help="tables")
    for subparser in subparsers.choices.values():
        subparser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    warnings.simplefilter("ignore")
    if arguments.command in ("smoke", "report"):
        {"smoke": smoke, "report": report}[arguments.command]()
    elif arguments.command == "list":
        for experiment, found in rows().items():
            print(experiment, *found, sep="\n    ")
    else:
        for corpus in arguments.corpora:
            bench = Bench(corpus)
            for experiment in arguments.experiments:
                settings = [
                    (num_topics, seed)
                    for num_topics in (arguments.num_topics if experiment != "neighbors" else [0])
                    for seed in arguments.seeds
                ]
                for name, row in runs(experiment, arguments.rows):
                    run_missing(experiment, name, row, bench, settings)


if __name__ == "__main__":
    main()
