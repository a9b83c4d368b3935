"""A proxy in which every authenticator has its say, with an issuer and an API server of Kubernetes beside it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from auth import api_server, issuer
from auth.api_server import ApiServer
from auth.corners import KEYS, NO_LIMIT, Gateway, running_gateway
from auth.issuer import CLIENT, Issuer
from auth.key_files import KEY

type Last = Literal["kubernetes", "introspection"]
"""Each of them takes every token, so there is one of them."""


@dataclass
class Backends:
    """What runs."""

    gateway: Gateway
    issuer: Issuer
    api: ApiServer

    def good(self, method: str) -> str:
        """A credential that the authenticator takes."""
        match method:
            case "keys":
                return KEY
            case "jwt":
                return self.issuer.token()
            case "kubernetes":
                token = api_server.jwt(sub=api_server.CLIENT)
                self.api.accounts[token] = api_server.account()
                return token
        self.issuer.answers["opaque-token"] = {"active": True, "sub": "alice"}
        return "opaque-token"


@asynccontextmanager
async def running_backends(
    folder: Path,
    upstream: str = "rest",
    last: Last = "kubernetes",
    *,
    options: str = "",
    auth: str = NO_LIMIT,
    of_upstream: str = "",
) -> AsyncIterator[Backends]:
    """Keys, then signed tokens, then `last`, with `options` of its own; `auth` holds more lines of that section."""
    async with issuer.running_issuer(folder) as tokens, api_server.api_server(folder) as api:
        name, secret = CLIENT
        lasts = {
            "kubernetes": f'api: "{api.server.url}", ca: ca.crt, token: token',
            "introspection": f'url: "{tokens.introspection}", client_id: "{name}", client_secret: "{secret}",'
            " tls: {ca: issuer-ca.pem}",
        }
        section = f"""\
authenticators:
  - {KEYS}
  - jwt: {{issuer: "{tokens.url}", audience: {issuer.AUDIENCE}, tls: {{ca: issuer-ca.pem}}}}
  - {last}: {{{lasts[last]}{options}}}
{auth}"""
        async with running_gateway(folder, upstream, section, of_upstream=of_upstream) as gateway:
            yield Backends(gateway, tokens, api)
