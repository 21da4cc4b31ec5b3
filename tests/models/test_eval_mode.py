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
"""Eval mode for a while."""

import pytest
from torch import nn

from hf_vq.models.eval_mode import eval_mode


@pytest.fixture
def model():
    """A model in training, with a part that is frozen in eval mode."""
    model = nn.Sequential(nn.Dropout(0.5), nn.Sequential(nn.BatchNorm1d(3), nn.Linear(3, 3)))
    model[1][0].eval()
    return model


def modes(model):
    return [module.training for module in model.modules()]


def test_every_part_is_in_eval_mode_for_a_while(model):
    before = modes(model)
    with eval_mode(model):
        assert not any(modes(model))
    assert modes(model) == before
    assert before.count(False) == 1


def test_a_failure_leaves_the_modes_as_they_were(model):
    before = modes(model)
    with pytest.raises(KeyError), eval_mode(model):
        raise KeyError
    assert modes(model) == before
