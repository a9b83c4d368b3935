"""A model that compares texts by the words that they share: the cosine of the sets, 1 for equal ones.

Its tasks have caikit-nlp's parameters and rules: two special tokens are counted on top of a text's words, truncation is
to words alone, a document's text is its member `text`, else `_text`, else nothing.
"""

from typing import List, Optional

from caikit.core import ModuleBase, ModuleConfig, module
from caikit.core.data_model.json_dict import JsonDict
from caikit.interfaces.nlp.data_model import (
    RerankResult,
    RerankResults,
    RerankScore,
    RerankScores,
    SentenceSimilarityResult,
    SentenceSimilarityResults,
    SentenceSimilarityScores,
)
from caikit.interfaces.nlp.tasks import RerankTask, RerankTasks, SentenceSimilarityTask, SentenceSimilarityTasks

SPECIAL_TOKENS = 2
TASKS = [SentenceSimilarityTask, SentenceSimilarityTasks, RerankTask, RerankTasks]


@module("0d5f2c53-93c1-4f0e-8d0a-6f3a1b8f7c24", "Jackdaw", "1.0.0", tasks=TASKS)
class Jackdaw(ModuleBase):
    """Compares and ranks."""

    @classmethod
    def load(cls, model_path: str, *_: object, **__: object) -> "Jackdaw":
        """There is nothing to load."""
        ModuleConfig.load(model_path)
        return cls()

    @SentenceSimilarityTask.taskmethod()
    def run_sentence_similarity(
        self, source_sentence: str, sentences: List[str], truncate_input_tokens: Optional[int] = 0
    ) -> SentenceSimilarityResult:
        """One source with each sentence."""
        made = self.run_sentence_similarities([source_sentence], sentences, truncate_input_tokens)
        return SentenceSimilarityResult(
            result=made.results[0], producer_id=self.PRODUCER_ID, input_token_count=made.input_token_count
        )

    @SentenceSimilarityTasks.taskmethod()
    def run_sentence_similarities(
        self, source_sentences: List[str], sentences: List[str], truncate_input_tokens: Optional[int] = 0
    ) -> SentenceSimilarityResults:
        """Each source with each sentence."""
        sources, others = (
            [_words(text, truncate_input_tokens) for text in each] for each in (source_sentences, sentences)
        )
        results = [SentenceSimilarityScores(scores=[_score(one, other) for other in others]) for one in sources]
        return SentenceSimilarityResults(
            results=results, producer_id=self.PRODUCER_ID, input_token_count=_count(sources + others)
        )

    @RerankTask.taskmethod()
    def run_rerank_query(
        self,
        query: str,
        documents: List[JsonDict],
        top_n: Optional[int] = None,
        truncate_input_tokens: Optional[int] = 0,
        return_documents: bool = True,
        return_query: bool = True,
        return_text: bool = True,
    ) -> RerankResult:
        """For one query."""
        made = self.run_rerank_queries(
            [query], documents, top_n, truncate_input_tokens, return_documents, return_query, return_text
        )
        return RerankResult(
            result=made.results[0], producer_id=self.PRODUCER_ID, input_token_count=made.input_token_count
        )

    @RerankTasks.taskmethod()
    def run_rerank_queries(
        self,
        queries: List[str],
        documents: List[JsonDict],
        top_n: Optional[int] = None,
        truncate_input_tokens: Optional[int] = 0,
        return_documents: bool = True,
        return_queries: bool = True,
        return_text: bool = True,
    ) -> RerankResults:
        """For each query."""
        if not documents:
            raise ValueError("there must be a document")
        texts = [document.get("text") or document.get("_text", "") for document in documents]
        asked, found = ([_words(text, truncate_input_tokens) for text in each] for each in (queries, texts))
        most = top_n if top_n and top_n > 0 else len(documents)
        results = []
        for query, words in zip(queries, asked, strict=True):
            ranked = sorted(((_score(words, other), -place) for place, other in enumerate(found)), reverse=True)
            scores = [
                RerankScore(
                    document=documents[-place] if return_documents else None,
                    index=-place,
                    score=score,
                    text=texts[-place] if return_text else None,
                )
                for score, place in ranked[:most]
            ]
            results.append(RerankScores(query=query if return_queries else None, scores=scores))
        return RerankResults(results=results, producer_id=self.PRODUCER_ID, input_token_count=_count(asked + found))


def _words(text: str, most: Optional[int]) -> List[str]:
    if not isinstance(text, str):
        raise TypeError("a text is a string")
    words = text.split()
    return words[:most] if most and most > 0 else words


def _score(one: List[str], other: List[str]) -> float:
    left, right = set(one), set(other)
    return len(left & right) / (len(left) * len(right)) ** 0.5 if left and right else 0.0


def _count(texts: List[List[str]]) -> int:
    return sum(len(words) + SPECIAL_TOKENS for words in texts)
