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
"""What the codes cost in time: encoding and generation beside a plain T5 of equal size, in turns within one run.

    python benchmarks/t5_vqvae_overhead.py              # the sizes of t5-small and t5-base, random weights
    python benchmarks/t5_vqvae_overhead.py --smoke      # does it run?

The record is benchmarks/results/t5_vqvae_overhead.json. The best time of each is compared, since other work on the
machine can only add to it; the ratio of medians stands beside it.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from results import write_result
from transformers import T5Config, T5ForConditionalGeneration

from hf_vq import T5VQVAEConfig, T5VQVAEForConditionalGeneration

SIZES: dict[str, dict[str, int]] = {
    "t5-small": {"d_model": 512, "d_ff": 2048, "num_layers": 6, "num_heads": 8},
    "t5-base": {"d_model": 768, "d_ff": 3072, "num_layers": 12, "num_heads": 12},
}
SMOKE = {"tiny": {"d_model": 64, "d_ff": 128, "num_layers": 2, "num_heads": 1}}


def build_models(size: dict[str, int]) -> dict[str, Any]:
    """A plain T5 and two T5VQVAEs, random weights."""
    common = size | {"d_kv": 64, "vocab_size": 32128, "decoder_start_token_id": 0}
    models = {"plain": T5ForConditionalGeneration(T5Config(**common))}
    for positions in ("learned", "cross_bias"):
        config = T5VQVAEConfig(**common, latent_positions=positions)
        models[f"t5_vqvae, {positions}"] = T5VQVAEForConditionalGeneration(config)
    return {name: model.eval() for name, model in models.items()}


@torch.no_grad()
def measure(size: dict[str, int], arguments: argparse.Namespace) -> dict[str, Any]:
    """Seconds of encoding a batch, and of generating a token for each of its texts."""
    torch.manual_seed(0)
    models = build_models(size)
    shape = arguments.batch_size, arguments.length
    input_ids = torch.randint(3, 32000, shape)
    mask = torch.ones_like(input_ids)
    # Texts of two lengths, as a batch has them.
    mask[: arguments.batch_size // 2, arguments.length // 2 :] = 0
    inputs = {"input_ids": input_ids * mask, "attention_mask": mask}
    options = {
        "max_new_tokens": arguments.length,
        "min_new_tokens": arguments.length,
        "do_sample": False,
    }
    calls: dict[str, dict[str, Callable[[], Any]]] = {
        "encode": {
            name: lambda m=model: m.get_encoder()(**inputs) for name, model in models.items()
        },
        "generate": {
            name: lambda m=model: m.generate(**inputs, **options) for name, model in models.items()
        },
    }
    result: dict[str, Any] = {}
    for what, kinds in calls.items():
        seconds: dict[str, list[float]] = {name: [] for name in kinds}
        for _ in range(arguments.repeats + 1):
            for name, call in kinds.items():
                started = time.perf_counter()
                call()
                seconds[name].append(time.perf_counter() - started)
        # The first round warms up.
        found = {name: values[1:] for name, values in seconds.items()}
        scale = 1000 / (arguments.length if what == "generate" else 1)
        best = {name: min(values) for name, values in found.items()}
        middle = {name: statistics.median(values) for name, values in found.items()}
        result[what] = {
            "milliseconds": {name: scale * value for name, value in best.items()},
            "ratio_to_plain": {name: value / best["plain"] for name, value in best.items()},
            "ratio_of_medians": {name: value / middle["plain"] for name, value in middle.items()},
        }
    return result


def main() -> None:
    """Measure and write the record."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--length", type=int, default=32, help="tokens read, and tokens written")
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--smoke", action="store_true", help="tiny, and nothing is kept")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.smoke:
        arguments.batch_size, arguments.length, arguments.repeats = 2, 4, 1
    sizes = SMOKE if arguments.smoke else SIZES
    record: dict[str, Any] = {"sizes": {}}
    record |= {name: getattr(arguments, name) for name in ("batch_size", "length", "threads")}
    for name, size in sizes.items():
        record["sizes"][name] = measure(size, arguments)
        for what, found in record["sizes"][name].items():
            ratios = {kind: round(ratio, 3) for kind, ratio in found["ratio_to_plain"].items()}
            print(name, what, ratios, flush=True)
    if not arguments.smoke:
        write_result("t5_vqvae_overhead", record, command="python benchmarks/t5_vqvae_overhead.py")


if __name__ == "__main__":
    main()
