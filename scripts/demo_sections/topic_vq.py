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
"""The demo of TopicVQ: topics of the documentation of installed libraries, and how well they match the libraries."""

import shutil
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from demo_sections.page import DemoConfig, Section, provenance, scatter_plot, table

from hf_vq.evaluation import write_record
from hf_vq.topics.corpus import TopicCorpus
from hf_vq.topics.documents import Documents
from hf_vq.topics.encoder_choice import load_encoder
from hf_vq.topics.estimator import TopicVQ
from hf_vq.topics.library_documents import library_documents
from hf_vq.topics.operations import PlacedDocuments
from hf_vq.topics.picture_data import map_documents, topic_colors
from hf_vq.topics.scoring import SCORE_DEFINITIONS, document_revision, score_topic_model
from hf_vq.topics.word_embeddings import encode_corpus

NUM_TOPICS, MAX_PER_LIBRARY = 20, 300
TEST_EVERY = 5  # every fifth document is held out
FIGURES = {
    "kmeans_purity": ("purity of k-means clusters of topic proportions", ".1%"),
    "kmeans_nmi": ("normalized mutual information of these clusters and the libraries", ".3f"),
    "top_purity": ("purity of the largest topic alone", ".1%"),
    "probe_accuracy": ("libraries that a linear classifier finds by topic proportions", ".1%"),
    "npmi": ("coherence of the words of topics (NPMI)", ".3f"),
    "diversity_10": ("different words among the ten best of all topics", ".0%"),
    "perplexity": ("perplexity of second halves, from first halves", ".0f"),
    "unigram_perplexity": ("perplexity without topics", ".0f"),
}


def topic_vq_section(config: DemoConfig) -> Section:
    """Find topics in documentation strings, measure them on unseen ones, reload the model."""
    folder = Path(config.output_dir) / "topic-vq-demo"  # a name that no real run bears
    shutil.rmtree(folder, ignore_errors=True)
    train, test = split(library_documents(max_per_library=MAX_PER_LIBRARY))
    started = time.monotonic()
    topics = fit(config, train)
    seconds = time.monotonic() - started
    topics.save_pretrained(folder / "final")
    placed = topics.place(test.texts)
    check_reload(folder / "final", test.texts, placed.topic_proportions)

    metrics = score(topics, folder / "final", train, test)
    record = write_record(
        folder / "final.json",
        f"{folder.name}/final",
        metrics,
        data={
            "name": "hf_vq.topics.library_documents",
            "split": f"every {TEST_EVERY}th document",
            "revision": document_revision(test),
        },
        seeds=[config.seed],
        definitions=SCORE_DEFINITIONS,
    )
    print_summary(metrics, seconds)
    content = [
        describe_run(topics, train, test, metrics, seconds),
        table(
            ["of unseen documents", ""],
            ([meaning, format(metrics[k], spec)] for k, (meaning, spec) in FIGURES.items()),
        ),
        "<h3>Topics</h3>",
        "<p>Each with its best words, and the libraries of the unseen documents of which it is the largest topic.</p>",
        topic_table(topics, placed, test),
        "<h3>Map</h3>",
        "<p>Unseen documents, those with like topic proportions near each other; the color is that of the largest "
        "topic. Hold the pointer over one to see its library and its beginning.</p>",
        document_map(topics, placed, test, config.seed),
        "<h3>Where this comes from</h3>",
        provenance(record),
    ]
    return Section("TopicVQ on the documentation of installed libraries", "\n".join(content))


def split(documents: Documents) -> tuple[Documents, Documents]:
    """Return training and test documents."""
    rows = range(len(documents))
    parts = ([i for i in rows if i % TEST_EVERY], [i for i in rows if not i % TEST_EVERY])
    train, test = (
        Documents([documents.texts[i] for i in part], [documents.labels[i] for i in part])
        for part in parts
    )
    return train, test


