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
"""Tokenizers for T5VQVAE: trained offline on a corpus, or T5's own with the characters it lacks.

Both give `<pad>` 0, `</s>` 1 and `<unk>` 2, as T5 has them, append `</s>`, and decode to the text
that was encoded, up to runs of whitespace.
"""

import json
import string
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

__all__ = ["PRINTABLE", "add_missing_characters", "decode_texts", "train_tokenizer"]

PRINTABLE = string.ascii_letters + string.digits + string.punctuation
SPECIAL_TOKENS = ["<pad>", "</s>", "<unk>"]
_WORD_START = "▁"


def train_tokenizer(
    texts: Iterable[str],
    vocab_size: int,
    *,
    characters: str = PRINTABLE,
    isolate_symbols: bool = False,
) -> PreTrainedTokenizerFast:
    """Train a tokenizer with T5's special tokens on a corpus, without a download.

    The pieces come from byte-pair encoding, not from T5's unigram model: its training in
    `tokenizers` gives other pieces each time, while this gives the same ones for the same texts.

    Args:
        texts: The corpus; of the training split alone.
        vocab_size: Number of pieces at most, special tokens included.
        characters: Characters that get a piece even if no text holds them, so that new ones at
            test time, such as a letter of a formula, are not unknown.
        isolate_symbols: Whether each digit, operator and bracket is a piece of its own (`**` is
            one operator), as formulas want it: then a code stands for one symbol.

    Returns:
        A tokenizer that `save_pretrained` and `AutoTokenizer.from_pretrained` carry unchanged.

    Example:
        >>> tokenizer = train_tokenizer(["sin(x) + y**3"] * 9, 110, isolate_symbols=True)
        >>> tokenizer.tokenize("sin(z) + x**2")
        ['▁sin', '(', 'z', ')', '▁+', '▁', 'x', '**', '2']
        >>> tokenizer.pad_token_id, tokenizer.eos_token_id, tokenizer.unk_token_id
        (0, 1, 2)
    """
    texts = list(texts)
    alphabet = {*characters, *"".join(texts), _WORD_START} - set(string.whitespace)
    if vocab_size < len(SPECIAL_TOKENS) + len(alphabet):
        raise ValueError(
            f"vocab_size must be at least {len(SPECIAL_TOKENS) + len(alphabet)}, for the special "
            f"tokens and the {len(alphabet)} characters of the texts, got {vocab_size}"
        )
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    # `prepend_scheme="always"` acts on each word that the split before it gives.
    splits: list[Any] = [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()]
    if isolate_symbols:
        splits.append(
            pre_tokenizers.Split(Regex(rf"{_WORD_START}?(\*\*|[^A-Za-z{_WORD_START}])"), "isolated")
        )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(splits)
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=SPECIAL_TOKENS,
        initial_alphabet=sorted(alphabet),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", pair="$A </s> $B </s>", special_tokens=[("</s>", 1)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
        clean_up_tokenization_spaces=False,
    )


def add_missing_characters(
    tokenizer: PreTrainedTokenizerBase, texts: Iterable[str]
) -> tuple[PreTrainedTokenizerBase, list[str]]:
    r"""Give a piece to every character of the texts that the tokenizer does not know.

    T5 lacks `{`, `}`, `\`, `^`, `~`, `<` and the backtick, so that most LaTeX holds `<unk>`. They
    join the model's vocabulary, not the list of added tokens: `add_tokens` would set spaces around
    them, and "x^{2}" would come back as "x^{ 2}".

    Args:
        tokenizer: A T5 tokenizer, or any other over a Unigram or BPE model of `tokenizers`.
        texts: What it is to encode.

    Returns:
        The new tokenizer (the old one stays as it is), and the characters, in the order of their
        ids, which follow the last old one. A model needs `resize_token_embeddings` if the new
        length exceeds the rows of its embeddings; `google-t5/t5-base` has 28 to spare.
    """
    characters = sorted({character for text in texts for character in text if character.strip()})
    with tempfile.TemporaryDirectory() as folder:
        tokenizer.save_pretrained(folder)
        file = Path(folder) / "tokenizer.json"
        state = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
        model = state.get("model", {})
        if model.get("type") not in ("Unigram", "BPE"):
            raise ValueError(
                "the tokenizer must have a Unigram or BPE model of the tokenizers library, "
                f"got {type(tokenizer).__name__} with {model.get('type')!r}"
            )
        normalizer = Tokenizer.from_file(str(file)).normalizer
        missing = []
        for character in characters:
            if tokenizer.unk_token_id in tokenizer(character, add_special_tokens=False).input_ids:
                normal = normalizer.normalize_str(character) if normalizer else character
                missing += [c for c in normal if c.strip() and c not in missing]
        if model["type"] == "Unigram":
            lowest = min(score for _, score in model["vocab"])
            model["vocab"] += [[character, lowest] for character in missing]
        else:
            first = max(len(tokenizer), *(index + 1 for index in model["vocab"].values()))
            model["vocab"] |= {character: first + i for i, character in enumerate(missing)}
        file.write_text(json.dumps(state, ensure_ascii=False), encoding="utf-8")
        return type(tokenizer).from_pretrained(folder), missing


def decode_texts(tokenizer: PreTrainedTokenizerBase, ids: Any) -> list[str]:
    """Decode a batch of piece ids to the texts that are scored and shown.

    Special tokens are left out, and the tokenizer's clean-up, which rewrites " , " and " 's", is
    off. A -100, which pads labels, is padding here too.

    Args:
        tokenizer: Any tokenizer.
        ids: Integers (batch, length), as tensor, array or lists.
    """
    rows: Sequence[Sequence[int]] = ids.tolist() if hasattr(ids, "tolist") else ids
    kept = [[index for index in row if index != -100] for row in rows]
    return tokenizer.batch_decode(
        kept, skip_special_tokens=True, clean_up_tokenization_spaces=False
    )
