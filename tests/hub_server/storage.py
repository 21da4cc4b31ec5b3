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
"""Repositories in memory: content, commits, branches, tags, pull requests, large objects, users."""

import hashlib
import threading
from dataclasses import dataclass, field
from datetime import UTC, datetime
from fnmatch import fnmatch

import yaml

LFS_SIZE = 10 * 1024 * 1024
# What the Hub's first commit says about large files, as far as these tests need it.
GIT_ATTRIBUTES = "".join(
    f"*.{suffix} filter=lfs diff=lfs merge=lfs -text\n"
    for suffix in ("safetensors", "bin", "pt", "pkl", "parquet", "arrow", "npz", "png", "zip")
)


class HubError(Exception):
    """An answer that is no success, with the header that names its reason."""

    def __init__(self, status: int, message: str, code: str | None = None, **headers: str):
        super().__init__(message)
        self.status, self.message, self.code = status, message, code
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}


def git_blob_id(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


@dataclass(frozen=True)
class Blob:
    """A file's content; of a large file git holds a pointer only."""

    content: bytes
    is_lfs: bool = False

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.content).hexdigest()

    @property
    def pointer(self) -> bytes:
        return (
            f"version https://git-lfs.github.com/spec/v1\noid sha256:{self.sha256}\n"
            f"size {len(self.content)}\n"
        ).encode()

    @property
    def oid(self) -> str:
        return git_blob_id(self.pointer if self.is_lfs else self.content)

    @property
    def etag(self) -> str:
        return self.sha256 if self.is_lfs else self.oid


@dataclass(frozen=True)
class Commit:
    oid: str
    parent: str | None
    title: str
    message: str
    author: str
    date: str
    files: dict[str, Blob]


@dataclass
class PullRequest:
    number: int
    title: str
    description: str
    author: str
    created: str
    status: str = "open"
    merge_commit: str | None = None


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def check_path(path: str) -> str:
    parts = path.split("/")
    if not path or path.startswith("/") or {"", ".", "..", ".git"} & set(parts):
        raise HubError(400, f"invalid path: {path!r}")
    return path


class Repository:
    def __init__(self, kind: str, name: str, private: bool, author: str):
        self.kind, self.name, self.private = kind, name, private
        self.gated = False
        self.members: set[str] = set()  # who may read it although it is gated
        self.created = now()
        self.commits: dict[str, Commit] = {}
        self.refs: dict[str, str] = {}
        self.pull_requests: dict[int, PullRequest] = {}
        first = {".gitattributes": Blob(GIT_ATTRIBUTES.encode())}
        self.commit("refs/heads/main", first, "initial commit", "", author)

    @property
    def namespace(self) -> str:
        return self.name.split("/")[0]

    @property
    def prefix(self) -> str:
        """What stands before the name in addresses of files."""
        return "" if self.kind == "model" else f"{self.kind}s/"

    def ref_of(self, revision: str) -> str | None:
        for ref in (f"refs/heads/{revision}", f"refs/tags/{revision}", revision):
            if ref in self.refs:
                return ref
        return None

    def at(self, revision: str) -> Commit:
        ref = self.ref_of(revision)
        if ref is not None:
            return self.commits[self.refs[ref]]
        found = [oid for oid in self.commits if len(revision) >= 7 and oid.startswith(revision)]
        if len(found) != 1:
            raise HubError(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        return self.commits[found[0]]

    def commit(
        self, ref: str, files: dict[str, Blob], title: str, message: str, author: str
    ) -> Commit:
        parent, date = self.refs.get(ref), now()
        listing = "".join(f"{path} {blob.oid}\n" for path, blob in sorted(files.items()))
        text = f"{self.kind} {self.name} {parent} {title} {message} {author} {date}\n{listing}"
        oid = hashlib.sha1(text.encode()).hexdigest()
        commit = Commit(oid, parent, title, message, author, date, dict(files))
        self.commits[oid] = commit
        self.refs[ref] = oid
        return commit

    def history(self, commit: Commit) -> list[Commit]:
        commits = [commit]
        while commits[-1].parent is not None:
            commits.append(self.commits[commits[-1].parent])
        return commits

    def last_commit_of(self, commit: Commit, path: str) -> Commit:
        """The newest commit that changed a file."""
        blob = commit.files[path]
        changed = commit
        for older in self.history(commit)[1:]:
            if older.files.get(path) != blob:
                break
            changed = older
        return changed

    def is_lfs(self, path: str, size: int, commit: Commit) -> bool:
        attributes = commit.files.get(".gitattributes", Blob(b"")).content.decode()
        rules = [line.split()[0] for line in attributes.splitlines() if "filter=lfs" in line]
        name = path.rsplit("/")[-1]
        return size >= LFS_SIZE or any(fnmatch(path, r) or fnmatch(name, r) for r in rules)

    def open_pull_request(self, title: str, description: str, author: str, base: str) -> int:
        number = len(self.pull_requests) + 1
        self.pull_requests[number] = PullRequest(number, title, description, author, now())
        self.refs[f"refs/pr/{number}"] = self.at(base).oid
        return number

    def merge(self, number: int, author: str) -> Commit:
        request = self.pull_requests[number]
        if request.status != "open":
            raise HubError(409, f"pull request {number} is {request.status}")
        changes = self.commits[self.refs[f"refs/pr/{number}"]]
        commit = self.commit("refs/heads/main", changes.files, request.title, "", author)
        request.status, request.merge_commit = "merged", commit.oid
        return commit

    def card_data(self, commit: Commit) -> dict:
        return front_matter(commit.files.get("README.md", Blob(b"")).content.decode()) or {}


def front_matter(text: str) -> dict | None:
    """The metadata on top of a card.

    Raises:
        yaml.YAMLError: If it is none.
    """
    if not text.startswith("---\n") or "\n---" not in text[3:]:
        return None
    data = yaml.safe_load(text[4 : text.index("\n---", 3) + 1])
    if not isinstance(data, dict):
        raise yaml.YAMLError("the metadata is no mapping")
    return data


@dataclass
class Storage:
    """All that the server knows."""

    users: dict[str, str] = field(default_factory=dict)  # token: user
    read_only: set[str] = field(default_factory=set)  # tokens
    repositories: dict[tuple[str, str], Repository] = field(default_factory=dict)
    objects: dict[str, bytes] = field(default_factory=dict)  # large files by their sha256
    parts: dict[str, dict[int, bytes]] = field(default_factory=dict)
    lock: threading.RLock = field(default_factory=threading.RLock)

    def create(self, kind: str, name: str, private: bool, author: str) -> Repository:
        if (kind, name) in self.repositories:
            raise HubError(409, f"You already created this {kind} repo: {name}")
        repository = Repository(kind, name, private, author)
        self.repositories[kind, name] = repository
        return repository

    def get(self, kind: str, name: str, user: str | None) -> Repository:
        repository = self.repositories.get((kind, name))
        if repository is None or (repository.private and user != repository.namespace):
            # The Hub does not say whether it is missing or private.
            status = 401 if user is None else 404
            raise HubError(status, "Repository not found", "RepoNotFound")
        return repository

    def put_object(self, oid: str, content: bytes) -> None:
        if hashlib.sha256(content).hexdigest() != oid:
            raise HubError(422, f"the content is not that of {oid}")
        self.objects[oid] = content
