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
"""Train GM-VQ on any image data set of the Hub or any folder of images.

    python scripts/train_gmvq.py --config scripts/configs/gmvq-cifar10.yaml
    accelerate launch --num_processes 4 scripts/train_gmvq.py --config scripts/configs/gmvq-celeba-64.yaml
    python scripts/train_gmvq.py --dataset my_images/ --image_size 64 --max_steps 1000 --output_dir runs/mine

A minute on a CPU: the first recipe with `--max_steps 100 --max_train_samples 2000 --max_eval_samples 500`.
`--resume_from_checkpoint latest` continues a run; `--help` lists every option. In the end, `<output_dir>/best.json`
holds the figures of the best model on the test split.
"""

import dataclasses
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from accelerate.utils import set_seed
from torch.utils.data import DataLoader

from hf_vq import GMVQConfig, GMVQImageProcessor, GMVQModel
from hf_vq.codebook_start import start_codebook
from hf_vq.data import ImageCollator, InMemoryImages, data_revision
from hf_vq.evaluation import (
    evaluate_image_autoencoder,
    format_figures,
    record_path,
    write_record,
)
from hf_vq.hub import load_image_autoencoder
from hf_vq.image_source import ImageSource
from hf_vq.training import TrainingConfig, parse_config, train
from hf_vq.training_config import model_options, option

# Of all figures, these are printed.
SHOWN = ("mse", "psnr", "ssim", "perplexity", "codebook_usage")


@dataclass
class DataConfig(ImageSource):
    """Which images to train and to score on."""

    train_split: str = option("train", "Images to train on, for example train[:-5000].")
    eval_split: str | None = option(None, "Held-out images that decide which model is best.")
    test_split: str | None = option("test", "Images for the final figures; none for no figures.")
    max_train_samples: int | None = option(None, "Train on no more than so many images.")
    max_eval_samples: int | None = option(None, "Evaluate and test on no more than so many images.")
    streaming: bool = option(False, "Read the data over the network while training.")
    in_memory: bool = option(False, "Decode all images once and keep them: fast for small ones.")
    horizontal_flip: bool = option(False, "Mirror half of the training images.")


@dataclass
class CodebookConfig:
    """How the codebook starts."""

    codebook_warmup_steps: int = option(0, "Steps without the quantizer before codes are chosen.")
    codebook_warmup_learning_rate: float = option(1e-3, "Learning rate of these steps.")
    latents_per_code: int = option(20, "Latents for each code, for k-means at the start.")


# Its default depends on the length of the run.
ANNEALING = int | None, option(None, "Updates to the last temperature; unset: 90 % of all.")
ModelConfig = model_options(GMVQConfig, replaced={"temperature_anneal_steps": ANNEALING})


def main(argv: Sequence[str] | None = None) -> dict[str, Any]:
    """Train, then score the best model on the test split; returns what `train` does."""
    classes = TrainingConfig, DataConfig, ModelConfig, CodebookConfig
    training, data, model_config, codebook = parse_config(*classes, argv=argv)
    options = dataclasses.asdict(model_config)
    processor = GMVQImageProcessor(
        size=options["image_size"], do_grayscale=options["num_channels"] == 1
    )

    def load(split: str, max_samples: int | None) -> Any:
        images = data.load(split, max_samples, data.streaming)
        return InMemoryImages(images, processor) if data.in_memory else images

    train_images = load(data.train_split, data.max_train_samples)
    eval_images = load(data.eval_split, data.max_eval_samples) if data.eval_split else None
    # Before the training, so that a misspelled split does not show after it.
    test_images = load(data.test_split, data.max_eval_samples) if data.test_split else None

    if options["temperature_anneal_steps"] is None:
        steps = training.count_steps(None if data.streaming else len(train_images))
        options["temperature_anneal_steps"] = max(1, round(0.9 * steps))
    set_seed(training.seed)  # of the initial weights
    model = GMVQModel(GMVQConfig(**options))

    def before_training(accelerator: Accelerator, model: Any, loader: Any) -> None:
        start_codebook(
            accelerator,
            model,
            iter(loader),
            warmup_steps=codebook.codebook_warmup_steps,
            learning_rate=codebook.codebook_warmup_learning_rate,
            latents_per_code=codebook.latents_per_code,
            seed=training.seed,
        )

    results = train(
        model,
        train_images,
        training,
        eval_dataset=eval_images,
        collate_fn=ImageCollator(processor, horizontal_flip=data.horizontal_flip),
        eval_collate_fn=ImageCollator(processor),
        evaluate=evaluate_image_autoencoder,
        processor=processor,
        before_training=before_training,
    )
    if test_images is not None:
        checkpoint = Path(results["best_model"] or results["final_model"])
        loader = DataLoader(
            test_images,
            training.per_device_eval_batch_size,
            collate_fn=ImageCollator(processor),
        )
        accelerator = Accelerator(cpu=training.cpu)
        model, _ = load_image_autoencoder(checkpoint)
        metrics = evaluate_image_autoencoder(model.to(accelerator.device), loader, accelerator)
        if accelerator.is_main_process:
            scored = data.describe(
                data.test_split, data_revision(test_images), data.max_eval_samples
            )
            path = record_path(checkpoint)
            name = f"{checkpoint.parent.name}/{checkpoint.name}"
            write_record(path, name, metrics, data=scored, seeds=[training.seed])
            print(format_figures(metrics, path, SHOWN))
        accelerator.end_training()
    return results


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    main()
