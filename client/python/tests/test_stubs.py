"""src/permitd/v1 is what `generate` makes of proto/: nobody edits it."""

from __future__ import annotations

import subprocess
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_stubs_are_in_step_with_proto(tmp_path):
    """Goal: a change of proto/ that was not followed here fails."""
    subprocess.run([ROOT / "generate", tmp_path], check=True, timeout=300)
    made = {path.name: path.read_text() for path in (tmp_path / "permitd/v1").iterdir()}
    assert len(made) == 6
    for name, text in made.items():
        kept = (ROOT / "src/permitd/v1" / name).read_text()
        assert kept == text, f"{name} is out of step: run client/python/generate"
