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
"""Networks that judge texts, as plain callables: sentence vectors, and BLEURT where it is there."""

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import AutoModel, AutoModelForSequenceClassification, AutoTokenizer

__all__ = ["Bleurt", "SentenceEncoder"]


class SentenceEncoder:
    """Turns texts into vectors: the mean of a network's last states over the pieces of each text.

    Args:
        name_or_path: A Hub id or folder that `AutoModel` opens, such as
            `sentence-transformers/all-MiniLM-L6-v2`; of an encoder-decoder, its encoder is used.
        batch_size: Texts at a time.
        device: Where it runs.
    """

    def __init__(self, name_or_path: str, *, batch_size: int = 64, device: str = "cpu"):
        self.tokenizer = AutoTokenizer.from_pretrained(name_or_path)
        model = AutoModel.from_pretrained(name_or_path, use_safetensors=True)
        self.model = (model.encoder if model.config.is_encoder_decoder else model).to(device).eval()
        self.name, self.batch_size, self.device = str(name_or_path), batch_size, device

    @torch.no_grad()
    def __call__(self, texts: Sequence[str]) -> Tensor:
        """Return vectors (texts, hidden_size) on the CPU."""
        vectors = []
        for start in range(0, len(texts), self.batch_size):
            batch = self.tokenizer(
                list(texts[start : start + self.batch_size]),
                padding=True,
                truncation=True,
                return_tensors="pt",
            ).to(self.device)
            states = self.model(**batch).last_hidden_state
            mask = batch["attention_mask"][..., None]
            vectors.append(((states * mask).sum(1) / mask.sum(1)).cpu())
        return torch.cat(vectors)


class Bleurt:
    """Mean BLEURT of texts against references (Sellam et al., arXiv 2004.04696).

    Its scores are of one checkpoint only: name it, and never make it a headline.

    Args:
        name_or_path: A Hub id or folder of a BLEURT regression model in the format of transformers.
            The default is the checkpoint that T5VQVAE's authors use.
        batch_size: Pairs at a time.
        device: Where it runs.

    Raises:
        OSError: If the weights are not there; the message says what to do.
    """

    def __init__(
        self,
        name_or_path: str = "Elron/bleurt-base-512",
        *,
        batch_size: int = 64,
        device: str = "cpu",
    ):
        try:
            self.tokenizer = AutoTokenizer.from_pretrained(name_or_path)
            model = AutoModelForSequenceClassification.from_pretrained(
                name_or_path, use_safetensors=True
            )
        except OSError as error:
            raise OSError(
                f"BLEURT is optional, and its weights {str(name_or_path)!r} cannot be loaded: "
                f"download them, for example with `hf download {name_or_path}`, or pass the folder "
                "of another BLEURT checkpoint"
            ) from error
        if model.config.num_labels != 1:
            raise ValueError(
                f"BLEURT gives one number, but {str(name_or_path)!r} gives {model.config.num_labels}"
            )
        self.model = model.to(device).eval()
        self.name, self.batch_size, self.device = str(name_or_path), batch_size, device

    @torch.no_grad()
    def __call__(self, predictions: Sequence[str], references: Sequence[str]) -> float:
        """Return the mean score of all pairs."""
        if len(predictions) != len(references) or not len(predictions):
            raise ValueError(
                "there must be as many predictions as references, and at least one, got "
                f"{len(predictions)} and {len(references)}"
            )
        scores = []
        for start in range(0, len(predictions), self.batch_size):
            part = slice(start, start + self.batch_size)
            batch = self.tokenizer(
                list(references[part]),
                list(predictions[part]),
                padding=True,
                truncation=True,
                return_tensors="pt",
            ).to(self.device)
            scores.append(self.model(**batch).logits[:, 0].double().cpu())
        return torch.cat(scores).mean().item()
