"""bitsandbytes, imported without torch's compiler.

It asks the compiler for four of its functions as it is imported (0.50, `backends/default/ops.py`): those that stand in
where it has no library for a device. To ask alone imports the compiler's back end, a tenth of the time of importing
everything that an audit needs. Refused, bitsandbytes keeps the functions as they are written.
"""

from __future__ import annotations

import sys
from typing import Any

import torch


def _refused(*_: Any, **__: Any) -> Any:
    raise RuntimeError("nothing is compiled while bitsandbytes is imported")


if "bitsandbytes" not in sys.modules:
    _compile: Any = torch.compile
    torch.compile = _refused
    try:
        import bitsandbytes
    finally:
        torch.compile = _compile

import bitsandbytes  # noqa: E402  as another has imported it

__all__ = ["bitsandbytes"]
