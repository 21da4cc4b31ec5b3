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
"""TopicVQ for images: topics that guide an autoregressive model of image codes (TVQ-VAE, arXiv 2312.11532).

An image is a map of codes of some image tokenizer. An inference network reads the map and tells its topics,
which are distributions over codes, and a causal decoder of transformers writes the map, code by code, after a
token that says the topics. Topics also make their own codes likelier. Equation numbers refer to
docs/topic_images.md.
"""

import copy
import math
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from transformers import (
    AutoModelForCausalLM,
    GenerationConfig,
    GenerationMixin,
    LogitsProcessorList,
    PreTrainedModel,
)
from transformers import initialization as init
from transformers.processing_utils import Unpack
from transformers.utils import ModelOutput, TransformersKwargs
from transformers.utils.generic import can_return_tuple

from .configuration_topic_vq_image import TopicVQImageConfig
from .eval_mode import eval_mode
from .float32_parts import Float32PartsMixin
from .safe_weights import SafeWeightsMixin
from .topic_inference import (
    TopicMixture,
    TopicPrior,
    TopicProduct,
    cluster_topics,
    sample_proportions,
)
from .topic_vq_image_layers import (
    CodeMapInference,
    CodeVectors,
    TopicCondition,
    TopicSignal,
    bag_directions,
    shift_arguments,
    shift_layers,
)
from .topic_vq_image_sampling import DecoderSteps, draw_uniforms, warpers, write_codes
from .topic_vq_layers import LossWarmup
from .vector_quantization import kmeans, nearest_codes

UNCONDITIONAL = "unconditional"
# What `generate` knows of a generation configuration.
GENERATION_OPTIONS = (
    "do_sample",
    "temperature",
    "top_k",
    "top_p",
    "min_p",
    "guidance_scale",
    "num_return_sequences",
    "use_cache",
)


@dataclass
class TopicVQImageOutput(ModelOutput):
    """What `forward` returns; what was not asked for is `None`. Losses are means over images, in nats.

    Attributes:
        loss: `()`, weighted sum of the losses below, eq. (I10).
        prior_loss: `()`, negative log-likelihood of an image's codes, a sum over positions, eq. (I6).
        code_loss: `()`, negative log-likelihood of the bag of codes, eq. (I9).
        kl_loss: `()`, divergence of the topics' posterior from their prior, before its weight and warm-up; 0 with
            given proportions.
        logits: `(B, T, C)`, of each code given those before it.
        topic_proportions: `(B, K)`, a draw in training, otherwise of the posterior's mean, or those given.
        posterior_mean: `(B, K)`, before the softmax.
        posterior_log_variance: `(B, K)`.
        hidden_states: of the decoder, with `output_hidden_states=True`; the first position is the prefix.
        attentions: of the decoder, with `output_attentions=True`.
    """

    loss: torch.FloatTensor | None = None
    prior_loss: torch.FloatTensor | None = None
    code_loss: torch.FloatTensor | None = None
    kl_loss: torch.FloatTensor | None = None
    logits: torch.FloatTensor | None = None
    topic_proportions: torch.FloatTensor | None = None
    posterior_mean: torch.FloatTensor | None = None
    posterior_log_variance: torch.FloatTensor | None = None
    hidden_states: tuple[torch.FloatTensor, ...] | None = None
    attentions: tuple[torch.FloatTensor, ...] | None = None


