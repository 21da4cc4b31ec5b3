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
# dependencies = ["hf_vq[train]"]
# ///
"""Publish a finished run on the Hub: weights, code, processor, card, evaluation record, training arguments.

    python scripts/publish.py runs/gmvq-cifar10 your-name/gmvq-cifar10 --license apache-2.0 --dry-run
    python scripts/publish.py runs/gmvq-cifar10 your-name/gmvq-cifar10 --card model_cards/gmvq-cifar10.md \
        --recipe scripts/configs/gmvq-cifar10.yaml --private

Log in before (`hf auth login`), or set HF_TOKEN; there is no option for a token, since command lines are seen and kept.
`--dry-run` writes the folder, checks it and shows what it holds. The same command goes on after a broken connection.
"""

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path

from hf_vq.cards import TEMPLATE
from hf_vq.hub import publish
from hf_vq.hub_checks import check_folder, published_files
from hf_vq.publishing import prepare_run


def build_parser() -> argparse.ArgumentParser:
    """Return the options."""
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").partition("\n")[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("run", help="folder of a run, or of one model in it")
    add("repo_id", help="where to publish: your-name/name")
    add("--license", help="licence of the weights, for example apache-2.0; for the general card")
    add("--card", default=TEMPLATE, help="template of the model card")
    add("--recipe", help="YAML file to show in the card; unset: the run's training options")
    add("--folder", help="where to write what is published; unset: <run>/hub")
    add("--max-shard-size", default="5GB", help="larger weights are split: 500MB, 5GB")
    add("--private", action="store_true", default=None, help="make a new repository private")
    add("--revision", help="branch to commit to; created if it does not exist")
    add("--create-pr", action="store_true", help="open a pull request instead of committing")
    add("--commit-message", default="Upload model", help="subject of the commit")
    add("--dry-run", action="store_true", help="write the folder and show it, without the Hub")
    return parser


def format_tree(folder: Path) -> str:
    """The published files of a folder, with their sizes."""
    lines = [f"{(folder / name).stat().st_size:>12,}  {name}" for name in published_files(folder)]
    return "\n".join([str(folder), *lines])


def read_recipe(path: str | None) -> str | None:
    """The text of a recipe, if there is one."""
    try:
        return Path(path).read_text(encoding="utf-8") if path else None
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"cannot read the recipe {path}: {error}") from error


def main(argv: Sequence[str] | None = None) -> Path:
    """Write the folder, publish it unless it is a dry run, and return it."""
    parser = build_parser()
    options = parser.parse_args(argv)
    try:
        folder = prepare_run(
            options.run,
            options.repo_id,
            options.folder,
            license=options.license,
            card=options.card,
            recipe=read_recipe(options.recipe),
            max_shard_size=options.max_shard_size,
        )
        print(format_tree(folder))
        if options.dry_run:
            problems = check_folder(folder, options.repo_id)
            if problems:
                raise ValueError("it would be refused:\n- " + "\n- ".join(problems))
            return folder
        commit = publish(
            options.repo_id,
            folder,
            private=options.private,
            revision=options.revision,
            create_pr=options.create_pr,
            commit_message=options.commit_message,
        )
    except ValueError as error:
        parser.error(str(error))
    print(commit.pr_url or commit.commit_url)
    return folder


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    main()
