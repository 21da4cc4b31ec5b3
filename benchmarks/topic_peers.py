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
"""The topic models of others behind one interface: fit documents, place documents, score words.

Each gets what its authors' package takes by default, but for the documents, their words and, where it reads embeddings,
MiniLM's document embeddings, which are the same for all. benchmarks/README.md says how to install them.
"""

import importlib.machinery
import sys
import types
from typing import Any

import numpy as np
import torch
from scipy.sparse import csr_array
from topic_corpora import Corpus, Part


class TopicMethod:
    """What the benchmark asks of a topic model.

    Args:
        corpus: Documents and vocabulary.
    """

    label = ""

    def __init__(self, corpus: Corpus):
        self.corpus = corpus

    def prepare(self, part: Part) -> Any:
        """The inputs of `fit` and `place`; embeddings are made or read here, so that no clock counts them."""
        return self.corpus.counts(part)

    def fit(self, inputs: Any, num_topics: int, seed: int) -> None:
        """Learn topics."""
        raise NotImplementedError

    def place(self, inputs: Any) -> np.ndarray:
        """Topic proportions of documents, (documents, topics)."""
        raise NotImplementedError

    def mix(self, inputs: Any) -> np.ndarray:
        """The proportions that words are predicted from, if they are not those of `place`."""
        return self.place(inputs)

    def topic_word_scores(self) -> np.ndarray:
        """What words of a topic are ranked by, (topics, words)."""
        raise NotImplementedError

    def ranked_words(self, top_n: int) -> np.ndarray:
        """The best words of each topic, best first, (topics, top_n); equals in the order of the vocabulary."""
        return np.argsort(-self.topic_word_scores(), axis=1, kind="stable")[:, :top_n]

    def word_log_probs(self, proportions: np.ndarray) -> np.ndarray | None:
        """Log-probabilities of words, (documents, words); `None` if the model has none."""
        return None

    def facts(self) -> dict[str, float]:
        """Figures that only this model has."""
        return {}


class BagMethod(TopicMethod):
    """A model that reads nothing but word counts; documents without words get equal proportions."""

    def fit(self, inputs: csr_array, num_topics: int, seed: int) -> None:
        """Learn topics of the documents that have words."""
        self.num_topics = num_topics
        self._fit(inputs[np.flatnonzero(inputs.sum(axis=1))], seed)

    def place(self, inputs: csr_array) -> np.ndarray:
        """Topic proportions."""
        proportions = np.full((inputs.shape[0], self.num_topics), 1 / self.num_topics)
        filled = np.flatnonzero(inputs.sum(axis=1))
        proportions[filled] = self._place(inputs[filled])
        return proportions

    def _fit(self, counts: csr_array, seed: int) -> None:
        raise NotImplementedError

    def _place(self, counts: csr_array) -> np.ndarray:
        raise NotImplementedError


class Lda(BagMethod):
    """Latent Dirichlet allocation by collapsed Gibbs sampling, tomotopy: 1,000 rounds, one thread."""

    label = "LDA (tomotopy)"

    def _fit(self, counts: csr_array, seed: int) -> None:
        import tomotopy

        self.model = tomotopy.LDAModel(k=self.num_topics, seed=seed)
        for words in self._words(counts):
            self.model.add_doc(words)
        self.model.train(1000, workers=1)
        # tomotopy numbers words as it meets them.
        place = {word: i for i, word in enumerate(self.model.used_vocabs)}
        order = [place.get(word, -1) for word in self.corpus.vocabulary]
        topics = np.array([self.model.get_topic_word_dist(k) for k in range(self.num_topics)])
        self.topics = np.where(np.array(order) < 0, 1e-12, topics[:, order])

    def _words(self, counts: csr_array) -> list[list[str]]:
        vocabulary = np.array(self.corpus.vocabulary, dtype=object)
        parts = zip(counts.indptr[:-1], counts.indptr[1:], strict=True)
        return [
            np.repeat(vocabulary[counts.indices[a:b]], counts.data[a:b]).tolist() for a, b in parts
        ]

    def _place(self, counts: csr_array) -> np.ndarray:
        documents = [self.model.make_doc(words) for words in self._words(counts)]
        found, _ = self.model.infer(documents, iterations=100, workers=1)
        return np.array(found)

    def topic_word_scores(self) -> np.ndarray:
        """Probabilities of words."""
        return self.topics

    def word_log_probs(self, proportions: np.ndarray) -> np.ndarray:
        """Log of the mixture."""
        return np.log(proportions @ self.topics)


