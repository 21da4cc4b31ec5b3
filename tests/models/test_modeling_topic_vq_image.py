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
"""TopicVQ for images: losses and samples beside plain loops, guidance, bad input, and whether it learns."""

import copy
import json
import math
import re
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from huggingface_hub.errors import StrictDataclassError
from transformers import (
    GenerationConfig,
    GPT2LMHeadModel,
    LogitsProcessorList,
    SuppressTokensLogitsProcessor,
    Trainer,
    TrainingArguments,
)
from transformers.generation.streamers import BaseStreamer

from hf_vq.models import TopicVQForImageGeneration, TopicVQImageConfig
from hf_vq.models.configuration_topic_vq_image import IMAGE_VARIANTS
from hf_vq.models.topic_vq_image_layers import shift_layers

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "topic_images.md").read_text()
CONDITIONS = ("prefix", "prefix_and_layers", "prefix_and_logits")
LLAMA = {"model_type": "llama", "intermediate_size": 16, "num_key_value_heads": 1}


@pytest.fixture
def make(tiny_config):
    """Return `make(variant=..., **options)`: a tiny model in eval mode, with a codebook and weights that matter."""

    def build(**options):
        model = TopicVQForImageGeneration(tiny_config("topic_vq_image", **options)).eval()
        model.set_codebook(torch.randn(model.config.codebook_size, model.config.codebook_dim))
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
        return model

    return build


def some_codes(model, number=6):
    return torch.randint(model.config.codebook_size, (number, *model.config.grid_size))


def some_topics(model, number=6):
    return torch.randn(number, model.config.num_topics).softmax(dim=-1)


def generators(*seeds):
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def plain_logits(model, codes, told):
    """Of the next code after `codes` `(t,)`, from the decoder alone, without a cache."""
    vectors, code_shifts = told
    embeddings = model.get_input_embeddings()(codes[None])
    inputs = torch.cat([model.condition.prefix(vectors)[None, None], embeddings], dim=1)
    shifts = [layer(vectors)[None, None] for layer in model.condition.layers]
    more = {"topic_shifts": shifts} if shifts else {}
    return model.decoder(inputs_embeds=inputs, use_cache=False, **more).logits[0, -1] + code_shifts


def told(model, proportions):
    """Eq. (I5) and (I8) for one image."""
    config = model.config
    if config.topic_condition == "embedding":
        rows = model.condition.topic_embeddings
    else:
        codebook = model.codebook / model.codebook.square().mean().sqrt()
        rows = [
            sum(model.topic_codes[k, j] * codebook[j] for j in range(config.codebook_size))
            for k in range(config.num_topics)
        ]
    mixed = sum(share * row for share, row in zip(proportions, rows, strict=True))
    vectors = F.layer_norm(mixed, mixed.shape)
    if config.condition != "prefix_and_logits":
        return vectors, 0.0
    bias = model.code_mixture.bias
    background = bias.softmax(dim=0)
    shares = sum(
        share * (row + bias).softmax(dim=0)
        for share, row in zip(proportions, model.topic_codes, strict=True)
    )
    return vectors, model.condition.logit_scale * (shares / background).log()


def told_nothing(model):
    return model.condition.no_topic, 0.0


