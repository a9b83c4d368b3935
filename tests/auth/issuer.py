"""An OpenID Connect issuer on a real socket with real TLS: discovery, keys, introspection; misbehaving when told to.

async with running_issuer(tmp_path) as issuer:
    settings = JwtSettings(issuer.url, ("gateway",), tls=issuer.tls)
    token = issuer.token(sub="alice")
"""

import asyncio
import base64
import json
import ssl
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal
from urllib.parse import parse_qs, quote_plus

import jwt
import trustme
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from inferbridge.upstream.tls import TlsSettings
from upstream.h1_server import Answer, H1Server, Request, h1_server

type Place = Literal["discovery", "jwks", "introspection"]
type Trouble = Literal["500", "garbage", "redirect", "401", "closed", "huge"]

AUDIENCE = "gateway"
CLIENT = ("gate way", "s3cret:+%")
"""Who may ask about tokens: signs that must be encoded for it."""
_CURVES = {"ES256": ec.SECP256R1, "ES384": ec.SECP384R1, "ES512": ec.SECP521R1}


def encode(part: bytes | dict[str, Any]) -> str:
    """A part of a token."""
    content = part if isinstance(part, bytes) else json.dumps(part).encode()
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


@dataclass(frozen=True)
class SigningKey:
    """A key pair of an issuer."""

    key_id: str
    algorithm: str
    private: Any

    @property
    def public(self) -> dict[str, Any]:
        """The key as it is published."""
        found = jwt.get_algorithm_by_name(self.algorithm).to_jwk(self.private.public_key(), as_dict=True)
        return {**found, "kid": self.key_id, "alg": self.algorithm, "use": "sig"}

    def sign(self, header: dict[str, Any], claims: bytes | dict[str, Any]) -> str:
        """A token with exactly this header, which may be wrong."""
        signed = f"{encode(header)}.{encode(claims)}"
        return f"{signed}.{encode(jwt.get_algorithm_by_name(self.algorithm).sign(signed.encode(), self.private))}"


@lru_cache(maxsize=64)
def signing_key(key_id: str, algorithm: str = "ES256") -> SigningKey:
    """The same pair for the same names: making one takes time."""
    if algorithm in _CURVES:
        return SigningKey(key_id, algorithm, ec.generate_private_key(_CURVES[algorithm]()))
    if algorithm == "EdDSA":
        return SigningKey(key_id, algorithm, ed25519.Ed25519PrivateKey.generate())
    return SigningKey(key_id, algorithm, rsa.generate_private_key(65537, 2048))


def claims_of(issuer: str, now: float, **claims: Any) -> dict[str, Any]:
    """What a good token says, changed by `claims`; None takes a claim away."""
    good = {"iss": issuer, "aud": AUDIENCE, "sub": "alice", "iat": now, "nbf": now, "exp": now + 600}
    return {name: value for name, value in {**good, **claims}.items() if value is not None}


@dataclass
class Issuer:
    """The running issuer."""

    url: str
    tls: TlsSettings
    server: H1Server
    keys: list[SigningKey]
    trouble: dict[Place, Trouble] = field(default_factory=dict)
    """What goes wrong where."""
    hold: asyncio.Event | None = None
    """Answers wait for this."""
    asked: Counter[str] = field(default_factory=Counter)
    """How often, by place."""
    document: dict[str, Any] = field(default_factory=dict)
    """What the discovery document says differently."""
    answers: dict[str, dict[str, Any]] = field(default_factory=dict)
    """What introspection says of tokens; of others it says that they are not active."""
    forms: list[dict[str, list[str]]] = field(default_factory=list)
    """What introspection was asked."""

    @property
    def introspection(self) -> str:
        """URL of the introspection endpoint."""
        return f"{self.url}/introspect"

    def token(self, key: SigningKey | None = None, now: float | None = None, **claims: Any) -> str:
        """A good token, signed with its first key, changed by `claims`."""
        signer = key or self.keys[0]
        header = {"alg": signer.algorithm, "kid": signer.key_id, "typ": "JWT"}
        return signer.sign(header, claims_of(self.url, time.time() if now is None else now, **claims))

    def behave(self, request: Request) -> Answer:
        """Answer a request."""
        places: dict[str, Place] = {
            "GET /realm/.well-known/openid-configuration HTTP/1.1": "discovery",
            "GET /realm/keys?v=1 HTTP/1.1": "jwks",
            "POST /realm/introspect HTTP/1.1": "introspection",
        }
        place = places.get(request.line)
        if place is None:
            return _answer(404, b"{}")
        self.asked[place] += 1
        answer = self._trouble(place) or getattr(self, f"_{place}")(request)
        return Answer(answer.sent, answer.after, self.hold)

    def _trouble(self, place: Place) -> Answer | None:
        match self.trouble.get(place):
            case "500":
                return _answer(500, b'{"keys": [], "active": true}')
            case "401":
                return _answer(401, b'{"error": "invalid_client"}')
            case "garbage":
                return _answer(200, b"<html>Welcome</html>")
            case "huge":
                return _answer(200, b'{"padding": "' + b"x" * (1 << 20) + b'"}')
            case "redirect":
                return Answer(
                    f"HTTP/1.1 302 Found\r\nlocation: {self.url}/elsewhere\r\ncontent-length: 0\r\n\r\n".encode()
                )
            case "closed":
                return Answer(b"", "reset")
        return None

    def _discovery(self, _: Request) -> Answer:
        document = {"issuer": self.url, "jwks_uri": f"{self.url}/keys?v=1", **self.document}
        return _answer(200, json.dumps(document).encode())

    def _jwks(self, _: Request) -> Answer:
        return _answer(200, json.dumps({"keys": [key.public for key in self.keys]}).encode())

    def _introspection(self, request: Request) -> Answer:
        pair = f"{quote_plus(CLIENT[0])}:{quote_plus(CLIENT[1])}".encode()
        if dict(request.headers).get("authorization") != f"Basic {base64.b64encode(pair).decode()}":
            return _answer(401, b'{"error": "invalid_client"}')
        form = parse_qs(request.body.decode(), strict_parsing=True)
        self.forms.append(form)
        return _answer(200, json.dumps(self.answers.get(form["token"][0], {"active": False})).encode())


def _answer(status: int, body: bytes) -> Answer:
    return Answer(
        b"HTTP/1.1 %d X\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % (status, len(body)) + body
    )


@asynccontextmanager
async def running_issuer(folder: Path) -> AsyncIterator[Issuer]:
    """An issuer with one key for the time of the block; its authority's certificate is put into `folder`."""
    authority = trustme.CA()
    ca_file = folder / "issuer-ca.pem"
    authority.cert_pem.write_to_path(str(ca_file))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    async with h1_server(tls=context) as server:
        issuer = Issuer(f"{server.url}/realm", TlsSettings(ca_file=str(ca_file)), server, [signing_key("first")])
        server.behave = issuer.behave
        yield issuer
