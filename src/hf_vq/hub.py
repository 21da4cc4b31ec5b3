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
"""Checkpoints on the Hub: what goes with them, and how they get there. `checkpoints.py` loads them.

This is the only module that writes to the Hub.
"""

import inspect
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from typing import Any

from huggingface_hub import CommitInfo, HfApi, ModelCard
from transformers import (
    Pipeline,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    ProcessorMixin,
)
from transformers.image_processing_utils import BaseImageProcessor

from . import pipelines, text_pipelines, topic_pipelines
from .cards import render_card
from .checkpoints import load_image_autoencoder, load_text_autoencoder, load_topic_model
from .hub_checks import (
    IGNORE_PATTERNS,
    check_folder,
)
from .models import MODELS, TopicVQProcessor
from .models.eval_mode import eval_mode
from .single_file import single_file

logger = logging.getLogger(__name__)


@contextmanager
def attach_code(model: PreTrainedModel, processor: Any = None) -> Iterator[None]:
    """While open, `save_pretrained` copies the source files and writes `auto_map`, so that the code travels along.

    The marks are taken off again at the end. transformers keeps them on the classes for the whole process, where they
    would put code into every later training checkpoint.

    Args:
        model: A model of the `MODELS` table.
        processor: Its processor, if it has one of its own.
    """
    rows = [row for row in MODELS if row[1] is type(model)]
    if not rows:
        known = ", ".join(row[1].__name__ for row in MODELS)
        raise ValueError(f"{type(model).__name__} is no model of hf_vq: expected one of {known}")
    marks: list[tuple[Any, str]] = [(type(model.config), "AutoConfig")]
    marks += [(row[1], row[2].__name__) for row in rows]
    if isinstance(processor, BaseImageProcessor):
        marks.append((type(processor), "AutoImageProcessor"))
    elif isinstance(processor, ProcessorMixin):
        marks.append((type(processor), "AutoProcessor"))
    # transformers also writes into the living objects, from where it would reach every later save.
    attributes = [(cls, "_auto_class") for cls, _ in marks]
    attributes += [(model.config, "auto_map"), (model.config, "custom_pipelines")]
    attributes += [(processor, "auto_map")] if processor is not None else []
    before = [
        (owner, name, name in vars(owner), deepcopy(vars(owner).get(name)))
        for owner, name in attributes
    ]
    try:
        for cls, auto_class in marks:
            cls.register_for_auto_class(auto_class)
        yield
    finally:
        for owner, name, was_set, value in before:
            if was_set:
                setattr(owner, name, value)
            elif name in vars(owner):
                delattr(owner, name)


