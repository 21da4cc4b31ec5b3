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
"""Codebooks and topics stay in float32 when a model is cast, as they do when one is loaded in a smaller type."""

from collections.abc import Callable
from typing import Any

import torch


class Float32PartsMixin:
    """Lets `model.to(torch.bfloat16)` and `half()` keep what `from_pretrained(dtype=torch.bfloat16)` keeps."""

    def _apply(self, fn: Callable[[torch.Tensor], torch.Tensor], recurse: bool = True) -> Any:
        """Move or cast every tensor, as in PyTorch, but none of those parts to fewer than 32 bits."""
        model: Any = self
        parts = set(model._keep_in_fp32_modules_strict)
        kept: dict[
            int, torch.Tensor
        ] = {}  # whole, or a new tensor could get the id of one that is gone
        for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
            if not parts.isdisjoint(name.split(".")):
                kept |= {id(one): one for one in (tensor, tensor.grad) if one is not None}

        def apply(tensor: torch.Tensor) -> torch.Tensor:
            applied = fn(tensor)
            if id(tensor) in kept and applied.dtype in (torch.float16, torch.bfloat16):
                return tensor.to(applied.device, torch.float32)
            return applied

        return super()._apply(apply, recurse)  # type: ignore[misc]
