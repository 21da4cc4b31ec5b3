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
"""CIFAR-10 as the image topic benchmark sees it: codes, labels, and the features of an independent network.

Everything is computed once, by `python benchmarks/topic_image.py codes`, and kept in `.data/cifar10_codes/`: images and
their mirror images through the tokenizer, and the pooled features of a ResNet-56 of images and of what the tokenizer
makes of them. The runs read arrays only.
"""

import hashlib
import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from hf_vq import GMVQImageProcessor, GMVQModel
from hf_vq.data import InMemoryImages, load_images
from hf_vq.metrics import CodeCounter, FeatureStatistics, mse, round_to_8_bits

FOLDER = Path(".data/cifar10_codes")
IMAGES = ".data/cifar10"
RESNET = Path(".data/cifar_resnet/resnet56-4bfd9763.th")
CLASSES = (
    *("airplane", "automobile", "bird", "cat", "deer"),
    *("dog", "frog", "horse", "ship", "truck"),
)
HELD_OUT = 5_000


@dataclass
class Part:
    """Images of a split: codes `(N, rows, columns)`, those of their mirror images, and labels.

    `image_features` are the ResNet's of the images themselves, `features` those of what the tokenizer decodes them to;
    the latter are known of images to score only.
    """

    name: str
    codes: torch.Tensor
    mirrored: torch.Tensor
    labels: torch.Tensor
    image_features: torch.Tensor
    features: torch.Tensor

    def __len__(self) -> int:
        return len(self.codes)

    def __getitem__(self, rows: Any) -> Self:
        """Some of the images, without what they are decoded to."""
        arrays = (self.codes, self.mirrored, self.labels, self.image_features)
        return type(self)(self.name, *(array[rows] for array in arrays), torch.empty(0, 64))


@dataclass
class CodeData:
    """What a run needs: images to train on and to score, the codebook, and what the arrays were made from."""

    train: Part
    test: Part
    codebook: torch.Tensor
    facts: dict[str, Any]

    @classmethod
    def load(cls, validate: bool = False) -> Self:
        """Read the arrays; with `validate`, the last training images stand in for the test set.

        The tokenizer has not seen those either.
        """
        if not (FOLDER / "facts.json").exists():
            raise SystemExit("run `python benchmarks/topic_image.py codes` first")
        train, test = (_read_part(split) for split in ("train", "test"))
        if validate:
            train, test = train[:-HELD_OUT], train[-HELD_OUT:]
            test.name = f"train[-{HELD_OUT}:]"
        test.features = _read(f"{'held_out' if validate else 'test'}_features")
        facts = json.loads((FOLDER / "facts.json").read_text("utf-8"))
        return cls(train, test, _read("codebook"), facts)


def _read(name: str) -> torch.Tensor:
    return torch.from_numpy(np.load(FOLDER / f"{name}.npy"))


def _read_part(split: str) -> Part:
    codes = (_read(f"{split}_{name}").long() for name in ("codes", "mirrored", "labels"))
    return Part(split, *codes, _read(f"{split}_image_features"), torch.empty(0, 64))


class CifarResNet(nn.Module):
    """ResNet of 6n + 2 layers for 32 x 32 images; its features are the 64 pooled channels.

    He et al., "Deep residual learning for image recognition", CVPR 2016, section 4.2: three stages of 16, 32 and 64
    channels, and shortcuts without weights (option A), which drop every other pixel and pad channels with zeros. The
    convolutions run in bfloat16, which moves a Frechet distance by about 1e-4.
    """

    mean = (0.485, 0.456, 0.406)
    std = (0.229, 0.224, 0.225)

    def __init__(self, num_blocks: int = 9, num_classes: int = 10):
        """See the class."""
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = _stage(16, 16, num_blocks)
        self.layer2 = _stage(16, 32, num_blocks)
        self.layer3 = _stage(32, 64, num_blocks)
        self.linear = nn.Linear(64, num_classes)

    @classmethod
    def load(cls, path: Path = RESNET) -> Self:
        """The published weights for CIFAR-10."""
        state = torch.load(path, map_location="cpu", weights_only=True)["state_dict"]
        model = cls()
        model.load_state_dict({name.removeprefix("module."): v for name, v in state.items()})
        return model.eval().to(memory_format=torch.channels_last)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Images `(B, 3, 32, 32)` on [0, 1] to features `(B, 64)`."""
        mean, std = (images.new_tensor(values)[:, None, None] for values in (self.mean, self.std))
        hidden = ((images - mean) / std).contiguous(memory_format=torch.channels_last)
        with torch.autocast(images.device.type, torch.bfloat16):
            hidden = F.relu(self.bn1(self.conv1(hidden)))
            hidden = self.layer3(self.layer2(self.layer1(hidden)))
        return hidden.float().mean(dim=(2, 3))

    @torch.inference_mode()
    def classify(self, features: torch.Tensor) -> torch.Tensor:
        """Features to classes `(B,)`."""
        return self.linear(features.to(self.linear.weight)).argmax(dim=-1)


class _Block(nn.Module):
    def __init__(self, narrow: int, wide: int):
        super().__init__()
        self.stride, self.added = wide // narrow, wide - narrow
        self.conv1 = nn.Conv2d(narrow, wide, 3, stride=self.stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(wide)
        self.conv2 = nn.Conv2d(wide, wide, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(wide)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        shortcut = hidden[:, :, :: self.stride, :: self.stride]
        shortcut = F.pad(shortcut, (0, 0, 0, 0, self.added // 2, self.added - self.added // 2))
        hidden = F.relu(self.bn1(self.conv1(hidden)))
        return F.relu(self.bn2(self.conv2(hidden)) + shortcut)


def _stage(narrow: int, wide: int, num_blocks: int) -> nn.Sequential:
    return nn.Sequential(_Block(narrow, wide), *(_Block(wide, wide) for _ in range(num_blocks - 1)))


class Decoder:
    """Codes to images, and to the ResNet's features of those images."""

    def __init__(self, tokenizer: str | Path):
        self.tokenizer = GMVQModel.from_pretrained(tokenizer).eval()
        self.resnet = CifarResNet.load()

    @torch.inference_mode()
    def images(self, codes: torch.Tensor) -> torch.Tensor:
        """Images `(N, 3, H, W)`, of 8 bits on [0, 1]."""
        decode = self.tokenizer.decode
        return in_batches(lambda c: round_to_8_bits(decode(codes=c).reconstruction).float(), codes)

    @torch.inference_mode()
    def features(self, codes: torch.Tensor) -> torch.Tensor:
        """Features `(N, 64)` of the decoded images."""
        return in_batches(lambda c: self.resnet(self.images(c)), codes)


