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
"""Faults: the clients keep their promises, and nothing half-written is ever loaded."""

import hashlib
import time
from pathlib import Path

import pytest
import torch
from huggingface_hub import HfApi, constants, hf_hub_download, snapshot_download
from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, LocalEntryNotFoundError
from transformers import AutoModel

from hf_vq import hub as our_hub
from hf_vq.models import GMVQImageProcessor
from hub_server.tokens import ANN, BOB, EXPIRED

WEIGHTS = "model.safetensors"


@pytest.fixture
def waits(monkeypatch):
    """How long the clients would have waited."""
    seconds, sleep = [], time.sleep

    def note(duration):
        seconds.append(duration)
        sleep(0.001)

    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", note)
    return seconds


@pytest.fixture
def folder(tiny_config, tmp_path):
    model = AutoModel.from_config(tiny_config("gmvq"))
    model.save_pretrained(tmp_path / "model")
    GMVQImageProcessor(size=8).save_pretrained(tmp_path / "model")
    return tmp_path / "model"


@pytest.fixture
def uploaded(repo_id, folder):
    HfApi().create_repo(repo_id)
    return HfApi().upload_folder(repo_id=repo_id, folder_path=folder)


def cached(repo_id):
    """Whole files in the cache of a repository, by what they should be; also whatever is not whole."""
    place = Path(constants.HF_HUB_CACHE) / f"models--{repo_id.replace('/', '--')}" / "blobs"
    return list(place.iterdir()) if place.is_dir() else []


def assert_clean(repo_id):
    """Each file in the cache has the content that its name says, and none is half-written."""
    for path in cached(repo_id):
        content = path.read_bytes()
        blob = b"blob %d\0" % len(content) + content
        assert path.name in (hashlib.sha1(blob).hexdigest(), hashlib.sha256(content).hexdigest())


def assert_loads(repo_id, folder):
    loaded, _ = our_hub.load_image_autoencoder(repo_id)
    expected, _ = our_hub.load_image_autoencoder(folder)
    for name, tensor in expected.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor), name
    assert_clean(repo_id)


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("path", ["/preupload/", "/objects/batch", "/storage/"])
def test_an_upload_waits_as_long_as_it_is_told(hub, repo_id, folder, waits, status, path):
    HfApi().create_repo(repo_id)
    fault = hub.faults.add("status", path, times=2, status=status, headers={"Retry-After": "7"})
    HfApi().upload_folder(repo_id=repo_id, folder_path=folder)
    assert fault.hits == 2
    assert waits == [8.0, 8.0]  # the clients add a second
    assert_loads(repo_id, folder)


def test_an_upload_gives_up(hub, repo_id, folder, waits):
    HfApi().create_repo(repo_id)
    fault = hub.faults.add("status", "/preupload/", times=100, status=503)
    with pytest.raises(HfHubHTTPError, match="503"):
        HfApi().upload_folder(repo_id=repo_id, folder_path=folder)
    assert fault.hits == 6
    assert waits == [1, 2, 4, 8, 8]
    assert len(hub.storage.repositories["model", repo_id].commits) == 1


def test_a_download_waits(hub, repo_id, folder, uploaded, waits):
    headers = {"Retry-After": "3"}
    hub.faults.add("status", "/storage/", method="GET", status=429, headers=headers)
    assert_loads(repo_id, folder)
    assert waits == [4.0]


def test_a_download_from_a_server_that_is_down(hub, repo_id, folder, uploaded, waits):
    """Of weights the clients ask only once, whatever `Retry-After` says; the next call goes on."""
    headers = {"Retry-After": "3"}
    fault = hub.faults.add("status", "/storage/", method="GET", status=503, headers=headers)
    with pytest.raises(ValueError, match=r"(?s)cannot load .*503"):
        our_hub.load_image_autoencoder(repo_id)
    assert (fault.hits, waits) == (1, [])
    assert_clean(repo_id)
    assert_loads(repo_id, folder)


def test_without_metadata_there_is_an_error_and_then_the_cache(
    hub, repo_id, folder, uploaded, waits
):
    fault = hub.faults.add("status", "/resolve/", method="HEAD", times=100, status=503)
    with pytest.raises(LocalEntryNotFoundError, match="trying to locate the file on the Hub"):
        hf_hub_download(repo_id, "config.json")
    assert fault.hits > 1
    hub.faults.clear()
    assert_loads(repo_id, folder)
    hub.faults.add("status", "", times=10_000, status=503)
    assert_loads(repo_id, folder)


