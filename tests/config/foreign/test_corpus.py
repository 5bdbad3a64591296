"""Configs written after public multimodal examples: sound ones get no false error, broken ones exactly their codes.

The sources of those in YAML and shell stand in them; those of JSON, which has no comments, in `SOURCES`. Every rule
judges them. No card is named and no data lies here, so some rules of memory and those of data are skipped.
"""

from __future__ import annotations

from collections.abc import Collection
from functools import cache
from pathlib import Path

import pytest

from tests.tiny import no_projection
from vlcheck.config.foreign.advice import FORMATS as TABLES
from vlcheck.config.foreign.advice import NATIVE, rewritten
from vlcheck.config.load import load
from vlcheck.config.native_text import write_native
from vlcheck.engine import audit
from vlcheck.finding import Outcome, Report, Severity, Verdict
from vlcheck.rules import every_rule
from vlcheck.spec import ConfigError, RunSpec

HOME = Path(__file__).parents[3] / "fixtures" / "configs"

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

UNMASKED = {"VLC202", "VLC205", "VLC207"}
"""TRL's collator supervises prompts and images of rows with `messages`. All of its official examples train so, and it
is its default: a warning, said once by VLC207, with what to set instead."""
AFTER = {"VLC209", "VLC210"}
"""Notes that follow from it."""
ALONE = {"trl/good/qwen25-vl-answers.yaml"}
"""Runs of TRL that say which ids are supervised."""

ARGUED = {
    # The list names k, q and v alone of SigLIP's layers; its out_proj, fc1 and fc2 are the other half.
    "trl/good/smolvlm2-dora.yaml": {"VLC415"},
    "transformers/good/smolvlm2-tracking": {"VLC415"},
    "transformers/good/smolvlm2-video": {"VLC415"},
    "transformers/good/paligemma2-vqav2": {"VLC415"},
    # Gemma 3's head and embedding are one weight: trained as two copies, they part, and cost 2.5 GiB more. True of the
    # notebook as it stands; nothing is lost by it with this release of PEFT, so it is no error.
    "trl/good/gemma3-products.yaml": {"VLC409"},
    # It freezes adapters of the towers too, of which this run has none: its regex names the language model.
    "axolotl/good/gemma-4-vision-lora.yaml": {"VLC902"},
    # It names the tokenizer's own padding token once more, which a config alone does not tell.
    "axolotl/good/pixtral-lora.yml": {"VLC902"},
    # The experts are fused parameters, which no list of layers reaches: true of the recipes as they stand.
    # And bitsandbytes quantises linear layers alone, so that they stay in 16 bits under load_in_4bit.
    "llamafactory/good/qwen3-vl-moe-lora.yaml": {"VLC301", "VLC412"},
    "ms-swift/good/qwen3-vl-moe.sh": {"VLC412"},
}
"""What sound configs are told at warning level, and why it is so; none gets an error. Adapters' folders get VLC902
besides, and runs of TRL what `UNMASKED` says."""

REFUSED = {
    "axolotl/bad/qlora-without-4bit.yaml": "13:1: adapter is qlora and load_in_4bit is not true",
    "axolotl/bad/text-only.yaml": "3:1: is an Axolotl config for text only",
    "llamafactory/bad/freeze.yaml": '5:1: finetuning_type is "freeze"; vlcheck judges runs of LoRA and full ones',
    "llamafactory/bad/unknown-dataset.yaml": '10:1: dataset "mllm_dmeo" is not in ',
    "ms-swift/bad/adalora.yaml": 'tuner_type is "adalora"; vlcheck judges runs of LoRA and full ones',
    "ms-swift/bad/megatron.sh": "1:1: is a shell script without a training command",
}
"""Broken configs of which no run comes, and how their one problem begins."""

