"""`bufpool keygen`."""

from pathlib import Path

import click

from bufpool_workers.console.commands.common import errors_as_messages
from bufpool_workers.sealing.keys import generate_key, public_of


@click.command()
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The file to write a new private key to; it must not exist.",
)
@click.option("--public", "private", metavar="FILE", help="Print this private key's public one.")
def keygen(*, out: Path | None, private: str | None) -> None:
    """Make a key pair for sealed arguments.

    Writes the private key to a new file that its owner alone can read, for bufpool_private_keys of
    the workers, and prints the public key, for bufpool_public_key of the producers.
    """
    if private is not None and out is None:
        with errors_as_messages():
            click.echo(public_of(private))
        return
    if out is None or private is not None:
        raise click.UsageError("give one of --out and --public")
    try:
        public = generate_key(out)
    except FileExistsError:
        raise click.ClickException(f"{out} exists, and a key is never overwritten") from None
    except OSError as error:
        raise click.ClickException(f"{out}: {error.strerror}") from None
    click.echo(public)
