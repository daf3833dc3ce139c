"""What can be added as policies; every problem is told with its line and its column."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from boltseal.broker.policy import text as bounds
from boltseal.broker.policy.check import problems, schema, schema_text
from support.broker_policy import ANYTHING, unwrap, verdict

# the condition starts in line 5, column 8
BEFORE = (
    '// a policy\n@id("a")\npermit(principal, action == Boltseal::Action::"unwrap",\n'
    "  resource)\nwhen { "
)


@pytest.mark.parametrize(
    ("after", "line", "column", "message"),
    [
        ("context.hour ==", 5, 23, "unexpected end of input"),
        ("context.hour === 3 };", 5, 23, "unexpected token `=`"),
        ("if true then false };", 5, 28, "unexpected token `}`"),
        ("true &&\n  foo == 3 };", 6, 3, "invalid variable: foo"),
        ("true && principal.open(3) };", 5, 26, "`open` is not a valid method"),
        ("99999999999999999999 == 3 };", 5, 8, "number too large"),
        ('"\\q" == "a" };', 5, 9, "not a valid escape"),
        ('true && "abc };', 5, 16, "a quoted text does not end"),
        ("true && # };", 5, 16, "this is no part of a policy"),
        ("true \u202e };", 5, 13, "the character U+202E is not shown"),
        ('true && context.hour == "x" };', 5, 16, "Long and String are not compatible"),
        ('true &&\n context.hour + "x" == 3 };', 6, 2, "expected Long but saw String"),
        ('true && context.now < datetime("soon") };', 5, 39, "failed to parse as a datetime"),
        ('true && context.image.name == "x" };', 5, 24, "optional attribute `image.name`"),
        ('principal.hasTag("a") || principal.getTag("a") == "x" };', 5, 50, 'tag `"a"`'),
        ("resource.colour };", 5, 17, "attribute `colour` on entity type Key not found"),
        ("context has adress };", 5, 8, "context never has adress"),
        ("true && principal has env };", 5, 16, "asked for by hasTag"),
        ('resource in Boltseal::Vault::"x" };', 5, 20, "unrecognized entity type `Vault`"),
        ('resource == Boltseal::Key::"other/b/c" };', 5, 20, "not of the tenant default"),
        ('resource == Boltseal::Key::"prod-eu" };', 5, 20, "has to be TENANT/PROJECT/NAME"),
        ('resource in Boltseal::Project::"default" };', 5, 20, "has to be TENANT/PROJECT"),
    ],
)
def test_problems_have_a_place(after: str, line: int, column: int, message: str) -> None:
    """In the text as its author sees it, and by the name that he gave to the policy."""
    (found, *others) = problems(BEFORE + after, "default")
    assert (found.line, found.column) == (line, column), str(found)
    assert message in found.message
    assert str(found).startswith(f"line {line}, column {column}: ")
    assert others == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "there is no policy"),
        ("// nothing but this", "there is no policy"),
        ("permit(principal, action, resource);", '@id("...") is missing'),
        ('@id("") permit(principal, action, resource);', '@id("...") is missing'),
        ('@id("a\\nb") permit(principal, action, resource);', "an @id is 1 to 128 of letters"),
        (f'@id("{"a" * 129}") permit(principal, action, resource);', "an @id is 1 to 128"),
        (ANYTHING + ANYTHING, "another policy has this @id already"),
        ('@id("a") @id("b") permit(principal, action, resource);', "duplicate annotation"),
        (ANYTHING.replace(")", f') @advice("{"a" * 501}")', 1), "its @advice has over 500"),
        ('@id("a") permit(principal == ?principal, action, resource);', "a template"),
        ('@id("a") permit(principal, action);', "`resource`"),
        ('@id("a") allow(principal, action, resource);', "invalid policy effect: allow"),
        ('@id("a") permit(principal, action == Boltseal::Action::"export", resource);',
         'unrecognized action `Action::"export"`'),
        ('@id("a") permit(principal is Boltseal::Robot, action, resource);',
         "unrecognized entity type `Robot`"),
        ('@id("a") permit(principal is Boltseal::Host, action, resource is Boltseal::Project);',
         "unable to find an applicable action"),
        ('@id("a") permit(principal, action, resource) advice { "x" };', "condition: advice"),
    ],
)  # fmt: skip
def test_what_is_no_policy(text: str, message: str) -> None:
    """Each is refused, and says why."""
    assert message in " ".join(map(str, problems(text, "default")))


def test_all_problems_are_told_in_their_order() -> None:
    """Not only the first."""
    text = (
        '@id("a") permit(principal, action, resource) when { resource.colour };\n'
        '@id("b") permit(principal, action, resource) when { context has adress };\n'
        "permit(principal, action, resource);"
    )
    found = problems(text, "default")
    assert sorted({one.line for one in found}) == [1, 2, 3]
    assert [one.line for one in found] == sorted(one.line for one in found)
    assert {one.policy for one in found} == {"a", "b", "3"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("//" + "x" * bounds.MAX_TEXT, f"over the limit of {bounds.MAX_TEXT} bytes"),
        ("(" * 100_000, "over the limit"),
        (unwrap("(" * 17 + "true" + ")" * 17), "nested more than 16 deep"),
        (unwrap("(" * 20_000), "nested more than 16 deep"),
        (unwrap("[" * 20_000), "nested more than 16 deep"),
        (unwrap("{a:" * 5000), "nested more than 16 deep"),
        (unwrap("if true then true else " * 2000 + "true"), "nested more than 16 deep"),
        (unwrap(" && ".join(["true"] * 5000)), "over 200 operators"),
        (unwrap(" + ".join(["1"] * 5000) + " == 1"), "over 200 operators"),
        (unwrap("context" + ".image" * 5000 + " == 1"), "over 200 operators"),
        (unwrap("!" * 30_000 + "true"), "over 200 operators"),
        (ANYTHING.replace(";", " when { true }" * 3000 + ";"), "over 32 conditions"),
        ("".join(ANYTHING.replace("anything", str(n)) for n in range(300)), "over 256 policies"),
        (";" * 60_000, "over 256 policies"),
    ],
)
def test_huge_and_deep_policies_are_refused(text: str, message: str) -> None:
    """Before Cedar sees them; and a database that has them all the same allows nothing by them."""
    (found,) = problems(text, "default")
    assert message in found.message
    assert (found.line, found.column) >= (1, 1)
    assert not verdict(text).allowed


def test_what_is_within_the_bounds_needs_little_stack() -> None:
    """Cedar recurses: at the bounds it has to get by with much less than a thread has."""
    code = """
