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
"""Topics of documents: fit, look, place new documents, change what was found, save.

A minute on a CPU: python examples/topics_of_a_corpus.py
"""

import tempfile
from pathlib import Path

from hf_vq.topics.estimator import TopicVQ
from hf_vq.topics.library_documents import LIBRARIES, library_documents


def main(
    folder: str | Path,
    num_topics: int = 12,
    topic_epochs: float | None = None,
    max_per_library: int = 150,
    libraries: tuple[str, ...] = LIBRARIES,
) -> TopicVQ:
    """Save topics and their pictures in `folder`, and return them."""
    # The documentation strings of installed libraries: real texts without a download. Any list of texts will do;
    # `load_documents` of `hf_vq.topics.documents` reads files, folders and data sets of the Hub.
    documents = library_documents(libraries, max_per_library)
    train = documents.texts[::2]
    unseen = documents.texts[1::2]

    topics = TopicVQ(
        num_topics,
        # Word vectors from these documents alone. With a network, "sentence-transformers/all-MiniLM-L6-v2" (the
        # default) or any other encoder of the Hub knows what words mean elsewhere too, and finds better topics.
        encoder="corpus",
        stop_words="english",
        training_options={"topic_epochs": topic_epochs} if topic_epochs else None,
        progress_bar=False,
        seed=0,
    ).fit(train)
    print(topics.topic_table(top_n=6), end="\n\n")

    # Every document has a share of every topic, also one that was never seen; the rows sum to 1.
    proportions = topics.transform(unseen)
    best = int(proportions[0].argmax())
    print(f"of {unseen[0][:60]!r}... {proportions[0, best]:.0%} is topic {best}")
    print(topics.representative_documents(best), end="\n\n")
    print(topics.find_topics("read rows of a table from a file"), end="\n\n")

    # Nothing is trained again when topics are joined or named, and both can be taken back.
    topics.reduce_topics(num_topics=num_topics // 2)
    print(topics.hierarchy_text(), end="\n\n")
    topics.undo_merge()
    topics.set_topic_labels({best: "the topic of the first document"})

    topics.save_pretrained(folder)
    topics.save_picture("map", Path(folder) / "map.html")  # needs no network, and .png is for print
    again = TopicVQ.from_pretrained(folder)
    assert (again.transform(unseen) == proportions).all()
    print(f"saved, loaded, the same proportions; the map is {folder}/map.html")
    return topics


if __name__ == "__main__":
    main(tempfile.mkdtemp(prefix="topics-"))
