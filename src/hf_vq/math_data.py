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
"""Mathematics made with sympy: formulas to repeat, and problems to differentiate or integrate.

Every split is disjoint from every other by the tree of its formulas, without the clause that names
the variable. Four more test splits leave the training distribution in one respect each:

- `test_symbols`: the variable is a letter that is never the variable in training
- `test_length`: formulas of more symbols than any in training
- `test_template`: formulas whose skeleton, without letters and numbers, does not occur in training
- `test_composition`: sin(log(...)), which training never shows

Each line is read back by sympy and must give the tree that it was written from; each derivative and
integral is checked with numbers at random points. Lines that fail are not in the data.
"""

import hashlib
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import sympy
from sympy.parsing.sympy_parser import auto_number, parse_expr

from ._extras import require
from .symbolic_equivalence import (
    OPERATIONS,
    RESULT_CLAUSE,
    VARIABLE_CLAUSE,
    NotAnExpressionError,
    equivalent,
    expression_tokens,
    is_antiderivative,
)

require("datasets", extra="train")

import datasets  # noqa: E402

__all__ = ["SHIFTED_SPLITS", "generate_expressions", "generate_inference", "template_of"]

SHIFTED_SPLITS = ("test_symbols", "test_length", "test_template", "test_composition")
# Any letter may occur in any formula; these are the ones that the variable is.
VARIABLES, UNSEEN_VARIABLES = "tuvwxyz", "abcdkmp"
UNSEEN_PAIR = (sympy.sin, sympy.log)
MAX_DEPTH, MAX_LENGTH = 3, 24
LONG_DEPTH, LONG_LENGTH = 5, 48
# A derivative is longer than what it is the derivative of.
RESULT_RATIO = 2
LARGEST_NUMBER = 99

_SYMBOLS = {letter: sympy.Symbol(letter) for letter in VARIABLES + UNSEEN_VARIABLES}
_FUNCTIONS = (sympy.log, sympy.exp, sympy.sin, sympy.cos)
_NAMES = {"Integer": sympy.Integer, **{f.__name__: f for f in _FUNCTIONS}, "__builtins__": {}}


@dataclass
class _Line:
    operation: str
    source: sympy.Expr
    target: sympy.Expr
    variable: str


def generate_expressions(
    num_train: int = 32_000,
    num_validation: int = 2_000,
    num_test: int = 4_000,
    num_shifted: int = 2_000,
    *,
    seed: int = 0,
    text_format: Literal["infix", "latex"] = "infix",
) -> datasets.DatasetDict:
    """Generate formulas to repeat: "x*sin(y) + 2 where the variable is x".

    The test splits do not depend on the number of training rows.

    Args:
        num_train: Rows of the split `train`; a split of no rows is left out.
        num_validation: Rows of the split `validation`.
        num_test: Rows of the split `test`.
        num_shifted: Rows of each of `SHIFTED_SPLITS`.
        seed: The same seed gives the same rows.
        text_format: `"infix"` as `sympy.sstr` writes it, or `"latex"`, for which T5's tokenizer
            needs `add_missing_characters` and `symbolic_equivalence` has no parser.

    Returns:
        Splits with the columns `source` and `target`, which are equal, `operation`, which is
        `"expression"`, `template`, and `key`, the tree of the formula.
    """
    sizes = (num_train, num_validation, num_test, num_shifted)
    return _Generator(_formula, seed, text_format).generate(*sizes)


def generate_inference(
    num_train: int = 32_000,
    num_validation: int = 2_000,
    num_test: int = 4_000,
    num_shifted: int = 2_000,
    *,
    seed: int = 0,
    text_format: Literal["infix", "latex"] = "infix",
) -> datasets.DatasetDict:
    """Generate problems: "performing integration for 2*x where the variable is x".

    The target is "the result is x**2". About half of each split is integration, made by
    differentiating the answer, which has no constant of integration. No formula occurs twice, be it
    in a problem or in an answer, so no test problem is a training problem backwards. That needs one
    call for all splits: with other numbers of rows, `test` and `test_template` hold other problems,
    never ones of training, but perhaps its answers.

    Args:
        num_train: As in `generate_expressions`.
        num_validation: As in `generate_expressions`.
        num_test: As in `generate_expressions`.
        num_shifted: As in `generate_expressions`.
        seed: As in `generate_expressions`.
        text_format: As in `generate_expressions`.

    Returns:
        Splits with the columns `source`, `target`, `operation` (`"differentiation"` or
        `"integration"`), `template` and `key`, of the formula in the source.
    """
    sizes = (num_train, num_validation, num_test, num_shifted)
    return _Generator(_problem, seed, text_format).generate(*sizes)


