"""Everything that README and docs show is real: blocks, links, paths, commands, names and figures."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import json
import math
import re
import shlex
from collections import Counter
from pathlib import Path

import pytest
import typer

from vlcheck.cli.app import app
from vlcheck.model.families import FAMILIES
from vlcheck.reports.rulebook import list_rules
from vlcheck.rules import every_rule

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.glob("*.md"))]
each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
BLOCK = re.compile(r"<!-- (?P<source>[^\n]+?) -->\n```(?P<kind>text|python)\n(?P<shown>.*?)```", re.DOTALL)
FENCED = re.compile(r"^```(?P<kind>\w+)\n(?P<body>.*?)^```$", re.DOTALL | re.MULTILINE)


def read(page: Path) -> str:
    return page.read_text("utf-8")


def prose(page: Path) -> str:
    """A page without its fenced blocks."""
    return FENCED.sub("", read(page))


def words(page: Path) -> str:
    """A page on one line."""
    return " ".join(read(page).split())


# --------------------------------------------------------------------------- blocks


def output(source: str) -> str:
    """What a marked block must show: the list of rules, a file, its paragraphs on a rule, or one of its functions."""
    if source == "vlcheck rules":
        return list_rules(every_rule())
    path, _, part = source.partition(": ")
    text = (ROOT / path).read_text("utf-8")
    if not part:
        return text
    if path.endswith(".py"):
        return function(text, part)
    found = [paragraph for paragraph in text.split("\n\n") if part in paragraph]
    assert found, f"{path} says nothing of {part}"
    return "\n\n".join(found).rstrip("\n") + "\n"


def function(text: str, name: str) -> str:
    """The lines of a function, its decorators included."""
    (node,) = (n for n in ast.parse(text).body if isinstance(n, ast.FunctionDef) and n.name == name)
    first = min([node.lineno, *(d.lineno for d in node.decorator_list)])
    return "\n".join(text.splitlines()[first - 1 : node.end_lineno]) + "\n"


def test_shown_output_is_real(request):
    """Each marked block equals its source; `--update-golden` writes it."""
    shown: Counter[str] = Counter()
    for page in PAGES:
        text = read(page)
        if request.config.getoption("--update-golden"):
            text = BLOCK.sub(lambda m: f"<!-- {m['source']} -->\n```{m['kind']}\n{output(m['source'])}```", text)
            page.write_text(text, "utf-8")
        for block in BLOCK.finditer(text):
            shown[page.name] += 1
            assert block["shown"] == output(block["source"]), block["source"]
    assert shown == {"README.md": 1, "CONTRIBUTING.md": 1, "rules.md": 1, "training.md": 1}


@each_page
def test_no_output_stands_without_its_source(page):
    """A block of text is real output, and says where it is held."""
    text = read(page)
    assert len(re.findall(r"^```text$", text, re.MULTILINE)) == sum(b["kind"] == "text" for b in BLOCK.finditer(text))


@each_page
def test_shown_commands_parse(page):
    """Every command of vlcheck that is shown exists, knows these options and takes these arguments."""
    group = typer.main.get_command(app)
    for name, *arguments in commands(page):
        assert name in group.commands, name
        command = group.commands[name]
        context = command.make_context(name, [], resilient_parsing=True)
        _, left_over, _ = command.make_parser(context).parse_args(list(arguments))  # raises for an unknown option
        assert left_over == [], (name, arguments)


def commands(page: Path) -> list[list[str]]:
    """Commands of vlcheck: those of console blocks, and those in backticks."""
    consoles = "\n".join(block["body"] for block in FENCED.finditer(read(page)) if block["kind"] in ("console", "text"))
    shown = re.findall(r"^\$ (?:.*&& )?vlcheck (.+)$", consoles, re.MULTILINE)
    shown += re.findall(r"`vlcheck ([a-z][a-z-]*(?: [^`]+)?)`", prose(page))
    return [shlex.split(line.partition(" > ")[0], comments=True) for line in shown]


def test_named_options_exist():
    """Every option that a page names in backticks is an option of some command."""
    group = typer.main.get_command(app)
    known = {option for command in group.commands.values() for p in command.params for option in p.opts}
    known |= {"--update-golden", "--durations", "--vlcheck", "--dist", "--require-gate"}  # pytest's
    for page in PAGES:
        named = set(re.findall(r"`(--[a-z][a-z-]*)", prose(page)))
        assert named <= known, (page.name, named - known)


# --------------------------------------------------------------------------- links, paths, names


def anchors(page: Path) -> set[str]:
    """The anchors that a forge gives to a page's headings."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@each_page
