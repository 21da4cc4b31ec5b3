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
"""Whether two formulas are equal: own parser, numbers at random points, never `eval`.

What a model writes is read by a recursive-descent parser for a few operations and nothing else, and
evaluated with numpy at seeded points. A formula that cannot be parsed is wrong, not an error.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

__all__ = [
    "MathProblem",
    "NotAnExpressionError",
    "equivalent",
    "evaluate_expression",
    "expression_tokens",
    "is_antiderivative",
    "parse_problem",
    "symbolic_equivalence",
]

FUNCTIONS = ("log", "exp", "sin", "cos")
OPERATIONS = ("differentiation", "integration")
VARIABLE_CLAUSE = " where the variable is "
RESULT_CLAUSE = "the result is "

NUM_POINTS = 8
MIN_FINITE_POINTS = 4
TOLERANCE = 1e-8
# Enough for any formula of the data, and far from Python's limit of recursion.
_MAX_DEPTH = 60
_TOKEN = re.compile(rf"\s*({'|'.join(FUNCTIONS)}|[A-Za-z](?![A-Za-z])|\d+|\*\*|[-+*/()])")

# Away from 0, where logarithms and powers are singular, and small enough for towers of powers.
_LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
_POINTS = np.random.default_rng(0).uniform(0.3, 1.5, (len(_LETTERS), NUM_POINTS)) + 0j


class NotAnExpressionError(ValueError):
    """A text is no formula over single letters, integers, `+ - * / **` and log, exp, sin, cos."""


def expression_tokens(text: str) -> list[str]:
    """Take a formula apart into its symbols, whose number is its length.

    Example:
        >>> expression_tokens("2*sin(x)**12")
        ['2', '*', 'sin', '(', 'x', ')', '**', '12']
    """
    tokens, position, text = [], 0, text.rstrip()
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            raise NotAnExpressionError(f"no symbol of a formula at {text[position:][:20]!r}")
        tokens.append(match[1])
        position = match.end()
    return tokens


# A value at all points, and its derivative by the chosen letter there.
_Dual = tuple[np.ndarray, np.ndarray]


class _Evaluator:
    """Parses and evaluates in one pass, with derivatives by dual numbers.

    expression = term, then any of "+ term", "- term"
    term       = factor, then any of "* factor", "/ factor"
    factor     = "-" factor, "+" factor, or atom, or atom "**" factor
    atom       = integer, letter, function "(" expression ")", or "(" expression ")"
    """

    def __init__(self, text: str, variable: str | None):
        self.tokens = expression_tokens(text)
        self.position, self.depth = 0, 0
        self.variable = variable

    def evaluate(self) -> _Dual:
        result = self.expression()
        if self.position < len(self.tokens):
            raise NotAnExpressionError(f"{self.tokens[self.position]!r} where the formula may end")
        return result

    def take(self, *wanted: str) -> str | None:
        """Return the next token and go on, if it is one of those wanted."""
        here = self.tokens[self.position] if self.position < len(self.tokens) else None
        if here is None or here not in wanted:
            return None
        self.position += 1
        return here

    def expression(self) -> _Dual:
        value, slope = self.term()
        while sign := self.take("+", "-"):
            other, other_slope = self.term()
            if sign == "+":
                value, slope = value + other, slope + other_slope
            else:
                value, slope = value - other, slope - other_slope
        return value, slope

    def term(self) -> _Dual:
        value, slope = self.factor()
        while sign := self.take("*", "/"):
            other, other_slope = self.factor()
            if sign == "*":
                value, slope = value * other, slope * other + value * other_slope
            else:
                value, slope = value / other, (slope - value / other * other_slope) / other
        return value, slope

    def factor(self) -> _Dual:
        self.depth += 1
        if self.depth > _MAX_DEPTH:
            raise NotAnExpressionError(f"the formula is nested more than {_MAX_DEPTH} times")
        if sign := self.take("+", "-"):
            value, slope = self.factor()
            result = (value, slope) if sign == "+" else (-value, -slope)
        else:
            result = self.atom()
            if self.take("**"):
                result = _power(result, self.factor())
        self.depth -= 1
        return result

    def atom(self) -> _Dual:
        if self.take("("):
            return self.close()
        if name := self.take(*FUNCTIONS):
            if not self.take("("):
                raise NotAnExpressionError(f"{name!r} without an opening bracket")
            return _apply(name, self.close())
        token = self.tokens[self.position] if self.position < len(self.tokens) else ""
        self.position += 1
        zeros = np.zeros(NUM_POINTS, dtype=complex)
        if token.isdecimal():
            return zeros + float(token), zeros
        if token in _LETTERS and token:
            return _POINTS[_LETTERS.index(token)], zeros + (token == self.variable)
        raise NotAnExpressionError(f"{token!r} where a number, letter or bracket belongs")

    def close(self) -> _Dual:
        result = self.expression()
        if not self.take(")"):
            raise NotAnExpressionError("a bracket is not closed")
        return result


def _above_the_cut(value: np.ndarray) -> np.ndarray:
    # -x has the imaginary part -0, which lies below the cut of the logarithm, and (-1) x above.
    return value + 0j


def _apply(name: str, argument: _Dual) -> _Dual:
    value, slope = argument
    if name == "log":
        return np.log(_above_the_cut(value)), slope / value
    if name == "exp":
        return np.exp(value), slope * np.exp(value)
    if name == "sin":
        return np.sin(value), slope * np.cos(value)
    return np.cos(value), -slope * np.sin(value)


def _power(base: _Dual, exponent: _Dual) -> _Dual:
    (value, slope), (power, power_slope) = base, exponent
    value = _above_the_cut(value)
    result = value**power
    derivative = power * value ** (power - 1) * slope
    if power_slope.any():
        derivative = derivative + result * np.log(value) * power_slope
    return result, derivative


def evaluate_expression(text: str, variable: str | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Evaluate a formula and its derivative at the seeded points.

    Args:
        text: Formula in the form of `sympy.sstr`.
        variable: Letter to differentiate by; without it the derivative is zero.

    Returns:
        Values and derivatives, complex, shape (8,). All letters are positive there.

    Raises:
        NotAnExpressionError: If the text is no such formula.
    """
    with np.errstate(all="ignore"):  # what is not finite is left out by the comparison
        return _Evaluator(text, variable).evaluate()


