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
"""One bottleneck for another: by a word of the configuration, by a module, and by one of your own.

A minute on a CPU: python examples/swap_quantizers.py
"""

import torch
import torch.nn.functional as F

from hf_vq import (
    GMVQConfig,
    GMVQImageProcessor,
    GMVQModel,
    T5VQVAEConfig,
    T5VQVAEForConditionalGeneration,
)
from hf_vq.data import InMemoryImages, load_digits_images
from hf_vq.models.vector_quantization import EMAQuantizer, QuantizerOutput, nearest_codes

SIZES = {"codebook_size": 32, "codebook_dim": 8}
IMAGE_MODEL = {"image_size": 8, "num_channels": 1, "hidden_size": 32, **SIZES}


class CosineQuantizer(EMAQuantizer):
    """A quantizer of your own: latents on the unit sphere, so that only their direction decides.

    The class below it keeps the codebook (moving averages, revival of dead codes, k-means start, one update for each
    optimizer step even with several micro-batches or GPUs); a new idea is what it changes.
    """

    def proxies(self, latents: torch.Tensor) -> torch.Tensor:
        """What is compared with the codebook."""
        return F.normalize(latents, dim=-1)

    def assign(self, latents: torch.Tensor, ranges: torch.Tensor | None = None) -> torch.Tensor:
        """Codes in eval mode."""
        return nearest_codes(self.proxies(latents), self.codebook, ranges=ranges)

    def _vectors_to_cluster(self, latents: torch.Tensor) -> torch.Tensor:
        return self.proxies(super()._vectors_to_cluster(latents))  # for the k-means start

    def forward(self, latents, mask=None, ranges=None) -> QuantizerOutput:
        """Codes and losses in training."""
        return super().forward(self.proxies(latents), mask, ranges)


def fit(model: GMVQModel, images: torch.Tensor, steps: int) -> GMVQModel:
    """Train in a plain loop: in training mode a quantizer updates itself in each forward."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    for step in range(steps):
        if step == steps // 5:
            model.bypass_quantizer(False)
            model.initialize_codebook([images])  # k-means on the latents of the warm-up
        elif step == 0:
            model.bypass_quantizer(True)
        model(images[torch.randint(len(images), (64,))]).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return model.eval()


def main(steps: int = 400) -> dict[str, float]:
    """Print and return the mean squared error of each bottleneck."""
    processor = GMVQImageProcessor(size=8, do_grayscale=True)
    data = {
        split: torch.stack([row["pixel_values"] for row in InMemoryImages(rows, processor)])
        for split, rows in load_digits_images().items()
    }

    # 1. By configuration. Every quantizer takes latents (batch, *positions, width) and returns one `QuantizerOutput`,
    # so the model around it is the same to the last weight.
    hard = {"relaxation": "straight_through", "codebook_update": "ema", "revival_threshold": 0.05}
    weights = {"commitment_loss_weight": 0.005, "kl_loss_weight": 0.3}
    choices = {
        "moving averages": {"quantizer": "ema", "commitment_loss_weight": 0.05},
        "Gaussian mixture, as published": {"temperature_anneal_steps": steps},
        "Gaussian mixture, hard codes": {**hard, **weights},
    }
    models = {}
    for name, options in choices.items():
        torch.manual_seed(0)
        models[name] = GMVQModel(GMVQConfig(**IMAGE_MODEL, **options))

    # 2. By module: anything with the interface takes the place of the one that the configuration built.
    torch.manual_seed(0)
    config = GMVQConfig(**IMAGE_MODEL, quantizer="ema", commitment_loss_weight=0.05)
    models["cosine, our own"] = own = GMVQModel(config)
    own.quantizer = CosineQuantizer(**SIZES)

    errors = {}
    for name, model in models.items():
        torch.manual_seed(0)
        fit(model, data["train"], steps)
        with torch.no_grad():
            output = model(data["test"])
        errors[name] = (output.reconstruction - data["test"]).square().mean().item()
        print(f"{name:32} MSE {errors[name]:.4f}, {len(output.codes.unique())} of 32 codes")

    # 3. The same words in another family: sentences with the Gaussian mixture of images, two codes for each position.
    text_config = T5VQVAEConfig(
        vocab_size=50, d_model=16, d_kv=8, d_ff=32, num_layers=2, num_heads=2, codebook_size=32,
        quantizer="gaussian_mixture", codes_per_token=2,
    )  # fmt: skip
    text_model = T5VQVAEForConditionalGeneration(text_config).eval()
    print(
        "codes of four pieces of text:",
        text_model.encode(torch.tensor([[7, 3, 9, 1]])).codes[0].tolist(),
    )
    return errors


if __name__ == "__main__":
    main()
