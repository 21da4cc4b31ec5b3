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
"""The paper's PixelCNN form of topics over images, as a baseline: a product has no use for it.

A gated PixelCNN over the map of codes (van den Oord et al., "Conditional image generation with PixelCNN decoders",
NeurIPS 2016) whose gates see a vector of the image's topics, as "Topic-VQ-VAE" (arXiv 2312.11532) trains it: the
inference network reads the map with positions, the likelihood of the prior is a mean over positions beside a sum for
the bag of codes, and sends the topics no gradient.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from hf_vq.models.topic_inference import (
    TopicInference,
    TopicPrior,
    TopicProduct,
    sample_proportions,
)


@dataclass
class PixelCNNOutput:
    """Losses of a batch, as `TopicVQForImageGeneration` names them; `prior_loss` is in nats for an image."""

    loss: torch.Tensor
    prior_loss: torch.Tensor
    code_loss: torch.Tensor
    kl_loss: torch.Tensor
    topic_proportions: torch.Tensor


class GatedPixelCNN(nn.Module):
    """Codes `(B, rows, columns)` and a condition `(B, condition_dim)` to logits of each code given those before it.

    Two stacks of convolutions that see no code too early by how they are padded: the vertical one reads the rows
    above, the horizontal one what is left in the same row, and takes the vertical one in, eq. (4) and figure 2 there.
    """

    def __init__(
        self,
        codebook_size: int,
        condition_dim: int,
        width: int = 64,
        num_layers: int = 15,
        head_width: int = 512,
    ):
        """See the class."""
        super().__init__()
        self.embed = nn.Embedding(codebook_size, width)
        self.layers = nn.ModuleList(
            _GatedLayer(width, condition_dim, size=7 if i == 0 else 3, first=i == 0)
            for i in range(num_layers)
        )
        self.head = nn.Sequential(
            nn.Conv2d(width, head_width, 1), nn.ReLU(), nn.Conv2d(head_width, codebook_size, 1)
        )

    def forward(self, codes: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:
        """Logits `(B, codebook_size, rows, columns)`."""
        return self._horizontal(codes, self._vertical(codes, condition), condition)

    def _vertical(self, codes: torch.Tensor, condition: torch.Tensor) -> list[torch.Tensor]:
        """What each layer of the horizontal stack takes in: at a row, of the rows above."""
        hidden, taken = self.embed(codes).movedim(-1, 1), []
        for layer in self.layers:
            hidden, passed = layer.vertical(hidden, condition)
            taken.append(passed)
        return taken

    def _horizontal(
        self, codes: torch.Tensor, taken: list[torch.Tensor], condition: torch.Tensor
    ) -> torch.Tensor:
        hidden = self.embed(codes).movedim(-1, 1)
        for layer, passed in zip(self.layers, taken, strict=True):
            hidden = layer.horizontal(hidden, passed, condition)
        return self.head(hidden)

    @torch.no_grad()
    def sample(
        self,
        condition: torch.Tensor,
        rows: int,
        columns: int,
        generator: torch.Generator | None = None,
    ) -> torch.Tensor:
        """Codes `(B, rows, columns)`: the vertical stack runs once a row, the horizontal one on that row alone."""
        codes = torch.zeros(len(condition), rows, columns, dtype=torch.int64)
        for row in range(rows):
            taken = [passed[:, :, -1:] for passed in self._vertical(codes[:, : row + 1], condition)]
            for column in range(columns):
                line = codes[:, row : row + 1, : column + 1]
                seen = [passed[..., : column + 1] for passed in taken]
                logits = self._horizontal(line, seen, condition)[:, :, 0, -1]
                chosen = torch.multinomial(logits.float().softmax(dim=-1), 1, generator=generator)
                codes[:, row, column] = chosen[:, 0]
        return codes


class _GatedLayer(nn.Module):
    def __init__(self, width: int, condition_dim: int, size: int, first: bool):
        super().__init__()
        # The first layer is mask A, which leaves the code itself out; the others are mask B.
        self.first, self.reach = first, size // 2
        length = self.reach + (not first)
        self.rows_above = nn.Conv2d(width, 2 * width, (length, size))
        self.row_left = nn.Conv2d(width, 2 * width, (1, length))
        self.pass_on = nn.Conv2d(2 * width, 2 * width, 1)
        self.condition = nn.Linear(condition_dim, 2 * width, bias=False)
        self.out = nn.Conv2d(width, width, 1)

    def vertical(
        self, hidden: torch.Tensor, condition: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        reach = self.reach
        above = self.rows_above(F.pad(hidden, (reach, reach, reach, 0)))
        above = above[:, :, : hidden.shape[2]]  # mask A makes one row too many
        return _gate(above + self._condition(condition)), self.pass_on(above)

    def horizontal(
        self, hidden: torch.Tensor, passed: torch.Tensor, condition: torch.Tensor
    ) -> torch.Tensor:
        left = self.row_left(F.pad(hidden, (self.reach, 0, 0, 0)))[..., : hidden.shape[3]]
        new = self.out(_gate(left + passed + self._condition(condition)))
        return new if self.first else hidden + new  # the input of the first holds the code itself

    def _condition(self, condition: torch.Tensor) -> torch.Tensor:
        return self.condition(condition)[:, :, None, None]


def _gate(values: torch.Tensor) -> torch.Tensor:
    signal, gate = values.chunk(2, dim=1)
    return signal.tanh() * gate.sigmoid()


class TopicPixelCNN(nn.Module):
    """Topics of a map of codes, and a gated PixelCNN that sees them; interface of `TopicVQForImageGeneration`.

    Args:
        codebook: `(C, D)`; the condition is the topics' mean code, theta beta rho.
        grid_size: rows and columns.
        num_topics: K.
        width: channels of the PixelCNN.
        num_layers: its layers.
    """

    def __init__(
        self,
        codebook: torch.Tensor,
        grid_size: tuple[int, int],
        num_topics: int,
        width: int = 64,
        num_layers: int = 15,
    ):
        """See the class."""
        super().__init__()
        size, dim = codebook.shape
        self.grid_size = grid_size
        self.codebook = nn.Buffer(codebook.clone())
        # A convolution whose kernel is the whole map, of one-hot codes: a row for each code at each position.
        positions = grid_size[0] * grid_size[1]
        self.read_map = nn.EmbeddingBag(positions * size, 100, mode="sum")
        nn.init.normal_(self.read_map.weight, std=positions**-0.5)
        self.inference = TopicInference(100, [100], num_topics, dropout=0.2)
        self.prior = TopicPrior(num_topics)
        for tensor, value in self.prior.initial_values():
            tensor.data.copy_(value)
        self.topic_codes = nn.Parameter(nn.init.xavier_uniform_(torch.empty(num_topics, size)))
        self.bag_decoder = TopicProduct(size)
        self.decoder = GatedPixelCNN(size, dim, width, num_layers)

    def posterior(self, codes: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and log-variance `(B, K)`, before the softmax."""
        flat = codes.flatten(1)
        offsets = len(self.codebook) * torch.arange(flat.shape[1])
        return self.inference(self.read_map(flat + offsets).tanh())

    def forward(self, codes: torch.Tensor) -> PixelCNNOutput:
        """Losses of codes `(B, rows, columns)`: one draw of the topics when training, their mean otherwise."""
        mean, log_variance = self.posterior(codes)
        noisy = sample_proportions(mean, log_variance)
        proportions = noisy if self.training else mean.softmax(dim=-1)
        kl_loss = self.prior.divergence(mean, log_variance).mean()
        bags = F.one_hot(codes.flatten(1), len(self.codebook)).sum(dim=1).float()
        matched = self.bag_decoder.log_likelihood(proportions, self.topic_codes, bags)
        code_loss = -matched.mean()
        prior_loss = -self._log_likelihood(codes, proportions).mean()
        # Sums for the bag, a mean over positions for the prior: as published.
        loss = prior_loss / codes[0].numel() + code_loss + kl_loss
        return PixelCNNOutput(loss, prior_loss, code_loss, kl_loss, proportions)

    @torch.no_grad()
    def infer_topics(self, codes: torch.Tensor) -> torch.Tensor:
        """Topic proportions `(B, K)`, those of the posterior's mean."""
        return self.posterior(codes)[0].softmax(dim=-1)

    @torch.no_grad()
    def log_likelihood(self, codes: torch.Tensor, topic_proportions: torch.Tensor) -> torch.Tensor:
        """Log-probability of images given topics, in nats, `(B,)`."""
        return self._log_likelihood(codes, topic_proportions)

    @torch.no_grad()
    def generate(
        self, topic_proportions: torch.Tensor, generator: torch.Generator | None = None
    ) -> torch.Tensor:
        """Codes `(B, rows, columns)` of images with these topics."""
        return self.decoder.sample(self._condition(topic_proportions), *self.grid_size, generator)

    def _log_likelihood(self, codes: torch.Tensor, proportions: torch.Tensor) -> torch.Tensor:
        logits = self.decoder(codes, self._condition(proportions)).float()
        return -F.cross_entropy(logits, codes, reduction="none").sum(dim=(1, 2))

    @torch.no_grad()  # topics learn from the bag alone, as published
    def _condition(self, proportions: torch.Tensor) -> torch.Tensor:
        return proportions @ self.topic_codes @ self.codebook
