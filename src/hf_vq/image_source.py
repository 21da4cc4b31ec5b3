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
"""Where the images of a script come from: the options that training and scoring share."""

from dataclasses import dataclass, field
from typing import Any, Literal

from .data import load_images
from .training_config import option

__all__ = ["ImageSource"]


@dataclass
class ImageSource:
    """Where the images come from."""

    dataset: str = field(metadata={"help": "Hub id, or a folder of images or parquet files."})
    config_name: str | None = option(None, "Configuration of a Hub data set that has several.")
    revision: str | None = option(None, "Commit, branch or tag of a Hub data set.")
    image_column: str | None = option(None, "Column with the images; unset: the only one.")
    on_corrupt: Literal["raise", "skip"] = option("raise", "What to do about a damaged image.")

    def load(self, split: str, max_samples: int | None = None, streaming: bool = False) -> Any:
        """Open a split, as `load_images` does."""
        return load_images(
            self.dataset,
            split,
            config_name=self.config_name,
            image_column=self.image_column,
            streaming=streaming,
            on_corrupt=self.on_corrupt,
            revision=self.revision,
            max_samples=max_samples,
        )

    def describe(self, split: str, revision: Any, max_samples: int | None) -> dict[str, Any]:
        """Return what a record says about the images that its figures are of."""
        return {
            "name": self.dataset,
            "split": split,
            "revision": revision,
            "max_samples": max_samples,
        }
