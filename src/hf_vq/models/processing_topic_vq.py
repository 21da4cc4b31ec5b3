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
"""Documents to what TopicVQModel reads: words, the pieces that they are made of, and their counts."""

import hashlib
import json
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from numbers import Real
from typing import Any

import numpy as np
from transformers import PreTrainedTokenizerBase
from transformers.dynamic_module_utils import custom_object_save
from transformers.feature_extraction_utils import BatchFeature
from transformers.processing_utils import ProcessorMixin
from transformers.utils import (
    PROCESSOR_NAME,
    cached_file,
    is_scipy_available,
    logging,
    requires_backends,
)

if is_scipy_available():
    from scipy.sparse import csr_array

from .topic_vq_words import DEFAULT_TOKEN_PATTERN, ENGLISH_STOP_WORDS

logger = logging.get_logger(__name__)

VOCABULARY_NAME = "vocabulary.json"
# Halves of characters, which text from broken sources may hold and no tokenizer takes.
_SURROGATES = re.compile("[\ud800-\udfff]")


@dataclass
class DocumentWindows:
    """Documents cut into pieces and windows, with the words that each piece is a part of.

    Args:
        input_ids: The pieces of each of the W windows, special tokens included.
        window_to_document: (W,) document of each window.
        piece_window: (P,) window of each pair of a piece and a word that it overlaps.
        piece_position: (P,) position of that piece in its window.
        piece_word: (P,) number of that word, counted through all documents.
        words: The content words of all documents, one after the other.
        num_words: (D,) how many of them each document has.
    """

    input_ids: list[list[int]]
    window_to_document: np.ndarray
    piece_window: np.ndarray
    piece_position: np.ndarray
    piece_word: np.ndarray
    words: list[str]
    num_words: np.ndarray


