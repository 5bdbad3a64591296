"""What an import does not wait for, in a process of its own."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.slow
def test_bitsandbytes_comes_without_the_back_end_of_the_compiler():
    """Its functions are as they are written, and torch compiles afterwards what it is asked to."""
    script = """
        import sys, torch
        compile = torch.compile
        import vlcheck.engine
        from bitsandbytes.backends.default import ops
        assert "bitsandbytes" in sys.modules and "torch._inductor.compile_fx" not in sys.modules
        assert not hasattr(ops._dequantize_4bit_compute, "__wrapped__")
        assert torch.compile is compile
    """
    lines = "\n".join(line.strip() for line in script.splitlines())
    done = subprocess.run([sys.executable, "-c", lines], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
