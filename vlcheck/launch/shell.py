"""A job's command that hands a script to a shell: the words of that script are the command's."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

from vlcheck.config.reading.shell_words import read_commands
from vlcheck.launch.image import installed_by
from vlcheck.launch.job import Job, Placed

_HANDS_OVER = re.compile(r"-[a-z]*c")
"""`-c`, `-lc`, `-euxc`: what follows is a script."""


def unfolded(job: Job) -> Job:
    """A job whose command has the words of the script that it hands to a shell, and the packages that this installs."""
    words, requirements = list[Placed[str]](), list(job.requirements)
    before = ""
    for word in job.command:
        if _HANDS_OVER.fullmatch(before) and " " in word.value:
            words += _words(word)
            requirements += installed_by(word.value, word.where).requirements
        else:
            words.append(word)
        before = word.value
    return replace(job, command=tuple(words), requirements=tuple(requirements))


def _words(script: Placed[str]) -> Iterator[Placed[str]]:
    for words in read_commands(script.value):
        yield from (Placed(word.text, script.where) for word in words)