class TestConfig:
    @pytest.mark.parametrize("variant", IMAGE_VARIANTS)
    def test_a_variant_fills_what_is_open_and_leaves_the_rest(self, variant):
        config = TopicVQImageConfig(variant=variant, topic_dropout=0.3)
        expected = IMAGE_VARIANTS[variant] | {"topic_dropout": 0.3}
        assert {name: getattr(config, name) for name in expected} == expected
        config.inference_hidden_sizes.append(1)
        assert 1 not in TopicVQImageConfig(variant=variant).inference_hidden_sizes

    def test_the_sizes_of_the_decoder_stand_in_one_place(self, tmp_path):
        given = {"model_type": "gpt2", "n_embd": 24, "n_layer": 3, "n_head": 4, "attn_pdrop": 0.0}
        config = TopicVQImageConfig(decoder_config=given, codebook_size=9, grid_size=[2, 5])
        assert (config.hidden_size, config.num_hidden_layers, config.num_attention_heads) == (
            24,
            3,
            4,
        )
        assert config.decoder_config == {"model_type": "gpt2", "attn_pdrop": 0.0}
        config.save_pretrained(tmp_path)
        built = TopicVQImageConfig.from_pretrained(tmp_path).build_decoder_config()
        assert (built.n_embd, built.n_layer, built.n_head, built.attn_pdrop) == (24, 3, 4, 0.0)
        assert (built.vocab_size, built.n_positions) == (9, 10)
        assert given["n_embd"] == 24, "the caller's dict is the caller's"

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"variant": "paper"}, "variant is 'paper', expected one of"),
            ({"num_topics": 0}, "num_topics is 0, expected at least 1"),
            ({"grid_size": [8]}, "grid_size is .8., expected rows and columns"),
            ({"grid_size": [8, 0]}, "expected rows and columns"),
            ({"topic_combination": "product"}, "expected 'mixture' with condition="),
            ({"condition": "suffix"}, "condition is 'suffix', expected one of"),
            ({"condition_dropout": 1.0}, "condition_dropout is 1.0, expected a number from 0 to"),
            ({"code_keep_probability": 0.0}, "expected a number above 0, at most 1"),
            ({"codes_per_position": 5, "codebook_size": 4}, "expected at most codebook_size, 4"),
            ({"inference_network": "one_hot", "inference_hidden_sizes": []}, "expected a width"),
            ({"inference_hidden_sizes": [0]}, "expected widths of at least 1"),
            ({"decoder_config": {"model_type": "gpt9"}}, "model_type 'gpt9', which is unknown"),
            ({"decoder_config": {"vocab_size": 7}}, "vocab_size=7, expected 1024"),
            ({"decoder_config": {"n_positions": 7}}, "max_position_embeddings=7, expected 64"),
            ({"num_topics": 2, "topic_labels": ["a"]}, "topic_labels has 1 names, expected 2"),
        ],
    )
    def test_bad_values_are_named(self, options, message):
        with pytest.raises((ValueError, StrictDataclassError), match=message):
            TopicVQImageConfig(**options)


class TestDecoder:
    def test_a_new_decoder_is_as_transformers_makes_it(self):
        # Trap: the residual projections of GPT-2 are initialized by the module above them.
        config = TopicVQImageConfig(codebook_size=50, hidden_size=128, num_hidden_layers=6)
        ours = TopicVQForImageGeneration(config).decoder
        theirs = GPT2LMHeadModel(config.build_decoder_config())
        for (name, weight), other in zip(ours.named_parameters(), theirs.parameters(), strict=True):
            std, expected = weight.detach().std(), other.detach().std()
            torch.testing.assert_close(std, expected, rtol=0.1, atol=0, msg=name)
        assert ours.lm_head.weight is not ours.transformer.wte.weight

    @pytest.mark.parametrize("kind", ["gpt2", "llama", "bert"])
    def test_no_decoder_sees_what_it_is_to_write(self, make, kind):
        model = make(decoder_config={"model_type": kind})
        codes = some_codes(model, 1).flatten(1)
        other = torch.cat([codes[:, :-2], (codes[:, -2:] + 1) % 16], dim=1)
        topics = some_topics(model, 1)
        likelihoods = (model.log_likelihood(each, topics, True)[:, :-2] for each in (codes, other))
        torch.testing.assert_close(*likelihoods)

    @pytest.mark.parametrize("condition", CONDITIONS)
    @pytest.mark.parametrize("decoder", [None, LLAMA], ids=["gpt2", "llama"])
    def test_other_decoders_save_load_and_generate(self, make, tmp_path, decoder, condition):
        options = {"num_attention_heads": 2, "tie_word_embeddings": True}
        model = make(decoder_config=decoder, condition=condition, **options)
        model.save_pretrained(tmp_path)
        loaded = TopicVQForImageGeneration.from_pretrained(tmp_path)
        assert type(loaded.decoder) is type(model.decoder)
        assert loaded.get_output_embeddings().weight is loaded.get_input_embeddings().weight
        topics = some_topics(model, 3)
        first, second = (
            each.generate(topics, generator=generators(1, 2, 3)) for each in (model, loaded)
        )
        assert torch.equal(first, second)
        assert loaded.generation_config.do_sample

    def test_a_decoder_whose_layers_are_not_found_is_named(self, make):
        with pytest.raises(ValueError, match="does not find the layers of a GPT2LMHeadModel"):
            shift_layers(make().decoder, 5)


