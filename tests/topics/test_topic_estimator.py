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
"""TopicVQ, the estimator: what it learns, that it repeats itself, and what it refuses."""

import json
import logging
import random
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file
from sklearn.exceptions import NotFittedError
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import AutoModel, BertConfig, BertModel, PreTrainedTokenizerFast

from hf_vq.models import GMVQConfig
from hf_vq.models.processing_topic_vq import TopicVQProcessor
from hf_vq.topics.corpus_encoder import CorpusEncoder
from hf_vq.topics.estimator import TopicVQ
from hf_vq.topics.num_topics_search import search_num_topics
from hf_vq.topics.reading import read_words
from hf_vq.topics.word_embeddings import encode_corpus

FAST = {"codebook_epochs": 0.1, "codebook_warmup_epochs": 0, "topic_epochs": 1}


@pytest.fixture
def topics(trained_folder, documents):
    estimator = TopicVQ.from_pretrained(trained_folder)
    estimator._learned = estimator._place(documents)  # as after `fit`
    return estimator


@pytest.fixture
def fast(options):
    """A start for estimators whose topics do not matter."""
    options = options | {"training_options": FAST}
    return lambda num_topics=3, **more: TopicVQ(num_topics, **(options | more))


def test_subjects_become_topics(topics, subjects):
    owners = topics.place().topic_proportions.argmax(axis=1)
    assert len({(subject, owner) for subject, owner in zip(subjects, owners, strict=True)}) == 3
    for row in topics.topic_table(top_n=6):
        mine = topics.place().texts[int(np.flatnonzero(owners == row["topic"])[0])]
        assert set(mine.split()) <= set(row["words"])
        assert row["label"] == ", ".join(row["words"][:3])
        assert row["documents"] == 30


def test_proportions_are_full_and_of_each_document_alone(topics, documents):
    together = topics.transform(documents)
    assert together.shape == (90, 3)
    np.testing.assert_allclose(together.sum(axis=1), 1, atol=1e-5)
    alone = np.concatenate([topics.transform([text]) for text in documents[:7]])
    np.testing.assert_allclose(alone, together[:7], atol=1e-5)
    np.testing.assert_allclose(topics.transform(documents[::-1])[::-1], together, atol=1e-5)
    np.testing.assert_array_equal(topics.transform(documents), together)


def test_parts_that_are_placed_one_after_the_other_are_the_whole(topics, documents, monkeypatch):
    whole = topics.place(documents)
    monkeypatch.setattr("hf_vq.topics.estimator.PLACED_AT_ONCE", 40)
    parts = topics.place(documents)
    np.testing.assert_allclose(parts.topic_proportions, whole.topic_proportions, atol=1e-5)
    assert (parts.word_counts != whole.word_counts).nnz == 0
    assert parts.texts == whole.texts
    np.testing.assert_array_equal(parts.num_words, whole.num_words)


def test_a_seed_decides_the_topics_and_draws_nothing_from_the_caller(fast, documents):
    random.seed(1)
    np.random.seed(1)
    torch.manual_seed(1)
    expected = (random.random(), np.random.random(), torch.rand(1))
    random.seed(1)
    np.random.seed(1)
    torch.manual_seed(1)
    first = fast().fit_transform(documents)
    assert (random.random(), np.random.random(), torch.rand(1)) == expected
    torch.manual_seed(2)
    second = fast(seed=np.int64(0)).fit(documents)
    np.testing.assert_array_equal(second.place().topic_proportions, first)
    np.testing.assert_allclose(second.transform(documents), first, atol=1e-6)
    assert not np.array_equal(fast(seed=1).fit_transform(documents), first)


def test_a_loaded_estimator_gives_the_same_answers(trained_folder, tmp_path, documents):
    first = TopicVQ.from_pretrained(trained_folder)
    first.merge_topics([[0, 2]])
    first.set_topic_labels(["one", "other"])
    first.save_pretrained(tmp_path)
    again = TopicVQ.from_pretrained(tmp_path)
    np.testing.assert_array_equal(again.transform(documents), first.transform(documents))
    assert again.topic_table().records == first.topic_table().records
    assert again.find_topics("goal").records == first.find_topics("goal").records
    assert again.get_params() == first.get_params()
    assert [row["label"] for row in again.undo_merge()] == [
        row["label"] for row in TopicVQ.from_pretrained(trained_folder).topic_table()
    ]
    assert sum(file.stat().st_size for file in tmp_path.iterdir()) < 1e6
    assert {file.suffix for file in tmp_path.iterdir()} == {".safetensors", ".json"}
    with pytest.raises(ValueError, match="not known: pass documents"):
        again.document_table()


