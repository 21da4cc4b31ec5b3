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
"""Bags of codes and words: equal to a naive count, whole or in parts, from memory or from disk."""

import time

import numpy as np
import pytest
import torch
from scipy.sparse import csr_array
from torch.utils.data import DataLoader

from hf_vq.models.processing_topic_vq import TopicVQProcessor
from hf_vq.topics import corpus as corpus_module
from hf_vq.topics.corpus import TopicCorpus
from hf_vq.topics.growing_arrays import GrowingArrays, open_arrays, read_facts
from hf_vq.topics.streamed_embeddings import StreamedWordEmbeddings
from hf_vq.topics.word_embeddings import CorpusEncoder, encode_corpus

SUBJECTS = ("sun moon star sky planet", "cat dog bark fur tail")


@pytest.fixture(scope="module")
def texts():
    generator = np.random.default_rng(0)
    lengths = generator.integers(0, 12, 80)
    lengths[:2] = 10, 0
    return [
        " ".join(generator.choice(SUBJECTS[row % 2].split(), length))
        for row, length in enumerate(lengths)
    ]


@pytest.fixture(scope="module")
def processor():
    return TopicVQProcessor(vocabulary="sun moon star cat dog bark".split())


@pytest.fixture(scope="module")
def encoder(texts, processor):
    return CorpusEncoder.fit(texts, processor, dim=6)


@pytest.fixture(scope="module")
def embeddings(texts, processor, encoder):
    return encode_corpus(texts, processor, encoder, progress=False)


@pytest.fixture
def model(tiny_config, embeddings):
    from hf_vq.models import TopicVQModel

    options = {"word_embedding_dim": embeddings.dim, "vocab_size": 6, "document_vector": True}
    model = TopicVQModel(tiny_config("topic_vq", **options))
    vectors = torch.from_numpy(embeddings.sample(1000))
    if model.config.embedding_scaling == "standard":
        model.set_embedding_scaling(vectors.mean(0), vectors.std(0))
    return model


def naive_bags(model, embeddings):
    """T17: the documents of all pairs of words compared, and a Python loop."""
    documents = torch.repeat_interleave(torch.from_numpy(embeddings.num_words.astype(np.int64)))
    vectors = torch.from_numpy(embeddings.vectors.astype(np.float32))
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=False):
        output = model.eval().encode(vectors[None])
    mask = documents[:, None] == documents[None]
    rows = torch.zeros(len(vectors), model.config.codebook_size)
    rows.scatter_add_(1, output.codes[0], output.code_weights[0].float())
    of_words = mask.float() @ rows
    bags = np.zeros((len(embeddings), model.config.codebook_size), np.float32)
    for word, document in enumerate(documents.tolist()):
        bags[document] = of_words[word].numpy()
    return bags


def check_equal(one, other):
    assert np.array_equal(one.code_counts, other.code_counts)
    assert (one.word_counts != other.word_counts).nnz == 0
    assert np.array_equal(one.num_words, other.num_words)
    assert (one.document_vectors is None) == (other.document_vectors is None)
    if one.document_vectors is not None:
        assert np.array_equal(one.document_vectors, other.document_vectors)


@pytest.fixture
def exact(monkeypatch):
    """Latents in float32, so that parts of any size have the same codes."""
    monkeypatch.setattr(corpus_module, "has_fast_bfloat16", lambda device: False)


@pytest.mark.usefixtures("exact")
def test_bags_equal_a_naive_reference(model, embeddings, texts, processor):
    corpus = TopicCorpus.build(model, embeddings)
    np.testing.assert_allclose(corpus.code_counts, naive_bags(model, embeddings), atol=1e-4)
    assert corpus.num_words.tolist() == [len(text.split()) for text in texts]
    assert not corpus.code_counts[1].any()
    assert (corpus.word_counts != processor.count_words(texts)).nnz == 0
    assert np.array_equal(corpus.document_vectors, embeddings.document_vectors)


@pytest.mark.usefixtures("exact")
def test_bags_are_made_faster_than_by_the_naive_reference(model, embeddings):
    """T17: the speed-up grows with the words; here they are few."""
    model.config.document_vector = False
    texts = ["sun moon star cat dog"] * 4000
    large = encode_corpus(
        texts, embeddings.processor, CorpusEncoder(["sun"], np.ones((1, 6))), progress=False
    )

    def seconds(make):
        times = []
        for _ in range(3):
            start = time.process_time()
            make(model, large)
            times.append(time.process_time() - start)
        return min(times)

    assert seconds(naive_bags) > 3 * seconds(TopicCorpus.build)


