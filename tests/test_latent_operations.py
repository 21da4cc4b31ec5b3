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
"""Operations on codes of texts beside naive references, one for each equation of docs/latent_operations.md."""

import copy
import re
from fractions import Fraction
from math import floor
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from hf_vq.latent_operations import (
    OperationTable,
    TextCodec,
    arithmetic,
    conjoin,
    format_codes,
    interpolate,
    nearest_codes_of,
    parse_codes,
    specify,
    substitute,
    traverse,
    words_of_code,
)
from hf_vq.models import T5VQVAEForConditionalGeneration
from hf_vq.text_tokenizer import train_tokenizer

CORPUS = [
    "a cat is an animal",
    "a dog barks at the big cat",
    "the old tree needs water",
    "an animal needs water and food",
    "plants are a kind of living thing",
]
CAT, DOG = CORPUS[:2]
VARIANTS = {
    "plain": {},
    "product": {"codes_per_token": 2},
    "shared": {"codes_per_token": 2, "share_codebook": True},
    "projected": {"codebook_dim": 5},
    "mixture": {"quantizer": "gaussian_mixture"},
    "middle": {"quantize_after_layer": 1},
    "roles": {"role_ranges": {"N": [0, 8], "V": [8, 16]}},
}
ROLES = [[None, "N", "V", None, "N"], [None, "N", "V", None, None, None, "N"]]


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(CORPUS * 4, 200)  # a piece for each word of the corpus


@pytest.fixture
def make_codec(tiny_config, tokenizer):
    def make(variant="plain", **kwargs):
        torch.manual_seed(0)
        config = tiny_config(
            "t5_vqvae",
            vocab_size=len(tokenizer),
            max_latent_positions=40,
            **({"dropout_rate": 0.1} | VARIANTS[variant]),
        )
        model = T5VQVAEForConditionalGeneration(config)
        for (
            block
        ) in model.decoder.block:  # so that what an untrained decoder says depends on the codes
            block.layer[1].EncDecAttention.o.weight.data *= 30
        model.initialize_codebook([tokenizer(CORPUS, padding=True, return_tensors="pt")])
        return TextCodec(model.eval(), tokenizer, **kwargs)

    return make


@pytest.fixture
def codec(make_codec):
    return make_codec()


def codes_of(table):
    return [parse_codes(record["codes"]).tolist() for record in table]


def codebook(codec):
    return codec.model.codebook.detach().double()


def nearest(codec, latent, allowed=None):
    """The code of each group with the least squared distance, one after the other; no projections."""
    found = []
    for part, book in zip(
        latent.double().view(codec.codes_per_token, -1), codebook(codec), strict=True
    ):
        distances = [float((part - vector).square().sum()) for vector in book]
        candidates = range(len(book)) if allowed is None else allowed
        found.append(min(candidates, key=distances.__getitem__))
    return found


def length_at(step, num_steps, length_a, length_b):
    t = Fraction(step, num_steps)
    return floor((1 - t) * length_a + t * length_b + Fraction(1, 2))


# Encoding and decoding


@pytest.mark.parametrize("variant", [v for v in VARIANTS if v != "roles"])
def test_reconstructing_is_what_generate_does(make_codec, tokenizer, variant):
    codec = make_codec(variant)
    batch = tokenizer(CORPUS, padding=True, return_tensors="pt")
    codes = codec.encode(CORPUS)
    assert torch.equal(codes, codec.model.encode(**batch).codes)
    for text, row, reconstruction in zip(CORPUS, codes, codec.decode(codes), strict=True):
        ids = tokenizer(text, return_tensors="pt")
        length = ids.input_ids.shape[1]
        assert (row[:length] >= 0).all()
        assert (row[length:] == -1).all()
        expected = codec.model.generate(**ids, max_new_tokens=2 * length)
        assert reconstruction == tokenizer.decode(expected[0], skip_special_tokens=True)
    assert codec.reconstruct(CORPUS) == codec.decode(codes)


def test_a_text_says_the_same_alone_and_in_company(codec, make_codec):
    codes = codec.encode(CORPUS)
    together = codec.decode(codes)
    assert any(together)
    assert [codec.decode(row[None])[0] for row in codes] == together
    assert make_codec(batch_size=2).decode(codes) == together
    assert torch.equal(make_codec(batch_size=2).encode(CORPUS), codes)


