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
"""Pictures of cards: drawn by the model of a run, carried by publishing, missed when a card shows what is not there."""

import hashlib

import pytest
from PIL import Image, ImageStat

pytest.importorskip("matplotlib", reason="the pictures need the extra plots")

from transformers import AutoModel, AutoModelForSeq2SeqLM, BertConfig

from from_file import load_script
from hf_vq.card_pictures import draw_pictures
from hf_vq.evaluation import write_record
from hf_vq.hub_checks import check_folder, published_files
from hf_vq.models import GMVQImageProcessor, TopicVQProcessor
from hf_vq.publishing import prepare_run
from hf_vq.text_tokenizer import train_tokenizer
from hf_vq.topic_images.image_tokenizers import image_tokenizer
from hf_vq.topic_images.pipeline import TopicVQImagePipeline

TEXT = "a cat is an animal"
VOCABULARY = [f"word{number}" for number in range(23)]


def read_picture(path):
    with Image.open(path) as picture:
        picture.load()
    return picture


@pytest.fixture
def make_run(tiny_config, tmp_path):
    """Return `make_run("gmvq")`: the folder of a finished run of this model type."""

    def make(model_type, **options):
        run = tmp_path / model_type.replace("_", "-")
        folder = run / "best"
        if model_type == "gmvq":
            AutoModel.from_config(tiny_config("gmvq")).save_pretrained(folder)
            GMVQImageProcessor(size=8).save_pretrained(folder)
        elif model_type == "t5_vqvae":
            tokenizer = train_tokenizer([TEXT], 120)
            config = tiny_config(model_type, vocab_size=len(tokenizer))
            AutoModelForSeq2SeqLM.from_config(config).save_pretrained(folder)
            tokenizer.save_pretrained(folder)
        elif model_type == "topic_vq":
            config = tiny_config(model_type, topic_word_ranking="score", **options)
            AutoModel.from_config(config).save_pretrained(folder)
            TopicVQProcessor(vocabulary=VOCABULARY).save_pretrained(folder)
        else:
            tokenizer = image_tokenizer(AutoModel.from_config(tiny_config("gmvq")).eval())
            config = tiny_config(model_type, tokenizer_fingerprint=tokenizer.fingerprint)
            prior = AutoModel.from_config(config).eval()
            prior.set_codebook(tokenizer.codebook)
            prior.save_pretrained(folder)
            TopicVQImagePipeline(tokenizer.model, prior).save_pretrained(run / "pipeline")
        data = {"name": "some data", "split": "test", "revision": "sha256:0"}
        write_record(run / "best.json", "run/best", {"mse": 0.25}, data=data, seeds=[0])
        return run

    return make


DRAWN = {
    "gmvq": ["gmvq.png", "gmvq-photographs.png"],
    "t5_vqvae": ["t5-vqvae.png"],
    "topic_vq": ["topic-vq.png", "topic-vq-hierarchy.png"],
    "topic_vq_image": ["topic-vq-image.png"],
}


@pytest.mark.parametrize("model_type", DRAWN)
def test_a_model_draws_what_it_does(make_run, model_type):
    run = make_run(model_type)
    paths = draw_pictures(run, [(TEXT, 1)])
    assert [path.name for path in paths] == DRAWN[model_type]
    assert sorted((run / "pictures").iterdir()) == sorted(paths)
    digest = hashlib.sha256((run / "best" / "model.safetensors").read_bytes()).hexdigest()
    for path in paths:
        picture = read_picture(path)
        assert picture.format == "PNG"
        assert picture.text["weights"] == digest
        assert min(picture.size) > 60
        assert max(ImageStat.Stat(picture.convert("L")).stddev) > 5  # not all of one color
    again = {path: path.read_bytes() for path in paths}
    assert {path: path.read_bytes() for path in draw_pictures(run, [(TEXT, 1)])} == again


