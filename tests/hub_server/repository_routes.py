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
"""Answers about users, repositories, branches, tags, pull requests and lists of files."""

import base64
import hashlib
import json
from typing import Any
from urllib.parse import parse_qs

import yaml

from .routing import Reply, Request, route
from .storage import Blob, Commit, HubError, Repository, check_path, front_matter


@route("GET", "/api/whoami-v2")
def whoami(request: Request) -> Reply:
    if request.user is None:
        raise HubError(401, "Invalid username or password.")
    role = "read" if request.token in request.server.storage.read_only else "write"
    token = {"displayName": "test", "role": role}
    return Reply.json(
        {
            "type": "user",
            "id": hashlib.md5(request.user.encode()).hexdigest()[:24],
            "name": request.user,
            "fullname": request.user,
            "orgs": [],
            "auth": {"type": "access_token", "accessToken": token},
        }
    )


@route("POST", "/api/validate-yaml")
def validate_card(request: Request) -> Reply:
    """Refuses metadata that is none, and warns of a card without any."""
    try:
        data = front_matter(request.json()["content"])
    except yaml.YAMLError as error:
        answer = {"errors": [{"message": str(error)}], "warnings": []}
        return Reply.json(answer, 400)
    missing = [] if data else [{"message": "empty or missing yaml metadata in repo card"}]
    return Reply.json({"errors": [], "warnings": missing})


def _repo_of(request: Request) -> tuple[str, str]:
    asked = request.json()
    if request.user is None:
        raise HubError(401, "Invalid username or password.")
    namespace = asked.get("organization") or request.user
    if namespace != request.user or request.token in request.server.storage.read_only:
        raise HubError(
            403, f'You don\'t have the rights to create a model under the namespace "{namespace}"'
        )
    return asked.get("type") or "model", f"{namespace}/{asked['name']}"


@route("POST", "/api/repos/create")
def create_repository(request: Request) -> Reply:
    kind, name = _repo_of(request)
    asked, hub = request.json(), request.server
    # Older clients say `private`, newer ones `visibility`.
    private = asked.get("private") or asked.get("visibility") == "private"
    prefix = "" if kind == "model" else f"{kind}s/"
    url = f"{hub.endpoint}/{prefix}{name}"
    try:
        hub.storage.create(kind, name, bool(private), request.user)
    except HubError as error:
        return Reply.json({"error": error.message, "url": url}, error.status)
    return Reply.json({"url": url, "name": name})


@route("DELETE", "/api/repos/delete")
def delete_repository(request: Request) -> Reply:
    kind, name = _repo_of(request)
    request.server.storage.get(kind, name, request.user)
    del request.server.storage.repositories[kind, name]
    return Reply(b"OK")


@route("PUT", "/api/{kind}/{name}/settings")
def change_settings(request: Request) -> Reply:
    repository, asked = request.writable(), request.json()
    repository.gated = asked.get("gated", repository.gated)
    if "private" in asked or "visibility" in asked:
        repository.private = asked.get("private") or asked.get("visibility") == "private"
    return Reply.json({})


@route("GET", "/api/{kind}/{name}")
@route("GET", "/api/{kind}/{name}/revision/{revision}")
def describe_repository(request: Request) -> Reply:
    repository = request.repository()
    commit = repository.at(request.revision)
    blobs = "blobs" in request.query
    data = repository.card_data(commit)
    return Reply.json(
        {
            "_id": hashlib.md5(repository.name.encode()).hexdigest()[:24],
            "id": repository.name,
            "author": repository.namespace,
            "sha": commit.oid,
            "private": repository.private,
            "gated": repository.gated,
            "disabled": False,
            "createdAt": repository.created,
            "lastModified": commit.date,
            "downloads": 0,
            "likes": 0,
            "tags": data.get("tags", []),
            "cardData": data,
            **({"pipeline_tag": data["pipeline_tag"]} if "pipeline_tag" in data else {}),
            **({"library_name": data["library_name"]} if "library_name" in data else {}),
            "siblings": [
                {"rfilename": path, **(_facts(path, blob) if blobs else {})}
                for path, blob in sorted(commit.files.items())
            ],
        }
    )


def _facts(path: str, blob: Blob) -> dict[str, Any]:
    facts: dict[str, Any] = {"blobId": blob.oid, "size": len(blob.content)}
    if blob.is_lfs:
        facts["lfs"] = _lfs(blob) | {"sha256": blob.sha256}
    return facts


def _lfs(blob: Blob) -> dict[str, Any]:
    return {"oid": blob.sha256, "size": len(blob.content), "pointerSize": len(blob.pointer)}