def test_every_form_of_codes(codec):
    codes = codec.encode(CAT)
    (expected,) = codec.decode(codes)
    (string,) = map(format_codes, codes)
    for form in (
        string,
        [string],
        codes[0],
        codes[0, :, 0],
        codes.numpy(),
        codes[0, :, 0].tolist(),
        codes.tolist(),
        codec.read(CAT),
        torch.nn.functional.pad(codes, (0, 0, 0, 3), value=-1),
    ):
        assert codec.decode(form) == [expected]


def test_strings_of_codes_make_a_round_trip():
    codes = torch.tensor([[412, 5], [7, 0]])
    assert format_codes(codes) == "412.5-7.0"
    assert torch.equal(parse_codes("412.5-7.0"), codes)
    for wrong in ("", "a cat", "4-", "4.1-5", "4--5", "-1-2"):
        with pytest.raises(ValueError, match="is no string of codes"):
            parse_codes(wrong)


def test_beam_search_and_length_are_options(make_codec):
    codes = make_codec().encode(CORPUS)
    codec = make_codec(num_beams=2, max_new_tokens=3)
    expected = codec.model.generate_from_codes(codes, num_beams=2, max_new_tokens=3)
    assert codec.decode(codes) == codec.tokenizer.batch_decode(expected, skip_special_tokens=True)
    with pytest.raises(ValueError, match="num_return_sequences must be 1"):
        make_codec(num_return_sequences=2)


def test_words_have_no_code_beyond_their_own(codec, tokenizer):
    (sentence,) = codec.read("a  zebra, big")
    pieces = tokenizer.convert_ids_to_tokens(tokenizer(sentence.text).input_ids)
    left, right = sentence.positions(*sentence.find("zebra"))
    assert "".join(pieces[left:right]) == "▁zebra"
    assert codec.words(sentence)[left : right + 1] == [(1, "zebra,")] * (right - left + 1)
    # the lone word mark has the offset of the letter behind it, and comes along
    assert tokenizer.tokenize("zebra")[0] == "▁"
    assert sentence.positions(*sentence.find(",")) == (right, right + 1)


def test_words_are_found_whole(codec):
    (sentence,) = codec.read("a cat scatters cat food")
    assert sentence.find("cat") == (2, 5)
    assert sentence.find("cat", 1) == sentence.find("cat", -1) == (15, 18)
    assert sentence.find((8, 11)) == (8, 11)
    (formula,) = codec.read("x**2 + sin(x)")
    assert formula.find("x", 1) == (11, 12)
    assert formula.find("**") == (1, 3)


# One position


@pytest.mark.parametrize("variant", ["plain", "product", "shared"])
@pytest.mark.parametrize("reference", ["latent", "code"])
def test_neighbors_are_sorted_by_distance(make_codec, variant, reference):
    codec = make_codec(variant)
    group = codec.codes_per_token - 1
    (sentence,) = codec.read(CAT)
    point = sentence.latents[2].double().view(codec.codes_per_token, -1)[group]
    if reference == "code":
        point = codebook(codec)[group][sentence.codes[2, group]]
    distances = [float((point - vector).square().sum()) for vector in codebook(codec)[group]]
    expected = sorted(range(16), key=distances.__getitem__)
    table = traverse(codec, CAT, 2, 16, reference=reference, group=group)
    assert [record["code"] for record in table] == expected
    assert [record["distance"] for record in table] == pytest.approx(
        [distances[c] for c in expected]
    )
    for code, row in zip(expected, codes_of(table), strict=True):
        edited = sentence.codes.clone()
        edited[2, group] = code
        assert row == edited.tolist()
    assert table.texts == codec.decode([record["codes"] for record in table])
    assert table.texts[0] == codec.reconstruct(CAT)[0]
    listed = nearest_codes_of(codec, CAT, 2, 16, reference=reference, group=group)
    assert [record["code"] for record in listed] == expected


@pytest.mark.parametrize("variant", list(VARIANTS))
def test_rank_0_is_the_current_code(make_codec, variant):
    codec = make_codec(variant)
    for group in range(codec.codes_per_token):
        table = nearest_codes_of(codec, [CAT, DOG], [1, 2], 3, group=group)
        expected = [codec.encode(CAT)[0, 1, group], codec.encode(DOG)[0, 2, group]]
        assert [record["code"] for record in table if record["rank"] == 0] == expected


