"""docs/tutorial.md, run as it stands: the same files, the same commands, in the same order, on ports that are free."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
from conftest import REPOSITORY, Process, binary

PAGE = (REPOSITORY / "docs/tutorial.md").read_text()
PROVIDER, SERVER = "127.0.0.1:8080", "127.0.0.1:7110"


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def commands():
    """Lines of consoles, in order."""
    return [line[2:] for block in blocks("console") for line in block.splitlines()]


class Reader:
    """Somebody who follows the page."""

    def __init__(self, folder):
        self.folder, self.moved, self.started = folder, {}, []
        for name, text in zip(re.findall(r"Save it as `(\w+\.py)`", PAGE), blocks("python"), strict=True):
            (folder / name).write_text(text)

    def start(self, command, place, announces):
        """What the page leaves running; listens where there is room, and everything after it goes there."""
        name, *arguments = command.removesuffix(" &").split()
        words = [PLACES[name], *(word if word != place else "127.0.0.1:0" for word in arguments)]
        if name == "permitd":
            words += ["--listen", "127.0.0.1:0", "--http", "off"]
        self.started.append(Process(words, announces))
        self.moved[place] = self.started[-1].address
        for script in self.folder.glob("*.py"):
            script.write_text(self.put(script.read_text()))

    def put(self, text):
        for place, address in self.moved.items():
            text = text.replace(place, address)
        return text

    def run(self, command):
        """The lines that it prints."""
        path = os.pathsep.join([str(Path(sys.executable).parent), str(self.folder), os.environ["PATH"]])
        environment = {**os.environ, "PATH": path, "PERMITD_SERVER": f"http://{self.moved.get(SERVER)}"}
        # In a script there are no jobs by number but those that it started itself.
        line = self.put(command).replace("wait %3 %4", "wait")
        ran = subprocess.run(
            ["sh", "-ec", line], cwd=self.folder, env=environment, capture_output=True, check=False, text=True, timeout=180
        )
        assert ran.returncode == 0, (command, ran.stderr)
        return ran.stdout.splitlines()


PLACES = {"permitd": binary("PERMITD_BIN", "permitd"), "permitd-lab": binary("PERMITD_LAB_BIN", "permitd-lab")}


@pytest.fixture
def reader(tmp_path):
    for name, path in PLACES.items():
        (tmp_path / name).symlink_to(path)
    reader = Reader(tmp_path)
    yield reader
    for process in reader.started:
        process.end()


def test_the_tutorial_holds_what_it_says(reader):
    """Goal: refusals without permits, none with them, for one service, for two, and after a live change."""
    building, exporting, installing, providing, asking, serving, *rest = commands()
    assert [building.split()[0], exporting.split()[0], installing.split()[0]] == ["cargo", "export", "pip"]
    reader.start(providing, PROVIDER, r"http://(127\.0\.0\.1:\d+)")
    (said,) = reader.run(asking)
    answered, refused = map(int, re.findall(r"\d+", said))
    assert (answered + refused, refused > 0) == (40, True)

    reader.start(serving, SERVER, r"gRPC at (127\.0\.0\.1:\d+)")
    said = {command: reader.run(command) for command in rest[:2]}
    assert said["python permitted.py web"] == ["40 answered, 0 refused"]
    shared = rest[3]
    reader.run(rest[2])
    assert reader.run(shared) == ["40 answered, 0 refused"] * 2

    told = [reader.run(command) for command in rest[4:]]
    assert told[-2] == ["40 answered, 0 refused"]
    assert any("plan upgraded" in line for line in told[-1])
    assert limits(reader)["requests"]["per_minute"] == 600


def limits(reader):
    with urllib.request.urlopen(f"http://{reader.moved[PROVIDER]}/sim/limits", timeout=10) as response:
        return json.load(response)
