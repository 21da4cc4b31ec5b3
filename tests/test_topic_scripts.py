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
"""The scripts of TopicVQ end to end on tiny corpora: figures, resuming, streams, and mistakes that are named."""

import dataclasses
import json
import random
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from from_file import load_script
from hf_vq import TopicVQConfig, TopicVQModel
from hf_vq.evaluation import read_record
from hf_vq.models.processing_topic_vq import TopicVQProcessor
from hf_vq.topics.documents import Documents
from hf_vq.topics.scoring import document_revision, split_documents

SCRIPTS = Path(__file__).resolve().parents[1] / "scripts"

pytestmark = pytest.mark.usefixtures("apart")
RECIPES = sorted(
    path
    for path in (SCRIPTS / "configs").glob("topic-vq-*.yaml")
    if not path.stem.startswith("topic-vq-image-")  # another script's
)
THEMES = {
    "sky": ["sun", "moon", "star", "cloud", "comet"],
    "animal": ["cat", "dog", "bird", "horse", "cow"],
    "food": ["bread", "cheese", "soup", "cake", "rice"],
}
TINY = {
    "encoder": "corpus",
    "label_column": "theme",
    "test_split": "test",
    "num_topics": 3,
    "codebook_size": 12,
    "codes_per_token": 2,
    "codebook_dim": 6,
    "max_df": 1.0,
    "codebook_batch_size": 200,
    "codebook_epochs": 0.4,
    "topic_epochs": 0.5,
    "topic_batch_size": 20,
    "checkpointing_steps": 1,
    "cpu": True,
    "progress_bar": False,
}


training = load_script("train_topic_vq")
evaluation = load_script("evaluate_topics")


@pytest.fixture
def texts(tmp_path):
    """Write a folder with the columns text and theme: 40 documents to learn from, 9 to test on."""
    folder, generator = tmp_path / "texts", random.Random(0)
    folder.mkdir()
    for split, number in (("train", 40), ("test", 9)):
        rows = []
        for _, (theme, words) in zip(range(number), list(THEMES.items()) * 20, strict=False):
            rows.append({"text": " ".join(generator.choices(words, k=12)), "theme": theme})
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / f"{split}.jsonl").write_text(lines)
    return folder


def words(options):
    pairs = (
        (name, value if isinstance(value, list) else [value]) for name, value in options.items()
    )
    return [word for name, values in pairs for word in (f"--{name}", *map(str, values))]


def run(texts, output_dir, *more, **options):
    return training.main(
        [*words({"dataset": texts, "output_dir": output_dir, **TINY, **options}), *more]
    )


def test_training_writes_model_record_and_topics(texts, tmp_path, capsys):
    results = run(texts, tmp_path / "run", eval_split="test[:6]", eval_epochs=0.5)
    assert (results["codebook"]["step"], results["topics"]["step"]) == (1, 1)
    assert results["topics"]["eval_bound"] == results["topics"]["best_metric"]
    record = read_record(tmp_path / "run" / "final.json")
    metrics = record["metrics"]
    assert (record["checkpoint"], record["seeds"]) == ("run/final", [0])
    assert (metrics["num_documents"], metrics["empty_documents"]) == (9, 0)
    assert {"npmi", "c_v", "diversity_10", "kmeans_nmi", "probe_accuracy"} <= metrics.keys()
    assert metrics["unigram_perplexity"] == pytest.approx(15, rel=0.1)
    output = capsys.readouterr().out
    assert f"{metrics['npmi']:.5g}" in output
    assert "final.json" in output
    topics = [line.split()[1:] for line in output.splitlines() if line.split()[0] in "012"]
    assert [len(topic) for topic in topics] == [10, 10, 10]
    assert set(sum(topics, [])) <= {word for theme in THEMES.values() for word in theme}

    # The other script finds the same figures again, from what the folder holds.
    again = evaluation.main(
        words(
            {
                "checkpoint": tmp_path / "run" / "final",
                "dataset": texts,
                "label_column": "theme",
                "probe": True,
                "output": tmp_path / "again.json",
                "cpu": True,
                "progress_bar": False,
            }
        )
    )
    assert again["metrics"].pop("unigram_perplexity") == metrics.pop("unigram_perplexity")
    assert again["metrics"] == pytest.approx(metrics, rel=1e-4)
    assert again["data"]["revision"] == record["data"]["revision"]


def test_resuming_equals_an_uninterrupted_run(texts, tmp_path, monkeypatch):
    options = {"topic_epochs": 1.5, "test_split": "none"}
    run(texts, tmp_path / "whole", **options)

    def kill(*args, **kwargs):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        # Between the second checkpoint of the topics and their third and last step.
        update, steps = training.TopicVQModel.forward, []

        def step(model, **batch):
            if model.config.objective == "topics" and model.training:
                steps.append(0)
                if len(steps) == 3:
                    kill()
            return update(model, **batch)

        patch.setattr(training.TopicVQModel, "forward", step)
        with pytest.raises(KeyboardInterrupt):
            run(texts, tmp_path / "parts", **options)
    assert (tmp_path / "parts" / "topics" / "checkpoint-2").is_dir()
    assert not (tmp_path / "parts" / "final").exists()
    results = run(texts, tmp_path / "parts", "--resume_from_checkpoint", "latest", **options)
    assert results["topics"]["step"] == 3
    whole, parts = (
        load_file(tmp_path / name / "final" / "model.safetensors") for name in ("whole", "parts")
    )
    assert whole.keys() == parts.keys()
    for name, tensor in whole.items():
        assert torch.equal(tensor, parts[name]), name


