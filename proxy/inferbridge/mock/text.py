"""Generated text that anybody can foresee: the model repeats the words of its prompt, a word a token, then stops.

All that a client can ask about the text holds: limits, stop sequences, counts, listed tokens and several answers.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

MOST_TOKENS = 1000
"""Where the client names no limit."""
LOGPROB = -0.5
RANK = 1


@dataclass(slots=True)
class Generated:
    """One text."""

    prompt: list[str]
    """Words."""
    tokens: list[str]
    """Words, each but the first with the space before it; what a stop sequence cut off is left out."""
    reason: str
    stop_sequence: str
    count: int
    """Tokens generated, end token included."""


def generate(request: Any, prompt: str) -> Generated:
    """What the model says to one prompt."""
    words = prompt.split()[-request.truncate_tokens :] if request.truncate_tokens else prompt.split()
    said = words or ["nothing"]
    limit = MOST_TOKENS if request.max_tokens is None else request.max_tokens
    wanted = max(len(said), request.min_tokens or 0)
    tokens = [f"{' ' if at else ''}{said[at % len(said)]}" for at in range(min(wanted, limit))]
    ended = wanted < limit
    text = Generated(words, tokens, "eos_token" if ended else "max_tokens", "", len(tokens) + ended)
    for sequence in request.stop_sequences:
        _stop(text, sequence, bool(request.include_stop_sequence))
    return text


def _stop(text: Generated, sequence: str, include: bool) -> None:
    """Cut the text where the sequence is complete."""
    whole = "".join(text.tokens)
    at = whole.find(sequence) if sequence else -1
    if at < 0:
        return
    kept, text.reason, text.stop_sequence = [], "stop_sequence", sequence
    length = at + len(sequence)
    for token in text.tokens:
        kept.append(token)
        length -= len(token)
        if length <= 0:
            break
    text.count = len(kept)
    end = at + len(sequence) if include else at
    text.tokens = list(_cut(kept, end))


def _cut(tokens: list[str], length: int) -> Iterator[str]:
    for token in tokens:
        if length <= 0:
            return
        yield token[:length]
        length -= len(token)


def prompts_of(request: Any) -> list[str]:
    """The prompts; of a chat, what was said last."""
    if request.messages is None:
        return list(request.prompts) or [""]
    return [content_of(request.messages)]


def content_of(chat: Any) -> str:
    """The text of a chat's last message (OpenAI form)."""
    message = chat[-1] if isinstance(chat, list) and chat else None
    content = message.get("content") if isinstance(message, dict) else None
    if isinstance(content, list):
        content = " ".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    return content if isinstance(content, str) else ""


def reply(request: Any, operations: Any) -> Any:
    """The whole answer, a choice for each prompt and each of its `n`."""
    prompts = prompts_of(request)
    choices = [
        _choice(request, operations, index, prompt)
        for index, prompt in enumerate(prompt for prompt in prompts for _ in range(request.n or 1))
    ]
    return operations.GenerateReply(
        model=request.model,
        choices=choices,
        prompt_tokens=sum(len(prompt.split()) for prompt in prompts),
        completion_tokens=sum(choice.completion_tokens for choice in choices),
    )


def _choice(request: Any, operations: Any, index: int, prompt: str) -> Any:
    text = generate(request, prompt)
    return operations.Choice(
        index=index,
        text=_echoed(request, prompt) + "".join(text.tokens),
        finish_reason=text.reason,
        stop_sequence=text.stop_sequence,
        prompt_tokens=len(text.prompt),
        completion_tokens=text.count,
        seed=request.seed,
        tokens=_listed(operations, text.tokens, request) if request.return_tokens else [],
        prompt_details=_listed(operations, text.prompt, request) if request.return_prompt_tokens else [],
    )


def _echoed(request: Any, prompt: str) -> str:
    return f"{prompt} " if request.echo else ""


def _listed(operations: Any, tokens: list[str], request: Any) -> list[Any]:
    return [
        operations.GeneratedToken(
            text=token,
            logprob=LOGPROB if request.return_logprobs else None,
            rank=RANK if request.return_ranks else None,
        )
        for token in tokens
    ]


def messages(request: Any, operations: Any) -> Iterator[Any]:
    """The same answer streamed: what is known of the prompt, a message a token, and the end with its reason."""
    index = 0
    for prompt in prompts_of(request):
        for _ in range(request.n or 1):
            yield from _streamed(request, operations, index, prompt)
            index += 1


def _streamed(request: Any, operations: Any, index: int, prompt: str) -> Iterator[Any]:
    message = operations.GenerateMessage
    text = generate(request, prompt)
    common = {"index": index, "model": request.model}
    details = _listed(operations, text.prompt, request) if request.return_prompt_tokens else []
    yield message(**common, text="", prompt_tokens=len(text.prompt), seed=request.seed, prompt_details=details)
    if request.echo:
        yield message(**common, text=_echoed(request, prompt))
    for count, token in enumerate(text.tokens, 1):
        tokens = _listed(operations, [token], request) if request.return_tokens else []
        yield message(**common, text=token, completion_tokens=count, tokens=tokens)
    yield message(
        **common,
        text="",
        completion_tokens=text.count,
        finish_reason=text.reason,
        stop_sequence=text.stop_sequence,
        seed=request.seed,
    )