def _entries(repository: Repository, commit: Commit, expand: bool) -> dict[str, dict[str, Any]]:
    """Files and folders of a commit, by path."""
    entries: dict[str, dict[str, Any]] = {}
    for path, blob in sorted(commit.files.items()):
        parts = path.split("/")
        for depth in range(1, len(parts)):
            folder = "/".join(parts[:depth])
            oid = hashlib.sha1(folder.encode()).hexdigest()
            entries[folder] = {"type": "directory", "oid": oid, "size": 0, "path": folder}
        entry = {"type": "file", "oid": blob.oid, "size": len(blob.content), "path": path}
        if blob.is_lfs:
            entry["lfs"] = _lfs(blob)
        if expand:
            last = repository.last_commit_of(commit, path)
            entry["lastCommit"] = {"id": last.oid, "title": last.title, "date": last.date}
        entries[path] = entry
    return entries


def _flag(request: Request, name: str) -> bool:
    return request.query.get(name, ["false"])[0].lower() in ("1", "true")


@route("GET", "/api/{kind}/{name}/tree/{revision}")
@route("GET", "/api/{kind}/{name}/tree/{revision}/{path...}")
def list_files(request: Request) -> Reply:
    """One page of a folder, or of all below it, and where the next page is."""
    repository = request.repository()
    commit = repository.at(request.revision)
    folder = request.arguments.get("path", "").rstrip("/")
    entries = _entries(repository, commit, _flag(request, "expand"))
    if folder and entries.get(folder, {}).get("type") != "directory":
        raise HubError(404, f"{folder} does not exist on {request.revision}", "EntryNotFound")
    start = f"{folder}/" if folder else ""
    inside = [entry for path, entry in entries.items() if path.startswith(start)]
    if not _flag(request, "recursive"):
        inside = [entry for entry in inside if "/" not in entry["path"][len(start) :]]
    first = int(base64.b64decode(request.query.get("cursor", [""])[0]) or 0)
    size = request.server.page_size
    headers = {}
    if first + size < len(inside):
        cursor = base64.b64encode(str(first + size).encode()).decode()
        address = request.server.endpoint + request.path.replace(
            f"/tree/{request.revision}", f"/tree/{request.revision.replace('/', '%2F')}"
        )
        flags = "&".join(f"{k}={v[0]}" for k, v in request.query.items() if k != "cursor")
        headers["Link"] = f'<{address}?{flags}&cursor={cursor}>; rel="next"'
    return Reply.json(inside[first : first + size], **headers)


@route("POST", "/api/{kind}/{name}/paths-info/{revision}")
def describe_paths(request: Request) -> Reply:
    repository = request.repository()
    if request.headers.get("Content-Type", "").startswith("application/json"):
        asked = request.json()
        paths, expand = asked["paths"], bool(asked.get("expand"))
    else:
        form = parse_qs(request.body.decode())
        paths, expand = form.get("paths", []), form.get("expand", ["false"])[0].lower() == "true"
    entries = _entries(repository, repository.at(request.revision), expand)
    return Reply.json([entries[path] for path in paths if path in entries])


@route("GET", "/api/{kind}/{name}/refs")
def list_refs(request: Request) -> Reply:
    repository = request.repository()
    kinds = {"branches": "refs/heads/", "tags": "refs/tags/", "pullRequests": "refs/pr/"}
    answer: dict[str, list] = {"converts": []}
    for kind, start in kinds.items():
        answer[kind] = [
            {"name": ref.removeprefix(start), "ref": ref, "targetCommit": oid}
            for ref, oid in repository.refs.items()
            if ref.startswith(start)
        ]
    return Reply.json(answer)


@route("GET", "/api/{kind}/{name}/commits/{revision}")
def list_commits(request: Request) -> Reply:
    repository = request.repository()
    return Reply.json(
        [
            {
                "id": commit.oid,
                "title": commit.title,
                "message": commit.message,
                "date": commit.date,
                "authors": [{"user": commit.author}],
            }
            for commit in repository.history(repository.at(request.revision))
        ]
    )


@route("POST", "/api/{kind}/{name}/branch/{branch}")
def create_branch(request: Request) -> Reply:
    repository, ref = request.writable(), f"refs/heads/{request.arguments['branch']}"
    if ref in repository.refs:
        raise HubError(409, f"Reference already exists: {ref}")
    repository.refs[ref] = repository.at(request.json().get("startingPoint", "main")).oid
    return Reply.json({})


@route("DELETE", "/api/{kind}/{name}/branch/{branch}")
def delete_branch(request: Request) -> Reply:
    repository = request.writable()
    if repository.refs.pop(f"refs/heads/{request.arguments['branch']}", None) is None:
        raise HubError(404, "no such branch", "RevisionNotFound")
    return Reply.json({})


