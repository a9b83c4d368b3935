"""The record of a call: there is exactly one for each, whatever becomes of it, and it says what happened."""

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from gateway.applications import Echo, Failing, Silent
from gateway.test_guard import BAD, GOOD, PATH, known
from gateway.test_service import GRPC, INFER, INFER_RPC, Client, Runtime, infer_reply, silent, target
from inferbridge.auth.authenticator import Chain
from inferbridge.auth.rates import RateLimiter
from inferbridge.auth.rules import Authorizer
from inferbridge.auth.settings import Rates, Rule
from inferbridge.bridge.context import Policy
from inferbridge.bridge.errors import BridgeError, Code
from inferbridge.bridge.framing import frame
from inferbridge.bridge.values import Headers, header, join
from inferbridge.gateway.application import Application, RequestHead
from inferbridge.gateway.calls.guard import Access, Guard
from inferbridge.gateway.clients.connection import ClientConnection
from inferbridge.gateway.limits import Limits
from inferbridge.gateway.record import CallRecord, bounded
from inferbridge.gateway.records.counting import kind_of
from inferbridge.gateway.records.recording import Recorder
from inferbridge.gateway.service import GatewayService
from inferbridge.upstream.api import Receiver, UpstreamRequest
from inferbridge_generated.open_inference import wire
from inferbridge_generated.registry import APIS


@dataclass
class Kept:
    """Keeps all records."""

    open: int = 0
    records: list[CallRecord] = field(default_factory=list)

    def began(self, record: CallRecord) -> None:
        self.open += 1

    def ended(self, record: CallRecord) -> None:
        self.open -= 1
        self.records.append(record)

    @property
    def one(self) -> CallRecord:
        """The only one."""
        assert self.open == 0
        (record,) = self.records
        return record


def connected(application: Application, limits: Limits | None = None) -> tuple[ClientConnection, Kept]:
    """A client's connection to an application whose calls are recorded."""
    kept = Kept()
    return ClientConnection(Recorder(application, [kept]), limits or Limits(), lambda: None), kept


def post(path: str, body: bytes = b"abc") -> bytes:
    """A request over HTTP/1.1."""
    return b"POST %s HTTP/1.1\r\nhost: a\r\ncontent-length: %d\r\n\r\n%s" % (path.encode(), len(body), body)


