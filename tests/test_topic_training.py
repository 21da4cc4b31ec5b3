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
"""The stages of TopicVQ's training: topics are found, the best are kept, a killed run goes on."""

import json
import random

import numpy as np
import pytest
import torch
from transformers import Trainer, TrainingArguments

from hf_vq import TopicVQConfig, TopicVQModel
from hf_vq.models.processing_topic_vq import TopicVQProcessor
from hf_vq.models.vector_quantization import kmeans
from hf_vq.topics import corpus as corpus_module
from hf_vq.topics import training as stages
from hf_vq.topics.corpus import TopicCorpus
from hf_vq.topics.training import (
    TopicTrainingConfig,
    build_corpus,
    fit_codebook,
    fit_topics,
    topic_proportions,
    train_topic_vq,
)
from hf_vq.topics.word_embeddings import CorpusEncoder, encode_corpus

THEMES = (
    "sun moon star sky comet".split(),
    "cat dog bird horse cow".split(),
    "bread cheese soup cake rice".split(),
)
# An autoencoder that is trained, in place of the one in closed form.
TRAINED = {
    "autoencoder_init": "random",
    "autoencoder_hidden_sizes": [16],
    "inference_hidden_sizes": [10],
}
SHORT = {"cpu": True, "progress_bar": False, "codebook_batch_size": 100, "topic_batch_size": 20}

pytestmark = pytest.mark.usefixtures("accelerate_state")


def documents(number, seed=0):
    """Twelve words of one theme each, the themes in turn."""
    generator = random.Random(seed)
    return [" ".join(generator.choices(THEMES[i % 3], k=12)) for i in range(number)]


@pytest.fixture(scope="module")
def corpus_parts():
    texts = documents(90)
    processor = TopicVQProcessor().fit_vocabulary(texts)
    encoder = CorpusEncoder.fit(texts, processor, dim=8)

    def embed(texts):
        return encode_corpus(texts, processor, encoder, progress=False)

    return processor, embed(texts), embed


@pytest.fixture
def embeddings(corpus_parts):
    return corpus_parts[1]


@pytest.fixture
def make_model(corpus_parts):
    processor, embeddings, _ = corpus_parts

    def make(**options):
        torch.manual_seed(0)
        sizes = {
            "num_topics": 3,
            "vocab_size": len(processor.vocabulary),
            "word_embedding_dim": embeddings.dim,
            "codebook_size": 12,
            "codes_per_token": 2,
            "codebook_dim": 6,
        }
        return TopicVQModel(TopicVQConfig(**sizes | options))

    return make


def test_topics_are_the_themes(make_model, corpus_parts):
    processor, embeddings, embed = corpus_parts
    model = make_model()
    config = TopicTrainingConfig(topic_epochs=60.0, topic_learning_rate=1e-2, **SHORT)
    results = train_topic_vq(model, embeddings, config)
    assert results["final_model"] is None
    assert results["topics"]["step"] == 60 * 90 / 20

    words, _ = model.topic_words(5)
    found = {frozenset(processor.vocabulary[word] for word in row) for row in words}
    assert found == {frozenset(theme) for theme in THEMES}
    # Documents that it has not seen.
    unseen = TopicCorpus.build(model, embed(documents(30, seed=1)))
    topics = topic_proportions(model, unseen).argmax(axis=1)
    assert all(len(set(topics[theme::3])) == 1 for theme in range(3))
    assert len(set(topics)) == 3
    # What the topics have in the corpus: all of its words, and each topic some document.
    counts = model.statistics.topic_word_counts
    assert counts.sum().item() == pytest.approx(embeddings.word_counts.sum(), rel=1e-5)
    assert model.active_topics.all()
    frequencies = embeddings.word_counts.sum(axis=0)
    np.testing.assert_array_equal(model.statistics.word_frequencies, np.asarray(frequencies))


def test_documents_start_in_the_topic_of_their_cluster(make_model, embeddings):
    """Eq. (35): before anything is learned, a document's largest topic is the nearest center, by hand."""
    model = make_model()
    config = TopicTrainingConfig(topic_epochs=0.2, topic_learning_rate=1e-9, **SHORT)
    train_topic_vq(model, embeddings, config)
    corpus = build_corpus(model, embeddings, config)
    vectors = torch.from_numpy(corpus.document_vectors).float()
    vectors = vectors / vectors.norm(dim=1, keepdim=True)
    points = vectors - vectors.mean(dim=0)
    points = points / points.norm(dim=1, keepdim=True)
    centers, _ = kmeans(points, 3, generator=torch.Generator().manual_seed(config.seed))
    nearest = (points @ centers.T - centers.square().sum(dim=1) / 2).argmax(dim=1)
    assert len(set(nearest.tolist())) == 3
    np.testing.assert_array_equal(topic_proportions(model, corpus).argmax(axis=1), nearest)


