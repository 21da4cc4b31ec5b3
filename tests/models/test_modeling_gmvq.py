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
"""What is special to GMVQModel: its errors, sizes, diagnostics, initialization, and that it learns."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import BertConfig, BertModel, Trainer, TrainingArguments

from hf_vq.models import GMVQConfig, GMVQModel

VARIANTS: dict[str, dict[str, Any]] = {
    "gaussian_mixture": {},
    "straight_through": {"relaxation": "straight_through"},
    "online_em": {"relaxation": "straight_through", "codebook_update": "ema"},
    "ema": {"quantizer": "ema"},
}
variants = pytest.mark.parametrize("variant", VARIANTS.values(), ids=VARIANTS)


@pytest.fixture
def make_model(tiny_config: Callable[..., GMVQConfig]) -> Callable[..., GMVQModel]:
    return lambda **options: GMVQModel(tiny_config("gmvq", **options))


def images(*shape: int) -> torch.Tensor:
    return torch.rand(shape or (3, 3, 8, 8))


def squared_error(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    return (first - second).square().flatten(1).sum(dim=1).mean()


class TestTrainer:
    def test_trains_evaluates_and_predicts(self, make_model, tmp_path):
        rows = [{"pixel_values": image} for image in images(6, 3, 8, 8)]
        arguments = TrainingArguments(
            str(tmp_path), max_steps=2, per_device_train_batch_size=3, report_to=[], use_cpu=True
        )
        trainer = Trainer(make_model(), arguments, train_dataset=rows, eval_dataset=rows)
        assert math.isfinite(trainer.train().training_loss)
        assert math.isfinite(trainer.evaluate()["eval_loss"])
        predictions = trainer.predict(rows).predictions
        assert any(np.shape(array) == (6, 3, 8, 8) for array in predictions)
        assert all(len(array) == 6 for array in predictions)


class TestConfiguration:
    @pytest.mark.parametrize(
        ("field", "value", "expected"),
        [
            ("codebook_size", 0, "at least 1"),
            ("codebook_dim", -3, "at least 1"),
            ("num_downsamples", 0, "at least 1"),
            ("temperature_anneal_steps", 0, "at least 1"),
            ("num_residual_blocks", -1, "at least 0"),
            ("kl_loss_weight", -0.5, "at least 0"),
            ("commitment_loss_weight", -1, "at least 0"),
            ("revival_threshold", -0.1, "at least 0"),
            ("assignment_variance", 0, "a positive number"),
            ("temperature_end", 0.0, "a positive number"),
            ("ema_decay", 1.0, "a number between 0 and 1"),
            ("hidden_size", 13, "an even number"),
            ("num_channels", 2, r"1 \(gray\) or 3 \(RGB\)"),
            ("image_size", 30, "a multiple of the stride, 4"),
            ("quantizer", "vq", r"one of \('gaussian_mixture', 'ema'\)"),
            ("variance", "learned", r"one of \('adaptive', 'fixed', 'none'\)"),
            ("relaxation", "hard", r"one of \('gumbel_softmax', 'straight_through'\)"),
            ("codebook_update", "none", r"one of \('gradient', 'ema'\)"),
            ("kl", "full", r"one of \('aggregated', 'per_token'\)"),
        ],
    )
    def test_refuses_values_by_name(self, field, value, expected):
        with pytest.raises(
            StrictDataclassError, match=f"{field} is {value!r}, expected {expected}"
        ):
            GMVQConfig(**{field: value})

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("codebook_size", 16.0),
            ("codebook_size", "many"),
            ("hidden_size", None),
            ("feature_weights", "softplus"),
            ("ema_decay", "0.9"),
        ],
    )
    def test_refuses_other_types_by_name(self, field, value):
        with pytest.raises(StrictDataclassError, match=f"'{field}' expected .*{value}"):
            GMVQConfig(**{field: value})

    def test_whole_numbers_are_numbers(self):
        assert GMVQConfig(kl_loss_weight=1, revival_threshold=0).kl_loss_weight == 1


class TestBadInput:
    @pytest.mark.parametrize(
        ("pixel_values", "message"),
        [
            (torch.rand(2, 1, 8, 8), r"shape \(2, 1, 8, 8\), expected \(batch, 3, height, width\)"),
            (torch.rand(3, 8, 8), r"shape \(3, 8, 8\), expected \(batch, 3, height, width\)"),
            (torch.rand(2, 3, 8, 10), "images of 8 x 10 pixels, expected multiples of .* 4"),
            (torch.full((1, 3, 8, 8), math.nan), "pixel_values contain NaN or infinity"),
            (torch.full((1, 3, 8, 8), -math.inf), "pixel_values contain NaN or infinity"),
            (torch.ones(1, 3, 8, 8, dtype=torch.uint8), r"are torch.uint8, expected floats in"),
        ],
    )
    def test_images(self, make_model, pixel_values, message):
        model = make_model()
        for call in (model, model.encode):
            with pytest.raises(ValueError, match=message):
                call(pixel_values)

    @pytest.mark.parametrize(
        ("codes", "message"),
        [
            (torch.full((1, 2, 2), 16), "codes range from 16 to 16, expected 0 to 15"),
            (torch.tensor([[[-1, 3]]]), "codes range from -1 to 3, expected 0 to 15"),
            (torch.zeros(1, 2, 2), r"codes are torch.float32 of shape \(1, 2, 2\)"),
            (
                torch.zeros(4, dtype=torch.int64),
                r"of shape \(4,\), expected int64 or int32 \(batch",
            ),
            (torch.zeros(1, 2, 2, dtype=torch.bool), r"codes are torch.bool"),
        ],
    )
    def test_codes(self, make_model, codes, message):
        with pytest.raises(ValueError, match=message):
            make_model().decode(codes=codes)

    def test_vectors_of_another_width(self, make_model):
        with pytest.raises(ValueError, match=r"shape \(1, 3, 2, 2\), expected \(batch, 5, height"):
            make_model().decode(quantized=torch.zeros(1, 3, 2, 2))

    def test_a_wrong_word_beside_a_checkpoint(self, make_model, tmp_path):
        make_model().save_pretrained(tmp_path)
        with pytest.raises((ValueError, StrictDataclassError), match="per_tokn"):
            GMVQModel.from_pretrained(tmp_path, kl="per_tokn")

    def test_decode_takes_exactly_one(self, make_model):
        model = make_model()
        for arguments in (
            {},
            {"codes": torch.zeros(1, 2, 2), "quantized": torch.zeros(1, 5, 2, 2)},
        ):
            with pytest.raises(ValueError, match="exactly one of codes and quantized"):
                model.decode(**arguments)

    def test_no_images_to_initialize_from(self, make_model):
        with pytest.raises(ValueError, match="got no batch of images"):
            make_model().initialize_codebook([])

    def test_weights_of_another_size(self, make_model, tmp_path):
        make_model(codebook_size=8).save_pretrained(tmp_path)
        with pytest.raises(RuntimeError, match="mismatch"):
            GMVQModel.from_pretrained(tmp_path, codebook_size=16)

    def test_checkpoint_of_another_model(self, tmp_path):
        # transformers takes any weights for any class and only reports what is missing: hub.py turns
        # the report into an error, and here it must name every weight.
        sizes = {"hidden_size": 4, "num_attention_heads": 1, "intermediate_size": 4}
        BertModel(BertConfig(vocab_size=9, num_hidden_layers=1, **sizes)).save_pretrained(tmp_path)
        _, report = GMVQModel.from_pretrained(
            tmp_path, config=GMVQConfig(hidden_size=4), output_loading_info=True
        )
        assert "quantizer.codebook" in report["missing_keys"]
        assert "encoder.conv_mid.weight" in report["missing_keys"]


class TestSizes:
    @variants
    @pytest.mark.parametrize("size", [(4, 4), (8, 8), (12, 20)])
    def test_any_multiple_of_the_stride(self, make_model, variant, size):
        model = make_model(**variant).eval()
        output = model(images(2, 3, *size))
        grid = (size[0] // 4, size[1] // 4)
        assert output.reconstruction.shape == (2, 3, *size)
        assert output.codes.shape == (2, *grid)
        assert output.latents.shape == output.quantized.shape == (2, 5, *grid)
        assert model.encode(images(2, 3, *size)).codes.shape == (2, *grid)

    def test_gray(self, make_model):
        model = make_model(num_channels=1)
        output = model(images(2, 1, 8, 8))
        assert output.reconstruction.shape == (2, 1, 8, 8)

    def test_large_images(self, make_model):
        model = make_model(image_size=128, num_downsamples=4).eval()
        pixel_values = images(1, 3, 128, 128)
        output = model(pixel_values)
        assert output.reconstruction.shape == pixel_values.shape
        assert output.codes.shape == (1, 8, 8)

    def test_without_residual_blocks_and_with_one_code(self, make_model):
        output = make_model(num_residual_blocks=0, codebook_size=1)(images())
        assert output.loss.isfinite()
        assert output.perplexity == 1
        assert not output.codes.any()


class TestForward:
    @variants
    def test_losses_are_sums_over_an_image_and_means_over_the_batch(self, make_model, variant):
        model, pixel_values = make_model(**variant).eval(), images()
        output = model(pixel_values)
        torch.testing.assert_close(
            output.reconstruction_loss, squared_error(output.reconstruction, pixel_values)
        )
        if variant:  # the hard codes decide; else see the reference of the quantizer's own test
            torch.testing.assert_close(
                output.commitment_loss, squared_error(output.latents, output.quantized)
            )

    def test_diagnostics(self, make_model):
        output = make_model().eval()(images(16, 3, 8, 8))
        assert output.mutual_information == output.aggregated_entropy - output.posterior_entropy
        assert output.mutual_information >= 0
        torch.testing.assert_close(output.kl_loss, math.log(16) - output.aggregated_entropy)
        shares = torch.bincount(output.codes.flatten()) / output.codes.numel()
        shares = shares[shares > 0]
        torch.testing.assert_close(output.perplexity, torch.exp(-(shares * shares.log()).sum()))
        for name in ("mutual_information", "aggregated_entropy", "posterior_entropy", "perplexity"):
            assert not output[name].requires_grad

    def test_divergence_of_each_token(self, make_model):
        # eq. (18) by its definition: sum over tokens of KL(q || uniform), mean over images.
        model, pixel_values = make_model(kl="per_token").eval(), images()
        latents = model._latents(pixel_values).flatten(1, -2)
        proxies, weights = model.quantizer._split(latents)
        differences = (proxies[..., None, :] - model.quantizer.codebook).square()
        posterior = (-(weights[..., None, :] * differences).sum(dim=-1)).softmax(dim=-1)
        divergence = (posterior * (posterior * 16).log()).sum(dim=-1)
        output = model(pixel_values)
        torch.testing.assert_close(output.kl_loss, divergence.sum(dim=1).mean(), rtol=1e-4, atol=0)
        assert make_model(kl="per_token", quantizer="ema")(pixel_values).kl_loss == 0

    @variants
    def test_soft_hard_gap(self, make_model, variant):
        model, pixel_values = make_model(**variant).eval(), images()
        assert model(pixel_values).soft_hard_gap is None
        output = model(pixel_values, output_soft_hard_gap=True)
        posterior = model.quantizer(model._latents(pixel_values))
        soft = model.decode(quantized=posterior.posterior_mean.movedim(-1, 1)).reconstruction
        hard = model.decode(codes=output.codes).reconstruction
        expected = squared_error(hard, pixel_values) - squared_error(soft, pixel_values)
        torch.testing.assert_close(output.soft_hard_gap, expected)
        assert (output.soft_hard_gap != 0) == (variant != VARIANTS["ema"])

    def test_temperature_is_that_of_this_update(self, make_model):
        model = make_model(temperature_start=2.0, temperature_end=0.5, temperature_anneal_steps=2)
        assert [model(images()).temperature.item() for _ in range(4)] == [2.0, 1.0, 0.5, 0.5]
        assert make_model(quantizer="ema")(images()).temperature is None

    def test_the_schedule_survives_saving(self, make_model, tmp_path):
        model = make_model()
        model.initialize_codebook([images(40, 3, 8, 8)])
        for _ in range(3):
            model(images())
        model.save_pretrained(tmp_path)
        loaded = GMVQModel.from_pretrained(tmp_path).train()
        assert loaded.quantizer.num_updates == 3
        assert loaded.quantizer.codebook_initialized
        assert loaded(images()).temperature == model(images()).temperature

    @variants
    def test_the_quantizer_can_be_bypassed(self, make_model, variant, tmp_path):
        model, pixel_values = make_model(**variant), images()
        model.bypass_quantizer()
        output = model(pixel_values)
        assert torch.equal(output.quantized, output.latents)
        assert torch.equal(output.loss, output.reconstruction_loss)
        output.loss.backward()
        assert model.encoder.conv_mid.weight.grad.any()
        model.save_pretrained(tmp_path)
        assert not GMVQModel.from_pretrained(tmp_path).quantizer_bypassed
        model.bypass_quantizer(False)
        assert not torch.equal(model(pixel_values).quantized, output.latents)

    @variants
    def test_bfloat16_agrees_on_codes(self, make_model, variant, tmp_path):
        model = make_model(hidden_size=32, **variant).eval()
        # Images with structure, since real latents lie near codes, not between them.
        pixel_values = torch.rand(64, 3, 2, 2).repeat_interleave(4, 2).repeat_interleave(4, 3)
        model.initialize_codebook([pixel_values], generator=torch.Generator().manual_seed(0))
        model.save_pretrained(tmp_path)
        half = GMVQModel.from_pretrained(tmp_path, dtype=torch.bfloat16)
        expected, codes = model.encode(pixel_values).codes, half.encode(pixel_values).codes
        assert (codes == expected).float().mean() >= 0.99

    @pytest.mark.slow
    # Dynamo's own, when it traces any autograd.Function (torch 2.13).
    @pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
    @variants
    @pytest.mark.parametrize("training", [True, False])
    def test_compiles_without_a_break(self, make_model, variant, training):
        model = make_model(**variant).train(training)
        compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
        pixel_values = images()
        if not training:
            output, expected = compiled(pixel_values), model(pixel_values)
            assert torch.equal(output.codes, expected.codes)
            torch.testing.assert_close(output.loss, expected.loss)
            return
        compiled(pixel_values).loss.backward()
        assert all(p.grad.isfinite().all() for p in model.parameters())
        assert model.quantizer.num_updates == 1


class TestInitialization:
    CONFIG: dict[str, Any] = {"hidden_size": 64, "residual_hidden_size": 32, "codebook_dim": 32}

    def expected_deviations(self, model: GMVQModel) -> dict[str, float]:
        """The table in `_init_weights`, as deviations by parameter."""
        deviations = {"quantizer.codebook": 1.0}
        for name, module in model.named_modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                stride = module.stride[0] if isinstance(module, nn.ConvTranspose2d) else 1
                fan_in = module.in_channels * module.kernel_size[0] ** 2 / stride**2
                small = (
                    ".blocks." in name and name.endswith("conv_out") or name.endswith("samples.1")
                )
                small = small and not name.startswith("encoder.downsamples")
                deviations[f"{name}.weight"] = (0.1 if small else 1.0) * math.sqrt(2 / fan_in)
                deviations[f"{name}.bias"] = 0.0
        return deviations

    def assert_follows_the_table(self, model: GMVQModel, names: set[str]) -> None:
        expected = self.expected_deviations(model)
        state = model.state_dict()
        for name in names & expected.keys():
            values = state[name]
            if name == "encoder.conv_out.weight" and model.quantizer.input_dim > 32:
                assert not values[32:].any(), "all dimensions weigh the same"
                values = values[:32]
            tolerance = 5 / math.sqrt(2 * values.numel())  # five standard errors
            assert values.float().pow(2).mean().sqrt().item() == pytest.approx(
                expected[name], rel=tolerance
            ), name

    @variants
    def test_built_directly(self, make_model, variant):
        model = make_model(**self.CONFIG, **variant)
        names = {name for name, _ in model.named_parameters()} | {"quantizer.codebook"}
        assert names == self.expected_deviations(model).keys()
        self.assert_follows_the_table(model, names)

    @variants
    def test_completed_from_a_partial_checkpoint(self, make_model, variant, tmp_path):
        model = make_model(**self.CONFIG, **variant)
        with torch.no_grad():
            for tensor in model.state_dict().values():
                tensor.fill_(7)
        model.save_pretrained(tmp_path)
        file = tmp_path / "model.safetensors"
        stored = load_file(file)
        # Every second weight, and all that describes the codes.
        missing = {name for name in stored if name.startswith("quantizer.")}
        missing |= set(sorted(stored.keys() - missing)[::2])
        kept = {name: tensor for name, tensor in stored.items() if name not in missing}
        save_file(kept, file, metadata={"format": "pt"})
        loaded, report = GMVQModel.from_pretrained(tmp_path, output_loading_info=True)
        assert set(report["missing_keys"]) == missing
        state = loaded.state_dict()
        assert all((state[name] == 7).all() for name in kept)
        self.assert_follows_the_table(loaded, missing)
        assert state["quantizer.num_updates"] == 0
        assert not state["quantizer.codebook_initialized"]
        assert (state["quantizer.ema_counts"] == 1).all()
        if "ema" in variant.values():
            assert torch.equal(state["quantizer.ema_sums"], state["quantizer.codebook"])
        if variant != VARIANTS["ema"]:
            assert state["quantizer.logit_scale"] == 1
            assert state["quantizer.ema_distance"] == 0

    def test_the_first_image_is_gray(self, make_model):
        reconstruction = make_model(**self.CONFIG).eval()(images(4, 3, 16, 16)).reconstruction
        assert (reconstruction - 0.5).abs().mean() < 0.2


class TestCodebookStart:
    @variants
    def test_codes_come_from_the_latents_of_the_batches(self, make_model, variant):
        model, batches = make_model(**variant), [images(20, 3, 8, 8) for _ in range(3)]
        model.initialize_codebook(iter(batches), generator=torch.Generator().manual_seed(0))
        assert model.training
        assert model.quantizer.codebook_initialized
        encoded = model.encode(torch.cat(batches))
        assert len(encoded.codes.unique()) == 16
        spread = (encoded.latents - encoded.latents.mean()).square().mean()
        assert (encoded.latents - encoded.quantized).square().mean() < 0.5 * spread

    def test_the_generator_decides(self, make_model):
        model, batch = make_model(), images(20, 3, 8, 8)
        codebooks = []
        for seed in (0, 0, 1):
            model.initialize_codebook([batch], generator=torch.Generator().manual_seed(seed))
            codebooks.append(model.quantizer.codebook.detach().clone())
        assert torch.equal(codebooks[0], codebooks[1])
        assert not torch.equal(codebooks[0], codebooks[2])

    def test_training_never_starts_it_again(self, make_model, tmp_path):
        model = make_model()
        model.initialize_codebook([images(20, 3, 8, 8)])
        model.save_pretrained(tmp_path)
        loaded = GMVQModel.from_pretrained(tmp_path).train()
        loaded(images())
        assert torch.equal(loaded.quantizer.codebook, model.quantizer.codebook)


@variants
def test_it_learns_a_few_images(make_model, variant):
    model = make_model(
        hidden_size=32,
        residual_hidden_size=16,
        codebook_size=32,
        codebook_dim=8,
        temperature_anneal_steps=80,
        **variant,
    )
    colors = torch.rand(8, 3, 2, 2)
    pixel_values = nn.functional.interpolate(colors, scale_factor=8, mode="nearest")
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    model.bypass_quantizer()
    for step in range(120):
        if step == 20:
            model.bypass_quantizer(False)
            model.initialize_codebook([pixel_values])
        optimizer.zero_grad()
        loss = model(pixel_values).loss
        loss.backward()
        optimizer.step()
    model.eval()
    gray = squared_error(torch.full_like(pixel_values, 0.5), pixel_values)
    assert model(pixel_values).reconstruction_loss < 0.1 * gray
