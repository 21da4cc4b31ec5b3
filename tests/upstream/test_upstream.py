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
"""transformers' own test mixins, run on our models.

The mixins are not part of the transformers wheel, so they are taken from the source distribution of
the installed version when the tests run: they always match the installed release, and nothing of
them is in this repository. What is ours: this file, and the tester classes in `suites/`. A suite
runs in its own pytest process, so that its markers, warnings and settings stay away from ours. This
file then checks that enough tests passed and that no test was skipped for an unforeseen reason.

Environment variables:
    HF_VQ_UPSTREAM_SDIST: a source distribution that is already on the disk.
    HF_VQ_REQUIRE_UPSTREAM: set to 1 to turn "cannot be fetched" from a skip into an error.
"""

import os
import re
import subprocess
import sys
import tarfile
from pathlib import Path
from xml.etree import ElementTree

import pytest
import transformers
from filelock import FileLock

ROOT = Path(__file__).resolve().parents[2]
SUITES = Path(__file__).resolve().parent / "suites"
CACHE = ROOT / ".upstream-cache"
FETCH_SECONDS = 240

MIXIN_FILES = (
    "test_modeling_common.py",
    "test_configuration_common.py",
    "test_image_processing_common.py",
)

# The mixins import four names from files that the source distribution lacks. These are ours.
STUBS = {
    "hf_common_tests/__init__.py": "",
    "hf_common_tests/exporters/__init__.py": "",
    "hf_common_tests/exporters/test_export.py": (
        "class ExportTesterMixin: pass\nclass ExportGenerateTesterMixin: pass\n"
    ),
    "hf_common_tests/generation/__init__.py": "",
    "hf_common_tests/generation/test_utils.py": "class GenerationTesterMixin: pass\n",
    "hf_common_tests/utils/__init__.py": "",
    # One value that differs from the default for each option that every configuration has.
    "hf_common_tests/utils/test_configuration_utils.py": (
        "config_common_kwargs = {\n"
        "    'return_dict': False, 'output_hidden_states': True, 'output_attentions': True,\n"
        "    'dtype': 'float16', 'chunk_size_feed_forward': 5, 'architectures': ['OurModel'],\n"
        "    'id2label': {0: 'label'}, 'label2id': {'label': 0}, 'problem_type': 'regression',\n"
        "}\n"
    ),
    # The original replaces addresses by cached files; our suites never download an image.
    "utils/fetch_hub_objects_for_ci.py": "def url_to_local_path(url):\n    return url\n",
}

# Why a mixin test may be skipped. A reason that no pattern matches fails the suite, so that a test
# cannot vanish unnoticed; a trap met in practice is a missing copyright year, which skips silently.
ALLOWED_SKIPS = (
    # each override in suites/ says why, beside it
    r"^ours: ",
    # hardware and libraries that a CPU runner lacks
    r"^test requires (multiple )?accelerators?$",
    r"^test requires (CUDA|MPS|deepspeed|the kernels library|Flash Attention( \d)?)$",
    r"^test is slow$",
    # GMVQModel is convolutional: no attention, tokens, embeddings, experts, sub-configurations
    r"^Model (architecture )?does not (support|output) (attentions|output_attentions)$",
    r"^Parts of this model don't support sdpa$",
    r"^No (decoder-only|sequence-to-sequence) language modeling head to check$",
    r"^Model does not have position embeddings$",
    r"^test_resize_embeddings is set to `False`$",
    r"^This model doesn't use `inputs_embeds`$",
    r"^\w+ does not support (batched_mm|grouped_mm|deepgemm|sonicmoe)$",
    r"^This model has no (sparse experts|`output_router_logits` in its config)\.$",
    r"^(This model is not composite|No subconfigs so the test does not make sense)$",
    r"^Model is not a composite model\.$",
    # T5 names its hidden states for encoder and decoder, and has no sliding windows
    r"^\w+ does not propagate hidden states correctly or uses another name$",
    r"^\w+ does not support SDPA$",  # upstream's words for: is not composed of several models
    r"^Model does not support sliding window mask$",
    # there is no AutoModel for it, only AutoModelForSeq2SeqLM
    r"^T5VQVAEConfig not in MODEL_MAPPING$",
    # one class is all there is: no base model under a head, no parallel plan, no renamed weights
    r"^This model has no `base_model_class` defined in tester\.$",
    r"^Model does not have a TP plan\.$",
    r"^No conversion found for <class ",
    # it looks at the gradient of the embedding table; checkpointing itself has four tests that run
    r"^No model with a differentiable loss was available to verify enable_input_require_grads",
    # TopicVQModel has no hidden states to capture
    r"^Cannot capture hidden states, or cannot correctly set layer indices",
    r"^No usage of the `capture_outputs` decorator\.$",
    # the image processor has one backend and neither mean nor validation of its own
    r"as there are less than 2 backends$",
    r"^Skipping test as torchvision backend is not available$",
    r"^Skipping test as the image processor does not have dict size or list image_mean attributes$",
    r"^No validation found for `preprocess` method$",
)


