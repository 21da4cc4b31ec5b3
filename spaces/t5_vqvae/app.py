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
"""A Space for T5VQVAE: the codes of a sentence, and sentences changed by their codes.

    python app.py --checkpoint your-name/t5-vqvae-sentences

takes a Hub id or a folder; on the Hub the Space's variable CHECKPOINT says which.
"""

import argparse
import html
import os
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import gradio as gr

from hf_vq.hub import load_text_autoencoder
from hf_vq.latent_operations import (
    OperationTable,
    TextCodec,
    format_codes,
    interpolate,
    specify,
    substitute,
    traverse,
)

INTRODUCTION = """# Sentences as codes
`{name}` writes a sentence as a few integers, each one of {codebook_size:,}, and the sentence again from the integers
alone. An edit of the codes is an edit of the sentence. [Paper](https://arxiv.org/abs/2402.00723)."""
MAX_CHARACTERS = 500  # of a text, so that one visitor does not keep the others waiting

Cells = list[list[str]]


def told(function: Callable[..., Any]) -> Callable[..., Any]:
    """Let visitors read what the package says of their input."""

    @wraps(function)
    def call(self: Any, *texts: Any) -> Any:
        too_long = [text for text in texts if isinstance(text, str) and len(text) > MAX_CHARACTERS]
        if too_long:
            raise gr.Error(f"At most {MAX_CHARACTERS} characters, please.", print_exception=False)
        try:
            return function(self, *texts)
        except ValueError as error:
            message = html.escape(f"Not possible: {error}", quote=False)  # it quotes the input
            raise gr.Error(message, print_exception=False) from error

    return call


class SentenceCodes:
    """What the page asks of a model."""

    def __init__(self, checkpoint: str):
        self.codec = TextCodec(*load_text_autoencoder(checkpoint))

    @told
    def read(self, text: str) -> tuple[Cells, str]:
        """Return pieces with their codes, and all codes as a string."""
        (sentence,) = self.codec.read(text)
        pieces = [self.codec.piece(sentence, i) or "" for i in range(len(sentence.codes))]
        rows = [[p, format_codes(c[None])] for p, c in zip(pieces, sentence.codes, strict=True)]
        return rows, format_codes(sentence.codes)

    @told
    def write(self, codes: str) -> str:
        """Return the text of codes."""
        return self.codec.decode([codes])[0]

    @told
    def edit(
        self, operation: str, text: str, span: str, donor: str, donor_span: str
    ) -> tuple[str, str]:
        """Return the edited text, and what the same edit of the words would give."""
        operations = {"put in its place": substitute, "put behind it": specify}
        row = operations[operation](
            self.codec, text, span, donor=donor, donor_span=donor_span or None
        )[0]
        return row["text"], row["expected"] or ""

    @told
    def path(self, source: str, target: str, method: str, steps: int) -> Cells:
        """Return the texts between two texts."""
        return cells(
            interpolate(self.codec, source, target, method, int(steps)), "t", "text", "changed"
        )

    @told
    def neighbors(self, text: str, word: str, number: int) -> Cells:
        """Return what the text becomes with the codes that are nearest to that of a word."""
        return cells(traverse(self.codec, text, word, int(number)), "code", "text", "changed")


def cells(table: OperationTable, *names: str) -> Cells:
    """Return columns of a table as text."""
    return [[f"{row[n]:.2g}" if n == "t" else str(row[n]) for n in names] for row in table]


def build(
    checkpoint: str, text: str = "a cat is an animal", other: str = "a dog barks"
) -> gr.Blocks:
    """Return the page for a checkpoint, a Hub id or a folder; `text` and `other` stand in the fields at first."""
    codes = SentenceCodes(checkpoint)
    word, other_word = text.split()[1], other.split()[1]
    with gr.Blocks(title="Sentences as codes") as page:
        gr.Markdown(
            INTRODUCTION.format(
                name="/".join(Path(checkpoint).parts[-2:]),
                codebook_size=codes.codec.codebook_size,
            )
        )
        with gr.Tab("Codes"):
            sentence = gr.Textbox(text, label="Sentence")
            read = gr.Button("To codes", variant="primary")
            pieces = gr.Dataframe(headers=["piece", "code"], label="Pieces", interactive=False)
            string = gr.Textbox(label="Codes: change some", interactive=True)
            write = gr.Button("To a sentence")
            written = gr.Textbox(label="Sentence of these codes")
            read.click(codes.read, [sentence], [pieces, string], api_name="read")
            write.click(codes.write, [string], [written], api_name="write")
            page.load(codes.read, [sentence], [pieces, string], api_visibility="private")
        with gr.Tab("Edit words"):
            operation = gr.Radio(
                ["put in its place", "put behind it"],
                value="put in its place",
                label="The donor's words are",
            )
            with gr.Row():
                edited = gr.Textbox(text, label="Sentence")
                span = gr.Textbox(word, label="Words of it")
            with gr.Row():
                donor = gr.Textbox(other, label="Donor")
                donor_span = gr.Textbox(other_word, label="Words of the donor; empty for all of it")
            edit = gr.Button("Edit", variant="primary")
            result = gr.Textbox(label="By its codes")
            expected = gr.Textbox(label="As the same edit of the words")
            edit.click(
                codes.edit, [operation, edited, span, donor, donor_span], [result, expected],
                api_name="edit",
            )  # fmt: skip
        with gr.Tab("From one to another"):
            with gr.Row():
                source = gr.Textbox(text, label="From")
                target = gr.Textbox(other, label="To")
            method = gr.Radio(["staggered", "latent", "walk"], value="staggered", label="Path")
            steps = gr.Slider(2, 20, 8, step=1, label="Steps")
            go = gr.Button("Go", variant="primary")
            between = gr.Dataframe(headers=["t", "text", "changed"], interactive=False, wrap=True)
            go.click(codes.path, [source, target, method, steps], [between], api_name="path")
        with gr.Tab("Neighbors of a word"):
            near = gr.Textbox(text, label="Sentence")
            near_word = gr.Textbox(word, label="A word that is one piece")
            number = gr.Slider(2, 30, 10, step=1, label="Codes to try")
            look = gr.Button("Look", variant="primary")
            found = gr.Dataframe(headers=["code", "text", "changed"], interactive=False, wrap=True)
            look.click(codes.neighbors, [near, near_word, number], [found], api_name="neighbors")
    return page


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--checkpoint", default=os.environ.get("CHECKPOINT", "your-name/t5-vqvae-sentences")
    )
    parser.add_argument("--text", default=os.environ.get("TEXT", "a cat is an animal"))
    parser.add_argument("--other", default=os.environ.get("OTHER_TEXT", "a dog barks"))
    options = parser.parse_args()
    build(options.checkpoint, options.text, options.other).launch()