def template_of(expression: str) -> str:
    """Erase letters and integers: what is left is the skeleton of a formula.

    Example:
        >>> template_of("2*sin(x)**12")
        '1*sin(a)**1'
    """
    return "".join(
        "1" if token.isdecimal() else "a" if len(token) == 1 and token.isalpha() else token
        for token in expression_tokens(expression)
    )


def _tree(rng: random.Random, variable: str, depth: int) -> sympy.Expr:
    """Draw a formula over Add, Mul, Pow, log, exp, sin and cos; half of its leaves are X."""
    if depth == 0 or rng.random() < 0.2:
        kind = rng.random()
        if kind < 0.5:
            return _SYMBOLS[variable]
        return _SYMBOLS[rng.choice(list(_SYMBOLS))] if kind < 0.75 else sympy.Integer(_digit(rng))
    operation: Any = rng.choice(("add", "multiply", "power", *_FUNCTIONS))
    left = _tree(rng, variable, depth - 1)
    if operation == "add":
        return left + _tree(rng, variable, depth - 1)
    if operation == "multiply":
        return left * _tree(rng, variable, depth - 1)
    if not left.free_symbols:  # sin(8) is a number, which nobody can differentiate
        left = _SYMBOLS[variable]
    return left ** _digit(rng) if operation == "power" else operation(left)


def _digit(rng: random.Random) -> int:
    return rng.randint(2, 9)


def _with_unseen_pair(rng: random.Random, variable: str) -> sympy.Expr:
    outer, inner = UNSEEN_PAIR
    argument = _tree(rng, variable, 1)
    pair = outer(inner(argument if argument.free_symbols else _SYMBOLS[variable]))
    other = _tree(rng, variable, 1)
    wraps = (lambda: pair, lambda: pair + other, lambda: pair * other, lambda: pair ** _digit(rng))
    return rng.choice(wraps)()


def _formula(tree: sympy.Expr, variable: str, operation: str) -> _Line | None:
    return _Line("expression", tree, tree, variable)


def _problem(tree: sympy.Expr, variable: str, operation: str) -> _Line | None:
    symbol = _SYMBOLS[variable]
    if operation == "integration":  # no model can know the constant
        tree -= tree.as_independent(symbol, as_Add=True)[0]
    derivative = sympy.diff(tree, symbol)
    if not derivative.has(symbol):
        return None
    answer_first = operation == "integration"
    return _Line(operation, *((derivative, tree) if answer_first else (tree, derivative)), variable)


def _is_plain(tree: sympy.Expr) -> bool:
    """Whether a formula has small rational numbers and our functions only, no `I`, `pi` or `E`."""
    for node in sympy.preorder_traversal(tree):
        if node.is_Rational:
            if max(abs(node.p), node.q) > LARGEST_NUMBER:
                return False
        elif not (node.is_Symbol or node.is_Add or node.is_Mul or node.is_Pow):
            if not isinstance(node, _FUNCTIONS):
                return False
    return True


def _has_unseen_pair(tree: sympy.Expr) -> bool:
    outer, inner = UNSEEN_PAIR
    return any(isinstance(node.args[0], inner) for node in tree.atoms(outer))


