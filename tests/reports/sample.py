"""A report, built by hand, that holds every kind of outcome."""

from __future__ import annotations

from vlcheck.finding import Examined, Finding, Outcome, Report, Rule, Severity, Verdict, rule
from vlcheck.spec import Location, Lora, ModelRef, RunSpec

SPEC = RunSpec(
    model=ModelRef(id="google/gemma-4-31B-it"),
    lora=Lora(target_modules="all-linear"),
    sources={"model.id": Location("train.yaml", 3, 7, "model.id")},
)


def built(code: str, name: str, severity: Severity = Severity.ERROR, title: str = "Something is wrong.") -> Rule:
    """A rule that is never run."""

    def check():
        return ()

    check.__doc__ = title
    return rule(code, name, severity)(check)


def found(code: str, name: str, severity: Severity, *findings: Finding, by: tuple[str, ...] = ()) -> Outcome:
    """An outcome with findings."""
    return Outcome(built(code, name, severity), Verdict.FOUND, findings, explained_by=by)


def said(message: str, line: int = 14, **measured: object) -> Finding:
    """A finding about the target modules."""
    return Finding(message, Location("train.yaml", line, 3, "lora.target_modules"), measured)


OUTCOMES = (
    found("VLC401", "frozen-parts", Severity.NOTE, said("the projector is frozen", 9)),
    Outcome(
        built("VLC103", "clip-around", title="LoRA sits around a clip wrapper."),
        Verdict.FOUND,
        (
            Finding(
                "vision_tower.encoder.layers.0.self_attn.q_proj: LoRA sits around the clip wrapper, so what it adds is "
                "never clamped",
                Location("train.yaml", 14, 3, "lora.target_modules"),
                {"adapters": 1120, "bounds": [-3.25, 3.25], "peak_bytes": 3 * 2**30, "inside": False},
                "target_modules:\n  - q_proj.linear",
            ),
        ),
        (Examined(112, "clip wrappers"),),
        seconds=0.12345,
    ),
    found("VLC105", "merge-differs", Severity.ERROR, said("outputs differ by 0.31"), said("again"), by=("VLC103",)),
    Outcome(built("VLC106", "clip-bounds"), Verdict.PASSED, examined=(Examined(112, "clip wrappers"),), seconds=0.5),
    Outcome(built("VLC406", "idle-audio-adapter"), Verdict.PASSED, examined=(Examined(30, "adapters"),)),
    Outcome(built("VLC107", "clip-inactive"), Verdict.NOT_APPLICABLE, reason="the family has no clip wrapper"),
    Outcome(built("VLC108", "clip-replaced"), Verdict.NOT_APPLICABLE, reason="the family has no clip wrapper"),
    Outcome(built("VLC201", "label-shift"), Verdict.SKIPPED, reason="the processor is gated", unlock="hf auth login"),
    Outcome(
        built("VLC301", "peak-memory"),
        Verdict.ERROR,
        reason="Traceback (most recent call last):\n  File 'x'\nKeyError: 'gpu'\n",
    ),
)

SUBJECT = {
    "model": "google/gemma-4-31B-it",
    "family": "gemma4",
    "parameters": 31_273_088_876,
    "config_origin": "catalogue entry google/gemma-4-31B-it",
}

EVERYTHING = Report(SPEC, OUTCOMES, SUBJECT, ("patches were not seen",), {"torch": "2.13.0"})
