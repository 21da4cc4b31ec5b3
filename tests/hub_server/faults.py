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
"""Faults that a test switches on: what networks and servers do to people."""

import re
import threading
from dataclasses import dataclass, field

KINDS = ("status", "cut_upload", "cut_download", "short", "corrupt", "slow")


@dataclass
class Fault:
    """What happens to requests that match, so many times.

    - `status`: the answer is `status`, with `headers`; nothing is done.
    - `cut_upload`: the connection closes after `after` bytes of the request's body.
    - `cut_download`: the connection closes after `after` bytes of the answer's body.
    - `short`: the answer says that it is whole and is `after` bytes long.
    - `corrupt`: bytes of the answer are wrong, as many as there should be.
    - `slow`: the answer comes `seconds` later.
    """

    kind: str
    path: str = ""
    method: str = ""
    times: int = 1
    status: int = 503
    headers: dict[str, str] = field(default_factory=dict)
    after: int = 10
    seconds: float = 0.0
    hits: int = 0

    def __post_init__(self):
        if self.kind not in KINDS:
            raise ValueError(f"there is no fault {self.kind!r}: expected one of {KINDS}")

    def matches(self, method: str, path: str) -> bool:
        return (
            self.hits < self.times
            and self.method in ("", method)
            and re.search(self.path, path) is not None
        )


class Faults:
    """The faults that are on, in the order in which they were switched on."""

    def __init__(self):
        self._faults: list[Fault] = []
        self._lock = threading.Lock()

    def add(self, kind: str, path: str = "", **options) -> Fault:
        fault = Fault(kind, path, **options)
        with self._lock:
            self._faults.append(fault)
        return fault

    def clear(self) -> None:
        with self._lock:
            self._faults.clear()

    def take(self, method: str, path: str) -> Fault | None:
        """The first fault that matches a request; it counts as used."""
        with self._lock:
            for fault in self._faults:
                if fault.matches(method, path):
                    fault.hits += 1
                    return fault
        return None
