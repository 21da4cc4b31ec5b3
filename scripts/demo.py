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
# /// script
# requires-python = ">=3.11"
# dependencies = ["hf_vq[demo]"]
# ///
"""Train small models on images, mathematics and documents, check that they reload, show the results on one page.

    python scripts/demo.py

It takes about seven minutes on two CPU cores, needs no network, and writes `runs/demo/index.html`. A further model is
one more function in `DEMOS` that returns its section of the page.
"""

import logging
from collections.abc import Sequence
from pathlib import Path

from demo_sections.gmvq import gmvq_section
from demo_sections.page import DemoConfig, write_page
from demo_sections.t5_vqvae import t5_vqvae_section
from demo_sections.topic_vq import topic_vq_section
from demo_sections.topic_vq_image import topic_vq_image_section

from hf_vq.training import parse_config

# The last one draws with the GM-VQ of the first.
DEMOS = [gmvq_section, t5_vqvae_section, topic_vq_section, topic_vq_image_section]


def main(argv: Sequence[str] | None = None) -> Path:
    """Run all demos and return the path of the page."""
    (config,) = parse_config(DemoConfig, argv=argv)
    for name in ("max_steps", "text_max_steps", "image_topic_max_steps"):
        if getattr(config, name) < 1:
            raise ValueError(f"{name} is {getattr(config, name)}, expected at least 1")
    path = Path(config.output_dir) / "index.html"
    write_page(path, [demo(config) for demo in DEMOS])
    print(f"page: {path}")
    return path


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING)
    main()
