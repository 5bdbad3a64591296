"""What a finding is known by from one report to the next: its rule, its setting and what it says, never its line."""

from __future__ import annotations

import hashlib
import os
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from vlcheck.finding import Finding, Rule

LINE = re.compile(r"(?<=\bline )\d+|(?<=\blines )\d+")
NUMBER = re.compile(r"\d[\d,.]*")


def same_finding(rule: Rule, finding: Finding) -> str:
    """A digest that two findings share only if they say the same of the same setting, wherever it stands.

    What was measured is part of it: three broken rows are not the finding that two were.
    """
    return _digest(rule.code, finding.where.key, _placeless(finding))


class Tracks:
    """Digests by which a tracker of findings follows one through changes of what was measured.

    The second finding of a report that differs from the first in numbers alone has a digest of its own.
    """

    def __init__(self) -> None:
        self._seen: Counter[str] = Counter()

    def of(self, rule: Rule, finding: Finding) -> str:
        """The digest of the next finding of a report."""
        digest = _digest(rule.code, finding.where.key, NUMBER.sub("#", _placeless(finding)))
        self._seen[digest] += 1
        return f"{digest}:{self._seen[digest]}"


def _placeless(finding: Finding) -> str:
    """The message without lines, and without the folder that this machine keeps the config in."""
    message = LINE.sub("#", finding.message)
    for folder in _folders(finding.where.file):
        message = message.replace(f"{folder}{os.sep}", "")
    return message


def _folders(file: str) -> Iterator[str]:
    """The folder of the config, as it may be written out; the root of a file system is no folder of its own."""
    for folder in (Path(file).parent.absolute(), Path(file).parent.resolve()):
        if folder != Path(folder.anchor):
            yield str(folder)


def _digest(*parts: str) -> str:
    text = "\0".join(parts).encode("utf-8", "surrogatepass")
    return hashlib.sha256(text).hexdigest()[:32]
