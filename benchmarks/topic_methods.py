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
"""The methods of the topic benchmark: TopicVQ in its variants, and the peers."""

import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate.state import AcceleratorState
from topic_corpora import Corpus, Part
from topic_peers import PEERS, TopicMethod

from hf_vq.metrics import codebook_perplexity
from hf_vq.models.configuration_topic_vq import TopicVQConfig
from hf_vq.models.modeling_topic_vq import TopicVQModel
from hf_vq.topics.training import (
    TopicTrainingConfig,
    build_corpus,
    topic_proportions,
    train_topic_vq,
)
from hf_vq.topics.word_embeddings import WordEmbeddings

# The authors' schedule of topics. Their 1,000 passes over all words for the codebook are cut to 30 over 76,800 words,
# in bfloat16 as far as autocast goes.
AUTHORS = {
    "codebook_words": 76_800,
    "codebook_epochs": 30.0,
    "codebook_learning_rate": 5e-4,
    "codebook_warmup_epochs": 0.0,
    "topic_epochs": 500.0,
    "topic_learning_rate": 1e-3,
    "lr_scheduler_type": "constant",
    "warmup_share": 0.0,
    "mixed_precision": "bf16",
}
AUTHORS_FIRST = AUTHORS | {"topic_epochs": 200.0, "topic_learning_rate": 5e-4}


class TopicVq(TopicMethod):
    """TopicVQ as `train_topic_vq` trains it, given MiniLM's word embeddings.

    Args:
        corpus: Documents and vocabulary.
        options: Fields of `TopicVQConfig`.
        training: Fields of `TopicTrainingConfig`.
    """

    def __init__(self, corpus: Corpus, options: dict[str, Any], training: dict[str, Any]):
        super().__init__(corpus)
        self.options, self.training = options, training

    def prepare(self, part: Part) -> WordEmbeddings:
        """The word embeddings."""
        return self.corpus.embeddings(part)

    def fit(self, inputs: WordEmbeddings, num_topics: int, seed: int) -> None:
        """Learn codebook and topics."""
        torch.manual_seed(seed)
        AcceleratorState._reset_state()  # methods differ in precision, which is one to a process
        self.config = TopicTrainingConfig(seed=seed, progress_bar=False, cpu=True, **self.training)
        config = TopicVQConfig(
            num_topics=num_topics,
            vocab_size=len(self.corpus.vocabulary),
            word_embedding_dim=inputs.dim,
            **self.options,
        )
        self.model = TopicVQModel(config)
        train_topic_vq(self.model, inputs, self.config)
        self.model.eval()
        self.train_inputs = inputs

    def place(self, inputs: WordEmbeddings) -> np.ndarray:
        """Topic proportions."""
        return topic_proportions(self.model, build_corpus(self.model, inputs, self.config))

    def mix(self, inputs: WordEmbeddings) -> np.ndarray:
        """Proportions before they are sharpened, as the decoder was trained with."""
        corpus = build_corpus(self.model, inputs, self.config)
        return topic_proportions(self.model, corpus, temperature=1.0)

    @torch.no_grad()
    def ranked_words(self, top_n: int) -> np.ndarray:
        """The best words of each topic, in the ranking of the variant."""
        return self.model.topic_words(top_n)[0].numpy()

    @torch.no_grad()
    def word_log_probs(self, proportions: np.ndarray) -> np.ndarray:
        """Eq. (15)."""
        return self.model.predict_words(torch.from_numpy(proportions)).double().numpy()

    def facts(self) -> dict[str, float]:
        """The size of the saved model, and how many of its codes the training documents have."""
        corpus = build_corpus(self.model, self.train_inputs, self.config)
        totals = corpus.code_counts.sum(axis=0, dtype=np.float64)
        return {
            "saved_megabytes": self.saved_bytes() / 1e6,
            "used_codes": int(np.count_nonzero(totals)),
            "code_perplexity": codebook_perplexity(torch.from_numpy(totals)),
        }

    def saved_bytes(self) -> int:
        """Bytes of the saved model and processor."""
        with tempfile.TemporaryDirectory() as folder:
            self.model.save_pretrained(folder)
            self.corpus.processor.save_pretrained(folder)
            return sum(f.stat().st_size for f in Path(folder).rglob("*") if f.is_file())


OURS: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "topic_vq": ("TopicVQ, recommended (ours)", {"variant": "recommended"}, {}),
    "published": ("TopicVQ, the paper's published form", {"variant": "published"}, AUTHORS),
    "submission": ("TopicVQ, the paper's first form", {"variant": "submission"}, AUTHORS_FIRST),
}
METHODS: dict[str, Callable[[Corpus], TopicMethod]] = {
    **{name: partial(TopicVq, options=o, training=t) for name, (_, o, t) in OURS.items()},
    **PEERS,
}
LABELS = {name: label for name, (label, _, _) in OURS.items()} | {
    name: peer.label for name, peer in PEERS.items()
}
