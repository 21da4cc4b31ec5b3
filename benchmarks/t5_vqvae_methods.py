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
"""The models of the WorldTree benchmark: one T5, and what is between its encoder and decoder."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from t5_vqvae_peers import SentenceVAE, VectorQuantizeCodes, matched_free_bits, without_encoder
from transformers import T5Config

from hf_vq import T5VQVAEConfig, T5VQVAEForConditionalGeneration

Model = Any
# The T5 of every method.
SIZE = {
    "d_model": 192,
    "d_kv": 32,
    "num_heads": 6,
    "d_ff": 768,
    "num_layers": 2,
    "dropout_rate": 0.0,
    "feed_forward_proj": "relu",
}
CODES = {
    "codebook_size": 4096,
    "quantize_after_layer": 1,
    "commitment_loss_weight": 5.0,
    "revival_threshold": 0.01,
    "latent_positions": "cross_bias",
}
# Where the paper has its quantizer.
END = {"quantize_after_layer": None}
# For ema, what starts a codebook well, and keeps it alive.
UNAIDED = {"revival_threshold": 0}
MIXTURE = {"quantizer": "gaussian_mixture", "revival_threshold": 0}


@dataclass
class Method:
    """What is between encoder and decoder.

    Args:
        label: its name in the tables.
        config: fields of `T5VQVAEConfig`.
        change: what is done to the fresh model.
        from_latents: whether the codebook starts from the latents of a plain autoencoder.
    """

    label: str
    config: dict[str, Any] = field(default_factory=dict)
    change: Callable[[Model], Model] = lambda model: model
    from_latents: bool = True


def with_peer_codes(model: Model) -> Model:
    """Put vector-quantize-pytorch's codebook in place of ours."""
    model.encoder.quantizer = VectorQuantizeCodes(model.config.codebook_size, model.config.d_model)
    return model


def with_random_codes(model: Model) -> Model:
    """Say that the codebook has had its start: normal numbers."""
    for group in model.encoder.quantizer.groups:
        group.codebook_initialized.fill_(True)
    return model


METHODS = {
    "ema": Method("EMA codebook (ours)"),
    "gaussian_mixture": Method(
        "Gaussian-mixture codebook (ours)",
        {**MIXTURE, "relaxation": "straight_through", "codebook_update": "ema"}
        | {"kl_loss_weight": 0.01, "revival_threshold": 0.01},
    ),
    "gumbel": Method(
        "Gumbel-softmax codebook",
        {**MIXTURE, "variance": "none", "kl_loss_weight": 1e-3},
    ),
    "kmeans": Method("k-means codebook, then fixed", {**UNAIDED, "ema_decay": 0.999999}),
    "gradient": Method(
        "k-means start, codebook by gradient",
        {**MIXTURE, "relaxation": "straight_through", "kl_loss_weight": 0.0},
    ),
    "ema_random": Method(
        "EMA codebook, random start, no revival", UNAIDED, with_random_codes, from_latents=False
    ),
    "vq_pytorch": Method("vector-quantize-pytorch, EMA", {}, with_peer_codes),
    "token_identity": Method(
        "token identity: no encoder", END, without_encoder, from_latents=False
    ),
    "none": Method("no quantizer", {"quantizer": "none"}),
    "end": Method("EMA codebook at the end of the encoder", END),
    "end_word_dropout": Method(
        "EMA codebook at the end, decoder word dropout 0.3", END | {"decoder_word_dropout": 0.3}
    ),
    "end_two_codes": Method(
        "2 EMA codebooks at the end, 512 codes each",
        END | {"codes_per_token": 2, "codebook_size": 512},
    ),
    "learned_positions": Method("EMA codebook, learned positions", {"latent_positions": "learned"}),
    "no_positions": Method("EMA codebook, no positions", {"latent_positions": "none"}),
    "end_learned_positions": Method(
        "EMA codebook at the end, learned positions", END | {"latent_positions": "learned"}
    ),
    "end_no_positions": Method(
        "EMA codebook at the end, no positions", END | {"latent_positions": "none"}
    ),
    "none_learned_positions": Method(
        "no quantizer, learned positions", {"quantizer": "none", "latent_positions": "learned"}
    ),
    "none_no_positions": Method(
        "no quantizer, no positions", {"quantizer": "none", "latent_positions": "none"}
    ),
    "vae": Method("Optimus-style VAE, 32 dimensions"),
    "vae_wide": Method("Optimus-style VAE, 256 dimensions, as many bits as the codes"),
}
QUANTIZERS = (
    *("none", "ema", "gaussian_mixture", "vq_pytorch", "gumbel", "gradient", "kmeans"),
    *(
        "ema_random",
        "end",
        "end_word_dropout",
        "end_two_codes",
        "token_identity",
        "vae_wide",
        "vae",
    ),
)
POSITIONS = (
    *("ema", "learned_positions", "no_positions"),
    *("end", "end_learned_positions", "end_no_positions"),
    *("none", "none_learned_positions", "none_no_positions"),
)


def build_model(
    name: str, tokenizer: Any, size: dict[str, Any], codebook_size: int, steps: int, seed: int
) -> Model:
    """A fresh model for a run of so many steps."""
    torch.manual_seed(seed)
    method = METHODS[name]
    t5 = size | {
        "vocab_size": len(tokenizer),
        "pad_token_id": tokenizer.pad_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "decoder_start_token_id": tokenizer.pad_token_id,
    }
    if name == "vae":
        return SentenceVAE(T5Config(**t5), 32, beta=1.0, free_bits=0.5, num_updates=steps)
    if name == "vae_wide":
        # The codes have about 9 bits for each of about 16 positions.
        free_bits = matched_free_bits(rate=9, positions=16, latent_dim=256)
        return SentenceVAE(T5Config(**t5), 256, beta=1.0, free_bits=free_bits, num_updates=steps)
    codes = CODES | {"codebook_size": codebook_size}
    config = T5VQVAEConfig(
        **t5, **(codes | method.config), temperature_anneal_steps=max(1, int(0.8 * steps))
    )
    return method.change(T5VQVAEForConditionalGeneration(config))
