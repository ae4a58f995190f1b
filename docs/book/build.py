"""Makes a site of the documentation: `build.py MDBOOK` builds target/book and checks every local link in it.

Pages stay where they are and link to each other as the repository has them. Here those that docs/SUMMARY.md lists are laid out in
a folder of their own, in the same places, with every file beside them that they link to. So no link is changed, and none is dead.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import check

REPOSITORY = Path(__file__).resolve().parents[2]
SUMMARY = Path("docs/SUMMARY.md")
FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"`[^`\n]*`")
LINK = re.compile(r"(?<=\]\()[^)\s]+(?=\))")


class Wrong(Exception):
    """Something in the repository is not as a site wants it."""


def main() -> int:
    """Builds, and checks."""
    target = REPOSITORY / "target"
    site = target / "book"
    try:
        source = lay_out(REPOSITORY, target / "book-source")
        shutil.rmtree(site, ignore_errors=True)
        subprocess.run([sys.argv[1], "build", "--dest-dir", site, source], check=True)
        problems = check.problems(site)
    except (Wrong, subprocess.CalledProcessError) as wrong:
        problems = [str(wrong)]
    for problem in problems:
        print(f"book: {problem}", file=sys.stderr)
    if not problems:
        print(f"book: {site / 'index.html'}")
    return 1 if problems else 0


def lay_out(repository: Path, source: Path) -> Path:
    """Copies what the site is made of."""
    shutil.rmtree(source, ignore_errors=True)
    pages = source / "src"
    pages.mkdir(parents=True)
    for name in ("book.toml", "book.css"):
        shutil.copy(repository / "docs/book" / name, source)
    summary = (repository / SUMMARY).read_text()
    listed = list(dict.fromkeys(place(SUMMARY, link) for link in links(summary)))
    # The summary is at the root of the site.
    (pages / "SUMMARY.md").write_text(LINK.sub(lambda link: place(SUMMARY, link[0]).as_posix(), summary))
    for page in listed:
        copy(repository / page, pages / page)
        for link in links((repository / page).read_text()):
            linked = place(page, link)
            if linked.suffix != ".md":
                copy(repository / linked, pages / linked)
            elif linked not in listed:
                raise Wrong(f"{page} links to {linked}, which {SUMMARY} does not list")
    return source


def links(text: str) -> list[str]:
    """The files that a page links to, each as it stands there without its anchor."""
    prose = CODE.sub("", FENCE.sub("", text))
    found = (link.partition("#")[0] for link in LINK.findall(prose) if "://" not in link)
    return [link for link in found if link]


def place(page: Path, link: str) -> Path:
    """Where a link on a page leads in the repository."""
    linked = Path(os.path.normpath(page.parent / link))
    if linked.is_absolute() or linked.parts[:1] == ("..",):
        raise Wrong(f"{page} links to {link}, which is outside of the repository")
    return linked


def copy(file: Path, to: Path) -> None:
    """Copies one file; a folder would be no page."""
    if not file.is_file():
        raise Wrong(f"{file} is linked to, and is no file")
    to.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(file, to)


if __name__ == "__main__":
    sys.exit(main())
