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
"""TopicVQ: words to codes and topics to words, each beside the equation of docs/topics.md, and defects of peers."""

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from huggingface_hub.errors import StrictDataclassError
from safetensors.torch import load_file

from hf_vq.models import TopicVQConfig, TopicVQModel
from hf_vq.models.configuration_topic_vq import RANKINGS, VARIANTS


@pytest.fixture
def make(tiny_config):
    """Return `make(variant=..., **options)`: a tiny model in eval mode."""

    def build(**options):
        if options.get("variant", "recommended") != "recommended":
            options = {
                "autoencoder_hidden_sizes": [14, 13],
                "inference_hidden_sizes": [9],
            } | options
        return TopicVQModel(tiny_config("topic_vq", **options)).eval()

    return build


def documents(model, number=6, words=7):
    config = model.config
    return {
        "word_embeddings": torch.randn(number, words, config.word_embedding_dim),
        "word_counts": torch.randint(0, 3, (number, config.vocab_size)).float(),
        "document_vectors": torch.randn(number, config.word_embedding_dim),
    }


def bags(model, number=6):
    config = model.config
    return {
        "code_counts": torch.rand(number, config.codebook_size),
        "word_counts": torch.randint(0, 3, (number, config.vocab_size)).float(),
        "document_vectors": torch.randn(number, config.word_embedding_dim),
    }


def fit(model, inputs, steps, learning_rate):
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], learning_rate)
    model.train()
    for _ in range(steps):
        loss = model(**inputs).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.eval()
    return loss


class TestConfig:
    @pytest.mark.parametrize("variant", VARIANTS)
    def test_a_variant_fills_what_is_open_and_leaves_the_rest(self, variant):
        config = TopicVQConfig(variant=variant, codebook_dim=7, num_topics=8)
        expected = VARIANTS[variant] | {"codebook_dim": 7}
        if expected["prior_mean_init"] is None:
            expected["prior_mean_init"] = 1 / 8
        assert {name: getattr(config, name) for name in expected} == expected

    def test_a_saved_configuration_states_every_lever(self, tmp_path):
        TopicVQConfig().save_pretrained(tmp_path)
        text = (tmp_path / "config.json").read_text()
        assert all(f'"{name}"' in text for name in VARIANTS["recommended"])

    def test_no_two_configurations_share_a_list(self):
        # Defect T7: reversing the widths of the decoder in place also reversed those of the caller.
        widths = [9, 8, 7]
        config = TopicVQConfig(
            autoencoder_hidden_sizes=widths, autoencoder_init="random", vocab_size=9
        )
        TopicVQModel(config)
        assert widths == config.autoencoder_hidden_sizes == [9, 8, 7]
        first, second = TopicVQConfig(), TopicVQConfig()
        first.autoencoder_hidden_sizes.append(1)
        assert (
            second.autoencoder_hidden_sizes == VARIANTS["recommended"]["autoencoder_hidden_sizes"]
        )

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"variant": "paper"}, "variant is 'paper', expected one of"),
            ({"num_topics": 0}, "num_topics is 0, expected at least 1"),
            ({"codes_per_token": 9, "codebook_size": 8}, "codes_per_token is 9, expected at most"),
            ({"expansion_temperature": 0}, "expansion_temperature is 0, expected a positive"),
            ({"topic_dropout": 1.0}, "topic_dropout is 1.0, expected a number from 0 to below 1"),
            ({"distance": "cosin"}, "distance is 'cosin', expected one of"),
            ({"autoencoder_hidden_sizes": [5]}, "is .5., expected none with autoencoder_init"),
            ({"topic_word_exclusivity": -1}, "topic_word_exclusivity is -1, expected at least 0"),
            ({"word_decoder_hidden_sizes": [3, 0]}, "expected widths of at least 1"),
            ({"num_topics": 3, "prior_concentration": [1.0, 2.0]}, "has 2 numbers, expected one"),
            ({"prior_concentration": 0.0}, "expected positive numbers"),
            ({"prior_concentration": math.nan}, "expected positive numbers"),
            (
                {"num_topics": 2, "prior_concentration": [1.0, math.inf]},
                "expected positive numbers",
            ),
            ({"num_topics": 3, "topic_map": [0, 2, 2]}, "topic_map is"),
            ({"num_topics": 3, "topic_map": []}, "topic_map is"),
            ({"num_topics": 3, "topic_labels": ["a"]}, "topic_labels has 1 names, expected 3"),
            ({"vocab_size": 3, "seed_words": [[3]]}, "expected word ids from 0 to 2"),
            ({"num_topics": 1, "seed_words": [[0], [1]]}, "names 2 topics, expected at most 1"),
        ],
    )
    def test_refuses(self, options, message):
        with pytest.raises((ValueError, StrictDataclassError), match=message):
            TopicVQConfig(**options)

    def test_merged_topics_have_the_labels(self):
        TopicVQConfig(num_topics=3, topic_map=[0, 1, 0], topic_labels=["a", "b"])


