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
"""How far codes stand for semantic roles, beside what word identity and chance already give.

Purity and mutual information rise with rare codes, so each score comes with the same score of
shuffled codes and of piece ids. A model that is *given* roles scores high by construction.
"""

from collections.abc import Hashable, Sequence

import numpy as np

from ._extras import require

__all__ = ["coarse_role", "linear_probe", "role_concentration", "role_probe"]

COARSE_ROLES = ("ARG0", "ARG1", "ARG2", "V")


def coarse_role(role: str) -> str:
    """Map a PropBank role to ARG0, ARG1, ARG2, V or rest.

    Example:
        >>> coarse_role("V"), coarse_role("ARGM-TMP")
        ('V', 'rest')
    """
    return role if role in COARSE_ROLES else "rest"


def _numbers(values: Sequence[Hashable] | np.ndarray) -> np.ndarray:
    """Number the values; the codes of a position count jointly."""
    array = np.asarray(values)
    axis = 0 if array.ndim > 1 else None
    return np.unique(array, axis=axis, return_inverse=True)[1].ravel()


def _counts(codes: np.ndarray, roles: np.ndarray) -> np.ndarray:
    counts = np.zeros((codes.max() + 1, roles.max() + 1))
    np.add.at(counts, (codes, roles), 1)
    return counts


def _entropy(counts: np.ndarray) -> float:
    probabilities = counts[counts > 0] / counts.sum()
    return float(-(probabilities * np.log2(probabilities)).sum() + 0.0)


def _scores(counts: np.ndarray) -> dict[str, float]:
    role_entropy, code_entropy = _entropy(counts.sum(0)), _entropy(counts.sum(1))
    joint = _entropy(counts.ravel())
    information = role_entropy + code_entropy - joint
    total = role_entropy + code_entropy
    return {
        "purity": float(counts.max(1).sum() / counts.sum()),
        "nmi": 2 * information / total if total > 0 else 0.0,
        "mutual_information": information,
        "role_given_code_entropy": joint - code_entropy,
        "code_given_role_entropy": joint - role_entropy,
    }


def role_concentration(
    codes: Sequence | np.ndarray,
    roles: Sequence[str],
    *,
    pieces: Sequence[int] | None = None,
    num_shuffles: int = 20,
    seed: int = 0,
) -> dict[str, float | dict[str, float]]:
    """Measure how far a code tells the role of its piece, on held-out pieces without `</s>`.

    With counts C[k, r] and logarithms to base 2: purity = sum_k max_r C[k, r] / sum C;
    I = H(role) - H(role | code); NMI = 2 I / (H(role) + H(code)), 0 if both are 0.

    Args:
        codes: One code for each piece, or several (pieces, codes_per_token), which count jointly.
        roles: The role of each piece, that of its word.
        pieces: Piece ids, for the scores that word identity alone reaches.
        num_shuffles: Random orders of the codes for the scores of chance.
        seed: Seed of these orders.

    Returns:
        `purity`, `nmi`, `mutual_information`, `role_given_code_entropy`,
        `code_given_role_entropy`, `majority_share` of the most frequent role; under `shuffled` the
        mean of purity and NMI over the shuffles, under `adjusted` (score - shuffled) /
        (1 - shuffled), and under `pieces`, if they are given, the scores with piece ids for codes.
    """
    if len(codes) != len(roles) or len(codes) == 0 or num_shuffles < 1:
        raise ValueError(
            "there must be one role for each code, a code and a shuffle at least, got "
            f"{len(codes)} codes, {len(roles)} roles and num_shuffles={num_shuffles}"
        )
    code_ids, role_ids = _numbers(codes), _numbers(roles)
    generator = np.random.default_rng(seed)
    shuffles = [
        _scores(_counts(generator.permutation(code_ids), role_ids)) for _ in range(num_shuffles)
    ]
    scores = _scores(_counts(code_ids, role_ids))
    shuffled = {name: float(np.mean([s[name] for s in shuffles])) for name in ("purity", "nmi")}
    adjusted = {
        # Where chance is already perfect, nothing is above it.
        name: (scores[name] - chance) / (1 - chance) if chance < 1 else 0.0
        for name, chance in shuffled.items()
    }
    result: dict[str, float | dict[str, float]] = {
        **scores,
        "majority_share": float(np.bincount(role_ids).max() / len(role_ids)),
        "shuffled": shuffled,
        "adjusted": adjusted,
    }
    if pieces is not None:
        result["pieces"] = _scores(_counts(_numbers(pieces), role_ids))
    return result


