"""`inferbridge keys`: what it prints, what it writes, and how it ends."""

import json
import os
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from auth.key_files import ID, KEY, PLAIN, PLAIN_ENTRY, PLAIN_HASH, SECRET, entry
from inferbridge.auth.identity import Grant
from inferbridge.auth.key_file import KeyEntry, read_keys
from inferbridge.cli import main
from packaging_sources import ROOT, SOURCE_ROOTS

DAY = 86_400


def run(*arguments: str | Path, stdin: str = "") -> tuple[int, str, str]:
    """Exit code, stdout and stderr of `inferbridge keys`."""
    result = CliRunner().invoke(main, ["keys", *map(str, arguments)], input=stdin)
    assert not result.exception or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.stdout, result.stderr


def keys_in(file: Path) -> tuple[KeyEntry, ...]:
    """What a file says."""
    return read_keys(file.read_bytes(), str(file))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file with one key of ours and a plain one."""
    path = tmp_path / "keys.yaml"
    path.write_text(entry("name: search", "groups: [a, b]", "models: ['llama-*']") + PLAIN_ENTRY)
    path.chmod(0o600)
    return path


def test_a_new_key_is_printed_once_and_its_digest_stored(tmp_path: Path) -> None:
    """stdout is the key alone; the file has its digest and what the options say, and ends in 90 days."""
    path = tmp_path / "keys.yaml"
    options = ["--group", "a", "--group", "b", "--model", "m-*", "--operation", "embed", "--endpoint", "caikit/*"]
    before = int(time.time())
    code, out, err = run("new", "-f", path, "--name", "Team: #1", *options, "--max-tokens", "5")
    assert code == 0
    key = out.removesuffix("\n")
    secret = key.partition("_")[2]
    assert secret not in err + path.read_text()
    (made,) = keys_in(path)
    assert (made.name, made.groups) == ("Team: #1", ("a", "b"))
    assert made.grant == Grant(("m-*",), ("embed",), ("caikit/*",), 5)
    assert made.expires_at is not None
    assert before <= made.expires_at - 90 * DAY <= time.time()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_new_key_is_good(tmp_path: Path) -> None:
    """What `new` prints is what `verify` takes, whatever else is in the file."""
    path = tmp_path / "keys.yaml"
    made = [run("new", "--file", path, "--name", name)[1] for name in ("a", "b", "c")]
    told = [run("verify", "--file", path, stdin=key) for key in made]
    assert [code for code, _, _ in told] == [0, 0, 0]
    assert [out.partition(":")[0] for _, out, _ in told] == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("text", "ends"), [("never", None), ("2099-12-31", 4_102_444_800.0), ("2099-12-31T00:00:00Z", 4_102_358_400.0)]
)
def test_the_end_of_a_key_can_be_chosen(tmp_path: Path, text: str, ends: float | None) -> None:
    """never, a last day, or a time."""
    path = tmp_path / "keys.yaml"
    assert run("new", "-f", path, "--name", "a", "--expires", text)[0] == 0
    assert keys_in(path)[0].expires_at == ends


@pytest.mark.parametrize("text", ["0d", "-1d", "90", "soon", "2020-01-01", "99999d", "9999-01-01", ""])
def test_an_end_that_makes_no_sense_is_refused(tmp_path: Path, text: str) -> None:
    """A key that is past its time, or good for ever by mistake, is not made."""
    code, out, err = run("new", "-f", tmp_path / "keys.yaml", "--name", "a", "--expires", text)
    assert (code, out) == (2, "")
    assert "--expires" in err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("content", "name", "code", "told"),
    [
        ("keys: [", "a", 100, ":1:8: not valid YAML"),
        (entry("grops: [a]"), "a", 100, ":4:5: a key has no key 'grops'; did you mean 'groups'?"),
        ('{"keys": []}', "a", 100, "add this to its `keys` yourself:"),
        (entry(), "a\nb", 100, "the new key:4:9: keys.name must not contain the control character U+000A"),
        (entry(), "\udcff", 100, "surrogates not allowed"),
    ],
)
def test_no_key_is_printed_that_is_not_in_the_file(
    tmp_path: Path, content: str, name: str, code: int, told: str
) -> None:
    """Where the key cannot be added, the command says why, prints no key and leaves the file as it is."""
    path = tmp_path / "keys.yaml"
    path.write_text(content)
    found, out, err = run("new", "-f", path, "--name", name)
    assert (found, out) == (code, "")
    assert told in err
    assert path.read_text() == content


def test_a_folder_that_is_not_there_is_a_failure(tmp_path: Path) -> None:
    """The file's folder is not made."""
    code, _, err = run("new", "-f", tmp_path / "no" / "keys.yaml", "--name", "a")
    assert code == 1
    assert "No such file or directory" in err


