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
"""Model cards: templates filled from evaluation records, and the test that a card must pass before it is published."""

import ast
import json
import re
from collections.abc import Iterator, Mapping
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, EvalResultEntry, ModelCard, ModelCardData
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id
from jinja2 import Environment, StrictUndefined
from jinja2.exceptions import TemplateError
from jinja2.ext import Extension

TEMPLATE = Path(__file__).with_name("model_card.md")
SECTIONS = ("Use", "Results", "Training", "Limits", "Citation")
# The Hub takes no other word for a licence.
LICENSES = """
afl-3.0 agpl-3.0 apache-2.0 apple-amlr apple-ascl artistic-2.0 bigcode-openrail-m bigscience-bloom-rail-1.0
bigscience-openrail-m bsd bsd-2-clause bsd-3-clause bsd-3-clause-clear bsl-1.0 c-uda cc cc-by-2.0 cc-by-2.5 cc-by-3.0
cc-by-4.0 cc-by-nc-2.0 cc-by-nc-3.0 cc-by-nc-4.0 cc-by-nc-nd-3.0 cc-by-nc-nd-4.0 cc-by-nc-sa-2.0 cc-by-nc-sa-3.0
cc-by-nc-sa-4.0 cc-by-nd-4.0 cc-by-sa-3.0 cc-by-sa-4.0 cc0-1.0 cdla-permissive-1.0 cdla-permissive-2.0
cdla-sharing-1.0 creativeml-openrail-m deepfloyd-if-license ecl-2.0 epl-1.0 epl-2.0 etalab-2.0 eupl-1.1 eupl-1.2
fair-noncommercial-research-license gemma gfdl gpl gpl-2.0 gpl-3.0 grok2-community h-research intel-research isc lgpl
lgpl-2.1 lgpl-3.0 lgpl-lr llama2 llama3 llama3.1 llama3.2 llama3.3 llama4 lppl-1.3c mit mpl-2.0 ms-pl ncsa odbl odc-by
ofl-1.1 openmdw-1.0 openrail openrail++ osl-3.0 other pddl postgresql unknown unlicense wtfpl zlib
""".split()
# What a record counts rather than measures; a result page has no use for it.
_COUNTS = re.compile(r"num_\w+|\w+_per_second|batch_size|temperature")


def _yaml_scalar(value: Any) -> Any:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else value


def _code(value: Any) -> Any:
    """Nothing in a fenced block ends it but its fence."""
    return _printable(value).replace("```", "'''") if isinstance(value, str) else value


def _prose(value: Any) -> Any:
    """Text that stays text: no HTML, link, placeholder, further column or line of a table, or end of inline code."""
    if not isinstance(value, str):
        return value
    text = " ".join(_printable(value).split())
    for special, harmless in (("<", "&lt;"), ("|", "\\|"), ("`", "'"), ("](", "]\\(")):
        text = text.replace(special, harmless)
    return re.sub(r"\{(?=[{%])", r"{\\", text)


def _printable(text: str) -> str:
    return "".join(c for c in text if c.isprintable() or c in "\n\t")


class _EscapeByPlace(Extension):
    """Escapes each `{{ value }}` for where it stands: metadata, a fenced block, or the text.

    Records hold what users typed: names of data sets, command lines, recipes.
    """

    def preprocess(self, source: str, name: str | None, filename: str | None = None) -> str:
        place, lines = "prose", []
        for number, line in enumerate(source.splitlines(keepends=True)):
            if line.rstrip() == "---" and (number == 0 or place == "yaml_scalar"):
                place = "yaml_scalar" if number == 0 else "prose"
            elif line.startswith("```"):
                place = "prose" if place == "code" else "code"
            if "safe_yaml" not in line:
                line = re.sub(r"\{\{(-?)(.*?)(-?)\}\}", rf"{{{{\1 (\2) | {place} \3}}}}", line)
            lines.append(line)
        return "".join(lines)


