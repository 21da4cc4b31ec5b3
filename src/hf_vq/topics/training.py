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
"""Train TopicVQ in three stages: a codebook of words, the bags of codes of all documents, and topics.

    config = TopicTrainingConfig(output_dir="runs/topics", seed=0)
    results = train_topic_vq(model, embeddings, config)

The first and the last stage are runs of `hf_vq.training.train`, on the words of a sample and on the bags, so that
Accelerate, several processes, checkpoints and exact resuming work for them. Bags are computed once between the two,
with the frozen autoencoder, eq. (7). `output_dir` then holds the folders `codebook`, `bags` and `topics`, each of which
is complete or continued, and `final`, the finished model. Without an `output_dir` nothing is kept but the model itself.

The model is trained in place. Two runs with the same seed on the same machine give the same model.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hf_vq._extras import require

require("accelerate", extra="train")

# ruff: noqa: E402  the imports below need the extra
from accelerate import Accelerator, PartialState
from torch.utils.data import DataLoader, Dataset, Subset

from hf_vq.codebook_start import endless, start_codebook
from hf_vq.training import evaluate_means, train
from hf_vq.training_data import Collate

from .corpus import TopicCorpus
from .training_run import (
    Save,
    TopicTrainingConfig,
    check_output_dir,
    count_steps,
    count_topic_steps,
    export,
    finish_without_steps,
    finished_stage,
    fit_batch,
    load_weights,
    stage_config,
    stage_folder,
    stage_results,
)

# Of an autoencoder that starts from random weights.
DEFAULT_CODEBOOK_EPOCHS = 3.0

__all__ = [
    "TopicTrainingConfig",
    "build_corpus",
    "fit_codebook",
    "fit_topics",
    "topic_proportions",
    "train_topic_vq",
]


def train_topic_vq(
    model: Any,
    embeddings: Any,
    config: TopicTrainingConfig,
    *,
    eval_embeddings: Any = None,
    save_with: Sequence[Save] = (),
) -> dict[str, Any]:
    """Train a model on the word embeddings of a corpus.

    Args:
        model: A new `TopicVQModel`, whose width is that of the embeddings and whose vocabulary is theirs.
        embeddings: `WordEmbeddings` or `StreamedWordEmbeddings` of the training documents.
        config: The options.
        eval_embeddings: Those of held-out documents; the model with the best bound on them is kept, not the last.
        save_with: What writes the rest into the model's folder, such as `processor.save_pretrained`.

    Returns:
        The results of the stages under `"codebook"` and `"topics"`, and `"final_model"`, the folder of the model, if
        there is an `output_dir`.
    """
    if config.output_dir is not None:
        check_output_dir(model, embeddings, config)
    codebook = fit_codebook(model, embeddings, config)
    corpus = build_corpus(model, embeddings, config, "train")
    eval_corpus = None
    if eval_embeddings is not None:
        eval_corpus = build_corpus(model, eval_embeddings, config, "validation")
    topics = fit_topics(model, corpus, config, eval_corpus)
    results: dict[str, Any] = {"codebook": codebook, "topics": topics, "final_model": None}
    if config.output_dir is not None:
        results["final_model"] = str(export(model, config, save_with, results))
    return results


def fit_codebook(model: Any, embeddings: Any, config: TopicTrainingConfig) -> dict[str, Any]:
    """First stage: fit scaling, autoencoder and codebook to a sample of the words, eq. (6).

    Returns:
        What `train` returns.
    """
    if (finished := finished_stage(config, "codebook")) is not None:
        load_weights(model, finished)
        return stage_results(finished)
    words = np.asarray(embeddings.sample(config.codebook_words, seed=config.seed))
    if len(words) < 2:
        raise ValueError(f"the documents have {len(words)} words, expected at least 2")
    sample = torch.from_numpy(words).float()
    if model.config.embedding_scaling == "standard":
        model.set_embedding_scaling(*_scaling(sample))
    model.to(PartialState(cpu=config.cpu).device)
    model.set_objective("codebook")
    with stage_folder(config, "codebook") as folder:
        if model.config.autoencoder_init == "pca" and config.codebook_epochs is None:
            return _fit_in_closed_form(model, sample, config, folder)
        return _train_codebook(model, sample, config, folder)


def _fit_in_closed_form(
    model: Any, sample: torch.Tensor, config: TopicTrainingConfig, folder: Path
) -> dict[str, Any]:
    """No steps: principal directions, eq. (26), and k-means."""
    model.initialize_autoencoder(sample.to(model.device))
    if model.config.codebook_init == "kmeans":
        number = config.latents_per_code * model.config.codebook_size
        generator = torch.Generator().manual_seed(config.seed)
        model.initialize_codebook([sample[None, :number]], generator=generator)
    return finish_without_steps(model, config, folder)


def _train_codebook(
    model: Any, sample: torch.Tensor, config: TopicTrainingConfig, folder: Path
) -> dict[str, Any]:
    epochs = DEFAULT_CODEBOOK_EPOCHS if config.codebook_epochs is None else config.codebook_epochs
    batch_size = fit_batch(config.codebook_batch_size, len(sample))
    steps = count_steps(epochs, len(sample), batch_size)
    warmup_steps = 0
    if config.codebook_warmup_epochs and model.config.autoencoder_init != "pca":
        warmup_steps = count_steps(config.codebook_warmup_epochs, len(sample), batch_size)

    def before_training(accelerator: Accelerator, model: Any, loader: Any) -> None:
        model.initialize_autoencoder(sample.to(accelerator.device))
        if model.config.codebook_init == "kmeans":
            start_codebook(
                accelerator,
                model,
                endless(loader),
                warmup_steps=warmup_steps,
                learning_rate=config.codebook_learning_rate,
                max_grad_norm=1.0,
                latents_per_code=config.latents_per_code,
                seed=config.seed,
            )

    return train(
        model,
        _Rows(sample),
        stage_config(config, folder, config.codebook_learning_rate, batch_size, steps),
        collate_fn=_collate_words,
        before_training=before_training,
    )


def build_corpus(
    model: Any, embeddings: Any, config: TopicTrainingConfig, name: str = "train"
) -> TopicCorpus:
    """Second stage: the bags of codes and words of all documents, eq. (7), with the model's codebook.

    Args:
        model: Has been through `fit_codebook`.
        embeddings: `WordEmbeddings` of the documents.
        config: Says where the bags are kept, if they are.
        name: Of the documents, for the folder that the bags are kept in.
    """
    if config.output_dir is None:
        return TopicCorpus.build(model, embeddings)
    folder = Path(config.output_dir) / "bags" / name
    state = PartialState()
    if state.is_main_process:
        TopicCorpus.build(model, embeddings, folder)  # what is there already is kept
    state.wait_for_everyone()
    return TopicCorpus.load(folder)


def fit_topics(
    model: Any,
    corpus: TopicCorpus,
    config: TopicTrainingConfig,
    eval_corpus: TopicCorpus | None = None,
    *,
    continued: bool = False,
) -> dict[str, Any]:
    """Third stage: learn the topics of a corpus, eq. (16), and take down what they have in it.

    Documents without words say nothing and are left out.

    Args:
        model: Has been through `fit_codebook`.
        corpus: What `build_corpus` returned for the training documents.
        config: The options.
        eval_corpus: The same for held-out documents; the model with the best bound on them is kept.
        continued: Whether the model has topics, which this corpus shall change: background and warm-up stay as they
            are, and the statistics of the topics are added up.

    Returns:
        What `train` returns; with `eval_corpus` also `eval_bound` and its parts, of the model that was kept.
    """
    documents = _with_words(corpus)
    _check_number(corpus, documents.indices, model.config.num_topics, continued)
    if not continued and not corpus.word_counts.nnz:
        raise ValueError("no word of the vocabulary occurs in the documents")
    if eval_corpus is not None and not eval_corpus.num_words.any():
        raise ValueError(f"none of the {len(eval_corpus)} held-out documents has a word")
    finished = finished_stage(config, "topics")
    if finished is None:
        if not continued:
            _start_topics(model, corpus, documents.indices, config)
        results = _train_topics(model, documents, corpus.collate, config, eval_corpus, continued)
    else:
        load_weights(model, finished)
        results = stage_results(finished)
    _set_topic_statistics(model, corpus, added=continued)
    return results


def topic_proportions(
    model: Any, corpus: TopicCorpus, temperature: float | None = None, batch_size: int = 4096
) -> np.ndarray:
    """Topic proportions (D, K) of all documents of a corpus, of each for itself.

    Args:
        model: A trained `TopicVQModel`.
        corpus: The documents.
        temperature: As in `infer_topics`: 1 for the proportions that likelihoods are made with.
        batch_size: Documents at a time.
    """
    parts = []
    for batch in _batches(model, corpus, batch_size):
        del batch["word_counts"]
        parts.append(model.infer_topics(**batch, temperature=temperature).cpu().numpy())
    return np.concatenate(parts)


def _train_topics(
    model: Any,
    documents: Subset,
    collate: Collate,
    config: TopicTrainingConfig,
    eval_corpus: TopicCorpus | None,
    continued: bool,
) -> dict[str, Any]:
    batch_size = fit_batch(config.topic_batch_size, len(documents))
    steps = count_topic_steps(config, len(documents), batch_size)
    eval_documents = None
    with stage_folder(config, "topics") as folder:
        training = stage_config(config, folder, config.topic_learning_rate, batch_size, steps)
        if eval_corpus is not None:
            eval_documents = _with_words(eval_corpus)
            training = dataclasses.replace(
                training,
                eval_steps=count_steps(config.eval_epochs, len(documents), batch_size),
                early_stopping_patience=config.early_stopping_patience,
                metric_for_best_model="bound",
                greater_is_better=False,
            )
        model.set_objective("topics", 0 if continued else steps)
        results = train(
            model,
            documents,
            training,
            eval_dataset=eval_documents,
            collate_fn=collate,
            evaluate=_evaluate_bound,
        )
        if results["best_model"] is not None:
            load_weights(model, Path(results["best_model"]))
    return results


def _evaluate_bound(model: Any, loader: DataLoader, accelerator: Accelerator) -> dict[str, float]:
    """Nats for a document, eq. (15) and (11) at the posterior's mean, whatever the weights in the loss are."""
    reduction, model.config.loss_reduction = model.config.loss_reduction, "mean"
    means = evaluate_means(model, loader, accelerator)
    model.config.loss_reduction = reduction
    return {"bound": means["word_loss"] + means["kl_loss"], **means}


