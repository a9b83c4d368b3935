"""What an identity may call.

Two layers must each hold a grant for a call: what the credential itself is limited to (a key's entry), if it is, and
the rules that are for its identity, if there are rules. Within a layer one fitting grant is enough. What a head alone
decides (operation, endpoint) is decided before the body is read, and the rest (model, tokens, size) with the body, as
parsed: never on paths or bytes as sent.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from inferbridge.auth.identity import Grant, Identity
from inferbridge.auth.settings import Callers, Rates, Rule
from inferbridge.bridge.errors import BridgeError, Code


class Forbidden(BridgeError):
    """403 / PERMISSION_DENIED."""

    def __init__(self, message: str) -> None:
        headers = (("www-authenticate", 'Bearer error="insufficient_scope"'),)
        super().__init__(Code.PERMISSION_DENIED, message, headers=headers)
        self.method = ""
        """The authenticator that refused it; empty for a rule."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What the body of a call asks for."""

    model: str | None = None
    """None: the operation is about no model."""
    max_tokens: int | None = None
    counts_tokens: bool = False
    """The operation makes tokens, so that their number can be limited."""
    size: int = 0
    """Bytes of the body."""


@dataclass(frozen=True, slots=True)
class Permit:
    """What is left to decide of a call whose endpoint is allowed."""

    layers: tuple[tuple[Grant, ...], ...] = ()
    rates: Rates | None = None

    @property
    def inspects(self) -> bool:
        """Whether the body decides."""
        return not all(any(_is_free(grant) for grant in layer) for layer in self.layers)

    @property
    def body_limit(self) -> int | None:
        """Bytes that no grant exceeds, so that a larger body need not be read; None for no limit."""
        limits = []
        for layer in self.layers:
            sizes = [grant.max_body for grant in layer if grant.max_body is not None]
            if len(sizes) == len(layer):
                limits.append(max(sizes))
        return min(limits, default=None)

    def check(self, asked: Asked) -> None:
        """Raise Forbidden unless every layer allows it; the message says what the last grant of a layer misses."""
        for layer in self.layers:
            refusals = [_refusal(grant, asked) for grant in layer]
            if all(refusals):
                raise Forbidden(refusals[-1])

    def sees(self, model: str) -> bool:
        """Whether a model may be named in a list."""
        return all(any(_fits(model, grant.models) for grant in layer) for layer in self.layers)


EVERYTHING = Permit()


@dataclass(frozen=True, slots=True)
class Authorizer:
    """The rules. None at all: whoever is recognised may call everything."""

    rules: Sequence[Rule] = ()

    def permit(self, identity: Identity, api: str, endpoint: str, operation: str) -> Permit:
        """What remains to be decided of a call to an endpoint; Forbidden when that is decided already."""
        layers, rates = [], None
        if identity.grant is not None:
            layers.append(_allowed((identity.grant,), api, endpoint, operation))
        if self.rules:
            rules = [rule for rule in self.rules if include(rule, identity)]
            layers.append(_allowed((rule.allow for rule in rules), api, endpoint, operation))
            rates = next((rule.rates for rule in rules if _covers(rule.allow, api, endpoint, operation)), None)
        return Permit(tuple(layers), rates) if layers else EVERYTHING


def _allowed(grants: Iterable[Grant], api: str, endpoint: str, operation: str) -> tuple[Grant, ...]:
    found = tuple(grant for grant in grants if _covers(grant, api, endpoint, operation))
    if not found:
        raise Forbidden(f"{api}/{endpoint} is not allowed for this caller")
    return found


def _covers(grant: Grant, api: str, endpoint: str, operation: str) -> bool:
    by_operation = not grant.operations or operation in grant.operations
    return by_operation and _fits(f"{api}/{endpoint}", grant.endpoints)


def include(callers: Callers, identity: Identity) -> bool:
    """Whether an identity is one of some callers."""
    return (
        _fits(identity.subject, callers.subjects)
        and (not callers.groups or any(_fits(group, callers.groups) for group in identity.groups))
        and (not callers.keys or identity.key_id in callers.keys)
        and (not callers.methods or identity.method in callers.methods)
    )


def _fits(text: str, globs: Sequence[str]) -> bool:
    return not globs or any(fnmatchcase(text, glob) for glob in globs)


def _is_free(grant: Grant) -> bool:
    return not grant.models and grant.max_tokens is None and grant.max_body is None


def _refusal(grant: Grant, asked: Asked) -> str:
    """Why a grant does not allow it; empty when it does."""
    if grant.models and asked.model is not None and not (asked.model and _fits(asked.model, grant.models)):
        return f"the model {asked.model!r} is not allowed for this caller" if asked.model else "the call names no model"
    if grant.max_body is not None and asked.size > grant.max_body:
        return f"a body of {asked.size} bytes is not allowed for this caller: at most {grant.max_body}"
    if grant.max_tokens is not None and asked.counts_tokens:
        if asked.max_tokens is None:
            return f"max_tokens must be given by this caller: at most {grant.max_tokens}"
        if asked.max_tokens > grant.max_tokens:
            return f"{asked.max_tokens} tokens are not allowed for this caller: at most {grant.max_tokens}"
    return ""