def in_batches(function: Callable[..., Any], *arrays: torch.Tensor, size: int = 250) -> Any:
    """Apply a function of tensors to rows of them, some at a time."""
    parts = zip(*(array.split(size) for array in arrays), strict=True)
    return torch.cat([function(*part) for part in parts])


def frechet(features: torch.Tensor, reference: torch.Tensor) -> float:
    """Frechet distance of features, `FD-ResNet56` in the tables."""
    return _statistics(features).distance(_statistics(reference))


def _statistics(features: torch.Tensor) -> FeatureStatistics:
    statistics = FeatureStatistics()
    statistics.update(features)
    return statistics


@torch.inference_mode()
def make_codes(tokenizer: str | Path) -> None:
    """Compute everything that `CodeData.load` reads."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    decoder = Decoder(tokenizer)
    model, resnet = decoder.tokenizer, decoder.resnet
    processor = GMVQImageProcessor(size={"height": 32, "width": 32})
    weights = (Path(tokenizer) / "model.safetensors").read_bytes()
    facts: dict[str, Any] = {"tokenizer": f"sha256:{hashlib.sha256(weights).hexdigest()}"}
    for split in ("train", "test"):
        images = InMemoryImages(load_images(IMAGES, split), processor, label_column="label")
        pixels = images.pixels

        def encode(batch: torch.Tensor, mirrored: bool = False) -> torch.Tensor:
            batch = batch.float() / 255
            return model.encode(batch.flip(-1) if mirrored else batch).codes

        arrays = {
            "codes": in_batches(encode, pixels),
            "mirrored": in_batches(lambda batch: encode(batch, mirrored=True), pixels),
            "labels": images.labels,
            "image_features": in_batches(lambda batch: resnet(batch.float() / 255), pixels),
        }
        for name, array in arrays.items():
            array = array if array.is_floating_point() else array.to(torch.uint16)
            np.save(FOLDER / f"{split}_{name}.npy", array.numpy())
        # The last images of the training set are scored when choices are made, the test images at last.
        scored = slice(-HELD_OUT, None) if split == "train" else slice(None)
        codes, labels = arrays["codes"][scored], images.labels[scored]
        decoded = decoder.images(codes)
        features = in_batches(resnet, decoded)
        np.save(FOLDER / f"{'held_out' if split == 'train' else split}_features.npy", features)
        counter = CodeCounter(model.config.codebook_size)
        counter.update(codes)
        errors = in_batches(lambda x, y: mse(x, y.float() / 255), decoded, pixels[scored])
        accuracies = [
            (resnet.classify(found) == labels).float().mean().item()
            for found in (arrays["image_features"][scored], features)
        ]
        facts[split] = {
            "revision": images.revision,
            "mse": errors.mean().item(),
            "perplexity": counter.perplexity(),
            "resnet_accuracy": accuracies[0],
            "resnet_accuracy_of_reconstructions": accuracies[1],
        }
        print(split, facts[split], flush=True)
    np.save(FOLDER / "codebook.npy", model.quantizer.codebook.detach().numpy())
    (FOLDER / "facts.json").write_text(json.dumps(facts, indent=2) + "\n", "utf-8")


def unigram_bits(train: torch.Tensor, test: torch.Tensor, codebook_size: int) -> float:
    """Bits per code of a model that knows how often codes occur in training, with one added to each."""
    counts = torch.bincount(train.flatten(), minlength=codebook_size).double() + 1
    return -(counts / counts.sum()).log()[test].mean().item() / math.log(2)