def test_a_checkpoint_is_loaded_as_a_whole_or_not_at_all(trained_folder, tmp_path):
    folder = Path(shutil.copytree(trained_folder, tmp_path / "damaged"))
    weights = load_file(folder / "model.safetensors")
    codes = weights.pop("topic_codes")
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match="damaged lacks the weights topic_codes"):
        TopicVQ.from_pretrained(folder)
    (folder / "model.safetensors").rename(folder / "some.safetensors")
    save_file({"topic_codes": codes}, tmp_path / "outside.safetensors", metadata={"format": "pt"})
    files = dict.fromkeys(weights, "some.safetensors") | {"topic_codes": "../outside.safetensors"}
    index = {"metadata": {}, "weight_map": files}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ValueError, match=r"names \.\./outside.safetensors, which is not in its"):
        TopicVQ.from_pretrained(folder)
    AutoModel.from_config(GMVQConfig(image_size=8)).save_pretrained(tmp_path / "images")
    with pytest.raises(ValueError, match="of type 'gmvq', expected 'topic_vq'"):
        TopicVQ.from_pretrained(tmp_path / "images")


def test_an_estimator_of_parts_knows_which_words_count(trained_folder):
    first = TopicVQ.from_pretrained(trained_folder)
    first.processor_.stop_words = ["the"]
    options = TopicVQ.from_parts(first.model_, first.processor_).get_params()
    assert options["stop_words"] == ["the"]
    assert options["num_topics"] == first.model_.config.num_topics


def test_a_model_without_the_estimators_file_is_one_too(trained_folder, tmp_path, documents):
    first = TopicVQ.from_pretrained(trained_folder)
    first.merge_topics([[0, 2]])
    first.save_pretrained(tmp_path)
    (tmp_path / "topic_vq.json").unlink()
    again = TopicVQ.from_pretrained(tmp_path)
    np.testing.assert_array_equal(again.transform(documents), first.transform(documents))
    assert again.num_topics == 3
    assert len(again.undo_merge()) == 3
    parts = TopicVQ.from_parts(first.model_, first.processor_, encoder=first._get_encoder())
    np.testing.assert_array_equal(parts.transform(documents), first.transform(documents))


def test_merging_and_undoing(topics, documents):
    before = topics.transform(documents)
    names = [row["label"] for row in topics.topic_table()]
    table = topics.merge_topics([[0, 2]])
    assert len(table) == 2
    after = topics.transform(documents)
    np.testing.assert_allclose(
        after, np.stack([before[:, [0, 2]].sum(axis=1), before[:, 1]], 1), atol=1e-6
    )
    members = topics.topics_.top_words(0, 12)
    assert {word for word in members if word in names[0] + names[2]} == set(
        (names[0] + ", " + names[2]).split(", ")
    )
    assert len(topics.reduce_topics(num_topics=1)) == 1
    np.testing.assert_allclose(topics.transform(documents), 1, atol=1e-6)
    assert len(topics.undo_merge()) == 2
    np.testing.assert_array_equal(topics.transform(documents), after)
    assert [row["label"] for row in topics.undo_merge()] == names
    np.testing.assert_array_equal(topics.transform(documents), before)
    with pytest.raises(ValueError, match="nothing to undo"):
        topics.undo_merge()
    assert len(topics.reduce_topics(min_similarity=-1)) == 1


@pytest.mark.parametrize(
    "ranking", ["score", "probability", "relevance", "frex", "ctfidf", "exclusive"]
)
def test_merged_topics_are_ranked_like_others(topics, ranking):
    topics.model_.config.topic_word_ranking = ranking
    one_by_one = [topics.topics_.top_words(topic, 6) for topic in range(3)]
    topics.merge_topics([[0, 1]])
    merged = topics.topics_
    assert set(merged.top_words(1, 6)) == set(one_by_one[2])
    assert set(merged.top_words(0, 12)) == {*one_by_one[0], *one_by_one[1]}
    np.testing.assert_allclose(merged.word_probs.sum(axis=1), 1, rtol=1e-5)


