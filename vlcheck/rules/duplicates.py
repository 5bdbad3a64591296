"""VLC5xx: images that come twice where they must not."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from vlcheck.finding import Examined, Finding, NotApplicable, Severity, rule
from vlcheck.rules.rows import few, place

if TYPE_CHECKING:
    from vlcheck.data.duplicates import Duplicates
    from vlcheck.data.scan import Scan
    from vlcheck.spec import RunSpec


@rule("VLC510", "split-duplicate", Severity.ERROR)
def split_duplicate(spec: RunSpec, scan: Scan, duplicates: Duplicates) -> Iterator[Finding | Examined]:
    """The same image is in the training split and in the evaluation split.

    The evaluation then measures memory where it should measure ability, and every comparison with the
    base model is flattered. Equal means equal pixel for pixel once decoded, whatever the files' names.

    Remedy: remove the images from one of the splits, or split again by image.

    Source: measured; see tests/data/test_planted_faults.py.
    """
    if spec.data.eval_split == spec.data.train_split:
        yield Finding(
            f"data.eval_split {spec.data.eval_split!r} is the training split: all of its images are evaluated",
            where=spec.where("data.eval_split"),
            measured={"split": spec.data.eval_split},
            fix="name a split in data.eval_split that is not trained",
        )
        return
    yield Examined(duplicates.compared, "evaluation images")
    yield from _found(spec, scan, duplicates.same, "the same pixels in both splits")


@rule("VLC511", "near-duplicate", Severity.WARNING)
def near_duplicate(spec: RunSpec, scan: Scan, duplicates: Duplicates) -> Iterator[Finding | Examined]:
    """An image of the evaluation split looks the same as one of the training split.

    Resized, re-encoded, brightened or watermarked copies leak like the originals. Two difference hashes
    must agree, of 64 and 256 bits; pages, drawings and other pictures with few contrasts are left out,
    because they look alike when they are not. Look at both before you remove one.

    Remedy: keep copies of one picture in one split.

    Source: measured; Abyssinian_151 (trainval) and Abyssinian_99 (test) of Oxford-IIIT Pet are one photo.
    """
    yield Examined(duplicates.compared - duplicates.plain, "evaluation images with enough contrasts")
    yield from _found(spec, scan, duplicates.similar, "the same picture to the eye in both splits")


@rule("VLC517", "contradicting-answers", Severity.WARNING)
def contradicting_answers(spec: RunSpec, scan: Scan) -> Iterator[Finding | Examined]:
    """The same image and the same question have two different answers.

    At most one of them is right. The loss cannot fall below the noise, and in a small data set the model
    learns to hesitate between the two.

    Remedy: decide, and remove the other row.

    Source: measured; see tests/data/test_planted_faults.py.
    """
    from vlcheck.data.duplicates import contradictions

    yield Examined(len(scan.rows), "rows")
    if pairs := contradictions(scan):
        names = [f"{scan.rows.names[one]} and {scan.rows.names[other]}" for one, other in pairs[:20]]
        yield Finding(
            f"{few(names, len(pairs))}: the same pixels and prompt, different answers",
            where=place(spec),
            measured={"pairs": len(pairs), "rows": list(names)},
        )


def _found(spec: RunSpec, scan: Scan, pairs: tuple[tuple[int, int], ...], what: str) -> Iterator[Finding]:
    if len(scan.splits) < 2:
        raise NotApplicable("the run uses one split")
    if pairs:
        names = [f"{scan.title(one)} and {scan.title(other)}" for one, other in pairs[:20]]
        yield Finding(
            f"{few(names, len(pairs))}: {what}",
            where=place(spec),
            measured={"pairs": len(pairs), "rows": list(names)},
        )
