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
"""The house rules that no reviewer should have to check by eye."""

import ast
import re
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Callable, Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest

from hf_vq.models import MODELS

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "src" / "hf_vq"

# The import table of docs/architecture.md. The first pattern that matches a file counts. The
# standard library is always allowed; an entry allows the module and what lies inside it; `{name}`
# is the file's name without its first word: modeling_x.py may import configuration_x.py alone.
MATHS = {"hf_vq.models.vector_quantization", "hf_vq.models.gaussian_mixture_quantizer"}
LIBRARIES = {"accelerate", "datasets", "huggingface_hub", "numpy", "PIL", "safetensors", "torch"}
OPERATIONS = {"torch", "hf_vq.code_format", "hf_vq.latent_tables", "hf_vq.text_codec"}
IMPORTS: dict[str, set[str]] = {
    "src/hf_vq/__init__.py": {"hf_vq"},
    "src/hf_vq/_extras.py": set(),
    "src/hf_vq/models/__init__.py": {"transformers", "hf_vq.models"},
    "src/hf_vq/models/vector_quantization.py": {"torch"},
    "src/hf_vq/models/gaussian_mixture_quantizer.py": {"torch", *MATHS},
    "src/hf_vq/models/product_quantizer.py": {"torch", *MATHS},
    "src/hf_vq/models/t5_vqvae_layers.py": {
        "torch",
        "transformers",
        "hf_vq.models.configuration_t5_vqvae",
        "hf_vq.models.product_quantizer",
        *MATHS,
        "hf_vq.models.safe_weights",
        "hf_vq.models.float32_parts",
    },
    "src/hf_vq/models/topic_inference.py": {"torch"},
    "src/hf_vq/models/topic_ranking.py": {"torch"},
    "src/hf_vq/models/word_autoencoder.py": {
        "torch",
        "hf_vq.models.configuration_topic_vq",
        "hf_vq.models.vector_quantization",
    },
    "src/hf_vq/models/topic_vq_layers.py": {
        "torch",
        "transformers",
        "hf_vq.models.configuration_topic_vq",
        "hf_vq.models.word_autoencoder",
        "hf_vq.models.safe_weights",
        "hf_vq.models.float32_parts",
    },
    "src/hf_vq/models/topic_vq_inputs.py": {"torch", "hf_vq.models.configuration_topic_vq"},
    "src/hf_vq/models/topic_vq_outputs.py": {"torch", "transformers"},
    "src/hf_vq/models/topic_vq_state.py": {
        "torch",
        "hf_vq.models.topic_inference",
        "hf_vq.models.topic_vq_inputs",
        "hf_vq.models.topic_vq_layers",
        "hf_vq.models.vector_quantization",
        "hf_vq.models.word_autoencoder",
    },
    "src/hf_vq/models/topic_vq_image_layers.py": {
        "torch",
        "hf_vq.models.configuration_topic_vq_image",
        "hf_vq.models.topic_inference",
    },
    "src/hf_vq/models/topic_vq_image_sampling.py": {
        "torch",
        "transformers",
        "hf_vq.models.topic_vq_image_layers",
        "hf_vq.models.vector_quantization",
    },
    "src/hf_vq/models/modeling_topic_vq_image.py": {
        "torch",
        "transformers",
        "hf_vq.models.configuration_topic_vq_image",
        "hf_vq.models.eval_mode",
        "hf_vq.models.topic_inference",
        "hf_vq.models.topic_vq_image_layers",
        "hf_vq.models.topic_vq_image_sampling",
        "hf_vq.models.topic_vq_layers",
        "hf_vq.models.vector_quantization",
        "hf_vq.models.safe_weights",
        "hf_vq.models.float32_parts",
    },
    "src/hf_vq/models/published_code.py": set(),
    "src/hf_vq/models/safe_weights.py": set(),
    "src/hf_vq/models/float32_parts.py": {"torch"},
    "src/hf_vq/models/eval_mode.py": {"torch"},
    "src/hf_vq/models/configuration_*.py": {
        "transformers",
        "huggingface_hub",
        "hf_vq.models.published_code",
    },
    "src/hf_vq/models/modeling_*.py": {
        "torch",
        "transformers",
        "hf_vq.models.configuration_{name}",
        "hf_vq.models.eval_mode",
        "hf_vq.models.{name}_inputs",
        "hf_vq.models.{name}_layers",
        "hf_vq.models.{name}_outputs",
        "hf_vq.models.{name}_state",
        "hf_vq.models.topic_inference",
        "hf_vq.models.topic_ranking",
        "hf_vq.models.word_autoencoder",
        *MATHS,
        "hf_vq.models.safe_weights",
        "hf_vq.models.float32_parts",
    },
    "src/hf_vq/models/topic_vq_words.py": set(),
    "src/hf_vq/models/processing_topic_vq.py": {
        "numpy",
        "scipy",
        "transformers",
        "hf_vq.models.topic_vq_words",
    },
    "src/hf_vq/models/*processing*.py": {
        "transformers",
        "numpy",
        "PIL",
        "hf_vq.models.published_code",
    },
    "src/hf_vq/data_sources.py": {"datasets", "hf_vq._extras"},
    "src/hf_vq/data.py": {
        "datasets",
        "sklearn",
        "torch",
        "numpy",
        "PIL",
        "hf_vq._extras",
        "hf_vq.data_sources",
    },
    "src/hf_vq/text_tokenizer.py": {"tokenizers", "transformers"},
    "src/hf_vq/symbolic_equivalence.py": {"numpy"},
    "src/hf_vq/math_data.py": {
        "datasets",
        "sympy",
        "hf_vq._extras",
        "hf_vq.symbolic_equivalence",
    },
    "src/hf_vq/text_data.py": {
        "datasets",
        "torch",
        "transformers",
        "hf_vq._extras",
        "hf_vq.data_sources",
        "hf_vq.text_tokenizer",
    },
    "src/hf_vq/training*.py": {
        "accelerate",
        "numpy",
        "torch",
        "transformers",
        "yaml",
        "hf_vq._extras",
        "hf_vq.training_config",
        "hf_vq.training_data",
        "hf_vq.training_setup",
        "hf_vq.training_state",
    },
    "src/hf_vq/image_source.py": {"hf_vq.data", "hf_vq.training_config"},
    "src/hf_vq/text_splits.py": {
        "hf_vq.math_data",
        "hf_vq.text_data",
        "hf_vq.training_config",
    },
    "src/hf_vq/text_evaluation.py": {
        "torch",
        "accelerate",
        "hf_vq._extras",
        "hf_vq.evaluation",
        "hf_vq.metrics",
        "hf_vq.models.eval_mode",
        "hf_vq.text_metrics",
        "hf_vq.text_tokenizer",
    },
    "src/hf_vq/codebook_start.py": {
        "accelerate",
        "torch",
        "hf_vq._extras",
        "hf_vq.models.eval_mode",
    },
    "src/hf_vq/code_pictures.py": {"numpy", "PIL", "torch"},
    "src/hf_vq/metrics.py": {"torch", "numpy"},
    "src/hf_vq/optimal_transport.py": {"numpy"},
    "src/hf_vq/interpolation_smoothness.py": {"numpy", "hf_vq.optimal_transport"},
    "src/hf_vq/role_metrics.py": {"numpy", "sklearn", "hf_vq._extras"},
    "src/hf_vq/text_metrics.py": {
        "numpy",
        "hf_vq.interpolation_smoothness",
        "hf_vq.role_metrics",
        "hf_vq.symbolic_equivalence",
    },
    "src/hf_vq/text_scorers.py": {"torch", "transformers"},
    # evaluate.load copies the file away, so that it imports the installed package
    "src/hf_vq/evaluate_metrics/*.py": {
        "datasets",
        "evaluate",
        "torch",
        "hf_vq.metrics",
        "hf_vq.text_metrics",
    },
    "src/hf_vq/evaluation.py": {
        "torch",
        "accelerate",
        "hf_vq.metrics",
        "hf_vq._extras",
        "hf_vq.models.eval_mode",
    },
    # codes of texts and what is done with them; a checkpoint with a pipeline carries all but the last three
    "src/hf_vq/code_format.py": {"torch"},
    "src/hf_vq/code_space.py": {"torch"},
    "src/hf_vq/text_codec.py": {"torch", "hf_vq.code_format", "hf_vq.code_space"},
    "src/hf_vq/latent_tables.py": {
        "torch",
        "hf_vq._extras",
        "hf_vq.code_format",
        "hf_vq.text_codec",
    },
    "src/hf_vq/latent_mixing.py": OPERATIONS,
    "src/hf_vq/span_operations.py": OPERATIONS,
    "src/hf_vq/code_neighbors.py": OPERATIONS,
    "src/hf_vq/text_pipelines.py": {
        "transformers",
        "hf_vq.code_format",
        "hf_vq.code_neighbors",
        "hf_vq.latent_mixing",
        "hf_vq.span_operations",
        "hf_vq.text_codec",
    },
    "src/hf_vq/latent_operations.py": {
        "hf_vq.code_format",
        "hf_vq.code_neighbors",
        "hf_vq.latent_mixing",
        "hf_vq.latent_tables",
        "hf_vq.span_operations",
        "hf_vq.text_codec",
    },
    "src/hf_vq/latent_plots.py": {
        "matplotlib",
        "numpy",
        "torch",
        "hf_vq._extras",
        "hf_vq.code_format",
        "hf_vq.code_pictures",
        "hf_vq.latent_tables",
        "hf_vq.text_codec",
    },
    "src/hf_vq/code_prior.py": {
        "torch",
        "transformers",
        "hf_vq.code_format",
        "hf_vq.latent_tables",
        "hf_vq.models.eval_mode",
        "hf_vq.text_codec",
        "hf_vq.training",
        "hf_vq.training_config",
    },
    "src/hf_vq/topics/__init__.py": set(),
    "src/hf_vq/topics/growing_arrays.py": {
        "huggingface_hub",
        "numpy",
    },
    "src/hf_vq/topics/encoders.py": {
        "numpy",
        "torch",
        "transformers",
        "hf_vq.models.processing_topic_vq",
    },
    "src/hf_vq/topics/corpus_encoder.py": {
        "numpy",
        "safetensors",
        "scipy",
        "hf_vq._extras",
        "hf_vq.models.processing_topic_vq",
        "hf_vq.topics.encoders",
    },
    "src/hf_vq/topics/word_embeddings.py": {
        "numpy",
        "scipy",
        "torch",
        "transformers",
        "hf_vq._extras",
        "hf_vq.models.processing_topic_vq",
        "hf_vq.topics.corpus_encoder",
        "hf_vq.topics.encoders",
        "hf_vq.topics.growing_arrays",
    },
    "src/hf_vq/topics/streamed_embeddings.py": {
        "numpy",
        "hf_vq.models.processing_topic_vq",
        "hf_vq.topics.encoders",
        "hf_vq.topics.word_embeddings",
    },
    "src/hf_vq/topics/corpus.py": {
        "numpy",
        "scipy",
        "torch",
        "hf_vq._extras",
        "hf_vq.models.eval_mode",
        "hf_vq.topics.encoders",
        "hf_vq.topics.growing_arrays",
    },
    "src/hf_vq/topics/documents.py": {
        "hf_vq.data_sources",
    },
    "src/hf_vq/topics/library_documents.py": {
        "hf_vq.topics.documents",
    },
    "src/hf_vq/topics/coherence.py": {"numpy", "scipy", "hf_vq._extras"},
    "src/hf_vq/topics/metrics.py": {
        "numpy",
        "scipy",
        "sklearn",
        "hf_vq._extras",
        "hf_vq.topics.coherence",
    },
    "src/hf_vq/topics/evaluation.py": {
        "numpy",
        "scipy",
        "hf_vq.role_metrics",
        "hf_vq.topics.coherence",
        "hf_vq.topics.metrics",
    },
    "src/hf_vq/topics/operations.py": {"numpy", "scipy", "hf_vq._extras"},
    "src/hf_vq/topics/scoring.py": {
        "numpy",
        "torch",
        "hf_vq.models.processing_topic_vq",
        "hf_vq.topics.coherence",
        "hf_vq.topics.corpus",
        "hf_vq.topics.documents",
        "hf_vq.topics.evaluation",
        "hf_vq.topics.metrics",
        "hf_vq.topics.reading",
        "hf_vq.topics.training",
        "hf_vq.topics.word_embeddings",
    },
    "src/hf_vq/topics/training_run.py": {
        "accelerate",
        "transformers",
        "hf_vq._extras",
        "hf_vq.training",
        "hf_vq.training_config",
        "hf_vq.training_state",
    },
    "src/hf_vq/topics/training.py": {
        "accelerate",
        "numpy",
        "torch",
        "hf_vq._extras",
        "hf_vq.codebook_start",
        "hf_vq.topics.corpus",
        "hf_vq.topics.training_run",
        "hf_vq.training",
        "hf_vq.training_data",
    },
    "src/hf_vq/topics/tables.py": {"numpy", "hf_vq.latent_tables", "hf_vq.topics.operations"},
    "src/hf_vq/topics/picture_data.py": {
        "numpy",
        "scipy",
        "sklearn",
        "hf_vq._extras",
        "hf_vq.topics.operations",
    },
    "src/hf_vq/topics/plots.py": {
        "matplotlib",
        "hf_vq._extras",
        "hf_vq.latent_tables",
        "hf_vq.topics.operations",
        "hf_vq.topics.picture_data",
    },
    "src/hf_vq/topics/html_plots.py": {
        "plotly",
        "hf_vq._extras",
        "hf_vq.latent_tables",
        "hf_vq.topics.operations",
        "hf_vq.topics.picture_data",
    },
    "src/hf_vq/topics/reading.py": {
        "numpy",
        "scipy",
        "torch",
        "hf_vq.models.processing_topic_vq",
        "hf_vq.models.topic_ranking",
        "hf_vq.topics.corpus",
        "hf_vq.topics.operations",
        "hf_vq.topics.picture_data",
        "hf_vq.topics.training",
    },
    "src/hf_vq/topics/encoder_choice.py": {
        "torch",
        "transformers",
        "hf_vq.models.configuration_topic_vq",
        "hf_vq.models.processing_topic_vq",
        "hf_vq.topics.corpus_encoder",
        "hf_vq.topics.encoders",
    },
    "src/hf_vq/topics/estimator_checks.py": {
        "huggingface_hub",
        "numpy",
        "torch",
        "hf_vq.models.configuration_topic_vq",
        "hf_vq.models.processing_topic_vq",
        "hf_vq.topics.operations",
        "hf_vq.topics.training",
    },
    "src/hf_vq/topics/estimator_operations.py": {
        "numpy",
        "sklearn",
        "torch",
        "hf_vq.latent_tables",
        "hf_vq.topics",
    },
    "src/hf_vq/topics/estimator.py": {
        "numpy",
        "sklearn",
        "transformers",
        "hf_vq._extras",
        "hf_vq.checkpoints",
        "hf_vq.models",
        "hf_vq.topics",
    },
    "src/hf_vq/topic_pipelines.py": {"transformers", "hf_vq.topics.estimator"},
    "src/hf_vq/topics/num_topics_search.py": {
        "numpy",
        "sklearn",
        "hf_vq.latent_tables",
        "hf_vq.models.modeling_topic_vq",
        "hf_vq.topics",
    },
    "src/hf_vq/topic_images/__init__.py": set(),
    # a repository with an image pipeline carries these two
    "src/hf_vq/topic_images/image_tokenizers.py": {"numpy", "PIL", "torch"},
    "src/hf_vq/topic_images/pipeline.py": {
        "diffusers",
        "huggingface_hub",
        "numpy",
        "safetensors",
        "torch",
        "transformers",
        "hf_vq.topic_images.image_tokenizers",
    },
    "src/hf_vq/topic_images/codes.py": {
        "datasets",
        "numpy",
        "torch",
        "transformers",
        "hf_vq._extras",
        "hf_vq.data",
        "hf_vq.topic_images.image_tokenizers",
        "hf_vq.topics.growing_arrays",
    },
    "src/hf_vq/topic_images/loading.py": {
        "diffusers",
        "transformers",
        "hf_vq._extras",
        "hf_vq.hub",
        "hf_vq.models",
        "hf_vq.topic_images.image_tokenizers",
    },
    "src/hf_vq/topic_images/scoring.py": {
        "numpy",
        "torch",
        "hf_vq.models.eval_mode",
        "hf_vq.topic_images.codes",
        "hf_vq.topics.metrics",
    },
    "src/hf_vq/topic_images/pictures.py": {
        "matplotlib",
        "numpy",
        "PIL",
        "torch",
        "hf_vq._extras",
        "hf_vq.code_pictures",
    },
    "src/hf_vq/pipelines.py": {"torch", "transformers", "numpy", "PIL"},
    "src/hf_vq/cards.py": {"huggingface_hub", "jinja2"},
    "src/hf_vq/card_pictures.py": {
        "numpy",
        "PIL",
        "sklearn",
        "torch",
        "hf_vq._extras",
        "hf_vq.code_neighbors",
        "hf_vq.code_pictures",
        "hf_vq.evaluation",
        "hf_vq.latent_plots",
        "hf_vq.publishing",
        "hf_vq.text_codec",
        "hf_vq.topic_images.pictures",
        "hf_vq.topics",
    },
    "src/hf_vq/hub_checks.py": {"huggingface_hub", "safetensors", "hf_vq.cards"},
    "src/hf_vq/single_file.py": set(),
    "src/hf_vq/publishing.py": {
        "huggingface_hub",
        "transformers",
        "yaml",
        "hf_vq._extras",
        "hf_vq.cards",
        "hf_vq.evaluation",
        "hf_vq.hub",
        "hf_vq.hub_checks",
        "hf_vq.models",
        "hf_vq.topic_images.pipeline",
    },
    "src/hf_vq/checkpoints.py": {
        "safetensors",
        "transformers",
        "hf_vq.hub_checks",
        "hf_vq.models",
    },
    "src/hf_vq/hub.py": {
        "huggingface_hub",
        "transformers",
        "hf_vq.cards",
        "hf_vq.checkpoints",
        "hf_vq.hub_checks",
        "hf_vq.models",
        "hf_vq.models.eval_mode",
        "hf_vq.pipelines",
        "hf_vq.single_file",
        "hf_vq.text_pipelines",
        "hf_vq.topic_pipelines",
    },
    "scripts/demo*.py": {"demo_sections", "hf_vq", "transformers", *LIBRARIES},
    "scripts/*.py": {"hf_vq", "transformers", *LIBRARIES},
    "benchmarks/*.py": {
        "hf_vq",
        "transformers",
        *LIBRARIES,
        "matplotlib",
        "peer_quantizers",
        "results",
        "sklearn",
        "t5_vqvae_loop",
        "t5_vqvae_methods",
        "t5_vqvae_peers",
        "t5_vqvae_scores",
        "t5_vqvae_tables",
        "vector_quantize_pytorch",
        "bertopic",
        "fastopic",
        "scipy",
        "sentence_transformers",
        "tomotopy",
        "topic_corpora",
        "topic_ablation_tables",
        "topic_image_cross_modal",
        "topic_image_data",
        "topic_image_methods",
        "topic_image_pixelcnn",
        "topic_image_scores",
        "topic_image_tables",
        "topic_methods",
        "topic_peers",
        "topic_tables",
        "topic_text",
        "topmost",
        "umap",
        "yaml",
    },
}


