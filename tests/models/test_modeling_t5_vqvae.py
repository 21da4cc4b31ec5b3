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
"""What is special to T5VQVAE: its T5, its codes, roles, positions and padding, and its errors."""

import contextlib
from collections.abc import Callable
from typing import Any

import pytest
import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import T5Config, T5ForConditionalGeneration

from hf_vq.models import T5VQVAEConfig, T5VQVAEForConditionalGeneration
from hf_vq.models.vector_quantization import Quantizer, kmeans

POSITIONS = ("learned", "cross_bias", "none")
positions = pytest.mark.parametrize("latent_positions", POSITIONS)
VARIANTS: dict[str, dict[str, Any]] = {
    "ema": {},
    "gaussian_mixture": {"quantizer": "gaussian_mixture"},
    "feature_weights": {"quantizer": "gaussian_mixture", "feature_weights": True},
    "product": {"codes_per_token": 3},
    "shared": {"codes_per_token": 2, "share_codebook": True},
    "projected": {"codebook_dim": 5, "codes_per_token": 2},
    "after_layer": {"quantize_after_layer": 1},
    "embeddings": {"quantize_after_layer": 0},
    "roles": {"role_ranges": {"ARG0": [0, 4], "V": [4, 9]}, "role_embedding": True},
}
variants = pytest.mark.parametrize("variant", VARIANTS.values(), ids=VARIANTS)
# T5 v1 ties its output to its embeddings; Flan-T5 and T5 v1.1 do not.
STOCK: dict[str, dict[str, Any]] = {
    "t5": {},
    "flan-t5": {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False},
}


@pytest.fixture
def make_model(
    tiny_config: Callable[..., T5VQVAEConfig],
) -> Callable[..., T5VQVAEForConditionalGeneration]:
    return lambda **options: T5VQVAEForConditionalGeneration(tiny_config("t5_vqvae", **options))


@pytest.fixture
def make_stock(tiny_config: Callable[..., T5VQVAEConfig]) -> Callable[..., Any]:
    """Return `make_stock("flan-t5")`: transformers' own T5 at the size of the tiny configuration."""

    def make(kind: str = "t5") -> T5ForConditionalGeneration:
        ours = tiny_config("t5_vqvae").to_dict()
        fields = T5Config().to_dict().keys() - {"model_type", "tie_word_embeddings"}
        shared = {name: ours[name] for name in fields & ours.keys()}
        for name in ("is_gated_act", "dense_act_fn", "scale_decoder_outputs", "architectures"):
            shared.pop(name, None)
        config = T5Config(**(shared | {"decoder_start_token_id": 0} | STOCK[kind]))
        model = T5ForConditionalGeneration(config).eval()
        if kind == "flan-t5":
            model.lm_head.weight = nn.Parameter(torch.randn_like(model.lm_head.weight))
        return model

    return make


def texts(*lengths: int, padded: int | None = None, left: bool = False) -> dict[str, torch.Tensor]:
    """A batch of random texts of these lengths."""
    lengths = lengths or (7, 4, 6)
    padded = padded or max(lengths)
    mask = torch.arange(padded) < torch.tensor(lengths)[:, None]
    mask = mask.flip(1) if left else mask
    input_ids = torch.zeros(mask.shape, dtype=torch.long)
    input_ids[mask] = torch.randint(2, 50, (sum(lengths),))
    return {"input_ids": input_ids, "attention_mask": mask.long()}


def labeled(batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return batch | {"labels": batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)}


def buffers(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in model.named_buffers()}


def assert_same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> None:
    assert first.keys() == second.keys()
    assert all(torch.equal(tensor, second[name]) for name, tensor in first.items())