class TopicVQImagePreTrainedModel(Float32PartsMixin, SafeWeightsMixin, PreTrainedModel):
    """Loading, saving and initial weights."""

    config_class = TopicVQImageConfig
    config: TopicVQImageConfig
    base_model_prefix = "topic_vq_image"
    main_input_name = "codes"
    input_modalities = ("image",)
    accepts_loss_kwargs = False
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_attention_backend = True
    # All but the decoder: topics are a small part of the weights, and their losses are in float32. Not all of
    # `code_vectors`, whose integers would become float32 as well.
    _keep_in_fp32_modules_strict = [
        "codebook",
        "codebook_scale",
        "neighbor_weights",
        "inference",
        "prior",
        "topic_codes",
        "code_mixture",
        "condition",
    ]
    model_tags = ["vector-quantization", "topic-model", "image-generation"]

    @classmethod
    def is_custom_code(cls) -> bool:
        """Deny it: else transformers would skip what a decoder initializes by the module above its weights.

        Allowed, since `_init_weights` fills nothing that was loaded.
        """
        return False

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """Fill new weights; the decoder does it by itself.

        | parameter | distribution |
        |---|---|
        | inference network | U(-1, 1) / sqrt(fan-in), torch's default and so the paper's |
        | maps of the condition, topic embeddings | N(0, initializer_range), N(0, 1) |
        | no_topic | 0 |
        | biases | 0 |
        | topic_codes | Xavier, uniform |
        | prior | as `TopicPrior` computes it |
        | codebook | 0, to be set by `set_codebook` |
        | running moments, counts | 0, variances 1 |
        """
        super()._init_weights(module)
        own: Any = module
        if isinstance(module, CodeMapInference):
            for child in module.modules():
                if isinstance(child, nn.Linear | nn.Conv2d):
                    init.kaiming_uniform_(child.weight, a=5**0.5)
        elif hasattr(module, "initial_values"):
            for tensor, value in own.initial_values():
                init.copy_(tensor, value)
        elif hasattr(module, "topic_codes"):
            init.xavier_uniform_(own.topic_codes)


