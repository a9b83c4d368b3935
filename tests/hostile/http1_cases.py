"""HTTP/1.1 requests that two readers may understand differently, and what becomes of each.

A case is what a client sends, the statuses that it gets, and how many requests reach the runtime. Behind each case the
client sends `END`, an ordinary request that the proxy answers itself (404) and that closes the connection: a 404 at the
end says that both agree about where the case ended. Without it the connection was closed, or the proxy still waits.
"""

from typing import NamedTuple

END = b"GET /end-of-case HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
SMUGGLED = b"POST /v2/models/smuggled/infer HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{}"


class Case(NamedTuple):
    """One conversation and what becomes of it."""

    sent: bytes
    statuses: tuple[int, ...]
    """What the client gets, in order."""
    upstream: int = 0
    """Requests that the runtime gets."""


def post(*fields: bytes, body: bytes = b"{}", line: bytes = b"POST /v2/models/m/infer HTTP/1.1") -> bytes:
    """A request with exactly these fields."""
    return b"\r\n".join((line, *fields)) + b"\r\n\r\n" + body


def get(line: bytes, *fields: bytes) -> bytes:
    """A request without a body."""
    return post(*fields, body=b"", line=line)


HOST = b"Host: a"
CL2 = b"Content-Length: 2"
TE = b"Transfer-Encoding: chunked"
CHUNKED = b"2\r\n{}\r\n0\r\n\r\n"
READY = b"GET /v2/models/m/ready HTTP/1.1"

