"""A script run as `python SCRIPT` would, a notebook as one script of all its cells."""

from __future__ import annotations

import ast
import importlib.abc
import importlib.machinery
import runpy
import sys
from collections.abc import Sequence
from types import ModuleType, SimpleNamespace
from typing import Any

from vlcheck.config.foreign.scripts.source import read_source
from vlcheck.integrations.rehearsal.stage import Stage


def run_script(stage: Stage) -> None:
    """Run it to its end, unless its first step comes before.

    Raises:
        ConfigError: if it is a notebook that is broken.
    """
    sys.meta_path.append(_Hosts(stage))
    if stage.script.suffix != ".ipynb":
        runpy.run_path(str(stage.script), run_name="__main__")
        return
    source = stage.source = read_source(stage.script)
    for line, text in source.magics:
        stage.replace(f"{stage.place(stage.shown, line)}: left out: {text.strip()[:80]}")
    module = sys.modules["__main__"] = ModuleType("__main__")
    vars(module)["display"] = lambda *given, **options: None
    code = compile(ast.Module(list(source.body), []), stage.code_name, "exec")
    exec(code, vars(module))


class _Hosts(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Modules that only the hosts of notebooks have, where nothing else answers for them: no secret, no drive."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        nothing = lambda *given, **options: None  # noqa: E731
        secret = lambda *given, **options: ""  # noqa: E731
        self.known: dict[str, dict[str, Any]] = {
            "google": {"__path__": []},
            "google.colab": {
                "userdata": SimpleNamespace(get=secret),
                "drive": SimpleNamespace(mount=nothing, flush_and_unmount=nothing),
                "files": SimpleNamespace(download=nothing),
            },
            "kaggle_secrets": {"UserSecretsClient": lambda: SimpleNamespace(get_secret=secret)},
        }

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """A spec of the few that are known."""
        return importlib.machinery.ModuleSpec(name, self) if name in self.known else None

    def exec_module(self, module: ModuleType) -> None:
        """Put the answers in."""
        self.stage.replace(f"{module.__name__}: no secret is known and no drive mounted")
        vars(module).update(self.known[module.__name__])
