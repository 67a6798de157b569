"""`celery bufpool ...`: each command imports what it needs when it is called."""

from __future__ import annotations

from pathlib import Path

import click


@click.group()
def bufpool() -> None:
    """Pooled buffers, sealed arguments, and their metrics."""


@bufpool.command()
@click.option(
    "--out",
    required=True,
    type=click.Path(dir_okay=False, path_type=Path),
    help="The file to write the private key to; it must not exist.",
)
def keygen(*, out: Path) -> None:
    """Make a key pair for sealed arguments.

    Writes the private key to a new file that its owner alone can read, for bufpool_private_keys of
    the workers, and prints the public key, for bufpool_public_key of the producers.
    """
    from bufpool_workers.sealing import generate_key  # noqa: PLC0415 - see the module's docstring

    try:
        public = generate_key(out)
    except FileExistsError:
        raise click.ClickException(f"{out} exists, and a key is never overwritten") from None
    except OSError as error:
        raise click.ClickException(f"{out}: {error.strerror}") from None
    click.echo(public)