def save_for_hub(
    model: PreTrainedModel,
    processor: BaseImageProcessor | PreTrainedTokenizerBase | TopicVQProcessor,
    folder: str | Path,
    card: str | None = None,
    max_shard_size: str = "5GB",
) -> Path:
    """Writes a folder that works for people without hf_vq.

    It holds safetensors, configuration, processor, their source files, the custom pipeline and the card. They load it
    with `AutoModel.from_pretrained(folder, trust_remote_code=True)` (texts: `AutoModelForSeq2SeqLM`), or with
    `pipeline("image-reconstruction", model=folder, trust_remote_code=True)` (texts: `"text-reconstruction"`, topics:
    `"topic-modeling"`).

    Args:
        model: A model of the `MODELS` table.
        processor: Its image processor, tokenizer or processor.
        folder: Where to write; created if needed.
        card: Text of the model card with its metadata, for example from `render_card`.
        max_shard_size: Larger weights are split into files of this size.

    Returns:
        The folder.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    # A pipeline puts its model in eval mode.
    with attach_code(model, processor), eval_mode(model):
        pipeline: Pipeline
        if isinstance(processor, PreTrainedTokenizerBase):
            pipeline = text_pipelines.TextCodesPipeline(
                model=model,
                tokenizer=processor,
                task=text_pipelines.TEXT_TASKS[0],
                device=model.device,
            )
        elif isinstance(processor, TopicVQProcessor):
            pipeline = topic_pipelines.TopicModelingPipeline(
                model=model,
                processor=processor,
                task=topic_pipelines.TOPIC_TASK,
                device=model.device,
            )
        else:
            pipeline = pipelines.ImageReconstructionPipeline(
                model=model, image_processor=processor, task=pipelines.TASK, device=model.device
            )
        pipeline.save_pretrained(folder, max_shard_size=max_shard_size)
    if card is not None:
        ModelCard(card).save(folder / "README.md")
    return folder


def save_pipeline_for_hub(
    pipe: Any, folder: str | Path, card: str | None = None, max_shard_size: str = "5GB"
) -> Path:
    """Writes a pipeline of diffusers as a folder that works for people without hf_vq.

    They load it with `DiffusionPipeline.from_pretrained(folder, custom_pipeline="pipeline", trust_remote_code=True)`.
    Each model of ours lies in its folder with its code, in one file.

    Args:
        pipe: A pipeline that brings its own code, as that of `hf_vq.topic_images` does.
        folder: Where to write; created if needed.
        card: Text of the model card with its metadata.
        max_shard_size: Larger weights are split into files of this size.

    Returns:
        The folder.
    """
    folder = Path(folder)
    pipe.save_pretrained(folder, max_shard_size=max_shard_size)
    index = folder / "model_index.json"
    parts = json.loads(index.read_text(encoding="utf-8"))
    for name, model in pipe.components.items():
        if type(model) not in [row[1] for row in MODELS]:
            continue
        source = Path(inspect.getsourcefile(type(model)) or "")
        (folder / name / source.name).write_text(single_file(source), encoding="utf-8")
        parts[name] = [source.stem, type(model).__name__]
    index.write_text(json.dumps(parts, indent=2) + "\n", encoding="utf-8")
    if card is not None:
        ModelCard(card).save(folder / "README.md")
    return folder


def publish(
    repo_id: str,
    folder: str | Path,
    *,
    private: bool | None = None,
    revision: str | None = None,
    create_pr: bool = False,
    commit_message: str = "Upload model",
    token: str | None = None,
) -> CommitInfo:
    """Uploads a folder written by `hf_vq.publishing.prepare_run` or `save_for_hub`, if it passes its checks.

    The repository and the branch are created if they do not exist. What is on the Hub already is not uploaded again, so
    that the same call goes on after a broken connection.

    Args:
        repo_id: `user/name` on the Hub.
        folder: The folder; checkpoints and logs in it stay at home.
        private: Whether a new repository is private.
        revision: Branch to commit to.
        create_pr: Whether to open a pull request instead of committing.
        commit_message: Subject of the commit.
        token: Access token; the stored one if not given.

    Returns:
        The commit, with its address.

    Raises:
        ValueError: If the folder lacks something, its card does not pass its test, or it holds a pickle, a token or a
            way out of the folder.
    """
    folder = Path(folder)
    if create_pr and revision not in (None, "main"):
        raise ValueError(
            f"a pull request goes to main, not to {revision!r}: give revision or create_pr"
        )
    problems = check_folder(folder, repo_id, token)
    if problems:
        raise ValueError(f"{folder} is not ready to publish:\n- " + "\n- ".join(problems))
    api = HfApi(token=token)
    api.create_repo(repo_id, private=private, exist_ok=True)
    if revision not in (None, "main"):
        api.create_branch(repo_id, branch=revision, exist_ok=True)
    commit = api.upload_folder(
        repo_id=repo_id,
        folder_path=folder,
        revision=revision,
        create_pr=create_pr,
        commit_message=commit_message,
        ignore_patterns=list(IGNORE_PATTERNS),  # which the client adds to
    )
    logger.info("published %s", commit.commit_url)
    return commit


__all__ = [
    "attach_code",
    "load_image_autoencoder",
    "load_text_autoencoder",
    "load_topic_model",
    "publish",
    "render_card",
    "save_for_hub",
    "save_pipeline_for_hub",
]
