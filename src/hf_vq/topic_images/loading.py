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
"""Image models from a folder or the Hub, ours or those of diffusers, as tokenizers."""

from pathlib import Path
from typing import Any

from transformers import PretrainedConfig

from hf_vq._extras import require
from hf_vq.hub import load_image_autoencoder
from hf_vq.models import GMVQImageProcessor

from .image_tokenizers import ImageTokenizer, image_tokenizer

# What repositories of diffusers call the folder of their image model.
SUBFOLDERS = ("", "vqvae", "vqgan", "movq")


def load_image_tokenizer(
    name_or_path: str | Path,
    *,
    subfolder: str | None = None,
    image_size: int | None = None,
    revision: str = "main",
) -> tuple[ImageTokenizer, Any]:
    """Loads an image model in eval mode, and what makes images the pixels that it reads.

    Args:
        name_or_path: A checkpoint of GMVQModel, of diffusers' VQModel, or a repository with one in it.
        subfolder: Where in the repository the model is; looked for under its usual names if not given.
        image_size: Side of the images; the model's own if not given.
        revision: Commit, branch or tag of a Hub id.

    Raises:
        ValueError: If there is no such checkpoint, or none of a kind that is known.
    """
    facts, place = _find_config(str(name_or_path), subfolder, revision)
    if facts.get("_class_name") == "VQModel":
        require("diffusers", extra="image")
        from diffusers import VQModel

        model = VQModel.from_pretrained(
            str(name_or_path), subfolder=place, revision=revision, use_safetensors=True
        )
        tokenizer = image_tokenizer(model.eval())
        options: Any = {
            "size": image_size or model.config.sample_size,
            "do_grayscale": tokenizer.num_channels == 1,
        }
        return tokenizer, GMVQImageProcessor(**options)
    checkpoint = Path(name_or_path) / place if place else name_or_path
    processor: Any
    model, processor = load_image_autoencoder(checkpoint, revision)
    if image_size is not None:
        processor.size = {"height": image_size, "width": image_size}
    return image_tokenizer(model), processor


def _find_config(name: str, subfolder: str | None, revision: str) -> tuple[dict[str, Any], str]:
    """The first configuration of a model, and its folder in the repository."""
    for place in SUBFOLDERS if subfolder is None else (subfolder,):
        try:
            facts, _ = PretrainedConfig.get_config_dict(name, subfolder=place, revision=revision)
        except OSError:
            continue
        if facts:
            return facts, place
    places = ", ".join(place or "itself" for place in SUBFOLDERS)
    where = f"its folder {subfolder}" if subfolder else f"any of its usual places ({places})"
    raise ValueError(f"{name} has no config.json of an image model in {where}")


__all__ = ["load_image_tokenizer"]
