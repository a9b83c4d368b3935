"""Keys: which are recognised, as whom, and until when."""

import hashlib
import hmac
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from auth.key_files import (
    HASH,
    ID,
    KEY,
    NOON,
    PLAIN,
    PLAIN_ENTRY,
    SECRET,
    Clock,
    authenticator,
    entry,
    presented,
    refusal,
)
from inferbridge.auth import key_form
from inferbridge.auth.authenticator import Unauthenticated
from inferbridge.auth.files import LOOK_SECONDS
from inferbridge.auth.identity import Grant, Identity, Presented
from inferbridge.auth.keys import KeysAuthenticator

RELOAD_SECONDS = 2.0
"""What operators are promised."""


def test_a_key_says_who_its_holder_is(tmp_path: Path) -> None:
    """Name, groups, id, end and limits of the entry are those of the identity."""
    asked = authenticator(
        tmp_path,
        entry(
            "name: search",
            "groups: [team-a, team-b]",
            "models: ['llama-*']",
            "operations: [generate, chat]",
            "endpoints: [openai/*]",
            "max_tokens: 100",
            "max_body: 1MiB",
            "not_after: 2027-01-15T08:00:01Z",
        ),
    )
    assert asked.authenticate(presented(KEY)) == Identity(
        "search",
        ("team-a", "team-b"),
        "keys",
        ID,
        expires_at=NOON + 1,
        grant=Grant(("llama-*",), ("generate", "chat"), ("openai/*",), 100, 1 << 20),
    )


def test_a_key_without_a_name_is_its_id(tmp_path: Path) -> None:
    """The least entry gives its id as subject, and no limits."""
    assert authenticator(tmp_path, entry()).authenticate(presented(KEY)) == Identity(ID, method="keys", key_id=ID)


def test_a_plain_key_is_recognised_by_its_digest(tmp_path: Path) -> None:
    """A key of another system gets in with the SHA-256 of all of it."""
    found = authenticator(tmp_path, f"keys:\n{PLAIN_ENTRY}").authenticate(presented(PLAIN))
    assert found == Identity("batch", method="keys", key_id="batch")


@pytest.mark.parametrize(
    "token", [None, "eyJhbGciOiJSUzI1NiJ9.e30.x", "sk-somebody-elses", "IB-x", " " + KEY, "x" + KEY]
)
def test_what_is_no_key_is_left_to_others(tmp_path: Path, token: str | None) -> None:
    """No token, and a token without our prefix or digest, are not claimed."""
    asked = authenticator(tmp_path, entry() + PLAIN_ENTRY)
    assert asked.authenticate(Presented() if token is None else presented(token)) is None


@pytest.mark.parametrize(
    "token",
    [
        "ib-",
        "ib-_",
        f"ib-{ID}",
        f"ib-{ID}_",
        f"ib-_{SECRET}",
        f"ib-{ID}{SECRET}",
        f"ib-{ID}\0{SECRET}",
        f"ib-{ID}_{SECRET}0",
        f"ib-{ID}_{SECRET[:-1]}",
        f"ib-{ID}__{SECRET[1:]}",
        f"{KEY}\n",
        f"{KEY} ",
        f"ib-{KEY}",
        f"ib-{ID}_{SECRET[:-1]}\u0667",
        f"ib-{ID}_{SECRET[:-1]}\udcff",
    ],
)
def test_our_prefix_with_anything_but_a_key_is_refused(tmp_path: Path, token: str) -> None:
    """Whatever begins like a key and has not its exact form is malformed, and no other authenticator sees it."""
    refused = refusal(authenticator(tmp_path, entry()), token)
    assert refused is not None
    assert refused.reason == "malformed"


def test_the_parts_of_a_key_cannot_be_moved(tmp_path: Path) -> None:
    """A digest of the same letters with the border elsewhere is that of another key."""
    asked = authenticator(tmp_path, entry(digest=key_form.show_digest(key_form.digest_of(ID + SECRET[0], SECRET[1:]))))
    assert getattr(refusal(asked, KEY), "reason", None) == "unknown"


