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
"""Pictures of codes: what is drawn is what the tables and the codebook say."""

import io

import pytest
from PIL import Image

pytest.importorskip("matplotlib", reason="the pictures need the extra plots")

from hf_vq.latent_operations import (
    OperationTable,
    TextCodec,
    interpolate,
    substitute,
    traverse,
)
from hf_vq.latent_plots import plot_code_map, plot_codebook, plot_path, plot_traversals
from hf_vq.models import T5VQVAEForConditionalGeneration
from hf_vq.text_tokenizer import train_tokenizer

TEXTS = ["a cat is an animal", "a dog barks at the big cat", "the old tree needs water"]
ROLES = [
    [None, "N", "V", None, "N"],
    [None, "N", "V", None, None, "A", "N"],
    [None, "A", "N", "V", "N"],
]


@pytest.fixture(params=[1, 2], ids=["one-code", "two-codes"])
def codec(tiny_config, request):
    tokenizer = train_tokenizer(TEXTS, 140)
    config = tiny_config("t5_vqvae", vocab_size=len(tokenizer), codes_per_token=request.param)
    model = T5VQVAEForConditionalGeneration(config).eval()
    model.initialize_codebook([tokenizer(TEXTS, padding=True, return_tensors="pt")])
    return TextCodec(model, tokenizer)


def texts_in(figure):
    return [text.get_text() for axes in figure.axes for text in axes.texts]


def png_size(figure):
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return Image.open(file).size


def test_a_path_shows_every_word(codec):
    table = interpolate(codec, [TEXTS[0], TEXTS[2]], TEXTS[1], "staggered", 4)
    figure = plot_path(table)
    words = [word for text in table.texts[:5] for word in text.split()]
    steps = [f"{record['t']:.2f}" for record in table.records[:5]]
    assert sorted(texts_in(figure)) == sorted(words + steps)
    changed = [t for t in figure.axes[0].texts if t.get_weight() == "bold"]
    assert bool(changed) == any(r["changed"].strip("- ") for r in table.records[:5])
    assert min(png_size(figure)) > 50
    with pytest.raises(ValueError, match="takes a table of interpolate, got 'substitution'"):
        plot_path(substitute(codec, TEXTS[0], "cat", "dog"))


@pytest.mark.parametrize("roles", [None, ROLES])
def test_a_codebook_shows_every_code_once(codec, roles):
    group = codec.codes_per_token - 1
    figure = plot_codebook(codec, TEXTS, roles, group=group, num_labels=3)
    offsets = [c.get_offsets() for c in figure.axes[0].collections]
    assert sum(map(len, offsets)) == codec.codebook_size
    used = codec.encode(TEXTS)[..., group]
    assert sum(map(len, offsets[1:])) == len(used[used >= 0].unique())
    assert len(texts_in(figure)) == 3
    if roles is not None:
        legend = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
        assert set(legend) <= {"unused", "A", "N", "V", "none"}
    assert min(png_size(figure)) > 300


def test_a_code_map_shows_codes_and_pieces(codec):
    (sentence,) = codec.read(TEXTS[1])
    figure = plot_code_map(codec, TEXTS[1])
    codes = [str(code) for code in sentence.codes.flatten().tolist()]
    assert sorted(texts_in(figure)) == sorted([*codes, *TEXTS[1].split(), "</s>"])
    cells = figure.axes[0].patches
    assert len(cells) == sentence.codes.numel()
    same = sentence.codes[0, 0] == sentence.codes[-1, 0]
    assert (cells[0].get_facecolor() == cells[len(sentence.codes) - 1].get_facecolor()) == bool(
        same
    )
    assert sorted(texts_in(plot_code_map(codec, codec.encode(TEXTS[1])))) == sorted(codes)


def test_traversals_show_pieces_codes_and_texts(codec):
    group = codec.codes_per_token - 1
    table = traverse(codec, [TEXTS[0], TEXTS[1]], [1, 4], num_codes=3, group=group)
    figure = plot_traversals(codec, table)
    inputs = codec.read(TEXTS[:2])
    pieces = [word for text in TEXTS[:2] for word in [*text.split(), "</s>"]]
    codes = [str(code) for sentence in inputs for code in sentence.codes[:, group].tolist()]
    tried = [str(record["code"]) for record in table if record["rank"] > 0]
    words = [word for text in table.texts for word in text.split()]
    assert sorted(texts_in(figure)) == sorted(pieces + codes + tried + words)
    # The framed cells stand one below the other, where codes were exchanged.
    framed = [cell for cell in figure.axes[0].patches if cell.get_linewidth() == 2]
    assert [cell.get_x() for cell in framed] == [1, 1, 1, 4, 4, 4]
    changed = [text for text in figure.axes[0].texts if text.get_weight() == "bold"]
    assert bool(changed) == any(record["changed"].strip("- ") for record in table)
    assert min(png_size(figure)) > 100
    # Bare codes have no pieces.
    figure = plot_traversals(codec, traverse(codec, inputs[0].codes, 0, 1, reference="code"))
    first = [str(code) for code in inputs[0].codes[:, 0].tolist()]
    words = codec.decode([inputs[0].codes])[0].split()
    assert sorted(text for text in texts_in(figure) if text) == sorted(first + words)
    with pytest.raises(ValueError, match="takes a table of traverse, got 'substitution'"):
        plot_traversals(codec, substitute(codec, TEXTS[0], "cat", "dog"))


def test_dollars_are_dollars(codec):
    text = r"a $\foo$ cat"  # as a formula it would not even be drawn
    table = traverse(codec, text, 0, 2)
    path = OperationTable("path", [{"t": 0.0, "text": text}, {"t": 1.0, "text": text}])
    for record in table.records:
        record["text"] = text
    for figure in (
        plot_path(path),
        plot_codebook(codec, [text]),
        plot_code_map(codec, text),
        plot_traversals(codec, table),
    ):
        assert min(png_size(figure)) > 50
