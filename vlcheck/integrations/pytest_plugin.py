"""`pytest --vlcheck run.yaml`: a test a rule and config, and fixtures for a project's own tests.

pytest imports this file wherever vlcheck is installed, so nothing is imported here that pytest has not imported yet.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from vlcheck.finding import Report

MARKER = "vlcheck: a rule of vlcheck, judged on a config that --vlcheck names"
GPU = "gpu: needs a CUDA GPU"


def pytest_addoption(parser: pytest.Parser) -> None:
    """--vlcheck names configs; without it this plugin does nothing."""
    group = parser.getgroup("vlcheck")
    group.addoption(
        "--vlcheck", action="append", default=[], metavar="CONFIG", help="Audit this config, a test a rule."
    )
    group.addoption(
        "--vlcheck-allow-code", action="store_true", help="Run the code that model.patch and data.collator name."
    )


def pytest_configure(config: pytest.Config) -> None:
    """Register the markers, and keep the rules of a config on one worker, so that it is audited once."""
    if not config.option.vlcheck:
        return
    for named in config.option.vlcheck:
        if not Path(named).exists():
            raise pytest.UsageError(f"--vlcheck {named}: no such file")
    config.addinivalue_line("markers", MARKER)
    config.addinivalue_line("markers", GPU)
    if getattr(config.option, "dist", "no") == "load":
        config.option.dist = "loadfile"  # not loadgroup: xdist 3.8 does not group under pytest 9.2


@pytest.hookimpl(wrapper=True)
def pytest_collection_modifyitems(
    session: pytest.Session, config: pytest.Config, items: list[pytest.Item]
) -> Iterator[None]:
    """Put the configs' tests behind the others, before -m and -k choose among all."""
    if config.option.vlcheck:
        from vlcheck.integrations.config_tests import ConfigFile

        for path in dict.fromkeys(Path(named).absolute() for named in config.option.vlcheck):
            items += session.genitems(ConfigFile.from_parent(session, path=path))
    yield


@pytest.fixture(scope="session")
def vlcheck_audit(request: pytest.FixtureRequest) -> Callable[..., Report]:
    """`vlcheck_audit("run.yaml")` audits a config once a process; without a name, the one that --vlcheck names.

    Keyword arguments are those of `vlcheck.audit`; with any, the audit is the caller's own and is not kept.
    """

    def audit_of(path: str | Path | None = None, **options: Any) -> Report:
        from vlcheck.config.load import load
        from vlcheck.config.project import read_project
        from vlcheck.engine import audit
        from vlcheck.integrations.config_tests import audited

        named = request.config.option.vlcheck
        if path is None and len(named) != 1:
            raise pytest.UsageError(f"vlcheck_audit() needs a path: --vlcheck names {len(named)} configs")
        file = Path(named[0] if path is None else path).absolute()
        project = read_project(file.parent)
        spec = load(file, project=project)
        return audit(spec, **options) if options else audited(request.config, spec, file, project)

    return audit_of


@pytest.fixture(scope="session")
def vlcheck_collator() -> Callable[..., Report]:
    """`vlcheck_collator(collator, processor, rows)` fails the test with a readable report if labels are not right.

    It is `vlcheck.assert_collator`, with its options.
    """

    def check(collator: Any, processor: Any, conversations: Iterable[Any] = (), **options: Any) -> Report:
        from vlcheck.engine import assert_collator

        return assert_collator(collator, processor, conversations, **options)

    return check