BODY_LENGTH = {
    "control: content-length": Case(post(HOST, CL2), (200, 404), 1),
    "control: chunked": Case(post(HOST, TE, body=CHUNKED), (200, 404), 1),
    "control: two pipelined": Case(post(HOST, CL2) * 2, (200, 200, 404), 2),
    "control: chunk in capitals": Case(post(HOST, TE, body=b"A\r\n{       } \r\n0\r\n\r\n"), (200, 404), 1),
    "CL.TE": Case(post(HOST, b"Content-Length: 6", TE, body=b"0\r\n\r\nG" + SMUGGLED), (400,)),
    "TE.CL": Case(post(HOST, TE, b"Content-Length: 4", body=b"5c\r\n" + SMUGGLED + b"\r\n0\r\n\r\n"), (400,)),
    "CL and TE that agree": Case(post(HOST, b"Content-Length: 12", TE, body=CHUNKED), (400,)),
    "two lengths": Case(post(HOST, CL2, b"Content-Length: 50", body=b"{}" + SMUGGLED), (400,)),
    "two equal lengths": Case(post(HOST, CL2, CL2), (400,)),
    "length list": Case(post(HOST, b"Content-Length: 2, 2"), (400,)),
    "length list that differs": Case(post(HOST, b"Content-Length: 2, 50"), (400,)),
    "length with a sign": Case(post(HOST, b"Content-Length: +2"), (400,)),
    "negative length": Case(post(HOST, b"Content-Length: -2"), (400,)),
    "length in hex": Case(post(HOST, b"Content-Length: 0x2"), (400,)),
    "length with an underscore": Case(post(HOST, b"Content-Length: 0_2"), (400,)),
    "length with a space inside": Case(post(HOST, b"Content-Length: 0 2"), (400,)),
    "length with a fraction": Case(post(HOST, b"Content-Length: 2.0"), (400,)),
    "length with an exponent": Case(post(HOST, b"Content-Length: 2e0"), (400,)),
    "empty length": Case(post(HOST, b"Content-Length: "), (400,)),
    "length of 19 digits": Case(post(HOST, b"Content-Length: 1000000000000000002"), (400,)),
    "length over 64 bits": Case(post(HOST, b"Content-Length: 18446744073709551618"), (400,)),
    "length in other digits": Case(post(HOST, "Content-Length: ٢".encode()), (400,)),
    "length with a vertical tab": Case(post(HOST, b"Content-Length: \x0b2"), (400,)),
    "length with a trailing NUL": Case(post(HOST, b"Content-Length: 2\0"), (400,)),
    "length with zeros before": Case(post(HOST, b"Content-Length: 002"), (200, 404), 1),
    "length with spaces around": Case(post(HOST, b"Content-Length:  2 \t"), (200, 404), 1),
    "space before the colon of length": Case(post(HOST, b"Content-Length : 2"), (400,)),
    "tab before the colon of length": Case(post(HOST, b"Content-Length\t: 2"), (400,)),
    "underscore for the hyphen": Case(post(HOST, b"Content_Length: 50", CL2), (200, 404), 1),
    "no length": Case(post(HOST, body=b"") + SMUGGLED, (200, 200, 404), 2),
    "body shorter than its length": Case(post(HOST, b"Content-Length: 4000"), ()),
    "TE twice": Case(post(HOST, TE, TE, body=CHUNKED), (400,)),
    "TE chunked, chunked": Case(post(HOST, b"Transfer-Encoding: chunked, chunked", body=CHUNKED), (400,)),
    "TE gzip, chunked": Case(post(HOST, b"Transfer-Encoding: gzip, chunked", body=CHUNKED), (501,)),
    "TE chunked, identity": Case(post(HOST, b"Transfer-Encoding: chunked, identity", body=CHUNKED), (400,)),
    "TE identity": Case(post(HOST, b"Transfer-Encoding: identity", CL2), (400,)),
    "TE identity alone": Case(post(HOST, b"Transfer-Encoding: identity"), (400,)),
    "TE unknown": Case(post(HOST, b"Transfer-Encoding: xchunked", body=CHUNKED), (400,)),
    "TE quoted": Case(post(HOST, b'Transfer-Encoding: "chunked"', body=CHUNKED), (400,)),
    "TE with a parameter": Case(post(HOST, b"Transfer-Encoding: chunked;q=1", body=CHUNKED), (400,)),
    "TE with a comma after": Case(post(HOST, b"Transfer-Encoding: chunked,", body=CHUNKED), (400,)),
    "TE with a comma before": Case(post(HOST, b"Transfer-Encoding: ,chunked", body=CHUNKED), (501,)),
    "TE in capitals": Case(post(HOST, b"TRANSFER-ENCODING: CHUNKED", body=CHUNKED), (200, 404), 1),
    "TE with a vertical tab": Case(post(HOST, b"Transfer-Encoding: \x0bchunked", body=CHUNKED), (400,)),
    "TE with a form feed": Case(post(HOST, b"Transfer-Encoding: chunked\x0c", body=CHUNKED), (400,)),
    "TE with a NUL": Case(post(HOST, b"Transfer-Encoding: chunked\0", body=CHUNKED), (400,)),
    "TE with a byte over 127": Case(post(HOST, b"Transfer-Encoding: chunked\xff", body=CHUNKED), (400,)),
    "TE empty": Case(post(HOST, b"Transfer-Encoding: "), (400,)),
    "space before the colon of TE": Case(post(HOST, b"Transfer-Encoding : chunked", body=CHUNKED), (400,)),
    "TE folded": Case(post(HOST, b"Transfer-Encoding:\r\n chunked", body=CHUNKED), (400,)),
    "TE behind a bare CR": Case(post(HOST, b"X: y\rTransfer-Encoding: chunked", CL2), (400,)),
    "TE behind a bare LF": Case(post(HOST, b"X: y\nTransfer-Encoding: chunked", CL2), (400,)),
    "underscore for the hyphen of TE": Case(post(HOST, b"Transfer_Encoding: chunked", CL2), (200, 404), 1),
    "TE in HTTP/1.0": Case(post(HOST, TE, body=CHUNKED, line=b"POST /v2/models/m/infer HTTP/1.0"), (400,)),
    "TE named by Connection": Case(post(HOST, b"Connection: transfer-encoding", TE, body=CHUNKED), (200, 404), 1),
    "length named by Connection": Case(post(HOST, b"Connection: content-length", CL2), (200, 404), 1),
    "length named by Connection, and TE": Case(post(HOST, b"Connection: content-length", CL2, TE), (400,)),
    "GET with a body": Case(post(HOST, CL2, line=READY), (400, 404)),
    "GET with a chunked body": Case(post(HOST, TE, body=CHUNKED, line=READY), (400, 404)),
    "GET with an empty body": Case(post(HOST, b"Content-Length: 0", body=b"", line=READY), (200, 404), 1),
    "GET with a smuggled body": Case(
        post(HOST, b"Content-Length: %d" % len(SMUGGLED), body=SMUGGLED, line=READY), (400, 404)
    ),
    "HEAD with a body": Case(post(HOST, CL2, line=b"HEAD /v2/models/m/ready HTTP/1.1"), (405, 404)),
}

