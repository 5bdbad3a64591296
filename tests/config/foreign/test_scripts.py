"""Scripts and notebooks after public ones: what the reader takes from each, with its line, and what it does not."""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path

import pytest

from vlcheck.config.load import load
from vlcheck.config.native_text import write_native
from vlcheck.engine import audit
from vlcheck.finding import Verdict
from vlcheck.spec import ConfigError

HOME = Path(__file__).parents[3] / "fixtures" / "scripts"
SCRIPTS = sorted(path.name for path in (*HOME.glob("*.py"), *HOME.glob("*.ipynb")))
EXPECTED = HOME / "expected"


def account(name: str, **options) -> str:
    """What is read of a script, without the framework's defaults and the versions that are installed here."""
    try:
        spec = load(name, **options)
    except ConfigError as refused:
        return f"{refused}\n"
    lines = [line for line in write_native(spec, name).splitlines() if "# default of" not in line]
    text = "\n".join(line for line in lines if not line.startswith("  framework_version:")) + "\n"
    for package in ("trl", "transformers"):
        text = text.replace(f"{package} {version(package)}", package)
    return text.replace(f"{HOME}/", "")


@pytest.fixture
def here(monkeypatch):
    """Places are told relative to the folder of the scripts."""
    monkeypatch.chdir(HOME)


def test_there_are_enough():
    assert len(SCRIPTS) >= 25
    assert {path.stem for path in EXPECTED.iterdir()} == {Path(name).stem for name in SCRIPTS}


@pytest.mark.parametrize("name", SCRIPTS)
def test_what_is_read_of_a_script_and_what_is_not(name, here, pytestconfig):
    """Exactly the file beside it: each value with its line, each gap with what it decides, each assumption."""
    expected = EXPECTED / f"{Path(name).stem}.txt"
    if pytestconfig.getoption("update_golden"):
        expected.write_text(account(name), encoding="utf-8")

    assert account(name) == expected.read_text(encoding="utf-8")


def test_a_converted_script_is_the_same_run(here, tmp_path):
    """But for versions of one's own: what it converts to reads as an equal run."""
    spec = load("accelerate-loop.py")
    (tmp_path / "run.yaml").write_text(write_native(spec, "accelerate-loop.py"))

    assert load(tmp_path / "run.yaml") == spec


NEWCOMER = HOME / "newcomer.py"


def test_the_newcomers_script():
    """Each value stands at its line, and rows that are not here are said to be."""
    report = audit(load(NEWCOMER, gpu="l4"), offline=True, select=("VLC9",))
    (outcome,) = report.found()
    (finding,) = outcome.findings
    assert outcome.rule.code == "VLC902"
    assert (finding.where.line, finding.where.column) == (15, 27)
    assert finding.message.startswith('load_dataset.data_files: "train.jsonl" is not here, so no row of it was read')
    reentrant = report.spec.where("training.gradient_checkpointing_kwargs.use_reentrant")
    assert (report.spec.training.reentrant, reentrant.line, reentrant.column) == (True, 14, 78)


@pytest.mark.slow
def test_verdicts_on_the_newcomers_script():
    """TRL's own collator trains everything; reentrant checkpointing starves none of these adapters, as is measured."""
    report = audit(load(NEWCOMER), offline=True, select=("VLC207", "VLC406"), rows=2)
    (outcome,) = report.found()
    assert (outcome.rule.code, outcome.findings[0].where.line) == ("VLC207", 16)
    assert outcome.findings[0].message.startswith(f"trl {version('trl')}'s own collator")
    assert [outcome.rule.code for outcome in report.outcomes if outcome.verdict is Verdict.PASSED] == ["VLC406"]


RECEIPTS = Path(__file__).parents[4] / "shared" / "field" / "rows" / "receipts.jsonl"