def test_a_word_stands_for_its_position(codec):
    assert nearest_codes_of(codec, CAT, "cat", 1)[0]["position"] == 1
    assert nearest_codes_of(codec, CAT, "cat", 1)[0]["piece"] == "cat"
    assert nearest_codes_of(codec, "big x", "x", 1)[0]["position"] == 2  # behind its lone word mark
    assert nearest_codes_of(codec, CAT, [0, 5], 1).records[1]["piece"] == "</s>"
    with pytest.raises(ValueError, match=r"'xyz' has the codes of positions \d to \d"):
        nearest_codes_of(codec, "an xyz", "xyz")


def test_neighbors_stay_in_the_range_of_a_role(make_codec):
    codec = make_codec("roles")
    codes = codec.encode([CAT, DOG], ROLES)
    assert ((codes[:, 1] >= 0) & (codes[:, 1] < 8)).all()
    assert ((codes[:, 2] >= 8) & (codes[:, 2] < 16)).all()
    read = codec.read([CAT, DOG], ROLES)
    given = nearest_codes_of(codec, read, 2, 8)
    assert all(8 <= record["code"] < 16 for record in given)
    free = nearest_codes_of(codec, CAT, 1, 16)
    assert len({record["code"] for record in free}) == 16
    code = int(codec.encode(CAT)[0, 1, 0])
    role, start = ("V", 8) if code < 8 else ("N", 0)  # the one that it has not
    asked = nearest_codes_of(codec, CAT, 1, 9, role=role)
    assert asked[0]["code"] == code
    assert {record["code"] for record in asked.records[1:]} == set(range(start, start + 8))
    with pytest.raises(ValueError, match="num_codes is 9, expected 1 to 8"):
        nearest_codes_of(codec, read, 2, 9)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda codec: codec.encode([]), "no text to encode"),
        (lambda codec: codec.encode(None), "the input is None"),
        (lambda codec: codec.encode([None]), "codes are None"),
        (lambda codec: codec.decode([[]]), "codes are empty"),
        (lambda codec: codec.read(CAT)[0].find(("cat", "dog")), "neither words nor two character"),
        (lambda codec: codec.read(CAT)[0].find(2), "span 2 is neither words nor two character"),
        (lambda codec: codec.encode({"text": CORPUS}), "the input is 'dict', expected a text"),
        (lambda codec: codec.encode(3), "the input is 'int', expected a text"),
        (lambda codec: words_of_code(codec, [3.5], CORPUS), "integers of shape"),
        (lambda codec: arithmetic(codec, [1, float("nan")], CAT, DOG), "expected finite numbers"),
        (lambda codec: codec.encode([CORPUS]), "integers or a string of them, got \\['a cat"),
    ],
)
def test_inputs_that_are_nothing(codec, call, message):
    with pytest.raises(ValueError, match=message):
        call(codec)


def test_inputs_from_other_libraries(codec):
    codes = codec.encode(CORPUS)
    for texts in (pd.Series(CORPUS, index=range(5, 10)), np.array(CORPUS), (t for t in CORPUS)):
        assert torch.equal(codec.encode(texts), codes)
    wanted = codes[0, :2, 0]
    expected = words_of_code(codec, wanted.tolist(), CORPUS).records
    assert expected
    for same in (wanted, list(wanted), wanted.numpy(), format_codes(codes[0, :2])):
        assert words_of_code(codec, same, CORPUS).records == expected
    assert words_of_code(codec, np.int64(wanted[0]), CORPUS).records[0] == expected[0]
    assert traverse(codec, CAT, np.int64(1), 2).records == traverse(codec, CAT, 1, 2).records
    weights = [0.5, 0.5]
    expected = arithmetic(codec, weights, CAT, DOG).records
    assert arithmetic(codec, np.array(weights), CAT, DOG).records == expected
    expected = substitute(codec, CAT, (2, 5), DOG, (2, 5)).records
    for span in ([2, 5], [[2, 5]], tuple(np.array([2, 5]))):  # JSON has lists only
        assert substitute(codec, CAT, span, DOG, span).records == expected


def test_codes_of_one_text_may_be_numpy_integers(codec):
    codes = codec.encode(CAT)[0, :, 0]
    assert codec.decode(list(codes.numpy())) == codec.decode(codes.tolist())


