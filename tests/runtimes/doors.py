"""One engine behind two doors: a client on its own door, and through the proxy on the other one.

What a client gets directly and what it gets through the proxy, which has to translate, must be the same.
"""

from typing import Any

from runtimes.lab import Lab
from runtimes.programs import Client
from runtimes.routes import Route

VLLM = "vllm-nvidia"


def both(lab: Lab, program: str, own: str, runtime: str = VLLM) -> tuple[Client, Client]:
    """A client program at its own door of a runtime, rest or grpc, and behind a proxy that has the other door alone."""
    other = {"rest": "grpc", "grpc": "rest"}[own]
    return lab.client(Route(program, runtime, own, direct=True)), lab.client(Route(program, runtime, other))


def outcome_of(client: Client, call: str, **fields: Any) -> Any:
    """The result of a call that must not fail."""
    outcome = client.call(call, **fields)
    assert "result" in outcome, outcome
    return outcome["result"]