class TestWords:
    def test_latents_are_normalized_outputs_of_the_encoder(self, make):
        model = make(variant="published")
        embeddings = documents(model)["word_embeddings"]
        hidden = embeddings
        *layers, last = model.autoencoder.encoder.layers
        for layer in layers:
            hidden = F.relu(layer(hidden))
        latents = model.encode(embeddings).latents
        torch.testing.assert_close(latents, F.normalize(last(hidden), dim=-1))

    @pytest.mark.parametrize("distance", ["cosine", "euclidean"])
    @pytest.mark.parametrize("reduction", ["sum", "mean"])
    @pytest.mark.parametrize("kind", ["ones", "inverse_distance", "softmax"])
    def test_expansion_word_by_word(self, make, kind, reduction, distance):
        # Defect T8: the weights by distance were computed, and then overwritten by ones.
        model = make(expansion_weights=kind, expansion_reduction=reduction, distance=distance)
        encoded = model.encode(documents(model)["word_embeddings"])
        codebook = model.quantizer.codebook
        if distance == "cosine":
            codebook = codebook / codebook.norm(dim=1, keepdim=True)
        for document in range(6):
            for word in range(7):
                latent = encoded.latents[document, word]
                distances = (latent - codebook).square().sum(dim=1)
                nearest = distances.argsort()[:3]
                near = distances[nearest]
                weights = {
                    "ones": torch.ones(3),
                    "inverse_distance": (1 / near) / (1 / near).norm(),
                    "softmax": torch.softmax(-near / 0.1, dim=0),
                }[kind]
                if reduction == "mean":
                    weights = weights / weights.sum()
                quantized = (weights[:, None] * codebook[nearest]).sum(dim=0)
                assert torch.equal(encoded.codes[document, word], nearest)
                found = encoded.code_weights[document, word]
                torch.testing.assert_close(found, weights, rtol=1e-4, atol=1e-6)
                found = encoded.quantized[document, word]
                torch.testing.assert_close(found, quantized, rtol=1e-4, atol=1e-6)

    @pytest.mark.parametrize("kind", ["inverse_distance", "softmax"])
    def test_a_word_on_a_code_has_finite_weights(self, make, kind):
        # Defect T9: one over a distance of zero.
        model = make(expansion_weights=kind)
        codes, weights = model.quantizer.expand(model.quantizer.code_vectors)
        assert torch.equal(codes[:, 0], torch.arange(len(codes)))
        assert weights.isfinite().all()
        assert (weights[:, 0] > weights[:, 1]).all()

    @pytest.mark.parametrize("variant", VARIANTS)
    def test_a_mask_leaves_positions_out(self, make, variant):
        model = make(variant=variant)
        inputs = documents(model)
        mask = torch.rand(6, 7) < 0.6
        masked = model(**inputs, word_mask=mask)
        other = copy.deepcopy(inputs)
        other["word_embeddings"][~mask] = 1e3
        again = model(**other, word_mask=mask)
        for name, value in masked.items():
            assert torch.equal(value, again[name]), name
        assert (masked.codes[~mask] == -1).all()
        assert (masked.quantized[~mask] == 0).all()
        kept = inputs["word_embeddings"][mask][None]
        alone = model(word_embeddings=kept, objective="codebook")
        torch.testing.assert_close(masked.reconstruction_loss, alone.reconstruction_loss)
        torch.testing.assert_close(masked.commitment_loss, alone.commitment_loss)
        assert torch.equal(masked.codes[mask], alone.codes[0])

    def test_bags_are_sums_of_weights(self, make):
        model = make()
        mask = torch.rand(6, 7) < 0.6
        encoded = model.encode(documents(model)["word_embeddings"])
        expected = torch.zeros(6, 16)
        for document in range(6):
            for word in range(7):
                for code, weight in zip(
                    encoded.codes[document, word],
                    encoded.code_weights[document, word],
                    strict=True,
                ):
                    expected[document, code] += weight * mask[document, word]
        found = model.bag(encoded.codes, encoded.code_weights, mask)
        torch.testing.assert_close(found, expected)
        torch.testing.assert_close(found.sum(dim=1), mask.sum(dim=1).float())  # weights sum to 1

    def test_scaling_is_undone_by_the_decoder(self, make):
        model = make()
        embeddings = 5 + 3 * torch.randn(6, 7, 12)
        deviation, mean = torch.std_mean(embeddings.flatten(0, 1), dim=0)
        deviation[0] = 0  # a constant dimension
        model.set_embedding_scaling(mean, deviation)
        plain = copy.deepcopy(model)
        plain.config.embedding_scaling = "none"
        deviation[0] = 1
        found = model(word_embeddings=embeddings, objective="codebook")
        expected = plain(word_embeddings=(embeddings - mean) / deviation, objective="codebook")
        torch.testing.assert_close(found.loss, expected.loss)
        torch.testing.assert_close(found.reconstruction, expected.reconstruction * deviation + mean)

    def test_decoding_without_weights_takes_those_of_equal_distances(self, make):
        for variant in VARIANTS:
            model = make(variant=variant)
            codes = torch.randint(0, 16, (2, 5, 3))
            weights = model.quantizer.fixed_weights(codes.flatten(0, 1)).view(2, 5, 3)
            kind = model.config.expansion_weights
            expected = {"ones": 1.0, "inverse_distance": 3**-0.5, "softmax": 1 / 3}[kind]
            torch.testing.assert_close(weights, torch.full((2, 5, 3), expected))
            first = model.decode(codes=codes).reconstruction
            assert torch.equal(first, model.decode(codes, weights).reconstruction)

    def test_losses_of_the_autoencoder(self, make):
        model = make(variant="published").train()
        embeddings = documents(model)["word_embeddings"]
        output = model(word_embeddings=embeddings, objective="codebook")
        latents, quantized = (
            output.latents,
            output.quantized,
        )  # straight-through: in value those of the codes
        error = (quantized - latents).square().mean()
        torch.testing.assert_close(output.codebook_loss, error)
        torch.testing.assert_close(output.commitment_loss, error)
        reconstruction_loss = (output.reconstruction - embeddings).square().mean()
        torch.testing.assert_close(output.loss, reconstruction_loss + 1.25 * error)
        found = torch.autograd.grad(output.codebook_loss, model.quantizer.codebook)[0]
        expected = torch.zeros_like(found)
        pull = 2 * (quantized - latents).detach().flatten(0, 1) / quantized.numel()
        for row, codes in zip(pull, output.codes.flatten(0, 1), strict=True):
            expected[codes] += row
        torch.testing.assert_close(found, expected)

    def test_codes_follow_the_weighted_mean_of_their_words(self, make):
        model = make(ema_decay=0.9, revival_threshold=0.0).train()
        quantizer, old = model.quantizer, copy.deepcopy(model.quantizer)
        output = model(word_embeddings=torch.randn(4, 7, 12), objective="codebook")
        counts, sums = torch.zeros(16), torch.zeros(16, 5)
        for latent, codes, weights in zip(
            output.latents.flatten(0, 1),
            output.codes.flatten(0, 1),
            output.code_weights.flatten(0, 1),
            strict=True,
        ):
            counts[codes] += weights
            sums[codes] += weights[:, None] * latent.detach()
        counts = 0.9 * old.ema_counts + 0.1 * counts
        sums = 0.9 * old.ema_sums + 0.1 * sums
        torch.testing.assert_close(quantizer.codebook, sums / counts[:, None])

    def test_a_dead_code_moves_to_a_word(self, make):
        model = make(codes_per_token=1, distance="euclidean").train()
        quantizer = model.quantizer
        quantizer.codebook[0] = quantizer.ema_sums[0] = 100.0  # far from everything
        quantizer.ema_counts[0] = 1e-6
        output = model(word_embeddings=torch.randn(4, 7, 12), objective="codebook")
        moved = quantizer.codebook[0]
        assert (output.latents.flatten(0, 1) - moved).abs().sum(dim=1).min() < 1e-5

    def test_the_codebook_starts_from_latents(self, make):
        model = make()
        embeddings = torch.randn(1, 400, 12)
        model.initialize_codebook(
            [{"word_embeddings": embeddings}], generator=torch.Generator().manual_seed(0)
        )
        first = model(word_embeddings=embeddings, objective="codebook")
        torch.manual_seed(1)
        other = make()
        other.load_state_dict(
            {k: v for k, v in model.state_dict().items() if "codebook" not in k}, strict=False
        )
        random = other(word_embeddings=embeddings, objective="codebook")
        assert first.commitment_loss < 0.7 * random.commitment_loss
        assert len(first.codes.unique()) == 16
        again = make()
        again.load_state_dict(
            {k: v for k, v in model.state_dict().items() if "codebook" not in k}, strict=False
        )
        again.initialize_codebook([embeddings], generator=torch.Generator().manual_seed(0))
        assert torch.equal(again.quantizer.codebook, model.quantizer.codebook)

    def test_principal_directions_reconstruct_best(self, make):
        # (26): of all linear maps to 5 dimensions the one with the smallest error, and a decoder to go with it.
        model = make(embedding_scaling="none")
        words = torch.randn(500, 12) * torch.linspace(3, 0.5, 12) + 1
        model.initialize_autoencoder(words)
        (encoder,), (decoder,) = model.autoencoder.encoder.layers, model.autoencoder.decoder.layers
        mean = words.mean(dim=0)
        _, _, rotation = torch.linalg.svd(words - mean, full_matrices=False)
        projections = (words - mean) @ rotation[:5].T
        torch.testing.assert_close(encoder(words).abs(), projections.abs(), rtol=1e-3, atol=1e-3)
        lengths = projections.norm(dim=1)
        expected = mean + lengths.mean() * F.normalize(projections, dim=1) @ rotation[:5]
        found = decoder(F.normalize(encoder(words), dim=1))
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)

    def test_more_directions_than_dimensions_stay_empty(self, make):
        model = make(codebook_dim=15)
        model.initialize_autoencoder(torch.randn(50, 12))
        latents = model.encode(torch.randn(2, 3, 12)).latents
        assert (latents[..., 12:] == 0).all()
        torch.testing.assert_close(latents.norm(dim=-1), torch.ones(2, 3))

    def test_only_pca_is_set_from_words(self, make):
        model = make(autoencoder_init="random")
        before = copy.deepcopy(model.state_dict())
        model.initialize_autoencoder(torch.randn(50, 12))
        assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())

    def test_bypassing_leaves_the_quantizer_alone(self, make):
        model = make().train()
        before = copy.deepcopy(model.quantizer.state_dict())
        model.bypass_quantizer()
        output = model(**documents(model))
        assert output.codes is None
        assert output.word_loss is None
        assert torch.equal(output.loss, output.reconstruction_loss)
        for name, tensor in model.quantizer.state_dict().items():
            assert torch.equal(tensor, before[name]), name

    @pytest.mark.parametrize(
        ("call", "message"),
        [
            (lambda m: m.encode(torch.randn(2, 3, 5)), r"word_embeddings have shape \(2, 3, 5\)"),
            (lambda m: m.encode(torch.randn(3, 12)), "expected .documents, words, 12."),
            (
                lambda m: m.encode(torch.randn(2, 3, 12), torch.ones(2, 3)),
                "word_mask is torch.float",
            ),
            (lambda m: m.encode(torch.randn(2, 3, 12), torch.ones(2, 4).bool()), "word_mask is"),
            (lambda m: m.decode(codes=torch.zeros(2, 3).long()), "codes are torch.int64 of shape"),
            (lambda m: m.decode(codes=torch.full((2, 3, 3), 16)), "codes range from 16 to 16"),
            (lambda m: m.decode(), "exactly one of codes and quantized"),
            (lambda m: m.decode(quantized=torch.zeros(2, 3, 4)), "quantized has shape"),
            (lambda m: m.infer_topics(torch.zeros(2, 3)), r"code_counts have shape \(2, 3\)"),
            (lambda m: m.predict_words(torch.zeros(2, 3)), "topic_proportions have shape"),
            (lambda m: m.topic_words(0), "top_n is 0, expected 1 to 23"),
            (lambda m: m.topic_words(3, "best"), "ranking is 'best', expected one of"),
            (lambda m: m.topic_words(3, "ctfidf"), "call add_topic_statistics first"),
            (lambda m: m.topic_words(3, "relevance"), "call set_background first"),
            (lambda m: m(objective="words"), "objective is 'words', expected codebook"),
            (lambda m: m(objective="codebook"), "needs word_embeddings"),
            (lambda m: m(objective="topics"), "topics need code_counts"),
            (lambda m: m(code_counts=torch.ones(2, 16), objective="topics"), "needs word_counts"),
            (lambda m: m.infer_topics(torch.ones(2, 16)), "topics need document_vectors as well"),
            (lambda m: m.topic_words(3, "exclusive"), "call add_topic_statistics first"),
            (lambda m: m.initialize_codebook([]), "got no batch of words"),
            (lambda m: m.set_objective("all"), "objective is 'all'"),
            (lambda m: m.set_background(torch.ones(3), torch.ones(16)), "word_frequencies have"),
        ],
    )
    def test_refuses(self, make, call, message):
        with pytest.raises(ValueError, match=message):
            call(make())

    def test_word_counts_of_another_vocabulary_are_refused(self, make):
        model = make()
        with pytest.raises(
            ValueError, match=r"word_counts have shape \(6, 24\), expected \(6, 23\)"
        ):
            model(**bags(model) | {"word_counts": torch.ones(6, 24)}, objective="topics")


