"""Changes to a file of keys: what is in it stays."""

import os
import stat
import threading
from pathlib import Path

import pytest

from auth.key_files import ID, PLAIN_ENTRY, entry
from inferbridge.auth import key_form
from inferbridge.auth.key_edit import UnusualFileError, change, with_disabled, with_entry
from inferbridge.auth.key_file import KeyEntry, KeyFileError, read_keys


def made(name: str = "new") -> KeyEntry:
    """A new entry."""
    key_id, secret = key_form.new_key()
    return KeyEntry(key_id, key_form.digest_of(key_id, secret), name=name)


APPENDABLE = {
    "block": entry("name: a  # who"),
    "no indentation": entry().replace("  - ", "- ").replace("    ", "  "),
    "deep": entry().replace("  - ", "      - ").replace("    hash", "        hash"),
    "flow entries": f"keys:\n{PLAIN_ENTRY}",
    "no line end": entry().rstrip("\n"),
    "comments after": entry() + "\n# the end\n    # of it\n",
    "CRLF": entry().replace("\n", "\r\n"),
    "byte order mark": "\ufeff" + entry(),
    "start of document": "--- # keys\n" + entry(),
    "empty list": "# none yet\nkeys: []\n",
    "empty list and comment": "keys: [ ]  # none yet\n# end\n",
    "unusual letters": entry('name: "Zoë\u2028 \U0001f511"'),
}
UNUSUAL = {
    "flow": f"keys: [{PLAIN_ENTRY.strip().removeprefix('- ')}]\n",
    "JSON": '{"keys": []}',
    "end of document": entry() + "...\n",
}


@pytest.mark.parametrize("text", APPENDABLE.values(), ids=list(APPENDABLE))
def test_a_new_entry_leaves_all_else_as_it_is(text: str) -> None:
    """The old keys, every comment and every line stay, the new key is the last."""
    added = made()
    after = with_entry(text.encode(), added, "keys.yaml").decode()
    assert read_keys(after.encode(), "") == (*read_keys(text.encode(), ""), added)
    old = [line for line in text.splitlines() if "[" not in line]
    assert [line for line in after.splitlines() if line in old] == old
    assert after.count("#") == text.count("#")


@pytest.mark.parametrize("text", UNUSUAL.values(), ids=list(UNUSUAL))
def test_an_unusual_file_is_left_alone(text: str) -> None:
    """Where a new entry cannot be added safely, the user is given the entry to add."""
    added = made()
    with pytest.raises(UnusualFileError, match="add this to its `keys` yourself") as caught:
        with_entry(text.encode(), added, "keys.yaml")
    given = str(caught.value).partition("yourself:\n")[2]
    assert read_keys(f"keys:\n{given}".encode(), "") == (added,)


def test_a_wrong_entry_is_not_added() -> None:
    """A name that the file cannot say is told as a problem of the new key."""
    with pytest.raises(KeyFileError, match=r"the new key:\d+:\d+: keys\.name must not contain the control character"):
        with_entry(b"", made("a\nb"), "keys.yaml")


def test_a_broken_file_is_not_added_to() -> None:
    """A file with a problem is reported with its place, not made longer."""
    with pytest.raises(KeyFileError, match=r"keys\.yaml:4:5: a key has no key 'grops'"):
        with_entry(entry("grops: [a]").encode(), made(), "keys.yaml")


REVOCABLE = {
    "block": entry("name: a  # who", "not_after: 2027-01-01"),
    "said to be enabled": entry("disabled: false  # for now", "name: a"),
    "quoted": entry("disabled: 'false'", "name: a"),
    "no indentation": entry().replace("  - ", "- ").replace("    ", "  "),
    "entry below its dash": entry().replace("- id", "-\n    id"),
    "flow": f"keys:\n  - {{hash: {'sha256:' + 'a' * 64}, id: {ID}}}\n",
    "JSON": f'{{"keys": [{{"id": "{ID}", "hash": "sha256:{"a" * 64}"}}]}}',
    "comment between": entry().replace("    hash", "    # its digest\n    hash"),
    "CRLF": entry().replace("\n", "\r\n"),
    "after others": f"keys:\n{PLAIN_ENTRY}{entry().removeprefix('keys:')[1:]}",
    "before others": entry() + PLAIN_ENTRY,
    "unusual letters before": "# \U0001f511\x85# two\u2028# three\n" + entry(),
}


