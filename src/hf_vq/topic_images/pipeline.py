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
# mypy: disable-error-code="attr-defined, misc"
# (for mypy, what diffusers exports is an empty stand-in)
"""The diffusers pipeline of images by topic.

It imports nothing of hf_vq but its neighbor: a repository carries a copy of both files, which
`DiffusionPipeline.from_pretrained(repository, custom_pipeline=repository, trust_remote_code=True)` runs.
"""

import json
import operator
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from numbers import Integral
from pathlib import Path
from typing import Any

import numpy as np
import torch
from huggingface_hub import snapshot_download
from safetensors import safe_open
from torch import Tensor, nn
from transformers import CONFIG_MAPPING, MODEL_MAPPING, PreTrainedModel

from .image_tokenizers import ImageTokenizer, image_tokenizer, read_images

try:
    from diffusers import DiffusionPipeline
    from diffusers.utils import BaseOutput
except ImportError as error:
    raise ImportError(
        'diffusers is missing: install it with `pip install "hf_vq[image]"`.'
    ) from error

OUTPUT_TYPES = ("pil", "np", "pt", "codes")
COMPONENTS = ("tokenizer", "prior")
DOWNLOADED = ["*.json", "*.safetensors", "*.py"]
DOWNLOAD_OPTIONS = ("revision", "cache_dir", "token", "local_files_only", "force_download")
# `custom_pipeline=folder` looks for the first name; the second is what it imports.
SOURCE_FILES = ("pipeline.py", "image_tokenizers.py")


@dataclass
class TopicVQImagePipelineOutput(BaseOutput):
    """What the pipeline returns, all images of the first prompt first.

    Attributes:
        images: PIL images; an array `(images, height, width, channels)` or a tensor `(images, channels, height, width)`
            in [0, 1]; or the codes.
        codes: `(images, rows, columns)`, int64.
        topic_proportions: `(images, num_topics)`, the mixture that each image was drawn for; None without topics.
    """

    images: Any
    codes: Tensor
    topic_proportions: Tensor | None