def test_wrong_secret_and_unknown_id_are_one_answer(tmp_path: Path) -> None:
    """Neither the client nor the log can tell which half of a key was wrong, and nothing of it is repeated."""
    asked = authenticator(tmp_path, entry())
    wrong, unknown = (refusal(asked, key) for key in (f"ib-{ID}_{SECRET[::-1]}", f"ib-{ID[::-1]}_{SECRET}"))
    assert wrong is not None
    assert unknown is not None
    assert (wrong.reason, wrong.detail, str(wrong)) == (unknown.reason, unknown.detail, str(unknown))
    assert wrong.reason == "unknown"
    assert not any(part in f"{wrong} {wrong.detail}" for part in (ID, ID[::-1], SECRET, SECRET[::-1]))


@pytest.mark.parametrize("key", [KEY, f"ib-{ID}_{SECRET[::-1]}", f"ib-{ID[::-1]}_{SECRET}"])
def test_every_key_takes_the_same_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    """Good, wrong or unknown: one SHA-256 and one comparison of whole digests that does not stop early."""
    steps: list[str] = []
    digest, compare = key_form.digest_of, hmac.compare_digest

    def digest_of(key_id: str, secret: str) -> bytes:
        steps.append("digest")
        return digest(key_id, secret)

    def compare_digest(one: bytes, other: bytes) -> bool:
        steps.append(f"compare {len(one)} {len(other)}")
        return compare(one, other)

    asked = authenticator(tmp_path, entry())
    monkeypatch.setattr(key_form, "digest_of", digest_of)
    monkeypatch.setattr(hmac, "compare_digest", compare_digest)
    assert (refusal(asked, key) is None) == (key == KEY)
    assert steps == ["digest", "compare 32 32"]


@pytest.mark.parametrize("state", ["disabled: true", "not_after: 2020-01-01"])
def test_the_state_of_a_key_is_its_holders_to_know(tmp_path: Path, state: str) -> None:
    """A wrong secret for a disabled or expired key is unknown, as for any other."""
    assert (
        getattr(refusal(authenticator(tmp_path, entry(state)), f"ib-{ID}_{SECRET[::-1]}"), "reason", None) == "unknown"
    )


@pytest.mark.parametrize(
    "text", [entry("disabled: true"), f"keys:\n{PLAIN_ENTRY.replace('form', 'disabled: true, form')}"]
)
def test_a_disabled_key_is_refused(tmp_path: Path, text: str) -> None:
    """Disabled keys of both forms are claimed and refused; the log names the key by its id."""
    refused = refusal(authenticator(tmp_path, text), KEY if ID in text else PLAIN)
    assert refused is not None
    assert (refused.reason, refused.detail) == ("disabled", f"key {ID if ID in text else 'batch'}")


def test_a_key_ends_at_its_second(tmp_path: Path) -> None:
    """A key is good until the moment of its entry and refused from then on, remembered or not."""
    clock = Clock(NOON - 0.001)
    asked = authenticator(tmp_path, entry("not_after: 2027-01-15T08:00:00Z"), clock)
    shown = presented(KEY)
    assert asked.authenticate(shown) is not None
    clock.seconds = NOON
    for again in (shown, presented(KEY)):
        with pytest.raises(Unauthenticated) as caught:
            asked.authenticate(again)
        assert caught.value.reason == "expired"


def test_the_same_key_is_the_same_identity(tmp_path: Path) -> None:
    """Calls of one key share one identity object, also after the file has changed in another entry."""
    clock = Clock()
    asked = authenticator(tmp_path, entry("name: a"), clock)
    first = asked.authenticate(presented(KEY))
    assert asked.authenticate(presented(KEY)) is first
    (tmp_path / "keys.yaml").write_text(entry("name: a") + PLAIN_ENTRY)
    clock.seconds += RELOAD_SECONDS
    assert asked.authenticate(presented(PLAIN)) is not None
    assert asked.authenticate(presented(KEY)) is first


