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
"""Whether formulas are equal, for `evaluate.load` with the path of this file's folder."""

import datasets
import evaluate

from hf_vq.text_metrics import symbolic_equivalence

_DESCRIPTION = """
Share of formulas with the value of their reference at seeded random points. Formulas are read by a
parser for letters, integers, + - * / ** and log, exp, sin, cos; what it cannot read is wrong.
"""

_KWARGS_DESCRIPTION = """
Args:
    predictions: Formulas, or results of `hf_vq.math_data`, as a model writes them.
    references: One for each.
    sources: The problems of `hf_vq.math_data`; an integral is right if its derivative is the
        integrand.

Returns:
    symbolic_equivalence: Share of formulas that are right.
    parse_rate: Share of formulas that can be read.
"""


class SymbolicEquivalence(evaluate.Metric):
    """Shares of formulas that are right and that can be read, over all added."""

    def _info(self) -> evaluate.MetricInfo:
        text = datasets.Value("string")
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation="",
            inputs_description=_KWARGS_DESCRIPTION,
            features=datasets.Features({"predictions": text, "references": text}),
        )

    def _compute(
        self, predictions: list, references: list, sources: list | None = None
    ) -> dict[str, float]:
        return symbolic_equivalence(predictions, references, sources)
