"""Our own mode of mitmproxy, for listeners that several processes share, and for connections that were redirected.

A mode is chosen by the text of an option (`inferbridge:shared@host:port`); mitmproxy finds it, and what serves it, by
the names of the classes, so this module must be imported before the option is set.

* `shared`: the address is also that of other processes (SO_REUSEPORT); the kernel gives each connection to one of them.
* `transparent`: clients mean another address, which the kernel remembers (`destinations`).
"""

import asyncio
import os
import socket
from typing import Literal

import mitmproxy_rs
from mitmproxy import platform
from mitmproxy.connection import Client
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layer import Layer
from mitmproxy.proxy.layers.modes import HttpProxy
from mitmproxy.proxy.mode_servers import AsyncioServerInstance
from mitmproxy.proxy.mode_specs import ProxyMode

SHARED, TRANSPARENT = "shared", "transparent"
_BACKLOG = 1024
"""Connections that may wait to be accepted; beyond it clients try again after a second, and then after three."""
type Server = asyncio.Server | mitmproxy_rs.udp.UdpServer | mitmproxy_rs.wireguard.WireGuardServer


class InferbridgeMode(ProxyMode):
    """`inferbridge@host:port`, with what is special about the listener before the @."""

    description = "inferbridge"
    transport_protocol: Literal["tcp", "udp", "both"] = "tcp"

    def __post_init__(self) -> None:
        if unknown := self.special - {SHARED, TRANSPARENT}:
            raise ValueError(f"unknown kind of listener: {', '.join(unknown)}")

    @property
    def special(self) -> frozenset[str]:
        """What is special about the listener."""
        return frozenset(filter(None, self.data.split(",")))


class InferbridgeInstance(AsyncioServerInstance[InferbridgeMode]):
    """Serves one listener."""

    def make_top_layer(self, context: Context) -> Layer:
        """Only asks our addon what comes next."""
        return HttpProxy(context)

    async def listen(self, host: str, port: int) -> list[Server]:
        """Open the sockets; a shared port is chosen already, or each process would have its own."""
        if SHARED not in self.mode.special:
            return await super().listen(host, port)
        return [await asyncio.start_server(self.handle_stream, host, port, reuse_port=True)]


def lengthen_queue(server: object) -> None:
    """Let more connections wait than mitmproxy does, for which a hundred at once are too many."""
    for listener in getattr(server, "_servers", ()):
        for listens in getattr(listener, "sockets", ()):
            with socket.socket(fileno=os.dup(listens.fileno())) as same:
                same.listen(_BACKLOG)


def mode(host: str, port: int, *, shared: bool = False, transparent: bool = False) -> str:
    """The option's text for a listener."""
    special = ",".join([*([SHARED] if shared else []), *([TRANSPARENT] if transparent else [])])
    return f"inferbridge{':' if special else ''}{special}@{host}:{port}"


def is_transparent(client: Client) -> bool:
    """Whether a client has come by a transparent listener."""
    return isinstance(client.proxy_mode, InferbridgeMode) and TRANSPARENT in client.proxy_mode.special


def wanted_address(client: socket.socket) -> tuple[str, int]:
    """Where a redirected client was going. OSError where the kernel does not know."""
    if platform.original_addr is None:
        raise OSError("this system does not tell where redirected connections were going")
    host, port = platform.original_addr(client)[:2]
    return host, port
