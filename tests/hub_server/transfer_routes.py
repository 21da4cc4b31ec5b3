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
"""Bytes in and out: large files up, whole or in parts; any file down, with redirects, etags and ranges."""

import hashlib
import re
from urllib.parse import quote

from .routing import Reply, Request, route
from .storage import HubError


@route("POST", "/{prefix}{name}.git/info/lfs/objects/batch")
def offer_uploads(request: Request) -> Reply:
    """Where to put each object; nowhere for those that are there. Parts only for clients that know them."""
    # A pull request may bring large files from anybody, and the batch does not tell whether it is one.
    repository, hub, asked = (
        request.writable(create_pr="ref" not in request.json()),
        request.server,
        request.json(),
    )
    address = f"{hub.endpoint}/{repository.prefix}{repository.name}.git/info/lfs"
    in_parts = "multipart" in asked["transfers"]
    objects = []
    for each in asked["objects"]:
        oid, size = each["oid"], each["size"]
        entry = {"oid": oid, "size": size}
        if oid not in hub.storage.objects:
            upload = {"href": f"{hub.storage_host}/storage/{oid}?signature=x"}
            if in_parts and size > hub.part_size:
                count = -(-size // hub.part_size)
                parts = {
                    str(n): f"{hub.storage_host}/storage/{oid}/{n}?signature=x"
                    for n in range(1, count + 1)
                }
                upload = {
                    "href": f"{hub.endpoint}/api/complete/{oid}",
                    "header": {"chunk_size": str(hub.part_size), **parts},
                }
            entry["actions"] = {"upload": upload, "verify": {"href": f"{address}/verify"}}
        objects.append(entry)
    return Reply.json({"transfer": "multipart" if in_parts else "basic", "objects": objects})


@route("POST", "/{prefix}{name}.git/info/lfs/verify")
def verify_upload(request: Request) -> Reply:
    content = request.server.storage.objects.get(request.json()["oid"])
    if content is None or len(content) != request.json()["size"]:
        raise HubError(404, "the object is not here, or not whole")
    return Reply.json({})


def _refuse_token(request: Request) -> None:
    # As the storage behind the Hub does: an address that is signed takes no second credential.
    if request.token is not None:
        raise HubError(400, "Only one auth mechanism allowed")


@route("PUT", "/storage/{oid}")
def put_object(request: Request) -> Reply:
    _refuse_token(request)
    request.server.storage.put_object(request.arguments["oid"], request.body)
    return Reply()


@route("PUT", "/storage/{oid}/{number}")
def put_part(request: Request) -> Reply:
    _refuse_token(request)
    parts = request.server.storage.parts.setdefault(request.arguments["oid"], {})
    parts[int(request.arguments["number"])] = request.body
    return Reply(headers={"ETag": f'"{hashlib.md5(request.body).hexdigest()}"'})


@route("POST", "/api/complete/{oid}")
def complete_parts(request: Request) -> Reply:
    storage, oid = request.server.storage, request.arguments["oid"]
    parts, listed = storage.parts.get(oid, {}), request.json()["parts"]
    etags = {n: f'"{hashlib.md5(content).hexdigest()}"' for n, content in parts.items()}
    if {part["partNumber"]: part["etag"] for part in listed} != etags:
        raise HubError(400, "the parts are not those that were uploaded")
    storage.put_object(oid, b"".join(parts[n] for n in sorted(parts)))
    del storage.parts[oid]
    return Reply.json({})


@route("GET", "/{prefix}{name}/resolve/{revision}/{path...}")
def resolve(request: Request) -> Reply:
    """Sends to where the content is, and says on the way which commit and content it is."""
    repository = request.readable()
    commit, path = repository.at(request.revision), request.arguments["path"]
    blob = commit.files.get(path)
    if blob is None:
        raise HubError(404, "Entry not found", "EntryNotFound", X_Repo_Commit=commit.oid)
    headers = {
        "X-Repo-Commit": commit.oid,
        "X-Linked-Etag": f'"{blob.etag}"',
        "X-Linked-Size": str(len(blob.content)),
    }
    if blob.is_lfs:
        location = f"{request.server.storage_host}/storage/{blob.sha256}?signature=x"
        return Reply(status=302, headers={**headers, "Location": location})
    location = f"/api/resolve-cache/{repository.kind}s/{repository.name}/{commit.oid}/{quote(path)}"
    return Reply(status=307, headers={**headers, "Location": location})


@route("GET", "/api/resolve-cache/{kind}/{name}/{revision}/{path...}")
def serve_file(request: Request) -> Reply:
    commit = request.readable().at(request.revision)
    blob = commit.files[request.arguments["path"]]
    headers = {"ETag": f'"{blob.oid}"', "X-Repo-Commit": commit.oid}
    return _ranged(request, blob.content, headers)


@route("GET", "/storage/{oid}")
def serve_object(request: Request) -> Reply:
    _refuse_token(request)
    content = request.server.storage.objects.get(request.arguments["oid"])
    if content is None:
        raise HubError(404, "no such object")
    return _ranged(request, content, {"ETag": f'"{request.arguments["oid"]}"'})


def _ranged(request: Request, content: bytes, headers: dict[str, str]) -> Reply:
    headers = {**headers, "Accept-Ranges": "bytes", "Content-Type": "application/octet-stream"}
    match = re.fullmatch(r"bytes=(\d*)-(\d*)", request.headers.get("Range", ""))
    if match is None:
        return Reply(content, 200, headers)
    size = len(content)
    if match[1]:
        first, last = int(match[1]), min(int(match[2] or size - 1), size - 1)
    else:
        first, last = max(0, size - int(match[2])), size - 1
    if first > last:
        return Reply(b"", 416, {**headers, "Content-Range": f"bytes */{size}"})
    headers["Content-Range"] = f"bytes {first}-{last}/{size}"
    return Reply(content[first : last + 1], 206, headers)
