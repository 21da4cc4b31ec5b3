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
"""From a text autoencoder and a data loader to figures of merit, decoding greedily from the codes.

`evaluate_text_autoencoder` goes over a whole split, on one process or several. Its figures go into a record
with `hf_vq.evaluation.write_record(..., definitions=TEXT_METRIC_DEFINITIONS)`.
"""

import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ._extras import require

require("accelerate", extra="train")

from accelerate import Accelerator  # noqa: E402
from accelerate.data_loader import DataLoaderStateMixin  # noqa: E402

from .evaluation import signed_off, synchronize  # noqa: E402
from .metrics import RunningMean  # noqa: E402
from .models.eval_mode import eval_mode  # noqa: E402
from .text_metrics import bleu1, corpus_bleu4, exact_match, token_exact_match  # noqa: E402
from .text_tokenizer import decode_texts  # noqa: E402

__all__ = ["TEXT_METRIC_DEFINITIONS", "evaluate_text_autoencoder"]

_GREEDY = "greedy decoding from the codes, special tokens left out, runs of whitespace as one space"
_TOKENS = "given the codes, over all target pieces of the split, </s> counted, padding not"
_OUTPUT = "from the model's forward in eval mode, mean over batches weighted by their target pieces"
TEXT_METRIC_DEFINITIONS = {
    "nll": f"mean negative log-likelihood in nats, {_TOKENS}",
    "token_perplexity": f"exp of the mean negative log-likelihood, {_TOKENS}",
    "loss": f"total loss, {_OUTPUT}",
    "commitment_loss": f"squared distance of latents to codes before its weight, {_OUTPUT}",
    "kl_loss": f"KL divergence of the codes from uniform before its weight, in nats, {_OUTPUT}",
    "exact_match": f"share of texts that equal the reference; {_GREEDY}",
    "token_exact_match": "share of texts whose pieces equal those of the reference; greedy decoding "
    "from the codes, special tokens left out",
    "bleu1": f"mean over texts of BLEU-1 with brevity penalty, words split at whitespace; {_GREEDY}",
    "corpus_bleu4": f"corpus BLEU-4, no smoothing, words split at whitespace, in percent; {_GREEDY}",
    "symbolic_equivalence": "share of formulas with the value of the reference at random points; for an "
    f"integral, whose derivative has the value of the integrand; {_GREEDY}",
    "parse_rate": f"share of texts that can be read as a formula; {_GREEDY}",
    "codebook_usage": "share of the codes that occur at least once in the whole split, without padding",
    "codebook_perplexity": "2 to the entropy in bits of the code counts over the whole split, without padding",
    "rate": "entropy of the codes of a position over the whole split, in bits, without padding",
    "max_rate": "bits of a position if all codes were equally frequent",
    "texts_per_second": "texts encoded and decoded per second by all processes, without loading",
    "num_texts": "number of texts that the figures rest on",
    "batch_size": "largest batch of one process",
}

Score = Callable[[Sequence[str], Sequence[str]], Mapping[str, float]]


@torch.no_grad()
def evaluate_text_autoencoder(
    model: Any,
    loader: Iterable[Mapping[str, Tensor]],
    accelerator: Accelerator | None = None,
    *,
    tokenizer: Any = None,
    references: Sequence[str] | None = None,
    max_new_tokens: int | None = None,
    score: Score | None = None,
) -> dict[str, float]:
    """Score a text autoencoder on all texts of a loader.

    Every process gets the figures of the whole split: results are gathered, and the texts that Accelerate
    repeats to even out the last batches are dropped. (The loss and its parts are means of one batch, so that
    repeats in the last batch still weigh in theirs.) The model is put in eval mode and gets its modes back.

    Args:
        model: A `T5VQVAEForConditionalGeneration`; it may be wrapped by the accelerator.
        loader: Batches of `TextCollator`, in the order of the data. It is prepared with the accelerator here
            unless it has been.
        accelerator: Where to run, on how many processes; on the model's device alone if `None`.
        tokenizer: To write texts and compare them with the references; without it there are only the figures
            that need no decoding, which is many times as fast.
        references: The texts of the whole split as they were before tokenization, in its order; the decoded
            labels if `None`, which hides what the tokenizer cannot spell.
        max_new_tokens: Length at which decoding stops; twice the longest source or target of a batch if `None`.
        score: Further figures, from all predictions and all references.

    Returns:
        `nll`, `token_perplexity`, `loss` and its parts, `codebook_usage`, `codebook_perplexity`, `rate` and
        `max_rate` (where there are codes), `num_texts`, `batch_size`; with a tokenizer `exact_match`,
        `token_exact_match`, `bleu1`, `corpus_bleu4`, `texts_per_second` and what `score` gives.
        `TEXT_METRIC_DEFINITIONS` defines them.

    Raises:
        ValueError: If the loader gives no batch, or not as many texts as there are references.
    """
    if accelerator is not None:
        model = accelerator.unwrap_model(model)
        if not isinstance(loader, DataLoaderStateMixin):
            loader = accelerator.prepare_data_loader(loader)
    device = next(model.parameters()).device
    totals = _Totals()
    seconds, batch_size = 0.0, 0
    with eval_mode(model), signed_off(loader):
        for batch in loader:
            batch = {name: tensor.to(device) for name, tensor in batch.items()}
            batch_size = max(batch_size, len(batch["labels"]))
            output = model(**batch)
            results: dict[str, Any] = {"figures": _figures_per_text(output, batch["labels"])}
            if output.codes is not None:
                results["codes"] = output.codes
            if tokenizer is not None:
                synchronize(device)
                start = time.perf_counter()
                results["predictions"] = _greedy(model, batch, max_new_tokens)
                synchronize(device)
                seconds += time.perf_counter() - start
                results["labels"] = batch["labels"]
            totals.add(results if accelerator is None else _gathered(accelerator, results, model))
    if batch_size == 0:
        raise ValueError("the loader gave no batch to evaluate")
    metrics = totals.compute(model) | {"batch_size": batch_size}
    if tokenizer is not None:
        metrics |= totals.compare(tokenizer, references, score)
        metrics["texts_per_second"] = metrics["num_texts"] / seconds
    return metrics


