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
"""The demo of TopicVQ for images: topics of handwritten digits, on the codes of the demo's own GM-VQ."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import set_seed
from demo_sections.page import DemoConfig, Section, image_tag, provenance, table

from hf_vq import GMVQImageProcessor, TopicVQForImageGeneration, TopicVQImageConfig
from hf_vq.data import load_digits_images
from hf_vq.evaluation import write_record
from hf_vq.topic_images.codes import CodeGrids, encode_images
from hf_vq.topic_images.image_tokenizers import ImageTokenizer
from hf_vq.topic_images.loading import load_image_tokenizer
from hf_vq.topic_images.pictures import TITLES, class_table, picture_topics, sheets
from hf_vq.topic_images.pipeline import TopicVQImagePipeline
from hf_vq.topic_images.scoring import IMAGE_TOPIC_DEFINITIONS, score_topic_images
from hf_vq.training import TrainingConfig, train

NUM_TOPICS = 10
FIGURES = {
    "bits_per_code": ("bits per code, given the image's own topics", ".3f"),
    "bits_per_code_shuffled": ("given the topics of another image", ".3f"),
    "bits_per_code_unconditional": ("given no topics", ".3f"),
    "bits_per_code_bound": ("given its topics, with the bits of the topics", ".3f"),
    "bits_per_code_unigram": ("by shares of codes alone", ".3f"),
    "topic_class_nmi": ("normalized mutual information of largest topics and digits", ".3f"),
    "kmeans_nmi": ("the same of k-means clusters of topic proportions", ".3f"),
    "histogram_nmi": ("the same of k-means clusters of code histograms, without topics", ".3f"),
    "controllability": ("samples of a topic whose largest inferred topic it is", ".1%"),
}


def topic_vq_image_section(config: DemoConfig) -> Section:
    """Learn topics on the codes of digits, draw digits by topic, reload the pipeline."""
    folder = Path(config.output_dir) / "topic-vq-image-demo"  # a name that no real run bears
    shutil.rmtree(folder, ignore_errors=True)
    digits = load_digits_images()
    tokenizer, processor = load_image_tokenizer(Path(config.output_dir) / "gmvq-demo" / "final")
    train_codes, test_codes = (
        encode_digits(digits[split], tokenizer, processor) for split in ("train", "test")
    )
    model, results = fit(config, folder, tokenizer, train_codes)
    pipe = TopicVQImagePipeline(tokenizer.model, model)
    pipe.set_progress_bar_config(disable=True)
    pipe.save_pretrained(folder / "pipeline")
    check_reload(pipe, folder / "pipeline")

    metrics = score_topic_images(model, test_codes, train_grids=train_codes, seed=config.seed)
    record = write_record(
        folder / "final.json",
        f"{folder.name}/final",
        metrics,
        data={
            "name": "sklearn.datasets.load_digits",
            "split": "test",
            "revision": test_codes.revision,
        },
        seeds=[config.seed],
        definitions=IMAGE_TOPIC_DEFINITIONS,
    )
    print_summary(metrics, results)
    shown = picture_topics(
        pipe, list(digits["test"]["image"]), test_codes.label_names(), seed=config.seed
    )
    content = [
        describe_run(model, results, metrics, len(train_codes)),
        table(
            ["of unseen digits", ""],
            ([meaning, format(metrics[k], spec)] for k, (meaning, spec) in FIGURES.items()),
        ),
    ]
    for name, sheet in sheets(shown).items():
        content += [f"<h3>{TITLES[name]}</h3>", image_tag(sheet, TITLES[name])]
    content += [
        "<h3>Digits of each topic</h3>",
        f'<div class="card scroll">{class_table(shown)}</div>',
        "<h3>Where this comes from</h3>",
        provenance(record),
    ]
    return Section("TopicVQ on images of handwritten digits", "\n".join(content))


def encode_digits(
    images: Any, tokenizer: ImageTokenizer, processor: GMVQImageProcessor
) -> CodeGrids:
    """Return the codes of images, with the digits that they are."""
    return encode_images(images, tokenizer, processor, label_column="label", progress=False)


def fit(
    config: DemoConfig, folder: Path, tokenizer: ImageTokenizer, codes: CodeGrids
) -> tuple[TopicVQForImageGeneration, dict[str, Any]]:
    """Return the trained model and what `train` returns."""
    set_seed(config.seed)  # of the initial weights
    model = TopicVQForImageGeneration(
        TopicVQImageConfig(
            num_topics=NUM_TOPICS,
            codebook_size=tokenizer.codebook_size,
            codebook_dim=tokenizer.codebook_dim,
            grid_size=list(codes.grid_size),
            hidden_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            # Four codes tell less than topics cost at full weight: the decoder would do without them.
            kl_loss_weight=0.3,
            tokenizer_fingerprint=tokenizer.fingerprint,
        )
    )
    model.set_codebook(tokenizer.codebook)
    model.set_background(torch.from_numpy(codes.counts()))
    model.initialize_topics(codes.tensor(), torch.Generator().manual_seed(config.seed))
    model.begin_training(config.image_topic_max_steps)
    training = TrainingConfig(
        output_dir=str(folder),
        max_steps=config.image_topic_max_steps,
        per_device_train_batch_size=128,
        learning_rate=2e-3,
        warmup_steps=config.image_topic_max_steps // 20,
        weight_decay=0.05,
        checkpointing_steps=None,
        seed=config.seed,
        cpu=True,
        progress_bar=config.progress_bar,
    )
    results = train(model, codes, training)
    return model.eval(), results


def check_reload(pipe: TopicVQImagePipeline, folder: Path) -> None:
    """End the program with an error unless the saved pipeline draws what the one in memory draws."""
    reloaded = TopicVQImagePipeline.from_pretrained(folder)
    reloaded.set_progress_bar_config(disable=True)
    options = {"topics": range(NUM_TOPICS), "generator": 0, "output_type": "pt"}
    if not torch.equal(pipe(**options).images, reloaded(**options).images):
        raise SystemExit(
            f"{folder}: the images of the reloaded pipeline differ from those of the saved one"
        )


def print_summary(metrics: Mapping[str, float], results: Mapping[str, Any]) -> None:
    """Print the figures."""
    print(
        f"\ntrained for {results['train_seconds']:.0f} s; of {metrics['num_images']} unseen digits:"
    )
    for name, (meaning, spec) in FIGURES.items():
        print(f"{metrics[name]:>8{spec}}  {meaning}")
    print("saved, reloaded: the same images, to the bit")


def describe_run(
    model: TopicVQForImageGeneration,
    results: Mapping[str, Any],
    metrics: Mapping[str, float],
    num_images: int,
) -> str:
    """Return a paragraph that says what was done."""
    return (
        f"<p>{model.config.num_topics} topics and a decoder that draws images of them, "
        f"{results['num_parameters']:,} parameters, were trained on the codes of {num_images:,} digits in "
        f"{results['train_seconds']:.0f} seconds. Training never saw which digit an image is. The table is about "
        f"{metrics['num_images']} digits that it has not seen either. An image's own topics were inferred from the "
        "codes that they then help to write, so that the first line alone is no likelihood; the fourth counts the "
        "bits of the topics too. Saved and loaded again as a pipeline of diffusers, it draws the same images, to the "
        "bit.</p>"
    )
