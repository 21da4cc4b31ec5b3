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
"""What a release says of itself in several places is the same in all of them."""

import re
import tarfile
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from subprocess import run
from sys import executable

import pytest
import yaml

import hf_vq

ROOT = Path(__file__).resolve().parents[1]


def test_the_version_is_one() -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+(\.dev\d+)?", hf_vq.__version__)
    assert version("hf_vq") == hf_vq.__version__
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == hf_vq.__version__
    headings = re.findall(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert headings[0] == hf_vq.__version__, "the newest entry of the changelog is this version"
    assert len(set(headings)) == len(headings)


def test_the_citation_is_what_the_format_asks_for() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert {"cff-version", "message", "title", "authors", "license"} <= set(citation)
    papers = {reference["notes"].partition(";")[0] for reference in citation["references"]}
    assert papers == {"arXiv:2410.10180", "arXiv:2402.00723", "arXiv:2312.11532"}
    for reference in citation["references"]:
        assert {"type", "title", "authors", "year"} <= set(reference)


def test_the_source_distribution_is_complete(tmp_path: Path) -> None:
    if find_spec("hatchling") is None:
        pytest.skip("hatchling builds the source distribution: pip install -e '.[dev]'")
    command = [executable, "-m", "hatchling", "build", "-t", "sdist", "-d", str(tmp_path)]
    result = run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    with tarfile.open(next(tmp_path.glob("*.tar.gz"))) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    files = "README.md CHANGELOG.md CITATION.cff CONTRIBUTING.md LICENSE Makefile mkdocs.yml pyproject.toml".split()
    assert set(files) <= names
    for folder in ("src/hf_vq", "scripts", "examples", "spaces", "docs", "tests"):
        missing = {
            path.relative_to(ROOT).as_posix()
            for path in (ROOT / folder).rglob("*.py")
            if "__pycache__" not in path.parts
        } - names
        assert not missing, missing
    assert not [name for name in names if name.endswith((".safetensors", ".pt", ".pkl"))]