class Nmf(BagMethod):
    """Non-negative matrix factorization of tf-idf, scikit-learn."""

    label = "NMF (scikit-learn)"

    def _fit(self, counts: csr_array, seed: int) -> None:
        from sklearn.decomposition import NMF
        from sklearn.feature_extraction.text import TfidfTransformer

        self.tfidf = TfidfTransformer()
        self.model = NMF(self.num_topics, random_state=seed, max_iter=400)
        self.model.fit(self.tfidf.fit_transform(counts))

    def _place(self, counts: csr_array) -> np.ndarray:
        weights = self.model.transform(self.tfidf.transform(counts)) + 1e-12
        return weights / weights.sum(axis=1, keepdims=True)

    def topic_word_scores(self) -> np.ndarray:
        """Weights of words."""
        return self.model.components_


class TopMost(BagMethod):
    """A neural model of topmost: 200 epochs of Adam at 0.002, batches of 200, the package's defaults."""

    def _build(self) -> torch.nn.Module:
        raise NotImplementedError

    def _fit(self, counts: csr_array, seed: int) -> None:
        import_topmost()
        from topmost.trainers.basic.basic_trainer import BasicTrainer

        torch.manual_seed(seed)
        self.model = self._build()
        bags = torch.from_numpy(counts.toarray()).float()
        loader = torch.utils.data.DataLoader(bags, batch_size=200, shuffle=True)
        dataset = types.SimpleNamespace(
            train_data=bags, train_dataloader=loader, vocab=self.corpus.vocabulary
        )
        self.trainer = BasicTrainer(self.model, dataset)
        self.trainer.train()

    def _place(self, counts: csr_array) -> np.ndarray:
        return self.trainer.test(torch.from_numpy(counts.toarray()).float())

    def topic_word_scores(self) -> np.ndarray:
        """The model's matrix of topics and words."""
        return self.trainer.get_beta()

    @torch.no_grad()
    def word_log_probs(self, proportions: np.ndarray) -> np.ndarray:
        """Log of the decoder's prediction."""
        self.model.eval()
        return self._decode(torch.from_numpy(proportions).float()).log().double().numpy()

    def _decode(self, proportions: torch.Tensor) -> torch.Tensor:
        raise NotImplementedError

    def _word_vectors(self) -> np.ndarray:
        """MiniLM's mean vector of each word, centered and of length 1, in place of GloVe.

        With longer ones ETM starts from topics of a few random words and stays there: at variance 1 in each dimension
        its perplexity is above that of shares of words.
        """
        vectors = self.corpus.word_vectors()
        vectors = vectors - vectors.mean(axis=0)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


class ProdLda(TopMost):
    """Autoencoding variational inference for topic models (Srivastava and Sutton, 2017)."""

    label = "ProdLDA (topmost)"

    def _build(self) -> torch.nn.Module:
        from topmost import ProdLDA

        return ProdLDA(len(self.corpus.vocabulary), self.num_topics)

    def _decode(self, proportions: torch.Tensor) -> torch.Tensor:
        return self.model.decode(proportions)


class Etm(TopMost):
    """The embedded topic model (Dieng et al., 2020), its word vectors trained on."""

    label = "ETM (topmost)"

    def _build(self) -> torch.nn.Module:
        from topmost import ETM

        return ETM(
            len(self.corpus.vocabulary),
            num_topics=self.num_topics,
            pretrained_WE=self._word_vectors(),
            train_WE=True,
        )

    def _decode(self, proportions: torch.Tensor) -> torch.Tensor:
        return proportions @ self.model.get_beta()


class EcrTm(TopMost):
    """Embedding clustering regularization (Wu et al., 2023)."""

    label = "ECRTM (topmost)"

    def _build(self) -> torch.nn.Module:
        from topmost import ECRTM

        return ECRTM(
            len(self.corpus.vocabulary),
            num_topics=self.num_topics,
            pretrained_WE=self._word_vectors(),
        )

    def _decode(self, proportions: torch.Tensor) -> torch.Tensor:
        mixed = self.model.decoder_bn(proportions @ self.model.get_beta())
        return torch.softmax(mixed, dim=-1)


