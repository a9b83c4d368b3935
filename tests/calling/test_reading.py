"""Answers read as they arrive."""

from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from inferbridge.bridge.errors import BridgeError, Code
from inferbridge.bridge.framing import frame
from inferbridge.bridge.values import Headers
from inferbridge.calling.reading import Answer, Ears, GrpcAnswer, Message, Outcome, RestAnswer
from inferbridge.protos import methods

RPC = "/fmaas.GenerationService/GenerateStream"
OK: Headers = (("grpc-status", "0"),)


@dataclass
class Notes:
    """All that was heard."""

    heads: list[int] = field(default_factory=list)
    messages: list[Message] = field(default_factory=list)
    outcomes: list[Outcome] = field(default_factory=list)

    @property
    def ears(self) -> Ears:
        """What writes them."""
        return Ears(lambda status, _: self.heads.append(status), self.messages.append, self.outcomes.append)


def play(answer: Answer, status: int, headers: Headers, body: bytes, step: int, trailers: Headers = ()) -> None:
    """An answer in pieces of `step` bytes."""
    answer.on_head(status, headers)
    for at in range(0, len(body), step):
        answer.on_data(body[at : at + step])
    answer.on_end(trailers)


@given(st.integers(1, 60))
def test_pieces_do_not_matter(step: int) -> None:
    """Messages, events and lines are the same however the body is cut."""
    texts = (b'{"text":"a"}', b'{"text":"b"}')
    wires = [(methods("tgis").reply_from_json(RPC, text),) for text in texts]
    notes = Notes()
    body = b"".join(frame(wires))
    play(GrpcAnswer(notes.ears, methods("tgis"), RPC), 200, (), body, step, OK)
    assert [message.text for message in notes.messages] == list(texts)
    for kind, body in (
        ("text/event-stream", b"".join(b"data: %s\n\n" % text for text in texts)),
        ("application/x-ndjson", b"\n".join(texts)),
    ):
        notes = Notes()
        play(RestAnswer(notes.ears), 200, (("content-type", kind),), body, step)
        assert [message.text for message in notes.messages] == list(texts)
        assert notes.outcomes == [Outcome(200)]


def test_a_whole_body_is_one_message() -> None:
    """Whatever its type, and none when it is empty."""
    for body, messages in ((b'{"a":\n1}', [Message(b'{"a":\n1}')]), (b"", [])):
        notes = Notes()
        play(RestAnswer(notes.ears), 200, (), body, 3)
        assert (notes.messages, notes.outcomes) == (messages, [Outcome(200)])


def test_an_error_is_no_message() -> None:
    """The body of an error, a gRPC status, a failure on the way: each ends the answer once, with its words."""
    notes = Notes()
    play(RestAnswer(notes.ears), 404, (("content-type", "text/event-stream"),), b"not here\n", 4)
    play(GrpcAnswer(notes.ears, methods("tgis"), RPC), 200, (("grpc-status", "5"), ("grpc-message", "no%20m")), b"", 1)
    play(GrpcAnswer(notes.ears, methods("tgis"), RPC), 200, (), b"\0\0\0\0\1\xff", 9, OK)
    answer = RestAnswer(notes.ears)
    answer.on_failure(BridgeError(Code.UNAVAILABLE, "refused"))
    answer.on_failure(BridgeError(Code.UNAVAILABLE, "again"))
    assert [(outcome.status, outcome.code) for outcome in notes.outcomes] == [
        (404, Code.UNKNOWN),
        (200, Code.NOT_FOUND),
        (200, Code.INVALID_ARGUMENT),
        (0, Code.UNAVAILABLE),
    ]
    assert [outcome.details for outcome in notes.outcomes][::3] == ["not here", "refused"]
    assert not notes.messages


def test_a_cut_stream_is_a_failure() -> None:
    """Events that end in the middle of one did not end well."""
    notes = Notes()
    play(RestAnswer(notes.ears), 200, (("content-type", "text/event-stream"),), b'data: {"a":1}\n\ndata: {', 99)
    assert [message.text for message in notes.messages] == [b'{"a":1}']
    assert notes.outcomes == [Outcome(200, Code.UNAVAILABLE, "the stream broke off")]
