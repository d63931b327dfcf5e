"""Memory of a command and of all processes it starts: python tests/benchmarks/memory.py COMMAND...

Resident memory (RSS) counts pages that processes share once for each of them, proportional memory (PSS) once
in all. RSS is sampled twenty times a second, PSS, which makes the kernel walk the page tables, twice.
"""

import contextlib
import ctypes
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

PAGE = os.sysconf("SC_PAGE_SIZE")
PSS_EVERY = 10  # samples
_PR_SET_CHILD_SUBREAPER = 36


@dataclass
class Memory:
    """What a command used; bytes and seconds.

    `peak` is the greatest sum over its processes, `sum_of_peaks` the sum of the greatest memory of each, at
    whatever moment (as the kernel recorded it), and so an upper bound of `peak` without any sampling.
    """

    returncode: int = 0
    output: str = ""
    seconds: float = 0.0
    samples: int = 0
    peak: int = 0
    peak_pss: int = 0
    processes: dict[str, int] = field(default_factory=dict)

    @property
    def sum_of_peaks(self) -> int:
        return sum(self.processes.values())

    def __str__(self) -> str:
        rows = [
            f"peak of the sum {self.peak / 1e6:.0f} MB (proportional {self.peak_pss / 1e6:.0f} MB), "
            f"sum of peaks {self.sum_of_peaks / 1e6:.0f} MB, {self.seconds:.1f} s, {self.samples} samples"
        ]
        return "\n".join([*rows, *(f"{peak / 1e6:8.0f} MB  {name}" for name, peak in self.processes.items())])


def watch(
    command: Sequence[str],
    *,
    interval: float = 0.05,
    cwd: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> Memory:
    """Run a command to its end and sample its memory and that of its descendants; output is kept.

    Processes whose parent has ended become children of this process, and are counted on.
    """
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    before = set(_children(os.getpid()))
    found = Memory()
    peaks: dict[int, tuple[str, int]] = {}
    began = time.monotonic()
    read, write = os.pipe()
    with os.fdopen(read, "rb", 0) as reading:
        process = subprocess.Popen(command, stdout=write, stderr=write, cwd=cwd, env=environment)
        os.close(write)
        os.set_blocking(read, False)
        parts = []
        running = True
        while running:
            time.sleep(interval)
            running = process.poll() is None
            _sample(found, peaks, set(_children(os.getpid())) - before)
            while part := reading.read(1 << 16):
                parts.append(part)
    found.returncode, found.seconds = process.returncode, time.monotonic() - began
    found.output = b"".join(parts).decode(errors="replace")
    found.processes = {f"{pid} {name}": peak for pid, (name, peak) in peaks.items()}
    return found


def _sample(found: Memory, peaks: dict[int, tuple[str, int]], roots: set[int]) -> None:
    resident = proportional = 0
    detailed = found.samples % PSS_EVERY == 0
    for pid in _tree(roots):
        with contextlib.suppress(OSError, ValueError, KeyError, IndexError):  # it has just ended
            size = int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE
            status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
            # The kernel's own record of the greatest; a new program in the process starts a new one.
            most, name = max(size, int(status["VmHWM"].split()[0]) * 1024), _name(pid)
            known = peaks.get(pid, (name, 0))
            peaks[pid] = (name, max(most, known[1] if known[0] == name else 0))
            resident += size
            if detailed:
                rollup = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
                proportional += (
                    int(next(line for line in rollup if line.startswith("Pss:")).split()[1]) * 1024
                )
    found.samples += 1
    found.peak, found.peak_pss = max(found.peak, resident), max(found.peak_pss, proportional)


def _tree(roots: set[int]) -> list[int]:
    seen, waiting = [], list(roots)
    while waiting:
        pid = waiting.pop()
        seen.append(pid)
        waiting.extend(_children(pid))
    return seen


def _children(pid: int) -> list[int]:
    found: list[int] = []
    with contextlib.suppress(OSError):
        for thread in os.listdir(f"/proc/{pid}/task"):
            with contextlib.suppress(OSError):
                found += map(int, Path(f"/proc/{pid}/task/{thread}/children").read_text().split())
    return found


def _name(pid: int) -> str:
    words = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
    return " ".join([Path(words[0]).name, *words[1:4]])[:70]


def main() -> None:
    found = watch(sys.argv[1:])
    print(found.output, end="")
    print(found, file=sys.stderr)
    raise SystemExit(found.returncode)


if __name__ == "__main__":
    main()
