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
"""The models, and the one list of them: importing this registers every row with the Auto classes."""

from transformers import AutoConfig, AutoModel, AutoModelForSeq2SeqLM, AutoProcessor

# The top-level name is a placeholder without torchvision before transformers 5.23.
from transformers.models.auto.image_processing_auto import AutoImageProcessor

from .configuration_gmvq import GMVQConfig
from .configuration_t5_vqvae import T5VQVAEConfig
from .configuration_topic_vq import TopicVQConfig
from .configuration_topic_vq_image import TopicVQImageConfig
from .image_processing_gmvq import GMVQImageProcessor
from .modeling_gmvq import GMVQModel
from .modeling_t5_vqvae import T5VQVAEForConditionalGeneration
from .modeling_topic_vq import TopicVQModel
from .modeling_topic_vq_image import TopicVQForImageGeneration
from .processing_topic_vq import TopicVQProcessor

# configuration, model, Auto class: facts that hub.py and the common tests iterate over, not a plug-in system
MODELS = (
    (GMVQConfig, GMVQModel, AutoModel),
    (T5VQVAEConfig, T5VQVAEForConditionalGeneration, AutoModelForSeq2SeqLM),
    (TopicVQConfig, TopicVQModel, AutoModel),
    (TopicVQImageConfig, TopicVQForImageGeneration, AutoModel),
)

for config_class, model_class, auto_class in MODELS:
    AutoConfig.register(config_class.model_type, config_class)
    auto_class.register(config_class, model_class)
AutoImageProcessor.register(GMVQConfig, image_processor_classes={"pil": GMVQImageProcessor})
AutoProcessor.register(TopicVQConfig, TopicVQProcessor)

__all__ = [
    "MODELS",
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
]
