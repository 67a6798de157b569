"""A pytest plugin for Dramatiq's own tests, in which each broker has our middleware."""

from dramatiq import Broker

from bufpool_workers.dramatiq import BufpoolMiddleware

stock = Broker.__init__


def init(self, middleware=None):
    """Make a broker as ever, and add the middleware."""
    stock(self, middleware)
    self.add_middleware(BufpoolMiddleware({}))


Broker.__init__ = init
