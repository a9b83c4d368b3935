"""Tokens and classes of texts: a word is a token."""

import re
import zlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from inferbridge.mock.text import content_of
from inferbridge.mock.values import number

_VOCABULARY = 32_000


def _tokenize(request: Any, operations: Any) -> Any:
    """Tokens of each text; of a chat, those of what was said last."""
    texts = request.prompts or [content_of(request.chat)]
    return operations.TokenizeReply(results=[_tokens(text, operations) for text in texts])


def _tokens(text: str, operations: Any) -> Any:
    words = list(re.finditer(r"\S+", text))
    return operations.Tokenization(
        count=len(words),
        ids=[zlib.crc32(word[0].encode()) % _VOCABULARY for word in words],
        pieces=[word[0] for word in words],
        spans=[operations.Span(start=word.start(), end=word.end(), text=word[0]) for word in words],
    )


def _detokenize(request: Any, operations: Any) -> Any:
    """Words that say which tokens they were."""
    return operations.DetokenizeReply(text=" ".join(f"token{token}" for token in request.ids))


def _classify_text(request: Any, operations: Any) -> Any:
    labels = [operations.Label(label=name, score=abs(number(name, request.text))) for name in ("LABEL_0", "LABEL_1")]
    return operations.ClassifyTextReply(results=labels)


def _classify_tokens(request: Any, operations: Any) -> Any:
    """Every word is something, unless it is below the threshold."""
    return operations.ClassifyTokensReply(results=list(_parts(request, operations)))


def _parts(request: Any, operations: Any) -> Iterator[Any]:
    for word in re.finditer(r"\S+", request.text):
        score = abs(number("WORD", word[0]))
        if score >= (request.threshold or 0):
            place = {"start": word.start(), "end": word.end(), "word": word[0]}
            yield operations.LabelledSpan(**place, entity="WORD", entity_group="WORD", score=score, token_count=1)


REPLIES: Mapping[str, Callable[[Any, Any], Any]] = {
    "tokenize": _tokenize,
    "detokenize": _detokenize,
    "classify_text": _classify_text,
    "classify_tokens": _classify_tokens,
}