@pytest.mark.parametrize("options", [{}, TRAINED], ids=["closed_form", "trained"])
def test_two_runs_with_a_seed_are_one(options, make_model, embeddings):
    config = TopicTrainingConfig(topic_epochs=1.0, **SHORT)
    models = [make_model(**options) for _ in range(2)]
    for model in models:
        train_topic_vq(model, embeddings, config)
    weights = [model.state_dict() for model in models]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


@pytest.mark.parametrize("killed_in", ["start", "codebook", "bags", "topics", "export"])
def test_a_killed_run_goes_on_as_if_nothing_had_been(
    killed_in, make_model, embeddings, corpus_parts, tmp_path, monkeypatch
):
    options = {"topic_epochs": 1.0, "checkpointing_steps": 2, **SHORT}
    levers = TRAINED if killed_in == "codebook" else {}
    whole = make_model(**levers)
    train_topic_vq(whole, embeddings, TopicTrainingConfig(str(tmp_path / "whole"), **options))

    class Killed(Exception):
        pass

    def kill(*args, **kwargs):
        raise Killed

    folder = tmp_path / "parts"
    config = TopicTrainingConfig(str(folder), **options)
    model = make_model(**levers)
    with monkeypatch.context() as patch:
        if killed_in == "start":
            patch.setattr(stages, "finish_without_steps", kill)
        elif killed_in in ("codebook", "topics"):
            # In the third step, which the checkpoint of the second one precedes.
            module = model.quantizer if killed_in == "codebook" else model.kl_warmup
            update, steps = module.apply_update, iter([None, None])
            patch.setattr(
                module, "apply_update", lambda: update() if next(steps, Killed) is None else kill()
            )
        elif killed_in == "bags":
            patch.setattr(corpus_module, "_bags", kill)
        else:
            patch.setattr(stages, "export", kill)
        with pytest.raises(Killed):
            train_topic_vq(model, embeddings, config)

    again = TopicTrainingConfig(str(folder), resume_from_checkpoint="latest", **options)
    resumed = make_model(**levers)
    results = train_topic_vq(
        resumed, embeddings, again, save_with=[corpus_parts[0].save_pretrained]
    )
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, resumed.state_dict()[name]), name
    # The log has no line twice.
    for stage in ("codebook", "topics") if levers else ("topics",):
        log = (folder / stage / "log.jsonl").read_text().splitlines()
        steps = [json.loads(line)["step"] for line in log]
        assert steps == sorted(set(steps))
    saved = TopicVQModel.from_pretrained(results["final_model"])
    assert torch.equal(saved.topic_words(4)[0], whole.topic_words(4)[0])
    assert TopicVQProcessor.from_pretrained(results["final_model"]).vocabulary


def test_a_run_goes_on_in_another_place(make_model, embeddings, tmp_path):
    options = {"topic_epochs": 0.3, **SHORT}
    whole = make_model()
    train_topic_vq(whole, embeddings, TopicTrainingConfig(str(tmp_path / "here"), **options))
    (tmp_path / "here").rename(tmp_path / "there")
    options["resume_from_checkpoint"] = "latest"
    resumed = make_model()
    train_topic_vq(resumed, embeddings, TopicTrainingConfig(str(tmp_path / "there"), **options))
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, resumed.state_dict()[name]), name