class TestConfiguration:
    @pytest.mark.parametrize(
        ("fields", "message"),
        [
            ({"codebook_size": 0}, "codebook_size is 0, expected at least 1"),
            ({"codes_per_token": 0}, "codes_per_token is 0, expected at least 1"),
            ({"codebook_dim": 0}, "codebook_dim is 0, expected at least 1"),
            ({"codes_per_token": 5}, "codes_per_token is 5, expected a divisor of d_model, 512"),
            ({"commitment_loss_weight": -1}, "commitment_loss_weight is -1, expected at least 0"),
            ({"ema_decay": 1.0}, "ema_decay is 1.0, expected a number between 0 and 1"),
            ({"latent_dropout": 1.0}, "latent_dropout is 1.0, expected a number from 0"),
            (
                {"decoder_word_dropout": 1.5},
                "decoder_word_dropout is 1.5, expected a number from 0",
            ),
            ({"quantizer": "vq"}, "quantizer is 'vq', expected one of"),
            ({"latent_positions": "rotary"}, "latent_positions is 'rotary', expected one of"),
            ({"quantize_after_layer": 6}, "quantize_after_layer is 6, expected 0 to 5 of 6 layers"),
            ({"role_embedding": True}, "role_ranges names no roles"),
            ({"role_ranges": {"V": [3, 3]}}, r"role 'V' is \[3, 3\], expected \[start, end\)"),
            ({"role_ranges": {"V": [3, 5000]}}, r"role 'V' is \[3, 5000\]"),
            ({"role_ranges": {"V": [3]}}, r"role 'V' is \[3\]"),
            ({"role_ranges": {"V": [0, 5], "A": [4, 8]}}, r"\[0, 5\) and \[4, 8\) overlap"),
        ],
    )
    def test_refuses_values_by_name(self, fields, message):
        with pytest.raises(StrictDataclassError, match=message):
            T5VQVAEConfig(**fields)

    def test_roles_may_share_a_range(self):
        T5VQVAEConfig(role_ranges={"ARG0": [0, 9], "ARG1": [0, 9], "V": (9, 12)})

    def test_keywords_of_from_pretrained_are_checked_too(self, make_model, tmp_path):
        make_model().save_pretrained(tmp_path)
        with pytest.raises(StrictDataclassError, match="codes_per_token is 5, expected a divisor"):
            T5VQVAEForConditionalGeneration.from_pretrained(tmp_path, codes_per_token=5)


