"""Containers that are local processes, so that pytest-celery runs where no Docker engine is.

pytest-celery reaches Docker only through pytest-docker-tools' `docker_client` fixture. What stands
in for it here answers the calls that these two packages make, and no others: every fixture and
class of theirs is used as it is.
"""

import io
import shutil
import tarfile
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from tests.support.container import Container


class ProcessEngine:
    """The part of `docker.DockerClient` that the fixtures use."""

    def __init__(self) -> None:
        self.volumes = Volumes()
        self.containers = Containers(self.volumes)
        self.images = Images()
        self.networks = Networks()


class Containers:
    """`docker_client.containers`."""

    def __init__(self, volumes: "Volumes") -> None:
        self._volumes = volumes

    def run(
        self,
        *,
        command: Sequence[str | None],
        environment: Mapping[str, Any] | None = None,
        volumes: Mapping[str, Mapping[str, str]] | None = None,
        ports: Iterable[str] | None = None,
        **_unused: Any,
    ) -> Container:
        """Start a process for a container; its image, network and labels mean nothing here."""
        binds = {spec["bind"]: self._volumes.folder(name) for name, spec in (volumes or {}).items()}
        return Container(command, environment=environment, ports=ports, binds=binds)

    def create(self, *, image: str, volumes: Iterable[str]) -> SimpleNamespace:
        """Return the container that only serves to fill a volume."""
        (name,) = volumes
        folder = self._volumes.folder(name)
        return SimpleNamespace(
            put_archive=lambda _path, archive: _unpack(archive, folder),
            remove=lambda *, force: None,
        )


class Volumes:
    """`docker_client.volumes`: temporary folders."""

    def __init__(self) -> None:
        self._folders: dict[str, Path] = {}

    def create(self, name: str, **_unused: Any) -> SimpleNamespace:
        """Make an empty volume."""
        self._folders[name] = Path(tempfile.mkdtemp(prefix="volume-"))
        return SimpleNamespace(
            name=name,
            attrs={"Labels": {}},
            remove=lambda _force: shutil.rmtree(self._folders.pop(name)),
        )

    def folder(self, name: str) -> Path:
        """The folder of the volume's files."""
        return self._folders[name]


class Images:
    """`docker_client.images`: every image is the Python that runs the tests."""

    def build(self, *, tag: str = "", **_unused: Any) -> tuple[SimpleNamespace, list[str]]:
        """Pretend that the image is built, with an empty log."""
        return self.get(tag), []

    def get(self, name: str) -> SimpleNamespace:
        """Pretend that the image is there."""
        return SimpleNamespace(id=name)


class Networks:
    """`docker_client.networks`: all is on the loopback interface."""

    def create(self, name: str, **_unused: Any) -> SimpleNamespace:
        """Pretend that the network is made."""
        return SimpleNamespace(name=name, remove=lambda: None)


def _unpack(archive: io.BytesIO, folder: Path) -> None:
    with tarfile.open(fileobj=archive) as members:
        for member in members:
            path = folder / member.name
            if member.isdir():
                path.mkdir(parents=True, exist_ok=True)
            elif content := members.extractfile(member):
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content.read())
