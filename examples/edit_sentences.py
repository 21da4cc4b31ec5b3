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
"""Sentences as codes: train a small T5VQVAE, then change sentences by changing their codes.

Two minutes on a CPU: python examples/edit_sentences.py
"""

import itertools
import tempfile
from pathlib import Path

import datasets
import torch

from hf_vq import T5VQVAEConfig, T5VQVAEForConditionalGeneration
from hf_vq.codebook_start import endless, start_codebook
from hf_vq.hub import load_text_autoencoder
from hf_vq.latent_operations import TextCodec, interpolate, specify, substitute, traverse
from hf_vq.text_data import TextCollator, train_tokenizer
from hf_vq.training import TrainingConfig, train

ADJECTIVES = "big small old young quiet clever".split()
ANIMALS = "cat dog horse cow fox owl hen goat".split()
VERBS = "sees follows likes fears finds hears".split()
HELD_OUT = ("the big cat sees a dog", "the old owl hears a young fox")


def sentences() -> list[str]:
    """Return every sentence of a tiny language, but for those that stay unseen."""
    simple = itertools.product(ADJECTIVES, ANIMALS, VERBS, ANIMALS)
    texts = [f"the {a} {n} {v} a {m}" for a, n, v, m in simple]
    longer = itertools.product(ADJECTIVES[::2], ANIMALS, VERBS, ADJECTIVES[1::2], ANIMALS)
    texts += [f"the {a} {n} {v} a {b} {m}" for a, n, v, b, m in longer]
    return [text for text in texts if text not in HELD_OUT]


def main(folder: str | Path, steps: int = 600) -> TextCodec:
    """Train into `folder`, print the edits, and return what edits."""
    texts = sentences()
    # The model writes a sentence again: its target is its source. A tokenizer from the texts needs no download; with
    # `T5VQVAEForConditionalGeneration.from_pretrained("google-t5/t5-small")` take T5's.
    rows = datasets.Dataset.from_dict({"source": texts, "target": texts})
    tokenizer = train_tokenizer(texts, 200)
    torch.manual_seed(0)
    config = T5VQVAEConfig(
        vocab_size=len(tokenizer), d_model=64, d_kv=16, d_ff=256, num_layers=2, num_heads=4,
        dropout_rate=0.0, decoder_start_token_id=tokenizer.pad_token_id,
        codebook_size=64, max_latent_positions=32,
    )  # fmt: skip
    model = T5VQVAEForConditionalGeneration(config)

    def start(accelerator, model, loader):
        start_codebook(accelerator, model, endless(loader), warmup_steps=steps // 4)

    options = TrainingConfig(
        str(folder), max_steps=steps, per_device_train_batch_size=64, learning_rate=2e-3,
        checkpointing_steps=None,
    )  # fmt: skip
    results = train(
        model, rows, options,
        collate_fn=TextCollator(tokenizer), processor=tokenizer, before_training=start,
        batch_weight=lambda batch: (batch["labels"] != -100).sum(),  # the loss is a mean of tokens
    )  # fmt: skip

    codec = TextCodec(*load_text_autoencoder(results["final_model"]))
    print("unseen sentences, from their codes alone:", codec.reconstruct(HELD_OUT))

    # Each result is a table; `expected` says what the same edit of the words gives.
    first, second = HELD_OUT
    print(substitute(codec, first, "cat", donor=second, donor_span="owl"), end="\n\n")
    print(specify(codec, first, "a", donor=second, donor_span="young"), end="\n\n")
    print(interpolate(codec, first, second, method="staggered", num_steps=6), end="\n\n")
    print(traverse(codec, first, "cat", num_codes=6))
    return codec


if __name__ == "__main__":
    main(tempfile.mkdtemp(prefix="edit_sentences-"))