class _Generator:
    """Draws lines and gives each to the split that its tree belongs to."""

    def __init__(self, make: Callable[..., _Line | None], seed: int, text_format: str):
        if text_format not in ("infix", "latex"):
            raise ValueError(f"text_format must be 'infix' or 'latex', got {text_format!r}")
        self.make, self.seed, self.text_format = make, seed, text_format
        self.seen: set[str] = set()

    def generate(
        self, num_train: int, num_validation: int, num_test: int, num_shifted: int
    ) -> datasets.DatasetDict:
        sizes = {"train": num_train, "validation": num_validation, "test": num_test}
        sizes |= dict.fromkeys(SHIFTED_SPLITS, num_shifted)
        if min(sizes.values()) < 0 or max(sizes.values()) == 0:
            raise ValueError(f"numbers of rows must be at least 0, and one above, got {sizes}")
        # First what training must not touch: then its size changes no other split.
        groups = [["test_symbols"], ["test_length"], ["test_composition"]]
        groups.append(["test_template", "test", "validation", "train"])
        splits: dict[str, list[dict[str, str]]] = {}
        for group in groups:
            splits |= self._fill({name: sizes[name] for name in group})
        _check_disjoint(splits)
        return datasets.DatasetDict(
            {name: datasets.Dataset.from_list(splits[name]) for name in sizes if splits[name]}
        )

    def _fill(self, sizes: dict[str, int]) -> dict[str, list[dict[str, str]]]:
        """Draw until each split of a group has its rows."""
        group = next(iter(sizes))
        rng = random.Random(f"{self.seed} {group}")
        rows: dict[str, list[dict[str, str]]] = {name: [] for name in sizes}
        missing = sum(sizes.values())
        num_left = 1_000 + 300 * missing
        while missing:
            num_left -= 1
            if num_left < 0:
                raise ValueError(
                    f"the formulas for {list(sizes)} are used up; ask for fewer rows than {sizes}"
                )
            operation = OPERATIONS[sum(map(len, rows.values())) % len(OPERATIONS)]
            row = self._draw(rng, group, operation)
            if row is None:
                continue
            name = group if len(sizes) == 1 else self._split_of(row)
            keys = (row["key"], row.pop("target_key"))
            if len(rows[name]) < sizes[name] and self.seen.isdisjoint(keys):
                self.seen.update(keys)
                rows[name].append(row)
                missing -= 1
        return rows

    def _draw(self, rng: random.Random, group: str, operation: str) -> dict[str, str] | None:
        """Draw a line of a group, or nothing if the formula is not fit for it."""
        is_long, is_composed = group == "test_length", group == "test_composition"
        variable = rng.choice(UNSEEN_VARIABLES if group == "test_symbols" else VARIABLES)
        depth = LONG_DEPTH if is_long else MAX_DEPTH
        tree = _with_unseen_pair(rng, variable) if is_composed else _tree(rng, variable, depth)
        if tree.is_Atom or not tree.has(_SYMBOLS[variable]):
            return None
        # Before the derivative, which takes the most time.
        if not _is_plain(tree) or sympy.srepr(tree) in self.seen:
            return None
        line = self.make(tree, variable, operation)
        if line is None or not (_is_plain(line.source) and _is_plain(line.target)):
            return None
        if is_composed != (_has_unseen_pair(line.source) or _has_unseen_pair(line.target)):
            return None
        return self._write(line, (MAX_LENGTH, LONG_LENGTH) if is_long else (1, MAX_LENGTH))

    def _write(self, line: _Line, lengths: tuple[int, int]) -> dict[str, str] | None:
        source, target = sympy.sstr(line.source), sympy.sstr(line.target)
        try:
            length, target_length = len(expression_tokens(source)), len(expression_tokens(target))
        except NotAnExpressionError:  # such as sqrt, which sympy writes for a power of 1/2
            return None
        shortest, longest = lengths
        fits = shortest < length <= longest and target_length <= RESULT_RATIO * longest
        if not (fits and _is_verified(line, source, target)):
            return None
        template = template_of(source)
        keys = {"key": sympy.srepr(line.source), "target_key": sympy.srepr(line.target)}
        if self.text_format == "latex":
            source, target = sympy.latex(line.source), sympy.latex(line.target)
        clause = f"{VARIABLE_CLAUSE}{line.variable}"
        if line.operation == "expression":
            texts = {"source": f"{source}{clause}", "target": f"{source}{clause}"}
        else:
            problem = f"performing {line.operation} for {source}{clause}"
            texts = {"source": problem, "target": f"{RESULT_CLAUSE}{target}"}
        return {**texts, "operation": line.operation, "template": template, **keys}

    def _split_of(self, row: dict[str, str]) -> str:
        """Decide by a hash, so that a formula is in the same split however many are asked for."""
        if self._share(row["template"]) < 0.05:
            return "test_template"
        share = self._share(row["key"])
        return "test" if share < 0.1 else "validation" if share < 0.15 else "train"

    def _share(self, text: str) -> float:
        digest = hashlib.blake2b(f"{self.seed} {text}".encode(), digest_size=8).digest()
        return int.from_bytes(digest, "big") / 2**64


def _is_verified(line: _Line, source: str, target: str) -> bool:
    for tree, text in ((line.source, source), (line.target, target)):
        letters, names = dict(_SYMBOLS), dict(_NAMES)
        if parse_expr(text, letters, (auto_number,), names) != tree:
            return False
    if line.operation == "differentiation":
        return is_antiderivative(source, target, line.variable)
    if line.operation == "integration":
        return is_antiderivative(target, source, line.variable)
    return equivalent(source, source)  # which fails where it has no value


def _check_disjoint(splits: dict[str, list[dict[str, str]]]) -> None:
    owner: dict[str, str] = {}
    for name, rows in splits.items():
        for row in rows:
            if owner.setdefault(row["key"], name) != name:
                raise ValueError(f"{row['source']!r} is in {owner[row['key']]!r} and in {name!r}")
