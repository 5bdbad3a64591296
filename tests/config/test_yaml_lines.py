"""YAML values, and the places they were written."""

from __future__ import annotations

import math
from time import process_time

import pytest

from vlcheck.config.reading.yaml_lines import read_yaml
from vlcheck.spec import ConfigError


@pytest.fixture
def written(tmp_path):
    """A function that writes a config and gives its path."""

    def write(text):
        path = tmp_path / "run.yaml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


@pytest.mark.parametrize(
    ("scalar", "value"),
    [
        ("1e-5", 1e-5), ("5E3", 5000.0), (".5", 0.5), ("5.", 5.0), ("-1.5", -1.5), ("-.inf", -math.inf),
        ("3", 3), ("+3", 3), ("012", 12), ("0x1F", 31), ("0o17", 15),
        ("true", True), ("FALSE", False), ("~", None), ("null", None), ("", None),
        ("yes", "yes"), ("off", "off"), ("1_000", "1_000"), ("1:30", "1:30"), ("2020-01-01", "2020-01-01"),
        ("'1'", "1"), ('"true"', "true"), ("0b1", "0b1"), ("|\n  x\n", "x\n"),
    ],
)  # fmt: skip
def test_core_schema(written, scalar, value):
    """Plain scalars have the types of YAML 1.2's core schema; quoted ones are strings."""
    document, _ = read_yaml(written(f"a: {scalar}"))

    assert document == {"a": value}
    assert type(document["a"]) is type(value)


def test_not_a_number(written):
    """`.nan` is read; whoever uses the value refuses it."""
    document, _ = read_yaml(written("a: .nan"))

    assert math.isnan(document["a"])


MERGED = """\
shared: &shared {r: 8, alpha: 16}
own: &own
  alpha: 32
lora:
  <<: [*own, *shared]
  dropout: 0.1
"""


def test_merge_keys(written):
    """What a mapping lacks comes from the first that is merged and has it, with the place that it has there."""
    document, sources = read_yaml(written(MERGED))

    assert document["lora"] == {"dropout": 0.1, "alpha": 32, "r": 8}
    assert [(sources[f"lora.{key}"].line, sources[f"lora.{key}"].column) for key in ("dropout", "alpha", "r")] == [
        (6, 3), (3, 3), (1, 18),
    ]  # fmt: skip
    assert (sources["<<"].line, sources["<<"].column) == (5, 3)
    assert "<<" not in read_yaml(written("a: {b: 1}"))[1]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: {<<: 1}", "merge key << names the integer 1; allowed: a mapping, or a list of mappings"),
        ("b: &b [1]\na:\n  <<: [*b]", "merge key << names a list; allowed: a mapping, or a list of mappings"),
        ("a: &a {b: {<<: *a}}", "alias *a stands inside its own anchor"),
        ("a: {<<: {b: 1}, <<: {c: 1}}", "duplicate key a.<<; first on line 1"),
        ("k: &k {" + ", ".join(f"k{n}: 1" for n in range(100)) + "}\n"
         + "".join(f"a{n}: {{<<: [" + "*k, " * 50 + "]}\n" for n in range(30)), "more than 20000 values up to here"),
    ],
)  # fmt: skip
def test_what_no_merge_key_may_name(written, text, message):
    with pytest.raises(ConfigError) as caught:
        read_yaml(written(text))
    (problem,) = caught.value.problems

    assert problem.message.startswith(message)


def test_places(written):
    """Entries stand where their key is, items where they are; an alias brings the places of its anchor."""
    path = written("lora:\n  r: 8\n  targets: &t\n    - q\n    - {a: 1}\n\nother: *t\n")

    document, sources = read_yaml(path)

    assert document == {"lora": {"r": 8, "targets": ["q", {"a": 1}]}, "other": ["q", {"a": 1}]}
    assert {key: (where.line, where.column) for key, where in sources.items()} == {
        "": (1, 1),
        "lora": (1, 1),
        "lora.r": (2, 3),
        "lora.targets": (3, 3),
        "lora.targets.0": (4, 7),
        "lora.targets.1": (5, 7),
        "lora.targets.1.a": (5, 8),
        "other": (7, 1),
        "other.0": (4, 7),
        "other.1": (5, 7),
        "other.1.a": (5, 8),
    }
    assert {where.file for where in sources.values()} == {str(path)}
    assert all(where.key == key for key, where in sources.items())


def test_aliases_are_copies(written):
    """Two uses of an anchor share no list."""
    document, _ = read_yaml(written("a: &x [1]\nb: *x"))

    assert document["a"] == document["b"]
    assert document["a"] is not document["b"]


def test_byte_order_mark_is_no_column(written):
    """A UTF-8 byte order mark is skipped."""
    document, sources = read_yaml(written(b"\xef\xbb\xbfa: 1"))

    assert document == {"a": 1}
    assert (sources["a"].line, sources["a"].column) == (1, 1)


def test_windows_line_ends(written):
    """A carriage return before the line feed does not count as a line."""
    _, sources = read_yaml(written("a: 1\r\nb: 2\r\n"))

    assert sources["b"].line == 2


def test_file_is_named_as_given(written, monkeypatch):
    """Places repeat the path as the user typed it."""
    monkeypatch.chdir(written("a: 1").parent)

    _, sources = read_yaml("run.yaml")

    assert sources["a"].file == "run.yaml"


@pytest.mark.parametrize(
    "text",
    [
        "[ " * 130_000,
        "- " * 130_000,
        "{a: " * 60_000,
        "? " * 130_000,
        "&a " * 80_000,
        "a: [" + "1," * 21_000 + "]",
        pytest.param("a: [" + "1," * 100_000 + "]", marks=pytest.mark.slow),
        "".join(f"a{n}: 1\n" for n in range(20_001)),
        "a: &a0 [x,x,x,x,x,x,x,x,x]\n" + "".join(f"b{n}: &a{n + 1} [{f'*a{n},' * 9}]\n" for n in range(9)),
        "a: &a " + "x" * 100_000 + "\nb: [" + "*a," * 5_000 + "]",
        "".join(f"k{n}: &k{n} [{f'*k{n - 1}' if n else 1}]\n" for n in range(300)),
        "---\n" * 60_000,
        "#\n" * 200_000,
        "'" + "a\n\n" * 80_000 + "'",
    ],
    ids=lambda text: repr(text[:8]),
)
def test_hostile_files_are_refused_quickly(written, text):
    """Bombs are refused by a count, before they unfold."""
    path = written(text)
    started = process_time()

    with pytest.raises(ConfigError) as caught:
        read_yaml(path)

    assert len(caught.value.problems) == 1
    assert process_time() - started < 5