@pytest.mark.usefixtures("exact")
def test_parts_of_any_size_give_the_same(model, embeddings, monkeypatch):
    whole = TopicCorpus.build(model, embeddings)
    monkeypatch.setattr(corpus_module, "_PART_WORDS", 13)
    monkeypatch.setattr(corpus_module, "_BATCH_WORDS", 5)
    parts = TopicCorpus.build(model, embeddings)
    np.testing.assert_allclose(parts.code_counts, whole.code_counts, atol=1e-5)
    assert (parts.word_counts != whole.word_counts).nnz == 0


def test_lower_precision_gives_nearly_the_same_bags(model, embeddings, monkeypatch):
    monkeypatch.setattr(corpus_module, "has_fast_bfloat16", lambda device: True)
    half = TopicCorpus.build(model, embeddings).code_counts
    monkeypatch.setattr(corpus_module, "has_fast_bfloat16", lambda device: False)
    exact = TopicCorpus.build(model, embeddings).code_counts
    np.testing.assert_allclose(half.sum(1), exact.sum(1), rtol=1e-2, atol=1e-2)
    assert np.abs(half - exact).sum() < 0.1 * exact.sum()


def test_the_model_is_left_in_its_mode(model, embeddings):
    for mode in (True, False):
        model.train(mode)
        TopicCorpus.build(model, embeddings)
        assert model.training == mode


def test_saving_and_loading_changes_nothing(model, embeddings, tmp_path):
    for document_vector in (True, False):
        model.config.document_vector = document_vector
        corpus = TopicCorpus.build(model, embeddings)
        folder = tmp_path / str(document_vector)
        corpus.save(folder)
        loaded = TopicCorpus.load(folder)
        check_equal(loaded, corpus)
        assert isinstance(loaded.code_counts, np.memmap)
        assert loaded.word_counts.dtype == np.int32
    with pytest.raises(ValueError, match="no finished corpus"):
        TopicCorpus.load(tmp_path)


@pytest.mark.usefixtures("exact")
def test_a_killed_pass_goes_on_where_it_stopped(model, embeddings, tmp_path, monkeypatch):
    monkeypatch.setattr(corpus_module, "_PART_WORDS", 40)
    make = corpus_module._bags
    starts = []

    def dying(model, part):
        if len(starts) == 3:
            raise KeyboardInterrupt
        starts.append(len(part))
        return make(model, part)

    monkeypatch.setattr(corpus_module, "_bags", dying)
    with pytest.raises(KeyboardInterrupt):
        TopicCorpus.build(model, embeddings, tmp_path / "bags")
    with pytest.raises(ValueError, match="no finished corpus"):
        TopicCorpus.load(tmp_path / "bags")
    done = sum(starts)
    monkeypatch.setattr(
        corpus_module, "_bags", lambda *args: starts.append(len(args[1])) or make(*args)
    )
    resumed = TopicCorpus.build(model, embeddings, tmp_path / "bags")
    assert 0 < done < len(embeddings) == sum(starts)
    check_equal(resumed, TopicCorpus.build(model, embeddings))


def test_a_stream_makes_the_same_bags(model, embeddings, texts, processor, encoder, tmp_path):
    stream = StreamedWordEmbeddings(texts, processor, encoder)
    streamed = TopicCorpus.build(model, stream, tmp_path / "bags")
    whole = TopicCorpus.build(model, embeddings)
    np.testing.assert_allclose(streamed.code_counts, whole.code_counts, atol=1e-2)
    assert (streamed.word_counts != whole.word_counts).nnz == 0


def test_batches_are_arguments_of_the_model(model, embeddings):
    corpus = TopicCorpus.build(model, embeddings)
    loader = DataLoader(corpus, batch_size=32, collate_fn=corpus.collate)
    seen = []
    for batch in loader:
        output = model.eval()(**batch, objective="topics")
        assert output.loss.isfinite()
        seen.append(batch)
    for name in ("code_counts", "document_vectors"):
        assert np.array_equal(torch.cat([b[name] for b in seen]), getattr(corpus, name))
    counts = torch.cat([batch["word_counts"] for batch in seen])
    assert np.array_equal(counts, corpus.word_counts.toarray())


