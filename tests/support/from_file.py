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
"""Modules that lie in no package: scripts, examples, demos, workers of tests."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parents[2]


def load_module(path: Path, name: str | None = None) -> ModuleType:
    """Return the module of a file, under the given name or the file's own."""
    spec = importlib.util.spec_from_file_location(name or path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # Dataclasses look their module up to resolve annotations.
    sys.modules[module.__name__] = module
    spec.loader.exec_module(module)
    return module


def load_script(name: str) -> ModuleType:
    """Return the module of `scripts/<name>.py`; its own name may be that of a library, such as evaluate."""
    return load_module(ROOT / "scripts" / f"{name}.py", f"script_{name}")
