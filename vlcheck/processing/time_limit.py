"""Try a stranger's tokenizer and chat template in a process that can be ended, before they are used here.

Both are programs: a template may loop, a tokenizer's normaliser may blow a word up. Neither can be interrupted
in the process that runs it.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from vlcheck.finding import Unavailable

SECONDS = 20.0
"""Generous: a file is loaded, a sentence cut, two turns rendered, and no more."""
MEMORY_BYTES = 4 * 2**30
SAMPLE = "A photo of a beagle?  Größe: 12 cm, naïve. 你好 🐕 " + "a" * 64 + "!"
QUESTION, ANSWER = "Which breed is this?", "Beagle"


def check_tokenizer_file(folder: Path) -> None:
    """Load a folder's tokenizer.json and cut a sentence with it, elsewhere.

    Raises:
        Unavailable: if that does not end in time, or takes too much memory.
    """
    file = folder / "tokenizer.json"
    if file.is_file():
        within_limits(lambda: _cut(file), f"the tokenizer in {folder}")


def check_template(processor: Any, folder: Path) -> None:
    """Render a question, and a question with its answer, elsewhere; what a template refuses is told when it is used.

    Raises:
        Unavailable: as `check_tokenizer_file`.
    """
    within_limits(lambda: _render(processor), f"the chat template in {folder}")


def _cut(file: Path) -> None:
    from tokenizers import Tokenizer

    Tokenizer.from_file(str(file)).encode(SAMPLE)


def _render(processor: Any) -> None:
    turns = [
        {"role": role, "content": [{"type": "text", "text": text}]}
        for role, text in (("user", QUESTION), ("assistant", ANSWER))
    ]
    for some, prompt in ((turns[:1], True), (turns, False)):
        processor.apply_chat_template(some, tokenize=False, add_generation_prompt=prompt)


def within_limits(work: Callable[[], object], what: str) -> None:
    """Run work in a forked process; an exception there counts as an end, a death by memory or time does not.

    Raises:
        Unavailable: if it does not end within `SECONDS`, or takes more than `MEMORY_BYTES`.
    """
    if sys.platform != "linux":  # elsewhere a process with torch in it must not be forked
        return
    child = os.fork()
    if not child:
        _child(work)
    end = time.monotonic() + SECONDS
    while (told := os.waitpid(child, os.WNOHANG))[0] == 0:
        if time.monotonic() > end:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            raise Unavailable(f"{what} did not come to an end within {SECONDS:g} s", "use the model's own files")
        time.sleep(0.005)
    if told[1]:
        raise Unavailable(
            f"{what} takes more than {MEMORY_BYTES / 2**30:g} GiB for a sentence", "use the model's own files"
        )


def _child(work: Callable[[], object]) -> None:
    import resource

    code = 1
    try:
        os.environ["TOKENIZERS_PARALLELISM"] = "false"  # its threads were not forked
        with open(os.devnull, "wb") as nowhere:  # noqa: PTH123  a Path has nothing to add to a device
            os.dup2(nowhere.fileno(), 2)
        taken = int(Path("/proc/self/statm").read_text("ascii").split()[0]) * os.sysconf("SC_PAGE_SIZE")
        resource.setrlimit(resource.RLIMIT_AS, (taken + MEMORY_BYTES, resource.RLIM_INFINITY))
        try:
            work()
            code = 0
        except MemoryError:
            code = 1
        except Exception:  # told where it is used
            code = 0
    finally:
        os._exit(code)
