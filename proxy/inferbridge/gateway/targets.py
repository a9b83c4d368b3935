"""The runtimes the gateway sends to, and the choice among them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from inferbridge.bridge.context import RuntimeProfile
from inferbridge.bridge.errors import BridgeError, Code
from inferbridge.bridge.registry import Api, GrpcHalf, RestHalf
from inferbridge.bridge.routes import Match
from inferbridge.upstream.api import Pool


@dataclass(frozen=True, slots=True)
class Target:
    """One running runtime."""

    name: str
    profile: RuntimeProfile
    protocol: str
    """`rest` or `grpc`."""
    pool: Pool
    models: tuple[str, ...] = ("*",)
    """Globs of the models it serves."""

    @property
    def serves_all(self) -> bool:
        """Whether it takes every model."""
        return "*" in self.models

    def serves(self, model: str) -> bool:
        """Whether it takes this model."""
        return self.serves_all or any(fnmatchcase(model, glob) for glob in self.models)

    def half(self, api: Api, endpoint: str) -> RestHalf | GrpcHalf | None:
        """How it speaks an endpoint; None when it cannot."""
        return (
            api.endpoints[endpoint].rest if self.protocol == "rest" else api.grpc_half(endpoint, self.profile.variant)
        )


def able(targets: Sequence[Target], match: Match) -> list[Target]:
    """The targets that speak an endpoint; NOT_FOUND when none does."""
    found = [
        target
        for target in targets
        if target.profile.api == match.api.name and target.half(match.api, match.endpoint.name)
    ]
    if not found:
        raise BridgeError(Code.NOT_FOUND, f"no upstream speaks {match.api.name}/{match.endpoint.name}")
    return found


def choose(targets: Sequence[Target], protocol: str, model_of: Callable[[], str]) -> Target:
    """The first of some able targets that takes the model; one of the client's own protocol goes first.

    `model_of` reads the model from the call; it is only asked when the choice depends on it.
    """
    if len(targets) == 1 and targets[0].serves_all:
        return targets[0]
    if not all(target.serves_all for target in targets):
        model = model_of()
        targets = [target for target in targets if target.serves(model)]
        if not targets:
            raise BridgeError(Code.NOT_FOUND, f"no upstream serves the model {model!r}")
    return next((target for target in targets if target.protocol == protocol), targets[0])
