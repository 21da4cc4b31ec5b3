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
"""A module and the siblings that it imports, as one file.

transformers downloads all siblings of a model's code, diffusers only the one file that `model_index.json` names. So the
models in a published pipeline of diffusers bring their code in one file each.
"""

import ast
from pathlib import Path


def single_file(module: str | Path) -> str:
    """The source of a module in which every `from .sibling import name` is replaced by the sibling itself.

    Siblings come first and once, in the order in which they are imported; what they import is treated alike.

    Args:
        module: File of the module.

    Raises:
        ValueError: If two of the files define the same name, or a sibling is imported in another form.
    """
    parts: dict[Path, str] = {}
    _collect(Path(module).resolve(), parts)
    owners: dict[str, Path] = {}
    for path, source in parts.items():
        for name in _definitions(source):
            if owners.setdefault(name, path) != path:
                raise ValueError(f"{owners[name].name} and {path.name} both define {name}")
    titles = (f"# {'-' * 20} {path.name} {'-' * 20}\n" for path in parts)
    return "\n\n".join(title + source for title, source in zip(titles, parts.values(), strict=True))


def _collect(path: Path, parts: dict[Path, str]) -> None:
    """Adds the source of a file without its relative imports, after those of the siblings that it names."""
    source = path.read_text(encoding="utf-8")
    lines = source.splitlines(keepends=True)
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.ImportFrom) or not node.level:
            continue
        whole = node.level == 1 and node.module and node.col_offset == 0
        if not whole or any(alias.asname or alias.name == "*" for alias in node.names):
            raise ValueError(
                f"{path.name}, line {node.lineno}: expected `from .sibling import name` on top"
            )
        sibling = path.with_name(f"{node.module}.py")
        if sibling not in parts:
            _collect(sibling, parts)
        for number in range(node.lineno - 1, node.end_lineno or node.lineno):
            lines[number] = ""
    parts[path] = "".join(lines)


def _definitions(source: str) -> set[str]:
    names = set()
    for node in ast.parse(source).body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            names.add(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names |= {target.id for target in targets if isinstance(target, ast.Name)}
    # Each module may list what it exports; nobody imports all of this one.
    return names - {"__all__", "logger"}


__all__ = ["single_file"]
