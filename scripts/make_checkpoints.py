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
# dependencies = ["hf_vq[topics,image,plots]"]
# ///
"""Make the checkpoints that the cards in model_cards/ describe, each from its recipe: train, score, write for the Hub.

    python scripts/make_checkpoints.py
    python scripts/make_checkpoints.py gmvq-cifar10 -- --dataset .data/cifar10

What stands behind `--` goes to the training script of a single checkpoint. A run that was interrupted goes on where it
stopped, and one that is finished is not repeated. Weights stay in `runs/<name>/hub`; their checksum and the record of
their figures go to `model_cards/<name>.sha256` and `.json`, the pictures that it draws to `model_cards/<name>*.png`.
docs/publishing.md tells the cost.
"""

import argparse
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from hf_vq.card_pictures import Traversal, draw_pictures
from hf_vq.evaluation import record_path, weight_checksums
from hf_vq.hub_checks import RECORD_NAME, check_folder
from hf_vq.publishing import prepare_run

ROOT = Path(__file__).resolve().parents[1]
# Checkpoint: its training script. A later one may be trained on the codes of an earlier one.
CHECKPOINTS = {
    "gmvq-cifar10": "train_gmvq.py",
    "t5-vqvae-expressions": "train_t5_vqvae.py",
    "topic-vq-20newsgroups": "train_topic_vq.py",
    "topic-vq-image-cifar10": "train_topic_vq_image.py",
}
# What the picture of a checkpoint for texts shows: expressions, and where their codes are exchanged.
TRAVERSALS: dict[str, list[Traversal]] = {
    "t5-vqvae-expressions": [
        ("log(x) + y**2 where the variable is x", "log"),
        ("x*sin(y) + 2 where the variable is y", "y"),
    ],
}


def build_parser() -> argparse.ArgumentParser:
    """Return the options."""
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").partition("\n")[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("names", nargs="*", metavar="name", help=f"of {', '.join(CHECKPOINTS)}; all if none")
    add("--user", default="your-name", help="whose repositories the cards name")
    add("--runs", default="runs", help="where to train")
    add("--cards", default=ROOT / "model_cards", help="where records, pictures and checksums go")
    return parser


def make_checkpoint(
    name: str, run: Path, cards: Path, user: str, options: Sequence[str] = ()
) -> Path:
    """Train a checkpoint, draw its pictures, write its folder for the Hub, record and checksum; returns the folder."""
    recipe = ROOT / "scripts" / "configs" / f"{name}.yaml"
    if not is_scored(run):  # which is the last thing that training does
        command = [sys.executable, str(ROOT / "scripts" / CHECKPOINTS[name])]
        command += ["--config", str(recipe), "--output_dir", str(run), *options]
        subprocess.run([*command, "--resume_from_checkpoint", "latest"], check=True)
    if not is_scored(run):
        raise ValueError(f"{run} has no record beside its model: train with a test split")
    pictures = draw_pictures(run, TRAVERSALS.get(name, ()))
    folder = prepare_run(
        run,
        f"{user}/{name}",
        card=ROOT / "model_cards" / f"{name}.md",
        recipe=recipe.read_text(encoding="utf-8"),
    )
    problems = check_folder(folder, f"{user}/{name}")
    if problems:
        raise ValueError(f"{folder} is not ready to publish:\n- " + "\n- ".join(problems))
    cards.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(folder / RECORD_NAME, cards / f"{name}.json")
    for picture in pictures:
        shutil.copyfile(picture, cards / picture.name)
    # As `sha256sum --check` reads them in the folder.
    checksums = weight_checksums(folder, "**/*.safetensors")
    lines = [f"{digest}  {file}\n" for file, digest in checksums.items()]
    (cards / f"{name}.sha256").write_text("".join(lines), encoding="utf-8")
    return folder


def is_scored(run: Path) -> bool:
    """Return whether the figures of a model lie beside it."""
    return any(record_path(run / kind).is_file() for kind in ("best", "final"))


def main(argv: Sequence[str] | None = None) -> list[Path]:
    """Make the checkpoints that are asked for and return their folders."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    options: list[str] = []
    if "--" in arguments:
        place = arguments.index("--")
        arguments, options = arguments[:place], arguments[place + 1 :]
    parser = build_parser()
    chosen = parser.parse_args(arguments)
    names = chosen.names or list(CHECKPOINTS)
    unknown = [name for name in names if name not in CHECKPOINTS]
    if unknown:
        parser.error(
            f"there is no checkpoint {unknown[0]!r}: expected one of {', '.join(CHECKPOINTS)}"
        )
    if options and len(names) != 1:
        parser.error("options of a training script go with one checkpoint")
    folders = []
    for name in names:
        run = Path(chosen.runs) / name
        folders.append(make_checkpoint(name, run, Path(chosen.cards), chosen.user, options))
        print(f"{folders[-1]}: ready for `hf upload {chosen.user}/{name} {folders[-1]}`")
    return folders


if __name__ == "__main__":
    main()
