"""Tokens with probabilities as OpenAI lists them (`logprobs`), and the operation's, each made from the other.

Completions have columns (`tokens`, `token_logprobs`, `top_logprobs`, `text_offset`), chats a list (`content`).

What no translation can bridge: vLLM's REST side gives decoded text (" how", and "" for half of a character) where fmaas
and caikit give pieces of the vocabulary ("Ġhow"). One cannot be made of the other without the tokenizer, so a token's
text is what the runtime says, and `text_offset` counts its characters; that is named as a loss (`TEXT`).
Alternatives stand in an object in completions: two of the same decoded text are one there.
"""

import math
from collections.abc import Iterable, Sequence
from typing import Any

from inferbridge.bridge.errors import invalid

TEXT = "tokens[].text"
"""How the loss of the texts' form is called."""
_LEAST = -9999.0
"""vLLM writes minus infinity as this, for JSON has none."""


def columns(prompt: Sequence[Any], tokens: Sequence[Any], offset: int, alternatives: int) -> dict[str, Any]:
    """The `logprobs` of completions; `offset` is where in the text the first token stands."""
    every = [*prompt, *tokens]
    logprobs = [*_of_prompt(prompt), *(_finite(token.logprob) for token in tokens)]
    offsets = []
    for token in every:
        offsets.append(offset)
        offset += len(token.text)
    return {
        "text_offset": offsets,
        "token_logprobs": logprobs,
        "tokens": [token.text for token in every],
        "top_logprobs": [
            None if logprob is None else _object(token, logprob, alternatives)
            for token, logprob in zip(every, logprobs, strict=True)
        ],
    }


def _of_prompt(prompt: Sequence[Any]) -> Iterable[float | None]:
    """Nothing stands before the first token, so it has no probability: fmaas leaves 0 or NaN there, JSON says null."""
    for number, token in enumerate(prompt):
        missing = number == 0 and (not token.logprob or math.isnan(token.logprob))
        yield None if missing else _finite(token.logprob)


def _object(token: Any, logprob: float, alternatives: int) -> dict[str, float]:
    """The token itself and the likeliest ones."""
    found = {token.text: logprob}
    for other in token.top_tokens[:alternatives]:
        found.setdefault(other.text, _finite(other.logprob))
    return found


def content(tokens: Iterable[Any], alternatives: int) -> dict[str, Any]:
    """The `logprobs` of chats. Bytes of a token are not known: it need not be text at all."""
    return {
        "content": [
            {**_entry(token), "top_logprobs": [_entry(other) for other in token.top_tokens[:alternatives]]}
            for token in tokens
        ]
    }


def _entry(token: Any) -> dict[str, Any]:
    return {"token": token.text, "logprob": _finite(token.logprob), "bytes": None}


def _finite(logprob: float | None) -> float:
    """A number for JSON; the token is certain where a runtime leaves its 0 out."""
    return max(logprob or 0.0, _LEAST)


def read_columns(value: Any, alternatives: int, operations: Any) -> list[Any]:
    """The tokens of completions, with no more alternatives than were asked for: vLLM adds the token itself to them."""
    try:
        rows = zip(value["tokens"], value["token_logprobs"], value["top_logprobs"], strict=True)
        return [
            operations.GeneratedToken(
                text=text, logprob=logprob, top_tokens=_likeliest((top or {}).items(), alternatives, operations)
            )
            for text, logprob, top in rows
        ]
    except (TypeError, KeyError, ValueError, AttributeError):
        raise invalid("logprobs is no list of tokens") from None


def _likeliest(entries: Iterable[tuple[str, float]], alternatives: int, operations: Any) -> list[Any]:
    ordered = sorted(entries, key=lambda entry: -entry[1])[:alternatives]
    return [operations.TokenAlternative(text=text, logprob=logprob) for text, logprob in ordered]


def without_logprobs(tokens: Iterable[Any]) -> None:
    """Tokens that were asked for without probabilities; alternatives keep their texts, as in fmaas."""
    for token in tokens:
        token.logprob = None
        for other in token.top_tokens:
            other.logprob = None
