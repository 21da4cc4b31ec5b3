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
"""Editing sentences by their codes: neighbors, paths, arithmetic, and edits of spans of words.

    codec = TextCodec(model, tokenizer)
    print(substitute(codec, "a cat is an animal", "cat", donor="a dog barks", donor_span="dog"))
    print(interpolate(codec, "a cat is an animal", "a dog barks"))
    print(traverse(codec, "a cat is an animal", "cat"))

An input is a text, bare codes, or a `Sentence` from `codec.read`. A list of inputs is a batch, and a single
input beside a list stands beside each of its rows. An operation decodes all of its rows together, gives the
same rows each time, leaves the model as it was, and returns an `OperationTable`. The equations (O1)-(O9)
are in docs/latent_operations.md.
"""

from .code_format import format_codes, parse_codes
from .code_neighbors import nearest_codes_of, traverse, words_of_code
from .latent_mixing import arithmetic, interpolate
from .latent_tables import OperationTable
from .span_operations import conjoin, specify, substitute
from .text_codec import Sentence, TextCodec

__all__ = [
    "OperationTable",
    "Sentence",
    "TextCodec",
    "arithmetic",
    "conjoin",
    "format_codes",
    "interpolate",
    "nearest_codes_of",
    "parse_codes",
    "specify",
    "substitute",
    "traverse",
    "words_of_code",
]
