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
"""What a folder must be before it goes to the Hub: whole, without pickles, secrets, or ways out of it."""

import json
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from posixpath import normpath
from urllib.parse import unquote

from huggingface_hub import get_token
from huggingface_hub.utils import HFValidationError, filter_repo_objects, validate_repo_id
from safetensors import SafetensorError, safe_open

from .cards import check_card

# What a training folder holds beside the model: none of it belongs into a published repository.
IGNORE_PATTERNS = [
    "checkpoint*/**",
    "checkpoints/**",
    "best/**",
    "**/__pycache__/**",
    "__pycache__/**",
    ".git/**",
    ".cache/**",
    "*.log",
    "*.jsonl",
    # what training resumes from, here and with Trainer
    "training_args.bin",
    "optimizer.*",
    "scheduler.*",
    "scaler.pt",
    "rng_state*.pth",
]
RECORD_NAME = "evaluation.json"
INDEX_SUFFIX = ".safetensors.index.json"
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".joblib", ".npy", ".h5", ".msgpack")
WHY_NO_PICKLE = (
    "loading it can run any code; only safetensors are published and loaded "
    "(`model.save_pretrained(folder)` writes them)"
)
# ![words](target "title") and <img src="target">
_PICTURE = re.compile(
    r"!\[[^\]]*\]\(\s*<?([^\s>)]*)|<img\s[^>]*?src\s*=\s*[\"']?([^\s\"'>]*)", re.IGNORECASE
)
_TOKEN = re.compile(rb"\bhf_[A-Za-z0-9]{30,}\b")


def published_files(folder: Path) -> list[str]:
    """Paths of the files that publishing uploads, with forward slashes."""
    paths = (p.relative_to(folder).as_posix() for p in folder.rglob("*") if not p.is_dir())
    return sorted(filter_repo_objects(paths, ignore_patterns=IGNORE_PATTERNS))


def check_folder(
    folder: str | Path, repo_id: str | None = None, token: str | None = None
) -> list[str]:
    """What keeps a folder from being published.

    Args:
        folder: The folder.
        repo_id: Where it goes, which the snippets of its card must load.
        token: The token in use, which no file may hold, in addition to anything that looks like one.

    Returns:
        The problems; none for a good folder.
    """
    folder = Path(folder)
    names = published_files(folder)
    problems = [*_outside(folder, names)]
    if problems:  # nothing of it is read then
        return problems
    if not {"config.json", "model_index.json"} & set(names):
        problems.append("it lacks config.json, or model_index.json of a diffusers pipeline")
    problems += _encoder(folder, names)
    problems += _pickles(names)
    problems += _weights(folder, names)
    problems += _secrets(folder, names, token)
    if "README.md" not in names:
        return [*problems, "it lacks README.md, the model card"]
    record = None
    if RECORD_NAME in names:
        record = json.loads((folder / RECORD_NAME).read_text(encoding="utf-8"))
    card = (folder / "README.md").read_text(encoding="utf-8")
    return [*problems, *check_card(card, record, repo_id), *_links(card, names)]


def _outside(folder: Path, names: list[str]) -> Iterator[str]:
    for name in names:
        if not (folder / name).resolve().is_relative_to(folder.resolve()):
            yield f"{name} is a link that leaves the folder"


def _encoder(folder: Path, names: list[str]) -> Iterator[str]:
    """Topics are read with the encoder that the configuration names, wherever the model is loaded."""
    if "config.json" not in names:
        return
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    encoder = config.get("encoder_name_or_path")
    try:
        if encoder:
            validate_repo_id(encoder)
    except HFValidationError:
        yield (
            f"config.json names the encoder {encoder!r}, a folder of this machine: expected a Hub id, which strangers "
            "can load as well"
        )


def find_pickles(names: list[str]) -> list[str]:
    """Files that are, by their names, pickles or formats that may hold them."""
    return [name for name in names if PurePosixPath(name).suffix.lower() in PICKLES]


def _pickles(names: list[str]) -> Iterator[str]:
    for name in find_pickles(names):
        yield f"{name} may hold a pickle: {WHY_NO_PICKLE}"


def _weights(folder: Path, names: list[str]) -> Iterator[str]:
    weights = [name for name in names if name.endswith(".safetensors")]
    if not weights:
        yield "it lacks weights in safetensors"
    for name in weights:
        try:
            with safe_open(folder / name, framework="pt"):
                pass
        except SafetensorError as error:
            yield f"{name} is truncated or damaged: {error}"
    for index in (name for name in names if name.endswith(INDEX_SUFFIX)):
        strangers = find_strangers(folder / index)
        for shard in strangers:
            yield f"{index} names {shard}, which is not in its folder"
        for shard in sorted(_shards(folder / index) - set(strangers)):
            if str(PurePosixPath(index).parent / shard) not in weights:
                yield f"{index} names {shard}, which is not there"


def _shards(index: Path) -> set[str]:
    return set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())


def find_strangers(index: Path) -> list[str]:
    """Files that an index of weights names outside its own folder."""
    return sorted(shard for shard in _shards(index) if not re.fullmatch(r"[^/\\]+", shard))


def _links(card: str, names: list[str]) -> Iterator[str]:
    """Pictures that a reader of the card would not see."""
    text = re.sub(r"```.*?```|`[^`\n]*`", "", card, flags=re.DOTALL)
    for markdown, html in _PICTURE.findall(text):
        target = markdown or html
        path = unquote(re.split("[?#]", target)[0])
        elsewhere = re.match(r"[a-z][a-z0-9+.-]*:|//", target, re.IGNORECASE)
        if not elsewhere and normpath(path) not in names:
            yield f"the card shows the picture {target}, which is not in the folder"


def _secrets(folder: Path, names: list[str], token: str | None) -> Iterator[str]:
    # A shorter word is no token, and may well occur by itself.
    own = [each.encode() for each in (token, get_token()) if each and len(each) >= 16]
    for name in names:
        with open(folder / name, "rb") as file:
            # Of weights, the header: the rest is numbers, and may be more than fits into memory.
            content = file.read(1 << 20 if name.endswith(".safetensors") else -1)
        # The message must not repeat what it warns of.
        if _TOKEN.search(content) or any(each in content for each in own):
            yield f"{name} holds an access token; take it out, and revoke it if anybody has seen the file"


__all__ = [
    "IGNORE_PATTERNS",
    "INDEX_SUFFIX",
    "RECORD_NAME",
    "check_folder",
    "find_pickles",
    "find_strangers",
    "published_files",
]
