"""The environment: settings (`BUFPOOL_WARM='{"regular": {"1MiB": 4}}'`), metrics directory."""

from __future__ import annotations

import json
import logging
import os
import re
import warnings
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final

from bufpool_workers.errors import SettingsError

logger = logging.getLogger(__name__)

VARIABLE: Final = "PROMETHEUS_MULTIPROC_DIR"
_FORMER_VARIABLE: Final = "prometheus_multiproc_dir"

PREFIX: Final = "BUFPOOL_"
SETTER: Final = "BUFPOOL_METRICS_DIR_SETTER"
"""Has the pid of the main process that set VARIABLE itself."""
_NEAR: Final = 0.72  # "wram" is near to "warm"
# Kubernetes describes each Service to all containers of its namespace. One that is called
# "bufpool-metrics" is BUFPOOL_METRICS_PORT=tcp://10.0.0.7:9464, beside six more.
_OF_KUBERNETES: Final = re.compile(r"_SERVICE_HOST$|_SERVICE_PORT|_PORT_\d+_(TCP|UDP|SCTP)")
_ADDRESS: Final = re.compile(r"(tcp|udp|sctp)://")


def read(environ: Mapping[str, str], texts: Mapping[str, bool]) -> dict[str, Any]:
    """Return the values of the known settings that `environ` has, by the variables' names.

    `texts` maps each known name, without prefix, to whether its value is text. Other values are
    JSON, or text where they are not, such as 64KiB. An empty variable counts as not set. A
    variable whose name is nearly a known one is warned of; others with the prefix are left alone.
    Raises ValueError that names the variable whose value begins like JSON and is not.
    """
    known = {PREFIX + name.upper(): is_text for name, is_text in texts.items()}
    found: dict[str, Any] = {}
    for variable, value in environ.items():
        if not variable.startswith(PREFIX) or not value or _is_of_kubernetes(variable, value):
            continue
        if variable in known:
            found[variable] = value if known[variable] else _decoded(variable, value)
        elif near := get_close_matches(variable.removeprefix(PREFIX), _names(known), 1, _NEAR):
            logger.warning(
                "bufpool: %s in the environment is no setting, did you mean %s?",
                variable,
                PREFIX + near[0],
            )
    return found


def _names(known: Mapping[str, Any]) -> list[str]:
    return [variable.removeprefix(PREFIX) for variable in known]


def _is_of_kubernetes(variable: str, value: str) -> bool:
    if variable == SETTER:
        return True
    is_address = variable.endswith("_PORT") and _ADDRESS.match(value)
    return bool(is_address or _OF_KUBERNETES.search(variable))


def _decoded(variable: str, value: str) -> Any:
    if value.lower() in ("true", "false"):
        return value.lower() == "true"
    try:
        return json.loads(value)
    except ValueError as error:
        if value.lstrip()[:1] in ("{", "["):
            raise ValueError(f"{variable}: not JSON: {error}") from None
        return value


def directory_of_environment() -> Path | None:
    """Return the metrics directory that the environment names, absolute; None if it names none.

    As prometheus_client does, it takes the variable's former name, which is deprecated.
    """
    value = os.environ.get(VARIABLE)
    if not value and (value := os.environ.get(_FORMER_VARIABLE)):
        warnings.warn(f"{_FORMER_VARIABLE} is deprecated: set {VARIABLE}", stacklevel=2)
    return Path(value).absolute() if value else None


def configured_directory(metrics_dir: str | None) -> Path | None:
    """Return the directory of the environment or of the setting, absolute; None for none.

    Raises SettingsError if they name two.
    """
    found = directory_of_environment()
    if metrics_dir is None:
        return found
    check_agreement(metrics_dir, found)
    return Path(metrics_dir).absolute()


def check_agreement(metrics_dir: str, found: Path | None) -> None:
    """Raise SettingsError if the setting names another directory than the environment."""
    if found not in {None, Path(metrics_dir).absolute()}:
        raise SettingsError(
            f"bufpool_metrics_dir is {metrics_dir!r}, but {VARIABLE} is {str(found)!r}: "
            "leave one of them out"
        )
