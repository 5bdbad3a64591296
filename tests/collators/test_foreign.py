"""Collators of frameworks and scripts, with the verdict that each deserves, on every family where it applies."""

from __future__ import annotations

import pytest

from tests import tiny
from tests.broken import collators, table
from tests.collators.test_table import TRIED
from tests.label_samples import rows
from tests.model.families.models import entry, miniature
from vlcheck import check_collator
from vlcheck.collators.batch import Candidate
from vlcheck.collators.judge import CollatorChecks
from vlcheck.collators.probes import Probe
from vlcheck.collators.regions import map_tokens
from vlcheck.collators.rows import Subject, check_row
from vlcheck.data.conversation import Conversation, Turn
from vlcheck.finding import Finding, Severity, Verdict
from vlcheck.model.families import family_of
from vlcheck.processing.collator import Collator
from vlcheck.processing.fallback import build_fallback
from vlcheck.rules import labels as rules
from vlcheck.rules.spans import label_shift
from vlcheck.spec import Lora, ModelRef, RunSpec

LARGE, SMALL = "google/gemma-4-31B-it", "google/gemma-4-E4B-it"
CHATML = "Qwen/Qwen2.5-VL-3B-Instruct"
FRAME = {"VLC209", "VLC210"}
"""What a plain rendering brings up beside its fault: a newline behind the end token, the turn's header."""
UNLIKE = {"VLC217", "VLC218"}
"""What a plain rendering of the large Gemma 4 template is in any case: trained on another prompt."""
WITHOUT = {"VLC201", "VLC202", "VLC205"}
EVERYTHING = {"VLC202", "VLC205", "VLC207"}
FOUND_IN_LIST = {"VLC202", "VLC206", "VLC208", "VLC213"}
SINGLE = {"VLC228"}
"""What a collator for one question and one answer gets beside rows of no other shape."""

VERDICTS = [
    (LARGE, "prefix_without_image", WITHOUT | FRAME | UNLIKE, {"VLC201"}),
    (SMALL, "prefix_without_image", WITHOUT | FRAME, {"VLC201"}),
    (CHATML, "prefix_without_image", WITHOUT | FRAME, {"VLC201"}),
    (
        LARGE,
        "prefix_with_image",
        {"VLC206", "VLC208", "VLC209", "VLC211", "VLC227"} | UNLIKE,
        {"VLC211", "VLC227"},
    ),
    (SMALL, "prefix_with_image", {"VLC209"} | SINGLE, set()),
    (CHATML, "prefix_with_image", {"VLC209"} | SINGLE, set()),
    (LARGE, "backward_search", FRAME | UNLIKE | SINGLE, set()),
    (SMALL, "backward_search", FRAME | SINGLE, set()),
    (LARGE, "first_search", FOUND_IN_LIST | UNLIKE | SINGLE, {"VLC213"}),
    (SMALL, "first_search", FOUND_IN_LIST | SINGLE, {"VLC213"}),
    (CHATML, "first_search", FOUND_IN_LIST | SINGLE, {"VLC213"}),
    (LARGE, "everything", EVERYTHING | FRAME | UNLIKE, {"VLC207"}),
    (SMALL, "everything", EVERYTHING | FRAME, {"VLC207"}),
    (CHATML, "everything", EVERYTHING | FRAME, {"VLC207"}),
    (LARGE, "trl_default", EVERYTHING | FRAME | UNLIKE, {"VLC207"}),
    (SMALL, "trl_default", EVERYTHING | FRAME, {"VLC207"}),
    (CHATML, "trl_default", EVERYTHING | FRAME, {"VLC207"}),
]
"""Family, collator, every code that it gets, and the root causes among those that others explain."""
LIKE_LARGE = [(SMALL, name) for name in ("prefix_without_image", "prefix_with_image", "first_search", "everything",
                                         "trl_default")]  # fmt: skip
"""Judged at `-m slow` alone: its verdicts are those of the large template or of ChatML."""
LIKE_CHATML = [(LARGE, name) for name in ("prefix_without_image", "first_search", "everything", "trl_default")]
"""So are these: the large template's verdicts are ChatML's, but for what its prompt brings up."""


@pytest.mark.parametrize(
    ("hub_id", "name", "codes", "roots"),
    [pytest.param(*row, marks=pytest.mark.slow) if row[:2] in LIKE_LARGE + LIKE_CHATML else row for row in VERDICTS],
)
def test_verdict(hub_id, name, codes, roots):
    """These codes and no others, the root cause first; none of them takes the tiny model, which `-m slow` asks too."""
    assert_verdict(hub_id, name, codes, roots, ignored=TRIED)