def test_links_resolve(page):
    """Every relative link leads to a file that is there, and to a heading that it has."""
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if target.startswith("http"):
            continue
        path, _, anchor = target.partition("#")
        linked = (page.parent / path).resolve() if path else page
        assert linked.exists(), target
        assert not anchor or anchor in anchors(linked), target


def test_every_page_is_in_the_index():
    """No page of docs is unlinked; the README leads to the index."""
    linked = set(re.findall(r"\]\((\w[\w-]*\.md)\)", read(DOCS / "README.md")))
    assert linked == {page.name for page in DOCS.glob("*.md")} - {"README.md"}
    assert "](docs/README.md)" in read(ROOT / "README.md")


@each_page
def test_paths_exist(page):
    """Every file and folder of this project that a page names is there."""
    if page.name == "CHANGELOG.md":
        return  # names what was
    named = set(re.findall(r"(?<![\w./-])((?:vlcheck|tests|fixtures|docs|\.ci)/[\w./*-]*[\w/*])", read(page)))
    for path in sorted(named - {"vlcheck/tiny-gemma4"}):  # a model's id
        assert list(ROOT.glob(path)) if "*" in path else (ROOT / path).exists(), path
    for module in re.findall(r"python -m (tests\.[\w.]+)", read(page)):
        assert importlib.util.find_spec(module), module


@each_page
def test_dotted_names_exist(page):
    """Every name of the package that a page writes out can be imported."""
    if page.name == "CHANGELOG.md":
        return  # see the tests of its tables
    for name in sorted(set(re.findall(r"`(vlcheck(?:\.\w+)+)(?=[`(])", prose(page)))):
        if not name.endswith((".yaml", ".json", ".md")):
            assert resolves(name), name


def resolves(name: str) -> bool:
    """Whether a dotted name leads to a module, or to something in one."""
    parts = name.split(".")
    for count in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:count]))
        except ModuleNotFoundError:
            continue
        for attribute in parts[count:]:
            fields = getattr(found, "__dataclass_fields__", {})
            if not hasattr(found, attribute) and attribute not in fields:
                return False
            found = getattr(found, attribute, None)
        return True
    return False


NAMED = sorted({name for page in PAGES for name in re.findall(r"`(test_\w+)`", read(page))})


@pytest.mark.parametrize("name", NAMED)
def test_named_tests_exist(name):
    """Every test that a page leans on is there."""
    assert any(f"def {name}(" in path.read_text("utf-8") for path in (ROOT / "tests").rglob("test_*.py"))


def test_named_rows_exist():
    """Every row that the popular story's table names is a row of that test."""
    from tests.rules.test_popular_story import ROWS

    named = set(re.findall(r"\| `([a-z][^`_]*)` \|", read(DOCS / "popular-account.md")))
    assert len(named) == 6
    assert named <= {row.name for row in ROWS}


def test_recipes_are_named():
    """Every recipe that ships, the starter aside, is in the docs, and no other."""
    from importlib.resources import files

    shipped = {Path(file.name).stem for file in (files("vlcheck") / "recipes").iterdir()} - {"starter"}
    text = "".join(read(page) for page in PAGES)
    assert set(re.findall(r"`(gemma[34]-\w+-pet[\w-]*|tiny)`", text)) == shipped


def test_every_audit_option_is_explained():
    """The table of options holds all that `vlcheck audit` takes."""
    table = read(DOCS / "use.md").partition("## Audit")[2].partition("\n## ")[0]
    taken = {p.opts[0] for p in typer.main.get_command(app).commands["audit"].params if p.opts[0].startswith("--")}
    assert taken - set(re.findall(r"--[a-z-]+", table)) == {"--debug"}


