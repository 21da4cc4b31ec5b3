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
"""Exact match and BLEU of texts, for `evaluate.load` with the path of this file's folder."""

import datasets
import evaluate

from hf_vq.text_metrics import bleu1, corpus_bleu4, exact_match

_DESCRIPTION = """
How many texts equal their reference, and how many of their words and 4-grams. Words are what
whitespace separates; nothing is smoothed. Compute it over a whole split: BLEU-4 is no mean over
texts. Formulas: `hf_vq.text_metrics`.
"""

_KWARGS_DESCRIPTION = """
Args:
    predictions: Texts without special tokens.
    references: One text for each.

Returns:
    exact_match: Share of texts that equal their reference up to whitespace.
    bleu1: Mean over texts of BLEU-1, in [0, 1].
    corpus_bleu4: BLEU-4 of the corpus, in percent.
"""


class TextReconstruction(evaluate.Metric):
    """Exact match, BLEU-1 and corpus BLEU-4 over all texts added."""

    def _info(self) -> evaluate.MetricInfo:
        text = datasets.Value("string")
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation="",
            inputs_description=_KWARGS_DESCRIPTION,
            features=datasets.Features({"predictions": text, "references": text}),
        )

    def _compute(self, predictions: list, references: list) -> dict[str, float]:
        return {
            "exact_match": exact_match(predictions, references),
            "bleu1": bleu1(predictions, references),
            "corpus_bleu4": corpus_bleu4(predictions, references),
        }