@route("POST", "/api/{kind}/{name}/tag/{revision}")
def create_tag(request: Request) -> Reply:
    repository, ref = request.writable(), f"refs/tags/{request.json()['tag']}"
    if ref in repository.refs:
        raise HubError(409, f"Reference already exists: {ref}")
    repository.refs[ref] = repository.at(request.revision).oid
    return Reply.json({})


@route("POST", "/api/{kind}/{name}/discussions")
def open_discussion(request: Request) -> Reply:
    repository, asked = request.writable(create_pr=True), request.json()
    if not asked.get("pullRequest"):
        raise HubError(400, "this server knows pull requests only")
    number = repository.open_pull_request(
        asked["title"], asked.get("description") or "", request.user, "main"
    )
    return Reply.json({"num": number})


@route("GET", "/api/{kind}/{name}/discussions/{number}")
def describe_discussion(request: Request) -> Reply:
    repository, number = request.repository(), int(request.arguments["number"])
    if number not in repository.pull_requests:
        raise HubError(404, "no such discussion", "EntryNotFound")
    found = repository.pull_requests[number]
    return Reply.json(
        {
            "num": number,
            "title": found.title,
            "author": {"name": found.author},
            "createdAt": found.created,
            "status": found.status,
            "repo": {"name": repository.name, "type": repository.kind},
            "isPullRequest": True,
            "events": [],
            "filesWithConflicts": [],
            "changes": {"base": "refs/heads/main", "mergeCommitId": found.merge_commit},
        }
    )


@route("POST", "/api/{kind}/{name}/discussions/{number}/merge")
def merge_discussion(request: Request) -> Reply:
    request.writable().merge(int(request.arguments["number"]), request.user)
    return Reply.json({})


@route("POST", "/api/{kind}/{name}/preupload/{revision}")
def choose_upload(request: Request) -> Reply:
    """Which files go into git, which into the storage, and what is there already."""
    repository = request.writable(_flag(request, "create_pr"))
    commit = repository.at(request.revision)
    files = []
    for asked in request.json()["files"]:
        path = check_path(asked["path"])
        blob = commit.files.get(path)
        is_lfs = repository.is_lfs(path, asked["size"], commit)
        entry = {"path": path, "uploadMode": "lfs" if is_lfs else "regular", "shouldIgnore": False}
        if blob is not None:
            entry["oid"] = blob.etag
        files.append(entry)
    return Reply.json({"files": files})


def _changed(before: Commit, request: Request) -> tuple[dict[str, Blob], dict[str, Any]]:
    """Files after the operations of a commit, and its header."""
    files, header = dict(before.files), {}
    for line in request.body.splitlines():
        key, value = json.loads(line)["key"], json.loads(line)["value"]
        if key == "header":
            header = value
        elif key == "file":
            files[check_path(value["path"])] = Blob(base64.b64decode(value["content"]))
        elif key == "lfsFile":
            content = request.server.storage.objects.get(value["oid"])
            if content is None:
                raise HubError(400, f"the content of {value['path']} was not uploaded")
            files[check_path(value["path"])] = Blob(content, is_lfs=True)
        elif key == "deletedFile":
            if files.pop(value["path"], None) is None:
                raise HubError(404, "A file with this name doesn't exist", "EntryNotFound")
        elif key == "deletedFolder":
            files = {k: v for k, v in files.items() if not k.startswith(f"{value['path']}/")}
        else:
            raise HubError(400, f"unknown operation {key}")
    return files, header


@route("POST", "/api/{kind}/{name}/commit/{revision}")
def commit(request: Request) -> Reply:
    """All changes or none: a line that cannot be done leaves the branch as it was."""
    create_pr = _flag(request, "create_pr")
    repository = request.writable(create_pr)
    before = repository.at(request.revision)
    files, header = _changed(before, request)
    if header.get("parentCommit") not in (None, before.oid):
        raise HubError(412, "A commit has happened since. Please refresh and try again.")
    summary, description = header["summary"], header.get("description", "")
    hub, ref, number = request.server, repository.ref_of(request.revision), None
    if create_pr:
        number = repository.open_pull_request(summary, description, request.user, request.revision)
        ref = f"refs/pr/{number}"
    if ref is None or ref.startswith("refs/tags/"):
        raise HubError(400, f"{request.revision} is no branch")
    done = repository.commit(ref, files, summary, description, request.user)
    address = f"{hub.endpoint}/{repository.prefix}{repository.name}"
    answer = {"success": True, "commitOid": done.oid, "commitUrl": f"{address}/commit/{done.oid}"}
    if number is not None:
        answer["pullRequestUrl"] = f"{address}/discussions/{number}"
    return Reply.json(answer)
