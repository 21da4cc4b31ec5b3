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
"""The benchmark of memory: its documents have the topics that they were drawn from, and it measures what it says."""

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("matplotlib", reason="needs the extra `bench`")
BENCHMARKS = Path(__file__).parent.parent / "benchmarks"


@pytest.fixture
def benchmark(monkeypatch, accelerate_state):
    """The script as a module; scripts find their neighbors through the path."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import topic_scale

    return topic_scale


def test_documents_are_of_their_topics(benchmark):
    drawn = list(benchmark.documents(500))
    assert drawn == list(benchmark.documents(500))
    own = [
        np.mean([int(word[1:]) % benchmark.NUM_TOPICS == topic for word in text.split()])
        for topic, text in drawn
    ]
    assert np.mean(own) == pytest.approx(benchmark.OWN_WORDS, abs=0.05)
    assert {len(text.split()) for _, text in drawn} == {benchmark.WORDS}


def test_memory_is_measured(benchmark):
    memory = benchmark.MemoryCurve()
    memory.start()
    before = memory.measure()[1]
    block = np.ones(50_000_000, np.int8)  # 50 MB
    figures = memory.stop()
    assert figures["peak_own_mb"] - before == pytest.approx(block.nbytes / 1e6, abs=10)
    assert figures["peak_resident_mb"] >= figures["peak_own_mb"]
    assert len(figures["curve"]) <= 200


def test_a_run_and_its_report(benchmark, tmp_path, monkeypatch):
    content = benchmark.train_in_this_process(400, 1.0)
    assert (content["documents"], content["steps"]) == (400, 2)
    assert content["disk_mb"]["run/bags"] > 400 * 300 * 4 / 1e6  # the bags of codes and more
    assert 0 <= content["nmi_with_the_drawn_topics"] <= 1
    monkeypatch.setattr(benchmark, "REPORTS", tmp_path)
    record = content | {"hardware": {"cpu": "some", "cores": 2}, "commit": "0123456789"}
    monkeypatch.setattr(benchmark, "read_results", lambda folder: {"400": record})
    benchmark.report()
    text = (tmp_path / "topic_scale.md").read_text()
    assert f"| 400 | {content['memory']['peak_own_mb']:.0f} |" in text
    assert (tmp_path / "topic_scale.png").stat().st_size > 1000
