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
"""What the estimator checks before it works, and what it tells afterwards."""

import dataclasses
import logging
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from huggingface_hub.errors import StrictDataclassError

from hf_vq.models.configuration_topic_vq import TopicVQConfig
from hf_vq.models.processing_topic_vq import TopicVQProcessor, check_documents

from .operations import PlacedDocuments
from .training import TopicTrainingConfig

logger = logging.getLogger(__name__)

# What the estimator has parameters of its own for, or finds out.
OWN_FIELDS = {
    *(
        "num_topics",
        "vocab_size",
        "word_embedding_dim",
        "encoder_name_or_path",
        "encoder_fingerprint",
    ),
    *("seed_words", "prior_concentration", "topic_labels", "topic_map"),
}
OWN_TRAINING_FIELDS = {"seed", "progress_bar"}


def read_texts(documents: Iterable[str]) -> list[str]:
    """The documents as a list, refused if they are no texts."""
    if isinstance(documents, Mapping) or getattr(documents, "ndim", 1) != 1:
        raise ValueError(f"documents must be a list of texts, got {type(documents).__name__}")
    if not isinstance(documents, Iterable):
        raise ValueError(f"documents must be a list of texts, got {documents!r}")
    texts = list(check_documents(documents))
    if not texts:
        raise ValueError("there are no documents, expected at least one")
    return texts


def read_views(
    documents: Iterable[str], bow_text: Iterable[str] | None
) -> tuple[list[str], list[str] | None]:
    """The documents and their other form, if there is one, as lists; refused if they are not equally many texts."""
    texts = read_texts(documents)
    if bow_text is None:
        return texts, None
    others = list(check_documents(bow_text))
    if len(others) != len(texts):
        raise ValueError(f"bow_text has {len(others)} texts, expected {len(texts)}, the documents")
    return texts, others


def model_options(options: Mapping[str, Any] | None) -> dict[str, Any]:
    """Fields of the configuration, refused if there is no such field: transformers would take any."""
    known = {field.name for field in dataclasses.fields(TopicVQConfig)} - OWN_FIELDS
    return _known("model_options", options, known)


def training_options(options: Mapping[str, Any] | None) -> dict[str, Any]:
    """Fields of `TopicTrainingConfig`, refused if there is no such field."""
    known = {field.name for field in dataclasses.fields(TopicTrainingConfig)} - OWN_TRAINING_FIELDS
    return _known("training_options", options, known)


def make_config(**fields: Any) -> TopicVQConfig:
    """A configuration, refused with the one kind of error that users of estimators expect."""
    try:
        return TopicVQConfig(**fields)
    except StrictDataclassError as error:
        raise ValueError(str(error.__cause__ or error)) from error


def check_num_topics(num_topics: Any) -> None:
    """Refuses what is no number of topics."""
    whole = isinstance(num_topics, int | np.integer) and not isinstance(num_topics, bool)
    if not whole or num_topics < 1:
        raise ValueError(f"num_topics is {num_topics!r}, expected a whole number of at least 1")


def whole_seed(seed: Any) -> int:
    """The seed as Python's number, which PyTorch wants; refused if it is none."""
    whole = isinstance(seed, int | np.integer) and not isinstance(seed, bool)
    if not whole or not 0 <= seed < 2**32:
        raise ValueError(f"seed is {seed!r}, expected a whole number from 0 to {2**32 - 1}")
    return int(seed)


def check_vocabulary(processor: TopicVQProcessor, texts: Iterable[str]) -> None:
    """Refuses a given vocabulary of which nothing occurs; warns if it is of another kind than the texts."""
    if not processor.vocabulary_coverage(texts) and any(map(processor.content_words, texts)):
        raise ValueError(
            f"no word of the vocabulary, such as {processor.vocabulary[0]!r}, occurs in the documents"
        )
    found = processor.count_words(processor.vocabulary).diagonal()
    lost = [word for word, number in zip(processor.vocabulary, found, strict=True) if not number]
    if lost:
        logger.warning(
            "%d of %d words of the vocabulary, such as %r, can never be counted: they have capitals that lowercase "
            "removes, are stop words, are not what token_pattern finds, or have more or fewer words than ngram_range",
            len(lost),
            processor.vocab_size,
            lost[0],
        )


def check_several(texts: Sequence[str]) -> None:
    """Refuses a single text, or copies of it, before a word of its vocabulary could be missed."""
    if len(set(texts)) < 2:
        copies = "" if len(texts) == 1 else ", however often it is repeated"
        raise ValueError(
            f"there is one document{copies} (n_samples={len(texts)}), expected at least 2 that differ"
        )


def check_size(texts: Sequence[str], num_words: np.ndarray, num_topics: int) -> None:
    """Refuses fewer documents than topics: those that differ and have words count."""
    found = {text for text, number in zip(texts, num_words, strict=True) if number}
    if len(found) < 2:
        raise ValueError(
            f"{len(found)} of {len(texts)} documents has words and is no copy of another (n_samples={len(texts)}), "
            "expected at least 2"
        )
    if num_topics > len(found):
        raise ValueError(
            f"num_topics is {num_topics}, but only {len(found)} of {len(texts)} documents have words and are no copies "
            f"of others, expected at most {len(found)}"
        )


def seed_word_ids(processor: TopicVQProcessor, groups: Any) -> list[list[int]]:
    """The numbers of seed words, refused if one is not in the vocabulary."""
    ids = []
    for group in groups:
        if isinstance(group, str) or not isinstance(group, Iterable):
            raise ValueError(f"seed_words has {group!r}, expected a list of words for each topic")
        group = list(group)
        for seed in group:
            if not isinstance(seed, str):
                raise ValueError(f"seed_words has {seed!r}, expected words")
        terms = {
            seed: " ".join(word for word, _, _ in processor.content_words(seed)) for seed in group
        }
        missing = [seed for seed, term in terms.items() if term not in processor.word_to_id]
        if missing:
            raise ValueError(
                f"seed_words has {missing}, expected words of the vocabulary, which has {processor.vocab_size}"
            )
        ids.append([processor.word_to_id[term] for term in terms.values()])
    return ids


def report(placed: PlacedDocuments, model: Any) -> None:
    """Says what a user should know about the topics that were learned."""
    unread = int((placed.num_words == 0).sum())
    if unread:
        logger.warning(
            "%d of %d documents have no word that the encoder reads; they get the proportions of the prior",
            unread,
            len(placed),
        )
    unused = (~model.active_topics).nonzero().flatten().tolist()
    if unused and len(model.active_topics) > 1:
        logger.warning("no document has more than an even share of the topics %s", unused)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Draws from this seed inside, and leaves the generators of the caller as they were."""
    python, legacy = random.getstate(), np.random.get_state()
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(legacy)


def plain(value: Any) -> Any:
    """What JSON has no form for, in a form that it has."""
    if hasattr(value, "tolist"):  # of NumPy or pandas
        return value.tolist()
    return list(value) if isinstance(value, Sequence | set | frozenset) else str(value)


def _known(name: str, options: Mapping[str, Any] | None, known: set[str]) -> dict[str, Any]:
    strangers = sorted(set(options or {}) - known)
    if strangers:
        raise ValueError(f"{name} has {strangers[0]!r}, expected one of {sorted(known)}")
    return dict(options or {})


__all__ = [
    "check_num_topics",
    "check_several",
    "check_size",
    "check_vocabulary",
    "make_config",
    "model_options",
    "plain",
    "read_texts",
    "read_views",
    "report",
    "seed_word_ids",
    "seeded",
    "training_options",
    "whole_seed",
]
