"""``python -m tests.fuzz``: libFuzzer over every codec, led by coverage (https://github.com/google/atheris).

The first byte says which target. Options of libFuzzer are passed on: ``-runs=N`` or ``-max_total_time=S`` bound it.
What crashes a target is left as a file, named in the output, and is tried again by giving that file as the argument.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["holdfast", "holdfast_shard", "holdfast_router"]):
    from tests.fuzz.seeds import seeds
    from tests.fuzz.targets import TARGETS

NAMES = list(TARGETS)


def one(data: bytes) -> None:
    if data:
        TARGETS[NAMES[data[0] % len(NAMES)]](data[1:])


def main() -> None:
    options = ["-max_len=4096", "-timeout=10", "-rss_limit_mb=1024", *sys.argv[1:]]
    with tempfile.TemporaryDirectory(prefix="holdfast-fuzz-") as corpus:
        for name, examples in seeds().items():
            for number, example in enumerate(examples):
                (Path(corpus) / f"{name}-{number}").write_bytes(bytes([NAMES.index(name)]) + example)
        given = [option for option in options if not option.startswith("-")]
        atheris.Setup([sys.argv[0], *options, *([] if given else [corpus])], one)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
