"""A producer for the tests' Dramatiq workers, which knows actors by name alone."""

from typing import Any

from dramatiq import Message
from dramatiq.brokers.redis import RedisBroker
from dramatiq.results import Results
from dramatiq.results.backends import RedisBackend

from tests.support.host_client import JobNotes

_RESULT_MILLISECONDS = 20_000


class DramatiqClient(JobNotes):
    """Sends messages to a broker; nothing checks what they carry."""

    def __init__(self, url: str) -> None:
        # longer than any wait for a result
        self.broker = RedisBroker(url=f"{url}&socket_timeout=60", middleware=[])
        self.redis = self.broker.client
        self._results = RedisBackend(client=self.redis)
        self.broker.add_middleware(Results(backend=self._results))  # where messages look for it

    def send(self, name: str, *args: Any, **kwargs: Any) -> Message[Any]:
        """Send a message to an actor."""
        return self.send_with(name, args, kwargs, {})

    def send_with(
        self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any], options: dict[str, Any]
    ) -> Message[Any]:
        """Send a message with options to an actor."""
        return self.broker.enqueue(Message("default", name, args, kwargs, options))

    def result(self, message: Message[Any]) -> Any:
        """Wait for the result of a message; raise what the actor raised."""
        return message.get_result(backend=self._results, block=True, timeout=_RESULT_MILLISECONDS)

    def run(self, name: str, *args: Any, **kwargs: Any) -> Any:
        """Send a message, and wait for its result."""
        return self.result(self.send(name, *args, **kwargs))

    def dead(self) -> int:
        """Return the number of messages that were given up."""
        return int(self.redis.zcard("dramatiq:default.XQ"))

    def waiting(self) -> int:
        """Return the number of messages that wait to be tried, or to be tried again."""
        return sum(int(self.redis.hlen(f"dramatiq:default{queue}.msgs")) for queue in ("", ".DQ"))

    def close(self) -> None:
        """End its connections."""
        self.redis.connection_pool.disconnect()  # which `close` leaves, as it was given
