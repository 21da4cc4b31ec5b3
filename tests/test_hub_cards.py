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
"""Cards: text from users stays text, figures are those of the record, and what is missing has a name."""

import copy
import json

import pytest
import yaml
from huggingface_hub import ModelCard

from hf_vq import hub
from hf_vq.cards import TEMPLATE, check_card, describe_model, eval_result_entries, render_card

RECORD = {
    "checkpoint": "run/best",
    "metrics": {"mse": 0.00312345, "psnr": 25.123456, "accuracy": None, "num_images": 100},
    "definitions": {
        "mse": "mean squared error",
        "psnr": "PSNR | in dB",
        "accuracy": "share",
        "num_images": "number of images",
    },
    "data": {"name": "uoft-cs/cifar10", "split": "test", "revision": "0" * 40},
    "seeds": [0],
    "hardware": {"cpu": "a CPU", "gpus": []},
    "versions": {"torch": "2.13", "transformers": "5.23"},
    "commit": "abc",
    "dirty": False,
    "date": "2026-01-02T03:04:05+00:00",
    "command": "python scripts/evaluate.py --checkpoint x",
}
CONFIG = {"model_type": "gmvq", "image_size": 32, "codebook_size": 16}


def general_card(record=RECORD, license="mit", **fields):
    metadata = describe_model(
        record,
        model_name="model",
        model_type="gmvq",
        license=license,
        library_name="transformers",
        task="image-reconstruction",
        pipeline_tag="image-to-image",
        tags=[],
    )
    defaults = {
        "repo_id": "me/model",
        "model_name": "model",
        "recipe": "seed: 0",
        "training": [],
        "pictures": [],
        "config": CONFIG,
        "metadata": metadata,
    }
    return render_card(TEMPLATE, record, **(defaults | fields))


def changed(**fields):
    record = copy.deepcopy(RECORD)
    for path, value in fields.items():
        first, _, last = path.partition("__")
        if last:
            record[first][last] = value
        else:
            record[first] = value
    return record


def test_render_card(tmp_path):
    template = tmp_path / "card.md"
    template.write_text("MSE {{ '%.2f' % (1000 * metrics.mse) }}e-3 of {{ repo_id }}\n")
    record = {"metrics": {"mse": 0.00313}}
    assert hub.render_card(template, record, repo_id="me/a") == "MSE 3.13e-3 of me/a\n"
    (tmp_path / "record.json").write_text(json.dumps(record))
    assert hub.render_card(template, tmp_path / "record.json", repo_id="me/a").startswith("MSE 3")
    with pytest.raises(ValueError, match=r"card.md.*repo_id"):
        hub.render_card(template, record)
    with pytest.raises(ValueError, match=r"card.md.*mse"):
        hub.render_card(template, {"metrics": {}}, repo_id="me/a")
    with pytest.raises(ValueError, match=r"cannot fill .*absent.md: .*No such file"):
        hub.render_card(tmp_path / "absent.md", record)


def test_the_general_card_passes_its_test():
    text = general_card()
    assert check_card(text, RECORD, "me/model") == []
    data = ModelCard(text).data
    assert (data.license, data.datasets, data.library_name) == (
        "mit",
        ["uoft-cs/cifar10"],
        "transformers",
    )
    results = {result.metric_type: result.metric_value for result in data.eval_results}
    assert results == {"mse": 0.00312345, "psnr": 25.123456}
    assert "| mse | 0.003123 | mean squared error |" in text
    # A local folder is no data set of the Hub, nor is a word.
    for name in (".data/cifar10", "generated", "my_images/"):
        local = changed(data__name=name)
        assert ModelCard(general_card(local)).data.datasets is None
        assert eval_result_entries(general_card(local), local) == []


HOSTILE = (
    "x\n---\nlicense: gpl\n---\n<script>alert(1)</script> | a | ```python\nimport os\n``` ` "
    '[x](http://evil) "q" {{ 1 }} \x1b[31m'
)


