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
"""Score a topic model on documents that it was not trained on, and write every figure to `<checkpoint>.json`.

    python scripts/evaluate_topics.py --checkpoint runs/mine/final --dataset texts/ --split test --label_column section
    python scripts/evaluate_topics.py --checkpoint user/model --dataset texts.csv --split 'train[-500:]' \
        --reference_split 'train[:-500]' --encoder path/to/encoder

Coherence counts the words of topics in windows of the reference split, best the documents that the model was trained
on. The record holds the figures with their definitions, the data's revision, hardware, versions, commit and command.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from accelerate import Accelerator

from hf_vq.evaluation import format_figures, record_path, write_record
from hf_vq.hub import load_topic_model
from hf_vq.topics.corpus import TopicCorpus
from hf_vq.topics.documents import load_documents
from hf_vq.topics.encoder_choice import load_encoder
from hf_vq.topics.scoring import SCORE_DEFINITIONS, document_revision, score_topic_model
from hf_vq.topics.word_embeddings import encode_corpus
from hf_vq.training_config import option, parse_config


@dataclass
class EvaluationConfig:
    """What to score, on which documents."""

    checkpoint: str = field(metadata={"help": "Folder or Hub id of the model."})
    dataset: str = field(metadata={"help": "Hub id, folder or file."})
    checkpoint_revision: str = option("main", "Commit, branch or tag of the checkpoint.")
    text_column: str = option("text", "Column of the documents.")
    label_column: str | None = option(None, "Column of their classes.")
    bow_text_column: str | None = option(
        None, "Column of the same documents in the form whose words are counted, as in training."
    )
    split: str = option("test", "Documents to score, for example test[:1000].")
    reference_split: str = option("train", "Documents in which coherence counts words.")
    probe: bool = option(
        False, "Also fit a logistic regression to labels of the reference split, score it on split."
    )
    encoder: str | None = option(None, "Where the model's encoder is, if it has moved.")
    output: str | None = option(None, "Where to write; unset: <checkpoint>.json beside a folder.")
    config_name: str | None = option(None, "Configuration of a Hub data set that has several.")
    revision: str | None = option(None, "Commit, branch or tag of the data set.")
    max_samples: int | None = option(None, "No more than so many documents of each split.")
    cache_dir: str | None = option(None, "Where word embeddings are kept; unset: nowhere.")
    seeds: list[int] = option([], "Seeds of the training runs behind the checkpoint, to be noted.")
    cpu: bool = option(False, "Stay on the CPU even if there is an accelerator.")
    progress_bar: bool = option(True, "Show progress bars.")


def main(argv: Sequence[str] | None = None) -> dict[str, Any]:
    """Write the record and return it."""
    (config,) = parse_config(EvaluationConfig, argv=argv)
    load = partial(
        load_documents,
        config.dataset,
        text_column=config.text_column,
        label_column=config.label_column,
        bow_text_column=config.bow_text_column,
        config_name=config.config_name,
        revision=config.revision,
        max_samples=config.max_samples,
    )
    documents, reference = load(config.split), load(config.reference_split)
    model, processor = load_topic_model(config.checkpoint, config.checkpoint_revision)
    model.to(Accelerator(cpu=config.cpu).device)
    encoder = load_encoder(
        model.config, config.encoder, config.checkpoint, revision=config.checkpoint_revision
    )
    corpus = None
    if config.probe:
        embeddings = encode_corpus(
            reference.texts,
            processor,
            encoder,
            config.cache_dir,
            config.progress_bar,
            reference.bow_texts,
        )
        corpus = TopicCorpus.build(model, embeddings)
    metrics = score_topic_model(
        model,
        processor,
        encoder,
        documents,
        reference.counted_texts,
        train_corpus=corpus,
        train_labels=reference.labels,
        cache_dir=config.cache_dir,
        progress=config.progress_bar,
    )
    output = config.output or record_path(config.checkpoint)
    source = {
        "name": config.dataset,
        "split": config.split,
        "revision": document_revision(documents),
        "reference_split": config.reference_split,
        "encoder": config.encoder or model.config.encoder_name_or_path,
        "max_samples": config.max_samples,
    }
    record = write_record(
        output,
        config.checkpoint,
        metrics,
        data=source,
        seeds=config.seeds,
        definitions=SCORE_DEFINITIONS,
    )
    print(format_figures(record["metrics"], output))
    return record


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    main()
