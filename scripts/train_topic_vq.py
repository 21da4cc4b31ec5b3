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
# /// script
# requires-python = ">=3.11"
# dependencies = ["hf_vq[topics]"]
# ///
"""Find topics in the documents of a Hub data set, a folder or a file.

    python scripts/train_topic_vq.py --config scripts/configs/topic-vq-20newsgroups.yaml
    python scripts/train_topic_vq.py --dataset texts.txt --num_topics 30 --output_dir runs/mine
    python scripts/train_topic_vq.py --dataset user/news --text_column body --label_column section --test_split test \
        --encoder path/or/id --output_dir runs/news
    accelerate launch --num_processes 4 scripts/train_topic_vq.py --dataset texts.jsonl --output_dir runs/mine

Encode, codebook, bags, topics: each stage continues with `--resume_from_checkpoint latest`. `--encoder corpus` needs no
encoder: word vectors are made from the documents themselves. `--streaming true` reads a corpus that fits nowhere
several times. `--variant published` is the paper's form. In the end `<output_dir>/final` holds the model and, with a
test split, `<output_dir>/final.json` its figures on it. A minute on a CPU: the second line with `--encoder corpus` on
some thousand documents. `--help` lists every option.
"""

import dataclasses
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from accelerate import PartialState
from accelerate.utils import set_seed

from hf_vq import TopicVQConfig, TopicVQModel, TopicVQProcessor
from hf_vq.evaluation import format_figures, write_record
from hf_vq.models.topic_vq_words import DEFAULT_TOKEN_PATTERN
from hf_vq.topics.corpus import TopicCorpus
from hf_vq.topics.documents import Documents, TextStream, load_documents, read_vocabulary
from hf_vq.topics.encoder_choice import encoder_facts, make_encoder
from hf_vq.topics.estimator_checks import check_vocabulary, seed_word_ids
from hf_vq.topics.reading import read_topics
from hf_vq.topics.scoring import SCORE_DEFINITIONS, document_revision, score_topic_model
from hf_vq.topics.streamed_embeddings import StreamedWordEmbeddings
from hf_vq.topics.training import TopicTrainingConfig, train_topic_vq
from hf_vq.topics.word_embeddings import CorpusEncoder, encode_corpus
from hf_vq.training import parse_config
from hf_vq.training_config import model_options, option

SHOWN = (
    "npmi",
    "diversity_10",
    "topic_quality",
    "top_purity",
    "kmeans_purity",
    "kmeans_nmi",
    "probe_accuracy",
    "perplexity",
    "unigram_perplexity",
)


@dataclass
class DataConfig:
    """Where the documents come from, and what reads them."""

    dataset: str = field(metadata={"help": "Hub id, folder or file (.txt: a document a line)."})
    text_column: str = option("text", "Column of the documents.")
    label_column: str | None = option(None, "Column of their classes, which training never sees.")
    bow_text_column: str | None = option(
        None, "Column of the same documents preprocessed or lemmatized, whose words are counted."
    )
    config_name: str | None = option(None, "Configuration of a Hub data set that has several.")
    revision: str | None = option(None, "Commit, branch or tag of a Hub data set.")
    train_split: str = option("train", "Documents to learn from, for example train[:-500].")
    eval_split: str | None = option(None, "Held-out documents that decide which model is best.")
    test_split: str | None = option(None, "Documents for the final figures; none for no figures.")
    max_train_samples: int | None = option(None, "Learn from no more than so many documents.")
    streaming: bool = option(False, "Read training documents again and again, store no vectors.")
    encoder: str = option(
        "sentence-transformers/all-MiniLM-L6-v2",
        "Hub id or folder of an encoder, or corpus: vectors made from the documents.",
    )
    cache_dir: str | None = option(
        None, "Where word embeddings are kept; unset: in output_dir. Runs can share them."
    )


@dataclass
class WordsConfig:
    """Which words describe topics; every content word has codes."""

    vocabulary: str | None = option(None, "File with a word a line; unset: found in the documents.")
    min_df: float | int = option(5, "Fewest documents of a word; a share if it has a point.")
    max_df: float | int = option(0.5, "Most documents of a word; a share if it has a point.")
    max_features: int | None = option(10_000, "At most so many words, the most widespread.")
    stop_words: list[str] = option([], "Words that say nothing, or english.")
    token_pattern: str = option(DEFAULT_TOKEN_PATTERN, "Regular expression of a word.")
    lowercase: bool = option(True, "Whether case does not matter.")
    ngram_range: list[int] = option([1, 1], "Fewest and most words of an entry.")
    code_words: str = option("all", "all content words have codes, or those of the vocabulary.")
    guided_topics: dict = option(
        {}, 'Words that topics shall have, for example {"space": ["orbit", "nasa"]}.'
    )


# What the documents, the encoder or a user's later wishes decide.
NOT_OPTIONS = {
    "vocab_size",
    "word_embedding_dim",
    "encoder_name_or_path",
    "encoder_fingerprint",
    "seed_words",
    "topic_labels",
    "topic_map",
    "objective",
}


ModelConfig = model_options(TopicVQConfig, without=NOT_OPTIONS)


def load_texts(data: DataConfig, split: str, max_samples: int | None = None) -> Documents:
    """Return the documents of a split."""
    return load_documents(
        data.dataset,
        split,
        text_column=data.text_column,
        label_column=data.label_column,
        bow_text_column=data.bow_text_column,
        config_name=data.config_name,
        revision=data.revision,
        max_samples=max_samples,
    )


