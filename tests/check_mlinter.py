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
"""Run the linter of transformers models over models/, with a justified allow-list.

`python tests/check_mlinter.py` is a part of `make check`.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

MODELS = Path(__file__).resolve().parents[1] / "src" / "hf_vq" / "models"

# Rules that hold inside the transformers repository and not for a package beside it.
ALLOWED = {
    "TRF009": "siblings share vector_quantization.py: one file of maths, not one copy per model",
    "TRF033": "TopicVQ's setters write buffers that come from data and begin a stage of training",
    "TRF041": "an ablation is a value of our configuration, and no checkpoint need exist for it",
    "TRF057": "@auto_docstring words a model outside transformers as 'None': we write docstrings",
}


def main() -> int:
    """Return the number of findings that no entry of the allow-list covers."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "findings.json"
        command = ["mlinter", str(MODELS), "--no-progress", "--output-json", str(report)]
        result = subprocess.run(
            [sys.executable, "-m", *command], capture_output=True, text=True, check=False
        )
        if not report.exists():
            raise RuntimeError(f"mlinter wrote no report:\n{result.stdout}{result.stderr}")
        findings = json.loads(report.read_text())["findings"]
    strangers = [finding for finding in findings if finding["rule"] not in ALLOWED]
    for finding in strangers:
        print(f"{finding['path']}:{finding['line']}: {finding['message']}")
    print(f"mlinter: {len(strangers)} findings, {len(findings) - len(strangers)} allowed")
    return len(strangers)


if __name__ == "__main__":
    sys.exit(min(main(), 1))
