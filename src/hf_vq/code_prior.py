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
"""A prior over the codes of texts: a small GPT-2 that writes codes until it writes a stop code.

    prior = CodePrior.create(model.config.codebook_size, model.config.codes_per_token)
    prior.fit(codec.encode(texts), TrainingConfig("runs/prior", max_steps=2000))
    print(codec.decode(prior.sample(8)))

With it a text has a probability without any text to encode first: new texts come from sampled codes, and the
two-part code length says in bits what a text costs, its codes and then the text given its codes.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import torch
from transformers import GPT2Config, GPT2LMHeadModel, LogitsProcessor, LogitsProcessorList

from .code_format import as_codes, pad_codes
from .latent_tables import OperationTable
from .models.eval_mode import eval_mode
from .text_codec import Sentence, TextCodec, as_list

if TYPE_CHECKING:
    from .training_config import TrainingConfig


class CodePrior:
    """A language model over codes; the groups of a position, if there are several, come one after the other.

    The network sees group `g` of code `k` as token `g K + k`, and the stop code as token `G K`, which also
    opens each sequence. Only what may follow has a probability: codes of the group whose turn it is, and the
    stop code after a complete position. So the probabilities of all sequences of codes sum to one.

    Args:
        model: A GPT-2 whose configuration has `codebook_size` and `codes_per_token`; see `create`.
    """

    def __init__(self, model: GPT2LMHeadModel):
        self.model: Any = model
        model.loss_type = "ForCausalLM"  # transformers does not guess it from the class, and warns
        self.codebook_size: int = model.config.codebook_size
        self.codes_per_token: int = model.config.codes_per_token
        self.stop = self.codebook_size * self.codes_per_token
        # The first token is the opening stop code, and the last label the closing one.
        self.max_codes = (model.config.n_positions - 2) // self.codes_per_token

    @classmethod
    def create(
        cls,
        codebook_size: int,
        codes_per_token: int = 1,
        *,
        max_codes: int = 128,
        hidden_size: int = 256,
        num_layers: int = 4,
        num_heads: int = 4,
        dropout: float = 0.1,
    ) -> Self:
        """An untrained prior.

        Args:
            codebook_size: As in the configuration of the model that makes the codes.
            codes_per_token: The same.
            max_codes: Positions of the longest text, its end marker among them.
            hidden_size: Width of the network.
            num_layers: Its blocks.
            num_heads: Its attention heads.
            dropout: Everywhere in it.
        """
        stop = codebook_size * codes_per_token
        ours: Any = {"codebook_size": codebook_size, "codes_per_token": codes_per_token}
        config = GPT2Config(
            vocab_size=stop + 1,
            n_positions=max_codes * codes_per_token + 2,
            n_embd=hidden_size,
            n_layer=num_layers,
            n_head=num_heads,
            resid_pdrop=dropout,
            embd_pdrop=dropout,
            attn_pdrop=dropout,
            bos_token_id=stop,
            eos_token_id=stop,
            **ours,
        )
        return cls(GPT2LMHeadModel(config))

    @classmethod
    def from_pretrained(cls, folder: str | Path, **kwargs: Any) -> Self:
        """A prior from a folder or a Hub id, in eval mode; `kwargs` go to transformers' `from_pretrained`."""
        model = GPT2LMHeadModel.from_pretrained(folder, **({"use_safetensors": True} | kwargs))
        return cls(model.eval())

    def save_pretrained(self, folder: str | Path) -> None:
        """Write weights and configuration, as any model of transformers does."""
        self.model.save_pretrained(folder)

    def fit(
        self, codes: Any, config: "TrainingConfig", eval_codes: Any = None, **kwargs: Any
    ) -> dict[str, Any]:
        """Train with `hf_vq.training.train`.

        Args:
            codes: Codes of the training texts, as `TextCodec.encode` gives them.
            config: Options of the training run. The prior ends as the last step left it; the best one lies in
                `best` in the run's folder, see `from_pretrained`.
            eval_codes: Codes of held-out texts.
            kwargs: Further arguments of `train`.

        Returns:
            The results of the run.
        """
        from .training import train

        return train(
            self.model,
            self._rows(codes),
            config,
            eval_dataset=None if eval_codes is None else self._rows(eval_codes),
            collate_fn=self.collate,
            batch_weight=lambda batch: (batch["labels"] != -100).sum(),
            **kwargs,
        )

    def collate(self, rows: Sequence[torch.Tensor]) -> dict[str, torch.Tensor]:
        """Codes of single texts to a batch of the network: opening stop code, codes, stop code, padding."""
        rows = [torch.as_tensor(row) for row in rows]
        longest = max(map(len, rows))
        if longest > self.max_codes:
            raise ValueError(
                f"a text has {longest} codes, but this prior takes at most {self.max_codes}: "
                "create it with a larger max_codes"
            )
        offsets = self.codebook_size * torch.arange(self.codes_per_token)
        stop = torch.tensor([self.stop])
        tokens = [torch.cat([stop, (row.cpu() + offsets).flatten(), stop]) for row in rows]
        pad = torch.nn.utils.rnn.pad_sequence
        labels = pad(tokens, batch_first=True, padding_value=-100)
        labels[:, 0] = -100
        return {
            "input_ids": pad(tokens, batch_first=True, padding_value=self.stop),
            "attention_mask": pad([torch.ones_like(t) for t in tokens], batch_first=True),
            "labels": labels,
        }

    def bits(self, codes: Any, batch_size: int = 64) -> torch.Tensor:
        """-log2 P of the codes of each text, its stop code included: `(texts,)` in float64 on the CPU."""
        rows = self._rows(codes)
        bits = []
        with torch.no_grad(), eval_mode(self.model):
            for start in range(0, len(rows), batch_size):
                batch = self.collate(rows[start : start + batch_size])
                batch = {name: tensor.to(self.model.device) for name, tensor in batch.items()}
                labels = batch.pop("labels")[:, 1:]
                logits = self.model(**batch).logits[:, :-1].double()
                allowed = torch.stack([self._allowed(step) for step in range(labels.shape[1])])
                logits = logits.masked_fill(~allowed.to(logits.device), -torch.inf)
                chosen = logits.log_softmax(dim=-1).gather(-1, labels.clamp_min(0)[..., None])
                bits.append(-chosen[..., 0].masked_fill(labels < 0, 0).sum(dim=1).cpu())
        return torch.cat(bits) / math.log(2)

    @torch.no_grad()
    def sample(
        self, num_samples: int, *, seed: int = 0, temperature: float = 1.0, top_p: float = 1.0
    ) -> torch.Tensor:
        """Codes of new texts, `(num_samples, positions, groups)`, -1 behind the end of a text.

        Args:
            num_samples: How many.
            seed: The same seed gives the same codes; the global generators stay as they were.
            temperature: Below 1 the likely codes become likelier.
            top_p: Draw among the likeliest codes that have this share of the probability.
        """
        if num_samples < 1:
            raise ValueError(f"num_samples is {num_samples}, expected a positive number")
        device = self.model.device
        start = torch.full((num_samples, 1), self.stop, device=device)
        generators = torch.random.fork_rng([device] if device.type == "cuda" else [])
        with generators, eval_mode(self.model):
            torch.manual_seed(seed)
            tokens = self.model.generate(
                input_ids=start,
                attention_mask=torch.ones_like(start),
                do_sample=True,
                temperature=temperature,
                top_p=top_p,
                top_k=0,
                pad_token_id=self.stop,
                max_new_tokens=self.max_codes * self.codes_per_token,
                logits_processor=LogitsProcessorList([_OnlyAllowed(self)]),
            )
        rows = []
        for row in tokens[:, 1:].tolist():
            codes = row[: row.index(self.stop)] if self.stop in row else row
            positions = torch.tensor(codes).view(-1, self.codes_per_token)
            rows.append(positions - self.codebook_size * torch.arange(self.codes_per_token))
        return pad_codes(rows)

    def _allowed(self, step: int) -> torch.Tensor:
        """Which tokens may come at a step, `(tokens,)`."""
        group = step % self.codes_per_token
        allowed = torch.zeros(self.stop + 1, dtype=torch.bool)
        allowed[group * self.codebook_size : (group + 1) * self.codebook_size] = True
        allowed[self.stop] = group == 0 and step > 0
        return allowed

    def _rows(self, codes: Any) -> list[torch.Tensor]:
        rows = [as_codes(row, self.codebook_size, self.codes_per_token) for row in as_list(codes)]
        if not rows:
            raise ValueError("there are no codes: the list is empty")
        return rows


