"""Leave every random state of a job as it was."""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from vlcheck.integrations.reachable import reachable


@contextmanager
def undisturbed(*holders: Any) -> Iterator[None]:
    """Draw whatever is drawn inside, and put all states back: of Python, numpy and torch, on every device.

    Args:
        holders: collators and data sets; generators of their own are put back too, where they can be reached.
    """
    own = [(each, _state(each)) for each in reachable(holders, (torch.Generator, np.random.Generator, random.Random))]
    python, numpy, cpu = random.getstate(), np.random.get_state(), torch.get_rng_state()
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else None
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
        torch.set_rng_state(cpu)
        if cuda is not None:
            torch.cuda.set_rng_state_all(cuda)
        for each, state in own:
            _restore(each, state)


def _state(each: Any) -> Any:
    if isinstance(each, torch.Generator):
        return each.get_state()
    if isinstance(each, random.Random):
        return each.getstate()
    return copy.deepcopy(each.bit_generator.state)


def _restore(each: Any, state: Any) -> None:
    if isinstance(each, torch.Generator):
        each.set_state(state)
    elif isinstance(each, random.Random):
        each.setstate(state)
    else:
        each.bit_generator.state = state