def test_labels_stay_with_what_is_merged(topics):
    topics.set_topic_labels(["a", "b", "c"])
    assert [row["label"] for row in topics.merge_topics([[2, 0]])] == ["a + c", "b"]
    assert [row["label"] for row in topics.set_topic_labels({1: "B"})] == ["a + c", "B"]
    assert [row["label"] for row in topics.undo_merge()] == ["a", "b", "c"]
    table = topics.set_topic_labels(lambda words, texts: f"{words[0]} {len(texts)}")
    assert [row["label"] for row in table] == [f"{row['words'][0]} 3" for row in table]
    table = topics.set_topic_labels(None)
    assert [row["label"] for row in table] == [", ".join(row["words"][:3]) for row in table]


@pytest.mark.parametrize(
    ("labels", "message"),
    [(["a"], "1 labels for 3 topics"), ({3: "d"}, "topic is 3"), (["a", "b", 3], "a label is 3")],
)
def test_labels_that_fit_no_topic(topics, labels, message):
    with pytest.raises(ValueError, match=message):
        topics.set_topic_labels(labels)


def test_tables_of_documents(topics, documents, subjects):
    table = topics.document_table(full=True).to_pandas()
    np.testing.assert_array_equal(
        table[["topic_0", "topic_1", "topic_2"]], topics.place().topic_proportions
    )
    assert table["placed"].all()
    for row in topics.representative_documents(num_documents=2):
        assert row["probability"] >= np.sort(topics.place().topic_proportions[:, row["topic"]])[-2]
    per_class = topics.topics_per_class(subjects).to_pandas()
    best = per_class.loc[per_class.groupby("class")["share"].idxmax()]
    assert sorted(best["topic"]) == [0, 1, 2]
    over_time = topics.topics_over_time(subjects + 2000, num_slices=3)
    assert [row["share"] for row in over_time] == [
        row["share"] for row in topics.topics_per_class(subjects)
    ]
    few = topics.topics_over_time([1, 2], documents=documents[:2])
    assert len(few) == 6


def test_drawn_documents_speak_of_their_topic(topics):
    for topic in range(3):
        table = topics.generate_documents(topic, num_documents=2, num_words=30, seed=1)
        assert [len(row["text"].split()) for row in table] == [30, 30]
        assert table[0]["text"] != table[1]["text"]
        found = topics.transform(table.texts).argmax(axis=1)
        np.testing.assert_array_equal(found, topic)
    one = topics.generate_documents(proportions=[0, 2, 0], seed=1).records
    assert one == topics.generate_documents(1, seed=1).records
    topics.merge_topics([[0, 1]])
    merged = topics.generate_documents(0, num_words=40)
    assert topics.transform(merged.texts).argmax() == 0
    for wrong in ([1, 1, 1], [1, -1], [0, 0]):
        with pytest.raises(ValueError, match="expected 2 numbers"):
            topics.generate_documents(proportions=wrong)
    with pytest.raises(ValueError, match="expected one of them"):
        topics.generate_documents()


def test_words_of_a_document_speak_for_its_topic(topics, documents):
    text = f"{documents[0]}, it's !?"
    words = topics.word_topics(text)
    assert [text[start:end] for start, end in words.spans] == documents[0].split()
    assert set(words.owners.tolist()) == {int(topics.transform([text]).argmax())}
    assert len(topics.word_topics("nothing here").spans) == 0


def test_the_longest_n_gram_speaks(fast, documents):
    words = ["bread oven", "bread", "goal", "goal team match"]
    topics = fast(vocabulary=words, ngram_range=(1, 3)).fit(documents)
    text = "Bread, oven: goal team match bread goal team"
    spans = topics.word_topics(text).spans
    found = ["Bread, oven", "goal team match", "bread", "goal"]
    assert [text[start:end] for start, end in spans] == found


def test_scores(topics, subjects):
    scores = {row["score"]: row["value"] for row in topics.evaluate(subjects)}
    assert scores["top_purity"] == scores["top_nmi"] == 1
    assert scores["num_topics"] == 3
    assert scores["npmi"] == pytest.approx(
        {row["score"]: row["value"] for row in topics.evaluate()}["npmi"]
    )


def test_scores_say_which_documents_they_are_of(topics, documents, subjects):
    learned = {row["score"]: row["definition"] for row in topics.evaluate(subjects)}
    assert "held-out" not in " ".join(learned.values())
    assert "the documents that the topics were learned from" in learned["top_purity"]
    others = {row["score"]: row["definition"] for row in topics.evaluate(subjects, documents)}
    assert "held-out" in others["top_purity"]


