"""The file of keys: what it may say, and how its problems are told."""

import json
import re
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from auth.key_files import HASH, ID, KEY, PLAIN, PLAIN_ENTRY, PLAIN_HASH, SECRET, entry
from documents import blocks, section
from inferbridge.auth import key_form
from inferbridge.auth.identity import Grant
from inferbridge.auth.key_edit import entry_text
from inferbridge.auth.key_file import (
    KeyEntry,
    KeyFileError,
    parse_expiry,
    read_keys,
    show_expiry,
    writable_by_others,
)


def problems(text: str) -> list[str]:
    """What is said of a file with this text."""
    with pytest.raises(KeyFileError) as caught:
        read_keys(text.encode(), "keys.yaml")
    return str(caught.value).splitlines()


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "1:1: a file of keys needs the key 'keys'"),
        ("kees: []", "1:1: a file of keys has no key 'kees'; did you mean 'keys'?"),
        ("keys:\n", "1:6: keys must be a list"),
        ("keys: [1]", "1:8: a key must be a map"),
        (entry("grops: [a]"), "4:5: a key has no key 'grops'; did you mean 'groups'?"),
        (entry("disabled: yes"), "4:15: keys.disabled must be true or false"),
        (entry("max_tokens: 0"), "4:17: keys.max_tokens must be a whole number from 1 to 2147483648"),
        (entry("max_body: 3 parsecs"), "4:15: keys.max_body must be like 4MiB"),
        (entry("not_after: soon"), "4:16: keys.not_after must be a date such as 2027-02-24"),
        (entry("form: sk"), "4:11: keys.form must be one of ib, plain"),
        (entry('name: ""'), "4:11: keys.name must not be empty"),
        (entry("name: a\n    name: b"), "5:5: key 'name' is already defined at line 4"),
        (entry("groups: *x"), "4:13: an alias (*…) is not allowed"),
        (entry(key_id="me"), "2:5: keys.id must be one that `inferbridge keys new` has made"),
        (entry("form: plain", key_id="_x"), "2:5: keys.id must begin with a letter or digit"),
        (entry(digest="md5:00"), "3:11: keys.hash must be sha256: and 64 hexadecimal digits"),
        (entry(digest=HASH[:-1]), "3:11: keys.hash must be sha256: and 64 hexadecimal digits"),
        (f"keys:\n{PLAIN_ENTRY}{PLAIN_ENTRY}", "3:5: the id batch is already that of the key at line 2"),
        (
            f"keys:\n{PLAIN_ENTRY}{PLAIN_ENTRY.replace('batch', 'other')}",
            "3:5: the hash is already that of the key at line 2",
        ),
    ],
)
def test_a_problem_has_its_place(text: str, problem: str) -> None:
    """What is wrong is told with line and column, and what would be right."""
    told = problems(text)
    assert any(line.startswith(f"keys.yaml:{problem}") for line in told), told


def test_all_problems_are_told_together() -> None:
    """A file with three mistakes needs one attempt to find them."""
    assert len(problems(entry("disabled: maybe", "groups: []", "max_tokens: -1"))) == 3


@pytest.mark.parametrize("field", ["id", "hash"])
@pytest.mark.parametrize("key", [KEY, PLAIN])
def test_a_key_in_the_wrong_place_is_not_repeated(field: str, key: str) -> None:
    """Who pastes the key itself into the file does not find it in the log."""
    text = entry(**{"key_id" if field == "id" else "digest": key})
    told = "\n".join(problems(text))
    assert f"keys.{field}" in told
    assert SECRET not in told
    assert PLAIN not in told


def test_digests_may_be_in_capitals() -> None:
    """Tools that print digests in upper case are welcome."""
    digits = HASH.removeprefix("sha256:").upper()
    assert read_keys(entry(digest=f"sha256:{digits}").encode(), "")[0].digest.hex() == digits.lower()


@pytest.mark.parametrize(
    ("text", "ends"),
    [
        ("2027-02-24", datetime(2027, 2, 25, tzinfo=UTC)),
        ("2027-12-31", datetime(2028, 1, 1, tzinfo=UTC)),
        ("2027-02-24T18:00:00Z", datetime(2027, 2, 24, 18, tzinfo=UTC)),
        ("2027-02-24t18:00:00z", datetime(2027, 2, 24, 18, tzinfo=UTC)),
        ("2027-02-24 18:00:00+02:00", datetime(2027, 2, 24, 18, tzinfo=timezone(timedelta(hours=2)))),
        ("2027-02-24T18:00:00.25Z", datetime(2027, 2, 24, 18, 0, 0, 250_000, tzinfo=UTC)),
    ],
)
def test_an_end_is_a_day_or_a_time(text: str, ends: datetime) -> None:
    """A date lasts to the end of that day in UTC; a time is that of its zone."""
    assert parse_expiry(text) == ends.timestamp()