class TestPretrainedT5:
    @positions
    @pytest.mark.parametrize("kind", STOCK)
    def test_only_codebook_and_positions_are_new(
        self, make_stock, latent_positions, kind, tmp_path
    ):
        stock, batch = make_stock(kind), labeled(texts())
        stock.save_pretrained(tmp_path)
        model, info = T5VQVAEForConditionalGeneration.from_pretrained(
            tmp_path,
            latent_positions=latent_positions,
            codebook_size=16,
            max_latent_positions=9,
            output_loading_info=True,
        )
        assert not info["unexpected_keys"]
        assert not info["mismatched_keys"]
        assert all("quantizer." in key or "latent_position" in key for key in info["missing_keys"])
        assert any("latent_position" in key for key in info["missing_keys"]) == (
            latent_positions != "none"
        )
        model.bypass_quantizer()
        expected, output = stock(**batch), model(**batch)
        torch.testing.assert_close(output.logits, expected.logits, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(output.loss, expected.loss)
        # and once more from our own checkpoint
        model.save_pretrained(tmp_path / "ours")
        loaded = T5VQVAEForConditionalGeneration.from_pretrained(tmp_path / "ours")
        loaded.bypass_quantizer()
        assert torch.equal(loaded(**batch).logits, output.logits)

    def test_without_quantizer_it_is_t5(self, make_stock, tmp_path):
        stock, batch = make_stock(), labeled(texts())
        stock.save_pretrained(tmp_path)
        model, info = T5VQVAEForConditionalGeneration.from_pretrained(
            tmp_path, quantizer="none", latent_positions="none", output_loading_info=True
        )
        assert not info["missing_keys"]
        output, expected = model(**batch), stock(**batch)
        assert torch.equal(output.logits, expected.logits)
        assert output.codes is None
        assert output.commitment_loss is None
        inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
        assert torch.equal(
            model.generate(**inputs, max_new_tokens=5), stock.generate(**inputs, max_new_tokens=5)
        )
        with pytest.raises(ValueError, match="quantizer is 'none': this model has no codes"):
            model.initialize_codebook([inputs])

    def test_the_unused_bias_of_old_checkpoints_is_not_loaded(self, make_stock, tmp_path):
        make_stock().save_pretrained(tmp_path)
        weights = load_file(tmp_path / "model.safetensors")
        name = "decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight"
        weights[name] = torch.ones(8, 2)
        save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
        model = T5VQVAEForConditionalGeneration.from_pretrained(
            tmp_path, latent_positions="cross_bias", codebook_size=16
        )
        attention = model.decoder.block[0].layer[1].EncDecAttention
        assert not attention.latent_position_bias.weight.any()


class TestInitialization:
    """Weights of an outside subclass of T5 would start 32 times too large."""

    CONFIG = {"d_model": 64, "d_kv": 16, "d_ff": 128, "num_heads": 4, "vocab_size": 300}

    def assert_scales_of_t5(self, model: nn.Module, stock: nn.Module) -> None:
        state = model.state_dict()
        for name, expected in stock.state_dict().items():
            if expected.numel() > 60 and expected.std() > 0:
                ratio = state[name].std() / expected.std()
                assert 0.7 < ratio < 1.4, f"{name}: {ratio:.2f} times T5's scale"
        q = state["encoder.block.0.layer.0.SelfAttention.q.weight"]
        assert q.std().item() == pytest.approx((64 * 16) ** -0.5, rel=0.1)

    @positions
    @pytest.mark.parametrize("directly", [True, False])
    def test_scales_are_those_of_t5(self, tiny_config, latent_positions, directly):
        config = tiny_config("t5_vqvae", **self.CONFIG, latent_positions=latent_positions)
        if directly:
            model = T5VQVAEForConditionalGeneration(config)
        else:
            model = T5VQVAEForConditionalGeneration.from_pretrained(
                None, config=config, state_dict={}
            )
        stock = T5ForConditionalGeneration(T5Config(**self.CONFIG, num_layers=2))
        self.assert_scales_of_t5(model, stock)
        if latent_positions == "learned":
            weight = model.encoder.latent_positions.weight
            assert weight.std().item() == pytest.approx(0.1, rel=0.1)
        if latent_positions == "cross_bias":
            bias = model.decoder.block[0].layer[1].EncDecAttention.latent_position_bias.weight
            assert bias.std().item() == pytest.approx(64**-0.5, rel=0.4)

    def test_a_partial_checkpoint_is_completed_at_these_scales(self, tiny_config):
        config = tiny_config("t5_vqvae", **self.CONFIG)
        weights = T5VQVAEForConditionalGeneration(config).state_dict()
        kept = {name: tensor for name, tensor in weights.items() if "decoder.block.1" not in name}
        model = T5VQVAEForConditionalGeneration.from_pretrained(
            None, config=config, state_dict=kept
        )
        self.assert_scales_of_t5(
            model, T5ForConditionalGeneration(T5Config(**self.CONFIG, num_layers=2))
        )

    def test_projections(self, make_model):
        quantizer = make_model(
            d_model=60, codebook_dim=40, quantizer="gaussian_mixture", feature_weights=True
        ).encoder.quantizer
        assert quantizer.project_in.weight.std().item() == pytest.approx(60**-0.5, rel=0.1)
        assert quantizer.project_out.weight.std().item() == pytest.approx(40**-0.5, rel=0.1)
        assert not quantizer.weigh_features.weight.any()


class TestPositions:
    @positions
    def test_permuting_codes_matters_if_the_decoder_knows_positions(
        self, make_model, latent_positions
    ):
        model = make_model(latent_positions=latent_positions).eval()
        codes = torch.randperm(16)[:6].view(1, 6, 1)
        labels = torch.randint(2, 50, (1, 5))
        with torch.no_grad():
            first = model.decode(codes=codes, labels=labels).logits
            second = model.decode(codes=codes.flip(1), labels=labels).logits
        assert torch.allclose(first, second, atol=1e-6) == (latent_positions == "none")

    def test_a_text_longer_than_the_table(self, make_model):
        with pytest.raises(ValueError, match="a text of 15 tokens, but max_latent_positions is 14"):
            make_model().encode(torch.ones(1, 15, dtype=torch.long))

    def test_without_a_table_any_length_goes(self, make_model):
        assert make_model(latent_positions="none").encode(texts(40)["input_ids"]).codes.shape == (
            1, 40, 1,
        )  # fmt: skip


class TestPadding:
    @variants
    @pytest.mark.parametrize("left", [False, True])
    def test_longer_padding_changes_nothing(self, make_model, variant, left):
        model = make_model(**variant).eval()
        short, long = texts(5, 3, 4, left=left), texts(5, 3, 4, padded=9, left=left)
        long["input_ids"][long["attention_mask"].bool()] = short["input_ids"][
            short["attention_mask"].bool()
        ]
        long["input_ids"][~long["attention_mask"].bool()] = 33  # whatever stands there
        labels = labeled(texts(6, 6, 5))["labels"]
        first, second = model(**short, labels=labels), model(**long, labels=labels)
        real = short["attention_mask"].bool(), long["attention_mask"].bool()
        assert torch.equal(first.codes[real[0]], second.codes[real[1]])
        assert (second.codes[~real[1]] == -1).all()
        assert not second.quantized[~real[1]].any()
        torch.testing.assert_close(second.logits, first.logits, rtol=1e-4, atol=1e-5)
        for name in ("loss", "commitment_loss", "kl_loss"):
            torch.testing.assert_close(second[name], first[name], rtol=1e-4, atol=1e-5)

    def test_longer_padding_changes_no_update(self, make_model):
        first = make_model(revival_threshold=0.0).train()
        second = make_model(revival_threshold=0.0).train()
        second.load_state_dict(first.state_dict())
        batch = labeled(texts(5, 3, 4))
        padded = {
            "input_ids": nn.functional.pad(batch["input_ids"], (0, 5), value=33),
            "attention_mask": nn.functional.pad(batch["attention_mask"], (0, 5)),
            "labels": nn.functional.pad(batch["labels"], (0, 5), value=-100),
        }
        for model, inputs in ((first, batch), (second, padded)):
            torch.manual_seed(0)  # of the codebook's start
            model(**inputs)
        for name, tensor in buffers(first).items():
            torch.testing.assert_close(buffers(second)[name], tensor, msg=name)


class TestQuantizer:
    def test_gradients_pass_straight_through_where_there_is_text(self, make_model):
        quantizer = make_model().encoder.quantizer.train()
        latents = torch.randn(2, 5, 12, requires_grad=True)
        mask = torch.arange(5) < torch.tensor([[5], [3]])
        output = quantizer(latents, mask)
        output.quantized.sum().backward()
        assert torch.equal(latents.grad, mask[..., None].expand(2, 5, 12).float())
        quantizer.eval()
        codes = quantizer(latents, mask).codes
        quantized = quantizer(latents, mask).quantized
        assert torch.equal(quantized[mask], quantizer.groups[0].codebook[codes[mask][:, 0]])

    @variants
    def test_codes_decode_to_what_the_decoder_read(self, make_model, variant):
        model, batch = make_model(**variant).eval(), labeled(texts())
        output = model(**batch)
        assert output.codes.shape == (3, 7, model.config.codes_per_token)
        assert torch.equal(model.embed_codes(output.codes), output.quantized)
        for given in (
            {"codes": output.codes},
            {"quantized": output.quantized, "attention_mask": batch["attention_mask"]},
        ):
            decoded = model.decode(**given, labels=batch["labels"])
            assert torch.equal(decoded.logits, output.logits)
            assert torch.equal(decoded.reconstruction_loss, output.reconstruction_loss)
            assert decoded.commitment_loss is None
        again = model.quantize(output.latents, batch["attention_mask"])
        assert torch.equal(again.codes, output.codes)
        assert torch.equal(again.quantized, output.quantized)

    @variants
    def test_nothing_but_training_changes_the_quantizer(self, make_model, variant):
        model, batch = make_model(**variant), labeled(texts())
        inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
        model.train()(**batch)
        before = buffers(model)
        for training in (True, False):
            model.train(training)
            output = model.encode(**inputs)
            model.quantize(output.latents, batch["attention_mask"])
            model.decode(codes=output.codes, labels=batch["labels"])
            model.generate_from_codes(output.codes, max_new_tokens=3)
            model.codebook_statistics(output.codes)
        model(**batch)
        model.generate(**inputs, max_new_tokens=3)
        assert_same(buffers(model), before)
        model.train()(**batch)
        assert not all(torch.equal(t, before[n]) for n, t in buffers(model).items())

    def test_product_codes_move_their_own_part(self, make_model):
        model = make_model(codes_per_token=2).eval()
        codes = model.encode(**texts()).codes
        assert model.codebook.shape == (2, 16, 6)
        other = codes.clone()
        other[0, 2, 1] = (codes[0, 2, 1] + 1) % 16
        changed = model.embed_codes(codes) != model.embed_codes(other)
        assert changed[0, 2].tolist() == [False] * 6 + [True] * 6
        assert changed.sum() == 6
        other[0, 2, 0] = (codes[0, 2, 0] + 1) % 16
        assert (model.embed_codes(codes) != model.embed_codes(other))[0, 2].all()

    def test_a_shared_codebook_is_one_table(self, make_model):
        model = make_model(codes_per_token=2, share_codebook=True)
        assert len(model.encoder.quantizer.groups) == 1
        assert torch.equal(*model.codebook)
        codes = model.encode(**texts(4)).codes
        vectors = model.embed_codes(codes)
        assert torch.equal(vectors[..., :6], model.codebook[0][codes[..., 0]])
        assert torch.equal(vectors[..., 6:], model.codebook[0][codes[..., 1]])

    def test_parts_are_quantized_apart(self, make_model):
        model = make_model(codes_per_token=2).eval()
        output = model(**labeled(texts()))
        mask = output.codes[..., 0] >= 0
        error = (output.latents - output.quantized)[mask].square().sum()
        tokens = mask.sum()
        torch.testing.assert_close(output.commitment_loss, error / (12 * tokens))
        for g, part in enumerate(output.latents.chunk(2, dim=-1)):
            distances = torch.cdist(part[mask], model.codebook[g])
            assert torch.equal(distances.argmin(dim=1), output.codes[mask][:, g])

    def test_in_the_middle_of_the_encoder(self, make_model):
        model = make_model(quantize_after_layer=0, latent_positions="none").eval()
        # No layer before the quantizer: a token's code is the same in any text.
        codes = model.encode(torch.tensor([[7, 8, 9, 7]])).codes
        assert codes[0, 0] == codes[0, 3]
        # Layers after it: the decoder reads codes in their context.
        memory = model.encode(torch.tensor([[7, 8, 9, 7]])).last_hidden_state
        assert not torch.allclose(memory[0, 0], memory[0, 3], atol=1e-3)

    def test_encoder_outputs_begin_with_the_batch(self, make_model):
        batch = texts(5, 4)
        for variant in VARIANTS.values():
            for value in make_model(**variant).eval().encode(**batch).values():
                assert len(value) == 2


class TestRoles:
    RANGES = {"ARG0": [0, 4], "V": [4, 9], "ARG1": [0, 4]}

    def test_roles_keep_their_order_when_saved(self, make_model, tmp_path):
        model = make_model(role_ranges=self.RANGES, role_embedding=True).eval()
        model.save_pretrained(tmp_path)
        again = T5VQVAEForConditionalGeneration.from_pretrained(tmp_path)
        assert list(again.config.role_ranges.items()) == list(self.RANGES.items())
        batch, role_ids = texts(7), torch.ones(1, 7, dtype=torch.long)
        one, other = (m.encode(**batch, role_ids=role_ids) for m in (model, again))
        assert torch.equal(one.codes, other.codes)
        assert (other.codes >= 4).all()

    @pytest.mark.parametrize("quantizer", ["ema", "gaussian_mixture"])
    @pytest.mark.parametrize("codes_per_token", [1, 2])
    def test_codes_lie_in_the_range_of_their_role(self, make_model, quantizer, codes_per_token):
        model = make_model(
            role_ranges=self.RANGES, quantizer=quantizer, codes_per_token=codes_per_token
        )
        batch = labeled(texts(7, 7, 7, 7))
        role_ids = torch.randint(-1, 3, (4, 7))
        for training in (True, True, False):
            codes = model.train(training)(**batch, role_ids=role_ids).codes
            for role, (start, end) in enumerate(self.RANGES.values()):
                inside = codes[role_ids == role]
                assert ((inside >= start) & (inside < end)).all()
        inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
        assert torch.equal(model.encode(**inputs, role_ids=role_ids).codes, codes)
        free = model.encode(**inputs).codes
        assert torch.equal(codes[role_ids == -1], free[role_ids == -1])

    def test_a_role_takes_the_nearest_of_its_codes(self, make_model):
        model = make_model(role_ranges=self.RANGES).eval()
        batch, role_ids = texts(7, 7), torch.ones(2, 7, dtype=torch.long)
        output = model.encode(**batch, role_ids=role_ids)
        distances = torch.cdist(output.latents, model.codebook[0, 4:9][None])
        assert torch.equal(output.codes[..., 0], 4 + distances.argmin(dim=-1))

    def test_each_range_starts_from_the_latents_of_its_roles(self, make_model):
        model = make_model(role_ranges=self.RANGES).eval()
        batch = texts(*[7] * 16)
        role_ids = torch.randint(0, 3, (16, 7))
        model.initialize_codebook(
            [batch | {"role_ids": role_ids}], generator=torch.Generator().manual_seed(3)
        )
        latents = model.encode(**batch).latents
        generator = torch.Generator().manual_seed(3)
        centers, _ = kmeans(latents[role_ids != 1], 4, generator=generator)
        torch.testing.assert_close(model.codebook[0, :4], centers)
        centers, _ = kmeans(latents[role_ids == 1], 5, generator=generator)
        torch.testing.assert_close(model.codebook[0, 4:9], centers)

    def test_a_dead_code_moves_to_a_latent_of_its_role(self, make_model):
        quantizer = make_model(
            role_ranges=self.RANGES, revival_threshold=0.5, ema_decay=0.5
        ).encoder.quantizer.train()
        roles = torch.tensor([[0, 0, 0, 1, 1, 1]])
        latents = torch.where(roles == 0, -1.0, 1.0)[..., None] + 0.1 * torch.randn(1, 6, 12)
        for _ in range(12):
            quantizer(latents, torch.ones(1, 6, dtype=torch.bool), roles)
        codebook = quantizer.groups[0].codebook
        assert (codebook[:4] < 0).float().mean() > 0.95
        assert (codebook[4:9] > 0).float().mean() > 0.95

    def test_the_encoder_reads_roles_if_it_is_to(self, make_model):
        batch = texts(7)
        for reads in (True, False):
            model = make_model(role_ranges=self.RANGES, role_embedding=reads).eval()
            first, second, none = (
                model.encode(**batch, role_ids=torch.full((1, 7), role)).latents
                for role in (0, 1, -1)
            )
            assert torch.equal(first, second) == (not reads)
            assert torch.equal(none, model.encode(**batch).latents)

    @pytest.mark.parametrize(
        ("ranges", "role_ids", "message"),
        [
            (RANGES, torch.full((1, 4), 3), "3 to 3, but role_ranges names 3 roles: ARG0, V, ARG1"),
            (RANGES, torch.full((1, 4), -2), "-1 is no role"),
            (None, torch.zeros(1, 4, dtype=torch.long), "role_ranges names 0 roles: none"),
            (RANGES, torch.zeros(1, 3, dtype=torch.long), r"of shape \(1, 3\), expected integers"),
            (RANGES, torch.zeros(1, 4), "role_ids are torch.float32"),
        ],
    )
    def test_refuses_roles_that_the_ranges_do_not_name(self, make_model, ranges, role_ids, message):
        for reads in {False, ranges is not None}:
            model = make_model(role_ranges=ranges, role_embedding=reads)
            with pytest.raises(ValueError, match=message):
                model.encode(**texts(4), role_ids=role_ids)


class TestStart:
    """How the codebook starts."""

    def test_initialize_codebook_leaves_every_mode(self, make_model):
        model = make_model().train()
        model.decoder.eval()
        for batch in (texts(7, 5), texts(15)):  # more than `max_latent_positions`
            with contextlib.suppress(ValueError):
                model.initialize_codebook([batch])
            assert model.training
            assert model.encoder.block[0].training
            assert not model.decoder.training

    @pytest.mark.parametrize("quantizer", ["ema", "gaussian_mixture"])
    def test_the_first_training_batch_gives_it(self, make_model, quantizer):
        model = make_model(quantizer=quantizer, codes_per_token=2, revival_threshold=0.0)
        batch = labeled(texts(*[7] * 16))
        model.eval()(**batch)
        assert not any(m.codebook_initialized for m in quantizers(model))
        output = model.train()(**batch)
        assert all(m.codebook_initialized for m in quantizers(model))
        # every part from its own latents: errors are far below the spread of the latents
        assert output.commitment_loss < 0.5 * output.latents.var()
        assert model.codebook_statistics(output.codes)["codebook_usage"] > 0.9

    def test_training_never_starts_it_again(self, make_model, tmp_path):
        model, batch = make_model(ema_decay=0.999), labeled(texts(*[7] * 8))
        model.train()(**batch)
        model.save_pretrained(tmp_path)
        loaded = T5VQVAEForConditionalGeneration.from_pretrained(tmp_path).train()
        before = loaded.codebook.clone()
        loaded(**labeled(texts(*[7] * 8)))
        assert 0 < (loaded.codebook - before).abs().max() < 0.1

    def test_loading_a_state_without_start_asks_for_one_again(self, make_model):
        model, batch = make_model(), labeled(texts(*[7] * 8))
        fresh = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        model.train()(**batch)
        model.load_state_dict(fresh)
        model(**batch)
        assert all(m.codebook_initialized for m in quantizers(model))

    def test_from_batches(self, make_model):
        model = make_model().train()
        batches = [labeled(texts(7, 5, 6)) for _ in range(8)]
        generator = torch.Generator().manual_seed(1)
        model.initialize_codebook(batches, generator=generator)
        assert model.training
        model.eval()
        latents = torch.cat(
            [
                model.encode(b["input_ids"], b["attention_mask"]).latents[b["labels"] >= 0]
                for b in batches
            ]
        )
        centers, counts = kmeans(latents, 16, generator=torch.Generator().manual_seed(1))
        (quantizer,) = quantizers(model)
        torch.testing.assert_close(quantizer.codebook, centers)
        torch.testing.assert_close(quantizer.ema_counts, counts.clamp_min(1) / len(batches))

    def test_synthetic_clusters_keep_their_codes(self, make_model):
        model = make_model(codebook_size=20)
        quantizer = model.encoder.quantizer.train()
        centers = 5 * torch.randn(24, 12)
        for step in range(201):
            latents = centers[torch.randint(24, (8, 12))] + 0.1 * torch.randn(8, 12, 12)
            codes = quantizer(latents, torch.ones(8, 12, dtype=torch.bool)).codes
            if step in (0, 200):
                assert model.codebook_statistics(codes)["codebook_usage"] > 0.89

    def test_equal_batches_converge_to_the_means(self, make_model):
        quantizer = make_model(codebook_size=4, revival_threshold=0.0).encoder.quantizer.train()
        latents = torch.randn(3, 6, 12)
        mask = torch.arange(6) < torch.tensor([[6], [4], [1]])
        for _ in range(2000):
            codes = quantizer(latents, mask).codes[..., 0]
        for code in range(4):
            members = latents[codes == code]
            if len(members):
                mean = members.mean(dim=0)
                torch.testing.assert_close(
                    quantizer.groups[0].codebook[code], mean, rtol=0, atol=1e-4
                )

    def test_no_batches(self, make_model):
        with pytest.raises(ValueError, match="initialize_codebook got no batch"):
            make_model().initialize_codebook([])
        with pytest.raises(ValueError, match="a batch is Tensor, expected a dict with input_ids"):
            make_model().initialize_codebook([torch.ones(1, 2, dtype=torch.long)])

    @variants
    def test_the_quantizer_can_be_bypassed(self, make_model, variant):
        model, batch = make_model(**variant).train(), labeled(texts())
        before = buffers(model)
        model.bypass_quantizer()
        output = model(**batch)
        assert output.codes is None
        assert torch.equal(output.loss, output.reconstruction_loss)
        output.loss.backward()
        assert_same(buffers(model), before)
        model.bypass_quantizer(False)
        assert model(**batch).codes is not None


def quantizers(model: nn.Module) -> list[Quantizer]:
    return [module for module in model.modules() if isinstance(module, Quantizer)]


class TestStatistics:
    def test_by_hand(self, make_model):
        model = make_model()
        codes = torch.tensor([[[3], [3], [-1]], [[5], [7], [7]]])
        statistics = model.codebook_statistics([codes[:1], codes[1:]])
        assert statistics == model.codebook_statistics(codes)
        rate = 1.5219280948873621  # two of five, two of five, one of five
        assert statistics["codebook_usage"] == 3 / 16
        assert statistics["rate"] == pytest.approx(rate)
        assert statistics["codebook_perplexity"] == pytest.approx(2**rate)
        assert statistics["max_rate"] == 4

    def test_the_rate_of_product_codes_is_joint(self, make_model):
        model = make_model(codes_per_token=2)
        codes = torch.tensor([[[0, 0], [1, 1], [0, 0], [1, 1]]])
        statistics = model.codebook_statistics(codes)
        assert statistics["rate"] == pytest.approx(1)  # the second code says nothing new
        assert statistics["codebook_perplexity"] == pytest.approx(2)
        assert statistics["max_rate"] == 8

    def test_of_nothing(self, make_model):
        with pytest.raises(ValueError, match="got no code"):
            make_model().codebook_statistics(torch.full((1, 2, 1), -1))
        with pytest.raises(ValueError, match="got no code"):
            make_model().codebook_statistics([])


class TestInput:
    @pytest.mark.parametrize(
        ("codes", "message"),
        [
            (torch.zeros(2, 3, dtype=torch.long), r"shape \(2, 3\), expected integers"),
            (torch.zeros(2, 3, 1), "codes are torch.float32"),
            ([[[0]]], "codes are list, expected a tensor of integers"),
            (torch.zeros(2, 3, 2, dtype=torch.long), r"expected integers \(batch, length, 1\)"),
            (torch.full((1, 3, 1), 16), "codes range from 16 to 16, expected 0 to 15"),
            (torch.full((1, 3, 1), -2), "codes range from -2 to -2"),
            (torch.full((1, 3, 1), -1), "a sequence of codes is empty"),
        ],
    )
    def test_codes(self, make_model, codes, message):
        with pytest.raises(ValueError, match=message):
            make_model().generate_from_codes(codes)

    def test_half_a_position(self, make_model):
        with pytest.raises(ValueError, match="some codes of a position are -1"):
            make_model(codes_per_token=2).embed_codes(torch.tensor([[[0, -1]]]))

    @pytest.mark.parametrize(
        "given", [{}, {"codes": torch.zeros(1, 2, 1).long(), "quantized": torch.zeros(1, 2, 12)}]
    )
    def test_decode_takes_exactly_one(self, make_model, given):
        with pytest.raises(ValueError, match="exactly one of codes and quantized"):
            make_model().decode(**given)

    def test_nothing_to_encode(self, make_model):
        with pytest.raises(ValueError, match="even an empty text ends in </s>"):
            make_model().encode(torch.zeros(2, 0, dtype=torch.long))
        assert make_model().encode(torch.ones(1, 1, dtype=torch.long)).codes.shape == (1, 1, 1)

    def test_a_mask_of_another_shape(self, make_model):
        with pytest.raises(
            ValueError, match=r"attention_mask has shape \(1, 3\), expected \(1, 4\)"
        ):
            make_model().encode(**(texts(4) | {"attention_mask": torch.ones(1, 3)}))

    @pytest.mark.parametrize("shape", [(1, 4), (1, 4, 11)])
    def test_latents_of_another_shape(self, make_model, shape):
        with pytest.raises(
            ValueError, match=r"latents have shape .*, expected \(batch, length, 12"
        ):
            make_model().quantize(torch.zeros(shape))

    def test_tokens_or_vectors(self, make_model):
        model = make_model().eval()
        with pytest.raises(ValueError, match="exactly one of input_ids and inputs_embeds"):
            model(decoder_input_ids=torch.zeros(1, 1, dtype=torch.long))
        batch = labeled(texts())
        embeds = model.get_input_embeddings()(batch["input_ids"])
        output = model(
            inputs_embeds=embeds, attention_mask=batch["attention_mask"], labels=batch["labels"]
        )
        assert torch.equal(output.loss, model(**batch).loss)


@pytest.mark.slow
# Dynamo's own, when it traces any autograd.Function (torch 2.13).
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
@pytest.mark.parametrize(
    ("name", "training"),
    [("ema", True), ("ema", False), ("feature_weights", True), ("roles", False)],
)
def test_compiles_without_a_break(make_model, name, training):
    model, batch = make_model(**VARIANTS[name]).train(), labeled(texts())
    model(**batch)  # the codebook's start looks at the data
    model.train(training)
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    if not training:
        output, expected = compiled(**batch), model(**batch)
        assert torch.equal(output.codes, expected.codes)
        torch.testing.assert_close(output.loss, expected.loss)
        return
    compiled(**batch).loss.backward()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)
    assert all(quantizer.num_updates == 2 for quantizer in quantizers(model))