def _macro_f1(predicted: Sequence[str], roles: Sequence[str]) -> float:
    scores = []
    for role in {*predicted, *roles}:
        pairs = [(p == role, r == role) for p, r in zip(predicted, roles, strict=True)]
        hits, either = sum(p and r for p, r in pairs), sum(p + r for p, r in pairs)
        scores.append(2 * hits / either)
    return float(np.mean(scores))


def _accuracy(predicted: Sequence[str], roles: Sequence[str]) -> dict[str, float]:
    hits = [p == r for p, r in zip(predicted, roles, strict=True)]
    return {"accuracy": float(np.mean(hits)), "macro_f1": _macro_f1(predicted, roles)}


def _most_frequent(keys: list, roles: Sequence[str]) -> tuple[dict, str]:
    """For each key the role that it has most often; of equally frequent ones the first by name."""
    names, numbers = np.unique(np.asarray(roles), return_inverse=True)
    counts: dict = {}
    for key, number in zip(keys, numbers, strict=True):
        counts.setdefault(key, np.zeros(len(names), dtype=np.int64))[number] += 1
    majority = str(names[np.bincount(numbers).argmax()])
    return {key: str(names[row.argmax()]) for key, row in counts.items()}, majority


def role_probe(
    train_codes: Sequence | np.ndarray,
    train_roles: Sequence[str],
    test_codes: Sequence | np.ndarray,
    test_roles: Sequence[str],
    *,
    train_pieces: Sequence[int] | None = None,
    test_pieces: Sequence[int] | None = None,
) -> dict[str, dict[str, float]]:
    """Predict the role of a test piece by the role that its code has most often in training.

    A code that training lacks gets the majority role.

    Args:
        train_codes: Codes of training pieces, (pieces,) or (pieces, codes_per_token).
        train_roles: Their roles.
        test_codes: Codes of test pieces.
        test_roles: Their roles.
        train_pieces: Piece ids, for the same probe on them.
        test_pieces: Piece ids.

    Returns:
        `accuracy` and `macro_f1` (the mean over roles that occur in test or are predicted) under
        `codes`, `majority` (always the most frequent role) and, if given, `pieces`.
    """
    inputs = {"codes": (train_codes, test_codes)}
    if train_pieces is not None and test_pieces is not None:
        inputs["pieces"] = (np.asarray(train_pieces), np.asarray(test_pieces))
    result = {}
    for name, (train, test) in inputs.items():
        if len(train) != len(train_roles) or len(test) != len(test_roles) or not len(test):
            raise ValueError(
                f"there must be one role for each of the {name}, got {len(train)} with "
                f"{len(train_roles)} roles in training and {len(test)} with {len(test_roles)} in test"
            )
        train_keys, test_keys = (
            [tuple(np.atleast_1d(row).tolist()) for row in np.asarray(part)]
            for part in (train, test)
        )
        best, majority = _most_frequent(train_keys, train_roles)
        result[name] = _accuracy([best.get(key, majority) for key in test_keys], test_roles)
    result["majority"] = _accuracy([majority] * len(test_roles), test_roles)
    return result


def linear_probe(
    train_vectors: np.ndarray,
    train_roles: Sequence[str],
    test_vectors: np.ndarray,
    test_roles: Sequence[str],
) -> dict[str, float]:
    """Predict roles by multinomial logistic regression on vectors; needs scikit-learn.

    The vectors are standardized by the mean and deviation of the training pieces.

    Args:
        train_vectors: Latents, quantized or input embeddings (pieces, size).
        train_roles: Their roles.
        test_vectors: As `train_vectors`.
        test_roles: Their roles.

    Returns:
        `accuracy` and `macro_f1`.
    """
    require("sklearn", extra="demo")
    from sklearn.linear_model import LogisticRegression

    mean, deviation = np.mean(train_vectors, axis=0), np.std(train_vectors, axis=0) + 1e-12
    probe = LogisticRegression(max_iter=1000)
    probe.fit((train_vectors - mean) / deviation, train_roles)
    predicted = probe.predict((test_vectors - mean) / deviation).tolist()
    return _accuracy(predicted, list(test_roles))
