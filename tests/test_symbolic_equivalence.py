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
"""The parser of formulas, their derivatives, and what counts as equal."""

import math

import numpy as np
import pytest
import sympy

from hf_vq.symbolic_equivalence import (
    MathProblem,
    NotAnExpressionError,
    equivalent,
    evaluate_expression,
    expression_tokens,
    is_antiderivative,
    parse_problem,
    symbolic_equivalence,
)

FORMULAS = [
    "x",
    "42",
    "-x**2",
    "2**-x",
    "x**y**2",
    "-(-x)",
    "x - y - 2",
    "x/y/2",
    "x/2*y",
    "2*x**12 + sin(x)*exp(y)",
    "log(x*exp(-y))/cos(x - 3*y)",
    "(x + y)*(x - y)**3",
    "+x*-y",
    "log(sin(x) - 2)",
    "(x - 5)**y",
]


@pytest.mark.parametrize("text", FORMULAS)
def test_values_and_derivatives_are_those_of_sympy(text: str) -> None:
    x, y = sympy.symbols("x y")
    tree = sympy.sympify(text)
    points = [evaluate_expression(letter)[0] for letter in "xy"]
    values, slopes = evaluate_expression(text, "x")
    assert values.shape == slopes.shape == (8,)
    for result, expected in ((values, tree), (slopes, sympy.diff(tree, x))):
        for i, got in enumerate(result):
            exact = complex(expected.subs({x: points[0][i].real, y: points[1][i].real}).evalf())
            assert abs(got - exact) < 1e-9 * (1 + abs(exact))


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "(",
        "x)",
        "x y",
        "xy",
        "2x",
        "x^2",
        "x**",
        "*x",
        "sqrt(x)",
        "tan(x)",
        "sin x",
        "sin",
        "sin()",
        "1.5",
        "x + ",
        "__import__('os')",
        "²",
        "x = y",
        "(" * 5000 + "x" + ")" * 5000,
        "-" * 5000 + "x",
    ],
)
def test_what_is_no_formula_is_wrong_not_an_error(text: str) -> None:
    with pytest.raises(NotAnExpressionError):
        evaluate_expression(text)
    assert not equivalent(text, "x")
    assert not is_antiderivative(text, "x", "x")


def test_nested_formulas_are_read() -> None:
    assert equivalent("(" * 50 + "x" + ")" * 50, "x")
    assert equivalent("+".join(["x"] * 2000), "2000*x")


def test_tokens_are_the_symbols() -> None:
    assert expression_tokens(" 12*sin(x)**2 ") == ["12", "*", "sin", "(", "x", ")", "**", "2"]
    with pytest.raises(NotAnExpressionError, match=r"at '\^2'"):
        expression_tokens("x^2")


@pytest.mark.parametrize(
    ("prediction", "reference", "equal"),
    [
        ("sin(x)**2 + cos(x)**2", "1", True),
        ("log(x*y)", "log(x) + log(y)", True),  # letters are positive
        ("log(-x)", "log(-1*x)", True),
        ("log(0 - x)", "log(-x)", True),
        ("exp(x)*exp(y)", "exp(y + x)", True),
        ("x", "y", False),
        ("x + 1/1000000", "x", False),
        ("1/(x - x)", "1/(x - x)", False),  # a reference without values
        ("1/(x - x)", "x", False),
    ],
)
def test_formulas_are_equal_by_value(prediction: str, reference: str, equal: bool) -> None:
    assert equivalent(prediction, reference) is equal


def test_a_bad_reference_is_the_data_s_fault() -> None:
    with pytest.raises(NotAnExpressionError):
        equivalent("x", "x^2")
    with pytest.raises(NotAnExpressionError):
        is_antiderivative("x", "x^2", "x")


def test_an_integral_is_right_up_to_what_the_variable_does_not_move() -> None:
    assert is_antiderivative("x**2 + 7", "2*x", "x")
    assert is_antiderivative("x**2 + sin(y)", "2*x", "x")
    assert not is_antiderivative("x**2 + y", "2*x", "y")
    assert not is_antiderivative("2*x", "2*x", "x")


def test_problems_are_taken_apart() -> None:
    assert parse_problem("performing differentiation for x*y where the variable is y") == (
        MathProblem("differentiation", "x*y", "y")
    )
    assert parse_problem("x + 2  where the variable is x") == MathProblem(None, "x + 2", "x")
    assert parse_problem("the result is x") == MathProblem(None, "x", None)
    assert parse_problem("x") == MathProblem(None, "x", None)


def test_a_split_is_scored_by_the_kind_of_each_line() -> None:
    sources = [
        "performing integration for 2*x where the variable is x",
        "performing differentiation for x**2 where the variable is x",
        "performing differentiation for x**2 where the variable is x",
        "performing integration for 2*x where the variable is x",
    ]
    references = [f"the result is {text}" for text in ("x**2", "2*x", "2*x", "x**2")]
    predictions = [
        "the result is x*x + 3",
        "the result is x + x",
        "the result is 2*x + 3",
        "result",
    ]
    scores = symbolic_equivalence(predictions, references, sources)
    assert scores == {"symbolic_equivalence": 0.5, "parse_rate": 0.75}
    clause = " where the variable is "
    scores = symbolic_equivalence(
        [f"2*x{clause}x", f"x + x{clause}y", "x + x"], [f"x + x{clause}x"] * 3
    )
    assert scores["symbolic_equivalence"] == pytest.approx(1 / 3)
    with pytest.raises(ValueError, match="got 1, 2 and 2"):
        symbolic_equivalence(["x"], ["x", "x"])
    with pytest.raises(ValueError, match="at least one"):
        symbolic_equivalence([], [])


def test_points_are_seeded_positive_and_one_letter_each() -> None:
    points = np.stack([evaluate_expression(letter)[0] for letter in "abcxyzABC"])
    assert (points.imag == 0).all()
    assert points.real.min() > 0
    assert len(np.unique(points)) == points.size
    assert math.isclose(points[0, 0].real, evaluate_expression("a")[0][0].real)
