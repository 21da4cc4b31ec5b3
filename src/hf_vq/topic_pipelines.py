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
# mypy: disable-error-code="assignment, attr-defined, override"
# (transformers declares its flags as None, and its hooks with narrower types than it passes)
"""The transformers pipeline of topics: documents to their topics, with words and weights."""

from pathlib import Path
from typing import Any

from transformers import AutoModel, Pipeline
from transformers.pipelines import PIPELINE_REGISTRY

TOPIC_TASK = "topic-modeling"


class TopicModelingPipeline(Pipeline):
    """Finds the topics of documents.

    ```python
    topics = pipeline("topic-modeling", model=folder_or_hub_id)
    topics("the shuttle reached its orbit", top_k=2)
    # {"topics": [{"topic": 4, "label": "space, nasa, orbit", "score": 0.71, "words": [...]}, ...], "num_words": 3}
    ```

    A document of any length is read whole. One without any word (`num_words` is 0) gets the proportions of the prior,
    which documents have before they are read. The model is put into eval mode. The extra `topics` of hf_vq finds words
    and encodes them, so that a repository on the Hub with this pipeline asks its users for hf_vq.

    Args:
        encoder: Where the encoder of the model is, if it has moved, or itself. Another one is refused.
        args: As in every pipeline.
        kwargs: As in every pipeline.
    """

    model: Any
    processor: Any

    _load_processor = True
    _load_image_processor = False
    _load_video_processor = False
    _load_feature_extractor = False
    _load_tokenizer = False

    def __init__(self, *args: Any, encoder: Any = None, **kwargs: Any):
        super().__init__(*args, **kwargs)
        if self.processor is None:
            raise ValueError(f"{type(self).__name__} needs a processor")
        # transformers makes batches only with something that could pad; here nothing is padded.
        self.feature_extractor = self.processor
        # Here, since `import hf_vq` works without the extra.
        from hf_vq.topics.estimator import TopicVQ

        self.estimator = TopicVQ.from_parts(self.model, self.processor, encoder=encoder)
        self.estimator.set_params(progress_bar=False)

    def __call__(self, inputs: Any, **kwargs: Any) -> Any:
        """Handles one document or many.

        Args:
            inputs: A text, a list of them, a generator or a data set.
            kwargs: `top_k`, how many topics of each document (5; `None` for all), `top_n`, how many words of each topic
                (10), `batch_size`, `num_workers`.

        Returns:
            A dictionary with `topics`, the largest first, and `num_words`, how many words of the document were read; a
            list of them for a list, an iterator for a generator or a data set.
        """
        if isinstance(inputs, list) and not inputs:
            return []
        return super().__call__(inputs, **kwargs)

    def save_pretrained(self, save_directory: str | Path, **kwargs: Any) -> None:
        """Saves model, processor, this pipeline, and the encoder if it was made from the corpus."""
        super().save_pretrained(save_directory, **kwargs)
        self.estimator.save_options(save_directory)

    def _sanitize_parameters(self, **options: Any) -> tuple[dict, dict, dict]:
        for name in options:
            if name not in ("top_k", "top_n"):
                raise TypeError(f"{self.task} takes no argument {name!r}")
        for name, value in options.items():
            if value is None and name == "top_k":
                continue
            if not isinstance(value, int) or value < 1:
                raise ValueError(f"{name} is {value!r}, expected a number of at least 1")
        return {}, {}, options

    def preprocess(self, input_: Any) -> dict[str, Any]:
        """Puts a document into a tuple that batching leaves alone."""
        if not isinstance(input_, str):
            raise ValueError(
                f"a document must be text, got {input_!r} of type {type(input_).__name__}"
            )
        return {"text": (input_,)}

    def _forward(self, model_inputs: dict[str, Any]) -> dict[str, Any]:
        batched = isinstance(model_inputs["text"], list)
        texts = [text for (text,) in (model_inputs["text"] if batched else [model_inputs["text"]])]
        placed = self.estimator.place(texts)
        rows = list(zip(placed.topic_proportions.tolist(), placed.num_words.tolist(), strict=True))
        return {"row": rows if batched else rows[0]}

    def postprocess(
        self, model_outputs: dict[str, Any], top_k: int | None = 5, top_n: int = 10
    ) -> dict[str, Any]:
        """Names the largest topics."""
        proportions, num_words = model_outputs["row"]
        topics = self.estimator.topics_
        order = sorted(range(len(proportions)), key=lambda topic: -proportions[topic])
        return {
            "topics": [
                {
                    "topic": topic,
                    "label": topics.labels[topic],
                    "score": proportions[topic],
                    "words": topics.top_words(topic, top_n),
                }
                for topic in order[:top_k]
            ],
            "num_words": num_words,
        }


def register_topic_pipelines() -> None:
    """Makes `"topic-modeling"` known to transformers. Calling it twice is fine.

    Raises:
        ValueError: If the task belongs to another class, since overwriting it would break that class's users.
    """
    registered = PIPELINE_REGISTRY.supported_tasks.get(TOPIC_TASK)
    if registered is None:
        PIPELINE_REGISTRY.register_pipeline(
            TOPIC_TASK, pipeline_class=TopicModelingPipeline, pt_model=AutoModel, type="text"
        )
    elif registered["impl"] is not TopicModelingPipeline:
        raise ValueError(f"the task {TOPIC_TASK!r} is already registered for {registered['impl']}")


__all__ = ["TopicModelingPipeline", "register_topic_pipelines"]
