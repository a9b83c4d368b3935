"""How long a client is willing to wait: `grpc-timeout` in either protocol, `x-request-timeout` as well.

The smallest of these and of the configuration wins. Time that goes by here (a body that comes slowly) is taken off
before the rest is sent on, in the runtime's own protocol: gRPC runtimes get `grpc-timeout`, REST ones
`x-request-timeout`.
"""

import re
from dataclasses import replace

from inferbridge.bridge.errors import invalid
from inferbridge.bridge.framing import parse_timeout, timeout_text
from inferbridge.bridge.values import Headers, header
from inferbridge.gateway.calls.route import Route

GRPC_TIMEOUT = "grpc-timeout"
REQUEST_TIMEOUT = "x-request-timeout"
_SECONDS = re.compile(r"([0-9]{1,8}(?:\.[0-9]{1,6})?)(ms|s|m)?")
_UNITS = {"ms": 0.001, None: 1.0, "s": 1.0, "m": 60.0}
_WORTH_SECONDS = 0.001
"""Less elapsed time than this is not taken off: calls of the same timeout then share a timer."""


def allowed(headers: Headers) -> float | None:
    """Seconds that the client allows; None where it does not say. BridgeError (400) for what is no time."""
    found = []
    text = header(headers, GRPC_TIMEOUT)
    if text is not None:
        found.append(parse_timeout(text))
    text = header(headers, REQUEST_TIMEOUT)
    if text is not None:
        found.append(_parse(text))
    return min(found, default=None)


def _parse(text: str) -> float:
    match = _SECONDS.fullmatch(text)
    if match is None:
        raise invalid(f"{REQUEST_TIMEOUT} must be seconds such as 2.5, or 1500ms, 30s or 2m, not {text[:32]!r}")
    return float(match[1]) * _UNITS[match[2]]


def sent_on(headers: Headers, timeout: float, grpc: bool) -> Headers:
    """The headers of a call with its deadline as the runtime reads it, in place of the client's own."""
    kept = tuple(pair for pair in headers if pair[0] not in (GRPC_TIMEOUT, REQUEST_TIMEOUT))
    return (*kept, (GRPC_TIMEOUT, timeout_text(timeout)) if grpc else (REQUEST_TIMEOUT, f"{timeout:.3f}"))


def shortened(route: Route, elapsed: float) -> Route:
    """The route of a call that has used up some of what its client allows."""
    if route.deadline is None or elapsed < _WORTH_SECONDS:
        return route
    deadline = max(_WORTH_SECONDS, route.deadline - elapsed)
    timeout = min(route.timeout, deadline)
    return replace(
        route,
        timeout=timeout,
        deadline=deadline,
        crossing=sent_on(route.crossing, timeout, grpc=False),
        grpc=sent_on(route.grpc, timeout, grpc=True),
    )
