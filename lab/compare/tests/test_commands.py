"""What the command line says instead of a traceback."""

from __future__ import annotations

import json
import sys

import pytest

from compare import __main__ as command
from compare import build, page

BACKOFF = {"scenario": "known", "strategy": "backoff", "seed": 1, "build": "now"}


@pytest.mark.parametrize(
    ("runs", "said"),
    [
        (None, "holds no run to write of"),
        ([], "holds no run to write of"),
        ([BACKOFF], "holds no run of the oracle, with which all are compared"),
        ([BACKOFF | {"strategy": "oracle", "build": "older"}], "holds no run to write of"),
    ],
)
def test_a_page_needs_runs(runs, said, tmp_path, monkeypatch, capsys):
    results = tmp_path / "results.jsonl"
    if runs is not None:
        results.write_text("".join(json.dumps(run) + "\n" for run in runs))
    monkeypatch.setattr(sys, "argv", ["compare", "--results", str(results), "page"])
    monkeypatch.setattr(build, "of", lambda *_: "now")
    monkeypatch.setattr(page, "write", lambda kept: pytest.fail(f"a page of {kept} was written"))
    assert command.main() == 1
    told = capsys.readouterr().err
    assert told.splitlines()[-1].startswith(f"compare: {results} {said}: first run `make compare`")
    assert "Traceback" not in told


def test_what_is_the_same_later_counts(tmp_path, monkeypatch, capsys):
    """Goal: of two runs of one build the later, and none of another build, which is said."""
    monkeypatch.setattr(build, "of", lambda *_: "now")
    runs = [BACKOFF | {"share": 1}, BACKOFF | {"share": 2}, BACKOFF | {"share": 3, "build": "older"}]
    results = tmp_path / "results.jsonl"
    results.write_text("".join(json.dumps(run) + "\n" for run in runs))
    assert [run["share"] for run in command._kept(results)] == [2]
    assert "1 runs in" in capsys.readouterr().err


def test_only_what_stands_between_the_marks_is_replaced():
    around = f"before\n{page.BEGIN}\nold\n{page.END}\nafter\n"
    assert page.between_marks(around, "new") == f"before\n{page.BEGIN}\nnew\n{page.END}\nafter\n"
    with pytest.raises(ValueError, match="has to stand behind"):
        page.between_marks(f"{page.END}\n{page.BEGIN}\n", "new")


def test_the_readme_has_the_marks():
    page.between_marks((page.REPOSITORY / "README.md").read_text(), "")