def test_coherence_is_counted_in_chosen_texts(topics, documents, subjects, trained_folder):
    def npmi(table):
        return {row["score"]: row["value"] for row in table}["npmi"]

    own = npmi(topics.evaluate())
    # In these texts the words of a subject are always neighbors.
    together = [" ".join(sorted(set(text.split()))) for text in documents]
    assert npmi(topics.evaluate(reference=together)) > own
    loaded = TopicVQ.from_pretrained(trained_folder)
    assert npmi(loaded.evaluate(documents=documents[:9], reference=documents)) == own
    with pytest.raises(ValueError, match="12 words of the topics, such as 'bake', occur in no tex"):
        loaded.evaluate(documents=documents[::3])
    with pytest.raises(ValueError, match="labels has 5 entries for 90 documents"):
        topics.evaluate(subjects[:5])


def test_a_query_without_a_word_is_near_to_nothing(topics, caplog):
    with caplog.at_level(logging.WARNING, logger="hf_vq.topics"):
        table = topics.find_topics("?!")
    assert "no word of '?!' is one that the encoder reads" in caplog.text
    assert [row["similarity"] for row in table] == [0, 0, 0]


def test_numbers_of_topics_are_compared(options, documents):
    table = search_num_topics(TopicVQ(**options), documents, [2, 3])
    assert [row["num_topics"] for row in table] == [2, 3]
    assert table[1]["bound"] < table[0]["bound"]
    assert all(np.isfinite(list(row.values())).all() for row in table)
    with pytest.raises(ValueError, match="held_out is 2"):
        search_num_topics(TopicVQ(**options), documents, [2], held_out=2)
    with pytest.raises(ValueError, match="num_topics is 500"):
        search_num_topics(TopicVQ(**options), documents, [500])


def test_numbers_of_topics_of_few_words_have_no_coherence(fast, documents):
    (row,) = search_num_topics(fast(vocabulary=["moon", "goal", "bread"]), documents, [2]).records
    assert row.keys() == {"num_topics", "bound"}


def test_octis(topics, documents):
    output = topics.to_octis(documents[:4], top_n=5)
    assert [len(words) for words in output["topics"]] == [5, 5, 5]
    assert output["topic-document-matrix"].shape == (3, 90)
    assert output["test-topic-document-matrix"].shape == (3, 4)
    np.testing.assert_allclose(output["topic-word-matrix"].sum(axis=1), 1, rtol=1e-5)


@pytest.mark.parametrize("ending", ["html", "png"])
def test_pictures(topics, documents, tmp_path, ending):
    pytest.importorskip("plotly" if ending == "html" else "matplotlib")
    choices = {
        "topics": {"chosen": [1]},
        "map": {"method": "pca", "documents": documents[:20]},
        "hierarchy": {},
        "similarity": {},
        "over_time": {"timestamps": list(range(90)), "num_slices": 4, "chosen": [0]},
        "document": {"text": documents[0]},
    }
    for kind, chosen in choices.items():
        path = topics.save_picture(kind, tmp_path / f"{kind}.{ending}", **chosen)
        assert path.stat().st_size > 1000
    assert topics.save_picture("hierarchy", tmp_path / "new" / f"tree.{ending}").is_file()
    with pytest.raises(ValueError, match="kind is 'bars'"):
        topics.save_picture("bars", tmp_path / "x.png")
    with pytest.raises(ValueError, match=r"expected an ending such as \.html or \.png"):
        topics.save_picture("topics", tmp_path / "x")


def test_further_documents_change_the_topics_a_little(topics, documents, options):
    before = topics.transform(documents)
    counts = topics.model_.statistics.topic_word_counts.sum().item()
    topics.set_params(training_options=options["training_options"])
    topics.partial_fit(documents[:30])
    after = topics.transform(documents)
    assert not np.array_equal(after, before)
    np.testing.assert_array_equal(after.argmax(axis=1), before.argmax(axis=1))
    assert len(topics.document_table()) == 30
    assert topics.model_.statistics.topic_word_counts.sum().item() == pytest.approx(counts + 360)
    assert not topics.model_.training


def test_fewer_documents_than_topics_may_be_added(topics, documents):
    before = topics.transform(documents)
    topics.partial_fit(documents[:2])
    np.testing.assert_array_equal(topics.transform(documents).argmax(axis=1), before.argmax(axis=1))
    assert len(topics.document_table()) == 2
    with pytest.raises(ValueError, match="1 of 3 documents have words .* at least 2"):
        topics.partial_fit([documents[0], "?!", documents[0]])