CHUNKS = {
    "chunk extension": Case(post(HOST, TE, body=b"2;a=b\r\n{}\r\n0\r\n\r\n"), (200, 404), 1),
    "chunk extension without a name": Case(post(HOST, TE, body=b"2;\r\n{}\r\n0\r\n\r\n"), (400,)),
    "chunk extension with a bare LF": Case(post(HOST, TE, body=b"2;\n{}\r\n0\r\n\r\n"), (400,)),
    "chunk extension with a bare CR": Case(post(HOST, TE, body=b"2;a\rb\r\n{}\r\n0\r\n\r\n"), (400,)),
    "long chunk extension": Case(post(HOST, TE, body=b"2;" + b"a" * 300 + b"\r\n{}\r\n0\r\n\r\n"), (400,)),
    "chunk size with a bare LF": Case(post(HOST, TE, body=b"2\n{}\r\n0\r\n\r\n"), (400,)),
    "chunk data with a bare LF": Case(post(HOST, TE, body=b"2\r\n{}\n0\r\n\r\n"), (400,)),
    "chunk size with a sign": Case(post(HOST, TE, body=b"+2\r\n{}\r\n0\r\n\r\n"), (400,)),
    "negative chunk size": Case(post(HOST, TE, body=b"-2\r\n{}\r\n0\r\n\r\n"), (400,)),
    "chunk size with 0x": Case(post(HOST, TE, body=b"0x2\r\n{}\r\n0\r\n\r\n"), (400,)),
    "chunk size with an underscore": Case(post(HOST, TE, body=b"0_2\r\n{}\r\n0\r\n\r\n"), (400,)),
    "chunk size with a space": Case(post(HOST, TE, body=b"2 \r\n{}\r\n0\r\n\r\n"), (400,)),
    "chunk size with a space before": Case(post(HOST, TE, body=b" 2\r\n{}\r\n0\r\n\r\n"), (400,)),
    "chunk size with a tab": Case(post(HOST, TE, body=b"2\t\r\n{}\r\n0\r\n\r\n"), (400,)),
    "chunk size of 17 digits": Case(post(HOST, TE, body=b"00000000000000002\r\n{}\r\n0\r\n\r\n"), (400,)),
    "chunk size over 64 bits": Case(post(HOST, TE, body=b"10000000000000002\r\n{}\r\n0\r\n\r\n"), (400,)),
    "chunk size that is none": Case(post(HOST, TE, body=b"zz\r\n{}\r\n0\r\n\r\n"), (400,)),
    "empty chunk size": Case(post(HOST, TE, body=b"\r\n{}\r\n0\r\n\r\n"), (400,)),
    "chunk longer than its size": Case(post(HOST, TE, body=b"1\r\n{}\r\n0\r\n\r\n"), (400,)),
    "chunk shorter than its size": Case(post(HOST, TE, body=b"3\r\n{}\r\n0\r\n\r\n"), (400,)),
    "chunks without the last": Case(post(HOST, TE, body=b"2\r\n{}\r\n"), (400,)),
    "many zeros for the last chunk": Case(post(HOST, TE, body=b"2\r\n{}\r\n0000\r\n\r\n"), (200, 404), 1),
    "last chunk with an extension": Case(post(HOST, TE, body=b"2\r\n{}\r\n0;a\r\n\r\n"), (200, 404), 1),
    "trailer": Case(post(HOST, TE, body=b"2\r\n{}\r\n0\r\nX: y\r\n\r\n"), (200, 404), 1),
    "trailer that frames": Case(post(HOST, TE, body=b"2\r\n{}\r\n0\r\nContent-Length: 50\r\n\r\n"), (200, 404), 1),
    "trailer that is a host": Case(post(HOST, TE, body=b"2\r\n{}\r\n0\r\nHost: evil\r\n\r\n"), (200, 404), 1),
    "trailer that is a request": Case(post(HOST, TE, body=b"2\r\n{}\r\n0\r\n" + SMUGGLED), (400,)),
    "trailer folded": Case(post(HOST, TE, body=b"2\r\n{}\r\n0\r\nX: y\r\n z\r\n\r\n"), (400,)),
    "trailer with a bare LF": Case(post(HOST, TE, body=b"2\r\n{}\r\n0\r\nX: y\n\r\n"), (400,)),
    "trailer with a NUL": Case(post(HOST, TE, body=b"2\r\n{}\r\n0\r\nX: \0\r\n\r\n"), (400,)),
    "end with a bare LF": Case(post(HOST, TE, body=b"2\r\n{}\r\n0\r\n\n"), (400,)),
    "end with a bare CR": Case(post(HOST, TE, body=b"2\r\n{}\r\n0\r\n\r\r\n"), (400,)),
}

