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
"""Are topics of images near each other where what the images are called is? E8: text against images, class by class.

For each of the ten classes there is a sentence, which an encoder of sentences turns into a vector, and the mean topic
proportions of its test images. Both give distances between classes, of which the ranks are compared. Labels of one side
are permuted for a p-value. Ten classes make 45 pairs, few of them independent: only a strong relation can show.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from results import read_results, write_result
from scipy.stats import spearmanr
from topic_image_data import CLASSES, CodeData
from topic_image_methods import bags_of

MINILM = Path(".data/minilm")
NUM_PERMUTATIONS = 1000
GLOSSES = {
    "airplane": "a powered flying vehicle with fixed wings that carries people through the sky",
    "automobile": "a road vehicle with four wheels and an engine that carries a few people",
    "bird": "a small animal with feathers, wings and a beak that can fly",
    "cat": "a small furry animal with whiskers that is kept as a pet and catches mice",
    "deer": "a wild grazing animal with hooves and antlers that lives in forests",
    "dog": "a furry animal that barks and is kept as a pet or for hunting",
    "frog": "a small green animal with smooth skin and long legs that lives near ponds",
    "horse": "a large animal with hooves and a mane that people ride",
    "ship": "a large vessel that carries people and goods across the sea",
    "truck": "a large road vehicle with wheels and an engine that carries heavy goods",
}


def compare_distances(
    one: np.ndarray, other: np.ndarray, num_permutations: int = NUM_PERMUTATIONS, seed: int = 0
) -> dict[str, float]:
    """Spearman's correlation of two matrices of distances, and how often permuted labels reach it (one-sided).

    `needed` is the correlation that one permutation in twenty reaches.
    """
    pairs = np.triu_indices(len(one), 1)
    generator = np.random.default_rng(seed)
    observed = spearmanr(one[pairs], other[pairs]).statistic
    orders = [generator.permutation(len(one)) for _ in range(num_permutations)]
    permuted = np.array(
        [spearmanr(one[order][:, order][pairs], other[pairs]).statistic for order in orders]
    )
    return {
        "spearman": float(observed),
        "p_value": float((1 + (permuted >= observed).sum()) / (1 + num_permutations)),
        "needed": float(np.quantile(permuted, 0.95)),
    }


def hellinger(shares: np.ndarray) -> np.ndarray:
    """Distances between rows of shares."""
    return euclidean(np.sqrt(shares)) / np.sqrt(2)


def euclidean(rows: np.ndarray) -> np.ndarray:
    """Distances between rows."""
    return np.linalg.norm(rows[:, None] - rows[None], axis=-1)


def cosine(rows: np.ndarray) -> np.ndarray:
    """One minus the cosine of rows."""
    directions = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return 1 - directions @ directions.T


@torch.inference_mode()
def embed(sentences: list[str]) -> np.ndarray:
    """Sentences to vectors: the mean of the encoder's last layer over tokens."""
    from transformers import AutoModel, AutoTokenizer

    tokenizer, encoder = AutoTokenizer.from_pretrained(MINILM), AutoModel.from_pretrained(MINILM)
    batch = tokenizer(sentences, padding=True, return_tensors="pt")
    hidden = encoder.eval()(**batch).last_hidden_state
    mask = batch.attention_mask[..., None]
    return ((hidden * mask).sum(dim=1) / mask.sum(dim=1)).double().numpy()


def cross_modal() -> None:
    """Compare distances by text with distances by topics of each run, and by what needs no topics."""
    data = CodeData.load()
    texts = {
        "names": cosine(embed([f"a photo of a {name}" for name in CLASSES])),
        "glosses": cosine(embed([f"{name}: {GLOSSES[name]}" for name in CLASSES])),
    }

    def mean_by_class(rows: torch.Tensor) -> np.ndarray:
        labels = data.test.labels
        return torch.stack([rows[labels == k].mean(dim=0) for k in range(len(CLASSES))]).numpy()

    bags = bags_of(data.test.codes, len(data.codebook)) / data.test.codes[0].numel()
    sides: dict[str, tuple[Callable[[np.ndarray], np.ndarray], np.ndarray]] = {
        "bags of codes": (hellinger, mean_by_class(bags)),
        "ResNet-56 features": (euclidean, mean_by_class(data.test.image_features)),
    }
    for stem, record in read_results("topic_image").items():
        if "class_topics" in record["data"]:
            sides[stem] = (hellinger, np.array(record["data"]["class_topics"]))
    found: dict[str, Any] = {
        name: {text: compare_distances(texts[text], distance(rows)) for text in texts}
        for name, (distance, rows) in sides.items()
    }
    for name, figures in found.items():
        print(name, figures, flush=True)
    content = {"num_permutations": NUM_PERMUTATIONS, "num_pairs": 45, "comparisons": found}
    write_result("topic_image_cross_modal", content, "python benchmarks/topic_image.py cross-modal")
