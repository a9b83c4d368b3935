"""Translation held against recorded calls of real servers, in all four directions.

What a call or reply means is read from the recording by an independent, slow reader (v2_rest, v2_grpc); the product's
translation of it must mean the same on the other side, or be refused where the other side cannot say it. Where the
same call was recorded in both protocols, the translated reply must also be the JSON the runtime's other interface
really answered. Every exception is in DIFFERENCES with its reason, and an entry that no longer differs fails.
"""

import fnmatch
import json
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy
import pytest

import golden_v2
from golden_v2 import Case
from inferbridge.translate import translate_call, translate_reply
from translate.v2_grpc import CODE_NAMES, Messages, of_grpc_call, of_grpc_reply
from translate.v2_meaning import NUMBERS, Meaning, Unreadable, Unrouted
from translate.v2_rest import of_rest_call, of_rest_reply
from translate.v2_writing import grpc_call, rest_call

REST, GRPC = "open-inference/rest", "open-inference/grpc"
MESSAGES = {name: Messages(name) for name in ("triton", "mlserver", "kserve")}
CLIENT_MESSAGES = MESSAGES["triton"]  # a client of no particular runtime speaks the fullest protos

# direction, cases, why the product rightly does something else than this file expects
DIFFERENCES: tuple[tuple[str, str, str], ...] = (
    (
        "rest call",
        "*/rest_model/model_name_with_slash",
        "%2F in a path segment is refused, for hops read it differently",
    ),
)

# What each runtime's REST interface answers for its own gRPC codes, and the other way round.
STATUS = {
    "triton": {
        "UNKNOWN": 400,
        "INVALID_ARGUMENT": 400,
        "NOT_FOUND": 404,
        "INTERNAL": 500,
        "UNAVAILABLE": 503,
        "UNIMPLEMENTED": 501,
        "ALREADY_EXISTS": 400,
        "CANCELLED": 400,
        "DEADLINE_EXCEEDED": 504,
    },
    "mlserver": {
        "INVALID_ARGUMENT": 400,
        "NOT_FOUND": 404,
        "FAILED_PRECONDITION": 422,
        "INTERNAL": 500,
        "UNKNOWN": 500,
        "UNIMPLEMENTED": 501,
        "DEADLINE_EXCEEDED": 504,
    },
    "kserve": {
        "INVALID_ARGUMENT": 400,
        "NOT_FOUND": 404,
        "INTERNAL": 500,
        "UNKNOWN": 500,
        "UNIMPLEMENTED": 501,
    },
}
CODES = {
    "triton": {
        400: "INVALID_ARGUMENT",
        404: "NOT_FOUND",
        500: "INTERNAL",
        501: "UNIMPLEMENTED",
        503: "UNAVAILABLE",
    },
    "mlserver": {
        400: "INVALID_ARGUMENT",
        404: "NOT_FOUND",
        422: "FAILED_PRECONDITION",
        429: "UNKNOWN",
        500: "INTERNAL",
        503: "UNKNOWN",
    },
    "kserve": {
        400: "INVALID_ARGUMENT",
        404: "NOT_FOUND",
        422: "INVALID_ARGUMENT",
        500: "INTERNAL",
        501: "UNIMPLEMENTED",
        503: "UNAVAILABLE",
    },
}
NOT_READY = {"triton": 400, "mlserver": 400, "kserve": 503}


def held(direction: str, case: Case, check: Callable[[], None]) -> None:
    """Run a check; for a listed difference it must fail instead."""
    reasons = [
        reason for where, cases, reason in DIFFERENCES if where == direction and fnmatch.fnmatch(str(case), cases)
    ]
    if not reasons:
        check()
        return
    with pytest.raises(AssertionError):
        check()


# --- what is expected


def call_meaning(case: Case) -> Meaning | None:
    """What a recorded call means; None when the protocol does not allow it or has no such call."""
    try:
        if case.protocol == "rest":
            return of_rest_call(case.request)
        return of_grpc_call(case.request, CLIENT_MESSAGES)
    except (Unreadable, Unrouted):
        return None


def expressible(meaning: Meaning, runtime: str, protocol: str) -> bool:
    """Whether a runtime's interface can be told this without loss."""
    if runtime == "kserve" and meaning.get("version"):
        return False
    if runtime == "mlserver" and not meaning.get("id", "").isascii():
        return False
    if not all(_expressible_parameter(*typed, runtime, protocol) for typed in _all_parameters(meaning)):
        return False
    return all(_expressible_tensor(tensor, runtime, protocol) for tensor in meaning.get("inputs", []))


def _all_parameters(meaning: Meaning) -> list[tuple[str, Any]]:
    holders = [meaning, *meaning.get("inputs", []), *meaning.get("outputs", [])]
    return [typed for holder in holders for typed in holder.get("parameters", {}).values()]


