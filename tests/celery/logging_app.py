"""The app of a worker that logs JSON, as its user sets it up."""

import json
import logging

from celery import signals
from plugin_app import app

__all__ = ["app"]


class JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = {"message": record.getMessage(), "level": record.levelname, "pid": record.process}
        return json.dumps(line | {"bufpool": getattr(record, "bufpool", None)})


@signals.after_setup_logger.connect(weak=False)
def log_json(logger: logging.Logger, **_: object) -> None:
    for handler in logger.handlers:
        handler.setFormatter(JsonFormatter())
