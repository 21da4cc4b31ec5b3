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
"""The result records of the benchmarks: write them, read them, render tables from them."""

import json
from pathlib import Path
from typing import Any

from hf_vq.evaluation import describe_environment

RESULTS = Path(__file__).parent / "results"
REPORTS = Path(__file__).parent.parent / "docs" / "results"
README = Path(__file__).parent.parent / "README.md"


def write_result(name: str, content: dict[str, Any], command: str) -> Path:
    """Write `results/<name>.json`: the content and what it was made with."""
    path = RESULTS / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    record = {"benchmark": name, "command": command, **describe_environment(), **content}
    path.write_text(json.dumps(record, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    return path


def read_results(folder: str) -> dict[str, dict[str, Any]]:
    """All records of `results/<folder>/`, by file name without its ending."""
    paths = sorted((RESULTS / folder).glob("*.json"))
    return {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in paths}


def markdown_table(header: list[str], rows: list[list[str]]) -> str:
    """A table; the first column is left aligned, the others right."""
    lines = [header, ["---"] + ["---:"] * (len(header) - 1), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def mean_and_spread(values: list[float], digits: int) -> str:
    """`mean ± standard deviation` of several seeds, or the value of one."""
    mean = sum(values) / len(values)
    if len(values) == 1:
        return f"{mean:.{digits}f}"
    deviation = (sum((v - mean) ** 2 for v in values) / (len(values) - 1)) ** 0.5
    return f"{mean:.{digits}f} ± {deviation:.{digits}f}"


def write_readme_block(name: str, text: str) -> None:
    """Put the text between the markers `name` of the README."""
    begin, end = f"<!-- {name}:begin -->\n", f"<!-- {name}:end -->"
    readme = README.read_text(encoding="utf-8")
    before, rest = readme.split(begin)
    README.write_text(before + begin + text + "\n" + end + rest.split(end)[1], encoding="utf-8")