def _expressible_parameter(kind: str, value: Any, runtime: str, protocol: str) -> bool:
    """MLServer's and KServe's messages have no double and no uint64; Triton's JSON turns a uint64 into a double."""
    if protocol == "grpc":
        return runtime == "triton" or (kind != "float" and (kind != "int" or value < 2**63))
    return runtime != "triton" or kind != "int" or value < 2**63


def _expressible_tensor(tensor: Meaning, runtime: str, protocol: str) -> bool:
    if tensor["datatype"] == "BF16" and runtime != "triton":
        return False
    if runtime != "mlserver" or protocol == "grpc":
        return True
    if tensor["datatype"] == "BYTES":
        return _is_text(tensor["raw"])
    if not tensor["datatype"].startswith("FP"):
        return True
    return bool(numpy.isfinite(numpy.frombuffer(tensor["raw"], NUMBERS[tensor["datatype"]])).all())


def _is_text(raw: bytes) -> bool:
    position = 0
    while position < len(raw):
        end = position + 4 + int.from_bytes(raw[position : position + 4], "little")
        try:
            raw[position + 4 : end].decode()
        except UnicodeDecodeError:
            return False
        position = end
    return True


# --- calls


def check_call(case: Case, client: str, protocol: str) -> None:
    """Translate a recorded call for the runtime's other interface."""
    outcome = translate_call(client, f"{case.runtime}/{protocol}", case.request)
    meaning = call_meaning(case)
    if meaning is None or not expressible(meaning, case.runtime, protocol):
        check_refusal(outcome, client)
    elif protocol == "grpc":
        assert "error" not in outcome, outcome
        assert of_grpc_call(outcome, runtime_messages(case.runtime, meaning["call"])) == meaning
    else:
        assert "error" not in outcome, outcome
        assert of_rest_call(outcome) == meaning
        assert not golden_v2.body(outcome) or golden_v2.header(outcome, "content-type")


def runtime_messages(runtime: str, call: str) -> Messages:
    """The protos a runtime reads a call with; KServe has none for the index, and says so to whoever asks."""
    return CLIENT_MESSAGES if call == "RepositoryIndex" and runtime == "kserve" else MESSAGES[runtime]


def check_refusal(outcome: dict[str, Any], client: str) -> None:
    """An untranslatable call is answered with an error in the client's dialect."""
    assert "error" in outcome, outcome
    error = outcome["error"]
    if client == GRPC:
        assert CODE_NAMES[error["code"]] not in ("OK", "UNKNOWN", "INTERNAL")
        assert error["details"]
        return
    assert 400 <= error["status"] < 600
    assert error["status"] != 500
    fields = json.loads(golden_v2.body(error))
    assert list(fields) == ["error"]
    assert isinstance(fields["error"], str)
    assert fields["error"]


@pytest.mark.parametrize("case", golden_v2.cases("rest"), ids=str)
def test_rest_call_for_grpc(case: Case) -> None:
    """A recorded REST call becomes the gRPC call that means the same, or an error."""
    held("rest call", case, lambda: check_call(case, REST, "grpc"))


@pytest.mark.parametrize("case", golden_v2.cases("grpc"), ids=str)
def test_grpc_call_for_rest(case: Case) -> None:
    """A recorded gRPC call becomes the REST call that means the same, or an error."""
    held("grpc call", case, lambda: check_call(case, GRPC, "rest"))


# --- replies


def answered(protocol: str) -> list[Case]:
    """The recorded cases whose call another client can make in the other protocol, so that a reply can come of it."""
    calls = [(case, call_meaning(case)) for case in golden_v2.cases(protocol)]
    return [case for case, meaning in calls if meaning and expressible(meaning, case.runtime, protocol)]


@pytest.mark.parametrize("case", answered("grpc"), ids=str)
def test_grpc_reply_for_rest(case: Case) -> None:
    """A recorded gRPC reply becomes a REST reply that means the same, its status the runtime's own for it."""
    held("grpc reply", case, lambda: check_grpc_reply(case))


def check_grpc_reply(case: Case) -> None:
    """Translate a recorded gRPC reply for a REST client."""
    meaning = call_meaning(case)
    assert meaning is not None
    outcome = translate_reply(REST, f"{case.runtime}/grpc", {"request": rest_call(meaning), "reply": case.reply})
    expected = of_grpc_reply(case.reply, meaning["call"], MESSAGES[case.runtime])
    if expected.get("ready") is False:
        assert outcome["status"] == NOT_READY[case.runtime]
    if "error" in expected:
        code = "NOT_FOUND" if "ModelNotFound" in expected["error"] else expected["code"]
        expected = {"error": expected["error"], "status": STATUS[case.runtime][code]}
    assert of_rest_reply(outcome, meaning["call"]) == expected


@pytest.mark.parametrize("case", answered("rest"), ids=str)
def test_rest_reply_for_grpc(case: Case) -> None:
    """A recorded REST reply becomes a gRPC reply that means the same, its code the nearest to the status."""
    held("rest reply", case, lambda: check_rest_reply(case))


