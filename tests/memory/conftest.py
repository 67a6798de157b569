import pytest

from bufpool_workers import testing
from bufpool_workers.runtime import current_runtime
from tests.memory.pools import KINDS, make_pool


@pytest.fixture(params=KINDS)
def pool(request):
    return make_pool(request.param)


@pytest.fixture
def process_pools():
    """Pools of the process with the default settings, gone afterwards."""
    testing.reset()
    yield current_runtime().pools
    current_runtime().stop_process()
