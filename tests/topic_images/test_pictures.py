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

from html.parser import HTMLParser
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from hf_vq.code_pictures import GAP
from hf_vq.topic_images import pictures
from hf_vq.topic_images.pictures import picture_topics, save_pictures

COLORS = ("red", "lime", "blue")


class Pipe:
    """Draws plain images: for a topic in its color, for a mixture in that of its largest topic."""

    prior = SimpleNamespace(config=SimpleNamespace(topic_labels=None))

    def infer_topics(self, images):
        pixels = np.stack([np.asarray(image.convert("RGB"))[0, 0] for image in images])
        return torch.from_numpy(pixels / 255).softmax(dim=1)

    def __call__(
        self, topics=None, topic_proportions=None, num_images_per_prompt=1, generator=None
    ):
        if topics is None:
            topics = np.asarray(topic_proportions).argmax(axis=1).tolist()
        images = [Image.new("RGB", (8, 12), COLORS[topic]) for topic in topics]
        return SimpleNamespace(
            images=[image for image in images for _ in range(num_images_per_prompt)]
        )


@pytest.fixture
def shown():
    images = [Image.new("RGB", (8, 12), COLORS[row % 3]) for row in range(9)]
    labels = ["warm", "cold", "cold"] * 3
    return picture_topics(Pipe(), images, labels, images_per_topic=3, num_references=4)


def color(image):
    return image.convert("RGB").getpixel((0, 0))


RGB = [(255, 0, 0), (0, 255, 0), (0, 0, 255)]


def test_topics_get_their_samples_and_nearest_images(shown):
    for rows in (shown.samples, shown.nearest):
        assert [[color(image) for image in row] for row in rows] == [[c] * 3 for c in RGB]
    assert len(shown.references) == 4
    for reference, row in zip(shown.references, shown.like_references, strict=True):
        assert [color(image) for image in row] == [color(reference)] * 3
    assert shown.names == ["topic 0", "topic 1", "topic 2"]
    assert shown.class_names == ["cold", "warm"]


def test_shares_of_classes():
    proportions = np.array([[1.0, 0.0], [0.5, 0.5], [0.0, 1.0], [0.5, 0.5]])
    shares = pictures.class_shares(proportions, ["a", "a", "b", "b"], ["a", "b"])
    np.testing.assert_allclose(shares, [[0.75, 0.25], [0.25, 0.75]])
    # A topic that nobody has has no classes, and no error.
    nothing = pictures.class_shares(np.zeros((2, 1)), ["a", "b"], ["a", "b"])
    np.testing.assert_array_equal(nothing, [[0, 0]])


def test_nearest_images_begin_with_the_nearest():
    proportions = np.array([[0.1, 0.9], [0.6, 0.4], [0.3, 0.7]])
    assert pictures.nearest_images(proportions, 2).tolist() == [[1, 2], [0, 2]]


def test_a_sheet_places_every_image(shown):
    sheet = pictures.image_sheet(shown.samples, shown.names)
    width, height = 4 * 8, 4 * 12  # enlarged as often as fits
    margin = sheet.width - 3 * (width + GAP) + GAP  # as wide as the names are
    assert 30 < margin < 60
    assert sheet.height == 3 * (height + GAP) - GAP
    for row in range(3):
        for column in range(3):
            place = (margin + column * (width + GAP) + 1, row * (height + GAP) + 1)
            assert sheet.getpixel(place) == RGB[row]
    # Names are written in black on white, before their rows.
    written = np.asarray(sheet)[:, :margin].min(axis=2)
    for row in range(3):
        assert written[row * (height + GAP) :][:height].min() < 100
    large = pictures.image_sheet(shown.samples, shown.names, tile=96)
    assert large.height == 3 * (2 * height + GAP) - GAP
    assert large.width > sheet.width + 3 * width
    assert pictures.image_sheet(shown.samples, tile=96).width == 3 * (2 * width + GAP) - GAP


class Page(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.tags, self.text = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text.append(data)


def test_the_page_holds_everything(shown):
    shown.class_names[0] = "<cold>"
    text = pictures.topics_page(shown, "Of <mine>")
    page = Page(text)
    sources = [attributes["src"] for tag, attributes in page.tags if tag == "img"]
    assert len(sources) == 3
    assert all(source.startswith("data:image/png;base64,") for source in sources)
    assert not {"script", "link"} & {tag for tag, _ in page.tags}
    assert {"Of <mine>", "<cold>"} <= set(page.text)
    cells = [each for each in page.text if each.endswith("%")]
    expected = [f"{share:.0%}" for share in shown.class_shares.ravel()]
    assert cells == expected


def test_files(shown, tmp_path):
    pytest.importorskip("matplotlib", reason="needs the extra `plots`")
    paths = save_pictures(shown, tmp_path / "pictures")
    names = ["samples.png", "nearest.png", "references.png", "classes.png", "index.html"]
    assert [path.name for path in paths] == names
    for path in paths[:-1]:
        with Image.open(path) as image:
            image.verify()
    (cells,) = [axes for axes in pictures.plot_class_shares(shown).axes if axes.images]
    np.testing.assert_allclose(cells.images[0].get_array(), shown.class_shares)


def test_without_classes_and_references():
    images = [Image.new("L", (8, 12))] * 3
    shown = picture_topics(Pipe(), images, images_per_topic=2, num_references=0)
    assert set(pictures.sheets(shown)) == {"samples", "nearest"}
    assert "<table" not in pictures.topics_page(shown)
    for function in (pictures.class_table, pictures.plot_class_shares):
        with pytest.raises(ValueError, match="give labels"):
            function(shown)


def test_mistakes_are_named():
    with pytest.raises(ValueError, match="there are 1 images"):
        picture_topics(Pipe(), [Image.new("RGB", (8, 12))])
    with pytest.raises(ValueError, match="no images"):
        pictures.image_sheet([])
