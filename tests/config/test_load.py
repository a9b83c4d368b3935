"""Settings: sources, precedence, problems."""

import textwrap
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path

import pytest

from inferbridge.config import Flags, Listener, Settings, SettingsError, load_settings, parse_upstream
from inferbridge.config.kinds import Field, Record
from inferbridge.config.table import LIMITS, SETTINGS
from inferbridge.config.upstreams import UPSTREAM, UPSTREAM_TLS
from inferbridge.config.values import Admin, HealthCheck, ListenerTls, Log
from inferbridge.gateway.limits import Limits
from inferbridge.secret import Secret
from inferbridge.upstream.tls import TlsSettings

RUNTIMES = {"triton": frozenset({"rest", "grpc"}), "mlserver": frozenset({"rest", "grpc"}), "tgi": frozenset({"rest"})}
TRITON = Flags(upstream=("triton=grpc://127.0.0.1:8001",))


def load(folder: Path, text: str, environment: Mapping[str, str] | None = None, flags: Flags = Flags()) -> Settings:  # noqa: B008
    """The settings of a file with this text."""
    path = folder / "inferbridge.yaml"
    path.write_text(textwrap.dedent(text), encoding="utf-8")
    return load_settings(path, environment or {}, flags, RUNTIMES)


def problems(folder: Path, text: str, environment: Mapping[str, str] | None = None, flags: Flags = TRITON) -> list[str]:
    """What is said of a file with this text, without the folder."""
    with pytest.raises(SettingsError) as caught:
        load(folder, text, environment, flags)
    return str(caught.value).replace(f"{folder}/", "").splitlines()


def test_everything_can_be_said_in_the_file(tmp_path: Path) -> None:
    """A file can set every part of the settings, and units come out as bytes and seconds."""
    settings = load(
        tmp_path,
        """
        listen: ["127.0.0.1:8080", "[::1]:0"]
        upstreams:
          - triton=grpc://127.0.0.1:8001
          - {name: big, runtime: mlserver, url: "http://models:8080", models: ["llm-*", embed]}
        limits: {body_size: 64MiB, header_size: 1000, call_timeout: 1.5m, idle_timeout: 500ms, streams: 7}
        lossy: allow
        nan: null
        log: {level: debug, format: json}
        admin: {listen: "127.0.0.1:9901"}
        """,
    )
    assert settings.listen == (Listener("127.0.0.1", 8080), Listener("::1", 0))
    assert [(one.name, one.runtime, str(one.url), one.models, one.protocol) for one in settings.upstreams] == [
        ("triton", "triton", "grpc://127.0.0.1:8001", ("*",), "grpc"),
        ("big", "mlserver", "http://models:8080", ("llm-*", "embed"), "rest"),
    ]
    assert settings.limits == Limits(
        body_bytes=64 << 20, header_bytes=1000, call_seconds=90.0, idle_seconds=0.5, streams=7
    )
    assert (settings.policy.lossy, settings.policy.nan) == (True, "null")
    assert settings.log == Log("debug", "json")
    assert settings.admin.listen == Listener("127.0.0.1", 9901)


def test_flags_count_more_than_environment_and_file() -> None:
    """The simple case needs no file: an upstream flag and defaults for the rest."""
    settings = load_settings(None, {}, TRITON, RUNTIMES)
    assert settings.listen == (Listener("127.0.0.1", 8080),)
    assert settings.limits == Limits()
    assert [str(one.url) for one in settings.upstreams] == ["grpc://127.0.0.1:8001"]


@pytest.mark.parametrize(
    ("environment", "flags", "expected"),
    [
        ({}, Flags(), "warning"),
        ({"INFERBRIDGE_LOG_LEVEL": "error"}, Flags(), "error"),
        ({"INFERBRIDGE_LOG_LEVEL": "error"}, Flags(log_level="debug"), "debug"),
    ],
)
def test_precedence(tmp_path: Path, environment: Mapping[str, str], flags: Flags, expected: str) -> None:
    """A flag replaces the environment, the environment the file, and the rest of the section stays."""
    text = "upstreams: [triton=grpc://localhost:1]\nlog: {level: warning, format: json}"
    assert load(tmp_path, text, environment, flags).log == Log(expected, "json")  # type: ignore[arg-type]


