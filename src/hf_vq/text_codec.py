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
"""Between texts and codes: encoding, decoding, spans of words, and codes as strings.

    codec = TextCodec(model, tokenizer)
    codes = codec.encode(["a cat is an animal"])
    texts = codec.decode(codes)

Everything runs in eval mode and without gradients, gives the model back in the mode that it had, and
changes none of its buffers. Decoding is greedy unless told otherwise, so the same codes always give the
same text.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from numbers import Integral, Number
from typing import Any

import torch

from .code_format import as_codes, pad_codes
from .code_space import CodeSpace

# A text, codes of one text in any form that `as_codes` takes, or what `TextCodec.read` returned.
TextOrCodes = Any
Span = str | tuple[int, int]


@dataclass
class Sentence:
    """One text as the operations see it; `S` positions, the end marker among them, `G` codes for each.

    Attributes:
        codes: `(S, G)` integers.
        latents: `(S, D)`, what the encoder said; of bare codes, the vectors of the codes.
        text: None for bare codes.
        offsets: characters `[start, end)` of the text behind each position; None for bare codes.
        role_ids: `(S,)`, index of the role of each position, -1 for none; None if no roles were given.
    """

    codes: torch.Tensor
    latents: torch.Tensor
    text: str | None = None
    offsets: list[tuple[int, int]] | None = None
    role_ids: torch.Tensor | None = None

    def find(self, span: Span, occurrence: int = 0) -> tuple[int, int]:
        """Characters `[start, end)` of a span: whole words to look up, or the offsets themselves."""
        if self.text is None:
            raise ValueError(
                f"bare codes have no words, so {span!r} cannot be found: give the text"
            )
        if not isinstance(span, str):
            edges: list[Any] = list(span) if isinstance(span, Sequence) else []
            if len(edges) != 2 or not all(isinstance(edge, Integral) for edge in edges):
                raise ValueError(
                    f"span {span!r} is neither words nor two character offsets; a span for each text is a list"
                )
            start, end = map(int, edges)
            if not 0 <= start < end <= len(self.text):
                raise ValueError(
                    f"span {span} does not lie in {self.text!r}, which has {len(self.text)} characters"
                )
            return start, end
        # Whole words: "cat" is not in "category". An edge that is no letter or digit needs no boundary.
        left, right = (r"\b" if edge.isalnum() else "" for edge in (span[:1], span[-1:]))
        found = [match.span() for match in re.finditer(left + re.escape(span) + right, self.text)]
        if not span.strip() or not found:
            raise ValueError(f"{span!r} does not occur in {self.text!r}")
        if not -len(found) <= occurrence < len(found):
            raise ValueError(
                f"occurrence is {occurrence}, but {span!r} occurs {len(found)} times in {self.text!r}"
            )
        return found[occurrence]

    def positions(self, start: int, end: int) -> tuple[int, int]:
        """Positions `[left, right)` of the pieces that meet the characters `[start, end)`.

        A piece that the span cuts counts as a whole. T5's lone word mark has the offset of the character
        behind it, so it comes along.
        """
        pieces = [
            i for i, (a, b) in enumerate(self.offsets or []) if a < b and a < end and start < b
        ]
        if not pieces:
            raise ValueError(f"characters {start} to {end} of {self.text!r} have no code")
        return pieces[0], pieces[-1] + 1


class TextCodec:
    """Texts to codes and back, with one model and its tokenizer.

    Args:
        model: A `T5VQVAEForConditionalGeneration` or what has its methods.
        tokenizer: Its tokenizer, a fast one.
        batch_size: Texts that are encoded or decoded at a time.
        generation_kwargs: Options of `generate`; greedy search by default. A text has at most twice as many
            pieces as codes unless `max_new_tokens` or `max_length` say otherwise.
    """

    def __init__(self, model: Any, tokenizer: Any, batch_size: int = 64, **generation_kwargs: Any):
        if model.config.quantizer == "none":
            raise ValueError("the model has no codes: its quantizer is 'none'")
        if batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}, expected a positive number")
        if generation_kwargs.get("num_return_sequences", 1) != 1:
            raise ValueError("num_return_sequences must be 1: one text for each row of codes")
        self.model, self.tokenizer, self.batch_size = model, tokenizer, batch_size
        self.generation_kwargs = {"do_sample": False, "num_beams": 1} | generation_kwargs
        # The end marker that most tokenizers append is a position too, with codes of its own.
        self.num_end_positions = len(tokenizer("").input_ids)

    @property
    def codebook_size(self) -> int:
        """How many codes there are in a group."""
        return self.model.config.codebook_size

    @property
    def codes_per_token(self) -> int:
        """How many codes a position has."""
        return self.model.config.codes_per_token

    def space(self) -> CodeSpace:
        """The codebooks as they are now."""
        ranges = self.model.config.role_ranges or {}
        return CodeSpace(self.model.encoder.quantizer, list(ranges.values()))

    def codes(self, codes: Any) -> torch.Tensor:
        """Codes of one text, checked; see `as_codes`."""
        return as_codes(codes, self.codebook_size, self.codes_per_token)

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Eval mode without gradients; afterwards every module is in the mode that it had."""
        modes = [(module, module.training) for module in self.model.modules()]
        self.model.eval()
        try:
            with torch.no_grad():
                yield
        finally:
            for module, mode in modes:
                module.training = mode

    def encode(
        self, texts: str | Sequence[str], roles: Sequence[Sequence[str | None]] | None = None
    ) -> torch.Tensor:
        """Codes `(texts, positions, groups)`, -1 behind the end of a text; see `read` for the arguments."""
        sentences = self.read(texts, roles)
        if not sentences:
            raise ValueError("there is no text to encode: the list is empty")
        return pad_codes([sentence.codes for sentence in sentences])

    def decode(self, codes: Any) -> list[str]:
        """Texts of codes: a padded tensor, a list of codes of single texts, or of strings of codes."""
        rows = self._rows_of_codes(codes)
        texts = []
        with self.frozen():
            for start in range(0, len(rows), self.batch_size):
                texts += self._generate(rows[start : start + self.batch_size])
        return texts

    def reconstruct(
        self, texts: str | Sequence[str], roles: Sequence[Sequence[str | None]] | None = None
    ) -> list[str]:
        """`decode(encode(texts))`."""
        return self.decode(self.encode(texts, roles))

    def read(
        self,
        inputs: TextOrCodes | Sequence[TextOrCodes],
        roles: Sequence[Sequence[str | None]] | None = None,
    ) -> list[Sentence]:
        """One `Sentence` for each input.

        Args:
            inputs: A text, codes of shape `(positions, groups)` or `(positions,)`, a `Sentence`, or a list
                of these. Codes may be padded with -1.
            roles: For each text the role of each of its words (split at white space), None for a word
                without; only for texts.
        """
        items = as_list(inputs)
        sentences: list[Sentence | None] = [
            item if isinstance(item, Sentence) else None for item in items
        ]
        texts = [i for i, item in enumerate(items) if isinstance(item, str)]
        if roles is not None and (len(texts) != len(items) or len(roles) != len(items)):
            raise ValueError(f"roles are {len(roles)} lists, expected one for each of the texts")
        with self.frozen():
            for start in range(0, len(texts), self.batch_size):
                chunk = texts[start : start + self.batch_size]
                read = self._encode([items[i] for i in chunk], roles and [roles[i] for i in chunk])
                for i, sentence in zip(chunk, read, strict=True):
                    sentences[i] = sentence
            for i, item in enumerate(items):
                if sentences[i] is None:
                    codes = self.codes(item)
                    codes = codes.to(self.model.device)
                    sentences[i] = Sentence(codes, self.model.embed_codes(codes[None])[0])
        return [sentence for sentence in sentences if sentence is not None]

    def body(self, sentence: Sentence) -> torch.Tensor:
        """Codes `(positions, groups)` of a sentence without those of its end marker."""
        return sentence.codes[: max(0, len(sentence.codes) - self.num_end_positions)]

    def words(self, sentence: Sentence) -> list[tuple[int | None, str]]:
        """For each position the word behind it, as white space separates words: its index and the word.

        The end marker has no index.
        """
        if sentence.text is None or sentence.offsets is None:
            raise ValueError(f"bare codes have no words: {sentence.codes.tolist()}")
        words = [(match.end(), match.group()) for match in re.finditer(r"\S+", sentence.text)]
        found: list[tuple[int | None, str]] = []
        for start, end in sentence.offsets:
            index = next(i for i, (stop, _) in enumerate(words) if start < stop)
            found.append((index, words[index][1]) if start < end else (None, self._end))
        return found

    def piece(self, sentence: Sentence, position: int) -> str | None:
        """The characters behind a position; None for bare codes."""
        if sentence.text is None or sentence.offsets is None:
            return None
        start, end = sentence.offsets[position]
        return sentence.text[start:end] if start < end else self._end

    @property
    def _end(self) -> str:
        return str(self.tokenizer.eos_token)

    def _encode(
        self, texts: list[str], roles: Sequence[Sequence[str | None]] | None
    ) -> list[Sentence]:
        for text in texts:
            if not text.strip():
                raise ValueError(f"cannot encode {text!r}: a text needs at least one word")
        batch = self.tokenizer(
            texts,
            padding=True,
            padding_side="right",
            return_offsets_mapping=True,
            return_tensors="pt",
        )
        mask = batch["attention_mask"]
        offsets = [
            [(a, b) for a, b in row[: int(length)]]
            for row, length in zip(batch["offset_mapping"].tolist(), mask.sum(dim=1), strict=True)
        ]
        role_ids = None
        if roles is not None:
            role_ids = torch.full_like(batch["input_ids"], -1)
            for i, row in enumerate(offsets):
                role_ids[i, : len(row)] = self._role_ids(texts[i], roles[i], row)
        device = self.model.device
        output = self.model.encode(
            batch["input_ids"].to(device),
            attention_mask=mask.to(device),
            **({} if role_ids is None else {"role_ids": role_ids.to(device)}),
        )
        if output.codes is None:
            raise ValueError("the model gives no codes while its quantizer is bypassed")
        return [
            Sentence(
                output.codes[i, : len(row)],
                output.latents[i, : len(row)],
                texts[i],
                row,
                None if role_ids is None else role_ids[i, : len(row)].to(device),
            )
            for i, row in enumerate(offsets)
        ]

    def role_id(self, role: str | None) -> int:
        """Number of a role in the model's `role_ranges`, -1 for None."""
        if role is None:
            return -1
        known = list(self.model.config.role_ranges or {})
        if role not in known:
            raise ValueError(f"role {role!r} has no range of codes; these have one: {known}")
        return known.index(role)

    def _role_ids(
        self, text: str, roles: Sequence[str | None], offsets: list[tuple[int, int]]
    ) -> torch.Tensor:
        if len(text.split()) != len(roles):
            raise ValueError(
                f"{text!r} has {len(text.split())} words, but {len(roles)} roles were given"
            )
        numbers = [self.role_id(role) for role in roles]
        words = self.words(Sentence(torch.empty(0), torch.empty(0), text, offsets))
        return torch.tensor([-1 if index is None else numbers[index] for index, _ in words])

    def _rows_of_codes(self, codes: Any) -> list[torch.Tensor]:
        rows = [codes] if isinstance(codes, str) else as_list(codes)
        rows = [row.codes if isinstance(row, Sentence) else row for row in rows]
        return [self.codes(row) for row in rows]

    def _generate(self, rows: list[torch.Tensor]) -> list[str]:
        limits: list[int | None] = [2 * len(row) for row in rows]
        kwargs = dict(self.generation_kwargs)
        if "max_new_tokens" in kwargs or "max_length" in kwargs:
            limits = [None] * len(rows)
        else:
            kwargs["max_new_tokens"] = max(2 * len(row) for row in rows)
        ids = self.model.generate_from_codes(pad_codes(rows).to(self.model.device), **kwargs)
        # A text that never ends is cut where it would be cut alone, whatever is decoded beside it. The first id is
        # the decoder's start.
        ids = [
            row if limit is None else row[: limit + 1]
            for row, limit in zip(ids.tolist(), limits, strict=True)
        ]
        # The tokenizer's clean-up would rewrite " ," and " 's".
        return self.tokenizer.batch_decode(
            ids, skip_special_tokens=True, clean_up_tokenization_spaces=False
        )


