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
"""`generate` from texts, codes and latents, in every mode, against each other and against plain forwards."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from transformers import GenerationConfig

from hf_vq.models import T5VQVAEConfig, T5VQVAEForConditionalGeneration

POSITIONS = ("learned", "cross_bias", "none")
MODES: dict[str, dict[str, Any]] = {
    "greedy": {},
    "beam": {"num_beams": 3},
    "beams": {"num_beams": 4, "num_return_sequences": 2, "length_penalty": 0.5},
    "sample": {"do_sample": True},
    "samples": {"do_sample": True, "num_return_sequences": 3, "top_k": 10},
    "beam_sample": {"do_sample": True, "num_beams": 2},
    "no_cache": {"use_cache": False},
    "static": {"cache_implementation": "static"},
}
VARIANTS: dict[str, dict[str, Any]] = {
    "ema": {},
    "gaussian_mixture": {"quantizer": "gaussian_mixture"},
    "product": {"codes_per_token": 3},
    "projected": {"codebook_dim": 5},
    "after_layer": {"quantize_after_layer": 1},
}


@pytest.fixture
def make_model(
    tiny_config: Callable[..., T5VQVAEConfig],
) -> Callable[..., T5VQVAEForConditionalGeneration]:
    def make(**options: Any) -> T5VQVAEForConditionalGeneration:
        model = T5VQVAEForConditionalGeneration(tiny_config("t5_vqvae", **options)).eval()
        with torch.no_grad():
            model.shared.weight.mul_(3)  # decided logits, so that texts differ
        return model

    return make


@pytest.fixture
def batch() -> dict[str, torch.Tensor]:
    """Three texts of different lengths."""
    mask = torch.arange(7) < torch.tensor([[7], [3], [5]])
    input_ids = torch.randint(2, 50, (3, 7)).masked_fill(~mask, 0)
    return {"input_ids": input_ids, "attention_mask": mask.long()}


def seeded(generate: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    torch.manual_seed(3)
    return generate(*args, **({"max_new_tokens": 6} | kwargs))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("latent_positions", POSITIONS)
def test_from_text_codes_and_latents_alike(make_model, batch, mode, latent_positions):
    model = make_model(latent_positions=latent_positions)
    written = seeded(model.generate, **batch, **MODES[mode])
    output = model.encode(**batch)
    assert len(written) == 3 * MODES[mode].get("num_return_sequences", 1)
    assert torch.equal(seeded(model.generate_from_codes, output.codes, **MODES[mode]), written)
    for latents, quantize in ((output.latents, True), (output.quantized, False)):
        again = seeded(
            model.generate_from_latents,
            latents,
            batch["attention_mask"],
            quantize=quantize,
            **MODES[mode],
        )
        assert torch.equal(again, written)


@pytest.mark.parametrize("mode", ["greedy", "beam"])
@pytest.mark.parametrize("variant", VARIANTS.values(), ids=VARIANTS)
def test_with_every_kind_of_code(make_model, batch, mode, variant):
    model = make_model(**variant)
    written = seeded(model.generate, **batch, **MODES[mode])
    codes = model.encode(**batch).codes
    assert torch.equal(seeded(model.generate_from_codes, codes, **MODES[mode]), written)
    # a text alone is written as in company
    alone = seeded(model.generate_from_codes, codes[1:2, :3], **MODES[mode])
    length = alone.shape[1]
    assert torch.equal(alone[0], written[1, :length])
    assert not written[1, length:].any()


@pytest.mark.parametrize("latent_positions", POSITIONS)
def test_cached_logits_are_those_of_one_forward(make_model, batch, latent_positions):
    model = make_model(latent_positions=latent_positions)
    for cache in (None, "static"):
        output = model.generate(
            **batch,
            max_new_tokens=6,
            min_new_tokens=6,
            do_sample=False,
            return_dict_in_generate=True,
            output_logits=True,
            output_scores=True,
            cache_implementation=cache,
        )
        full = model(**batch, decoder_input_ids=output.sequences[:, :-1]).logits
        stepwise = torch.stack(output.logits, dim=1)
        assert stepwise.shape == (3, 6, 50)
        torch.testing.assert_close(stepwise, full, rtol=1e-4, atol=1e-4)
        assert len(output.scores) == 6
        assert output.encoder_hidden_states is None


@pytest.mark.parametrize("latent_positions", POSITIONS)
def test_a_cache_continues_where_it_stopped(make_model, batch, latent_positions):
    # in steps of three and two tokens: the relative bias must count from the right place
    model = make_model(latent_positions=latent_positions)
    ids = torch.randint(2, 50, (3, 5))
    full = model(**batch, decoder_input_ids=ids).logits
    encoder_outputs = model.encode(**batch)
    mask = batch["attention_mask"]
    first = model(
        encoder_outputs=encoder_outputs,
        attention_mask=mask,
        decoder_input_ids=ids[:, :3],
        use_cache=True,
    )
    second = model(
        encoder_outputs=encoder_outputs,
        attention_mask=mask,
        decoder_input_ids=ids[:, 3:],
        past_key_values=first.past_key_values,
        use_cache=True,
    )
    stepwise = torch.cat([first.logits, second.logits], dim=1)
    torch.testing.assert_close(stepwise, full, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("latent_positions", POSITIONS)
def test_assisted_decoding_is_greedy_decoding(make_model, batch, latent_positions):
    model = make_model(latent_positions=latent_positions)
    alone = {name: value[:1] for name, value in batch.items()}
    expected = seeded(model.generate, **alone)
    assistant = make_model(latent_positions=latent_positions, num_layers=1)
    for options in ({"assistant_model": assistant}, {"prompt_lookup_num_tokens": 2}):
        assert torch.equal(seeded(model.generate, **alone, **options), expected)


def test_it_quantizes_once_and_changes_nothing(make_model, batch):
    model = make_model()
    calls = []
    model.encoder.quantizer.register_forward_hook(lambda *_: calls.append(1))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    for mode in MODES.values():
        seeded(model.generate, **batch, **mode)
    assert len(calls) == len(MODES)
    assert all(torch.equal(tensor, before[n]) for n, tensor in model.state_dict().items())


def test_padding_on_the_left(make_model, batch):
    model = make_model()
    expected = seeded(model.generate, **batch)
    lengths = batch["attention_mask"].sum(dim=1).tolist()
    rows = [
        torch.cat([row[length:], row[:length]])
        for row, length in zip(batch["input_ids"], lengths, strict=True)
    ]
    mask = batch["attention_mask"].flip(1)
    assert torch.equal(seeded(model.generate, torch.stack(rows), attention_mask=mask), expected)


def test_roles_reach_the_encoder(make_model, batch):
    model = make_model(role_ranges={"V": [0, 3]})
    role_ids = torch.zeros(3, 7, dtype=torch.long)
    codes = model.encode(**batch, role_ids=role_ids).codes
    for mode in ("greedy", "beam"):
        written = seeded(model.generate, **batch, role_ids=role_ids, **MODES[mode])
        assert torch.equal(seeded(model.generate_from_codes, codes, **MODES[mode]), written)
    latents, mask = model.encode(**batch).latents, batch["attention_mask"]
    written = seeded(model.generate_from_codes, codes)
    again = seeded(model.generate_from_latents, latents, mask, role_ids=role_ids)
    assert torch.equal(again, written)


def test_from_embeddings(make_model, batch):
    model = make_model()
    embeds = model.get_input_embeddings()(batch["input_ids"])
    written = seeded(model.generate, inputs_embeds=embeds, attention_mask=batch["attention_mask"])
    assert torch.equal(written, seeded(model.generate, **batch))


def test_eager_attention_writes_the_same(make_model, batch):
    model = make_model()
    expected = seeded(model.generate, **batch)
    model.set_attn_implementation("eager")
    assert torch.equal(seeded(model.generate, **batch), expected)


def test_stopping_and_the_generation_config(make_model, batch, tmp_path):
    model = make_model()
    model.generation_config = GenerationConfig(
        decoder_start_token_id=0, pad_token_id=0, eos_token_id=list(range(1, 50)), max_new_tokens=6
    )
    model.save_pretrained(tmp_path)
    loaded = T5VQVAEForConditionalGeneration.from_pretrained(tmp_path)
    assert loaded.generate(**batch).shape[1] <= 1 + 6
    # every token but the padding ends the text
    assert loaded.generate(**batch, suppress_tokens=[0]).shape == (3, 2)


def test_reconstruction_after_training(make_model, batch):
    """Codes carry the text: a tiny model writes its few training texts back, from codes alone."""
    model = make_model(d_model=32, d_ff=64, codebook_size=64).train()
    batch["input_ids"][:, 2] = 1
    labels = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(80):
        model(**batch, labels=labels).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    model.eval()
    loss = model(**batch, labels=labels).reconstruction_loss
    assert loss < 0.1
    written = model.generate_from_codes(
        model.encode(**batch).codes, max_new_tokens=7, eos_token_id=None, pad_token_id=0
    )[:, 1:]
    real = batch["attention_mask"].bool()
    assert torch.equal(written[real], batch["input_ids"][real])


@pytest.mark.parametrize("variant", ["ema", "gaussian_mixture", "product"])
def test_a_model_in_training_keeps_its_codebook(make_model, batch, variant):
    model = make_model(**VARIANTS[variant]).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    assert seeded(model.generate, **batch).shape[0] == 3
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name