class FasTopic(TopicMethod):
    """FASTopic (Wu et al., 2024) with its defaults: 200 epochs over the whole corpus at once."""

    label = "FASTopic"

    def prepare(self, part: Part) -> tuple[csr_array, np.ndarray]:
        """Counts and document embeddings."""
        return self.corpus.counts(part), self.corpus.document_vectors(part)

    def fit(self, inputs: tuple[csr_array, np.ndarray], num_topics: int, seed: int) -> None:
        """Learn topics."""
        import_topmost()
        from fastopic import FASTopic

        counts, vectors = inputs
        given = {"train_bow": counts, "vocab": self.corpus.vocabulary}
        preprocess = types.SimpleNamespace(preprocess=lambda documents: given)
        torch.manual_seed(seed)
        np.random.seed(seed)
        self.model = FASTopic(num_topics, preprocess, doc_embed_model=object(), device="cpu")
        self.model.fit(["given"] * len(vectors), preset_doc_embeddings=vectors)

    def place(self, inputs: tuple[csr_array, np.ndarray]) -> np.ndarray:
        """Topic proportions."""
        return self.model.transform(doc_embeddings=torch.from_numpy(inputs[1]))

    def topic_word_scores(self) -> np.ndarray:
        """Probabilities of words."""
        return self.model.get_beta()

    def word_log_probs(self, proportions: np.ndarray) -> np.ndarray:
        """Log of the mixture."""
        return np.log(proportions @ self.model.get_beta() + 1e-12)


class BerTopic(TopicMethod):
    """BERTopic with its defaults; topics are merged until as many are left as asked for, if there are so many.

    Outliers, its topic -1, are not scored as a topic. Proportions of a document are its own
    `approximate_distribution`, as topmost takes them.
    """

    label = "BERTopic"

    def prepare(self, part: Part) -> tuple[list[str], np.ndarray]:
        """The words, joined, and document embeddings."""
        return [" ".join(words) for words in part.words], self.corpus.document_vectors(part)

    def fit(self, inputs: tuple[list[str], np.ndarray], num_topics: int, seed: int) -> None:
        """Learn topics."""
        from bertopic import BERTopic
        from sklearn.feature_extraction.text import CountVectorizer
        from umap import UMAP

        # BERTopic's own settings of UMAP, and a seed.
        umap = UMAP(
            n_neighbors=15, n_components=5, min_dist=0.0, metric="cosine", random_state=seed
        )
        # A word that no document has would weigh infinitely in its c-TF-IDF.
        present = {word for text in inputs[0] for word in text.split()}
        words = [word for word in self.corpus.vocabulary if word in present]
        self.columns = [self.corpus.processor.word_to_id[word] for word in words]
        vectorizer = CountVectorizer(vocabulary=words, analyzer=str.split, lowercase=False)
        self.model = BERTopic(
            umap_model=umap, vectorizer_model=vectorizer, nr_topics=num_topics + 1, top_n_words=25
        )
        topics, _ = self.model.fit_transform(*inputs)
        self.outlier_share = float(np.mean(np.array(topics) == -1))

    def place(self, inputs: tuple[list[str], np.ndarray]) -> np.ndarray:
        """Topic proportions."""
        return self.model.approximate_distribution(inputs[0])[0]

    def assign(self, inputs: tuple[list[str], np.ndarray]) -> np.ndarray:
        """The topic of each document by `transform`, -1 for outliers."""
        return np.array(self.model.transform(*inputs)[0])

    def topic_word_scores(self) -> np.ndarray:
        """c-TF-IDF."""
        found = self.model.c_tf_idf_.toarray()[self.model._outliers :]
        scores = np.zeros((len(found), len(self.corpus.vocabulary)))
        scores[:, self.columns] = found
        return scores

    def facts(self) -> dict[str, float]:
        """The share of training documents without a topic."""
        return {"outlier_share": self.outlier_share}


def import_topmost() -> None:
    """Import topmost and fastopic without torchvision, of which they only use a function for downloads."""
    import sentence_transformers  # noqa: F401  it must look for torchvision before there seems to be one

    names = ("torchvision", "torchvision.datasets", "torchvision.datasets.utils")
    if names[0] not in sys.modules:
        for name in names:
            module: Any = types.ModuleType(name)
            module.__spec__ = importlib.machinery.ModuleSpec(name, None, is_package=True)
            module.__path__ = []
            sys.modules[name] = module
        sys.modules[names[-1]].download_url = None  # type: ignore[attr-defined]
    import topmost  # noqa: F401


PEERS: dict[str, type[TopicMethod]] = {
    "lda": Lda,
    "nmf": Nmf,
    "prodlda": ProdLda,
    "etm": Etm,
    "ecrtm": EcrTm,
    "fastopic": FasTopic,
    "bertopic": BerTopic,
}
