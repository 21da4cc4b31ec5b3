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
"""From a finished run to a folder for the Hub: weights, code, processor, card, record, training arguments."""

import json
import re
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import eval_result_entries_to_yaml

from ._extras import require
from .cards import TEMPLATE, describe_model, eval_result_entries, render_card
from .evaluation import read_record, record_path, weight_checksums
from .hub import (
    load_image_autoencoder,
    load_text_autoencoder,
    load_topic_model,
    save_for_hub,
    save_pipeline_for_hub,
)
from .hub_checks import (
    INDEX_SUFFIX,
    PATH,
    RECORD_NAME,
    check_repo_id,
    config_files,
    find_pickles,
    find_secrets,
    published_files,
)


@dataclass(frozen=True)
class Kind:
    """How checkpoints of a model type become a folder.

    Attributes:
        load: Makes what belongs together of a checkpoint's folder; the model comes first.
        save: Writes that into a folder for the Hub.
        words: What is said of such models in the metadata of a card.
    """

    load: Callable[[Path], tuple[Any, ...]]
    save: Callable[..., Path]
    words: dict[str, Any]


def _load_image_topics(checkpoint: Path) -> tuple[Any, Any]:
    """The prior that was scored, and the pipeline with it and the tokenizer of its codes."""
    require("diffusers", extra="image")
    from .models import TopicVQForImageGeneration
    from .topic_images.pipeline import TopicVQImagePipeline

    whole = checkpoint.parent / "pipeline"
    if not whole.is_dir():
        raise ValueError(
            f"{whole} is missing: it holds the image tokenizer whose codes were learned"
        )
    prior = TopicVQForImageGeneration.from_pretrained(checkpoint, use_safetensors=True).eval()
    return prior, TopicVQImagePipeline.from_pretrained(whole, prior=prior)


def _save_image_topics(prior: Any, pipe: Any, folder: Path, **options: Any) -> Path:
    return save_pipeline_for_hub(pipe, folder, **options)


KINDS = {
    "gmvq": Kind(
        load_image_autoencoder,
        save_for_hub,
        {
            "library_name": "transformers",
            "task": "image-reconstruction",
            "pipeline_tag": "image-to-image",
            "tags": ["image-tokenizer"],
        },
    ),
    "t5_vqvae": Kind(
        load_text_autoencoder,
        save_for_hub,
        {
            "library_name": "transformers",
            "task": "text-reconstruction",
            "pipeline_tag": "feature-extraction",
            "tags": ["text-autoencoder"],
        },
    ),
    "topic_vq": Kind(
        load_topic_model,
        save_for_hub,
        {
            "library_name": "transformers",
            "task": "topic-modeling",
            "pipeline_tag": "text-classification",
            "tags": ["topic-modeling"],
        },
    ),
    "topic_vq_image": Kind(
        _load_image_topics,
        _save_image_topics,
        {
            "library_name": "diffusers",
            "task": "unconditional-image-generation",
            "pipeline_tag": "unconditional-image-generation",
            "tags": ["topic-modeling"],
        },
    ),
}
RESULTS_NAME = "all_results.json"