def as_list(inputs: Any) -> list[Any]:
    """One input or many, as a list: a text, a `Sentence`, codes of one text, or a sequence or batch of these."""
    if isinstance(inputs, str | Sentence):
        return [inputs]
    if inputs is None or isinstance(inputs, Mapping | bytes | Number):
        what = "None" if inputs is None else repr(type(inputs).__name__)
        raise ValueError(f"the input is {what}, expected a text, codes, or a list of these")
    if isinstance(inputs, torch.Tensor):
        return list(inputs) if inputs.ndim == 3 else [inputs]
    if hasattr(inputs, "ndim"):
        # A column of texts, or codes.
        texts = inputs.ndim == 1 and any(isinstance(item, str) for item in inputs)
        return list(inputs) if inputs.ndim == 3 or texts else [inputs]
    items = list(inputs)
    if items and isinstance(items[0], Integral):
        return [items]
    return items


def broadcast(*columns: list[Any]) -> list[list[Any]]:
    """Lists of one length, where a list of one stands beside each entry of the others."""
    length = max(map(len, columns))
    if 0 in map(len, columns) or any(len(column) not in (1, length) for column in columns):
        raise ValueError(
            f"inputs of lengths {[len(column) for column in columns]} do not go together: "
            "expected one length, or one"
        )
    return [column * length if len(column) == 1 else column for column in columns]


__all__ = ["Sentence", "Span", "TextCodec", "TextOrCodes", "as_list", "broadcast"]
