"""gRPC bodies, messages and trailers as people see them."""

import base64
import gzip
from typing import Any

import pytest
from google.protobuf.message_factory import GetMessageClass
from hypothesis import given
from hypothesis import strategies as st

from inferbridge.bridge.framing import frame
from inferbridge.inspect.grpc_bodies import add_body
from inferbridge.inspect.grpc_status import add_trailers
from inferbridge.inspect.known import find_method
from inferbridge.inspect.page import PAGE_BYTES, Page

GENERATE = find_method("/fmaas.GenerationService/Generate")
INFER = find_method("/inference.GRPCInferenceService/ModelInfer")
assert GENERATE is not None
assert INFER is not None


def wire(method: Any, **fields: Any) -> bytes:
    """The bytes of a request."""
    return bytes(GetMessageClass(method.input_type)(**fields).SerializeToString(deterministic=True))


def framed(*messages: bytes) -> bytes:
    """A body of these messages."""
    return b"".join(frame((message,) for message in messages))


def lines(body: bytes, method: Any = GENERATE, encoding: str = "identity") -> list[str]:
    """How a body of requests is shown."""
    page = Page()
    add_body(page, body, method.input_type if method is not None else None, encoding)
    assert len(page.text().encode()) <= PAGE_BYTES
    return page.text().splitlines()


SMALL = wire(
    GENERATE,
    model_id="m",
    requests=[{"text": "Hello\n"}],
    params={"method": 1, "sampling": {"temperature": 0.7}, "stopping": {"max_new_tokens": 20, "stop_sequences": ["a"]}},
)
SHOWN = [
    '  model_id: "m"',
    "  requests:",
    '    text: "Hello\\n"',
    "  params:",
    "    method: SAMPLE",
    "    sampling:",
    "      temperature: 0.7",
    "    stopping:",
    "      max_new_tokens: 20",
    '      stop_sequences: "a"',
]


def test_fields_go_by_name() -> None:
    """Each message has its number, type and size; fields and enums have their names, floats are short."""
    assert lines(framed(SMALL, b"")) == [
        "message 1: fmaas.BatchedGenerationRequest, 31 bytes",
        *SHOWN,
        "message 2: fmaas.BatchedGenerationRequest, 0 bytes",
    ]


def test_compressed_messages_are_read() -> None:
    """A compressed message is shown with both sizes; what cannot be read says why."""
    packed = gzip.compress(SMALL, mtime=0)
    body = b"\1" + len(packed).to_bytes(4, "big") + packed
    assert lines(body, encoding="gzip") == [
        f"message 1: fmaas.BatchedGenerationRequest, 31 bytes, {len(packed)} as gzip",
        *SHOWN,
    ]
    (line,) = lines(body, encoding="zstd")
    assert line.startswith(f"message 1: fmaas.BatchedGenerationRequest, {len(packed)} bytes of zstd, ! grpc-encoding")


def test_unknown_fields_are_kept_by_number() -> None:
    """What the proto does not know is shown under its number, and so is everything where there is no proto."""
    unknown = b"\xa0\x06\x05\xaa\x06\x02hi"
    assert lines(framed(SMALL + unknown))[-2:] == [
        "  100: 5 (varint) ! not in the proto",
        '  101: "hi" ! not in the proto',
    ]
    assert lines(framed(unknown), method=None) == ["message 1: 8 bytes", "  100: 5 (varint)", '  101: "hi"']


def test_a_field_of_the_wrong_type_is_told() -> None:
    """A value that the wire has in another form than the proto says is shown as it is."""
    assert lines(framed(b"\x10\x05"))[1:] == ["  prefix_id: 5 (varint) ! not of the field's type"]


@pytest.mark.parametrize(
    ("body", "shown", "note"),
    [
        (framed(SMALL[:20]), 3, "  ! broken: field 10 lacks"),
        (framed(SMALL)[:-18], 3, "  ! cut off: 13 of 31 bytes are there"),
        (framed(SMALL) + b"\0\0", 10, "! the body ends within the prefix of message 2: 2 bytes: 00 00"),
        (framed(b"\x1a\x01m\x0f"), 1, "  ! broken: wire type 7 at byte 3 of 4"),
        (b"\1\0\0\0\x09abc", 0, "  ! compressed and cut off: 3 of 9 bytes are there"),
    ],
)
def test_what_is_broken_is_shown_up_to_there(body: bytes, shown: int, note: str) -> None:
    """A broken body shows all that could be read, and where it broke."""
    found = lines(body)
    assert found[-1].startswith(note)
    assert len([line for line in found if "!" not in line and line.startswith(" ")]) >= shown


