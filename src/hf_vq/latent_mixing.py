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
"""Mixtures of sentences in latent space: paths and arithmetic; the equations are in docs/latent_operations.md."""

import math
from collections.abc import Sequence

import torch

from .code_format import pad_codes
from .latent_tables import OperationTable, decoded, input_name, word_changes
from .text_codec import Sentence, TextCodec, TextOrCodes, broadcast

Texts = TextOrCodes | Sequence[TextOrCodes]
Pair = tuple[Sentence, Sentence]
# A position of a mixture: weight, sentence and position of each summand.
Terms = list[tuple[float, Sentence, int]]


def interpolate(
    codec: TextCodec, source: Texts, target: Texts, method: str = "latent", num_steps: int = 10
) -> OperationTable:
    """A path of `num_steps + 1` texts from `source` to `target`, with exactly their codes at both ends.

    Where the sentences differ in length, so do the texts on the path, step by step, and positions that only
    the longer sentence has are its own. The end marker of one meets that of the other.

    Args:
        codec: The model and its tokenizer.
        source: Where paths start.
        target: Where they end.
        method: `"latent"`: the codes nearest to a straight line between the latents, eq. (O3). `"walk"`: from
            code to code, always towards the target, eq. (O4); most positions stand still until `t = 0.5` and
            then jump. `"staggered"`: one position after the other takes over the code of the target, first
            those whose codes are close, eq. (O5).
        num_steps: Steps of equal size.

    Returns:
        Columns source, target, t, codes, text, and `changed`, the words that differ from the row before.
    """
    paths = {"latent": _latent_path, "walk": _walk_path, "staggered": _staggered_path}
    if method not in paths:
        raise ValueError(f"method is {method!r}, expected one of {list(paths)}")
    if num_steps < 1:
        raise ValueError(f"num_steps is {num_steps}, expected a positive number")
    pairs = list(zip(*broadcast(codec.read(source), codec.read(target)), strict=True))
    with codec.frozen():
        inner = paths[method](codec, pairs, num_steps)
    rows, records = [], []
    for (a, b), path in zip(pairs, inner, strict=True):
        rows += [a.codes, *path, b.codes]
        records += [
            {"source": input_name(a), "target": input_name(b), "t": step / num_steps}
            for step in range(num_steps + 1)
        ]
    table = decoded(codec, f"interpolation ({method})", records, rows)
    for i, record in enumerate(table.records):
        before = table.records[i - 1]["text"] if i % (num_steps + 1) else record["text"]
        record["changed"] = word_changes(before, record["text"])
    return table


def arithmetic(
    codec: TextCodec, operation: str | Sequence[float], *operands: Texts
) -> OperationTable:
    """The codes nearest to a weighted sum of latents, position by position, eq. (O6).

    Sentences of unlike length: a position that an operand lacks counts as zero, and the result is as long as
    the longest operand with a positive weight. Its end marker is that operand's, since ends have no meaning
    to add. If all codes have the same norm, sum and mean pick the same codes: only the direction counts.

    Args:
        codec: The model and its tokenizer.
        operation: `"sum"`; `"mean"`, at each position over the operands that have it; `"difference"`, a - b;
            `"analogy"`, a + b - c; or a weight for each operand.
        operands: Two inputs or more, or lists of them.

    Returns:
        Columns a, b, ... for the operands, weights, codes and text.
    """
    weights = _weights(operation, len(operands))
    groups = list(zip(*broadcast(*(codec.read(operand) for operand in operands)), strict=True))
    with codec.frozen():
        is_mean = isinstance(operation, str) and operation == "mean"
        rows = _nearest(codec, [_sum(codec, group, weights, is_mean) for group in groups])
    records = [
        {chr(ord("a") + i): input_name(sentence) for i, sentence in enumerate(group)}
        | {"weights": " ".join(f"{weight:+g}" for weight in weights)}
        for group in groups
    ]
    name = operation if isinstance(operation, str) else "arithmetic"
    return decoded(codec, name, records, rows)