def test_every_command_is_shown():
    """The page on use shows every command."""
    assert {line[0] for line in commands(DOCS / "use.md")} == set(typer.main.get_command(app).commands)


# --------------------------------------------------------------------------- figures


def test_readme_is_one_screen():
    assert len(read(ROOT / "README.md").splitlines()) <= 150


def test_numbers_of_rules_and_families():
    """What the README counts is what there is."""
    by_subject = Counter(rule.code[:4] for rule in every_rule())
    text = read(ROOT / "README.md")
    assert {row[0]: int(row[1]) for row in re.findall(r"^\| `(VLC\d)` \| (\d+) \|", text, re.MULTILINE)} == by_subject
    assert f"\n{by_subject.total()} rules," in text
    assert f"- {len(FAMILIES)} model families " in text


def test_figures_of_the_31b_run_are_the_measured_ones():
    """What is said of the run on an H100 is what its file holds."""
    run = json.loads((ROOT / "fixtures/measured/2026-11-24-h100-train-31b.json").read_text("utf-8"))
    upper = run["memory"][0][0]["upper"]
    said = (
        f"peak {max(run['peaks']) / 2**30:.2f} GiB allocated, the plan's upper bound {upper / 2**30:.2f}",
        f"a checkpoint of {run['checkpoint_bytes'] / 2**30:.1f} GiB written in {min(run['save']):.1f} to "
        f"{max(run['save']):.1f} s",
        f"{run['ended_after']:.1f} s from SIGTERM to the end of the process",
        f"Taken up after step {run['last_before']}",
    )

    text = words(DOCS / "training.md")
    assert [figure for figure in said if figure not in text] == []
    assert run["losses_parted"] == run["losses_whole"]


def test_figures_of_the_probes_are_the_measured_ones():
    """Driver-visible memory of the three probes, measured and projected."""
    said = []
    for name, kept in (("QLoRA", "gemma4-31b-pet"), ("bf16 LoRA", "bf16"), ('the "4-bit" 26B-A4B', "a4b")):
        file = ROOT / f"fixtures/measured/2026-11-24-h100-probe-{kept}.json"
        driver = json.loads(file.read_text("utf-8"))["memory"]["driver"]
        measured, projected = (driver[f"{kind}_bytes"] / 2**30 for kind in ("measured", "projected"))
        unit, word = (" GiB driver-visible", "projected ") if name == "QLoRA" else ("", "")
        said.append(f"{name} {measured:.1f}{unit} ({word}{projected:.1f})")

    assert ", ".join(said) in words(DOCS / "memory.md")


def test_figures_of_the_projection_are_the_measured_ones():
    """How far bounds and projections were off, as README and docs say it."""
    from tests.gpu.report import errors, rows, summary

    worst = summary(errors([run for run in rows() if run["split"] == "held-out"], "allocated_bytes"))["worst"]
    assert f"{len(rows())} measured runs on an H100 was off by {worst:.2%} at worst" in words(
        ROOT / "README.md"
    ).replace(" %", "%")
    bounds = [run["projected"]["upper_bytes"] / run["measured"]["allocated_bytes"] - 1 for run in rows()]
    assert f"no bound was more than {math.ceil(1000 * max(bounds)) / 1000:.1%} above" in words(
        DOCS / "memory.md"
    ).replace(" %", "%")
    assert f"2026-11-24), {len(rows())} runs" in words(DOCS / "memory.md")


