"""What an identity may call, by rules and by what its credential is limited to."""

import pytest

from inferbridge.auth.identity import Grant, Identity
from inferbridge.auth.rules import EVERYTHING, Asked, Authorizer, Forbidden, Permit
from inferbridge.auth.settings import Rates, Rule

ALICE = Identity("alice", groups=("team-a", "everybody"), method="jwt")
BOB = Identity("bob", groups=("team-b",), method="keys", key_id="k1")
CHAT = ("openai", "chat_completions", "generate")
EMBED = ("openai", "embeddings", "embed")


def asked(model: str = "llama-8b", tokens: int | None = 5, size: int = 10) -> Asked:
    """A text that is asked for."""
    return Asked(model, tokens, counts_tokens=True, size=size)


def test_without_rules_whoever_is_recognised_may_call_everything() -> None:
    """No rules, no limits, and nothing of the body is read."""
    assert Authorizer().permit(ALICE, *CHAT) is EVERYTHING
    assert not EVERYTHING.inspects


def test_with_rules_what_none_allows_is_forbidden() -> None:
    """Default deny: a call that no rule is for is refused by its endpoint alone."""
    authorizer = Authorizer((Rule(groups=("team-a",), allow=Grant(operations=("generate",))),))
    assert not authorizer.permit(ALICE, *CHAT).inspects
    for identity, call in ((ALICE, EMBED), (BOB, CHAT)):
        with pytest.raises(Forbidden, match="is not allowed for this caller") as failure:
            authorizer.permit(identity, *call)
        assert ("www-authenticate", 'Bearer error="insufficient_scope"') in failure.value.headers


@pytest.mark.parametrize(
    ("rule", "for_alice", "for_bob"),
    [
        (Rule(subjects=("al*",)), True, False),
        (Rule(groups=("team-*",)), True, True),
        (Rule(groups=("everybody",), subjects=("b*",)), False, False),
        (Rule(keys=("k1",)), False, True),
        (Rule(methods=("jwt",)), True, False),
        (Rule(), True, True),
    ],
)
def test_a_rule_is_for_whom_all_its_words_fit(rule: Rule, for_alice: bool, for_bob: bool) -> None:
    """Subjects, groups, keys and methods must each fit, those that are named."""
    for identity, expected in ((ALICE, for_alice), (BOB, for_bob)):
        if expected:
            Authorizer((rule,)).permit(identity, *CHAT)
        else:
            with pytest.raises(Forbidden):
                Authorizer((rule,)).permit(identity, *CHAT)


@pytest.mark.parametrize(
    ("grant", "asking", "refusal"),
    [
        (Grant(models=("llama-*",)), asked(), ""),
        (Grant(models=("llama-*",)), asked("gpt"), "the model 'gpt' is not allowed"),
        (Grant(models=("llama-*",)), asked(""), "the call names no model"),
        (Grant(models=("llama-*",)), Asked(None), ""),
        (Grant(max_tokens=5), asked(), ""),
        (Grant(max_tokens=4), asked(), "5 tokens are not allowed"),
        (Grant(max_tokens=4), asked(tokens=None), "max_tokens must be given"),
        (Grant(max_tokens=4), Asked("m"), ""),
        (Grant(max_body=9), asked(), "a body of 10 bytes is not allowed"),
    ],
)
def test_the_body_is_checked_as_parsed(grant: Grant, asking: Asked, refusal: str) -> None:
    """Models, tokens and size are limited where they are named; an operation without models or tokens is not."""
    permit = Authorizer((Rule(allow=grant),)).permit(ALICE, *CHAT)
    assert permit.inspects
    if refusal:
        with pytest.raises(Forbidden, match=refusal):
            permit.check(asking)
    else:
        permit.check(asking)


def test_one_fitting_rule_is_enough_but_a_key_cannot_exceed_its_own_limits() -> None:
    """Rules add up; what a credential itself is limited to holds besides."""
    rules = (Rule(allow=Grant(models=("a*",))), Rule(allow=Grant(models=("b*",))))
    permit = Authorizer(rules).permit(ALICE, *CHAT)
    permit.check(asked("b1"))
    limited = Identity("carol", grant=Grant(models=("a1", "b1"), operations=("generate",)))
    permit = Authorizer(rules).permit(limited, *CHAT)
    permit.check(asked("b1"))
    with pytest.raises(Forbidden):
        permit.check(asked("b2"))
    with pytest.raises(Forbidden):
        Authorizer().permit(limited, *EMBED)


def test_endpoints_are_named_by_api_with_globs() -> None:
    """`caikit/*` is every endpoint of an API, and no other API's."""
    authorizer = Authorizer((Rule(allow=Grant(endpoints=("openai/chat_*", "caikit/*"))),))
    authorizer.permit(ALICE, *CHAT)
    authorizer.permit(ALICE, "caikit", "rerank", "rerank")
    with pytest.raises(Forbidden):
        authorizer.permit(ALICE, *EMBED)


def test_lists_show_the_models_that_may_be_called() -> None:
    """A model that no grant fits is hidden."""
    permit = Permit(((Grant(models=("a*",)), Grant(models=("b",))),))
    assert [model for model in ("a1", "b", "b2", "c") if permit.sees(model)] == ["a1", "b"]
    assert EVERYTHING.sees("anything")


def test_the_rates_are_those_of_the_first_rule_that_covers_the_call() -> None:
    """Of several rules the order decides."""
    rates = Rates(requests_per_minute=1)
    rules = (Rule(allow=Grant(operations=("embed",))), Rule(rates=rates), Rule(rates=Rates(concurrent_calls=1)))
    assert Authorizer(rules).permit(ALICE, *CHAT).rates is rates
    assert Authorizer(rules).permit(ALICE, *EMBED).rates is None


def test_the_largest_body_that_any_grant_allows_is_known_beforehand() -> None:
    """So that more need not be read: each layer's largest, the smaller of both layers."""
    own, rules = (Grant(max_body=50),), (Grant(max_body=10), Grant(max_body=70))
    assert Permit((own, rules)).body_limit == 50
    assert Permit((rules, (Grant(),))).body_limit == 70
    assert Permit(((Grant(), Grant(max_body=1)),)).body_limit is None
