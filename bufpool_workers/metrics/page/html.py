"""HTML made of elements, so that no text can be mistaken for markup."""

from collections.abc import Iterable, Sequence
from copy import copy
from typing import Final
from xml.etree.ElementTree import Element, tostring

Content = str | Element
Row = Sequence[Content | Sequence[Content]]
"""The cells of a row of a table."""

HIDDEN: Final = {"aria-hidden": "true", "focusable": "false"}
_BAR_HEIGHT: Final = 8
_SPARK_HEIGHT: Final = 16


def element(tag: str, *content: Content, **attributes: str | bool) -> Element:
    """Make an element; `class_` is its class, `aria_label` its aria-label, True an empty value."""
    made = Element(tag)
    for name, value in attributes.items():
        if value is not False:
            made.set(name.rstrip("_").replace("_", "-"), "" if value is True else str(value))
    last: Element | None = None
    for part in content:
        if isinstance(part, Element):
            # a copy, since it keeps the text that follows it, and may stand elsewhere too
            last = copy(part)
            made.append(last)
        elif last is None:
            made.text = (made.text or "") + part
        else:
            last.tail = (last.tail or "") + part
    return made


def bar(*parts: tuple[str, float]) -> Element:
    """Draw parts of a whole, each a class and a share of it; the text beside it says the same.

    A drawing, since a policy that forbids inline style has no other way to a width.
    """
    drawn = element("svg", class_="bar", viewBox="0 0 100 8", preserveAspectRatio="none")
    for name, value in HIDDEN.items():
        drawn.set(name, value)
    x = 0.0
    for class_, share in parts:
        width = round(min(max(100 * share, 0.0), 100 - x), 2)
        box = {"x": f"{x:g}", "width": f"{width:g}", "height": str(_BAR_HEIGHT)}
        drawn.append(element("rect", class_=class_, **box))
        x += width
    return drawn


def spark(values: Sequence[float | None], *, class_: str) -> Element:
    """Draw a line of values from their least to their largest, with gaps where there are none."""
    drawn = element("svg", class_=f"spark {class_}", preserveAspectRatio="none")
    drawn.set("viewBox", f"0 0 {max(len(values) - 1, 1)} {_SPARK_HEIGHT}")
    for name, of in HIDDEN.items():
        drawn.set(name, of)
    known = [value for value in values if value is not None]
    least, most = min(known, default=0.0), max(known, default=0.0)
    scale = (_SPARK_HEIGHT - 2) / (most - least) if most > least else 0.0
    lines: list[list[str]] = [[]]
    for x, value in enumerate(values):
        if value is None:
            lines.append([])
        else:
            lines[-1].append(f"{x},{_SPARK_HEIGHT - 1 - (value - least) * scale:.2f}")
    for points in filter(None, lines):
        last = points[-1].partition(",")
        ends = [*points, f"{int(last[0]) + 0.5:g},{last[2]}"] if len(points) == 1 else points
        drawn.append(element("polyline", points=" ".join(ends)))
    return drawn


def table(*, caption: str, heads: Sequence[str], rows: Iterable[Row], total: Row = ()) -> Element:
    """Make a table whose first column names the rows, in a region that scrolls when it is wide.

    The caption is for those who don't see where it stands.
    """
    columns = [element("th", head, scope="col") for head in heads]
    made = element(
        "table",
        element("caption", caption, class_="unseen"),
        element("thead", element("tr", *columns)),
        element("tbody", *map(_row, rows)),
    )
    if total:
        made.append(element("tfoot", _row(total)))
    return element("div", made, class_="scroll", role="region", tabindex="0", aria_label=caption)


def _row(row: Row) -> Element:
    first, *cells = ([cell] if isinstance(cell, str | Element) else cell for cell in row)
    name = element("th", *first, scope="row")
    return element("tr", name, *(element("td", *cell) for cell in cells))


def section(name: str, title: str, *content: Content) -> Element:
    """Make a section with a heading."""
    heading = element("h2", title, id=f"{name}-title")
    return element("section", heading, *content, id=name, aria_labelledby=f"{name}-title")


def render(document: Element) -> bytes:
    """Write a document; what no encoding knows becomes a reference to it."""
    text = tostring(document, encoding="unicode", method="html")
    return f"<!doctype html>{text}\n".encode("utf-8", "xmlcharrefreplace")