def python_files(*folders: str) -> list[Path]:
    return [file for folder in folders for file in sorted((ROOT / folder).rglob("*.py"))]


def imported_modules(file: Path) -> Iterator[str]:
    """Yield the absolute name of everything a file imports, also inside functions and branches."""
    inside = file.relative_to(ROOT / "src").parent.parts if file.is_relative_to(PACKAGE) else ()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(inside[: len(inside) - node.level + 1]) if node.level else ""
            if node.module is not None:
                yield f"{base}.{node.module}" if base else node.module
            else:
                yield from (f"{base}.{alias.name}" for alias in node.names)


def allowed_imports(file: Path) -> set[str]:
    path = file.relative_to(ROOT).as_posix()
    for pattern, allowed in IMPORTS.items():
        if fnmatch(path, pattern):
            name = file.stem.partition("_")[2]
            return {entry.format(name=name) for entry in allowed}
    raise AssertionError(f"no row of the import table covers {path}: add one, here and in the docs")


def is_allowed(module: str, allowed: set[str]) -> bool:
    return module.partition(".")[0] in sys.stdlib_module_names or any(
        module == entry or module.startswith(f"{entry}.") for entry in allowed
    )


def identify(file: Path) -> str:
    return file.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("file", python_files("src", "scripts", "benchmarks"), ids=identify)
