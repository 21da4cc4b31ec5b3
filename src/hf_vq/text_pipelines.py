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
"""The transformers pipelines of texts and their codes.

A checkpoint on the Hub can carry a copy of this file and of the files beside it that it imports.
"""

from typing import Any

from transformers import AutoModelForSeq2SeqLM, Pipeline
from transformers.pipelines import PIPELINE_REGISTRY

from .code_format import format_codes
from .code_neighbors import traverse
from .latent_mixing import arithmetic, interpolate
from .span_operations import conjoin, specify, substitute
from .text_codec import TextCodec

TEXT_TASKS = ("text-reconstruction", "text-interpolation", "text-traversal", "text-editing")
SPAN_EDITS: dict[str, Any] = {"substitute": substitute, "specify": specify, "conjoin": conjoin}
ARITHMETIC = ("sum", "mean", "difference", "analogy")


class TextCodesPipeline(Pipeline):
    """Texts to codes and back, paths between texts, neighbors of a word, edits; one class with four tasks.

    | task | input | result |
    |---|---|---|
    | `"text-reconstruction"` | a text, or `{"codes": ...}` to decode | `{"text", "codes", "reconstruction"}` |
    | `"text-interpolation"` | `{"source", "target"}` | the rows of the path |
    | `"text-traversal"` | `{"text", "at"}` | a row for each code tried |
    | `"text-editing"` | `{"operation", ...}` | one row |

    The operations of `"text-editing"` are `"substitute"`, `"specify"` and `"conjoin"`, with the arguments of
    the functions of these names in `hf_vq.latent_operations`, and `"sum"`, `"mean"`, `"difference"` and
    `"analogy"` with a list of `operands`. Further arguments, such as `method` of an interpolation, stand in the
    dictionary of an input or, for all inputs, in the call. Codes come out as strings and can be put in again,
    as strings, lists, arrays or tensors.

    Use it as `pipeline("text-reconstruction", model=folder_or_hub_id)`. The model is put into eval mode.
    """

    model: Any
    tokenizer: Any

    _load_processor = False
    _load_image_processor = False
    _load_video_processor = False
    _load_feature_extractor = False
    _load_tokenizer = True

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        if self.tokenizer is None:
            raise ValueError(f"{type(self).__name__} needs a tokenizer")
        if self.task not in TEXT_TASKS:
            raise ValueError(f"task is {self.task!r}, expected one of {TEXT_TASKS}")
        self.model.eval()

    def __call__(self, inputs: Any, **kwargs: Any) -> Any:
        """Handles one input or many.

        Args:
            inputs: One input as the table of the class says, a list of them, a generator or a data set.
            kwargs: `batch_size`, `num_workers`, `generate_kwargs` (options of `generate`, greedy search by
                default), and arguments of the operation.

        Returns:
            The result that the table says, a list of them for a list, an iterator for a generator or a data set.
        """
        if isinstance(inputs, list) and not inputs:
            return []
        return super().__call__(inputs, **kwargs)

    def _sanitize_parameters(
        self, generate_kwargs: dict | None = None, **options: Any
    ) -> tuple[dict, dict, dict]:
        preprocess = {"options": options} if options else {}
        return (
            preprocess,
            {} if generate_kwargs is None else {"generate_kwargs": generate_kwargs},
            {},
        )

    def preprocess(self, input_: Any, options: dict | None = None) -> dict[str, Any]:
        """Makes one input a dictionary of arguments, in a tuple that batching leaves alone."""
        options = options or {}
        if self.task == "text-reconstruction":
            if options:
                raise TypeError(f"{self.task} takes no argument {sorted(options)[0]!r}")
            if isinstance(input_, dict) and "codes" not in input_:
                raise ValueError(
                    f'a dictionary to decode needs the key "codes", got {sorted(input_)}'
                )
        elif not isinstance(input_, dict):
            raise ValueError(f"{self.task} takes a dictionary of arguments, got {input_!r}")
        else:
            input_ = options | input_
        return {"input": (input_,)}

    def _forward(
        self, model_inputs: dict[str, Any], generate_kwargs: dict | None = None
    ) -> dict[str, Any]:
        codec = TextCodec(self.model, self.tokenizer, **(generate_kwargs or {}))
        batched = isinstance(model_inputs["input"], list)
        inputs = [
            input_ for (input_,) in (model_inputs["input"] if batched else [model_inputs["input"]])
        ]
        tasks: dict[str, Any] = {
            "text-reconstruction": _reconstruct,
            "text-interpolation": lambda c, xs: [interpolate(c, **x).records for x in xs],
            "text-traversal": lambda c, xs: [traverse(c, **x).records for x in xs],
            "text-editing": lambda c, xs: [_edit(c, **x) for x in xs],
        }
        outputs = tasks[self.task](codec, inputs)
        return {"output": outputs if batched else outputs[0]}

    def postprocess(self, model_outputs: dict[str, Any]) -> Any:
        """Gives the result as it is."""
        return model_outputs["output"]


def _reconstruct(codec: TextCodec, inputs: list[Any]) -> list[dict[str, Any]]:
    codes = [input_["codes"] if isinstance(input_, dict) else None for input_ in inputs]
    texts = [input_ for input_ in inputs if not isinstance(input_, dict)]
    read = iter(codec.read(texts)) if texts else iter(())
    rows = [next(read).codes if row is None else codec.codes(row) for row in codes]
    return [
        {
            "text": None if isinstance(input_, dict) else input_,
            "codes": format_codes(row),
            "reconstruction": reconstruction,
        }
        for input_, row, reconstruction in zip(inputs, rows, codec.decode(rows), strict=True)
    ]


def _edit(codec: TextCodec, operation: str | None = None, **arguments: Any) -> dict[str, Any]:
    if operation in SPAN_EDITS:
        return _only_row(SPAN_EDITS[operation](codec, **arguments).records)
    if operation not in ARITHMETIC:
        raise ValueError(
            f"operation is {operation!r}, expected one of {[*SPAN_EDITS, *ARITHMETIC]}"
        )
    if set(arguments) != {"operands"}:
        raise ValueError(f'{operation!r} takes "operands" alone, got {sorted(arguments)}')
    operands = arguments["operands"]
    if isinstance(operands, str):
        raise ValueError(f'"operands" is {operands!r}, expected a list of texts or codes')
    return _only_row(arithmetic(codec, operation, *operands).records)


def _only_row(rows: list[dict[str, Any]]) -> dict[str, Any]:
    if len(rows) != 1:
        raise ValueError(f"an input holds {len(rows)} edits, expected one: give a list of inputs")
    return rows[0]


def register_text_pipelines() -> None:
    """Makes the tasks of `TextCodesPipeline` known to transformers. Calling it twice is fine.

    Raises:
        ValueError: If a task belongs to another class, since overwriting it would break that class's users.
    """
    for task in TEXT_TASKS:
        registered = PIPELINE_REGISTRY.supported_tasks.get(task)
        if registered is None:
            PIPELINE_REGISTRY.register_pipeline(
                task, pipeline_class=TextCodesPipeline, pt_model=AutoModelForSeq2SeqLM, type="text"
            )
        elif registered["impl"] is not TextCodesPipeline:
            raise ValueError(f"the task {task!r} is already registered for {registered['impl']}")
    # Each registration replaces what `save_pretrained` writes into a checkpoint: all tasks belong there.
    TextCodesPipeline._registered_impl = {
        task: PIPELINE_REGISTRY.supported_tasks[task] for task in TEXT_TASKS
    }


__all__ = ["TextCodesPipeline", "register_text_pipelines"]