def test_a_stream_and_guided_topics(texts, tmp_path):
    guided = json.dumps({"heaven": ["sun", "moon"]})
    run(texts, tmp_path / "run", streaming=True, guided_topics=guided)
    assert "kmeans_nmi" in read_record(tmp_path / "run" / "final.json")["metrics"]
    assert {path.name for path in (tmp_path / "run" / "bags").iterdir()} == {"train"}
    config = TopicVQConfig.from_pretrained(tmp_path / "run" / "final")
    processor = TopicVQProcessor.from_pretrained(tmp_path / "run" / "final")
    assert config.topic_labels == ["heaven", "topic 1", "topic 2"]
    assert [processor.vocabulary[word] for word in config.seed_words[0]] == ["sun", "moon"]


@pytest.mark.parametrize("streaming", [False, True])
def test_another_form_of_the_documents_is_counted(texts, tmp_path, streaming):
    for file in texts.iterdir():
        rows = [json.loads(line) for line in file.read_text().splitlines()]
        lines = (json.dumps(row | {"form": row["text"].upper()}) + "\n" for row in rows)
        file.write_text("".join(lines))
    options = {"bow_text_column": "form", "lowercase": False, "streaming": streaming}
    run(texts, tmp_path / "run", **options)
    processor = TopicVQProcessor.from_pretrained(tmp_path / "run" / "final")
    assert all(word.isupper() for word in processor.vocabulary)
    metrics = read_record(tmp_path / "run" / "final.json")["metrics"]
    assert metrics["unigram_perplexity"] == pytest.approx(15, rel=0.1)


