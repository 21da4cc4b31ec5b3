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
"""Writing maps of codes: a decoder of transformers step by step, with guidance and a cache, and draws.

Equation numbers refer to docs/topic_images.md.
"""

from typing import Any

import torch
from transformers import (
    DynamicCache,
    GenerationConfig,
    LogitsProcessorList,
    MinPLogitsWarper,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from .topic_vq_image_layers import shift_arguments
from .vector_quantization import to_float64


def draw_uniforms(
    number: int,
    steps: int,
    generator: torch.Generator | list[torch.Generator] | None,
    device: torch.device,
) -> torch.Tensor:
    """One number in [0, 1) for each code to draw, `(number, steps)`; from a list one row each, whatever the batch."""
    if isinstance(generator, list):
        if len(generator) != number:
            raise ValueError(f"there are {len(generator)} generators for {number} images")
        rows = [torch.rand(steps, generator=each, device=each.device) for each in generator]
        return torch.stack([row.to(device) for row in rows])
    source = device if generator is None else generator.device
    return torch.rand(number, steps, generator=generator, device=source).to(device)


class DecoderSteps:
    """Runs the decoder position by position, with its cache or over everything again each time.

    Args:
        decoder: of transformers.
        prefix: its first token, `(B, 1, hidden)`; with guidance `(2 B, 1, hidden)`, the second half without topics.
        shifts: what its layers add, see `ShiftedLayer`.
        code_shifts: what topics add to the logits, `(B, C)` or `(2 B, C)`, if they do, eq. (I8).
        guidance: s of eq. (I12).
        use_cache: whether to keep keys and values.
    """

    def __init__(
        self,
        decoder: Any,
        prefix: torch.Tensor,
        shifts: list[torch.Tensor],
        code_shifts: torch.Tensor | None,
        guidance: float,
        use_cache: bool,
    ):
        """See the class."""
        self.decoder, self.embed = decoder, decoder.get_input_embeddings()
        self.inputs = prefix
        self.arguments = shift_arguments(shifts)
        self.code_shifts = code_shifts
        self.guidance = guidance
        self.cache = DynamicCache(config=self.decoder.config) if use_cache else None

    def next_logits(self, codes: torch.Tensor) -> torch.Tensor:
        """Logits `(B, C)` in float32 of the next code, after further codes `(B, t)`."""
        if self.guidance != 1:
            codes = codes.repeat(2, 1)
        inputs = torch.cat([self.inputs, self.embed(codes)], dim=1)
        output = self.decoder(
            inputs_embeds=inputs,
            past_key_values=self.cache,
            use_cache=self.cache is not None,
            logits_to_keep=1,
            **self.arguments,
        )
        self.inputs = inputs if self.cache is None else inputs[:, :0]
        logits = output.logits[:, -1].float()
        if self.code_shifts is not None:
            logits = logits + self.code_shifts
        if self.guidance == 1:
            return logits
        logits, without = logits.log_softmax(dim=-1).chunk(2)
        return without + self.guidance * (logits - without)


def write_codes(
    steps: DecoderSteps,
    codes: torch.Tensor,
    num_positions: int,
    processors: LogitsProcessorList,
    uniforms: torch.Tensor | None,
    streamer: Any,
) -> torch.Tensor:
    """Codes `(B, t)` to codes `(B, num_positions)`: the likeliest ones, or with uniforms `(B, T - t)` draws."""
    start, inputs = codes.shape[1], codes
    for position in range(start, num_positions):
        logits = processors(codes, steps.next_logits(inputs))
        if uniforms is None:
            inputs = logits.argmax(dim=-1, keepdim=True)
        else:
            inputs = draw_codes(logits, uniforms[:, position - start])
        codes = torch.cat([codes, inputs], dim=1)
        if streamer is not None:
            streamer.put(inputs[:, 0].cpu())
    if streamer is not None:
        streamer.end()
    return codes


def warpers(options: GenerationConfig) -> list[Any]:
    """What shapes the distribution before a draw, in the order of transformers."""
    warpers: list[Any] = []
    if options.temperature not in (None, 1.0):
        warpers.append(TemperatureLogitsWarper(options.temperature))
    if options.top_k:
        warpers.append(TopKLogitsWarper(options.top_k))
    if options.top_p not in (None, 1.0):
        warpers.append(TopPLogitsWarper(options.top_p))
    if options.min_p is not None:
        warpers.append(MinPLogitsWarper(options.min_p))
    return warpers


def draw_codes(logits: torch.Tensor, uniforms: torch.Tensor) -> torch.Tensor:
    """A code `(B, 1)` for each row of logits, by inverting its distribution function.

    A draw depends on its own row and number alone, as `torch.multinomial` would not have it. A number in
    float32 is at most 1 - 2**-24, so in float64 its product lies below the last sum, and the code that is found
    has a probability above 0.
    """
    sums = to_float64(torch.softmax(logits, dim=-1)).cumsum(dim=-1)
    thresholds = to_float64(uniforms)[:, None] * sums[:, -1:]
    return torch.searchsorted(sums, thresholds, right=True).to(logits.device)
