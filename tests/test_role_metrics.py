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
"""Codes against roles, by hand and against scikit-learn."""

import math

import numpy as np
import pytest
from sklearn.metrics import f1_score, normalized_mutual_info_score

from hf_vq.role_metrics import coarse_role, linear_probe, role_concentration, role_probe

ROLES = ["ARG0", "ARG1", "V"]


def sample(seed: int, size: int = 300) -> tuple[np.ndarray, list[str]]:
    generator = np.random.default_rng(seed)
    codes = generator.integers(0, 9, size)
    noise = generator.random(size) < 0.4
    roles = np.where(noise, generator.integers(0, 3, size), codes % 3)
    return codes, [ROLES[role] for role in roles]


@pytest.mark.parametrize("seed", range(4))
def test_concentration_is_scikit_learns(seed: int) -> None:
    codes, roles = sample(seed)
    result = role_concentration(codes, roles, pieces=codes // 2)
    expected = normalized_mutual_info_score(roles, codes)
    assert result["nmi"] == pytest.approx(expected, abs=1e-12)
    assert result["pieces"]["nmi"] == pytest.approx(
        normalized_mutual_info_score(roles, codes // 2), abs=1e-12
    )
    groups = [[r for c, r in zip(codes, roles, strict=True) if c == code] for code in range(9)]
    purity = sum(max(map(group.count, ROLES)) for group in groups) / len(roles)
    assert result["purity"] == pytest.approx(purity)
    assert result["majority_share"] == max(map(roles.count, ROLES)) / len(roles)


def test_entropies_by_hand() -> None:
    result = role_concentration([0, 0, 1, 1, 2, 2, 3, 3], ["a", "a", "a", "a", "b", "b", "b", "b"])
    assert result["purity"] == 1
    assert result["role_given_code_entropy"] == 0
    assert result["code_given_role_entropy"] == 1
    assert result["mutual_information"] == 1
    assert result["nmi"] == pytest.approx(2 / 3)
    assert result["majority_share"] == 0.5


def test_rare_codes_look_pure_and_the_adjusted_score_says_otherwise() -> None:
    generator = np.random.default_rng(0)
    roles = [ROLES[role] for role in generator.integers(0, 3, 400)]
    rare = generator.permutation(400) // 2  # two pieces for each code, no relation to the roles
    result = role_concentration(rare, roles)
    assert result["purity"] > 0.6
    assert abs(result["adjusted"]["purity"]) < 0.1
    assert abs(result["adjusted"]["nmi"]) < 0.1
    told = role_concentration([ROLES.index(role) for role in roles], roles)
    assert told["adjusted"]["purity"] == told["adjusted"]["nmi"] == pytest.approx(1)
    for name in ("purity", "nmi"):
        chance = result["shuffled"][name]
        assert result["adjusted"][name] == pytest.approx((result[name] - chance) / (1 - chance))
    assert result == role_concentration(rare, roles)
    assert result["shuffled"] != role_concentration(rare, roles, seed=1)["shuffled"]


def test_one_code_and_one_role_is_defined() -> None:
    result = role_concentration([5, 5], ["V", "V"])
    assert (result["purity"], result["nmi"]) == (1, 0)
    assert result["adjusted"] == {"purity": 0, "nmi": 0}
    assert all(map(math.isfinite, result["shuffled"].values()))


def test_product_codes_count_jointly() -> None:
    codes = np.array([[0, 1], [1, 0], [0, 1], [1, 1]])
    roles = ["a", "b", "a", "c"]
    assert role_concentration(codes, roles)["purity"] == 1
    assert role_concentration(codes[:, 0], roles)["purity"] == 0.75
    probe = role_probe(codes, roles, codes[::-1], roles[::-1])
    assert probe["codes"]["accuracy"] == 1


@pytest.mark.parametrize("seed", range(3))
def test_the_probe_predicts_the_most_frequent_role(seed: int) -> None:
    codes, roles = sample(seed)
    test_codes, test_roles = sample(seed + 10, 100)
    test_codes[:5] = 77  # unseen: the majority
    pieces = {"train_pieces": codes % 2, "test_pieces": test_codes % 2}
    result = role_probe(codes, roles, test_codes, test_roles, **pieces)
    majority = max(ROLES, key=roles.count)
    for name, train, test in (
        ("codes", codes, test_codes),
        ("pieces", codes % 2, test_codes % 2),
        ("majority", np.zeros(len(codes)), np.zeros(len(test_codes))),
    ):
        predicted = [
            max(ROLES, key=[r for c, r in zip(train, roles, strict=True) if c == code].count)
            if code in train
            else majority
            for code in test
        ]
        right = np.mean([p == r for p, r in zip(predicted, test_roles, strict=True)])
        assert result[name]["accuracy"] == pytest.approx(right)
        f1 = f1_score(test_roles, predicted, average="macro", zero_division=0)
        assert result[name]["macro_f1"] == pytest.approx(f1)
    assert result["codes"]["accuracy"] > result["majority"]["accuracy"]


def test_the_linear_probe_reads_vectors() -> None:
    generator = np.random.default_rng(0)
    _, roles = sample(0)
    vectors = np.eye(3)[[ROLES.index(role) for role in roles]] * 50 + generator.normal(
        size=(300, 3)
    )
    result = linear_probe(vectors[:200], roles[:200], vectors[200:], roles[200:])
    assert result == {"accuracy": 1, "macro_f1": 1}
    noise = generator.normal(size=(300, 3))
    assert linear_probe(noise[:200], roles[:200], noise[200:], roles[200:])["accuracy"] < 0.7


def test_coarse_roles() -> None:
    assert [coarse_role(role) for role in ("ARG0", "V", "ARG3", "O")] == [
        "ARG0",
        "V",
        "rest",
        "rest",
    ]


def test_codes_and_roles_must_be_as_many() -> None:
    with pytest.raises(ValueError, match="1 codes, 2 roles"):
        role_concentration([1], ["a", "b"])
    with pytest.raises(ValueError, match="num_shuffles=0"):
        role_concentration([1], ["a"], num_shuffles=0)
    with pytest.raises(ValueError, match=r"each of the codes, got 1 with 2 roles"):
        role_probe([1], ["a", "b"], [1], ["a"])
