"""The machine that latencies were measured on, and how busy it was."""

from __future__ import annotations

import os
import platform
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

OWN_LOAD = 1.5  # for each core; an evaluation on an idle machine of two cores had a load average of 2.4


@dataclass(frozen=True, kw_only=True)
class Machine:
    """A processor, how many cores it has and how many of them this process may use, and the device of the models.

    `load` is the load average over the minute before the timing; None where the system has none (Windows).
    """

    cpu: str
    cores: int
    threads: int
    device: str
    load: float | None = None

    @property
    def was_busy(self) -> bool:
        """True if others wanted to run, too, so that times were too long: the evaluation alone keeps every core busy."""
        return self.load is not None and self.load > OWN_LOAD * self.cores

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def describe_machine(device: str) -> Machine:
    """Describe this machine as it is now; `device` is where the models run."""
    cores = os.cpu_count() or 1
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else cores
    return Machine(cpu=_read_cpu_name(), cores=cores, threads=usable, device=device, load=_read_load())


def _read_cpu_name() -> str:
    with suppress(OSError):  # only Linux has the file
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return " ".join(value.split())[:200]
    return platform.processor() or platform.machine()


def _read_load() -> float | None:
    try:
        return round(os.getloadavg()[0], 2)
    except (AttributeError, OSError):
        return None
