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
"""What a word is, how words are counted, how they meet pieces, and what survives saving."""

import json
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.feature_extraction.text import CountVectorizer
from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers
from transformers import AutoProcessor, PreTrainedTokenizerFast, dynamic_module_utils

from hf_vq.models.processing_topic_vq import TopicVQProcessor

TEXTS = ["The cat sleeps on the mat", "a cat and a dog", "", "the dog barks; the cat sleeps"]


@pytest.fixture
def tokenizer():
    """Pieces of at most two characters, so that nearly every word has several."""
    tokenizer = Tokenizer(models.BPE(unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Whitespace(), pre_tokenizers.Split(r"", "isolated")]
    )
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    trainer = trainers.BpeTrainer(special_tokens=special, max_token_length=2, vocab_size=200)
    tokenizer.train_from_iterator(TEXTS, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=10, **names)


def words(text, **options):
    return [word for word, _, _ in TopicVQProcessor(**options).content_words(text)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Encryption, clipper-chip!", ["encryption", "clipper", "chip"]),
        ("café cafe\u0301", ["café", "cafe\u0301"]),
        ("I don't, can’t; Anna's l'eau", ["don't", "can't", "anna", "eau"]),
        ("mp3 of 1990 3d x", ["mp3", "of"]),
        ("foo_bar __init__", ["foo", "bar", "init"]),
        ("हिन्दी में लिखना", ["हिन्दी", "में", "लिखना"]),
        ("Москва и Ёлка", ["москва", "ёлка"]),
        ("机器学习 is 学习", ["机", "器", "学", "习", "is", "学", "习"]),
        ("한국어 문장", ["한국어", "문장"]),
        ("ok 😀 fine", ["ok", "fine"]),
        ("مرحبا بالعالم", ["مرحبا", "بالعالم"]),
        ("", []),
        (" \n\t", []),
    ],
)
def test_words_in_any_script(text, expected):
    assert words(text) == expected


def test_spans_are_those_of_the_raw_text():
    text = "  The CAFÉ’s cat, don’t!"
    found = TopicVQProcessor(stop_words=["the"]).content_words(text)
    assert [text[start:stop] for _, start, stop in found] == ["CAFÉ", "cat", "don’t"]
    assert [word for word, _, _ in found] == ["café", "cat", "don't"]


def test_stop_words_are_nobodys_default():
    assert words("the cat and you") == ["the", "cat", "and", "you"]
    assert words("The cat and you don’t", stop_words="english") == ["cat"]
    assert words("The cat", stop_words=["THE"]) == ["cat"]
    assert words("The the", stop_words=["the"], lowercase=False) == ["The"]
    with pytest.raises(ValueError, match="'klingon'"):
        TopicVQProcessor(stop_words="klingon")


def test_preprocessed_corpora_keep_their_words_and_their_vocabulary():
    processor = TopicVQProcessor(vocabulary=["b", "c++", "a"], token_pattern=r"\S+")
    assert processor.count_words(["a b c++ c++"]).toarray().tolist() == [[1, 2, 1]]


@pytest.mark.parametrize("ngram_range", [(1, 1), (1, 2), (2, 3)])
def test_counts_equal_scikit_learn(ngram_range):
    processor = TopicVQProcessor(stop_words=["the", "and"], ngram_range=ngram_range)
    processor.fit_vocabulary(TEXTS)
    peer = CountVectorizer(
        vocabulary=processor.vocabulary,
        stop_words=["the", "and"],
        ngram_range=ngram_range,
        token_pattern=r"(?u)\b[a-z]\w+\b",
    )
    counts = processor.count_words(TEXTS)
    assert counts.dtype == np.int32
    assert (counts.toarray() == peer.transform(TEXTS).toarray()).all()
    assert set(processor.vocabulary) == {*peer.set_params(vocabulary=None).fit(TEXTS).vocabulary_}