def _start_topics(
    model: Any, corpus: TopicCorpus, rows: Sequence[int], config: TopicTrainingConfig
) -> None:
    """Background and what else the model takes from documents before it learns from them."""
    totals = (counts.sum(axis=0) for counts in (corpus.word_counts, corpus.code_counts))
    words, codes = (torch.from_numpy(np.asarray(total, np.float32).ravel()) for total in totals)
    model.set_background(words, codes)
    generator = np.random.default_rng(config.seed)
    number = min(config.start_documents, len(rows))
    chosen = np.sort(generator.choice(rows, number, replace=False))
    batch = corpus.collate(corpus.__getitems__(chosen.tolist()))
    model.initialize_topics(
        **{name: tensor.to(model.device) for name, tensor in batch.items()},
        generator=torch.Generator().manual_seed(config.seed),
    )


def _set_topic_statistics(model: Any, corpus: TopicCorpus, added: bool) -> None:
    """What the topics have in the corpus, batch by batch: neither all proportions nor all words at a time."""
    if not added:
        model.clear_topic_statistics()
    for batch in _batches(model, corpus, 4096):
        model.add_topic_statistics(**batch)


def _batches(model: Any, corpus: TopicCorpus, batch_size: int) -> Iterator[dict[str, torch.Tensor]]:
    for start in range(0, len(corpus), batch_size):
        rows = range(start, min(start + batch_size, len(corpus)))
        batch = corpus.collate(corpus.__getitems__(list(rows)))
        yield {name: tensor.to(model.device) for name, tensor in batch.items()}