def render_card(template: str | Path, record: Mapping[str, Any] | str | Path, **fields: Any) -> str:
    """Fills a card's `{{ placeholders }}`, so that its numbers cannot differ from the evaluation record.

    What is filled in stays what it is, whatever it says: it cannot become metadata, HTML, a link or code.

    Args:
        template: The card's file, in Jinja's syntax.
        record: The evaluation record or its JSON file; its top-level keys are the variables of the template.
        fields: Further variables, for example `repo_id`.

    Returns:
        The card's text.

    Raises:
        ValueError: If there is no such template, or it asks for a figure that the record lacks.
    """
    variables: dict[str, Any] = (
        dict(record)
        if isinstance(record, Mapping)
        else json.loads(Path(record).read_text(encoding="utf-8"))
    )
    environment = Environment(
        undefined=StrictUndefined,
        keep_trailing_newline=True,
        autoescape=False,
        extensions=[_EscapeByPlace],
    )
    environment.filters |= {"yaml_scalar": _yaml_scalar, "code": _code, "prose": _prose}
    environment.filters["safe_yaml"] = str.strip  # what `describe_model` wrote
    try:
        source = Path(template).read_text(encoding="utf-8")
        return environment.from_string(source).render(variables | fields)
    except (OSError, UnicodeDecodeError, TemplateError) as error:
        raise ValueError(f"cannot fill {template}: {error}") from error


def describe_model(
    record: Mapping[str, Any],
    *,
    model_name: str,
    model_type: str,
    license: str | None,
    library_name: str,
    task: str,
    pipeline_tag: str,
    tags: list[str],
) -> str:
    """Metadata of a card as YAML, with every figure of the record as a result.

    Args:
        record: The evaluation record.
        model_name: Name of the checkpoint.
        model_type: Of its configuration.
        license: Licence of the weights, which only their owner can tell.
        library_name: What loads it: `"transformers"` or `"diffusers"`.
        task: What was measured, for example `"image-reconstruction"`.
        pipeline_tag: The Hub's word for the task.
        tags: Further words to find it by.

    Returns:
        The YAML, without the lines around it.

    Raises:
        ValueError: If the Hub does not know the licence.
    """
    if license is not None:
        _check_license(license)
    data = record["data"]
    figures = _figures(record)
    results = [
        EvalResult(
            task_type=task,
            dataset_type=data["name"],
            dataset_name=data["name"],
            dataset_split=data["split"],
            metric_type=name,
            metric_name=record["definitions"][name],
            metric_value=value,
        )
        for name, value in figures.items()
    ]
    return ModelCardData(
        license=license,
        library_name=library_name,
        pipeline_tag=pipeline_tag,
        tags=["vector-quantization", *tags, model_type, "hf_vq"],
        datasets=[data["name"]] if _is_on_the_hub(data["name"]) else None,
        metrics=list(figures),
        model_name=model_name,
        eval_results=results or None,
    ).to_yaml()


def _check_license(license: Any) -> None:
    for each in license if isinstance(license, list) else [license]:
        if each not in LICENSES:
            raise ValueError(
                f"the Hub knows no licence {each!r}, expected one of {', '.join(LICENSES)}; for another one, 'other'"
            )


def eval_result_entries(card: str, record: Mapping[str, Any]) -> list[EvalResultEntry]:
    """The results of a card in the form of the Hub's `.eval_results/*.yaml`.

    Args:
        card: The card, which says what the data set is called on the Hub; a record may name a local copy of it.
        record: The evaluation record, which says when, and what the figures mean.

    Returns:
        An entry for each figure; none for data that is not on the Hub.

    Raises:
        ValueError: If the metadata of the card cannot be read.
    """
    data = record["data"]
    commit = data["revision"] if re.fullmatch(r"[0-9a-f]{40}", data["revision"]) else None
    return [
        EvalResultEntry(
            dataset_id=result.dataset_type,
            task_id=result.metric_type,
            value=result.metric_value,
            dataset_revision=commit,
            date=record["date"],
            notes=f"split {data['split']}"
            + ("" if commit else f", data {data['revision']}")
            + f": {record['definitions'][result.metric_type]}",
        )
        for result in _metadata(card).eval_results or []
        if _is_on_the_hub(result.dataset_type) and result.metric_type in record["definitions"]
    ]