def test_vocabulary_is_ordered_and_restricted():
    def fit(**options):
        return TopicVQProcessor().fit_vocabulary(TEXTS, **options).vocabulary

    assert fit() == ["cat", "dog", "sleeps", "the", "and", "barks", "mat", "on"]
    assert fit(min_df=2) == ["cat", "dog", "sleeps", "the"]
    assert fit(min_df=0.6) == ["cat"]
    assert fit(max_df=0.5, max_features=2) == ["dog", "sleeps"]
    assert fit(max_df=1) == ["and", "barks", "mat", "on"]
    with pytest.raises(
        ValueError, match="of 8 terms in 4 documents none occurs in at least min_df=9"
    ):
        fit(min_df=9)
    for number in (0, -1):
        with pytest.raises(ValueError, match=f"max_features is {number}, expected at least 1"):
            fit(max_features=number)
    for name in ("min_df", "max_df"):
        with pytest.raises(ValueError, match=f"{name} is None, expected a number or a share"):
            fit(**{name: None})


@pytest.mark.parametrize(
    "container", [tuple, set, frozenset, dict.fromkeys, iter, np.array, pd.Series]
)
def test_words_come_in_many_containers(container):
    names = ["cat", "dog", "mat"]
    assert TopicVQProcessor(vocabulary=container(names)).vocabulary == names
    assert TopicVQProcessor(stop_words=container(names)).stop_words == names


@pytest.mark.parametrize("documents", [[], ["", " "], ["12 34"], ["🎉🚀"]])
def test_a_corpus_without_words_has_no_vocabulary(documents):
    message = f"none of the {len(documents)} documents has a term"
    with pytest.raises(ValueError, match=message):
        TopicVQProcessor().fit_vocabulary(documents)


def test_a_pattern_may_take_symbols_for_words():
    processor = TopicVQProcessor(token_pattern="[⚽🚀🌙]").fit_vocabulary(["🚀🌙 🚀", "⚽"])
    assert processor.vocabulary == ["⚽", "🌙", "🚀"]
    assert processor.count_words(["🚀🚀⚽", "moon"]).toarray().tolist() == [[1, 0, 2], [0, 0, 0]]


def test_a_vocabulary_of_one_word_counts_it():
    counts = TopicVQProcessor(vocabulary=["cat"]).count_words(TEXTS)
    assert counts.toarray().ravel().tolist() == [1, 1, 0, 1]


@pytest.mark.parametrize(
    ("documents", "message"),
    [
        (["a cat", 5], "got 5 of type int in row 1"),
        ([None], "got None of type NoneType in row 0"),
        ([["a", "cat"]], "of type list in row 0"),
        ("a cat", "must be a list of texts, got the one text 'a cat'"),
        (None, "must be a list of texts, got None"),
        (3, "must be a list of texts, got 3"),
    ],
)
@pytest.mark.parametrize("method", ["fit_vocabulary", "count_words", "vocabulary_coverage"])
def test_rows_that_are_no_text_are_named(method, documents, message):
    processor = TopicVQProcessor(vocabulary=["cat"])
    with pytest.raises(ValueError, match=message):
        getattr(processor, method)(documents)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"vocabulary": ["a", "b", "a"]}, "'a' 2 times"),
        ({"vocabulary": "cat"}, "must be a list of words"),
        ({"vocabulary": ["cat", 3]}, "vocabulary must hold words, got 3 of type int"),
        ({"vocabulary": [float("nan")]}, "vocabulary must hold words, got nan of type float"),
        ({"stop_words": ["the", None]}, "stop_words must hold words, got None"),
        ({"stop_words": 5}, "stop_words must be a list of words or 'english', got 5"),
        ({"ngram_range": (2, 1)}, r"got \(2, 1\)"),
        ({"ngram_range": 2}, "two whole numbers .* got 2"),
        ({"ngram_range": "12"}, "two whole numbers .* got '12'"),
        ({"ngram_range": (1, 2, 3)}, r"got \(1, 2, 3\)"),
        ({"token_pattern": "("}, r"token_pattern is '\(': missing \)"),
        ({"token_pattern": r"\w*"}, "at least one character"),
        ({"token_pattern": r"(\w)+"}, "no capturing group"),
        ({"code_words": "nouns"}, "'nouns'"),
    ],
)
def test_bad_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        TopicVQProcessor(**options)


