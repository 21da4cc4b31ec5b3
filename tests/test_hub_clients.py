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
"""The official clients against a Hub on this machine, in a process whose HF_ENDPOINT names it.

The clients read the address of the Hub when they are imported, so that the tests in `hub_server/suites/` run in a
pytest process of their own: one, since most of the time goes into imports. To run them alone:
`python -m pytest tests/hub_server/suites`.
"""

import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

SUITES = Path(__file__).resolve().parent / "hub_server" / "suites"
FILES = sorted(path.stem for path in SUITES.glob("test_*.py"))


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    """Passed tests by file, and what the others said."""
    report = tmp_path_factory.mktemp("clients") / "report.xml"
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            SUITES,
            "-q",
            "-p",
            "no:cacheprovider",
            f"--junitxml={report}",
        ],
        capture_output=True,
        text=True,
        cwd=SUITES.parents[2],
        stdin=subprocess.DEVNULL,
        timeout=900,
    )
    assert report.is_file(), done.stdout + done.stderr
    cases = {name: [] for name in FILES}
    for case in ElementTree.parse(report).iter("testcase"):
        problems = [found.get("message") or found.tag for found in case]
        cases[case.get("classname").rpartition(".")[2]].append((case.get("name"), problems))
    return done, cases


@pytest.mark.parametrize("name", FILES)
def test_clients(outcomes, name):
    done, cases = outcomes
    failed = {test: problems for test, problems in cases[name] if problems}
    assert not failed, f"{failed}\n{done.stdout[-20000:]}"
    assert cases[name], f"no test of {name} ran:\n{done.stdout[-5000:]}"
    assert done.returncode == 0 or any(
        problems for rows in cases.values() for _, problems in rows
    ), done.stdout[-5000:]
