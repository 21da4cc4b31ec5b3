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
"""Loading a checkpoint as a whole or not at all: what is missing, damaged or no checkpoint of ours is refused."""

from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from transformers import (
    AutoConfig,
    AutoProcessor,
    AutoTokenizer,
    PreTrainedTokenizerBase,
)
from transformers.image_processing_utils import BaseImageProcessor

# The top-level name is a placeholder without torchvision before transformers 5.23.
from transformers.models.auto.image_processing_auto import AutoImageProcessor

from .hub_checks import INDEX_SUFFIX, WHY_NO_PICKLE, find_pickles, find_strangers
from .models import (
    GMVQModel,
    T5VQVAEForConditionalGeneration,
    TopicVQModel,
    TopicVQProcessor,
)


def load_image_autoencoder(
    checkpoint: str | Path, revision: str = "main"
) -> tuple[GMVQModel, BaseImageProcessor]:
    """Loads a model in eval mode and its image processor, and refuses what would load only in part.

    Args:
        checkpoint: A folder or a Hub id.
        revision: Commit, branch or tag of a Hub id.

    Raises:
        ValueError: If there is no such checkpoint, it belongs to a model that is not ours, or weights are damaged or
            missing (which transformers would fill up with random numbers).
    """
    return _load(checkpoint, revision, GMVQModel, AutoImageProcessor)


def load_text_autoencoder(
    checkpoint: str | Path, revision: str = "main"
) -> tuple[T5VQVAEForConditionalGeneration, PreTrainedTokenizerBase]:
    """Loads a model in eval mode and its tokenizer, like `load_image_autoencoder`."""
    return _load(checkpoint, revision, T5VQVAEForConditionalGeneration, AutoTokenizer)


def load_topic_model(
    checkpoint: str | Path, revision: str = "main"
) -> tuple[TopicVQModel, TopicVQProcessor]:
    """Loads a model in eval mode and its processor, like `load_image_autoencoder`."""
    return _load(checkpoint, revision, TopicVQModel, AutoProcessor)


def _load(
    checkpoint: str | Path, revision: str, model_class: Any, processor_class: Any
) -> tuple[Any, Any]:
    name = str(checkpoint)
    _refuse_unsafe(Path(checkpoint))
    try:
        config = AutoConfig.from_pretrained(name, revision=revision)
        if type(config) is not model_class.config_class:
            expected = model_class.config_class.model_type
            raise ValueError(
                f"{name} holds a model of type {config.model_type!r}, expected {expected!r}"
            )
        loaded: Any = model_class.from_pretrained(
            name, config=config, revision=revision, use_safetensors=True, output_loading_info=True
        )
        processor = processor_class.from_pretrained(name, revision=revision)
    except SafetensorError as error:
        raise ValueError(f"the weights in {name} are truncated or damaged: {error}") from error
    except OSError as error:
        raise ValueError(f"cannot load {name}: {error}") from error
    model, report = loaded
    if report["missing_keys"]:
        raise ValueError(f"{name} lacks the weights {', '.join(sorted(report['missing_keys']))}")
    return model.eval(), processor


def _refuse_unsafe(folder: Path) -> None:
    """Pickles, where transformers would say that safetensors are missing; and shards from somewhere else."""
    names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    pickles = find_pickles(names)
    if pickles and not any(name.endswith(".safetensors") for name in names):
        raise ValueError(f"{folder / pickles[0]} may hold a pickle: {WHY_NO_PICKLE}")
    for name in names:
        strangers = find_strangers(folder / name) if name.endswith(INDEX_SUFFIX) else []
        if strangers:
            raise ValueError(f"{folder / name} names {strangers[0]}, which is not in its folder")


__all__ = ["load_image_autoencoder", "load_text_autoencoder", "load_topic_model"]