class TopicVQProcessor(ProcessorMixin):
    """Finds the content words of documents, counts those of the vocabulary, and aligns them with word pieces.

    A content word matches `token_pattern` and is no stop word. It need not be in the vocabulary: every content word has
    codes, but only words of the vocabulary are counted and can describe a topic. Nothing in here knows a language; the
    one list of stop words that it brings, English, has to be asked for.

    Args:
        tokenizer: Fast tokenizer of the encoder, needed for `processor(documents)` alone: `ContextualEncoder` has its
            own.
        vocabulary: Words that are counted, in the order of their ids; see `fit_vocabulary`.
        stop_words: Words that are no content words, or `"english"`.
        token_pattern: Regular expression of a word. The default finds words of at least two letters in any script,
            digits and apostrophes inside included, and single Han characters.
        lowercase: Whether words are lower-cased before they are compared with stop words and vocabulary. The encoder
            sees the text as it is.
        ngram_range: Fewest and most content words that an entry of the vocabulary consists of, joined by a space.
        code_words: `"all"` content words have codes, or those of the `"vocabulary"` only, as in the authors' code.
        word_forms: Which word to count in place of another, such as `{"games": "game"}`; see `fit_word_forms`.

    Example:
        >>> processor = TopicVQProcessor(stop_words=["the"]).fit_vocabulary(["The cat sleeps", "a cat"])
        >>> processor.vocabulary
        ['cat', 'sleeps']
        >>> processor.content_words("The cat sleeps")
        [('cat', 4, 7), ('sleeps', 8, 14)]
        >>> processor.count_words(["cat, cat!"]).toarray().tolist()
        [[2, 0]]
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase | None = None,
        vocabulary: Sequence[str] = (),
        stop_words: Sequence[str] | str | None = None,
        token_pattern: str = DEFAULT_TOKEN_PATTERN,
        lowercase: bool = True,
        ngram_range: Sequence[int] = (1, 1),
        code_words: str = "all",
        word_forms: dict[str, str] | None = None,
    ) -> None:
        if tokenizer is None:
            self.tokenizer, self.chat_template = None, None
        else:
            super().__init__(tokenizer)
            _check_fast(tokenizer)
        if isinstance(stop_words, str):
            if stop_words != "english":
                raise ValueError(
                    f"stop_words must be a list of words or 'english', got {stop_words!r}"
                )
            stop_words = sorted(ENGLISH_STOP_WORDS)
        elif stop_words is not None and not isinstance(stop_words, Iterable):
            raise ValueError(f"stop_words must be a list of words or 'english', got {stop_words!r}")
        stop_words = [] if stop_words is None else list(stop_words)
        _check_words("stop_words", stop_words)
        numbers = list(ngram_range) if isinstance(ngram_range, Sequence) else []
        are_two = len(numbers) == 2 and all(isinstance(number, int) for number in numbers)
        if not are_two or not 1 <= numbers[0] <= numbers[1]:
            raise ValueError(
                f"ngram_range must be two whole numbers with 1 <= low <= high, got {ngram_range!r}"
            )
        if code_words not in ("all", "vocabulary"):
            raise ValueError(f"code_words must be 'all' or 'vocabulary', got {code_words!r}")
        self.lowercase = lowercase
        self.token_pattern = token_pattern
        self.ngram_range = numbers
        self.code_words = code_words
        self.word_forms = dict(word_forms or {})
        self.stop_words = sorted({self._normalize(word) for word in stop_words})
        self._stop_words = frozenset(self.stop_words)
        try:
            self._pattern = re.compile(token_pattern)
        except re.error as error:
            raise ValueError(f"token_pattern is {token_pattern!r}: {error}") from error
        if self._pattern.fullmatch(""):
            raise ValueError(
                f"token_pattern must find words of at least one character, got {token_pattern!r}"
            )
        if self._pattern.groups:
            raise ValueError(f"token_pattern must have no capturing group, got {token_pattern!r}")
        self._set_vocabulary(vocabulary)

    def _set_vocabulary(self, vocabulary: Sequence[str]) -> None:
        if isinstance(vocabulary, str):
            raise ValueError(
                f"vocabulary must be a list of words, got the text {vocabulary[:80]!r}"
            )
        # A set has another order in every process.
        ordered = sorted if isinstance(vocabulary, set | frozenset) else list
        words = ordered(vocabulary)
        _check_words("vocabulary", words)
        self.vocabulary = [str(word) for word in words]  # numpy has texts of its own
        self.word_to_id = {word: index for index, word in enumerate(self.vocabulary)}
        if len(self.word_to_id) < len(self.vocabulary):
            word, count = Counter(self.vocabulary).most_common(1)[0]
            raise ValueError(f"vocabulary must have no word twice, got {word!r} {count} times")

    @property
    def vocab_size(self) -> int:
        """Number of words that are counted."""
        return len(self.vocabulary)

    @property
    def content_rule(self) -> str:
        """What identifies the rule of content words; the vocabulary is no part of it unless it restricts them."""
        facts = [
            self.token_pattern,
            self.lowercase,
            self.stop_words,
            sorted(self.word_forms.items()),
        ]
        if self.code_words == "vocabulary":
            facts.append(self.vocabulary)
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:32]

    def _normalize(self, word: str) -> str:
        word = word.replace("’", "'")
        return word.lower() if self.lowercase else word

    def content_words(self, text: str, bow_text: str | None = None) -> list[tuple[str, int, int]]:
        """Return the content words of one text, with the characters from which and up to which each goes.

        With `bow_text`, a lemmatized form of the text say, its words take the place of those of the text, one by one,
        if both have equally many content words; otherwise those of the text stay.
        """
        words = self._words(text)
        if bow_text is not None:
            forms = self._words(bow_text)
            if len(forms) == len(words):
                words = [
                    (form, start, end)
                    for (form, _, _), (_, start, end) in zip(forms, words, strict=True)
                ]
        if self.code_words == "all":
            return words
        return [found for found in words if found[0] in self.word_to_id]

    def _words(self, text: str) -> list[tuple[str, int, int]]:
        words = []
        for match in self._pattern.finditer(text):
            word = self._normalize(match[0])
            if word in self._stop_words:
                continue
            words.append((self.word_forms.get(word, word), match.start(), match.end()))
        return words

    def terms(self, words: Sequence[str]) -> list[str]:
        """Return what is counted of a document with these content words: the words themselves, or n-grams."""
        low, high = self.ngram_range
        if high == 1:
            return list(words)
        return [
            " ".join(words[i : i + n])
            for n in range(low, high + 1)
            for i in range(len(words) - n + 1)
        ]

    def fit_vocabulary(
        self,
        documents: Iterable[str],
        min_df: int | float = 1,
        max_df: int | float = 1.0,
        max_features: int | None = None,
    ) -> "TopicVQProcessor":
        """Set the vocabulary to the terms of a corpus, the most widespread first, equals by alphabet.

        Args:
            documents: The corpus, which is read once.
            min_df: Fewest documents that a term occurs in; a share of all documents if it is a `float`.
            max_df: Most documents that a term occurs in, likewise.
            max_features: Keep no more terms than this.

        Raises:
            ValueError: If no term is left.
        """
        if max_features is not None and max_features < 1:
            raise ValueError(f"max_features is {max_features}, expected at least 1")
        for name, df in (("min_df", min_df), ("max_df", max_df)):
            if not isinstance(df, Real):
                raise ValueError(f"{name} is {df!r}, expected a number or a share of documents")
        self._set_vocabulary(())
        frequencies: Counter[str] = Counter()
        rule, self.code_words = self.code_words, "all"  # there is no vocabulary yet
        try:
            num_documents = 0
            for text in check_documents(documents):
                frequencies.update({*self.terms([word for word, _, _ in self.content_words(text)])})
                num_documents += 1
        finally:
            self.code_words = rule
        if not frequencies:
            raise ValueError(
                f"no vocabulary: none of the {num_documents} documents has a term, made of words that token_pattern "
                "finds and that are no stop words"
            )
        low, high = (df * num_documents if isinstance(df, float) else df for df in (min_df, max_df))
        kept = [term for term, count in frequencies.items() if low <= count <= high]
        if not kept:
            raise ValueError(
                f"no vocabulary: of {len(frequencies)} terms in {num_documents} documents none occurs in at least "
                f"min_df={min_df} and at most max_df={max_df} documents"
            )
        kept.sort(key=lambda term: (-frequencies[term], term))
        self._set_vocabulary(kept[:max_features])
        return self

    def fit_word_forms(
        self, documents: Iterable[str], normalizer: Callable[[str], str]
    ) -> "TopicVQProcessor":
        """Find which words of a corpus are forms of words of the vocabulary, and count them as these from now on.

        Made for a given vocabulary of base forms, for which texts full of inflected words would seem empty. The forms
        are saved with the processor; the function, a lemmatizer say, is not needed again.

        Args:
            documents: The corpus.
            normalizer: Gives the base form of a word.
        """
        self.word_forms = {}
        found = {
            self._normalize(match[0])
            for text in check_documents(documents)
            for match in self._pattern.finditer(text)
        }
        forms = {
            word: normalizer(word)
            for word in sorted(found - self.word_to_id.keys() - self._stop_words)
        }
        self.word_forms = {word: form for word, form in forms.items() if form in self.word_to_id}
        return self

    def count_words(self, documents: Iterable[str]) -> "csr_array":
        """Count the words of the vocabulary: a sparse (documents, vocabulary) array of int32."""
        return self.count_terms(
            [word for word, _, _ in self.content_words(text)] for text in check_documents(documents)
        )

    def count_terms(self, documents: Iterable[Sequence[str]]) -> "csr_array":
        """Count as `count_words` does, of documents whose content words are known."""
        requires_backends(self, "scipy")
        self._check_fitted()
        indices, counts, starts = [], [], [0]
        for words in documents:
            found = Counter(
                i for term in self.terms(words) if (i := self.word_to_id.get(term)) is not None
            )
            for index in sorted(found):
                indices.append(index)
                counts.append(found[index])
            starts.append(len(indices))
        parts = (np.asarray(part, dtype=np.int32) for part in (counts, indices, starts))
        return csr_array(tuple(parts), shape=(len(starts) - 1, self.vocab_size))

    def vocabulary_coverage(self, documents: Iterable[str]) -> float:
        """Return the share of the content words that are in the vocabulary or a part of an entry; warn under 80 %.

        A small share for a vocabulary that was given, not fitted, means as a rule that it holds base forms and the
        texts do not: see `fit_word_forms`.
        """
        self._check_fitted()
        words: Counter[str] = Counter()
        for text in check_documents(documents):
            words.update(word for word, _, _ in self._words(text))
        entries = {word for entry in self.vocabulary for word in (entry, *entry.split())}
        total = sum(words.values())
        known = sum(count for word, count in words.items() if word in entries)
        share = known / total if total else 0.0
        if share < 0.8:
            logger.warning(
                f"{100 * share:.0f} % of the {total} content words are in the vocabulary of {self.vocab_size} words; "
                f"most frequent others: {[w for w, _ in words.most_common() if w not in entries][:5]}"
            )
        return share

    def _check_fitted(self) -> None:
        if not self.vocabulary:
            raise ValueError(
                "the processor has no vocabulary: pass one, or call fit_vocabulary first"
            )

    def windows(
        self,
        documents: Sequence[str],
        tokenizer: PreTrainedTokenizerBase | None = None,
        max_length: int | None = None,
        bow_text: Sequence[str] | None = None,
    ) -> DocumentWindows:
        """Cut documents into windows of at most `max_length` pieces; nothing is left out.

        Pieces and words meet by the characters that both cover, whatever the tokenizer does: a word has all pieces that
        overlap it, in one window or two, and a piece that spans two words belongs to both.

        Args:
            documents: Texts as they are.
            tokenizer: Fast tokenizer; that of the processor if `None`.
            max_length: Pieces of a window, special tokens included; the tokenizer's own limit if `None`.
            bow_text: Another form of each document, whose words take the place of its own; see `content_words`.
        """
        tokenizer = tokenizer if tokenizer is not None else self.tokenizer
        if tokenizer is None:
            raise ValueError("the processor has no tokenizer: pass one")
        _check_fast(tokenizer)
        views = list(pair_views(documents, bow_text))
        if not views:
            raise ValueError("there are no documents, expected at least one")
        # A half of a character is one that nobody can know; the others keep their places.
        documents = [_SURROGATES.sub("\ufffd", text) for text, _ in views]
        words = [self.content_words(text, other) for text, other in views]
        encoded = tokenizer(
            documents,
            truncation=True,
            max_length=min(
                max_length or tokenizer.model_max_length, 2**30
            ),  # "none" is 1e30, which does not fit
            return_overflowing_tokens=True,
            return_offsets_mapping=True,
            return_attention_mask=False,
            return_token_type_ids=False,
            verbose=False,
        )
        input_ids = encoded["input_ids"]
        to_document = np.asarray(encoded["overflow_to_sample_mapping"], dtype=np.int64)
        # Characters are counted through all documents, with a gap after each, so that one search finds all pairs.
        starts = np.cumsum([0, *(len(text) + 1 for text in documents)])
        counts = np.array([len(found) for found in words], dtype=np.int64)
        spans = np.array([span for found in words for _, *span in found], dtype=np.int64).reshape(
            -1, 2
        )
        spans += np.repeat(starts[:-1], counts)[:, None]
        lengths = np.array([len(ids) for ids in input_ids], dtype=np.int64)
        offsets = np.array(
            [pair for window in encoded["offset_mapping"] for pair in window], dtype=np.int64
        ).reshape(-1, 2)
        offsets += np.repeat(starts[to_document], lengths)[:, None]
        piece, word = _overlaps(offsets, spans)
        window = np.repeat(np.arange(len(input_ids)), lengths)
        position = np.arange(len(offsets)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        flat = [word for found in words for word, _, _ in found]
        return DocumentWindows(
            input_ids, to_document, window[piece], position[piece], word, flat, counts
        )

    def __call__(
        self,
        documents: Sequence[str] | str,
        max_length: int | None = None,
        return_tensors: str | None = None,
        bow_text: Sequence[str] | str | None = None,
    ) -> BatchFeature:
        """Make the inputs of an encoder and the counts of a decoder.

        Args:
            documents: Texts as they are, of any length.
            max_length: Pieces of a window; see `windows`.
            return_tensors: `"pt"` or `"np"`; `word_counts` is a sparse array in either case.
            bow_text: Another form of each document, preprocessed or lemmatized, whose words are counted in place of
                its own; the encoder reads `documents`. Where both have equally many content words, `word_vocab_ids`
                are those of `bow_text`.

        Returns:
            `input_ids`, `attention_mask` and `word_ids` (windows, pieces): the number of the content word within the
            document that a piece belongs to, the first of several, or -1; `window_to_document` (windows,);
            `word_vocab_ids` (documents, most words): -1 for words that are not in the vocabulary and behind the last;
            `num_words` (documents,); `word_counts` (documents, vocabulary), sparse.
        """
        documents = list(check_documents([documents] if isinstance(documents, str) else documents))
        bow_text = [bow_text] if isinstance(bow_text, str) else bow_text
        found = self.windows(documents, max_length=max_length, bow_text=bow_text)
        width = max(map(len, found.input_ids), default=0)
        pad = self.tokenizer.pad_token_id or 0
        input_ids = np.full((len(found.input_ids), width), pad, dtype=np.int64)
        attention_mask = np.zeros_like(input_ids)
        for row, ids in enumerate(found.input_ids):
            input_ids[row, : len(ids)], attention_mask[row, : len(ids)] = ids, 1
        first = np.cumsum(found.num_words) - found.num_words
        word_ids = np.full_like(input_ids, -1)
        # From the last pair to the first, so that the first word of a piece is what stays.
        window, position = found.piece_window[::-1], found.piece_position[::-1]
        word_ids[window, position] = (
            found.piece_word[::-1] - first[found.window_to_document[window]]
        )
        vocab_ids = np.full(
            (len(documents), int(found.num_words.max(initial=0))), -1, dtype=np.int64
        )
        words = [
            found.words[start : start + count]
            for start, count in zip(first, found.num_words, strict=True)
        ]
        for row, known in enumerate(words):
            vocab_ids[row, : len(known)] = [self.word_to_id.get(word, -1) for word in known]
        arrays = {
            "input_ids": input_ids,
            "attention_mask": attention_mask,
            "word_ids": word_ids,
            "window_to_document": found.window_to_document,
            "word_vocab_ids": vocab_ids,
            "num_words": found.num_words,
        }
        return BatchFeature(
            {
                **BatchFeature(arrays, tensor_type=return_tensors),
                "word_counts": self.count_terms(words)
                if bow_text is None
                else self.count_words(bow_text),
            }
        )

    def to_dict(self) -> dict[str, Any]:
        """Return what `processor_config.json` holds: everything but tokenizer and vocabulary, which have own files."""
        return {
            **{k: v for k, v in super().to_dict().items() if k != "vocabulary"},
            "has_tokenizer": self.tokenizer is not None,
        }

    def save_pretrained(
        self, save_directory: str | os.PathLike, push_to_hub: bool = False, **kwargs: Any
    ) -> list[str]:
        """Save the files of the tokenizer, if there is one, `vocabulary.json` and `processor_config.json`."""
        os.makedirs(save_directory, exist_ok=True)
        vocabulary_file = os.path.join(save_directory, VOCABULARY_NAME)
        with open(vocabulary_file, "w", encoding="utf-8") as file:
            json.dump(self.vocabulary, file, ensure_ascii=False, indent=0)
        if self.tokenizer is not None:
            super().save_pretrained(save_directory)
        else:
            if self._auto_class is not None:
                custom_object_save(self, save_directory, config=[self])
            self.to_json_file(os.path.join(save_directory, PROCESSOR_NAME))
        if push_to_hub:
            name = os.path.basename(os.path.normpath(save_directory))
            self.push_to_hub(kwargs.pop("repo_id", name), **kwargs)
        return [vocabulary_file, os.path.join(save_directory, PROCESSOR_NAME)]

    @classmethod
    def get_processor_dict(
        cls, pretrained_model_name_or_path: str | os.PathLike, **kwargs: Any
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Read `processor_config.json` and `vocabulary.json`."""
        names = (
            "cache_dir",
            "force_download",
            "local_files_only",
            "revision",
            "subfolder",
            "token",
        )
        hub = {name: kwargs[name] for name in names if name in kwargs}
        values, rest = super().get_processor_dict(pretrained_model_name_or_path, **kwargs)
        path = cached_file(pretrained_model_name_or_path, VOCABULARY_NAME, **hub)
        with open(path, encoding="utf-8") as file:
            return {**values, "vocabulary": json.load(file)}, rest

    @classmethod
    def _get_arguments_from_pretrained(
        cls, pretrained_model_name_or_path: Any, processor_dict: dict | None = None, **kwargs: Any
    ) -> list[Any]:
        if not (processor_dict or {}).get("has_tokenizer", True):
            return [None]
        return super()._get_arguments_from_pretrained(
            pretrained_model_name_or_path, processor_dict, **kwargs
        )