@pytest.mark.parametrize(
    "text",
    ["", "never", "20270224", "2027-2-4", "2027-02-30", "2027-02-24T18:00:00", "2027-02-24T25:00:00Z", "2027-W08-3",
     "9999-12-31", "0000-01-01", "2027-02-24Z", "2027-02-24T18:00:00+99:99", "٢٠٢٧-02-24", "1800000000"],
)  # fmt: skip
def test_what_is_no_end_is_refused(text: str) -> None:
    """Days that do not exist, times without a zone and other spellings are refused, never guessed."""
    with pytest.raises(ValueError, match=r"is no day|must be a date"):
        parse_expiry(text)


@pytest.mark.parametrize(
    ("mode", "warned"), [(0o600, False), (0o644, False), (0o440, False), (0o620, True), (0o602, True)]
)
def test_a_file_that_others_may_write_is_named(tmp_path: Path, mode: int, warned: bool) -> None:
    """Group or world may read digests; whoever may write can let himself in."""
    path = tmp_path / "keys.yaml"
    path.touch()
    path.chmod(mode)
    assert (f"mode {mode:04o}" in writable_by_others(path)) == warned


@pytest.mark.parametrize(
    "text", ["s3cret", "x" * 19, "has a space in the middle", "ünicode-is-no-header-value", KEY, "a\nb" * 10, ""]
)
def test_weak_or_unusable_plain_keys_are_refused(text: str) -> None:
    """Short keys can be guessed from their digest; others cannot be sent, or would be read as our own."""
    with pytest.raises(ValueError, match=r".") as caught:
        key_form.plain_digest(text)
    assert not text or text not in str(caught.value)


def names() -> st.SearchStrategy[str]:
    """Texts that a YAML file can say, with all that needs quotes."""
    letters = st.characters(codec="utf-8", exclude_categories=["Cc", "Cs", "Co", "Cn"], exclude_characters="\ufeff")
    return st.text(letters, min_size=1, max_size=12).filter(str.strip)


def entries() -> st.SearchStrategy[KeyEntry]:
    """Entries as the command makes them."""
    lists = st.lists(names(), max_size=2).map(tuple)
    grants = st.builds(Grant, lists, lists, lists, st.none() | st.integers(1, 1 << 31), st.none() | st.integers(1, 9))
    ends = st.none() | st.integers(0, 4_000_000_000).map(float)
    return st.builds(
        KeyEntry, st.just(ID), st.binary(min_size=32, max_size=32), st.just("ib"), st.just("") | names(), lists,
        grants.map(lambda grant: None if grant == Grant() else grant), ends, st.booleans(),
    )  # fmt: skip


@settings(max_examples=200, deadline=None)
@given(entry=entries())
def test_what_is_written_is_read(entry: KeyEntry) -> None:
    """Whatever names a key has, its entry reads back as it was."""
    assert read_keys(f"keys:\n{entry_text(entry)}".encode(), "") == (entry,)


def test_an_entry_can_be_json() -> None:
    """Whoever makes the file by a program writes JSON."""
    form = {"keys": [{"id": "batch", "form": "plain", "hash": PLAIN_HASH, "groups": ["a"]}]}
    assert read_keys(json.dumps(form).encode(), "")[0].groups == ("a",)


def test_ends_are_shown_as_they_are_written() -> None:
    """A time that is shown reads back as the same second."""
    assert parse_expiry(show_expiry(1_800_000_000)) == 1_800_000_000


def test_the_documented_file_is_one() -> None:
    """The example in docs/access.md reads, once its digests are written out."""
    (example,) = blocks(section("access.md", "Keys"), "yaml")
    whole = re.sub(r"sha256:([0-9a-f]{4})…", lambda found: f"sha256:{found[1] * 16}", example)
    own, plain = read_keys(whole.encode(), "access.md")
    assert (own.form, own.name, own.grant) == ("ib", "search", Grant(models=("llama-*",)))
    assert (plain.form, plain.key_id) == ("plain", "batch")
