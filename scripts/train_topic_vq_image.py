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
# dependencies = ["hf_vq[topics,image]"]
# ///
"""Learn topics of images and a prior that draws images of them, on the codes of any image tokenizer.

    python scripts/train_topic_vq_image.py --config scripts/configs/topic-vq-image-cifar10.yaml
    python scripts/train_topic_vq_image.py --tokenizer runs/mine/best --dataset my_images/ --num_topics 20 \
        --max_steps 5000 --output_dir runs/topics
    accelerate launch --num_processes 4 scripts/train_topic_vq_image.py \
        --config scripts/configs/topic-vq-image-celeba-64.yaml

`--tokenizer` is a checkpoint of GMVQModel or of diffusers' VQModel. The codes of all images are made once and kept;
`--resume_from_checkpoint latest` goes on where encoding or training stopped. `--variant published` is the paper's form.
In the end `<output_dir>/pipeline` holds tokenizer and prior as one repository, for
`TopicVQImagePipeline.from_pretrained`, and `<output_dir>/best.json` the figures of the best model on the test split. A
minute on a CPU: the second line with `--max_train_samples 2000 --hidden_size 64 --num_hidden_layers 2
--num_attention_heads 2 --max_steps 200`. `--help` lists every option.
"""

import dataclasses
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator, PartialState
from accelerate.utils import set_seed

from hf_vq import TopicVQForImageGeneration, TopicVQImageConfig
from hf_vq.evaluation import format_figures, record_path, write_record
from hf_vq.image_source import ImageSource
from hf_vq.topic_images.codes import CodeGrids, encode_images
from hf_vq.topic_images.image_tokenizers import ImageTokenizer
from hf_vq.topic_images.loading import load_image_tokenizer
from hf_vq.topic_images.pipeline import TopicVQImagePipeline
from hf_vq.topic_images.scoring import IMAGE_TOPIC_DEFINITIONS, score_topic_images
from hf_vq.training import TrainingConfig, evaluate_means, parse_config, train
from hf_vq.training_config import model_options, option
from hf_vq.training_state import checkpoint_to_resume

SHOWN = (
    "bits_per_code",
    "bits_per_code_shuffled",
    "bits_per_code_unconditional",
    "bits_per_code_bound",
    "active_topics",
    "topic_class_nmi",
    "topic_class_purity",
    "controllability",
)


@dataclass(kw_only=True)
class DataConfig(ImageSource):
    """What makes codes of the images, and which of them to learn from and to score on."""

    tokenizer: str = field(
        metadata={"help": "Folder or Hub id of a GMVQModel, or of a VQModel of diffusers."}
    )
    tokenizer_subfolder: str | None = option(None, "Folder of the tokenizer in its repository.")
    tokenizer_revision: str = option("main", "Commit, branch or tag of a Hub tokenizer.")
    image_size: int | None = option(None, "Side of the images; unset: that of the tokenizer.")
    label_column: str | None = option(None, "Column of their classes, which training never sees.")
    train_split: str = option("train", "Images to learn from, for example train[:-5000].")
    eval_split: str | None = option(None, "Held-out images that decide which model is best.")
    test_split: str | None = option("test", "Images for the final figures; none for no figures.")
    max_train_samples: int | None = option(None, "Learn from no more than so many images.")
    max_eval_samples: int | None = option(None, "Evaluate and test on no more than so many images.")
    cache_dir: str | None = option(
        None, "Where codes are kept; unset: in output_dir. Runs can share them."
    )
    encode_batch_size: int = option(256, "Images encoded at a time.")
    samples_per_topic: int = option(16, "Images drawn for each topic to test; 0 for none.")


# Topics start as clusters of so many images, which takes seconds.
STARTING_IMAGES = 10_000
# What the tokenizer or a user's later wishes decide.
NOT_OPTIONS = {
    "codebook_size",
    "codebook_dim",
    "grid_size",
    "tokenizer_fingerprint",
    "topic_labels",
}


ModelConfig = model_options(TopicVQImageConfig, without=NOT_OPTIONS)


