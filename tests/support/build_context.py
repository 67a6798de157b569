"""What the image of a containerized worker node is built from."""

import io
import tarfile

from tests.support.checkout import CHECKOUT

DOCKERFILE = "tests/celery/Dockerfile"
_CONTENT = ("pyproject.toml", "README.md", "LICENSE", "bufpool_workers", "deploy", DOCKERFILE)
_BUILT_HERE = (".so", ".c", "__pycache__")


def build_context() -> io.BytesIO:
    """Pack the sources of this checkout, without what was built from them for this machine."""
    context = io.BytesIO()
    with tarfile.open(fileobj=context, mode="w") as members:
        for name in _CONTENT:
            members.add(CHECKOUT / name, name, filter=_source_only)
    context.seek(0)
    return context


def _source_only(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
    return None if member.name.endswith(_BUILT_HERE) else member
