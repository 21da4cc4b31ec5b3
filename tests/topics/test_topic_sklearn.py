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
"""TopicVQ among scikit-learn's estimators: its own checks, as far as they apply to texts."""

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.utils import get_tags
from sklearn.utils.estimator_checks import check_estimator
from sklearn.utils.validation import check_is_fitted, validate_data

from hf_vq.topics.estimator import TopicVQ

# Why a check of arrays says nothing about texts, or asks for what they do not have.
NOT_FOR_TEXTS = {
    "check_transformer_preserve_dtypes": "texts have no dtype for the proportions to keep",
}


class TopicVQOfArrays(TopicVQ):
    """Lets scikit-learn's checks, which all make arrays, reach the estimator: a row becomes a text.

    Each column has two words, which share twelve places as the value says, modulo 13.
    """

    def fit(self, X, y=None, **options):
        return super().fit(self._texts(X, reset=True), y, **options)

    def partial_fit(self, X, y=None):
        return super().partial_fit(self._texts(X, reset=not hasattr(self, "model_")), y)

    def transform(self, X):
        check_is_fitted(self, "model_")
        return super().transform(self._texts(X, reset=False))

    def fit_transform(self, X, y=None):
        return self.fit(X, y).transform(X)

    def _texts(self, X, reset):
        if isinstance(X, list) and isinstance(X[0], str):  # `partial_fit` begins with `fit`
            return X
        X = validate_data(self, X, reset=reset, ensure_min_samples=2 if reset else 1)
        counts = np.round(2 * X).astype(int) % 13
        names = [chr(97 + column) for column in range(X.shape[1])]
        return [
            "always "
            + " ".join(
                f"{'up' + n} " * c + f"{'down' + n} " * (12 - c)
                for n, c in zip(names, row, strict=True)
            )
            for row in counts
        ]

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = True
        tags.input_tags.one_d_array = tags.input_tags.string = False
        return tags


def test_scikit_learns_own_checks():
    estimator = TopicVQOfArrays(
        1,
        encoder="corpus",
        min_df=1,
        max_df=1.0,
        progress_bar=False,
        model_options={"codebook_size": 4, "codes_per_token": 2, "codebook_dim": 2},
        training_options={"codebook_epochs": 0.1, "codebook_warmup_epochs": 0, "topic_epochs": 1},
    )
    results = check_estimator(
        estimator, expected_failed_checks=NOT_FOR_TEXTS, on_skip=None, on_fail=None
    )
    failed = {r["check_name"]: repr(r["exception"]) for r in results if r["status"] == "failed"}
    assert not failed
    assert sum(result["status"] == "passed" for result in results) > 30


def test_it_says_that_it_reads_texts():
    tags = get_tags(TopicVQ())
    assert tags.input_tags.string
    assert not tags.input_tags.two_d_array
    assert tags.requires_fit


def test_parameters_are_told_set_and_cloned(options):
    topics = TopicVQ(3, **options)
    assert topics.get_params()["encoder"] == "corpus"
    copy = clone(topics).set_params(num_topics=4)
    assert (copy.num_topics, topics.num_topics) == (4, 3)
    with pytest.raises(ValueError, match="Invalid parameter 'topics'"):
        topics.set_params(topics=3)
    assert "num_topics=3" in repr(topics)


def test_nothing_works_before_fit(options):
    topics = TopicVQ(3, **options)
    for call in (
        lambda: topics.transform(["a"]),
        topics.topic_table,
        lambda: topics.find_topics("a"),
        lambda: topics.merge_topics([[0, 1]]),
        topics.undo_merge,
        lambda: topics.save_pretrained("nowhere"),
    ):
        with pytest.raises(NotFittedError):
            call()


def test_a_pipeline_of_scikit_learn(options, documents, subjects):
    steps = make_pipeline(TopicVQ(3, **options), LogisticRegression())
    assert steps.fit(documents, subjects).score(documents, subjects) > 0.95


def test_pandas_output(trained_folder, documents):
    topics = TopicVQ.from_pretrained(trained_folder).set_output(transform="pandas")
    table = topics.transform(documents[:4])
    assert list(table.columns) == ["topic_0", "topic_1", "topic_2"]
    assert len(table) == 4
