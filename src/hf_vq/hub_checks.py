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

import ast
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from posixpath import normpath
from typing import Any
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
# Formats that are written here, or that people add to them: texts, and pictures for the card.
PUBLISHED = tuple(
    ".safetensors .json .py .md .txt .yaml .yml .jinja .csv .png .jpg .jpeg .gif .webp .svg".split()
)
PUBLISHED_NAMES = ("LICENSE", "NOTICE", ".gitattributes", ".gitignore")
# From where transformers and diffusers learn which code and which classes belong to a folder.
CONFIG_NAMES = (
    "config.json",
    "model_index.json",
    "preprocessor_config.json",
    "processor_config.json",
    "tokenizer_config.json",
)
# What reads the input of each type of model.
PROCESSORS = {
    "gmvq": ["preprocessor_config.json"],
    "t5_vqvae": ["tokenizer.json", "tokenizer_config.json"],
    "topic_vq": ["processor_config.json", "vocabulary.json"],
}
# A path of a machine: /home/me/run, file:///home/me/run, C:\Users\me; but no address of the web.
PATH = re.compile(
    r"(?<![\w/.~-])(?:file://)?/(?!/)(?:[^\s/'\"]+/)+[^\s/'\",;)]*|\b[A-Za-z]:\\[^\s'\"]+"
)
# ![words](target "title") and <img src="target">; ![words][label] or ![label] with [label]: target
_PICTURE = re.compile(
    r"!\[[^\]]*\]\(\s*<?([^\s>)]*)|<img\s[^>]*?src\s*=\s*[\"']?([^\s\"'>]*)", re.IGNORECASE
)
_REFERENCE = re.compile(r"!\[([^\]]+)\](?!\()(?:\[([^\]]*)\])?")
_DEFINITION = re.compile(r"^ {0,3}\[([^\]]+)\]:\s*<?([^\s>]+)", re.MULTILINE)
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
    problems = [*_unreadable(folder, names), *find_secrets(folder, names, token)]
    if problems:  # nor what cannot be understood
        return problems
    if repo_id is not None:
        try:
            check_repo_id(repo_id)
        except ValueError as error:
            problems.append(str(error))
    if not {"config.json", "model_index.json"} & set(names):
        problems.append("it lacks config.json, or model_index.json of a diffusers pipeline")
    problems += _encoder(folder, names)
    problems += _code(folder, names)
    problems += _paths(folder, names)
    problems += _formats(folder, names)
    problems += _weights(folder, names)
    if "README.md" not in names:
        return [*problems, "it lacks README.md, the model card"]
    record = _read_json(folder, RECORD_NAME) if RECORD_NAME in names else None
    card = (folder / "README.md").read_text(encoding="utf-8")
    return [*problems, *check_card(card, record, repo_id), *_links(card, names)]


def check_repo_id(repo_id: str) -> None:
    """Refuses what cannot be a repository of somebody, before any work is done for it.

    Raises:
        ValueError: If it is not of the form `user/name`.
    """
    try:
        validate_repo_id(repo_id)
        _, _ = repo_id.split("/")
    except ValueError as error:
        raise ValueError(
            f"{repo_id!r} cannot be a repository, expected user/name, each of letters, digits, '-', '_', '.': {error}"
        ) from error


def _outside(folder: Path, names: list[str]) -> Iterator[str]:
    for name in names:
        if not (folder / name).is_file():
            yield f"{name} is neither a file nor a link to one"
        elif not (folder / name).resolve().is_relative_to(folder.resolve()):
            yield f"{name} is a link that leaves the folder"


def _unreadable(folder: Path, names: list[str]) -> Iterator[str]:
    for name in names:
        path = folder / name
        try:
            if name == "README.md":
                path.read_text(encoding="utf-8")
            elif path.suffix == ".py":
                ast.parse(path.read_bytes())
            elif name.endswith(INDEX_SUFFIX):
                _shards(path)
            elif path.suffix == ".json":
                content = json.loads(path.read_text(encoding="utf-8"))
                if (path.name in CONFIG_NAMES or name == RECORD_NAME) and (
                    not isinstance(content, Mapping)
                ):
                    raise ValueError(f"expected an object, got {type(content).__name__}")
                if name == RECORD_NAME and not isinstance(content.get("metrics"), Mapping):
                    raise ValueError("expected an evaluation record, with metrics")
                if path.name in CONFIG_NAMES:
                    _modules(PurePosixPath(name), content)
        except (ValueError, SyntaxError, AttributeError, TypeError) as error:
            yield f"{name} cannot be read: {error}"


def _read_json(folder: Path, name: str) -> Any:
    return json.loads((folder / name).read_text(encoding="utf-8"))


def config_files(names: list[str]) -> list[str]:
    """Those of some files that say which code and which classes belong to their folder."""
    return [name for name in names if PurePosixPath(name).name in CONFIG_NAMES]


def _encoder(folder: Path, names: list[str]) -> Iterator[str]:
    """Topics are read with the encoder that the configuration names, wherever the model is loaded."""
    if "config.json" not in names:
        return
    config = _read_json(folder, "config.json")
    encoder = config.get("encoder_name_or_path")
    try:
        if encoder:
            validate_repo_id(encoder)
    except HFValidationError:
        yield (
            f"config.json names the encoder {encoder!r}, a folder of this machine: expected a Hub id, which strangers "
            "can load as well"
        )
    # What training calls word vectors that were made from the documents; no library knows them.
    if encoder == "corpus" and "encoder.safetensors" not in names:
        yield "it lacks encoder.safetensors, the word vectors of the encoder 'corpus' in config.json"