def test_words_of_a_code_are_counted(codec):
    expected: dict[int, list[str]] = {}
    for text, row in zip(CORPUS, codec.encode(CORPUS)[..., 0].tolist(), strict=True):
        pieces = codec.read(text)[0].offsets
        for code, (start, end) in zip(row, pieces, strict=False):
            words = [w for w in re.finditer(r"\S+", text) if w.start() <= start < w.end()]
            expected.setdefault(code, []).append(words[0].group() if start < end else "</s>")
    table = words_of_code(codec, None, CORPUS, num_words=99)
    assert {record["code"] for record in table} == set(expected)
    for record in table:
        words = expected[record["code"]]
        assert record["count"] == words.count(record["word"])
        assert record["share"] == record["count"] / len(words)
    code = table[0]["code"]
    assert words_of_code(codec, code, CORPUS, num_words=1).records == table.records[:1]
    assert len(words_of_code(codec, code, "tree")) <= 1
    with pytest.raises(ValueError, match=r"\[0, 16\), got 16"):
        words_of_code(codec, 16, CORPUS)
    with pytest.raises(ValueError, match="bare codes have no words"):
        words_of_code(codec, 3, codec.encode(CAT))


# Paths


@pytest.mark.parametrize("variant", ["plain", "product"])
@pytest.mark.parametrize("texts", [(CAT, DOG), (DOG, CAT), (CORPUS[2], CORPUS[2])])
@pytest.mark.parametrize("num_steps", [4, 10])  # with 4 a length falls halfway between two
def test_latent_path(make_codec, variant, texts, num_steps):
    codec = make_codec(variant)
    a, b = codec.read(list(texts))
    length_a, length_b = len(a.codes) - 1, len(b.codes) - 1
    expected = []
    for step in range(num_steps + 1):
        t = step / num_steps
        row = []
        for i in range(length_at(step, num_steps, length_a, length_b)):
            if i < min(length_a, length_b):
                row.append(nearest(codec, (1 - t) * a.latents[i] + t * b.latents[i]))
            else:
                row.append((a if length_a > length_b else b).codes[i].tolist())
        end = (1 - t) * a.latents[length_a] + t * b.latents[length_b]
        expected.append([*row, nearest(codec, end)])
    table = interpolate(codec, *texts, num_steps=num_steps)
    assert codes_of(table) == expected
    assert [record["t"] for record in table] == [step / num_steps for step in range(num_steps + 1)]
    assert codes_of(table)[0] == a.codes.tolist()
    assert codes_of(table)[-1] == b.codes.tolist()


def naive_walk(book, current, goal, num_steps):
    """The codes of one position and one group, with eq. (O4) as it stands."""
    path = []
    for step in range(1, num_steps):
        t = step / num_steps
        sums = [
            (1 - t) * float((book[current] - e).square().sum())
            + t * float((book[goal] - e).square().sum())
            for e in book
        ]
        best = min(range(len(book)), key=sums.__getitem__)
        if sums[best] < sums[current]:
            current = best
        path.append(current)
    return path


@pytest.mark.parametrize("variant", ["plain", "product", "projected", "mixture"])
@pytest.mark.parametrize("texts", [(CAT, DOG), (DOG, CAT)])
def test_walk(make_codec, variant, texts):
    codec = make_codec(variant)
    a, b = codec.read(list(texts))
    length_a, length_b = len(a.codes) - 1, len(b.codes) - 1
    shared = min(length_a, length_b)
    meetings = [*zip(range(shared), range(shared), strict=True), (length_a, length_b)]
    walked = {
        (i, j): [
            naive_walk(book, int(a.codes[i, g]), int(b.codes[j, g]), 10)
            for g, book in enumerate(codebook(codec))
        ]
        for i, j in meetings
    }
    longer = a if length_a > length_b else b
    expected = [a.codes.tolist()]
    for step in range(1, 10):
        row = [[path[step - 1] for path in walked[meeting]] for meeting in meetings]
        rest = longer.codes[shared : length_at(step, 10, length_a, length_b)].tolist()
        expected.append(row[:-1] + rest + row[-1:])
    assert codes_of(interpolate(codec, *texts, "walk")) == [*expected, b.codes.tolist()]


