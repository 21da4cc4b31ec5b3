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
"""Documents with labels and times from files, in streams, and from the installed libraries."""

import datetime
import json
from collections import Counter

import datasets
import pytest

from hf_vq.topics.documents import TextStream, load_documents, read_vocabulary
from hf_vq.topics.library_documents import _plain, library_documents

ROWS = [
    {"body": "first", "group": 1, "when": "2020-01-01"},
    {"body": "", "group": 0, "when": "2021-01-01"},
    {"body": "third", "group": 1, "when": "2022-01-01"},
    {"body": "fourth", "group": 0, "when": "2023-01-01"},
]


@pytest.fixture
def folder(tmp_path):
    features = datasets.Features(
        {
            "body": datasets.Value("string"),
            "group": datasets.ClassLabel(names=["moon", "cat"]),
            "when": datasets.Value("string"),
        }
    )
    dataset = datasets.Dataset.from_list(ROWS, features=features)
    datasets.DatasetDict({"train": dataset, "test": dataset.select([3])}).save_to_disk(
        tmp_path / "saved"
    )
    return tmp_path / "saved"


def test_texts_labels_and_times_belong_together(folder):
    documents = load_documents(folder, text_column="body", label_column="group", time_column="when")
    assert len(documents) == 4
    assert documents.texts == ["first", "", "third", "fourth"]
    assert documents.labels == ["cat", "moon", "cat", "moon"]
    assert documents.timestamps[2] == "2022-01-01"
    both = load_documents(folder, text_column="body", bow_text_column="body")
    assert both.bow_texts == both.counted_texts == both.texts == documents.counted_texts
    bare = load_documents(folder, "test", text_column="body")
    assert (bare.texts, bare.labels, bare.timestamps) == (["fourth"], None, None)


def test_splits_are_disjoint_and_keep_their_rows(folder):
    """T4: the official test split is the validation slice, and carries the masks of another."""
    options = {"text_column": "body", "label_column": "group"}
    parts = [load_documents(folder, f"train[{part}]", **options) for part in (":2", "2:-1", "-1:")]
    whole = load_documents(folder, **options)
    assert sum((part.texts for part in parts), []) == whole.texts
    assert sum((part.labels for part in parts), []) == whole.labels
    assert load_documents(folder, max_samples=3, **options).texts == whole.texts[:3]


def test_files_of_any_format(tmp_path):
    lines = tmp_path / "lines.txt"
    lines.write_text("one text\nanother\n", encoding="utf-8")
    assert load_documents(lines).texts == ["one text", "another"]
    table = tmp_path / "table.jsonl"
    rows = [
        {"text": "a", "label": "x", "year": 1999},
        {"text": "NA", "label": "y", "year": 2001},
    ]
    table.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    documents = load_documents(table, label_column="label", time_column="year")
    assert (documents.texts, documents.labels) == (["a", "NA"], ["x", "y"])
    assert documents.timestamps == [1999, 2001]
    csv = tmp_path / "table.csv"
    csv.write_text("text,day\nnull,2020-05-01 12:00:00\n", encoding="utf-8")
    documents = load_documents(csv, time_column="day")
    assert documents.texts == ["null"]
    assert str(documents.timestamps[0]).startswith(str(datetime.date(2020, 5, 1)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"text_column": "text"}, r"no column 'text' .*'body', 'group', 'when'"),
        ({"text_column": "group"}, r"'group' .* must hold texts, got 1 in row 0"),
        ({"text_column": "body", "label_column": "class"}, "no column 'class'"),
        ({"text_column": "body", "split": "validation"}, "'validation'"),
        ({"text_column": "body", "split": "train[2:2]"}, "has no documents"),
        ({"text_column": "body", "split": "train[:9]"}, "goes beyond the 4 rows"),
        ({"text_column": "body", "max_samples": 0}, "at least 1, got 0"),
    ],
)
def test_bad_requests_are_named(folder, options, message):
    with pytest.raises(ValueError, match=message):
        load_documents(folder, **options)


def test_gaps_are_named_by_their_row(tmp_path):
    path = tmp_path / "table.jsonl"
    path.write_text('{"text": "a"}\n{"text": null}\n', encoding="utf-8")
    with pytest.raises(ValueError, match="got None in row 1"):
        load_documents(path)
    with pytest.raises(ValueError, match=r"cannot read split 'train' of '.*nowhere"):
        load_documents(tmp_path / "nowhere.csv")
    path = tmp_path / "classes.jsonl"
    path.write_text('{"text": "a", "label": "x"}\n{"text": "b", "label": null}\n')
    with pytest.raises(ValueError, match="column 'label' .* has no label in row 1"):
        load_documents(path, label_column="label")