@pytest.mark.parametrize("text", REVOCABLE.values(), ids=list(REVOCABLE))
def test_a_revoked_key_is_all_that_changes(text: str) -> None:
    """The key is disabled; everything else reads and looks as before."""
    after = with_disabled(text.encode(), ID, "keys.yaml")
    for old, new in zip(read_keys(text.encode(), ""), read_keys(after, ""), strict=True):
        assert new.disabled == (old.key_id == ID)
        assert (new.digest, new.name, new.expires_at) == (old.digest, old.name, old.expires_at)
    assert after.decode().count("#") == text.count("#")
    assert with_disabled(after, ID, "keys.yaml") == after


def test_an_entry_that_cannot_be_changed_is_named() -> None:
    """Explicit keys of YAML are beyond us; the user is told where to write what."""
    text = entry().replace("- id: ", "- ? id\n    : ").replace("hash: ", "? hash\n    : ")
    assert read_keys(text.encode(), "")
    with pytest.raises(UnusualFileError, match=r"write `disabled: true` into the entry at keys\.yaml:2:5 yourself"):
        with_disabled(text.encode(), ID, "keys.yaml")


def test_a_key_that_is_not_there_cannot_be_revoked() -> None:
    """A misspelt id is an error, not a change of nothing."""
    with pytest.raises(LookupError):
        with_disabled(entry().encode(), ID[::-1], "keys.yaml")


def test_a_new_file_is_its_owners_alone(tmp_path: Path) -> None:
    """Whatever the umask, nobody else can read or write a file that we make."""
    before = os.umask(0)
    try:
        change(tmp_path / "keys.yaml", lambda text: with_entry(text, made(), ""), create=True)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "keys.yaml").stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["keys.yaml"]


def test_mode_and_symbolic_link_of_a_file_stay(tmp_path: Path) -> None:
    """A file that the gateway could read it still can, under the name it knows."""
    real, link = tmp_path / "real.yaml", tmp_path / "keys.yaml"
    real.write_text(entry())
    real.chmod(0o644)
    link.symlink_to(real)
    change(link, lambda text: with_entry(text, made(), ""))
    assert link.is_symlink()
    assert stat.S_IMODE(real.stat().st_mode) == 0o644
    assert len(read_keys(real.read_bytes(), "")) == 2


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_the_owner_of_a_file_stays(tmp_path: Path) -> None:
    """A key made by root does not take the file from the user the gateway runs as."""
    path = tmp_path / "keys.yaml"
    path.write_text(entry())
    os.chown(path, 12345, 54321)
    change(path, lambda text: with_entry(text, made(), ""))
    assert (path.stat().st_uid, path.stat().st_gid) == (12345, 54321)


def test_a_failed_change_leaves_the_file_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk or a wrong entry costs no key and leaves no temporary file."""
    path = tmp_path / "keys.yaml"
    path.write_text(entry())

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        change(path, lambda text: with_entry(text, made(), ""))
    assert path.read_text() == entry()
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_that_is_not_there_is_made_only_for_new_keys(tmp_path: Path) -> None:
    """A misspelt file name does not become a file when a key is revoked."""
    with pytest.raises(FileNotFoundError):
        change(tmp_path / "kees.yaml", lambda text: text + b"x")
    assert list(tmp_path.iterdir()) == []


def test_changes_at_one_time_wait_for_each_other(tmp_path: Path) -> None:
    """Keys made in parallel are all in the file."""
    path = tmp_path / "keys.yaml"
    together = threading.Barrier(8)

    def add() -> None:
        together.wait()
        change(path, lambda text: with_entry(text, made(), ""), create=True)

    threads = [threading.Thread(target=add) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(read_keys(path.read_bytes(), "")) == 8
