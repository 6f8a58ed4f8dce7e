"""One client process: ``python -m tests.chaos.worker``. Its history is all that it leaves; TERM ends it politely."""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import signal
from pathlib import Path

import holdfast

from .events import Added, EventFile
from .recorder import Recorder
from .sets import Set, SetStore
from .workload import Adder, Caller

TIMEOUT_S = 4.0


async def work(options: argparse.Namespace) -> None:
    stopping = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopping.set)
    write, store = EventFile(options.history), SetStore(options.store)
    recorder = Recorder(f"{options.number}", write)

    def chance(part: object) -> random.Random:
        return random.Random(f"{options.seed}/{options.number}/{part}")

    def added(name: Set, element: str) -> None:
        write(Added(name, element))

    async with holdfast.connect(timeout=TIMEOUT_S) as client:
        print(json.dumps({"worker": options.number}), flush=True)
        callers: list[Caller | Adder] = []
        callers += [Caller(client, recorder, chance(number), stopping) for number in range(options.callers)]
        callers += [Adder(client, recorder, chance(name), stopping, store, name, added) for name in Set]
        async with asyncio.TaskGroup() as tasks:
            for caller in callers:
                tasks.create_task(caller.run())
    store.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--number", type=int, required=True)
    parser.add_argument("--seed", required=True)
    parser.add_argument("--callers", type=int, required=True)
    parser.add_argument("--history", type=Path, required=True)
    parser.add_argument("--store", type=Path, required=True)
    asyncio.run(work(parser.parse_args()))


if __name__ == "__main__":
    main()
