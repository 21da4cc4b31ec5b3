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
"""Texts by column names, batches, tokenizers, and splits that must not overlap."""

import json
import logging
from collections.abc import Callable
from pathlib import Path

import datasets
import pytest
import torch
from transformers import AutoTokenizer, T5Tokenizer

from hf_vq.text_data import (
    SOURCE_SEPARATOR,
    TextCollator,
    add_missing_characters,
    check_splits_disjoint,
    decode_texts,
    load_text_dataset,
    piece_words,
    text_revision,
    train_tokenizer,
)

DATA = Path(__file__).resolve().parents[1] / ".data"
TEXTS = [
    "the sun is a kind of star",
    "a star is hot , and bright",
    "earth 's moon is cold",
    "rain is water ( or ice )",
]
ROLES = ["ARG1", "ARG1", "V", "ARG2", "ARG2", "ARG2", "ARG2"]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    datasets.disable_progress_bars()


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(TEXTS * 4, 160)


def rows_of(texts: list[str]) -> datasets.Dataset:
    return datasets.Dataset.from_dict({"source": texts, "target": texts})


def write_txt(path: Path) -> None:
    path.write_text("\n".join([*TEXTS, ""]))


def write_jsonl(path: Path) -> None:
    path.write_text("\n".join(json.dumps({"text": text, "n": 1}) for text in TEXTS))


def write_csv(path: Path) -> None:
    datasets.Dataset.from_dict({"text": TEXTS}).to_csv(path)


def write_tsv(path: Path) -> None:
    path.write_text("text\tnumber\n" + "".join(f"{text}\t1\n" for text in TEXTS))


def write_parquet(path: Path) -> None:
    datasets.Dataset.from_dict({"text": TEXTS}).to_parquet(path)


def write_folder(path: Path) -> None:
    path.mkdir()
    write_parquet(path / "train.parquet")


def write_saved(path: Path) -> None:
    rows = datasets.Dataset.from_dict({"text": TEXTS})
    datasets.DatasetDict({"train": rows}).save_to_disk(path)


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("a.txt", write_txt),
        ("a.jsonl", write_jsonl),
        ("a.csv", write_csv),
        ("a.tsv", write_tsv),
        ("a.parquet", write_parquet),
        ("folder", write_folder),
        ("saved", write_saved),
    ],
)
def test_every_kind_of_source_gives_the_same_rows(
    tmp_path: Path, name: str, write: Callable[[Path], None]
) -> None:
    write(tmp_path / name)
    rows = load_text_dataset(tmp_path / name, source_column="text")
    assert rows["source"][:] == rows["target"][:] == TEXTS
    part = load_text_dataset(tmp_path / name, "train[1:]", source_column="text", max_samples=2)
    assert part["source"][:] == TEXTS[1:3]


def test_columns_are_chosen_by_name_and_joined(tmp_path: Path) -> None:
    file = tmp_path / "steps.jsonl"
    file.write_text(json.dumps({"one": "p", "two": "q r", "end": "c"}))
    row = load_text_dataset(file, source_column=["one", "two"], target_column="end")[0]
    assert row == {"source": "p </s> q r", "target": "c"}
    assert load_text_dataset(file, source_column="end", role_column="one")[0]["roles"] == ["p"]


def test_a_missing_column_names_those_present(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "a.jsonl")
    with pytest.raises(
        ValueError, match=r"no column 'sentence' .*'text' \(string\), 'n' \(int64\)"
    ):
        load_text_dataset(tmp_path / "a.jsonl", source_column="sentence")
    with pytest.raises(ValueError, match="column 'n' .* holds no text"):
        load_text_dataset(tmp_path / "a.jsonl", source_column="text", target_column="n")


def test_words_that_look_like_gaps_are_words(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text\nNA\nnull\nNone\n")
    rows = load_text_dataset(tmp_path / "a.csv", source_column="text")
    assert rows["source"][:] == ["NA", "null", "None"]


def test_empty_texts_are_left_out_with_their_number(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, logger="hf_vq.text_data")
    lines = [{"a": "x", "b": "y"}, {"a": " ", "b": "y"}, {"a": "x", "b": None}]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, lines)))
    rows = load_text_dataset(tmp_path / "a.jsonl", source_column="a", target_column="b")
    assert rows[:] == {"source": ["x"], "target": ["y"]}
    assert "left out 2 rows" in caplog.text
    with pytest.raises(ValueError, match=r"has no texts: of 1 rows, 1 are empty"):
        load_text_dataset(tmp_path / "a.jsonl", "train[1:2]", source_column="a")


