"""VLC9xx: whose run the report is about, and what of its file was understood."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from vlcheck.finding import RULES_OF, Examined, Finding, NotApplicable, Severity, rule

if TYPE_CHECKING:
    from vlcheck.spec import Origin, RunSpec


@rule("VLC901", "framework-unnamed", Severity.WARNING)
def framework_unnamed(spec: RunSpec) -> Iterator[Finding | Examined]:
    """The config does not say which framework will train, so the report is about vlcheck's own loop.

    Frameworks differ in what they supervise, where they compute logits, how long a row may be, which type a model is
    loaded in and what they do for a setting that is left out. vlcheck's own collator masks the prompt, and its logits
    are those of supervised positions; TRL's collator for images supervises everything, and transformers' loss takes
    logits everywhere. Labels and memory are then judged right for a run that never starts.

    Remedy: `training: {framework: trl}`, or transformers, axolotl, llamafactory, ms-swift, unsloth, other; `vlcheck`
    where `vlcheck train` will run it.

    Source: vlcheck/config/frameworks/, which cites each framework's own files
    """
    yield Examined(1, "name of a framework")
    if spec.training.framework is None:
        yield Finding(
            "no framework is named: labels, logits and defaults were judged as vlcheck's own loop has them",
            where=spec.where("training.framework"),
            fix="framework: trl, or whose loop will run; vlcheck for `vlcheck train`",
        )


@rule("VLC902", "key-not-understood", Severity.WARNING)
def key_not_understood(spec: RunSpec) -> Iterator[Finding | Examined]:
    """A key of another tool's config can change the run, and nothing in the report takes it into account.

    vlcheck maps each key that it knows to what it judges, and passes over those that change nothing of that. The rest
    are arguments whose effect it has no model of, or no arguments of the framework at all: a misspelling, or one of a
    script of your own. Rules named in the finding judged the run as if the key were not there.

    Remedy: correct the key, take it out, or read the named rules' verdicts as those of a run without it.

    Source: the tables in vlcheck/config/foreign/, which name the releases that were read
    """
    origin = _origin(spec)
    yield Examined(len(origin.unread) + len(origin.idle) + len(spec.sources), "keys and defaults")
    for key in origin.unread:
        judged = ", ".join(f"{code}xx" for concern in key.touches for code in RULES_OF[concern])
        judged = "every rule" if set(key.touches) == set(RULES_OF) else judged
        yield Finding(
            f"{key.message}; {judged} judged the run without it",
            where=key.where,
            measured={"can change": list(key.touches)},
        )


@rule("VLC903", "argument-gone", Severity.ERROR)
def argument_gone(spec: RunSpec) -> Iterator[Finding | Examined]:
    """The config sets an argument that this version of the framework no longer takes.

    A renamed argument is either refused, so that the run does not start, or passed over without a word, so that the
    new argument's default applies: `max_seq_length: 4096` then trains with TRL's 1,024 tokens. The rest of the report
    takes the argument as it was meant.

    Remedy: the replacement that the finding names, or the version that the config was written for.

    Source: the tables in vlcheck/config/foreign/, which name the releases between which the argument went
    """
    origin = _origin(spec)
    yield Examined(len(origin.outdated) + len(origin.idle) + len(spec.sources), "keys and defaults")
    for argument in origin.outdated:
        yield Finding(argument.message, where=argument.where, fix=argument.instead or "leave it out")


def _origin(spec: RunSpec) -> Origin:
    if spec.origin is None:
        raise NotApplicable("the run was described in vlcheck's own words")
    return spec.origin
