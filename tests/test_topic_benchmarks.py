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
"""The parts of the topic benchmark that decide what its tables say."""

import json
import sys
from functools import cached_property
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.sparse import csr_array

from hf_vq.models.configuration_topic_vq import VARIANTS, TopicVQConfig
from hf_vq.models.processing_topic_vq import TopicVQProcessor

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

from topic_ablations import (  # noqa: E402
    DEFINITIONS as ABLATION_DEFINITIONS,
)
from topic_ablations import (  # noqa: E402
    LEVERS,
    covered_classes,
    rows,
    skewed_rows,
    word_pairs,
)
from topic_corpora import Part, base_form  # noqa: E402
from topic_tables import HEADLINE, mean_ranks  # noqa: E402
from topic_text import DEFINITIONS, rank_as_ours  # noqa: E402

VOCABULARY = {"country", "game", "make", "run", "life", "live", "wolf", "thesis", "big", "church"}


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("game", "game"),
        ("games", "game"),
        ("countries", "country"),
        ("making", "make"),
        ("running", "run"),
        ("lives", "live"),
        ("wolves", "wolf"),
        ("theses", "thesis"),
        ("bigger", "big"),
        ("churches", "church"),
        ("king", "king"),
        ("s", "s"),
    ],
)
def test_base_forms(word: str, expected: str) -> None:
    assert base_form(word, VOCABULARY) == expected


def test_second_halves_hold_what_first_halves_do_not() -> None:
    processor = TopicVQProcessor(vocabulary=["sun", "star", "moon"], word_forms={"stars": "star"})
    documents = ["The sun, a star; the moon and stars!", "moon", "", "Sun? Moon."]
    words = [["sun", "star", "moon", "star"], ["moon"], [], ["sun", "moon"]]
    part, rest = Part(documents, words, np.arange(4)).halves(processor)
    assert part.documents == ["The sun, a star; the ", "Sun? "]
    assert part.words == [["sun", "star"], ["sun"]]
    assert part.labels.tolist() == [0, 3]
    assert rest.toarray().tolist() == [[0, 1, 1], [0, 0, 1]]


def records(**figures: float) -> list[dict]:
    return [{"metrics": figures}]


def test_mean_ranks_by_hand() -> None:
    keys = [key for _, key, _, _ in HEADLINE]
    assert len(keys) == 4
    methods = {
        "a": records(**dict(zip(keys, [0.3, 0.9, 0.5, 0.5], strict=True))),
        "b": records(**dict(zip(keys, [0.2, 0.9, 0.6, 0.4], strict=True))),
        "c": records(**dict(zip(keys, [0.1, 0.8, 0.4, 0.3], strict=True))),
    }
    assert mean_ranks(methods) == {"a": 5.5 / 4, "b": 6.5 / 4, "c": 3}


def test_a_figure_that_one_method_lacks_ranks_nobody() -> None:
    keys = [key for _, key, _, _ in HEADLINE]
    full = dict.fromkeys(keys, 0.5)
    methods = {"a": records(**full), "b": records(**full | {keys[0]: None})}
    assert mean_ranks(methods) == {"a": 1.5, "b": 1.5}


def test_our_ranking_prefers_words_of_one_topic() -> None:
    counts = csr_array(np.array([[9, 4, 0], [9, 0, 3]]))
    assert rank_as_ours(np.eye(2), counts, top_n=1).tolist() == [[1], [2]]


def test_every_headline_has_a_definition() -> None:
    assert all(key in DEFINITIONS for _, key, _, _ in HEADLINE)


def test_every_lever_is_ablated_once() -> None:
    fields = [name for group in LEVERS.values() for name in group]
    assert len(fields) == len(set(fields))
    recommended, published = VARIANTS["recommended"], VARIANTS["published"]
    differing = {name for name in recommended if recommended[name] != published[name]}
    # Fixed in every variant by how the words are encoded.
    assert differing - {"word_pooling"} == set(fields)
    for row in rows()["levers"].values():
        TopicVQConfig(**row.options)  # refuses what does not go together


def test_skewed_classes_have_the_sizes_asked_for() -> None:
    labels = np.repeat(np.arange(4), [40, 60, 40, 50])
    assert np.bincount(labels[skewed_rows(labels, 0.0)]).tolist() == [40, 40, 40, 40]
    assert np.bincount(labels[skewed_rows(labels, 1.0)]).tolist() == [40, 20, 13, 10]