def test_tensors_stand_before_the_fields() -> None:
    """An inference request shows its tensors, and its raw contents only by their size."""
    body = wire(
        INFER,
        model_name="m",
        inputs=[{"name": "x", "datatype": "FP32", "shape": [2]}],
        raw_input_contents=[bytes(8)],
    )
    assert lines(framed(body), INFER)[1:4] == [
        '  "x" FP32 [2], 8 bytes in raw_input_contents[0]',
        "    min 0.0, max 0.0, mean 0, 0 NaN, 0 Inf",
        "    first 2: 0.0, 0.0",
    ]


def test_trailers_are_a_table() -> None:
    """The status has its name, the message is unquoted, details are decoded, credentials are not shown."""
    status = b"\x08\x05\x12\x02no\x1a\x0c\x0a\x06a/b.Cd\x12\x02\x08\x01"
    page = Page()
    add_trailers(
        page,
        [
            ("grpc-status", "5"),
            ("grpc-message", "no%20model%0A"),
            ("x-note-bin", base64.b64encode(b"ok").decode().rstrip("=")),
            ("authorization", "Bearer canary"),
            ("x-goog-api-key", "canary"),
            ("grpc-status-details-bin", base64.b64encode(status).decode()),
        ],
    )
    assert page.text().splitlines() == [
        "grpc-status: 5 NOT_FOUND",
        'grpc-message: "no model\\n"',
        'x-note-bin: "ok"',
        "authorization: ***",
        "x-goog-api-key: ***",
        "grpc-status-details-bin: google.rpc.Status, 20 bytes",
        "  code: 5",
        '  message: "no"',
        "  details:",
        "    a/b.Cd:",
        "      1: 1 (varint)",
    ]


def test_trailers_of_grpc_web_are_read() -> None:
    """gRPC-Web has its trailers in the body."""
    text = b"grpc-status: 5\r\ngrpc-message: no%20model\r\n"
    assert lines(b"\x80" + len(text).to_bytes(4, "big") + text) == [
        "trailers in the body:",
        "  grpc-status: 5 NOT_FOUND",
        '  grpc-message: "no model"',
    ]


def test_the_work_of_a_page_is_bounded() -> None:
    """Bodies that are small and expensive are not read to their end."""
    bomb = gzip.compress(bytes(100_000_000), 9)
    body = (b"\1" + len(bomb).to_bytes(4, "big") + bomb) * 50
    assert all("! larger than the" in line for line in lines(body, encoding="gzip"))
    tensor = {"name": "x", "datatype": "BYTES", "shape": [100_000], "contents": {"bytes_contents": [b""] * 100_000}}
    many = lines(framed(wire(INFER, inputs=[tensor])), INFER)
    assert many[1] == '  "x" BYTES [100000], 0 bytes in bytes_contents'
    assert any("! its contents are broken: too many fields to show; the rest begins at byte" in line for line in many)


@given(
    body=st.binary(max_size=300) | st.lists(st.binary(max_size=60), max_size=5).map(lambda all_: framed(*all_)),
    encoding=st.sampled_from(["identity", "gzip", "deflate", "\ud800"]),
    method=st.sampled_from([GENERATE, INFER, None]),
)
def test_any_body_has_a_form(body: bytes, encoding: str, method: Any) -> None:
    """Random bytes never raise, whatever they are taken for."""
    lines(body, method, encoding)


@given(
    st.lists(st.tuples(st.sampled_from(["grpc-status", "grpc-message", "grpc-status-details-bin", "a-bin"]), st.text()))
)
def test_any_trailers_have_a_form(trailers: list[tuple[str, str]]) -> None:
    """Random trailers never raise."""
    page = Page()
    add_trailers(page, trailers)
    assert len(page.text().encode()) <= PAGE_BYTES