def test_partial_fit_begins_with_fit(fast, documents):
    assert fast().partial_fit(documents).transform(documents[:1]).shape == (1, 3)


def test_a_run_in_a_folder_goes_on_with_the_same_documents_alone(fast, documents, tmp_path):
    kept = {"output_dir": str(tmp_path / "run"), "resume_from_checkpoint": "latest"}
    topics = fast(training_options=FAST | kept).fit(documents)
    again = fast(training_options=FAST | kept).fit(documents)
    np.testing.assert_array_equal(again.transform(documents), topics.transform(documents))
    with pytest.raises(ValueError, match=r"run\.json is of another run: documents was"):
        fast(training_options=FAST | kept).fit(documents[:45])
    topics.partial_fit(documents[:9])
    assert len(topics.document_table()) == 9
    assert len(search_num_topics(topics, documents, [2])) == 1


def test_seed_words_guide_the_first_topics(options, documents):
    seeds = {"sports": ["goal", "Team"], "kitchen": ["bread", "oven"]}
    topics = TopicVQ(3, **options, seed_words=seeds).fit(documents)
    assert [row["label"] for row in topics.topic_table()] == ["sports", "kitchen", "topic 2"]
    assert topics.transform(["goal match team player", "flour yeast dough bake"]).argmax(
        1
    ).tolist() == [0, 1]
    assert {"goal", "team"} <= set(topics.topics_.top_words(0, 6))


def test_a_chosen_prior_is_where_unread_documents_go(fast, documents):
    topics = fast(prior_concentration=[8.0, 1.0, 1.0], model_options={"prior_learned": False})
    prior = topics.fit(documents).transform(["?!"])[0]
    assert prior[0] > prior[1] == pytest.approx(prior[2])
    even = fast(model_options={"prior_learned": False}).fit(documents).transform(["?!"])[0]
    np.testing.assert_allclose(even, 1 / 3, atol=1e-6)


# What documents can be


def test_documents_without_words_get_the_prior_and_a_flag(topics, documents):
    texts = ["", "12 ?! 🎉", "unheard words only", documents[0]]
    table = topics.document_table(texts)
    assert [row["placed"] for row in table] == [False, False, False, True]
    proportions = topics.transform(texts)
    np.testing.assert_array_equal(proportions[0], proportions[2])
    assert np.isfinite(proportions).all()


def test_unread_documents_in_training_are_kept_and_told_of(fast, documents, caplog):
    with caplog.at_level(logging.WARNING, logger="hf_vq.topics"):
        topics = fast().fit([*documents, "?!", ""])
    assert "2 of 92 documents have no word" in caplog.text
    assert len(topics.document_table()) == 92
    assert not topics.document_table()[90]["placed"]


def test_other_scripts(options):
    texts = ["луна ракета орбита звезда", "мяч команда матч гол"] * 20
    topics = TopicVQ(2, **options).fit(texts)
    assert topics.place().topic_proportions.argmax(1).tolist()[:4] in ([0, 1, 0, 1], [1, 0, 1, 0])
    assert set(topics.topics_.vocabulary) == set(" ".join(texts).split())


def test_a_very_long_document(topics, documents):
    text = " ".join(documents[0].split() * 8334)
    assert len(text.split()) > 100_000
    placed = topics.place([text, documents[0]])
    assert placed.num_words[0] == len(text.split())
    assert (
        placed.topic_proportions.argmax(axis=1).tolist()
        == [placed.topic_proportions[1].argmax()] * 2
    )


def test_duplicates_are_one_place(fast, documents):
    topics = fast().fit([*documents, *documents])
    proportions = topics.place().topic_proportions
    np.testing.assert_allclose(proportions[:90], proportions[90:], atol=1e-6)


def test_a_vocabulary_of_one_word(fast, documents):
    topics = fast(2, vocabulary=["moon"])
    topics.fit(documents)
    assert [row["words"] for row in topics.topic_table()] == [["moon"], ["moon"]]
    np.testing.assert_allclose(topics.topics_.word_probs, 1)


def test_a_vocabulary_that_no_document_has_is_refused(fast, documents):
    with pytest.raises(ValueError, match="no word of the vocabulary, such as 'zebra', occurs"):
        fast(vocabulary=["zebra", "quark"]).fit(documents)


def test_one_topic(fast, documents):
    topics = fast(1).fit(documents)
    np.testing.assert_array_equal(topics.transform(documents), 1)
    assert topics.hierarchy_text().startswith("0: ")
    assert len(topics.reduce_topics(num_topics=1)) == 1


