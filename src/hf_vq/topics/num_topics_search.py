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
"""How many topics? A table of what speaks for each number."""

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from sklearn.base import clone

from hf_vq.latent_tables import OperationTable
from hf_vq.models.modeling_topic_vq import TopicVQModel

from . import estimator_checks as checks
from .coherence import CoherenceReference
from .corpus import TopicCorpus
from .evaluation import evaluate_topics
from .reading import read_topics
from .scoring import TermsOf
from .training import fit_codebook, fit_topics


def search_num_topics(
    estimator: Any, documents: Iterable[str], candidates: Sequence[int], held_out: float = 0.1
) -> OperationTable:
    """Learns topics of several numbers and compares them; the words are read and the codes found once.

    Args:
        estimator: A `TopicVQ` with the options to use; it is not changed.
        documents: Texts.
        candidates: The numbers of topics.
        held_out: The share of the documents that nothing is learned from.

    Returns:
        A row for each number: `npmi` and `diversity_10` of its topics, larger is better (for vocabularies of at least
        10 words), and `bound`, nats for a held-out document, smaller is better. There is no one best number: a larger
        one tells more apart, and costs readers more.
    """
    texts = checks.read_texts(documents)
    if not 0 < held_out < 1:
        raise ValueError(f"held_out is {held_out}, expected a share between 0 and 1")
    order = np.random.default_rng(estimator.seed).permutation(len(texts))
    number = max(2, round(held_out * len(texts)))
    held, kept = ([texts[row] for row in np.sort(rows)] for rows in np.split(order, [number]))
    work = clone(estimator)
    processor = work.processor_ = work._fit_processor(checks.read_texts(kept))
    work._encoder = work._fit_encoder(kept, False)
    embeddings, others = work._embed(kept), work._embed(held)
    autoencoder: dict[str, Any] = {}
    corpora: list[TopicCorpus] = []
    records = []
    for num_topics in candidates:
        work.set_params(num_topics=num_topics)
        training = dataclasses.replace(
            work._training(), output_dir=None, resume_from_checkpoint=None
        )
        checks.check_size(kept, embeddings.num_words, num_topics)
        with checks.seeded(work.seed):
            model = TopicVQModel(work._config(embeddings))
            if autoencoder:
                model.autoencoder.load_state_dict(autoencoder)
            else:
                fit_codebook(model, embeddings, training)
                autoencoder = model.autoencoder.state_dict()
                corpora = [TopicCorpus.build(model, part) for part in (embeddings, others)]
            results = fit_topics(model, corpora[0], training, corpora[1])
        topics = read_topics(model.eval(), processor.vocabulary)
        words = [topics.top_words(topic, 10) for topic in range(num_topics)]
        terms = {word for topic in words for word in topic}
        reference = CoherenceReference(TermsOf(kept, processor), sorted(terms))
        figures = evaluate_topics(words, reference)
        row: dict[str, Any] = {"num_topics": num_topics}
        row |= {name: figures[name] for name in ("npmi", "diversity_10") if name in figures}
        records.append(row | {"bound": results["eval_bound"]})
    return OperationTable("numbers of topics", records)


__all__ = ["search_num_topics"]