def test_counting_needs_a_vocabulary():
    with pytest.raises(ValueError, match="no vocabulary"):
        TopicVQProcessor().count_words(["a cat"])


def test_words_out_of_the_vocabulary_have_codes_unless_forbidden():
    assert words("cat dog", vocabulary=["cat"]) == ["cat", "dog"]
    assert words("cat dog", vocabulary=["cat"], code_words="vocabulary") == ["cat"]
    restricted = TopicVQProcessor(code_words="vocabulary").fit_vocabulary(TEXTS, min_df=3)
    assert restricted.vocabulary == ["cat"]


def test_inflected_words_are_reported_and_can_be_counted(caplog):
    """T21: against a vocabulary of base forms the words of a text vanish without a word."""
    texts = ["games and players", "a game", "the player plays"]
    processor = TopicVQProcessor(vocabulary=["game", "player", "play"], stop_words="english")
    assert processor.vocabulary_coverage(texts) == pytest.approx(2 / 5)
    assert "40 % of the 5 content words" in caplog.text
    assert "'games'" in caplog.text
    caplog.clear()
    processor.fit_word_forms(texts, lambda word: word.removesuffix("s"))
    assert processor.word_forms == {"games": "game", "players": "player", "plays": "play"}
    assert processor.vocabulary_coverage(texts) == 1
    assert not caplog.text
    assert processor.count_words(texts).toarray().tolist() == [[1, 1, 0], [1, 0, 0], [0, 1, 1]]


@pytest.mark.parametrize(
    ("options", "share"),
    [
        # With this rule words out of the vocabulary are no content words: they count all the same.
        ({"vocabulary": ["cat"], "code_words": "vocabulary"}, 3 / 15),
        ({"vocabulary": ["cat sleeps", "a cat"], "ngram_range": (1, 2)}, 5 / 15),
    ],
)
def test_the_share_of_known_words_is_of_all_words(options, share, caplog):
    assert TopicVQProcessor(**options).vocabulary_coverage(TEXTS) == pytest.approx(share)
    assert f"{100 * share:.0f} % of the 15 content words" in caplog.text


BASE_FORMS = ["the cat sleep on the mat", "dog", "", "the dog bark; the cat sleep"]


def test_another_form_of_the_documents_gives_the_words(tokenizer):
    processor = TopicVQProcessor(tokenizer, ["cat", "dog", "sleep", "bark"], stop_words=["the"])
    plain = processor(TEXTS)
    batch = processor(TEXTS, bow_text=BASE_FORMS)
    # What the encoder reads is the text as it is.
    for name in ("input_ids", "word_ids", "num_words", "window_to_document"):
        np.testing.assert_array_equal(batch[name], plain[name])
    # Equally many words: one by one. The second document keeps its own, and counts those of the other form.
    assert batch["word_vocab_ids"].tolist() == [
        [0, 2, -1, -1],
        [0, -1, 1, -1],
        [-1, -1, -1, -1],
        [1, 3, 0, 2],
    ]
    expected = [[1, 0, 1, 0], [0, 1, 0, 0], [0, 0, 0, 0], [1, 1, 1, 1]]
    assert batch["word_counts"].toarray().tolist() == expected
    single = processor(TEXTS[0], bow_text=BASE_FORMS[0])
    assert single["word_counts"].toarray().tolist() == expected[:1]


def test_words_by_their_other_form_may_be_those_that_have_codes():
    processor = TopicVQProcessor(vocabulary=["sleep"], code_words="vocabulary")
    assert processor.content_words("cat sleeps") == []
    assert processor.content_words("cat sleeps", "cat sleep") == [("sleep", 4, 10)]


@pytest.mark.parametrize(
    ("bow_text", "message"),
    [
        (TEXTS[1:], "only documents has a row 3"),
        ([*TEXTS, ""], "only bow_text has a row 4"),
        ([*TEXTS[1:], 5], "got 5 of type int in row 3"),
    ],
)
def test_another_form_is_one_of_each_document(tokenizer, bow_text, message):
    with pytest.raises(ValueError, match=message):
        TopicVQProcessor(tokenizer, ["cat"])(TEXTS, bow_text=bow_text)


