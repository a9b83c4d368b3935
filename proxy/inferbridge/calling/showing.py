"""What a caller sees: each message of the answer on stdout, all else on stderr."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from inferbridge.bridge.context import Context, RuntimeProfile
from inferbridge.bridge.dialects import DIALECTS, OPEN_INFERENCE
from inferbridge.bridge.framing import unframe
from inferbridge.bridge.matching import half_of
from inferbridge.bridge.registry import RestHalf
from inferbridge.bridge.routes import Routes
from inferbridge.bridge.transcode_methods import Methods
from inferbridge.bridge.values import Buffer, Headers, join
from inferbridge.calling.asking import Place, Spoken, protos
from inferbridge.calling.reading import LIMIT, Ears, GrpcAnswer, Message, Outcome, RestAnswer
from inferbridge.protos import methods
from inferbridge.secret import shown_target, shown_value
from inferbridge.upstream.api import Receiver, UpstreamRequest
from inferbridge_generated.registry import APIS

type Out = Callable[[bytes], None]
"""Takes a line without its end."""
type Talk = Callable[[str], None]


class Screen:
    """The answer of one call, as it comes; `failed` once it is over."""

    def __init__(self, ask: Spoken, out: Out, talk: Talk, *, verbose: bool, credentials: bool = False) -> None:
        """`credentials` shows their values too."""
        self.failed = False
        self._ask = ask
        self._out = out
        self._talk = talk
        self._verbose = verbose
        self._lines = Lines(credentials)
        half = half_of(ask.api, ask.endpoint.name, ask.protocol, ask.variant)
        framing = half.framing if isinstance(half, RestHalf) else None
        self._done = framing.done.encode() if framing is not None else b""
        self._dialect = DIALECTS.get(ask.api.errors, OPEN_INFERENCE)
        self._context = Context(RuntimeProfile(name="", api=ask.api.name))

    def receiver(self, request: UpstreamRequest) -> Receiver:
        """Hears the answer."""
        own = protos(self._ask) if self._ask.protocol == "grpc" else None
        if self._verbose:
            _tell(self._talk, "client  >", self._lines.request(request, own))
        ears = Ears(self._head, self._message, self._end)
        return GrpcAnswer(ears, own, request.path) if own is not None else RestAnswer(ears)

    def _head(self, status: int, headers: Headers) -> None:
        if self._verbose:
            _tell(self._talk, "client  <", self._lines.head(status, headers))

    def _message(self, message: Message) -> None:
        error = None
        if message.name:
            error = self._dialect.read_event(message.name, message.text, self._context)
        if error is not None:
            self._fail(f"{error.code.name}: {message.text.decode('utf-8', 'replace')}")
        elif not self._done or message.text != self._done:
            self._out(message.text)

    def _end(self, outcome: Outcome) -> None:
        if outcome.code:
            name = f"HTTP {outcome.status}" if outcome.status >= 400 else outcome.code.name
            self._fail(f"{name}: {outcome.details}")

    def _fail(self, text: str) -> None:
        self.failed = True
        self._talk(text)

    def watch(self, place: Place) -> Callable[[UpstreamRequest], Receiver] | None:
        """Shows the calls of the runtime, if wanted."""
        return (lambda request: _watched(request, place, self._talk, self._lines)) if self._verbose else None


def _watched(request: UpstreamRequest, place: Place, talk: Talk, lines: "Lines") -> Receiver:
    theirs = _protos_of(request.path, place) if place.protocol == "grpc" else None
    _tell(talk, "runtime >", lines.request(request, theirs))

    def end(outcome: Outcome) -> None:
        if outcome.code or theirs is not None:
            _tell(talk, "runtime <", [f"{outcome.code.name} {outcome.details}".strip()])

    ears = Ears(
        lambda status, headers: _tell(talk, "runtime <", lines.head(status, headers)),
        lambda message: _tell(talk, "runtime <", [_text(message.text)]),
        end,
    )
    return GrpcAnswer(ears, theirs, request.path) if theirs is not None else RestAnswer(ears)


def _protos_of(rpc: str, place: Place) -> Methods:
    """The protos of the API that has this method; the gateway calls no other."""
    match = Routes(APIS[profile.api] for profile in place.profiles).rpc(rpc)
    variant = next(profile.variant for profile in place.profiles if profile.api == match.api.name)
    return methods(match.api.name, variant)


def _tell(talk: Talk, side: str, lines: Iterator[str] | list[str]) -> None:
    for line in lines:
        talk(f"{side} {line}")


@dataclass(frozen=True, slots=True)
class Lines:
    """Calls as text."""

    credentials: bool = False
    """Show them; else `***` stands in their place."""

    def request(self, request: UpstreamRequest, known: Methods | None) -> Iterator[str]:
        """A request as text; `known` make JSON of its messages."""
        yield f"{request.method} {request.path if self.credentials else shown_target(request.path)}"
        yield from self._fields(request.headers)
        body = join(request.chunks) if request.chunks else b""
        if known is not None:
            for chunks in unframe(body, "identity", LIMIT):
                yield _text(known.request_to_json(request.path, join(chunks) if chunks else b""))
        elif body:
            yield _text(body)

    def head(self, status: int, headers: Headers) -> Iterator[str]:
        """The head of an answer as text."""
        yield str(status)
        yield from self._fields(headers)

    def _fields(self, headers: Headers) -> Iterator[str]:
        for name, value in headers:
            yield f"{name}: {_text((value if self.credentials else shown_value(name, value)).encode())}"


def _text(body: Buffer) -> str:
    """A body for people: text, or how long it is. Control characters never reach the terminal."""
    try:
        text = bytes(body).decode()
    except UnicodeDecodeError:
        return f"({len(body)} bytes)"
    return "".join(letter if letter.isprintable() or letter in "\n\t" else "�" for letter in text)