def prepare_run(
    run: str | Path,
    repo_id: str,
    folder: str | Path | None = None,
    *,
    license: str | None = None,
    card: str | Path = TEMPLATE,
    recipe: str | None = None,
    max_shard_size: str = "5GB",
) -> Path:
    """Writes the folder that `hf_vq.hub.publish` uploads.

    Pictures in `<run>/pictures`, for example those of `hf_vq.card_pictures.draw_pictures`, go along, beside the card.

    Args:
        run: Folder of a run, of which the best model is taken and else the final one; or of one of the two. A prior of
            images by topic is published with the image tokenizer from the run's `pipeline`.
        repo_id: Where the folder will go, for the snippets of the card.
        folder: Where to write; `<run>/hub` if not given. A folder written before is replaced, unless there is anything
            else in it by now.
        license: Licence of the weights. The general card needs it; a card of your own states it itself.
        card: Template of the card; a general one if not given.
        recipe: What the run was told, as YAML; its training options if not given.
        max_shard_size: Larger weights are split into files of this size.

    Returns:
        The folder.

    Raises:
        ValueError: If the run has no model, no record of these weights beside it, or is of a kind that cannot be
            published this way; if there is something else in `folder`; or if a file would hold an access token.
    """
    check_repo_id(repo_id)
    if not re.fullmatch(r"[1-9]\d*[KMGT]B", max_shard_size):
        raise ValueError(
            f"max_shard_size is {max_shard_size!r}, expected a size such as '500MB' or '5GB'"
        )
    checkpoint = find_checkpoint(run)
    target = Path(folder) if folder is not None else _run_folder(checkpoint) / "hub"
    _check_target(target)
    record = _record(checkpoint)
    model_type = find_model_type(checkpoint)
    kind = KINDS[model_type]
    parts = kind.load(checkpoint)
    results = _results(_run_folder(checkpoint))
    stages = _stages(results)
    if recipe is None and stages:
        told = {name: stage["config"] for name, stage in stages.items()}
        recipe = yaml.safe_dump(told.get("", told), sort_keys=False)
    pictures = _pictures(checkpoint)
    name = repo_id.rpartition("/")[2]
    text = render_card(
        card,
        record,
        repo_id=repo_id,
        model_name=name,
        recipe=_without_folders((recipe or "").strip()),
        training=list(stages.values()),
        pictures=[picture.name for picture in pictures],
        config=parts[0].config.to_dict(),
        metadata=describe_model(
            record, model_name=name, model_type=model_type, license=license, **kind.words
        ),
    )
    entries = eval_result_entries(text, record)
    target.parent.mkdir(parents=True, exist_ok=True)
    # What fails half-way leaves no folder behind that looks finished.
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}-") as place:
        whole = kind.save(
            *parts, Path(place) / target.name, card=text, max_shard_size=max_shard_size
        )
        for file in config_files(published_files(whole)):
            content = _read_object(whole / file)
            if content.pop("_name_or_path", None) is not None:  # where diffusers had loaded it from
                _write_json(whole / file, content)
        _write_json(whole / RECORD_NAME, record)
        if results:
            _write_json(whole / RESULTS_NAME, results)
        for picture in pictures:
            shutil.copyfile(picture, whole / picture.name)
        if entries:
            (whole / ".eval_results").mkdir()
            lines = yaml.safe_dump(eval_result_entries_to_yaml(entries), sort_keys=False)
            (whole / ".eval_results" / "hf_vq.yaml").write_text(lines, encoding="utf-8")
        secrets = list(find_secrets(whole, published_files(whole)))
        if secrets:
            raise ValueError(f"{target} was not written:\n- " + "\n- ".join(secrets))
        if target.exists():
            _check_replaceable(target, whole)
            shutil.rmtree(target)
        whole.rename(target)
    return target


def find_checkpoint(run: str | Path) -> Path:
    """The folder of a run's best model, else of its final one; or the folder itself, if it is that of a model."""
    for folder in (Path(run) / "best", Path(run) / "final", Path(run)):
        if (folder / "config.json").is_file():
            pickles = find_pickles([path.name for path in folder.iterdir()])
            if pickles and not list(folder.glob("*.safetensors")):
                raise ValueError(
                    f"{folder} holds weights as a pickle ({pickles[0]}), which can run any code when it is loaded: "
                    "save them as safetensors first"
                )
            return folder
    raise ValueError(f"{run} holds no finished model: no best/, no final/ and no config.json")


def find_model_type(checkpoint: Path) -> str:
    """The type of a checkpoint's model, if it is one of ours."""
    model_type = _read_object(checkpoint / "config.json").get("model_type")
    if model_type not in list(KINDS):
        known = ", ".join(map(repr, KINDS))
        raise ValueError(f"{checkpoint} is of type {model_type!r}, expected one of {known}")
    return model_type


def pictures_folder(checkpoint: str | Path) -> Path:
    """Where the pictures of a run lie that go into its card."""
    return _run_folder(Path(checkpoint)) / "pictures"


def _run_folder(checkpoint: Path) -> Path:
    return checkpoint.parent if checkpoint.name in ("best", "final") else checkpoint


