"""Configs written after public multimodal examples: sound ones get no false error, broken ones exactly their codes.

The sources of those in YAML and shell stand in them; those of JSON, which has no comments, in `SOURCES`. Rules of
labels (VLC2), memory (VLC3) and data (VLC5) are left out: no card is named, no data lies here, and TRL's own collator,
which supervises prompts and images (VLC202, VLC205, VLC207), is the same in every run of it.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from vlcheck.config.load import load
from vlcheck.engine import audit
from vlcheck.finding import Outcome, Severity, Verdict
from vlcheck.rules import every_rule

HOME = Path(__file__).parents[3] / "fixtures" / "configs"
LEFT_OUT = ("VLC2", "VLC3", "VLC5")

HUB = "https://huggingface.co"
SOURCES = {
    "smolvlm2-tracking": f"{HUB}/lukesutor/SmolVLM2-2.2B-ActivityTracking/blob/main/adapter_config.json",
    "qwen3-vl-2b-number": f"{HUB}/weathon/number/blob/main/adapter_config.json",
    "gemma3-4b-unsloth-language": f"{HUB}/vinaybabu/gemma3-sql-lora/commit/449ba742effeb4f1c498cdf06c5cb3a32663bef2",
    "gemma3-12b-unsloth-language": f"{HUB}/LucaZuana/friggin/blob/main/adapter_config.json",
    "paligemma2-vqav2": f"{HUB}/eagle0504/paligemma_vqav2, with PaliGemma 2",
    "smolvlm2-video": "https://github.com/huggingface/smollm/blob/main/vision/finetuning/SmolVLM2_Video_FT.ipynb",
    "llava-next-tutorial": "https://github.com/NielsRogge/Transformers-Tutorials/tree/master/LLaVa-NeXT",
    "qwen25-vl-finetune": "https://github.com/QwenLM/Qwen3-VL/tree/main/qwen-vl-finetune",
}

ARGUED = {
    # The list names k, q and v alone of SigLIP's layers; its out_proj, fc1 and fc2 are the other half.
    "trl/good/smolvlm2-dora.yaml": {"VLC415"},
    "transformers/good/smolvlm2-tracking": {"VLC415"},
    "transformers/good/smolvlm2-video": {"VLC415"},
    "transformers/good/paligemma2-vqav2": {"VLC415"},
    # Gemma 3's head and embedding are one weight: saved as two copies, they part. True of the notebook as it stands.
    "trl/good/gemma3-products.yaml": {"VLC409"},
}
"""What sound configs are told at warning level or above, and why it is so; adapters' folders get VLC902 besides."""

BAD = {
    "trl/bad/old-names.yaml": {"VLC903", "VLC404"},
    "trl/bad/commas.sh": {"VLC109", "VLC404", "VLC415"},
    "trl/bad/one-name.yaml": {"VLC102", "VLC109"},
    "trl/bad/misspelt.yaml": {"VLC902"},
    "trl/bad/gemma4-names.yaml": {"VLC101"},
    "trl/bad/gemma4-fp16.yaml": {"VLC801", "VLC404"},
    "trl/bad/storage.yaml": {"VLC803", "VLC410"},
    "trl/bad/tied-head.yaml": {"VLC409", "VLC903", "VLC404"},
    "trl/bad/reentrant.yaml": {"VLC406", "VLC404"},
    "transformers/bad/old-arguments": {"VLC903"},
    "transformers/bad/no-such-target": {"VLC102", "VLC109"},
    "transformers/bad/gemma4-names": {"VLC101"},
    "transformers/bad/gemma4-fp16": {"VLC801", "VLC404"},
    "transformers/bad/idle-exclude": {"VLC108", "VLC404"},
    "transformers/bad/tied-head": {"VLC409", "VLC404"},
    "transformers/bad/reentrant": {"VLC406", "VLC404"},
    "transformers/bad/layers-replicated": set(),
}
"""Codes of broken configs; those of transformers get VLC902 besides: no file of theirs tells of quantisation."""

GOOD = sorted(
    str(path.relative_to(HOME)) for format_ in ("trl", "transformers") for path in (HOME / format_ / "good").iterdir()
)


def told(name: str, **options) -> set[str]:
    """Codes that an audit finds."""
    path = HOME / name
    arguments = path / "training_args.json"
    report = audit(load(arguments if arguments.is_file() else path), offline=True, **options)
    assert not report.with_verdict(Verdict.ERROR)
    return {outcome.rule.code for outcome in report.found()}


def expected(name: str, codes: set[str]) -> set[str]:
    return codes | {"VLC902"} if name.startswith("transformers") else codes


def test_there_are_enough_of_each():
    """Eight good and eight bad a format; each has its source, and every bad file its row."""
    for format_ in ("trl", "transformers"):
        assert len([name for name in GOOD if name.startswith(format_)]) >= 8
        bad = {str(path.relative_to(HOME)) for path in (HOME / format_ / "bad").iterdir()}
        assert bad == {name for name in BAD if name.startswith(format_)}
        assert len(bad) >= 8
    for name in GOOD:
        path = HOME / name
        assert path.name in SOURCES if path.is_dir() else "https://" in path.read_text()


@pytest.mark.parametrize("name", [*GOOD, *BAD])
def test_a_config_is_understood(name):
    """What is not understood, or gone, is what the tables say; nothing needs a model for that."""
    codes = expected(name, BAD.get(name, set()) & {"VLC902", "VLC903"})

    assert told(name, select=("VLC9",)) == codes


def test_a_pass_says_what_it_was_judged_without():
    """The rules that a key concerns, and no other."""
    spec = load(HOME / "trl/bad/misspelt.yaml")
    passed = {rule.code: Outcome(rule, Verdict.PASSED).qualified(spec).reason for rule in every_rule()}
    two = "judged without lora_rank (line 4), gradient_accumulation (line 6)"

    assert {passed[code] for code in passed if code.startswith(("VLC1", "VLC2", "VLC4", "VLC5"))} == {two}
    assert {passed[code] for code in passed if code.startswith("VLC3")} == {f"{two}, torch_compile (line 7)"}
    assert {passed[code] for code in passed if code.startswith(("VLC8", "VLC9"))} == {""}


@pytest.mark.parametrize("name", ["trl/bad/one-name.yaml", "transformers/bad/no-such-target"])
def test_a_broken_config_gets_its_codes(name):
    """The cheap ones; all of them under -m slow."""
    assert told(name, ignore=LEFT_OUT) == expected(name, BAD[name])


@pytest.mark.slow
@pytest.mark.parametrize("name", BAD)
def test_every_broken_config_gets_exactly_its_codes(name):
    assert told(name, ignore=LEFT_OUT) == expected(name, BAD[name])


@pytest.mark.slow
@pytest.mark.parametrize("name", GOOD)
def test_a_sound_config_gets_no_false_alarm(name):
    """No error but what is argued; warnings too."""
    severe = {rule.code for rule in every_rule() if rule.severity >= Severity.WARNING}

    assert told(name, ignore=LEFT_OUT) & severe == expected(name, ARGUED.get(name, set()))
