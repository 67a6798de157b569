"""Reads deploy/Dockerfile: its instructions, stage by stage."""

import json
import re
import shlex
from typing import NamedTuple

from tests.support.checkout import CHECKOUT

DEPLOY = CHECKOUT / "deploy"


class Instruction(NamedTuple):
    """One instruction, its lines joined."""

    word: str
    rest: str


def read_stages() -> list[list[Instruction]]:
    """Return the instructions of each stage; an ARG before the first one is not expected."""
    text = re.sub(r"^#.*\n", "", (DEPLOY / "Dockerfile").read_text(), flags=re.MULTILINE)
    stages: list[list[Instruction]] = []
    for line in text.replace("\\\n", " ").splitlines():
        word, _, rest = line.strip().partition(" ")
        if word == "FROM":
            stages.append([])
        if word:
            stages[-1].append(Instruction(word, " ".join(rest.split())))
    return stages


def runs(stage: list[Instruction]) -> list[str]:
    """The shell commands of a stage, without the mounts that BuildKit makes for them."""
    return [re.sub(r"^(--mount=\S+ )+", "", rest) for word, rest in stage if word == "RUN"]


class Image:
    """What the last stage says of the image."""

    def __init__(self) -> None:
        self.stage = read_stages()[-1]
        self.user = int(self._only("USER"))
        self.port = int(self._only("EXPOSE"))
        self.command: list[str] = json.loads(self._only("CMD"))
        self.health_check: list[str] = json.loads(self._only("HEALTHCHECK").partition("CMD ")[2])
        self.environment = dict(pair.split("=", 1) for pair in shlex.split(self._only("ENV")))

    def _only(self, word: str) -> str:
        (rest,) = [rest for found, rest in self.stage if found == word]
        return rest