def check_rest_reply(case: Case) -> None:
    """Translate a recorded REST reply for a gRPC client."""
    meaning = call_meaning(case)
    assert meaning is not None
    request = grpc_call(meaning, CLIENT_MESSAGES)
    outcome = translate_reply(GRPC, f"{case.runtime}/rest", {"request": request, "reply": case.reply})
    got = of_grpc_reply(outcome, meaning["call"], CLIENT_MESSAGES)
    try:
        expected = of_rest_reply(case.reply, meaning["call"])
    except Unreadable:
        assert got["code"] == "INTERNAL"  # the runtime's answer is no JSON: never half an answer
        return
    if "error" not in expected:
        assert got == without_lost_metadata(expected)
        return
    assert got["code"] == CODES[case.runtime][expected["status"]]
    if case.reply.get("body", "").startswith('{"error"'):
        assert got["error"] == expected["error"]
    else:
        assert got["error"]


def without_lost_metadata(meaning: Meaning) -> Meaning:
    """A reply without the metadata that only MLServer's own protos can hold."""
    return {key: value for key, value in meaning.items() if meaning["reply"] != "ModelMetadata" or key != "parameters"}


# --- twins: the same call recorded in both protocols


@cache
def twins() -> list[tuple[Case, Case]]:
    """gRPC cases with a REST case of the same meaning, both answered without error.

    Left out: `lifecycle`, where the answer depends on the moment, and the model `params`, whose answer describes the
    protocol it was called in.
    """
    rest = [case for case in answered("rest") if case.reply["status"] == 200 and case.group != "lifecycle"]
    grpc = [case for case in answered("grpc") if case.reply["code"] == 0 and case.group != "lifecycle"]
    by_meaning = {(case.runtime, repr(call_meaning(case))): case for case in rest if "params" not in case.group}
    keyed = [(case, by_meaning.get((case.runtime, repr(call_meaning(case))))) for case in grpc]
    return [(case, twin) for case, twin in keyed if twin is not None]


def plain_json(reply: dict[str, Any]) -> Any:
    """The JSON of a REST reply without what says nothing, made-up ids, and data, which the meaning compares."""
    body = golden_v2.body(reply)
    return _significant(json.loads(body)) if body.startswith((b"{", b"[")) else None


def _significant(value: Any) -> Any:
    if isinstance(value, list):
        return [_significant(each) for each in value]
    if not isinstance(value, dict):
        return value
    kept = {key: _significant(each) for key, each in value.items() if each not in (None, [], {}, "")}
    made_up = kept.get("id") == "generated-id" or len(str(kept.get("id", ""))) == 36
    return {key: each for key, each in kept.items() if key != "data" and not (key == "id" and made_up)}


@pytest.mark.parametrize(("case", "twin"), twins(), ids=[f"{case}~{twin.group}/{twin.name}" for case, twin in twins()])
def test_grpc_reply_is_what_the_rest_twin_answered(case: Case, twin: Case) -> None:
    """A gRPC reply, translated for the REST call that was also recorded, is the JSON that call was answered with."""

    def check() -> None:
        outcome = translate_reply(REST, f"{case.runtime}/grpc", {"request": twin.request, "reply": case.reply})
        assert outcome["status"] == 200
        if golden_v2.header(twin.reply, "inference-header-content-length") is None:
            assert plain_json(outcome) == plain_json(twin.reply) or not plain_json(twin.reply)
        call = of_rest_call(twin.request)["call"]
        assert without_id(of_rest_reply(outcome, call)) == without_id(of_rest_reply(twin.reply, call))

    held("twin", case, check)


def without_id(meaning: Meaning) -> Meaning:
    """A reply without its id, which some runtimes make up in one protocol only."""
    return {key: value for key, value in meaning.items() if key != "id"}


def test_there_are_twins() -> None:
    """The recordings hold enough calls in both protocols for the comparison to mean something."""
    assert len(twins()) >= 80
    assert {case.runtime for case, _ in twins()} == set(MESSAGES)


def test_differences_are_in_use() -> None:
    """Every listed difference names a direction, a recorded case and a reason."""
    protocols = {"rest call": "rest", "rest reply": "rest", "grpc call": "grpc", "grpc reply": "grpc", "twin": "grpc"}
    for direction, cases, reason in DIFFERENCES:
        assert any(fnmatch.fnmatch(str(case), cases) for case in golden_v2.cases(protocols[direction])), cases
        assert reason


def test_index_counts_the_cases() -> None:
    """The index agrees with the files: nothing recorded is left out of the replay by accident."""
    counted = len(golden_v2.cases("rest")) + len(golden_v2.cases("grpc"))
    assert counted == sum(sum(entry["groups"].values()) for entry in golden_v2.index().values())
    assert counted > 1000
