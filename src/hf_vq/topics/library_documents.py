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
"""Real documents that every machine with this package has: the documentation strings of the libraries under it."""

import ast
import hashlib
import importlib.util
import inspect
import logging
import re
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

from .documents import Documents

logger = logging.getLogger(__name__)

__all__ = ["LIBRARIES", "library_documents"]

# Installed with hf_vq and what its extras need, and each about something of its own.
LIBRARIES = (
    "PIL",
    "aiohttp",
    "datasets",
    "fsspec",
    "huggingface_hub",
    "jinja2",
    "networkx",
    "numpy",
    "pandas",
    "pyarrow",
    "scipy",
    "sklearn",
    "sympy",
    "torch",
    "transformers",
)
_SKIPPED = {"test", "tests", "testing", "_vendor", "externals", "conftest.py"}
# Larger files are tables or generated code, as a rule, and slow to parse.
_MAX_BYTES = 150_000
# What stands in one file is much alike.
_MAX_PER_FILE = 15
_FENCE = re.compile(r"```.*?(?:```|\Z)", re.DOTALL)
_CODE_LINE = re.compile(r"^[ \t]*(?:>>>|\.\.\.|\.\. ).*$|https?://\S+", re.MULTILINE)
_ROLE = re.compile(r":[a-z:]+:`~?([^`]*)`")


def library_documents(
    libraries: Sequence[str] = LIBRARIES, max_per_library: int = 300, min_words: int = 20
) -> Documents:
    """Return documentation strings of installed libraries, labelled by library.

    Nothing is imported: the source files are parsed. Which files come first is decided by a hash of
    their names, so the documents are spread over a library and the same on every machine with the
    same versions. Code and repeated texts are left out.

    Args:
        libraries: Names under which libraries are imported; those that are not installed are left
            out.
        max_per_library: Most documents of a library.
        min_words: Fewest words of a document.

    Raises:
        ValueError: If no document is found.
    """
    documents = Documents([], [])
    seen: set[str] = set()
    for library in sorted(libraries):
        count = 0
        for text in _docstrings(library):
            words = text.split()
            # Copies differ in a name or two, as a rule behind the beginning.
            key = " ".join(words[3:15]).lower()
            if len(words) < min_words or key in seen:
                continue
            seen.add(key)
            documents.texts.append(text)
            documents.labels.append(library)  # type: ignore[union-attr]
            count += 1
            if count == max_per_library:
                break
        if not count:
            logger.info("found no documentation of %s", library)
    if not documents.texts:
        raise ValueError(
            f"none of {list(libraries)} has documentation strings of {min_words} words"
        )
    return documents


def _docstrings(library: str) -> Iterator[str]:
    """Yield the documentation strings of a library as plain text."""
    spec = importlib.util.find_spec(library)
    for folder in (spec and spec.submodule_search_locations) or ():
        root = Path(folder)
        names = [path.relative_to(root).as_posix() for path in root.rglob("*.py")]
        for name in sorted(names, key=lambda name: hashlib.sha256(name.encode()).hexdigest()):
            path = root / name
            if not _SKIPPED & set(name.split("/")) and path.stat().st_size <= _MAX_BYTES:
                yield from _docstrings_of(path)


def _docstrings_of(path: Path) -> Iterator[str]:
    try:
        with warnings.catch_warnings():  # of escapes in other people's strings
            warnings.simplefilter("ignore")
            tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError):  # templates are no Python
        return
    found = 0
    # Statements of modules and classes; looking through every expression takes as long as parsing.
    nodes: list[ast.AST] = [tree]
    while nodes and found < _MAX_PER_FILE:
        node = nodes.pop(0)
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            if getattr(node, "name", "").startswith("_"):
                continue
            if (text := ast.get_docstring(node, clean=False)) is not None:
                found += 1
                yield _plain(inspect.cleandoc(text))
            if isinstance(node, (ast.Module, ast.ClassDef)):
                nodes.extend(node.body)


def _plain(text: str) -> str:
    """Leave code, addresses and markup out of a documentation string."""
    text = _CODE_LINE.sub("", _FENCE.sub("", text))
    text = _ROLE.sub(r"\1", text)
    return re.sub(r"\n{3,}", "\n\n", text).strip()
