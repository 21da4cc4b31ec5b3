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
"""Serve the demos of spaces/ for their tests: `serve_spaces.py name=checkpoint ...` prints `name address` for each."""

import importlib.util
import sys
import time
from pathlib import Path
from types import ModuleType

SPACES = Path(__file__).resolve().parents[1] / "spaces"


def load(name: str) -> ModuleType:
    """Return the module of a demo."""
    spec = importlib.util.spec_from_file_location(f"space_{name}", SPACES / name / "app.py")
    if spec is None or spec.loader is None:
        raise SystemExit(f"there is no demo {name}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[module.__name__] = module
    spec.loader.exec_module(module)
    return module


def main() -> None:
    """Serve until the caller ends the process."""
    for argument in sys.argv[1:]:
        name, _, checkpoint = argument.partition("=")
        page = load(name).build(checkpoint)
        _, address, _ = page.launch(
            server_name="127.0.0.1", prevent_thread_lock=True, quiet=True, share=False
        )
        sys.stdout.write(f"{name} {address}\n")
        sys.stdout.flush()
    time.sleep(1800)


if __name__ == "__main__":
    main()
