"""`celery bufpool top`: the nodes again and again, until the user ends it."""

from __future__ import annotations

import select
import sys
import termios
import time
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from bufpool_workers.console.tables import draw_node
from bufpool_workers.counters.report import Report
from bufpool_workers.diagnostics.nodes import Node
from bufpool_workers.errors import MetricsError

Find = Callable[[], list[Node]]


def run(find: Find, *, console: Console, seconds: float, count: int | None = None) -> None:
    """Show the nodes every `seconds`, `count` times or until q or Ctrl-C.

    Raises MetricsError when the first look finds none; later the error is shown, since nodes
    come back.
    """
    frames = islice(_draw(find), count)
    try:
        if console.is_terminal and not console.is_dumb_terminal:
            _show_live(frames, console, seconds)
        else:
            _show_lines(frames, console, seconds)
    except KeyboardInterrupt:
        return


def _draw(find: Find) -> Iterator[RenderableType]:
    before: dict[str, Report] = {}
    seen = False
    while True:
        try:
            nodes = find()
        except MetricsError as error:
            if not seen:
                raise
            yield Text(str(error), style="red")
            continue
        seen = True
        drawn = [(draw_node(node, before=before.get(node.name, node.report)), "") for node in nodes]
        yield Group(*(part for parts in drawn for part in parts))
        before = {node.name: node.report for node in nodes}


def _show_live(frames: Iterator[RenderableType], console: Console, seconds: float) -> None:
    with (
        _single_keys(),
        Live(console=console, screen=True, auto_refresh=False) as live,
    ):
        for frame in frames:
            live.update(Group(Text("q ends", style="dim"), frame), refresh=True)
            if _is_ended(seconds):
                return


def _show_lines(frames: Iterator[RenderableType], console: Console, seconds: float) -> None:
    for number, frame in enumerate(frames):
        if number:
            time.sleep(seconds)
        console.print(frame)
        console.file.flush()


@contextmanager
def _single_keys() -> Iterator[None]:
    """Switch the terminal to single keys, which are not shown."""
    if not sys.stdin.isatty():
        yield
        return
    before = termios.tcgetattr(sys.stdin)
    try:
        tty.setcbreak(sys.stdin)
        yield
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)


def _is_ended(seconds: float) -> bool:
    """Wait; return True if the user pressed q meanwhile."""
    if not sys.stdin.isatty():
        time.sleep(seconds)
        return False
    deadline = time.monotonic() + seconds
    while (left := deadline - time.monotonic()) > 0:
        if select.select([sys.stdin], [], [], left)[0] and sys.stdin.read(1) in {"q", "Q", ""}:
            return True
    return False
