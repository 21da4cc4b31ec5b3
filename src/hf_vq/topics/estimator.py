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
"""TopicVQ as an estimator: documents in, topics out, in three lines.

    topics = TopicVQ(num_topics=20).fit(documents)
    print(topics.topic_table())
    topics.transform(new_documents)

It is a front: processor, word embeddings, model and training are where their names say, and can be used without it.
"""

import dataclasses
import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hf_vq._extras import require

require("accelerate", "datasets", "scipy", "sklearn", extra="topics")

# ruff: noqa: E402  the imports below need the extra
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted
from transformers.utils import cached_file

from hf_vq.checkpoints import load_topic_model
from hf_vq.models.configuration_topic_vq import TopicVQConfig
from hf_vq.models.modeling_topic_vq import TopicVQModel
from hf_vq.models.processing_topic_vq import TopicVQProcessor
from hf_vq.models.topic_vq_words import DEFAULT_TOKEN_PATTERN

from . import estimator_checks as checks
from .corpus import TopicCorpus
from .encoder_choice import CORPUS_ENCODER, encoder_facts, load_encoder, make_encoder
from .encoders import WordEncoder
from .estimator_operations import TopicOperations
from .operations import PlacedDocuments
from .reading import join_documents, merge_documents, place_corpus, read_map
from .training import TopicTrainingConfig, build_corpus, fit_codebook, fit_topics
from .training_run import check_output_dir
from .word_embeddings import WordEmbeddings, encode_corpus

logger = logging.getLogger(__name__)

ESTIMATOR_NAME = "topic_vq.json"
PLACED_AT_ONCE = 20_000  # documents whose word embeddings are in memory together
DEFAULT_ENCODER = "sentence-transformers/all-MiniLM-L6-v2"