def test_lists_from_the_environment_are_separated_by_commas() -> None:
    """A list in the environment replaces the one of the file as a whole."""
    environment = {
        "INFERBRIDGE_LISTEN": "127.0.0.1:1, [::1]:2",
        "INFERBRIDGE_UPSTREAMS": "triton=grpc://a:1,triton=http://b",
        "INFERBRIDGE_LIMITS_BODY_SIZE": "1GiB",
        "INFERBRIDGE_PORT": "tcp://10.0.0.1:80",
    }
    settings = load_settings(None, environment, Flags(), RUNTIMES)
    assert list(map(str, settings.listen)) == ["127.0.0.1:1", "[::1]:2"]
    assert [(one.name, str(one.url)) for one in settings.upstreams] == [
        ("triton", "grpc://a:1"),
        ("triton-2", "http://b:80"),
    ]
    assert settings.limits.body_bytes == 1 << 30


def test_unnamed_upstreams_do_not_take_given_names() -> None:
    """An upstream that is called after its runtime makes way for one that was given the name."""
    given = load_settings(
        None, {}, Flags(upstream=("triton=grpc://a:1", "triton=grpc://b:1", "tgi=http://c")), RUNTIMES
    )
    assert [one.name for one in given.upstreams] == ["triton", "triton-2", "tgi"]


def test_variables_are_filled_in(tmp_path: Path) -> None:
    """`${NAME}`, defaults and the escape work in any value of the file, whatever its kind."""
    settings = load(
        tmp_path,
        """
        upstreams: [{name: "$${a}", runtime: triton, url: "grpc://${HOST}:${PORT:-8001}"}]
        allow_unauthenticated: ${OPEN:-true}
        limits: {body_size: "${SIZE:-4KiB}", streams: "${STREAMS:-9}"}
        """,
        {"HOST": "models", "PORT": "", "STREAMS": "11"},
    )
    assert [(one.name, str(one.url)) for one in settings.upstreams] == [("${a}", "grpc://models:8001")]
    assert settings.allow_unauthenticated is True
    assert (settings.limits.body_bytes, settings.limits.streams) == (4096, 11)


def test_all_problems_are_reported_together(tmp_path: Path) -> None:
    """Every problem of every source is named once, with its place, the reason and the nearest right name."""
    found = problems(
        tmp_path,
        """\
        listn: 127.0.0.1:1
        upstreams:
          - tritn=grpc://127.0.0.1:8001
          - {runtime: mlserver, url: "ftp://x", nam: y}
        limits: {body_size: 4 parsecs, streams: 0}
        log: {level: "${LEVEL}"}
        nan: nul
        """,
        {"INFERBRIDGE_LOSSY": "alow"},
        Flags(limit=("body=1", "x")),
    )
    assert sorted(found) == [
        "environment variable INFERBRIDGE_LOSSY: lossy must be one of reject, allow; did you mean 'allow'?",
        "flag --limit: must be name=value",
        "flag --limit: there is no such limit; did you mean 'body_size'?",
        "inferbridge.yaml:1:1: the configuration has no key 'listn'; did you mean 'listen'?",
        "inferbridge.yaml:3:5: the runtime is not known; did you mean 'triton'? (known: mlserver, tgi, triton)",
        "inferbridge.yaml:4:30: upstream URL: expected http://, https://, grpc:// or grpcs:// and host:port",
        "inferbridge.yaml:4:41: an upstream has no key 'nam'; did you mean 'name'?",
        "inferbridge.yaml:5:21: limits.body_size must be like 4MiB (units: B, KiB, MiB, GiB, kB, MB, GB)",
        "inferbridge.yaml:5:41: limits.streams must be a whole number from 1 to 1000000",
        "inferbridge.yaml:6:14: environment variable LEVEL is not set; set it, or give a default: ${LEVEL:-…}",
        "inferbridge.yaml:7:6: nan must be one of reject, null, literal; did you mean 'null'?",
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("listen: [80, x]", ["1:10: listen must be host:port, such as 127.0.0.1:8080",
                             "1:14: listen must be host:port, such as 127.0.0.1:8080"]),
        ("listen: '::1:80'", ["1:9: listen must have its IPv6 host in brackets, such as [::1]:8080"]),
        ("listen: 'localhost:99999'", ["1:9: listen must be host:port, such as 127.0.0.1:8080"]),
        ("listen: []", ["1:9: listen must not be empty"]),
        ("listen: {a: b}", ["1:9: the listener needs the key 'address'", "1:10: the listener has no key 'a'"]),
        ("listen: [{address: '127.0.0.1:1', transparent: 1}]", ["1:48: listen.transparent must be true or false"]),
        ("listen: ['127.0.0.1:1', '127.0.0.1:1']", ["1:9: 127.0.0.1:1 is listed twice"]),
        ("limits: 3", ["1:9: limits must be a map"]),
        ("limits: {call_timeout: 30}", ["1:24: limits.call_timeout must be like 30s (units: ms, s, m, h)"]),
        ("limits: {call_timeout: 0s}", ["1:24: limits.call_timeout must be more than 0 and at most 86400"]),
        ("limits: {stream_window: 2GiB}",
         ["1:25: limits.stream_window must be more than 0 and at most 2147483647"]),
        ("allow_unauthenticated: maybe", ["1:24: allow_unauthenticated must be true or false"]),
        ("tls: {certificate: missing.pem}",
         ["1:20: tls.certificate: cannot read the file that it names: No such file or directory"]),
        ("admin: {listen: 9901}", ["1:17: admin.listen must be host:port, such as 127.0.0.1:8080"]),
        ("listen: '127.0.0.1:1'\nadmin: {listen: '127.0.0.1:1'}",
         ["2:8: admin.listen 127.0.0.1:1 is where clients connect: it needs a port of its own"]),
        ("tls: {passphrase: x}", ["1:6: tls needs a certificate for its passphrase"]),
        (f"tls: {{key: {__file__}}}", ["1:6: tls needs a certificate for its key"]),
        ("log: {level: '${A:-info}', format: '${B'}",
         ["1:36: '${' must begin ${NAME}, ${NAME:-default} or ${file:PATH}; '$${' is the two characters"]),
        ("a: &b 1", ["1:4: an anchor (&…) is not allowed; write the value out, or quote a text that begins with &"]),
        ("lossy: allow\nlossy: allow", ["2:1: key 'lossy' is already defined at line 1"]),
        ("- x", ["1:1: the configuration must be a map"]),
    ],
)  # fmt: skip
def test_one_problem(tmp_path: Path, text: str, expected: list[str]) -> None:
    """A wrong value is reported at its place with what would be right."""
    assert problems(tmp_path, text) == [f"inferbridge.yaml:{line}" for line in expected]