def test_batches_of_one_keep_their_axes(model, embeddings):
    """T15."""
    corpus = TopicCorpus.build(model, embeddings)
    (batch,) = corpus.__getitems__([3])
    assert {name: len(rows) for name, rows in batch.items()} == dict.fromkeys(batch, 1)
    stacked = corpus.collate([corpus[3]])
    assert all(torch.equal(stacked[name], batch[name]) for name in batch)
    assert model.eval().infer_topics(batch["code_counts"], batch["document_vectors"]).shape[0] == 1


def test_large_vocabularies_come_sparse(model, embeddings, monkeypatch):
    corpus = TopicCorpus.build(model, embeddings)
    rows = [5, 0, 1, 5]
    (dense,) = corpus.__getitems__(rows)
    monkeypatch.setattr(corpus_module, "_DENSE_VOCABULARY", 2)
    (sparse,) = corpus.__getitems__(rows)
    assert sparse["word_counts"].layout == torch.sparse_coo
    assert torch.equal(sparse["word_counts"].to_dense(), dense["word_counts"])
    losses = [model.eval()(**batch, objective="topics").loss for batch in (dense, sparse)]
    torch.testing.assert_close(*losses)
    assert torch.equal(
        corpus.collate([corpus[5]])["word_counts"].to_dense(), dense["word_counts"][:1]
    )


def test_corpora_are_joined(model, embeddings):
    corpus = TopicCorpus.build(model, embeddings)
    both = TopicCorpus.concatenate([corpus, corpus])
    assert len(both) == 2 * len(corpus)
    assert torch.equal(both[len(corpus)]["code_counts"], corpus[0]["code_counts"])
    assert (both.word_counts[len(corpus) :] != corpus.word_counts).nnz == 0


def test_parts_that_do_not_fit_are_refused(model, embeddings):
    counts = csr_array(np.ones((2, 3), np.int32))
    with pytest.raises(ValueError, match=r"equally long, got \[2, 3\]"):
        TopicCorpus(np.ones((3, 4), np.float32), counts, np.array([1, 1]))
    model.config.vocab_size = 7
    with pytest.raises(ValueError, match="the processor has 6 words, the model 7"):
        TopicCorpus.build(model, embeddings)


def test_another_encoder_is_refused(model, texts, processor, embeddings):
    model.config.encoder_fingerprint = embeddings.fingerprint
    TopicCorpus.build(model, embeddings)
    other = CorpusEncoder.fit(texts[:40], processor, dim=6)
    with pytest.raises(ValueError, match=f"of fingerprint .*this one has '{other.fingerprint}'"):
        TopicCorpus.build(model, encode_corpus(texts, processor, other, progress=False))


def test_an_empty_stream_is_refused(model, processor, encoder):
    with pytest.raises(ValueError, match="no documents"):
        TopicCorpus.build(model, StreamedWordEmbeddings([], processor, encoder))


# The files


def test_growing_arrays_refuse_other_facts(tmp_path):
    dtypes = {"a": "<f4", "b": "<i4"}
    with GrowingArrays(tmp_path, dtypes, {"from": "x"}) as arrays:
        arrays.append({"a": np.ones(3), "b": np.arange(2)}, 2)
    assert read_facts(tmp_path) is None
    with pytest.raises(ValueError, match="made from {'from': 'x'}, expected {'from': 'y'}"):
        GrowingArrays(tmp_path, dtypes, {"from": "y"})
    with GrowingArrays(tmp_path, dtypes, {"from": "x"}) as arrays:
        assert arrays.num_documents == 2
        arrays.append({"a": np.zeros(1), "b": np.empty(0)}, 1)
        arrays.finish()
    assert read_facts(tmp_path) == {"from": "x"}
    found = open_arrays(tmp_path, dtypes)
    assert found["a"].tolist() == [1, 1, 1, 0]
    assert found["b"].tolist() == [0, 1]


def test_growing_arrays_leave_other_files_alone(tmp_path):
    (tmp_path / "notes.txt").write_text("keep me")
    (tmp_path / "a.bin").write_bytes(b"of a process that was killed before its first state")
    with GrowingArrays(tmp_path, {"a": "<f4"}, {}) as arrays:
        arrays.append({"a": np.ones(2)}, 1)
        arrays.finish()
    assert (tmp_path / "notes.txt").read_text() == "keep me"
    assert open_arrays(tmp_path, {"a": "<f4"})["a"].tolist() == [1, 1]
