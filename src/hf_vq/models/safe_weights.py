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
"""Weights are read from safetensors only."""

from typing import Any


class SafeWeightsMixin:
    """Refuses weights in a pickle, which can run code when it is opened."""

    @classmethod
    def from_pretrained(cls, *args: Any, use_safetensors: bool | None = None, **kwargs: Any) -> Any:
        """Load a model, as in transformers, but from safetensors only."""
        why = "a pickle can run code when it is opened, so that weights are read from safetensors only"
        if use_safetensors is False:
            raise ValueError(f"use_safetensors is False: {why}")
        try:
            return super().from_pretrained(*args, use_safetensors=True, **kwargs)  # type: ignore[misc]
        except OSError as error:
            # Failures of the network name the file as well.
            if "file named model.safetensors" not in str(error):
                raise
            raise ValueError(f"there is no file of safetensors in {args[0]}: {why}") from error
