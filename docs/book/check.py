"""What is wrong with a site: links that lead to no file or anchor of it, and whatever a page would fetch from elsewhere."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

FETCHED = {"img": "src", "script": "src", "iframe": "src", "link": "href"}
STYLE_URL = re.compile(r"url\(\s*['\"]?([^'\")]+)|@import\s+['\"]([^'\"]+)")


class Page(HTMLParser):
    """The anchors of a page, where it links to, and what it fetches."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.base = ""
        self.anchors: set[str] = set()
        self.links: list[str] = []
        self.fetched: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """As HTMLParser wants it."""
        given = {name: value or "" for name, value in attrs}
        self.anchors.update(given[name] for name in ("id", "name") if name in given)
        if tag == "base":
            self.base = given["href"]
        elif tag == "a" and "href" in given:
            self.links.append(given["href"])
        elif FETCHED.get(tag) in given:
            self.fetched.append(given[FETCHED[tag]])


def problems(site: Path) -> list[str]:
    """Everything that is wrong, sorted."""
    pages = {path: Page(path.read_text()) for path in site.rglob("*.html")}
    found = []
    for path, page in pages.items():
        name = path.relative_to(site)
        found += [f"{name} fetches {url}" for url in page.fetched if elsewhere(url)]
        here = site if page.base == "/" else path.parent
        for url in [*page.links, *page.fetched]:
            if not elsewhere(url) and (reason := dead(url, path, here, pages)):
                found.append(f"{name}: {url}: {reason}")
    for style in site.rglob("*.css"):
        for first, second in STYLE_URL.findall(style.read_text()):
            url = first or second
            if elsewhere(url) and not url.startswith("data:"):
                found.append(f"{style.relative_to(site)} fetches {url}")
            elif not elsewhere(url) and not (style.parent / urlsplit(url).path).is_file():
                found.append(f"{style.relative_to(site)}: {url}: no such file")
    if len(pages) < 2 or not any(page.links for page in pages.values()):
        found.append(f"{site} has no pages")
    return sorted(found)


def elsewhere(url: str) -> bool:
    """Whether it is none of the site's own."""
    parts = urlsplit(url)
    return bool(parts.scheme or parts.netloc)


def dead(url: str, path: Path, here: Path, pages: dict[Path, Page]) -> str | None:
    """Why a link of the site's own leads nowhere, if it does."""
    parts = urlsplit(url)
    target = (here / unquote(parts.path)).resolve() if parts.path else path
    if not target.is_file():
        return "no such file"
    anchor = unquote(parts.fragment)
    if anchor and target in pages and anchor not in pages[target].anchors:
        return "no such anchor"
    return None
