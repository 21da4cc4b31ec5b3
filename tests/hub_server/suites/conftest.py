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
"""A Hub for the clients of this process, which find it at an address of their own."""

import itertools
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

# First, since what comes later reads the address of the Hub.
from hub_server.suites.client_process import PORT  # noqa: E402, I001

from hub_server import HubServer  # noqa: E402
from hub_server.tokens import ANN, BOB, READ_ONLY  # noqa: E402

NUMBERS = itertools.count(1)


def pytest_configure(config):
    # huggingface_hub uploads a file's content in a way that its HTTP library advises against.
    config.addinivalue_line("filterwarnings", "ignore:Use 'content=<...>':DeprecationWarning")


@pytest.fixture(scope="session")
def running_hub():
    with HubServer(PORT) as hub:
        hub.storage.users |= {ANN: "ann", BOB: "bob", READ_ONLY: "ann"}
        hub.storage.read_only.add(READ_ONLY)
        yield hub


@pytest.fixture(autouse=True)
def hub(running_hub, monkeypatch):
    """The Hub without faults, and ann logged in."""
    monkeypatch.setenv("HF_TOKEN", ANN)
    running_hub.faults.clear()
    running_hub.requests.clear()
    running_hub.storage.repositories.clear()
    running_hub.storage.objects.clear()
    running_hub.page_size, running_hub.part_size = 1000, 1 << 20
    yield running_hub
    assert running_hub.errors == []
    # Whatever was done, the storage behind the Hub never saw a token.
    assert not [row for row in running_hub.requests if row[1].startswith("/storage/") and row[3]]


@pytest.fixture
def login(monkeypatch):
    """`login(BOB)`, or `login(None)` for nobody."""

    def change(token):
        if token is None:
            monkeypatch.delenv("HF_TOKEN")
        else:
            monkeypatch.setenv("HF_TOKEN", token)

    return change


@pytest.fixture
def repo_id(request):
    """A name that no other test has, since clients keep what they downloaded."""
    return f"ann/{request.node.originalname.replace('_', '-')}-{next(NUMBERS)}"