def test_another_run_is_neither_overwritten_nor_continued(make_model, corpus_parts, tmp_path):
    _, embeddings, embed = corpus_parts
    options = {"topic_epochs": 0.3, **SHORT}
    train_topic_vq(make_model(), embeddings, TopicTrainingConfig(str(tmp_path), **options))
    with pytest.raises(ValueError, match=r"output_dir holds another run .*run\.json"):
        train_topic_vq(make_model(), embeddings, TopicTrainingConfig(str(tmp_path), **options))
    options |= {"resume_from_checkpoint": "latest", "topic_epochs": 0.4}
    with pytest.raises(ValueError, match=r"training\.topic_epochs was 0\.3, now 0\.4"):
        train_topic_vq(make_model(), embeddings, TopicTrainingConfig(str(tmp_path), **options))
    options["topic_epochs"] = 0.3
    other = make_model(num_topics=4)
    with pytest.raises(ValueError, match=r"model\.num_topics was 3, now 4"):
        train_topic_vq(other, embeddings, TopicTrainingConfig(str(tmp_path), **options))
    others = embed(documents(24, seed=1))
    with pytest.raises(ValueError, match=r"documents was \w+, now \w+"):
        train_topic_vq(make_model(), others, TopicTrainingConfig(str(tmp_path), **options))


def test_the_best_bound_is_kept(make_model, corpus_parts, monkeypatch):
    _, embeddings, embed = corpus_parts
    evaluate, bounds, seen = stages._evaluate_bound, iter([5.0, 3.0, 4.0, 3.5]), []

    def remember(model, loader, accelerator):
        seen.append((evaluate(model, loader, accelerator)["bound"], model.topic_codes.clone()))
        return {"bound": next(bounds)}

    monkeypatch.setattr(stages, "_evaluate_bound", remember)
    model = make_model()
    config = TopicTrainingConfig(topic_epochs=4.0, eval_epochs=1.0, **SHORT)
    held_out = embed(documents(24, seed=1))
    results = train_topic_vq(model, embeddings, config, eval_embeddings=held_out)["topics"]
    assert (results["best_metric"], results["best_step"]) == (3.0, 10)
    bound, topic_codes = seen[1]
    assert torch.equal(model.topic_codes, topic_codes)
    assert not torch.equal(model.topic_codes, seen[3][1])

    # What had been measured, by hand.
    model.eval()
    corpus = TopicCorpus.build(model, held_out)
    with torch.no_grad():
        output = model(**corpus.collate(corpus.__getitems__(list(range(24)))))
    assert bound == pytest.approx((output.word_loss + output.kl_loss).item(), rel=1e-5)


def test_the_bound_is_of_a_document_whatever_the_loss_is(make_model, corpus_parts, tmp_path):
    _, embeddings, embed = corpus_parts
    held_out = embed(documents(21, seed=1))
    bounds = []
    for reduction in ("mean", "sum"):
        model = make_model(loss_reduction=reduction)
        config = TopicTrainingConfig(topic_epochs=0.2, topic_learning_rate=1e-9, **SHORT)
        results = train_topic_vq(model, embeddings, config, eval_embeddings=held_out)
        bounds.append(results["topics"]["best_metric"])
        assert model.config.loss_reduction == reduction
    assert bounds[0] == pytest.approx(bounds[1], rel=1e-3)


def test_new_documents_are_added_to_topics(make_model, corpus_parts):
    _, embeddings, embed = corpus_parts
    model = make_model()
    config = TopicTrainingConfig(topic_epochs=2.0, **SHORT)
    train_topic_vq(model, embeddings, config)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    more = embed(documents(40, seed=2))
    corpus = build_corpus(model, more, config)
    fit_topics(model, corpus, config, continued=True)
    after = model.state_dict()
    frozen = ("encoder.", "decoder.", "quantizer.", "statistics.word_frequencies")
    for name in before:
        if name.startswith(frozen):
            assert torch.equal(before[name], after[name]), name
    assert not torch.equal(before["topic_codes"], after["topic_codes"])
    added = after["statistics.topic_word_counts"] - before["statistics.topic_word_counts"]
    assert added.sum().item() == pytest.approx(more.word_counts.sum(), rel=1e-4)


def test_documents_without_words_are_left_out(make_model, corpus_parts):
    _, _, embed = corpus_parts
    embeddings = embed([*documents(30), "", "xyzzy", *documents(10, seed=3)])
    model = make_model()
    config = TopicTrainingConfig(topic_epochs=1.0, **SHORT)
    results = train_topic_vq(model, embeddings, config)
    assert results["topics"]["examples_seen"] == 2 * 20  # 40 of 42 documents, 20 at a time
    shares = topic_proportions(model, build_corpus(model, embeddings, config))
    prior = torch.softmax(model.prior.mean, dim=0).detach().numpy()
    np.testing.assert_allclose(shares[30:32], [prior, prior], rtol=1e-6)


