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
"""The codebook's start: warm-up without the quantizer, then codes from the latents."""

import pytest
import torch
from accelerate import Accelerator

from hf_vq import GMVQConfig, GMVQModel, T5VQVAEConfig, T5VQVAEForConditionalGeneration
from hf_vq.codebook_start import endless, start_codebook


def tiny_model() -> GMVQModel:
    torch.manual_seed(0)
    config = GMVQConfig(
        image_size=8, hidden_size=8, residual_hidden_size=4, codebook_size=8, codebook_dim=4
    )
    return GMVQModel(config)


def batches(number: int) -> list[dict[str, torch.Tensor]]:
    generator = torch.Generator().manual_seed(1)
    # Plain colors: an autoencoder learns them in a few steps.
    colors = [torch.rand(4, 3, 1, 1, generator=generator) for _ in range(number)]
    return [{"pixel_values": color.expand(4, 3, 8, 8).contiguous()} for color in colors]


def test_without_warm_up_only_the_codebook_changes():
    model = tiny_model()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    assert start_codebook(Accelerator(cpu=True), model, batches(12)) == 0
    changed = {n for n, tensor in model.state_dict().items() if not torch.equal(tensor, before[n])}
    assert "quantizer.codebook" in changed
    assert all(name.startswith("quantizer.") for name in changed)
    assert model.quantizer.codebook_initialized


def test_warm_up_lowers_the_error_and_leaves_the_quantizer_alone():
    model, data = tiny_model(), batches(80)
    model.bypass_quantizer(True)
    before = model(**data[0]).loss.item()
    model.bypass_quantizer(False)
    accelerator, rate = Accelerator(cpu=True), 1e-2
    assert start_codebook(accelerator, model, data, warmup_steps=60, learning_rate=rate) == 60
    assert model.quantizer.num_updates == 0
    assert not model.quantizer_bypassed
    model.bypass_quantizer(True)
    assert model(**data[0]).loss.item() < 0.8 * before


def test_the_seed_decides_the_codebook():
    codebooks = []
    for seed in (0, 0, 1):
        model = tiny_model()
        start_codebook(Accelerator(cpu=True), model, batches(12), warmup_steps=2, seed=seed)
        codebooks.append(model.quantizer.codebook.detach().clone())
    assert torch.equal(codebooks[0], codebooks[1])
    assert not torch.equal(codebooks[0], codebooks[2])


def test_it_takes_as_many_latents_as_asked_for():
    model, data = tiny_model(), batches(12)
    latents_per_batch, seen = 4 * 2 * 2, []
    model.quantizer.initialize_codebook = lambda latents, **_: seen.append(len(latents))
    start_codebook(Accelerator(cpu=True), model, data, latents_per_code=6)
    assert seen[0] >= 6 * 8 > seen[0] - 2 * latents_per_batch


def test_data_that_ends_in_the_warm_up_is_an_error():
    with pytest.raises(ValueError, match="ended after 3 batches of warm-up.*fewer than 5"):
        start_codebook(Accelerator(cpu=True), tiny_model(), batches(3), warmup_steps=5)


def test_passes_follow_each_other_until_one_is_empty():
    seen = [batch for batch, _ in zip(endless([1, 2, 3]), range(7), strict=False)]
    assert seen == [1, 2, 3, 1, 2, 3, 1]
    assert list(endless([])) == []


def test_texts_start_a_codebook_without_their_padding():
    torch.manual_seed(0)
    sizes = {"vocab_size": 20, "d_model": 8, "d_kv": 4, "d_ff": 8, "num_layers": 1, "num_heads": 2}
    config = T5VQVAEConfig(**sizes, codebook_size=6, decoder_start_token_id=0)
    model, fitted = T5VQVAEForConditionalGeneration(config), []
    initialize = model.initialize_codebook
    model.initialize_codebook = lambda batches, **options: (
        fitted.extend(batches),
        initialize(batches, **options),
    )
    ids = torch.randint(2, 20, (4, 9))
    mask = torch.arange(9) < torch.tensor([[3], [9], [2], [4]])
    batch = {"input_ids": ids, "attention_mask": mask.long(), "labels": ids}
    accelerator, data = Accelerator(cpu=True), endless([batch])
    steps = start_codebook(accelerator, model, data, warmup_steps=3, latents_per_code=10)
    assert steps == 3
    # 60 latents are wanted, and a batch has 18 real positions.
    assert len(fitted) == 1 + 60 // 18
    assert all(group.codebook_initialized for group in model.encoder.quantizer.groups)
    assert not model.encoder.quantizer_bypassed
