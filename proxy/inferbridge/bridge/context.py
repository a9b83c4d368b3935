"""What a half-bridge needs to know beyond the message: the runtime's quirks, the user's policies, and what was lost."""

from dataclasses import dataclass, field
from typing import Literal

from inferbridge.bridge.errors import BridgeError, Code

type NanPolicy = Literal["reject", "null", "literal"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RuntimeProfile:
    """The quirks of one runtime in one API, as data (from `specs/runtimes/*.yaml`)."""

    name: str
    api: str
    variant: str = ""
    """The dialect of the proto it speaks; empty is the API's own."""
    parameter_types: frozenset[str] = frozenset({"bool", "int64", "uint64", "string", "double"})
    json_doubles: bool = False
    """Its REST side takes double parameters even where its gRPC side has no place for them."""
    binary_tensors: bool = False
    """REST: speaks the binary tensor data extension."""
    json_missing: frozenset[str] = frozenset()
    """Datatypes its REST side cannot carry as JSON numbers."""
    missing: frozenset[str] = frozenset()
    """Datatypes it does not know at all."""
    model_versions: bool = True
    ascii_ids: bool = False
    nan: NanPolicy = "reject"
    """How NaN and Infinity stand in its JSON."""
    status: dict[Code, int] = field(default_factory=dict)
    """gRPC code to the status its own REST side would give."""
    codes: dict[int, Code] = field(default_factory=dict)
    """REST status to the code its own gRPC side would give."""
    details: tuple[tuple[str, Code], ...] = ()
    """Beginnings of gRPC error texts that mean another code than the one they come with."""
    not_ready: tuple[int, ...] = (503,)
    """REST statuses that mean "not ready"; the first is what a REST client is told."""


@dataclass(frozen=True, slots=True)
class Policy:
    """What the user allows."""

    lossy: bool = False
    """True: a field that cannot be carried is dropped, counted and named; False: it is an error."""
    nan: NanPolicy = "reject"
    """How NaN and Infinity stand in JSON between us and a REST client."""


class RuntimeFault(BridgeError):
    """An error that the runtime itself answered with."""


@dataclass(slots=True)
class Context:
    """One call's surroundings; collects its losses."""

    profile: RuntimeProfile
    policy: Policy = Policy()
    losses: list[str] = field(default_factory=list)
    replying: bool = False
    """True while the reply is translated: what cannot be carried then is not the client's fault."""

    def lose(self, name: str, why: str) -> None:
        """Note that field `name` cannot reach the other side: an error unless losses are allowed."""
        if not self.policy.lossy:
            raise self.inexpressible(f"{name}: {why}")
        self.losses.append(name)

    def note(self, name: str) -> None:
        """Note a loss that changes no answer: never an error, always named."""
        self.losses.append(name)

    def inexpressible(self, message: str) -> BridgeError:
        """The error for what cannot be carried across."""
        return BridgeError(Code.INTERNAL if self.replying else Code.INVALID_ARGUMENT, message)
