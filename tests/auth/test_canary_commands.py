"""Secrets in configurations, keys and calls of the command line are not repeated by what the commands say."""

import asyncio
import json
from dataclasses import asdict
from pathlib import Path

import pytest
from click.testing import CliRunner
from cryptography.hazmat.primitives import serialization

from auth.canaries import Canaries
from auth.canary_lab import ROOT, found, output_in, program, request
from auth.key_files import ID, KEY, entry
from gateway.serving import talk
from gateway.tls_clients import server_certificate
from inferbridge.auth.kubernetes import KubernetesAuthenticator
from inferbridge.auth.settings import KubernetesSettings
from inferbridge.cli import main
from inferbridge.config import Flags, load_settings
from inferbridge.mock.serving import Doors, mocking
from inferbridge.secret import Secret

S = "Cnry.config.0000.yrnC"
UPSTREAM = "upstreams: ['triton=grpc://127.0.0.1:1']\n"
TRITON = "{runtime: triton, url: 'http://a'"
BROKEN = {
    "unknown key beside it": f"auth: {{authenticators: [none], pasword: {S}, realm: {S}}}",
    "secret as a key": f"auth: {{authenticators: [none], {S}: x}}",
    "secret twice as a key": f"auth: {{{S}: x, {S}: y}}",
    "secret as an authenticator": f"auth: {{authenticators: [{S}]}}",
    "secret as an authenticator's key": f"auth: {{authenticators: [{{{S}: x}}]}}",
    "a map for a secret": f"tls: {{passphrase: {{a: {S}}}}}",
    "a list for a secret": f"tls: {{passphrase: [{S}]}}",
    "control character in a secret": f'tls: {{passphrase: "{S}\\n{S}"}}',
    "secret for a map": f"auth: {S}",
    "secret for a list": f"auth: {{authenticators: {S}}}",
    "for a duration": f"limits: {{call_timeout: {S}}}",
    "for a size": f"limits: {{body_size: {S}}}",
    "for a count": f"limits: {{streams: {S}}}",
    "for a choice": f"lossy: {S}",
    "for a switch": f"allow_unauthenticated: {S}",
    "for an address": f"listen: {S}",
    "for a port": f"admin: {{listen: 'a:{S}'}}",
    "for a file": f"tls: {{certificate: {S}}}",
    "for a file of keys": f"auth: {{authenticators: [{{keys: {{file: {S}}}}}]}}",
    "for a header": f"auth: {{authenticators: [none], headers: '{S} x'}}",
    "for an issuer": f"auth: {{authenticators: [{{jwt: {{issuer: {S}, audience: a}}}}]}}",
    "for a key set": f"auth: {{authenticators: [{{jwt: {{issuer: 'https://a', audience: a, jwks: {S}}}}}]}}",
    "in an issuer": f"auth: {{authenticators: [{{jwt: {{issuer: 'https://u:{S}@a', audience: a}}}}]}}",
    "in an issuer, with a slash": f"auth: {{authenticators: [{{jwt: {{issuer: 'https://u:a/{S}@a', audience: a}}}}]}}",
    "in an issuer, in brackets": f"auth: {{authenticators: [{{jwt: {{issuer: 'https://[{S}', audience: a}}}}]}}",
    "from the environment": "limits: {call_timeout: '${env:CANARY}'}",
    "from a file": "limits: {call_timeout: '${file:secret}'}",
    "an alias": f"tls: {{passphrase: *{S.replace('.', '')}}}",
    "an anchor": f"tls: {{passphrase: &{S.replace('.', '')} x}}",
    "a tag": f"tls: {{passphrase: !{S} x}}",
    "a tag of a handle": f"tls: {{passphrase: !{S.replace('.', '')}!x y}}",
    "broken YAML": f"tls: {{passphrase: '{S}",
    "at a wrong place": f"tls: {S}: {S}",
    "for a runtime": f"upstreams: [{{runtime: {S}, url: 'http://a'}}]",
    "for a short runtime": f"upstreams: ['{S}=http://a']",
    "for an upstream": f"upstreams: [{S}]",
    "for a URL": f"upstreams: [{{runtime: triton, url: {S}}}]",
    "in a URL": f"upstreams: ['triton=http://user:{S}@a:1']",
    "in a URL, with a slash": f"upstreams: ['triton=http://user:a/{S}@a:1']",
    "in a URL, for a port": f"upstreams: ['triton=http://user:{S}']",
    "in a URL's path": f"upstreams: ['triton=http://a:1/{S}']",
    "in a URL's query": f"upstreams: ['triton=http://a:1?key={S}']",
    "for a token file": f"upstreams: [{TRITON}, credentials: {{service_account_token: {S}}}}}]",
    "beside another": f"upstreams: [{TRITON}, credentials: {{static: {S}, passthrough: true}}}}]",
}  # fmt: skip