def test_covered_classes_by_hand() -> None:
    proportions = np.eye(3)[[0, 0, 0, 1, 1]]  # the last topic has no document
    labels = np.array([0, 0, 3, 1, 1])
    assert covered_classes(proportions, labels) == {
        "covered_classes": 2,
        "covered_rare_classes": 1,
    }
    assert covered_classes(proportions, labels).keys() <= ABLATION_DEFINITIONS.keys()


def test_pairs_of_words_share_a_code_or_a_frequency() -> None:
    modal = {word: word % 3 for word in range(30)}
    frequencies = np.arange(30)[::-1]
    shared, matched = word_pairs(modal, frequencies, torch.Generator().manual_seed(0), number=50)
    assert len(shared) == len(matched) == 50
    codes = np.arange(30) % 3
    assert (codes[shared[:, 0]] == codes[shared[:, 1]]).all()
    assert (shared[:, 0] != shared[:, 1]).all()
    assert (matched[:, 0] == shared[:, 0]).all()
    assert (codes[matched[:, 1]] != codes[shared[:, 1]]).all()
    assert (abs(matched[:, 1] - shared[:, 1]) <= 10).all()


def test_the_page_of_ablations_has_every_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import topic_ablation_tables as tables

    template = (tables.REPORTS / "topic_ablations.template.md").read_text("utf-8")
    (tmp_path / "topic_ablations.template.md").write_text(template, "utf-8")
    monkeypatch.setattr(tables, "REPORTS", tmp_path)
    made = {
        f"skew-bbc_news-exponent{a}{peer}-k20-seed{seed}": records(npmi=0.1 * seed + a)[0]
        for a in (0.0, 0.5)
        for peer in ("", "-lda")
        for seed in (0, 1)
    }
    monkeypatch.setattr(tables, "read_results", lambda folder: made)
    tables.report()
    page = (tmp_path / "topic_ablations.md").read_text("utf-8")
    assert "{{" not in page
    assert "| exponent0.5 lda | 0.550 ± 0.071 | 2 |" in page
    assert page.count("Not run yet.") == len(tables.COLUMNS) - 1


def test_page_and_readme_are_rendered_from_the_records(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import results
    import topic_tables

    page = (topic_tables.REPORTS / "topic_text.md").read_text("utf-8")
    template = (topic_tables.REPORTS / "topic_text.template.md").read_text("utf-8")
    readme = results.README.read_text("utf-8")
    (tmp_path / "topic_text.template.md").write_text(template, "utf-8")
    (tmp_path / "README.md").write_text(readme, "utf-8")
    monkeypatch.setattr(topic_tables, "REPORTS", tmp_path)
    monkeypatch.setattr(results, "README", tmp_path / "README.md")
    monkeypatch.setattr(topic_tables, "_plot", lambda groups: None)
    topic_tables.report()
    assert (tmp_path / "topic_text.md").read_text("utf-8") == page
    assert (tmp_path / "README.md").read_text("utf-8") == readme


@pytest.fixture
def small_corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """BBC News as the benchmarks read it, but of made-up documents and with vectors made from these themselves."""
    import topic_ablations
    import topic_corpora

    generator = np.random.default_rng(0)
    words = [f"w{number:02d}" for number in range(60)]
    for part, size in (("train", 150), ("validation", 20), ("test", 60)):
        lines = []
        for row in range(size):
            of_class = generator.integers(0, 12, 15) + 12 * (row % 5)
            text = " ".join(words[number] for number in [*of_class, *generator.integers(0, 60, 5)])
            lines.append(json.dumps({"text": text, "label": row % 5}))
        file = tmp_path / "bbc_news" / f"{part}.jsonl"
        file.parent.mkdir(exist_ok=True)
        file.write_text("\n".join(lines))
    (tmp_path / "bbc_news" / "vocabulary.txt").write_text("\n".join(words))
    monkeypatch.setattr(topic_corpora, "DATA", tmp_path)
    encoder = cached_property(topic_ablations._corpus_encoder)
    encoder.__set_name__(topic_corpora.Corpus, "encoder")
    monkeypatch.setattr(topic_corpora.Corpus, "encoder", encoder)


@pytest.mark.slow
@pytest.mark.usefixtures("small_corpus", "accelerate_state")
def test_smoke_runs_methods_of_different_precision_in_one_process(
    capsys: pytest.CaptureFixture[str],
) -> None:
    import topic_ablations
    import topic_text

    topic_text.smoke()
    printed = capsys.readouterr().out
    for name in ("topic_vq", "published", "submission", "nmf"):
        assert f"bbc_news-{name}-k5-seed0: NPMI" in printed
    topic_ablations.smoke()
    printed = capsys.readouterr().out
    assert printed.count("npmi ") == 7
    assert printed.count("neighbor_recall ") == 1
