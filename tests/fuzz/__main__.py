"""Fuzzes the scrape with files of a metrics directory: `python -m tests.fuzz --seconds 120`.

With coverage feedback, by atheris. An input is a file: its first byte says by which name it is
found, the rest is the content. What breaks the scrape is written to build/fuzz and ends the run.
"""

import argparse
import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["bufpool_workers.counters", "bufpool_workers.metrics"]):
    from tests.fuzz import hostile


def main() -> None:
    """Fuzz until the time is over; the exit status is libFuzzer's, 0 for nothing found."""
    parser = argparse.ArgumentParser(description=__doc__.partition(":")[0])
    parser.add_argument("--seconds", type=int, default=120)
    parser.add_argument("--folder", type=Path, default=Path("build/fuzz"))
    arguments = parser.parse_args()
    corpus = arguments.folder / "corpus"
    corpus.mkdir(parents=True, exist_ok=True)
    for number, image in enumerate(hostile.images().values()):
        (corpus / f"sound-{number}").write_bytes(bytes([number]) + image)
    # not on tmpfs: libFuzzer ends the process without a chance to clean up
    with hostile.directory(arguments.folder) as made, hostile.unlogged():

        def scrape(data: bytes) -> None:
            if data:
                made.clear()
                made.add(hostile.NAMES[data[0] % len(hostile.NAMES)], data[1:])
                made.scrape()

        options = [f"-max_total_time={arguments.seconds}", "-max_len=8192", "-timeout=20"]
        options += [f"-artifact_prefix={arguments.folder}/", "-print_final_stats=1"]
        atheris.Setup([sys.argv[0], *options, str(corpus)], scrape)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
