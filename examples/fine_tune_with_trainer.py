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
"""Fine-tuning with `Trainer` of transformers: an image tokenizer, topics of images on its codes, topics of documents.

A minute on a CPU: python examples/fine_tune_with_trainer.py. For sentences, and LoRA: fine_tune_with_lora.py
"""

import tempfile
from pathlib import Path

import torch
from transformers import Trainer, TrainerCallback, TrainingArguments

from hf_vq import (
    GMVQConfig,
    GMVQImageProcessor,
    GMVQModel,
    TopicVQForImageGeneration,
    TopicVQImageConfig,
)
from hf_vq.data import ImageCollator, InMemoryImages, load_digits_images
from hf_vq.models.vector_quantization import Quantizer
from hf_vq.topic_images.codes import encode_images
from hf_vq.topic_images.image_tokenizers import image_tokenizer
from hf_vq.topics.estimator import TopicVQ
from hf_vq.topics.library_documents import library_documents


class OneUpdatePerStep(TrainerCallback):
    """Needed with gradient accumulation: the codebook moves once for each step, not once for each micro-batch.

    `hf_vq.training.train` does the same by itself.
    """

    def on_train_begin(self, args, state, control, model=None, **kwargs):
        """Let training forwards collect what they see of the codes, and change nothing."""
        self.quantizers = [module for module in model.modules() if isinstance(module, Quantizer)]
        for quantizer in self.quantizers:
            quantizer.deferred_update = True

    def on_step_end(self, args, state, control, **kwargs):
        """Apply it after the optimizer."""
        for quantizer in self.quantizers:
            quantizer.apply_update()


def arguments(folder: Path, steps: int, **options) -> TrainingArguments:
    """Nothing is special about our models: each has a `loss`, and names what it takes in `forward`."""
    return TrainingArguments(
        str(folder), max_steps=steps, per_device_train_batch_size=32, learning_rate=1e-3,
        eval_strategy="steps", eval_steps=steps, logging_steps=steps, report_to="none",
        # push_to_hub=True, hub_model_id="your-name/gmvq-digits" publishes weights at the end; to give them their
        # code and a card as well, scripts/publish.py.
        **options,
    )  # fmt: skip


def main(
    folder: str | Path, steps: int = 200, libraries: tuple[str, ...] = ("PIL", "sympy")
) -> dict:
    """Fine-tune three models in subfolders of `folder`, and return what `evaluate` says of each."""
    folder, evaluations = Path(folder), {}
    digits = load_digits_images()
    processor = GMVQImageProcessor(size=8, do_grayscale=True)
    images = {split: InMemoryImages(rows, processor) for split, rows in digits.items()}

    # 1. An image tokenizer: GMVQModel.from_pretrained("your-name/gmvq-...") in place of a new one.
    torch.manual_seed(0)
    sizes = {"codebook_size": 64, "codebook_dim": 16}
    model = GMVQModel(
        GMVQConfig(image_size=8, num_channels=1, hidden_size=32, quantizer="ema",
                   commitment_loss_weight=0.05, **sizes)
    )  # fmt: skip
    trainer = Trainer(
        model,
        arguments(folder / "gmvq", steps, gradient_accumulation_steps=2, max_grad_norm=1000.0),
        train_dataset=images["train"], eval_dataset=images["test"],
        data_collator=ImageCollator(processor), processing_class=processor,
        callbacks=[OneUpdatePerStep()],
    )  # fmt: skip
    trainer.train()
    trainer.save_model()
    evaluations["gmvq"] = trainer.evaluate()

    # 2. Topics of images. They are learned on the codes of one tokenizer, so a fine-tuned tokenizer is a new one: its
    # codes mean something else, and topics are trained on them anew. (`tokenizer_fingerprint` guards that.)
    tokenizer = image_tokenizer(model.eval())
    codes = {
        split: encode_images(rows, tokenizer, progress=False) for split, rows in images.items()
    }
    config = TopicVQImageConfig(
        num_topics=10, grid_size=list(codes["train"].grid_size), hidden_size=32,
        num_hidden_layers=1, num_attention_heads=2, inference_channels=16, kl_loss_weight=0.3,
        tokenizer_fingerprint=tokenizer.fingerprint, **sizes,
    )  # fmt: skip
    prior = TopicVQForImageGeneration(config)
    prior.set_codebook(tokenizer.codebook)
    prior.set_background(torch.from_numpy(codes["train"].counts()))
    prior.initialize_topics(codes["train"].tensor())
    prior.begin_training(steps)
    trainer = Trainer(prior, arguments(folder / "topic_vq_image", steps),
                      train_dataset=codes["train"], eval_dataset=codes["test"])  # fmt: skip
    trainer.train()
    evaluations["topic_vq_image"] = trainer.evaluate()

    # 3. Topics of documents. `partial_fit` is fine-tuning: codes and vocabulary stay, topics follow new documents.
    texts = library_documents(libraries, 100).texts
    options = {"topic_epochs": max(1.0, steps / 20)}
    topics = TopicVQ(5, encoder="corpus", training_options=options, progress_bar=False)
    topics.fit(texts[::2])
    topics.partial_fit(texts[1::2], topic_epochs=options["topic_epochs"] / 4)
    topics.save_pretrained(folder / "topic_vq")
    evaluations["topic_vq"] = {
        row["score"]: row["value"] for row in topics.evaluate(reference=texts)
    }

    for name, evaluation in evaluations.items():
        print(name, {k: round(v, 3) for k, v in evaluation.items() if isinstance(v, float)})
    return evaluations


if __name__ == "__main__":
    main(tempfile.mkdtemp(prefix="fine_tune-"))
