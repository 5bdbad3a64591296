"""`vlcheck fit` and `vlcheck probe`, from the command line and from Python, on a real tiny model."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests import tiny
from tests.memory.test_project import GEMMA, H100, spec
from vlcheck.gpus import Gpu, gpu, show_gib
from vlcheck.memory.alternatives import changes
from vlcheck.memory.plan import FitVerdict, MemoryPlan
from vlcheck.memory.probe import ProbeResult, probe_document
from vlcheck.memory.project import Simulation
from vlcheck.memory.search import fit, largest, needed
from vlcheck.memory.shape import Shape
from vlcheck.model.families import family_of
from vlcheck.reports.memory import render_fit, render_probe

CARD = Gpu(name="toy", title="Toy", total_bytes=600 * 2**20, major=9, teraflops=1.0, source="made up", measured=True,
           context_bytes=0)  # fmt: skip
CONFIG = """
model: {id: ./model, dtype: bfloat16}
quantization: {load_in_4bit: true, bnb_4bit_quant_type: nf4}
lora: {r: 4, target_modules: all-linear}
data: {max_soft_tokens: 70}
training: {bf16: true, gradient_checkpointing: true, gradient_accumulation_steps: 4, per_device_train_batch_size: 1}
hardware: {gpu: h100}
"""


@pytest.fixture
def folder(tmp_path):
    tiny.write_folder(tmp_path / "model", GEMMA)
    (tmp_path / "run.yaml").write_text(CONFIG)
    return tmp_path


def planned(shape: Shape, **training) -> MemoryPlan:
    """The plan that a search around a run begins with."""
    return Simulation(spec(**training), GEMMA, family_of(GEMMA)).plan(CARD, shape)


def test_largest_micro_batch_fits_and_a_larger_one_does_not():
    run = spec(gradient_accumulation_steps=8)
    found = fit(run, GEMMA, family_of(GEMMA), CARD, (H100,), Shape(rows=1, tokens=128, soft_tokens=70))
    assert found.plan.verdict is FitVerdict.FITS
    assert found.largest_rows > 1
    assert found.recommended is not None
    assert found.recommended.rows * found.recommended.accumulation == 8
    assert found.recommended.driver_bytes <= CARD.total_bytes
    assert [on.plan.gpu.name for on in found.cards] == ["h100"]


def test_remedy_is_for_rows_of_the_given_length():
    """What is recommended must fit the rows that were asked about, not those that the config would tell."""
    run, shape = spec(gradient_checkpointing=False, logits="all"), Shape(rows=1, tokens=1024, soft_tokens=70)
    simulation = Simulation(run, GEMMA, family_of(GEMMA))
    _, cheapest = changes(replace(simulation.settings, rows=1))[-1]
    card = replace(CARD, total_bytes=needed(simulation.plan(CARD, shape, cheapest)) + 2**20)
    found = fit(run, GEMMA, family_of(GEMMA), card, (), shape)
    assert found.plan.verdict is not FitVerdict.FITS
    assert found.remedy is not None
    assert found.remedy.plan.shape == shape


@pytest.mark.slow
def test_logits_that_take_the_most_are_said_to_be_spared():
    """Where the run fits all the same; the figure is the projection's, with that one setting changed."""
    shape = Shape(rows=8, tokens=128, soft_tokens=16)
    values = json.loads(json.dumps(tiny.llava_deep()))
    values["text_config"]["vocab_size"] = 64_000
    run = spec(logits="all", optim="sgd")
    found = fit(run, values, family_of(values), H100, (), shape)
    assert found.plan.lines[0].cause == "logits and loss"
    fewer = replace(run, training=replace(run.training, logits="supervised"))
    plan = Simulation(fewer, values, family_of(values)).plan(H100, shape)
    assert found.smaller.plan == plan
    assert found.rows_open
    assert f"largest micro-batch     {found.largest_rows} or more" in render_fit(found, "run.yaml")
    assert f"with logits: supervised: {show_gib(plan.driver_bytes)}" in render_fit(found, "run.yaml")


@pytest.mark.slow
def test_plan_of_a_card_does_not_depend_on_what_was_planned_before():
    """What one step learns of operations, the next may use, though its card has other kernels."""
    shape, old = Shape(rows=2, tokens=128, soft_tokens=70), gpu("t4")
    fresh, used = (Simulation(spec(), GEMMA, family_of(GEMMA)) for _ in range(2))
    used.plan(H100, shape)
    assert used.plan(old, shape) == fresh.plan(old, shape)


