"""Whether this machine can run the local model, and if not, why: decided before 127 MB are fetched."""

from __future__ import annotations

import platform
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tailrace.errors import ModelUnavailable

OFFER = "Use the mock model instead: tailrace llm mock, or tailrace up --llm mock."

# The wheel is compiled for these without a check at run time; without them the process dies of SIGILL.
_NEEDED_X86 = ("avx2", "bmi2", "f16c", "fma")
# What the wheels of model.lock are built for.
_PLATFORMS = {
    "linux": ("x86_64", "aarch64"),
    "darwin": ("x86_64", "arm64"),
}


@dataclass(frozen=True, slots=True)
class Machine:
    """What the decision needs. ``features`` are the CPU's, lower case; empty where nobody tells."""

    system: str
    arch: str
    libc: str
    features: frozenset[str]


def check_machine(machine: Machine) -> None:
    """
    Raises:
        ModelUnavailable: no wheel exists for the platform, or the CPU lacks instructions it is built with.
    """
    if machine.arch not in _PLATFORMS.get(machine.system, ()):
        raise ModelUnavailable(
            f"the local model has no build for {machine.system} on {machine.arch}; it has for "
            "Linux (x86_64, aarch64) and macOS (x86_64, arm64)",
            hint=OFFER,
        )
    if machine.system == "linux" and machine.libc != "glibc":
        raise ModelUnavailable(
            "the local model is built for glibc, and this Python uses another C library", hint=OFFER
        )
    if machine.arch != "x86_64" or not machine.features:
        return
    missing = [name for name in _NEEDED_X86 if name not in machine.features]
    if missing:
        raise ModelUnavailable(
            f"this CPU has no {', '.join(missing).upper()}, which the local model's build needs", hint=OFFER
        )


def this_machine() -> Machine:
    """The machine that this process runs on."""
    arch = platform.machine()
    features = _features() if arch == "x86_64" else frozenset[str]()
    return Machine(sys.platform, arch, platform.libc_ver()[0], features)


def _features() -> frozenset[str]:
    if sys.platform == "linux":
        try:
            return read_cpuinfo(Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace"))
        except OSError:
            return frozenset()
    command = ["/usr/sbin/sysctl", "-n", "machdep.cpu.features", "machdep.cpu.leaf7_features"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=5, check=False)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired):
        return frozenset()
    return read_sysctl(done.stdout)


def read_cpuinfo(text: str) -> frozenset[str]:
    """The features of the first CPU in Linux's ``/proc/cpuinfo``."""
    for line in text.splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "flags":
            return frozenset(value.split())
    return frozenset()


def read_sysctl(text: str) -> frozenset[str]:
    """The features in macOS's ``machdep.cpu``, under the names that Linux has for them."""
    return frozenset(text.lower().replace("avx2.0", "avx2").split())
