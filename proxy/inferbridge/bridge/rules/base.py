"""What a table of mapping lines cannot say about an API, said once, on neutral values.

A rule stands between half-bridges and operation. Where the API is the client's, `received_request` makes a
decoded request mean what the API means, and `sent_reply` prepares a reply for encoding; for the runtime's API it is
the other way round. Streams go through a reader (the runtime's messages to the operation's) and a writer (the
operation's to the sequence that the API's clients expect).
"""

from collections.abc import Iterable
from typing import Any, Protocol

from inferbridge.bridge.context import Context


class MessageReader(Protocol):
    """Makes the operation's messages of those of one stream."""

    def read(self, message: Any) -> Iterable[Any]:
        """The messages that one message of the runtime means."""

    def finish(self) -> Iterable[Any]:
        """What is left when the stream has ended well: nothing, unless a reader keeps something back."""
        return ()


class MessageWriter(Protocol):
    """Makes the messages that a client expects of the operation's."""

    def write(self, message: Any) -> Iterable[Any]:
        """The client's messages for one of the operation's."""

    def finish(self) -> Iterable[Any]:
        """What follows the last one: nothing, unless the client's API has an end of its own."""
        return ()


class Rule:
    """An API that its tables describe in full."""

    def received_request(self, request: Any, context: Context) -> None:
        """After a client's request was decoded."""

    def empty_reply(self, request: Any, context: Context) -> Any | None:
        """The reply to a request of no items, where the API has such a thing; None: the runtime is asked."""
        return None

    def sent_request(self, request: Any, context: Context) -> Any:
        """Before a request to a runtime is encoded; gives the request to encode, a copy where something changes."""
        return request

    def received_reply(self, reply: Any, request: Any, context: Context) -> None:
        """After a runtime's reply was decoded."""

    def sent_reply(self, reply: Any, request: Any, context: Context) -> None:
        """Before a reply to a client is encoded."""

    def reader(self, request: Any, context: Context) -> MessageReader | None:
        """For a runtime's stream; None where its messages are the operation's already."""
        return None

    def writer(self, request: Any, context: Context) -> MessageWriter | None:
        """For a client's stream; None where the operation's messages are what it expects."""
        return None
