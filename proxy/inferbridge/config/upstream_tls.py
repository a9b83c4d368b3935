"""Reads how a server that we connect to is verified, and who we are to it."""

from dataclasses import dataclass

from inferbridge.config.kinds import Field, FilePath, Record, Schema, SettingsReader, Switch, Text, name
from inferbridge.upstream.tls import TlsSettings
from inferbridge_codegen.spec.yaml_tree import Node


@dataclass(frozen=True, slots=True)
class FileName:
    """A file that can be read, by name."""

    def read(self, reader: SettingsReader, node: Node, where: str) -> str | None:
        path = FilePath().read(reader, node, where)
        return None if path is None else str(path)

    def schema(self) -> Schema:
        return FilePath().schema()


UPSTREAM_TLS = Record(
    TlsSettings,
    {
        "ca": Field(FileName(), "PEM file of the authorities to trust instead of the system's.", "ca_file"),
        "certificate": Field(
            FileName(), "PEM file of our own chain, for a runtime that asks for one.", "client_certificate"
        ),
        "key": Field(FileName(), "PEM file of its private key, when it is not in `certificate`.", "client_key"),
        "server_name": Field(Text(name), "Name in the runtime's certificate when it is not the host of the URL."),
        "verify": Field(Switch(), "false accepts any certificate."),
    },
    "tls of an upstream",
)