def test_hidden_states_and_attentions_are_those_of_t5(make_model):
    model, batch = make_model(attn_implementation="eager").eval(), labeled(texts())
    output = model(**batch, output_hidden_states=True, output_attentions=True)
    assert len(output.encoder_hidden_states) == 3
    assert torch.equal(output.encoder_hidden_states[-1], output.encoder_last_hidden_state)
    assert output.encoder_attentions[0].shape == (3, 2, 7, 7)
    assert output.cross_attentions[0].shape == (3, 2, 7, 7)
    # nothing attends to padding
    assert not output.cross_attentions[0][1, :, :, 4:].any()


class TestDecoderWordDropout:
    def test_hides_that_share_of_the_words_in_training_only(self, make_model):
        model = make_model(decoder_word_dropout=0.3)
        ids = torch.randint(3, 50, (50, 40))
        assert torch.equal(model.eval()._hide_words(ids), ids)
        hidden = model.train()._hide_words(ids)
        changed = hidden != ids
        assert (hidden[changed] == model.config.decoder_start_token_id).all()
        assert abs(changed.float().mean() - 0.3) < 4 * (0.3 * 0.7 / ids.numel()) ** 0.5

    def test_a_decoder_without_words_predicts_the_same_from_any(self, make_model):
        model = make_model(decoder_word_dropout=1.0, quantizer="none").train()
        ids, labels = torch.randint(3, 50, (2, 6)), torch.randint(3, 50, (2, 5))
        others = labels.roll(1, dims=0)
        logits = [model(input_ids=ids, labels=each).logits for each in (labels, others)]
        assert torch.equal(*logits)
        model.config.decoder_word_dropout = 0.0
        assert not torch.equal(
            *(model(input_ids=ids, labels=each).logits for each in (labels, others))
        )
