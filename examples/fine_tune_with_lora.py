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
"""Fine-tuning sentences: `Seq2SeqTrainer` with metrics of what the model writes, and LoRA adapters of peft.

A minute on a CPU: python examples/fine_tune_with_lora.py
"""

import itertools
import tempfile
from pathlib import Path

import datasets
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import Seq2SeqTrainer, Seq2SeqTrainingArguments

from hf_vq import T5VQVAEConfig, T5VQVAEForConditionalGeneration
from hf_vq.codebook_start import endless, start_codebook
from hf_vq.text_data import TextCollator, train_tokenizer
from hf_vq.text_metrics import exact_match
from hf_vq.training import TrainingConfig, train

ADJECTIVES = "big small old young quiet clever".split()
ANIMALS = "cat dog horse cow fox owl hen goat".split()
VERBS = {"sees": "seen", "finds": "found", "hears": "heard", "likes": "liked"}


def main(folder: str | Path, steps: int = 400) -> dict[str, float]:
    """Train a model that repeats sentences, then adapters that turn them into the passive voice."""
    folder = Path(folder)
    words = list(itertools.product(ADJECTIVES, ANIMALS, VERBS, ANIMALS))
    active = [f"the {a} {n} {v} a {m}" for a, n, v, m in words]
    passive = [f"a {m} is {VERBS[v]} by the {a} {n}" for a, n, v, m in words]
    tokenizer = train_tokenizer(active + passive, 200)
    collator = TextCollator(tokenizer)

    # 1. What you have: a model whose codes hold a sentence. `from_pretrained("your-name/t5-vqvae-...")` in its place.
    torch.manual_seed(0)
    config = T5VQVAEConfig(
        vocab_size=len(tokenizer), d_model=64, d_kv=16, d_ff=256, num_layers=2, num_heads=4,
        dropout_rate=0.0, decoder_start_token_id=tokenizer.pad_token_id, codebook_size=64,
        max_latent_positions=32,
    )  # fmt: skip
    sentences = active + passive
    options = TrainingConfig(str(folder / "base"), max_steps=steps, learning_rate=2e-3,
                             per_device_train_batch_size=64, checkpointing_steps=None)  # fmt: skip
    results = train(
        T5VQVAEForConditionalGeneration(config),
        datasets.Dataset.from_dict({"source": sentences, "target": sentences}),
        options, collate_fn=collator, processor=tokenizer,
        before_training=lambda accelerator, model, loader: start_codebook(
            accelerator, model, endless(loader), warmup_steps=steps // 4
        ),
    )  # fmt: skip

    # 2. What you want: another target for the same source. Adapters learn it, the weights stay. The codebook is no
    # weight matrix that an adapter could sit on: `modules_to_save` trains it whole and keeps it with the adapters.
    adapters = LoraConfig(task_type="SEQ_2_SEQ_LM", r=16, target_modules=["q", "v", "wi", "wo"],
                          modules_to_save=["quantizer", "latent_positions"])  # fmt: skip
    base = T5VQVAEForConditionalGeneration.from_pretrained(results["final_model"])
    model = get_peft_model(base, adapters)  # leave this line out to train all weights
    model.print_trainable_parameters()

    rows = datasets.Dataset.from_dict({"source": active, "target": passive}).shuffle(seed=0)
    unseen = rows.select(range(100))

    def score(prediction) -> dict[str, float]:
        """Compare what the model wrote with what it should have; `Trainer` pads with -100."""
        written, expected = (
            tokenizer.batch_decode([[i for i in ids if i >= 0] for ids in batch.tolist()],
                                   skip_special_tokens=True)
            for batch in (prediction.predictions, prediction.label_ids)
        )  # fmt: skip
        return {"exact_match": exact_match(written, expected)}

    trainer = Seq2SeqTrainer(
        model,
        Seq2SeqTrainingArguments(
            str(folder / "adapters"), max_steps=steps, per_device_train_batch_size=32,
            learning_rate=3e-3, predict_with_generate=True, generation_max_length=24,
            # The collator reads texts, which no argument of `forward` is named after.
            remove_unused_columns=False, label_names=["labels"], report_to="none",
        ),
        train_dataset=rows.select(range(100, len(rows))), eval_dataset=unseen,
        data_collator=collator, compute_metrics=score,
    )  # fmt: skip
    before = trainer.evaluate()["eval_exact_match"]
    trainer.train()
    after = trainer.evaluate()["eval_exact_match"]
    trainer.save_model()  # the adapters and the codebook, without the model under them

    # 3. Whoever has the model loads the adapters on top of it, and may merge them into a model without adapters.
    base = T5VQVAEForConditionalGeneration.from_pretrained(results["final_model"])
    merged = PeftModel.from_pretrained(base, folder / "adapters").merge_and_unload()
    inputs = tokenizer(unseen["source"][:3], padding=True, return_tensors="pt")
    print(
        tokenizer.batch_decode(merged.generate(**inputs, max_length=24), skip_special_tokens=True)
    )
    print(f"unseen sentences in the passive voice: {before:.0%} before, {after:.0%} after")
    return {"before": before, "after": after}


if __name__ == "__main__":
    main(tempfile.mkdtemp(prefix="fine_tune-"))