class TopicVQImagePipeline(DiffusionPipeline):
    """Draws images of a topic, of a mixture of topics, like other images, or without any topic.

    ```python
    pipe = TopicVQImagePipeline.from_pretrained(folder_or_hub_id)
    pipe(topics=3, num_images_per_prompt=8).images  # eight images of topic 3
    pipe(reference_images=[photo], guidance_scale=2.0).images  # one with the topics of a photo
    pipe(partial_images=photo, kept_rows=4).images  # its upper half kept, the rest drawn
    pipe(num_images_per_prompt=8).images  # without topics
    ```

    Args:
        tokenizer: Image model that makes codes of images and images of codes: our GMVQModel, diffusers' VQModel.
        prior: A TopicVQForImageGeneration that was trained on codes of this image model.
    """

    # diffusers sets them when they are registered.
    tokenizer: Any
    prior: Any

    def __init__(self, tokenizer: nn.Module, prior: PreTrainedModel):
        super().__init__()
        check_tokenizer(image_tokenizer(tokenizer), prior)
        # Noise of training would change every output.
        self.register_modules(tokenizer=tokenizer.eval(), prior=prior.eval())

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width of an image."""
        stride = image_tokenizer(self.tokenizer).stride
        rows, columns = self.prior.config.grid_size
        return rows * stride, columns * stride

    @torch.no_grad()
    def infer_topics(self, images: Any) -> Tensor:
        """Topic proportions of images, `(images, num_topics)`; mean several rows to mix their images' topics.

        Args:
            images: PIL images, arrays or tensors, one or many. PIL images are scaled and cut to the model's size.
        """
        return self.prior.infer_topics(self.encode_images(images))

    def encode_images(self, images: Any) -> Tensor:
        """Codes of images, `(images, rows, columns)` int64."""
        tokenizer = image_tokenizer(self.tokenizer)
        pixels = read_images(images, tokenizer.num_channels, self.image_size)
        return tokenizer.encode(pixels).to(self.prior.device)

    @torch.no_grad()
    def __call__(
        self,
        topics: int | Sequence[int] | None = None,
        topic_proportions: Any = None,
        reference_images: Any = None,
        partial_images: Any = None,
        *,
        kept_rows: int | None = None,
        num_images_per_prompt: int = 1,
        guidance_scale: float = 1.0,
        do_sample: bool = True,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        generator: Any = None,
        batch_size: int = 64,
        output_type: str = "pil",
        return_dict: bool = True,
    ) -> TopicVQImagePipelineOutput | tuple:
        """Draws images.

        Of `topics`, `topic_proportions` and `reference_images` at most one says what the images shall be like. With
        none of them they are drawn without topics or, from a prior that was trained with `condition_dropout=0` and
        always needs some, of mixtures as the training data have them.

        Args:
            topics: A topic or several, each a prompt of its own.
            topic_proportions: A mixture `(num_topics,)` or several `(prompts, num_topics)`, not negative, summing to 1.
            reference_images: Images whose topics the new ones shall have, each a prompt of its own.
            partial_images: Images whose upper part is kept, as wide as the model's: one, or one for each prompt. An
                image that is not as high as the model's is kept whole.
            kept_rows: Rows of codes to keep; half of an image of full height if not given.
            num_images_per_prompt: Images for each prompt.
            guidance_scale: Above 1, images follow their topics more closely than the training data do, at the price of
                variety. Needs a prior that was trained with `condition_dropout`.
            do_sample: Whether codes are drawn; if not, each is the most probable one.
            temperature: Below 1, probable codes get more probable.
            top_k: Draw among so many of the most probable codes.
            top_p: Draw among the most probable codes that together have this probability.
            generator: A `torch.Generator` or a seed; or one for each image, which makes an image independent of those
                that are drawn with it.
            batch_size: Images drawn at a time.
            output_type: `"pil"`, `"np"`, `"pt"` or `"codes"`.
            return_dict: Whether to return names with the values, or a tuple of images, codes and proportions.
        """
        if output_type not in OUTPUT_TYPES:
            raise ValueError(f"output_type is {output_type!r}, expected one of {OUTPUT_TYPES}")
        for name, number in (
            ("num_images_per_prompt", num_images_per_prompt),
            ("batch_size", batch_size),
        ):
            if number < 1:
                raise ValueError(f"{name} is {number}, expected at least 1")
        proportions = self._proportions(topics, topic_proportions, reference_images)
        self._check_guidance(guidance_scale, proportions)
        prefix = self._prefix(partial_images, kept_rows)
        proportions, prefix = _match(proportions, prefix, num_images_per_prompt)
        total = _length(proportions, prefix, num_images_per_prompt)
        options = {
            "guidance_scale": guidance_scale,
            "do_sample": do_sample,
            "temperature": temperature,
            "top_k": top_k,
            "top_p": top_p,
        }
        generators = self._generators(generator, total)
        without = "unconditional" if self.prior.config.condition_dropout else None
        codes = []
        with self.progress_bar(total=total) as bar:
            for rows in _slices(total, batch_size):
                drawn = self.prior.generate(
                    topic_proportions=without if proportions is None else proportions[rows],
                    codes=None if prefix is None else prefix[rows],
                    num_images=rows.stop - rows.start,
                    generator=generators[rows] if isinstance(generators, list) else generators,
                    **options,
                )
                codes.append(drawn)
                bar.update(len(drawn))
        grids = torch.cat(codes)
        images = self._images(grids, output_type, batch_size)
        self.maybe_free_model_hooks()
        if not return_dict:
            return images, grids, proportions
        return TopicVQImagePipelineOutput(images, grids, proportions)

    def _check_guidance(self, guidance_scale: float, proportions: Tensor | None) -> None:
        if guidance_scale == 1:
            return
        if proportions is None:
            raise ValueError(
                f"guidance_scale is {guidance_scale}, but there are no topics to guide to: give topics, "
                "topic_proportions or reference_images"
            )
        if not self.prior.config.condition_dropout:
            raise ValueError(
                f"guidance_scale is {guidance_scale}, but the prior was trained with condition_dropout=0: it does not "
                "know images without topics, which guidance moves away from"
            )

    def _proportions(
        self, topics: Any, topic_proportions: Any, reference_images: Any
    ) -> Tensor | None:
        given = {
            "topics": topics,
            "topic_proportions": topic_proportions,
            "reference_images": reference_images,
        }
        names = [name for name, value in given.items() if value is not None]
        if len(names) > 1:
            raise ValueError(f"{' and '.join(names)} are given, expected at most one of them")
        num_topics = self.prior.config.num_topics
        if topics is not None:
            return topic_mixtures(topics, num_topics).to(self.prior.device)
        if topic_proportions is not None:
            return check_mixtures(topic_proportions, num_topics).to(self.prior.device)
        return None if reference_images is None else self.infer_topics(reference_images)

    def _prefix(self, partial_images: Any, kept_rows: int | None) -> Tensor | None:
        """Codes that are kept, `(prompts, codes)`."""
        if partial_images is None:
            if kept_rows is not None:
                raise ValueError("kept_rows is given without partial_images")
            return None
        tokenizer = image_tokenizer(self.tokenizer)
        height, width = self.image_size
        pixels = read_images(partial_images, tokenizer.num_channels)
        if pixels.shape[3] != width or pixels.shape[2] > height:
            raise ValueError(
                f"partial images of {pixels.shape[2]} x {pixels.shape[3]} pixels, expected {width} columns and at "
                f"most {height} rows"
            )
        given_rows, _ = tokenizer.grid_size(*pixels.shape[2:])
        total_rows = height // tokenizer.stride
        if kept_rows is None:
            kept_rows = given_rows if given_rows < total_rows else total_rows // 2
        most = min(given_rows, total_rows - 1)  # of a whole image nothing is left to draw
        if not 0 < kept_rows <= most:
            raise ValueError(
                f"kept_rows is {kept_rows}, expected 1 to {most}: a row is {tokenizer.stride} pixels high"
            )
        # What lies below must not reach into the codes that are kept.
        codes = tokenizer.encode(pixels[:, :, : kept_rows * tokenizer.stride])
        return codes.flatten(1).to(self.prior.device)

    def _generators(self, generator: Any, total: int) -> Any:
        if isinstance(generator, (list, tuple)):
            if len(generator) != total:
                raise ValueError(
                    f"there are {len(generator)} generators for {total} images, expected one for each"
                )
            return [self._generators(each, 1) for each in generator]
        if isinstance(generator, Integral):
            return torch.Generator(self.prior.device).manual_seed(int(generator))
        return generator

    def _images(self, grids: Tensor, output_type: str, batch_size: int) -> Any:
        if output_type == "codes":
            return grids
        tokenizer = image_tokenizer(self.tokenizer)
        pixels = torch.cat(
            [tokenizer.decode(grids[rows]) for rows in _slices(len(grids), batch_size)]
        )
        if output_type == "pt":
            return pixels
        arrays = pixels.movedim(1, -1).cpu().numpy()
        return arrays if output_type == "np" else self.numpy_to_pil(arrays)

    def save_pretrained(self, save_directory: str | Path, **kwargs: Any) -> None:
        """Saves image model, prior and the code of this pipeline as one repository.

        Args:
            save_directory: The folder.
            kwargs: As in every pipeline of diffusers.
        """
        folder = Path(save_directory)
        folder.mkdir(parents=True, exist_ok=True)
        for name in SOURCE_FILES:
            source = Path(__file__).with_name(name)
            if source.resolve() != (folder / name).resolve():
                shutil.copyfile(source, folder / name)
        super().save_pretrained(str(folder), **kwargs)

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: Any, **kwargs: Any) -> Any:
        """Loads a pipeline from a folder or a Hub id.

        Args:
            pretrained_model_name_or_path: The folder or the id.
            kwargs: As in every pipeline of diffusers; a component that is given is not loaded.

        Raises:
            ValueError: If a part of the folder or a weight is missing, or the parts do not belong to each other.
        """
        folder = Path(pretrained_model_name_or_path)
        if not folder.is_dir():
            # diffusers would leave out files whose names it does not expect, and then miss them.
            options: Any = {name: kwargs.pop(name) for name in DOWNLOAD_OPTIONS if name in kwargs}
            name = str(pretrained_model_name_or_path)
            folder = Path(snapshot_download(name, allow_patterns=DOWNLOADED, **options))
        loaded = [name for name in COMPONENTS if name not in kwargs]
        check_folder(folder, loaded)
        pipe = super().from_pretrained(str(folder), **({"use_safetensors": True} | kwargs))
        for name in loaded:
            check_weights(getattr(pipe, name), folder / name)
        return pipe

    @classmethod
    def load_config(cls, pretrained_model_name_or_path: Any, **kwargs: Any) -> Any:
        """Reads `model_index.json`. Of models that transformers knows already, no code of the repository will run.

        Args:
            pretrained_model_name_or_path: The folder.
            kwargs: As in every pipeline of diffusers.
        """
        loaded = super().load_config(pretrained_model_name_or_path, **kwargs)
        index = loaded[0] if isinstance(loaded, tuple) else loaded
        for name in COMPONENTS:
            known = _registered_class(Path(pretrained_model_name_or_path) / name)
            if known is not None:
                index[name] = [known.__module__, known.__name__]
        return loaded


def _registered_class(folder: Path) -> Any:
    """The class that transformers' auto classes take for a saved model; None if they know of none."""
    file = folder / "config.json"
    if not file.is_file():
        return None
    model_type = json.loads(file.read_text(encoding="utf-8")).get("model_type")
    return MODEL_MAPPING[CONFIG_MAPPING[model_type]] if model_type in CONFIG_MAPPING else None