def test_roles_are_lists_or_words_and_as_many_as_words(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    lines = [{"text": TEXTS[0], "list": ROLES, "line": " ".join(ROLES)}]
    file.write_text("\n".join(map(json.dumps, lines)))
    for column in ("list", "line"):
        rows = load_text_dataset(file, source_column="text", role_column=column)
        assert rows[0]["roles"] == ROLES
    file.write_text(json.dumps({"text": "one two", "line": "ARG0"}))
    with pytest.raises(ValueError, match=r"row 0 .* 2 words of 'one two', got 1: \['ARG0'\]"):
        load_text_dataset(file, source_column="text", role_column="line")


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "bad.jsonl").write_text("{not json")
    (tmp_path / "a.docx").write_text("x")
    write_txt(tmp_path / "a.txt")
    for name, split, message in [
        ("bad.jsonl", "train", "cannot read split 'train' of '.*bad.jsonl'"),
        ("a.docx", "train", "'a.docx' must end in one of"),
        ("a.txt", "test", "cannot read split 'test'"),
        ("a.txt", "train[9:]", "beyond the 4 rows"),
        ("nowhere.txt", "train", "cannot read .*nowhere"),
    ]:
        with pytest.raises(ValueError, match=message):
            load_text_dataset(tmp_path / name, split, source_column="text")
    with pytest.raises(ValueError, match="max_samples must be at least 1, got 0"):
        load_text_dataset(tmp_path / "a.txt", source_column="text", max_samples=0)


def test_a_batch_is_padded_to_its_longest_text(tokenizer) -> None:
    rows = [{"source": TEXTS[0], "target": "hot"}, {"source": "rain", "target": TEXTS[1]}]
    batch = TextCollator(tokenizer)(rows)
    assert set(batch) == {"input_ids", "attention_mask", "labels"}
    sources = [tokenizer(row["source"]).input_ids for row in rows]
    targets = [tokenizer(row["target"]).input_ids for row in rows]
    assert batch["input_ids"].shape == (2, len(sources[0]))
    assert batch["labels"].shape == (2, len(targets[1]))
    assert batch["input_ids"][1].tolist() == sources[1] + [0] * (len(sources[0]) - len(sources[1]))
    assert batch["attention_mask"].sum(1).tolist() == list(map(len, sources))
    assert batch["labels"][0].tolist() == targets[0] + [-100] * (len(targets[1]) - len(targets[0]))
    assert batch["input_ids"][0, -1] == tokenizer.eos_token_id
    assert decode_texts(tokenizer, batch["labels"]) == ["hot", TEXTS[1]]
    assert set(TextCollator(tokenizer)([{"source": "rain"}])) == {"input_ids", "attention_mask"}


def test_joined_parts_end_in_the_token_not_in_its_letters(tokenizer) -> None:
    batch = TextCollator(tokenizer)([{"source": SOURCE_SEPARATOR.join(["the sun", "is hot"])}])
    assert (batch["input_ids"] == tokenizer.eos_token_id).sum() == 2
    assert batch["input_ids"][0].tolist() == tokenizer("the sun", "is hot").input_ids


def test_long_and_empty_texts_are_refused(tokenizer) -> None:
    rows = [{"source": TEXTS[0], "target": TEXTS[0]}]
    length = len(tokenizer(TEXTS[0]).input_ids)
    assert TextCollator(tokenizer, max_length=length)(rows)["input_ids"].shape == (1, length)
    with pytest.raises(ValueError, match=rf"{length} pieces, more than max_length={length - 1}"):
        TextCollator(tokenizer, max_length=length - 1)(rows)
    cut = TextCollator(tokenizer, max_length=4, truncation=True)(rows)
    assert cut["input_ids"].shape == cut["labels"].shape == (1, 4)
    assert cut["input_ids"][0, -1] == tokenizer.eos_token_id
    with pytest.raises(ValueError, match="a target must be a text with words in it, got ' '"):
        TextCollator(tokenizer)([{"source": "rain", "target": " "}])
    with pytest.raises(ValueError, match="truncation needs a max_length"):
        TextCollator(tokenizer, truncation=True)