@pytest.mark.parametrize(
    ("application", "sent", "status", "error"),
    [
        (Echo(), post("/"), 200, ""),
        (Failing(), post("/open"), 500, "internal error"),
        (Failing(), post("/on_data"), 500, "internal error"),
        (Failing(), post("/on_end"), 500, "internal error"),
        (Failing(), post("/bad_header"), 500, "internal error"),
        (Failing(), post("/after_head"), 200, "internal error"),
        (Failing(refuse=True), post("/open"), 500, "internal error"),
        (Failing(refuse=True), post("/on_end"), 500, "internal error"),
        (Echo(), b"GET / HTTP/1.1\r\nhost a\r\n\r\n", None, None),
        (Echo(), b"GET / HTTP/3.7\r\nhost: a\r\n\r\n", None, None),
        (Echo(), b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n1\r\nab\r\nx\r\n", None, None),
        (Echo(), post("/" + "x" * 200), 414, None),
    ],
)
def test_one_record_for_each_end_on_a_connection(
    application: Application, sent: bytes, status: int | None, error: str | None
) -> None:
    """Answered, failed at each stage, failed to refuse, malformed head, malformed body, too long: one record each."""
    connection, kept = connected(application, Limits(target_bytes=100))
    connection.receive(sent)
    output = connection.take_output()
    record = kept.one
    assert output.startswith(b"HTTP/1.1 %d " % (record.status or 0)) or "after_head" in sent.decode()  # cut
    assert status in {None, record.status}
    assert error in {None, record.error}
    assert bool(record.error) == (record.status != 200 or error != "")
    connection.lost()
    assert kept.one is record


def test_a_client_that_leaves_is_flagged() -> None:
    """DC, no status, and what had come of the body is counted; one record for every call that was open."""
    connection, kept = connected(Silent())
    connection.receive(post("/"))
    assert kept.open == 1
    connection.lost()
    assert (kept.one.flags, kept.one.status, kept.one.bytes_in, kept.one.messages_in) == (("DC",), None, 3, 1)


def test_pipelined_calls_have_a_record_each() -> None:
    """Ids differ, sizes are those of each."""
    connection, kept = connected(Echo())
    connection.receive(post("/", b"a") + post("/", b"bcd"))
    assert [(record.bytes_in, record.bytes_out) for record in kept.records] == [(1, 1), (3, 3)]
    assert len({record.request_id for record in kept.records}) == 2


def test_an_observer_that_fails_harms_nobody(caplog: pytest.LogCaptureFixture) -> None:
    """The call is answered, the others hear of it, and the log says what failed."""

    class Broken(Kept):
        def began(self, record: CallRecord) -> None:
            raise ZeroDivisionError

        def ended(self, record: CallRecord) -> None:
            raise ZeroDivisionError

    kept = Kept()
    connection = ClientConnection(Recorder(Echo(), [Broken(), kept]), Limits(), lambda: None)
    connection.receive(post("/"))
    assert connection.take_output().startswith(b"HTTP/1.1 200")
    assert kept.one.status == 200
    assert [record.levelname for record in caplog.records] == ["ERROR", "ERROR"]


# the gateway's own ends


def message(model: str = "m", raw: bytes = b"") -> bytes:
    """A framed request of V2."""
    contents = [raw] if raw else []
    asked = wire.ModelInferRequest(model_name=model, raw_input_contents=contents)
    return b"".join(frame([wire.encode_ModelInferRequest(asked)]))


def failing_with(code: Code, text: str) -> Callable[[UpstreamRequest, Receiver], None]:
    """A runtime whose calls fail in transport."""

    def answer(request: UpstreamRequest, receiver: Receiver) -> None:
        receiver.on_failure(BridgeError(code, text))

    return answer


def refusing(request: UpstreamRequest, receiver: Receiver) -> None:
    """A runtime that does not know the model."""
    receiver.on_head(200, (*GRPC, ("grpc-status", "5"), ("grpc-message", "no such model")))
    receiver.on_end(())


def broken(request: UpstreamRequest, receiver: Receiver) -> None:
    """A runtime whose answer is no message."""
    receiver.on_head(200, GRPC)
    receiver.on_data(b"\0\0\0\0\x02\xff\xff")
    receiver.on_end((("grpc-status", "0"),))


@dataclass
class Played:
    """A guarded gateway in front of one Triton that speaks gRPC, recorded."""

    runtime: Runtime
    body_bytes: int = 1000
    kept: Kept = field(default_factory=Kept)

    def __post_init__(self) -> None:
        rules = Authorizer((Rule(rates=Rates(requests_per_minute=1)),))
        limits, limiter = Limits(body_bytes=self.body_bytes), RateLimiter(now=lambda: 60.0)
        inner = GatewayService([target(self.runtime)], APIS, Policy(), limits, None, rules, limiter=limiter)
        self.recorder = Recorder(Guard(inner, Access(Chain([known()]))), [self.kept])

    def call(self, path: str, body: bytes, headers: Headers = GOOD, method: str = "POST") -> Client:
        """A whole call."""
        client = Client()
        sink = self.recorder.open(RequestHead(method, path, "a", headers, "1.1", peer="10.0.0.1:5"), client)
        sink.on_data(body)
        sink.on_end()
        if not client.ended:
            sink.on_cancel()
        return client


OK = Runtime(infer_reply)
RPC = (*GRPC, *GOOD)


@pytest.mark.parametrize(
    ("runtime", "path", "body", "headers", "status", "grpc", "flags", "error"),
    [
        (infer_reply, PATH, INFER, GOOD, 200, None, (), ""),
        (infer_reply, INFER_RPC, message(), RPC, 200, 0, (), ""),
        (infer_reply, PATH, INFER, BAD, 401, None, ("UAEX",), "credential"),
        (infer_reply, INFER_RPC, message(), (*GRPC, *BAD), 200, 16, ("UAEX",), "credential"),
        (infer_reply, "/v9/nothing", b"{}", GOOD, 404, None, ("NR",), "no endpoint"),
        (infer_reply, "/a.B/C", b"", RPC, 200, 12, ("NR",), "a.B/C"),
        (infer_reply, PATH, INFER.replace(b"[2]", b"[3]"), GOOD, 400, None, ("TE",), "'x'"),
        (infer_reply, PATH, b" " * 1001, GOOD, 413, None, ("LR",), "over the limit"),
        (broken, PATH, INFER, GOOD, 500, None, ("TE",), "malformed"),
        (refusing, PATH, INFER, GOOD, 404, None, (), "no such model"),
        (refusing, INFER_RPC, message(), RPC, 200, 5, (), "no such model"),
        (failing_with(Code.UNAVAILABLE, "cannot connect"), PATH, INFER, GOOD, 503, None, ("UC",), "cannot connect"),
        (failing_with(Code.UNAVAILABLE, "gone"), INFER_RPC, message(), RPC, 200, 14, ("UC",), "gone"),
        (failing_with(Code.DEADLINE_EXCEEDED, "late"), PATH, INFER, GOOD, 504, None, ("UT",), "late"),
        (silent, PATH, INFER, GOOD, None, None, ("DC",), ""),
        (silent, INFER_RPC, message(), RPC, None, None, ("DC",), ""),
    ],
)
def test_one_record_for_each_end_in_the_gateway(
    runtime: Callable[[UpstreamRequest, Receiver], None],
    path: str,
    body: bytes,
    headers: Headers,
    status: int | None,
    grpc: int | None,
    flags: tuple[str, ...],
    error: str,
) -> None:
    """Answered, not let in, not found, not to be translated, too large, upstream dead or late, client gone."""
    played = Played(Runtime(runtime))
    client = played.call(path, body, headers)
    record = played.kept.one
    assert (record.status, record.grpc_status, record.flags) == (status, grpc, flags)
    assert (error in record.error) if error else record.error == ""
    if status is not None:
        assert client.status == status
    assert record.ended >= record.began > 0


def test_a_rate_that_is_exceeded_is_flagged() -> None:
    """RL, and the record still says what was called."""
    played = Played(Runtime(infer_reply))
    played.call(PATH, INFER)
    assert played.call(PATH, INFER).status == 429
    first, second = played.kept.records
    assert (first.flags, second.flags, second.operation) == ((), ("RL",), "infer")


def test_a_record_tells_both_sides_of_a_translated_call() -> None:
    """Who called what with which model, where it went, what came back, how much and how long."""
    played = Played(Runtime(infer_reply))
    client = played.call(PATH, INFER)
    record = played.kept.one
    assert (record.peer, record.protocol, record.method) == ("10.0.0.1:5", "HTTP/1.1", "POST")
    assert (record.path, record.api, record.operation) == ("/v2/models/{model}/infer", "open-inference", "infer")
    assert (record.runtime, record.upstream, record.upstream_protocol) == ("triton", "triton-grpc-('*',)", "grpc")
    assert (record.direction, record.model, record.upstream_status, record.upstream_grpc_status) == (
        "rest-grpc", "m", 200, 0,
    )  # fmt: skip
    assert (record.bytes_in, record.bytes_out) == (len(INFER), len(client.body))
    assert (record.messages_in, record.messages_out) == (1, 1)
    assert (record.identity.subject, record.identity.method) == ("alice", "keys")
    assert record.began <= record.received <= record.upstream_began <= record.upstream_head <= record.ended
    assert record.upstream_seconds is not None
    assert record.overhead is not None
    assert 0 <= record.overhead <= record.duration - record.upstream_seconds + 1e-9


def test_a_passed_call_names_its_model_and_counts_its_messages() -> None:
    """The body of a small call that passes unread is looked at for the model; gRPC messages are counted as such."""
    played = Played(Runtime(infer_reply))
    played.call(INFER_RPC, message("tiny"), RPC)
    record = played.kept.one
    assert (record.model, record.direction, record.path) == ("tiny", "grpc-grpc", INFER_RPC)
    assert (record.messages_in, record.messages_out) == (1, 1)


@pytest.mark.parametrize("size", [0, 100_000])
def test_a_passed_message_names_its_model_whatever_its_size(size: int) -> None:
    """Tensors are passed over in search of the model's name; a message that is broken names none, and passes too."""
    played = Played(Runtime(infer_reply), 200_000)
    played.call(INFER_RPC, message("tiny", raw=bytes(size)), RPC)
    assert played.kept.one.model == "tiny"
    played = Played(Runtime(failing_with(Code.INVALID_ARGUMENT, "what is this?")))
    played.call(INFER_RPC, b"".join(frame([[b"\x0a\xff"]])), RPC)
    assert (played.kept.one.model, played.kept.one.error) == ("", "what is this?")


def test_hostile_texts_are_bounded_and_escaped() -> None:
    """What a client chose cannot break a line, hide text or fill the log."""
    assert bounded("a\r\n\x1b[31m\u202eb") == "a\\r\\n\\x1b[31m\\u202eb"
    assert len(bounded("x" * 1_000_000)) == len(bounded("\u202e" * 300)) == 256
    played = Played(Runtime(infer_reply))
    played.call("/v2/models/%E2%80%AE" + "m" * 500 + "/infer", INFER)
    assert played.kept.one.model == "", "what is no name is not kept as one"
    assert "\\u202emmm" in played.kept.one.error


@pytest.mark.parametrize(
    ("content_type", "body", "messages"),
    [
        ("application/grpc", message() + message(), 2),
        ("application/connect+json", message() + b"\x02\0\0\0\x02{}", 1),
        ("text/event-stream", b"data: a\n\n: ping\n\ndata: b\r\n\r\ndata: [DONE]\n\n", 4),
        ("application/x-ndjson", b'{"a":1}\n{"a":2}\n', 2),
    ],
)
def test_messages_are_counted_whatever_pieces_they_come_in(content_type: str, body: bytes, messages: int) -> None:
    """Frames, events and lines, in one piece or byte by byte."""
    for size in (1, 2, 3, 7, len(body)):
        kind = kind_of(content_type)
        assert kind is not None
        counting = kind()
        assert sum(counting.feed(body[at : at + size]) for at in range(0, len(body), size)) == messages
    assert kind_of("application/json") is None
    kind = kind_of("text/event-stream")
    assert kind is not None
    signs = kind()
    assert [signs.feed(piece) for piece in (b": ping\n\n", b"data: a\n\n", b": ping\n\n")] == [0, 1, 0]


def test_an_answer_that_cannot_be_counted_is_passed() -> None:
    """A view of wider items counts its bytes."""
    kind = kind_of("application/grpc")
    assert kind is not None
    counting = kind()
    view = memoryview(bytes(16)).cast("d")
    assert counting.feed(b"\0\0\0\0\x10") + counting.feed(view) == 1
    assert counting.feed(join([b"\0\0\0\0\0"])) == 1
    assert header((), "x") is None
