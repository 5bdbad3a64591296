"""One run, written in every format, is one `RunSpec`; where a format or its framework differs, it is said here."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest

from vlcheck.config.frameworks import TRANSFORMERS
from vlcheck.config.load import load
from vlcheck.config.native_text import write_native
from vlcheck.config.validation.allowed import keys, sections
from vlcheck.engine import audit
from vlcheck.finding import Severity, Verdict
from vlcheck.spec import RunSpec

HOME = Path(__file__).parents[3] / "fixtures" / "configs" / "one-run"
FIELDS = tuple(
    f"{section}.{name}"
    for section in ("model", "lora", "quantization", "data", "training", "hardware")
    for name in keys(sections()[section])
)
"""The fields that every format is held to."""

NATIVE = "native.yaml"
SWIFT = {
    "data.eval_split": "ms-swift evaluates on a share of the rows, or on other data",
    "training.assistant_only_loss": "TRL's",
    "training.logits": "ms-swift computes logits where a label stands",
    "training.framework": "another one",
    "training.framework_version": "another one",
}
DIFFERENT: dict[str, dict[str, str]] = {
    "trl.yaml": {},
    "trl.sh": {},
    "transformers/training_args.json": {
        **{
            f"quantization.{name}": "none of its files tells of it"
            for name in keys(sections()["quantization"])
            if name != "llm_int8_skip_modules"
        },
        "hardware.count": "none of its files tells of it",
        "model.attn_implementation": "none of its files tells of it",
        "data.dataset": "none of its files tells of it",
        "data.eval_split": "none of its files tells of it",
        "data.max_length": "transformers has no limit",
        "training.assistant_only_loss": "TRL's",
        "training.logits": "transformers' loss takes them everywhere, TRL's in chunks",
        "training.framework": "another one",
        "training.framework_version": "another one",
    },
    "axolotl.yaml": {
        "hardware.count": "its file does not tell of it",
        "data.max_length": "sequence_len cuts no row with images",
        "training.assistant_only_loss": "TRL's",
        "training.logits": "transformers' loss takes them everywhere, TRL's in chunks",
        "training.report_to": "use_wandb changes nothing that is judged",
        "training.run_name": "wandb_name changes nothing that is judged",
        "training.framework": "another one",
        "training.framework_version": "another one",
    },
    "llamafactory.yaml": {
        "hardware.count": "its file does not tell of it",
        "data.eval_split": "LLaMA-Factory evaluates on a share of the rows, or on other data",
        "training.assistant_only_loss": "TRL's",
        "training.logits": "transformers' loss takes them everywhere, TRL's in chunks",
        "training.framework": "another one",
        "training.framework_version": "another one",
    },
    "ms-swift.yaml": SWIFT,
    "ms-swift.sh": SWIFT,
}
"""By format, the fields in which its run differs from the native one, and why."""


ENVIRONMENT = {"ms-swift.sh: num_processes": "NPROC_PER_NODE"}
"""Variables that stand for a key."""


def field(spec: RunSpec, path: str) -> object:
    section, _, name = path.partition(".")
    return getattr(getattr(spec, section), name, None)


@cache
def read(name: str) -> RunSpec:
    return load(HOME / name)


def test_the_table_is_long_and_the_run_is_no_default():
    """A field that no format sets would be equal in any case."""
    told = [path for path in FIELDS if path in read(NATIVE).sources]

    assert len(FIELDS) >= 60
    assert len(told) >= 50


@pytest.mark.parametrize("name", DIFFERENT)
def test_every_format_gives_the_same_run(name):
    """Field by field; what differs is listed, and nothing else."""
    ours, theirs = read(NATIVE), read(name)

    assert {path for path in FIELDS if field(ours, path) != field(theirs, path)} == set(DIFFERENT[name])


@pytest.mark.parametrize("name", DIFFERENT)
def test_every_value_has_a_place_in_the_files_own_words(name):
    """Line and column of the user's own file, or a framework's default."""
    spec, text = read(name), (HOME / name).read_text().splitlines()
    for path, where in spec.sources.items():
        if not where.default and where.file == str(HOME / name) and where.key and "training.framework" not in path:
            word = ENVIRONMENT.get(f"{name}: {where.key}", where.key.rpartition(".")[2])
            assert word.isdigit() or word in text[where.line - 1], (path, where)


def test_defaults_differ_as_the_rows_say():
    """What a format leaves out is its framework's: a difference of the two runs is one of the two rows."""
    spec = read("transformers/training_args.json")

    assert field(spec, "training.logits") == TRANSFORMERS.defaults["training.logits"].value
    assert spec.where("training.logits").default == f"default of {TRANSFORMERS.title}"


@pytest.mark.slow
def test_equal_runs_get_equal_findings():
    """Messages and measurements; the places are each file's own."""

    def found(name: str) -> list[tuple[str, list[str]]]:
        report = audit(read(name), offline=True, select=("VLC1", "VLC4", "VLC8"))
        return [(o.rule.code, [finding.message for finding in o.findings]) for o in report.found()]

    ours = found(NATIVE)
    assert ours != []
    for name in ("trl.yaml", "trl.sh", "axolotl.yaml", "llamafactory.yaml", "ms-swift.yaml", "ms-swift.sh"):
        assert found(name) == ours


@pytest.mark.slow
@pytest.mark.parametrize("name", DIFFERENT)
def test_a_converted_run_gets_the_same_findings(name, tmp_path):
    """Codes and severities of every rule, but for those about a file of another tool."""

    def found(spec: RunSpec) -> set[tuple[str, Severity]]:
        report = audit(spec, offline=True, ignore=("VLC902", "VLC903"))
        assert not report.with_verdict(Verdict.ERROR)
        return {(o.rule.code, o.severity) for o in report.found()}

    (tmp_path / "native.yaml").write_text(write_native(read(name), name))
    ours = found(read(name))

    assert ours
    assert found(load(tmp_path / "native.yaml")) == ours


def test_a_difference_would_be_seen():
    """The comparison has power."""
    spec = read("trl.yaml")
    other = replace(spec, lora=replace(spec.lora, r=8))

    assert {path for path in FIELDS if field(spec, path) != field(other, path)} == {"lora.r"}
