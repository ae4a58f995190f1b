"""What the command line says instead of a traceback."""

from __future__ import annotations

import json
import sys

import pytest

from compare import __main__ as command
from compare import page


@pytest.mark.parametrize(
    ("runs", "said"),
    [
        (None, "holds no run to write of"),
        ([], "holds no run to write of"),
        ([{"scenario": "known", "strategy": "backoff", "seed": 1}], "holds no run of the oracle, with which all are compared"),
    ],
)
def test_a_page_needs_runs(runs, said, tmp_path, monkeypatch, capsys):
    results = tmp_path / "results.jsonl"
    if runs is not None:
        results.write_text("".join(json.dumps(run) + "\n" for run in runs))
    monkeypatch.setattr(sys, "argv", ["compare", "--results", str(results), "page"])
    monkeypatch.setattr(page, "write", lambda kept: pytest.fail(f"a page of {kept} was written"))
    assert command.main() == 1
    told = capsys.readouterr().err
    assert told.startswith(f"compare: {results} {said}: first run `make compare`")
    assert "Traceback" not in told


def test_only_what_stands_between_the_marks_is_replaced():
    around = f"before\n{page.BEGIN}\nold\n{page.END}\nafter\n"
    assert page.between_marks(around, "new") == f"before\n{page.BEGIN}\nnew\n{page.END}\nafter\n"
    with pytest.raises(ValueError, match="has to stand behind"):
        page.between_marks(f"{page.END}\n{page.BEGIN}\n", "new")


def test_the_readme_has_the_marks():
    page.between_marks((page.REPOSITORY / "README.md").read_text(), "")