def fetch_sdist(version: str) -> Path:
    """Return the source distribution of a transformers version, downloading it once."""
    if "HF_VQ_UPSTREAM_SDIST" in os.environ:
        return Path(os.environ["HF_VQ_UPSTREAM_SDIST"])
    archive = CACHE / f"transformers-{version}.tar.gz"
    if not archive.exists():
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--quiet"]
        command += ["--no-binary", "transformers", "--dest", str(CACHE), f"transformers=={version}"]
        subprocess.run(command, check=True, capture_output=True, timeout=FETCH_SECONDS)
    return archive


def unpack(archive: Path, folder: Path) -> None:
    """Put the mixins and the stubs below `folder`, under a name that shadows nothing."""
    for name, text in STUBS.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    with tarfile.open(archive) as tar:
        for member in tar.getmembers():
            top, _, name = member.name.partition("/tests/")
            if name in MIXIN_FILES and "/" not in top:
                file = tar.extractfile(member)
                assert file is not None, f"{member.name} is not a file"
                (folder / "hf_common_tests" / name).write_bytes(file.read())
    missing = [name for name in MIXIN_FILES if not (folder / "hf_common_tests" / name).exists()]
    assert not missing, f"{archive.name} lacks tests/{', tests/'.join(missing)}"


@pytest.fixture(scope="module")
def mixins() -> Path:
    """The folder to put on the path so that a suite can import the mixins."""
    version = transformers.__version__
    folder = CACHE / version
    CACHE.mkdir(exist_ok=True)
    with FileLock(CACHE / "lock"):  # the suites run in parallel and share the download
        try:
            if not (folder / "complete").exists():
                unpack(fetch_sdist(version), folder)
                (folder / "complete").touch()
        except (OSError, subprocess.SubprocessError) as error:
            detail = getattr(error, "stderr", None) or str(error)
            detail = detail.decode() if isinstance(detail, bytes) else detail
            message = (
                f"the sdist of transformers {version} cannot be reached, "
                f"its mixins were not run: {detail.strip()[-300:]}"
            )
            if os.environ.get("HF_VQ_REQUIRE_UPSTREAM") == "1":
                raise RuntimeError(message) from error
            pytest.skip(message)
    return folder


@pytest.mark.parametrize(
    ("suite", "least_passed"),
    [
        # what passes on transformers 5.16.0, the oldest supported; on 5.23.0 it is 144 and 19
        ("gmvq_model.py", 136),
        ("gmvq_image_processor.py", 11),
        ("t5_vqvae_model.py", 196),
        ("topic_vq_model.py", 130),
        ("topic_vq_image_model.py", 196),
    ],
)
def test_upstream_suite(suite: str, least_passed: int, mixins: Path, tmp_path: Path) -> None:
    report = tmp_path / "report.xml"
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(mixins), str(ROOT / "src")]),
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
        "PYTEST_ADDOPTS": "",
    }
    command = [sys.executable, "-m", "pytest", "-c", str(SUITES / "pytest.ini")]
    command += ["-p", "no:cacheprovider", f"--junitxml={report}", str(SUITES / suite)]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

    assert result.returncode == 0, (
        f"{suite} failed:\n{result.stdout[-8000:]}{result.stderr[-2000:]}"
    )
    cases = list(ElementTree.parse(report).getroot().iter("testcase"))
    skipped = {case.get("name"): case.find("skipped") for case in cases}
    reasons = {name: skip.get("message", "") for name, skip in skipped.items() if skip is not None}
    strangers = [
        f"{name}: {reason}"
        for name, reason in reasons.items()
        if not any(re.search(pattern, reason) for pattern in ALLOWED_SKIPS)
    ]
    assert not strangers, "skipped for reasons that nobody has judged:\n" + "\n".join(strangers)
    passed = len(cases) - len(reasons)
    assert passed >= least_passed, f"{passed} tests of {suite} passed, expected {least_passed}"
