"""What the claims of a token say, wherever they come from: times, audience, names.

Functions raise `Unauthenticated` with a detail that names the claim and holds nothing of its value.
"""

import base64
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from inferbridge.auth.authenticator import Unauthenticated

type Claims = Mapping[str, Any]


def unverified(part: str) -> dict[str, Any]:
    """What a part of a signed token says, whoever wrote it; empty when it is no object."""
    try:
        found = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def moment(claims: Claims, name: str) -> float | None:
    """Seconds since 1970 (RFC 7519 `NumericDate`); None when there is no such claim."""
    value = claims.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Unauthenticated("malformed", f"the claim {name} is no number")
    try:
        seconds = float(value)
    except OverflowError:
        seconds = math.inf
    if not math.isfinite(seconds):
        raise Unauthenticated("malformed", f"the claim {name} is no time")
    return seconds


def check_times(claims: Claims, expires: float | None, now: float, leeway: float) -> None:
    """It has begun (`nbf`, `iat`, with `leeway` seconds) and has not ended (at `expires`)."""
    for name in ("nbf", "iat"):
        begin = moment(claims, name)
        if begin is not None and begin > now + leeway:
            raise Unauthenticated("invalid", f"the claim {name} is in the future")
    if expires is not None and expires <= now:
        raise Unauthenticated("expired", "the claim exp is in the past")


def check_audience(claims: Claims, wanted: Sequence[str]) -> None:
    """One of `wanted` is in `aud`."""
    if not set(wanted).intersection(texts(claims, "aud")):
        raise Unauthenticated("audience", "the claim aud names none of our audiences")


def text(claims: Claims, name: str) -> str:
    """A text; empty when there is no such claim."""
    value = claims.get(name)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise Unauthenticated("malformed", f"the claim {name} is no text")
    return value


def texts(claims: Claims, name: str) -> tuple[str, ...]:
    """A list of texts, or one text; nothing when there is no such claim."""
    value = claims.get(name)
    if value is None:
        return ()
    if isinstance(value, str):
        return (value,)
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise Unauthenticated("malformed", f"the claim {name} is neither a text nor a list of texts")
    return tuple(value)


def words(claims: Claims, name: str) -> tuple[str, ...]:
    """Texts separated by spaces, as `scope` has them, or a list of texts."""
    value = claims.get(name)
    return tuple(value.split()) if isinstance(value, str) else texts(claims, name)