def test_an_encoder_of_transformers(texts, tmp_path):
    """Its name is in the configuration, and the checkpoint alone finds it again."""
    names = ["[PAD]", "[UNK]", *sum(THEMES.values(), [])]
    tokenizer = Tokenizer(WordLevel({word: row for row, word in enumerate(names)}, "[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    encoder = str(tmp_path / "encoder")
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]"
    ).save_pretrained(encoder)
    sizes = {"num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16}
    BertModel(BertConfig(vocab_size=len(names), hidden_size=12, **sizes)).save_pretrained(encoder)
    run(texts, tmp_path / "run", encoder=encoder, encoder_layer=1, word_pooling="single_piece")
    config = TopicVQConfig.from_pretrained(tmp_path / "run" / "final")
    assert (config.encoder_name_or_path, config.encoder_layer) == (encoder, 1)
    assert (config.word_pooling, config.word_embedding_dim) == ("single_piece", 12)
    record = read_record(tmp_path / "run" / "final.json")
    again = evaluation.main(
        words(
            {
                "checkpoint": tmp_path / "run" / "final",
                "dataset": texts,
                "label_column": "theme",
                "output": tmp_path / "again.json",
                "cpu": True,
                "progress_bar": False,
            }
        )
    )
    assert again["data"]["encoder"] == "encoder"  # no path of this machine
    assert again["metrics"]["npmi"] == pytest.approx(record["metrics"]["npmi"], abs=1e-6)


def test_options_of_words_and_variants(texts, tmp_path, caplog):
    (tmp_path / "words.txt").write_text("cat\ndog\nsoup\n")
    options = {"vocabulary": "words.txt", "variant": "published", "stop_words": ["sun"]}
    run(texts, tmp_path / "run", test_split="none", **options)
    assert "content words are in the vocabulary of 3 words" in caplog.text
    assert not (tmp_path / "run" / "final.json").exists()
    model = TopicVQModel.from_pretrained(tmp_path / "run" / "final")
    assert model.config.variant == "published"
    assert model.config.expansion_weights == "ones"
    processor = TopicVQProcessor.from_pretrained(tmp_path / "run" / "final")
    assert processor.vocabulary == ["cat", "dog", "soup"]
    assert not processor.content_words("sun")


def test_a_checkpoint_without_some_weights_is_not_scored(texts, tmp_path):
    TopicVQModel(TopicVQConfig(num_topics=3, vocab_size=15)).save_pretrained(tmp_path / "part")
    TopicVQProcessor(vocabulary=sum(THEMES.values(), [])).save_pretrained(tmp_path / "part")
    weights = load_file(tmp_path / "part" / "model.safetensors")
    del weights["topic_codes"]
    save_file(weights, tmp_path / "part" / "model.safetensors", {"format": "pt"})
    with pytest.raises(ValueError, match="part lacks the weights topic_codes"):
        evaluation.main(words({"checkpoint": tmp_path / "part", "dataset": texts, "cpu": True}))


def test_documents_are_cut_before_their_middle_word():
    processor = TopicVQProcessor(stop_words=["the"]).fit_vocabulary(["sun moon star sky"])
    firsts, seconds = split_documents(["the sun, the moon! star", "sun", "", "a"], processor)
    assert (firsts, seconds) == (["the sun, the "], ["moon! star"])


def test_the_revision_is_of_texts_and_labels():
    revisions = [
        document_revision(Documents(texts, labels, bow_texts=forms))
        for texts, labels, forms in (
            (["a", "b"], None, None),
            (["a", "b"], ["x", "y"], None),
            (["ab", ""], None, None),
            (["a", "b"], None, ["a", "b"]),
        )
    ]
    assert len(set(revisions)) == 4
    assert document_revision(Documents(["a", "b"])) == revisions[0]


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize(
    ("rows", "options", "message"),
    [
        ([], {}, "cannot read split 'train'"),
        ([""] * 5, {}, "none of the 5 documents has a term"),
        (["sun moon star"], {"min_df": 1}, "1 of 1 documents|0 of 3 words occur"),
        (["sun moon star sky", "cat dog"] * 5, {}, "2 of 10 documents .* at least 3 "),
        (["sun moon", None], {}, "got None"),
        ([3, 4], {}, "got 3"),
        (["sun moon star sky", "cat dog"] * 5, {"vocabulary": "strange.txt"}, "such as 'zebra'"),
    ],
)
def test_documents_that_make_no_corpus(tmp_path, rows, options, message, streaming):
    (tmp_path / "strange.txt").write_text("zebra\nquark\n")
    lines = (json.dumps({"text": text}) + "\n" for text in rows)
    (tmp_path / "rows.jsonl").write_text("".join(lines))
    options = {"test_split": "none", "label_column": "none", "streaming": streaming} | options
    with pytest.raises(ValueError, match=message):
        run(tmp_path / "rows.jsonl", tmp_path / "run", **options)
    assert not (tmp_path / "run" / "final").exists()


def test_a_vocabulary_of_one_word_and_documents_without_it(texts, tmp_path):
    """They are kept, placed and scored; coherence needs more words."""
    (tmp_path / "words.txt").write_text("cat\n")
    lines = (texts / "test.jsonl").read_text()
    (texts / "test.jsonl").write_text(
        lines + "".join(json.dumps({"text": text, "theme": "sky"}) + "\n" for text in ("", "🎉"))
    )
    run(texts, tmp_path / "run", vocabulary="words.txt")
    metrics = read_record(tmp_path / "run" / "final.json")["metrics"]
    assert (metrics["num_documents"], metrics["empty_documents"]) == (11, 2)
    assert metrics.keys() >= {"top_purity", "perplexity"}
    assert "npmi" not in metrics


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_topic": 3}, r"num_topic.*num_topics"),
        ({"num_topics": 0}, "num_topics is 0"),
        ({"text_column": "body"}, r"no column 'body'.*'text'"),
        ({"test_split": "tset"}, "tset"),
        ({"dataset": "absent.csv"}, r"absent\.csv"),
        ({"min_df": 99}, "99"),
        ({"guided_topics": '{"x": ["unheard"]}'}, "unheard"),
        ({"output_dir": "none"}, "output_dir is not set"),
        ({"variant": "best"}, "variant is 'best'"),
    ],
)
def test_wrong_options_are_named(texts, tmp_path, options, message):
    with pytest.raises(Exception, match=message):
        run(texts, **{"output_dir": tmp_path / "run"} | options)


@pytest.mark.parametrize(
    ("given", "vocabulary"),
    [
        ({"min_df": "3"}, {"cat"}),
        ({"min_df": "0.5"}, {"cat", "dog"}),
        ({"max_df": "1"}, {"bird"}),
        ({"max_df": "1.0"}, {"cat", "dog", "bird"}),
    ],
)
def test_a_whole_number_counts_documents_and_a_point_makes_a_share(given, vocabulary, tmp_path):
    """On the command line and in a recipe alike."""
    everything = {"min_df": "1", "max_df": "1.0"} | given
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("".join(f"{name}: {value}\n" for name, value in everything.items()))
    for argv in (words(everything), ["--config", str(recipe)]):
        (config,) = training.parse_config(training.WordsConfig, argv=argv)
        processor = training.build_processor(config, ["cat dog", "cat bird", "cat dog", "cat"])
        assert set(processor.vocabulary) == vocabulary


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_recipes(recipe):
    """A recipe parses, states nothing but differences, and goes to a folder of its name."""
    classes = (
        training.TopicTrainingConfig,
        training.DataConfig,
        training.WordsConfig,
        training.ModelConfig,
    )
    configs = training.parse_config(*classes, argv=["--config", str(recipe)])
    assert configs[0].output_dir == f"runs/{recipe.stem}"
    stated = {
        name: value
        for section in yaml.safe_load(recipe.read_text()).values()
        for name, value in section.items()
    }
    for config in configs:
        for field in dataclasses.fields(config):
            if field.name in stated and field.name != "dataset":
                assert getattr(config, field.name) != field.default, field.name
    options = dataclasses.asdict(configs[3])
    TopicVQConfig(**options, vocab_size=9, word_embedding_dim=4)
