"""The same work in bare processes, without scheduler and ledger, and the memory of a process."""

import multiprocessing
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil


def bare_seconds(function: Callable[..., None], count: int, *task: Any) -> tuple[float, float]:
    """Seconds that `count` processes need together, from a common start to the end of the last, and CPU time.

    Each calls ``function(*task, index, barrier, answers)``, which gets warm, waits at the barrier, works, and
    puts the time, its CPU seconds since the barrier, and by how much all the work exceeds what was done.
    """
    context = multiprocessing.get_context("spawn")
    barrier, answers = context.Barrier(count + 1), context.Queue()
    processes = [
        context.Process(target=function, args=(*task, index, barrier, answers)) for index in range(count)
    ]
    for process in processes:
        process.start()
    barrier.wait(timeout=900)
    began = time.time()
    ends = [answers.get(timeout=3600) for _ in processes]
    for process in processes:
        process.join()
    times, cpu, factors = zip(*ends, strict=True)
    return (max(times) - began) * factors[0], sum(cpu) * factors[0]


def cpu_seconds() -> float:
    """CPU time of this process and its children."""
    process = psutil.Process()
    times = [one.cpu_times() for one in (process, *process.children(recursive=True))]
    return float(sum(time.user + time.system for time in times))


def peak_memory() -> int:
    """Greatest resident memory of this process since it was last asked, in bytes."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    Path("/proc/self/clear_refs").write_text("5")
    return int(status["VmHWM"].split()[0]) * 1024
