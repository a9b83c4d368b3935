"""What a half-bridge needs to know beyond the message: the runtime's quirks, the user's policies, and what was lost."""

import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from msgspec import Struct

from inferbridge.bridge.errors import BridgeError, Code

if TYPE_CHECKING:
    from inferbridge.bridge.chat_template import ChatTemplate

type NanPolicy = Literal["reject", "null", "literal"]
_LONGEST_NAME = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class RuntimeProfile:
    """The quirks of one runtime in one API, as data (from `specs/runtimes/*.yaml`)."""

    name: str
    api: str
    variant: str = ""
    """The dialect of the proto it speaks; empty is the API's own."""
    ports: dict[str, int] = field(default_factory=dict)
    """Where it listens by itself: `rest` and `grpc`, those that it speaks."""
    parameter_types: frozenset[str] = frozenset({"bool", "int64", "uint64", "string", "double"})
    json_doubles: bool = False
    """Its REST side takes double parameters even where its gRPC side has no place for them."""
    binary_tensors: bool = False
    """REST: speaks the binary tensor data extension."""
    json_missing: frozenset[str] = frozenset()
    """Datatypes its REST side cannot carry as JSON numbers."""
    missing: frozenset[str] = frozenset()
    """Datatypes it does not know at all."""
    lacks: frozenset[str] = frozenset()
    """Fields of requests that its older dialect of the API has no place for: it would ignore them."""
    model_versions: bool = True
    ascii_ids: bool = False
    drain_streams: bool = False
    """REST: a stream that is cut leaves something behind in the runtime, so it is read to its end unseen."""
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


def printable(name: str) -> str:
    """The name of a field as a header and a line of the log may hold it.

    Names hold keys that a client or a runtime chose: what is not printable ASCII is escaped, what is long is cut.
    """
    if not (name.isascii() and name.isprintable()):
        name = name.encode("unicode_escape").decode("ascii")
    return name if len(name) <= _LONGEST_NAME else f"{name[:_LONGEST_NAME]}..."


@dataclass(frozen=True, slots=True)
class Policy:
    """What the user allows."""

    lossy: bool = False
    """True: a field that cannot be carried is dropped, counted and named; False: it is an error."""
    nan: NanPolicy = "reject"
    """How NaN and Infinity stand in JSON between us and a REST client."""


def _new_id() -> str:
    return uuid.uuid4().hex


def _untold(names: Sequence[str]) -> None:
    """Nobody wants to know beyond what the answer says."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What all calls over one bridge share."""

    client_api: str = ""
    operations: Any = None
    """The module of the operations' structs, for rules that make some; generated code is not imported from here."""
    chat_template: "ChatTemplate | None" = None
    """Makes a prompt of messages for a runtime that takes none."""
    default_model: str = ""
    """The model that a call without one means."""
    adapters: Mapping[str, str] = field(default_factory=dict)
    """Model names that are adapters of it, and the ids by which a runtime that names adapters apart knows them."""
    now: Callable[[], float] = time.time
    """Seconds since 1970."""
    new_id: Callable[[], str] = _new_id
    on_losses: Callable[[Sequence[str]], None] = _untold
    """Is told the fields that a call loses, each once: those of the request when it is across, others as they come."""


_NO_SETTING = Setting()


class RuntimeFault(BridgeError):
    """An error that the runtime itself answered with."""


class Context(Struct):
    """One call's surroundings; collects its losses."""

    profile: RuntimeProfile
    policy: Policy = Policy()
    losses: list[str] = []
    across: bool = False
    """The request has been taken across; before, a loss may still be refused together with the call."""
    replying: bool = False
    """True while the reply is translated: what cannot be carried then is not the client's fault."""
    setting: Setting = _NO_SETTING
    stream: bool = False
    """The client's answer is streamed."""
    streamed: bool = False
    """The runtime's is."""

    @property
    def client_api(self) -> str:
        """Name of the API that the client speaks."""
        return self.setting.client_api

    @property
    def operations(self) -> Any:
        """See `Setting.operations`."""
        return self.setting.operations

    @property
    def chat_template(self) -> "ChatTemplate | None":
        """See `Setting.chat_template`."""
        return self.setting.chat_template

    @property
    def now(self) -> Callable[[], float]:
        """The clock."""
        return self.setting.now

    @property
    def new_id(self) -> Callable[[], str]:
        """The source of ids."""
        return self.setting.new_id

    def lose(self, name: str, why: str) -> None:
        """Note that field `name` cannot reach the other side: an error unless losses are allowed."""
        if not self.policy.lossy:
            raise self.inexpressible(f"{name}: {why}")
        self.note(name)

    def note(self, name: str) -> None:
        """Note a loss that changes no answer: never an error, always named, once for all messages of a stream."""
        name = printable(name)
        if name not in self.losses:
            self.losses.append(name)
            if self.across:
                self.setting.on_losses((name,))

    def crossed(self) -> None:
        """The request is across: what it has lost is told, and from now on every loss as it comes."""
        self.across = True
        if self.losses:
            self.setting.on_losses(self.losses)

    def inexpressible(self, message: str) -> BridgeError:
        """The error for what cannot be carried across."""
        return BridgeError(Code.INTERNAL if self.replying else Code.INVALID_ARGUMENT, message)
