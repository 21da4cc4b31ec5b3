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
"""Generated mathematics: right by sympy, disjoint, and shifted in one respect at a time."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import sympy

from hf_vq.math_data import (
    MAX_LENGTH,
    SHIFTED_SPLITS,
    UNSEEN_VARIABLES,
    VARIABLES,
    generate_expressions,
    generate_inference,
    template_of,
)
from hf_vq.symbolic_equivalence import expression_tokens, parse_problem, symbolic_equivalence
from hf_vq.text_data import check_splits_disjoint, train_tokenizer

ROOT = Path(__file__).resolve().parents[1]
SIZES = (120, 8, 16, 8)
LETTERS = {letter: sympy.Symbol(letter) for letter in VARIABLES + UNSEEN_VARIABLES}
TRAINING = ("train", "validation", "test")


def as_sympy(text: str) -> sympy.Expr:
    return sympy.sympify(text, locals=LETTERS)


def formula(row: dict) -> str:
    return parse_problem(row["source"]).expression


@pytest.fixture(scope="module")
def expressions():
    return generate_expressions(*SIZES)


@pytest.fixture(scope="module")
def inference():
    return generate_inference(*SIZES)


@pytest.fixture(scope="module", params=["expressions", "inference"])
def splits(request):
    return request.getfixturevalue(request.param)


def test_every_split_has_its_rows(splits) -> None:
    assert {name: len(rows) for name, rows in splits.items()} == {
        "train": 120,
        "validation": 8,
        "test": 16,
        **dict.fromkeys(SHIFTED_SPLITS, 8),
    }


def test_splits_are_disjoint_by_the_tree_of_the_formula(splits) -> None:
    keys = [sympy.srepr(as_sympy(formula(row))) for rows in splits.values() for row in rows]
    assert keys == [key for rows in splits.values() for key in rows["key"]]
    assert len({*keys}) == len(keys)
    for name in (*SHIFTED_SPLITS, "test", "validation"):
        overlap = check_splits_disjoint(splits["train"], splits[name], column="key", near_key=str)
        assert overlap.num_exact == 0


def test_no_problem_is_another_one_backwards(inference) -> None:
    owner: dict[str, int] = {}
    rows = [row for part in inference.values() for row in part]
    for number, row in enumerate(rows):
        for side in ("source", "target"):  # equal where exp(x) is its own derivative
            key = sympy.srepr(as_sympy(parse_problem(row[side]).expression))
            assert owner.setdefault(key, number) == number


def test_derivatives_and_integrals_are_right_by_sympy(inference) -> None:
    seen = set()
    for rows in inference.values():
        for row in rows:
            problem, result = parse_problem(row["source"]), parse_problem(row["target"])
            assert problem.operation == row["operation"]
            assert row["target"] == f"the result is {result.expression}"
            source, target = as_sympy(problem.expression), as_sympy(result.expression)
            variable = LETTERS[problem.variable]
            assert source.has(variable)
            pair = (source, target) if problem.operation == "differentiation" else (target, source)
            assert sympy.diff(pair[0], variable) == pair[1]
            if problem.operation == "integration":  # no constant that nobody could know
                assert target.as_independent(variable, as_Add=True)[0] == 0
            seen.add(problem.operation)
    assert seen == {"differentiation", "integration"}


def test_the_targets_are_right_by_our_metric(splits) -> None:
    for rows in splits.values():
        targets, sources = rows["target"][:], rows["source"][:]
        scores = symbolic_equivalence(targets, targets, sources)
        assert scores == {"symbolic_equivalence": 1, "parse_rate": 1}


def test_about_half_of_the_problems_is_integration(inference) -> None:
    assert 45 <= inference["train"]["operation"][:].count("integration") <= 75


def test_formulas_are_repeated_with_their_clause(expressions) -> None:
    for row in expressions["train"]:
        assert row["source"] == row["target"]
        assert row["operation"] == "expression"
        assert re.fullmatch(rf".+ where the variable is [{VARIABLES}]", row["source"])
        assert parse_problem(row["source"]).variable in expression_tokens(formula(row))


def test_shifted_splits_differ_in_their_one_respect(splits) -> None:
    templates = {template_of(formula(row)) for row in splits["train"]}
    lengths = [len(expression_tokens(formula(row))) for row in splits["train"]]
    assert max(lengths) <= MAX_LENGTH
    pair = re.compile(r"sin\(log\(")
    for name, rows in splits.items():
        for row in rows:
            text = f"{row['source']} {row['target']}"
            unseen = parse_problem(row["source"]).variable in UNSEEN_VARIABLES
            assert unseen == (name == "test_symbols")
            is_long = len(expression_tokens(formula(row))) > MAX_LENGTH
            assert is_long == (name == "test_length")
            if name == "test_template":
                assert template_of(formula(row)) == row["template"]
                assert row["template"] not in templates
            if name in TRAINING:
                assert not pair.search(text)
    assert all(pair.search(f"{r['source']} {r['target']}") for r in splits["test_composition"])


def test_letters_of_the_shifted_symbols_occur_in_training(expressions) -> None:
    letters = {token for row in expressions["train"] for token in expression_tokens(formula(row))}
    assert letters & {*UNSEEN_VARIABLES}


def test_a_seed_gives_the_same_rows_in_every_process() -> None:
    code = (
        "from hf_vq.math_data import *; print(generate_inference(9, 1, 1, 1)['train']['source'][:])"
    )
    here = generate_inference(9, 1, 1, 1)["train"]["source"][:]
    # Sets and dictionaries of symbols are ordered by their hashes.
    other = "1" if os.environ.get("PYTHONHASHSEED") != "1" else "2"
    result = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONHASHSEED": other, "PYTHONPATH": str(ROOT / "src")},
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stdout == f"{here}\n"
    assert generate_inference(9, 0, 0, 0, seed=1)["train"]["source"][:] != here


def test_the_size_of_training_changes_no_test_split(expressions) -> None:
    larger = generate_expressions(200, *SIZES[1:])
    for name in ("test", *SHIFTED_SPLITS):
        assert larger[name]["source"][:] == expressions[name]["source"][:]
    assert larger["train"]["source"][:120] == expressions["train"]["source"][:]


def test_latex_is_the_same_data_in_other_letters() -> None:
    infix, latex = (generate_expressions(20, 0, 0, 0, text_format=f) for f in ("infix", "latex"))
    assert list(latex) == ["train"]
    assert latex["train"]["key"][:] == infix["train"]["key"][:]
    for row, plain in zip(latex["train"], infix["train"], strict=True):
        tree = as_sympy(formula(plain))
        assert row["source"].startswith(f"{sympy.latex(tree)} where the variable is ")


def test_pieces_of_symbols_serve_every_split(splits) -> None:
    tokenizer = train_tokenizer(splits["train"]["source"][:], 200, isolate_symbols=True)
    for rows in splits.values():
        for row in rows:
            assert tokenizer.unk_token_id not in tokenizer(row["source"]).input_ids


def test_bad_arguments_are_named() -> None:
    with pytest.raises(ValueError, match="text_format must be 'infix' or 'latex', got 'mathml'"):
        generate_expressions(1, 0, 0, 0, text_format="mathml")
    for sizes in ((-1, 0, 0, 0), (0, 0, 0, 0)):
        with pytest.raises(ValueError, match="numbers of rows must be at least 0"):
            generate_inference(*sizes)


def test_a_used_up_pool_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hf_vq.math_data.MAX_DEPTH", 0)
    with pytest.raises(ValueError, match="used up; ask for fewer rows"):
        generate_expressions(2, 0, 0, 0)
