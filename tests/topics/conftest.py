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
"""A small corpus with three subjects, and an estimator that has learned it."""

import gc
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

SUBJECTS = (
    "moon orbit nasa rocket planet star",
    "goal match team player ball league",
    "bread oven flour dough yeast bake",
)
# Small enough for a second, large enough to find three subjects.
OPTIONS: dict[str, Any] = {
    "encoder": "corpus",
    "max_df": 1.0,
    "progress_bar": False,
    "model_options": {"codebook_size": 20, "codebook_dim": 8},
    "training_options": {"topic_epochs": 40, "topic_batch_size": 30},
}


@pytest.fixture(scope="session", autouse=True)
def _nothing_to_collect() -> Iterator[None]:
    """Each training collects garbage: what is imported need not be looked through a hundred times."""
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(scope="session")
def documents() -> list[str]:
    generator = np.random.default_rng(0)
    return [" ".join(generator.choice(SUBJECTS[row % 3].split(), 12)) for row in range(90)]


@pytest.fixture(scope="session")
def subjects() -> np.ndarray:
    return np.arange(90) % 3


@pytest.fixture(scope="session")
def options() -> dict[str, Any]:
    return OPTIONS


@pytest.fixture(scope="session")
def trained_folder(
    documents: list[str], options: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> Any:
    from hf_vq.topics.estimator import TopicVQ

    folder = tmp_path_factory.mktemp("topic_vq")
    return TopicVQ(3, **options).fit(documents).save_pretrained(folder)
