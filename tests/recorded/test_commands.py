"""Exported commands as text, and what a shell makes of them."""

import subprocess
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inferbridge.recorded.calls import Place, Unfit, left_out
from inferbridge.recorded.commands import curl, grpcurl
from inferbridge.recorded.exchanges import Side
from recorded_flows import JSON, exchange, flow_of, grpc_flow

TGIS = "/fmaas.GenerationService/Generate"
TEXT = '{"model_id":"m","requests":[{"text":"to be \'or\'"}]}'


def arguments(command: str, program: str = "curl") -> tuple[list[str], bytes]:
    """What a POSIX shell hands to the program, and what stands on its stdin."""
    show = f'{program}() {{ printf "%s\\0" "$@"; if [ "$piped" ]; then /bin/cat; fi; }}\n'
    text = show + (f"piped=yes\n{command}" if command.startswith("printf") else command)
    environment = {"PATH": "/nowhere", "TOKEN": "t 1", "TOKEN_X_API_KEY": "k"}
    ran = subprocess.run(
        ["/bin/sh"],
        input=text.encode(errors="surrogateescape"),
        capture_output=True,
        env=environment,
        check=True,
        timeout=20,
        cwd="/",
    )
    assert ran.stderr == b""
    *words, rest = ran.stdout.split(b"\0") if "piped" not in text[len(show) :] else _split(ran.stdout, command)
    return [word.decode(errors="surrogateescape") for word in words], rest


def _split(output: bytes, command: str) -> list[bytes]:
    head, found, body = output.partition(b"--data-binary\0@-\0")
    assert found
    return [*head.split(b"\0")[:-1], b"--data-binary", b"@-", body]


def test_a_rest_call_is_a_command_that_can_be_read() -> None:
    """The text that people get to see, word for word."""
    flow = flow_of(
        body=b'{"prompt":"it\'s"}', headers=(*JSON, ("authorization", "Bearer ***"), ("accept-encoding", "gzip"))
    )
    assert curl(exchange(flow).client, Place(), 1) == (
        "curl --globoff --path-as-is -X POST http://127.0.0.1:8080/v1/completions \\\n"
        "  -H 'content-type: application/json' \\\n"
        "  -H 'authorization: Bearer '\"$TOKEN\" \\\n"
        '  --data-raw \'{"prompt":"it\'"\'"\'s"}\''
    )


def test_a_grpc_call_is_a_command_of_grpcurl() -> None:
    """Messages by the names of the proto, metadata, the client's deadline."""
    flow = grpc_flow(
        TGIS,
        "tgis",
        TEXT,
        headers=(("content-type", "application/grpc"), ("grpc-timeout", "1500m"), ("x-api-key", "***")),
    )
    place = Place(beside="calls.sh")
    assert grpcurl(exchange(flow).client, place, 1) == (
        "grpcurl -plaintext \\\n"
        "  -protoset calls.sh.fmaas.GenerationService.protoset \\\n"
        "  -H 'x-api-key: '\"$TOKEN_X_API_KEY\" \\\n"
        "  -max-time 1.5 \\\n"
        '  -d \'{"model_id":"m","requests":[{"text":"to be \'"\'"\'or\'"\'"\'"}]}\' \\\n'
        "  127.0.0.1:8080 fmaas.GenerationService/Generate"
    )
    assert b"GenerationService" in place.files["calls.sh.fmaas.GenerationService.protoset"]


def test_without_a_place_for_files_grpcurl_takes_the_packaged_protos() -> None:
    """The path of a file that is there."""
    words, _ = arguments(grpcurl(exchange(grpc_flow(TGIS, "tgis", TEXT)).client, Place(), 1), "grpcurl")
    assert Path(words[words.index("-protoset") + 1]).is_file()


HOSTILE = st.text(st.characters(exclude_categories=["Cs"]), max_size=12) | st.sampled_from(
    ["$(reboot)", "`id`", "'; id; '", '"$HOME"', "a\nb", "\\", "--help", "@/etc/passwd", "%s%n", "\0", "{1,2}", "!!"]
)


