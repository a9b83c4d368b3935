"""Authenticators from settings."""

from inferbridge.auth.anonymous import Anonymous
from inferbridge.auth.authenticator import Authenticator, Chain
from inferbridge.auth.introspection import IntrospectionAuthenticator
from inferbridge.auth.jwt_tokens import JwtAuthenticator
from inferbridge.auth.keys import KeysAuthenticator
from inferbridge.auth.kubernetes import KubernetesAuthenticator
from inferbridge.auth.mtls import MtlsAuthenticator
from inferbridge.auth.settings import (
    AuthenticatorSettings,
    AuthSettings,
    IntrospectionSettings,
    JwtSettings,
    KeysSettings,
    KubernetesSettings,
    MtlsSettings,
    NoneSettings,
)

OPEN = AuthSettings((NoneSettings(),))
"""Nobody is authenticated."""


def chain(auth: AuthSettings) -> Chain:
    """The authenticators in the order of the settings. ValueError or OSError for files that cannot be used."""
    alone = len(auth.authenticators) == 1
    return Chain([_authenticator(settings, alone=alone) for settings in auth.authenticators])


def _authenticator(settings: AuthenticatorSettings, *, alone: bool) -> Authenticator:
    match settings:
        case NoneSettings():
            return Anonymous(whatever=alone)
        case KeysSettings():
            return KeysAuthenticator(settings)
        case JwtSettings():
            return JwtAuthenticator(settings)
        case KubernetesSettings():
            return KubernetesAuthenticator(settings)
        case IntrospectionSettings():
            return IntrospectionAuthenticator(settings)
        case MtlsSettings():
            return MtlsAuthenticator()
