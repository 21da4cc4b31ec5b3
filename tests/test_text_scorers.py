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
"""Networks that judge texts, on tiny ones made here."""

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import BertConfig, BertForSequenceClassification, BertModel, T5Config, T5Model

from hf_vq.text_data import train_tokenizer
from hf_vq.text_metrics import embedding_cosine
from hf_vq.text_scorers import Bleurt, SentenceEncoder

TEXTS = ["the sun is a star", "rain", "ice is cold water and hard"]
SIZES = {
    "hidden_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 12,
    "vocab_size": 130,
    "initializer_range": 1.0,  # so that different texts give different numbers
}


def save(model, folder: Path) -> Path:
    tokenizer = train_tokenizer(TEXTS, 130)
    tokenizer.model_max_length = 32
    tokenizer.save_pretrained(folder)
    model.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("kind", ["bert", "t5"])
def test_vectors_are_means_over_pieces_without_padding(tmp_path: Path, kind: str) -> None:
    config = T5Config(d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2, vocab_size=130)
    model = BertModel(BertConfig(**SIZES)) if kind == "bert" else T5Model(config)
    encode = SentenceEncoder(str(save(model, tmp_path)), batch_size=2)
    vectors = encode(TEXTS)
    assert vectors.shape == (3, 8)
    single = torch.cat([encode([text]) for text in TEXTS])
    torch.testing.assert_close(vectors, single, atol=1e-5, rtol=1e-5)
    batch = encode.tokenizer(TEXTS[0], return_tensors="pt")
    with torch.no_grad():
        expected = encode.model(**batch).last_hidden_state.mean(1)
    torch.testing.assert_close(single[:1], expected)
    assert embedding_cosine(TEXTS, TEXTS, encode) == pytest.approx(1)


def test_bleurt_is_the_mean_of_the_network(tmp_path: Path) -> None:
    model = BertForSequenceClassification(BertConfig(num_labels=1, **SIZES))
    bleurt = Bleurt(str(save(model, tmp_path)), batch_size=2)
    scores = []
    for prediction, reference in zip(TEXTS, TEXTS[::-1], strict=True):
        batch = bleurt.tokenizer(reference, prediction, return_tensors="pt")
        with torch.no_grad():
            scores.append(bleurt.model(**batch).logits.item())
    assert bleurt(TEXTS, TEXTS[::-1]) == pytest.approx(np.mean(scores), abs=1e-5)
    assert bleurt(TEXTS, TEXTS) != pytest.approx(bleurt(TEXTS, TEXTS[::-1]), abs=1e-5)
    with pytest.raises(ValueError, match="got 1 and 2"):
        bleurt(["a"], ["a", "b"])


def test_bleurt_says_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"BLEURT is optional.*'Elron/bleurt-base-512'.*hf download"):
        Bleurt()
    folder = save(BertForSequenceClassification(BertConfig(num_labels=3, **SIZES)), tmp_path)
    with pytest.raises(ValueError, match="BLEURT gives one number, but .* gives 3"):
        Bleurt(str(folder))