def check_tokenizer(tokenizer: ImageTokenizer, prior: Any) -> None:
    """Refuses an image model whose codes are not those that a prior was trained on.

    Raises:
        ValueError: If codebook or fingerprint differ. In half precision, where fingerprints say nothing, codebooks
            decide.
    """
    config, name = prior.config, type(tokenizer.model).__name__
    if (tokenizer.codebook_size, tokenizer.codebook_dim) != (
        config.codebook_size,
        config.codebook_dim,
    ):
        raise ValueError(
            f"{name} has {tokenizer.codebook_size} codes of width {tokenizer.codebook_dim}, but the prior was trained "
            f"on {config.codebook_size} of width {config.codebook_dim}"
        )
    if not tokenizer.has_codebook(prior.codebook):
        raise ValueError(f"{name} has another codebook than the one that the prior was trained on")
    expected = config.tokenizer_fingerprint
    if expected is None or tokenizer.dtype != torch.float32:
        return
    if tokenizer.fingerprint != expected:
        raise ValueError(
            f"{name} has the fingerprint {tokenizer.fingerprint}, but the prior was trained on codes of {expected}: "
            "the same codebook behind another encoder"
        )


def check_folder(folder: Path, components: Sequence[str]) -> None:
    """Names what a saved pipeline lacks.

    Raises:
        ValueError: If it lacks anything.
    """
    index = folder / "model_index.json"
    if not index.is_file():
        raise ValueError(f"{folder} is no saved pipeline: it has no model_index.json")
    named = json.loads(index.read_text(encoding="utf-8"))
    missing = [f"{name} in model_index.json" for name in components if name not in named]
    for name in components:
        if not (folder / name / "config.json").is_file():
            missing.append(f"{name}/config.json")
        if not list((folder / name).glob("*.safetensors")):
            missing.append(f"the weights in {name}/")
    if missing:
        raise ValueError(f"{folder} is an incomplete pipeline: it lacks {', '.join(missing)}")


