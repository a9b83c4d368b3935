import http.client
import os
import sys
from collections.abc import Sequence

# credentials that the recording does not hold are taken from the environment
secret = os.environ.__getitem__


def rest(
    is_tls: bool, host: str, port: int, method: str, target: str, headers: Sequence[tuple[str, str]], body: bytes = b""
) -> bool:
    """Make a call and write its answer as it comes; False: it failed."""
    connect = http.client.HTTPSConnection if is_tls else http.client.HTTPConnection
    connection = connect(host, port, timeout=300)
    connection.putrequest(method, target, skip_accept_encoding=True)
    for name, value in headers:
        connection.putheader(name, value.encode(errors="surrogateescape"))
    if body or method in ("POST", "PUT", "PATCH"):
        connection.putheader("content-length", str(len(body)))
    connection.endheaders(body or None)
    answer = connection.getresponse()
    while piece := answer.read1(65536):
        sys.stdout.buffer.write(piece)
        sys.stdout.buffer.flush()
    if answer.status >= 400:
        sys.stderr.write(f"HTTP {answer.status} {answer.reason}\n")
    connection.close()
    return answer.status < 400