@given(value=HOSTILE, path=HOSTILE, body=st.binary(max_size=20) | HOSTILE.map(str.encode), name=HOSTILE)
@settings(max_examples=60, deadline=None)
def test_nothing_that_was_recorded_is_run_by_the_shell(value: str, path: str, body: bytes, name: str) -> None:
    """Whatever stands in a path, a header or a body is one word with exactly these characters, or is not there."""
    headers = ((name or "x", "1"), ("x-hostile", value), *JSON)
    side = exchange(flow_of("POST", f"/{path}", body, headers)).client
    words, piped = arguments(curl(side, Place(), 1))
    fields = [word for flag, word in pairwise(words) if flag == "-H"]
    kept = dict(side.asked.headers)["x-hostile"]  # names with a colon before them are no headers
    if "x-hostile" not in left_out(side):
        assert (f"x-hostile: {kept}" if kept else "x-hostile;") in fields
    assert len(fields) == len([pair for pair in side.asked.headers if pair[0] not in left_out(side)])
    (url,) = [word for word in words if word.startswith("http://127.0.0.1:8080/")]
    assert url.isascii()
    assert not set(url) & set(" \n\t\0\x7f#")
    if not body:
        assert not {"--data-raw", "--data-binary"} & set(words)
    elif "--data-raw" in words:
        assert words[words.index("--data-raw") + 1].encode() == body
    else:
        assert piped == body


def test_large_and_binary_bodies_lie_beside_the_command() -> None:
    """A file of the same bytes, or what `printf` writes where there is no place for one."""
    for body in (b"\x00\xff" * 10, b"x" * 200_000):
        side = exchange(flow_of(body=body)).client
        place = Place(beside="out")
        assert "--data-binary @out.7.body" in curl(side, place, 7)
        assert place.files == {"out.7.body": body}
        assert arguments(curl(side, Place(), 7))[1] == body


@pytest.mark.parametrize("name", ["path", "aws-secret", "Authorization: x"])
def test_a_hidden_header_never_reads_another_variable(name: str) -> None:
    """Names that strangers chose do not become names of variables that somebody's environment has."""
    side = exchange(flow_of(headers=((name, "***"), ("x-api-key", "***")))).client
    command = curl(side, Place(), 1)
    assert '"$TOKEN_' in command
    for variable in ("$PATH", "$AWS_SECRET"):
        assert variable not in command


def test_credentials_that_the_file_holds_are_shown_on_demand_alone() -> None:
    """Those of headers and of the query; the command reads them from variables."""
    headers = (("authorization", "Bearer canary"), ("x-api-key", "canary"))
    side = exchange(flow_of("GET", "/v1/models?key=canary&a=1", headers=headers)).client
    hidden = curl(side, Place(), 1)
    assert "canary" not in hidden
    words, _ = arguments(hidden)
    assert "http://127.0.0.1:8080/v1/models?key=&a=1" in words
    assert {"authorization: Bearer t 1", "x-api-key: k"} <= set(words)
    assert curl(side, Place(reveal=True), 1).count("canary") == 3


@pytest.mark.parametrize(
    ("side", "said"),
    [
        (exchange(flow_of(body=b"{", headers=(*JSON, ("content-length", "9")))).client, "not kept whole"),
        (
            exchange(flow_of("POST", TGIS, b"\0\0\0\0\x09x", (("content-type", "application/grpc"),))).client,
            "not kept whole",
        ),
        (Side("grpc", exchange(flow_of()).client.asked, upstream="u1"), "where u1 is was not recorded"),
        (exchange(flow_of("PO ST")).client, "its method is no word"),
    ],
)
def test_what_cannot_be_made_again_says_why(side: Side, said: str) -> None:
    """A body that was cut, a runtime nobody knows the address of, a method that is none."""
    with pytest.raises(Unfit, match=said):
        curl(side, Place(), 1)


def test_grpcurl_refuses_what_it_would_lose() -> None:
    """REST, methods without a proto, and fields that the proto does not have."""
    for flow, said in (
        (flow_of(), "not gRPC"),
        (flow_of("POST", "/a.B/C", headers=(("content-type", "application/grpc"),)), "no proto has its method"),
        (
            flow_of("POST", TGIS, b"\0\0\0\0\x03\x98\x06\x01", (("content-type", "application/grpc"),)),
            "the proto does not have",
        ),
    ):
        with pytest.raises(Unfit, match=said):
            grpcurl(exchange(flow).client, Place(beside="x"), 1)
