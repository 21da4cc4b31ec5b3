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
"""What standardizes over a batch, in one process and in two; started processes find this module by its name."""

import torch
from torch import distributed

from hf_vq.models.topic_inference import TopicInference, TopicProduct


def standardized(rows):
    """Two steps of everything that standardizes over a batch: moments, outputs and gradients for these rows."""
    torch.manual_seed(0)
    inference, product = TopicInference(6, [], 4), TopicProduct(5)
    for module in (inference, product):
        for tensor, value in getattr(module, "initial_values", list)():
            tensor.data.copy_(value)
    bags, counts, scores = torch.randn(8, 6), torch.rand(8, 5), torch.randn(4, 5)
    scores.requires_grad_()
    for _ in range(2):
        mean, log_variance = inference(bags[rows])
        likelihood = product.log_likelihood(torch.softmax(mean, -1), scores, counts[rows])
        loss = (log_variance.square() * torch.arange(4)).mean() - likelihood.mean()
        loss.backward()
    return {
        **inference.state_dict(),
        **product.state_dict(),
        "mean": mean.detach(),
        "gradients": torch.cat([p.grad.flatten() for p in [*inference.parameters(), scores]]),
    }


def standardized_on(rank, folder):
    distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2
    )
    # Unequal shares would weigh the ranks' losses unequally in the mean; four documents each.
    torch.save(standardized(slice(4 * rank, 4 * rank + 4)), f"{folder}/{rank}.pt")
    distributed.destroy_process_group()