@pytest.mark.parametrize(
    ("after", "reason"), [("keys: []\n", "unknown"), (entry("disabled: true"), "disabled"), (entry("name: b"), None)]
)
def test_a_changed_file_counts_within_two_seconds(tmp_path: Path, after: str, reason: str | None) -> None:
    """A key that is taken out, disabled or renamed is so for connections that used it before, too."""
    clock = Clock()
    asked = authenticator(tmp_path, entry("name: a"), clock)
    shown = presented(KEY)
    assert asked.authenticate(shown) is not None
    (tmp_path / "keys.yaml").write_text(after)
    clock.seconds += RELOAD_SECONDS
    if reason is None:
        found = asked.authenticate(shown)
        assert found is not None
        assert found.subject == "b"
    else:
        with pytest.raises(Unauthenticated) as caught:
            asked.authenticate(shown)
        assert caught.value.reason == reason


def test_a_new_key_counts_when_the_file_is_looked_at(tmp_path: Path) -> None:
    """A key that was refused gets in after the file has it, and the file is not looked at for every call."""
    clock = Clock()
    asked = authenticator(tmp_path, "keys: []\n", clock)
    assert getattr(refusal(asked, KEY), "reason", None) == "unknown"
    (tmp_path / "keys.yaml").write_text(entry())
    clock.seconds += LOOK_SECONDS / 2
    assert getattr(refusal(asked, KEY), "reason", None) == "unknown"
    clock.seconds += LOOK_SECONDS
    assert refusal(asked, KEY) is None


@pytest.mark.parametrize("broken", ["keys: [", "keys:\n  - {id: x}\n", "", None])
def test_a_broken_file_keeps_the_old_keys(tmp_path: Path, broken: str | None, caplog: pytest.LogCaptureFixture) -> None:
    """A file that becomes unreadable changes nothing, and is an error in the log once, not once a second."""
    clock = Clock()
    asked = authenticator(tmp_path, entry(), clock)
    first = asked.authenticate(presented(KEY))
    path = tmp_path / "keys.yaml"
    path.unlink() if broken is None else path.write_text(broken)
    for _ in range(3):
        clock.seconds += RELOAD_SECONDS
        assert asked.authenticate(presented(KEY)) is first
    errors = [record for record in caplog.records if record.levelname == "ERROR"]
    assert len(errors) == 1
    assert str(path) in errors[0].getMessage()
    path.write_text(entry("name: mended"))
    clock.seconds += RELOAD_SECONDS
    mended = asked.authenticate(presented(KEY))
    assert mended is not None
    assert mended.subject == "mended"


def test_a_file_that_cannot_be_opened_for_a_while_is_read_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No descriptor left in the moment of a reload only delays it: a revoked key does not stay good for ever."""
    clock = Clock()
    asked = authenticator(tmp_path, entry(), clock)
    (tmp_path / "keys.yaml").write_text("keys: []\n")

    def refuse(path: Path) -> bytes:
        raise OSError(24, "Too many open files", str(path))

    with monkeypatch.context() as patched:
        patched.setattr(Path, "read_bytes", refuse)
        clock.seconds += RELOAD_SECONDS
        assert refusal(asked, KEY) is None
    clock.seconds += RELOAD_SECONDS
    assert getattr(refusal(asked, KEY), "reason", None) == "unknown"


@pytest.mark.parametrize("text", ["keys: [", "{}", "keys:\n  - {id: x}\n"])
def test_it_does_not_start_with_a_broken_file(tmp_path: Path, text: str) -> None:
    """The first reading must succeed, or the authenticator cannot be made; the error names the place."""
    with pytest.raises(ValueError, match=r"keys\.yaml:\d+:\d+: "):
        authenticator(tmp_path, text)


def test_posture_says_what_an_operator_should_know(tmp_path: Path) -> None:
    """How many keys are good, how many never end, and that others may write the file."""
    asked = authenticator(tmp_path, entry("disabled: true") + PLAIN_ENTRY)
    path = tmp_path / "keys.yaml"
    path.chmod(0o640)
    assert asked.posture() == (f"keys: 1 of 2 keys in {path} are good", "keys: 1 of them never expire")
    path.chmod(0o660)
    assert f"{path} can be written by others (mode 0660)" in asked.posture()[-1]


def test_two_files_in_one_chain_do_not_mix_up(tmp_path: Path) -> None:
    """What one authenticator remembers of a head is not taken for its own by another with a different file."""
    (tmp_path / "other").mkdir()
    one, other = authenticator(tmp_path, entry("name: one")), authenticator(tmp_path / "other", entry("name: other"))
    shown = presented(KEY)
    found = [asked.authenticate(shown) for asked in (one, other, one)]
    assert [identity.subject for identity in found if identity] == ["one", "other", "one"]


MADE = [key_form.new_key() for _ in range(3)]
FILE = "keys:\n" + "".join(
    f"- {{id: {key_id}, hash: {key_form.show_digest(key_form.digest_of(key_id, secret))}}}\n" for key_id, secret in MADE
)
KEYS = [key_form.written(*made) for made in MADE]


@st.composite
def near_keys(draw: st.DrawFn) -> str:
    """Tokens close to a good key: letters changed, taken out, put in, halves swapped with another key's."""
    letters = list(draw(st.sampled_from(KEYS)))
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(letters) - 1))
        letters[at : at + draw(st.integers(0, 2))] = draw(st.text(st.characters(codec="utf-8"), max_size=2))
    return "".join(letters)


