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
"""The options that say where texts come from, and the training, selection and test split that they name."""

from dataclasses import dataclass, field
from functools import partial
from typing import Any

from .math_data import generate_expressions, generate_inference
from .text_data import check_splits_disjoint, load_text_dataset
from .training_config import check_name, option

__all__ = ["MATHEMATICS", "TextConfig", "load_texts"]

MATHEMATICS = {"math:expressions": generate_expressions, "math:inference": generate_inference}


@dataclass
class TextConfig:
    """Where the texts come from."""

    dataset: str = field(
        metadata={
            "help": "Hub id, folder or file (.txt, .jsonl, .csv, .tsv, .parquet); or "
            f"{' or '.join(MATHEMATICS)}, which are generated."
        }
    )
    source_column: list[str] = option(
        [], "Column that the encoder reads; several are joined by </s>. Not for mathematics."
    )
    target_column: str | None = option(None, "Column that the decoder writes; unset: the source.")
    role_column: str | None = option(None, "Column with one role for each word, for role_ranges.")
    rest_role: str | None = option(None, "Role of role_ranges that stands for all it lacks.")
    config_name: str | None = option(None, "Configuration of a Hub data set that has several.")
    revision: str | None = option(None, "Commit, branch or tag of a Hub data set.")
    train_split: str = option("train", "Texts to train on, for example train[:-500].")
    eval_split: str | None = option(
        None, "Texts that decide which model is best; unset: a share of the training texts."
    )
    eval_share: float = option(0.05, "That share; they are drawn, always the same ones.")
    test_splits: list[str] = option(
        ["test"],
        "Texts for the final figures; after the name of this option nothing, for no figures.",
    )
    max_train_samples: int | None = option(None, "Read no more than so many training texts.")
    max_test_samples: int | None = option(None, "Read no more than so many texts of a test split.")
    allow_overlap: bool = option(False, "Go on although test texts occur in training.")
    novel_test_texts: bool = option(
        False, "Test only on texts that do not occur in training, not even nearly."
    )
    max_length: int | None = option(
        None, "Pieces of the longest text, an error beyond; unset: what the model takes."
    )
    truncation: bool = option(False, "Cut longer texts instead.")
    append_eos: bool = option(True, "Whether the encoder reads a </s> at the end.")
    symbolic: bool = option(False, "Also compare the values of formulas, as for mathematics.")
    eval_decoding: bool = option(
        False, "Also write texts at each evaluation, to select by exact_match, for example."
    )


def generate(data: TextConfig) -> Any:
    """Return the splits of generated mathematics, disjoint by construction."""
    num_train = data.max_train_samples or 32_000
    sizes = num_train, max(1, round(data.eval_share * num_train))
    num_test = data.max_test_samples
    return MATHEMATICS[data.dataset](*sizes, num_test or 4_000, num_test or 2_000)


def load_texts(data: TextConfig) -> tuple[Any, Any, dict[str, Any]]:
    """Return the texts to train on, to select by, and to test on by split."""
    if data.dataset in MATHEMATICS:
        splits = generate(data)
        for name in data.test_splits:
            check_name("test split", name, [name for name in splits if name.startswith("test")])
        tests = {name: splits[name] for name in data.test_splits}
        return splits["train"], splits["validation"], tests
    if not data.source_column:
        raise ValueError("source_column is not set: name the column that holds the texts")
    load = partial(
        load_text_dataset,
        data.dataset,
        source_column=data.source_column,
        target_column=data.target_column,
        role_column=data.role_column,
        config_name=data.config_name,
        revision=data.revision,
    )
    training = load(data.train_split, max_samples=data.max_train_samples)
    if data.eval_split is not None:
        held_out = load(data.eval_split)
    else:
        parts = training.train_test_split(data.eval_share, seed=0)
        training, held_out = parts["train"], parts["test"]
    tests = {}
    # Before the training, so that a misspelled split does not show after it.
    for name in data.test_splits:
        test = load(name, max_samples=data.max_test_samples)
        # What is left out cannot leak.
        allowed = data.allow_overlap or data.novel_test_texts
        overlap = check_splits_disjoint(training, test, allow_overlap=allowed)
        tests[name] = test.select(overlap.novel_rows) if data.novel_test_texts else test
    return training, held_out, tests
