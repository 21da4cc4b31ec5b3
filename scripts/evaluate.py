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
"""Score an image autoencoder on a data set, and write every figure to `<checkpoint>.json`.

    python scripts/evaluate.py --checkpoint runs/gmvq-cifar10/best --dataset uoft-cs/cifar10
    python scripts/evaluate.py --checkpoint user/model --dataset my_images/ --split train --max_samples 1000

The record holds the figures with their definitions, the data's revision, hardware, versions, commit and command.
Several GPUs: `accelerate launch --num_processes 4 scripts/evaluate.py ...`.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from torch.utils.data import DataLoader

from hf_vq.data import ImageCollator, data_revision
from hf_vq.evaluation import (
    evaluate_image_autoencoder,
    format_figures,
    record_path,
    write_record,
)
from hf_vq.hub import load_image_autoencoder
from hf_vq.image_source import ImageSource
from hf_vq.training_config import option, parse_config


@dataclass(kw_only=True)
class EvaluationConfig(ImageSource):
    """What to score, on which of the images."""

    checkpoint: str = field(metadata={"help": "Folder or Hub id of the model."})
    output: str | None = option(None, "Where to write; unset: <checkpoint>.json beside a folder.")
    checkpoint_revision: str = option("main", "Commit, branch or tag of the checkpoint.")
    split: str = option("test", "Images to score, for example test[:1000].")
    max_samples: int | None = option(None, "Score no more than so many images.")
    streaming: bool = option(False, "Read the data over the network while scoring.")
    batch_size: int = option(250, "Images per process in one batch.")
    seeds: list[int] = option([], "Seeds of the training runs behind the checkpoint, to be noted.")
    cpu: bool = option(False, "Stay on the CPU even if there is an accelerator.")


def main(argv: Sequence[str] | None = None) -> dict[str, Any] | None:
    """Write the record and return it; None on processes other than the first."""
    (config,) = parse_config(EvaluationConfig, argv=argv)
    model, processor = load_image_autoencoder(config.checkpoint, config.checkpoint_revision)
    dataset = config.load(config.split, config.max_samples, config.streaming)
    accelerator = Accelerator(cpu=config.cpu)
    loader = DataLoader(dataset, config.batch_size, collate_fn=ImageCollator(processor))
    metrics = evaluate_image_autoencoder(model.to(accelerator.device), loader, accelerator)
    record = None
    if accelerator.is_main_process:
        output = Path(config.output or record_path(config.checkpoint))
        scored = config.describe(config.split, data_revision(dataset), config.max_samples)
        record = write_record(output, config.checkpoint, metrics, data=scored, seeds=config.seeds)
        print(format_figures(record["metrics"], output))
    accelerator.end_training()
    return record


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    main()
