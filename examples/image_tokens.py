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
"""Images as codes: train a small GM-VQ, turn digits into integers, edit them as integers, turn them back.

Half a minute on a CPU: python examples/image_tokens.py
"""

import tempfile
from pathlib import Path

import numpy as np
import torch
from transformers import AutoModel, pipeline

from hf_vq import GMVQConfig, GMVQImageProcessor, GMVQModel
from hf_vq.code_pictures import color_codes, draw
from hf_vq.codebook_start import endless, start_codebook
from hf_vq.data import ImageCollator, InMemoryImages, load_digits_images
from hf_vq.training import TrainingConfig, train


def main(folder: str | Path, steps: int = 1000) -> dict:
    """Train into `folder`, and return what the pipeline said of three digits."""
    # 1,797 handwritten digits of 8 x 8 pixels, which scikit-learn carries. `load_images` of the same module opens
    # any image folder or data set of the Hub.
    digits = load_digits_images()
    processor = GMVQImageProcessor(size=8, do_grayscale=True)
    images = InMemoryImages(digits["train"], processor)

    # Two halvings: an image of 8 x 8 pixels has 2 x 2 codes of 6 bits, 24 bits in place of 512. The last five
    # options are what keeps all codes in use in a short training; the defaults are the paper's.
    torch.manual_seed(0)
    config = GMVQConfig(
        image_size=8, num_channels=1, num_downsamples=2, hidden_size=64, codebook_size=64, codebook_dim=16,
        relaxation="straight_through", codebook_update="ema", revival_threshold=0.05,
        commitment_loss_weight=0.005, kl_loss_weight=0.3,
    )  # fmt: skip
    model = GMVQModel(config)

    def start(accelerator, model, loader):
        # A few updates without codes, then k-means on the latents: a codebook that starts from the latents of an
        # untrained encoder would lose most of its codes at once.
        start_codebook(accelerator, model, endless(loader), warmup_steps=steps // 10)

    # One loop for all models: it asks for nothing but a `loss` in the output.
    options = TrainingConfig(
        str(folder), max_steps=steps, per_device_train_batch_size=64, learning_rate=2e-3,
        max_grad_norm=1000.0, checkpointing_steps=None,
    )  # fmt: skip
    results = train(
        model, images, options,
        collate_fn=ImageCollator(processor), processor=processor, before_training=start,
    )  # fmt: skip

    # What was saved is a checkpoint like any other of transformers.
    model = AutoModel.from_pretrained(results["final_model"]).eval()
    reconstruct = pipeline("image-reconstruction", model=results["final_model"])
    shown = list(digits["test"]["image"][:12])
    outputs = reconstruct(shown)
    print("codes of the first digit:\n", outputs[0]["codes"])

    # Codes are integers: cut and paste. The upper half of one digit above the lower half of the next one.
    codes = torch.from_numpy(np.stack([output["codes"] for output in outputs]))
    mixed = torch.cat([codes[:, :1], codes.roll(-1, dims=0)[:, 1:]], dim=1)
    with torch.no_grad():
        halves = processor.post_process(model.decode(codes=mixed).reconstruction)

    colors = color_codes(model.quantizer.codebook)  # similar codes, similar colors
    maps = processor.post_process(torch.from_numpy(colors[codes]).movedim(-1, 1) / 255)
    sheet = draw([shown, maps, [output["reconstruction"] for output in outputs], halves], (64, 64))
    sheet.save(Path(folder) / "digits.png")
    print(f"originals, codes as colors, reconstructions, halves exchanged: {folder}/digits.png")
    return {"outputs": outputs, "halves": halves, "sheet": sheet}


if __name__ == "__main__":
    main(tempfile.mkdtemp(prefix="image_tokens-"))
