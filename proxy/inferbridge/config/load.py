"""Loads the settings: sources are merged, read by the table, and what no single key can say is checked here."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path

from inferbridge import event_loop
from inferbridge.auth.settings import Callers, MtlsSettings, NoneSettings
from inferbridge.config.kinds import OUTSIDE, SettingsReader
from inferbridge.config.sources import Flags, environment_tree, file_tree, flags_tree, merge
from inferbridge.config.table import SETTINGS
from inferbridge.config.upstreams import Upstreams
from inferbridge.config.values import Settings, Upstream
from inferbridge_codegen.problems import Mark, Problem, Problems
from inferbridge_codegen.spec.yaml_tree import ListNode, MapNode, Node, Scalar

EXIT_CODE = 100
"""Of a command that found problems in the user's input."""
_NOWHERE = Mark("configuration", OUTSIDE, OUTSIDE)


class SettingsError(Exception):
    """The settings cannot be used; `problems` says all that is wrong, the message is one line for each."""

    exit_code = EXIT_CODE

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(map(_line, self.problems)))


def _line(problem: Problem) -> str:
    return f"{problem.mark.file}: {problem.message}" if problem.mark.line == OUTSIDE else str(problem)


def load_settings(
    file: Path | None,
    environment: Mapping[str, str],
    flags: Flags,
    runtimes: Mapping[str, Collection[str]],
    text: bytes | None = None,
) -> Settings:
    """The settings of a configuration file, the environment and the flags, the later ones counting more.

    `text` is what the file held, for who has read it already. `runtimes` gives every known runtime with the protocols
    it speaks (`rest`, `grpc`). Raises `SettingsError` with all problems.
    """
    problems = Problems()
    tree = file_tree(file, environment, problems, text) if file is not None else None
    unfilled = problems.sorted()
    if file is not None and tree is None:
        raise SettingsError(unfilled)
    tree = merge(tree, environment_tree(environment)) if tree is None or isinstance(tree, MapNode) else tree
    tree = merge(tree, flags_tree(flags, problems)) if isinstance(tree, MapNode) else tree
    reader = SettingsReader(problems, runtimes, file.parent if file is not None else Path())
    settings = SETTINGS.read(reader, tree, "")
    if settings is not None:
        _check(settings, tree, problems)
    if settings is None or len(problems):
        raise SettingsError(_without_consequences(problems.sorted(), unfilled))
    return settings


def _without_consequences(problems: list[Problem], unfilled: list[Problem]) -> Iterator[Problem]:
    """A value that could not be filled in is one problem, not also a wrong value."""
    marks = {problem.mark for problem in unfilled}
    return (problem for problem in problems if problem in unfilled or problem.mark not in marks)


def parse_upstream(text: str, runtimes: Mapping[str, Collection[str]], mark: Mark | None = None) -> Upstream:
    """The upstream of a text such as `triton=grpc://127.0.0.1:8001`; raises `SettingsError`."""
    problems = Problems()
    place = mark or Mark("upstream", OUTSIDE, OUTSIDE)
    node = ListNode((Scalar(text, text, place),), place)
    found = Upstreams().read(SettingsReader(problems, runtimes, Path()), node, "upstreams")
    if not found or len(problems):
        raise SettingsError(problems.sorted())
    return found[0]


def _check(settings: Settings, tree: Node, problems: Problems) -> None:
    if not settings.upstreams:
        message = "no upstream: give --upstream runtime=URL, or `upstreams:` in the file"
        problems.add(_place(tree, "upstreams"), message)
    for address in settings.listen:
        if not address.loopback and not settings.allow_unauthenticated and not settings.auth:
            problems.add(_place(tree, "listen"), _OPEN.format(address))
        if address.port and settings.listen.count(address) > 1:
            problems.add(_place(tree, "listen"), f"{address} is listed twice")
    _check_auth(settings, tree, problems)
    if settings.admin.listen in settings.listen and settings.admin.listen.port:
        problems.add(
            _place(tree, "admin"),
            f"admin.listen {settings.admin.listen} is where clients connect: it needs a port of its own",
        )
    if settings.event_loop == "uvloop" and (reason := event_loop.fault()):
        problems.add(_place(tree, "event_loop"), f"event_loop: uvloop {reason}")
    if settings.capture.enabled and not settings.capture.sinks:
        problems.add(_place(tree, "capture"), "capture needs a sink: file, stdout or cloudevents")
    if Callers() in settings.capture.on_demand:
        problems.add(
            _place(tree, "capture"), "capture.on_demand must name callers by subjects, groups, keys or methods"
        )
    if settings.tls.certificate is None:
        for name in ("key", "passphrase"):
            if getattr(settings.tls, name) is not None:
                problems.add(_place(tree, "tls"), f"tls needs a certificate for its {name}")


def _check_auth(settings: Settings, tree: Node, problems: Problems) -> None:
    auth, tls = settings.auth, settings.tls
    if tls.client_ca is not None and tls.certificate is None:
        problems.add(_place(tree, "tls"), "tls needs a certificate where it asks clients for theirs (client_ca)")
    if auth is None:
        return
    if not auth.authenticators:
        problems.add(_place(tree, "auth"), "auth needs an authenticator: nobody could be recognised")
    kinds = [type(one) for one in auth.authenticators]
    if MtlsSettings in kinds and tls.client_ca is None:
        problems.add(_place(tree, "auth"), "the authenticator mtls needs `tls: {client_ca: …}`")
    if NoneSettings in kinds and not settings.allow_unauthenticated:
        for address in settings.listen:
            if not address.loopback:
                problems.add(_place(tree, "listen"), _OPEN.format(address))


_OPEN = (
    "{} can be reached from other machines, and nobody would be authenticated: give it an `auth` section, listen on "
    "127.0.0.1, or accept it with --allow-unauthenticated (in the file: `allow_unauthenticated: true`)"
)


def _place(tree: Node, key: str) -> Mark:
    found = [child.mark for name, _, child in tree.entries if name == key] if isinstance(tree, MapNode) else []
    return found[0] if found else _NOWHERE