def _weights(operation: str | Sequence[float], count: int) -> tuple[float, ...]:
    if not isinstance(operation, str):
        weights = tuple(float(weight) for weight in operation)
    elif operation in ("sum", "mean"):
        weights = (1.0,) * count
    elif operation in ("difference", "analogy"):
        weights = {"difference": (1.0, -1.0), "analogy": (1.0, 1.0, -1.0)}[operation]
    else:
        raise ValueError(
            f"operation is {operation!r}, expected 'sum', 'mean', 'difference', 'analogy' or weights"
        )
    if len(weights) != count or count < 2:
        raise ValueError(f"{operation!r} takes {max(2, len(weights))} operands, got {count}")
    if not all(map(math.isfinite, weights)):
        raise ValueError(f"weights are {weights}, expected finite numbers")
    if max(weights) <= 0:
        raise ValueError(f"weights are {weights}, expected a positive one among them")
    return weights


def _sum(
    codec: TextCodec, group: Sequence[Sentence], weights: tuple[float, ...], is_mean: bool
) -> list[Terms]:
    """Eq. (O6) as terms; `group` are the operands of one row."""
    lengths = [len(codec.body(sentence)) for sentence in group]
    longest = max((i for i, weight in enumerate(weights) if weight > 0), key=lambda i: lengths[i])
    mixture: list[Terms] = []
    for i in range(lengths[longest]):
        present = [
            (weight, sentence, i)
            for weight, sentence, length in zip(weights, group, lengths, strict=True)
            if i < length
        ]
        if is_mean:
            present = [(1 / len(present), sentence, i) for _, sentence, i in present]
        mixture.append(present)
    sentence = group[longest]
    ends: list[Terms] = [[(1.0, sentence, i)] for i in range(lengths[longest], len(sentence.codes))]
    return mixture + ends


def _aligned(
    codec: TextCodec, a: Sentence, b: Sentence, step: int, num_steps: int
) -> list[tuple[int | None, int | None]]:
    """Eq. (O2): for each position of a point on the path the positions of `a` and `b` that meet there."""
    length_a, length_b = len(codec.body(a)), len(codec.body(b))
    # In integers, since 0.9 * 5 + 0.1 * 10 + 0.5 may fall short of 5.5 + 0.5.
    length = (2 * ((num_steps - step) * length_a + step * length_b) + num_steps) // (2 * num_steps)
    body = [(i if i < length_a else None, i if i < length_b else None) for i in range(length)]
    return body + [(length_a + i, length_b + i) for i in range(len(a.codes) - length_a)]


def _latent_path(codec: TextCodec, pairs: list[Pair], num_steps: int) -> list[list[torch.Tensor]]:
    """Eq. (O3): for each pair the codes between its ends."""
    mixtures: list[list[Terms]] = []
    for a, b in pairs:
        for step in range(1, num_steps):
            t = step / num_steps
            mixtures.append(
                [
                    [
                        # A position that one sentence has alone is its own, whatever the weight.
                        (1.0 if None in (i, j) else weight, sentence, position)
                        for weight, sentence, position in ((1 - t, a, i), (t, b, j))
                        if position is not None
                    ]
                    for i, j in _aligned(codec, a, b, step, num_steps)
                ]
            )
    codes = iter(_nearest(codec, mixtures))
    return [[next(codes) for _ in range(1, num_steps)] for _ in pairs]


