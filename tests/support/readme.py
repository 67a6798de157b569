"""The README's code blocks, so that tests run what readers copy."""

import re
from pathlib import Path
from typing import NamedTuple

from tests.support.checkout import CHECKOUT

README = CHECKOUT / "README.md"


class Block(NamedTuple):
    """A fenced block, under the heading that it stands below."""

    heading: str
    language: str
    text: str

    def write(self, folder: Path) -> Path:
        """Write a block that begins with the comment `# path.py` to that path in `folder`."""
        name = re.match(r"# ([\w/]+\.py)\n", self.text)
        if not name:
            raise ValueError(f"no file name in the first line: {self.text[:60]!r}")
        path = folder / name[1]
        path.parent.mkdir(exist_ok=True)
        path.write_text(self.text)
        return path


def read_blocks() -> list[Block]:
    """Read all blocks of the README, in order."""
    heading, blocks = "", []
    parts = re.compile(r"^#+ ([^\n]+)\n|^```(\w*)\n(.*?)^```\n", re.MULTILINE | re.DOTALL)
    for match in parts.finditer(README.read_text()):
        if match[1]:
            heading = match[1]
        else:
            blocks.append(Block(heading, match[2], match[3]))
    return blocks


def blocks_under(heading: str, language: str = "python") -> list[Block]:
    """Give the blocks of a language below a heading."""
    found = [b for b in read_blocks() if (b.heading, b.language) == (heading, language)]
    if not found:
        raise LookupError(f"the README has no {language} below {heading!r}")
    return found
