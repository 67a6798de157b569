import pytest
from pools import KINDS, make_pool

from bufpool_workers import testing
from bufpool_workers.runtime import current_runtime


@pytest.fixture(params=KINDS)
def pool(request):
    return make_pool(request.param)


@pytest.fixture
def process_pools():
    """Pools of the process with the default settings, gone afterwards."""
    testing.reset()
    yield current_runtime().pools
    current_runtime().stop_process()