def test_text_from_users_stays_text():
    record = changed(
        data__name=HOSTILE,
        data__split=HOSTILE,
        data__revision=HOSTILE,
        definitions__mse=HOSTILE,
        command=HOSTILE,
        hardware__cpu=HOSTILE,
        commit=HOSTILE,
    )
    text, plain = general_card(record, recipe=HOSTILE), general_card()
    data = ModelCard(text).data
    assert data.license == "mit"
    assert {result.dataset_split for result in data.eval_results} == {HOSTILE}
    # Metadata is quoted by YAML; in what follows, no mark of the user's does anything.
    body, plain_body = (each.partition("\n---\n")[2] for each in (text, plain))
    outside = "".join(body.split("```")[::2])
    assert "<script" not in outside
    assert "](http://evil" not in outside
    assert "\x1b" not in text
    assert body.count("```") == plain_body.count("```")
    assert "import os" not in "".join(
        part for part in body.split("```") if part.startswith("python")
    )
    columns = [
        line.replace("\\|", "").count("|") for line in outside.splitlines() if line[:2] == "| "
    ]
    assert set(columns) == {4}


def test_a_template_may_name_values_in_its_metadata(tmp_path):
    template = tmp_path / "card.md"
    template.write_text(
        "---\nlicense: mit\nsplit: {{ split }}\nvalue: {{ value }}\n---\n{{ split }}\n"
    )
    text = render_card(template, {"split": "a: b\nlicense: gpl", "value": 0.25})
    assert ModelCard(text).data.to_dict() == {
        "license": "mit",
        "split": "a: b\nlicense: gpl",
        "value": 0.25,
    }
    assert text.endswith("---\na: b license: gpl\n")


@pytest.mark.parametrize("name", ["my {{weird}} data", "{{{x}}}", "{% if %}", "{{ data.name }}"])
def test_braces_of_a_name_are_no_placeholder(name):
    record = changed(data__name=name, data__split=name)
    text = general_card(record, recipe=name)
    assert check_card(text, record, "me/model") == []
    assert {result.dataset_name for result in ModelCard(text).data.eval_results} == {name}


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("license: mit\n", "", "the card states no license"),
        ("license: mit\n", "license: banana\n", "the Hub knows no licence 'banana', expected"),
        ("pipeline_tag: image-to-image\n", "", "the card states no pipeline_tag"),
        ("value: 0.00312345", "value: 0.00312", "mse is 0.00312 in the card, but 0.00312345"),
        ("| mse | 0.003123 |", "| mse | 0.003124 |", "mse is 0.003124 in the card"),
        ("| mse | 0.003123 |", "| mse | nan |", "mse is nan in the card"),
        ("type: psnr", "type: invented", "invented is in the card, but not in the"),
        ("```python", "```text", "the card has 0 snippets in Python, expected at least 2"),
        ("from transformers import", "from transformers importing", "a snippet of the card is no"),
        ('"me/model"', '"you/model"', "no snippet of the card loads me/model"),
        ("## Limits", "## Praise", "the card has no section 'Limits'"),
        ("No bias", "{{ bias }}", "the card holds a placeholder that was not filled"),
        ("---\n", "---\n[\n", "the metadata of the card cannot be read"),
    ],
)
def test_what_a_card_lacks_has_a_name(old, new, problem):
    text = general_card()
    assert old in text
    problems = check_card(text.replace(old, new), RECORD, "me/model")
    assert any(each.startswith(problem) for each in problems), problems


def test_results_need_their_record():
    assert check_card(general_card(), None) == [
        "the card has results, but there is no evaluation record beside it"
    ]
    without = {"metrics": {"accuracy": None}, "definitions": {"accuracy": "share"}}
    assert check_card(general_card(RECORD | without), RECORD) == [
        "the card has no results (model-index)"
    ]


def test_results_in_the_form_of_the_hub():
    from huggingface_hub import eval_result_entries_to_yaml

    entries = yaml.safe_load(
        yaml.safe_dump(eval_result_entries_to_yaml(eval_result_entries(general_card(), RECORD)))
    )
    assert entries[0] == {
        "dataset": {"id": "uoft-cs/cifar10", "task_id": "mse", "revision": "0" * 40},
        "value": 0.00312345,
        "date": "2026-01-02T03:04:05+00:00",
        "notes": "split test: mean squared error",
    }
    assert [entry["dataset"]["task_id"] for entry in entries] == ["mse", "psnr"]
    # A copy on the machine is what the card says it is, and known by its checksum.
    copy = changed(data__name=".data/cifar10", data__revision="sha256:1")
    (entry, _) = eval_result_entries(general_card(), copy)
    assert (entry.dataset_id, entry.dataset_revision) == ("uoft-cs/cifar10", None)
    assert entry.notes == "split test, data sha256:1: mean squared error"
    with pytest.raises(ValueError, match="the metadata of the card cannot be read"):
        eval_result_entries("---\n[\n---\n", RECORD)