@pytest.mark.parametrize("container", [tuple, iter, np.array, pd.Series], ids=lambda c: c.__name__)
def test_documents_come_in_many_containers(topics, documents, container):
    np.testing.assert_array_equal(
        topics.transform(container(documents)), topics.transform(documents)
    )


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ([], "there are no documents"),
        ("one text", "must be a list of texts"),
        (["a", 3], "got 3 of type int in row 1"),
        (["a", None], "got None of type NoneType in row 1"),
        (["a", float("nan")], "got nan of type float in row 1"),
        ([["a", "b"]], "type list in row 0"),
        (None, "must be a list of texts, got None"),
        (7, "must be a list of texts, got 7"),
        ({"text": ["a"]}, "got dict"),
        (pd.DataFrame({"text": ["a"]}), "got DataFrame"),
        (np.array([["a"]]), "got ndarray"),
    ],
)
def test_what_is_no_list_of_texts(topics, fast, wrong, message):
    for call in (topics.transform, topics.partial_fit, fast().fit):
        with pytest.raises(ValueError, match=message):
            call(wrong)


@pytest.mark.parametrize(
    ("texts", "num_topics", "message"),
    [
        (["moon rocket moon"], 1, r"there is one document \(n_samples=1\), expected at least 2"),
        (["moon rocket star"] * 9, 2, "there is one document, however often it is repeated"),
        (["moon rocket star", "?!"] * 5, 2, r"1 of 10 documents has words .*expected at least 2"),
        (["moon rocket star", "goal team star", "?!"] * 5, 3, "num_topics is 3, but only 2 of 15"),
        (["?!", "..."], 2, "no vocabulary"),
    ],
)
def test_too_little_for_topics(fast, texts, num_topics, message):
    with pytest.raises(ValueError, match=message):
        fast(num_topics, min_df=1).fit(texts)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"num_topics": 0}, "num_topics is 0"),
        ({"num_topics": 2.5}, "num_topics is 2.5"),
        ({"num_topics": True}, "num_topics is True"),
        ({"encoder": 5}, "encoder is 5"),
        ({"vocabulary": []}, "vocabulary is empty"),
        ({"vocabulary": "moon"}, "must be a list of words"),
        ({"min_df": 1000}, "no vocabulary"),
        ({"stop_words": "klingon"}, "stop_words"),
        ({"ngram_range": (2, 1)}, "ngram_range"),
        ({"model_options": {"codebok_size": 3}}, "model_options has 'codebok_size'"),
        ({"model_options": {"num_topics": 3}}, "model_options has 'num_topics'"),
        ({"training_options": {"epochs": 3}}, "training_options has 'epochs'"),
        ({"seed": None}, "seed is None, expected a whole number from 0"),
        ({"seed": -1}, "seed is -1, expected a whole number from 0"),
        ({"seed_words": [["moon", "warp"]]}, r"seed_words has \['warp'\]"),
        ({"seed_words": ["moon"]}, "seed_words has 'moon'"),
        ({"seed_words": [None]}, "seed_words has None, expected a list"),
        ({"seed_words": [["moon", 3]]}, "seed_words has 3, expected words"),
        ({"seed_words": [["moon"]] * 4}, "seed_words names 4 topics"),
        ({"prior_concentration": [1.0, 2.0]}, "prior_concentration has 2 numbers"),
        ({"prior_concentration": 0.0}, "prior_concentration is 0.0"),
    ],
)
def test_options_that_make_no_sense(fast, documents, wrong, message):
    with pytest.raises(ValueError, match=message):
        fast(**wrong).fit(documents)


# Word embeddings and encoders


def test_given_word_embeddings_are_taken(fast, documents, tmp_path):
    expected = fast().fit(documents)
    encoder, processor = expected._get_encoder(), expected.processor_
    embeddings = encode_corpus(documents, processor, encoder, progress=False)
    topics = fast(encoder=encoder).fit(documents, word_embeddings=embeddings)
    np.testing.assert_array_equal(topics.transform(documents), expected.transform(documents))
    given = topics.transform(documents, word_embeddings=embeddings)
    np.testing.assert_array_equal(given, expected.transform(documents))
    arrays = encoder.encode(documents, processor)
    made_elsewhere = fast().fit(documents, word_embeddings=arrays)
    assert made_elsewhere.transform(documents, word_embeddings=arrays).shape == (90, 3)
    with pytest.raises(ValueError, match="not known, since word_embeddings were given"):
        made_elsewhere.transform(documents)
    with pytest.raises(ValueError, match="set encoder to what made these"):
        made_elsewhere.save_pretrained(tmp_path)
    assert not [*tmp_path.iterdir()]
    with pytest.raises(ValueError, match="word_embeddings are of 90 documents, expected 1"):
        topics.transform(documents[:1], word_embeddings=embeddings)
    with pytest.raises(ValueError, match="89 arrays of embeddings for 90"):
        fast().fit(documents, word_embeddings=arrays[1:])


