"""Files of operators and tokens of strangers: the declared error gets out, or nothing."""

import atexit
import json
import shutil
import tempfile
from functools import cache
from pathlib import Path

from auth.asking import Clock, shown
from auth.issuer import AUDIENCE, SigningKey, encode, signing_key
from codegen.broken_specs import BASE
from inferbridge.auth.authenticator import Unauthenticated
from inferbridge.auth.identity import Identity
from inferbridge.auth.jwt_tokens import JwtAuthenticator
from inferbridge.auth.key_file import KeyFileError, read_keys
from inferbridge.auth.settings import JwtSettings
from inferbridge.bridge.chat_template import ChatTemplate
from inferbridge.bridge.errors import BridgeError
from inferbridge.config import Flags, SettingsError, load_settings
from inferbridge_codegen.problems import Problems
from inferbridge_codegen.spec.loader import load_specs

_RUNTIMES = {"triton": frozenset({"rest", "grpc"}), "tgis": frozenset({"grpc"})}
_ISSUER = "https://issuer.example"
_MESSAGES = [{"role": "user", "content": "hello"}, {"role": "assistant", "content": [{"type": "text", "text": "hi"}]}]


def configuration(data: bytes) -> None:
    """A configuration is read, or all that is wrong with it is told, each with its place."""
    if b"${file" in data:
        return  # the operator may name any file, and some have no end
    try:
        settings = load_settings(Path("inferbridge.yaml"), {"A": "b"}, Flags(), _RUNTIMES, data)
    except SettingsError as error:
        assert error.problems
        assert all(problem.message for problem in error.problems)
    else:
        assert settings.upstreams


def key_file(data: bytes) -> None:
    """A file of keys is read, or all that is wrong with it is told."""
    try:
        keys = read_keys(data, "keys.yaml")
    except KeyFileError as error:
        assert error.problems
    else:
        assert len({key.key_id for key in keys}) == len({key.digest for key in keys}) == len(keys)


@cache
def _scratch() -> Path:
    folder = tempfile.mkdtemp(prefix="inferbridge-fuzz-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)


@cache
def _spec_folder() -> Path:
    folder = _scratch() / "specs"
    shutil.copytree(BASE, folder)
    return folder


def specs(data: bytes) -> None:
    """A spec set with any file in it is read, and what is wrong with the file is told."""
    folders = ("apis", "operations", "runtimes")
    path = _spec_folder() / folders[(data[0] if data else 0) % 3] / "zz.yaml"
    path.write_bytes(data[1:])
    problems = Problems()
    try:
        load_specs(_spec_folder(), problems)
        assert all(problem.message and problem.mark.line > 0 for problem in problems.sorted())
    finally:
        path.unlink()


def chat_template(data: bytes) -> None:
    """A template is compiled or refused, and a chat becomes a prompt or is refused."""
    try:
        template = ChatTemplate(data.decode("utf-8", "replace"), {"bos_token": "<s>"})
    except ValueError:
        return
    try:
        assert isinstance(template.render(_MESSAGES, add_generation_prompt=True), str)
    except BridgeError as error:
        assert error.message


@cache
def _issuer() -> tuple[SigningKey, JwtAuthenticator]:
    key = signing_key("key", "EdDSA")
    file = _scratch() / "jwks.json"
    file.write_text(json.dumps({"keys": [key.public]}))
    settings = JwtSettings(_ISSUER, (AUDIENCE,), jwks=str(file))
    return key, JwtAuthenticator(settings, Clock(), clock=Clock())


def jwt(data: bytes) -> None:
    """A token is refused or not ours; nobody is recognised by one that the issuer has not signed."""
    key, authenticator = _issuer()
    kind, rest = data[:1], data[1:]
    if kind == b"s":  # claims that the issuer has signed
        _ask(authenticator, key.sign({"alg": "EdDSA", "kid": "key"}, rest))
    elif kind == b"f":  # a header and claims with a signature that is none
        header, _, claims = rest.partition(b"\n")
        assert _ask(authenticator, f"{encode(header)}.{encode(claims)}.{encode(b'x' * 64)}") is None
    else:
        assert _ask(authenticator, rest.decode("latin-1")) is None


def _ask(authenticator: JwtAuthenticator, token: str) -> Identity | None:
    try:
        found = authenticator.authenticate(shown(token))
    except Unauthenticated as error:
        assert error.detail
        return None
    assert found is None or isinstance(found, Identity)
    return found
