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
"""T5VQVAE under `Trainer`, `Seq2SeqTrainer`, our own loop, peft, checkpointing and reduced precision."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import nn
from transformers import Seq2SeqTrainer, Seq2SeqTrainingArguments, Trainer, TrainingArguments

from hf_vq.models import T5VQVAEConfig, T5VQVAEForConditionalGeneration
from hf_vq.models.vector_quantization import Quantizer
from hf_vq.training import TrainingConfig, train

# Nothing that differs between one large batch and its parts: see docs/quantization.md.
EXACT: dict[str, Any] = {"revival_threshold": 0.0}


@pytest.fixture
def make_model(
    tiny_config: Callable[..., T5VQVAEConfig],
) -> Callable[..., T5VQVAEForConditionalGeneration]:
    """Models whose codebook has its start: the first batch shall not depend on its size."""

    def make(**options: Any) -> T5VQVAEForConditionalGeneration:
        model = T5VQVAEForConditionalGeneration(tiny_config("t5_vqvae", **(EXACT | options)))
        if model.config.quantizer != "none":
            model.initialize_codebook(
                [collate(rows(16))], generator=torch.Generator().manual_seed(0)
            )
        return model

    return make


def rows(number: int) -> list[dict[str, list[int]]]:
    """Texts and labels of unlike lengths, neither equal to each other nor across rows."""
    generator = torch.Generator().manual_seed(5)

    def draw(length: int) -> list[int]:
        return torch.randint(2, 50, (length,), generator=generator).tolist()

    return [
        {"input_ids": draw(2 + 3 * i % 7), "labels": draw(1 + 5 * i % 9), "name": [i]}
        for i in range(number)
    ]


def collate(batch: list[dict[str, list[int]]]) -> dict[str, torch.Tensor]:
    def pad(name: str, value: int) -> torch.Tensor:
        longest = max(len(row[name]) for row in batch)
        return torch.tensor([row[name] + [value] * (longest - len(row[name])) for row in batch])

    input_ids = pad("input_ids", 0)
    return {
        "input_ids": input_ids,
        "attention_mask": (input_ids > 0).long(),
        "labels": pad("labels", -100),
    }


def gradients(model: nn.Module) -> dict[str, torch.Tensor]:
    return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


def quantizers(model: nn.Module) -> list[Quantizer]:
    return [module for module in model.modules() if isinstance(module, Quantizer)]


def assert_close(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> None:
    assert first.keys() == second.keys()
    for name, tensor in first.items():
        torch.testing.assert_close(second[name], tensor, rtol=1e-3, atol=1e-5, msg=name)


def arguments(folder: Path, kind: type = TrainingArguments, **options: Any) -> Any:
    defaults: dict[str, Any] = {
        "output_dir": str(folder),
        "per_device_train_batch_size": 8,
        "max_steps": 1,
        "learning_rate": 0.1,
        "optim": "sgd",
        "lr_scheduler_type": "constant",
        "max_grad_norm": 0.0,
        "report_to": [],
        "save_strategy": "no",
        "use_cpu": True,
        "disable_tqdm": True,
        "logging_steps": 1,
    }
    return kind(**(defaults | options))


class TestTrainer:
    @pytest.mark.parametrize("quantizer", ["ema", "none"])
    def test_accumulation_equals_the_large_batch(self, make_model, tmp_path, quantizer):
        model = make_model(quantizer=quantizer)
        states, losses = [], []
        for size, steps in ((8, 1), (2, 4)):
            twin = copy.deepcopy(model)
            for module in quantizers(twin):
                module.deferred_update = True  # as our own loop does; else each batch is an update
            trainer = Trainer(
                twin,
                arguments(
                    tmp_path,
                    per_device_train_batch_size=size,
                    gradient_accumulation_steps=steps,
                ),
                train_dataset=rows(8),
                data_collator=collate,
            )
            trainer.train()
            losses.append(trainer.state.log_history[0]["loss"])
            states.append({name: p.detach() for name, p in twin.named_parameters()})
        assert losses[0] == pytest.approx(losses[1], rel=1e-3)
        # equal weights after one step of plain gradient descent: equal gradients
        assert any((states[0][n] - p).abs().max() > 1e-3 for n, p in model.named_parameters())
        assert_close(*states)

    def test_the_loss_is_that_of_the_model(self, make_model, tmp_path):
        model = make_model()
        expected = copy.deepcopy(model).train()(**collate(rows(8))).loss.item()
        trainer = Trainer(model, arguments(tmp_path), train_dataset=rows(8), data_collator=collate)
        trainer.train()
        assert trainer.state.log_history[0]["loss"] == pytest.approx(expected, rel=1e-3)

    def test_evaluate_and_predict(self, make_model, tmp_path):
        model = make_model()
        trainer = Trainer(
            model,
            arguments(tmp_path, per_device_eval_batch_size=2),
            eval_dataset=rows(5),
            data_collator=collate,
        )
        before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        assert trainer.evaluate()["eval_loss"] > 0
        prediction = trainer.predict(rows(5))
        logits, states = prediction.predictions  # as T5 gives them
        assert logits.shape[0] == states.shape[0] == len(prediction.label_ids) == 5
        assert all(torch.equal(tensor, before[n]) for n, tensor in model.state_dict().items())

    def test_seq2seq_trainer_generates(self, make_model, tmp_path):
        model = make_model()
        trainer = Seq2SeqTrainer(
            model,
            arguments(
                tmp_path,
                Seq2SeqTrainingArguments,
                predict_with_generate=True,
                generation_max_length=6,
                per_device_eval_batch_size=3,
            ),
            train_dataset=rows(8),
            eval_dataset=rows(5),
            data_collator=collate,
            compute_metrics=lambda prediction: {"number": len(prediction.predictions)},
        )
        trainer.train()
        assert trainer.evaluate()["eval_number"] == 5
        predictions = trainer.predict(rows(5)).predictions
        batch = collate(rows(5)[:3])
        batch.pop("labels")
        expected = model.generate(**batch, max_length=6)
        width = expected.shape[1]
        assert torch.equal(torch.tensor(predictions[:3, :width]), expected.cpu())


class TestOwnLoop:
    @pytest.mark.parametrize(
        "options",
        [
            {},
            {"codes_per_token": 2},
            {"quantizer": "gaussian_mixture", "relaxation": "straight_through"},
        ],
        ids=["ema", "product", "gaussian_mixture"],
    )
    def test_accumulation_equals_the_large_batch(self, make_model, tmp_path, options):
        model = make_model(**options, kl_loss_weight=0.0)
        states = []
        for size, steps in ((8, 1), (2, 4)):
            twin = copy.deepcopy(model)
            config = TrainingConfig(
                output_dir=str(tmp_path / str(size)),
                per_device_train_batch_size=size,
                gradient_accumulation_steps=steps,
                max_steps=2,
                learning_rate=0.1,
                optimizer="sgd",
                max_grad_norm=None,
                cpu=True,
                progress_bar=False,
            )
            train(
                twin,
                rows(16),
                config,
                collate_fn=collate,
                batch_weight=lambda batch: (batch["labels"] != -100).sum(),
            )
            states.append(dict(twin.state_dict()))
        assert any((states[0][n] - t).abs().max() > 1e-3 for n, t in model.state_dict().items())
        assert_close(*({n: t.float() for n, t in state.items()} for state in states))

    def test_every_parameter_is_optimized(self, make_model):
        for options in ({}, {"quantizer": "gaussian_mixture"}):
            model = make_model(**options, role_ranges={"V": [0, 9]}, role_embedding=True).train()
            batch = collate(rows(8))
            role_ids = torch.zeros_like(batch["input_ids"])
            model(**batch, role_ids=role_ids).loss.backward()
            assert all(p.grad is not None for p in model.parameters())
            learned = [n for n, _ in model.named_parameters() if n.endswith("codebook")]
            assert bool(learned) == (options != {})
            assert not any("ema" in name for name, _ in model.named_parameters())


def test_the_label_tokens_of_the_whole_update_are_the_divisor(make_model):
    model = make_model().eval()
    batch = collate(rows(8))
    tokens = int((batch["labels"] >= 0).sum())
    whole, part = model(**batch), model(**batch, num_items_in_batch=torch.tensor(4 * tokens))
    for name in ("loss", "reconstruction_loss", "commitment_loss", "kl_loss"):
        torch.testing.assert_close(part[name] * 4, whole[name])


def test_labels_of_padding_alone_give_a_finite_loss(make_model):
    batch = collate(rows(2))
    batch["labels"][:] = -100
    output = make_model()(**batch)
    assert output.reconstruction_loss == 0
    assert output.loss.isfinite()


# peft asks for the switch by the name that 5.23 replaces
@pytest.mark.filterwarnings("ignore:.*is deprecated and will be removed in v6:FutureWarning")
class TestPeft:
    CONFIG: dict[str, Any] = {
        "task_type": "SEQ_2_SEQ_LM",
        "target_modules": ["q", "v"],
        "modules_to_save": ["quantizer", "latent_positions"],
    }

    @pytest.mark.parametrize("quantizer", ["ema", "gaussian_mixture"])
    def test_adapters_train_save_load_and_merge_with_the_codebook(
        self, make_model, tmp_path, quantizer
    ):
        model = make_model(quantizer=quantizer)
        base = copy.deepcopy(model)
        batch = collate(rows(8))
        adapted = get_peft_model(model, LoraConfig(**self.CONFIG)).train()
        trained = [p for p in adapted.parameters() if p.requires_grad]
        optimizer = torch.optim.AdamW(trained, lr=1e-2)
        for _ in range(3):
            adapted(**batch).loss.backward()
            optimizer.step()
            optimizer.zero_grad()
        assert not torch.equal(model.codebook, base.codebook)
        frozen = base.decoder.block[0].layer[0].SelfAttention.k.weight
        assert torch.equal(model.decoder.block[0].layer[0].SelfAttention.k.weight, frozen)

        adapted.eval().save_pretrained(tmp_path)
        loaded = PeftModel.from_pretrained(base, tmp_path).eval()
        assert torch.equal(base.codebook, model.codebook)
        expected = adapted(**batch)
        assert torch.equal(loaded(**batch).logits, expected.logits)
        inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
        written = adapted.generate(**inputs, max_new_tokens=5)
        merged = adapted.merge_and_unload()
        assert isinstance(merged, T5VQVAEForConditionalGeneration)
        output = merged(**batch)
        assert torch.equal(output.codes, expected.codes)
        torch.testing.assert_close(output.logits, expected.logits, rtol=1e-4, atol=1e-4)
        assert torch.equal(merged.generate(**inputs, max_new_tokens=5), written)


@pytest.mark.parametrize("quantize_after_layer", [None, 1])
# 5.23 renames the switch; the old name is the one that all supported versions know
@pytest.mark.filterwarnings("ignore:.*is deprecated and will be removed in v6:FutureWarning")
def test_checkpointing_gives_the_same_gradients_and_updates_once(make_model, quantize_after_layer):
    model = make_model(quantize_after_layer=quantize_after_layer).train()
    twin, batch = copy.deepcopy(model), collate(rows(8))
    twin.gradient_checkpointing_enable()
    updates = quantizers(model)[0].num_updates.item()
    for each in (model, twin):
        each(**batch).loss.backward()
        assert quantizers(each)[0].num_updates == updates + 1
    assert_close(gradients(model), gradients(twin))
    assert torch.equal(model.codebook, twin.codebook)


@pytest.mark.parametrize("quantizer", ["ema", "gaussian_mixture"])
class TestPrecision:
    def test_autocast(self, make_model, quantizer):
        model, batch = make_model(quantizer=quantizer).train(), collate(rows(8))
        with torch.autocast("cpu", dtype=torch.bfloat16):
            output = model(**batch)
        output.loss.backward()
        assert output.loss.dtype == torch.float32
        assert model.codebook.dtype == torch.float32
        assert all(g.isfinite().all() for g in gradients(model).values())

    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
    def test_loading_in_half_precision(self, make_model, tmp_path, quantizer, dtype):
        model, batch = make_model(quantizer=quantizer, codebook_dim=5).eval(), collate(rows(8))
        model.save_pretrained(tmp_path)
        half = T5VQVAEForConditionalGeneration.from_pretrained(tmp_path, dtype=dtype)
        assert half.dtype == dtype
        assert half.codebook.dtype == torch.float32
        output, expected = half(**batch), model(**batch)
        real = batch["attention_mask"].bool()
        assert (output.codes[real] == expected.codes[real]).float().mean() > 0.8
        assert output.logits.dtype == output.quantized.dtype == dtype
        assert torch.equal(
            half.decode(codes=output.codes, labels=batch["labels"]).logits, output.logits
        )
        inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
        assert half.generate(**inputs, max_new_tokens=3, num_beams=2).shape[0] == 8
        half.train()(**batch).loss.backward()
        assert all(g.isfinite().all() for g in gradients(half).values())

    def test_cast_to_half_precision_it_writes_and_trains(self, make_model, quantizer):
        model, batch = make_model(quantizer=quantizer).eval(), collate(rows(8))
        half = copy.deepcopy(model).to(torch.bfloat16)
        inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
        codes, real = half.encode(**inputs).codes, batch["attention_mask"].bool()
        assert (codes[real] == model.encode(**inputs).codes[real]).float().mean() > 0.8
        assert half.generate(**inputs, max_new_tokens=3).shape[0] == 8
        assert half.codebook.dtype == torch.float32
        half.train()(**batch).loss.backward()
        assert all(g.isfinite().all() for g in gradients(half).values())


def test_the_aggregated_divergence_spreads_the_codes(make_model):
    """The Gaussian mixture's KL reaches the encoder, and its gradient uses more codes (defect q)."""
    model = make_model(quantizer="gaussian_mixture", dropout_rate=0.0).train()
    output = model.encoder(**{k: v for k, v in collate(rows(8)).items() if k != "labels"})
    output.kl_loss.mean().backward()
    gradient = model.encoder.block[0].layer[0].SelfAttention.q.weight.grad
    assert gradient.isfinite().all()
    assert gradient.any()