def check_weights(model: nn.Module, folder: Path) -> None:
    """Refuses a model some of whose weights are not in its folder: random numbers would be in their place.

    Raises:
        ValueError: If there are any.
    """
    saved: set[str] = set()
    for file in folder.glob("*.safetensors"):
        with safe_open(file, framework="pt") as weights:
            saved.update(weights.keys())
    missing = sorted(model.state_dict().keys() - saved)
    if missing:
        raise ValueError(f"{folder} lacks the weights {', '.join(missing)}")


def topic_mixtures(topics: int | Sequence[int], num_topics: int) -> Tensor:
    """Mixtures of one topic each, `(prompts, num_topics)`.

    Raises:
        ValueError: If there is no such topic.
    """
    several: Any = [topics] if np.ndim(topics) == 0 else topics
    # Not `int`, which would take 1.5 or "1" for a topic.
    numbers = [operator.index(topic) for topic in several]
    if not numbers:
        raise ValueError("topics is empty, expected at least one")
    for topic in numbers:
        if not 0 <= topic < num_topics:
            raise ValueError(f"there is no topic {topic}: topics are 0 to {num_topics - 1}")
    return torch.eye(num_topics)[numbers]


def check_mixtures(topic_proportions: Any, num_topics: int) -> Tensor:
    """Mixtures as a tensor `(prompts, num_topics)`, float32.

    Raises:
        ValueError: If a row is no mixture.
    """
    if not isinstance(topic_proportions, Tensor):
        topic_proportions = torch.as_tensor(np.asarray(topic_proportions))
    mixtures = topic_proportions.float()
    mixtures = mixtures[None] if mixtures.ndim == 1 else mixtures
    if mixtures.ndim != 2 or mixtures.shape[1] != num_topics or not len(mixtures):
        raise ValueError(
            f"topic_proportions have shape {tuple(topic_proportions.shape)}, expected ({num_topics},) or "
            f"(prompts, {num_topics})"
        )
    sums = mixtures.sum(dim=1)
    # Half precision sums to 1 no better than this.
    if not (
        torch.isfinite(mixtures).all() and mixtures.min() >= 0 and (sums - 1).abs().max() < 0.01
    ):
        raise ValueError(
            f"a mixture is not negative and sums to 1, got numbers from {mixtures.min():.4g} to {mixtures.max():.4g} "
            f"with sums from {sums.min():.4g} to {sums.max():.4g}"
        )
    return mixtures


def _match(
    proportions: Tensor | None, prefix: Tensor | None, repeats: int
) -> tuple[Tensor | None, Tensor | None]:
    """One row for each image: a single row stands for all prompts, and a prompt is repeated for its images."""
    sizes = {len(rows) for rows in (proportions, prefix) if rows is not None}
    if len(sizes - {1}) > 1:
        raise ValueError(
            f"there are {len(proportions)} prompts and {len(prefix)} partial images, expected as many, or one of either"  # type: ignore[arg-type]
        )
    prompts = max(sizes, default=1)
    proportions, prefix = (
        rows if rows is None else rows.expand(prompts, -1).repeat_interleave(repeats, dim=0)
        for rows in (proportions, prefix)
    )
    return proportions, prefix


def _length(proportions: Tensor | None, prefix: Tensor | None, default: int) -> int:
    rows = proportions if proportions is not None else prefix
    return default if rows is None else len(rows)


def _slices(total: int, size: int) -> Iterator[slice]:
    for start in range(0, total, size):
        yield slice(start, min(start + size, total))


__all__ = ["TopicVQImagePipeline", "TopicVQImagePipelineOutput"]
