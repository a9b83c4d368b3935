"""The one declaration of every setting: reader, JSON Schema, environment variables and help all come from it."""

from inferbridge import event_loop
from inferbridge.config.auth import AUTH, secret
from inferbridge.config.capture import CAPTURE
from inferbridge.config.kinds import Choice, Count, Field, FilePath, ListOf, Record, Switch, Text, duration, size
from inferbridge.config.upstreams import Listens, Upstreams, parse_listener
from inferbridge.config.values import AccessLog, Admin, Drain, ListenerTls, Log, Reload, Settings
from inferbridge.gateway.limits import Limits

_MOST = 1 << 40
_WINDOW = (1 << 31) - 1
_DAY = 86400.0


LIMITS = Record(
    Limits,
    {
        "header_size": Field(size(_MOST), "All header names and values of one request; beyond it 431.", "header_bytes"),
        "header_fields": Field(Count(1, 1_000_000), "Header fields of one request; beyond it 431."),
        "target_size": Field(size(_MOST), "Path and query of a request; beyond it 414.", "target_bytes"),
        "body_size": Field(size(_MOST), "A REST body as sent, and after decompression; beyond it 413.", "body_bytes"),
        "message_size": Field(size(_WINDOW), "A gRPC message; beyond it RESOURCE_EXHAUSTED.", "message_bytes"),
        "reply_size": Field(size(_MOST), "A runtime's reply; beyond it the call fails.", "reply_bytes"),
        "streams": Field(Count(1, 1_000_000), "Concurrent calls on one HTTP/2 connection."),
        "stream_window": Field(size(_WINDOW), "HTTP/2 flow-control window of one call."),
        "connection_window": Field(size(_WINDOW), "HTTP/2 flow-control window of one connection."),
        "connections": Field(Count(1, 1_000_000), "Client connections at one time."),
        "connections_per_peer": Field(
            Count(1, 1_000_000), "Connections of one address; clients behind a load balancer share one."
        ),
        "header_timeout": Field(
            duration(_DAY), "For a request's head, and for the first one from the connect on.", "header_seconds"
        ),
        "body_timeout": Field(
            duration(_DAY), "How long a body may come slower than 500 bytes a second; beyond it 408.", "body_seconds"
        ),
        "stall_timeout": Field(
            duration(_DAY), "How long a client may take its answer slower than that.", "stall_seconds"
        ),
        "call_timeout": Field(duration(_DAY), "How long a runtime may take for one call.", "call_seconds"),
        "idle_timeout": Field(duration(_DAY), "How long a client connection may sit idle.", "idle_seconds"),
    },
    "limits",
)

SETTINGS = Record(
    Settings,
    {
        "listen": Field(ListOf(Listens()), "Where to listen, host:port, or a map; port 0 is any free one."),
        "upstreams": Field(Upstreams(), "The runtimes to send to, each `runtime=URL` or a map."),
        "limits": Field(LIMITS, "What a client or a runtime may send at most."),
        "lossy": Field(
            Choice(("reject", "allow")), "A field the runtime cannot express: refuse the call, or drop and name it."
        ),
        "nan": Field(Choice(("reject", "null", "literal")), "How NaN and Infinity stand in JSON."),
        "tls": Field(
            Record(
                ListenerTls,
                {
                    "certificate": Field(FilePath(), "PEM file with certificate chain and private key."),
                    "key": Field(FilePath(), "PEM file with the private key, when it is not in certificate."),
                    "passphrase": Field(Text(secret), "Passphrase of the private key."),
                    "client_ca": Field(FilePath(), "PEM file of the authorities that sign clients' certificates."),
                    "client_certificate": Field(
                        Choice(("require", "request")), "Whether clients must show one, where client_ca is given."
                    ),
                },
                "tls",
            ),
            "How clients see the proxy over TLS.",
        ),
        "allow_unauthenticated": Field(Switch(), "Let other machines connect although nobody is authenticated."),
        "auth": Field(AUTH, "Who may call what."),
        "log": Field(
            Record(
                Log,
                {
                    "level": Field(Choice(("debug", "info", "warning", "error")), "The least important lines shown."),
                    "format": Field(Choice(("text", "json")), "How a line looks."),
                },
                "log",
            ),
            "Lines on stderr.",
        ),
        "access_log": Field(
            Record(AccessLog, {"enabled": Field(Switch(), "Whether there is one.")}, "access_log"),
            "One JSON line for each call on stdout, whatever became of it.",
        ),
        "admin": Field(
            Record(
                Admin,
                {
                    "listen": Field(
                        Text(parse_listener, r":[0-9]+$"),
                        "Where to listen, host:port, without TLS; nowhere unless given.",
                    ),
                    "tokens": Field(
                        Choice(("translated", "all")),
                        "Calls whose tokens log and metrics tell; `all`: answers that pass through are read for it.",
                    ),
                },
                "admin",
            ),
            "A port of its own for health, metrics, versions and these settings without their secrets.",
        ),
        "capture": Field(CAPTURE, "What calls said on both sides, for a sample of them and for those that fail."),
        "drain": Field(
            Record(
                Drain,
                {
                    "delay": Field(
                        duration(_DAY, zero=True),
                        "From not being ready to taking no new clients; 5s with an admin port, else none.",
                    ),
                    "timeout": Field(duration(_DAY, zero=True), "How long calls in flight may then go on."),
                },
                "drain",
            ),
            "How the proxy stops on SIGTERM.",
        ),
        "reload": Field(
            Record(Reload, {"watch": Field(Switch(), "Whether to do so when the file changes.")}, "reload"),
            "Reading this file again while serving; SIGHUP always does.",
        ),
        "workers": Field(Count(1, 256), "Processes that share the listeners; each uses one core."),
        "event_loop": Field(
            Choice(event_loop.CHOICES), "What serves the connections; `auto`: uvloop where it is installed and works."
        ),
    },
    "the configuration",
)
