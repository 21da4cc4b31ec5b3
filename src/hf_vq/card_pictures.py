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
"""Pictures for a card, drawn by the trained model itself: what it does, at a glance.

No picture shows training data, which may not be ours to spread: image models are given photographs that come with
scikit-learn, topics of documents show their words, topics of images what they draw.
"""

import io
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from ._extras import require
from .code_neighbors import traverse
from .code_pictures import color_codes, draw
from .evaluation import weight_checksums
from .publishing import KINDS, find_checkpoint, find_model_type, pictures_folder
from .text_codec import TextCodec
from .topic_images.pictures import image_sheet

require("matplotlib", extra="plots")
require("sklearn", extra="topics")

# ruff: noqa: E402  the imports below need the extras
from sklearn.datasets import load_sample_images

from .latent_plots import plot_traversals
from .topics.operations import Topics
from .topics.plots import plot_hierarchy, plot_topics
from .topics.reading import read_topics

# A text for T5VQVAE, and where codes are tried: a position, or a word that has one code.
Traversal = tuple[str, int | str]
# What distinguishes the name of a picture from the others of its card, and the picture.
Pictures = Iterator[tuple[str, Image.Image]]

COLORS = 256  # of a picture: a third of the bytes of all, and hardly a difference to the eye
NUM_CODES = 8  # that are tried in one place of a text
NUM_TOPICS = 12  # of documents, in one picture
SAMPLES_PER_TOPIC = 8  # of images
DOTS_PER_INCH = 110
BETWEEN_COLUMNS = 24  # pixels


def draw_pictures(run: str | Path, traversals: Sequence[Traversal] = ()) -> list[Path]:
    """Draws the pictures of a run's model into `<run>/pictures`, from where `prepare_run` takes them.

    They are named after the run. Each names the weights that drew it: their SHA-256 is the text `weights` of the PNG.

    Args:
        run: Folder of a run, of which the best model is taken and else the final one; or of one of the two.
        traversals: What T5VQVAE shows: texts, and the place of each where codes are exchanged. Other models need none.

    Returns:
        The pictures; others in the folder stay as they are.

    Raises:
        ValueError: If the run has no model, or one of another kind.
    """
    checkpoint = find_checkpoint(run)
    model_type = find_model_type(checkpoint)
    drawn = list(DRAWERS[model_type](KINDS[model_type].load(checkpoint), traversals))
    folder = pictures_folder(checkpoint)
    folder.mkdir(exist_ok=True)
    notes = PngInfo()
    notes.add_text("weights", " ".join(weight_checksums(checkpoint).values()))
    paths = []
    for ending, picture in drawn:
        paths.append(folder / f"{folder.parent.resolve().name}{ending}.png")
        picture.convert("RGB").quantize(COLORS).save(paths[-1], optimize=True, pnginfo=notes)
    return paths


def _draw_codes(parts: tuple[Any, ...], traversals: Sequence[Traversal]) -> Pictures:
    """Images of the size that training had, and whole photographs: they, their codes, and what codes keep of them."""
    model, processor = parts
    photographs = [Image.fromarray(pixels) for pixels in load_sample_images().images]
    squares = [square for photograph in photographs for square in _squares(photograph)]
    side = model.config.image_size
    rows = _through_codes(model, processor, squares, side, side)
    yield "", image_sheet(rows, ["image", "codes", "from codes"], tile=96)
    columns = _through_codes(model, processor, photographs, 6 * side, 9 * side)
    yield "-photographs", draw(list(zip(*columns, strict=True)), columns[0][0].size)


def _squares(photograph: Image.Image) -> Iterator[Image.Image]:
    """The middle in full height, and three squares of three quarters of it, side by side."""
    width, height = photograph.size
    side = 3 * height // 4
    yield photograph.crop(((width - height) // 2, 0, (width + height) // 2, height))
    for left in (0, (width - side) // 2, width - side):
        top = (height - side) // 2
        yield photograph.crop((left, top, left + side, top + side))


def _through_codes(
    model: Any, processor: Any, images: list[Image.Image], height: int, width: int
) -> list[list[Image.Image]]:
    pixel_values = processor(
        images, size={"height": height, "width": width}, return_tensors="pt"
    ).pixel_values
    with torch.no_grad():
        codes = model.encode(pixel_values).codes
        reconstruction = model.decode(codes=codes).reconstruction
    colors = color_codes(model.quantizer.codebook)
    grids = [Image.fromarray(colors[grid]) for grid in codes.numpy()]
    return [processor.post_process(pixel_values), grids, processor.post_process(reconstruction)]


def _draw_traversals(parts: tuple[Any, ...], traversals: Sequence[Traversal]) -> Pictures:
    """Texts with one code exchanged."""
    if traversals:
        codec = TextCodec(*parts)
        texts, places = zip(*traversals, strict=True)
        table = traverse(codec, list(texts), list(places), NUM_CODES, reference="code")
        yield "", _image(plot_traversals(codec, table))


def _draw_topics(parts: tuple[Any, ...], traversals: Sequence[Traversal]) -> Pictures:
    """Words of some topics, as many between one and the next; and how all of them are related, if they are several."""
    model, processor = parts
    topics: Topics = read_topics(model, processor.vocabulary)
    shown = min(NUM_TOPICS, len(topics))
    chosen = np.linspace(0, len(topics) - 1, shown).round().astype(int).tolist()
    yield "", _image(plot_topics(topics, chosen))
    if len(topics) > 1:
        yield "-hierarchy", _image(plot_hierarchy(topics))


def _draw_samples(parts: tuple[Any, ...], traversals: Sequence[Traversal]) -> Pictures:
    """Images that were drawn for each topic, in two columns, with guidance: topics show best then."""
    _, pipe = parts
    pipe.set_progress_bar_config(disable=True)
    num_topics = pipe.prior.config.num_topics
    images = pipe(
        topics=range(num_topics),
        num_images_per_prompt=SAMPLES_PER_TOPIC,
        guidance_scale=2.0,
        generator=0,
    ).images
    starts = range(0, len(images), SAMPLES_PER_TOPIC)
    rows = [images[start : start + SAMPLES_PER_TOPIC] for start in starts]
    names = [f"topic {topic}" for topic in range(num_topics)]
    half = (num_topics + 1) // 2
    sheets = [image_sheet(rows[:half], names[:half], tile=64)]
    if num_topics > 1:
        sheets.append(image_sheet(rows[half:], names[half:], tile=64))
    width = sum(sheet.width for sheet in sheets) + BETWEEN_COLUMNS
    picture = Image.new("RGB", (width, sheets[0].height), "white")
    picture.paste(sheets[0], (0, 0))
    picture.paste(sheets[-1], (width - sheets[-1].width, 0))
    yield "", picture


DRAWERS: dict[str, Callable[[tuple[Any, ...], Sequence[Traversal]], Pictures]] = {
    "gmvq": _draw_codes,
    "t5_vqvae": _draw_traversals,
    "topic_vq": _draw_topics,
    "topic_vq_image": _draw_samples,
}


def _image(figure: Any) -> Image.Image:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DOTS_PER_INCH)
    return Image.open(buffer)


__all__ = ["draw_pictures"]
