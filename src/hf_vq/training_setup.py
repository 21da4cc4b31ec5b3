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
"""The objects of a run, made from its options: Accelerator, optimizer, schedule, wrapped model."""

import importlib.util
import itertools

import torch
from accelerate import Accelerator
from accelerate.optimizer import AcceleratedOptimizer
from accelerate.utils import (
    DistributedType,
    GradientAccumulationPlugin,
)
from torch import nn
from transformers import get_scheduler

from .training_config import TrainingConfig

# What T5 and T5VQVAE call them.
POSITION_BIASES = ("relative_attention_bias.weight", "latent_position_bias.weight")


def build_accelerator(config: TrainingConfig) -> Accelerator:
    """The Accelerator that the options ask for."""
    for tracker in config.report_to:
        if importlib.util.find_spec(tracker) is None:
            # Accelerate would leave the tracker out with a debug message.
            raise ImportError(
                f"report_to names {tracker}, which is not installed: `pip install {tracker}`"
            )
    accelerator = Accelerator(
        cpu=config.cpu,
        mixed_precision=config.mixed_precision,
        # At the end of a pass over the data Accelerate would otherwise synchronize each
        # micro-batch.
        gradient_accumulation_plugin=GradientAccumulationPlugin(
            num_steps=config.gradient_accumulation_steps, sync_with_dataloader=False
        ),
        log_with=config.report_to or None,
        project_dir=config.output_dir,
    )
    if accelerator.mixed_precision == "fp16" and accelerator.device.type == "cpu":
        # Accelerate would silently train in float32.
        raise ValueError("mixed_precision is fp16, which the CPU does not offer: use bf16 or no")
    return accelerator


def build_optimizer(model: nn.Module, config: TrainingConfig) -> torch.optim.Optimizer:
    """Weight decay is for matrices: biases, norms, positions and codebooks have no reason to be small."""
    trainable = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    if not trainable:
        raise ValueError(f"{type(model).__name__} has no trainable parameter")
    # A code gets a gradient from few positions, and latents travel far early on: codes may need larger steps.
    codebook_rate = config.learning_rate * config.codebook_learning_rate_factor
    codebooks = [p for name, p in trainable if "codebook" in name]
    # To align decoder and codes takes biases of about 10, and AdamW moves a number by its learning rate at most.
    bias_rate = config.learning_rate * config.position_bias_learning_rate_factor
    biases = [p for name, p in trainable if name.endswith(POSITION_BIASES)]
    apart = {id(p) for p in (*codebooks, *biases)}
    others = [p for _, p in trainable if id(p) not in apart]
    groups = [
        {"params": [p for p in others if p.ndim > 1], "weight_decay": config.weight_decay},
        {"params": [p for p in others if p.ndim <= 1], "weight_decay": 0.0},
        {"params": codebooks, "weight_decay": 0.0, "lr": codebook_rate},
        {"params": biases, "weight_decay": 0.0, "lr": bias_rate},
    ]
    groups = [group for group in groups if group["params"]]
    if config.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=config.learning_rate)
    betas = (config.adam_beta1, config.adam_beta2)
    return torch.optim.AdamW(groups, lr=config.learning_rate, betas=betas, eps=config.adam_epsilon)


def build_scheduler(
    optimizer: torch.optim.Optimizer, config: TrainingConfig, max_steps: int
) -> torch.optim.lr_scheduler.LRScheduler:
    """The learning rate schedule, to be stepped once per step, unprepared.

    A scheduler that Accelerate has prepared takes one step per process instead.
    """
    return get_scheduler(
        config.lr_scheduler_type,
        optimizer,
        num_warmup_steps=config.warmup_steps,
        num_training_steps=max_steps,
        scheduler_specific_kwargs=config.lr_scheduler_kwargs or None,
    )


def broadcast_model(model: nn.Module) -> None:
    """Give all ranks the parameters and buffers of rank 0."""
    for tensor in itertools.chain(model.parameters(), model.buffers()):
        contiguous = tensor.detach().contiguous()
        torch.distributed.broadcast(contiguous, src=0)
        tensor.detach().copy_(contiguous)


def wrap(
    accelerator: Accelerator,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    config: TrainingConfig,
) -> tuple[nn.Module, AcceleratedOptimizer]:
    """Hand model and optimizer to Accelerate: DDP, FSDP2 or DeepSpeed, as launched."""
    if accelerator.distributed_type == DistributedType.DEEPSPEED:
        # DeepSpeed would take the batch size from a prepared loader, and clips by itself.
        options = accelerator.state.deepspeed_plugin.deepspeed_config
        options["train_micro_batch_size_per_gpu"] = config.per_device_train_batch_size
        options["gradient_clipping"] = config.max_grad_norm or 0.0
    wrapped, prepared = accelerator.prepare(model, optimizer)
    if accelerator.is_fsdp2:
        # Evaluation calls these directly; without this their parameters would still be sharded.
        for method in ("encode", "decode", "generate"):
            if hasattr(wrapped, method):
                torch.distributed.fsdp.register_fsdp_forward_method(wrapped, method)
    return wrapped, prepared