def test_a_tie_of_the_walk_keeps_the_current_code():
    from hf_vq.code_space import CodeSpace

    class Quantizer:
        codes_per_token = 1

        def __init__(self, codebook):
            self.groups = [type("Group", (), {"codebook": codebook})]

    for seed in range(20):
        generator = torch.Generator().manual_seed(seed)
        space = CodeSpace(Quantizer(torch.randn(40, 64, generator=generator)), [])
        current, goal = torch.randint(40, (2, 30, 1), generator=generator)
        free = torch.full((30,), -1)
        # In 64 dimensions the middle between two codes has no third one near it: it is a tie.
        assert torch.equal(space.step(current, goal, 0.5, free), current)
        assert torch.equal(space.step(current, goal, 0.51, free), goal)


@pytest.mark.parametrize("variant", ["plain", "product"])
@pytest.mark.parametrize("texts", [(CAT, DOG), (DOG, CAT), (CORPUS[2], CORPUS[3])])
@pytest.mark.parametrize("num_steps", [1, 10])
def test_staggered_path(make_codec, variant, texts, num_steps):
    codec = make_codec(variant)
    a, b = (sentence.codes.tolist() for sentence in codec.read(list(texts)))
    longest = max(len(a), len(b)) - 1
    # positions of the two sentences that meet: ends with ends, and with nothing where a sentence is over
    pairs = [
        (a[i] if i < len(a) - 1 else None, b[i] if i < len(b) - 1 else None) for i in range(longest)
    ] + [(a[-1], b[-1])]

    def vector(codes):
        if codes is None:
            return torch.zeros(codebook(codec).shape[0] * codebook(codec).shape[2])
        return torch.cat([book[code] for book, code in zip(codebook(codec), codes, strict=True)])

    distance = [float((vector(x) - vector(y)).square().sum()) for x, y in pairs]
    order = sorted((n for n, (x, y) in enumerate(pairs) if x != y), key=distance.__getitem__)
    expected = []
    for step in range(num_steps + 1):
        turned = order[: floor(Fraction(step, num_steps) * len(order) + Fraction(1, 2))]
        row = [pair[1] if n in turned else pair[0] for n, pair in enumerate(pairs)]
        expected.append([codes for codes in row if codes is not None])
    assert codes_of(interpolate(codec, *texts, "staggered", num_steps)) == expected


def test_a_path_names_the_words_that_change(codec):
    table = interpolate(codec, [CAT, DOG], DOG, "staggered", 3)
    assert len(table) == 8
    assert [record["source"] for record in table] == [CAT] * 4 + [DOG] * 4
    for i, record in enumerate(table):
        same = i % 4 == 0 or record["text"] == table[i - 1]["text"]
        assert (record["changed"] == "") == same
    assert any(record["changed"] for record in table)
    assert len({record["codes"] for record in table.records[4:]}) == 1


# Arithmetic


@pytest.mark.parametrize("variant", ["plain", "product"])
@pytest.mark.parametrize(
    ("operation", "weights", "count"),
    [
        ("sum", (1, 1), 2),
        ("mean", (1, 1), 2),
        ("mean", (1, 1, 1), 3),
        ("difference", (1, -1), 2),
        ("analogy", (1, 1, -1), 3),
        ((-0.5, 2.0), (-0.5, 2.0), 2),
    ],
)
@pytest.mark.parametrize("shift", [0, 1, 2])
def test_arithmetic(make_codec, variant, operation, weights, count, shift):
    codec = make_codec(variant)
    texts = [CORPUS[(shift + i) % 5] for i in range(count)]
    operands = codec.read(texts)
    positive = [s for s, weight in zip(operands, weights, strict=True) if weight > 0]
    longest = max(positive, key=lambda sentence: len(sentence.codes))
    expected = []
    for i in range(len(longest.codes) - 1):
        present = [(w, s) for w, s in zip(weights, operands, strict=True) if i < len(s.codes) - 1]
        total = sum(w * s.latents[i].double() for w, s in present)
        expected.append(nearest(codec, total / (len(present) if operation == "mean" else 1)))
    (codes,) = codes_of(arithmetic(codec, operation, *texts))
    assert codes == [*expected, longest.codes[-1].tolist()]


def test_with_codes_of_one_norm_sum_and_mean_are_the_same(make_codec):
    codec = make_codec()
    book = codec.model.encoder.quantizer.groups[0].codebook
    book.copy_(torch.nn.functional.normalize(book, dim=-1))
    total = arithmetic(codec, "sum", CORPUS, CAT)
    assert codes_of(total) == codes_of(arithmetic(codec, "mean", CORPUS, CAT))