def _metadata(card: str) -> ModelCardData:
    try:
        data: Any = ModelCard(card).data
    except Exception as error:  # whatever a YAML parser may raise about a user's text
        raise ValueError(f"the metadata of the card cannot be read: {error}") from error
    return data


def _is_on_the_hub(dataset: str) -> bool:
    """Whether the name of a data set is a Hub id rather than a local folder or a word like `generated`."""
    try:
        validate_repo_id(dataset)
    except HFValidationError:
        return False
    return "/" in dataset and not Path(dataset).exists()


def _figures(record: Mapping[str, Any]) -> dict[str, float]:
    return {
        name: value
        for name, value in record["metrics"].items()
        if value is not None and not _COUNTS.fullmatch(name)
    }


def check_card(
    text: str, record: Mapping[str, Any] | None = None, repo_id: str | None = None
) -> list[str]:
    """What keeps a card from being published.

    Args:
        text: The card, metadata included.
        record: The evaluation record that its figures must equal.
        repo_id: The repository that its snippets must load.

    Returns:
        The problems; none for a good card.
    """
    try:
        metadata = _metadata(text).to_dict()
    except ValueError as error:
        return [str(error)]
    problems = [
        f"the card states no {key}"
        for key in ("license", "library_name", "pipeline_tag")
        if not metadata.get(key)
    ]
    try:
        _check_license(metadata.get("license") or [])
    except ValueError as error:
        problems.append(str(error))
    # A value in the metadata may hold anything.
    body = re.sub(r"\A---\n.*?\n---\n", "\n", text, flags=re.DOTALL)
    outside = re.sub(r"```.*?```|`[^`]*`", "", body, flags=re.DOTALL)
    problems += [
        f"the card has no section {name!r}" for name in SECTIONS if f"\n## {name}\n" not in outside
    ]
    if re.search(r"\{\{|\{%", outside):
        problems.append("the card holds a placeholder that was not filled")
    return (
        problems
        + list(_check_snippets(text, repo_id))
        + list(_check_figures(text, metadata, record))
    )


def _check_snippets(text: str, repo_id: str | None) -> Iterator[str]:
    snippets = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    if len(snippets) < 2:
        yield f"the card has {len(snippets)} snippets in Python, expected at least 2"
    for snippet in snippets:
        try:
            ast.parse(snippet)
        except SyntaxError as error:
            yield f"a snippet of the card is no Python: {error}"
    if repo_id is not None and snippets and not any(f'"{repo_id}"' in each for each in snippets):
        yield f"no snippet of the card loads {repo_id}"


def _check_figures(
    text: str, metadata: Mapping[str, Any], record: Mapping[str, Any] | None
) -> Iterator[str]:
    results = [r for model in metadata.get("model-index") or [] for r in model["results"]]
    metrics = {} if record is None else record["metrics"]
    if not results:
        yield "the card has no results (model-index)"
    elif record is None:
        yield "the card has results, but there is no evaluation record beside it"
    else:
        for metric in (metric for result in results for metric in result["metrics"]):
            name, value = metric["type"], metric["value"]
            if name not in metrics:
                yield f"{name} is in the card, but not in the evaluation record"
            elif value != metrics[name]:
                yield f"{name} is {value} in the card, but {metrics[name]} in the evaluation record"
        for name, shown in re.findall(r"^\| (\w+) \| (\S+) \|", text, re.MULTILINE):
            if name in metrics and not _is_rounded(shown, metrics[name]):
                yield f"{name} is {shown} in the card, but {metrics[name]} in the evaluation record"


def _is_rounded(shown: str, value: float | None) -> bool:
    """Whether a printed figure is the value, to the digits that it has."""
    if value is None:
        return shown in ("-", "None")
    try:
        printed = Decimal(shown)
    except InvalidOperation:
        return False
    if not printed.is_finite():
        return False
    unit = Decimal(10) ** int(printed.as_tuple().exponent)
    return abs(printed - Decimal(value)) <= unit / 2


__all__ = [
    "TEMPLATE",
    "check_card",
    "describe_model",
    "eval_result_entries",
    "render_card",
]