def _code(folder: Path, names: list[str]) -> Iterator[str]:
    """Files that others need to load what is here, and that are not here."""
    if "config.json" in names:
        model_type = str(_read_json(folder, "config.json").get("model_type"))
        for name in PROCESSORS.get(model_type, []):
            if name not in names:
                yield f"it lacks {name}, without which {model_type} does not read its input"
    for name in config_files(names):
        for module in _modules(PurePosixPath(name), _read_json(folder, name)):
            if module not in names:
                yield f"{name} names the code {module}, which is not there"
    for name in (name for name in names if name.endswith(".py")):
        for sibling in _siblings(PurePosixPath(name), (folder / name).read_bytes()):
            if sibling not in names:
                yield f"{name} imports {sibling}, which is not there"


def _modules(path: PurePosixPath, config: Mapping[str, Any]) -> list[str]:
    """Files of code that a configuration names; none for the code of libraries and of other repositories."""
    if path.name == "model_index.json":
        parts = {name: part for name, part in config.items() if isinstance(part, list)}
        local = [
            f"{name}/{module}.py"
            for name, (module, *_) in parts.items()
            if module not in (None, "transformers", "diffusers")
        ]
        # A pipeline of diffusers itself would not know these classes.
        local += ["pipeline.py"] if local else []
        return [str(path.parent / name) for name in dict.fromkeys(local)]
    named: list[Any] = []
    for reference in (config.get("auto_map") or {}).values():
        named += reference if isinstance(reference, list) else [reference]
    named += [task.get("impl") for task in (config.get("custom_pipelines") or {}).values()]
    modules = {each.rpartition(".")[0] for each in named if each and "--" not in each}
    return [str(path.parent / f"{module}.py") for module in sorted(modules)]


def _siblings(path: PurePosixPath, source: bytes) -> list[str]:
    """Files that a module imports from its own folder."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.level == 1:
            found |= {node.module} if node.module else {alias.name for alias in node.names}
    return sorted(str(path.parent / f"{module.replace('.', '/')}.py") for module in found)


def _paths(folder: Path, names: list[str]) -> Iterator[str]:
    """Folders of this machine, which are nobody's business, and where nobody else finds anything."""
    for name in config_files(names):
        for value in _strings(_read_json(folder, name)):
            if PATH.match(value):
                yield f"{name} holds {value!r}, a path of this machine: take it out"


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping | list):
        for each in value.values() if isinstance(value, Mapping) else value:
            yield from _strings(each)


def find_pickles(names: list[str]) -> list[str]:
    """Files that are, by their names, pickles or formats that may hold them."""
    return [name for name in names if PurePosixPath(name).suffix.lower() in PICKLES]


def _formats(folder: Path, names: list[str]) -> Iterator[str]:
    """What is not known to be harmless; pickles have too many names to list them."""
    for name in names:
        path = PurePosixPath(name)
        if path.suffix.lower() in PUBLISHED or path.name in PUBLISHED_NAMES:
            continue
        # A model of sentencepiece is a message of protobuf, whose first field begins so; no pickle does.
        if path.suffix == ".model" and (folder / name).read_bytes().startswith(b"\n"):
            continue
        yield f"{name} may hold a pickle: {WHY_NO_PICKLE}; expected a file in {' '.join(PUBLISHED)}"


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
    content = json.loads(index.read_text(encoding="utf-8"))
    shards = content.get("weight_map") if isinstance(content, Mapping) else None
    if not isinstance(shards, Mapping) or not all(isinstance(n, str) for n in shards.values()):
        raise ValueError(f"{index} has no weight_map, expected the file of each weight")
    return set(shards.values())


def find_strangers(index: Path) -> list[str]:
    """Files that an index of weights names outside its own folder."""
    return sorted(shard for shard in _shards(index) if not re.fullmatch(r"[^/\\]+", shard))


def _links(card: str, names: list[str]) -> Iterator[str]:
    """Pictures that a reader of the card would not see."""
    text = re.sub(r"```.*?```|`[^`\n]*`", "", card, flags=re.DOTALL)
    targets = [markdown or html for markdown, html in _PICTURE.findall(text)]
    defined = {label.casefold(): target for label, target in _DEFINITION.findall(text)}
    labels = [(label or words).casefold() for words, label in _REFERENCE.findall(text)]
    targets += [defined[label] for label in labels if label in defined]
    for target in targets:
        path = unquote(re.split("[?#]", target)[0])
        elsewhere = re.match(r"[a-z][a-z0-9+.-]*:|//", target, re.IGNORECASE)
        if not elsewhere and normpath(path) not in names:
            yield f"the card shows the picture {target}, which is not in the folder"


def find_secrets(folder: Path, names: list[str], token: str | None = None) -> Iterator[str]:
    """Files that hold the token in use, or anything that looks like one."""
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
    "PATH",
    "RECORD_NAME",
    "check_folder",
    "check_repo_id",
    "config_files",
    "find_pickles",
    "find_secrets",
    "find_strangers",
    "published_files",
]
