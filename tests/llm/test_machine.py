"""machine: who can run the local model, told before anything is fetched."""

from __future__ import annotations

import pytest

from tailrace.errors import ModelUnavailable
from tailrace.llm.machine import Machine, check_machine, read_cpuinfo, read_sysctl, this_machine

GOOD = frozenset({"avx2", "bmi2", "f16c", "fma", "sse2"})


@pytest.mark.parametrize(
    "machine",
    [
        Machine("linux", "x86_64", "glibc", GOOD),
        Machine("linux", "aarch64", "glibc", frozenset()),
        Machine("darwin", "arm64", "", frozenset()),
        Machine("darwin", "x86_64", "", GOOD),
        Machine("linux", "x86_64", "glibc", frozenset()),  # nobody tells: it is tried
    ],
)
def test_a_machine_with_a_wheel_and_the_instructions_is_taken(machine: Machine) -> None:
    """No word is said about it."""
    check_machine(machine)


@pytest.mark.parametrize(
    ("machine", "told"),
    [
        (Machine("linux", "x86_64", "glibc", GOOD - {"avx2", "fma"}), "no AVX2, FMA"),
        (Machine("linux", "x86_64", "", GOOD), "glibc"),
        (Machine("linux", "riscv64", "glibc", frozenset()), "no build for linux on riscv64"),
        (Machine("win32", "AMD64", "", GOOD), "no build for win32"),
    ],
)
def test_any_other_is_told_why_and_offered_the_mock(machine: Machine, told: str) -> None:
    """The reason, and what works instead."""
    with pytest.raises(ModelUnavailable, match=told) as refused:
        check_machine(machine)

    assert refused.value.hint is not None
    assert "--llm mock" in refused.value.hint


def test_features_are_read_as_linux_and_macos_write_them() -> None:
    """Both spellings give the same names."""
    linux = read_cpuinfo("processor\t: 0\nflags\t\t: fpu avx2 fma f16c bmi2\nbugs\t: none\nflags\t: other\n")
    macos = read_sysctl("FPU VME FMA F16C AVX1.0\nRDWRFSGS BMI1 AVX2 BMI2\n")

    assert {"avx2", "fma", "f16c", "bmi2"} <= linux
    assert {"avx2", "fma", "f16c", "bmi2"} <= macos
    assert "other" not in linux


def test_this_machine_is_described() -> None:
    """What is read here has the words that the decision knows."""
    machine = this_machine()

    assert machine.arch
    assert machine.system in ("linux", "darwin")