BAD = {
    "trl/bad/old-names.yaml": {"VLC903", "VLC404"},
    "trl/bad/commas.sh": {"VLC109", "VLC404", "VLC415"},
    # SmolVLM cuts a picture into tiles of 64 soft tokens each, and TRL's 1,024 tokens cut some: the run would stop.
    "trl/bad/one-name.yaml": {"VLC102", "VLC109", "VLC225"},
    "trl/bad/misspelt.yaml": {"VLC225", "VLC902"},
    "trl/bad/gemma4-names.yaml": {"VLC101"},
    "trl/bad/gemma4-fp16.yaml": {"VLC801", "VLC404"},
    "trl/bad/storage.yaml": {"VLC225", "VLC301", "VLC410", "VLC803"},
    "trl/bad/tied-head.yaml": {"VLC409", "VLC903", "VLC404"},
    "trl/bad/reentrant.yaml": {"VLC406", "VLC404"},
    # LLaVA 1.5's chat template writes neither <s> nor </s>, and TRL's collator adds none.
    "trl/bad/llava15-vsft.sh": {"VLC208", "VLC218", "VLC220", "VLC232"},
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
"""Codes of broken configs. Those of transformers get VLC902 besides: no file of theirs tells of quantisation. Those of
TRL get `UNMASKED` and `AFTER`."""

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


@cache
def read(name: str) -> RunSpec:
    """The run; a folder's arguments say more of it than its adapter."""
    path = HOME / name
    arguments = path / "training_args.json"
    return load(arguments if arguments.is_file() else path)


def told(spec: RunSpec, **options) -> set[str]:
    """Codes that an audit finds."""
    return {outcome.rule.code for outcome in report_on(spec, **options).found()}


def report_on(spec: RunSpec, **options) -> Report:
    """What an audit says; no rule raises, and what is advised is in the words of the run's own file."""
    report = audit(spec, offline=True, **options)
    assert not report.with_verdict(Verdict.ERROR)
    fixes = {finding.fix for outcome in report.found() for finding in outcome.findings if NATIVE not in finding.fix}
    if spec.origin is not None:
        assert {fix for fix in fixes if rewritten(fix, TABLES[spec.origin.format]) != fix} == set()
    return report


@cache
def judged(name: str) -> Report:
    """What every rule says of a config."""
    return report_on(read(name))


def expected(name: str, codes: set[str], at_least: Severity = Severity.NOTE) -> set[str]:
    """What a config is told besides what is its own."""
    if name.startswith("transformers"):
        return codes | {"VLC902"}
    if name.startswith("trl") and name not in ALONE:
        return codes | UNMASKED | (AFTER if at_least is Severity.NOTE else set())
    return codes


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
    codes = expected(name, {*BAD.get(name, ()), *ARGUED.get(name, ())}) & {"VLC902", "VLC903"}

    assert told(read(name), select=("VLC9",)) == codes


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_run_is_refused_in_one_line(name):
    with pytest.raises(ConfigError) as caught:
        load(HOME / name)
    (problem,) = caught.value.problems

    assert REFUSED[name] in f"{problem.where.line}:{problem.where.column}: {problem.message}"


def test_a_pass_says_what_it_was_judged_without():
    """The rules that a key concerns, and no other."""
    spec = read("trl/bad/misspelt.yaml")
    passed = {rule.code: Outcome(rule, Verdict.PASSED).qualified(spec).reason for rule in every_rule()}
    two = "judged without lora_rank (line 4), gradient_accumulation (line 6)"

    assert {passed[code] for code in passed if code.startswith(("VLC1", "VLC2", "VLC4", "VLC5"))} == {two}
    assert {passed[code] for code in passed if code.startswith("VLC3")} == {f"{two}, torch_compile (line 7)"}
    assert {passed[code] for code in passed if code.startswith(("VLC8", "VLC9"))} == {""}


def sample(names: Collection[str], few: Collection[str]) -> list[object]:
    """All configs, those that are not of the few under -m slow."""
    assert {*few} <= {*names}
    return [pytest.param(name, marks=[] if name in few else pytest.mark.slow) for name in names]


FEW = (
    "axolotl/good/mistral-small-lora-8bit.yml",
    "llamafactory/good/paligemma-lora.yaml",
    "ms-swift/good/llava.yaml",
    "transformers/good/gemma3-4b-unsloth-language",
    "trl/good/qwen3-vl-notebook.yaml",
)
"""One of each format, each of another family; tests/model/families judges sound and broken runs of the others."""
MEMORY = ("VLC3",)
"""Rules that simulate a step, half of an audit's cost: of a format's run they read fields that `test_one_run.py` holds
to be the same in all formats. By default they judge the first of the few; all configs at `-m slow`."""


@pytest.mark.parametrize("name", ["trl/bad/gemma4-names.yaml", "transformers/bad/no-such-target"])
def test_a_broken_config_gets_its_codes_but_for_memory(name):
    assert told(read(name), ignore=MEMORY) == expected(name, BAD[name])


@pytest.mark.slow
@pytest.mark.parametrize("name", BAD)
def test_a_broken_config_gets_exactly_its_codes(name):
    assert told(read(name)) == expected(name, BAD[name])


@pytest.mark.parametrize("name", FEW[1:])
def test_a_sound_config_gets_no_false_alarm_but_for_memory(name):
    """No error; warnings that are argued."""
    assert_sound(name, report_on(read(name), ignore=MEMORY))


@pytest.mark.parametrize("name", sample(GOOD, FEW[:1]))
def test_a_sound_config_gets_no_false_alarm(name):
    """By all rules."""
    assert_sound(name, judged(name))


def assert_sound(name: str, report: Report) -> None:
    assert report.found(Severity.ERROR) == ()
    warned = {outcome.rule.code for outcome in report.found(Severity.WARNING)}
    assert warned == expected(name, ARGUED.get(name, set()), Severity.WARNING)


def weighed(report: Report) -> set[tuple[str, Severity]]:
    """Codes and severities, but for the rules about a file of another tool."""
    return {(o.rule.code, o.severity) for o in report.found() if o.rule.code not in ("VLC902", "VLC903")}


@pytest.mark.parametrize("name", sample(GOOD, FEW[:1]))
def test_a_converted_config_gets_the_same_findings(name, tmp_path):
    """What `vlcheck convert` writes is the same run for every rule."""
    (tmp_path / "native.yaml").write_text(write_native(read(name), name))

    converted = report_on(load(tmp_path / "native.yaml"), projection=no_projection)
    assert weighed(converted) == weighed(judged(name))
