"""A driver to be killed: python kill_driver.py ARCHIVE OUT; prints one line when it is walking."""

import sys

from skytrawl.job import register
from skytrawl.runner import Progress, run


def tell(event: Progress) -> None:
    if event.observations:
        print(event.done, flush=True)  # noqa: T201


if __name__ == "__main__":
    register("test-mean", "engine_jobs:MEAN")
    done = run("test-mean", sys.argv[1], sys.argv[2], workers=2, threads=1, delay=0.15, progress=tell)
    print("finished", done.done, done.skipped, len(done.failed), flush=True)  # noqa: T201