@pytest.mark.parametrize("text", BROKEN.values(), ids=BROKEN)
def test_a_broken_configuration_shows_no_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """`--check` says where a problem is and what belongs there, and never what stands there."""
    monkeypatch.setenv("CANARY", S)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "secret").write_text(S)
    (tmp_path / "inferbridge.yaml").write_text(text if "upstreams" in text else UPSTREAM + text)
    result = CliRunner().invoke(main, ["proxy", "-c", "inferbridge.yaml", "--check"])
    assert result.exit_code == 100, result.output
    assert "inferbridge.yaml:" in result.output
    assert_unseen(result.output)


def test_settings_print_no_secret(tmp_path: Path) -> None:
    """Settings that get into a traceback, an assertion or a debugger print their secrets as ***."""
    upstream = f"{TRITON}, credentials: {{static: {S}}}}}"
    text = f"upstreams: [{upstream}]\ntls: {{passphrase: {S}, certificate: x}}"
    (tmp_path / "x").write_text("")
    (tmp_path / "inferbridge.yaml").write_text(text)
    settings = load_settings(tmp_path / "inferbridge.yaml", {}, Flags(), {"triton": ("rest", "grpc")})
    assert settings.tls.passphrase == Secret(S)
    assert_unseen(f"{settings!r} {settings} {asdict(settings)}")


def assert_unseen(output: str) -> None:
    """The secret is in no form in it, nor without its dots, nor in lower case as hosts are written."""
    canaries = Canaries()
    canaries.add("secret", S)
    canaries.add("lower", S.lower())
    canaries.add("bare", S.replace(".", ""))
    assert canaries.hits(output) == []


@pytest.mark.parametrize(
    "arguments",
    [
        ["proxy", "--check", "--upstream", f"triton=http://u:{S}@a:1"],
        ["proxy", "--check", "--upstream", f"{S}=http://a:1"],
        ["proxy", "--check", "--limit", S],
        ["proxy", "--check", "--limit", f"{S}=1"],
        ["proxy", "--check", "--limit", f"body_size={S}"],
        ["proxy", "--check", "--listen", S],
        ["call", "openai/models", "--to", f"http://u:{S}@a:1"],
        ["call", "openai/models", "--to", f"{S}=http://a:1"],
        ["call", "openai/models", "--to", "http://a:1", "-H", S],
        ["call", "openai/models", "--to", "http://a:1", "-H", f"authorization:a\n{S}"],
        ["call", "openai/models", "--to", "http://a:1", "-p", S],
        ["keys", "revoke", "-f", "keys.yaml", S],
    ],
)
def test_a_wrong_argument_is_not_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    """A secret among the arguments is not printed into the log of whoever ran the command."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "keys.yaml").write_text(entry())
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code in (2, 100), result.output
    assert_unseen(result.output)


def test_commands_for_keys_show_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Listing, verifying and refusing keys shows none of them; a new one is shown once, on stdout alone."""
    runner, canaries = CliRunner(), Canaries()
    canaries.add("key", KEY)
    canaries.add("secret", KEY.partition("_")[2])
    monkeypatch.chdir(tmp_path)
    Path("keys.yaml").write_text(entry())
    said = [
        runner.invoke(main, ["keys", *words, "-f", "keys.yaml"], input=given).output
        for words, given in ((["list"], ""), (["verify"], KEY), (["verify"], KEY[:-1]), (["revoke", ID], ""))
    ]
    said.append(runner.invoke(main, ["keys", "verify", "-f", "keys.yaml"], input=KEY).output)
    made = runner.invoke(main, ["keys", "new", "-f", "keys.yaml", "--name", "x"])
    canaries.add("made", made.stdout.strip())
    written = Path("keys.yaml").read_text()
    assert all(said)
    assert canaries.hits("".join([*said, made.stderr, written])) == []


@pytest.mark.parametrize(
    ("runtime", "endpoint", "body"),
    [
        ("vllm-nvidia", "openai/completions", {"model": "m", "prompt": "p"}),
        ("tgis", "openai/completions", {"model": "m", "prompt": "p"}),
    ],
)
async def test_a_call_shows_credentials_only_when_asked(runtime: str, endpoint: str, body: dict[str, str]) -> None:
    """`call -v` shows both sides without credentials; with --show-credentials they stand there."""
    canaries = Canaries()
    names = ("authorization", "x-api-key", "api-key", "cookie", "proxy-authorization")
    headers = [part for name in names for part in ("-H", f"{name}: Bearer {canaries[name]}")]
    async with mocking(runtime, Doors(rest=0, grpc=0)) as (url, *_):
        command = ["call", endpoint, "-d", json.dumps(body), "--to", f"{runtime}={url}", "-v", *headers]
        hidden = await asyncio.to_thread(CliRunner().invoke, main, command)
        shown = await asyncio.to_thread(CliRunner().invoke, main, [*command, "--show-credentials"])
    assert (hidden.exit_code, shown.exit_code) == (0, 0), hidden.output
    assert "authorization: Bearer ***" in hidden.stderr
    assert canaries.hits(hidden.output) == []
    assert len(canaries.hits(shown.stderr)) >= len(names)


