"""Which findings of a rule are one: those that differ in a name alone."""

from __future__ import annotations

import pytest

from vlcheck.finding import Finding
from vlcheck.reports.groups import group_findings, shared_measured
from vlcheck.spec import Location

WHERE = Location("train.yaml", 3)


def said(message: str, fix: str = "", **measured: object) -> Finding:
    return Finding(message, WHERE, measured, fix)


def error(name: str, text: str) -> Finding:
    """As the rule about a collator that raises says it."""
    return said(f"the collator: {name}: {text}", error=text)


ONE = {
    "part": (said("vision tower is not trained: 0 of 3"), said("projector is not trained: 0 of 3"), "projector"),
    "row": (error("probe, long", "KeyError: 'x'"), error("probe, listed", "KeyError: 'x'"), "probe, listed"),
    "numbered row": (error("row 3", "KeyError: 'x'"), error("row 4", "KeyError: 'x'"), "row 4"),
    "row that its error names": (error("a.jsonl:3", "Bad: a.jsonl:3: x"), error("b.jsonl:7", "Bad: b.jsonl:7: x"),
                                 "b.jsonl:7"),
    "row of several": (error("row 0, row 1", "KeyError: 'x'"), error("row 2, row 3", "KeyError: 'x'"),
                       "row 2, row 3"),
    "setting": (said("entry 'a' matches none", entry="a", n=0), said("entry 'b' matches none", entry="b", n=0), "'b'"),
    "example": (said("vision tower: 3 of 3 are idle; first: a.b", first=["a.b"]),
                said("audio tower: 3 of 3 are idle; first: c.d", first=["c.d"]), "audio"),
    "the same": (said("an unnamed row: x"), said("an unnamed row: x"), None),
}  # fmt: skip
TWO = {
    "other count": (said("vision tower: 3 of 5 layers idle"), said("vision tower: 4 of 5 layers idle")),
    "other part and count": (said("vision tower: 3 of 5 layers idle"), said("projector: 1 of 5 layers idle")),
    "other measurement": (said("a is not trained", linears=3), said("b is not trained", linears=4)),
    "other keys": (said("a is not trained", x=3), said("b is not trained", y=3)),
    "other error": (error("a", "KeyError: 'x'"), error("b", "ValueError: y")),
    "nothing in common": (said("one thing"), said("another matter")),
    "other remedy in YAML": (said("a is not trained", "x:\n  - a"), said("b is not trained", "x:\n  - b")),
    "number before a word": (said("10 rows: odd"), said("12 rows: odd")),
    "other place in an error": (error("a", "at 3: x"), error("b", "at 4: x")),
    "more words": (said("it is not trained"), said("it is not yet trained")),
}


@pytest.mark.parametrize(("first", "second", "name"), ONE.values(), ids=ONE)
def test_findings_that_differ_in_a_name_are_one(first, second, name):
    """The group keeps both findings and names the second."""
    (group,) = group_findings([first, second])

    assert group.findings == (first, second)
    assert group.names == (() if name is None else (name,))


@pytest.mark.parametrize(("first", "second"), TWO.values(), ids=TWO)
def test_findings_that_say_different_things_stay_apart(first, second):
    """No number and no statement is lost in a list."""
    assert [group.findings for group in group_findings([first, second])] == [(first,), (second,)]


def test_eleven_rows_are_one_with_a_list():
    """The first four names, and how many others."""
    (group,) = group_findings(error(f"row-{letter}", "ValueError: x") for letter in "abcdefghijk")

    assert group.likewise == "likewise (10 more): row-b; row-c; row-d; row-e; and 6 others"
    assert shared_measured(group) == {"error": "ValueError: x"}


def test_groups_stand_in_the_order_of_their_first_findings():
    """What lies between two equal findings stays in its place."""
    a, b, c = said("a is not trained"), said("wholly different words"), said("c is not trained")

    assert [group.findings for group in group_findings([a, b, c])] == [(a, c), (b,)]
