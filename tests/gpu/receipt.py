"""The receipt of a run on a GPU: what ran, what was skipped and why, on which card, commit and fixtures.

`pytest -m gpu` writes gpu-report.json; parts of one commit on one card add up. A CI without a GPU holds it to account:

python -m tests.gpu.receipt gpu-report.json --days 30
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from vlcheck.versions import installed

ROOT = Path(__file__).parents[2]
SCHEMA, FILE = "vlcheck.gpu/1", "gpu-report.json"
FIXTURES = ("standin/model.safetensors", "standin/settings.json", "gates.toml")
"""What the gates rest on."""
GATES = ("test_standin_accuracy.py::TestOnACard", "test_tiny.py")
"""Tests without which a receipt is worth nothing: the gates that need nothing from outside."""
Document = dict[str, Any]


class Receipt:
    """A plugin of pytest that remembers every test that a run on a GPU came to."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.results: dict[str, Document] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """What became of a test: its own phase where it came to that, what kept it from it otherwise."""
        if report.when == "call" or not report.passed:
            known = self.results.setdefault(report.nodeid, {"outcome": "passed", "seconds": 0.0})
            known["seconds"] = round(known["seconds"] + report.duration, 2)
            known.update(report.user_properties)
            if not report.passed:
                known["outcome"] = report.outcome
                known["reason"] = _reason(report)

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        """What ran, what did not and why; then the receipt is written."""
        document = merged(read(self.file), {**state(ROOT), "results": self.results})
        for line in told(self.results):
            terminalreporter.write_line(line)
        if self.results:
            self.file.write_text(json.dumps(document, indent=1) + "\n", "utf-8")
            terminalreporter.write_line(f"receipt: {self.file}, {len(document['results'])} tests in all")


def _reason(report: pytest.TestReport) -> str:
    text = str(report.longrepr[2]) if isinstance(report.longrepr, tuple) else str(report.longrepr)
    lines = [line for line in text.splitlines() if line.strip()]
    marked = [line.removeprefix("E").strip() for line in lines if line.startswith("E ")]
    return (marked or lines or [""])[0].removeprefix("Skipped: ")[:400]


def state(root: Path) -> Document:
    """Date, versions, card, commit and fixtures of here and now."""
    return {
        "schema": SCHEMA,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": {"python": sys.version.split()[0], **installed()},
        "gpu": _card(),
        "commit": commit(root),
        "sources": digest(root, sorted([*(root / "vlcheck").rglob("*.py"), *(root / "tests" / "gpu").rglob("*.py")])),
        "fixtures": {name: digest(root, [root / "fixtures" / name]) for name in FIXTURES},
    }


def _card() -> Document | None:
    """The first GPU; torch is not imported for it, since a test that used one has."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available():
        return None
    properties = torch.cuda.get_device_properties(0)
    return {"name": properties.name, "bytes": properties.total_memory, "cuda": torch.version.cuda}


def commit(root: Path) -> str:
    """The commit of a checkout, with `+` where it was changed; empty where there is none to be seen."""
    if given := os.environ.get("VLCHECK_COMMIT"):
        return given

    def git(*words: str) -> str:
        return subprocess.run(["git", *words], cwd=root, capture_output=True, text=True, check=True).stdout.strip()

    try:
        return git("rev-parse", "HEAD") + ("+" if git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):
        return ""


def digest(root: Path, files: list[Path]) -> str:
    """SHA-256 of files with their names; a file that is not there counts as empty."""
    found = hashlib.sha256()
    for file in files:
        found.update(file.relative_to(root).as_posix().encode() + b"\0")
        found.update(hashlib.sha256(file.read_bytes() if file.exists() else b"").digest())
    return found.hexdigest()


def merged(before: Document | None, now: Document) -> Document:
    """Two parts of one receipt; a part of other sources, fixtures or another card is forgotten."""
    same = before and all(before.get(key) == now[key] for key in ("schema", "sources", "fixtures", "gpu", "versions"))
    return {**now, "results": {**before["results"], **now["results"]}} if before and same else now


def read(file: Path) -> Document | None:
    """A receipt; None where there is none."""
    try:
        found = json.loads(file.read_text("utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) and isinstance(found.get("results"), dict) else None


def told(results: Mapping[str, Document]) -> Iterator[str]:
    """How many ran, and each reason for which others did not."""
    counts = Counter(result["outcome"] for result in results.values())
    ran = counts["passed"] + counts["failed"]
    yield f"on a GPU: {ran} ran ({counts['passed']} passed, {counts['failed']} failed), {counts['skipped']} skipped"
    reasons = Counter(result["reason"] for result in results.values() if result["outcome"] == "skipped")
    yield from (f"  {count} skipped: {reason}" for reason, count in reasons.most_common())


# --------------------------------------------------------------------------- held to account, without a GPU


def problems(found: Document | None, here: Document, *, days: float) -> Iterator[str]:
    """What speaks against a receipt.

    Args:
        found: the receipt, as `read`.
        here: the state of the checkout that it is to vouch for.
        days: how old it may be.
    """
    if found is None or found.get("schema") != SCHEMA:
        yield f"there is no receipt of schema {SCHEMA}"
        return
    age = datetime.fromisoformat(here["date"]) - datetime.fromisoformat(found["date"])
    if age > timedelta(days=days):
        yield f"it is {age.days} days old; allowed: {days:g}"
    if found["sources"] != here["sources"]:
        yield f"it is of other sources, commit {found['commit'] or 'unknown'}; here is {here['commit'] or 'unknown'}"
    for name, own in here["fixtures"].items():
        if found["fixtures"].get(name) != own:
            yield f"fixtures/{name} is another one since"
    if found["gpu"] is None:
        yield "it was written without a GPU"
    results = found["results"]
    yield from (f"{name} failed: {r.get('reason')}" for name, r in results.items() if r["outcome"] == "failed")
    for gate in GATES:
        own = {name: result for name, result in results.items() if gate in name}
        if not any(result["outcome"] == "passed" for result in own.values()):
            why = next((result.get("reason", "") for result in own.values()), "it was not asked for")
            yield f"no test of {gate} has run: {why}"


def main() -> None:
    """As the module says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("receipt", type=Path)
    parser.add_argument("--days", type=float, default=30, help="how old it may be")
    given = parser.parse_args()
    found = list(problems(read(given.receipt), state(ROOT), days=given.days))
    for problem in found:
        print(f"{given.receipt}: {problem}")
    if not found:
        print(f"{given.receipt}: as it should be")
    raise SystemExit(bool(found))


if __name__ == "__main__":
    main()
