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
"""The benchmarks at smoke size, and what they have left behind."""

import subprocess
import sys
from pathlib import Path

import pytest

from hf_vq.evaluation import read_record

pytest.importorskip("vector_quantize_pytorch", reason="needs the extra `bench`")
BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
RECORDS = sorted((BENCHMARKS / "results" / "gmvq_cifar10").glob("*.json"))


@pytest.fixture
def benchmark(monkeypatch):
    """The script as a module; scripts find their neighbors through the path."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import gmvq_cifar10

    return gmvq_cifar10


def test_every_method_runs():
    command = [sys.executable, "-W", "error::UserWarning:gmvq_cifar10", "gmvq_cifar10.py", "smoke"]
    result = subprocess.run(command, cwd=BENCHMARKS, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr[-2000:]
    assert result.stdout.count("perplexity") == 13


def test_committed_records_are_whole():
    assert RECORDS
    for path in RECORDS:
        record = read_record(path)
        assert record["commit"], path.name
        assert 0 < record["metrics"]["mse"] < 0.03, path.name
        assert record["metrics"]["num_images"] == 10_000, path.name


def test_the_table_is_rendered_from_the_records(benchmark, tmp_path, monkeypatch):
    committed = (benchmark.REPORTS / "gmvq_cifar10.md").read_text(encoding="utf-8")
    template = (benchmark.REPORTS / "gmvq_cifar10.template.md").read_text(encoding="utf-8")
    (tmp_path / "gmvq_cifar10.template.md").write_text(template, encoding="utf-8")
    monkeypatch.setattr(benchmark, "REPORTS", tmp_path)
    monkeypatch.setattr(benchmark, "_plot", lambda *_: None)
    import results

    readme = results.README.read_text(encoding="utf-8")
    monkeypatch.setattr(results, "README", tmp_path / "README.md")
    results.README.write_text(readme, encoding="utf-8")
    benchmark.report(None)
    assert (tmp_path / "gmvq_cifar10.md").read_text(encoding="utf-8") == committed
    assert results.README.read_text(encoding="utf-8") == readme