def test_the_words_of_another_form_describe_topics(options, documents, subjects, encoder_folder):
    """`bow_text`: the encoder reads the documents, and topics are told in the words of the other form."""
    forms = [" ".join(word.upper() for word in text.split()) for text in documents]
    settings = options | {"encoder": encoder_folder, "lowercase": False}
    topics = TopicVQ(3, **settings).fit(documents, bow_text=forms)
    assert set(topics.processor_.vocabulary) == {word for text in forms for word in text.split()}
    proportions = TopicVQ(3, **settings).fit_transform(documents, bow_text=forms)
    # New documents need no other form.
    np.testing.assert_allclose(topics.transform(documents), proportions, atol=1e-6)
    plain = TopicVQ(3, **settings).fit(documents)
    assert np.array_equal(plain.processor_.count_words(documents).toarray(), _counts(plain))
    assert _counts(topics).sum() == _counts(plain).sum()
    assert {row["score"] for row in topics.evaluate(subjects).records} >= {"npmi"}
    placed = topics.place(documents[:5], bow_text=forms[:5])
    assert np.array_equal(placed.word_counts.toarray(), _counts(topics)[:5])
    assert not topics.place(documents[:5]).word_counts.sum()
    assert len(topics.word_topics(documents[0], forms[0]).spans) == 12
    topics.partial_fit(documents[:30], bow_text=forms[:30], topic_epochs=1)
    with pytest.raises(ValueError, match="bow_text has 3 texts, expected 90"):
        topics.fit(documents, bow_text=forms[:3])


def test_another_form_of_a_document_places_its_words(fast, documents):
    texts = [" ".join(f"{word}s" for word in text.split()) for text in documents]
    topics = fast().fit(texts, bow_text=documents)
    placed = topics.place(texts[:1], bow_text=documents[:1])
    assert placed.num_words[0] == 12
    assert not topics.place(texts[:1]).num_words[0]  # the encoder knows the other form alone
    parts = topics.processor_, topics.topics_, texts[0], placed.topic_proportions[0], documents[0]
    found = topics.word_topics(texts[0], documents[0])
    np.testing.assert_array_equal(found.posterior, read_words(*parts).posterior)


def _counts(topics):
    return topics.place().word_counts.toarray()


def test_another_encoder_is_refused(trained_folder, documents, tmp_path):
    other = CorpusEncoder.fit(documents, TopicVQProcessor(), dim=5)
    topics = TopicVQ.from_pretrained(trained_folder, encoder=other)
    with pytest.raises(ValueError, match="was trained with the encoder 'corpus' of fingerprint"):
        topics.transform(documents)
    right = TopicVQ.from_pretrained(trained_folder)
    embeddings = encode_corpus(documents, right.processor_, other, progress=False)
    with pytest.raises(ValueError, match="of fingerprint"):
        right.transform(documents, word_embeddings=embeddings)
    nameless = TopicVQ.from_pretrained(trained_folder)
    nameless.model_.config.encoder_name_or_path = None
    nameless.set_params(encoder=None)
    with pytest.raises(ValueError, match="does not say which encoder"):
        nameless.transform(documents)