HEADS = {
    "no Host": Case(get(READY), (400,)),
    "two Hosts": Case(get(READY, HOST, b"Host: b"), (400,)),
    "two equal Hosts": Case(get(READY, HOST, HOST), (400,)),
    "empty Host": Case(get(READY, b"Host: "), (400,)),
    "Host with a path": Case(get(READY, b"Host: a/b"), (400,)),
    "Host with user information": Case(get(READY, b"Host: a@b"), (400,)),
    "Host with a space": Case(get(READY, b"Host: a b"), (400,)),
    "Host with a comma": Case(get(READY, b"Host: a, b"), (400,)),
    "Host with a NUL": Case(get(READY, b"Host: a\0b"), (400,)),
    "Host folded": Case(get(READY, b"Host:\r\n a"), (400,)),
    "Host with a space before its colon": Case(get(READY, b"Host : a"), (400,)),
    "Host behind a space": Case(get(READY, b" Host: a"), (400,)),
    "obs-fold": Case(get(READY, HOST, b"X: y\r\n z"), (400,)),
    "obs-fold with a tab": Case(get(READY, HOST, b"X: y\r\n\tz"), (400,)),
    "obs-fold that hides a length": Case(post(HOST, b"X: y\r\n Content-Length: 50", CL2), (400,)),
    "bare LF between fields": Case(READY + b"\r\nHost: a\nX: y\r\n\r\n", (400,)),
    "bare LF after the request line": Case(READY + b"\nHost: a\r\n\r\n", (400,)),
    "bare LF everywhere": Case(READY + b"\nHost: a\n\n", (400,)),
    "bare LF at the end": Case(READY + b"\r\nHost: a\r\n\n", (400,)),
    "bare CR in a value": Case(get(READY, HOST, b"X: y\rz"), (400,)),
    "bare CR between fields": Case(get(READY, HOST, b"X: y\rZ: 1"), (400,)),
    "bare CR in the request line": Case(get(b"GET /v2/models/m/ready\rx HTTP/1.1", HOST), (400,)),
    "NUL in a value": Case(get(READY, HOST, b"X: y\0z"), (400,)),
    "NUL in a name": Case(get(READY, HOST, b"X\0: y"), (400,)),
    "NUL in the target": Case(get(b"GET /v2/models/m\0/ready HTTP/1.1", HOST), (400,)),
    "DEL in a value": Case(get(READY, HOST, b"X: y\x7f"), (400,)),
    "field without a colon": Case(get(READY, HOST, b"nothing"), (400,)),
    "field without a name": Case(get(READY, HOST, b": y"), (400,)),
    "field name with a space": Case(get(READY, HOST, b"X Y: z"), (400,)),
    "field name in quotes": Case(get(READY, HOST, b'"X": z'), (400,)),
    "field name over 127": Case(get(READY, HOST, b"X\xe9: z"), (400,)),
    "two spaces in the request line": Case(get(b"GET  /v2/models/m/ready HTTP/1.1", HOST), (400,)),
    "tab in the request line": Case(get(b"GET\t/v2/models/m/ready HTTP/1.1", HOST), (501,)),
    "space at the end of the request line": Case(get(READY + b" ", HOST), (400,)),
    "space in the target": Case(get(b"GET /v2/models/m/ready x HTTP/1.1", HOST), (400,)),
    "request line in the target": Case(get(b"GET /x HTTP/1.1 /v2/models/m/ready HTTP/1.1", HOST), (400,)),
    "no version": Case(get(b"GET /v2/models/m/ready", HOST), (400,)),
    "HTTP/0.9": Case(b"GET /v2/models/m/ready\r\n", (400,)),
    "HTTP/1.2": Case(get(b"GET /v2/models/m/ready HTTP/1.2", HOST), (400,)),
    "HTTP/2.0 in a request line": Case(get(b"GET /v2/models/m/ready HTTP/2.0", HOST), (505,)),
    "http/1.1": Case(get(b"GET /v2/models/m/ready http/1.1", HOST), (400,)),
    "HTTP/1.10": Case(get(b"GET /v2/models/m/ready HTTP/1.10", HOST), (400,)),
    "method in small letters": Case(get(b"get /v2/models/m/ready HTTP/1.1", HOST), (501,)),
    "method that is none": Case(get(b"SMUGGLE /v2/models/m/ready HTTP/1.1", HOST), (501,)),
    "empty lines before": Case(b"\r\n\r\n" + get(READY, HOST), (200, 404), 1),
    "space before the request line": Case(b" " + get(READY, HOST), (501,)),
    "Upgrade to h2c": Case(
        get(READY, HOST, b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABk"),
        (200, 404),
        1,
    ),
    "Upgrade to websocket with a smuggled request": Case(
        get(READY, HOST, b"Connection: Upgrade", b"Upgrade: websocket") + SMUGGLED, (200, 200, 404), 2
    ),
    "HTTP/2 preface after a request": Case(get(READY, HOST) + b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", (200, 400), 1),
    "Expect with a body there": Case(post(HOST, CL2, b"Expect: 100-continue"), (200, 404), 1),
    "unknown Expect": Case(post(HOST, CL2, b"Expect: tea"), (417,)),
    "Connection names Host": Case(get(READY, HOST, b"Connection: host"), (200, 404), 1),
    "Proxy-Connection": Case(get(READY, HOST, b"Proxy-Connection: close"), (200, 404), 1),
    "Keep-Alive": Case(get(READY, HOST, b"Keep-Alive: timeout=1"), (200, 404), 1),
}

TARGETS = {
    "absolute form of another host": Case(get(b"GET http://127.0.0.1:9/v2/models/m/ready HTTP/1.1", HOST), (400,)),
    "absolute form that agrees with Host": Case(get(b"GET http://a/v2/models/m/ready HTTP/1.1", HOST), (200, 404), 1),
    "absolute form with user information": Case(get(b"GET http://a@evil/v2/models/m/ready HTTP/1.1", HOST), (400,)),
    "absolute form of another scheme": Case(get(b"GET ftp://a/v2/models/m/ready HTTP/1.1", HOST), (400,)),
    "authority form": Case(get(b"GET evil:80 HTTP/1.1", HOST), (400,)),
    "CONNECT": Case(get(b"CONNECT evil:443 HTTP/1.1", b"Host: evil:443"), (405,)),
    "CONNECT with a path": Case(get(b"CONNECT /v2/models/m/ready HTTP/1.1", HOST), (405,)),
    "asterisk": Case(get(b"OPTIONS * HTTP/1.1", HOST), (400,)),
    "two slashes before the host": Case(get(b"GET //evil/v2/models/m/ready HTTP/1.1", HOST), (404, 404)),
    "backslash": Case(get(b"GET \\\\evil\\x HTTP/1.1", HOST), (400,)),
    "fragment": Case(get(b"GET /v2/models/m/ready#x HTTP/1.1", HOST), (400,)),
    "TRACE": Case(get(b"TRACE /v2/models/m/ready HTTP/1.1", HOST), (405, 404)),
    "Host of another server": Case(get(READY, b"Host: 169.254.169.254"), (200, 404), 1),
    "X-Forwarded-Host": Case(get(READY, HOST, b"X-Forwarded-Host: evil"), (200, 404), 1),
    "X-Original-URL": Case(get(READY, HOST, b"X-Original-URL: /v2/repository/index"), (200, 404), 1),
}

CASES = {**BODY_LENGTH, **CHUNKS, **HEADS, **TARGETS}
