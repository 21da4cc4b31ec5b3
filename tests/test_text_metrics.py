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
"""Scores of texts against numbers worked by hand and against independent implementations."""

import random
from pathlib import Path

import evaluate
import numpy as np
import pytest

import hf_vq
from hf_vq.text_metrics import (
    bleu1,
    corpus_bleu4,
    embedding_cosine,
    exact_match,
    symbolic_equivalence,
    token_exact_match,
    word_edit_distance,
)

EVALUATE_METRICS = Path(hf_vq.__file__).parent / "evaluate_metrics"
WORDS = "the sun is a kind of star that , 's hot and".split()


def corrupt(text: str, generator: random.Random) -> str:
    words = [generator.choice(WORDS) if generator.random() < 0.2 else w for w in text.split()]
    if generator.random() < 0.3:
        words = words[: generator.randint(0, len(words))]
    if generator.random() < 0.3:
        words += generator.choices(WORDS, k=generator.randint(1, 4))
    return " ".join(words)


def corpus(seed: int, size: int = 40) -> tuple[list[str], list[str]]:
    generator = random.Random(seed)
    texts = [" ".join(generator.choices(WORDS, k=generator.randint(1, 14))) for _ in range(size)]
    return [corrupt(text, generator) for text in texts], texts


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("size", [1, 40])
def test_corpus_bleu4_is_sacrebleus(seed: int, size: int) -> None:
    sacrebleu = pytest.importorskip("sacrebleu", reason="sacrebleu is the other implementation")
    predictions, references = corpus(seed, size)
    options = {"tokenize": "none", "smooth_method": "none", "force": True}
    expected = sacrebleu.corpus_bleu(predictions, [references], **options).score
    assert corpus_bleu4(predictions, references) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("seed", range(3))
def test_bleu1_is_the_mean_over_sentences(seed: int) -> None:
    sacrebleu = pytest.importorskip("sacrebleu", reason="sacrebleu is the other implementation")
    metric = sacrebleu.BLEU(
        max_ngram_order=1, tokenize="none", smooth_method="none", effective_order=True
    )
    predictions, references = corpus(seed)
    scores = [
        metric.sentence_score(prediction, [reference]).score / 100 if prediction else 0.0
        for prediction, reference in zip(predictions, references, strict=True)
    ]
    assert bleu1(predictions, references) == pytest.approx(np.mean(scores), abs=1e-12)


def test_bleu1_by_hand() -> None:
    assert bleu1(["a b"], ["a b"]) == 1
    assert bleu1(["a a a"], ["a b c"]) == pytest.approx(1 / 3)  # matches are clipped
    assert bleu1(["a"], ["a b c"]) == pytest.approx(np.exp(1 - 3))  # too short
    assert bleu1(["a b c d"], ["a b"]) == 0.5  # too long
    assert bleu1(["", "a"], ["a", "a"]) == 0.5
    assert bleu1(["b a"], ["a  b"]) == 1  # the order does not count


def test_corpus_bleu4_by_hand() -> None:
    assert corpus_bleu4(["a b c d e"], ["a b c d e"]) == pytest.approx(100)
    assert corpus_bleu4(["a b c"], ["a b c"]) == 0  # no 4-gram
    assert corpus_bleu4(["", "a b c d"], ["x y", "a b c d"]) == pytest.approx(100 * np.exp(-0.5))
    # 9, 6, 4 and 2 of 10, 8, 6 and 4 are right
    score = corpus_bleu4(["a b c d e", "f g h i j"], ["a b c d e", "f x h i j"])
    assert score == pytest.approx(100 * (9 * 6 * 4 * 2 / (10 * 8 * 6 * 4)) ** 0.25)


def test_exact_matches() -> None:
    assert exact_match(["a b ", "c", "D"], [" a  b", "c d", "d"]) == pytest.approx(1 / 3)
    assert token_exact_match([[1, 2], np.array([3])], [(1, 2), [4]]) == 0.5


@pytest.mark.parametrize(
    ("text", "other", "distance"),
    [
        ("", "", 0),
        ("a b c", "a b c", 0),
        ("a b c", "a x c", 1),
        ("a b c", "b c", 1),
        ("a b", "b a", 2),
        ("", "a b", 2),
        ("kitten sits", "sitting kitten", 2),
    ],
)
def test_edit_distance(text: str, other: str, distance: int) -> None:
    assert word_edit_distance(text, other) == word_edit_distance(other, text) == distance


def test_cosine_of_embeddings() -> None:
    vectors = {"x": [2, 0], "y": [0, 3], "xy": [1, 1], "none": [0, 0]}

    def embed(texts: list[str]) -> np.ndarray:
        return np.array([vectors[text] for text in texts])

    assert embedding_cosine(["x", "xy"], ["x", "x"], embed) == pytest.approx((1 + 0.5**0.5) / 2)
    assert embedding_cosine(["x", "none"], ["y", "x"], embed) == 0
    with pytest.raises(ValueError, match=r"one vector for each of 2 texts, got .* \(1, 2\)"):
        embedding_cosine(["x", "x"], ["y", "x"], lambda texts: embed(texts)[:1])


@pytest.mark.parametrize(
    "metric", [bleu1, corpus_bleu4, exact_match, token_exact_match, symbolic_equivalence]
)
def test_pairs_must_be_pairs(metric) -> None:
    for predictions, references in ((["a"], ["a", "b"]), ([], [])):
        with pytest.raises(ValueError, match="as many predictions as references"):
            metric(predictions, references)


def test_text_metric_loads_by_path() -> None:
    metric = evaluate.load(str(EVALUATE_METRICS / "text_reconstruction"))
    predictions, references = corpus(0)
    metric.add_batch(predictions=predictions[:25], references=references[:25])
    metric.add_batch(predictions=predictions[25:], references=references[25:])
    assert metric.compute() == {
        "exact_match": exact_match(predictions, references),
        "bleu1": bleu1(predictions, references),
        "corpus_bleu4": corpus_bleu4(predictions, references),
    }


def test_formula_metric_loads_by_path() -> None:
    metric = evaluate.load(str(EVALUATE_METRICS / "symbolic_equivalence"))
    texts = {"predictions": ["x + x", "x**2 + 1", "x^2"], "references": ["2*x", "x**2", "x**2"]}
    assert metric.compute(**texts) == symbolic_equivalence(*texts.values())
    integral = "performing integration for 2*x where the variable is x"
    sources = ["2*x", integral, integral]
    assert metric.compute(**texts, sources=sources)["symbolic_equivalence"] == pytest.approx(2 / 3)
