"""Every section of every page, run as it stands unless a test claims it."""

import re
from itertools import groupby
from typing import Any

import pytest

from tests.docs.claims import CLAIMS, NOT_RUN
from tests.docs.sections import DRAWINGS, LANGUAGES, Section
from tests.support.checkout import CHECKOUT
from tests.support.pages import Block, blocks_under, read_blocks

_SERVED = re.compile(r"redis|celery", re.IGNORECASE)


def is_run_here(block: Block) -> bool:
    key = (block.heading, block.language)
    return block.language not in DRAWINGS and key not in CLAIMS and key not in NOT_RUN


def sections() -> list[Any]:
    grouped = groupby(read_blocks(), key=lambda block: (block.page, block.heading))
    found = [(key, [b for b in blocks if is_run_here(b)]) for key, blocks in grouped]
    return [pytest.param(blocks, id=f"{p}: {h}") for (p, h), blocks in found if blocks]


@pytest.mark.timeout(300)  # a section may start pytest, or a worker, for each of its commands
@pytest.mark.parametrize("blocks", sections())
def test_section_works_as_it_is_copied(blocks, tmp_path, request):
    asked = "".join(block.text for block in blocks)
    env: dict[str, str] = {}
    if _SERVED.search(asked):
        broker = request.getfixturevalue("redis_server").celery_url()
        env = {"CELERY_BROKER_URL": broker, "CELERY_RESULT_BACKEND": broker}
    if "worker" in asked:  # without a directory of their own, commands find all workers of the host
        (tmp_path / "metrics").mkdir()
        env["PROMETHEUS_MULTIPROC_DIR"] = str(tmp_path / "metrics")

    def start_worker(app: str, arguments: list[str]) -> object:
        start = request.getfixturevalue("start_worker")
        folder = CHECKOUT if app.startswith("tasks.") else tmp_path
        broker = env["CELERY_BROKER_URL"]
        return start(
            app,
            broker=broker,
            folder=folder,
            arguments=arguments,
            env=env | {"BUFPOOL_BROKER_URL": broker},
        )

    Section(blocks, tmp_path, env=env, start_worker=start_worker).run()


def test_every_block_says_what_it_is():
    known = LANGUAGES | DRAWINGS | {language for _, language in CLAIMS.keys() | NOT_RUN.keys()}
    assert [(b.page, b.heading) for b in read_blocks() if b.language not in known] == []


@pytest.mark.parametrize(("heading", "language"), [*CLAIMS, *NOT_RUN])
def test_claimed_blocks_stand_on_one_page(heading, language):
    assert blocks_under(heading, language)


@pytest.mark.parametrize("claim", sorted(set(CLAIMS.values())))
def test_claims_name_tests_that_exist(claim):
    path, _, name = claim.partition("::")
    assert f"\ndef {name}(" in (CHECKOUT / path).read_text()