def test_figures_of_compiled_layers_are_the_measured_ones():
    """Images a second of three sides, the last time that each was measured."""
    file = ROOT / "fixtures/measured/trainer-h100-2026-11-27.jsonl"
    lines = [json.loads(line) for line in file.read_text("utf-8").splitlines()]
    found = {(line["name"].split()[1], line["side"], line["rows"]): line for line in lines
             if "images_per_second" in line and line.get("share", 1) == 1 and " of " not in line["name"]}  # fmt: skip
    titles = {"gemma-4-31B-it": "Gemma 4 31B", "gemma-4-E4B-it": "Gemma 4 E4B", "gemma-3-4b-it": "Gemma 3 4B",
              "Qwen2.5-VL-7B-Instruct": "Qwen2.5-VL 7B"}  # fmt: skip
    text = words(DOCS / "training.md")
    for model, rows in [*((model, 16) for model in titles), ("gemma-4-31B-it", 8)]:
        sides = [found.get((model, side, rows)) for side in ("trl", "readable", "compiled")]
        peak = model == "gemma-4-31B-it"  # of the others, the side before left something on the card
        shown = [
            side and f"{side['images_per_second']:.2f}" + f" ({side['peak_gib']:.1f} GiB)" * peak for side in sides
        ]
        row = " | ".join([f"{titles[model]}, {rows} rows", *(each or "not measured" for each in shown)])
        assert f"| {row} |" in text, row
    kept = next(line for line in reversed(lines) if line.get("share", 1) != 1 and "images_per_second" in line)
    shown = f"{kept['images_per_second']:.2f} ({kept['peak_gib']:.1f} GiB)"
    assert f"| Gemma 4 31B, {kept['rows']} rows, a share of {kept['share']} | | | {shown} |" in text
    cosines = {line["name"]: min(line["cosines"].values()) for line in lines if "cosines" in line}
    compiled = min(value for name, value in cosines.items() if "compiled and readable" in name)
    assert f"a cosine of {math.floor(1000 * (compiled + 5e-4)) / 1000:.3f} or more" in text
    assert min(value for name, value in cosines.items() if "readable and trl" in name) >= 0.9999


def test_figures_of_the_reproduction_are_the_measured_ones():
    """What each of the article's systems names on the stand-in, with both prompts and by both scores."""
    found: dict[str, set[tuple[int, int]]] = {}
    for file in sorted((ROOT / "fixtures/measured").glob("reproduction-*.jsonl")):
        for line in map(json.loads, file.read_text("utf-8").splitlines()):
            scores = {(line[score]["correct"], line[score]["n"]) for score in ("exact", "lenient")}
            found[line["system"]] = found.get(line["system"], set()) | scores
    failing = ("gemma3-baseline", "gemma4-baseline", "standard-lora")
    assert found == {**{name: {(0, 370)} for name in failing}, "qlora-all-linear": {(370, 370)}}
    assert "0 of 370, `qlora-all-linear` 370 of 370, with either prompt and by either score" in words(
        DOCS / "training.md"
    )


# --------------------------------------------------------------------------- Python that is shown


def shown_python(page: Path) -> list[str]:
    """The blocks of Python that a reader is meant to copy."""
    return [block["body"] for block in FENCED.finditer(BLOCK.sub("", read(page))) if block["kind"] == "python"]


@pytest.mark.parametrize("page", [ROOT / "README.md", DOCS / "use.md"], ids=["README.md", "use.md"])
def test_shown_audit_runs(page, tmp_path, monkeypatch):
    """The blocks that judge a live model do so, on a tiny one."""
    from peft import LoraConfig, get_peft_model

    from tests import tiny
    from vlcheck.model.build import build_base
    from vlcheck.model.random_weights import materialise

    monkeypatch.chdir(tmp_path)
    folder = tiny.write_folder(tmp_path / "model", tiny.gemma4())
    Path("run.yaml").write_text(f"model: {{id: {folder}, dtype: float32}}\nlora: {{target_modules: all-linear}}\n")
    base = build_base(tiny.gemma4(), dtype="float32")
    materialise(base, "cpu", seed=0)
    with_bounds(base)
    (block,) = shown_python(page)
    names = {"my_peft_model": get_peft_model(base, LoraConfig(r=4, target_modules="all-linear"))}

    exec(compile(block, page.name, "exec"), names)

    assert names["report"].exit_code() == 0
    assert any("handed in" in remark for remark in names["report"].remarks)


def with_bounds(model) -> None:
    """Give a drawn model finite clip bounds."""
    import torch

    with torch.no_grad():
        for name, buffer in model.named_buffers():
            if name.endswith(("_min", "_max")):
                buffer.fill_(-3.0 if name.endswith("_min") else 3.0)


