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
"""The clients of huggingface_hub against the server: all that people do with repositories."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from huggingface_hub import (
    CommitOperationAdd,
    CommitOperationCopy,
    CommitOperationDelete,
    HfApi,
    HfFileSystem,
    hf_hub_download,
    snapshot_download,
)
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from hub_server.tokens import ANN, BOB, EXPIRED, READ_ONLY

WEIGHTS = bytes(range(256)) * 40


@pytest.fixture
def api():
    return HfApi()


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "folder"
    (folder / "sub folder").mkdir(parents=True)
    (folder / "README.md").write_text("---\nlicense: mit\n---\n# Hello\n")
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(WEIGHTS)
    (folder / "sub folder" / "é+%20.txt").write_text("an odd name")
    return folder


@pytest.fixture
def uploaded(api, repo_id, folder):
    api.create_repo(repo_id)
    return api.upload_folder(repo_id=repo_id, folder_path=folder)


def contents(folder):
    folder = Path(folder)
    paths = [p for p in folder.rglob("*") if p.is_file() and ".cache" not in p.parts]
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in paths}


@pytest.mark.parametrize("kind", ["model", "dataset"])
def test_a_folder_goes_up_and_comes_down(hub, api, repo_id, folder, kind, tmp_path):
    hub.page_size = 2  # the list of files comes in pages
    assert api.create_repo(repo_id, repo_type=kind).repo_id == repo_id
    commit = api.upload_folder(repo_id=repo_id, folder_path=folder, repo_type=kind)
    info = api.repo_info(repo_id, repo_type=kind, files_metadata=True)
    assert info.sha == commit.oid
    assert info.card_data.license == "mit"
    (weights,) = [file for file in info.siblings if file.rfilename == "model.safetensors"]
    assert weights.lfs.size == len(WEIGHTS)
    assert api.whoami()["name"] == "ann"
    down = snapshot_download(repo_id, repo_type=kind, local_dir=tmp_path / "down")
    received = contents(down)
    assert received.pop(".gitattributes")
    assert received == contents(folder)
    assert contents(snapshot_download(repo_id, repo_type=kind)).keys() == {
        *received,
        ".gitattributes",
    }
    fs = HfFileSystem()
    root = f"datasets/{repo_id}" if kind == "dataset" else repo_id
    assert fs.read_bytes(f"{root}/model.safetensors") == WEIGHTS
    with fs.open(f"{root}/model.safetensors", block_size=100) as file:
        file.seek(300)
        assert file.read(10) == WEIGHTS[300:310]  # by ranges
    api.delete_repo(repo_id, repo_type=kind)
    with pytest.raises(RepositoryNotFoundError):
        api.repo_info(repo_id, repo_type=kind)


def test_large_files_go_up_in_parts(hub, api, repo_id, uploaded, folder):
    hub.part_size = 1000
    content = os.urandom(4567)
    (folder / "model.safetensors").write_bytes(content)
    hub.requests.clear()
    api.upload_folder(repo_id=repo_id, folder_path=folder)
    assert hub.count("PUT", r"/storage/\w+/\d+") == 5
    assert hub.count("POST", "/api/complete/") == 1
    assert Path(hf_hub_download(repo_id, "model.safetensors")).read_bytes() == content


def test_nothing_is_uploaded_twice(hub, api, repo_id, uploaded, folder):
    hub.requests.clear()
    again = api.upload_folder(repo_id=repo_id, folder_path=folder)
    assert again.oid == uploaded.oid
    assert hub.count("PUT", "/storage/") == hub.count("POST", "/commit/") == 0
    (folder / "config.json").write_text('{"a": 1}')
    api.upload_folder(repo_id=repo_id, folder_path=folder)
    assert hub.count("PUT", "/storage/") == 0
    assert len(api.list_repo_commits(repo_id)) == 3
    # The same weights in another repository are there already, too.
    api.create_repo(f"{repo_id}-copy")
    api.upload_folder(repo_id=f"{repo_id}-copy", folder_path=folder)
    assert hub.count("PUT", "/storage/") == 0


def test_branches_tags_and_pull_requests(api, repo_id, uploaded, folder, login):
    api.create_branch(repo_id, branch="next/step")
    api.create_branch(repo_id, branch="next/step", exist_ok=True)
    (folder / "config.json").write_text('{"on": "branch"}')
    api.upload_folder(repo_id=repo_id, folder_path=folder, revision="next/step")
    api.create_tag(repo_id, tag="v1", revision=uploaded.oid)
    login(BOB)
    (folder / "config.json").write_text('{"on": "request"}')
    (folder / "model.safetensors").write_bytes(WEIGHTS[::-1])
    proposed = HfApi().upload_folder(repo_id=repo_id, folder_path=folder, create_pr=True)
    assert proposed.pr_num == 1
    with pytest.raises(HfHubHTTPError, match="403"):
        HfApi().upload_folder(repo_id=repo_id, folder_path=folder)
    login(ANN)
    texts = {
        revision: Path(hf_hub_download(repo_id, "config.json", revision=revision)).read_text()
        for revision in ("main", "v1", "next/step", "refs/pr/1", uploaded.oid, proposed.oid)
    }
    assert list(texts.values()) == [
        "{}",
        "{}",
        '{"on": "branch"}',
        '{"on": "request"}',
        "{}",
        '{"on": "request"}',
    ]
    refs = api.list_repo_refs(repo_id, include_pull_requests=True)
    assert [ref.name for ref in refs.branches] == ["main", "next/step"]
    assert [ref.name for ref in refs.tags] == ["v1"]
    assert [ref.ref for ref in refs.pull_requests] == ["refs/pr/1"]
    api.merge_pull_request(repo_id, 1)
    details = api.get_discussion_details(repo_id, 1)
    assert details.status == "merged"
    assert details.merge_commit_oid == api.model_info(repo_id).sha
    assert Path(hf_hub_download(repo_id, "model.safetensors")).read_bytes() == WEIGHTS[::-1]


def test_changes_of_single_files(api, repo_id, uploaded):
    operations = [
        CommitOperationAdd("new/a.json", b"[1]"),
        CommitOperationCopy("model.safetensors", "new/model.safetensors"),
        CommitOperationDelete("config.json"),
    ]
    commit = api.create_commit(repo_id, operations, commit_message="Three at once")
    assert "config.json" not in api.list_repo_files(repo_id)
    weights, single = api.get_paths_info(
        repo_id, ["new/model.safetensors", "new/a.json", "x"], expand=True
    )
    assert weights.lfs.size == len(WEIGHTS)
    assert single.last_commit.oid == commit.oid
    tree = api.list_repo_tree(repo_id, "new", recursive=True)
    assert [entry.path for entry in tree] == ["new/a.json", "new/model.safetensors"]
    late = [CommitOperationAdd("new/b.json", b"[2]")]
    with pytest.raises(HfHubHTTPError, match="412"):
        api.create_commit(repo_id, late, commit_message="Late", parent_commit=uploaded.oid)
    with pytest.raises(RemoteEntryNotFoundError):
        api.create_commit(repo_id, [CommitOperationDelete("absent")], commit_message="Nothing")


def test_what_is_not_there_has_a_name(api, repo_id, uploaded):
    with pytest.raises(RepositoryNotFoundError):
        hf_hub_download("ann/absent", "config.json")
    with pytest.raises(RevisionNotFoundError):
        hf_hub_download(repo_id, "config.json", revision="absent")
    with pytest.raises(RemoteEntryNotFoundError):
        hf_hub_download(repo_id, "absent.json")
    with pytest.raises(HfHubHTTPError, match="409"):
        api.create_repo(repo_id)
    assert api.create_repo(repo_id, exist_ok=True).repo_id == repo_id
    with pytest.raises(HfHubHTTPError, match="403"):
        api.create_repo("bob/model")
    with pytest.raises(ValueError, match=r"Invalid metadata in README.md"):
        api.create_commit(
            repo_id,
            [CommitOperationAdd("README.md", b"---\n[: x\n---\n")],
            commit_message="A broken card",
        )


def test_who_may_read(hub, api, repo_id, uploaded, login, tmp_path):
    """Private: as if it were not there. Gated: its files for those who were let in."""

    def read(cache):
        return Path(hf_hub_download(repo_id, "config.json", cache_dir=tmp_path / cache)).is_file()

    api.update_repo_settings(repo_id, private=True)
    for token in (BOB, None):
        login(token)
        with pytest.raises(RepositoryNotFoundError):
            read("refused")
    login(ANN)
    api.update_repo_settings(repo_id, private=False, gated="manual")
    for token in (BOB, None):
        login(token)
        with pytest.raises(GatedRepoError):
            read("refused")
    hub.storage.repositories["model", repo_id].members.add("bob")
    login(BOB)
    assert read("bob")
    login(READ_ONLY)
    assert read("ann")
    with pytest.raises(HfHubHTTPError, match="403"):
        HfApi().upload_file(path_or_fileobj=b"x", path_in_repo="x", repo_id=repo_id)
    login(EXPIRED)
    with pytest.raises(HfHubHTTPError, match="token from HF_TOKEN environment variable is invalid"):
        HfApi().whoami()


def test_the_server_refuses_what_the_hub_refuses(hub, repo_id, uploaded):
    from huggingface_hub.utils import get_session

    session = get_session()
    put = session.put(f"{hub.storage_host}/storage/{'0' * 64}", content=b"something else")
    assert put.status_code == 422
    assert "0" * 64 not in hub.storage.objects
    headers = {"Authorization": f"Bearer {ANN}"}
    address = f"{hub.endpoint}/api/models/{repo_id}/commit/main"
    for path in ("../outside", "/etc/passwd", "a//b", ".git/config"):
        lines = b'{"key": "header", "value": {"summary": "x"}}\n'
        lines += f'{{"key": "file", "value": {{"path": "{path}", "content": ""}}}}'.encode()
        assert session.post(address, content=lines, headers=headers).status_code == 400
    assert len(hub.storage.repositories["model", repo_id].commits) == 2


def hf(*arguments, **environment):
    return subprocess.run(
        [Path(sys.executable).with_name("hf"), *map(str, arguments)],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        timeout=60,
    )


def test_the_command_line(repo_id, folder, tmp_path):
    up = hf("upload", repo_id, folder, "--commit-message", "From the command line")
    assert up.returncode == 0, up.stderr
    down = hf("download", repo_id, "--local-dir", tmp_path / "down")
    assert down.returncode == 0, down.stderr
    received = contents(tmp_path / "down")
    assert received.pop(".gitattributes")
    assert received == contents(folder)
    assert ANN not in up.stdout + up.stderr + down.stdout + down.stderr
    absent = hf("download", "ann/absent")
    assert absent.returncode != 0
    assert "ann/absent" in absent.stderr + absent.stdout
