"""Text generation that fails on caikit's two doors (0.27.7 and caikit-nlp 0.5.13), each held against the other.

Documented differences, beside those of `test_goldens_caikit`:
* An error before the first message of a stream has its own status, where caikit sends an event in a 200.
* A Python error in caikit's stream is printed with its class (`ValueError('…')`); gRPC has its text alone.
* A lost connection is 500 in caikit's streams and 501 otherwise; here it is 501 in both (LOST_CONNECTION).
* A model that cannot stream, or is left out, has other words on each of caikit's doors (OTHER_WORDS).
* A decoding method that there is not is refused here, before it gets to a runtime (REFUSED).
* Several gRPC codes have one status (LOST_CODES), so a REST runtime's error has the most common of them.
* The doors disagree on an empty text (EMPTY): REST takes it for none, gRPC takes it as it is.
* A malformed body is 400, where caikit answers 422; a boolean in a string and a negative seed, which one of
  caikit's servers takes, are refused (STRICTER). Content types that caikit refuses and an explicit null are taken, and
  half of a length penalty is left for the model to refuse, as on caikit's gRPC door (LAXER).

Left out are calls that the client itself ends (`client_closes_after_2_events`, `deadline_in_stream`), for a translator
never sees that; a prompt of 100 kB, whose bytes were not kept; calls that are not the same on both doors
(`x_route_info_*`, `any_model_id_is_accepted`: other names; `sampling`: other texts).
"""

import json
from pathlib import Path
from typing import Any

import pytest

from inferbridge.translate import translate_call, translate_reply
from translate.caikit_forms import replies, said

RECORDED = json.loads((Path(__file__).parent.parent / "golden/generation/caikit.json").read_text())
ERRORS: dict[str, dict[str, Any]] = {pair["name"]: pair for pair in RECORDED["errors"]}
REST_ONLY: dict[str, dict[str, Any]] = {case["name"]: case for case in RECORDED["rest_only"]}
EMPTY = [name for name in ERRORS if name.endswith(("/empty_text", "/inputs_missing"))]
FAILED = sorted({*ERRORS} - {*EMPTY, "standalone/text_generation_local/tgis_only_parameters"})
REST, GRPC = "caikit-standalone/rest", "caikit-standalone/grpc"
LOST_CODES = {2: 13, 6: 10, 8: 8, 9: 3, 11: 3, 14: 12, 15: 13}
"""gRPC codes whose status on caikit's REST door means another one as well, and the one that is read from it."""
REFUSED = {name for name in FAILED if "/decoding_method_" in name}
LOST_CONNECTION = {
    name
    for name in FAILED
    if ERRORS[name]["grpc"]["reply"]["code"] == 14 and '"code": 500' in ERRORS[name]["rest"]["reply"]["body"]
}
OTHER_WORDS = {
    name
    for name in FAILED
    if name.endswith(("/model_id_missing", "model_of_another_task", "model_unary_only", "streaming_not_supported"))
}
ALIKE = [name for name in FAILED if name not in REFUSED | OTHER_WORDS]
LAXER = {
    "content_type_charset", "content_type_missing", "param_max_new_tokens_null", "param_length_penalty_partial",
}  # fmt: skip
STRICTER = {"param_preserve_string", "param_seed_negative"}
all_failed = pytest.mark.parametrize("name", FAILED)


def told(reply: dict[str, Any]) -> tuple[list[Any], int, str]:
    """What came before the error of a REST answer, its status and its text."""
    if not reply["body"].startswith("event:"):
        body = json.loads(reply["body"])
        return [], reply["status"], body["details"]
    *before, last = [event for event in reply["body"].split("\r\n\r\n") if event]
    error = json.loads(last.removeprefix("event: error\r\ndata: "))
    assert all(event.startswith("event: message\r\ndata: ") for event in before)
    messages = [said(json.loads(event.removeprefix("event: message\r\ndata: "))) for event in before]
    return messages, error["code"], error["details"]


def text_of(details: str) -> str:
    """An error's text without what caikit's streams put around it."""
    details = details.removeprefix("Unhandled exception: ")
    kind, bracket, rest = details.partition("(")
    if bracket and kind.isidentifier() and kind.endswith("Error") and rest.endswith(")"):
        return rest[1:-2].replace("\\'", "'")
    return details


def test_there_are_recordings() -> None:
    """Both tasks, before and within a stream, and all codes that caikit gives."""
    assert {code for name in FAILED if (code := ERRORS[name]["grpc"]["reply"]["code"])} >= {*range(1, 17)}
    assert sum("mid_stream" in name for name in FAILED) == 24
    assert len(REST_ONLY) > 60


