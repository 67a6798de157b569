"""The pages of the documentation and their code blocks, so that tests run what readers copy."""

import re
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from tests.support.checkout import CHECKOUT

README = CHECKOUT / "README.md"
_FOLDERS = (".github", "bufpool_workers", "deploy", "tasks", "tests")
_PARTS = re.compile(r"^#+ ([^\n]+)\n|^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\(([^)\s]+)\)")


class Block(NamedTuple):
    """A fenced block, under the heading that it stands below."""

    page: str
    heading: str
    language: str
    text: str

    @property
    def file_name(self) -> str | None:
        """The path in the first line's comment, `# path.py`; None without one."""
        name = re.match(r"# ([\w./-]+\.\w+)\n", self.text)
        return name[1] if name else None

    def write(self, folder: Path) -> Path:
        """Write the block to the path that its first line names, in `folder`."""
        if not self.file_name:
            raise ValueError(f"no file name in the first line: {self.text[:60]!r}")
        path = folder / self.file_name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(self.text)
        return path


class Page:
    """A Markdown file of the project; `name` is its path in the checkout."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.name = str(path.relative_to(CHECKOUT))
        self.text = path.read_text()

    @cached_property
    def prose(self) -> str:
        """The text without its fenced blocks."""
        return re.sub(r"^```.*?^```$", "", self.text, flags=re.MULTILINE | re.DOTALL)

    def blocks(self) -> Iterator[Block]:
        """Return the fenced blocks in order."""
        heading = ""
        for match in _PARTS.finditer(self.text):
            if match[1]:
                heading = match[1]
            else:
                yield Block(self.name, heading, match[2], match[3])

    def anchors(self) -> set[str]:
        """Return the anchors that GitHub makes of the headings."""
        headings = re.findall(r"^#+ (.+)$", self.prose, re.MULTILINE)
        anchors: set[str] = set()
        for heading in headings:
            anchor = re.sub(r"[^\w\- ]", "", heading).lower().replace(" ", "-")
            number, numbered = 0, anchor
            while numbered in anchors:
                number += 1
                numbered = f"{anchor}-{number}"
            anchors.add(numbered)
        return anchors

    def links(self) -> list[str]:
        """Return the targets of all links and pictures."""
        return _LINK.findall(self.prose)


def read_pages() -> list[Page]:
    """Read every Markdown file of the project."""
    paths = sorted(CHECKOUT.glob("*.md"))
    for folder in _FOLDERS:
        paths += sorted((CHECKOUT / folder).rglob("*.md"))
    return [Page(path) for path in paths]


def read_blocks() -> list[Block]:
    """Read the blocks of all pages, page by page."""
    return [block for page in read_pages() for block in page.blocks()]


def blocks_under(heading: str, language: str = "python") -> list[Block]:
    """Return the blocks of a language below a heading, on whichever page it stands.

    Raises LookupError when there are none, or when two pages have such blocks.
    """
    found = [b for b in read_blocks() if (b.heading, b.language) == (heading, language)]
    if len({block.page for block in found}) != 1:
        pages = ", ".join(sorted({block.page for block in found})) or "none"
        raise LookupError(f"pages with {language} below {heading!r}, one wanted: {pages}")
    return found
