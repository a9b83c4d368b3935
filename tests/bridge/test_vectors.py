"""Vectors of numbers: float32 or double in protobuf, numbers or base64 in JSON."""

import math
import struct
from base64 import b64encode
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferbridge.bridge import structured
from inferbridge.bridge.context import Context, RuntimeProfile, Setting
from inferbridge.bridge.converters import embedding_from_wire, embedding_to_wire
from inferbridge.bridge.errors import BridgeError, Code
from inferbridge.bridge.rules import RULES

SINGLES = st.lists(st.floats(width=32, allow_nan=False), max_size=40)
DOUBLES = st.lists(st.floats(allow_nan=False), max_size=40)
VECTOR = [0.1, -2.5]


def context(api: str = "caikit") -> Context:
    """Surroundings of a call to a runtime of an API."""
    setting = Setting(client_api="openai", now=lambda: 7.9, new_id=lambda: "1a")
    return Context(RuntimeProfile(name="embedder", api=api), setting=setting)


def request(**fields: Any) -> Any:
    """A neutral request, as far as rules look at it."""
    return SimpleNamespace(**{"model": "m", "texts": ["a"], "truncate_tokens": None, "encoding": "", **fields})


def reply(*vectors: list[float], **fields: Any) -> Any:
    """A neutral reply."""
    made = [SimpleNamespace(index=index, values=values) for index, values in enumerate(vectors)]
    names = dict.fromkeys(("id", "model", "created", "prompt_tokens", "total_tokens", "completion_tokens"))
    return SimpleNamespace(**{**names, "vectors": made, **fields})


@given(values=SINGLES)
def test_float32_numbers_are_packed_as_such(values: list[float]) -> None:
    """Numbers that are float32 go into four bytes each and come back as they were."""
    packed = structured.singles(values)
    assert packed is not None
    assert structured.floats(packed, "f") == values


@given(values=DOUBLES)
def test_other_numbers_are_never_rounded(values: list[float]) -> None:
    """float32 is chosen exactly where each number has a float32 equal to it."""

    def fits(value: float) -> bool:
        try:
            return bool(struct.unpack("<f", struct.pack("<f", value))[0] == value)
        except OverflowError:
            return False

    assert (structured.singles(values) is not None) is all(map(fits, values))


@given(values=SINGLES)
def test_base64_is_read_as_its_numbers(values: list[float]) -> None:
    """OpenAI's base64 of little-endian float32 has the numbers that were packed."""
    assert embedding_from_wire(b64encode(struct.pack(f"<{len(values)}f", *values)).decode()) == values


@given(values=DOUBLES)
def test_numbers_are_read_as_they_are(values: list[float]) -> None:
    """A list of numbers stays one; whole numbers are floats as well."""
    assert embedding_to_wire(embedding_from_wire(values)) == values
    assert all(type(value) is float for value in embedding_from_wire([1, *values]))


@pytest.mark.parametrize("value", [None, 1.0, {"a": 1}, ["0.1"], [None], [True], [[0.1]], "!", "AAA=", "AAAAAAA="])
def test_anything_else_is_no_vector(value: Any) -> None:
    """Neither numbers nor base64 of whole float32: an error."""
    with pytest.raises(BridgeError, match="embedding"):
        embedding_from_wire(value)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_json_numbers_are_finite(value: float) -> None:
    """NaN and infinity are refused wherever they stand, two infinities that cancel out included."""
    for values in ([value], [1.0, value], [value, -value]):
        with pytest.raises(BridgeError, match="values: JSON has no"):
            structured.all_finite(values, "values", context())


def test_finite_numbers_with_an_infinite_sum_pass() -> None:
    """The sum is a short cut and no reason to refuse."""
    values = [1.7e308, 1.7e308]
    assert structured.all_finite(values, "values", context()) is values


def test_an_openai_answer_is_numbered_and_dated() -> None:
    """Positions, id, time, model and totals are there, whatever the runtime told."""
    made = reply(VECTOR, VECTOR, prompt_tokens=5)
    RULES["openai_embeddings"].sent_reply(made, request(texts=["a", "b"]), context())
    assert [vector.index for vector in made.vectors] == [0, 1]
    assert (made.id, made.created, made.model) == ("embd-1a", 7, "m")
    assert (made.prompt_tokens, made.total_tokens, made.completion_tokens) == (5, 5, 0)


def test_base64_holds_what_json_cannot() -> None:
    """NaN is refused as a number and carried in base64; beyond float32 base64 is refused too."""
    rule = RULES["openai_embeddings"]
    with pytest.raises(BridgeError, match="embedding"):
        rule.sent_reply(reply([math.nan]), request(), context())
    made = reply([math.nan])
    rule.sent_reply(made, request(encoding="base64"), context())
    assert math.isnan(embedding_from_wire(made.vectors[0].values)[0])
    with pytest.raises(BridgeError, match="beyond float32"):
        rule.sent_reply(reply([1e300]), request(encoding="base64"), context())


@pytest.mark.parametrize("encoding", ["bytes", "bytes_only", "hex"])
def test_other_encodings_are_refused(encoding: str) -> None:
    """What is no JSON, or no encoding at all, is refused by name."""
    with pytest.raises(BridgeError, match="encoding_format"):
        RULES["openai_embeddings"].received_request(request(encoding=encoding), context())


def test_vectors_are_put_in_order() -> None:
    """A runtime may answer in any order; its indices count."""
    made = reply([1.0], [2.0])
    made.vectors.reverse()
    RULES["openai_embeddings"].received_reply(made, request(texts=["a", "b"]), context())
    assert [vector.values for vector in made.vectors] == [[1.0], [2.0]]


@pytest.mark.parametrize("rule", ["openai_embeddings", "caikit_embeddings"])
@pytest.mark.parametrize("found", [(), (VECTOR,), (VECTOR, []), (VECTOR, VECTOR, VECTOR)])
def test_as_many_vectors_as_texts(rule: str, found: tuple[list[float], ...]) -> None:
    """A vector too few, too many or without numbers is the runtime's error, never a shorter answer."""
    with pytest.raises(BridgeError, match=r"vectors for 2 texts") as caught:
        RULES[rule].received_reply(reply(*found), request(texts=["a", "b"]), context())
    assert caught.value.code is Code.INTERNAL


@pytest.mark.parametrize("kept", [None, -1, 0, 1, 254])
def test_caikits_truncation_comes_back(kept: int | None) -> None:
    """What a caikit client says is what a caikit runtime is told; in between special tokens are counted too."""
    rule, asked = RULES["caikit_embeddings"], request(truncate_tokens=kept)
    rule.received_request(asked, context())
    assert asked.truncate_tokens == (kept + 2 if kept and kept > 0 else kept)
    assert rule.sent_request(asked, context()).truncate_tokens == kept


@pytest.mark.parametrize("kept", [1, 2])
def test_caikit_keeps_one_token_at_least(kept: int) -> None:
    """Special tokens alone would be 0 to caikit, which means all, or -1, which means its most."""
    with pytest.raises(BridgeError, match="truncate_tokens"):
        RULES["caikit_embeddings"].sent_request(request(truncate_tokens=kept), context())