class _OnlyAllowed(LogitsProcessor):
    """While sampling, leave no probability to what must not follow."""

    def __init__(self, prior: CodePrior):
        self.prior = prior

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        allowed = self.prior._allowed(input_ids.shape[1] - 1).to(scores.device)
        return scores.masked_fill(~allowed, -torch.inf)


def two_part_code_length(
    codec: TextCodec, prior: CodePrior, texts: str | Sequence[str]
) -> OperationTable:
    """Bits that a text costs: -log2 P(codes) - log2 p(text | codes), eq. (O10).

    It is an upper bound of -log2 p(text) under the two models together, so it can be set beside the negative
    ELBO of a continuous autoencoder.

    Returns:
        Columns text, pieces (the end marker among them), code_bits, text_bits and bits, their sum.
    """
    sizes = (codec.codebook_size, codec.codes_per_token)
    if sizes != (prior.codebook_size, prior.codes_per_token):
        raise ValueError(
            f"the model has {sizes[0]} codes in {sizes[1]} groups, but the prior was made for "
            f"{prior.codebook_size} in {prior.codes_per_token}"
        )
    sentences = codec.read(texts)
    code_bits = prior.bits([sentence.codes for sentence in sentences]).tolist()
    text_bits, pieces = _text_bits(codec, sentences)
    return OperationTable(
        "two-part code length",
        [
            {
                "text": sentence.text,
                "pieces": number,
                "code_bits": first,
                "text_bits": second,
                "bits": first + second,
            }
            for sentence, number, first, second in zip(
                sentences, pieces, code_bits, text_bits, strict=True
            )
        ],
    )


def _text_bits(codec: TextCodec, sentences: list[Sentence]) -> tuple[list[float], list[int]]:
    """-log2 p(text | codes) of each sentence, and how many pieces that is for."""
    if any(sentence.text is None for sentence in sentences):
        raise ValueError("two_part_code_length needs texts, got bare codes")
    bits, pieces = [], []
    with codec.frozen():
        for start in range(0, len(sentences), codec.batch_size):
            chunk = sentences[start : start + codec.batch_size]
            tokens = codec.tokenizer(
                [sentence.text for sentence in chunk],
                padding=True,
                padding_side="right",
                return_tensors="pt",
            )
            mask = tokens["attention_mask"].bool()
            labels = tokens["input_ids"].masked_fill(~mask, -100).to(codec.model.device)
            codes = pad_codes(sentence.codes for sentence in chunk)
            logits = codec.model.decode(codes=codes, labels=labels).logits
            log_p = logits.double().log_softmax(dim=-1)
            chosen = log_p.gather(-1, labels.clamp_min(0)[..., None])[..., 0]
            bits += (-chosen.masked_fill(labels < 0, 0).sum(dim=1) / math.log(2)).tolist()
            pieces += mask.sum(dim=1).tolist()
    return bits, pieces


__all__ = ["CodePrior", "two_part_code_length"]