def check_documents(documents: Iterable[str]) -> Iterator[str]:
    """Pass on texts one by one; raise on a single text in place of a list, and on rows that are no text."""
    if isinstance(documents, str):
        raise ValueError(f"documents must be a list of texts, got the one text {documents[:80]!r}")
    if not isinstance(documents, Iterable):
        raise ValueError(f"documents must be a list of texts, got {documents!r}")
    for row, text in enumerate(documents):
        if not isinstance(text, str):
            raise ValueError(
                f"documents must be texts, got {text!r} of type {type(text).__name__} in row {row}"
            )
        yield text


def pair_views(
    documents: Iterable[str], bow_text: Iterable[str] | None = None
) -> Iterator[tuple[str, str | None]]:
    """Pass on each text with its other form, `None` without one; raise as `check_documents` does, or on a gap."""
    if bow_text is None:
        for text in check_documents(documents):
            yield text, None
        return
    pairs = zip_longest(check_documents(documents), check_documents(bow_text))
    for row, (text, other) in enumerate(pairs):
        if text is None or other is None:
            longer = "documents" if other is None else "bow_text"
            raise ValueError(
                f"bow_text must have a text for each document, but only {longer} has a row {row}"
            )
        yield text, other


def _check_words(name: str, words: Iterable[str]) -> None:
    for word in words:
        if not isinstance(word, str):
            raise ValueError(f"{name} must hold words, got {word!r} of type {type(word).__name__}")


def _check_fast(tokenizer: PreTrainedTokenizerBase) -> None:
    if not tokenizer.is_fast:
        raise ValueError(
            f"{type(tokenizer).__name__} does not say where its pieces are in the text; a fast tokenizer is needed"
        )


def _overlaps(pieces: np.ndarray, words: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return all pairs of a piece and a word that share a character, of (start, stop) spans; words are in order."""
    first = np.searchsorted(words[:, 1], pieces[:, 0], side="right")
    last = np.searchsorted(words[:, 0], pieces[:, 1], side="left")  # the word behind the last
    # Special tokens cover no character.
    counts = np.where(pieces[:, 1] > pieces[:, 0], np.maximum(last - first, 0), 0)
    piece = np.repeat(np.arange(len(pieces)), counts)
    within = np.arange(len(piece)) - np.repeat(np.cumsum(counts) - counts, counts)
    return piece, first[piece] + within


__all__ = ["DocumentWindows", "TopicVQProcessor"]
