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
"""The prior over codes: a distribution that sums to one, beside a naive reference; training, sampling, code lengths."""

import itertools
import math

import pytest
import torch

from hf_vq.code_prior import CodePrior, two_part_code_length
from hf_vq.models import T5VQVAEForConditionalGeneration
from hf_vq.text_codec import TextCodec
from hf_vq.text_tokenizer import train_tokenizer
from hf_vq.training import TrainingConfig

CORPUS = ["a cat is an animal", "a dog barks at the big cat", "the old tree needs water"]
TINY = {"hidden_size": 12, "num_layers": 1, "num_heads": 2}


def make_prior(codebook_size=3, codes_per_token=2, max_codes=3):
    torch.manual_seed(0)
    return CodePrior.create(codebook_size, codes_per_token, max_codes=max_codes, **TINY)


@pytest.fixture
def codec(tiny_config):
    tokenizer = train_tokenizer(CORPUS, 140)
    config = tiny_config("t5_vqvae", vocab_size=len(tokenizer))
    return TextCodec(T5VQVAEForConditionalGeneration(config).eval(), tokenizer)


def naive_bits(prior, codes):
    """One step after the other, with the probabilities of what must not follow taken away."""
    size, groups = prior.codebook_size, prior.codes_per_token
    tokens = [size * groups]
    tokens += [code + g * size for position in codes for g, code in enumerate(position)]
    tokens.append(size * groups)
    bits = 0.0
    for step in range(len(tokens) - 1):
        group = step % groups
        allowed = list(range(group * size, (group + 1) * size))
        if group == 0 and step > 0:
            allowed.append(size * groups)
        with torch.no_grad():
            logits = (
                prior.model(input_ids=torch.tensor([tokens[: step + 1]])).logits[0, -1].double()
            )
        probabilities = {token: math.exp(logits[token]) for token in allowed}
        bits -= math.log2(probabilities[tokens[step + 1]] / sum(probabilities.values()))
    return bits


@pytest.mark.parametrize("codes_per_token", [1, 2])
def test_bits_are_those_of_the_naive_reference(codes_per_token):
    prior = make_prior(codes_per_token=codes_per_token, max_codes=6)
    prior.model.eval()
    rows = [torch.randint(3, (length, codes_per_token)) for length in (1, 4, 6)]
    expected = [naive_bits(prior, row.tolist()) for row in rows]
    prior.model.train()  # dropout must not count
    bits = prior.bits(torch.nn.utils.rnn.pad_sequence(rows, True, -1))
    assert bits.tolist() == pytest.approx(expected, rel=1e-5)
    assert prior.bits(rows, batch_size=2).tolist() == pytest.approx(expected, rel=1e-5)
    assert prior.model.training


@pytest.mark.parametrize("codes_per_token", [1, 2])
def test_samples_are_as_frequent_as_their_bits_say(codes_per_token):
    prior = make_prior(2, codes_per_token, max_codes=3)
    with torch.no_grad():
        for weight in prior.model.parameters():
            weight.mul_(3)  # away from the uniform distribution
    samples = prior.sample(4000)
    assert samples.shape == (4000, 3, codes_per_token)
    assert samples.max() == 1
    assert ((samples >= 0).all(dim=-1) == (samples >= 0).any(dim=-1)).all()
    lengths = (samples[..., 0] >= 0).sum(dim=1)
    # Sequences of three positions may have been cut there, the shorter ones have all stopped by themselves.
    for length in (1, 2):
        drawn = samples[lengths == length, :length].flatten(1).tolist()
        for codes in itertools.product(range(2), repeat=length * codes_per_token):
            row = torch.tensor(codes).view(length, codes_per_token)
            probability = float(2 ** -prior.bits([row])[0])
            deviation = math.sqrt(probability * (1 - probability) / 4000)
            assert drawn.count(list(codes)) / 4000 == pytest.approx(probability, abs=4 * deviation)


