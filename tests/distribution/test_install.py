"""Wheel and sdist, built from a copy of the checkout and installed where nothing of it is: at `-m slow` alone."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
BUILD = "import sys; from setuptools import build_meta as b; to = sys.argv[1]; b.build_wheel(to); b.build_sdist(to)"


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    """A folder with a wheel and an sdist."""
    pytest.importorskip("setuptools", minversion="77", reason="setuptools 77 or later is not installed")
    folder = tmp_path_factory.mktemp("built")
    source = folder / "source"
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    shutil.copytree(ROOT / "vlcheck", source / "vlcheck", ignore=shutil.ignore_patterns("__pycache__"))
    subprocess.run([sys.executable, "-c", BUILD, str(folder)], cwd=source, check=True, capture_output=True)
    return folder


@pytest.fixture(scope="module")
def installed(built) -> Path:
    """An environment that holds the wheel and nothing else of ours; its dependencies are those of this one."""
    (wheel,) = built.glob("*.whl")
    venv = built / "venv"
    subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True)
    python = venv / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "-q", "--no-deps", "--no-index", str(wheel)], check=True)
    (site,) = venv.glob("lib/python*/site-packages")
    (site / "dependencies.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    return venv / "bin"


def shipped() -> set[str]:
    """Every file of the package that is no cache."""
    return {str(path.relative_to(ROOT)) for path in (ROOT / "vlcheck").rglob("*") if path.is_file()
            and "__pycache__" not in path.parts}  # fmt: skip


def test_both_hold_every_file(built):
    """Recipes, templates, the catalogue, `py.typed`, and no test."""
    (wheel,), (sdist,) = built.glob("*.whl"), built.glob("*.tar.gz")
    in_wheel = {name for name in zipfile.ZipFile(wheel).namelist() if not re.match(r"[^/]*\.dist-info/", name)}
    with tarfile.open(sdist) as archive:
        in_sdist = {name.partition("/")[2] for name in archive.getnames()}

    assert in_wheel == shipped()
    assert shipped() <= in_sdist
    assert not any(name.startswith("tests/") for name in in_wheel)


def test_the_readmes_first_commands_work_outside_the_checkout(installed, tmp_path):
    """They are those of its first block, after the installation."""
    first = re.search(r"```console\n(.*?)```", (ROOT / "README.md").read_text("utf-8"), re.DOTALL)[1]
    commands = re.findall(r"^\$ vlcheck (.+)$", first, re.MULTILINE)
    assert len(commands) == 2
    for command in commands:
        done = subprocess.run(
            [installed / "vlcheck", *command.split()], cwd=tmp_path, text=True, capture_output=True, check=False,
            env={"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)},
        )  # fmt: skip
        assert (done.returncode, done.stderr) == (0, ""), command
    assert "0 errors, 0 warnings" in done.stdout


def test_the_plugin_is_found(installed, tmp_path):
    """Pytest lists the option where vlcheck is installed."""
    done = subprocess.run(
        [installed / "python", "-m", "pytest", "--help"], cwd=tmp_path, text=True, capture_output=True, check=True
    )
    assert "--vlcheck=CONFIG" in done.stdout