def test_an_unknown_class_is_not_the_last_one(folder, tmp_path):
    """Data sets of the Hub have -1 where nobody tells the class."""
    known = datasets.load_from_disk(folder)["train"]
    unknown = known.map(lambda row: {"group": -1}, features=known.features)
    unknown.save_to_disk(tmp_path / "unknown")
    with pytest.raises(ValueError, match="column 'group' .* has no label in row 0"):
        load_documents(tmp_path / "unknown", text_column="body", label_column="group")


@pytest.mark.parametrize("name", ["empty.txt", "empty.jsonl", "empty.json", "empty.csv"])
def test_empty_files_are_named(tmp_path, name):
    (tmp_path / name).touch()
    with pytest.raises(ValueError, match=f"cannot read split 'train' of '.*{name}'"):
        load_documents(tmp_path / name)


def test_streams_are_read_any_number_of_times(folder, tmp_path):
    stream = TextStream(folder, text_column="body")
    assert list(stream) == list(stream) == ["first", "", "third", "fourth"]
    assert list(TextStream(folder, text_column="body", max_samples=2)) == ["first", ""]
    with pytest.raises(ValueError, match="no column 'text'; the columns are"):
        list(TextStream(folder))
    path = tmp_path / "lines.txt"
    path.write_text("a\nb\n", encoding="utf-8")
    assert list(TextStream(path)) == ["a", "b"]


def test_vocabularies_are_read_in_order(tmp_path):
    path = tmp_path / "vocabulary.txt"
    path.write_text("zebra\ncafé\n\napple\n", encoding="utf-8")
    assert read_vocabulary(path) == ["zebra", "café", "apple"]
    path.write_text("a\nb\na\n", encoding="utf-8")
    with pytest.raises(ValueError, match="'a' twice"):
        read_vocabulary(path)
    path.write_text("\n", encoding="utf-8")
    with pytest.raises(ValueError, match="no words"):
        read_vocabulary(path)


def test_library_documents_are_labelled_distinct_and_the_same_each_time():
    options = {"libraries": ["jinja2", "PIL", "no_such_library"], "max_per_library": 25}
    documents = library_documents(**options)
    assert Counter(documents.labels) == {"PIL": 25, "jinja2": 25}
    assert len({*documents.texts}) == 50
    assert all(len(text.split()) >= 20 for text in documents.texts)
    assert not any(">>>" in text or "http" in text for text in documents.texts)
    again = library_documents(**options | {"libraries": ["PIL", "jinja2"]})
    assert again == documents
    fewer = library_documents(["PIL"], max_per_library=5)
    assert fewer.texts == documents.texts[:5]
    with pytest.raises(ValueError, match="none of"):
        library_documents(["no_such_library"])


def test_libraries_are_parsed_not_imported(tmp_path, monkeypatch):
    (tmp_path / "imaginary" / "tests").mkdir(parents=True)
    texts = {
        "__init__.py": "Makes ponds of words that nobody reads.",
        "other.py": "Counts frogs in ponds, some of them green.",
        "tests/check.py": "Tests of frogs, which are none of a library's texts.",
    }
    for name, text in texts.items():
        code = f'"""{text}"""\ndef _hidden():\n    """{text} Hidden."""\nraise RuntimeError("imported")\n'
        (tmp_path / "imaginary" / name).write_text(code, encoding="utf-8")
    (tmp_path / "imaginary" / "template.py").write_text("{{ no python }}: ", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    documents = library_documents(["imaginary"], min_words=5)
    assert sorted(documents.texts) == sorted([texts["__init__.py"], texts["other.py"]])
    assert documents.labels == ["imaginary"] * 2


def test_markup_and_code_are_taken_out():
    text = (
        "See :class:`~torch.nn.Linear` at https://example.com/x for more.\n\n"
        ">>> x = 1\n... y\n.. versionadded:: 2\n```python\ncode()\n```\n\n\n\nThe end"
    )
    assert _plain(text) == "See torch.nn.Linear at  for more.\n\nThe end"
