"""Embeddings, similarities and rankings: numbers that follow from the texts they are about, and from nothing else."""

from collections.abc import Callable, Mapping
from typing import Any

from inferbridge.bridge.converters import document_text
from inferbridge.mock.values import VECTOR, number


def _words(texts: list[str]) -> int:
    return sum(len(text.split()) for text in texts)


def _embed(request: Any, operations: Any) -> Any:
    """Vectors of `dimensions` numbers."""
    count = request.dimensions or VECTOR
    vectors = [
        operations.Vector(index=index, values=[number(str(at), text) for at in range(count)])
        for index, text in enumerate(request.texts)
    ]
    return operations.EmbedReply(model=request.model, vectors=vectors, prompt_tokens=_words(request.texts))


def _similarity(request: Any, operations: Any) -> Any:
    """1 for equal texts."""
    results = [
        operations.Similarities(scores=[_score(source, sentence) for sentence in request.sentences])
        for source in request.sources
    ]
    words = _words(request.sources) + _words(request.sentences)
    return operations.SimilarityReply(model=request.model, results=results, prompt_tokens=words)


def _score(one: str, other: str) -> float:
    return 1.0 if one == other else number(one, other)


def _rerank(request: Any, operations: Any) -> Any:
    """All documents, or the best `top_n`; query, text and document as far as they are not declined."""
    texts = [document_text(document) for document in request.documents]
    rankings = [
        operations.Ranking(
            query=query if request.return_queries is not False else None,
            documents=[_ranked(request, operations, query, index, text) for index, text in enumerate(texts)],
        )
        for query in request.queries
    ]
    for ranking in rankings:
        ranking.documents.sort(key=lambda ranked: -ranked.score)
        if request.top_n and request.top_n > 0:
            del ranking.documents[request.top_n :]
    words = _words(request.queries) + _words(texts)
    return operations.RerankReply(model=request.model, rankings=rankings, prompt_tokens=words, total_tokens=words)


def _ranked(request: Any, operations: Any, query: str, index: int, text: str) -> Any:
    return operations.RankedDocument(
        index=index,
        score=_score(query, text),
        text=text if request.return_text is not False else None,
        document=request.documents[index] if request.return_documents is not False else None,
    )


REPLIES: Mapping[str, Callable[[Any, Any], Any]] = {"embed": _embed, "similarity": _similarity, "rerank": _rerank}