def _agree(values: np.ndarray, reference: np.ndarray) -> bool:
    finite = np.isfinite(reference)
    if finite.sum() < MIN_FINITE_POINTS:
        return False
    with np.errstate(all="ignore"):
        error = np.abs(values - reference)[finite]
        return bool((error <= TOLERANCE * (1 + np.abs(reference[finite]))).all())


def equivalent(prediction: str, reference: str) -> bool:
    """Whether two formulas have the same value: |f - g| <= 1e-8 (1 + |g|) at all points.

    The points are those of 8 where the reference is finite; with fewer than 4 the answer is no.

    Args:
        prediction: What a model wrote; `False` if it cannot be parsed.
        reference: Formula.

    Raises:
        NotAnExpressionError: If the reference cannot be parsed.

    Example:
        >>> equivalent("2*sin(x)*cos(x)", "sin(2*x)"), equivalent("2*sin(x", "sin(2*x)")
        (True, False)
    """
    expected, _ = evaluate_expression(reference)
    try:
        return _agree(evaluate_expression(prediction)[0], expected)
    except NotAnExpressionError:
        return False


def is_antiderivative(prediction: str, integrand: str, variable: str) -> bool:
    """Whether the derivative of the prediction equals the integrand, compared as in `equivalent`.

    Example:
        >>> is_antiderivative("x**2 + y", "2*x", "x")
        True
    """
    expected, _ = evaluate_expression(integrand)
    try:
        return _agree(evaluate_expression(prediction, variable)[1], expected)
    except NotAnExpressionError:
        return False


@dataclass
class MathProblem:
    """The parts of a line of `hf_vq.math_data`.

    Args:
        operation: `"differentiation"`, `"integration"`, or `None` for a formula to repeat.
        expression: The formula.
        variable: The letter of the clause, or `None` without one.
    """

    operation: str | None
    expression: str
    variable: str | None


def parse_problem(text: str) -> MathProblem:
    """Take the words of a problem, a formula or a result away from what they say.

    Example:
        >>> parse_problem("performing integration for 2*x where the variable is x")
        MathProblem(operation='integration', expression='2*x', variable='x')
        >>> parse_problem("the result is x**2")
        MathProblem(operation=None, expression='x**2', variable=None)
    """
    rest, _, variable = " ".join(text.split()).partition(VARIABLE_CLAUSE)
    operation = None
    for name in OPERATIONS:
        if rest.startswith(f"performing {name} for "):
            operation, rest = name, rest.removeprefix(f"performing {name} for ")
    return MathProblem(operation, rest.removeprefix(RESULT_CLAUSE), variable or None)


def symbolic_equivalence(
    predictions: Sequence[str], references: Sequence[str], sources: Sequence[str] | None = None
) -> dict[str, float]:
    """Share of predicted formulas that equal the reference, and of those that can be parsed.

    An integral is right if its derivative equals the integrand, whatever constant it has; then the
    reference does not matter. A formula with a clause must name the same variable as well.

    Args:
        predictions: What a model wrote: formulas, with or without the words around them.
        references: Targets, in the same form.
        sources: The problems; without them no line is an integral.

    Returns:
        `symbolic_equivalence` and `parse_rate`, in [0, 1].
    """
    sources = references if sources is None else sources
    if not len(predictions) == len(references) == len(sources) or not predictions:
        raise ValueError(
            "there must be as many predictions as references and sources, and at least one, got "
            f"{len(predictions)}, {len(references)} and {len(sources)}"
        )
    num_right = num_parsed = 0
    for prediction, reference, source in zip(predictions, references, sources, strict=True):
        written, target, problem = map(parse_problem, (prediction, reference, source))
        try:
            evaluate_expression(written.expression)
        except NotAnExpressionError:
            continue
        num_parsed += 1
        if problem.operation == "integration" and problem.variable is not None:
            right = is_antiderivative(written.expression, problem.expression, problem.variable)
        else:
            right = equivalent(written.expression, target.expression)
        num_right += right and written.variable == target.variable
    count = len(predictions)
    return {"symbolic_equivalence": num_right / count, "parse_rate": num_parsed / count}
