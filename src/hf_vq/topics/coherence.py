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
"""Do the top words of a topic occur together? Normalized pointwise mutual information and C_V.

Words are counted in sliding windows over tokenized texts, once for all topics, and as sparse matrices:
a window is a column, a word a row, and their product holds how many windows two words share. The
formulas M1 to M4 are those of docs/topic_metrics.md; scores are those of gensim's `c_npmi` and `c_v`.
"""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from hf_vq._extras import require

require("scipy", extra="topics")

from scipy import sparse  # noqa: E402

__all__ = [
    "CoherenceReference",
    "best_topics",
    "c_v",
    "npmi",
    "npmi_best_half",
    "npmi_per_topic",
    "top_words",
]

_EPSILON = 1e-12
# Occurrences of words in windows that are held at a time: some 50 MB.
_MAX_ENTRIES = 4_000_000


class CoherenceReference:
    """How often words, and pairs of words, occur in the sliding windows of a corpus.

    A word counts once in a window. A text shorter than the window is one window; an empty text is
    none (gensim counts it as one).

    gensim, with which nearly all published scores were made, lets a word leave with its first
    occurrence at the edge of the window, and takes no notice when the word is in the window once
    more, until it comes in again. The scores differ in the third digit where words repeat.

    Args:
        texts: Tokenized texts, all of them; read once, so that a generator will do.
        words: The words to count. Others fill the windows but are not counted.
        window: Tokens in a window.
        as_gensim: Count as gensim does, for scores that can be compared; `False` for true sets.

    Attributes:
        num_windows: Number of windows.
        word_windows: Number of windows of each word, (words,).
        pair_windows: Number of windows that two words share, sparse (words, words).

    Example:
        >>> texts = [["a", "b"], ["a", "c"], ["b", "c"], ["a", "b", "c"]]
        >>> reference = CoherenceReference(texts, ["a", "b", "c"])
        >>> reference.num_windows, reference.word_windows.tolist()
        (4, [3, 3, 3])
        >>> round(npmi([["a", "b"]], reference), 6)
        -0.169925
    """

    def __init__(
        self,
        texts: Iterable[Sequence[str]],
        words: Iterable[str],
        window: int = 10,
        *,
        as_gensim: bool = True,
    ) -> None:
        if window < 1:
            raise ValueError(f"window must be at least 1, got {window}")
        self.window = window
        self.index = {word: i for i, word in enumerate(dict.fromkeys(words))}
        size = len(self.index)
        if size == 0:
            raise ValueError("there are no words to count")
        self.num_windows = 0
        self.word_windows = np.zeros(size, dtype=np.int64)
        self.pair_windows = sparse.csr_array((size, size), dtype=np.int64)
        for tokens, lengths in _chunks(texts, self.index, max(1, _MAX_ENTRIES // window)):
            occurrences = _word_window_matrix(tokens, lengths, size, window, as_gensim)
            self.num_windows += occurrences.shape[1]
            self.word_windows += np.diff(occurrences.indptr)
            self.pair_windows = self.pair_windows + (occurrences @ occurrences.T).astype(np.int64)
        if self.num_windows == 0:
            raise ValueError("the texts hold no word at all")

    def npmi(self, words: Sequence[str]) -> np.ndarray:
        """Normalized pointwise mutual information of all pairs of words, (words, words); M1.

        Raises:
            ValueError: If a word was not counted or never occurs, for which M1 has no value.
        """
        unknown = [word for word in words if word not in self.index]
        if unknown:
            raise ValueError(f"the reference was not told to count {unknown}")
        ids = np.array([self.index[word] for word in words])
        missing = [word for word, i in zip(words, ids, strict=True) if self.word_windows[i] == 0]
        if missing:
            raise ValueError(f"the texts of the reference do not contain {missing}")
        share = self.word_windows[ids] / self.num_windows
        pairs = self.pair_windows[ids][:, ids].toarray() / self.num_windows + _EPSILON
        return np.log(pairs / np.outer(share, share)) / -np.log(pairs)


def _chunks(
    texts: Iterable[Sequence[str]], index: dict[str, int], max_tokens: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield the ids (-1 for other words) and the lengths of some texts at a time."""
    tokens: list[int] = []
    lengths: list[int] = []
    for text in texts:
        if isinstance(text, str):
            raise ValueError(f"a text must be a list of words, got the string {text[:40]!r}")
        if len(text) == 0:
            continue
        tokens.extend(index.get(word, -1) for word in text)
        lengths.append(len(text))
        if len(tokens) >= max_tokens:
            yield np.array(tokens), np.array(lengths)
            tokens, lengths = [], []
    if tokens:
        yield np.array(tokens), np.array(lengths)


def _word_window_matrix(
    tokens: np.ndarray, lengths: np.ndarray, num_words: int, window: int, as_gensim: bool
) -> sparse.csr_array:
    """Which word is in which window, (words, windows).

    An occurrence at place p of its text is in the windows that start at p - window + 1 to p. Those
    that an earlier occurrence of the word is in as well are left out.
    """
    num_starts = np.maximum(lengths - window, 0) + 1
    text = np.repeat(np.arange(len(lengths)), lengths)
    place = np.arange(len(tokens)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    counted = np.flatnonzero(tokens >= 0)
    counted = counted[np.argsort(tokens[counted], kind="stable")]
    word, text, place = tokens[counted], text[counted], place[counted]
    first, last = np.maximum(place - window + 1, 0), place
    group = (word * len(lengths) + text) * (lengths.max() + 1)
    if as_gensim:
        # the word's first occurrence in the window in which this one comes in
        last = place[np.searchsorted(group + place, group + first)]
    last = np.minimum(last, num_starts[text] - 1)
    repeated = np.flatnonzero(group[1:] == group[:-1]) + 1
    first[repeated] = np.maximum(first[repeated], last[repeated - 1] + 1)
    number = np.maximum(last - first + 1, 0)
    total = int(number.sum())
    ends = np.cumsum(number)
    window_of_first = (np.cumsum(num_starts) - num_starts)[text] + first
    columns = np.repeat(window_of_first - (ends - number), number) + np.arange(total)
    per_word = np.bincount(word, weights=number, minlength=num_words).astype(np.int64)
    pointers = np.concatenate([[0], np.cumsum(per_word)])
    shape = (num_words, int(num_starts.sum()))
    return sparse.csr_array((np.ones(total, dtype=np.int32), columns, pointers), shape=shape)


def top_words(topics: Sequence[Sequence[str]], top_n: int) -> list[list[str]]:
    """The first words of each topic, after checking that they are enough and differ."""
    if len(topics) == 0:
        raise ValueError("there are no topics")
    for number, topic in enumerate(topics):
        if isinstance(topic, str) or len(topic) < top_n:
            raise ValueError(f"topic {number} must be a list of {top_n} words or more, got {topic}")
        if len(set(topic[:top_n])) < top_n:
            raise ValueError(f"topic {number} repeats a word: {list(topic[:top_n])}")
    return [list(topic[:top_n]) for topic in topics]


def npmi_per_topic(
    topics: Sequence[Sequence[str]], reference: CoherenceReference, top_n: int | None = None
) -> np.ndarray:
    """Mean NPMI of the pairs of each topic's top words, (topics,); M2.

    Args:
        topics: Words of each topic, best first.
        reference: Counts that cover these words.
        top_n: How many words of a topic to score; `None` is 10, or the shortest topic if that
            has fewer.
    """
    words = top_words(topics, _default_depth(topics) if top_n is None else top_n)
    if len(words[0]) < 2:
        raise ValueError("coherence needs 2 words of each topic at least")
    above = np.triu_indices(len(words[0]), 1)
    return np.array([reference.npmi(topic)[above].mean() for topic in words])


def _default_depth(topics: Sequence[Sequence[str]]) -> int:
    return min([10, *map(len, topics)])


def npmi(
    topics: Sequence[Sequence[str]], reference: CoherenceReference, top_n: int | None = None
) -> float:
    """Mean over all topics of `npmi_per_topic`; M2. Two words that never meet score below 0.

    Example:
        >>> reference = CoherenceReference([["a"]] + [["b"]] + [["c"]] * 98, "ab")
        >>> round(npmi([["a", "b"]], reference), 4)
        -0.6667
    """
    return float(npmi_per_topic(topics, reference, top_n).mean())


def best_topics(scores: Sequence[float] | np.ndarray) -> np.ndarray:
    """Places of the best half of topics, best first: floor(K / 2) of them, but one at least.

    Example:
        >>> best_topics([0.1, 0.4, 0.2]).tolist()
        [1]
    """
    order = np.argsort(-np.asarray(scores), kind="stable")
    return order[: max(1, len(order) // 2)]


def npmi_best_half(
    topics: Sequence[Sequence[str]], reference: CoherenceReference, top_n: int | None = None
) -> float:
    """Mean NPMI of the best half of topics, the protocol of TVQ-VAE's authors ("NPMI 50 %"); M3.

    They divide the sum of floor(K / 2) topics by K / 2, which is not their mean if K is odd; this is.
    """
    scores = npmi_per_topic(topics, reference, top_n)
    return float(scores[best_topics(scores)].mean())


def c_v(
    topics: Sequence[Sequence[str]],
    texts: Iterable[Sequence[str]],
    top_n: int | None = None,
    window: int = 110,
) -> float:
    """C_V coherence: do the top words of a topic have the same companions among them? M4.

    Röder et al., "Exploring the space of topic coherence measures", WSDM 2015: cosines between the
    NPMI vector of each word and the sum of these vectors, in boolean windows of 110 words.

    Args:
        topics: Words of each topic, best first.
        texts: Tokenized texts.
        top_n: As in `npmi_per_topic`.
        window: Tokens in a window.

    Example:
        >>> texts = [["a", "b"], ["a", "c"], ["b", "c"], ["a", "b", "c"]]
        >>> round(c_v([["a", "b", "c"]], texts), 6)
        0.370587
    """
    words = top_words(topics, _default_depth(topics) if top_n is None else top_n)
    reference = CoherenceReference(texts, (word for topic in words for word in topic), window)
    scores = []
    for topic in words:
        vectors = reference.npmi(topic)
        total = vectors.sum(0)
        norms = np.linalg.norm(vectors, axis=1) * np.linalg.norm(total)
        # gensim's rule for a vector of zeros, which has no direction.
        cosines = np.divide(vectors @ total, norms, out=np.zeros(len(topic)), where=norms > 0)
        scores.append(cosines.mean())
    return float(np.mean(scores))
