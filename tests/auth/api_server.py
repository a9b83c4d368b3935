"""An API server of Kubernetes, as far as an authenticator sees it: two creates over real TLS, and nothing else.

It is strict where a real one would let things pass: it keeps a note of every request that is not exactly what
kube-rbac-proxy sends, and of everything that a service account bound to `system:auth-delegator` may not do.
"""

import base64
import json
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import trustme

from inferbridge.auth.settings import KUBERNETES_AUDIENCE, AccessReview, KubernetesSettings
from upstream.h1_server import Answer, H1Server, Request, h1_server

TOKENS = "/apis/authentication.k8s.io/v1/tokenreviews"
ACCESS = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
CLIENT = "system:serviceaccount:team-a:client"
GROUPS = ["system:serviceaccounts", "system:serviceaccounts:team-a", "system:authenticated"]
FLAN = AccessReview(name="flan", namespace="team-a")
type Json = dict[str, Any]


def account(username: str = CLIENT, *audiences: str) -> Json:
    """The status of a good TokenReview."""
    user = {
        "username": username,
        "uid": "7d1c63d6-2a8f-4c6e-9a52-0d6c1f0f9a11",
        "groups": GROUPS,
        "extra": {"authentication.kubernetes.io/credential-id": ["JTI=e1f2"]},
    }
    return {"authenticated": True, "user": user, "audiences": list(audiences or (KUBERNETES_AUDIENCE,))}


def jwt(**claims: object) -> str:
    """A token in the form of a JWT, whose signature nobody here looks at."""
    parts = (json.dumps(part).encode() for part in ({"alg": "RS256", "kid": "k1"}, claims))
    return ".".join([*(base64.urlsafe_b64encode(part).decode().rstrip("=") for part in parts), "c2lnbmF0dXJl"])


def respond(status: int, body: Json | bytes) -> Answer:
    """An HTTP answer."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    head = f"HTTP/1.1 {status} Whatever\r\ncontent-type: application/json\r\ncontent-length: {len(content)}\r\n\r\n"
    return Answer(head.encode() + content)


@dataclass
class ApiServer:
    """Switches and counters of the running server; `folder` holds the files that a pod would find."""

    folder: Path
    context: ssl.SSLContext = field(default_factory=lambda: ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))
    server: H1Server = field(default_factory=lambda: H1Server(lambda _: Answer()))
    accounts: dict[str, Json] = field(default_factory=dict)
    """Token to the status of its review; others are not authenticated."""
    access: Json = field(default_factory=lambda: {"allowed": True})
    """The status of every SubjectAccessReview."""
    attributes: Json = field(default_factory=dict)
    """The resourceAttributes that must be asked."""
    audiences: list[str] = field(default_factory=lambda: [KUBERNETES_AUDIENCE])
    """The audiences that must be asked."""
    own: set[str] = field(default_factory=set)
    """The gateway's own tokens that count at the moment."""
    instead: dict[str, Answer] = field(default_factory=dict)
    """What is answered at a path instead of the truth."""
    mistakes: list[str] = field(default_factory=list)

    @property
    def asked(self) -> tuple[int, int]:
        """How many TokenReviews and SubjectAccessReviews have come."""
        lines = [request.line for request in self.server.requests]
        return lines.count(f"POST {TOKENS} HTTP/1.1"), lines.count(f"POST {ACCESS} HTTP/1.1")

    def settings(self, **changes: Any) -> KubernetesSettings:
        """Settings that lead here."""
        files = {"ca": self.folder / "ca.crt", "token": self.folder / "token"}
        return KubernetesSettings(**{"api": self.server.url, **files, **changes})

    def rotate(self, token: str) -> None:
        """Renew the gateway's own token; the one before counts no more."""
        self.own = {token}
        (self.folder / "token").write_text(token + "\n")

    def certify(self, authority: trustme.CA) -> None:
        """Show a certificate of this authority from the next connection on."""
        authority.issue_cert("localhost", "127.0.0.1").configure_cert(self.context)

    def trust(self, authority: trustme.CA) -> None:
        """Tell the gateway to trust this authority alone."""
        authority.cert_pem.write_to_path(str(self.folder / "ca.crt"))

    def answer(self, request: Request) -> Answer:
        """Answer as the API server does."""
        method, path, _ = request.line.split(" ")
        headers = dict(request.headers)
        if headers.get("authorization", "").removeprefix("Bearer ") not in self.own:
            return respond(401, _failure("Unauthorized", 401))
        if method != "POST" or path not in (TOKENS, ACCESS):
            self.mistakes.append(request.line)
            return respond(403, _failure("forbidden", 403))
        if path in self.instead:
            return self.instead[path]
        return self._review(path, headers, json.loads(request.body))

    def _review(self, path: str, headers: dict[str, str], review: Json) -> Answer:
        expected = self._token_review(review) if path == TOKENS else self._access_review(review)
        if review != expected or headers.get("content-type") != "application/json":
            self.mistakes.append(f"{path}: {review}, not {expected}")
            return respond(400, _failure("BadRequest", 400))
        unknown = {"user": {}, "error": "[invalid bearer token, token lookup failed]"}
        known = self.accounts.get(review["spec"].get("token", ""), unknown)
        return respond(201, review | {"metadata": {}, "status": known if path == TOKENS else self.access})

    def _token_review(self, review: Json) -> Json:
        spec = {"token": review["spec"]["token"]} | ({"audiences": self.audiences} if self.audiences else {})
        return {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": spec}

    def _access_review(self, review: Json) -> Json:
        users = [status["user"] for status in self.accounts.values()]
        user = next((one for one in users if one["username"] == review["spec"]["user"]), {"username": "nobody here"})
        spec = {"user": user["username"], "resourceAttributes": self.attributes}
        spec |= {name: user[name] for name in ("uid", "groups", "extra") if user.get(name)}
        return {"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": spec}


def _failure(reason: str, code: int) -> Json:
    return {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": reason, "code": code}


@asynccontextmanager
async def api_server(folder: Path) -> AsyncIterator[ApiServer]:
    """An API server for the time of the block, with a token and an authority in `folder`."""
    running = ApiServer(folder)
    authority = trustme.CA()
    running.certify(authority)
    running.trust(authority)
    running.rotate("our-own-token")
    async with h1_server(running.answer, running.context) as running.server:
        yield running