def test_sampling_repeats_and_leaves_no_trace():
    prior = make_prior(codebook_size=16, codes_per_token=1, max_codes=8)
    prior.model.train()
    state = torch.get_rng_state()
    first = prior.sample(5, seed=1)
    assert torch.equal(first, prior.sample(5, seed=1))
    assert not torch.equal(first, prior.sample(5, seed=2))
    assert torch.equal(torch.get_rng_state(), state)
    assert prior.model.training
    greedy = prior.sample(3, temperature=1e-4)
    assert (greedy == greedy[0]).all()
    assert torch.equal(prior.sample(2, top_p=1e-4), greedy[:2])
    with pytest.raises(ValueError, match="num_samples is 0"):
        prior.sample(0)


def test_a_trained_prior_writes_what_it_read(tmp_path):
    prior = CodePrior.create(12, 2, max_codes=5, dropout=0.0, **TINY)
    rows = [[[1, 2], [3, 4]], [[5, 6], [7, 8], [9, 10], [11, 0]]]
    codes = [torch.tensor(row) for row in rows] * 8
    before = prior.bits(codes[:2])
    config = TrainingConfig(
        str(tmp_path),
        max_steps=150,
        learning_rate=1e-2,
        per_device_train_batch_size=8,
        checkpointing_steps=None,
        progress_bar=False,
        cpu=True,
    )
    results = prior.fit(codes, config, eval_codes=codes[:4])
    after = prior.bits(codes[:2])
    assert (after < before / 5).all()
    assert after.min() > 0.9  # two texts, hence one bit each at best
    samples = {
        tuple(map(tuple, [p for p in s if p[0] >= 0])) for s in prior.sample(20, top_p=0.9).tolist()
    }
    assert samples == {tuple(map(tuple, row)) for row in rows}
    # the loop's loss is over all tokens, so it is a bit above the bits over what may follow
    tokens = torch.tensor([5, 9])
    assert results["eval_loss" if "eval_loss" in results else "loss"] == pytest.approx(
        float(after.sum() * math.log(2) / tokens.sum()), abs=0.05
    )


def test_saved_and_loaded(tmp_path):
    prior = make_prior()
    prior.save_pretrained(tmp_path)
    loaded = CodePrior.from_pretrained(tmp_path)
    assert (loaded.codebook_size, loaded.codes_per_token, loaded.max_codes) == (3, 2, 3)
    row = torch.tensor([[0, 1], [2, 2]])
    assert torch.equal(loaded.bits([row]), prior.bits([row]))
    assert torch.equal(loaded.sample(3), prior.sample(3))


def test_samples_become_texts(codec):
    prior = CodePrior.create(codec.codebook_size, max_codes=6, **TINY)
    texts = codec.decode(prior.sample(4))
    assert len(texts) == 4
    assert all(isinstance(text, str) for text in texts)


def test_two_part_code_length(codec):
    prior = CodePrior.create(codec.codebook_size, max_codes=14, **TINY)
    table = two_part_code_length(codec, prior, CORPUS)
    codes = codec.encode(CORPUS)
    assert [r["code_bits"] for r in table] == pytest.approx(prior.bits(codes).tolist())
    for text, record in zip(CORPUS, table, strict=True):
        ids = codec.tokenizer(text, return_tensors="pt").input_ids
        with torch.no_grad():
            loss = codec.model.decode(codes=codec.encode(text), labels=ids).reconstruction_loss
        assert record["pieces"] == ids.shape[1]
        assert record["text_bits"] == pytest.approx(
            float(loss) * ids.shape[1] / math.log(2), rel=1e-5
        )
        assert record["bits"] == record["code_bits"] + record["text_bits"]
    assert table.texts == CORPUS


def test_mistakes_are_named(codec):
    prior = make_prior()
    with pytest.raises(ValueError, match="a text has 4 codes, but this prior takes at most 3"):
        prior.bits([torch.zeros(4, 2, dtype=torch.int64)])
    with pytest.raises(ValueError, match="there are no codes"):
        prior.bits([])
    with pytest.raises(ValueError, match=r"\[0, 3\), got 3"):
        prior.bits([torch.full((2, 2), 3)])
    with pytest.raises(ValueError, match="16 codes in 1 groups, but the prior was made for 3 in 2"):
        two_part_code_length(codec, prior, CORPUS)
    with pytest.raises(ValueError, match="needs texts, got bare codes"):
        two_part_code_length(
            codec, CodePrior.create(16, max_codes=14, **TINY), codec.encode(CORPUS)
        )
