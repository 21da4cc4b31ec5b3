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
# /// script
# requires-python = ">=3.11"
# dependencies = ["hf_vq[train]"]
# ///
"""Edit sentences by their codes, and print what comes out.

    python scripts/edit_text.py --checkpoint runs/t5-vqvae-sentences/best --operation substitute \
        --text "a cat is an animal" --span cat --donor "a dog barks" --donor_span dog
    python scripts/edit_text.py --checkpoint user/model --operation interpolate --text "a cat sits" "a dog barks"
    python scripts/edit_text.py --checkpoint user/model --operation traverse --text "a cat is an animal" --at cat

The operations and what each reads:

    reconstruct                                   text (any number of them)
    interpolate                                   text (two), method, num_steps
    sum, mean, difference, analogy                text (two or more)
    traverse, nearest                             text (one), at, num_codes, reference
    substitute, specify, conjoin                  text (one), span, donor, donor_span, side, conjunction

`--output table.csv` (or .jsonl) writes the table, `--picture path.png` draws the path of an interpolation, or the codes
of texts. docs/latent_operations.md says what each operation does.
"""

import csv
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from hf_vq.hub import load_text_autoencoder
from hf_vq.latent_operations import (
    OperationTable,
    TextCodec,
    arithmetic,
    conjoin,
    format_codes,
    interpolate,
    nearest_codes_of,
    specify,
    substitute,
    traverse,
)
from hf_vq.training_config import option, parse_config

ARITHMETIC = ("sum", "mean", "difference", "analogy")


@dataclass
class EditConfig:
    """What to do with which sentences."""

    checkpoint: str = field(metadata={"help": "Folder or Hub id of the model."})
    text: list[str] = field(metadata={"help": "The sentences."})
    operation: Literal[
        "reconstruct",
        "interpolate",
        "sum",
        "mean",
        "difference",
        "analogy",
        "traverse",
        "nearest",
        "substitute",
        "specify",
        "conjoin",
    ] = option("reconstruct", "What to do; the first lines of the script say what each takes.")
    span: str | None = option(None, "Words of the text that are edited.")
    donor: str | None = option(None, "Sentence that the new codes come from.")
    donor_span: str | None = option(None, "Its words that are taken; unset: all.")
    side: Literal["left", "right"] = option("right", "Side of the span, for specify.")
    conjunction: str = option("and", "Word between the two, for conjoin.")
    at: str | None = option(None, "A word with one code, or a position from 0, for traverse.")
    num_codes: int = option(10, "Neighbors to try.")
    reference: Literal["latent", "code"] = option("latent", "What the neighbors are near to.")
    method: Literal["latent", "walk", "staggered"] = option("latent", "Kind of interpolation.")
    num_steps: int = option(10, "Steps of the interpolation.")
    num_beams: int = option(1, "Beams of the decoding.")
    output: str | None = option(None, "Table to write, .csv or .jsonl.")
    picture: str | None = option(None, "Picture to draw.")
    checkpoint_revision: str = option("main", "Commit, branch or tag of the checkpoint.")


def run(codec: TextCodec, config: EditConfig) -> OperationTable:
    """Return the table of the operation."""
    expected = {"interpolate": 2, "reconstruct": None} | dict.fromkeys(ARITHMETIC)
    number = expected.get(config.operation, 1)
    if number is not None and len(config.text) != number:
        raise ValueError(f"{config.operation} takes {number} text(s), got {len(config.text)}")
    if config.operation == "reconstruct":
        return reconstruct(codec, config.text)
    if config.operation == "interpolate":
        return interpolate(codec, *config.text, method=config.method, num_steps=config.num_steps)
    if config.operation in ARITHMETIC:
        return arithmetic(codec, config.operation, *config.text)
    (text,) = config.text
    if config.operation in ("traverse", "nearest"):
        at = required(config, "at")
        place = int(at) if at.isdecimal() and at not in text.split() else at
        operation = traverse if config.operation == "traverse" else nearest_codes_of
        return operation(codec, text, place, config.num_codes, reference=config.reference)
    edit = text, required(config, "span"), required(config, "donor"), config.donor_span
    if config.operation == "substitute":
        return substitute(codec, *edit)
    if config.operation == "specify":
        return specify(codec, *edit, side=config.side)
    return conjoin(codec, *edit, conjunction=config.conjunction)


def required(config: EditConfig, name: str) -> str:
    """Return an option that the operation cannot do without."""
    value = getattr(config, name)
    if value is None:
        raise ValueError(f"{config.operation} needs {name}")
    return value


def reconstruct(codec: TextCodec, texts: list[str]) -> OperationTable:
    """Return the texts, their codes, and the texts that these stand for."""
    sentences = codec.read(texts)
    rows = [sentence.codes for sentence in sentences]
    return OperationTable(
        "reconstruction",
        [
            {"input": text, "codes": format_codes(codes), "text": written}
            for text, codes, written in zip(texts, rows, codec.decode(rows), strict=True)
        ],
    )


def write_table(table: OperationTable, path: Path) -> None:
    """Write the rows as CSV or as lines of JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        if path.suffix == ".csv":
            writer = csv.DictWriter(file, table[0])
            writer.writeheader()
            writer.writerows(table)
        else:
            file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in table)


def main(argv: Sequence[str] | None = None) -> OperationTable:
    """Print the table and return it."""
    (config,) = parse_config(EditConfig, argv=argv)
    if not config.text:
        raise ValueError("text is empty, expected at least one sentence")
    if config.output and Path(config.output).suffix not in (".csv", ".jsonl"):
        raise ValueError(f"output is {config.output!r}, expected a name in .csv or .jsonl")
    model, tokenizer = load_text_autoencoder(config.checkpoint, config.checkpoint_revision)
    codec = TextCodec(model, tokenizer, num_beams=config.num_beams)
    table = run(codec, config)
    print(table)
    if config.output:
        write_table(table, Path(config.output))
    if config.picture:
        # matplotlib is an extra of its own
        from hf_vq.latent_plots import plot_code_map, plot_path

        path = Path(config.picture)
        path.parent.mkdir(parents=True, exist_ok=True)
        figure = (
            plot_path(table)
            if config.operation == "interpolate"
            else plot_code_map(
                codec, [*config.text, *(row["text"] for row in table if row.get("text"))]
            )
        )
        figure.savefig(path)
    return table


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    main()