def test_a_file_imports_only_what_the_table_allows(file: Path) -> None:
    allowed = allowed_imports(file)
    strangers = [module for module in imported_modules(file) if not is_allowed(module, allowed)]
    assert not strangers, f"{identify(file)} must not import {strangers}"


def test_the_table_in_the_docs_is_this_one() -> None:
    lines = (ROOT / "docs" / "architecture.md").read_text().splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("| file | may import"))
    documented = {}
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        cells = line.split("|")
        (pattern,) = re.findall(r"`([^`]+)`", cells[1])
        documented[pattern] = set(re.findall(r"`([^`]+)`", cells[2]))
    assert documented == {name.removeprefix("src/hf_vq/"): row for name, row in IMPORTS.items()}


@pytest.mark.parametrize("file", python_files("src/hf_vq/models"), ids=identify)
def test_models_import_siblings_in_the_one_form_that_travels(file: Path) -> None:
    # A checkpoint with code gets the model's file and each sibling that a regular expression finds.
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            assert not any(alias.name.startswith("hf_vq") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not (node.module or "").startswith("hf_vq"), "write `from .sibling import name`"
            if node.level:
                assert node.level == 1, f"line {node.lineno}: `..` cannot be published"
                assert node.module, f"line {node.lineno}: `from . import x` leaves x.py behind"
                assert "." not in node.module, f"line {node.lineno}: sub-packages stay behind"


@pytest.mark.parametrize("file", python_files("src/hf_vq"), ids=identify)
def test_no_text_looks_like_a_relative_import(file: Path) -> None:
    # The regular expression also reads docstrings; a file that it finds there and not on the disk
    # stops every save of the model.
    tree = ast.parse(file.read_text())
    strings = [n.value for n in ast.walk(tree) if isinstance(n, ast.Constant)]
    for text in strings:
        if isinstance(text, str):
            assert not re.search(r"^\s*(from|import)\s+\.", text, re.MULTILINE), text


@pytest.mark.parametrize(
    "file", python_files("src", "scripts", "benchmarks", "tests"), ids=identify
)
def test_a_file_opens_with_its_license(file: Path) -> None:
    lines = file.read_text().splitlines()
    # transformers' tests read the year behind "Copyright" and silently skip a file without it; the
    # scripts' PEP 723 block comes after the license.
    assert lines[0] == "# Copyright 2026 The hf_vq Authors. All rights reserved."
    assert lines[2] == '# Licensed under the Apache License, Version 2.0 (the "License");'
    assert lines[12] == "# limitations under the License."


@pytest.mark.parametrize("file", python_files("src"), ids=identify)
def test_annotations_are_objects(file: Path) -> None:
    # Annotations from the future turn `config: XConfig` into a string, which AutoModel rejects.
    assert "__future__" not in list(imported_modules(file))


def model_types() -> list[Any]:
    return [
        pytest.param(config.model_type, model.__name__, id=f"{config.model_type}-{model.__name__}")
        for config, model, _ in MODELS
    ]


@pytest.mark.parametrize(("model_type", "model_name"), model_types())
def test_a_model_comes_with_everything(
    model_type: str, model_name: str, tiny_config: Callable[..., Any]
) -> None:
    assert (ROOT / "scripts" / f"train_{model_type}.py").is_file()
    assert (ROOT / "tests" / "models" / f"test_modeling_{model_type}.py").is_file()
    recipes = [file.stem.replace("-", "_") for file in (ROOT / "scripts" / "configs").iterdir()]
    assert any(recipe.startswith(model_type) for recipe in recipes), "no recipe"
    cards = (ROOT / "model_cards").glob("*.md")
    assert any(model_name in card.read_text() for card in cards), "no card names the model"
    assert tiny_config(model_type).model_type == model_type


def test_the_wheel_contains_the_package_and_nothing_else(tmp_path: Path) -> None:
    pytest.importorskip("hatchling", reason="hatchling builds the wheel: pip install -e '.[dev]'")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as wheel:
        names = {name for name in wheel.namelist() if ".dist-info/" not in name}
    expected = {
        file.relative_to(ROOT / "src").as_posix()
        for file in PACKAGE.rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    }
    assert names == expected
    assert "hf_vq/py.typed" in names
    assert {f"hf_vq/accelerate_configs/{name}.yaml" for name in ("ddp", "fsdp2")} <= names


def tracked_files() -> list[Path]:
    result = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False)
    if result.returncode:
        pytest.skip("not a git checkout")
    names = [ROOT / name for name in result.stdout.decode().split("\0") if name]
    return [file for file in names if file.is_file()]


