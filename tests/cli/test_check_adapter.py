"""`vlcheck check-adapter`: the whole command on adapters that real PEFT saved."""

from __future__ import annotations

import json

import pytest

from tests import tiny
from tests.saved_adapters import FAULTS, save, spec_of

VALUES = tiny.gemma4()


@pytest.fixture
def adapter(tmp_path):
    """A sound adapter and the config of its run."""
    (tmp_path / "run.yaml").write_text(
        f"model: {{id: {spec_of(VALUES).model.id}, dtype: float32}}\n"
        "lora: {r: 4, lora_alpha: 4, target_modules: all-linear}\n"
    )
    return save(VALUES, tmp_path / "adapter")


def test_sound_adapter_exits_with_zero(vlcheck, adapter):
    """The verbose report names config, model and adapter, and what each rule looked at."""
    code, out, err = vlcheck("check-adapter", "adapter", "run.yaml", "--offline", "--verbose")
    shown = " ".join(out.split())

    assert (code, err) == (0, "")
    assert shown.startswith(f"run.yaml: {spec_of(VALUES).model.id}, Gemma 4, ")
    assert ", adapter adapter " in shown
    assert "VLC701 (60 tensors expected), VLC702 (60 tensors of the file), VLC703 (14 clip wrappers)" in shown
    assert out.endswith(
        "0 errors, 0 warnings, 0 notes; 15 rules passed, 3 not applicable, 0 skipped, 0 failed to run\n"
    )


def test_default_report_says_which_adapter_was_judged(vlcheck, adapter):
    """In its paragraph; rules that passed are counted."""
    code, out, err = vlcheck("check-adapter", "adapter", "run.yaml", "--offline")
    shown = " ".join(out.split())

    assert (code, err) == (0, "")
    assert shown.startswith(f"run.yaml: {spec_of(VALUES).model.id} judged: Gemma 4, ")
    assert "; adapter adapter; " in shown
    assert " passed: VLC701-705, " in shown
    assert "(15 rules) not applicable: VLC706-707, VLC713 (3 rules) 0 errors" in shown


def test_cause_stands_above_what_follows_from_it(vlcheck, adapter):
    """The report of an unwrapped adapter: one error, which explains two."""
    FAULTS["unwrapped"].plant(adapter)
    code, out, err = vlcheck("check-adapter", "adapter", "run.yaml", "--offline")

    assert (code, err) == (1, "")
    assert out.count("error VLC703 wrapper-split  adapter/adapter_model.safetensors:1\n") == 1
    assert out.count("  explains VLC70") == 2
    assert out.splitlines()[-1].startswith("3 errors, 0 warnings, 0 notes (2 explained by another); ")


@pytest.mark.parametrize(
    ("fault", "options", "code"),
    [
        ("tower at its start", (), 1),
        ("tower at its start", ("--ignore", "delta-zero"), 0),
        ("tower at its start", ("--select", "VLC724"), 0),
        ("alpha of adapter_config", (), 0),
        ("alpha of adapter_config", ("--fail-on", "warning"), 1),
        ("alpha of adapter_config", ("--strict",), 0),
    ],
)
def test_exit_codes_are_those_of_audit(vlcheck, adapter, fault, options, code):
    """Severity, threshold and selection decide."""
    if fault == "alpha of adapter_config":
        adapter.configure(lora_alpha=8)
    else:
        FAULTS[fault].plant(adapter)
    assert vlcheck("check-adapter", "adapter", "run.yaml", "--offline", *options)[0] == code


def test_refused_targets_skip_what_needs_the_model(vlcheck, adapter, tmp_path):
    """A run that PEFT refuses has no place for any tensor; the rules say so, and --strict exits 2."""
    text = (tmp_path / "run.yaml").read_text()
    (tmp_path / "run.yaml").write_text(text.replace("all-linear", "[q_proj]"))
    code, out, _ = vlcheck("check-adapter", "adapter", "run.yaml", "--offline", "--strict", "--verbose")

    assert code == 2
    assert "PEFT refuses the adapters, see VLC101 and VLC102" in " ".join(out.split())
    assert "VLC724 (60 tensors read)" in " ".join(out.split())


def test_json_goes_to_a_file(vlcheck, adapter, tmp_path):
    """The same versioned document as of an audit, with the adapter in it."""
    FAULTS["nan"].plant(adapter)
    code, out, _ = vlcheck("check-adapter", "adapter", "run.yaml", "--format", "json", "--output", "report.json")
    document = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))

    assert (code, out.count("\n")) == (1, 1)
    assert document["model"]["adapter"] == "adapter"
    (found,) = [outcome for outcome in document["outcomes"] if outcome["verdict"] == "found"]
    assert (found["code"], found["findings"][0]["where"]["file"]) == ("VLC724", "adapter/adapter_model.safetensors")


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["gone", "run.yaml"], "gone:1:1: is no folder; name the folder that holds adapter_model.safetensors"),
        (["adapter", "gone.yaml"], "gone.yaml:1:1: no such file"),
        (["adapter", "run.yaml", "--select", "VLC101"], "VLC101 belongs to `vlcheck audit`"),
        (["adapter", "run.yaml", "--output", "run.yaml"], "--output run.yaml would overwrite the config"),
        (["adapter", "run.yaml", "--output", "adapter/adapter_config.json"], "--output adapter/adapter_config.json "
         "lies in the adapter's folder"),
        (["damaged", "run.yaml"], "damaged/adapter_model.safetensors:1:1: is cut short: it has 3 bytes"),
        (["pickled", "run.yaml"], "pickled/adapter_model.bin:1:1: is a pickle, which can run code"),
    ],
)  # fmt: skip
def test_what_cannot_be_judged_is_one_line(vlcheck, adapter, tmp_path, arguments, complaint):
    """Exit code 2, an empty stdout, and no traceback."""
    for folder, name in (("damaged", "adapter_model.safetensors"), ("pickled", "adapter_model.bin")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / name).write_bytes(b"abc")
    code, out, err = vlcheck("check-adapter", *arguments, "--offline")

    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith(f"error: {complaint}")
