"""Finds the nodes of an app: in this host's metrics directories, or over the broker."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from celery import Celery

from bufpool_workers._environ import VARIABLE
from bufpool_workers._record import record_class
from bufpool_workers.celery import control
from bufpool_workers.celery.plugin import is_set_up
from bufpool_workers.counters.private_directory import NodeManifest
from bufpool_workers.counters.report import Report
from bufpool_workers.diagnostics import node_finder
from bufpool_workers.diagnostics.node_finder import BrokerError
from bufpool_workers.diagnostics.nodes import Node
from bufpool_workers.errors import MetricsError


@record_class(frozen=True, kw_only=True, slots=True)
class NodeFinder(node_finder.NodeFinder):
    """Finds the nodes of an app: its own on this host, else those that answer over the broker."""

    app: Celery
    timeout_seconds: float = 1.0

    @property
    def is_for_every_app(self) -> bool:
        """True if workers of all apps on this host are found, because no app was given."""
        return not (self.names or self.chosen_directory or is_set_up(self.app))

    def takes(self, manifest: NodeManifest) -> bool:
        """Return whether a node of this host is one of the app's."""
        return not is_set_up(self.app) or self.app.main in {None, manifest.app}

    def find_elsewhere(self, names: Collection[str]) -> list[Node]:
        """Ask over the broker: the nodes of these names, or all of the app."""
        answers = self._ask(names)
        missing = set(names) - set(answers)
        if missing or not answers:
            raise MetricsError(self._no_answer_message(", ".join(sorted(missing)) or "any node"))
        return [_node(name, answer) for name, answer in sorted(answers.items())]

    def _ask(self, names: Collection[str]) -> dict[str, Any]:
        if not is_set_up(self.app):
            return {}
        try:
            connection = self.app.connection_for_write(connect_timeout=self.timeout_seconds)
            url = connection.as_uri()  # without its password
        except ValueError:  # its text may have a part of the password
            raise BrokerError(
                "broker_url can't be read: is the port a number, and are special characters of the "
                "password written as in %2F?"
            ) from None
        except Exception as error:  # each transport's module is imported in its own way
            raise BrokerError(f"broker_url can't be used: {_describe(error)}") from error
        try:
            with connection:
                connection.ensure_connection(
                    timeout=self.timeout_seconds, interval_start=0.1, interval_step=0.1
                )
                answers = self.app.control.broadcast(
                    control.STATS,
                    destination=list(names) or None,
                    connection=connection,
                    reply=True,
                    limit=len(names) or None,
                    timeout=self.timeout_seconds,
                )
        except Exception as error:  # each transport has errors of its own
            raise BrokerError(
                f"broker {url}: {_describe(error)}; and no worker of this app counts in a "
                "private directory on this host: start one, or set "
                f"{VARIABLE} as for the workers"
            ) from error
        return {name: answer for each in answers or () for name, answer in each.items()}

    def _no_answer_message(self, who: str) -> str:
        if not is_set_up(self.app):
            return (
                "no worker with numbers of its own on this host, and no app to ask others for: "
                "give one with -A, which calls bufpool_workers.setup"
            )
        return (
            f"no answer from {who} within {self.timeout_seconds:g} s, and no worker of this app "
            "counts in a private directory on this host: start a worker, set "
            f"{VARIABLE} as it is set for the workers, or give --timeout more seconds"
        )


def _describe(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(map(str, error.args))}"


def _node(name: str, answer: Any) -> Node:
    if isinstance(answer, dict) and "error" in answer:
        raise MetricsError(f"{name}: {answer['error']}")
    try:
        return Node(name=name, report=Report.from_dict(answer))
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise MetricsError(
            f"{name}: its answer makes no sense here; is it another version of bufpool_workers?"
        ) from error
