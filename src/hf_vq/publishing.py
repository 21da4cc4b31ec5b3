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
from transformers import AutoConfig

from ._extras import require
from .cards import TEMPLATE, describe_model, eval_result_entries, render_card
from .evaluation import read_record, record_path
from .hub import (
    load_image_autoencoder,
    load_text_autoencoder,
    load_topic_model,
    save_for_hub,
    save_pipeline_for_hub,
)
from .hub_checks import RECORD_NAME, find_pickles


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
        folder: Where to write; `<run>/hub` if not given. A folder written before is replaced.
        license: Licence of the weights. The general card needs it; a card of your own states it itself.
        card: Template of the card; a general one if not given.
        recipe: What the run was told, as YAML; its training options if not given.
        max_shard_size: Larger weights are split into files of this size.

    Returns:
        The folder.

    Raises:
        ValueError: If the run has no model, no record beside it, or is of a kind that cannot be published this way; or
            if there is something else in `folder`.
    """
    checkpoint = find_checkpoint(run)
    record = _record(checkpoint)
    model_type = find_model_type(checkpoint)
    kind = KINDS[model_type]
    parts = kind.load(checkpoint)
    results = _results(checkpoint.parent)
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
        recipe=(recipe or "").strip(),
        training=list(stages.values()),
        pictures=[picture.name for picture in pictures],
        config=parts[0].config.to_dict(),
        metadata=describe_model(
            record, model_name=name, model_type=model_type, license=license, **kind.words
        ),
    )
    entries = eval_result_entries(text, record)
    target = Path(folder) if folder is not None else _run_folder(checkpoint) / "hub"
    _check_target(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    # What fails half-way leaves no folder behind that looks finished.
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}-") as place:
        whole = kind.save(
            *parts, Path(place) / target.name, card=text, max_shard_size=max_shard_size
        )
        _write_json(whole / RECORD_NAME, record)
        if results:
            _write_json(whole / RESULTS_NAME, results)
        for picture in pictures:
            shutil.copyfile(picture, whole / picture.name)
        if entries:
            (whole / ".eval_results").mkdir()
            lines = yaml.safe_dump(eval_result_entries_to_yaml(entries), sort_keys=False)
            (whole / ".eval_results" / "hf_vq.yaml").write_text(lines, encoding="utf-8")
        if target.exists():
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
    model_type = AutoConfig.from_pretrained(checkpoint).model_type
    if model_type not in KINDS:
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
    return read_record(path)


def _pictures(checkpoint: Path) -> list[Path]:
    """The pictures of a run, which lie beside its card when they are published."""
    pictures = sorted(pictures_folder(checkpoint).glob("*.png"))
    for picture in pictures:
        if not re.fullmatch(r"[\w.-]+", picture.name):
            raise ValueError(
                f"{picture}: a card cannot link to this name, expected letters, digits, '.', '_', '-'"
            )
    return pictures


def _results(run: Path) -> dict[str, Any]:
    path = run / RESULTS_NAME
    if not path.is_file():
        return {}
    return _without_folders(json.loads(path.read_text(encoding="utf-8")))


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
    if isinstance(value, str) and Path(value).is_absolute():
        return Path(value).name
    return value


def _check_target(target: Path) -> None:
    if target.exists() and any(target.iterdir()) and not (target / RECORD_NAME).is_file():
        raise ValueError(f"{target} holds something else: choose another folder")


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


__all__ = ["find_checkpoint", "find_model_type", "pictures_folder", "prepare_run"]
