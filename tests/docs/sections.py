"""Runs the blocks of one section as a reader does who copies one after the other.

- `python`: a block that begins with `# path.py` is written there and imported; others are run, and
  those that follow each other are one script. Warnings are errors.
- `pycon`: a session, held by doctest with `...` for what varies.
- `console`: each `$ command` is run by sh, and what stands below it is what it prints: numbers may
  differ, and `...` is anything. `celery ... worker ... &` starts a worker that is ready.
- `json`, `yaml`, `toml`, `ini`: read.

What a console block shows of tools that build, install or measure is looked up, not run: targets of
make are in the Makefile, and pytest collects what it is given.
"""

import configparser
import doctest
import importlib.util
import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import yaml

from tests.support.checkout import CHECKOUT
from tests.support.pages import Block
from tests.support.ports import free_port

BIN = Path(sys.executable).parent
DRAWINGS = {"text"}
METRICS_PORT = "9464"  # as the pages have it; each section gets a free one
_READERS: dict[str, Callable[[str], object]] = {
    "json": json.loads,
    "yaml": lambda text: list(yaml.safe_load_all(text)),
    "toml": tomllib.loads,
    "ini": lambda text: configparser.ConfigParser(strict=False).read_string(text),
}
LANGUAGES = {"python", "pycon", "console", *_READERS}
StartWorker = Callable[[str, list[str]], object]


class Command(NamedTuple):
    """A command of a console block, and what it prints."""

    line: str
    output: str


class Section:
    """The blocks below one heading, run in one folder."""

    def __init__(
        self, blocks: list[Block], folder: Path, *, env: dict[str, str], start_worker: StartWorker
    ) -> None:
        port = str(free_port())
        self._blocks = [b._replace(text=b.text.replace(METRICS_PORT, port)) for b in blocks]
        self._folder, self._start_worker = folder, start_worker
        self._env = os.environ | {"PATH": f"{BIN}:{os.environ['PATH']}"} | env

    def run(self) -> None:
        """Run all blocks in their order; scripts that follow each other are one script."""
        for is_script, found in groupby(self._blocks, key=is_loose_python):
            blocks = list(found)
            if is_script:
                self._python("\n".join(block.text for block in blocks))
            for block in () if is_script else blocks:
                self._run_block(block)

    def _run_block(self, block: Block) -> None:
        if block.file_name:
            block.write(self._folder)
        if block.language == "python":
            self._python(f"import {module_name(block.file_name or '')}")
        elif block.language == "pycon":
            run_session(block)
        elif block.language == "console":
            self._console(block)
        else:
            _READERS[block.language](block.text)

    def _python(self, code: str) -> None:
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", code],
            cwd=self._folder,
            env=self._env,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, f"{code}\n{done.stderr}"

    def _console(self, block: Block) -> None:
        runs_of_pytest = []
        for command in read_commands(block):
            words = shlex.split(command.line, comments=True)
            if words[0] == "make":
                check_make(words[1:])
            elif "pytest" in words:
                runs_of_pytest.append(words[words.index("pytest") + 1 :])
            elif words[:2] == [".venv/bin/python", "-m"]:
                assert importlib.util.find_spec(words[2]), words[2]
            elif words[0] == "celery" and "worker" in words and words[-1] == "&":
                start = words.index("worker") + 1
                self._start_worker(words[words.index("-A") + 1], words[start:-1])
            else:
                self._shell(command)
        if runs_of_pytest:
            check_pytest(runs_of_pytest)

    def _shell(self, command: Command) -> None:
        done = subprocess.run(
            ["/bin/sh", "-c", command.line],
            cwd=self._folder,
            env=self._env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=60,
            check=False,
        )
        shown, printed = (_without_numbers(text) for text in (command.output, done.stdout))
        flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
        alike = doctest.OutputChecker().check_output(shown, printed, flags)
        assert alike, f"$ {command.line}\nshown:\n{command.output}\nprinted:\n{done.stdout}"


def is_loose_python(block: Block) -> bool:
    """Return whether the block is Python that is pasted, and no file."""
    return block.language == "python" and block.file_name is None


def module_name(path: str) -> str:
    """Return the name that a file of the folder is imported by."""
    return path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def read_commands(block: Block) -> list[Command]:
    """Read the commands that a user's prompt begins; a line that goes on is indented.

    Raises ValueError for root's prompt: no test runs as root what a page shows.
    """
    commands: list[list[str]] = []
    outputs: list[list[str]] = []
    for line in block.text.splitlines():
        if line.startswith("# "):
            raise ValueError(f"a command of root's, claim it in {__package__}: {line}")
        if line.startswith("$ "):
            commands.append([line[2:]])
            outputs.append([])
        elif line.startswith("    ") and not outputs[-1]:
            commands[-1].append(line)
        else:
            outputs[-1].append(line)
    return [
        Command("\n".join(lines), "".join(f"{line}\n" for line in output))
        for lines, output in zip(commands, outputs, strict=True)
    ]


def check_make(arguments: list[str]) -> None:
    """Raise AssertionError for a target that the Makefile hasn't."""
    targets = set(re.findall(r"^([\w-]+):", (CHECKOUT / "Makefile").read_text(), re.MULTILINE))
    asked = {word for word in arguments if "=" not in word and not word.startswith("-")}
    assert asked <= targets


# in one process, for the imports of a collection take the most of it
_COLLECT = """
import json, sys, pytest
for arguments in json.loads(sys.argv[1]):
    if status := pytest.main(["-q", "--collect-only", "-p", "no:xdist", *arguments]):
        sys.exit(f"{arguments}: {status!r}")
"""


def check_pytest(runs: list[list[str]]) -> None:
    """Raise AssertionError for a run whose arguments make pytest find no test in the checkout."""
    arguments = [_without_processes(run) for run in runs]
    done = subprocess.run(
        [sys.executable, "-c", _COLLECT, json.dumps(arguments)],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def _without_processes(arguments: list[str]) -> list[str]:
    words: Iterator[str] = iter(arguments)
    kept = []
    for word in words:
        if word in {"-n", "--dist"}:
            next(words)
        else:
            kept.append(word)
    return kept


def run_session(block: Block) -> None:
    """Run an interactive session; AssertionError when it prints something else."""
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    session = doctest.DocTestParser().get_doctest(block.text, {}, block.heading, block.page, 0)
    said: list[str] = []
    doctest.DocTestRunner(optionflags=flags).run(session, out=said.append)
    assert not said, "".join(said)


def _without_numbers(text: str) -> str:
    return re.sub(r"\d+(?:[.,]\d+)*", "0", text)
