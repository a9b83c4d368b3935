"""A recorded call as a command of a POSIX shell: curl for every call, grpcurl for gRPC with the names of its proto.

Everything that comes from the recording is one quoted word, whatever stands in it; what no word can hold (a NUL) or a
header cannot (a line end) is never written. Bodies that are large or binary come from a file beside the command, or
where there is no place for one, out of `printf`, which as a builtin of the shell knows no limit of length.
"""

import shlex

from inferbridge.bridge.values import header
from inferbridge.recorded.bodies import is_streamed
from inferbridge.recorded.calls import (
    Place,
    described,
    encoded,
    grpc_metadata,
    method_word,
    refuse_cut,
    rest_headers,
    timeout_of,
)
from inferbridge.recorded.credentials import Text, merged, target_text
from inferbridge.recorded.exchanges import Side
from inferbridge.recorded.protosets import protoset

_LONGEST_WORD = 64 * 1024
"""Bytes; Linux takes words of 128 KiB."""
_NEXT = " \\\n  "


def curl(side: Side, place: Place, number: int) -> str:
    """The call as curl makes it, byte for byte; raises `Unfit`."""
    refuse_cut(side)
    before, body = _body(side.asked.body, place, number) if side.asked.body else ("", [])
    words = [_curl_itself(side, place)]
    words += [f"-H {_header(name, text)}" for name, text in rest_headers(side, reveal=place.reveal)]
    if side.protocol == "grpc":
        words.append("-H 'te: trailers'")
    if body and header(side.asked.headers, "content-type") is None:
        words.append("-H 'content-type:'")  # else curl says that it is a form
    return before + _NEXT.join([*words, *body])


def _curl_itself(side: Side, place: Place) -> str:
    address, method = place.address(side), method_word(side)
    base = f"{'https' if address.tls else 'http'}://{address.authority}"
    options = ["-N"] if is_streamed(side) else []
    if not address.tls and (side.is_http2 or side.protocol == "grpc"):
        options.append("--http2-prior-knowledge")
    options += ["--globoff", "--path-as-is", *(["--head"] if method == "HEAD" else ["-X", shlex.quote(method)])]
    target = encoded(target_text(side.asked.target, reveal=place.reveal))
    if side.asked.target.startswith("/"):
        return " ".join(["curl", *options, _word((base, *target))])
    return " ".join(["curl", *options, "--request-target", _word(target), _word((base,))])


def grpcurl(side: Side, place: Place, number: int) -> str:
    """The call with its messages as JSON; raises `Unfit` for what is not gRPC, or has no proto."""
    refuse_cut(side)
    method, messages = described(side)
    address = place.address(side)
    words = [
        "grpcurl" if address.tls else "grpcurl -plaintext",
        f"-protoset {shlex.quote(protoset(side, method, place))}",
        *(f"-H {_word((f'{name}: ', *text))}" for name, text in grpc_metadata(side, reveal=place.reveal)),
    ]
    if (seconds := timeout_of(side)) is not None:
        words.append(f"-max-time {seconds:g}")
    data, before = "\n".join(messages), ""
    if len(data) > _LONGEST_WORD:
        before, data = f"printf %s {shlex.quote(data)} | ", "@"
    words += [f"-d {shlex.quote(data)}", f"{_host_and_port(place, side)} {shlex.quote(side.asked.target.lstrip('/'))}"]
    return before + _NEXT.join(words)


def _host_and_port(place: Place, side: Side) -> str:
    return shlex.quote(str(place.address(side)).partition("://")[2])


def _body(body: bytes, place: Place, number: int) -> tuple[str, list[str]]:
    """What stands before the command, and the option that takes the body."""
    text = _as_text(body)
    if text is not None and len(body) <= _LONGEST_WORD:
        return "", [f"--data-raw {shlex.quote(text)}"]  # a body that begins with @ is no file to it
    if place.beside:
        return "", [f"--data-binary {shlex.quote('@' + place.add(f'{number}.body', body))}"]
    printf = f"printf '{octal(body)}'" if text is None else f"printf %s {shlex.quote(text)}"
    return f"{printf} | ", ["--data-binary @-"]


def octal(body: bytes) -> str:
    """Any bytes as a format of `printf`."""
    return "".join(f"\\{octet:03o}" for octet in body)


def _as_text(body: bytes) -> str | None:
    """None for what a word cannot hold or a terminal should not see."""
    try:
        text = body.decode()
    except UnicodeDecodeError:
        return None
    return text if all(letter.isprintable() or letter in "\n\t\r" for letter in text) else None


def _header(name: str, text: Text) -> str:
    if text == ("",):
        return shlex.quote(f"{name};")  # with a colon, curl would leave the header out
    return _word((f"{name}: ", *text))


def _word(text: Text) -> str:
    """One word of the shell, whatever stands in it."""
    return "".join(shlex.quote(piece) if isinstance(piece, str) else f'"${piece.name}"' for piece in merged(text))
