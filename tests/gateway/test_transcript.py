"""Transcripts: both sides of a call as they went over the wire, without secrets and bounded."""

from dataclasses import dataclass, field, replace

import pytest

from gateway.applications import Failing
from gateway.test_guard import BAD, GOOD, PATH, known
from gateway.test_recording import RPC, Kept, failing_with, message
from gateway.test_service import INFER, INFER_RPC, Client, Runtime, infer_reply, target
from inferbridge.auth.authenticator import Chain
from inferbridge.auth.outgoing import Outgoing
from inferbridge.auth.settings import UpstreamCredentials
from inferbridge.bridge.context import Policy
from inferbridge.bridge.errors import Code
from inferbridge.bridge.values import Headers, header
from inferbridge.gateway.application import RequestHead
from inferbridge.gateway.calls.guard import Access, Guard
from inferbridge.gateway.clients.connection import ClientConnection
from inferbridge.gateway.limits import Limits
from inferbridge.gateway.record import CallRecord
from inferbridge.gateway.records.recording import Recorder
from inferbridge.gateway.service import GatewayService
from inferbridge.gateway.transcript import MAX_LEGS, MAX_PIECES, Message, Transcript
from inferbridge.gateway.transcript import Runtime as LegRuntime
from inferbridge.secret import Secret
from inferbridge.upstream.api import UpstreamRequest
from inferbridge_generated.registry import APIS


@dataclass
class Keeper:
    """Wants a transcript of every call."""

    limit: int = 1 << 20
    changes: int = 0
    made: list[Transcript] = field(default_factory=list)

    def begin(self, head: RequestHead, record: CallRecord) -> Transcript:
        self.made.append(Transcript.of(head.method, head.target, head.headers, limit=self.limit, changed=self._changed))
        return self.made[-1]

    def _changed(self) -> None:
        self.changes += 1

    @property
    def one(self) -> Transcript:
        """The only one."""
        (transcript,) = self.made
        return transcript


def played(runtime: Runtime, path: str, body: bytes, headers: Headers, *keepers: Keeper) -> Client:
    """A whole call through a guarded gateway in front of a Triton that wants a credential."""
    asked = target(runtime)
    outgoing = Outgoing(UpstreamCredentials(static=Secret("ours"), header="x-runtime-key"))
    inner = GatewayService([replace(asked, outgoing=outgoing)], APIS, Policy(), Limits())
    recorder = Recorder(Guard(inner, Access(Chain([known()]))), [Kept()], keepers)
    client = Client()
    sink = recorder.open(RequestHead("POST", path, "a", headers, "1.1", peer="10.0.0.1:5"), client)
    sink.on_data(body)
    sink.on_end()
    return client


def test_both_sides_of_a_translated_call_are_kept() -> None:
    """What the client sent and got, and what the runtime was sent and said, to the byte."""
    keeper, runtime = Keeper(), Runtime(infer_reply)
    client = played(runtime, PATH, INFER, GOOD, keeper)
    transcript = keeper.one
    (leg,) = transcript.legs
    assert (transcript.asked.method, transcript.asked.target, transcript.asked.body) == ("POST", PATH, INFER)
    assert (transcript.told.status, transcript.told.body) == (200, client.body)
    assert header(transcript.told.headers, "x-request-id")
    assert (leg.runtime.name, leg.runtime.api, leg.runtime.protocol) == ("triton", "open-inference", "grpc")
    assert (leg.asked.target, leg.asked.body) == (INFER_RPC, b"".join(map(bytes, runtime.sent[0].chunks)))
    assert (leg.told.status, leg.told.trailers) == (200, (("grpc-status", "0"),))
    assert leg.told.body.startswith(b"\0\0\0\0")
    times = (transcript.asked.began, transcript.asked.ended, leg.asked.began, leg.told.began, leg.told.ended)
    assert list(times) == sorted(times)
    assert transcript.size == sum(len(one.body) for one in (transcript.asked, transcript.told, leg.asked, leg.told))


def test_a_call_that_passes_through_is_kept_too() -> None:
    """Each piece of the answer is a change of a call under way."""
    keeper = Keeper()
    client = played(Runtime(infer_reply), INFER_RPC, message(), RPC, keeper)
    assert keeper.one.legs[0].told.body == client.body == keeper.one.told.body
    assert keeper.one.told.trailers == (("grpc-status", "0"),)
    assert keeper.changes >= 5