class TestLosses:
    @pytest.mark.parametrize("topic_condition", ["codebook", "embedding"])
    @pytest.mark.parametrize("condition", CONDITIONS)
    def test_the_prior_is_the_decoder_code_by_code(self, make, condition, topic_condition):
        model = make(condition=condition, topic_condition=topic_condition)
        codes, topics = some_codes(model, 3), some_topics(model, 3)
        with torch.no_grad():
            expected = torch.zeros(3, model.config.num_positions)
            for image in range(3):
                heard = told(model, topics[image])
                row = codes[image].flatten()
                for t, code in enumerate(row):
                    logits = plain_logits(model, row[:t], heard)
                    expected[image, t] = logits.log_softmax(dim=-1)[code]
            output = model(codes=codes, topic_proportions=topics, output_logits=True)
        found = model.log_likelihood(codes, topics, per_position=True)
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(model.log_likelihood(codes, topics), found.sum(dim=1))
        torch.testing.assert_close(output.prior_loss, -expected.sum() / 3, rtol=1e-4, atol=1e-5)
        chosen = output.logits.log_softmax(dim=-1).gather(2, codes.flatten(1)[..., None])[..., 0]
        torch.testing.assert_close(chosen, found)
        assert output.kl_loss == 0
        assert output.posterior_mean is None

    @pytest.mark.parametrize("combination", ["mixture", "product"])
    @pytest.mark.parametrize("number", [1, 3])
    def test_the_bag_of_codes(self, make, combination, number):
        model = make(
            topic_combination=combination,
            codes_per_position=number,
            background="log_frequency",
            condition="prefix",
        )
        codes = some_codes(model)
        output = model(codes=codes)
        directions = F.normalize(model.codebook, dim=-1)
        losses = []
        for image, theta in zip(codes.flatten(1), output.topic_proportions, strict=True):
            bag = torch.zeros(model.config.codebook_size)
            for code in image:
                distances = (directions - directions[code]).square().sum(dim=1)
                nearest = distances.argsort()[:number]
                assert nearest[0] == code
                bag[nearest] += torch.softmax(-distances[nearest] / 0.1, dim=0)
            if combination == "mixture":
                log_probs = (theta @ model.topic_code_probs).log()
            else:  # running moments are still 0 and 1
                scores = theta @ model.topic_codes / (1 + 1e-5) ** 0.5
                log_probs = (scores + model.code_mixture.bias).log_softmax(dim=0)
            losses.append(-(bag * log_probs).sum())
        torch.testing.assert_close(output.code_loss, torch.stack(losses).mean())

    def test_the_divergence_and_its_warm_up(self, make):
        model = make(posterior_standardization="none")
        codes = some_codes(model)
        output = model(codes=codes)
        posterior = torch.distributions.Normal(
            output.posterior_mean, (0.5 * output.posterior_log_variance).exp()
        )
        prior = torch.distributions.Normal(model.prior.mean, (0.5 * model.prior.log_variance).exp())
        expected = torch.distributions.kl_divergence(posterior, prior).sum(dim=1).mean()
        torch.testing.assert_close(output.kl_loss, expected)
        parts = output.prior_loss + output.code_loss
        torch.testing.assert_close(output.loss, parts + output.kl_loss)
        model.train()
        model.begin_training(20)  # kl_warmup is 0.2
        for factor in (0.0, 0.25, 0.5, 0.75, 1.0, 1.0):
            output = model(codes=codes)
            expected = output.prior_loss + output.code_loss + factor * output.kl_loss
            torch.testing.assert_close(output.loss, expected)

    def test_the_published_scaling_is_a_mean_over_positions(self, make):
        model = make(prior_loss_scaling="position_mean")
        output = model(codes=some_codes(model))
        expected = output.prior_loss / 6 + output.code_loss + output.kl_loss
        torch.testing.assert_close(output.loss, expected)

    @pytest.mark.parametrize("network", ["map", "one_hot", "bag"])
    @pytest.mark.parametrize("condition", CONDITIONS)
    def test_the_prior_alone_teaches_topics_and_never_moves_the_codebook(
        self, make, network, condition
    ):
        # Defect T27: the cross-entropy of the authors' prior gives the topics no gradient.
        told = "embedding" if condition == "prefix_and_logits" else "codebook"
        options = {"inference_network": network, "condition": condition, "topic_condition": told}
        model = make(**options).train()
        model.codebook.requires_grad_(True)
        model(codes=some_codes(model)).prior_loss.backward()
        assert model.topic_codes.grad.any()
        inference = dict(model.inference.named_parameters())
        assert all(parameter.grad.any() for parameter in inference.values())
        assert model.codebook.grad is None

    def test_the_published_prior_teaches_topics_nothing(self, make):
        model = make(variant="published").train()
        model(codes=some_codes(model)).prior_loss.backward()
        assert all(parameter.grad is None for parameter in model.inference.parameters())
        assert model.decoder.get_input_embeddings().weight.grad.any()

    @pytest.mark.parametrize("condition", ["prefix_and_layers", "prefix_and_logits"])
    def test_the_gradient_to_given_proportions_is_that_of_differences(self, make, condition):
        # Defect T31: an addition in place on activations. In float64.
        model = make(condition=condition).double()
        codes = some_codes(model, 2).flatten(1)

        def loss(proportions):
            logits, _ = model._decode(codes, model._signal(proportions))
            return F.cross_entropy(logits.flatten(0, 1), codes.flatten())

        topics = some_topics(model, 2).double().requires_grad_()
        assert torch.autograd.gradcheck(loss, topics)

    def test_dropping_the_condition_and_codes(self, make):
        off = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
        model = make(condition_dropout=0.5, decoder_config=off).train()
        codes, topics = some_codes(model, 1).expand(200, -1, -1), some_topics(model, 1)
        logits = model(codes=codes, topic_proportions=topics.expand(200, -1), output_logits=True)
        kinds = logits.logits[:, 0].unique(dim=0).round(decimals=4).unique(dim=0)
        assert len(kinds) == 2
        with torch.no_grad():
            plain = plain_logits(model, codes[0, 0, :0], told_nothing(model))
        torch.testing.assert_close(
            (kinds - plain).abs().amax(dim=1).min(), torch.zeros(()), rtol=0, atol=1e-3
        )
        kept = make(condition_dropout=0.0, code_keep_probability=0.5, decoder_config=off).train()
        some = kept(codes=codes, topic_proportions=topics.expand(200, -1), output_logits=True)
        assert len(some.logits[:, 0].round(decimals=3).unique(dim=0)) == 1, "there is no code yet"
        assert len(some.logits[:, 1].round(decimals=3).unique(dim=0)) == 2


