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
"""Arrays in a folder that grow by rows, survive a kill, and are read without loading them."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from huggingface_hub.utils import WeakFileLock

__all__ = ["GrowingArrays", "open_arrays", "read_facts", "sole_writer"]


class GrowingArrays:
    """Flat arrays, each in a file of its own, while they are written.

    `state.json` says after each `append` how long every file is and how many documents they stand
    for; what a killed process wrote behind that is cut off by the next one.

    Args:
        folder: Where the files are; what is unfinished in there is continued, what is damaged begun anew.
        dtypes: Name and type of each array.
        facts: What the arrays were made from and how, to tell whether a folder holds the same.

    Raises:
        ValueError: If the folder holds arrays that were made from something else.
    """

    def __init__(
        self, folder: str | Path, dtypes: Mapping[str, str], facts: dict[str, Any]
    ) -> None:
        self.folder, self.dtypes, self.facts = Path(folder), dict(dtypes), facts
        state = _read_state(self.folder)
        if state and state["facts"] != facts:
            raise ValueError(
                f"{str(folder)!r} holds arrays made from {state['facts']}, expected {facts}"
            )
        self.complete = state.get("complete", False)
        self.num_documents = state.get("num_documents", 0)
        self.folder.mkdir(parents=True, exist_ok=True)
        sizes = state.get("sizes", {})
        self._files = {name: _path(self.folder, name).open("ab") for name in self.dtypes}
        for name, file in self._files.items():
            file.truncate(sizes.get(name, 0))

    def __enter__(self) -> "GrowingArrays":
        return self

    def __exit__(self, *error: object) -> None:
        for file in self._files.values():
            file.close()

    def append(self, arrays: Mapping[str, np.ndarray], num_documents: int) -> None:
        """Write more rows of every array, which stand for so many documents."""
        for name, file in self._files.items():
            file.write(np.ascontiguousarray(arrays[name], self.dtypes[name]).tobytes())
        self.num_documents += num_documents
        self._write_state()

    def finish(self) -> None:
        """Say that nothing more will come."""
        self.complete = True
        self._write_state()

    def _write_state(self) -> None:
        for file in self._files.values():
            file.flush()
        state = {
            "facts": self.facts,
            "num_documents": self.num_documents,
            "sizes": {name: file.tell() for name, file in self._files.items()},
            "complete": self.complete,
        }
        part = self.folder / "state.json.part"
        part.write_text(json.dumps(state), encoding="utf-8")
        part.replace(self.folder / "state.json")


@contextmanager
def sole_writer(folder: Path) -> Iterator[None]:
    """One process writes a folder, others that want the same wait for it: look inside whether there is work left."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with WeakFileLock(folder.with_suffix(".lock")):
        yield


def read_facts(folder: str | Path) -> dict[str, Any] | None:
    """Return the facts of the finished arrays in a folder, `None` if there are none."""
    state = _read_state(Path(folder))
    return state["facts"] if state.get("complete") else None


def open_arrays(folder: str | Path, dtypes: Mapping[str, str]) -> dict[str, np.ndarray]:
    """Return the finished arrays of a folder, flat and mapped from disk."""
    return {
        name: np.memmap(path, dtype, mode="r")
        # a file of no bytes cannot be mapped
        if (path := _path(Path(folder), name)).stat().st_size
        else np.empty(0, dtype)
        for name, dtype in dtypes.items()
    }


def _path(folder: Path, name: str) -> Path:
    return folder / f"{name}.bin"


def _read_state(folder: Path) -> dict[str, Any]:
    """Return what is known of a folder: nothing if a file of it is missing or shorter than it was left."""
    path = folder / "state.json"
    try:
        state = json.loads(path.read_text(encoding="utf-8"))
        found = {name: _path(folder, name).stat().st_size for name in state["sizes"]}
    except (FileNotFoundError, json.JSONDecodeError):
        return {}
    return state if all(found[name] >= size for name, size in state["sizes"].items()) else {}
