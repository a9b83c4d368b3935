"""Similarities and rankings (vLLM 0.32, caikit 0.27 with caikit-nlp 0.5).

* vLLM's score compares one text with others, or two lists of one length pair by pair; caikit compares each source with
  each sentence. The pairs are the diagonal of that, so a call for pairs crosses as one for all of them.
* Caikit answers query, texts and whole documents with a ranking unless told not to. vLLM knows only texts, so for a
  caikit client they are taken from the request.
* A protobuf text has no presence: what the client does not want back comes as an empty one, and is null in JSON. Nor
  have the members of an object an order there, or whole doubles a point: a document that comes back as it was sent is
  the client's own.
* A runtime that is asked about nothing answers what makes no sense, or fails; such a call is refused.
"""

from typing import Any

from inferbridge.bridge.context import Context
from inferbridge.bridge.converters import document_text
from inferbridge.bridge.errors import BridgeError, Code, invalid
from inferbridge.bridge.rules.pooling import CaikitPooling, OpenAiPooling, OpenAiTimed


class OpenAiScore(OpenAiTimed):
    """/score"""

    prefix = "score"

    def received_request(self, request: Any, context: Context) -> None:
        """The lengths of the lists are as vLLM wants them."""
        if not request.sentences or len(request.sources) not in {1, len(request.sentences)}:
            raise invalid("text_1 and text_2: input lengths must be either 1:1, 1:N or N:N")

    def sent_request(self, request: Any, context: Context) -> Any:
        """At least one sentence."""
        _check_given(request, context, "sources", "sentences")
        return super().sent_request(request, context)

    def received_reply(self, reply: Any, request: Any, context: Context) -> None:
        """A score for each sentence."""
        _check_scores(reply, request)

    def sent_reply(self, reply: Any, request: Any, context: Context) -> None:
        """Of all scores those of the pairs."""
        super().sent_reply(reply, request, context)
        if len(request.sources) > 1:
            pairs = [result.scores[place] for place, result in enumerate(reply.results)]
            reply.results = reply.results[:1]
            reply.results[0].scores = pairs


class OpenAiRerank(OpenAiPooling):
    """/rerank"""

    prefix = "score"

    def received_request(self, request: Any, context: Context) -> None:
        """The answer has texts, and nothing more of a document."""
        if request.top_n is not None and request.top_n < 0:
            raise invalid("top_n: it must be greater than or equal to 0")
        request.return_text, request.return_documents, request.return_queries = True, False, False

    def sent_request(self, request: Any, context: Context) -> Any:
        """What a client of another API wants back is taken from its request, see `CaikitRerank`."""
        _check_given(request, context, "queries", "documents")
        request = super().sent_request(request, context)
        request.return_text = request.return_documents = request.return_queries = None
        request.top_n = request.top_n if request.top_n and request.top_n > 0 else None
        return request

    def received_reply(self, reply: Any, request: Any, context: Context) -> None:
        """Every document that was ranked was sent."""
        _check_rankings(reply, request)


class CaikitSimilarity(CaikitPooling):
    """Caikit's tasks of sentence similarity."""

    def received_reply(self, reply: Any, request: Any, context: Context) -> None:
        """A score for each sentence: caikit has a model of another task answer all the same, in that task's form."""
        _check_scores(reply, request)


class CaikitRerank(CaikitPooling):
    """Caikit's rerank tasks."""

    def received_reply(self, reply: Any, request: Any, context: Context) -> None:
        """An empty text that was not wanted is none."""
        _check_rankings(reply, request)
        for ranking in reply.rankings:
            if request.return_queries is False:
                ranking.query = None
            for ranked in ranking.documents:
                ranked.text = ranked.text if request.return_text is not False else None

    def sent_reply(self, reply: Any, request: Any, context: Context) -> None:
        """What the client wants back of its request, as it was sent."""
        own = context.profile.api == context.client_api
        for query, ranking in zip(request.queries, reply.rankings, strict=True):
            if not own:
                ranking.query = query if request.return_queries is not False else None
            for ranked in ranking.documents:
                document = request.documents[ranked.index]
                if not own:
                    _give_back(ranked, document, request)
                elif ranked.document == document:
                    ranked.document = document


def _give_back(ranked: Any, document: Any, request: Any) -> None:
    ranked.document = document if request.return_documents is not False else None
    ranked.text = document_text(document) if request.return_text is not False else None


def _check_given(request: Any, context: Context, *names: str) -> None:
    for name in names:
        if not getattr(request, name):
            raise invalid(f"{name}: {context.profile.name} needs at least one")


def _check_scores(reply: Any, request: Any) -> None:
    found = [len(result.scores) for result in reply.results]
    if found != [len(request.sentences)] * len(request.sources):
        wanted = f"{len(request.sentences)} for each of {len(request.sources)} sources"
        raise BridgeError(Code.INTERNAL, f"the runtime answered {sum(found)} scores, not {wanted}")


def _check_rankings(reply: Any, request: Any) -> None:
    if len(reply.rankings) != len(request.queries):
        message = f"the runtime answered {len(reply.rankings)} rankings for {len(request.queries)} queries"
        raise BridgeError(Code.INTERNAL, message)
    for ranked in (each for ranking in reply.rankings for each in ranking.documents):
        if not 0 <= ranked.index < len(request.documents):
            raise BridgeError(Code.INTERNAL, f"the runtime ranked a document {ranked.index} that was not sent")