class TestInference:
    @pytest.mark.parametrize("network", ["map", "one_hot", "bag"])
    @pytest.mark.parametrize("standardization", ["mean", "both", "none"])
    def test_each_image_for_itself_and_always_the_same(self, make, network, standardization):
        model = make(inference_network=network, posterior_standardization=standardization)
        codes = some_codes(model)
        together = model.infer_topics(codes)
        torch.testing.assert_close(together.sum(dim=1), torch.ones(6))
        alone = torch.cat([model.train().infer_topics(image[None]) for image in codes])
        assert model.training
        torch.testing.assert_close(alone, together)
        torch.testing.assert_close(model.infer_topics(codes.flatten(1).int()), together)
        output = model.eval()(codes=codes, return_loss=False)
        torch.testing.assert_close(output.topic_proportions, together)

    def test_only_a_bag_forgets_where_codes_lie(self, make):
        for network in ("map", "one_hot", "bag"):
            model = make(inference_network=network)
            codes = some_codes(model)
            same = torch.allclose(
                model.infer_topics(codes), model.infer_topics(codes.flip(1, 2)), atol=1e-5
            )
            assert same == (network == "bag"), network

    def test_one_hot_is_a_convolution_over_the_whole_map(self, make):
        model = make(inference_network="one_hot", inference_hidden_sizes=[9])
        codes, config = some_codes(model), model.config
        features = model.inference.features
        weight = features.map_weight.view(*config.grid_size, config.codebook_size, 9)
        maps = F.one_hot(codes, config.codebook_size).float().permute(0, 3, 1, 2)
        expected = F.conv2d(maps, weight.permute(3, 2, 0, 1), features.map_bias).flatten(1).tanh()
        torch.testing.assert_close(features(codes.flatten(1), model.code_vectors), expected)

    def test_draws_have_the_softmax_of_the_mean_in_the_middle(self, make):
        model = make(posterior_standardization="none")
        with torch.no_grad():
            model.inference.log_variance.weight.zero_()
            model.inference.log_variance.bias.fill_(-20.0)
        codes = some_codes(model)
        torch.testing.assert_close(
            model.infer_topics(codes, num_samples=3),
            model.infer_topics(codes),
            rtol=1e-3,
            atol=1e-3,
        )

    def test_topics_of_the_prior(self, make):
        model = make()
        with torch.no_grad():
            model.prior.mean.copy_(torch.tensor([2.0, 0.0, -1.0, 0.5]))
            model.prior.log_variance.fill_(-20.0)
        expected = (model.prior.mean / 0.3).softmax(dim=0).expand(3, -1)
        torch.testing.assert_close(model.sample_topics(3), expected, rtol=1e-3, atol=1e-4)

    def test_a_training_batch_of_one_is_refused_only_with_standardizing(self, make):
        with pytest.raises(ValueError, match="a training batch has 1 image"):
            make().train()(codes=some_codes(make(), 1))
        model = make(posterior_standardization="none").train()
        assert model(codes=some_codes(model, 1)).loss.isfinite()


