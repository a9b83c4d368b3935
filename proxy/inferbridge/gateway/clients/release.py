"""Frees what a connection held, as soon as it is closed.

mitmproxy's handler of a connection and its layers hold each other in circles, and with them what is ours: the codec,
the head and the route of its calls, the state of TLS. The garbage collector finds circles, but those of a connection
that has lived for a while only when it looks at everything, which it does rarely.
"""

from mitmproxy.proxy import events
from mitmproxy.proxy.layer import CommandGenerator, Layer
from mitmproxy.proxy.server import ConnectionHandler


class _Closed(Layer):
    """Takes what is still on its way to a connection."""

    def _handle_event(self, event: events.Event) -> CommandGenerator[None]:
        yield from ()


async def _nobody() -> None:
    """Waits for no activity any more."""


def release(handler: ConnectionHandler) -> None:
    """Called when the client has gone and no layer is at work; the handler only ends after this."""
    context = handler.layer.context
    layers, context.layers = context.layers, []
    handler.layer = _Closed(context)
    context.layers.clear()  # that has added itself
    for layer in layers:
        vars(layer).clear()
    handler.timeout_watchdog.callback = _nobody