class _Rows(Dataset):
    """Rows of a matrix, a batch of them in one read."""

    def __init__(self, rows: torch.Tensor):
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> torch.Tensor:
        return self.rows[index]

    def __getitems__(self, indices: Sequence[int]) -> torch.Tensor:
        return self.rows[torch.as_tensor(indices)]


def _collate_words(rows: Any) -> dict[str, torch.Tensor]:
    """Words as documents of one word: the codebook does not ask where they come from."""
    return {"word_embeddings": rows[:, None]}


def _check_number(
    corpus: TopicCorpus, rows: Sequence[int], num_topics: int, continued: bool
) -> None:
    """Refuses fewer documents than new topics: those that differ and have words count. Batches need two."""
    expected = 2 if continued else max(2, num_topics)
    different: set[tuple[bytes, ...]] = set()
    for row in rows:
        words = corpus.word_counts[[row]]
        parts = (corpus.code_counts[row], words.indices, words.data)
        different.add(tuple(part.tobytes() for part in parts))
        if len(different) == expected:
            return
    raise ValueError(
        f"{len(different)} of {len(corpus)} documents have words and are no copies of others, expected at least "
        f"{expected} (num_topics is {num_topics})"
    )


def _with_words(corpus: TopicCorpus) -> Subset:
    return Subset(corpus, np.flatnonzero(corpus.num_words).tolist())


def _scaling(sample: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    deviation, mean = torch.std_mean(sample, dim=0)
    return mean, deviation