def test_pieces_take_the_roles_of_their_words(tokenizer) -> None:
    rows = [
        {"source": TEXTS[0], "roles": ROLES},
        {"source": "  rain unheard", "roles": ["ARG1", "V"]},
    ]
    collate = TextCollator(tokenizer, role_names=["V", "ARG1", "ARG2"])
    batch = collate(rows)
    assert batch["role_ids"].shape == batch["input_ids"].shape
    for row, ids, roles in zip(rows, batch["input_ids"], batch["role_ids"], strict=True):
        words, pieces = row["source"].split(), tokenizer.convert_ids_to_tokens(ids.tolist())
        word, spelled = -1, ""
        for piece, role in zip(pieces, roles.tolist(), strict=True):
            if piece in ("</s>", "<pad>"):
                assert role == -1
                continue
            if piece.startswith("▁"):
                word, spelled = word + 1, ""
            spelled += piece.removeprefix("▁")
            assert words[word].startswith(spelled)
            assert ["V", "ARG1", "ARG2"][role] == row["roles"][word]
        assert word == len(words) - 1
    with pytest.raises(ValueError, match=r"role 'ARG2' is none of the role_names \['ARG1', 'V'\]"):
        TextCollator(tokenizer, role_names=["V", "ARG1"])(rows)
    rest = TextCollator(tokenizer, role_names=["V", "rest"], rest_role="rest")(rows)["role_ids"]
    assert set(rest[0].tolist()) == {0, 1, -1}
    for number in (1, 3):
        wrong = {"source": "rain unheard", "roles": ["V"] * number}
        with pytest.raises(ValueError, match="a role for each word, got"):
            TextCollator(tokenizer, role_names=["V"])([wrong])
    with pytest.raises(ValueError, match="rows must hold 'roles', they hold"):
        collate([{"source": "rain"}])
    with pytest.raises(ValueError, match="rest_role must be one of"):
        TextCollator(tokenizer, role_names=["V"], rest_role="rest")


def test_the_encoder_may_read_no_end(tokenizer) -> None:
    rows = [{"source": TEXTS[0], "target": TEXTS[0], "roles": ROLES}]
    names = ["V", "ARG1", "ARG2"]
    full = TextCollator(tokenizer, role_names=names)(rows)
    bare = TextCollator(tokenizer, role_names=names, append_eos=False)(rows)
    for name in ("input_ids", "attention_mask", "role_ids"):
        assert torch.equal(bare[name], full[name][:, :-1])
    assert torch.equal(bare["labels"], full["labels"])
    options = {"max_length": 4, "truncation": True, "role_names": names}
    cut = TextCollator(tokenizer, **options)(rows)["role_ids"]
    assert cut.tolist() == [[*full["role_ids"][0, :3].tolist(), -1]]
    cut = TextCollator(tokenizer, append_eos=False, **options)(rows)["role_ids"]
    assert torch.equal(cut, full["role_ids"][:, :3])


def test_unknown_pieces_belong_to_their_word(tokenizer) -> None:
    assert "é" not in tokenizer.get_vocab()
    words = piece_words(tokenizer, ["a é is"])[0]
    assert words[-1] == -1
    assert set(words[:-1]) == {0, 1, 2}
    unknown = tokenizer("a é is").input_ids.index(tokenizer.unk_token_id)
    assert words[unknown] == 1


def test_overlapping_splits_are_refused(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, logger="hf_vq.text_data")
    train = rows_of([*TEXTS, "one </s> two"])
    test = rows_of(["new", "the  sun is a kind of star", "Two. </s> one", "EARTH'S moon is cold!"])
    with pytest.raises(ValueError, match=r"1 of 4 test rows .* 'the sun is a kind of star'"):
        check_splits_disjoint(train, test)
    overlap = check_splits_disjoint(train, test, allow_overlap=True)
    assert (overlap.num_rows, overlap.num_exact, overlap.num_near) == (4, 1, 2)
    assert test.select(overlap.novel_rows)["source"][:] == ["new"]
    assert "1 of 4 test rows occur" in caplog.text
    assert "2 of 4 test rows nearly occur" in caplog.text
    assert check_splits_disjoint(train, test.select([0])).novel_rows == [0]
    formulas = check_splits_disjoint(rows_of(["x + 2"]), rows_of(["x*2"]), near_key=str)
    assert (formulas.num_near, formulas.novel_rows) == (0, [0])


def test_a_trained_tokenizer_is_t5s_in_form(tmp_path: Path, tokenizer) -> None:
    specials = tokenizer.pad_token_id, tokenizer.eos_token_id, tokenizer.unk_token_id
    assert specials == (0, 1, 2)
    assert len(tokenizer) <= 160
    tokenizer.save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    again = train_tokenizer(TEXTS * 4, 160)
    for text in [*TEXTS, "Unseen words: x**2 ~ {y} \\ `z` <w> 's , ."]:
        ids = tokenizer(text).input_ids
        assert ids[-1] == 1
        assert loaded(text).input_ids == again(text).input_ids == ids
        assert tokenizer.unk_token_id not in ids
        assert decode_texts(loaded, [ids, ids + [0, 0]]) == [text, text]