class TestStart:
    def test_topics_start_as_clusters_and_the_network_as_products_with_them(self, make):
        model = make(inference_hidden_sizes=[], num_topics=3)
        kinds, size = torch.arange(60) % 3, model.config.codebook_size
        codes = (5 * kinds[:, None] + torch.randint(5, (60, 6))).view(60, 2, 3)
        before = model.prior.mean.clone()
        model.initialize_topics(codes, torch.Generator().manual_seed(0))
        assert torch.equal(model.prior.mean, before)
        found = model.inference(codes.flatten(1), model.code_vectors)[0].argmax(dim=1)
        assert len({(int(kind), int(topic)) for kind, topic in zip(kinds, found, strict=True)}) == 3
        counts = torch.bincount(codes.flatten(), minlength=size) + 1e-3
        shares = counts / counts.sum()
        for topic in range(3):
            own = torch.bincount(codes[found == topic].flatten(), minlength=size) + 50 * shares
            expected = (own / own.sum() / shares).log()
            torch.testing.assert_close(model.topic_codes[topic], expected, rtol=1e-4, atol=1e-4)
        points = F.normalize(F.one_hot(codes.flatten(1), size).sum(dim=1).float().log1p(), dim=1)
        points = F.normalize(points - points.mean(dim=0), dim=1)
        centers = torch.stack([points[found == topic].mean(dim=0) for topic in range(3)])
        expected = centers - centers.mean(dim=0)
        torch.testing.assert_close(model.inference.mean.weight, expected, rtol=1e-4, atol=1e-4)
        assert (model.inference.log_variance.bias == -2).all()

    def test_a_start_at_random_is_left_alone(self, make):
        model = make(topic_init="random")
        before = copy.deepcopy(model.state_dict())
        model.initialize_topics(some_codes(model))
        assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())

    def test_too_few_images_are_named(self, make):
        with pytest.raises(ValueError, match="there are 3 images for 4 topics to start from"):
            make().initialize_topics(some_codes(make(), 3))