def test_largest_finds_the_edge_of_a_line():
    """Between two tried numbers the answer is on the safe side of the line through them."""

    class Plan:
        gpu, band, outside_bytes = CARD, 0.0, 0

        def __init__(self, rows: int) -> None:
            self.reserved_bytes = 2**20 * (50 + 10 * rows)
            self.verdict = FitVerdict.FITS if needed(self) <= CARD.total_bytes else FitVerdict.OVER

    found = largest(Plan, 1)
    assert Plan(found).verdict is FitVerdict.FITS
    assert Plan(found + 2).verdict is FitVerdict.OVER


def test_fit_prints_the_ledger(vlcheck, folder):
    code, out, err = vlcheck("fit", "run.yaml", "--gpu", "h100", "--offline")
    assert code == 0, err
    assert "cuBLAS workspace" in out
    assert "largest micro-batch" in out
    assert "recommended: micro-batch 4 x accumulation 1" in out


def test_unknown_card_is_one_clear_error(vlcheck, folder):
    """It names the known cards and what takes any other; a card of another size is not suggested."""
    code, _out, err = vlcheck("fit", "run.yaml", "--gpu", "h1000")
    assert code == 2
    assert err.startswith("error: --gpu: no GPU 'h1000' (known: rtx-pro-6000, h100, ")
    assert err.endswith("); --memory-gib takes any card\n")


def test_unknown_card_in_a_config_skips_the_memory_rules_alone(vlcheck, folder):
    """Another rule runs, and what the run takes is told all the same."""
    (folder / "run.yaml").write_text(CONFIG.replace("gpu: h100", "gpu: v100"))
    code, out, _err = vlcheck("audit", "run.yaml", "--offline", "--format", "json", "--select", "VLC101,VLC302,VLC303")
    report = json.loads(out)
    skipped = {outcome["code"]: outcome["reason"] for outcome in report["outcomes"] if outcome["verdict"] == "skipped"}
    assert code in (0, 1)
    assert {"VLC302", "VLC303"} <= {code for code in skipped if code.startswith("VLC3")}
    assert re.match(
        r"no GPU 'v100' \(it comes as v100-32gb and v100-16gb\); projected: \d+\.\d+ GiB of one GPU", skipped["VLC302"]
    )
    assert "VLC101" not in skipped


def test_memory_alone_is_a_card_and_the_document_adds_up(vlcheck, folder):
    """`--memory-gib` and `--gpus` outrank the file; the doubt about an unnamed card's kernels is told."""
    _code, out, _err = vlcheck("fit", "run.yaml", "--memory-gib", "48", "--gpus", "2", "--offline", "--format", "json",
                               "--tokens", "128")  # fmt: skip
    plan = json.loads(out)["plan"]
    assert sum(line["bytes"] for line in plan["lines"]) == plan["allocated_bytes"]
    assert plan["shape"] == {"rows": 1, "tokens": 128, "soft_tokens": 70}
    assert (plan["gpu"], plan["basis"], plan["total_bytes"]) == ("unnamed", "extrapolated", 48 * 2**30)
    assert any("compute capability 8.9" in doubt for doubt in plan["doubts"])


def test_a_run_without_a_card_is_shown_on_all_of_them(vlcheck, folder):
    """From the smallest to the largest, with what the rows are taken to be at the top."""
    (folder / "run.yaml").write_text(CONFIG.replace("hardware: {gpu: h100}", ""))
    code, out, err = vlcheck("fit", "run.yaml", "--offline")
    assert code == 0, err
    assert "rows: assumed, not read" in out
    assert re.search(r"transformers \d+\.\d+", out)
    from vlcheck.gpus import GPUS

    titles = [row.title for row in sorted(GPUS, key=lambda row: row.total_bytes)]
    table = [line for line in out.splitlines() if line.startswith(tuple(titles))]
    assert len(table) == len(titles)
    assert table[0].startswith(titles[0])
    assert table[-1].startswith(titles[-1])
    assert "recommended" not in out