async def test_mitmproxy_shows_and_saves_no_secret(tmp_path: Path) -> None:
    """mitmdump with every detail and a file of flows holds none, in calls that succeed, are refused and fail."""
    canaries, log = Canaries(), tmp_path / "output.log"
    canaries.add("key", KEY)
    (tmp_path / "keys.yaml").write_text(entry())
    # mitmproxy runs the script in its own process, so the fault comes in beside it
    script = tmp_path / "faulty.py"
    script.write_text("from auth.canary_proxy import plant\nplant()\n")
    async with mocking("vllm-nvidia", Doors(rest=0, grpc=0)) as (rest, *_):
        upstream = {"runtime": "vllm-nvidia", "url": rest, "credentials": {"static": canaries["static"]}}
        auth = {"authenticators": [{"keys": {"file": str(tmp_path / "keys.yaml")}}]}
        (tmp_path / "inferbridge.yaml").write_text(json.dumps({"upstreams": [upstream], "auth": auth}))
        options = ["inferbridge_config=inferbridge.yaml", "termlog_verbosity=debug", "flow_detail=4"]
        settings = [part for option in options for part in ("--set", option)]
        arguments = ["-c", "from mitmproxy.tools.main import mitmdump; mitmdump()", "-s", str(script)]
        arguments += ["-s", str(ROOT / "proxy" / "mitm_entry.py"), "-w", str(tmp_path / "flows"), *settings]
        arguments += ["--mode", "reverse:http://127.0.0.1:1@127.0.0.1:0", "--set", f"confdir={tmp_path}"]
        async with program(arguments, log, {"PYTHONDEVMODE": ""}, str(ROOT / "tests")) as process:
            port = await found(r"listening at (?:http://)?127\.0\.0\.1:(\d+)", log, process)
            body = {"model": "m", "prompt": canaries["prompt"]}
            path = f"/v1/completions?key={canaries['query']}"
            fields = [f"cookie: {canaries['cookie']}", f"x-api-key: {canaries['x-api-key']}"]
            statuses = [
                (await talk(port, request(path, body, *fields, *more, key=key)))[9:12]
                for key, more in ((KEY, ()), (canaries["bad"], ()), (KEY, ("x-fault: explode-opening",)))
            ]
    seen = output_in(log)
    assert statuses == [b"200", b"401", b"500"], seen
    assert "Traceback" in seen
    flows = (tmp_path / "flows").read_bytes().decode("latin-1") if (tmp_path / "flows").exists() else ""
    # what was said is what people look for here; as whom is nobody's business
    assert [hit for hit in canaries.hits(seen + flows) if not hit.startswith("prompt")] == []


def test_a_token_in_the_place_of_its_file_is_not_shown(tmp_path: Path) -> None:
    """A cluster's token that was written where its file should be named is not repeated by what refuses it."""
    with pytest.raises(ValueError, match="cannot read the file of `token`") as caught:
        KubernetesAuthenticator(KubernetesSettings(api="https://localhost:1", token=tmp_path / S))
    assert_unseen(str(caught.value))


@pytest.mark.parametrize("right", [True, False])
async def test_a_passphrase_is_not_shown(tmp_path: Path, right: bool) -> None:
    """Whether it opens the key or not, neither start nor log repeats the passphrase."""
    canaries, issued, log = Canaries(), server_certificate(), tmp_path / "output.log"
    form = serialization.PrivateFormat.PKCS8
    passphrase = canaries["passphrase"]
    lock = serialization.BestAvailableEncryption((passphrase if right else "other").encode())
    locked = issued.key.private_bytes(serialization.Encoding.PEM, form, lock)
    (tmp_path / "server.pem").write_bytes(locked + issued.certificate_pem)
    config = {
        "listen": "127.0.0.1:0",
        "log": {"level": "debug"},
        "tls": {"certificate": str(tmp_path / "server.pem"), "passphrase": passphrase},
        "upstreams": ["triton=grpc://127.0.0.1:1"],
    }
    (tmp_path / "inferbridge.yaml").write_text(json.dumps(config))
    async with program(["-m", "inferbridge.cli", "proxy", "-c", "inferbridge.yaml"], log, {}) as process:
        if right:
            await found(r"listening on https://127\.0\.0\.1:(\d+)", log, process)
        else:
            await process.wait()
    assert ("cannot start" in output_in(log)) is not right
    assert canaries.hits(output_in(log)) == []
