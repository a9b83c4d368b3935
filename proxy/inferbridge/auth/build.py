"""Authenticators from settings."""

from collections.abc import Callable
from functools import partial

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


def chain(auth: AuthSettings, looked: Callable[[str, bool], None] = lambda cache, hit: None) -> Chain:
    """The authenticators in the order of the settings. ValueError or OSError for files that cannot be used.

    `looked` hears of each look into a cache of answers, by the method that it belongs to.
    """
    alone = len(auth.authenticators) == 1
    return Chain([_authenticator(settings, looked, alone=alone) for settings in auth.authenticators])


def _authenticator(
    settings: AuthenticatorSettings, looked: Callable[[str, bool], None], *, alone: bool
) -> Authenticator:
    match settings:
        case NoneSettings():
            return Anonymous(whatever=alone)
        case KeysSettings():
            return KeysAuthenticator(settings)
        case JwtSettings():
            return JwtAuthenticator(settings)
        case KubernetesSettings():
            return KubernetesAuthenticator(settings, looked=partial(looked, KubernetesAuthenticator.method))
        case IntrospectionSettings():
            return IntrospectionAuthenticator(settings, looked=partial(looked, IntrospectionAuthenticator.method))
        case MtlsSettings():
            return MtlsAuthenticator()