class TestGeneration:
    @pytest.mark.parametrize("condition", CONDITIONS)
    @pytest.mark.parametrize("guidance", [1.0, 0.0, 2.5])
    def test_greedy_with_and_without_cache_is_the_plain_loop(self, make, condition, guidance):
        model = make(condition=condition)
        topics = some_topics(model, 3)
        expected = []
        with torch.no_grad():
            for row in topics:
                heard, codes = told(model, row), torch.empty(0, dtype=torch.int64)
                for _ in range(model.config.num_positions):
                    chosen = plain_logits(model, codes, heard).log_softmax(dim=-1)
                    without = plain_logits(model, codes, told_nothing(model))
                    without = without.log_softmax(dim=-1)
                    scores = without + guidance * (chosen - without)
                    codes = torch.cat([codes, scores.argmax()[None]])
                expected.append(codes.view(2, 3))
        for use_cache in (True, False):
            found = model.generate(
                topics, do_sample=False, guidance_scale=guidance, use_cache=use_cache
            )
            assert torch.equal(found, torch.stack(expected)), use_cache

    @pytest.mark.parametrize("guidance", [1.0, 3.0])
    def test_sampling_is_the_plain_uncached_loop(self, make, guidance):
        model, options = make(), {"temperature": 0.8, "top_k": 6, "top_p": 0.9}
        topics = some_topics(model, 4)
        found = model.generate(
            topics, generator=generators(0, 1, 2, 3), guidance_scale=guidance, **options
        )
        with torch.no_grad():
            for seed, row in enumerate(topics):
                heard, codes = told(model, row), torch.empty(0, dtype=torch.int64)
                for uniform in torch.rand(6, generator=torch.Generator().manual_seed(seed)):
                    chosen = plain_logits(model, codes, heard).log_softmax(dim=-1)
                    without = plain_logits(model, codes, told_nothing(model))
                    without = without.log_softmax(dim=-1)
                    probs = ((without + guidance * (chosen - without)) / 0.8).softmax(dim=-1)
                    order = probs.argsort(descending=True)[:6]
                    kept = probs[order] / probs[order].sum()
                    order = order[: 1 + int((kept.cumsum(dim=0) < 0.9).sum())]
                    probs = torch.zeros_like(probs).scatter(0, order, probs[order])
                    sums = probs.double().cumsum(dim=0)
                    code = int((sums <= uniform.double() * sums[-1]).sum())
                    codes = torch.cat([codes, torch.tensor([code])])
                assert torch.equal(found[seed].flatten(), codes), seed

    @pytest.mark.parametrize(("use_cache", "seen"), [(True, 6), (False, 1 + 2 + 3 + 4 + 5 + 6)])
    def test_with_a_cache_the_decoder_sees_each_position_once(self, make, use_cache, seen):
        # So 64 images of 64 codes take a small part of the time; benchmarks/topic_image.py measures it.
        model, lengths = make(), []
        model.decoder.get_decoder().register_forward_pre_hook(
            lambda module, args, kwargs: lengths.append(kwargs["inputs_embeds"].shape),
            with_kwargs=True,
        )
        model.generate(some_topics(model, 3), use_cache=use_cache, guidance_scale=2.0)
        assert [shape[0] for shape in lengths] == [6] * 6, "both halves of guidance in one batch"
        assert sum(shape[1] for shape in lengths) == seen

    def test_draws_have_the_probabilities_of_the_decoder(self, make):
        model = make(grid_size=[1, 2])
        topics = some_topics(model, 1).expand(4000, -1)
        codes = model.generate(topics, generator=torch.Generator().manual_seed(0)).flatten(1)
        with torch.no_grad():
            probs = plain_logits(model, codes[0, :0], told(model, topics[0])).softmax(dim=-1)
        shares = torch.bincount(codes[:, 0], minlength=16) / 4000
        torch.testing.assert_close(shares, probs, rtol=0, atol=0.03)

    def test_an_image_does_not_depend_on_its_batch(self, make):
        model, seeds = make(), range(7)
        topics = some_topics(model, 7)
        together = model.generate(topics, generator=generators(*seeds))
        alone = [model.generate(topics[i : i + 1], generator=generators(i))[0] for i in (6, 2, 0)]
        assert torch.equal(torch.stack(alone), together[[6, 2, 0]])
        drawn = model.generate(num_images=7, generator=generators(*seeds))
        assert torch.equal(model.generate(num_images=1, generator=generators(5))[0], drawn[5])

    def test_one_generator_repeats_a_batch_and_leaves_the_global_one_alone(self, make):
        model = make()
        state = torch.get_rng_state()
        first, second = (model.generate(num_images=5, generator=generators(3)[0]) for _ in "ab")
        assert torch.equal(first, second)
        assert torch.equal(state, torch.get_rng_state())
        assert not torch.equal(first, model.generate(num_images=5, generator=generators(4)[0]))
        torch.manual_seed(0)
        first = model.generate(num_images=5)
        torch.manual_seed(0)
        assert torch.equal(first, model.generate(num_images=5))

    @pytest.mark.parametrize("given", [1, 3, 5])
    def test_a_partial_image_is_completed(self, make, given):
        model = make()
        topics = some_topics(model, 4)
        full = model.generate(topics, do_sample=False)
        rest = model.generate(topics, codes=full.flatten(1)[:, :given], do_sample=False)
        assert torch.equal(rest, full)
        other = (full.flatten(1)[:, :given] + 1) % 16
        assert torch.equal(model.generate(codes=other).flatten(1)[:, :given], other)

    def test_without_topics_and_by_reference(self, make):
        model = make()
        codes = model.generate("unconditional", num_images=3, do_sample=False)
        assert torch.equal(codes[0], codes[1])
        topics = model.infer_topics(some_codes(model, 3))
        same = model.generate(topics, guidance_scale=0.0, do_sample=False)
        assert torch.equal(same, codes)
        assert model.generate(topics, num_return_sequences=2).shape == (6, 2, 3)
        assert model.generate(topics, num_images=3).shape == (3, 2, 3)
        nats = model.log_likelihood(codes, "unconditional")
        assert (nats >= model.log_likelihood(some_codes(model, 3), "unconditional")).any()

    def test_processors_streamers_and_a_configuration(self, make):
        class Counter(BaseStreamer):
            codes, ended = [], False

            def put(self, value):
                self.codes.append(value)

            def end(self):
                self.ended = True

        model, counter = make(), Counter()
        processors = LogitsProcessorList([SuppressTokensLogitsProcessor(list(range(1, 16)))])
        options = GenerationConfig(do_sample=True, top_k=9, temperature=2.0)
        codes = model.generate(
            num_images=2,
            logits_processor=processors,
            streamer=counter,
            generation_config=options,
            top_k=3,
        )
        assert (codes == 0).all()
        assert torch.equal(torch.stack(counter.codes, dim=1), codes.flatten(1))
        assert counter.ended
        assert options.top_k == 9
        assert len(processors) == 1
        assert model.generate(num_images=2, top_k=1, generation_config=options).shape == (2, 2, 3)

    def test_training_mode_is_left_and_taken_up_again(self, make):
        model = make()
        topics = some_topics(model, 2)
        expected = model.generate(topics, do_sample=False)
        assert torch.equal(model.train().generate(topics, do_sample=False), expected)
        assert model.training
        assert model.decoder.training


