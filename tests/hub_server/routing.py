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
"""Requests, replies, and which function answers which address."""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from .storage import HubError, Repository

if TYPE_CHECKING:
    from .server import HubServer


@dataclass
class Request:
    """What came in. `arguments` are the named groups of the route, without quotes."""

    method: str
    path: str
    query: dict[str, list[str]]
    headers: Any
    body: bytes
    server: "HubServer"
    arguments: dict[str, str] = field(default_factory=dict)

    @property
    def token(self) -> str | None:
        return self.headers.get("Authorization", "").removeprefix("Bearer ") or None

    @property
    def user(self) -> str | None:
        """Who asks; nobody without a token."""
        if self.token is None:
            return None
        if self.token not in self.server.storage.users:
            message = "Invalid credentials in Authorization header"
            raise HubError(401, message)
        return self.server.storage.users[self.token]

    def json(self) -> Any:
        return json.loads(self.body or b"{}")

    def repository(self) -> Repository:
        """The repository of the address, if the user may know of it."""
        kind = self.arguments.get("kind", "models").removesuffix("s")
        return self.server.storage.get(kind, self.arguments["name"], self.user)

    def writable(self, create_pr: bool = False) -> Repository:
        """The same, if the user may change it; anybody with a token may propose a change."""
        repository = self.repository()
        if self.user is None:
            raise HubError(401, "Invalid username or password.")
        allowed = create_pr or self.user == repository.namespace
        if not allowed or self.token in self.server.storage.read_only:
            raise HubError(403, f"You don't have the rights to change {repository.name}")
        return repository

    def readable(self) -> Repository:
        """The same, if the user may read its files."""
        repository, user = self.repository(), self.user
        if repository.gated and user != repository.namespace and user not in repository.members:
            status = 401 if user is None else 403
            message = f"Access to {repository.kind} {repository.name} is restricted."
            raise HubError(status, message, "GatedRepo")
        return repository

    @property
    def revision(self) -> str:
        return self.arguments.get("revision", "main")


@dataclass
class Reply:
    body: bytes = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)

    @classmethod
    def json(cls, content: Any, status: int = 200, **headers: str) -> "Reply":
        fields = {name.replace("_", "-"): value for name, value in headers.items()}
        return cls(
            json.dumps(content).encode(), status, {"Content-Type": "application/json", **fields}
        )


Route = tuple[str, re.Pattern, Callable[[Request], Reply]]
ROUTES: list[Route] = []


def route(method: str, pattern: str) -> Callable:
    """Lets a function answer addresses like `/api/{kind}/{name}/tree/{revision}/{path...}`."""
    groups = {
        "kind": r"(?P<kind>models|datasets|spaces)",
        "prefix": r"(?:(?P<kind>datasets|spaces)/)?",
        "name": r"(?P<name>[^/]+/[^/]+?)",
        "path...": r"(?P<path>.+)",
    }

    def expand(match: re.Match) -> str:
        return groups.get(match[1], rf"(?P<{match[1]}>[^/]+)")

    expression = re.compile(re.sub(r"\{([\w.]+)\}", expand, pattern.replace(".git", r"\.git")))

    def register(function: Callable[[Request], Reply]) -> Callable[[Request], Reply]:
        ROUTES.append((method, expression, function))
        return function

    return register


def answer(request: Request, quoted: str) -> Reply:
    """What the function of an address says. `quoted` is the path as it came: a slash in a branch's name is quoted."""
    method = "GET" if request.method == "HEAD" else request.method
    try:
        for known, expression, function in ROUTES:
            match = expression.fullmatch(quoted)
            if known == method and match is not None:
                found = match.groupdict()
                request.arguments = {k: unquote(v) for k, v in found.items() if v is not None}
                return function(request)
        raise HubError(404, f"no route for {request.method} {request.path}")
    except HubError as error:
        headers = {"X-Error-Message": error.message, **error.headers}
        if error.code is not None:
            headers["X-Error-Code"] = error.code
        return Reply(
            json.dumps({"error": error.message}).encode(),
            error.status,
            {"Content-Type": "application/json", **headers},
        )
