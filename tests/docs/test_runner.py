"""What runs the pages' blocks finds what is wrong with them."""

import pytest

from tests.docs.sections import Section, read_commands
from tests.docs.test_pages import fault_of_link
from tests.support.pages import README, Block, Page, blocks_under


def run(folder, *blocks, env=None):
    made = [Block("page", "heading", language, text) for language, text in blocks]

    def no_worker(app, arguments):
        raise AssertionError(f"a worker of {app} with {arguments}")

    Section(made, folder, env=env or {}, start_worker=no_worker).run()


@pytest.mark.parametrize(
    "block",
    [
        ("python", "1 / 0\n"),
        ("python", "import warnings\nwarnings.warn('old')\n"),
        ("python", "# part/it.py\n1 / 0\n"),
        ("pycon", ">>> 1 + 1\n3\n"),
        ("console", "$ echo one\ntwo\n"),
        ("console", "$ echo one\n"),
        ("console", "$ false && echo one\none\n"),
        ("console", "$ make nothing\n"),
        ("console", "$ python -m pytest tests/nothing.py\n"),
        ("console", "$ celery -A shop worker --loglevel=INFO &\n"),
        ("console", "# shutdown now\n"),
        ("json", "{'a': 1}\n"),
    ],
)
def test_wrong_block_is_found(tmp_path, block):
    with pytest.raises((AssertionError, ValueError)):
        run(tmp_path, block)


def test_blocks_of_a_section_share_folder_and_names(tmp_path):
    run(
        tmp_path,
        ("python", "# part/it.py\nVALUE = 3\n"),
        ("python", "from part.it import VALUE\n"),
        ("python", "open('out', 'w').write(str(VALUE))\n"),
        ("console", "$ test -e out &&\n    cat out\n3\n$ echo 17 gets\n16 gets\n"),
        ("pycon", ">>> [1, 2]\n[1, ...]\n"),
    )


def test_command_ends_where_its_output_begins():
    block = Block("page", "heading", "console", "$ one &&\n    two\nsaid\n    more\n$ three\n")
    assert read_commands(block) == [("one &&\n    two", "said\n    more\n"), ("three", "")]


@pytest.mark.parametrize(
    "target", ["nothing.md", "#nothing", "LICENSE#nothing", "../outside", "tests/README.md#nothing"]
)
def test_broken_link_is_found(target):
    assert fault_of_link(Page(README), target)


def test_heading_without_blocks_is_no_place_to_run():
    with pytest.raises(LookupError, match="nowhere"):
        blocks_under("nowhere")