@pytest.mark.slow
@pytest.mark.parametrize(("hub_id", "name", "codes", "roots"), VERDICTS)
def test_verdict_of_all_rules(hub_id, name, codes, roots):
    """The same."""
    assert_verdict(hub_id, name, codes, roots)


def assert_verdict(hub_id, name, codes, roots, ignored=()) -> None:
    values = entry(hub_id).config
    processor = build_fallback(family_of(values), values)

    report = check_collator(getattr(collators, name)(processor), processor, rows(), model=hub_id, ignore=ignored)

    assert [outcome.reason for outcome in report.with_verdict(Verdict.ERROR)] == []
    assert {outcome.rule.code for outcome in report.found()} == codes
    assert {cause for outcome in report.found() for cause in outcome.explained_by} == roots


PLAIN_RENDERING = {
    "google/gemma-3-4b-it": {"VLC209", "VLC210"},
    "Qwen/Qwen3-VL-2B-Instruct": {"VLC209", "VLC210"},
    "HuggingFaceTB/SmolVLM2-256M-Video-Instruct": {"VLC209", "VLC210"},
    "llava-hf/llava-v1.6-mistral-7b-hf": {"VLC209", "VLC210"},
    "OpenGVLab/InternVL3-1B-hf": {"VLC209", "VLC210"},
    "meta-llama/Llama-3.2-11B-Vision-Instruct": {"VLC210"},
    "llava-hf/llava-onevision-qwen2-0.5b-ov-hf": {"VLC210", "VLC217", "VLC218"},
}
"""Families in miniature, and the codes that their rendered conversations get under an "everything" collator.

Llama 3.2 and LLaVA-OneVision write nothing behind an answer's end; a rendered turn of OneVision has a space that its
generation prompt has not.
"""


FAULTS = ("prefix_without_image", "first_search", "everything")
TURNS = {hub_id: FAULTS[number % len(FAULTS)] for number, hub_id in enumerate(PLAIN_RENDERING)}
"""The fault that a family is tried on by default; the others wait for `-m slow`."""


@pytest.mark.parametrize(("hub_id", "name"), [
    pytest.param(hub_id, name, marks=() if TURNS[hub_id] == name else pytest.mark.slow)
    for hub_id in PLAIN_RENDERING for name in FAULTS
])  # fmt: skip
def test_verdict_in_every_family(hub_id, name, tmp_path):
    """The same fault has the same root in every family; an image of Llama 3.2 takes one id, so no mask is short."""
    assert_root(hub_id, name, tmp_path, ignored=TRIED)


@pytest.mark.slow
@pytest.mark.parametrize("name", FAULTS)
@pytest.mark.parametrize("hub_id", PLAIN_RENDERING)
def test_verdict_of_all_rules_in_every_family(hub_id, name, tmp_path):
    """The same, by the rules of the tiny model too."""
    assert_root(hub_id, name, tmp_path)


def assert_root(hub_id, name, tmp_path, ignored=()) -> None:
    values = miniature(hub_id)
    processor = build_fallback(family_of(values), values)
    model = str(tiny.write_folder(tmp_path, values))
    frame = PLAIN_RENDERING[hub_id]

    report = check_collator(getattr(collators, name)(processor), processor, rows(), model=model, ignore=ignored)

    codes = {outcome.rule.code for outcome in report.found()}
    if name == "prefix_without_image":
        expands = "Llama-3.2" not in hub_id
        assert codes - {"VLC202", "VLC205"} == ({"VLC201"} | frame if expands else SINGLE)
        assert ("VLC202" in codes) == expands
    elif name == "first_search":
        whole = {"VLC208"} if "mistral" in hub_id else set()  # the answer is left out whole: VLC206 alone
        assert codes == (FOUND_IN_LIST | SINGLE | frame - FRAME) - whole
    else:
        assert codes == EVERYTHING | frame


MUTANTS = {
    "one id early": (collators.moved(-1), {"VLC208", "VLC210", "VLC212"}),
    "one id late": (collators.moved(1), {"VLC202", "VLC205", "VLC206", "VLC212"}),
    "shifted twice": (collators.shifted_twice, {"VLC208", "VLC210", "VLC212"}),
    "nothing": (collators.nothing, {"VLC206", "VLC208", "VLC211"}),
    "blind": (collators.blind, {"VLC216"}),
    "sound": (lambda batch: batch, set()),
}