def test_a_tokenizer_needs_a_piece_for_each_character() -> None:
    with pytest.raises(ValueError, match=r"vocab_size must be at least 9, .* the 6 char.*, got 8"):
        train_tokenizer(["ab cd"], 8, characters="ae")
    small = train_tokenizer(["ab cd"], 9, characters="ae")
    assert len(small) == 9
    assert small("ae").input_ids.count(2) == 0
    assert 2 in small("z").input_ids


def test_symbols_of_a_formula_are_pieces_of_their_own() -> None:
    texts = ["2*x**12 + sin(x)*exp(y) where the variable is x"] * 8
    tokenizer = train_tokenizer(texts, 150, isolate_symbols=True)
    tokens = [token.removeprefix("▁") for token in tokenizer.tokenize(texts[0])]
    assert tokens[:13] == ["2", "*", "x", "**", "1", "2", "+", "sin", "(", "x", ")", "*", "exp"]
    assert decode_texts(tokenizer, [tokenizer(texts[0]).input_ids]) == texts[:1]


@pytest.mark.parametrize("kind", ["t5", "trained"])
def test_missing_characters_come_back_without_spaces(tmp_path: Path, kind: str) -> None:
    text = r"\frac{x^{2}}{y} ~ 2 < `a`"
    pieces = [("▁" + c, -5.0) for c in "xya2"] + [(c, -6.0) for c in "▁xyafrc2"]
    vocab = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), *pieces]
    t5 = T5Tokenizer(vocab=vocab, extra_ids=0)
    old = t5 if kind == "t5" else train_tokenizer(["frac x y a 2"], 40, characters="")
    size = len(old)
    assert old.unk_token_id in old(text).input_ids
    new, added = add_missing_characters(old, [text])
    assert sorted(added) == sorted("\\^{}~<`")
    assert len(old) == size
    assert len(new) == size + len(added)
    assert new.convert_tokens_to_ids(added) == list(range(size, len(new)))
    assert type(new) is type(old)
    new.save_pretrained(tmp_path)
    for tokenizer in (new, AutoTokenizer.from_pretrained(tmp_path)):
        ids = tokenizer(text).input_ids
        assert tokenizer.unk_token_id not in ids
        assert decode_texts(tokenizer, [ids]) == [text]
    assert add_missing_characters(new, [text])[1] == []


def test_the_revision_follows_the_content() -> None:
    revision = text_revision(rows_of(TEXTS))
    assert revision.startswith("sha256:")
    assert revision == text_revision(rows_of(TEXTS))
    assert revision != text_revision(rows_of(TEXTS[::-1]))
    assert revision != text_revision(rows_of(TEXTS).add_column("roles", [["V"]] * 4))


def real(name: str) -> Path:
    folder = DATA / name
    if not folder.exists():
        pytest.skip(f"the real data is not at {folder.relative_to(DATA.parent)}")
    return folder


def test_real_explanations_have_the_known_counts() -> None:
    folder = real("worldtree")
    options = {"source_column": "text", "role_column": "roles"}
    train = load_text_dataset(folder, "train", **options)
    test = load_text_dataset(folder, "test", **options)
    overlap = check_splits_disjoint(train, test)
    assert (len(train), overlap.num_rows) == (12_000, 3_440)
    assert (overlap.num_exact, overlap.num_near) == (0, 248)


def test_real_entailment_steps_are_refused_unless_allowed() -> None:
    options = {"source_column": ["premise1", "premise2"], "target_column": "conclusion"}
    train, test = (
        load_text_dataset(real("entailment"), split, **options) for split in ("train", "test")
    )
    with pytest.raises(ValueError, match="3 of 134 test rows"):
        check_splits_disjoint(train, test)
    overlap = check_splits_disjoint(train, test, allow_overlap=True)
    assert (overlap.num_near, len(overlap.novel_rows)) == (4, 127)


def test_t5s_own_tokenizer_round_trips_with_the_characters_added() -> None:
    tokenizer = AutoTokenizer.from_pretrained(real("t5_tokenizer"))
    line = r"\frac{x^{2}}{\log{\left(y \right)}} + `a` ~ <b"
    new, added = add_missing_characters(tokenizer, [line, "the sun"])
    assert set(added) == set("\\{}^~<`")
    assert decode_texts(new, [new(line).input_ids]) == [line]
    assert new("the sun is").input_ids == tokenizer("the sun is").input_ids
    assert new.convert_tokens_to_ids("<extra_id_0>") == 32_099
