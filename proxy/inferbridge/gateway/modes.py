"""Our own mode of mitmproxy, for listeners that several processes share (SO_REUSEPORT).

A mode is chosen by the text of an option (`inferbridge@host:port`); mitmproxy finds it, and what serves it, by the
names of the classes, so this module must be imported before the option is set. The kernel gives each connection to one
of the processes.
"""

import asyncio
from typing import Literal

import mitmproxy_rs
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layer import Layer
from mitmproxy.proxy.layers.modes import HttpProxy
from mitmproxy.proxy.mode_servers import AsyncioServerInstance
from mitmproxy.proxy.mode_specs import ProxyMode

_BACKLOG = 1024
type Server = asyncio.Server | mitmproxy_rs.udp.UdpServer | mitmproxy_rs.wireguard.WireGuardServer


class InferbridgeMode(ProxyMode):
    """`inferbridge@host:port`."""

    description = "inferbridge"
    transport_protocol: Literal["tcp", "udp", "both"] = "tcp"

    def __post_init__(self) -> None:
        if self.data:
            raise ValueError("the mode has no arguments")


class InferbridgeInstance(AsyncioServerInstance[InferbridgeMode]):
    """Serves one listener."""

    def make_top_layer(self, context: Context) -> Layer:
        """Only asks our addon what comes next."""
        return HttpProxy(context)

    async def listen(self, host: str, port: int) -> list[Server]:
        """Open the sockets; the port is chosen already, or each process would have its own."""
        return [await asyncio.start_server(self.handle_stream, host, port, reuse_port=True, backlog=_BACKLOG)]


def shared(host: str, port: int) -> str:
    """The option's text for a listener that other processes have too."""
    return f"inferbridge@{host}:{port}"