@pytest.mark.parametrize(
    ("item", "expected"),
    [
        ("triton", "an upstream must be runtime=URL, such as triton=grpc://127.0.0.1:8001"),
        ("{runtime: triton}", "an upstream needs the key 'url'"),
        ("tgi=grpc://h:1", "grpc://h:1: tgi does not speak grpc, only rest"),
        ("triton=grpc://h", "upstream URL: a port is needed, as in grpc://host:8001"),
        ("triton=http://h/p", "nothing may follow host:port (paths come from the endpoints)"),
        ("{runtime: triton, url: 'grpc://h:1', tls: {verify: false}}",
         "tls needs a https or grpcs url, grpc://h:1 is without TLS"),
        ("{runtime: triton, url: 'grpcs://h:1', tls: {ca: ca.pem, verify: false}}",
         "verify is false, so ca would have no effect; remove one of them"),
        ("{runtime: triton, url: 'grpcs://h:1', tls: {key: ca.pem}}", "TLS: a client key needs a client certificate"),
        ("{runtime: triton, url: 'grpcs://h:1', tls: {ca: ca.pem}}", "no usable PEM certificate"),
        ('{runtime: triton, url: "grpc://h:1", name: "a\\r\\nb"}',
         "upstream.name must not contain the control character U+000D"),
        ('{runtime: triton, url: "grpc://h:1", models: ["a\\0"]}',
         "character U+0000 is not allowed"),
        ('"triton=grpc://h:1\\nx: y"', "an upstream must not contain the control character U+000A"),
        ("{runtime: triton, url: 'grpc://h:1', name: ''}", "upstream.name must not be empty"),
        ("{runtime: triton, url: 'grpc://h:1', addresses: [h]}",
         "inferbridge.yaml:1:62: upstream.addresses must be host:port, such as 10.0.0.1:8000 or [fd00::1]:8000"),
        ("{runtime: triton, url: 'grpc://h:1', addresses: ['grpc://h:1']}", "upstream.addresses must be host:port"),
        ("{runtime: triton, url: 'grpc://h:1', addresses: ['fd00::1:8000']}", "upstream.addresses must be host:port"),
        ("{runtime: triton, url: 'grpc://h:1', addresses: ['[h]:8000']}", "upstream.addresses must be host:port"),
        ("{runtime: triton, url: 'grpc://h:1', addresses: ['h:65536']}",
         "upstream.addresses must have a port from 1 to 65535"),
        ("{runtime: triton, url: 'grpc://h:1', addresses: ['h:1', 'h:1']}",
         "inferbridge.yaml:1:61: addresses must be different from each other"),
        ("{runtime: triton, url: 'grpc://h:1', resolve: 0s}", "upstream.resolve must be more than 0 and at most 3600"),
        ("{runtime: triton, url: 'grpc://h:1', resolve: 30s, sticky: 'a b'}",
         "upstream.sticky must be the name of a header"),
        ("{runtime: triton, url: 'grpc://h:1', sticky: x-session}",
         "sticky needs addresses or resolve beside it: there is one address only"),
        ("{runtime: triton, url: 'grpc://h:1', health_check: {}}",
         "health_check needs addresses or resolve beside it: there is one address only"),
        ("{runtime: triton, url: 'grpc://h:1', resolve: 30s, health_check: {intervall: 1s}}",
         "health_check has no key 'intervall'; did you mean 'interval'?"),
        ("{runtime: triton, url: 'grpc://h:1', adresses: ['h:1']}", "no key 'adresses'; did you mean 'addresses'?"),
    ],
)  # fmt: skip
def test_upstream_problems(tmp_path: Path, item: str, expected: str) -> None:
    """What is wrong with an upstream is one problem."""
    (tmp_path / "ca.pem").write_text("not a certificate")
    (found,) = problems(tmp_path, f"upstreams: [{item}]", flags=Flags())
    assert expected in found