class TopicVQ(TopicOperations, TransformerMixin, BaseEstimator):
    """Topics of documents from the codes of their words, in the manner of scikit-learn.

    Args:
        num_topics: How many topics.
        encoder: What gives words their vectors: Hub id or folder of any encoder, `"corpus"` for vectors that are made
            from the documents themselves, or an object such as `ContextualEncoder`.
        encoder_dtype: In which precision it computes. The fastest if not given, bfloat16 where the machine is good at
            it; `"float32"` is the most exact.
        vocabulary: The words that can describe topics; found in the documents if not given.
        min_df: Fewest documents that such a word occurs in; a share of all documents if it is a float.
        max_df: Most documents that it occurs in, likewise.
        max_features: At most so many words, the most widespread.
        stop_words: Words that say nothing, or `"english"`.
        token_pattern: Regular expression of a word.
        lowercase: Whether words are the same in upper and lower case.
        ngram_range: Fewest and most words of an entry of the vocabulary.
        seed_words: Guided topics: a list of words for each of the first topics, or a dictionary with their names.
        prior_concentration: How documents spread over topics before they are read, one number or one for each topic;
            the learned prior starts there.
        model_options: Further fields of [`TopicVQConfig`], such as `{"variant": "published", "codebook_size": 100}`.
        training_options: Fields of `TopicTrainingConfig`, such as `{"topic_epochs": 100}`.
        cache_dir: Where word embeddings are kept, so that the same documents are read once.
        progress_bar: Whether to show progress.
        seed: The same seed gives the same topics on the same machine.

    Attributes:
        model_: The trained [`TopicVQModel`].
        processor_: Its [`TopicVQProcessor`].
        topics_: The topics as arrays.
    """

    def __init__(
        self,
        num_topics: int = 50,
        *,
        encoder: Any = DEFAULT_ENCODER,
        encoder_dtype: str | None = None,
        vocabulary: Sequence[str] | None = None,
        min_df: int | float = 2,
        max_df: int | float = 0.5,
        max_features: int | None = 10_000,
        stop_words: Sequence[str] | str | None = None,
        token_pattern: str = DEFAULT_TOKEN_PATTERN,
        lowercase: bool = True,
        ngram_range: Sequence[int] = (1, 1),
        seed_words: Sequence[Sequence[str]] | Mapping[str, Sequence[str]] | None = None,
        prior_concentration: float | Sequence[float] = 1.0,
        model_options: Mapping[str, Any] | None = None,
        training_options: Mapping[str, Any] | None = None,
        cache_dir: str | Path | None = None,
        progress_bar: bool = True,
        seed: int = 0,
    ) -> None:
        self.num_topics = num_topics
        self.encoder = encoder
        self.encoder_dtype = encoder_dtype
        self.vocabulary = vocabulary
        self.min_df = min_df
        self.max_df = max_df
        self.max_features = max_features
        self.stop_words = stop_words
        self.token_pattern = token_pattern
        self.lowercase = lowercase
        self.ngram_range = ngram_range
        self.seed_words = seed_words
        self.prior_concentration = prior_concentration
        self.model_options = model_options
        self.training_options = training_options
        self.cache_dir = cache_dir
        self.progress_bar = progress_bar
        self.seed = seed

    def fit(
        self,
        documents: Iterable[str],
        y: Any = None,
        *,
        word_embeddings: Any = None,
        bow_text: Iterable[str] | None = None,
    ) -> "TopicVQ":
        """Learns the topics of documents.

        Args:
            documents: Texts.
            y: Ignored.
            word_embeddings: `WordEmbeddings` of the documents, or a (words, width) array for each; made by `encoder` if
                not given.
            bow_text: Another form of each document, preprocessed or lemmatized, whose words describe the topics; the
                encoder reads `documents`.
        """
        texts, others = checks.read_views(documents, bow_text)
        checks.check_several(texts)
        training = self._training()
        counted = texts if others is None else others
        # A fit that fails leaves no topics, rather than the old ones with new words.
        self.__dict__.pop("model_", None)
        self.processor_ = self._fit_processor(counted)
        self._encoder = self._fit_encoder(counted, word_embeddings is not None)
        embeddings = self._embed(texts, word_embeddings, others)
        checks.check_size(texts, embeddings.num_words, self.num_topics)
        with checks.seeded(self.seed):
            model = TopicVQModel(self._config(embeddings))
            if training.output_dir is not None:
                check_output_dir(model, embeddings, training)
            fit_codebook(model, embeddings, training)
            corpus = build_corpus(model, embeddings, training)
            fit_topics(model, corpus, training)
        self.model_ = model.eval()
        self._learned = place_corpus(self.model_, texts, corpus, others)
        self._topics, self._merges = None, []
        checks.report(self._learned, self.model_)
        return self

    def partial_fit(
        self,
        documents: Iterable[str],
        y: Any = None,
        *,
        word_embeddings: Any = None,
        bow_text: Iterable[str] | None = None,
        topic_epochs: float = 5.0,
    ) -> "TopicVQ":
        """Goes on learning from further documents; codes, vocabulary and merged topics stay as they are.

        Tables are then of these documents where none are given. There must be at least two that differ.

        Args:
            documents: Texts.
            y: Ignored.
            word_embeddings: As in `fit`.
            bow_text: As in `fit`.
            topic_epochs: Passes over these documents; many make the topics forget what they were.
        """
        if not hasattr(self, "model_"):
            return self.fit(documents, word_embeddings=word_embeddings, bow_text=bow_text)
        texts, others = checks.read_views(documents, bow_text)
        corpus = self._corpus(texts, word_embeddings, others)
        training = dataclasses.replace(
            self._training(),
            topic_epochs=topic_epochs,
            output_dir=None,
            resume_from_checkpoint=None,
        )
        with checks.seeded(self.seed):
            fit_topics(self.model_, corpus, training, continued=True)
        self.model_.eval()
        self._learned = place_corpus(self.model_, texts, corpus, others)
        self._topics = None
        return self

    def transform(self, documents: Iterable[str], *, word_embeddings: Any = None) -> np.ndarray:
        """The topic proportions of documents, (documents, topics); each row sums to 1 and depends on no other.

        Args:
            documents: Texts. One without any word gets the proportions of the prior.
            word_embeddings: As in `fit`.
        """
        check_is_fitted(self, "model_")
        placed = self._place(documents, word_embeddings)
        return merge_documents(placed, read_map(self.model_)).topic_proportions

    def fit_transform(
        self,
        X: Iterable[str],
        y: Any = None,
        *,
        word_embeddings: Any = None,
        bow_text: Iterable[str] | None = None,
    ) -> np.ndarray:
        """`fit`, and the topic proportions of these documents."""
        self.fit(X, word_embeddings=word_embeddings, bow_text=bow_text)
        return self.place().topic_proportions

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """`topic_0`, `topic_1`, ..., for scikit-learn's `set_output`."""
        return np.array([f"topic_{topic}" for topic in range(len(self.topics_))], dtype=object)

    def save_pretrained(self, folder: str | Path) -> Path:
        """Writes model, processor and the options of this estimator; no documents, and no encoder but `"corpus"`."""
        check_is_fitted(self, "model_")
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        self.save_options(folder)
        self.model_.save_pretrained(folder)
        self.processor_.save_pretrained(folder)
        size = sum(file.stat().st_size for file in folder.iterdir() if file.is_file())
        logger.info("saved %.1f MB to %s", size / 1e6, folder)
        return folder

    def save_options(self, folder: str | Path) -> None:
        """Writes what `save_pretrained` puts beside model and processor: the options, and the encoder `"corpus"`."""
        if self.model_.config.encoder_name_or_path == CORPUS_ENCODER:
            encoder: Any = self._get_encoder()
            encoder.save(folder)
        options = self.get_params()
        options["encoder"] = self.model_.config.encoder_name_or_path
        # Where this machine keeps word embeddings and a run is nothing for another one.
        options["cache_dir"] = None
        if self.training_options is not None:
            kept = self.training_options.keys() - {"output_dir", "resume_from_checkpoint"}
            options["training_options"] = {
                name: self.training_options[name] for name in sorted(kept)
            }
        state = {"options": options, "merges": self._merges}
        text = json.dumps(state, indent=2, default=checks.plain, ensure_ascii=False)
        (Path(folder) / ESTIMATOR_NAME).write_text(text, encoding="utf-8")

    @classmethod
    def from_pretrained(
        cls, folder: str | Path, *, encoder: Any = None, revision: str = "main"
    ) -> "TopicVQ":
        """Loads what `save_pretrained` or the training script wrote, from a folder or the Hub.

        Args:
            folder: Folder or Hub id.
            encoder: Where the encoder is, if it has moved, or the encoder itself. Another one is refused.
            revision: Commit, branch or tag of a Hub id.

        Raises:
            ValueError: If there is no such checkpoint, it is not of topics, or weights are damaged or missing.
        """
        model, processor = load_topic_model(folder, revision)
        path = cached_file(
            str(folder),
            ESTIMATOR_NAME,
            revision=revision,
            _raise_exceptions_for_missing_entries=False,
        )
        state = {} if path is None else json.loads(Path(path).read_text(encoding="utf-8"))
        options = state.get("options", {"num_topics": model.config.num_topics})
        name = options.get("encoder", model.config.encoder_name_or_path)
        estimator = cls(**options | {"encoder": name if encoder is None else encoder})
        estimator._adopt(model, processor, str(folder), revision)
        estimator._merges = state.get("merges", estimator._merges)
        return estimator

    @classmethod
    def from_parts(
        cls, model: TopicVQModel, processor: TopicVQProcessor, *, encoder: Any = None
    ) -> "TopicVQ":
        """Makes an estimator of a trained model and its processor; the encoder is found by its name if not given.

        Its options are what the two tell, which words count among them; of others, such as how frequent a word had to
        be, they are those of a new estimator.
        """
        estimator = cls(
            model.config.num_topics,
            encoder=model.config.encoder_name_or_path if encoder is None else encoder,
            stop_words=processor.stop_words,
            token_pattern=processor.token_pattern,
            lowercase=processor.lowercase,
            ngram_range=processor.ngram_range,
            prior_concentration=model.config.prior_concentration,
        )
        estimator._adopt(model, processor, model.name_or_path or None)
        return estimator

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.input_tags.one_d_array = tags.input_tags.string = True
        return tags

    # Parts

    def _fit_processor(self, texts: list[str]) -> TopicVQProcessor:
        processor = TopicVQProcessor(
            vocabulary=() if self.vocabulary is None else self.vocabulary,
            stop_words=self.stop_words,
            token_pattern=self.token_pattern,
            lowercase=self.lowercase,
            ngram_range=self.ngram_range,
        )
        if self.vocabulary is None:
            return processor.fit_vocabulary(texts, self.min_df, self.max_df, self.max_features)
        if not processor.vocabulary:
            raise ValueError("vocabulary is empty, expected at least one word")
        checks.check_vocabulary(processor, texts)
        return processor

    def _fit_encoder(self, texts: list[str], given: bool) -> WordEncoder | None:
        if given:  # it may be needed later, for new documents
            return None if isinstance(self.encoder, str | Path) else self.encoder
        levers = checks.make_config(**checks.model_options(self.model_options))
        return make_encoder(
            self.encoder, levers, texts, self.processor_, self.seed, self.encoder_dtype
        )

    def _config(self, embeddings: WordEmbeddings) -> TopicVQConfig:
        seeds, labels = self.seed_words, None
        if isinstance(seeds, Mapping):
            labels = [
                *map(str, seeds),
                *(f"topic {topic}" for topic in range(len(seeds), self.num_topics)),
            ]
            seeds = list(seeds.values())
        options = checks.model_options(self.model_options)
        facts = encoder_facts(self.encoder if self._encoder is None else self._encoder)
        return checks.make_config(
            num_topics=int(self.num_topics),
            vocab_size=self.processor_.vocab_size,
            word_embedding_dim=embeddings.dim,
            encoder_fingerprint=embeddings.fingerprint,
            seed_words=None if seeds is None else checks.seed_word_ids(self.processor_, seeds),
            topic_labels=labels,
            prior_concentration=np.asarray(self.prior_concentration, dtype=np.float64).tolist(),
            **facts | options,
        )

    def _training(self) -> TopicTrainingConfig:
        checks.check_num_topics(self.num_topics)
        options = checks.training_options(self.training_options)
        return TopicTrainingConfig(
            seed=checks.whole_seed(self.seed), progress_bar=self.progress_bar, **options
        )

    def _adopt(
        self,
        model: TopicVQModel,
        processor: TopicVQProcessor,
        folder: str | None,
        revision: str = "main",
    ) -> None:
        self.model_, self.processor_ = model.eval(), processor
        self._encoder, self._source = None, (folder, revision)
        self._learned, self._topics = None, None
        self._merges = [] if model.config.topic_map is None else [[None, None]]

    def _get_encoder(self) -> WordEncoder:
        if self._encoder is None:
            folder, revision = getattr(self, "_source", (None, "main"))
            self._encoder = load_encoder(
                self.model_.config, self.encoder, folder, self.encoder_dtype, revision
            )
        return self._encoder

    def _embed(
        self, texts: list[str], given: Any = None, bow_text: list[str] | None = None
    ) -> WordEmbeddings:
        if given is None:
            embeddings = encode_corpus(
                texts,
                self.processor_,
                self._get_encoder(),
                self.cache_dir,
                self.progress_bar,
                bow_text,
            )
        elif isinstance(given, WordEmbeddings):
            if bow_text is not None and given.counted_ids is None:
                raise ValueError(
                    "word_embeddings were made without bow_text: pass it to encode_corpus as well"
                )
            embeddings = given.with_processor(self.processor_)
        else:
            embeddings = WordEmbeddings.from_arrays(
                list(given), texts, self.processor_, bow_text=bow_text
            )
        if len(embeddings) != len(texts):
            raise ValueError(
                f"word_embeddings are of {len(embeddings)} documents, expected {len(texts)}"
            )
        return embeddings

    def _corpus(
        self, texts: list[str], given: Any = None, bow_text: list[str] | None = None
    ) -> TopicCorpus:
        return TopicCorpus.build(self.model_, self._embed(texts, given, bow_text))

    def _place(
        self,
        documents: Iterable[str],
        word_embeddings: Any = None,
        bow_text: Iterable[str] | None = None,
    ) -> PlacedDocuments:
        """Documents among the topics that were trained, merged or not."""
        texts, others = checks.read_views(documents, bow_text)
        if word_embeddings is not None:
            corpus = self._corpus(texts, word_embeddings, others)
            return place_corpus(self.model_, texts, corpus, others)
        parts = []
        for start in range(0, len(texts), PLACED_AT_ONCE):
            rows = slice(start, start + PLACED_AT_ONCE)
            other = None if others is None else others[rows]
            corpus = self._corpus(texts[rows], bow_text=other)
            parts.append(place_corpus(self.model_, texts[rows], corpus, other))
        return join_documents(parts)

    def _count_codes(self, texts: list[str]) -> np.ndarray:
        corpus = self._corpus(checks.read_texts(texts))
        batch = corpus.collate(corpus.__getitems__(list(range(len(texts)))))
        return batch["code_counts"].numpy()


__all__ = ["TopicVQ"]