def test_images_stand_above_their_codes(make_run):
    """The sheet holds eight crops, as many grids of codes, and as many reconstructions."""
    path, photographs = draw_pictures(make_run("gmvq"))
    sheet, whole = (read_picture(each).convert("RGB") for each in (path, photographs))
    tile = (sheet.height - 2 * 4) // 3
    assert tile == 96
    left = sheet.width - 8 * tile - 7 * 4
    codes = sheet.crop((left, tile + 4, left + tile, 2 * tile + 4))
    # 2 x 2 codes: a color each.
    for x, y in ((0, 0), (tile // 2, 0), (0, tile // 2), (tile // 2, tile // 2)):
        part = codes.crop((x, y, x + tile // 2, y + tile // 2))
        assert part.getcolors() is not None
        assert len(part.getcolors()) == 1
    assert whole.size == (3 * 72 + 2 * 4, 2 * 48 + 4)


def test_what_cannot_be_drawn_has_a_name(tmp_path):
    BertConfig().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"is of type 'bert', expected one of 'gmvq'"):
        draw_pictures(tmp_path)
    with pytest.raises(ValueError, match="absent holds no finished model"):
        draw_pictures(tmp_path / "absent")


def test_one_topic_is_related_to_none(make_run):
    (path,) = draw_pictures(make_run("topic_vq", num_topics=1))
    assert path.name == "topic-vq.png"


def test_texts_need_to_be_told_what_to_show(make_run):
    assert draw_pictures(make_run("t5_vqvae")) == []


def test_pictures_go_along_with_a_card(make_run, capsys):
    run = make_run("gmvq")
    plain = prepare_run(run, "me/model", license="mit")
    assert "![" not in (plain / "README.md").read_text()
    assert check_folder(plain, "me/model") == []
    drawn = draw_pictures(run)
    folder = prepare_run(run, "me/model", license="mit")
    assert check_folder(folder, "me/model") == []
    card = (folder / "README.md").read_text()
    for path in drawn:
        assert path.name in published_files(folder)
        assert (folder / path.name).read_bytes() == path.read_bytes()
        assert f"]({path.name})" in card
    publish = load_script("publish")
    assert publish.main([str(run), "me/model", "--license", "mit", "--dry-run"]) == folder
    listed = capsys.readouterr().out
    for path in drawn:
        assert f"{path.stat().st_size:>12,}  {path.name}\n" in listed
    drawn[0].rename(drawn[0].with_name("my picture (1).png"))
    with pytest.raises(ValueError, match=r"my picture \(1\).png: a card cannot link to this name"):
        prepare_run(run, "me/model", license="mit")


SHOWN = {
    "![a](gmvq.png)": None,
    '![a](./gmvq.png "title")': None,
    '<img width="3" src="gmvq.png">': None,
    "![a](https://example.org/a.png)": None,
    "`![a](absent.png)`": None,
    "```\n![a](absent.png)\n```": None,
    "![a](absent.png)": "absent.png",
    "![a](<absent.png>)": "absent.png",
    "![a](../gmvq.png)": "../gmvq.png",
    "![a](pictures/gmvq.png)": "pictures/gmvq.png",
    "<IMG src='absent.png?raw=true'/>": "absent.png?raw=true",
}


@pytest.mark.parametrize("words", SHOWN)
def test_a_card_shows_only_what_is_there(make_run, words):
    run = make_run("gmvq")
    (run / "pictures").mkdir()
    Image.new("RGB", (8, 8)).save(run / "pictures" / "gmvq.png")
    folder = prepare_run(run, "me/model", license="mit")
    card = (folder / "README.md").read_text().replace("## Limits\n", f"## Limits\n\n{words}\n")
    (folder / "README.md").write_text(card)
    missing = SHOWN[words]
    expected = [f"the card shows the picture {missing}, which is not in the folder"]
    assert check_folder(folder, "me/model") == (expected if missing else [])
