"""What `setup` can't be called with."""

import pytest

import bufpool_workers as bp


@pytest.mark.parametrize("what", ["shop", None, bp])
def test_what_is_no_app_is_refused_in_words(what):
    kind = type(what).__name__
    with pytest.raises(TypeError, match=f"^setup needs a Celery app, not {kind}$"):
        bp.setup(what)