def test_how_calls_are_spread(tmp_path: Path) -> None:
    """Replicas, what binds calls to them and how long connections live; a header's name counts in lower case."""
    text = """\
        upstreams:
          - {runtime: triton, url: "grpc://h:1", addresses: ["10.0.0.1:8001", "[fd00::1]:8001"], sticky: X-Session,
             health_check: {interval: 5s}, connection_age: 1m}
          - {runtime: triton, url: "grpc://h:1", resolve: 30s, health_check: {}}
          - triton=grpc://h:1
        """
    listed, named, one = load(tmp_path, text).upstreams
    assert [str(each) for each in listed.addresses] == ["10.0.0.1:8001", "[fd00::1]:8001"]
    assert (listed.sticky, listed.health_check, listed.connection_age) == ("x-session", HealthCheck(5.0), 60.0)
    assert (named.resolve, named.health_check) == (30.0, HealthCheck(10.0))
    assert (one.addresses, one.resolve, one.sticky, one.health_check, one.connection_age) == ((), None, "", None, 600.0)


def test_upstream_names_are_unique(tmp_path: Path) -> None:
    """Two upstreams of one name are refused at the second."""
    item = "{name: a, runtime: triton, url: 'grpc://h:1'}"
    found = problems(tmp_path, f"upstreams:\n - {item}\n - {item}", flags=Flags())
    assert found == ["inferbridge.yaml:3:11: upstream 'a' is declared twice"]


def test_credentials_in_a_url_are_not_repeated() -> None:
    """A URL with a password is refused without showing the password."""
    with pytest.raises(SettingsError) as caught:
        parse_upstream("triton=https://user:hunter2@host", RUNTIMES)
    assert "credentials" in str(caught.value)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("listen", ["0.0.0.0:80", ":80", "[::]:80", "10.1.2.3:80", "models.example:80"])
def test_open_listeners_need_consent(listen: str) -> None:
    """A listener that other machines reach is refused until the user accepts that nobody is authenticated."""
    flags = Flags(listen=(listen,), upstream=TRITON.upstream)
    with pytest.raises(SettingsError, match="--allow-unauthenticated"):
        load_settings(None, {}, flags, RUNTIMES)
    accepted = Flags(listen=(listen,), upstream=TRITON.upstream, allow_unauthenticated=True)
    assert str(load_settings(None, {}, accepted, RUNTIMES).listen[0]) == listen


@pytest.mark.parametrize("listen", ["127.0.0.1:0", "127.1.2.3:80", "[::1]:80", "localhost:80"])
def test_loopback_listeners_need_no_consent(listen: str) -> None:
    """A listener that only this machine reaches is fine."""
    settings = load_settings(None, {}, Flags(listen=(listen,), upstream=TRITON.upstream), RUNTIMES)
    assert settings.listen[0].loopback


def test_the_admin_port_is_off_unless_given() -> None:
    """Nothing but the addresses that were given is listened on; flag and variable give one as the file does."""
    assert load_settings(None, {}, TRITON, RUNTIMES).admin.listen is None
    flags = Flags(upstream=TRITON.upstream, admin="[::1]:9901")
    assert load_settings(None, {}, flags, RUNTIMES).admin.listen == Listener("::1", 9901)
    environment = {"INFERBRIDGE_ADMIN_LISTEN": "0.0.0.0:9901"}
    assert load_settings(None, environment, TRITON, RUNTIMES).admin.listen == Listener("0.0.0.0", 9901)