@all_failed
def test_a_rest_call_that_fails_is_the_grpc_call(name: str) -> None:
    """What model or runtime refuses reaches the runtime, byte by byte, but for what no runtime could take."""
    pair = ERRORS[name]
    made = translate_call("caikit/rest", GRPC, pair["rest"]["request"])
    if name in REFUSED or name.endswith("/model_id_missing"):
        assert made["error"]["status"] == 400
    else:
        assert made == pair["grpc"]["request"]


@pytest.mark.parametrize("name", ALIKE)
def test_a_grpc_error_is_the_rest_error(name: str) -> None:
    """The recorded gRPC error, given to the REST client, has the recorded status and text, after the same messages."""
    pair = ERRORS[name]
    exchange = {"request": pair["rest"]["request"], "reply": pair["grpc"]["reply"]}
    before, status, details = told(pair["rest"]["reply"])
    status = 501 if name in LOST_CONNECTION else status
    assert told(translate_reply("caikit/rest", GRPC, exchange)) == (before, status, text_of(details))


@pytest.mark.parametrize("name", ALIKE)
def test_a_rest_error_is_the_grpc_error(name: str) -> None:
    """The recorded REST error, given to the gRPC client, has the code as far as it is told, after the same messages."""
    pair = ERRORS[name]
    made = translate_reply("caikit/grpc", REST, {"request": pair["grpc"]["request"], "reply": pair["rest"]["reply"]})
    recorded, rpc = pair["grpc"]["reply"], pair["grpc"]["request"]["rpc"]
    assert made["code"] == (13 if name in LOST_CONNECTION else LOST_CODES.get(recorded["code"], recorded["code"]))
    assert text_of(made["details"]) == recorded["details"]
    assert replies(made, rpc) == replies(recorded, rpc)


@pytest.mark.parametrize("name", EMPTY)
def test_an_empty_text_is_what_the_runtime_says_it_is(name: str) -> None:
    """A gRPC runtime goes on from nothing; a REST runtime's refusal is one to a gRPC client too. No text is no call."""
    pair = ERRORS[name]
    made = translate_reply("caikit/grpc", REST, {"request": pair["grpc"]["request"], "reply": pair["rest"]["reply"]})
    assert (made["code"], made["details"]) == (3, told(pair["rest"]["reply"])[2])
    made = translate_reply("caikit/rest", GRPC, {"request": pair["rest"]["request"], "reply": pair["grpc"]["reply"]})
    if name.endswith("/inputs_missing"):
        assert (made["status"], "prompt" in made["body"] or "inputs" in made["body"]) == (400, True)
    else:
        assert (made["status"], "quick" in made["body"]) == (200, True)


@pytest.mark.parametrize("name", sorted(OTHER_WORDS))
def test_what_the_doors_word_differently_stays_an_error_in_the_runtimes_words(name: str) -> None:
    """A client of either door learns what the runtime behind it said, and never gets an answer."""
    pair = ERRORS[name]
    made = translate_reply("caikit/grpc", REST, {"request": pair["grpc"]["request"], "reply": pair["rest"]["reply"]})
    assert (made["code"] in (3, 13), made["details"]) == (True, told(pair["rest"]["reply"])[2])
    made = translate_reply("caikit/rest", GRPC, {"request": pair["rest"]["request"], "reply": pair["grpc"]["reply"]})
    assert told(made)[1] == 400


@pytest.mark.parametrize("name", REST_ONLY)
def test_what_caikit_refuses_is_refused(name: str) -> None:
    """A body that caikit's REST door refuses never gets to a gRPC runtime, and one that it takes does."""
    case, kind = REST_ONLY[name], name.rpartition("/")[2]
    reply = case["rest"]["reply"]
    made = translate_call("caikit/rest", GRPC, case["rest"]["request"])
    taken = reply["status"] == 200 and "body" not in reply
    if (taken or kind in LAXER) and kind not in STRICTER:
        assert made["rpc"].endswith("TextGenerationTaskPredict")
    else:
        assert made["error"]["status"] == 400
        assert json.loads(made["error"]["body"])["details"]


def test_the_answer_of_another_task_is_no_text() -> None:
    """Caikit lets a model of another task answer in its own form; that is an error, and never an empty text."""
    (pair,) = RECORDED["other_task"]
    exchange = {"request": pair["rest"]["request"], "reply": pair["grpc"]["reply"]}
    assert translate_reply("caikit/rest", GRPC, exchange)["status"] == 500
    exchange = {"request": pair["grpc"]["request"], "reply": pair["rest"]["reply"]}
    assert translate_reply("caikit/grpc", REST, exchange)["code"] == 13