def test_what_is_judged_less_often_is_judged_alike():
    """Every verdict that is left to `-m slow` is that of ChatML, beside what the large template's prompt brings up."""
    verdicts = {row[:2]: row[2:] for row in VERDICTS}
    for hub_id, name in LIKE_LARGE + LIKE_CHATML:
        codes, roots = verdicts[CHATML, name]
        assert verdicts[hub_id, name] == (codes | (UNLIKE if hub_id == LARGE else set()), roots)


OTHERS = (SMALL, "google/gemma-3-4b-it", "OpenGVLab/InternVL3-1B-hf")
"""Families whose mutants wait for `-m slow`."""
ON_LABELS = (rules.prompt_supervised, rules.image_supervised, rules.answer_unsupervised, rules.everything_supervised,
             rules.end_unlearnt, rules.header_supervised, rules.nothing_supervised, label_shift)  # fmt: skip
WORDS = tuple(
    Conversation((Turn("user", ("Name a breed.",)), Turn("assistant", (answer,))), answer)
    for answer in ("Pug", "It is a Bengal, I think")
)


def found_on_labels(hub_id, change):
    """Codes of the rules that read labels and nothing else, on one batch of two rows without images."""
    own = table.own(hub_id)
    token_map, made = map_tokens(own.template), change(dict(own(WORDS)))
    subjects = (Subject(Probe("plain", row), row.answers, 0) for row in WORDS)
    seen = tuple(check_row(subject, made, number, own, token_map) for number, subject in enumerate(subjects))
    checks = CollatorChecks(seen, (), {}, (), (), 0, "mutant", False)
    spec = RunSpec(model=ModelRef(id=hub_id), lora=Lora())
    return {rule.code for rule in ON_LABELS if any(isinstance(said, Finding) for said in rule.check(spec, checks))}


def test_what_mutants_get_is_the_same_in_the_families_that_are_judged_less_often():
    """What a change to labels means depends on no family: what `test_mutant` says of ChatML holds of the others."""
    for hub_id in (CHATML, *OTHERS):
        for change, codes in MUTANTS.values():
            assert found_on_labels(hub_id, change) == codes - {"VLC216"}


@pytest.mark.parametrize("name", MUTANTS)
@pytest.mark.parametrize("hub_id", [CHATML, *(pytest.param(name, marks=pytest.mark.slow) for name in OTHERS)])
def test_mutant(hub_id, name):
    """One change to a sound batch gets the same codes in every family."""
    change, codes = MUTANTS[name]
    values = entry(hub_id).config
    family = family_of(values)
    own = Collator(build_fallback(family, values), family.dialogue)

    report = check_collator(collators.changed(own, change, name), own.processor, rows(), model=hub_id)

    assert {outcome.rule.code for outcome in report.found()} == codes


@pytest.mark.parametrize(("hub_id", "key", "says"), [
    (LARGE, "mm_token_type_ids", "the forward runs and gives a loss of"),
    (SMALL, "mm_token_type_ids", "the loss stays at"),
    pytest.param("google/gemma-3-4b-it", "token_type_ids", "the forward runs and gives a loss of",
                 marks=pytest.mark.slow),
])  # fmt: skip
def test_a_dropped_key_is_named_with_its_effect(hub_id, key, says):
    """What the finding says of it.

    Gemma 3 and the large Gemma 4 go on without their image types and compute another loss; E4B attends causally
    in any case.
    """
    values = entry(hub_id).config
    family = family_of(values)
    own = Collator(build_fallback(family, values), family.dialogue)

    report = check_collator(collators.changed(own, collators.dropping(key), "mutant"), own.processor, model=hub_id)

    (outcome,) = report.found(Severity.ERROR)
    assert outcome.rule.code == "VLC204"
    assert f"the batch has no {key}" in outcome.findings[0].message
    assert says in outcome.findings[0].message


def test_a_collator_that_returns_no_batch_is_told_what_is_missing():
    """What is no batch is a finding that names the conversation and what came back."""
    values = entry(CHATML).config
    processor = build_fallback(family_of(values), values)

    report = check_collator(lambda examples: {"ids": 1}, processor, model=CHATML)

    (outcome,) = report.found()
    assert outcome.rule.code == "VLC225"
    assert "the batch has no input_ids of shape (rows, tokens); it has ids" in outcome.findings[0].message


def test_rules_that_lack_a_batch_are_skipped_not_passed():
    """A collator that fails everywhere passes nothing."""
    values = entry(CHATML).config
    processor = build_fallback(family_of(values), values)

    report = check_collator(Candidate(lambda conversations: 1 / 0, "mine"), processor, model=CHATML)

    assert {o.rule.code for o in report.with_verdict(Verdict.PASSED)} <= {"VLC217", "VLC222"}