def test_several_who_want_a_transcript_share_it() -> None:
    """It is one: it keeps what the one with the largest limit wants, hides what any of them hides, and tells all."""

    class Sharing(Keeper):
        def begin(self, head: RequestHead, record: CallRecord) -> Transcript:
            assert record.transcript is not None
            self.made.append(record.transcript.share(self.limit, frozenset({"x-mine"}), self._changed))
            return self.made[-1]

    first, second, third = Keeper(limit=10), Sharing(limit=1 << 20), Sharing(limit=5)
    played(Runtime(infer_reply), PATH, INFER, (*GOOD, ("x-mine", "a")), first, second, third)
    assert first.one is second.one is third.one
    assert first.one.asked.body == INFER
    assert first.changes == second.changes == third.changes > 0
    assert dict(first.one.legs[0].asked.headers).get("x-mine", "***") == "***"


def test_a_batch_of_many_calls_keeps_the_bodies_of_the_first() -> None:
    """However many calls one becomes, what is kept is bounded; sizes are known of all."""
    transcript = Transcript.of("POST", "/", ())
    legs = [
        transcript.ask(UpstreamRequest("POST", "/", chunks=(b"ab",)), LegRuntime("one", "tgis", "tgis", "", "grpc"))
        for _ in range(MAX_LEGS + 2)
    ]
    for leg in legs:
        leg.told.add(b"c")
    assert [leg.asked.kept + leg.told.kept for leg in legs] == [3] * MAX_LEGS + [0, 0]
    assert {(leg.asked.size, leg.told.size) for leg in legs} == {(2, 1)}


@pytest.mark.parametrize("headers", [GOOD, BAD])
def test_no_credential_is_kept(headers: Headers) -> None:
    """Neither the client's, in header or query, nor our own for the runtime."""
    keeper = Keeper()
    played(Runtime(infer_reply), f"{PATH}?api_key=canary", INFER, (*headers, ("cookie", "canary")), keeper)
    text = repr(keeper.made)
    for secret in ("canary", "ours", header(headers, "authorization") or "none"):
        assert secret not in text
    assert "***" in text


def test_an_answer_without_a_runtime_has_no_legs() -> None:
    """A caller that is refused: the answer is there, and nobody was asked."""
    keeper = Keeper()
    played(Runtime(infer_reply), PATH, INFER, BAD, keeper)
    assert (keeper.one.told.status, keeper.one.legs) == (401, [])


def test_a_runtime_that_fails_says_why() -> None:
    """The leg has the error, the client's side the answer that was made of it."""
    keeper = Keeper()
    played(Runtime(failing_with(Code.UNAVAILABLE, "cannot connect")), PATH, INFER, GOOD, keeper)
    assert (keeper.one.legs[0].error, keeper.one.told.status) == ("cannot connect", 503)


def test_what_exceeds_the_limit_is_counted_and_not_kept() -> None:
    """A message keeps its first bytes, knows its size, and keeps no more pieces than it may."""
    keeper = Keeper(limit=10)
    played(Runtime(infer_reply), PATH, INFER, GOOD, keeper)
    asked = keeper.one.asked
    assert (asked.body, asked.size, asked.is_cut) == (INFER[:10], len(INFER), True)
    many = Message()
    for _ in range(MAX_PIECES + 5):
        many.add(b"ab")
    assert (len(many.pieces), len(many.times), many.size) == (MAX_PIECES, MAX_PIECES, 2 * MAX_PIECES + 10)
    assert many.body == b"ab" * (MAX_PIECES + 5)
    assert not many.is_cut
    wide = Message()
    wide.add(memoryview(bytes(16)).cast("d"))
    assert (wide.size, wide.body) == (16, bytes(16))


def test_a_call_goes_on_where_no_transcript_can_be_made(caplog: pytest.LogCaptureFixture) -> None:
    """Who looks on must not harm who calls."""

    class Broken(Keeper):
        def begin(self, head: RequestHead, record: CallRecord) -> Transcript:
            raise ZeroDivisionError

    client = played(Runtime(infer_reply), PATH, INFER, GOOD, Broken())
    assert client.status == 200
    assert [record.levelname for record in caplog.records] == ["ERROR"]


def test_a_call_that_fails_here_has_the_answer_it_got() -> None:
    """The internal error is that of the client's side."""
    keeper = Keeper()
    connection = ClientConnection(Recorder(Failing(), [Kept()], [keeper]), Limits(), lambda: None)
    connection.receive(b"POST /on_end HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\n\r\na")
    assert connection.take_output().startswith(b"HTTP/1.1 500")
    assert (keeper.one.asked.body, keeper.one.told.status) == (b"a", 500)
