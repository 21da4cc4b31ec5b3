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
"""transformers' model and configuration mixins on TopicVQForImageGeneration."""

import unittest
from collections.abc import Iterator
from typing import Any
from unittest import mock

import torch
from hf_common_tests.generation.test_utils import GenerationTesterMixin
from hf_common_tests.test_configuration_common import ConfigTester
from hf_common_tests.test_modeling_common import ModelTesterMixin, ids_tensor

from hf_vq.models import TopicVQForImageGeneration, TopicVQImageConfig
from hf_vq.models.topic_vq_image_layers import CodeVectors


class TopicVQImageCase:
    """What the mixin asks of a tester."""

    batch_size = 4
    grid_size = (2, 3)
    seq_length = 6
    is_training = True
    hidden_size = 12
    num_hidden_layers = 2
    num_attention_heads = 2
    options: dict[str, Any] = {"inference_hidden_sizes": [10]}

    def __init__(self, parent: unittest.TestCase) -> None:
        self.parent = parent

    def get_config(self) -> TopicVQImageConfig:
        return TopicVQImageConfig(
            num_topics=5,
            codebook_size=16,
            codebook_dim=7,
            grid_size=self.grid_size,
            hidden_size=self.hidden_size,
            num_hidden_layers=self.num_hidden_layers,
            num_attention_heads=self.num_attention_heads,
            inference_channels=9,
            **self.options,
        )

    def prepare_config_and_inputs_for_common(
        self,
    ) -> tuple[TopicVQImageConfig, dict[str, torch.Tensor]]:
        return self.get_config(), {"codes": ids_tensor([self.batch_size, self.seq_length], 16)}


def drawn_codebook(code_vectors: CodeVectors) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """A codebook as if it were set: upstream makes models from configurations alone."""
    generator = torch.Generator().manual_seed(0)
    for name, buffer in code_vectors.named_buffers():
        if name == "neighbors":  # itself
            yield buffer, torch.arange(len(buffer))[:, None].expand(buffer.shape)
        elif name == "codebook":
            yield buffer, torch.randn(buffer.shape, generator=generator)
        else:
            yield buffer, torch.ones(buffer.shape)


# The second mixin is empty, since the source distribution lacks it: tests/models/test_modeling_topic_vq_image.py
# is ours. Upstream insists on the name.
class TopicVQImageModelTest(ModelTesterMixin, GenerationTesterMixin, unittest.TestCase):
    all_model_classes = (TopicVQForImageGeneration,)
    test_resize_embeddings = False  # the codebook belongs to the tokenizer
    case: type[TopicVQImageCase] = TopicVQImageCase

    def setUp(self) -> None:
        self.model_tester = self.case(self)
        if "init_buffers" not in self._testMethodName:  # which is about our own values
            patch = mock.patch.object(CodeVectors, "initial_values", drawn_codebook)
            patch.start()
            self.addCleanup(patch.stop)
        self.config_tester = ConfigTester(
            self,
            config_class=TopicVQImageConfig,
            has_text_modality=False,
            common_properties=["num_topics", "codebook_size", "codebook_dim", "hidden_size"],
            num_topics=37,
        )

    def test_config(self) -> None:
        self.config_tester.run_common_tests()

    def test_keep_in_fp32_modules(self) -> None:
        # The mixin of 5.16 asks for half precision of all that is not listed, of counts and indices, too.
        everything = TopicVQForImageGeneration.state_dict

        def numbers(model: TopicVQForImageGeneration) -> dict[str, torch.Tensor]:
            return {k: v for k, v in everything(model).items() if v.is_floating_point()}

        with mock.patch.object(TopicVQForImageGeneration, "state_dict", numbers):
            super().test_keep_in_fp32_modules()

    @unittest.skip("ours: there is no base model below a head")
    def test_model_base_model_prefix(self) -> None: ...


class TopicVQImagePublishedCase(TopicVQImageCase):
    """The paper's form: topics in every layer, a layer over the one-hot map, logits standardized over the batch."""

    options = {"variant": "published", "inference_hidden_sizes": [10, 9]}


class TopicVQImagePublishedModelTest(TopicVQImageModelTest):
    case = TopicVQImagePublishedCase
