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
"""The pipeline of topics: many kinds of input, batches, saving, and the encoder that it needs."""

import json

import numpy as np
import pytest
from torch.utils.data import Dataset
from transformers import AutoModel, AutoProcessor, pipeline
from transformers.pipelines import PIPELINE_REGISTRY

from hf_vq.models.processing_topic_vq import TopicVQProcessor
from hf_vq.topic_pipelines import TOPIC_TASK, TopicModelingPipeline, register_topic_pipelines
from hf_vq.topics.corpus_encoder import CorpusEncoder
from hf_vq.topics.estimator import TopicVQ

TEXTS = ["moon rocket orbit", "goal match team player", "oven", "?!"]


@pytest.fixture
def pipe(trained_folder):
    return pipeline("topic-modeling", model=str(trained_folder))


class Texts(Dataset):
    def __len__(self):
        return len(TEXTS)

    def __getitem__(self, index):
        return TEXTS[index]


def test_a_document_has_topics_with_words_and_weights(pipe, trained_folder):
    estimator = TopicVQ.from_pretrained(trained_folder)
    output = pipe(TEXTS[0], top_k=None, top_n=4)
    proportions = estimator.transform(TEXTS[:1])[0]
    order = [row["topic"] for row in output["topics"]]
    assert sorted(order) == [0, 1, 2]
    np.testing.assert_allclose(
        [row["score"] for row in output["topics"]], proportions[order], atol=1e-6
    )
    assert [row["score"] for row in output["topics"]] == sorted(proportions, reverse=True)
    assert output["topics"][0]["words"] == estimator.topics_.top_words(order[0], 4)
    assert output["topics"][0]["label"] == estimator.topics_.labels[order[0]]
    assert output["num_words"] == 3
    assert len(pipe(TEXTS[0], top_k=1)["topics"]) == 1
    assert not pipe.model.training


@pytest.mark.parametrize("batch_size", [1, 3])
@pytest.mark.parametrize(
    "container",
    [list, lambda texts: (text for text in texts), lambda _: Texts()],
    ids=["list", "generator", "dataset"],
)
def test_many_documents(pipe, container, batch_size):
    outputs = list(pipe(container(TEXTS), batch_size=batch_size))
    for text, output in zip(TEXTS, outputs, strict=True):
        alone = pipe(text)
        assert [row["topic"] for row in output["topics"]] == [
            row["topic"] for row in alone["topics"]
        ]
        for row, expected in zip(output["topics"], alone["topics"], strict=True):
            assert row["score"] == pytest.approx(expected["score"], abs=1e-5)
    assert outputs[3]["num_words"] == 0
    assert pipe([]) == []


def test_merged_topics_and_labels_come_along(trained_folder, tmp_path):
    estimator = TopicVQ.from_pretrained(trained_folder)
    estimator.merge_topics([[0, 1]])
    estimator.set_topic_labels(["some", "other"])
    estimator.save_pretrained(tmp_path)
    output = pipeline("topic-modeling", model=str(tmp_path))(TEXTS[0], top_k=None)
    assert {row["label"] for row in output["topics"]} == {"some", "other"}


def test_parts_in_memory(trained_folder, pipe):
    model, processor = (c.from_pretrained(trained_folder) for c in (AutoModel, AutoProcessor))
    encoder = TopicVQ.from_pretrained(trained_folder)._get_encoder()
    again = TopicModelingPipeline(
        model=model, processor=processor, encoder=encoder, task=TOPIC_TASK
    )
    assert again(TEXTS) == pipe(TEXTS)
    with pytest.raises(ValueError, match="needs a processor"):
        TopicModelingPipeline(model=model, task=TOPIC_TASK)


def test_another_encoder_is_refused(trained_folder, documents):
    other = CorpusEncoder.fit(documents, TopicVQProcessor(), dim=5)
    pipe = pipeline("topic-modeling", model=str(trained_folder), encoder=other)
    with pytest.raises(ValueError, match="was trained with the encoder 'corpus' of fingerprint"):
        pipe(TEXTS)


def test_whatever_a_document_holds_it_has_topics(pipe, documents):
    texts = ["", "🎉🚀", "机器学习 مرحبا", "\ud83d moon", documents[0] * 9000]
    outputs = pipe(texts, top_k=None)
    assert [output["num_words"] > 0 for output in outputs] == [False, False, False, True, True]
    for output in outputs:
        assert sum(row["score"] for row in output["topics"]) == pytest.approx(1)
    assert outputs[0]["topics"] == outputs[2]["topics"]


def test_a_saved_pipeline_is_whole(pipe, tmp_path):
    pipe.save_pretrained(tmp_path)
    again = pipeline("topic-modeling", model=str(tmp_path), trust_remote_code=True)
    assert again(TEXTS) == pipe(TEXTS)
    assert (tmp_path / "encoder.safetensors").is_file()


def test_large_weights_are_split(pipe, tmp_path):
    pipe.save_pretrained(tmp_path, max_shard_size="3KB")
    names = {path.name for path in tmp_path.glob("model*.safetensors")}
    index = json.loads((tmp_path / "model.safetensors.index.json").read_text())
    assert names == set(index["weight_map"].values())
    assert len(names) > 1
    assert pipeline("topic-modeling", model=str(tmp_path))(TEXTS) == pipe(TEXTS)


@pytest.mark.parametrize(
    ("inputs", "arguments", "error", "message"),
    [
        (3, {}, ValueError, "a document must be text, got 3"),
        ([TEXTS[0], None], {}, ValueError, "got None of type NoneType"),
        (TEXTS[0], {"top_k": 0}, ValueError, "top_k is 0"),
        (TEXTS[0], {"top_n": None}, ValueError, "top_n is None"),
        (TEXTS[0], {"top_p": 3}, TypeError, "takes no argument 'top_p'"),
    ],
)
def test_bad_input(pipe, inputs, arguments, error, message):
    with pytest.raises(error, match=message):
        pipe(inputs, **arguments)


def test_registering_twice_is_fine_and_another_class_is_left_alone(monkeypatch):
    register_topic_pipelines()
    assert PIPELINE_REGISTRY.supported_tasks[TOPIC_TASK]["impl"] is TopicModelingPipeline
    stranger = {**PIPELINE_REGISTRY.supported_tasks[TOPIC_TASK], "impl": object}
    monkeypatch.setitem(PIPELINE_REGISTRY.supported_tasks, TOPIC_TASK, stranger)
    with pytest.raises(ValueError, match="already registered"):
        register_topic_pipelines()


def test_a_folder_for_the_hub_carries_code_and_vectors(trained_folder, tmp_path):
    from hf_vq.hub import load_topic_model, save_for_hub

    model, processor = load_topic_model(trained_folder)
    save_for_hub(model, processor, tmp_path, card="---\n---\n# Topics")
    names = {file.name for file in tmp_path.iterdir()}
    assert {"modeling_topic_vq.py", "processing_topic_vq.py", "topic_pipelines.py"} <= names
    assert {"encoder.safetensors", "vocabulary.json", "README.md", "topic_vq.json"} <= names
    again = pipeline("topic-modeling", model=str(tmp_path), trust_remote_code=True)
    assert again(TEXTS) == pipeline("topic-modeling", model=str(trained_folder))(TEXTS)
    assert "auto_map" not in vars(model.config)
    # A training checkpoint that is saved afterwards is without code again.
    model.save_pretrained(tmp_path / "plain")
    assert not list((tmp_path / "plain").glob("*.py"))