@pytest.mark.slow
def test_rows_of_the_data_decide(vlcheck, folder):
    """The longest answer is planned for; what is said on the command line outranks it."""
    rows = [{"messages": [{"role": "user", "content": "Tell me."}, {"role": "assistant", "content": "So. " * n}]}
            for n in (5, 400)]  # fmt: skip
    (folder / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (folder / "run.yaml").write_text(CONFIG.replace("data: {", "data: {path: ./rows.jsonl, modalities: [text], "))
    _, out, err = vlcheck("fit", "run.yaml", "--offline", "--format", "json", "--gpu", "h100")
    shape = json.loads(out)["plan"]
    assert shape["rows"]["basis"] == "rows", err
    assert shape["shape"]["tokens"] > shape["rows"]["answer_tokens"] > 400
    _, out, _ = vlcheck("fit", "run.yaml", "--offline", "--format", "json", "--gpu", "h100",
                        "--images", "2", "--answer-tokens", "40")  # fmt: skip
    shape = json.loads(out)["plan"]
    assert (shape["rows"]["images"], shape["rows"]["answer_tokens"]) == (2, 40)


def test_what_is_recommended_can_be_typed():
    """With room for some layers' activations and not for all, checkpointing is on: a share is no setting."""
    shape = Shape(rows=1, tokens=128, soft_tokens=70)
    with_, without = (needed(planned(shape, gradient_checkpointing=on)) for on in (True, False))
    card = replace(CARD, total_bytes=(with_ + without) // 2)
    best = fit(spec(), GEMMA, family_of(GEMMA), card, (H100,), shape)
    assert best.recommended.checkpointed is True
    assert not best.rows_open
    assert best.recommended.driver_bytes == best.plan.driver_bytes
    assert "gradient_checkpointing: true" in render_fit(best, "run.yaml")


def test_probe_of_a_run_that_does_not_fit_says_so():
    plan = planned(Shape(tokens=128, soft_tokens=70))
    document = probe_document(ProbeResult(plan, None, "CUDA out of memory.", 1.0, 0, 1), 3)
    shown = render_probe(document, "run.yaml")
    assert "does not fit" in shown
    assert "CUDA out of memory." in shown


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_probe_says_that_it_needs_a_gpu(vlcheck, folder):
    assert vlcheck("probe", "run.yaml", "--offline") == (
        2, "", "error: this machine has no CUDA GPU; run `vlcheck probe` where the run will train\n"
    )  # fmt: skip


def test_probe_document_has_the_schema_of_the_kept_ones():
    """Programs that read the documents in `fixtures/measured` read today's too."""
    kept = sorted((Path(__file__).parents[2] / "fixtures" / "measured").glob("*-probe-*.json"))
    plan = Simulation(spec(), GEMMA, family_of(GEMMA)).plan(H100, Shape(tokens=128, soft_tokens=70))
    document = probe_document(ProbeResult(plan, None, "out of memory", 0.0, 0, 1), steps=3)
    assert kept
    assert {json.loads(path.read_text())["schema"] for path in kept} == {document["schema"]}


def test_rows_of_the_table_have_sources():
    from vlcheck.gpus import GPUS

    assert all(row.source and row.total_bytes > 10 * 2**30 for row in GPUS)
    assert len({row.name for row in GPUS}) == len(GPUS) == 27
    assert gpu("RTX PRO 6000 Blackwell").name == "rtx-pro-6000"
    assert gpu("NVIDIA A100-SXM4-80GB").name == "a100-80gb"
    assert gpu("NVIDIA RTX 6000 Ada Generation").name == "rtx-6000-ada"
    assert [row.name for row in GPUS if not row.bf16] == ["t4", "v100-32gb", "v100-16gb", "p100"]


@pytest.mark.parametrize(
    ("name", "memory_gib", "title", "gib"),
    [
        (None, 48, "card of 48 GiB", 48),
        ("l4", 12, "L4, 12 GiB", 12),
        ("rtx-5060", 8, "rtx-5060, 8 GiB", 8),
        ("Tesla V100-SXM2-32GB", None, "V100 32GB", 31.74),
    ],
)
def test_card_by_name_memory_or_both(name, memory_gib, title, gib):
    """Memory that is told outranks the row's, and such a card counts as unmeasured."""
    from vlcheck.gpus import card

    found = card(name, memory_gib)
    assert (found.title, found.total_bytes, found.measured) == (title, int(gib * 2**30), False)


@pytest.mark.parametrize("name", ["a100", "a10", "l40", "rtx-6000", "h1000", "", "mi250x"])
def test_no_other_card_is_suggested(name):
    """An unknown name is refused, with the sizes it comes in where the rows say so, and never with a neighbour."""
    from vlcheck.gpus import UnknownGpu

    with pytest.raises(UnknownGpu, match="it comes as a100-80gb and a100-40gb" if name == "a100" else "known: ") as no:
        gpu(name)
    assert "did you mean" not in str(no.value)