def test_keys_are_listed_without_digests(file: Path) -> None:
    """Text has a line for each key with its state and limits; JSON has the same, and no hash."""
    file.write_text(
        file.read_text().replace("  - {id: batch", "    not_after: 2020-01-01\n  - {disabled: true, id: batch")
    )
    code, text, _ = run("list", "-f", file)
    assert code == 0
    assert [line.split() for line in text.splitlines()] == [
        [ID, "expired", "2020-01-02T00:00:00Z", "search", "groups=a,b", "models=llama-*"],
        ["batch", "disabled", "never", "ends", "batch"],
    ]
    _, form, _ = run("list", "-f", file, "--format", "json")
    first, second = json.loads(form)
    assert (first["id"], first["state"], first["groups"], first["models"]) == (ID, "expired", ["a", "b"], ["llama-*"])
    assert (second["form"], second["state"], second["not_after"]) == ("plain", "disabled", None)
    assert not any(digest in text + form for digest in ("sha256", keys_in(file)[0].digest.hex()))


def test_list_warns_of_a_file_that_others_can_write(file: Path) -> None:
    """Whoever can write the file can let himself in, which is said on stderr."""
    assert run("list", "-f", file)[2] == ""
    file.chmod(0o662)
    code, _, err = run("list", "-f", file)
    assert code == 0
    assert err.startswith(f"warning: {file} can be written by others (mode 0662)")


def test_a_revoked_key_is_refused_and_stays_listed(file: Path) -> None:
    """`revoke` disables one key; doing it again changes nothing."""
    assert run("revoke", "-f", file, ID)[0] == 0
    after = file.read_text()
    assert [key.disabled for key in keys_in(file)] == [True, False]
    code, out, err = run("verify", "-f", file, stdin=KEY)
    assert (code, out) == (1, "")
    assert err == f"refused, disabled: key {ID}\n"
    assert run("revoke", "-f", file, ID)[0] == 0
    assert file.read_text() == after


def test_a_misspelt_id_is_named_with_the_nearest(file: Path) -> None:
    """An id that is not in the file is a usage error with a suggestion."""
    code, _, err = run("revoke", "-f", file, "bach")
    assert code == 2
    assert "has no key with this id; did you mean 'batch'?" in err


@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
@pytest.mark.parametrize(("key", "whose"), [(KEY, f"search: key {ID}"), (PLAIN, "batch: key batch")])
def test_verify_says_whose_key_it_is(file: Path, key: str, whose: str, end: str) -> None:
    """A good key of either form is 0 and its subject on stdout; a line end after it does not count."""
    code, out, err = run("verify", "-f", file, stdin=key + end)
    assert (code, err) == (0, "")
    assert out.startswith(whose)


@pytest.mark.parametrize("key", [f"ib-{ID}_{SECRET[::-1]}", "ib-x", "sk-somebody-elses-key", "", f"{KEY}\n{KEY}"])
def test_verify_refuses_other_keys(file: Path, key: str) -> None:
    """A bad key is 1 with a reason, and is not repeated."""
    code, out, err = run("verify", "-f", file, stdin=key)
    assert (code, out) == (1, "")
    assert err.startswith("refused")
    assert not key or key not in err


def test_a_key_is_never_an_argument(file: Path) -> None:
    """Arguments can be seen by everybody on the machine, so there is no way to give a key in one."""
    assert run("verify", "-f", file, KEY)[0] == 2
    assert run("hash", PLAIN)[0] == 2


def test_hash_makes_what_an_entry_needs() -> None:
    """stdout is the hash of a plain key alone."""
    assert run("hash", stdin=f"{PLAIN}\n")[:2] == (0, f"{PLAIN_HASH}\n")


@pytest.mark.parametrize("key", ["x" * 19, KEY, "", "two words are no header value"])
def test_hash_refuses_weak_keys(key: str) -> None:
    """A key that could be guessed, or would never be recognised, gets no hash."""
    code, out, err = run("hash", stdin=key)
    assert (code, out) == (100, "")
    assert not key or key not in err


def test_a_real_process_makes_keys_that_another_takes(tmp_path: Path) -> None:
    """As a user runs it: a key from one process to the next, in a file that is its owner's alone."""
    path = os.pathsep.join(str(ROOT / folder) for folder in SOURCE_ROOTS)

    def keys(*arguments: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        command = [sys.executable, "-m", "inferbridge.cli", "keys", *arguments, "-f", "keys.yaml"]
        environment = {"PYTHONPATH": path, "PATH": ""}
        return subprocess.run(command, input=stdin, cwd=tmp_path, env=environment, capture_output=True, umask=0)

    made = keys("new", "--name", "search")
    assert made.returncode == 0, made.stderr
    assert keys("verify", stdin=made.stdout).stdout.startswith(b"search: key ")
    assert stat.S_IMODE((tmp_path / "keys.yaml").stat().st_mode) == 0o600
    key_id = made.stdout[3:20].decode()
    assert keys("revoke", key_id).returncode == 0
    assert keys("verify", stdin=made.stdout).returncode == 1