def load_codes(
    data: DataConfig,
    training: TrainingConfig,
    tokenizer: ImageTokenizer,
    processor: Any,
) -> dict[str, CodeGrids]:
    """Return the codes of the splits that are asked for, under the names train, eval and test."""
    cache_dir = data.cache_dir or str(Path(training.output_dir) / "codes")
    # All are opened first, so that a misspelled split does not show after hours.
    opened = {
        name: data.load(split, max_samples)
        for name, split, max_samples in (
            ("train", data.train_split, data.max_train_samples),
            ("eval", data.eval_split, data.max_eval_samples),
            ("test", data.test_split, data.max_eval_samples),
        )
        if split is not None
    }
    return {
        name: encode_images(
            images,
            tokenizer,
            processor,
            cache_dir,
            label_column=data.label_column,
            batch_size=data.encode_batch_size,
            num_workers=training.dataloader_num_workers,
            progress=training.progress_bar,
        )
        for name, images in opened.items()
    }


def build_model(
    options: dict[str, Any], tokenizer: ImageTokenizer, codes: CodeGrids, num_steps: int, seed: int
) -> TopicVQForImageGeneration:
    """Return a new model for the tokenizer that has seen what starts topics and their background."""
    config = TopicVQImageConfig(
        **options,
        codebook_size=tokenizer.codebook_size,
        codebook_dim=tokenizer.codebook_dim,
        grid_size=list(codes.grid_size),
        tokenizer_fingerprint=tokenizer.fingerprint,
    )
    set_seed(seed)  # of the initial weights
    model = TopicVQForImageGeneration(config)
    model.set_codebook(tokenizer.codebook)
    model.set_background(torch.from_numpy(codes.counts()))
    model.initialize_topics(
        codes.sample(STARTING_IMAGES, seed), torch.Generator().manual_seed(seed)
    )
    model.begin_training(num_steps)
    return model


def main(argv: Sequence[str] | None = None) -> dict[str, Any]:
    """Train, save the pipeline, score the best model on the test split; returns what `train` does."""
    training, data, model_config = parse_config(TrainingConfig, DataConfig, ModelConfig, argv=argv)
    state = PartialState(cpu=training.cpu)
    tokenizer, processor = load_image_tokenizer(
        data.tokenizer,
        subfolder=data.tokenizer_subfolder,
        image_size=data.image_size,
        revision=data.tokenizer_revision,
    )
    tokenizer.model.to(state.device)
    checkpoint_to_resume(training)  # refuses a taken folder before all images are encoded
    # What one process makes, the others only read.
    with state.main_process_first():
        codes = load_codes(data, training, tokenizer, processor)
    model = build_model(
        dataclasses.asdict(model_config),
        tokenizer,
        codes["train"],
        training.count_steps(len(codes["train"])),
        training.seed,
    )
    results = train(
        model, codes["train"], training, eval_dataset=codes.get("eval"), evaluate=evaluate_means
    )
    accelerator = Accelerator(cpu=training.cpu)
    if accelerator.is_main_process:
        checkpoint = Path(results["best_model"] or results["final_model"])
        model = TopicVQForImageGeneration.from_pretrained(checkpoint, use_safetensors=True).eval()
        pipe = TopicVQImagePipeline(tokenizer.model, model)
        pipe.save_pretrained(Path(training.output_dir) / "pipeline")
        if "test" in codes:
            metrics = score_topic_images(
                model.to(accelerator.device),
                codes["test"],
                train_grids=codes["train"],
                samples_per_topic=data.samples_per_topic,
                batch_size=training.per_device_eval_batch_size,
                seed=training.seed,
            )
            scored = data.describe(data.test_split, codes["test"].revision, data.max_eval_samples)
            scored |= {
                "tokenizer": data.tokenizer,
                "tokenizer_fingerprint": codes["test"].fingerprint,
            }
            report(checkpoint, metrics, scored, training.seed)
    accelerator.end_training()
    return results


def report(checkpoint: Path, metrics: dict[str, float], scored: dict[str, Any], seed: int) -> None:
    """Write a record beside the checkpoint and print what matters most."""
    path = record_path(checkpoint)
    name = f"{checkpoint.parent.name}/{checkpoint.name}"
    definitions = IMAGE_TOPIC_DEFINITIONS
    write_record(path, name, metrics, data=scored, seeds=[seed], definitions=definitions)
    print(format_figures(metrics, path, SHOWN))


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    main()
