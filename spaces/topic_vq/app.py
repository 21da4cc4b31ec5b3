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
"""A Space for TopicVQ: the topics of a corpus, texts of one's own among them, and the words that speak for each.

    python app.py --checkpoint your-name/topic-vq-20newsgroups

takes a Hub id or a folder; on the Hub the Space's variable CHECKPOINT says which.
"""

import argparse
import os
from pathlib import Path
from typing import Any

import gradio as gr

from hf_vq.topics.estimator import TopicVQ

INTRODUCTION = """# Topics of documents
`{name}` knows {num_topics} topics. Look at their words, search them, or see which topics a text of your own has.
[Paper](https://arxiv.org/abs/2312.11532)."""
MAX_CHARACTERS = 20_000  # of a text, so that one visitor does not keep the others waiting
UNKNOWN_WORDS = "No word of this text is one that the model knows."
MOST_TOPICS = 6  # that are told of a text
LEAST_SHARE = 0.01

Cells = list[list[str]]


class CorpusTopics:
    """What the page asks of a model."""

    def __init__(self, checkpoint: str):
        self.topics = TopicVQ.from_pretrained(checkpoint)
        self.names = [f"{row['topic']}: {row['label']}" for row in self.topics.topic_table()]

    def table(self) -> Cells:
        """Return all topics with their words."""
        rows = self.topics.topic_table()
        return [[str(row["topic"]), row["label"], ", ".join(row["words"])] for row in rows]

    def words(self, name: str, number: int) -> dict[str, float]:
        """Return the words of a topic with their weights, the largest as 1."""
        rows = list(self.topics.topic_words(self.names.index(name), int(number)))
        largest = max(row["weight"] for row in rows)
        return {row["word"]: row["weight"] / largest for row in rows}

    def search(self, query: str) -> Cells:
        """Return the topics nearest to a text."""
        self._check(query)
        if not self.topics.place([query]).num_words[0]:
            raise gr.Error(UNKNOWN_WORDS, print_exception=False)
        return [
            [f"{row['similarity']:.2f}", str(row["topic"]), ", ".join(row["words"])]
            for row in self.topics.find_topics(query)
        ]

    def place(self, text: str) -> tuple[dict[str, float], list[tuple[str, str | None]]]:
        """Return the largest topics of a text, and its words with the topic that each speaks for."""
        self._check(text)
        placed = self.topics.place([text])
        if not placed.num_words[0]:
            raise gr.Error(UNKNOWN_WORDS, print_exception=False)
        shares = placed.topic_proportions[0]
        largest = [
            topic for topic in shares.argsort()[::-1][:MOST_TOPICS] if shares[topic] >= LEAST_SHARE
        ]
        words = self.topics.word_topics(text)
        owners = words.owners
        pieces = [
            (
                piece,
                self.names[owners[number]]
                if number is not None and owners[number] in largest
                else None,
            )
            for piece, number in words.pieces()
            if piece
        ]
        return {self.names[topic]: float(shares[topic]) for topic in largest}, pieces

    def _check(self, text: str) -> None:
        if not text.strip() or len(text) > MAX_CHARACTERS:
            raise gr.Error(
                f"A text of 1 to {MAX_CHARACTERS:,} characters, please.", print_exception=False
            )


def build(
    checkpoint: str, text: str = "The shuttle reached its orbit, and NASA told the crew to rest."
) -> gr.Blocks:
    """Return the page for a checkpoint, a Hub id or a folder; `text` stands in the field at first."""
    topics = CorpusTopics(checkpoint)
    name: Any = "/".join(Path(checkpoint).parts[-2:])
    with gr.Blocks(title="Topics of documents") as page:
        gr.Markdown(INTRODUCTION.format(name=name, num_topics=len(topics.names)))
        with gr.Tab("A text of your own"):
            document = gr.Textbox(text, lines=6, label="Text")
            place = gr.Button("Find its topics", variant="primary")
            shares = gr.Label(label="Share of each topic", num_top_classes=MOST_TOPICS)
            colored = gr.HighlightedText(
                label="Words, by the topic that they speak for", show_legend=True
            )
            place.click(topics.place, [document], [shares, colored], api_name="place")
            page.load(topics.place, [document], [shares, colored], api_visibility="private")
        with gr.Tab("All topics"):
            gr.Dataframe(
                topics.table(),
                headers=["topic", "label", "words"],
                column_widths=["10%", "25%", "65%"],
                wrap=True,
                interactive=False,
            )
            with gr.Row():
                topic = gr.Dropdown(topics.names, value=topics.names[0], label="Topic")
                number = gr.Slider(5, 50, 15, step=1, label="Words")
            weights = gr.Label(
                topics.words(topics.names[0], 15),
                label="Weight of its words, beside the first one",
                num_top_classes=50,
            )
            for control in (topic, number):
                control.change(topics.words, [topic, number], [weights], api_name="words")
        with gr.Tab("Search"):
            query = gr.Textbox("rockets and satellites", label="A word, a sentence or a document")
            search = gr.Button("Search", variant="primary")
            found = gr.Dataframe(
                headers=["similarity", "topic", "words"], wrap=True, interactive=False
            )
            search.click(topics.search, [query], [found], api_name="search")
    return page


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--checkpoint", default=os.environ.get("CHECKPOINT", "your-name/topic-vq-20newsgroups")
    )
    build(parser.parse_args().checkpoint).launch()
