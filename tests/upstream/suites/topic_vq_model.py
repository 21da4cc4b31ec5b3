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
"""transformers' model and configuration mixins on TopicVQModel."""

import unittest
from typing import Any
from unittest import mock

import torch
from hf_common_tests.test_configuration_common import ConfigTester
from hf_common_tests.test_modeling_common import ModelTesterMixin, floats_tensor

from hf_vq.models import TopicVQConfig, TopicVQModel


class TopicVQCase:
    """What the mixin asks of a tester; it reads the names below even from models without layers."""

    batch_size = 4
    seq_length = 7
    is_training = True
    hidden_size = 12
    num_hidden_layers = 1
    options: dict[str, Any] = {}

    def __init__(self, parent: unittest.TestCase) -> None:
        self.parent = parent

    def get_config(self) -> TopicVQConfig:
        return TopicVQConfig(
            num_topics=5,
            vocab_size=23,
            word_embedding_dim=self.hidden_size,
            codebook_size=16,
            codebook_dim=6,
            codes_per_token=3,
            **self.options,
        )

    def prepare_config_and_inputs_for_common(self) -> tuple[TopicVQConfig, dict[str, torch.Tensor]]:
        inputs = {
            "word_embeddings": floats_tensor([self.batch_size, self.seq_length, self.hidden_size]),
            "word_counts": torch.randint(0, 3, (self.batch_size, 23)).float(),
            "document_vectors": floats_tensor([self.batch_size, self.hidden_size]),
        }
        return self.get_config(), inputs


class TopicVQModelTest(ModelTesterMixin, unittest.TestCase):
    all_model_classes = (TopicVQModel,)
    has_attentions = False  # bags know no positions
    test_resize_embeddings = False  # words come as embeddings
    case: type[TopicVQCase] = TopicVQCase

    def setUp(self) -> None:
        self.model_tester = self.case(self)
        self.config_tester = ConfigTester(
            self,
            config_class=TopicVQConfig,
            has_text_modality=False,
            common_properties=["num_topics", "vocab_size", "codebook_size", "codebook_dim"],
            num_topics=37,
        )

    def test_config(self) -> None:
        self.config_tester.run_common_tests()

    def test_init_weights_can_init_buffers(self) -> None:
        # Upstream wants the values of `__init__` back, as buffers are seldom random; a codebook is
        # drawn. So: whatever memory holds before, one seed gives the same buffers.
        buffers = []
        for rubbish in (1, 0):
            with torch.device("meta"):
                model = TopicVQModel(self.model_tester.get_config())
            model.to_empty(device="cpu")
            for buffer in model.buffers():
                buffer.fill_(rubbish)
            torch.manual_seed(0)
            model.init_weights()
            buffers.append(dict(model.named_buffers()))
        self.assertIn("autoencoder.quantizer.ema_counts", buffers[0])
        torch.testing.assert_close(buffers[0], buffers[1], rtol=0, atol=0)

    def test_keep_in_fp32_modules(self) -> None:
        # The mixin of 5.16 asks for half precision of all that is not listed, of counts and indices, too.
        everything = TopicVQModel.state_dict

        def numbers(model: TopicVQModel) -> dict[str, torch.Tensor]:
            return {k: v for k, v in everything(model).items() if v.is_floating_point()}

        with mock.patch.object(TopicVQModel, "state_dict", numbers):
            super().test_keep_in_fp32_modules()

    @unittest.skip("ours: words come as embeddings, there is no embedding table")
    def test_model_get_set_embeddings(self) -> None: ...

    @unittest.skip("ours: a bag of words has no sequence of hidden states")
    def test_hidden_states_output(self) -> None: ...

    @unittest.skip("ours: a bag of words has no sequence of hidden states")
    def test_retain_grad_hidden_states_attentions(self) -> None: ...


class TopicVQPublishedCase(TopicVQCase):
    """The paper's form: a deep autoencoder, a codebook that learns by gradient, logits standardized over the batch."""

    options = {
        "variant": "published",
        "autoencoder_hidden_sizes": [14, 13],
        "inference_hidden_sizes": [9, 8],
        "word_decoder_hidden_sizes": [10, 11],
    }


class TopicVQPublishedModelTest(TopicVQModelTest):
    case = TopicVQPublishedCase