def _figures_per_text(output: Any, labels: Tensor) -> dict[str, Tensor]:
    """Each text's number of target pieces, and for each figure its sum over them."""
    pieces = (labels != -100).sum(dim=1)
    logits = output.logits.float().transpose(1, 2)
    nll = F.cross_entropy(logits, labels, ignore_index=-100, reduction="none").sum(dim=1)
    figures = {"pieces": pieces, "nll": nll}
    for name in ("loss", "commitment_loss", "kl_loss"):
        value = output.get(name)
        if value is not None:
            figures[name] = value.float() * pieces
    return figures


def _greedy(model: Any, batch: Mapping[str, Tensor], max_new_tokens: int | None) -> Tensor:
    """The pieces that the model writes, from codes alone if it has any."""
    inputs = {name: tensor for name, tensor in batch.items() if name != "labels"}
    if max_new_tokens is None:
        max_new_tokens = 2 * max(batch["input_ids"].shape[1], batch["labels"].shape[1])
    options = {"max_new_tokens": max_new_tokens, "do_sample": False, "num_beams": 1}
    codes = model.encode(**inputs).codes
    if codes is None:
        return model.generate(**inputs, **options)
    return model.generate_from_codes(codes, **options)


def _gathered(accelerator: Accelerator, results: dict[str, Any], model: Any) -> dict[str, Any]:
    padding = {"codes": -1, "labels": -100, "predictions": model.config.pad_token_id}
    for name, value in padding.items():
        if name in results:
            results[name] = accelerator.pad_across_processes(results[name], 1, value)
    return accelerator.gather_for_metrics(results)


class _Totals:
    """What the batches of a split add up to."""

    def __init__(self) -> None:
        self.means: dict[str, RunningMean] = defaultdict(RunningMean)
        self.codes: list[Tensor] = []
        self.predictions: list[list[int]] = []
        self.labels: list[list[int]] = []

    def add(self, results: dict[str, Any]) -> None:
        for name, values in results["figures"].items():
            self.means[name].update(values)
        if "codes" in results:
            self.codes.append(results["codes"].cpu())
        if "predictions" in results:
            self.predictions += results["predictions"].tolist()
            self.labels += results["labels"].tolist()

    def compute(self, model: Any) -> dict[str, float]:
        pieces = self.means["pieces"]
        metrics = {
            name: mean.total / pieces.total for name, mean in self.means.items() if name != "pieces"
        }
        metrics["token_perplexity"] = math.exp(min(metrics["nll"], 700.0))  # the largest float64
        if self.codes:
            metrics |= model.codebook_statistics(self.codes)
        return metrics | {"num_texts": pieces.count}

    def compare(
        self, tokenizer: Any, references: Sequence[str] | None, score: Score | None
    ) -> dict[str, float]:
        predictions = decode_texts(tokenizer, self.predictions)
        references = decode_texts(tokenizer, self.labels) if references is None else references
        if len(references) != len(predictions):
            raise ValueError(
                f"there are {len(references)} references, but the loader gave {len(predictions)} texts"
            )
        hidden = {-100, *tokenizer.all_special_ids} - {tokenizer.unk_token_id}
        written, wanted = (
            [[piece for piece in row if piece not in hidden] for row in rows]
            for rows in (self.predictions, self.labels)
        )
        metrics = {
            "exact_match": exact_match(predictions, references),
            "token_exact_match": token_exact_match(written, wanted),
            "bleu1": bleu1(predictions, references),
            "corpus_bleu4": corpus_bleu4(predictions, references),
        }
        return metrics | dict(score(predictions, references) if score is not None else {})
