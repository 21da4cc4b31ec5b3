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
"""The HTTP side: connections, faults, who asks, and which function answers.

Two names of the loopback interface stand for the two hosts of the Hub: `127.0.0.1` is the Hub itself, `localhost` the
storage behind it, to which a client must not send its token.
"""

import re
import threading
import time
import traceback
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

# The functions that answer register themselves.
from . import repository_routes, transfer_routes  # noqa: F401
from .faults import Fault, Faults
from .routing import Reply, Request, answer
from .storage import Storage


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: "HubServer"

    def log_message(self, *args: Any) -> None:
        pass

    def handle(self) -> None:
        try:
            super().handle()
        except (ConnectionError, TimeoutError):
            pass  # a client that went away

    def _answer(self) -> None:
        parts = urlsplit(self.path)
        path = unquote(parts.path)
        fault = self.hub.faults.take(self.command, path)
        try:
            body = self._read_body(fault)
        except ConnectionAbortedError:
            self.hub.log(self.command, path, 0, self.headers)
            self.close_connection = True
            return
        request = Request(self.command, path, parse_qs(parts.query), self.headers, body, self.hub)
        reply = self._reply(request, parts.path, fault)
        self.hub.log(self.command, path, reply.status, self.headers)
        self._send(reply, fault)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = _answer

    def _read_body(self, fault: Fault | None) -> bytes:
        if fault is not None and fault.kind == "cut_upload":
            self.rfile.read(fault.after)
            raise ConnectionAbortedError
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            content = b""
            while size := int(self.rfile.readline(), 16):
                content += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return content
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def _reply(self, request: Request, quoted: str, fault: Fault | None) -> Reply:
        if fault is not None and fault.kind == "slow":
            time.sleep(fault.seconds)
        if fault is not None and fault.kind == "status":
            return Reply.json({"error": "a fault"}, fault.status, **fault.headers)
        with self.hub.storage.lock:
            return answer(request, quoted)

    def _send(self, reply: Reply, fault: Fault | None) -> None:
        body, kind = reply.body, "" if fault is None else fault.kind
        if kind == "corrupt":
            middle = len(body) // 2
            body = (
                body[:middle]
                + bytes(255 - byte for byte in body[middle : middle + 8])
                + body[middle + 8 :]
            )
        elif kind == "short":
            body = body[: fault.after]
        self.send_response(reply.status)
        for name, value in reply.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "HEAD":
            return
        if kind == "cut_download":
            body, self.close_connection = body[: fault.after], True
        self.wfile.write(body)


class _Listener(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        self.hub.errors.append(traceback.format_exc())


class HubServer:
    """The server; `with HubServer() as hub:` starts it on a free port, or on the one that is given.

    Attributes:
        storage: Repositories and users; tests read and change it directly.
        faults: What goes wrong from now on: `hub.faults.add("status", "/resolve/", status=503)`.
        requests: What was asked: method, path, status, whether a token came along.
        page_size: Entries in one page of a list of files.
        part_size: Larger files are uploaded in parts.
    """

    def __init__(self, port: int = 0):
        self.storage = Storage()
        self.faults = Faults()
        self.requests: list[tuple[str, str, int, bool]] = []
        self.errors: list[str] = []
        self.page_size = 1000
        self.part_size = 1 << 20
        self._port = port

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    @property
    def storage_host(self) -> str:
        return f"http://localhost:{self._port}"

    def start(self) -> "HubServer":
        handler = type("Handler", (_Handler,), {"hub": self})
        self._listener = _Listener(("127.0.0.1", self._port), handler)
        self._listener.hub = self
        self._port = self._listener.server_port
        self._thread = threading.Thread(
            target=self._listener.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
        )
        self._thread.start()
        return self

    def stop(self) -> None:
        """Goes off the network; `start` brings it back on the same port, with all that it knew."""
        self._listener.shutdown()
        self._listener.server_close()
        self._thread.join()

    def __enter__(self) -> "HubServer":
        return self.start()

    def __exit__(self, *error: Any) -> None:
        self.stop()

    def log(self, method: str, path: str, status: int, headers: Any) -> None:
        self.requests.append((method, path, status, "Authorization" in headers))

    def count(self, method: str, pattern: str) -> int:
        """How often something was asked."""
        return sum(
            asked == method and re.search(pattern, path) is not None
            for asked, path, _, _ in self.requests
        )
