"""What makes the site finds what is wrong with it: dead links, and whatever would be fetched from elsewhere."""

from __future__ import annotations

import tempfile
import unittest
from pathlib import Path

import build
import check


class Folder(unittest.TestCase):
    """A folder for each test."""

    def setUp(self) -> None:
        """Makes it."""
        kept = tempfile.TemporaryDirectory()
        self.addCleanup(kept.cleanup)
        self.folder = Path(kept.name).resolve()

    def write(self, **files: str) -> None:
        """Files by name, `docs__a_md` for docs/a.md."""
        for name, text in files.items():
            path = self.folder / name.replace("__", "/").replace("_", ".")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)


class Links(Folder):
    """Of a site."""

    def test_sound(self) -> None:
        """Nothing is said of links that lead somewhere."""
        self.write(a_html='<h1 id="top"><a href="b.html#b">b</a><a href="#top">up</a>', b_html='<p id="b"><img src="a.html">')
        self.assertEqual(check.problems(self.folder), [])

    def test_wrong(self) -> None:
        """Files and anchors that are not there, and everything that is fetched from elsewhere."""
        self.write(
            a_html='<a href="gone.html">x</a><a href="b.html#gone">x</a><a href="#gone">x</a><a href="https://example.com">x</a>',
            b_html='<script src="https://example.com/x.js"></script><link href="//example.com/x.css"><img src="x.png">',
            c_css="@import 'https://example.com/y.css'; p { background: url(z.png) }",
        )
        self.assertEqual(
            check.problems(self.folder),
            [
                "a.html: #gone: no such anchor",
                "a.html: b.html#gone: no such anchor",
                "a.html: gone.html: no such file",
                "b.html fetches //example.com/x.css",
                "b.html fetches https://example.com/x.js",
                "b.html: x.png: no such file",
                "c.css fetches https://example.com/y.css",
                "c.css: z.png: no such file",
            ],
        )

    def test_nothing(self) -> None:
        """A site without pages is none."""
        self.assertEqual(check.problems(self.folder), [f"{self.folder} has no pages"])


class LaidOut(Folder):
    """What the site is made of."""

    def lay_out(self, page: str) -> Path:
        """With one page, beside another that is not listed."""
        self.write(docs__book__book_toml="", docs__book__book_css="", docs__SUMMARY_md="[A](a.md)\n[R](../R.md)", R_md="")
        self.write(docs__a_md=page, docs__b_md="", x__y_toml="z")
        return build.lay_out(self.folder, self.folder / "made") / "src"

    def test_places(self) -> None:
        """Pages and files have the places that they have in the repository; the summary leads to them from the root."""
        made = self.lay_out("[R](../R.md#r) [y](../x/y.toml) `[no](link.md)`\n```\n[no](link.md)\n```\n")
        self.assertEqual((made / "SUMMARY.md").read_text(), "[A](docs/a.md)\n[R](R.md)")
        self.assertEqual((made / "x/y.toml").read_text(), "z")
        self.assertTrue((made / "docs/a.md").is_file() and (made / "R.md").is_file())
        self.assertFalse((made / "docs/b.md").exists())

    def test_wrong(self) -> None:
        """What can't be in the site is said, with the page that links to it."""
        for page, said in [
            ("[b](b.md)", "docs/a.md links to docs/b.md, which docs/SUMMARY.md does not list"),
            ("[x](../x)", "is no file"),
            ("[x](gone.toml)", "is no file"),
            ("[x](../../x)", "outside of the repository"),
        ]:
            with self.subTest(page), self.assertRaisesRegex(build.Wrong, said):
                self.lay_out(page)


if __name__ == "__main__":
    unittest.main()