@pytest.mark.parametrize("path", ["/storage/", "/preupload/"])
def test_an_upload_is_cut_and_goes_on(hub, repo_id, folder, waits, path):
    HfApi().create_repo(repo_id)
    fault = hub.faults.add("cut_upload", path, times=1, after=20)
    HfApi().upload_folder(repo_id=repo_id, folder_path=folder)
    assert fault.hits == 1
    assert_loads(repo_id, folder)


def test_a_commit_is_cut_and_the_next_call_goes_on(hub, repo_id, folder, waits):
    """The weights are there already; the commit, which might have been done, is not tried again by itself."""
    HfApi().create_repo(repo_id)
    hub.faults.add("cut_upload", "/commit/", after=20)
    with pytest.raises(Exception, match="disconnected|reset|Broken pipe"):
        HfApi().upload_folder(repo_id=repo_id, folder_path=folder)
    assert len(hub.storage.repositories["model", repo_id].commits) == 1
    hub.requests.clear()
    HfApi().upload_folder(repo_id=repo_id, folder_path=folder)
    assert hub.count("PUT", "/storage/") == 0
    assert_loads(repo_id, folder)


def test_a_download_is_cut_and_goes_on_where_it_was(hub, repo_id, folder, uploaded, waits):
    size = (folder / WEIGHTS).stat().st_size
    fault = hub.faults.add("cut_download", "/storage/", method="GET", after=size // 3)
    assert_loads(repo_id, folder)
    assert fault.hits == 1
    assert hub.count("GET", "/storage/") == 2


def test_a_download_that_never_ends_well(hub, repo_id, folder, uploaded, waits):
    hub.faults.add("cut_download", "/storage/", method="GET", times=100, after=0)
    with pytest.raises(Exception, match="peer closed|closed connection|incomplete"):
        hf_hub_download(repo_id, WEIGHTS)
    assert_clean(repo_id)
    with pytest.raises(ValueError, match="cannot load"):
        our_hub.load_image_autoencoder(repo_id)
    hub.faults.clear()
    assert_loads(repo_id, folder)


@pytest.mark.parametrize("path", ["/storage/", "/resolve-cache/.*config.json"])
def test_an_answer_that_is_too_short(hub, repo_id, folder, uploaded, path):
    hub.faults.add("short", path, method="GET", times=100, after=30)
    with pytest.raises(OSError, match="Consistency check failed"):
        snapshot_download(repo_id)
    assert_clean(repo_id)
    with pytest.raises(ValueError, match=r"cannot load .*Consistency check failed"):
        our_hub.load_image_autoencoder(repo_id)
    hub.faults.clear()
    assert_loads(repo_id, folder)


def test_wrong_bytes_are_found(hub, repo_id, folder, uploaded, tmp_path):
    """Over plain HTTP the clients compare sizes, not checksums; `hf cache verify` does, and a new download repairs."""
    hub.faults.add("corrupt", "/storage/", method="GET")
    hf_hub_download(repo_id, WEIGHTS)
    snapshot_download(repo_id)
    found = HfApi().verify_repo_checksums(repo_id)
    assert [mismatch["path"] for mismatch in found.mismatches] == [WEIGHTS]
    hf_hub_download(repo_id, WEIGHTS, force_download=True)
    assert HfApi().verify_repo_checksums(repo_id).mismatches == []
    assert_loads(repo_id, folder)


def test_a_slow_answer(hub, repo_id, folder, uploaded, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", 0.2)
    fault = hub.faults.add("slow", "/storage/", method="GET", seconds=0.6)
    assert_loads(repo_id, folder)  # the first answer came too late, the second in time
    assert fault.hits == 1
    assert hub.count("GET", "/storage/") == 2


def test_an_expired_token(hub, repo_id, folder, uploaded, login):
    login(EXPIRED)
    for call in (
        lambda: HfApi().upload_folder(repo_id=repo_id, folder_path=folder),
        lambda: HfApi().create_repo(f"{repo_id}-new"),
    ):
        with pytest.raises(HfHubHTTPError, match="401") as caught:
            call()
        assert EXPIRED not in str(caught.value)
    with pytest.raises(Exception, match="401") as caught:
        hf_hub_download(repo_id, "config.json")
    assert EXPIRED not in str(caught.value)
    login(ANN)
    assert_loads(repo_id, folder)


def test_a_gated_repository(hub, repo_id, folder, uploaded, login):
    hub.storage.repositories["model", repo_id].gated = "manual"
    login(BOB)
    for download in (snapshot_download, lambda name: hf_hub_download(name, WEIGHTS)):
        with pytest.raises(GatedRepoError, match="restricted"):
            download(repo_id)
    with pytest.raises(ValueError, match=r"cannot load .*gated repo"):
        our_hub.load_image_autoencoder(repo_id)
    hub.storage.repositories["model", repo_id].members.add("bob")
    assert_loads(repo_id, folder)