def test_arithmetic_refuses_what_has_no_meaning(codec):
    with pytest.raises(ValueError, match="'product', expected 'sum'"):
        arithmetic(codec, "product", CAT, DOG)
    with pytest.raises(ValueError, match="'analogy' takes 3 operands, got 2"):
        arithmetic(codec, "analogy", CAT, DOG)
    with pytest.raises(ValueError, match="takes 2 operands, got 1"):
        arithmetic(codec, "sum", CAT)
    with pytest.raises(ValueError, match="expected a positive one"):
        arithmetic(codec, (-1, 0), CAT, DOG)


# Spans


@pytest.mark.parametrize("variant", ["plain", "product", "mixture"])
def test_spans_are_spliced_in_place(make_codec, variant):
    codec = make_codec(variant)
    a, b = codec.encode(CAT)[0].tolist(), codec.encode(DOG)[0].tolist()  # a piece for each word
    big_cat, cat = b[5:7], slice(1, 2)

    (row,) = codes_of(substitute(codec, CAT, "cat", DOG, "big cat"))
    assert row == a[: cat.start] + big_cat + a[cat.stop :]
    (row,) = codes_of(substitute(codec, DOG, "at the big", CAT, "cat"))
    assert row == b[:3] + a[cat] + b[6:]
    (row,) = codes_of(specify(codec, CAT, "cat", DOG, "big cat"))
    assert row == a[:2] + big_cat + a[2:]
    (row,) = codes_of(specify(codec, CAT, "cat", DOG, "big cat", side="left"))
    assert row == a[:1] + big_cat + a[1:]
    (row,) = codes_of(conjoin(codec, CAT, "cat", DOG, "big cat"))
    assert row == a[:2] + codec.encode("and")[0, :-1].tolist() + big_cat + a[2:]
    (row,) = codes_of(substitute(codec, CAT, "cat", "big tree"))
    assert row == a[:1] + codec.encode("big tree")[0, :-1].tolist() + a[2:]


def test_the_same_edit_of_the_strings(codec):
    def expected(table):
        return [record["expected"] for record in table]

    assert expected(substitute(codec, CAT, "cat", DOG, "big cat")) == ["a big cat is an animal"]
    assert expected(specify(codec, CAT, "cat", DOG, "at")) == ["a cat at is an animal"]
    assert expected(specify(codec, CAT, "cat", DOG, "big", side="left")) == [
        "a big cat is an animal"
    ]
    assert expected(conjoin(codec, CAT, "cat", "dog", conjunction="or")) == [
        "a cat or dog is an animal"
    ]
    assert expected(substitute(codec, CAT, (2, 5), DOG, (2, 5))) == ["a dog is an animal"]
    assert expected(substitute(codec, CAT, "cat", codec.encode("dog"))) == [None]


def test_spans_in_batches_and_by_occurrence(codec):
    table = substitute(codec, [CAT, DOG], ["cat", (2, 5)], "an old tree", "tree")
    assert [record["expected"] for record in table] == [
        "a tree is an animal",
        "a tree barks at the big cat",
    ]
    text = "a cat needs a cat"
    first, last = (substitute(codec, text, "cat", "dog", occurrence=i) for i in (0, -1))
    assert first[0]["expected"] == "a dog needs a cat"
    assert last[0]["expected"] == "a cat needs a dog"
    given = substitute(codec, CAT, "cat", text, "cat", donor_occurrence=1)
    assert codes_of(given)[0][1] == codec.encode(text)[0, 4].tolist()
    with pytest.raises(ValueError, match=r"lengths \[2, 3, 1, 1\] do not go together"):
        substitute(codec, [CAT, DOG], ["cat"] * 3, "dog")


# What holds for all


def operations(codec):
    yield lambda: interpolate(codec, CAT, DOG)
    yield lambda: interpolate(codec, CAT, DOG, "walk")
    yield lambda: interpolate(codec, CAT, DOG, "staggered")
    yield lambda: arithmetic(codec, "sum", CAT, DOG)
    yield lambda: traverse(codec, CAT, 1)
    yield lambda: nearest_codes_of(codec, CAT, 1)
    yield lambda: words_of_code(codec, None, CORPUS)
    yield lambda: substitute(codec, CAT, "cat", DOG, "dog")
    yield lambda: specify(codec, CAT, "cat", DOG, "dog")
    yield lambda: conjoin(codec, CAT, "cat", DOG, "dog")


