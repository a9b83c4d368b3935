"""Caikit's own clients at the door of Caikit's runtime they speak to, and through the proxy at its other door.

A job is a line of `JOBS`: what is called, of which model, and with what. What a client cannot do is in `CANNOT`.
"""

from dataclasses import dataclass, field
from typing import Any

import pytest

from runtimes.doors import both
from runtimes.lab import Lab

pytestmark = pytest.mark.runtimes

CLIENTS = {"caikitclient_grpc": "grpc", "caikitclient_http": "rest", "caikit_grpc": "grpc", "caikit_http": "rest"}
"""caikit-nlp-client and caikit.runtime.client, and the doors they speak to."""
CANNOT = {
    "caikitclient_http": ("stream",),  # it takes no line of a stream that begins with `event:`, as all of Caikit's do
    "caikit_http": ("stream",),  # it looks for text in bytes
    "caikitclient_grpc": ("stop_sequences",),  # it cannot set a field that is a list
}


@dataclass(frozen=True)
class Job:
    """A call of a client."""

    call: str
    input: Any
    fields: dict[str, Any] = field(default_factory=dict)
    model: str = "parrot"

    def __str__(self) -> str:
        return f"{self.call}-{self.model}-{self.input}-{'-'.join(self.fields)}"

    def possible(self, program: str) -> bool:
        """Whether the client can make the call."""
        return not {self.call, *self.fields} & {*CANNOT.get(program, ())}


JOBS = (
    Job("generate", "one two"),
    Job("generate", "größer 🙂", {"max_new_tokens": 3}),
    Job("generate", "one two three", {"max_new_tokens": 9, "stop_sequences": ["three"]}),
    Job("generate", "one", {"max_new_tokens": 2, "decoding_method": "SAMPLING", "temperature": 0.5, "seed": 2**63}),
    Job("stream", "one two"),
    Job("stream", "größer 🙂", {"max_new_tokens": 3}),
    Job("generate", "one FAIL"),  # the model refuses
    Job("stream", "one FAIL"),
)


@pytest.mark.parametrize(
    ("program", "job"), [(each, job) for each in CLIENTS for job in JOBS if job.possible(each)], ids=str
)
def test_a_client_gets_the_same(lab: Lab, program: str, job: Job) -> None:
    """Results are those of the direct call; a refusal has the same status and tells of the same reason."""
    asked = {"model": job.model, "input": job.input, "fields": job.fields}
    direct, through = (client.call(job.call, **asked) for client in both(lab, program, CLIENTS[program], "caikit-tgis"))
    if "FAIL" not in job.input:
        assert "result" in direct, direct
        assert through == direct
    else:  # texts differ by door: in a stream the runtime quotes the exception, a REST client shows the whole body
        assert through["error"]["status"] == direct["error"]["status"]
        assert all("the prompt wants it" in outcome["error"]["message"] for outcome in (direct, through))


def test_the_models_are_found(lab: Lab) -> None:
    """caikit.runtime.client finds a model by asking the runtime for its models."""
    direct, through = both(lab, "caikit_grpc", "grpc", "caikit-tgis")
    outcomes = [client.call("found", model="parrot") for client in (direct, through)]
    assert outcomes[0] == outcomes[1]
    assert outcomes[1]["result"].startswith("6c1b6a0c-2f0b-4b7e-9a45-0d9a3f0c5a11")
