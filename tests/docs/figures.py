"""`python -m tests.docs.figures`: writes the figures of the pages from the recorded runs.

A page holds a table between `<!-- figures: NAME -->` and `<!-- end of figures -->`, and figures in
sentences (sentences.py). Each is of a record that the measuring program wrote, so that page and
record can't drift apart.
"""

import re
from collections.abc import Callable, Iterable, Mapping

from tests.benchmarks import figures as benchmarks
from tests.docs.sentences import SENTENCES
from tests.faults import page as faults
from tests.interrupts import page as interrupts
from tests.leaks import page as leaks
from tests.soak import page as soak
from tests.support.pages import Page, read_pages

TABLES: Mapping[str, Callable[[], Iterable[str]]] = {
    **benchmarks.TABLES,
    "interrupts": interrupts.table,
    "soak": soak.table,
    "leaks_after": leaks.after_tasks,
    "leaks_in_use": leaks.in_use,
    "leaks_on_the_way": leaks.on_the_way,
    "recycling": faults.table,
}
_PLACE = re.compile(r"(<!-- figures: (\w+) -->\n).*?(<!-- end of figures -->)", re.DOTALL)


def main() -> None:
    """Write the figures of all pages."""
    for page in read_pages():
        page.path.write_text(filled(page), encoding="utf-8")


def filled(page: Page) -> str:
    """Return a page's text with its figures as the records have them.

    Raises LookupError for a figure that a record lacks, and for a sentence that the page lacks.
    """
    text = _PLACE.sub(
        lambda found: f"{found[1]}\n" + "\n".join(TABLES[found[2]]()) + f"\n\n{found[3]}", page.text
    )
    for sentence in SENTENCES:
        if sentence.page == page.name:
            text = sentence.fill(text)
    return text


def typed(page: Page) -> str:
    """Return a page's text without the figures that a record, or the code, holds."""
    text = _PLACE.sub("", page.prose)
    for sentence in SENTENCES:
        if sentence.page == page.name:
            text = sentence.pattern.sub("", text)
    return text


if __name__ == "__main__":
    main()
