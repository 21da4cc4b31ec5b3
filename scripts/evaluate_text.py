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
"""Score a text autoencoder on a data set, and write every figure to `<checkpoint>.json`.

    python scripts/evaluate_text.py --checkpoint runs/mine/best --dataset texts.csv --source_column text --split train
    python scripts/evaluate_text.py --checkpoint user/model --dataset math:expressions --split test_length

The record holds the figures with their definitions, the data's revision, hardware, versions, commit and command.
Several GPUs: `accelerate launch --num_processes 4 scripts/evaluate_text.py ...`.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from torch.utils.data import DataLoader

from hf_vq.evaluation import format_figures, record_path, write_record
from hf_vq.hub import load_text_autoencoder
from hf_vq.symbolic_equivalence import symbolic_equivalence
from hf_vq.text_data import TextCollator, load_text_dataset, text_revision
from hf_vq.text_evaluation import TEXT_METRIC_DEFINITIONS, evaluate_text_autoencoder
from hf_vq.text_splits import MATHEMATICS
from hf_vq.training_config import check_name, option, parse_config


@dataclass
class EvaluationConfig:
    """What to score, on which texts."""

    checkpoint: str = field(metadata={"help": "Folder or Hub id of the model."})
    dataset: str = field(
        metadata={"help": f"Hub id, folder or file; or {' or '.join(MATHEMATICS)}."}
    )
    source_column: list[str] = option(
        [], "Column that the encoder reads; several are joined by </s>. Not for mathematics."
    )
    target_column: str | None = option(None, "Column that the decoder writes; unset: the source.")
    role_column: str | None = option(None, "Column with one role for each word.")
    rest_role: str | None = option(None, "Role of the model that stands for all it lacks.")
    symbolic: bool = option(False, "Also compare the values of formulas, as for mathematics.")
    output: str | None = option(None, "Where to write; unset: <checkpoint>.json beside a folder.")
    checkpoint_revision: str = option("main", "Commit, branch or tag of the checkpoint.")
    config_name: str | None = option(None, "Configuration of a Hub data set that has several.")
    revision: str | None = option(None, "Commit, branch or tag of the data set.")
    split: str = option("test", "Texts to score, for example test[:1000].")
    max_samples: int | None = option(None, "Score no more than so many texts.")
    append_eos: bool = option(True, "Whether the encoder reads a </s> at the end.")
    max_new_tokens: int | None = option(
        None, "Pieces to write at most; unset: twice the longest source or target of a batch."
    )
    batch_size: int = option(128, "Texts per process in one batch.")
    seeds: list[int] = option([], "Seeds of the training runs behind the checkpoint, to be noted.")
    cpu: bool = option(False, "Stay on the CPU even if there is an accelerator.")


def load(config: EvaluationConfig) -> Any:
    """Return the texts."""
    if config.dataset in MATHEMATICS:
        number = config.max_samples
        # Some training rows must be drawn. On their number the formulas to repeat do not depend, but the problems
        # to infer do: other ones than at the end of a training run, none of which it trained on.
        splits = MATHEMATICS[config.dataset](1, 1, number or 4_000, number or 2_000)
        check_name("split", config.split, [name for name in splits if name.startswith("test")])
        return splits[config.split]
    if not config.source_column:
        raise ValueError("source_column is not set: name the column that holds the texts")
    return load_text_dataset(
        config.dataset,
        config.split,
        source_column=config.source_column,
        target_column=config.target_column,
        role_column=config.role_column,
        config_name=config.config_name,
        revision=config.revision,
        max_samples=config.max_samples,
    )


def main(argv: Sequence[str] | None = None) -> dict[str, Any] | None:
    """Write the record and return it; None on processes other than the first."""
    (config,) = parse_config(EvaluationConfig, argv=argv)
    model, tokenizer = load_text_autoencoder(config.checkpoint, config.checkpoint_revision)
    texts = load(config)
    symbolic = config.symbolic or config.dataset in MATHEMATICS
    accelerator = Accelerator(cpu=config.cpu)
    roles = model.config.role_ranges if config.role_column else None
    collator = TextCollator(
        tokenizer,
        role_names=list(roles) if roles else None,
        rest_role=config.rest_role,
        append_eos=config.append_eos,
    )
    metrics = evaluate_text_autoencoder(
        model.to(accelerator.device),
        DataLoader(texts, config.batch_size, collate_fn=collator),
        accelerator,
        tokenizer=tokenizer,
        references=texts["target"][:],
        max_new_tokens=config.max_new_tokens,
        score=partial(symbolic_equivalence, sources=texts["source"][:]) if symbolic else None,
    )
    record = None
    if accelerator.is_main_process:
        output = Path(config.output or record_path(config.checkpoint))
        source = {
            "name": config.dataset,
            "split": config.split,
            "revision": text_revision(texts),
            "max_samples": config.max_samples,
        }
        record = write_record(
            output,
            config.checkpoint,
            metrics,
            data=source,
            seeds=config.seeds,
            definitions=TEXT_METRIC_DEFINITIONS,
        )
        print(format_figures(record["metrics"], output))
    accelerator.end_training()
    return record


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    main()