@pytest.fixture(scope="module")
def encoder_folder(documents, tmp_path_factory):
    """A small encoder of transformers with a word for a piece."""
    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *sorted(set(" ".join(documents).split()))]
    tokenizer = Tokenizer(WordLevel({word: row for row, word in enumerate(names)}, "[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    special = {
        "pad_token": "[PAD]",
        "unk_token": "[UNK]",
        "cls_token": "[CLS]",
        "sep_token": "[SEP]",
    }
    folder = tmp_path_factory.mktemp("encoder")
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special).save_pretrained(folder)
    sizes = {"num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    torch.manual_seed(1)
    BertModel(BertConfig(vocab_size=len(names), hidden_size=12, **sizes)).save_pretrained(folder)
    return folder


def test_an_encoder_of_transformers(fast, documents, encoder_folder, tmp_path):
    topics = fast(encoder=str(encoder_folder), encoder_dtype="float32").fit(documents)
    together = topics.transform(documents[:9])
    np.testing.assert_allclose(together, topics.place().topic_proportions[:9], atol=1e-5)
    alone = np.concatenate([topics.transform([text]) for text in documents[:9]])
    np.testing.assert_allclose(alone, together, atol=1e-5)
    topics.save_pretrained(tmp_path / "saved")
    assert not (tmp_path / "saved" / "encoder.safetensors").exists()
    again = TopicVQ.from_pretrained(tmp_path / "saved")
    assert again.encoder == str(encoder_folder)
    np.testing.assert_array_equal(again.transform(documents[:9]), together)
    moved = shutil.copytree(encoder_folder, tmp_path / "moved")
    elsewhere = TopicVQ.from_pretrained(tmp_path / "saved", encoder=moved)
    np.testing.assert_array_equal(elsewhere.transform(documents[:9]), together)
    model = BertModel.from_pretrained(moved)
    torch.nn.init.normal_(model.embeddings.word_embeddings.weight)
    model.save_pretrained(moved)
    other = TopicVQ.from_pretrained(tmp_path / "saved", encoder=moved)
    with pytest.raises(ValueError, match="was trained with the encoder .* of fingerprint"):
        other.transform(documents)
    shutil.rmtree(moved)
    lost = TopicVQ.from_pretrained(tmp_path / "saved", encoder=moved)
    with pytest.raises(OSError, match="cannot load the encoder .*pass encoder, where it is"):
        lost.transform(documents)
    for dtype in ("float99", "int8"):
        with pytest.raises(ValueError, match=f"encoder_dtype is '{dtype}'"):
            fast(encoder=str(encoder_folder), encoder_dtype=dtype).fit(documents)


def test_an_encoder_in_a_pickle_is_refused_for_that(fast, documents, encoder_folder, tmp_path):
    pickled = shutil.copytree(encoder_folder, tmp_path / "pickled")
    (pickled / "model.safetensors").rename(pickled / "pytorch_model.bin")
    with pytest.raises(OSError, match=r"cannot load the encoder .*file named model\.safetensors"):
        fast(encoder=str(pickled)).fit(documents)


def test_no_folder_of_this_machine_is_saved(fast, documents, tmp_path):
    run = {"output_dir": str(tmp_path / "run"), "resume_from_checkpoint": "latest"}
    topics = fast(cache_dir=tmp_path / "cache", training_options=FAST | run).fit(documents)
    topics.save_pretrained(tmp_path / "saved")
    for file in (tmp_path / "saved").glob("*.json"):
        assert str(tmp_path) not in file.read_text()
    again = TopicVQ.from_pretrained(tmp_path / "saved")
    assert (again.cache_dir, again.training_options) == (None, FAST)


def test_a_fit_that_fails_leaves_no_topics(fast, documents):
    topics = fast().fit(documents)
    with pytest.raises(ValueError, match="num_topics is 91"):
        topics.set_params(num_topics=91).fit(documents)
    with pytest.raises(NotFittedError):
        topics.merge_topics([[0, 1]])


def test_words_that_can_never_be_counted_are_told(fast, documents, caplog):
    fast(vocabulary=["bread", "Oven", "the team", "goal"]).fit(documents)
    assert "2 of 4 words of the vocabulary, such as 'Oven', can never be counted" in caplog.text


def test_scores_want_a_class_of_each_document(topics, subjects):
    for missing in (None, np.nan):
        with pytest.raises(ValueError, match="for document 1, expected its class"):
            topics.evaluate([subjects[0], missing, *subjects[2:]])


def test_the_saved_options_are_plain(trained_folder):
    state = json.loads((trained_folder / "topic_vq.json").read_text())
    assert state["options"]["encoder"] == "corpus"
    assert state["merges"] == []


def test_placed_documents_of_other_topics_are_refused(topics):
    placed = topics.place()
    topics.merge_topics([[0, 1]])
    with pytest.raises(ValueError, match="placed among 3 topics, but now there are 2"):
        topics.document_table(placed)


def test_a_group_is_a_list(topics):
    with pytest.raises(ValueError, match="expected a list of groups"):
        topics.merge_topics([0, 1])
    assert len(topics.merge_topics(np.array([[0, 1]]))) == 2
    topics.undo_merge()
