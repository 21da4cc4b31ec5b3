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
"""Codes of single texts: checked, padded to a batch, and as strings."""

import re
from collections.abc import Iterable
from typing import Any

import torch


def as_codes(codes: Any, codebook_size: int, codes_per_token: int) -> torch.Tensor:
    """Codes of one text as `(positions, groups)` on the CPU, without padding, and checked.

    Args:
        codes: Integers of shape `(positions, groups)`, for one group also `(positions,)`, or a string.
        codebook_size: How many codes there are.
        codes_per_token: How many groups there are.
    """
    if codes is None:
        raise ValueError("the codes are None, expected integers or a string of them")
    if isinstance(codes, str):
        codes = parse_codes(codes)
    try:
        codes = torch.as_tensor(codes).cpu()
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(
            f"codes of one text must be integers or a string of them, got {str(codes)[:80]}"
        ) from error
    if not codes.numel():
        raise ValueError("the codes are empty, expected at least one")
    if codes.ndim == 1 and codes_per_token == 1:
        codes = codes[:, None]
    integers = not (codes.is_floating_point() or codes.is_complex() or codes.dtype == torch.bool)
    if codes.ndim != 2 or codes.shape[-1] != codes_per_token or not integers:
        raise ValueError(
            f"codes of one text must be integers of shape (positions, {codes_per_token}), "
            f"got {codes.dtype} of shape {tuple(codes.shape)}"
        )
    codes = codes.long()
    codes = codes[: int((codes != -1).any(dim=-1).sum())]
    wrong = codes[(codes < 0) | (codes >= codebook_size)]
    if len(codes) == 0 or len(wrong):
        found = f"{int(wrong[0])}" if len(wrong) else "none at all"
        raise ValueError(f"codes must lie in [0, {codebook_size}), got {found}")
    return codes


def pad_codes(rows: Iterable[torch.Tensor]) -> torch.Tensor:
    """Codes of texts of any length in one tensor `(texts, positions, groups)`, filled up with -1."""
    return torch.nn.utils.rnn.pad_sequence(list(rows), batch_first=True, padding_value=-1)


def format_codes(codes: torch.Tensor) -> str:
    """Codes `(positions, groups)` of one text as a string: `"412-7-33"`, with two groups `"412.5-7.1-33.8"`.

    Example:
    ```python
    >>> import torch
    >>> from hf_vq.code_format import format_codes, parse_codes
    >>> format_codes(torch.tensor([[412, 5], [7, 1]]))
    '412.5-7.1'
    >>> parse_codes("412.5-7.1").tolist()
    [[412, 5], [7, 1]]

    ```
    """
    return "-".join(".".join(map(str, position)) for position in codes.tolist())


def parse_codes(string: str) -> torch.Tensor:
    """The codes `(positions, groups)` that `format_codes` wrote."""
    positions = [position.split(".") for position in string.split("-")]
    if not re.fullmatch(r"[\d.-]+", string) or len({len(groups) for groups in positions}) != 1:
        raise ValueError(f"{string!r} is no string of codes, expected one like '412-7-33'")
    try:
        return torch.tensor([[int(code) for code in groups] for groups in positions])
    except ValueError:
        raise ValueError(
            f"{string!r} is no string of codes, expected one like '412-7-33'"
        ) from None


__all__ = ["as_codes", "format_codes", "pad_codes", "parse_codes"]