class TestTopics:
    @pytest.mark.parametrize(
        "options",
        [{"topic_separation_weight": 0.7}, *({"variant": variant} for variant in VARIANTS)],
    )
    @pytest.mark.parametrize("separation", ["words", "embeddings"])
    def test_objective_by_the_equations(self, make, options, separation):
        # (8)-(16) one after the other in eval mode, with the parts' own modules.
        model = make(topic_separation=separation, **options)
        config, inputs = model.config, bags(model)
        model.set_background(torch.arange(23.0), torch.arange(16.0))
        counts, words = inputs["code_counts"], inputs["word_counts"]
        mean, log_variance = model.inference(model.features(counts, inputs["document_vectors"]))
        theta = torch.softmax(mean / config.topic_temperature, dim=1)
        directions = F.normalize(model.quantizer.codebook, dim=1)
        topics = F.normalize(model.topic_codes @ directions, dim=1)
        scores = model.word_decoder.network(topics)
        if config.word_decoder == "latents":
            scores = 10 * topics @ model.word_decoder.network.layers[0].weight.T
        if config.topic_standardization == "standard":
            scores = F.batch_norm(scores, None, None, training=True)
        elif config.topic_standardization == "center":
            scores = scores - scores.mean(dim=0)
        word_bias = code_bias = torch.zeros(())
        if config.background == "log_frequency":
            word_bias, code_bias = (
                torch.log((f + 1) / (f + 1).sum()) for f in (torch.arange(23.0), torch.arange(16.0))
            )
        log_words, log_codes = (
            torch.log_softmax(
                theta @ table / (1 + 1e-5) ** 0.5 + bias, dim=1
            )  # running moments 0, 1
            if config.topic_combination == "product"
            else torch.log(theta @ torch.softmax(table + bias, dim=1))
            for table, bias in ((scores, word_bias), (model.topic_codes, code_bias))
        )
        word_loss, code_loss = -(words * log_words).sum(dim=1), -(counts * log_codes).sum(dim=1)
        divergence = model.prior.divergence(mean, log_variance)
        total = word_loss + config.code_loss_weight * code_loss + divergence
        expected = total.sum() if config.loss_reduction == "sum" else total.mean()
        if config.topic_separation == "words":
            phi = torch.softmax(scores + word_bias, dim=1)
            joint = theta.mean(dim=0)[:, None] * phi
            posterior = joint / joint.sum(dim=0)
            entropy = -(posterior * posterior.log()).sum(dim=0)
            frequencies = torch.arange(1.0, 24) / torch.arange(1.0, 24).sum()
            separation = words.sum() / 6 * (frequencies * entropy).sum()
        else:
            cosines = (topics @ topics.T).clamp_min(0).square().fill_diagonal_(0)
            separation = cosines.sum() / 12
        expected = expected + config.topic_separation_weight * separation
        output = model(**inputs, objective="topics", output_word_log_probs=True)
        torch.testing.assert_close(output.loss, expected)
        torch.testing.assert_close(output.topic_proportions, theta)
        torch.testing.assert_close(output.word_log_probs, log_words)
        torch.testing.assert_close(model.predict_words(theta), log_words)
        torch.testing.assert_close(model.topic_embeddings, topics)
        torch.testing.assert_close(model.topic_word_scores, scores)
        torch.testing.assert_close(model.topic_word_probs, torch.softmax(scores + word_bias, dim=1))

    def test_words_give_the_same_topics_as_their_bags(self, make):
        model = make()
        inputs = documents(model)
        mask = torch.rand(6, 7) < 0.7
        whole = model(**inputs, word_mask=mask)
        encoded = model.encode(inputs["word_embeddings"], mask)
        counts = model.bag(encoded.codes, encoded.code_weights)
        topics = model.infer_topics(counts, inputs["document_vectors"], temperature=1.0)
        assert torch.equal(whole.code_counts, counts)
        assert torch.equal(whole.topic_proportions, topics)

    def test_topics_of_a_document_do_not_depend_on_its_company(self, make):
        # Defects T5, T6: proportions were sampled, and were those of the last training batch.
        model = make()
        fit(model, bags(model, 20) | {"objective": "topics"}, 5, 1e-2)
        counts, vectors = torch.rand(14, 16), torch.randn(14, 12)
        whole = model.train().infer_topics(counts, vectors)
        assert model.training
        assert whole.shape == (14, 4)
        assert torch.equal(whole, model.infer_topics(counts, vectors))
        for size in (1, 7):
            pairs = zip(counts.split(size), vectors.split(size), strict=True)
            parts = torch.cat([model.infer_topics(*pair) for pair in pairs])
            torch.testing.assert_close(parts, whole, rtol=0, atol=1e-5)
        backwards = model.infer_topics(counts.flip(0), vectors.flip(0))
        torch.testing.assert_close(backwards.flip(0), whole)

    def test_the_mean_of_draws_is_close_to_that_of_the_posterior(self, make):
        model = make()
        inputs = bags(model, 3)
        vectors = inputs["document_vectors"]
        drawn = model.infer_topics(inputs["code_counts"], vectors, num_samples=2000)
        temperature = model.config.topic_temperature * model.config.proportion_temperature
        output = model(**inputs, objective="topics", return_loss=False)
        deviations = torch.exp(0.5 * output.posterior_log_variance)
        noise = torch.randn(20_000, 3, 4)
        draws = (output.posterior_mean + deviations * noise) / temperature
        expected = torch.softmax(draws, dim=-1).mean(dim=0)
        torch.testing.assert_close(drawn, expected, rtol=0, atol=0.04)

    def test_reported_proportions_are_sharper(self, make):
        model = make(topic_temperature=0.5, proportion_temperature=0.25)
        inputs = bags(model)
        output = model(**inputs, objective="topics", return_loss=False)
        given = inputs["code_counts"], inputs["document_vectors"]
        for options, temperature in (({}, 0.125), ({"temperature": 1.0}, 0.5)):
            expected = torch.softmax(output.posterior_mean / temperature, dim=1)
            torch.testing.assert_close(model.infer_topics(*given, **options), expected)
        assert torch.equal(model.infer_topics(*given, temperature=1.0), output.topic_proportions)

    def test_a_document_without_words_has_the_topics_of_the_prior(self, make):
        model = make(prior_concentration=[1.0, 2.0, 3.0, 4.0])
        empty = torch.zeros(2, 16)
        vectors = torch.cat([torch.zeros(2, 12), torch.randn(2, 12)])
        topics = model.infer_topics(torch.cat([empty, torch.rand(2, 16)]), vectors)
        temperature = model.config.topic_temperature * model.config.proportion_temperature
        expected = torch.softmax(model.prior.mean / temperature, dim=0)
        torch.testing.assert_close(topics[:2], expected.expand(2, 4))
        nothing = model.encode(torch.randn(2, 3, 12), torch.zeros(2, 3).bool())
        assert torch.equal(model.bag(nothing.codes, nothing.code_weights), empty)

    @pytest.mark.parametrize("variant", VARIANTS)
    def test_a_batch_without_any_word_trains_nothing_into_nonsense(self, make, variant):
        model = make(variant=variant).train()
        codebook = model.quantizer.codebook.detach().clone()
        inputs = documents(model) | {"word_counts": torch.zeros(6, 23)}
        nobody = torch.zeros(6, 7).bool()
        output = model(**inputs, word_mask=nobody, objective="joint")
        output.loss.backward()
        assert output.reconstruction_loss == output.commitment_loss == output.word_loss == 0
        for parameter in model.parameters():
            assert parameter.grad is None or parameter.grad.isfinite().all()
        torch.testing.assert_close(model.quantizer.codebook.detach(), codebook)

    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
    @pytest.mark.parametrize("combination", ["product", "mixture"])
    @pytest.mark.parametrize("variant", VARIANTS)
    def test_autocast_is_close_to_float32(self, make, variant, combination, dtype):
        model = make(variant=variant, topic_combination=combination, seed_words=[[1], [2]])
        model.train()
        inputs = documents(model)
        torch.manual_seed(1)
        expected = model(**inputs, objective="joint")
        torch.manual_seed(1)
        with torch.autocast("cpu", dtype=dtype):
            output = model(**inputs, objective="joint")
        for name in ("word_loss", "code_loss", "kl_loss"):
            torch.testing.assert_close(output[name], expected[name], rtol=0.05, atol=0.02)
        output.loss.backward()
        for parameter in model.parameters():
            assert parameter.grad is None or parameter.grad.isfinite().all()

    def test_a_document_vector_is_read_if_the_model_has_one(self, make):
        counts, vectors = torch.rand(6, 16), torch.randn(6, 12)
        model = make()
        topics = model.infer_topics(counts, vectors)
        torch.testing.assert_close(model.infer_topics(counts, 7 * vectors), topics)
        assert not torch.allclose(model.infer_topics(counts, -vectors), topics)
        model = make(document_vector=False)
        assert torch.equal(model.infer_topics(counts, vectors), model.infer_topics(counts))

    def test_topic_losses_do_not_reach_the_codebook(self, make):
        model = make(variant="published").train()
        model(**documents(model), objective="topics").loss.backward()
        for name, parameter in model.named_parameters():
            reached = parameter.grad is not None and parameter.grad.any()
            assert reached != name.startswith("autoencoder."), name

    @pytest.mark.parametrize("combination", ["mixture", "product"])
    def test_one_topic_with_background_says_how_frequent_words_are(self, make, combination):
        # Defect T11: without a bias not even the unigram distribution can be expressed.
        model = make(num_topics=1, topic_combination=combination)
        inputs = bags(model)
        frequencies = inputs["word_counts"].sum(dim=0)
        model.set_background(1e6 * frequencies, inputs["code_counts"].sum(dim=0))
        assert model.config.topic_combination == combination
        unigram = frequencies / frequencies.sum()
        expected = -(inputs["word_counts"] * unigram.clamp_min(1e-12).log()).sum(dim=1).mean()
        loss = model(**inputs, objective="topics").word_loss
        assert loss.item() == pytest.approx(expected.item(), rel=1e-3)

    def test_training_stays_finite_at_a_high_learning_rate(self, make):
        # Defect T13
        model = make()
        loss = fit(model, bags(model, 8) | {"objective": "topics"}, 300, 0.3)
        assert loss.isfinite()
        assert all(tensor.isfinite().all() for tensor in model.state_dict().values())

    @pytest.mark.parametrize("reduction", ["mean", "sum"])
    def test_loss_of_a_document_in_a_doubled_batch(self, make, reduction):
        # Defect T14: sums over a batch. They remain to be had, and then double.
        model = make(loss_reduction=reduction)
        inputs = bags(model)
        twice = {name: torch.cat([value, value]) for name, value in inputs.items()}
        for name in ("word_loss", "code_loss", "kl_loss"):
            first = getattr(model(**inputs, objective="topics"), name)
            second = getattr(model(**twice, objective="topics"), name)
            torch.testing.assert_close(second, first * (2 if reduction == "sum" else 1))

    @pytest.mark.parametrize("combination", ["mixture", "product"])
    def test_sparse_word_counts_are_as_good_as_dense_ones(self, make, combination):
        model = make(topic_combination=combination).train()
        inputs = bags(model)
        gradients = []
        for counts in (inputs["word_counts"], inputs["word_counts"].to_sparse()):
            model.zero_grad()
            torch.manual_seed(0)
            model(**inputs | {"word_counts": counts}, objective="topics").loss.backward()
            gradients.append({n: p.grad for n, p in model.named_parameters() if p.grad is not None})
        torch.testing.assert_close(gradients[0], gradients[1])

    def test_the_divergence_warms_up(self, make):
        model = make(kl_warmup=0.5).train()
        model.set_objective("topics", num_steps=8)
        inputs = bags(model)
        factors = []
        for _ in range(6):
            output = model(**inputs)
            rest = output.word_loss + output.code_loss + 0.03 * output.separation_loss
            factors.append(((output.loss - rest) / output.kl_loss).item())
        assert factors == pytest.approx([0, 0.25, 0.5, 0.75, 1, 1], abs=1e-4)
        model.set_objective("topics", num_steps=8)
        output = model.eval()(**inputs)
        rest = output.word_loss + output.code_loss + 0.03 * output.separation_loss
        assert (output.loss - rest).item() == pytest.approx(output.kl_loss.item(), abs=1e-3)

    def test_stages_say_which_parameters_learn(self, make):
        model = make()
        names = {name for name, _ in model.named_parameters()}
        of_words = {name for name in names if name.startswith("autoencoder.")}
        for objective, expected in (
            ("codebook", of_words),
            ("topics", names - of_words),
            ("joint", names),
        ):
            model.set_objective(objective)
            assert model.config.objective == objective
            assert {n for n, p in model.named_parameters() if p.requires_grad} == expected

    def test_seed_words_come_to_their_topics(self, make):
        seeds = [[3, 4], [5]]
        model = make(seed_words=seeds, seed_loss_weight=20.0)
        output = model(**bags(model), objective="topics")
        log_probs = model.topic_word_probs.log()
        expected = -(log_probs[0, 3] + log_probs[0, 4] + log_probs[1, 5]) / 3
        torch.testing.assert_close(output.seed_loss, expected)
        fit(model, bags(model) | {"objective": "topics"}, 200, 1e-2)
        assert model(**bags(model), objective="topics").seed_loss < 0.7 * output.seed_loss

    def test_the_start_of_topics_by_the_equations(self, make):
        # (27), (29), (30) in loops
        model, inputs = make(), bags(model=make(), number=40)
        counts, words = inputs["code_counts"], inputs["word_counts"]
        counts[:, 3] = 0
        model.initialize_topics(**inputs, generator=torch.Generator().manual_seed(0))
        inverse = torch.tensor(
            [-math.log(max(1e-3, (counts[:, j] > 0.05).float().mean().item())) for j in range(16)]
        )
        rows = torch.stack([torch.log(1 + row) * inverse for row in counts])
        rows = rows / rows.norm(dim=1, keepdim=True)
        vectors = F.normalize(inputs["document_vectors"], dim=1)
        parts = [
            (part - part.mean(dim=0)) / (part - part.mean(dim=0)).square().mean().sqrt()
            for part in (rows, vectors)
        ]
        found = model.features(counts, inputs["document_vectors"])
        torch.testing.assert_close(found, torch.cat(parts, dim=1), rtol=1e-4, atol=1e-5)
        shares = counts / counts.sum(dim=1, keepdim=True)
        directions = F.normalize(model.quantizer.codebook, dim=1)
        for word in range(23):
            place = sum(
                words[document, word] * (shares[document] - shares.mean(dim=0)) @ directions
                for document in range(40)
            )
            weight = model.word_decoder.network.layers[0].weight[word]
            torch.testing.assert_close(weight, place / place.norm(), rtol=1e-3, atol=1e-4)
        frequencies = (counts.sum(dim=0) + 1e-3) / (counts.sum(dim=0) + 1e-3).sum()
        recovered = (
            frequencies * model.topic_codes.exp()
        )  # smoothed shares of codes of each cluster
        torch.testing.assert_close(recovered.sum(dim=1), torch.ones(4))
        again = make()
        again.load_state_dict(
            make().state_dict() | {"autoencoder.quantizer.codebook": model.quantizer.codebook}
        )
        again.initialize_topics(**inputs, generator=torch.Generator().manual_seed(0))
        assert torch.equal(again.topic_codes, model.topic_codes)

    @pytest.mark.parametrize("document_vector", [True, False])
    def test_guided_topics_start_from_sparse_counts_as_from_dense_ones(self, make, document_vector):
        started = []
        inputs = bags(make(), 40)
        weights = make().state_dict()
        for counts in (inputs["word_counts"], inputs["word_counts"].to_sparse()):
            model = make(seed_words=[[3, 4], [4]], document_vector=document_vector)
            model.autoencoder.load_state_dict(
                {
                    name.removeprefix("autoencoder."): weight
                    for name, weight in weights.items()
                    if name.startswith("autoencoder.")
                }
            )
            generator = torch.Generator().manual_seed(0)
            model.initialize_topics(**inputs | {"word_counts": counts}, generator=generator)
            started.append(model.topic_codes)
        torch.testing.assert_close(started[0], started[1])

    def test_without_levers_nothing_starts_from_documents(self, make):
        model = make(variant="published")
        before = copy.deepcopy(model.state_dict())
        model.initialize_topics(**bags(model, 40))
        assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())

    @pytest.mark.parametrize("options", [{}, {"document_vector": False}, {"topic_init": "random"}])
    def test_it_finds_planted_topics(self, make, options):
        # 4 topics with 4 codes and 5 words each, documents mostly of one: the planted ones come back.
        inputs, truth, words = planted_documents()
        model = make(topic_word_ranking="probability", **options)
        model.set_background(inputs["word_counts"].sum(dim=0), inputs["code_counts"].sum(dim=0))
        model.initialize_topics(**inputs, generator=torch.Generator().manual_seed(0))
        model.set_objective("topics", 200)
        fit(model, inputs, 200, 1e-2)
        shares = model.infer_topics(inputs["code_counts"], inputs["document_vectors"])
        model.add_topic_statistics(**inputs)
        joint = torch.zeros(4, 4).index_put_(
            (truth, shares.argmax(dim=1)), torch.ones(400), accumulate=True
        )
        assert joint.max(dim=1).values.sum() > 390
        assert len(joint.argmax(dim=1).unique()) == 4
        assert model.active_topics.all()
        for ranking in ("probability", "exclusive", "ctfidf"):
            top = model.topic_words(4, ranking)[0]
            for topic, best in enumerate(joint.argmax(dim=1)):
                assert (words[top[best]] == topic).all()
            # Defect T12: every word of a topic occurs in the documents.
            assert inputs["word_counts"].sum(dim=0)[top].min() > 0