def _record(checkpoint: Path) -> dict[str, Any]:
    path = record_path(checkpoint)
    if not path.is_file():
        raise ValueError(
            f"{path} is missing: a card shows measured figures, so score the checkpoint first "
            "(scripts/evaluate.py, evaluate_text.py or evaluate_topics.py)"
        )
    record = read_record(path)
    found = weight_checksums(checkpoint) if "weights" in record else {}
    strangers = [name for name, each in found.items() if each not in record["weights"].values()]
    if strangers:
        raise ValueError(
            f"{path} holds the figures of other weights than {checkpoint / strangers[0]}: score the checkpoint again "
            "(scripts/evaluate.py, evaluate_text.py, evaluate_topics.py or evaluate_topic_images.py)"
        )
    return record


def _pictures(checkpoint: Path) -> list[Path]:
    """The pictures of a run, which lie beside its card when they are published."""
    pictures = sorted(pictures_folder(checkpoint).glob("*.png"))
    for picture in pictures:
        if not re.fullmatch(r"[\w.-]+", picture.name):
            raise ValueError(
                f"{picture}: a card cannot link to this name, expected letters, digits, '.', '_', '-'"
            )
        if picture.is_symlink() or not picture.is_file():
            raise ValueError(f"{picture} is a link or a folder, expected a file of this run")
        with picture.open("rb") as file:
            if file.read(8) != b"\x89PNG\r\n\x1a\n":
                raise ValueError(f"{picture} holds no PNG image, expected one by its name")
    return pictures


def _results(run: Path) -> dict[str, Any]:
    path = run / RESULTS_NAME
    if not path.is_file():
        return {}
    return _without_folders(_read_object(path))


def _stages(results: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """What each stage of training came to, by name; a run without stages is one, without a name.

    A stage without options did not train: the codebook of topics, for example, may be found by k-means alone.
    """
    stages = {"": results} if "config" in results else results
    return {
        name: dict(stage)
        for name, stage in stages.items()
        if isinstance(stage, Mapping) and "config" in stage
    }


def _without_folders(value: Any) -> Any:
    """Names instead of paths: where a machine keeps its files is nobody's business."""
    if isinstance(value, Mapping):
        return {key: _without_folders(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_without_folders(each) for each in value]
    if isinstance(value, str):
        if Path(value).is_absolute():
            return Path(value).name or value
        # Command lines and recipes hold them among other words.
        return PATH.sub(lambda found: re.split(r"[/\\]", found[0].rstrip("/\\"))[-1], value)
    return value


def _check_target(target: Path) -> None:
    if target.is_symlink() or (target.exists() and not target.is_dir()):
        raise ValueError(f"{target} is a file or a link, expected a folder or nothing")
    if target.exists() and any(target.iterdir()) and not (target / RECORD_NAME).is_file():
        raise ValueError(f"{target} holds something else: choose another folder")


def _check_replaceable(target: Path, whole: Path) -> None:
    """Refuses to delete what would not come back: a git repository, or a file that somebody added."""
    written = {RESULTS_NAME, ".eval_results/hf_vq.yaml"}
    written |= {path.relative_to(whole).as_posix() for path in whole.rglob("*")}
    present = {path.relative_to(target).as_posix() for path in target.rglob("*")}
    # Weights may have been split otherwise; and `hf upload` notes there what it has uploaded.
    replaced = re.compile(rf".*(\.safetensors|{re.escape(INDEX_SUFFIX)})|\.cache(/.*)?")
    others = sorted(name for name in present - written if not replaced.fullmatch(name))
    # Of a folder that is not known, its name says enough.
    others = [name for name in others if name.rpartition("/")[0] not in others]
    if others:
        raise ValueError(
            f"{target} holds {', '.join(others)}, which this does not write: take it away or choose another folder"
        )


def _read_object(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(content, dict):
            raise ValueError(f"expected an object, got {type(content).__name__}")
    except ValueError as error:
        raise ValueError(f"{path} cannot be read: {error}") from error
    return content


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


__all__ = ["find_checkpoint", "find_model_type", "pictures_folder", "prepare_run"]