def test_pieces_carry_the_number_of_their_word(tokenizer):
    processor = TopicVQProcessor(tokenizer, vocabulary=["sleeps", "cat"], stop_words=["the"])
    texts = ["The cat sleeps", "", "dog; cat"]
    batch = processor(texts, return_tensors="pt")
    assert batch["input_ids"].dtype == torch.int64
    assert batch["window_to_document"].tolist()[0] == 0
    assert sorted({*batch["window_to_document"].tolist()}) == [0, 1, 2]
    assert batch["num_words"].tolist() == [2, 0, 2]
    assert batch["word_vocab_ids"].tolist() == [[1, 0], [-1, -1], [-1, 1]]
    assert batch["word_counts"].toarray().tolist() == [[1, 1], [0, 0], [0, 1]]
    # Every letter of a word is in a piece of that word.
    for row, ids in enumerate(batch["word_ids"]):
        text = texts[batch["window_to_document"][row]]
        found = processor.content_words(text)
        for number, piece in zip(ids.tolist(), batch["input_ids"][row].tolist(), strict=True):
            token = tokenizer.convert_ids_to_tokens(piece)
            if number >= 0:
                word = found[number]
                assert token in text[word[1] : word[2]]
            else:
                assert token in ("[PAD]", "[CLS]", "[SEP]", ";") or token.lower() in "the"
    assert (batch["attention_mask"] == (batch["input_ids"] != 0)).all()


def test_one_document_may_come_as_a_text(tokenizer):
    """T15: a batch of one keeps its axes."""
    processor = TopicVQProcessor(tokenizer, vocabulary=["cat"])
    one, batch = processor("a cat"), processor(["a cat"])
    assert one["input_ids"].shape == batch["input_ids"].shape == (1, 6)
    assert one["word_counts"].toarray().tolist() == [[1]]


@pytest.mark.parametrize(
    ("documents", "message"),
    [
        ([], "there are no documents"),
        (None, "must be a list of texts, got None"),
        (3, "must be a list of texts, got 3"),
        (["a cat", 5], "got 5 of type int in row 1"),
    ],
)
def test_what_is_no_list_of_texts_has_no_inputs(tokenizer, documents, message):
    processor = TopicVQProcessor(tokenizer, vocabulary=["cat"])
    with pytest.raises(ValueError, match=message):
        processor(documents)


def test_halves_of_characters_cost_no_word(tokenizer):
    """Text from broken sources may hold one of the two halves of an emoji, which tokenizers refuse."""
    processor = TopicVQProcessor(tokenizer, vocabulary=["cat", "mat"])
    broken, whole = processor(["\ud83d the cat \ude00mat"]), processor(["? the cat ?mat"])
    assert broken["num_words"].tolist() == [3]
    assert broken["word_counts"].toarray().tolist() == [[1, 1]]
    assert (broken["word_ids"] >= 0).sum() == (whole["word_ids"] >= 0).sum()


def test_long_documents_are_cut_into_windows_and_lose_nothing(tokenizer):
    """T24: of a text longer than the encoder's limit every word is counted and has pieces."""
    text = "cat dog mat " * 1000
    processor = TopicVQProcessor(tokenizer, vocabulary=["cat", "dog", "mat"])
    batch = processor([text])
    assert batch["input_ids"].shape[1] == 10
    assert {*batch["word_ids"].ravel().tolist()} == {-1, *range(3000)}
    assert batch["word_counts"].toarray().tolist() == [[1000, 1000, 1000]]
    assert batch["word_vocab_ids"].shape == (1, 3000)


def test_a_processor_without_tokenizer_says_so():
    with pytest.raises(ValueError, match="no tokenizer"):
        TopicVQProcessor(vocabulary=["cat"])(["a cat"])