def test_an_upstream_is_needed(tmp_path: Path) -> None:
    """Without any upstream the problem says how to give one."""
    assert problems(tmp_path, "{}", flags=Flags()) == [
        "configuration: no upstream: give --upstream runtime=URL, or `upstreams:` in the file"
    ]


def test_unreadable_files(tmp_path: Path) -> None:
    """A configuration that cannot be read is a problem, not a traceback."""
    with pytest.raises(SettingsError, match="cannot read the configuration: No such file"):
        load_settings(tmp_path / "none.yaml", {}, TRITON, RUNTIMES)


def test_relative_paths_start_at_the_file(tmp_path: Path) -> None:
    """A path in the file is relative to the file, one in a flag to the working directory."""
    (tmp_path / "server.pem").write_text("x")
    settings = load(tmp_path, "tls: {certificate: server.pem, passphrase: s3cret}", flags=TRITON)
    assert settings.tls == ListenerTls(tmp_path / "server.pem", Secret("s3cret"))
    with pytest.raises(SettingsError, match=r"flag --tls-certificate: tls.certificate: cannot read"):
        load(tmp_path, "", flags=Flags(upstream=TRITON.upstream, tls_certificate="server.pem"))


def test_secrets_do_not_print(tmp_path: Path) -> None:
    """A secret shows as *** in any print of the settings, and can be had on request only."""
    (tmp_path / "server.pem").write_text("x")
    settings = load(tmp_path, "tls: {certificate: server.pem, passphrase: s3cret}", flags=TRITON)
    assert "s3cret" not in repr(settings) + str(settings) + f"{settings.tls.passphrase}"
    assert settings.tls.passphrase is not None
    assert settings.tls.passphrase.reveal() == "s3cret"


@pytest.mark.parametrize(
    ("record", "built"),
    [
        (SETTINGS, Settings),
        (LIMITS, Limits),
        (UPSTREAM_TLS, TlsSettings),
        (SETTINGS.fields["tls"].kind, ListenerTls),
        (SETTINGS.fields["log"].kind, Log),
        (SETTINGS.fields["admin"].kind, Admin),
    ],
)
def test_the_table_is_complete(record: Record[object], built: type) -> None:
    """Every field of the settings can be set, and every key of the table is a field."""
    names = {entry.attribute or key for key, entry in record.fields.items()}
    assert names == {field.name for field in fields(built)}


@pytest.mark.parametrize("record", [SETTINGS, LIMITS, UPSTREAM, UPSTREAM_TLS])
def test_every_key_is_documented(record: Record[object]) -> None:
    """Each key says in a sentence what it does."""
    entries: list[Field] = list(record.fields.values())
    assert all(entry.doc.endswith(".") for entry in entries)


def test_adapters_are_names_of_models(tmp_path: Path) -> None:
    """A name alone is the id too; what an upstream serves is then its model and its adapters, and nothing else."""
    text = """
        upstreams:
          - {runtime: triton, url: "grpc://a:1", default_model: "m[1]", adapters: {sql: loras/sql, "a*": }}
          - {runtime: triton, url: "grpc://a:1", models: ["m*"], adapters: {sql: loras/sql}}
          - {runtime: triton, url: "grpc://a:1", models: ["m*"]}
        """
    first, second, third = load(tmp_path, text).upstreams
    assert first.adapters == {"sql": "loras/sql", "a*": "a*"}
    assert first.served == ("m[[]1]", "sql", "a[*]")
    assert second.served == ("m*", "sql")
    assert (third.adapters, third.served) == ({}, ("m*",))


@pytest.mark.parametrize(
    ("adapters", "problem"),
    [
        ("{sql: x}", "adapters need default_model or models beside them"),
        ('{sql: ""}, default_model: m', "upstream.adapters.sql must not be empty"),
        ("[sql], default_model: m", "upstream.adapters must be a map"),
    ],
)
def test_adapters_without_sense_are_refused(tmp_path: Path, adapters: str, problem: str) -> None:
    """Without a base model's name any name would be answered by it; ids are never empty."""
    upstream = f"{{runtime: triton, url: 'grpc://a:1', adapters: {adapters}}}"
    (said,) = problems(tmp_path, f"upstreams:\n  - {upstream}", {}, Flags())
    assert problem in said
