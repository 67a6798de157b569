"""`bufpool keygen`."""

from pathlib import Path

import click

from bufpool_workers.console.commands.common import errors_as_messages
from bufpool_workers.sealing.keys import generate_key, public_of


@click.command()
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write a new private key to this file; it must not exist.",
)
@click.option(
    "--public", "private", metavar="FILE", help="Print the public key of this private key."
)
def keygen(*, out: Path | None, private: str | None) -> None:
    """Make a key pair for sealed arguments.

    It writes the private key to a new file with mode 0600, and prints the public key. Workers name
    the file in bufpool_private_keys; producers get the public key in bufpool_public_key.
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
