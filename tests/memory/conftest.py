import pytest

from bufpool_workers import Settings, memory
from tests.memory.pools import KINDS, make_pool


@pytest.fixture(params=KINDS)
def pool(request):
    return make_pool(request.param)


@pytest.fixture
def process_pools():
    """Pools of the process with the default settings, gone afterwards."""
    memory.configure(Settings)
    yield memory.current_pools()
    memory.close_current_pools()