def test_mistakes_are_named(make_model, corpus_parts):
    _, _, embed = corpus_parts
    for options, message in (
        ({"warmup_share": 1.0}, r"warmup_share is 1\.0, expected 0 to below 1"),
        ({"topic_batch_size": 1}, "topic_batch_size is 1, expected at least 2"),
        ({"codebook_words": 0}, "codebook_words is 0"),
        ({"topic_epochs": 0.0}, r"topic_epochs is 0\.0, expected a positive number"),
        ({"codebook_warmup_epochs": -1.0}, r"codebook_warmup_epochs is -1\.0"),
        ({"resume_from_checkpoint": "latest"}, "set output_dir"),
    ):
        with pytest.raises(ValueError, match=message):
            TopicTrainingConfig(**options)
    config = TopicTrainingConfig(**SHORT)
    with pytest.raises(ValueError, match="the documents have 0 words, expected at least 2"):
        fit_codebook(make_model(), embed(["", "..."]), config)
    one = embed(["sun moon star", ""])
    model = make_model(codebook_init="normal", codebook_update="gradient")
    fit_codebook(model, one, config)
    with pytest.raises(
        ValueError, match="1 of 2 documents have words .* at least 3 .num_topics is 3"
    ):
        fit_topics(model, build_corpus(model, one, config), config)


@pytest.mark.parametrize("dense_vocabulary", [100, 0])
def test_the_trainer_of_transformers_does_both_stages(
    make_model, corpus_parts, tmp_path, monkeypatch, dense_vocabulary
):
    monkeypatch.setattr(corpus_module, "_DENSE_VOCABULARY", dense_vocabulary)
    _, embeddings, _ = corpus_parts
    model = make_model(**TRAINED)
    words = torch.from_numpy(embeddings.sample(500))
    model.initialize_codebook([words[None]])

    def trainer(steps, dataset, **options):
        arguments = TrainingArguments(
            str(tmp_path),
            max_steps=steps,
            per_device_train_batch_size=30,
            learning_rate=8e-3,
            report_to="none",
            use_cpu=True,
            disable_tqdm=True,
        )
        return Trainer(model, arguments, train_dataset=dataset, eval_dataset=dataset, **options)

    model.set_objective("codebook")
    codebook = trainer(3, [{"word_embeddings": row} for row in words[:, None]])
    before = codebook.evaluate()["eval_loss"]
    codebook.train()
    assert codebook.evaluate()["eval_loss"] < before
    corpus = TopicCorpus.build(model, embeddings)
    model.set_objective("topics", 20)
    topics = trainer(60, corpus, data_collator=corpus.collate)
    topics.train()
    assert topics.evaluate()["eval_loss"] > 0
    proportions = topics.predict(corpus).predictions[0]
    assert proportions.shape == (90, 3)
    owners = proportions.argmax(axis=1)
    assert len(set(zip(owners.tolist(), [0, 1, 2] * 30, strict=True))) == 3


def test_copies_do_not_make_more_documents(make_model, corpus_parts):
    _, _, embed = corpus_parts
    config = TopicTrainingConfig(topic_epochs=0.2, **SHORT)
    texts = documents(3)
    for copies, few in ((9, texts[:2]), (1, texts[:1])):
        with pytest.raises(ValueError, match=f"{len(few)} of {copies * len(few)} documents have"):
            train_topic_vq(make_model(), embed(few * copies), config)
    train_topic_vq(make_model(), embed(texts * 9), config)


def test_what_cannot_be_learned_or_compared_is_refused(make_model, corpus_parts):
    processor, _, embed = corpus_parts
    config = TopicTrainingConfig(topic_epochs=0.2, **SHORT)
    strangers = TopicVQProcessor(vocabulary=[f"word{i}" for i in range(processor.vocab_size)])
    strange = embed(documents(9)).with_processor(strangers)
    with pytest.raises(ValueError, match="no word of the vocabulary occurs in the documents"):
        train_topic_vq(make_model(), strange, config)
    with pytest.raises(ValueError, match="none of the 2 held-out documents has a word"):
        train_topic_vq(make_model(), embed(documents(9)), config, eval_embeddings=embed(["", "?!"]))


def test_nothing_is_left_behind_without_a_folder(make_model, embeddings, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    config = TopicTrainingConfig(topic_epochs=0.2, **SHORT)
    train_topic_vq(make_model(), embeddings, config)
    assert not list(tmp_path.iterdir())