def load_train(data: DataConfig) -> Documents:
    """Return documents whose texts can be read several times."""
    if not data.streaming:
        return load_texts(data, data.train_split, data.max_train_samples)

    def stream(column: str) -> Any:
        return TextStream(
            data.dataset,
            data.train_split,
            text_column=column,
            config_name=data.config_name,
            revision=data.revision,
            max_samples=data.max_train_samples,
        )

    other = None if data.bow_text_column is None else stream(data.bow_text_column)
    return Documents(stream(data.text_column), bow_texts=other)


def build_processor(words: WordsConfig, texts: Any) -> TopicVQProcessor:
    """Return a processor with the vocabulary that the options name or the documents have."""
    processor = TopicVQProcessor(
        vocabulary=read_vocabulary(words.vocabulary) if words.vocabulary else (),
        stop_words="english" if words.stop_words == ["english"] else words.stop_words or None,
        token_pattern=words.token_pattern,
        lowercase=words.lowercase,
        ngram_range=tuple(words.ngram_range),
        code_words=words.code_words,
    )
    if words.vocabulary:
        check_vocabulary(processor, texts)
        return processor
    return processor.fit_vocabulary(texts, words.min_df, words.max_df, words.max_features)


def build_model(
    options: dict[str, Any], words: WordsConfig, processor: Any, encoder: Any, seed: int
) -> TopicVQModel:
    """Return a new model for the vocabulary and the encoder."""
    guided = words.guided_topics
    names = [*guided, *(f"topic {topic}" for topic in range(len(guided), options["num_topics"]))]
    config = TopicVQConfig(
        **options | encoder_facts(encoder),
        vocab_size=processor.vocab_size,
        word_embedding_dim=encoder.dim,
        encoder_fingerprint=encoder.fingerprint,
        seed_words=seed_word_ids(processor, guided.values()) if guided else None,
        topic_labels=names if guided else None,
    )
    set_seed(seed)  # of the initial weights
    return TopicVQModel(config)


def main(argv: Sequence[str] | None = None) -> dict[str, Any]:
    """Train, then score the model on the test split; returns what `train_topic_vq` does."""
    classes = TopicTrainingConfig, DataConfig, WordsConfig, ModelConfig
    training, data, words, model_config = parse_config(*classes, argv=argv)
    if training.output_dir is None:
        raise ValueError("output_dir is not set: name a folder for the model")
    train = load_train(data)
    held_out = load_texts(data, data.eval_split) if data.eval_split else None
    # Before the training, so that a misspelled split does not show after it.
    test = load_texts(data, data.test_split) if data.test_split else None

    state = PartialState(cpu=training.cpu)
    cache_dir = data.cache_dir or str(Path(training.output_dir) / "word_embeddings")
    options = dataclasses.asdict(model_config)
    # What one process finds or writes, the others only read.
    with state.main_process_first():
        processor = build_processor(words, train.counted_texts)
        encoder = make_encoder(
            data.encoder, TopicVQConfig(**options), train.counted_texts, processor, training.seed
        )

        def embed(documents: Documents) -> Any:
            texts, others = documents.texts, documents.bow_texts
            bar = training.progress_bar
            return encode_corpus(texts, processor, encoder, cache_dir, bar, bow_text=others)

        embeddings = (
            StreamedWordEmbeddings(train.texts, processor, encoder, train.bow_texts)
            if data.streaming
            else embed(train)
        )
        eval_embeddings = None if held_out is None else embed(held_out)
    model = build_model(options, words, processor, encoder, training.seed)
    save_with = [processor.save_pretrained]
    if isinstance(encoder, CorpusEncoder):
        save_with.append(encoder.save)
    results = train_topic_vq(
        model, embeddings, training, eval_embeddings=eval_embeddings, save_with=save_with
    )
    if state.is_main_process:
        print_topics(model, processor)
        if test is not None:
            bags = TopicCorpus.load(Path(training.output_dir) / "bags" / "train")
            metrics = score_topic_model(
                model,
                processor,
                encoder,
                test,
                train.counted_texts,
                train_corpus=bags,
                train_labels=train.labels,
                cache_dir=cache_dir,
                progress=training.progress_bar,
            )
            report(Path(results["final_model"]), metrics, data, test, training.seed)
    state.wait_for_everyone()
    return results


def print_topics(model: TopicVQModel, processor: TopicVQProcessor) -> None:
    """Print the words of each topic."""
    topics = read_topics(model, processor.vocabulary)
    for topic in range(len(topics)):
        print(f"{topic:>4} {' '.join(topics.top_words(topic))}")


def report(
    checkpoint: Path, metrics: dict[str, float], data: DataConfig, test: Documents, seed: int
) -> None:
    """Write a record beside the checkpoint and print what matters most."""
    path = checkpoint.parent / f"{checkpoint.name}.json"
    source = {
        "name": data.dataset,
        "split": data.test_split,
        "revision": document_revision(test),
        "encoder": data.encoder,
    }
    name = f"{checkpoint.parent.name}/{checkpoint.name}"
    write_record(path, name, metrics, data=source, seeds=[seed], definitions=SCORE_DEFINITIONS)
    print(format_figures(metrics, path, SHOWN))


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    main()
