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
"""What griffe, which reads the code for the site and does not run it, cannot know of our classes and docstrings."""

import re
from typing import Any

import griffe


class HouseStyle(griffe.Extension):
    """Fields of configurations are arguments, and `Example:` heads examples."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """Let griffe see a section where transformers' style, and ours, has the singular."""
        if obj.docstring is not None:
            obj.docstring.value = re.sub(
                r"^Example:$", "Examples:", obj.docstring.value, flags=re.M
            )

    def on_class_members(self, *, cls: griffe.Class, **kwargs: Any) -> None:
        """Give a configuration the `__init__` that `@strict`, a dataclass in disguise, makes at import."""
        if not cls.name.endswith("Config") or "__init__" in cls.members:
            return
        fields = [
            attribute
            for attribute in cls.attributes.values()
            if attribute.annotation is not None and "instance-attribute" in attribute.labels
        ]
        init = griffe.Function("__init__", lineno=cls.lineno, endlineno=cls.endlineno, parent=cls)
        init.parameters = griffe.Parameters(
            griffe.Parameter("self", kind=griffe.ParameterKind.positional_or_keyword),
            *(
                griffe.Parameter(
                    field.name,
                    annotation=field.annotation,
                    kind=griffe.ParameterKind.keyword_only,
                    default=str(field.value),
                )
                for field in fields
            ),
        )
        cls.set_member("__init__", init)