class TopicVQForImageGeneration(TopicVQImagePreTrainedModel, GenerationMixin):
    """Topics over the codes of images, and a causal decoder of the codes that follows them.

    Give it the codebook of the image tokenizer with `set_codebook` before anything else, and before training how
    often codes occur with `set_background`, and images to start topics from with `initialize_topics`. Posteriors
    are standardized over the images of a batch, unless the configuration says otherwise, so a training batch
    needs two of them and micro-batches are not parts of a large batch.

    Example:
    ```python
    >>> import torch
    >>> from hf_vq import TopicVQForImageGeneration, TopicVQImageConfig
    >>> config = TopicVQImageConfig(
    ...     num_topics=4, codebook_size=16, codebook_dim=5, grid_size=[2, 3],
    ...     hidden_size=12, num_hidden_layers=2, num_attention_heads=2,
    ... )
    >>> model = TopicVQForImageGeneration(config).eval()
    >>> model.set_codebook(torch.randn(16, 5))
    >>> model.infer_topics(torch.randint(16, (7, 2, 3))).shape
    torch.Size([7, 4])
    >>> model.generate(torch.eye(4), guidance_scale=2.0, top_k=5).shape
    torch.Size([4, 2, 3])

    ```
    """

    def __init__(self, config: TopicVQImageConfig):
        config.validate()  # keywords of `from_pretrained` are set on a configuration that is already there
        super().__init__(config)
        self.code_vectors = CodeVectors(config)
        self.inference = CodeMapInference(config, self.code_vectors)
        self.prior = TopicPrior(
            config.num_topics,
            config.prior_concentration,
            config.prior_mean_init,
            config.prior_learned,
        )
        self.topic_codes = nn.Parameter(torch.empty(config.num_topics, config.codebook_size))
        combination = TopicProduct if config.topic_combination == "product" else TopicMixture
        self.code_mixture = combination(config.codebook_size, config.background == "log_frequency")
        self.condition = TopicCondition(config)
        self.decoder = AutoModelForCausalLM.from_config(
            config.build_decoder_config(), attn_implementation=config._attn_implementation
        )
        if config.condition == "prefix_and_layers":
            shift_layers(self.decoder, config.num_hidden_layers)
        self.kl_warmup = LossWarmup()
        self.generation_config = GenerationConfig(do_sample=True, use_cache=True)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        """The decoder's vectors of codes, which it learns itself."""
        return self.decoder.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Put others in their place."""
        self.decoder.set_input_embeddings(value)

    def get_output_embeddings(self) -> nn.Module:
        """The decoder's last layer."""
        return self.decoder.get_output_embeddings()

    # Topics

    @property
    def codebook(self) -> torch.Tensor:
        """The image tokenizer's, `(codebook_size, codebook_dim)`."""
        return self.code_vectors.codebook

    @property
    def topic_code_probs(self) -> torch.Tensor:
        """Distribution of codes of each topic, `(K, C)`."""
        bias = self.code_mixture.bias
        scores = self.topic_codes if bias is None else self.topic_codes + bias
        return torch.softmax(scores, dim=-1)

    @torch.no_grad()
    def infer_topics(self, codes: torch.LongTensor, num_samples: int = 0) -> torch.Tensor:
        """Codes `(B, T)` or `(B, rows, columns)` to topic proportions `(B, K)`, of each image for itself.

        With `num_samples` the mean of so many draws from the posterior takes the place of the softmax of its mean.
        """
        codes = self._check_codes(codes)
        with eval_mode(self):
            mean, log_variance = self.inference(codes, self.code_vectors)
        temperature: Any = self.config.topic_temperature
        if num_samples == 0:
            return torch.softmax(mean / temperature, dim=-1)
        draws = (sample_proportions(mean, log_variance, temperature) for _ in range(num_samples))
        return torch.stack(list(draws)).mean(dim=0)

    @torch.no_grad()
    def sample_topics(
        self, num_images: int, generator: torch.Generator | None = None
    ) -> torch.Tensor:
        """Topic proportions `(num_images, K)` drawn from the prior of topics."""
        temperature: Any = self.config.topic_temperature
        return torch.softmax(self.prior.sample(num_images, generator) / float(temperature), dim=-1)

    # Training

    @can_return_tuple
    def forward(
        self,
        codes: torch.LongTensor,
        topic_proportions: torch.FloatTensor | None = None,
        return_loss: bool = True,
        output_logits: bool = False,
        **kwargs: Unpack[TransformersKwargs],
    ) -> TopicVQImageOutput | tuple:
        """Codes to topics, and the likelihood of the codes given them.

        Args:
            codes: `(B, T)` row by row, or `(B, rows, columns)`.
            topic_proportions: `(B, K)`, in place of those that the inference network tells; rows sum to 1.
            return_loss: whether to compute `loss` (it has no labels, and `Trainer` looks for this argument).
            output_logits: whether to return those of eq. (I6).
            kwargs: `return_dict=False` for a tuple; what else the decoder takes.
        """
        codes = self._check_codes(codes)
        output: dict[str, Any] = {}
        if topic_proportions is None:
            mean, log_variance = self.inference(codes, self.code_vectors)
            temperature: Any = self.config.topic_temperature
            if self.training:
                proportions = sample_proportions(mean, log_variance, temperature)
            else:
                proportions = torch.softmax(mean / temperature, dim=-1)
            output |= {"posterior_mean": mean, "posterior_log_variance": log_variance}
        else:
            proportions = self._check_proportions(topic_proportions, codes.shape[0])
        output["topic_proportions"] = proportions
        if return_loss or output_logits:
            logits, decoded = self._decode(codes, self._embed_topics(proportions), **kwargs)
            output |= {name: decoded.get(name) for name in ("hidden_states", "attentions")}
            if output_logits:
                output["logits"] = logits
        if return_loss:
            output |= self._losses(codes, logits, output)
        return TopicVQImageOutput(**output)

    def _embed_topics(self, proportions: torch.Tensor) -> TopicSignal:
        """Eq. (I5) and (I8), in training with the dropout of eq. (I11)."""
        config: Any = self.config
        if not config.prior_teaches_topics:
            proportions = proportions.detach()
        signal = self._signal(proportions)
        if not self.training or self.condition.no_topic is None:
            return signal
        number = proportions.shape[0]
        dropped = torch.rand(number, 1, device=proportions.device) < config.condition_dropout
        without = self.condition.without_topics(number, config.codebook_size)
        return without.apply(lambda no, yes: torch.where(dropped, no, yes), signal)

    def _signal(self, proportions: torch.Tensor) -> TopicSignal:
        return self.condition.embed(
            proportions, self.topic_codes, self.code_vectors, self.code_mixture
        )

    def _decode(
        self, codes: torch.Tensor, signal: TopicSignal, **kwargs: Any
    ) -> tuple[torch.Tensor, Any]:
        """Logits `(B, T, C)` of each code given topics and the codes before it, and the decoder's output."""
        embeddings = self.get_input_embeddings()(codes[:, :-1])
        kept = self.config.code_keep_probability
        if self.training and kept < 1:
            mask = torch.rand(embeddings.shape[:2], device=embeddings.device) < kept
            embeddings = embeddings * mask[..., None]
        prefix, shifts = self.condition(signal.vectors, embeddings.dtype)
        for name in ("output_hidden_states", "output_attentions"):
            kwargs.setdefault(name, getattr(self.config, name))
        decoded = self.decoder(
            inputs_embeds=torch.cat([prefix, embeddings], dim=1),
            use_cache=False,
            **shift_arguments(shifts),
            **kwargs,
        )
        if signal.code_shifts is None:
            return decoded.logits, decoded
        return decoded.logits + signal.code_shifts[:, None], decoded

    def _losses(
        self, codes: torch.Tensor, logits: torch.Tensor, output: dict[str, Any]
    ) -> dict[str, torch.Tensor]:
        """Eq. (I6), (I9), and their sum (I10)."""
        config: Any = self.config
        proportions = output["topic_proportions"]
        dropped = F.dropout(proportions, config.topic_dropout, self.training)
        prior_loss = (
            F.cross_entropy(logits.float().flatten(0, 1), codes.flatten(), reduction="sum")
            / codes.shape[0]
        )
        code_loss = -self.code_mixture.log_likelihood(
            dropped, self.topic_codes, self.code_vectors.bag(codes)
        ).mean()
        if "posterior_mean" in output:
            kl_loss = self.prior.divergence(
                output["posterior_mean"], output["posterior_log_variance"]
            ).mean()
        else:
            kl_loss = torch.zeros_like(code_loss)
        loss = (
            config.prior_loss_weight * prior_loss
            + config.code_loss_weight * code_loss
            + config.kl_loss_weight * self.kl_warmup() * kl_loss
        )
        return {"loss": loss, "prior_loss": prior_loss, "code_loss": code_loss, "kl_loss": kl_loss}

    @torch.no_grad()
    def log_likelihood(
        self,
        codes: torch.LongTensor,
        topic_proportions: torch.Tensor | str | None = None,
        per_position: bool = False,
    ) -> torch.Tensor:
        """Log-probability of the codes of each image, `(B,)` in nats, or of each code, `(B, T)`, eq. (I6).

        Args:
            codes: `(B, T)` or `(B, rows, columns)`.
            topic_proportions: `(B, K)`; `None` for those inferred from the same codes, with which this is no
                likelihood of an image, as topics already know it; or `"unconditional"`.
            per_position: whether not to sum over positions.
        """
        codes = self._check_codes(codes)
        if topic_proportions is None:
            topic_proportions = self.infer_topics(codes)
        with eval_mode(self):
            logits, _ = self._decode(codes, self._told(topic_proportions, codes.shape[0]))
        losses = F.cross_entropy(logits.float().transpose(1, 2), codes, reduction="none")
        return -losses if per_position else -losses.sum(dim=1)

    # Generation

    @torch.no_grad()
    def generate(  # type: ignore[override]
        self,
        topic_proportions: torch.Tensor | str | None = None,
        num_images: int | None = None,
        codes: torch.LongTensor | None = None,
        generation_config: GenerationConfig | None = None,
        generator: torch.Generator | list[torch.Generator] | None = None,
        logits_processor: LogitsProcessorList | None = None,
        streamer: Any = None,
        **kwargs: Any,
    ) -> torch.LongTensor:
        """New maps of codes, `(images, rows, columns)`.

        Args:
            topic_proportions: `(B, K)`, rows sum to 1; `"unconditional"` for none, if the model was trained with
                `condition_dropout`; `None` for draws from the prior of topics, as the model believes images to be.
            num_images: how many, if neither proportions nor codes say so.
            codes: `(B, t)` with t < T, the first codes of each image, to be completed.
            generation_config: in place of the model's own.
            generator: source of randomness, or a list with one for each image: then an image does not depend on
                the batch that it is drawn in.
            logits_processor: processors of transformers to run before temperature, top-k and so on; as the codes so
                far they get `(images, t)`.
            streamer: gets the codes `(images,)` of each new position by its `put`, and at last `end()`.
            kwargs: `do_sample` (True), `temperature`, `top_k`, `top_p`, `min_p`, `guidance_scale`, eq. (I12),
                `num_return_sequences`, for each row of the above, and `use_cache`, as in a `GenerationConfig`.
        """
        options = self._generation_options(generation_config, kwargs)
        guidance = 1.0 if options.guidance_scale is None else float(options.guidance_scale)
        if not math.isfinite(guidance):
            raise ValueError(f"guidance_scale is {guidance}, expected a finite number")
        if guidance != 1 and isinstance(topic_proportions, str):
            raise ValueError(f"guidance_scale is {guidance}, but there are no topics to guide to")
        start, topic_proportions = self._check_start(codes, topic_proportions, num_images)
        repeats = 1 if options.num_return_sequences is None else options.num_return_sequences
        if repeats < 1:
            raise ValueError(f"num_return_sequences is {repeats}, expected a positive number")
        start = start.repeat_interleave(repeats, dim=0)
        number, length = start.shape
        if isinstance(topic_proportions, torch.Tensor):
            topic_proportions = topic_proportions.repeat_interleave(repeats, dim=0)
        processors = LogitsProcessorList(logits_processor or [])
        uniforms = None
        if options.do_sample is not False:
            steps_left = self.config.num_positions - length
            uniforms = draw_uniforms(number, steps_left, generator, self.device)
            processors.extend(warpers(options))
        if topic_proportions is None:
            topic_proportions = self._draw_topics(number, generator)
        with eval_mode(self):
            signal = self._told(topic_proportions, number)
            if guidance != 1:
                signal = signal.apply(
                    lambda *two: torch.cat(two), self._told(UNCONDITIONAL, number)
                )
            prefix, shifts = self.condition(
                signal.vectors, self.get_input_embeddings().weight.dtype
            )
            use_cache = options.use_cache is not False
            steps = DecoderSteps(
                self.decoder, prefix, shifts, signal.code_shifts, guidance, use_cache
            )
            written = write_codes(
                steps, start, self.config.num_positions, processors, uniforms, streamer
            )
        return written.unflatten(1, self.config.grid_size)

    def _generation_options(
        self, generation_config: GenerationConfig | None, kwargs: dict[str, Any]
    ) -> GenerationConfig:
        """The configuration with the keywords put in; what would be ignored is refused."""
        options = copy.deepcopy(
            self.generation_config if generation_config is None else generation_config
        )
        strangers = sorted(
            {name for name in kwargs if name not in GENERATION_OPTIONS}
            | {
                name
                for name in options.to_diff_dict()
                if name not in (*GENERATION_OPTIONS, "transformers_version", "_from_model_config")
                and not name.endswith("_token_id")
            }
        )
        if strangers:
            raise ValueError(
                f"generate does not know {', '.join(strangers)}; of a generation configuration it knows "
                f"{', '.join(GENERATION_OPTIONS)}"
            )
        options.update(**kwargs)
        return options

    def _draw_topics(
        self, number: int, generator: torch.Generator | list[torch.Generator] | None
    ) -> torch.Tensor:
        if isinstance(generator, list):
            return torch.cat([self.sample_topics(1, each) for each in generator])
        return self.sample_topics(number, generator)

    def _told(self, topic_proportions: torch.Tensor | str, number: int) -> TopicSignal:
        """What the decoder gets of proportions, or in their place."""
        if not isinstance(topic_proportions, str):
            return self._signal(self._check_proportions(topic_proportions, number))
        if topic_proportions != UNCONDITIONAL:
            raise ValueError(
                f"topic_proportions is {topic_proportions!r}, expected a tensor or {UNCONDITIONAL!r}"
            )
        return self.condition.without_topics(number, self.config.codebook_size)

    # State

    @torch.no_grad()
    def set_codebook(self, codebook: torch.Tensor) -> None:
        """Copy the codebook of the image tokenizer, `(codebook_size, codebook_dim)`."""
        self.code_vectors.set_codebook(codebook)

    @torch.no_grad()
    def set_background(self, code_frequencies: torch.Tensor) -> None:
        """Say how often each code occurs in training, `(codebook_size,)`: the background starts there."""
        size = self.config.codebook_size
        if code_frequencies.shape != (size,) or (code_frequencies < 0).any():
            raise ValueError(
                f"code_frequencies have shape {tuple(code_frequencies.shape)} and minimum "
                f"{code_frequencies.min()}, expected counts of shape ({size},)"
            )
        if self.code_mixture.bias is not None:
            smoothed = code_frequencies.float() + 1
            self.code_mixture.bias.copy_(torch.log(smoothed / smoothed.sum()))

    @torch.no_grad()
    def initialize_topics(
        self, codes: torch.LongTensor, generator: torch.Generator | None = None
    ) -> None:
        """Let topics start as clusters of training images, if the configuration asks for that; 10,000 are plenty.

        Args:
            codes: `(N, T)` or `(N, rows, columns)`, at least as many images as topics.
            generator: source of randomness, on the CPU.
        """
        config: Any = self.config
        if config.topic_init != "clusters":
            return
        codes = self._check_codes(codes)
        if len(codes) < config.num_topics:
            raise ValueError(
                f"there are {len(codes)} images for {config.num_topics} topics to start from, expected as many at least"
            )
        bags = self.code_vectors.bag(codes)
        points = bag_directions(bags)
        points = F.normalize(points - points.mean(dim=0), dim=-1)
        centers, _ = kmeans(points, config.num_topics, generator=generator)
        self.topic_codes.copy_(cluster_topics(bags, nearest_codes(points, centers), len(centers)))
        self.inference.start_at(centers)

    def begin_training(self, num_steps: int) -> None:
        """Let the weight of the divergence rise over the share `kl_warmup` of so many updates."""
        share: Any = self.config.kl_warmup
        self.kl_warmup.begin(round(share * num_steps))

    # Checks

    def _check_codes(self, codes: torch.Tensor) -> torch.Tensor:
        """Codes as int64 `(B, T)`."""
        rows, columns = self.config.grid_size
        shapes = ((rows * columns,), (rows, columns))
        if codes.is_floating_point() or tuple(codes.shape[1:]) not in shapes:
            raise ValueError(
                f"codes are {codes.dtype} of shape {tuple(codes.shape)}, expected integers (images, "
                f"{rows * columns}) or (images, {rows}, {columns})"
            )
        codes = codes.long().flatten(1)
        self._check_range(codes)
        if not torch.compiler.is_compiling() and not self.codebook.any():
            raise ValueError("the codebook is not known yet: call set_codebook first")
        return codes

    def _check_range(self, codes: torch.Tensor) -> None:
        if torch.compiler.is_compiling() or not codes.numel():
            return
        size = self.config.codebook_size
        low, high = codes.aminmax()
        if low < 0 or high >= size:
            raise ValueError(f"codes range from {low} to {high}, expected 0 to {size - 1}")

    def _check_proportions(self, topic_proportions: torch.Tensor, number: int) -> torch.Tensor:
        """Proportions `(B, K)` in float32."""
        expected = (number, self.config.num_topics)
        if tuple(topic_proportions.shape) != expected:
            raise ValueError(
                f"topic_proportions have shape {tuple(topic_proportions.shape)}, expected {expected}"
            )
        proportions = topic_proportions.float()
        if not torch.compiler.is_compiling():
            sums = proportions.sum(dim=1)
            if not (proportions >= 0).all() or not ((sums - 1).abs() < 1e-2).all():
                raise ValueError(
                    f"topic_proportions range from {proportions.min():.3g} and sum to {sums.min():.3g} to "
                    f"{sums.max():.3g}, expected rows of shares that sum to 1"
                )
        return proportions

    def _check_start(
        self,
        codes: torch.Tensor | None,
        topic_proportions: torch.Tensor | str | None,
        num_images: int | None,
    ) -> tuple[torch.Tensor, torch.Tensor | str | None]:
        """First codes `(B, t)`, perhaps none, and proportions, on the model's device."""
        if not self.codebook.any():
            raise ValueError("the codebook is not known yet: call set_codebook first")
        numbers = {
            "num_images": num_images,
            "codes": None if codes is None else len(codes),
            "topic_proportions": (
                len(topic_proportions) if isinstance(topic_proportions, torch.Tensor) else None
            ),
        }
        known = {name: number for name, number in numbers.items() if number is not None}
        if not known or len(set(known.values())) > 1 or min(known.values()) < 1:
            raise ValueError(
                f"generate needs to know how many images, from num_images, topic_proportions or codes; got {known}"
            )
        if codes is None:
            number = next(iter(known.values()))
            codes = torch.empty(number, 0, dtype=torch.int64, device=self.device)
        limit = self.config.num_positions
        if codes.is_floating_point() or codes.ndim != 2 or codes.shape[1] >= limit:
            raise ValueError(
                f"codes to complete are {codes.dtype} of shape {tuple(codes.shape)}, expected integers (images, "
                f"fewer than {limit})"
            )
        codes = codes.long().to(self.device)
        self._check_range(codes)
        if isinstance(topic_proportions, torch.Tensor):
            topic_proportions = self._check_proportions(
                topic_proportions.to(self.device), len(codes)
            )
        return codes, topic_proportions


__all__ = ["TopicVQForImageGeneration", "TopicVQImageOutput", "TopicVQImagePreTrainedModel"]