def any_secret() -> st.SearchStrategy[str]:
    """Well-formed keys of ids that exist and ids that do not."""
    ids = st.one_of(st.sampled_from([key_id for key_id, _ in MADE]), st.from_regex(r"[0-9A-Za-z]{17}", fullmatch=True))
    secrets = st.one_of(
        st.sampled_from([secret for _, secret in MADE]), st.from_regex(r"[0-9A-Za-z]{43}", fullmatch=True)
    )
    return st.builds(key_form.written, ids, secrets)


@pytest.fixture(scope="module")
def of_all(tmp_path_factory: pytest.TempPathFactory) -> KeysAuthenticator:
    """An authenticator of the keys that were made."""
    return authenticator(tmp_path_factory.mktemp("keys"), FILE)


@pytest.mark.parametrize("key", KEYS, ids=range(len(KEYS)))
def test_every_key_that_was_made_gets_in(of_all: KeysAuthenticator, key: str) -> None:
    """The keys of the property below are good ones."""
    assert refusal(of_all, key) is None


@settings(max_examples=500, deadline=None)
@given(token=st.one_of(near_keys(), any_secret(), st.text(max_size=80), st.text(max_size=80).map("ib-".__add__)))
def test_no_token_but_a_key_gets_in(of_all: KeysAuthenticator, token: str) -> None:
    """Exactly the keys that were made are recognised, whatever else is shown."""
    try:
        found = of_all.authenticate(presented(token))
    except Unauthenticated:
        found = None
    assert (found is not None) == (token in KEYS)


def test_keys_are_made_of_all_their_bits() -> None:
    """Keys have one width, differ, and their ids and secrets read back as 96 and 256 bits."""
    digits = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

    def number(text: str) -> int:
        return sum(digits.index(digit) * 62**place for place, digit in enumerate(reversed(text)))

    made = [key_form.new_key() for _ in range(200)]
    assert len(set(made)) == len({key_id for key_id, _ in made}) == 200
    assert {len(key_form.written(*one)) for one in made} == {64}
    assert 90 < max(number(key_id).bit_length() for key_id, _ in made) <= 96
    assert 250 < max(number(secret).bit_length() for _, secret in made) <= 256
    assert all(key_form.split(key_form.written(*one)) == one for one in made)


def test_the_stored_digest_is_the_documented_one() -> None:
    """Others can compute what the file holds: SHA-256 of id, NUL and secret, in hexadecimal."""
    assert hashlib.sha256(f"{ID}\0{SECRET}".encode()).hexdigest() == HASH.removeprefix("sha256:")
