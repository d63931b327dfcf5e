"""A driver to be killed: python kill_images.py STORE OUT REFERENCE; a line for every difference image."""

import sys

from skytrawl.runner import Progress, run


def tell(event: Progress) -> None:
    if event.observations:
        print(event.done, flush=True)  # noqa: T201


if __name__ == "__main__":
    done = run(
        "difference",
        sys.argv[1],
        sys.argv[2],
        reference=sys.argv[3],
        cluster="threads",
        workers=1,
        threads=1,
        in_flight=1,
        progress=tell,
    )
    print("finished", done.done, done.skipped, len(done.failed), flush=True)  # noqa: T201
