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
"""Vector-quantized generative models for Hugging Face transformers."""

from .models import (
    GMVQConfig,
    GMVQImageProcessor,
    GMVQModel,
    T5VQVAEConfig,
    T5VQVAEForConditionalGeneration,
    TopicVQConfig,
    TopicVQForImageGeneration,
    TopicVQImageConfig,
    TopicVQModel,
    TopicVQProcessor,
)
from .pipelines import register_pipelines
from .text_pipelines import register_text_pipelines
from .topic_pipelines import register_topic_pipelines

__version__ = "0.1.0"

register_pipelines()
register_text_pipelines()
register_topic_pipelines()

__all__ = [
    "GMVQConfig",
    "GMVQImageProcessor",
    "GMVQModel",
    "T5VQVAEConfig",
    "T5VQVAEForConditionalGeneration",
    "TopicVQConfig",
    "TopicVQForImageGeneration",
    "TopicVQImageConfig",
    "TopicVQModel",
    "TopicVQProcessor",
    "__version__",
]