@pytest.mark.parametrize("with_tokenizer", [True, False])
def test_saving_and_loading_changes_nothing(tokenizer, tmp_path, with_tokenizer):
    processor = TopicVQProcessor(
        tokenizer if with_tokenizer else None,
        stop_words=["the"],
        ngram_range=(1, 2),
        lowercase=False,
    ).fit_vocabulary([*TEXTS, "café 学"])
    processor.fit_word_forms(["cats"], lambda word: word[:-1])
    processor.save_pretrained(tmp_path)
    files = {path.name for path in tmp_path.iterdir()}
    assert {"processor_config.json", "vocabulary.json"} <= files
    assert ("tokenizer.json" in files) == with_tokenizer
    assert json.loads((tmp_path / "vocabulary.json").read_text("utf-8")) == processor.vocabulary
    for loaded in (
        TopicVQProcessor.from_pretrained(tmp_path),
        AutoProcessor.from_pretrained(tmp_path),
    ):
        assert type(loaded) is TopicVQProcessor
        assert loaded.to_dict() == processor.to_dict()
        assert loaded.vocabulary == processor.vocabulary
        assert loaded.content_rule == processor.content_rule
        assert (loaded.count_words(TEXTS) != processor.count_words(TEXTS)).nnz == 0
        assert (loaded.tokenizer is not None) == with_tokenizer
        if with_tokenizer:
            ids = [each(TEXTS)["input_ids"] for each in (loaded, processor)]
            assert (ids[0] == ids[1]).all()


def test_loading_takes_other_options(tmp_path):
    TopicVQProcessor(vocabulary=["Cat"]).save_pretrained(tmp_path)
    processor = TopicVQProcessor.from_pretrained(tmp_path, lowercase=False)
    assert processor.count_words(["Cat cat"]).toarray().tolist() == [[1]]


def test_the_rule_of_content_words_is_told_apart():
    rule = TopicVQProcessor(stop_words=["b", "a"]).content_rule
    assert rule == TopicVQProcessor(vocabulary=["x"], stop_words=["a", "b", "a"]).content_rule
    others = [
        TopicVQProcessor(),
        TopicVQProcessor(stop_words=["a", "b"], lowercase=False),
        TopicVQProcessor(stop_words=["a", "b"], token_pattern=r"\S+"),
        TopicVQProcessor(stop_words=["a", "b"], code_words="vocabulary"),
        TopicVQProcessor(stop_words=["a", "b"], code_words="vocabulary", vocabulary=["x"]),
    ]
    assert len({rule, *(other.content_rule for other in others)}) == 6


@pytest.fixture
def own_remote_code():
    """Keep remote code that other tests have loaded out of this one, and its code out of theirs."""
    others = {name: m for name, m in sys.modules.items() if name.startswith("transformers_modules")}
    for name in others:
        del sys.modules[name]
    yield
    for name in [name for name in sys.modules if name.startswith("transformers_modules")]:
        del sys.modules[name]
    sys.modules.update(others)


@pytest.mark.usefixtures("own_remote_code")
@pytest.mark.parametrize("with_tokenizer", [True, False])
def test_published_code_makes_the_same_processor(tokenizer, tmp_path, monkeypatch, with_tokenizer):
    """On the Hub the processor travels as source files, which have nothing of our package around them."""
    monkeypatch.syspath_prepend(tmp_path / "modules")
    monkeypatch.setattr(dynamic_module_utils, "HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.setattr(TopicVQProcessor, "_auto_class", "AutoProcessor")
    processor = TopicVQProcessor(tokenizer if with_tokenizer else None, stop_words="english")
    processor.fit_vocabulary(TEXTS).save_pretrained(tmp_path / "published")
    files = {path.name for path in (tmp_path / "published").iterdir()}
    assert {"processing_topic_vq.py", "topic_vq_words.py"} <= files
    config = json.loads((tmp_path / "published" / "processor_config.json").read_text("utf-8"))
    assert config["auto_map"] == {"AutoProcessor": "processing_topic_vq.TopicVQProcessor"}
    remote = dynamic_module_utils.get_class_from_dynamic_module(
        config["auto_map"]["AutoProcessor"], str(tmp_path / "published")
    )
    assert remote is not TopicVQProcessor
    loaded = remote.from_pretrained(tmp_path / "published")
    assert loaded.content_rule == processor.content_rule
    assert (loaded.count_words(TEXTS) != processor.count_words(TEXTS)).nnz == 0
    assert (loaded.tokenizer is not None) == with_tokenizer