import threading
from boltseal.broker.policy.check import problems
from support.broker_policy import unwrap, verdict
texts = [
    unwrap("(" * 15 + "true" + ")" * 15),  # and the braces around it
    unwrap("[" * 15 + "1" + "]" * 15 + " == [1]"),
    unwrap("if true then true else " * 15 + "true"),
    unwrap("context.hour >= 0" + " && context.hour >= 0" * 99),
    unwrap("context.hour >= 0" + " || context.hour < 0" * 99),
]
def run():
    for text in texts:
        problems(text, "default")
        print(verdict(text).allowed)
threading.stack_size(1024 * 1024)
thread = threading.Thread(target=run)
thread.start()
thread.join()
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={"PYTHONPATH": "tests"}
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["True", "False", "True", "True", "True"]


def test_every_operator_can_be_explained() -> None:
    """No condition of a policy that can be added makes a refusal's explanation fail."""
    conditions = [
        'principal like "x"', "!(context.hour == 8)", "-context.hour == 3 - 2 * context.minute",
        'if context.hour == 3 then true else context.minute > 4', "context.hour != 8",
        'principal.id like "a\\*b*"', 'principal in [Boltseal::Cluster::"x"]',
        'principal is Boltseal::Person in Boltseal::Cluster::"x"', "[1, 2].containsAll([3])",
        '{"a": 1, "b c": [1]}["b c"].isEmpty()', '[1].containsAny([context.hour])',
        'context.now.toDate() == datetime("2020-01-01")', 'context has image.name && false',
        'context.now.offset(duration("1h")) < datetime("2020-01-01")',
        'context.now.durationSince(datetime("2020-01-01")).toHours() < 3',
        'context.now.toTime() > duration("23h")', 'ip("::1").isIpv4()', 'ip("::2").isLoopback()',
        'decimal("1.0").greaterThan(decimal("2.0"))', 'principal == Boltseal::Host::"x\\"y"',
        'context.claims.hasTag("x") && context.claims.getTag("x").values.contains("y")',
        'context.asserted.hasTag("x")', 'resource.hasTag("class")', "resource.published",
        '["a"].contains(principal.id)', "false", "context.hour >= 3 && context.hour <= 4",
        'principal.hasTag("a") && ["x", "y"].contains(principal.getTag("a"))',
        '(principal.hasTag("a") || principal.hasTag("b")) && context.hour == 3',
    ]  # fmt: skip
    for condition in conditions[1:]:
        text = unwrap(condition)
        assert problems(text, "default") == (), condition
        found = verdict(text)
        assert (found.allowed, found.errors) == (False, ()), condition
        assert found.missing, condition
        assert not any("something" in one or "cannot be told" in one for one in found.missing)
        unless = verdict(text.replace("when", "unless").replace(condition, f"!({condition})"))
        assert any("that this does not hold: " in one for one in unless.missing), condition
    assert problems(unwrap(conditions[0]), "default")


def test_an_explanation_stays_short() -> None:
    """However many policies there are, and however long."""
    many = "".join(
        unwrap(" && ".join([f'principal.hasTag("{n}{"x" * 40}")'] * 20), f"p{n}") for n in range(40)
    )
    assert problems(many, "default") == ()
    found = verdict(many)
    assert len(found.explanation) <= 2000
    assert len({one.split(" needs ")[0] for one in found.missing}) == 5


def test_the_schema_is_one() -> None:
    """What is shipped parses, and is what people are shown."""
    assert "Boltseal" in str(schema())
    assert 'action "unwrap"' in schema_text()


WORDS = [
    'permit', 'forbid', '(', ')', '{', '}', '[', ']', ',', ';', '@id', '("a")', '==', '&&', '||',
    '!', '.', 'when', 'unless', 'principal', 'action', 'resource', 'context',
    'Boltseal::Host::"x"', 'hasTag', 'getTag', '"env"', '1', '-', '+', '*', 'if', 'then', 'else',
    'in', 'like', 'is', 'has', '?', '%',
]  # fmt: skip


@settings(max_examples=100, deadline=None)
@given(
    st.one_of(
        st.text(max_size=60),
        st.lists(
            st.sampled_from(WORDS),
            max_size=40,
        ).map(" ".join),
        st.lists(st.sampled_from(["principal", "action", "resource", "context.hour", '"x"', "1",
                                  "==", "&&", "||", ".", "(", ")", "has", "hour", "in"]),
                 max_size=14).map(lambda parts: unwrap(" ".join(parts))),
    )
)  # fmt: skip
def test_any_text_is_answered(text: str) -> None:
    """With problems that have a place, or with a verdict; never with anything else."""
    found = problems(text, "default")
    lines = text.split("\n")
    for one in found:
        assert 1 <= one.line <= len(lines)
        assert 1 <= one.column <= len(lines[one.line - 1]) + 1
    assert isinstance(verdict(text).allowed, bool)