@pytest.mark.parametrize("variant", ["plain", "product", "mixture"])
def test_nothing_of_the_model_changes_and_probes_repeat(make_codec, variant):
    codec = make_codec(variant)
    model = codec.model.train()
    model.decoder.eval()  # a part in another mode stays in it
    modes = {name: module.training for name, module in model.named_modules()}
    before = copy.deepcopy(dict(model.state_dict()))
    pending = copy.deepcopy(dict(model.named_buffers()))
    torch.manual_seed(1)
    state = torch.get_rng_state()
    for operation in operations(codec):
        table = operation()
        assert table.records
        assert operation().records == table.records
    assert torch.equal(torch.get_rng_state(), state)
    assert {name: module.training for name, module in model.named_modules()} == modes
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name]), name
    for name, tensor in model.named_buffers():
        assert torch.equal(tensor, pending[name]), name


def test_one_call_of_generate_for_each_operation(codec, monkeypatch):
    calls = []
    generate = type(codec.model).generate
    monkeypatch.setattr(
        type(codec.model), "generate", lambda *a, **k: calls.append(1) or generate(*a, **k)
    )
    interpolate(codec, CORPUS, DOG)
    assert len(calls) == 1
    traverse(codec, [CAT, DOG], 1)
    assert len(calls) == 2
    substitute(codec, [CAT, DOG], "cat", "dog")
    assert len(calls) == 3


def test_bare_codes_are_an_input_too(codec):
    cat, dog = codec.encode(CAT), codec.encode(DOG)
    for method in ("walk", "staggered"):
        assert codes_of(interpolate(codec, cat, dog, method)) == codes_of(
            interpolate(codec, CAT, DOG, method)
        )
    # the vector of a code stands for its latent, and is its own code
    assert codes_of(interpolate(codec, cat, cat)) == [cat[0].tolist()] * 11
    near = nearest_codes_of(codec, cat, 1)
    assert [r["code"] for r in near] == [
        r["code"] for r in nearest_codes_of(codec, CAT, 1, reference="code")
    ]
    assert near[0]["input"] == format_codes(cat[0])
    assert near[0]["piece"] is None


def test_tables(codec):
    pandas = pytest.importorskip("pandas")
    table = interpolate(codec, CAT, DOG, "staggered", 2)
    lines = str(table).splitlines()
    assert lines[:3] == ["interpolation (staggered)", f"source: {CAT}", f"target: {DOG}"]
    assert lines[3].split() == ["t", "codes", "text", "changed"]
    assert [line.split()[1] for line in lines[4:]] == [record["codes"] for record in table]
    frame = table.to_pandas()
    assert isinstance(frame, pandas.DataFrame)
    assert list(frame.columns) == ["source", "target", "t", "codes", "text", "changed"]
    assert frame["t"].tolist() == [0.0, 0.5, 1.0]
    single = str(substitute(codec, CAT, "cat", "dog")).splitlines()
    assert single[:3] == ["substitution", f"input: {CAT}", "span: cat"]
    assert str(OperationTable("nothing")) == "nothing\n(no rows)"
    long = OperationTable("x", [{"text": "y" * 99}, {"text": "z"}])
    assert str(long).splitlines()[2] == "y" * 59 + "…"


def test_the_equations_that_the_code_cites_exist():
    root = Path(__file__).resolve().parents[1]
    tags = re.findall(r"\\tag\{(O\d+)\}", (root / "docs" / "latent_operations.md").read_text())
    assert tags == [f"O{number}" for number in range(1, len(tags) + 1)]
    cited = set()
    for file in (root / "src" / "hf_vq").glob("*.py"):
        cited |= set(re.findall(r"\((O\d+)\)", file.read_text()))
    assert cited == set(tags)


# Bad input


@pytest.mark.parametrize("text", ["", "  ", "\n"])
def test_an_empty_text_is_refused(codec, text):
    with pytest.raises(ValueError, match="needs at least one word"):
        codec.encode([CAT, text])
    with pytest.raises(ValueError, match="needs at least one word"):
        interpolate(codec, CAT, text)