class TestBadInput:
    @pytest.mark.parametrize(
        ("codes", "message"),
        [
            (torch.full((2, 2, 3), 16), "codes range from 16 to 16, expected 0 to 15"),
            (torch.full((2, 6), -1), "codes range from -1 to -1"),
            (torch.zeros(2, 3, 2, dtype=torch.int64), r"expected integers \(images, 6\) or"),
            (torch.zeros(2, 5, dtype=torch.int64), r"of shape \(2, 5\), expected integers"),
            (torch.zeros(2, 2, 3), "codes are torch.float32"),
        ],
    )
    def test_codes(self, make, codes, message):
        model = make()
        for call in (model, model.infer_topics, model.log_likelihood):
            with pytest.raises(ValueError, match=message):
                call(codes)

    def test_topics(self, make):
        model = make()
        for topics, message in (
            (torch.ones(2, 3) / 3, r"shape \(2, 3\), expected \(2, 4\)"),
            (torch.ones(2, 4), "sum to 4 to 4, expected rows of shares"),
            (torch.tensor([[2.0, -1, 0, 0]] * 2), "range from -1"),
            (torch.full((2, 4), torch.nan), "expected rows of shares"),
            ("none", "topic_proportions is 'none', expected a tensor or 'unconditional'"),
        ):
            with pytest.raises(ValueError, match=message):
                model.generate(topics, num_images=2)
            with pytest.raises(ValueError, match=message):
                model.log_likelihood(some_codes(model, 2), topics)

    def test_generation(self, make):
        model, topics = make(), some_topics(make(), 2)
        for options, message in (
            ({}, "needs to know how many images"),
            ({"num_images": 0}, "needs to know how many images"),
            ({"topic_proportions": topics, "num_images": 3}, "needs to know how many images"),
            ({"num_images": 2, "generator": generators(0)}, "1 generators for 2 images"),
            ({"num_images": 2, "num_beams": 3}, "generate does not know num_beams"),
            ({"num_images": 2, "num_return_sequences": 0}, "num_return_sequences is 0, expected"),
            ({"num_images": 1, "max_new_tokens": 3}, "generate does not know max_new_tokens"),
            (
                {"num_images": 1, "generation_config": GenerationConfig(repetition_penalty=2.0)},
                "generate does not know repetition_penalty",
            ),
            ({"codes": torch.zeros(2, 6, dtype=torch.int64)}, "fewer than 6"),
            ({"codes": torch.full((2, 3), 99)}, "codes range from 99"),
            (
                {"topic_proportions": "unconditional", "num_images": 1, "guidance_scale": 2.0},
                "no topics to guide to",
            ),
        ):
            with pytest.raises(ValueError, match=message):
                model.generate(**options)

    def test_guidance_needs_a_model_that_was_trained_for_it(self, make):
        model = make(condition_dropout=0.0)
        topics = some_topics(model, 2)
        assert model.generate(topics).shape == (2, 2, 3)
        for options in (
            {"topic_proportions": topics, "guidance_scale": 2.0},
            {"topic_proportions": "unconditional", "num_images": 2},
        ):
            with pytest.raises(ValueError, match="trained with condition_dropout=0"):
                model.generate(**options)
        with pytest.raises(ValueError, match="trained with condition_dropout=0"):
            model.log_likelihood(some_codes(model), "unconditional")

    def test_the_codebook(self, tiny_config):
        model = TopicVQForImageGeneration(tiny_config("topic_vq_image"))
        codes = torch.zeros(2, 6, dtype=torch.int64)
        for call in (model, model.infer_topics, model.log_likelihood):
            with pytest.raises(ValueError, match="call set_codebook first"):
                call(codes)
        with pytest.raises(ValueError, match="call set_codebook first"):
            model.generate(num_images=1)
        for codebook, message in (
            (torch.randn(16, 4), r"shape \(16, 4\), expected \(16, 5\)"),
            (torch.zeros(16, 5), "finite and not all zeros"),
            (torch.full((16, 5), torch.nan), "finite and not all zeros"),
        ):
            with pytest.raises(ValueError, match=message):
                model.set_codebook(codebook)
        with pytest.raises(ValueError, match=r"expected counts of shape \(16,\)"):
            model.set_background(torch.ones(3))

    def test_the_size_of_the_codebook_does_not_matter(self, make):
        # Codebooks start at U(-1/C, 1/C): their vectors must not vanish beside the eps of a layer norm.
        model = make(topic_condition="codebook", inference_network="map")
        codes, topics = some_codes(model), some_topics(model)
        expected = model.log_likelihood(codes, topics)
        model.set_codebook(1e-4 * model.codebook)
        torch.testing.assert_close(model.log_likelihood(codes, topics), expected)


