"""The grammar of filters: what each term means, and what is said of a wrong one."""

from typing import Any

import pytest

from inferbridge.inspect.filters import parse_filter

CALL = {
    "model": "llama-3-8b",
    "operation": "chat",
    "api": "openai",
    "runtime": "vllm-nvidia",
    "status": 503,
    "grpc_status": None,
    "ttft_ms": 640.0,
    "duration_ms": 2000.0,
}


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("", True),
        ("model:llama-*", True),
        ("model:mistral*", False),
        ("-model:mistral*", True),
        ('model:"llama-3-8b"', True),
        ("op:chat api:openai runtime:vllm-*", True),
        ("op:chat api:tgis", False),
        ("status:503", True),
        ("status:5xx", True),
        ("status:4xx", False),
        ("status:grpc:NOT_FOUND", False),
        ("-status:grpc:5", True),
        ("lossy:true", False),
        ("lossy:false", True),
        ("error:true", True),
        ("ttft:>500ms", True),
        ("ttft:>=0.64s ttft:<=640ms", True),
        ("duration:<2s", False),
        ("  duration:>1s   -error:false ", True),
    ],
)
def test_a_filter_holds_or_not(text: str, holds: bool) -> None:
    """All terms must hold, and a minus turns one round."""
    assert parse_filter(text).matches(CALL) is holds


@pytest.mark.parametrize(
    ("record", "text", "holds"),
    [
        ({}, "ttft:>0ms", False),
        ({}, "ttft:<9m", False),
        ({}, "-ttft:>0ms", True),
        ({}, "status:5xx", False),
        ({"status": 200, "grpc_status": 5}, "status:grpc:not_found error:true", True),
        ({"status": 200, "grpc_status": 0}, "status:grpc:OK error:false", True),
        ({"losses": "logit_bias"}, "lossy:true", True),
    ],
)
def test_what_is_not_known_matches_nothing(record: dict[str, Any], text: str, holds: bool) -> None:
    """A call without a status or a time is neither above nor below one; gRPC's status counts as an error too."""
    assert parse_filter(text).matches(record) is holds


def test_losses_of_the_flow_count() -> None:
    """A call is lossy when its flow says so, whatever its record says."""
    assert parse_filter("lossy:true").matches({}, ["seed"])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("modle:x", "column 1: there is no term 'modle'; did you mean 'model'?"),
        ("op:chat -statsu:404", "column 10: there is no term 'statsu'; did you mean 'status'?"),
        ("zzz", "column 1: there is no term 'zzz'; there are model, op,"),
        ("model:", "column 7: 'model' needs a value, as in model:llama*"),
        ("lossy", "column 6: 'lossy' needs a value, as in lossy:true"),
        ("status:50", "column 8: '50' is no status; write status:5xx,"),
        ("lossy:yes", "column 7: 'lossy' is true or false"),
        ("op:chat ttft:500", "column 14: '500' is no comparison with a time; write ttft:>500ms"),
        ("status:grpc:NOTFOUND", "column 13: 'NOTFOUND' is no status of gRPC; did you mean 'NOT_FOUND'?"),
        ('model:"a', "column 7: a quote is not closed"),
        ('model:"a"b', "column 10: a quote is not closed, or something follows it"),
    ],
)
def test_errors_say_where_and_what_would_be_right(text: str, said: str) -> None:
    """The column of the fault, and the nearest right word or an example."""
    with pytest.raises(ValueError, match="column") as caught:
        parse_filter(text)
    assert said in str(caught.value)
