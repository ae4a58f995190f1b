"""What a figure was made with, so that figures of two builds are not taken for one."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path

from . import strategies
from .processes import REPOSITORY, program
from .scenarios import BEHAVIOUR, Scenario

HERE = Path(__file__).resolve().parent
#: What runs in every cell.
SHARED = ("cell.py", "client.py", "figures.py", "jobs.py", "processes.py", "record.py")
#: What several strategies are made of.
COMMON = ("backoff.py", "calls.py", "semaphores.py", "sdk_anthropic.py", "permits.py")
#: What a reader is told changes no figure.
WORDS = ("title", "says", "note")


def of(scenario: Scenario, strategy: str) -> str:
    """A digest of the programs, the harness, the strategy and the scenario."""
    entry = strategies.entry(strategy)
    programs = [Path(program("PERMITD_LAB_BIN", "permitd-lab"))]
    if entry.server == "permitd":
        programs.append(Path(program("PERMITD_BIN", "permitd")))
    if entry.made_by == "rust":
        sources = [Path(program("PERMITD_COMPARE_CLIENT_BIN", "permitd-compare-client"))]
    elif entry.made_by == "typescript":
        sources = [HERE.parent / "clients/typescript.js", *_files(REPOSITORY / "client/typescript/dist", "*.js")]
    else:
        own = entry.made_by.partition(":")[0] + ".py"
        sources = [HERE / "strategies" / name for name in sorted({*COMMON, own})]
        if entry.server == "permitd":
            sources += _files(REPOSITORY / "client/python/src", "*.py")
    requirements = sorted(HERE.parent.glob("requirements*.txt"))
    played = {name: value for name, value in dataclasses.asdict(scenario).items() if name not in WORDS}
    digest = hashlib.sha256(repr((played, BEHAVIOUR)).encode())
    for path in [*programs, *(HERE / name for name in SHARED), *sources, *requirements]:
        digest.update(_of_file(path))
    return digest.hexdigest()[:16]


def _files(folder: Path, pattern: str) -> list[Path]:
    return sorted(folder.rglob(pattern))


def _of_file(path: Path) -> bytes:
    known = (path, path.stat().st_mtime_ns)
    if known not in _KNOWN:
        _KNOWN[known] = hashlib.sha256(path.read_bytes()).digest()
    return _KNOWN[known]


_KNOWN: dict[tuple[Path, int], bytes] = {}
