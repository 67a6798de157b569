"""Figures in sentences: found wherever lines end, and filled from their source alone."""

import pytest

from tests.docs.sentences import Sentence

SENTENCE = Sentence("page.md", "takes {} instead of {}.", lambda: ["5 ms", 7])


@pytest.mark.parametrize("space", [" ", "\n  "])
def test_figures_are_replaced_wherever_lines_end(space):
    text = f"It takes 1.25 µs{space}instead of{space}1,300. It takes long."
    assert SENTENCE.fill(text) == f"It takes 5 ms{space}instead of{space}7. It takes long."


@pytest.mark.parametrize(
    "text", ["", "takes some time instead of 5.", "takes 1 instead of 2.\n" * 2]
)
def test_a_sentence_that_the_page_has_not_once_is_an_error(text):
    with pytest.raises(LookupError, match=r"page\.md: . times, once wanted: takes \{\}"):
        SENTENCE.fill(text)


def test_a_source_with_another_number_of_figures_is_an_error():
    sentence = Sentence("page.md", "takes {}", lambda: ["1", "2"])
    with pytest.raises(ValueError, match="zip"):
        sentence.fill("takes 3")