class TestDocumentation:
    def test_every_equation_that_the_code_cites_exists(self):
        known = re.findall(r"\\tag\{(I\d+)\}", PAGE)
        assert known == [f"I{number}" for number in range(1, len(known) + 1)]
        cited = set()
        for file in (ROOT / "src" / "hf_vq").rglob("*.py"):
            cited |= set(re.findall(r"\((I\d+)\)", file.read_text()))
        assert cited
        assert cited <= set(known)

    def test_the_page_states_every_lever_of_every_variant(self):
        rows = re.findall(r"^\| `(\w+)` \| `(.+?)` \| `(.+?)` \|", PAGE, flags=re.MULTILINE)
        stated = {name: (json.loads(first), json.loads(second)) for name, first, second in rows}
        published, recommended = (IMAGE_VARIANTS[name] for name in ("published", "recommended"))
        assert published.keys() == recommended.keys()
        assert stated == {name: (published[name], recommended[name]) for name in published}


def planted(number, topics=3, size=12, positions=16):
    """Codes of images that each have one of three topics, each its own four codes, most of the time."""
    kinds = torch.randint(topics, (number,))
    own = kinds[:, None] * (size // topics) + torch.randint(size // topics, (number, positions))
    any_code = torch.randint(size, (number, positions))
    return kinds, torch.where(torch.rand(number, positions) < 0.8, own, any_code)


def fit(model, codes, steps, learning_rate=3e-3):
    model.train()
    model.begin_training(steps)
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate)
    for _ in range(steps):
        loss = model(codes=codes[torch.randint(len(codes), (64,))]).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model.eval()


@pytest.mark.slow
def test_planted_topics_are_found_help_the_prior_and_steer_it():
    config = TopicVQImageConfig(
        num_topics=3,
        codebook_size=12,
        codebook_dim=6,
        grid_size=[4, 4],
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
    )
    model = TopicVQForImageGeneration(config)
    model.set_codebook(torch.randn(12, 6))
    _, codes = planted(2000)
    model.set_background(torch.bincount(codes.flatten(), minlength=12))
    model.initialize_topics(codes, torch.Generator().manual_seed(0))
    fit(model, codes, 150)
    kinds, held_out = planted(500)
    topics = model.infer_topics(held_out)
    found = topics.argmax(dim=1)
    table = torch.zeros(3, 3).index_put_((kinds, found), torch.ones(500), accumulate=True)
    assert table.amax(dim=1).sum() > 450, table
    own = model.log_likelihood(held_out, topics).mean()
    without = model.log_likelihood(held_out, "unconditional").mean()
    shuffled = model.log_likelihood(held_out, topics.roll(1, dims=0)).mean()
    assert own > without + 0.5
    assert without > shuffled
    # What is drawn for a topic has that topic, and more so with guidance.
    wanted = torch.arange(3).repeat_interleave(40)
    typical = torch.stack([topics[found == k].mean(dim=0) for k in range(3)])[wanted]
    rates = []
    for scale in (1.0, 3.0):
        samples = model.generate(typical, guidance_scale=scale)
        rates.append(float((model.infer_topics(samples).argmax(dim=1) == wanted).float().mean()))
    assert rates[0] > 0.8, rates
    assert rates[1] >= rates[0] - 0.05, rates


def test_the_trainer_trains_evaluates_and_predicts(make, tmp_path):
    model = make()
    rows = [{"codes": image} for image in some_codes(model, 10)]
    arguments = TrainingArguments(
        str(tmp_path),
        max_steps=2,
        per_device_train_batch_size=4,
        per_device_eval_batch_size=4,
        report_to="none",
        use_cpu=True,
        disable_tqdm=True,
        bf16=True,
    )
    trainer = Trainer(model, arguments, train_dataset=rows, eval_dataset=rows)
    before = copy.deepcopy(model.topic_codes)
    trainer.train()
    assert not torch.equal(before, model.topic_codes)
    assert math.isfinite(trainer.evaluate()["eval_loss"])
    predicted = trainer.predict(rows).predictions
    assert [part.shape for part in predicted] == [(10, 4)] * 3
