"""A newcomer's TRL script by all three doors: read, rehearsed, and live."""

from __future__ import annotations

import pytest

from tests.integrations.rehearsal.test_dry_run import ROOT, dry_run, work  # noqa: F401  a fixture
from tests.integrations.test_trl_and_processes import sft
from vlcheck import RunCheckCallback, RunCheckFailed

NEWCOMER = ROOT / "fixtures" / "scripts" / "newcomer.py"


@pytest.mark.slow
def test_the_same_script_by_three_doors(vlcheck, work, tmp_path, monkeypatch):  # noqa: F811
    """Everything is supervised, by every door. Memory is told by two: TRL 1.16 chunks its logits, 0.24 held them whole.

    Its reentrant checkpointing starves nothing: TRL lets the inputs need gradients.
    """
    monkeypatch.chdir(tmp_path)  # no rows: images of 1024 x 768 are assumed
    for version, told in (("1.16.0", "8.7 GiB projected"), ("0.24.0", "12.5 GiB projected")):
        code, out, _ = vlcheck("audit", "--offline", "--gpu", "l4", "--framework-version", version, str(NEWCOMER))
        assert code == 0
        assert f"warning VLC207 everything-supervised  {NEWCOMER}:16" in out
        assert told in out
        assert "VLC406" not in out
        assert ("warning VLC304 full-logits" in out) == (version == "0.24.0")

    code, out, err = dry_run(work, "--gpu", "l4", NEWCOMER)
    assert code == 1, err
    assert f"error VLC207 everything-supervised  {NEWCOMER}:13" in out
    assert "card L4" in out
    assert "VLC406" not in out
    assert "VLC009" not in out  # every part that is trained has its gradient

    trainer = sft(tmp_path, split=False)
    trainer.add_callback(RunCheckCallback())
    with pytest.raises(RunCheckFailed, match=r"VLC207 everything-supervised: .* \(\S*test_three_doors\.py:\d+\)"):
        trainer.train()
