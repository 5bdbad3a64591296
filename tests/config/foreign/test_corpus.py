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
from vlcheck.spec import ConfigError

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
    # It freezes adapters of the towers too, of which this run has none: its regex names the language model.
    "axolotl/good/gemma-4-vision-lora.yaml": {"VLC902"},
    # The experts are fused parameters, which no list of layers reaches: true of the recipes as they stand.
    "llamafactory/good/qwen3-vl-moe-lora.yaml": {"VLC412"},
    "ms-swift/good/qwen3-vl-moe.sh": {"VLC412"},
}
"""What sound configs are told at warning level or above, and why it is so; adapters' folders get VLC902 besides."""

REFUSED = {
    "axolotl/bad/qlora-without-4bit.yaml": "13:1: adapter is qlora and load_in_4bit is not true",
    "axolotl/bad/text-only.yaml": "3:1: is an Axolotl config for text only",
    "llamafactory/bad/full.yaml": '29:1: finetuning_type is "full"; vlcheck judges runs with LoRA',
    "llamafactory/bad/unknown-dataset.yaml": '10:1: dataset "mllm_dmeo" is not in ',
    "ms-swift/bad/full.sh": 'tuner_type is "full"; vlcheck judges runs with LoRA',
    "ms-swift/bad/megatron.sh": "1:1: is a shell script without a training command",
}
"""Broken configs of which no run comes, and how their one problem begins."""

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
    "axolotl/bad/evaluation-strategy.yaml": {"VLC903", "VLC404"},
    "axolotl/bad/foreign-template.yaml": {"VLC902", "VLC404"},
    "axolotl/bad/gemma3-fp16.yaml": {"VLC801", "VLC404"},
    "axolotl/bad/old-paths.yaml": {"VLC102", "VLC109"},
    "axolotl/bad/regex-in-list.yaml": {"VLC102", "VLC109"},
    "axolotl/bad/tied-head.yaml": {"VLC409", "VLC404"},
    "axolotl/bad/tower-only.yaml": {"VLC401", "VLC404"},
    "llamafactory/bad/evaluation-strategy.yaml": {"VLC903", "VLC404"},
    "llamafactory/bad/foreign-template.yaml": {"VLC902", "VLC404"},
    "llamafactory/bad/gemma3-fp16.yaml": {"VLC801", "VLC404"},
    "llamafactory/bad/misspelt-targets.yaml": {"VLC109", "VLC404"},
    "llamafactory/bad/no-image-column.yaml": {"VLC902", "VLC404"},
    "llamafactory/bad/tied-head.yaml": {"VLC409", "VLC404"},
    "llamafactory/bad/typo.yaml": {"VLC902", "VLC404"},
    "ms-swift/bad/foreign-template.yaml": {"VLC902", "VLC404"},
    "ms-swift/bad/gemma3-fp16.sh": {"VLC801", "VLC404"},
    "ms-swift/bad/hqq.yaml": {"VLC902", "VLC404"},
    "ms-swift/bad/loss-scale.yaml": {"VLC902", "VLC404"},
    "ms-swift/bad/old-regex.yaml": {"VLC102", "VLC109"},
    "ms-swift/bad/tied-head.yaml": {"VLC409", "VLC404"},
    "ms-swift/bad/train-type.sh": {"VLC903", "VLC404"},
}
"""Codes of broken configs; those of transformers get VLC902 besides: no file of theirs tells of quantisation."""

FORMATS = ("trl", "transformers", "axolotl", "llamafactory", "ms-swift")


def configs(format_: str, kind: str) -> set[str]:
    """Names of a format's configs; what some of them point to lies in folders beside them."""
    inside = (HOME / format_ / kind).iterdir()
    return {
        str(path.relative_to(HOME))
        for path in inside
        if path.suffix in (".yaml", ".yml", ".sh") or (path / "adapter_config.json").is_file()
    }


GOOD = sorted(name for format_ in FORMATS for name in configs(format_, "good"))


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
    for format_ in FORMATS:
        assert len(configs(format_, "good")) >= 8
        assert configs(format_, "bad") == {name for name in (*BAD, *REFUSED) if name.startswith(f"{format_}/")}
        assert len(configs(format_, "bad")) >= 8
    for name in GOOD:
        path = HOME / name
        assert path.name in SOURCES if path.is_dir() else "https://" in path.read_text()


@pytest.mark.parametrize("name", [*GOOD, *BAD])
def test_a_config_is_understood(name):
    """What is not understood, or gone, is what the tables say; nothing needs a model for that."""
    codes = expected(name, {*BAD.get(name, ()), *ARGUED.get(name, ())} & {"VLC902", "VLC903"})

    assert told(name, select=("VLC9",)) == codes


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_run_is_refused_in_one_line(name):
    with pytest.raises(ConfigError) as caught:
        load(HOME / name)
    (problem,) = caught.value.problems

    assert REFUSED[name] in f"{problem.where.line}:{problem.where.column}: {problem.message}"


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