def fit(config: DemoConfig, documents: Documents) -> TopicVQ:
    """Return the trained estimator; words get their vectors from the documents."""
    training = {"cpu": True, "topic_epochs": config.topic_epochs}
    return TopicVQ(
        NUM_TOPICS,
        encoder="corpus",
        stop_words="english",
        training_options=training,
        progress_bar=config.progress_bar,
        seed=config.seed,
    ).fit(documents.texts)


def check_reload(folder: Path, texts: Sequence[str], proportions: np.ndarray) -> None:
    """End the program with an error unless the saved model places documents as the one in memory."""
    if not np.array_equal(TopicVQ.from_pretrained(folder).transform(texts), proportions):
        raise SystemExit(
            f"{folder}: the topics of the reloaded model differ from those of the saved one"
        )


def score(topics: TopicVQ, folder: Path, train: Documents, test: Documents) -> dict[str, float]:
    """Return the figures on test documents."""
    model, processor = topics.model_, topics.processor_
    encoder = load_encoder(model.config, folder=str(folder))
    embeddings = encode_corpus(train.texts, processor, encoder, progress=False)
    return score_topic_model(
        model,
        processor,
        encoder,
        test,
        train.texts,
        train_corpus=TopicCorpus.build(model, embeddings),
        train_labels=train.labels,
        progress=False,
    )


def print_summary(metrics: Mapping[str, float], seconds: float) -> None:
    """Print the figures."""
    print(f"\ntrained for {seconds:.0f} s; of {metrics['num_documents']} unseen documents:")
    for name, (meaning, spec) in FIGURES.items():
        print(f"{metrics[name]:>8{spec}}  {meaning}")
    print("saved, reloaded: the same topics of documents, to the bit")


def describe_run(
    topics: TopicVQ,
    train: Documents,
    test: Documents,
    metrics: Mapping[str, float],
    seconds: float,
) -> str:
    """Return a paragraph that says what was done and how well it went."""
    libraries = len(set(train.labels or ()))
    return (
        f"<p>{len(topics.topics_)} topics were learned from {len(train):,} documentation strings of {libraries} "
        f"libraries in {seconds:.0f} seconds, word vectors made from the same texts included. Training never saw the "
        f"libraries' names as labels. Of {len(test):,} strings that it has not seen either, "
        f"k-means clusters of topic proportions match the libraries with a purity of {metrics['kmeans_purity']:.1%}; "
        f"a classifier that reads nothing but the {len(topics.topics_)} proportions names the right library for "
        f"{metrics['probe_accuracy']:.1%}. Saved and loaded again, the model gives the same proportions, to the "
        "bit.</p>"
    )


def topic_table(topics: TopicVQ, placed: PlacedDocuments, test: Documents) -> str:
    """Return the topics, the largest first, with words and libraries."""
    owners = placed.topic_proportions.argmax(axis=1)
    shares = placed.topic_proportions.mean(axis=0)
    rows = []
    for topic in np.argsort(-shares, kind="stable"):
        mine = Counter(test.labels[i] for i in np.flatnonzero(owners == topic))
        libraries = ", ".join(f"{name} {number}" for name, number in mine.most_common(3))
        words = " ".join(topics.topics_.top_words(int(topic)))
        rows.append([str(topic), f"{shares[topic]:.1%}", words, libraries])
    return table(["topic", "share", "words", "unseen documents"], rows, "text")


def document_map(topics: TopicVQ, placed: PlacedDocuments, test: Documents, seed: int) -> str:
    """Return the map of unseen documents with the names of the topics."""
    places = map_documents(placed, seed=seed)
    colors = topic_colors(len(topics.topics_))
    titles = [f"{test.labels[i]}: {' '.join(test.texts[i].split())[:80]}" for i in places.documents]
    names = [" ".join(topics.topics_.top_words(topic, 2)) for topic in range(len(topics.topics_))]
    return scatter_plot(
        places.points,
        [colors[owner] for owner in places.owners],
        titles,
        list(zip(names, places.topic_points, strict=True)),
    )
