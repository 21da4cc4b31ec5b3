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
"""What the site does beyond mkdocs: it also shows files that lie outside of docs/.

The Markdown files of this repository link to each other, and to code and records, as GitHub wants it. Here each file
that is linked to becomes a page, so that the same links work on the site: README.md is the home page, code and records
are pages with their text, and pictures of a README or a card are copied. A link to a folder becomes plain text.
"""

import re
from pathlib import Path, PurePosixPath
from posixpath import normpath, relpath
from typing import Any

from mkdocs.structure.files import File, Files, InclusionLevel

ROOT = Path(__file__).resolve().parents[1]
LINK = re.compile(r"(?<!!)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)\s]+)\)")
PICTURE = re.compile(r"(?<=!)\[([^\[\]]*)\]\(([^)\s]+)\)")
FENCE = re.compile(r"(```.*?```)", re.DOTALL)
TREE_HEADING = "## What is where"  # of README.md: for readers of the repository, not of the site
LANGUAGES = {".md": "markdown", ".py": "python", ".json": "json", ".yaml": "yaml", ".cff": "yaml"}


def on_config(config: Any) -> Any:
    """Replace the folders in the navigation by their pages."""
    config.nav = [_expand(entry) for entry in config.nav]
    return config


def on_files(files: Files, config: Any) -> Files:
    """Add a page for each file outside of docs/ that is in the navigation or linked to, and pictures that are shown."""
    in_navigation = {"README.md", *_outside(config.nav)}
    waiting, pictures = list(in_navigation), set[str]()
    for file in files.documentation_pages():
        source = f"docs/{file.src_uri}"
        waiting += _targets(LINK, source, file.content_string)
        pictures.update(_targets(PICTURE, source, file.content_string))
    seen: set[str] = set()
    while waiting:
        path = waiting.pop()
        if path in seen or path.startswith("docs/") or not (ROOT / path).is_file():
            continue
        seen.add(path)
        text = (ROOT / path).read_text(encoding="utf-8")
        if _is_prose(path):
            waiting += _targets(LINK, path, text)
            pictures.update(_targets(PICTURE, path, text))
        page = File.generated(config, _page_of(path), content=_as_page(path, text))
        page.repository_path = path
        if path not in in_navigation:
            page.inclusion = InclusionLevel.NOT_IN_NAV
        files.append(page)
    for path in sorted(pictures):
        if not path.startswith("docs/"):
            files.append(File.generated(config, path, abs_src_path=str(ROOT / path)))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Rewrite links from places in the repository to pages of the site."""
    source = getattr(page.file, "repository_path", f"docs/{page.file.src_uri}")
    if not _is_prose(source):
        return markdown

    def rewrite(match: re.Match) -> str:
        text, target = match.groups()
        path, mark, anchor = target.partition("#")
        if not path or ":" in path:
            return match.group()
        path = normpath(str(PurePosixPath(source).parent / path))
        if (ROOT / path).is_dir():
            return text
        here = str(PurePosixPath(page.file.src_uri).parent)
        return f"[{text}]({relpath(_page_of(path), here)}{mark}{anchor})"

    parts = FENCE.split(markdown)
    return "".join(
        p if p.startswith("```") else PICTURE.sub(rewrite, LINK.sub(rewrite, p)) for p in parts
    )


def on_page_content(html: str, page: Any, config: Any, files: Files) -> str:
    """Let what docstrings name lead somewhere: `[`GMVQModel`]`, as transformers writes it, and `docs/topics.md`."""
    if not page.file.src_uri.startswith(("api/", "models/")):
        return html
    html = re.sub(r"(?<=[\s(])docs/([a-z_]+)\.md", r'<a href="../\1.html">\1</a>', html)
    return re.sub(
        r"\[<code>(?:hf_vq\.)?(\w+)</code>\]",
        r'<autoref identifier="hf_vq.\1" optional><code>\1</code></autoref>',
        html,
    )


def _expand(entry: Any) -> Any:
    if isinstance(entry, str):
        return entry
    ((title, place),) = entry.items()
    if isinstance(place, list):
        return {title: [_expand(item) for item in place]}
    if not place.endswith("/"):
        return entry
    names = sorted(path.name for path in (ROOT / place).iterdir() if path.suffix in (".md", ".py"))
    names = [name for name in names if not name.endswith(".template.md")]
    pages = [_page_of(place + name) for name in sorted(names, key=lambda name: name != "README.md")]
    return {title: pages}


def _outside(nav: Any) -> list[str]:
    """Files of the navigation as paths in the repository."""
    if isinstance(nav, str):
        code = re.sub(r"\.(\w+)\.md$", r".\1", nav)
        return [code, nav]
    if isinstance(nav, dict):
        nav = list(nav.values())
    return [path for entry in nav for path in _outside(entry)]


def _targets(kind: re.Pattern, source: str, markdown: str) -> list[str]:
    """What a page links to, or shows, as paths in the repository."""
    targets = (target.partition("#")[0] for _, target in kind.findall(FENCE.sub("", markdown)))
    return [
        normpath(str(PurePosixPath(source).parent / target))
        for target in targets
        if target and ":" not in target
    ]


def _page_of(path: str) -> str:
    """Where a file of the repository is on the site."""
    if path == "README.md":
        return "index.md"
    if path.startswith("docs/"):
        return path.removeprefix("docs/")
    return path if path.endswith((".md", ".png")) else f"{path}.md"


def _is_prose(path: str) -> bool:
    """Whether a file is Markdown to read. Cards are templates, which a record fills when they are published."""
    return path.endswith(".md") and not path.startswith("model_cards/")


def _as_page(path: str, text: str) -> str:
    if path == "README.md":
        return "---\nhide: [navigation]\n---\n" + text.partition(TREE_HEADING)[0]
    if _is_prose(path):
        return text
    language = LANGUAGES.get(Path(path).suffix, "text")
    if language == "python":
        text = text.partition("# limitations under the License.\n")[2]
    return f"# {PurePosixPath(path).name}\n\n````{language}\n{text}\n````\n"