def _walk_path(codec: TextCodec, pairs: list[Pair], num_steps: int) -> list[list[torch.Tensor]]:
    """Eq. (O4): positions that both sentences of a pair have walk, those of all pairs at once."""
    space = codec.space()
    meetings = [
        [(i, j) for i, j in _aligned(codec, a, b, 0, 1) if i is not None and j is not None]
        for a, b in pairs
    ]
    rows = [(a, i, b, j) for (a, b), met in zip(pairs, meetings, strict=True) for i, j in met]
    current = torch.stack([a.codes[i] for a, i, _, _ in rows])
    goal = torch.stack([b.codes[j] for _, _, b, j in rows])
    roles = torch.tensor([_common_role([(1.0, a, i), (1.0, b, j)]) for a, i, b, j in rows])
    paths: list[list[torch.Tensor]] = [[] for _ in pairs]
    at: dict[tuple[int | None, int | None], torch.Tensor]
    for step in range(1, num_steps):
        current = space.step(current, goal, step / num_steps, roles)
        walked = iter(current)
        for (a, b), met, path in zip(pairs, meetings, paths, strict=True):
            at = {pair: next(walked) for pair in met}
            path.append(
                torch.stack(
                    [
                        at[i, j] if (i, j) in at else a.codes[i] if j is None else b.codes[j]
                        for i, j in _aligned(codec, a, b, step, num_steps)
                    ]
                )
            )
    return paths


def _staggered_path(
    codec: TextCodec, pairs: list[Pair], num_steps: int
) -> list[list[torch.Tensor]]:
    """Eq. (O5): positions that differ change sides one after the other, the nearest codes first."""
    space = codec.space()
    paths = []
    for a, b in pairs:
        longer = 0 if len(a.codes) >= len(b.codes) else 1
        meetings = _aligned(codec, a, b, longer, 1)
        vectors = [
            [
                space.vectors(sentence.codes[i]) if i is not None else space.vectors(a.codes[0]) * 0
                for i in positions
            ]
            for sentence, positions in zip((a, b), zip(*meetings, strict=True), strict=True)
        ]
        distances = (torch.stack(vectors[0]) - torch.stack(vectors[1])).square().sum(dim=(-2, -1))
        order = [
            n
            for n in distances.argsort(stable=True).tolist()
            if None in meetings[n]
            or not torch.equal(a.codes[meetings[n][0]], b.codes[meetings[n][1]])
        ]
        path = []
        for step in range(1, num_steps):
            changed = set(order[: (2 * step * len(order) + num_steps) // (2 * num_steps)])
            path.append(
                torch.stack(
                    [
                        b.codes[j] if n in changed else a.codes[i]
                        for n, (i, j) in enumerate(meetings)
                        if (j if n in changed else i) is not None
                    ]
                )
            )
        paths.append(path)
    return paths


def _nearest(codec: TextCodec, mixtures: list[list[Terms]]) -> list[torch.Tensor]:
    """Quantize mixtures of latents; a role that all summands of a position share restricts its codes."""
    if not mixtures:
        return []
    latents = [torch.stack([_weighted_sum(terms) for terms in mixture]) for mixture in mixtures]
    roles = [torch.tensor([_common_role(terms) for terms in mixture]) for mixture in mixtures]
    codes = []
    for start in range(0, len(latents), codec.batch_size):
        rows = latents[start : start + codec.batch_size]
        batch = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
        role_ids = pad_codes(roles[start : start + codec.batch_size]).to(batch.device)
        lengths = torch.tensor([len(row) for row in rows], device=batch.device)
        mask = torch.arange(batch.shape[1], device=batch.device) < lengths[:, None]
        output = codec.model.quantize(
            batch, mask.long(), role_ids=role_ids if codec.model.config.role_ranges else None
        )
        codes += [row[:length] for row, length in zip(output.codes, lengths.tolist(), strict=True)]
    return codes


def _weighted_sum(terms: Terms) -> torch.Tensor:
    return sum(
        (weight * sentence.latents[i] for weight, sentence, i in terms[1:]),
        start=terms[0][0] * terms[0][1].latents[terms[0][2]],
    )


def _common_role(terms: Terms) -> int:
    roles = {-1 if s.role_ids is None else int(s.role_ids[i]) for _, s, i in terms}
    return roles.pop() if len(roles) == 1 else -1


__all__ = ["arithmetic", "interpolate"]