def planted_documents():
    """400 documents, their topics, and the topic of each word."""
    generator = torch.Generator().manual_seed(1)
    truth = torch.randint(0, 4, (400,), generator=generator)
    shares = 0.03 + 0.91 * F.one_hot(truth, 4).float()
    words = torch.arange(23).clamp_max(19) // 5

    def draw(probabilities):
        drawn = torch.multinomial(probabilities, 30, replacement=True, generator=generator)
        return F.one_hot(drawn, probabilities.shape[1]).sum(dim=1).float()

    counts = {
        "code_counts": draw(shares[:, torch.arange(16) // 4]),
        "word_counts": draw(shares[:, words]),
        "document_vectors": F.one_hot(truth, 12) + 0.3 * torch.randn(400, 12, generator=generator),
    }
    return counts, truth, words


class TestTopicWords:
    def test_rankings_rank(self, make):
        model = make()
        model.set_background(torch.arange(1.0, 24), torch.ones(16))
        model.add_topic_statistics(**bags(model))
        for ranking in RANKINGS:
            words, weights = model.topic_words(23, ranking)
            assert all(sorted(row) == list(range(23)) for row in words.tolist())
            assert (weights[:, :-1] >= weights[:, 1:]).all()
        words, weights = model.topic_words(5, "score")
        best = model.topic_word_scores.topk(5)
        assert torch.equal(words, best.indices)
        assert torch.equal(weights, best.values)
        assert torch.equal(model.topic_words(5)[0], model.topic_words(5, "exclusive")[0])
        assert model.codebook_usage == 1.0

    def test_statistics_of_documents_by_the_equations(self, make):
        # (24), (31) and active topics, in loops; in two batches, of which one is sparse
        model = make()
        inputs = bags(model, 10)
        inputs["code_counts"][3] = 0  # no words that are encoded: no topics of its own
        first = {name: value[:6] for name, value in inputs.items()}
        second = {name: value[6:] for name, value in inputs.items()}
        model.add_topic_statistics(**first)
        model.add_topic_statistics(**second | {"word_counts": second["word_counts"].to_sparse()})
        shares = model.infer_topics(
            inputs["code_counts"], inputs["document_vectors"], temperature=1.0
        )
        phi = model.topic_word_probs.detach()
        counts, damped, explained = (torch.zeros(4, 23) for _ in range(3))
        for share, words in zip(shares, inputs["word_counts"], strict=True):
            for word, count in enumerate(words):
                posterior = share * phi[:, word]
                counts[:, word] += count * share
                damped[:, word] += count.log1p() * share
                explained[:, word] += count.log1p() * posterior / posterior.sum()
        statistics = model.statistics
        torch.testing.assert_close(statistics.topic_word_counts, counts)
        torch.testing.assert_close(statistics.damped_word_counts, damped)
        torch.testing.assert_close(statistics.explained_word_counts, explained)
        shares[3] = 0
        torch.testing.assert_close(statistics.max_proportions, shares.amax(dim=0))
        assert torch.equal(model.active_topics, shares.amax(dim=0) > 0.25)
        model.clear_topic_statistics()
        assert not statistics.topic_word_counts.any()
        assert not model.active_topics.any()

    def test_what_training_notes_down_is_saved(self, make, tmp_path):
        model = make()
        model.set_background(torch.arange(1.0, 24), torch.arange(16.0))
        model.add_topic_statistics(**bags(model))
        model.set_embedding_scaling(torch.randn(12), torch.rand(12))
        model.initialize_topics(**bags(model, 30))
        model.save_pretrained(tmp_path)
        loaded = TopicVQModel.from_pretrained(tmp_path)
        assert loaded.codebook_usage == 15 / 16
        for ranking in RANKINGS:
            assert torch.equal(loaded.topic_words(7, ranking)[0], model.topic_words(7, ranking)[0])
        inputs = bags(model)
        for name, value in model(**inputs, objective="topics").items():
            assert torch.equal(loaded(**inputs, objective="topics")[name], value), name

    def test_guided_topics_start_with_the_documents_of_their_words(self, make):
        inputs, truth, words = planted_documents()
        model = make(seed_words=[[11], [1]])
        model.initialize_topics(**inputs, generator=torch.Generator().manual_seed(0))
        vectors = inputs["document_vectors"]
        for topic, planted in ((0, 2), (1, 0)):  # word 11 is of the planted topic 2, word 1 of 0
            place = model.topic_embeddings[topic] @ F.normalize(model.quantizer.codebook, dim=1).T
            lift = model.topic_codes[topic].view(4, 4).mean(dim=1)
            assert lift.argmax() == planted
            assert place.isfinite().all()
        assert vectors.shape == (400, 12)

    def test_a_checkpoint_is_small(self, tmp_path):
        # 20 Newsgroups with 50 topics, and all that is needed to go on: 10 MB at most.
        model = TopicVQModel(TopicVQConfig(vocab_size=1612))
        model.save_pretrained(tmp_path)
        assert (tmp_path / "model.safetensors").stat().st_size < 3e6
        assert "statistics.topic_word_counts" in load_file(tmp_path / "model.safetensors")


def test_reusing_a_seed_gives_the_same_model(make):
    models = []
    for _ in range(2):
        torch.manual_seed(3)
        model = make()
        fit(model, documents(model), 5, 1e-2)
        models.append(model)
    first, second = (model.state_dict() for model in models)
    assert all(torch.equal(tensor, second[name]) for name, tensor in first.items())
