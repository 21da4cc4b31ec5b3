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
"""Vectors of words: aligned under any tokenizer, computed once, the same from disk as from memory."""

import json
import shutil
import threading
import time

import numpy as np
import pytest
import torch
from tokenizers import (
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from transformers import (
    BertConfig,
    BertModel,
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaModel,
    T5Config,
    T5EncoderModel,
)

from hf_vq.models.processing_topic_vq import TopicVQProcessor
from hf_vq.topics import corpus_encoder, word_embeddings
from hf_vq.topics.streamed_embeddings import StreamedWordEmbeddings
from hf_vq.topics.word_embeddings import (
    ContextualEncoder,
    CorpusEncoder,
    WordEmbeddings,
    encode_corpus,
)

HARD = "Encryption isn't hard: café, cafe\u0301, 机器学习 and हिन्दी 😀 don’t O'Neil x-ray Größe"
TEXTS = [
    HARD,
    "the cat sleeps on the mat and the dog barks " * 4,
    "",
    "!?",
    "  sun moon\n\tstar  ",
    "moon",
]
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
SIZES = {
    "hidden_size": 12,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 20,
}


def wordpiece():
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(vocab_size=90, special_tokens=SPECIAL, show_progress=False)
    return tokenizer, trainer


def byte_bpe():
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    return tokenizer, trainer


def sentencepiece():
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=110, special_tokens=SPECIAL, unk_token="[UNK]", show_progress=False
    )
    return tokenizer, trainer


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Write an encoder of each kind, with a tokenizer trained on the texts."""
    result = {}
    for kind, make in (
        ("wordpiece", wordpiece),
        ("bpe", byte_bpe),
        ("sentencepiece", sentencepiece),
    ):
        tokenizer, trainer = make()
        tokenizer.train_from_iterator(TEXTS, trainer)
        tokenizer.post_processor = processors.TemplateProcessing(
            single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
        )
        names = {
            "pad_token": "[PAD]",
            "unk_token": "[UNK]",
            "cls_token": "[CLS]",
            "sep_token": "[SEP]",
        }
        fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=64, **names)
        torch.manual_seed(1)
        if kind == "wordpiece":
            model = BertModel(BertConfig(vocab_size=len(fast), max_position_embeddings=64, **SIZES))
        elif kind == "bpe":
            config = RobertaConfig(
                vocab_size=len(fast), max_position_embeddings=66, pad_token_id=0, **SIZES
            )
            model = RobertaModel(config)
        else:
            config = T5Config(
                vocab_size=len(fast), d_model=12, d_kv=6, d_ff=20, num_layers=2, num_heads=2
            )
            model = T5EncoderModel(config)
        folder = tmp_path_factory.mktemp(kind)
        model.save_pretrained(folder)
        fast.save_pretrained(folder)
        result[kind] = folder
    return result


@pytest.fixture(params=["wordpiece", "bpe", "sentencepiece"])
def folder(request, folders):
    return folders[request.param]


def load(folder, **options):
    return ContextualEncoder(folder, dtype=torch.float32, **options)


@pytest.fixture
def encoder(folders):
    return load(folders["wordpiece"])


@pytest.fixture
def processor():
    return TopicVQProcessor(
        stop_words=["the", "and", "on"], vocabulary=["moon", "cat", "dog", "sun"]
    )


class Counting:
    """An encoder that notes what it is asked, and dies at a given text."""

    def __init__(self, encoder, dies_at=None):
        self.encoder, self.dies_at, self.texts = encoder, dies_at, []
        self.fingerprint, self.dim = encoder.fingerprint, encoder.dim

    def encode_words(self, documents, processor, bow_text=None):
        if self.dies_at in documents:
            raise KeyboardInterrupt
        self.texts += documents
        return self.encoder.encode_words(documents, processor, bow_text)


def naive(encoder, text, processor):
    """Words one by one: every piece, of every window, that has a character of the word."""
    limit = encoder.max_length - 2
    encoded = encoder.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    ids, offsets = encoded["input_ids"], encoded["offset_mapping"]
    states = []
    with torch.no_grad():
        for start in range(0, max(len(ids), 1), limit):
            window = [2, *ids[start : start + limit], 3]
            states.append(encoder.model(torch.tensor([window])).last_hidden_state[0])
    inner = torch.cat([window[1:-1] for window in states])
    vectors = []
    for _, first, last in processor.content_words(text):
        characters = set(range(first, last))
        pieces = [i for i, (a, b) in enumerate(offsets) if characters & set(range(a, b))]
        vectors.append(inner[pieces].mean(0))
    vectors = torch.stack(vectors) if vectors else torch.zeros(0, inner.shape[1])
    return vectors.numpy(), torch.cat(states).mean(0).numpy()


@pytest.mark.parametrize("max_length", [7, 64])
def test_vectors_equal_a_naive_reference(folder, processor, max_length):
    """T22, T24: words of several pieces, accents, Han characters, texts of several windows."""
    encoder = load(folder, max_length=max_length, batch_tokens=100)
    encoded = encoder.encode_words(TEXTS, processor)
    assert encoded.words == [w for text in TEXTS for w, _, _ in processor.content_words(text)]
    for text, vectors, document in zip(
        TEXTS, encoded.split(), encoded.document_vectors, strict=True
    ):
        expected, expected_document = naive(encoder, text, processor)
        assert vectors.shape == (len(processor.content_words(text)), 12)
        np.testing.assert_allclose(vectors, expected, atol=1e-5)
        np.testing.assert_allclose(document, expected_document, atol=1e-5)


def test_hard_words_have_vectors_under_every_tokenizer(folder):
    processor = TopicVQProcessor(token_pattern=r"\S+")
    (vectors,) = load(folder).encode([HARD], processor)
    assert len(vectors) == len(HARD.split())
    assert np.isfinite(vectors).all()


def test_vectors_do_not_depend_on_batches_or_order(encoder, processor):
    """T15: batches of one, of some and of all give the same."""
    whole = encoder.encode(TEXTS, processor)
    for text, vectors in zip(TEXTS, whole, strict=True):
        np.testing.assert_allclose(encoder.encode([text], processor)[0], vectors, atol=1e-5)
    encoder.batch_tokens = 1
    for one, other in zip(encoder.encode(TEXTS[::-1], processor), whole[::-1], strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


def test_batches_hold_windows_of_equal_length(encoder):
    encoder.batch_tokens = 20
    lengths = (3, 9, 30, 8, 9, 9, 3)
    batches = [batch.tolist() for batch in encoder._batches([[0] * n for n in lengths])]
    assert batches == [[2], [1, 4], [5], [3], [0, 6]]


def test_company_changes_nothing_in_bfloat16(folder, processor):
    """Padding would: another length is another rounding, of some thousandths."""
    encoder = ContextualEncoder(folder, device="cpu", dtype=torch.bfloat16)
    encoded = encoder.encode_words(TEXTS, processor)
    for row, (text, vectors) in enumerate(zip(TEXTS, encoded.split(), strict=True)):
        alone = encoder.encode_words([text], processor)
        np.testing.assert_allclose(alone.vectors, vectors, atol=1e-5)
        means = encoded.document_vectors[row]
        np.testing.assert_allclose(alone.document_vectors[0], means, atol=1e-5)


def test_pooling(folders, processor):
    text = [TEXTS[0]]
    mean, first, single = (
        load(folders["wordpiece"], pooling=pooling).encode_words(text, processor)
        for pooling in ("mean", "first", "single_piece")
    )
    assert mean.words == first.words
    assert 0 < len(single.words) < len(mean.words)
    same = [mean.words.index(word) for word in single.words]
    np.testing.assert_allclose(single.vectors, mean.vectors[same], atol=1e-6)
    np.testing.assert_allclose(single.vectors, first.vectors[same], atol=1e-6)
    assert not np.allclose(first.vectors, mean.vectors)
    assert single.num_words.tolist() == [len(single.words)]


def test_layers(folders, processor):
    one, two, both = (
        load(folders["wordpiece"], layer=layer).encode(TEXTS, processor)[0]
        for layer in (-1, -2, (-1, -2))
    )
    np.testing.assert_allclose((one + two) / 2, both, atol=1e-6)
    assert not np.allclose(one, two)
    with pytest.raises(ValueError, match="layer must be from -3 to 2 .* got 3"):
        load(folders["wordpiece"], layer=3)


def test_windows_fit_the_encoder(folders):
    assert load(folders["bpe"]).max_length == 64
    assert load(folders["wordpiece"], max_length=9).max_length == 9


def test_bfloat16_is_close(folders, processor):
    exact = load(folders["wordpiece"]).encode(TEXTS, processor)[0]
    half = ContextualEncoder(folders["wordpiece"], dtype=torch.bfloat16)
    vectors = half.encode(TEXTS, processor)[0]
    assert vectors.dtype == np.float32
    assert half.fingerprint == load(folders["wordpiece"]).fingerprint
    assert 0 < np.abs(vectors - exact).max() < 0.1


def test_the_fingerprint_is_that_of_the_weights(folders, tmp_path):
    encoder = load(folders["wordpiece"])
    encoder.model.save_pretrained(tmp_path / "copy")
    encoder.tokenizer.save_pretrained(tmp_path / "copy")
    assert load(tmp_path / "copy").fingerprint == encoder.fingerprint
    with torch.no_grad():
        encoder.model.encoder.layer[1].output.dense.bias += 0.01
    encoder.model.save_pretrained(tmp_path / "tuned")
    encoder.tokenizer.save_pretrained(tmp_path / "tuned")
    others = [
        load(tmp_path / "tuned"),
        load(folders["wordpiece"], layer=-2),
        load(folders["wordpiece"], pooling="first"),
        load(folders["bpe"]),
    ]
    assert len({encoder.fingerprint, *(other.fingerprint for other in others)}) == 5


def test_an_encoder_needs_a_known_pooling(folders):
    with pytest.raises(ValueError, match="'max'"):
        load(folders["wordpiece"], pooling="max")


def test_words_without_a_piece_are_left_out(folders):
    """A tokenizer may drop characters, here control characters, that a pattern takes for a word."""
    processor = TopicVQProcessor(token_pattern=r"\S+")
    encoded = load(folders["wordpiece"]).encode_words(["moon \x07\x07 sun"], processor)
    assert encoded.words == ["moon", "sun"]
    assert encoded.num_words.tolist() == [2]


def test_a_tokenizer_may_have_no_piece_for_a_text(folders, tmp_path):
    """One that adds no special tokens, as those of many decoders, has none for an empty document."""
    folder = shutil.copytree(folders["bpe"], tmp_path / "bare")
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
    tokenizer.backend_tokenizer.post_processor = processors.ByteLevel()
    tokenizer.save_pretrained(folder)
    encoder = load(folder)
    assert encoder.tokenizer("")["input_ids"] == []
    encoded = encoder.encode_words(["", "moon", "", "sun moon"], TopicVQProcessor())
    assert encoded.num_words.tolist() == [0, 1, 0, 2]
    assert not encoded.document_vectors[[0, 2]].any()
    alone = encoder.encode_words(["sun moon"], TopicVQProcessor())
    np.testing.assert_allclose(encoded.split()[3], alone.vectors, atol=1e-5)
    nothing = encoder.encode_words(["", ""], TopicVQProcessor())
    assert nothing.vectors.shape == (0, 12)


# The store


def check_equal(one, other):
    assert np.array_equal(one.vectors, other.vectors)
    assert np.array_equal(one.offsets, other.offsets)
    assert np.array_equal(one.word_ids, other.word_ids)
    assert np.array_equal(one.document_vectors, other.document_vectors)
    assert (one.word_counts != other.word_counts).nnz == 0
    assert one.words == other.words
    assert one.fingerprint == other.fingerprint


def test_store_equals_memory_and_the_encoder(encoder, processor, tmp_path):
    memory = encode_corpus(TEXTS, processor, encoder, progress=False)
    stored = encode_corpus(iter(TEXTS), processor, encoder, tmp_path, progress=False)
    check_equal(memory, stored)
    assert isinstance(stored.vectors, np.memmap)
    assert stored.vectors.dtype == np.float16
    assert len(stored) == len(TEXTS)
    for number, vectors in enumerate(encoder.encode(TEXTS, processor)):
        np.testing.assert_allclose(stored[number], vectors, atol=2e-3)
    np.testing.assert_array_equal(stored[-1], stored[5])
    with pytest.raises(IndexError):
        stored[6]
    assert (stored.word_counts != processor.count_words(TEXTS)).nnz == 0
    words = [w for text in TEXTS for w, _, _ in processor.content_words(text)]
    assert [stored.words[i] for i in stored.surface_ids] == words
    assert stored.word_ids.tolist() == [processor.word_to_id.get(word, -1) for word in words]


def test_each_document_is_encoded_once(encoder, processor, tmp_path):
    """T16: the official code runs the encoder in every epoch."""
    counting = Counting(encoder)
    embeddings = encode_corpus(TEXTS, processor, counting, tmp_path, progress=False)
    for _ in range(3):
        list(embeddings.chunks(5))
    encode_corpus(TEXTS, processor, counting, tmp_path, progress=False)
    assert counting.texts == TEXTS


def test_another_vocabulary_needs_no_second_pass(encoder, processor, tmp_path):
    counting = Counting(encoder)
    embeddings = encode_corpus(TEXTS, processor, counting, tmp_path, progress=False)
    other = TopicVQProcessor(vocabulary=["barks", "sun"], stop_words=processor.stop_words)
    again = encode_corpus(TEXTS, other, counting, tmp_path, progress=False)
    assert counting.texts == TEXTS
    check_equal(again, embeddings.with_processor(other))
    assert again.word_counts.toarray().sum(axis=0).tolist() == [4, 1]


def test_what_changes_the_vectors_needs_another_pass(encoder, processor, folders, tmp_path):
    def encode(texts=TEXTS, processor=processor, encoder=encoder):
        counting = Counting(encoder)
        encode_corpus(texts, processor, counting, tmp_path, progress=False)
        return len(counting.texts)

    assert encode() == 6
    assert encode(TEXTS[::-1]) == 6
    assert encode(processor=TopicVQProcessor(vocabulary=["sun"])) == 6
    assert encode(encoder=load(folders["bpe"])) == 6
    assert encode() == 0


def test_other_words_are_refused(encoder, processor, tmp_path):
    embeddings = encode_corpus(TEXTS, processor, encoder, tmp_path, progress=False)
    (folder,) = (path.parent for path in tmp_path.glob("*/state.json"))
    other = TopicVQProcessor(vocabulary=["sun"])
    with pytest.raises(ValueError, match="other content words"):
        embeddings.with_processor(other)
    with pytest.raises(ValueError, match="found by another token_pattern"):
        WordEmbeddings.open(folder, other)
    with pytest.raises(ValueError, match="no finished word embeddings"):
        WordEmbeddings.open(tmp_path, processor)


def test_a_killed_pass_goes_on_where_it_stopped(encoder, processor, tmp_path, monkeypatch):
    monkeypatch.setattr(word_embeddings, "_CHUNK_DOCUMENTS", 2)
    expected = encode_corpus(TEXTS, processor, encoder, progress=False)
    killed = Counting(encoder, dies_at=TEXTS[4])
    with pytest.raises(KeyboardInterrupt):
        encode_corpus(TEXTS, processor, killed, tmp_path, progress=False)
    assert killed.texts == TEXTS[:4]
    (folder,) = (path.parent for path in tmp_path.glob("*/state.json"))
    with pytest.raises(ValueError, match="no finished word embeddings"):
        WordEmbeddings.open(folder, processor)
    for name in ("vectors", "words", "num_words"):  # half of a chunk that was never noted down
        with (folder / f"{name}.bin").open("ab") as file:
            file.write(b"12345")
    counting = Counting(encoder)
    resumed = encode_corpus(TEXTS, processor, counting, tmp_path, progress=False)
    assert counting.texts == TEXTS[4:]
    check_equal(resumed, expected)


@pytest.mark.parametrize("name", ["vectors", "document_vectors", "num_words", "words", "state"])
def test_a_damaged_store_is_made_anew(encoder, processor, tmp_path, name):
    expected = encode_corpus(TEXTS, processor, encoder, tmp_path, progress=False)
    (file,) = tmp_path.glob(f"*/{name}.*")
    file.write_bytes(file.read_bytes()[:-8])
    with pytest.raises(ValueError, match="no finished word embeddings"):
        WordEmbeddings.open(file.parent, processor)
    check_equal(encode_corpus(TEXTS, processor, encoder, tmp_path, progress=False), expected)
    file.unlink()
    check_equal(encode_corpus(TEXTS, processor, encoder, tmp_path, progress=False), expected)


def test_two_that_want_the_same_store_do_not_write_at_once(
    encoder, processor, tmp_path, monkeypatch
):
    monkeypatch.setattr(word_embeddings, "_CHUNK_DOCUMENTS", 1)
    expected = encode_corpus(TEXTS, processor, encoder, progress=False)
    slow, found = Counting(encoder), {}
    begun = threading.Event()

    def encode_words(documents, processor, bow_text=None):
        begun.set()
        time.sleep(0.05)
        return Counting.encode_words(slow, documents, processor, bow_text)

    slow.encode_words = encode_words

    def run(name):
        found[name] = encode_corpus(TEXTS, processor, slow, tmp_path, progress=False)

    threads = [threading.Thread(target=run, args=(name,)) for name in ("first", "second")]
    threads[0].start()
    begun.wait()
    threads[1].start()
    for thread in threads:
        thread.join()
    assert slow.texts == TEXTS
    check_equal(found["first"], expected)
    check_equal(found["second"], expected)


def test_chunks_cover_all_documents_in_order(encoder, processor):
    embeddings = encode_corpus(TEXTS, processor, encoder, progress=False)
    for max_words in (1, 7, 1000):
        rows, vectors = zip(*embeddings.chunks(max_words), strict=True)
        assert [i for part in rows for i in range(part.start, part.stop)] == list(range(6))
        assert np.array_equal(np.concatenate(vectors), embeddings.vectors)
        for part, found in zip(rows, vectors, strict=True):
            assert len(found) <= max_words or part.stop == part.start + 1
            assert found.dtype == np.float32
    parts = list(embeddings.parts(7, start=1))
    assert sum(map(len, parts)) == 5
    counts = np.concatenate([part.word_counts.toarray() for part in parts])
    assert (counts == embeddings.word_counts.toarray()[1:]).all()


def test_samples(encoder, processor):
    embeddings = encode_corpus(TEXTS, processor, encoder, progress=False)
    sample = embeddings.sample(10, seed=3)
    assert np.array_equal(sample, embeddings.sample(10, seed=3))
    assert not np.array_equal(sample, embeddings.sample(10, seed=4))
    rows = {tuple(row) for row in embeddings.vectors.astype(np.float32)}
    assert {tuple(row) for row in sample} <= rows
    assert embeddings.sample(10**6).shape == embeddings.vectors.shape


def test_n_grams_are_counted(encoder, processor):
    pairs = TopicVQProcessor(stop_words=processor.stop_words, ngram_range=(1, 2))
    pairs.fit_vocabulary(TEXTS)
    embeddings = encode_corpus(TEXTS, pairs, encoder, progress=False)
    assert "dog barks" in pairs.word_to_id
    assert (embeddings.word_counts != pairs.count_words(TEXTS)).nnz == 0


def test_given_vectors(encoder, processor):
    arrays = encoder.encode(TEXTS, processor)
    embeddings = WordEmbeddings.from_arrays(arrays, TEXTS, processor)
    expected = encode_corpus(TEXTS, processor, encoder, progress=False)
    assert np.array_equal(embeddings.vectors, expected.vectors)
    assert np.array_equal(embeddings.word_ids, expected.word_ids)
    with pytest.raises(ValueError, match=r"document 1 must have a row for each of its 20"):
        WordEmbeddings.from_arrays([arrays[0], *arrays[2:], arrays[1]], TEXTS, processor)
    with pytest.raises(ValueError, match="5 arrays of embeddings for 6 documents"):
        WordEmbeddings.from_arrays(arrays[1:], TEXTS, processor)


def test_another_form_of_the_documents_is_counted(encoder, processor, tmp_path, monkeypatch):
    """The vectors are those of the texts, the counts those of the other form, however they are kept."""
    monkeypatch.setattr(word_embeddings, "_CHUNK_DOCUMENTS", 2)
    plain = encode_corpus(TEXTS, processor, encoder, progress=False)
    forms = [text if row % 2 else f"moon {text} sun sun" for row, text in enumerate(TEXTS)]
    expected = processor.count_words(forms).toarray()
    memory = encode_corpus(TEXTS, processor, encoder, progress=False, bow_text=forms)
    store = encode_corpus(TEXTS, processor, encoder, tmp_path, progress=False, bow_text=forms)
    parts = list(store.parts(5))
    stream = list(StreamedWordEmbeddings(TEXTS, processor, encoder, forms).parts(5, 1))
    arrays = encoder.encode(TEXTS, processor)
    given = WordEmbeddings.from_arrays(arrays, TEXTS, processor, bow_text=forms)
    for one in (memory, store, given):
        assert np.array_equal(one.vectors, plain.vectors)
        assert np.array_equal(one.num_words, plain.num_words)
        assert np.array_equal(one.word_counts.toarray(), expected)
    for several, first in ((parts, 0), (stream, 1)):
        counts = np.concatenate([part.word_counts.toarray() for part in several])
        assert np.array_equal(counts, expected[first:])
    another = TopicVQProcessor(
        stop_words=processor.stop_words, vocabulary=["moon", "sun sun"], ngram_range=(1, 2)
    )
    counts = store.with_processor(another).word_counts.toarray()
    assert np.array_equal(counts, another.count_words(forms).toarray())
    # The same texts without the other form are another corpus.
    again = encode_corpus(TEXTS, processor, encoder, tmp_path, progress=False)
    assert np.array_equal(again.word_counts.toarray(), processor.count_words(TEXTS).toarray())


def test_a_killed_pass_over_two_forms_goes_on(encoder, processor, tmp_path, monkeypatch):
    monkeypatch.setattr(word_embeddings, "_CHUNK_DOCUMENTS", 1)
    forms = [f"{text} moon" for text in TEXTS]
    dying = Counting(encoder, dies_at=TEXTS[3])
    with pytest.raises(KeyboardInterrupt):
        encode_corpus(TEXTS, processor, dying, tmp_path, progress=False, bow_text=forms)
    counting = Counting(encoder)
    resumed = encode_corpus(TEXTS, processor, counting, tmp_path, progress=False, bow_text=forms)
    assert counting.texts == TEXTS[3:]
    assert np.array_equal(resumed.word_counts.toarray(), processor.count_words(forms).toarray())


@pytest.mark.parametrize(
    ("documents", "message"),
    [
        ([], "no documents"),
        (["a", None], "got None of type NoneType in row 1"),
        ("text", "must be a list of texts"),
    ],
)
def test_bad_documents_are_named(encoder, processor, documents, message, tmp_path):
    for cache_dir in (None, tmp_path):
        with pytest.raises(ValueError, match=message):
            encode_corpus(documents, processor, encoder, cache_dir, progress=False)
    assert not [*tmp_path.iterdir()]


def test_documents_are_known_again(encoder, processor, tmp_path):
    def digest(texts, cache_dir=None, bow_text=None):
        found = encode_corpus(texts, processor, encoder, cache_dir, False, bow_text)
        return found.documents_digest

    stored = digest(TEXTS, tmp_path)
    assert stored == digest(TEXTS, tmp_path) == digest(TEXTS)
    others = [TEXTS[:-1], [*TEXTS, ""], TEXTS[::-1]]
    digests = [stored, digest(TEXTS, bow_text=TEXTS[::-1]), *map(digest, others)]
    assert len(set(digests)) == len(digests)
    streamed = [StreamedWordEmbeddings(texts, processor, encoder) for texts in (TEXTS, *others)]
    assert streamed[0].documents_digest == streamed[0].documents_digest
    assert len({embeddings.documents_digest for embeddings in streamed}) == len(streamed)


@pytest.mark.parametrize("documents", [[""], ["the and"], ["12 !?", ""]])
def test_documents_without_words_stay(encoder, processor, documents, tmp_path):
    for cache_dir in (None, tmp_path):
        embeddings = encode_corpus(documents, processor, encoder, cache_dir, progress=False)
        assert len(embeddings) == len(documents)
        assert embeddings.vectors.shape == (0, 12)
        assert embeddings.word_counts.shape == (len(documents), 4)
        assert embeddings.sample(5).shape == (0, 12)


def test_a_document_of_100_000_words(processor):
    """It is longer than any window and any chunk, and no word of it is lost."""
    texts = ["moon", "sun moon cat dog " * 25_000, "sun"]
    encoder = CorpusEncoder.fit(texts, processor, dim=3, min_count=1)
    embeddings = encode_corpus(texts, processor, encoder, progress=False)
    assert embeddings.num_words.tolist() == [1, 100_000, 1]
    assert embeddings.word_counts.toarray()[1].tolist() == [25_000] * 4


def test_vectors_beyond_float16_are_refused(processor):
    with pytest.raises(ValueError, match="fit into float16"):
        WordEmbeddings.from_arrays([np.full((1, 4), 1e6)], ["moon"], processor)


# Streams


def test_a_stream_gives_what_the_store_gives(encoder, processor):
    texts = TEXTS * 5
    stored = encode_corpus(texts, processor, encoder, progress=False)
    stream = StreamedWordEmbeddings(texts, processor, encoder)
    assert (stream.dim, stream.fingerprint) == (stored.dim, stored.fingerprint)
    for start in (0, 7):
        parts = list(stream.parts(10, start))
        assert len(parts) > 2
        vectors = np.concatenate([part.vectors for part in parts]).astype(np.float32)
        expected = np.concatenate([vectors for _, vectors in stored.chunks(10)])
        np.testing.assert_allclose(vectors, expected[stored.offsets[start] :], atol=2e-3)
        counts = np.concatenate([part.word_counts.toarray() for part in parts])
        assert (counts == stored.word_counts.toarray()[start:]).all()


def test_a_stream_is_sampled_by_encoding_some_documents(encoder, processor):
    texts = [f"moon {'sun ' * (row % 7)}" for row in range(2000)]
    counting = Counting(encoder)
    stream = StreamedWordEmbeddings(texts, processor, counting)
    sample = stream.sample(50, seed=1)
    assert sample.shape == (50, 12)
    assert 10 < len(counting.texts) < 500
    assert np.array_equal(sample, stream.sample(50, seed=1))
    assert not np.array_equal(sample, stream.sample(50, seed=2))
    assert StreamedWordEmbeddings(["moon"], processor, encoder).sample(50).shape == (1, 12)


def test_a_stream_must_be_readable_twice(encoder, processor):
    with pytest.raises(ValueError, match="a generator cannot be"):
        StreamedWordEmbeddings((text for text in TEXTS), processor, encoder)


# Vectors of the corpus itself


@pytest.fixture
def corpus():
    """Two subjects that share no word, in random order."""
    generator = np.random.default_rng(0)
    subjects = ["sun moon star sky".split(), "cat dog bark fur".split()]
    return [" ".join(generator.choice(subjects[row % 2], 8)) for row in range(60)]


def test_words_in_like_company_are_alike(corpus):
    processor = TopicVQProcessor()
    encoder = CorpusEncoder.fit(corpus, processor, dim=4)
    vectors = dict(zip(encoder.words, encoder.vectors, strict=True))
    assert set(vectors) == {*"sun moon star sky cat dog bark fur".split()}
    assert vectors["sun"] @ vectors["moon"] > 0.7
    assert abs(vectors["sun"] @ vectors["dog"]) < 0.1
    np.testing.assert_allclose(np.linalg.norm(encoder.vectors, axis=1), 1, atol=2e-3)


def test_information_equals_a_naive_reference(corpus):
    from hf_vq.topics.corpus_encoder import _company, _positive_information

    texts = [[0, 1, 2, 1], [3], [2, 2, 0]]
    near = np.zeros((4, 4))
    for row in texts:
        for i, one in enumerate(row):
            for j, other in enumerate(row):
                if i != j and abs(i - j) <= 2:
                    near[one, other] += (3 - abs(i - j)) / 2
    ids = np.concatenate(texts)
    documents = np.repeat(np.arange(3), [4, 1, 3])
    found = _company(ids, documents, 4, window=2)
    np.testing.assert_allclose(found.toarray(), near)
    p = near.sum(1) / near.sum()
    smoothed = near.sum(1) ** 0.75 / (near.sum(1) ** 0.75).sum()
    with np.errstate(divide="ignore", invalid="ignore"):
        expected = np.log(near / near.sum() / (p[:, None] * smoothed))
    expected = np.where(expected > 0, expected, 0)
    np.testing.assert_allclose(_positive_information(found).toarray(), expected, atol=1e-6)


def test_the_corpus_encoder_is_seeded_saved_and_loaded(corpus, tmp_path):
    processor = TopicVQProcessor()
    encoder = CorpusEncoder.fit(corpus, processor, dim=4, seed=1)
    again = CorpusEncoder.fit(corpus, processor, dim=4, seed=1)
    assert again.fingerprint == encoder.fingerprint
    path = encoder.save(tmp_path)
    assert path.name == "encoder.safetensors"
    loaded = CorpusEncoder.load(tmp_path)
    assert loaded.fingerprint == encoder.fingerprint
    texts = ["sun and zebra, cat", "zebra", ""]
    for one, other in zip(
        loaded.encode(texts, processor), encoder.encode(texts, processor), strict=True
    ):
        assert np.array_equal(one, other)
    assert [len(vectors) for vectors in encoder.encode(texts, processor)] == [2, 0, 0]
    encoded = encoder.encode_words(texts, processor)
    np.testing.assert_allclose(encoded.document_vectors[0], encoded.vectors.mean(0), atol=1e-6)
    assert not encoded.document_vectors[1:].any()


def test_a_corpus_is_counted_in_blocks(corpus, monkeypatch):
    whole = CorpusEncoder.fit(corpus, TopicVQProcessor(), dim=4)
    monkeypatch.setattr(corpus_encoder, "_BLOCK_WORDS", 50)
    blocks = CorpusEncoder.fit(iter(corpus), TopicVQProcessor(), dim=4)
    assert blocks.words == whole.words
    np.testing.assert_allclose(blocks.vectors, whole.vectors, atol=2e-3)


def test_a_corpus_of_too_few_words_is_refused():
    with pytest.raises(ValueError, match="0 of 3 words occur at least 3 times"):
        CorpusEncoder.fit(["sun moon star"], TopicVQProcessor())


def test_words_that_never_meet_are_refused():
    """As those of a language without spaces, of which whole sentences are taken for words."""
    with pytest.raises(ValueError, match="stand together more often than by chance"):
        CorpusEncoder.fit(["さかな", "つき", "ほし"] * 5, TopicVQProcessor())


def test_state_of_a_store_is_json(encoder, processor, tmp_path):
    encode_corpus(TEXTS, processor, encoder, tmp_path, progress=False)
    (folder,) = (path.parent for path in tmp_path.glob("*/state.json"))
    state = json.loads((folder / "state.json").read_text("utf-8"))
    assert state["complete"]
    assert state["facts"]["fingerprint"] == encoder.fingerprint