def test_no_tracked_file_is_large() -> None:
    large = [identify(file) for file in tracked_files() if file.stat().st_size > 1024**2]
    assert not large, f"more than 1 MiB: {large}"


@pytest.mark.parametrize("file", sorted([*ROOT.glob("*.md"), *ROOT.glob("*/*.md")]), ids=identify)
def test_relative_links_lead_somewhere(file: Path) -> None:
    text = re.sub(r"```.*?```", "", file.read_text(), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        path = target.partition("#")[0]
        if path and "://" not in path and not path.startswith("mailto:"):
            assert (file.parent / path).exists(), f"{identify(file)} links to missing {target}"


def test_every_extra_that_the_code_names_exists() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ]
    for file in python_files("src", "scripts", "benchmarks"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "require":
                named = [k.value.value for k in node.keywords if isinstance(k.value, ast.Constant)]
                assert set(named) <= set(extras), f"{identify(file)} names {named}"


def test_the_readme_shows_every_file() -> None:
    tree = (ROOT / "README.md").read_text().partition("## What is where")[2]
    files = python_files("src", "scripts") + sorted((ROOT / "docs").glob("*.md"))
    folders = {"evaluate_metrics"}  # shown as one line
    for file in files:
        if file.parent.parent.name not in folders:
            assert file.name in tree, f"the tree in README.md lacks {identify(file)}"
