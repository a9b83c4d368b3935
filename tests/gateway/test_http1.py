"""The HTTP/1.1 codec: what it accepts, what it refuses and how, and how it frames answers."""

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.driving import body_of, opened, refusal
from inferbridge.gateway.codecs.events import (
    Event,
    ProtocolRefused,
    RequestCancelled,
    RequestData,
    RequestEnd,
    RequestOpened,
)
from inferbridge.gateway.codecs.http1 import Http1Codec
from inferbridge.gateway.limits import Limits

HEAD = b"POST /v2/models/m/infer?x=1 HTTP/1.1\r\nHost: example:8080\r\n"
GET = b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n"
SMALL = replace(Limits(), header_bytes=400, header_fields=5, target_bytes=100, connection_window=1000)


def codec(limits: Limits = SMALL) -> Http1Codec:
    return Http1Codec(limits)


REFUSED = {
    "no host": (b"GET / HTTP/1.1\r\n\r\n", 400),
    "two hosts": (b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", 400),
    "empty host": (b"GET / HTTP/1.1\r\nHost:\r\n\r\n", 400),
    "host with user": (b"GET / HTTP/1.1\r\nHost: u@a\r\n\r\n", 400),
    "length and coding": (HEAD + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
    "coding and length": (HEAD + b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n", 400),
    "two lengths": (HEAD + b"Content-Length: 3\r\nContent-Length: 3\r\n\r\n", 400),
    "length list": (HEAD + b"Content-Length: 3, 3\r\n\r\n", 400),
    "signed length": (HEAD + b"Content-Length: +3\r\n\r\n", 400),
    "hex length": (HEAD + b"Content-Length: 0x3\r\n\r\n", 400),
    "empty length": (HEAD + b"Content-Length:\r\n\r\n", 400),
    "huge length": (HEAD + b"Content-Length: 99999999999999999999\r\n\r\n", 400),
    "gzip coding": (HEAD + b"Transfer-Encoding: gzip, chunked\r\n\r\n", 501),
    "chunked twice": (HEAD + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", (400, 501)),
    "identity coding": (HEAD + b"Transfer-Encoding: identity\r\n\r\n", (400, 501)),
    "chunked in 1.0": (b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
    "bare LF after the request line": (b"GET / HTTP/1.1\nHost: a\r\n\r\n", 400),
    "bare LF after a header": (HEAD + b"X: y\nZ: q\r\n\r\n", 400),
    "bare LF head": (b"GET / HTTP/1.1\nHost: a\n\n", 400),
    "bare CR in a value": (HEAD + b"X: y\rz\r\n\r\n", 400),
    "NUL in a value": (HEAD + b"X: y\0z\r\n\r\n", 400),
    "control character in a value": (HEAD + b"X: y\x01z\r\n\r\n", 400),
    "DEL in a value": (HEAD + b"X: y\x7fz\r\n\r\n", 400),
    "NUL in the target": (b"GET /\0 HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "folded header": (HEAD + b"X: y\r\n z\r\n\r\n", 400),
    "space before the colon": (HEAD + b"X : y\r\n\r\n", 400),
    "no name": (HEAD + b": y\r\n\r\n", 400),
    "no colon": (HEAD + b"nothing\r\n\r\n", 400),
    "two spaces": (b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "tab in the request line": (b"GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n", (400, 501)),
    "HTTP/0.9": (b"GET /\r\n\r\n", 400),
    "HTTP/2.0": (b"GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505),
    "HTTP/1.2": (b"GET / HTTP/1.2\r\nHost: a\r\n\r\n", (400, 505)),
    "RTSP": (b"GET / RTSP/1.0\r\nHost: a\r\n\r\n", 400),
    "unknown method": (b"FETCH / HTTP/1.1\r\nHost: a\r\n\r\n", 501),
    "lower-case method": (b"get / HTTP/1.1\r\nHost: a\r\n\r\n", 501),
    "CONNECT": (b"CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n", 405),
    "target of another host": (b"GET http://127.0.0.1:9/x HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "fragment": (b"GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "asterisk": (b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "non-ASCII target": (b"GET /\xc3\xa9 HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "unknown expectation": (HEAD + b"Expect: tea\r\nContent-Length: 3\r\n\r\n", 417),
    "long target": (b"GET /" + b"a" * 100 + b" HTTP/1.1\r\nHost: a\r\n\r\n", 414),
    "endless target": (b"GET /" + b"a" * 400, 414),
    "many headers": (HEAD + b"X: y\r\n" * 5 + b"\r\n", 431),
    "large headers": (HEAD + b"X: " + b"y" * 400 + b"\r\n\r\n", 431),
    "endless header": (HEAD + b"X: " + b"y" * 700, 431),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00", 501),
}


@pytest.mark.parametrize(("data", "status"), REFUSED.values(), ids=REFUSED)
def test_refuses(data: bytes, status: int | tuple[int, ...]) -> None:
    """A head that breaks a rule opens no call, gets the right status, and the connection closes after the answer."""
    refused = refusal(codec().receive(data))
    assert (refused.error.status or 400) in (status if isinstance(status, tuple) else (status,))


@pytest.mark.parametrize(("data", "status"), REFUSED.values(), ids=REFUSED)
def test_refuses_byte_by_byte(data: bytes, status: int | tuple[int, ...]) -> None:
    """The same is refused however the bytes arrive, and nothing is opened on the way."""
    subject = codec()
    events = [event for index in range(len(data)) for event in subject.receive(data[index : index + 1])]
    assert [type(event) for event in events] == [ProtocolRefused]


CHUNKED = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
BAD_CHUNKS = {
    "no digits": b"x\r\n",
    "sign": b"+3\r\nabc\r\n",
    "prefix": b"0x3\r\nabc\r\n",
    "space": b"3 \r\nabc\r\n",
    "empty size": b"\r\nabc",
    "17 digits": b"0000000000000000003\r\nabc\r\n",
    "bare LF after the size": b"3\nabc\r\n",
    "bare LF after the data": b"3\r\nabc\n",
    "bare CR in the size line": b"3\rx\r\nabc\r\n",
    "data longer than its size": b"3\r\nabcd\r\n",
    "long extension": b"3;" + b"a" * 257 + b"\r\nabc\r\n",
    "endless extension": b"3;" + b"a" * 600,
    "NUL in an extension": b"3;a\0\r\nabc\r\n",
    "trailer without a colon": b"0\r\nnothing\r\n\r\n",
    "folded trailer": b"0\r\na: b\r\n c\r\n\r\n",
    "large trailers": b"0\r\n" + b"a: b\r\n" * 200 + b"\r\n",
}


@pytest.mark.parametrize("body", BAD_CHUNKS.values(), ids=BAD_CHUNKS)
def test_refuses_chunks(body: bytes) -> None:
    """A broken chunked body ends the call with a refusal that knows the head, and never completes it."""
    events = codec().receive(CHUNKED + body)
    assert isinstance(events[0], RequestOpened)
    assert isinstance(events[-1], ProtocolRefused)
    assert events[-1].head == events[0].head
    assert not any(isinstance(event, RequestEnd) for event in events)


def test_broken_body_after_the_answer_began() -> None:
    """When the answer has begun already, a broken body cancels the call and cuts the connection."""
    subject = codec()
    subject.receive(CHUNKED)
    subject.send_head(1, 200, ())
    subject.send_data(1, b"part")
    assert b"part" in subject.take_output()
    assert subject.receive(b"x\r\n") == [RequestCancelled(1)]
    assert subject.closing
    assert subject.take_output() == b""


def test_head() -> None:
    """Names are lower case, values trimmed, hop-by-hop and listed fields gone, Host is the authority."""
    fields = b"Content-Length: 0\r\nX-A:  b \t\r\nConnection: keep-alive, x-hop\r\nX-Hop: 1\r\nTE: trailers\r\n"
    head = opened(codec(Limits()).receive(HEAD + fields + b"Upgrade: h2c\r\nCookie: \xe9\r\n\r\n")).head
    assert (head.method, head.target, head.authority) == ("POST", "/v2/models/m/infer?x=1", "example:8080")
    assert head.headers == (("content-length", "0"), ("x-a", "b"), ("cookie", "é"))
    assert head.version == "1.1"


@pytest.mark.parametrize(
    ("target", "expected"),
    [(b"http://a/x?y", "/x?y"), (b"HTTP://A", "/"), (b"http://a?q", "/?q"), (b"/x//y/%2f?a=[1]", "/x//y/%2f?a=[1]")],
)
def test_target(target: bytes, expected: str) -> None:
    """An absolute-form target of our own host becomes a path; a path stays as it was sent."""
    assert opened(codec().receive(b"GET " + target + b" HTTP/1.1\r\nHost: a\r\n\r\n")).head.target == expected


def test_limits_are_inclusive() -> None:
    """A head exactly at the limits is accepted."""
    target = b"/" + b"a" * 99
    events = codec().receive(b"GET " + target + b" HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * 4 + b"\r\n")
    assert opened(events).head.target == target.decode()


def test_body_by_length() -> None:
    """A body is handed on as it arrives, without waiting for its end."""
    subject = codec()
    events = subject.receive(HEAD + b"Content-Length: 6\r\n\r\nabc")
    assert body_of(events) == b"abc"
    assert subject.receive(b"de") == [RequestData(1, b"de", 2)]
    assert subject.receive(b"f") == [RequestData(1, b"f", 1), RequestEnd(1)]


def test_chunked_body() -> None:
    """Chunk sizes, extensions and trailers are taken off the body."""
    events = codec().receive(CHUNKED + b"3;name=value\r\nabc\r\n02\r\nde\r\n0\r\nx: y\r\n\r\n")
    assert body_of(events) == b"abcde"
    assert events[-1] == RequestEnd(1)


def test_upgrade_offer_keeps_the_body() -> None:
    """A POST that offers h2c (curl --http2, Java's HttpClient) is served as HTTP/1.1 with its body."""
    offer = (
        b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAM\r\nContent-Length: 3\r\n\r\nabc"
    )
    events = codec(Limits()).receive(HEAD + offer)
    assert body_of(events) == b"abc"
    assert events[-1] == RequestEnd(1)


def test_answer_complete_at_once() -> None:
    """An answer that is complete when the output is taken has a content-length and is one piece."""
    subject = codec()
    subject.receive(GET)
    subject.send_head(1, 200, (("Content-Type", "text/plain"),))
    subject.send_data(1, b"he")
    subject.send_data(1, memoryview(b"llo"))
    subject.end(1)
    assert subject.take_output() == b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 5\r\n\r\nhello"
    assert not subject.closing


def test_answer_in_pieces() -> None:
    """A longer answer is chunked; its trailers follow the last chunk."""
    subject = codec()
    subject.receive(GET)
    subject.send_head(1, 200, ())
    assert subject.take_output() == b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
    subject.send_data(1, b"")
    assert subject.take_output() == b""
    subject.send_data(1, b"abc")
    subject.send_data(1, b"de")
    assert subject.take_output() == b"5\r\nabcde\r\n"
    subject.end(1, (("X-Sum", "1"),))
    assert subject.take_output() == b"0\r\nx-sum: 1\r\n\r\n"


def test_answer_with_its_own_length() -> None:
    """A declared content-length is kept, and neither exceeded nor missed."""
    subject = codec()
    subject.receive(GET)
    subject.send_head(1, 200, (("content-length", "3"),))
    subject.send_data(1, b"ab")
    with pytest.raises(ValueError, match="longer"):
        subject.send_data(1, b"cd")
    with pytest.raises(ValueError, match="shorter"):
        subject.end(1)
    subject.send_data(1, b"c")
    subject.end(1)
    assert subject.take_output() == b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nabc"


@pytest.mark.parametrize(
    "headers",
    [
        (("x", "a\r\nb: c"),),
        (("x", "a\nb"),),
        (("x", "a\0"),),
        (("x\r\ny", "a"),),
        (("", "a"),),
        (("x", "€"),),
        (("content-length", "-1"),),
        (("content-length", "1"), ("content-length", "2")),
    ],
)
def test_answer_headers_are_checked(headers: tuple[tuple[str, str], ...]) -> None:
    """Nothing of an answer whose headers must not go on the wire is written, and another can take its place."""
    subject = codec()
    subject.receive(GET)
    with pytest.raises(ValueError, match=r"illegal|latin"):
        subject.send_head(1, 200, headers)
    subject.send_head(1, 500, ())
    subject.end(1)
    assert subject.take_output() == b"HTTP/1.1 500 Internal Server Error\r\ncontent-length: 0\r\n\r\n"


def test_answer_hop_by_hop_headers_are_ours() -> None:
    """The application cannot set framing or connection headers."""
    subject = codec()
    subject.receive(GET)
    subject.send_head(1, 200, (("Transfer-Encoding", "gzip"), ("Connection", "upgrade"), ("a", "b")))
    subject.end(1)
    assert subject.take_output() == b"HTTP/1.1 200 OK\r\na: b\r\ncontent-length: 0\r\n\r\n"


@pytest.mark.parametrize("status", [100, 101, 199, 0, 1000])
def test_only_final_statuses(status: int) -> None:
    """An application cannot send an interim answer by mistake."""
    subject = codec()
    subject.receive(GET)
    with pytest.raises(ValueError, match="final"):
        subject.send_head(1, status, ())


def test_answer_out_of_order() -> None:
    """Body or end before the head, and a second head, are errors of the application."""
    subject = codec()
    subject.receive(GET)
    with pytest.raises(ValueError, match="before"):
        subject.send_data(1, b"x")
    with pytest.raises(ValueError, match="before"):
        subject.end(1)
    subject.send_head(1, 200, ())
    with pytest.raises(ValueError, match="already"):
        subject.send_head(1, 200, ())


@pytest.mark.parametrize(("method", "status"), [(b"HEAD", 200), (b"GET", 304)])
def test_answers_without_body(method: bytes, status: int) -> None:
    """HEAD and 304 keep the content-length and lose the body."""
    subject = codec()
    subject.receive(method + b" / HTTP/1.1\r\nHost: a\r\n\r\n")
    subject.send_head(1, status, (("content-length", "3"),))
    subject.send_data(1, b"abc")
    subject.end(1)
    output = subject.take_output()
    assert b"content-length: 3" in output
    assert output.endswith(b"\r\n\r\n")
    assert not subject.closing


def test_204_has_no_length() -> None:
    """204 is sent without content-length and body."""
    subject = codec()
    subject.receive(GET)
    subject.send_head(1, 204, (("content-length", "0"),))
    subject.end(1)
    assert subject.take_output() == b"HTTP/1.1 204 No Content\r\n\r\n"


def test_pipelining() -> None:
    """The next request is not looked at before the current one is answered; answers come in order."""
    subject = codec()
    first = subject.receive(GET + HEAD + b"Content-Length: 2\r\n\r\nab" + GET)
    assert [event.stream for event in first] == [1, 1]
    assert subject.receive(b"") == []
    assert answered(subject, 1).endswith(b"1")
    second = subject.receive(b"")
    assert body_of(second) == b"ab"
    assert {event.stream for event in second} == {2}
    answered(subject, 2)
    assert opened(subject.receive(b"")).stream == 3


def test_repeated_heads() -> None:
    """A head that comes again is the same request with its own body; one that differs is read anew."""
    subject = codec()
    post = HEAD + b"Content-Length: 2\r\n\r\n"
    bodies, heads = [], []
    for data in (post + b"ab", post + b"cd", HEAD + b"Content-Length: 3\r\n\r\nefg", GET, post[:-1], post[-1:] + b"hi"):
        events = subject.receive(data)
        if events:
            bodies.append(body_of(events))
            heads.append(opened(events).head.headers)
            answered(subject, events[0].stream)
    assert bodies == [b"ab", b"cd", b"efg", b"", b"hi"]
    assert heads == [(("content-length", length),) if length else () for length in ("2", "2", "3", "", "2")]


def test_pipelining_is_bounded() -> None:
    """Who pipelines more than a window gets the current answer and no other."""
    subject = codec()
    subject.receive(GET)
    assert subject.receive(GET * 100) == []
    assert b"connection: close" in answered(subject, 1)
    assert subject.closing
    assert subject.receive(GET) == []


def answered(subject: Http1Codec, stream: int) -> bytes:
    subject.send_head(stream, 200, ())
    subject.send_data(stream, b"%d" % stream)
    subject.end(stream)
    return subject.take_output()


@pytest.mark.parametrize(
    ("request_", "closes", "said"),
    [
        (b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Close\r\n\r\n", True, b"connection: close"),
        (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", False, None),
        (b"GET / HTTP/1.0\r\n\r\n", True, b"connection: close"),
        (b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", False, b"connection: keep-alive"),
    ],
)
def test_keep_alive(request_: bytes, closes: bool, said: bytes | None) -> None:
    """The connection stays open as HTTP/1.0 and 1.1 define it, and the answer says so where that is needed."""
    subject = codec()
    subject.receive(request_)
    output = answered(subject, 1)
    assert subject.closing is closes
    assert said in output if said else b"connection" not in output


def test_http10_is_never_chunked() -> None:
    """A long answer to HTTP/1.0 ends with the connection."""
    subject = codec()
    subject.receive(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
    subject.send_head(1, 200, ())
    assert subject.take_output() == b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n"
    subject.send_data(1, b"abc")
    assert subject.take_output() == b"abc"
    subject.end(1)
    assert subject.closing


def test_expect_continue() -> None:
    """A welcome request that waits gets `100 Continue` once."""
    subject = codec()
    subject.receive(HEAD + b"Expect: 100-Continue\r\nContent-Length: 3\r\n\r\n")
    assert subject.take_output() == b""
    subject.proceed(1)
    subject.proceed(1)
    assert subject.take_output() == b"HTTP/1.1 100 Continue\r\n\r\n"


def test_expect_continue_answered_at_once() -> None:
    """A request that is turned down is not told to go on, and the connection closes, for the body may still come."""
    subject = codec()
    subject.receive(HEAD + b"Expect: 100-continue\r\nContent-Length: 3\r\n\r\n")
    output = answered(subject, 1)
    subject.proceed(1)
    assert output.startswith(b"HTTP/1.1 200 OK")
    assert b"connection: close" in output
    assert subject.closing
    assert subject.take_output() == b""


def test_expect_continue_with_body_there() -> None:
    """Who sends the body without waiting is not told to go on."""
    subject = codec()
    subject.receive(HEAD + b"Expect: 100-continue\r\nContent-Length: 3\r\n\r\na")
    subject.proceed(1)
    assert subject.take_output() == b""


def test_early_answer_closes() -> None:
    """An answer before the end of the body closes the connection; what still comes is ignored."""
    subject = codec()
    subject.receive(HEAD + b"Content-Length: 30\r\n\r\nabc")
    assert b"connection: close" in answered(subject, 1)
    assert subject.closing
    assert subject.receive(b"GET / HTTP/1.1\r\nHost: smuggled\r\n\r\n") == []


def test_reset_cuts() -> None:
    """A reset answer ends the connection without the last chunk."""
    subject = codec()
    subject.receive(GET)
    subject.send_head(1, 200, ())
    subject.send_data(1, b"abc")
    subject.take_output()
    subject.reset(1)
    assert subject.closing
    assert subject.take_output() == b""


def test_commands_for_another_stream_are_ignored() -> None:
    """An answer to a call that is over does not disturb the next one."""
    subject = codec()
    subject.receive(GET + GET)
    answered(subject, 1)
    subject.receive(b"")
    subject.send_head(1, 500, ())
    subject.send_data(1, b"late")
    subject.end(1)
    subject.reset(1)
    assert subject.take_output() == b""
    assert answered(subject, 2).endswith(b"2")


def test_refusal_is_answered_then_closed() -> None:
    """A refusal is answered like a call, with `connection: close`."""
    subject = codec()
    refused = refusal(subject.receive(b"GET / HTTP/1.1\r\n\r\n" + GET))
    assert not subject.closing
    assert b"connection: close" in answered(subject, refused.stream)
    assert subject.closing


def test_empty_lines_before_a_request() -> None:
    """Empty lines before a request are ignored, even cut in two."""
    subject = codec()
    assert subject.receive(b"\r") == []
    assert subject.receive(b"\n\r\n") == []
    assert opened(subject.receive(b"\r\n" + GET)).head.target == "/a"


STREAM = HEAD + b"Content-Length: 5\r\n\r\nhello" + CHUNKED + b"3;x\r\nabc\r\n1\r\nd\r\n0\r\nt: u\r\n\r\n" + GET


def all_events(pieces: list[bytes]) -> list[Event]:
    """The events of a connection on which every request is answered at once; body pieces joined."""
    subject = codec(Limits())
    found: list[Event] = []
    for piece in pieces:
        events = subject.receive(piece)
        while events:
            found.extend(events)
            for event in events:
                if isinstance(event, RequestEnd | ProtocolRefused):
                    answered(subject, event.stream)
            events = subject.receive(b"")
    return joined(found)


def joined(events: list[Event]) -> list[Event]:
    result: list[Event] = []
    for event in events:
        last = result[-1] if result else None
        if isinstance(event, RequestData) and isinstance(last, RequestData):
            result[-1] = RequestData(event.stream, bytes(last.data) + bytes(event.data), last.credit + event.credit)
        elif isinstance(event, RequestData):
            result.append(RequestData(event.stream, bytes(event.data), event.credit))
        else:
            result.append(event)
    return result


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, len(STREAM)), max_size=12))
def test_splits_do_not_matter(cuts: list[int]) -> None:
    """The same bytes give the same events however they are cut."""
    places = [0, *sorted(cuts), len(STREAM)]
    pieces = [STREAM[start:stop] for start, stop in pairwise(places)]
    assert all_events(pieces) == all_events([STREAM])
    assert len(all_events([STREAM])) == 8


@settings(max_examples=150, deadline=None)
@given(st.lists(st.one_of(st.binary(max_size=60), st.sampled_from([HEAD, GET, CHUNKED, b"\r\n", b"3\r\nabc\r\n"]))))
def test_garbage_never_raises(pieces: list[bytes]) -> None:
    """Whatever arrives, the codec answers with events and nothing follows a refusal."""
    events = all_events(pieces)
    refused = [index for index, event in enumerate(events) if isinstance(event, ProtocolRefused)]
    assert refused in ([], [len(events) - 1])


WHOLE = {
    "plain": (GET, 200, (("content-type", "text/plain"),)),
    "own length": (GET, 200, (("content-length", "5"),)),
    "unusual status": (GET, 299, ()),
    "no content": (GET, 204, (("content-length", "5"),)),
    "HEAD": (GET.replace(b"GET", b"HEAD"), 200, (("content-length", "7"),)),
    "with an id": (GET, 200, (("content-type", "text/plain"), ("x-request-id", "one-of-its-own"))),
    "told to close": (GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"), 200, ()),
    "HTTP/1.0": (GET.replace(b"1.1", b"1.0"), 200, ()),
}


@pytest.mark.parametrize(("request_", "status", "headers"), WHOLE.values(), ids=WHOLE)
def test_a_whole_answer_is_its_pieces(request_: bytes, status: int, headers: tuple[tuple[str, str], ...]) -> None:
    """A whole answer leaves the same bytes as one given in pieces, the first time and when its head is known."""
    for _ in range(2):
        whole, pieces = codec(), codec()
        opened(whole.receive(request_))
        opened(pieces.receive(request_))
        whole.send_whole(1, status, headers, (b"he", b"llo"))
        pieces.send_head(1, status, headers)
        pieces.send_data(1, b"he")
        pieces.send_data(1, b"llo")
        pieces.end(1)
        assert whole.take_output() == pieces.take_output()
        assert whole.closing is pieces.closing


@pytest.mark.parametrize(
    "headers",
    [(("x", "a\r\nb: c"),), (("x-request-id", "a\r\nb: c"),), (("content-length", "4"),)],
    ids=["injected", "injected id", "too short"],
)
def test_a_whole_answer_is_checked_before_anything_is_sent(headers: tuple[tuple[str, str], ...]) -> None:
    """A whole answer that must not be sent leaves the call as it was: another can still be given."""
    connection = codec()
    opened(connection.receive(GET))
    with pytest.raises(ValueError, match=r"illegal|not as long"):
        connection.send_whole(1, 200, headers, (b"hello",))
    connection.send_whole(1, 500, (), ())
    assert connection.take_output().startswith(b"HTTP/1.1 500 ")


def test_a_large_body_leaves_by_itself() -> None:
    """What comes before it is one piece, and it is the very object that the application gave: nobody copies it."""
    codec = Http1Codec(Limits())
    codec.receive(GET)
    body = bytes(1 << 20)
    codec.send_whole(1, 200, (), [b"a", body, b"b"])
    pieces = [codec.take_output()]
    while codec.more:
        pieces.append(codec.take_output())
    assert pieces[1] is body
    assert (bytes(pieces[0])[-1:], pieces[2:]) == (b"a", [b"b"])
    assert codec.take_output() == b""