def test_shown_collator_test_runs():
    """The test that the page on labels shows passes on a sound collator and fails on a broken one."""
    from tests.broken import collators
    from tests.label_samples import own
    from vlcheck.model.catalogue import lookup

    (block,) = shown_python(DOCS / "labels.md")
    sound = own(lookup("google/gemma-4-26B-A4B-it").config)

    for collator, passes in ((sound, True), (collators.everything(sound.processor), False)):
        names = {"my_collator": collator, "my_processor": sound.processor}
        exec(compile(block, "labels.md", "exec"), names)
        if passes:
            names["test_labels_are_the_answers"]()
        else:
            with pytest.raises(AssertionError):
                names["test_labels_are_the_answers"]()


# --------------------------------------------------------------------------- CHANGELOG, CONTRIBUTING


def table(heading: str) -> list[tuple[str, str]]:
    """The rows of a table of the changelog: old, new."""
    section = read(ROOT / "CHANGELOG.md").partition(f"### {heading}\n")[2].partition("\n### ")[0]
    return re.findall(r"^\| `(vlcheck\.[\w.*]+)` \| `(vlcheck\.[\w.*]+)` \|$", section, re.MULTILINE)


def test_moved_modules_are_where_the_changelog_says():
    """Every new path imports."""
    moved = table("Moved")
    assert len(moved) == 116
    assert [new for _, new in moved if not is_module(new)] == []


def test_no_old_path_is_left():
    """An old path is gone, or is a room now whose file defines nothing: no shims."""
    for old, _ in table("Moved"):
        if is_module(old):
            home = Path(str(importlib.util.find_spec(old).origin))
            assert home.name == "__init__.py", old
            assert all(isinstance(n, ast.Expr | ast.ImportFrom) for n in ast.parse(home.read_text("utf-8")).body), old


def is_module(name: str) -> bool:
    try:
        importlib.import_module(name)
    except ModuleNotFoundError:
        return False
    return True


@pytest.mark.parametrize(("old", "new"), table("Renamed"))
def test_renamed_things_have_their_new_name_only(old, new):
    """The new name leads somewhere; the old module, where its path is still one, no longer defines the old name."""
    for name in FAMILY_FILES if "*" in old else ("",):
        assert resolves(new.replace("*", name)), new
        assert not defines(*old.replace("*", name).rsplit(".", 1)), old


FAMILY_FILES = ("gemma3", "gemma4", "llava", "qwen2_5_vl")
"""Some of the modules that a `*` stands for."""


def defines(module: str, name: str) -> bool:
    """Whether a module's own text makes a top-level name; one that it imports for its own use is another's."""
    if not is_module(module):
        return False
    tree = ast.parse(Path(str(importlib.import_module(module).__file__)).read_text("utf-8"))
    made = {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    made |= {leaf.id for node in tree.body if isinstance(node, ast.Assign) for leaf in node.targets
             if isinstance(leaf, ast.Name)}  # fmt: skip
    made |= {
        node.target.id for node in tree.body if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
    }
    return name in made


def test_hooks_run_what_ci_runs():
    """The checks before a commit are the static checks of `.ci/run`, in its order."""
    from ruamel.yaml import YAML

    (repo,) = YAML(typ="safe").load(read(ROOT / ".pre-commit-config.yaml"))["repos"]
    static = (ROOT / ".ci/run").read_text("utf-8").partition("'.[dev]'\n")[2].split("\n")
    assert [hook["entry"] for hook in repo["hooks"]] == [line for line in static if line]
    assert all(hook["language"] == "system" for hook in repo["hooks"])


def test_ci_runs_the_readmes_test_command():
    """What the README says to type is what a commit must pass."""
    lines = (ROOT / ".ci/run").read_text("utf-8").splitlines()
    typed = re.search(r"^\$ (pip install -c .*test.*) && (pytest)$", read(ROOT / "README.md"), re.MULTILINE)
    assert typed
    assert typed[1].replace("install", "install --quiet") in lines
    assert typed[2] in lines


def test_the_walked_through_rule_is_as_told():
    """The broken sample that CONTRIBUTING quotes is the one of that rule."""
    quoted = re.search(r'`("VLC108": run\(.+?\))`', words(ROOT / "CONTRIBUTING.md"))
    assert quoted
    assert quoted[1] in (ROOT / "tests/samples.py").read_text("utf-8")