@pytest.mark.slow
@pytest.mark.parametrize(("framework", "code", "peak"), [("0.24.0", "VLC303", 21.9), (None, None, 11.9)])
def test_the_newcomers_memory(framework, code, peak):
    """On an L4, with rows of receipts: to the brim with TRL 0.24's logits, and half of it with those of 1.16."""
    if not RECEIPTS.is_file():
        pytest.skip("the rows of ../shared/field are not here")
    spec = load(NEWCOMER, gpu="l4", framework_version=framework, settings=[f"data.path={RECEIPTS}"])
    report = audit(spec, offline=True, select=("VLC302", "VLC303"))
    assert [outcome.rule.code for outcome in report.found()] == ([code] if code else [])
    assert f"{peak} GiB projected" in report.subject["memory"]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("t.py", "import torch\nx = (\n", "2:5: is not valid Python: '(' was never closed"),
        ("t.py", "import torch\nx = 1\n", "1:1: trains nothing; allowed: a script that calls SFTTrainer(...)"),
        ("t.ipynb", '{"cells": [', "1:1: is a broken notebook: Expecting value"),
        ("t.ipynb", '{"nbformat": 4}', "1:1: is a broken notebook: it has no list of cells"),
        (
            "t.ipynb",
            '{"cells": [{"cell_type": "code", "source": ["!pip install x\\n", "x = = 1"]}]}',
            "2:5: is not valid",
        ),
        ("t.py", "import x\n" + "(" * 400 + ")" * 400, "is not valid Python: too many nested parentheses"),
    ],
)
def test_what_is_no_training_is_refused_in_one_line(tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(ConfigError) as caught:
        load(tmp_path / name)
    (problem,) = caught.value.problems

    assert message in f"{problem.where.line}:{problem.where.column}: {problem.message}"
    assert ("cell 1" in problem.where.file) is ("x = = 1" in text)


WHOLE = """from transformers import AutoModelForImageTextToText
from trl import SFTTrainer
model = AutoModelForImageTextToText.from_pretrained('a/b')
model.model.vision_tower.requires_grad_(False)
SFTTrainer(model=model, train_dataset=None).train()
"""
UNSLOTH = """from unsloth import FastVisionModel
model, _ = FastVisionModel.from_pretrained('a/b', full_finetuning=True)
model = FastVisionModel.get_peft_model(model, r=16)
from trl import SFTTrainer
SFTTrainer(model=model, train_dataset=None).train()
"""


def test_a_script_without_adapters_trains_every_weight(tmp_path):
    """But those of parts that it freezes; it says that no adapter was seen."""
    (tmp_path / "t.py").write_text(WHOLE)
    spec = load(tmp_path / "t.py")
    assert (spec.lora, spec.training.freeze, spec.intent.vision) == (None, ("vision",), "freeze")
    assert any("no adapter is attached" in sentence for sentence in spec.origin.assumed)


def test_unsloths_full_fine_tune_has_no_adapters(tmp_path):
    """Its `get_peft_model` then returns the model as it is."""
    (tmp_path / "t.py").write_text(UNSLOTH)
    spec = load(tmp_path / "t.py")
    assert (spec.lora, spec.training.freeze) == (None, ())


def test_what_the_script_leaves_open_is_filled_in(here):
    """By `--set`: what was refused is read, and what was not understood no longer is told."""
    filled = load("argparse-main.py", settings=["data.max_length=2048"])
    assert (filled.data.max_length, filled.where("data.max_length").file) == (2048, "<command line>")
    assert [key.where.key for key in filled.origin.unread] == ["load_dataset.data_files"]
    spec = load(
        "trl-sft-vlm.py", settings=["model.id=google/gemma-3-4b-it", "lora.target_modules=all-linear", "lora.r=4"]
    )
    assert (spec.model.id, spec.lora.r, spec.training.reentrant) == ("google/gemma-3-4b-it", 4, False)


SIDE_EFFECTS = """
import os
from pathlib import Path
Path({path!r}).write_text("import")
import vlcheck_no_such_module
from trl import SFTConfig, SFTTrainer
from peft import LoraConfig

def touch(when):
    Path({path!r}).write_text(when)
    return lambda function: function

@touch("decorator")
def build(rank=touch("default"), *, size=os.system("touch {path}")):
    exec("open({path!r}, 'w')")
    return LoraConfig(r=8)

class Config(touch("base")):
    value = touch("class")
    def __init__(self): touch("init")

[touch("comprehension") for _ in range(3)]
f"{{touch('f-string')}}"
with open({path!r}, "w") as file:
    file.write("with")
SFTTrainer(model="a/b", args=SFTConfig("out"), train_dataset=[], peft_config=build()).train()
"""


def test_no_code_of_a_script_runs(tmp_path):
    """Nor does reading import what it imports, or write what it would write: at import, in defaults, in decorators."""
    mark = tmp_path / "mark"
    (tmp_path / "t.py").write_text(SIDE_EFFECTS.format(path=str(mark)))
    cells = [
        {"cell_type": "code", "source": [f"!touch {mark}\n", f"%run {mark}\n", SIDE_EFFECTS.format(path=str(mark))]}
    ]
    (tmp_path / "t.ipynb").write_text(json.dumps({"cells": cells, "nbformat": 4}))
    for name in ("t.py", "t.ipynb"):
        assert load(tmp_path / name).lora.r == 8
    assert not mark.exists()


@pytest.mark.parametrize(
    ("rows", "own"),
    [
        ("load_dataset('a/b', split='train')", False),
        ("load_dataset('a/b', split='train').map(len)", True),
        ("[str(row) for row in load_dataset('a/b')['train']]", True),
        ("[{'image': 1}]", True),
    ],
)
def test_rows_that_a_script_makes_have_columns_of_their_own(tmp_path, rows, own):
    """What its collator then loses to `remove_unused_columns` is not claimed (VLC221)."""
    text = f"from trl import *\nfrom peft import LoraConfig\nfrom datasets import load_dataset\nf, ds = len, {rows}\n"
    end = "SFTTrainer('a/b', SFTConfig(), lambda rows: f, train_dataset=ds, peft_config=LoraConfig()).train()\n"
    (tmp_path / "t.py").write_text(text + end)
    spec = load(tmp_path / "t.py")

    assert spec.origin.own_rows is own
    assert (spec.data.dataset, spec.data.collator) == (None, f"{tmp_path}/t.py:data_collator")


@pytest.mark.slow
def test_a_scripts_own_collator_is_judged_where_code_is_allowed(tmp_path):
    """At its line in the script, by the run's processor; without leave the label rules are skipped."""
    text = (HOME / "trl-gemma3-mmiu.py").read_text().replace("process_vision_info(e[", "list(e[").replace(
        'list(e["messages"])', 'e["images"]'
    )  # fmt: skip
    (tmp_path / "train.py").write_text(text)
    spec = load(tmp_path / "train.py")
    refused = audit(spec, offline=True, select=("VLC202",))
    (outcome,) = audit(spec, offline=True, allow_code=True, select=("VLC202",)).found()

    assert "was not run, which takes --allow-code" in refused.with_verdict(Verdict.SKIPPED)[0].reason
    assert (outcome.findings[0].where.line, outcome.rule.code) == (55, "VLC202")
    assert outcome.findings[0].message.startswith(f"{tmp_path}/train.py:collate_fn: ")


def test_a_notebooks_lines_of_ipython(tmp_path):
    """Emptied where they are no Python; an install states versions, over several lines too; `%` may be an operator."""
    cells = [
        "%%bash\npip install trl==0.1\nfor x in y; do echo; done",
        '!pip install -q "trl==0.24.0" \\\n    transformers==4.57.6\nfiles = !ls\nif files:\n    !pip install torch',
        "from trl import *\nname = ('a/%s'\n%\n'b')\nname?",
        "name = ('a/%s'\n% 'b')",
        "from peft import LoraConfig\nSFTTrainer(name, train_dataset=None, peft_config=LoraConfig()).train()",
    ]
    held = [{"cell_type": "code", "source": source.splitlines(keepends=True)} for source in cells]
    (tmp_path / "t.ipynb").write_text(json.dumps({"cells": [{"cell_type": "markdown", "source": "x ="}, *held]}))
    spec = load(tmp_path / "t.ipynb")

    assert (spec.model.id, spec.training.framework_version) == ("a/b", "0.24.0")
    assert (spec.where("lora").file, spec.where("lora").line) == (f"{tmp_path}/t.ipynb:cell 6", 2)
    assert [said.rpartition(" installs ")[2] for said in spec.origin.assumed if " installs " in said] == [
        "trl 0.24.0, and that version was judged",
        "transformers 4.57.6, and that version was judged",
    ]
