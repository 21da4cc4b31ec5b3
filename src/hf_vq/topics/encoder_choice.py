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
"""Which encoder a topic model is trained with, and finding the same one again."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers.utils import cached_file

from hf_vq.models.configuration_topic_vq import TopicVQConfig
from hf_vq.models.processing_topic_vq import TopicVQProcessor

from .corpus_encoder import ENCODER_NAME, CorpusEncoder
from .encoders import ContextualEncoder, WordEncoder, check_encoder

CORPUS_ENCODER = "corpus"


def make_encoder(
    encoder: Any,
    config: TopicVQConfig,
    documents: Sequence[str],
    processor: TopicVQProcessor,
    seed: int = 0,
    dtype: str | None = None,
) -> WordEncoder:
    """The encoder for a new model.

    Args:
        encoder: Hub id or folder, `"corpus"` for vectors made from the documents, or the encoder itself.
        config: Says which layer and which pooling.
        documents: What `"corpus"` is made from.
        processor: Finds the words.
        seed: Of `"corpus"`.
        dtype: Precision, such as `"float32"`; the fastest if not given.
    """
    if encoder == CORPUS_ENCODER:
        return CorpusEncoder.fit(documents, processor, seed=seed)
    if isinstance(encoder, str | Path):
        return _contextual(encoder, config, dtype)
    if not hasattr(encoder, "encode_words"):
        raise ValueError(
            f"encoder is {encoder!r}, expected a Hub id, a folder, {CORPUS_ENCODER!r} or an encoder of words"
        )
    return encoder


def load_encoder(
    config: TopicVQConfig,
    encoder: Any = None,
    folder: str | None = None,
    dtype: str | None = None,
    revision: str = "main",
) -> WordEncoder:
    """The encoder that a model was trained with; another one is refused.

    Args:
        config: Of the model.
        encoder: Where it is, or itself; where the configuration says if not given.
        folder: Folder or Hub id of the model, which holds the vectors of `"corpus"`.
        dtype: As in `make_encoder`.
        revision: Commit, branch or tag, if `folder` is a Hub id.
    """
    if encoder is None:
        encoder = config.encoder_name_or_path
    if encoder is None:
        raise ValueError(
            "the model does not say which encoder it was trained with: pass encoder or word_embeddings"
        )
    loaded: Any
    if encoder == CORPUS_ENCODER:
        if folder is None:
            raise ValueError(
                "the vectors of the encoder 'corpus' are not known, since word_embeddings were given: set encoder to "
                "what made these; to place documents, pass word_embeddings"
            )
        path = cached_file(folder, ENCODER_NAME, revision=revision)
        loaded = CorpusEncoder.load(Path(str(path)).parent)
    elif isinstance(encoder, str | Path):
        loaded = _contextual(encoder, config, dtype)
    else:
        loaded = encoder
    check_encoder(config, loaded.fingerprint)
    return loaded


def encoder_facts(encoder: Any) -> dict[str, Any]:
    """What a configuration says about an encoder, or about the name of one."""
    if isinstance(encoder, CorpusEncoder):
        return {"encoder_name_or_path": CORPUS_ENCODER}
    if isinstance(encoder, str | Path):
        return {"encoder_name_or_path": str(encoder)}
    facts = {"encoder_name_or_path": getattr(encoder, "name_or_path", None)}
    if isinstance(encoder, ContextualEncoder):
        facts["encoder_revision"] = encoder.revision
    return facts


def _contextual(name: str | Path, config: TopicVQConfig, dtype: str | None) -> ContextualEncoder:
    if dtype not in (None, "float32", "bfloat16", "float16"):
        raise ValueError(f"encoder_dtype is {dtype!r}, expected 'float32', 'bfloat16' or 'float16'")
    precision = None if dtype is None else getattr(torch, dtype)
    try:
        return ContextualEncoder(
            name,
            revision=config.encoder_revision,
            layer=config.encoder_layer,
            pooling=str(config.word_pooling),
            dtype=precision,
        )
    except OSError as error:
        reason = str(error).partition("\n")[0]  # not there, out of reach, or a pickle
        raise OSError(
            f"cannot load the encoder {str(name)!r}: {reason} If it has moved, pass encoder, where it is; "
            f"{CORPUS_ENCODER!r} needs none"
        ) from error


__all__ = ["CORPUS_ENCODER", "encoder_facts", "load_encoder", "make_encoder"]
