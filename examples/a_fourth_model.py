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
"""A model of your own in a hundred lines: an autoencoder of sounds around a quantizer of this package.

A minute on a CPU: python examples/a_fourth_model.py
"""

import tempfile
import wave
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from huggingface_hub.dataclasses import strict
from torch import nn
from transformers import AutoConfig, AutoModel, PreTrainedConfig, PreTrainedModel
from transformers import initialization as init
from transformers.utils import ModelOutput

from hf_vq.models.vector_quantization import EMAQuantizer, Quantizer
from hf_vq.training import TrainingConfig, train

RATE = 4000  # samples in a second
STRIDE = 16  # samples that become one code


@strict  # types are checked, also of what comes from a file
class SoundVQConfig(PreTrainedConfig):
    """Every size is a field: that is all that `from_pretrained` needs to build the model again."""

    model_type = "sound_vq"
    hidden_size: int = 64
    codebook_size: int = 256
    codebook_dim: int = 16
    commitment_loss_weight: float | int = 0.25


@dataclass
class SoundVQOutput(ModelOutput):
    """The loss comes first: training loops, ours and `Trainer`, look for it there."""

    loss: torch.FloatTensor | None = None
    reconstruction: torch.FloatTensor | None = None  # (batch, samples)
    codes: torch.LongTensor | None = None  # (batch, samples / STRIDE)
    reconstruction_loss: torch.FloatTensor | None = None
    commitment_loss: torch.FloatTensor | None = None


class SoundVQModel(PreTrainedModel):
    """`encode` makes codes of sounds, `decode` sounds of codes, `forward` is both and the loss."""

    config: (
        SoundVQConfig  # an annotation, by which transformers knows which configuration belongs here
    )
    main_input_name = "input_values"
    accepts_loss_kwargs = False  # the loss is a mean of the batch
    _keep_in_fp32_modules_strict = [
        "quantizer"
    ]  # codes are decided in float32, whatever the rest is

    def __init__(self, config: SoundVQConfig):
        super().__init__(config)
        width, halves = config.hidden_size, {"kernel_size": 8, "stride": 4, "padding": 2}
        self.encoder = nn.ModuleList(
            [nn.Conv1d(1, width, **halves), nn.Conv1d(width, width, **halves)]
        )
        self.to_latents = nn.Conv1d(width, config.codebook_dim, 3, padding=1)
        self.quantizer = EMAQuantizer(config.codebook_size, config.codebook_dim)
        self.from_codes = nn.Conv1d(config.codebook_dim, width, 3, padding=1)
        self.decoder = nn.ModuleList(
            [nn.ConvTranspose1d(width, width, **halves), nn.ConvTranspose1d(width, 1, **halves)]
        )
        self.post_init()  # the last line: now `_init_weights` fills everything

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        # Weights get their start here and not in `__init__`, which runs without memory when a checkpoint is loaded.
        if isinstance(module, nn.Conv1d | nn.ConvTranspose1d):
            init.xavier_uniform_(module.weight)
            init.zeros_(module.bias)
        elif isinstance(module, Quantizer):
            for tensor, value in module.initial_values():
                init.copy_(tensor, value)

    def latents(self, input_values: torch.Tensor) -> torch.Tensor:
        """Sounds `(batch, samples)` to vectors `(batch, codes, codebook_dim)`: quantizers take channels last."""
        hidden = input_values[:, None]
        for layer in self.encoder:
            hidden = F.gelu(layer(hidden))
        return self.to_latents(hidden).movedim(1, -1)

    def encode(self, input_values: torch.Tensor) -> torch.Tensor:
        """Sounds to codes."""
        return self.quantizer.assign(self.latents(input_values))

    def decode(
        self, codes: torch.Tensor | None = None, quantized: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Codes, or their vectors, to sounds."""
        quantized = self.quantizer.embed(codes) if quantized is None else quantized
        hidden = self.from_codes(quantized.movedim(-1, 1))
        for layer in self.decoder:
            hidden = layer(F.gelu(hidden))
        return hidden[:, 0]

    def forward(self, input_values: torch.Tensor, return_loss: bool = True) -> SoundVQOutput:
        """In training the quantizer passes gradients straight through and moves its codes to their latents."""
        posterior = self.quantizer(self.latents(input_values))
        reconstruction = self.decode(quantized=posterior.quantized)
        error = F.mse_loss(reconstruction, input_values) * STRIDE
        commitment = posterior.commitment_loss.mean() / posterior.codes.shape[1]
        loss = error + self.config.commitment_loss_weight * commitment if return_loss else None
        return SoundVQOutput(loss, reconstruction, posterior.codes, error, commitment)


AutoConfig.register("sound_vq", SoundVQConfig)
AutoModel.register(SoundVQConfig, SoundVQModel)


def sounds(number: int, seed: int) -> torch.Tensor:
    """A quarter of a second each of two gliding tones that fade."""
    draw = torch.Generator().manual_seed(seed)
    time = torch.arange(RATE // 4) / RATE
    pitch, glide, fade = (torch.rand(number, 2, 1, generator=draw) for _ in range(3))
    tones = torch.sin(2 * torch.pi * (100 + 500 * pitch + 400 * (glide - 0.5) * time) * time)
    tones = (tones * torch.exp(-8 * fade * time)).sum(dim=1) / 2
    return F.pad(tones, (0, -tones.shape[1] % STRIDE))


def main(folder: str | Path, steps: int = 600) -> SoundVQModel:
    """Train into `folder`, load what was saved, and write two sounds to listen to."""
    torch.manual_seed(0)
    model = SoundVQModel(SoundVQConfig())
    data = [{"input_values": sound} for sound in sounds(2000, seed=0)]

    def start(accelerator, model, loader):
        batches = [batch["input_values"] for batch in loader][:10]
        with torch.no_grad():
            latents = torch.cat([model.latents(batch) for batch in batches])
        model.quantizer.initialize_codebook(latents, num_batches=len(batches))

    options = TrainingConfig(
        str(folder), max_steps=steps, learning_rate=2e-3, checkpointing_steps=None
    )
    results = train(model, data, options, before_training=start)

    model = AutoModel.from_pretrained(results["final_model"]).eval()
    unseen = sounds(100, seed=1)
    with torch.no_grad():
        codes = model.encode(unseen)
        heard = model.decode(codes)
    noise = (heard - unseen).square().sum() / unseen.square().sum()
    print(f"{unseen.shape[1]} samples as {codes.shape[1]} codes, {len(codes.unique())} of them used; "
          f"error {noise:.1%} of the signal's power")  # fmt: skip
    for name, sound in (("original", unseen[:8]), ("from_codes", heard[:8])):
        with wave.open(str(Path(folder) / f"{name}.wav"), "wb") as file:
            file.setnchannels(1), file.setsampwidth(2), file.setframerate(RATE)
            file.writeframes((sound.flatten().clamp(-1, 1) * 32767).short().numpy().tobytes())
    print(f"listen: {folder}/original.wav, {folder}/from_codes.wav")
    return model


if __name__ == "__main__":
    main(tempfile.mkdtemp(prefix="sound_vq-"))