def test_a_text_that_is_too_long_is_refused(codec):
    with pytest.raises(ValueError, match="max_latent_positions is 40"):
        codec.encode("a " * 40)
    with pytest.raises(ValueError, match="max_latent_positions is 40"):
        conjoin(codec, "a " * 30, "a", "a " * 30)


def test_spans_that_are_not_there_are_refused(codec):
    with pytest.raises(ValueError, match="'dog' does not occur in 'a cat is an animal'"):
        substitute(codec, CAT, "dog", DOG)
    with pytest.raises(ValueError, match="'anim' does not occur"):
        substitute(codec, CAT, "anim", DOG)
    with pytest.raises(ValueError, match=r"occurrence is 1, but 'cat' occurs 1 times"):
        substitute(codec, CAT, "cat", DOG, "dog", occurrence=1)
    with pytest.raises(ValueError, match="'cow' does not occur"):
        substitute(codec, CAT, "cat", DOG, "cow")
    with pytest.raises(ValueError, match=r"span \(2, 99\) does not lie in"):
        substitute(codec, CAT, (2, 99), DOG)
    with pytest.raises(ValueError, match="characters 1 to 2 .* have no code"):
        substitute(codec, CAT, (1, 2), DOG)
    with pytest.raises(ValueError, match="' ' does not occur"):
        substitute(codec, CAT, " ", DOG)
    with pytest.raises(ValueError, match="bare codes have no words"):
        substitute(codec, codec.encode(CAT), "cat", DOG)
    with pytest.raises(ValueError, match="side is 'up'"):
        specify(codec, CAT, "cat", DOG, side="up")


@pytest.mark.parametrize(
    ("codes", "message"),
    [
        ([3, 16], r"\[0, 16\), got 16"),
        ([3, -7], r"\[0, 16\), got -7"),
        ([3, -1, 5], r"\[0, 16\), got -1"),
        ([-1, -1], "none at all"),
        (torch.zeros(2, 3, dtype=torch.int64), r"shape \(positions, 1\), got .* \(2, 3\)"),
        (torch.zeros(2, 1), "got torch.float32"),
        (torch.ones(2, 1, dtype=torch.bool), "got torch.bool"),
        ("3-16", r"\[0, 16\), got 16"),
        ("3.1-4.1", r"got .* \(2, 2\)"),
    ],
)
def test_codes_that_do_not_exist_are_refused(codec, codes, message):
    with pytest.raises(ValueError, match=message):
        codec.decode(codes)


def test_roles_that_do_not_exist_are_refused(make_codec):
    codec = make_codec("roles")
    with pytest.raises(ValueError, match=r"role 'X' has no range of codes; .*\['N', 'V'\]"):
        codec.encode([CAT], [[None, "X", "V", None, "N"]])
    with pytest.raises(ValueError, match="role 'X' has no range"):
        traverse(codec, CAT, 1, role="X")
    with pytest.raises(ValueError, match="has 5 words, but 2 roles were given"):
        codec.encode([CAT], [["N", "V"]])
    with pytest.raises(ValueError, match="roles are 2 lists, expected one for each"):
        codec.encode([CAT], ROLES)


def test_other_mistakes_are_named(codec, make_codec, tiny_config, tokenizer):
    with pytest.raises(ValueError, match="method is 'jump'"):
        interpolate(codec, CAT, DOG, "jump")
    with pytest.raises(ValueError, match="num_steps is 0"):
        interpolate(codec, CAT, DOG, num_steps=0)
    with pytest.raises(ValueError, match="position is 6, expected 0 to 5"):
        traverse(codec, CAT, 6)
    with pytest.raises(ValueError, match="num_codes is 17, expected 1 to 16"):
        traverse(codec, CAT, 1, 17)
    with pytest.raises(ValueError, match="group is 1, expected 0 to 0"):
        traverse(codec, CAT, 1, group=1)
    with pytest.raises(ValueError, match="reference is 'x'"):
        traverse(codec, CAT, 1, reference="x")
    with pytest.raises(ValueError, match="batch_size is 0"):
        make_codec(batch_size=0)
    codec.model.bypass_quantizer()
    with pytest.raises(ValueError, match="its quantizer is bypassed"):
        codec.encode(CAT)
    model = T5VQVAEForConditionalGeneration(tiny_config("t5_vqvae", quantizer="none"))
    with pytest.raises(ValueError, match="its quantizer is 'none'"):
        TextCodec(model, tokenizer)
