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
"""What a published checkpoint says about the code that lies beside it, and who needs that code."""

from typing import Any


def overlook_published_code(owner: type, values: dict[str, Any]) -> dict[str, Any]:
    """Return what was saved of a configuration or a processor without what points to code beside it.

    Only for classes of the installed package: transformers would ask people who have it whether they trust the copy,
    and write these entries, without the code, into whatever they save next. The copy itself, which runs where the
    package is not installed, keeps them.
    """
    if not owner.__module__.startswith("hf_vq."):
        return values
    pointers = "auto_map", "custom_pipelines"
    return {name: value for name, value in values.items() if name not in pointers}


class PublishedCodeMixin:
    """A configuration that overlooks the copy of its code in a checkpoint, if the package is installed."""

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **kwargs: Any) -> Any:
        """Make a configuration of what was saved, as in transformers."""
        return super().from_dict(overlook_published_code(cls, config_dict), **kwargs)  # type: ignore[misc]
