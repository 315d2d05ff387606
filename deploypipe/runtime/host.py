"""The machine that a number was measured on."""

from __future__ import annotations

import functools
import math
import os
import platform
import shutil
import subprocess
from pathlib import Path

from deploypipe.core.files import Json

FLAGS = (
    "avx2",
    "fma",
    "avx_vnni",
    "avx512f",
    "avx512_vnni",
    "avx512_bf16",
    "avx512_fp16",
    "amx_int8",
    "amx_bf16",
    "asimd",
    "asimddp",
    "i8mm",
    "bf16",
    "sve",
)
"""Instruction sets that change how fast float and int8 kernels are."""

PACKAGES = ("onnxruntime", "onnxruntime-gpu", "onnx", "onnx-ir", "onnxscript", "numpy", "torch")


def host() -> dict[str, Json]:
    """Operating system, processor, instruction sets, cores, Python and package versions.

    No name of a machine, user or folder is in it: reports are passed on.
    """
    return dict(_host())


@functools.cache
def _host() -> dict[str, Json]:
    model, flags = _processor()
    return {
        "os": f"{platform.system()} {platform.release()}",
        "machine": platform.machine(),
        "cpu": model,
        "flags": [flag for flag in FLAGS if flag in flags],
        "cores": physical_cores(),
        "logical_cores": os.cpu_count() or 1,
        "usable_cores": usable_cores(),
        "gpus": _gpus(),
        "python": platform.python_version(),
        "packages": {name: v for name in PACKAGES if (v := package_version(name)) is not None},
    }


def physical_cores() -> int:
    """Cores of the machine, hyper-threads counted once."""
    cores = _cpuinfo_cores(_read("/proc/cpuinfo")) or _sysctl("hw.physicalcpu")
    return int(cores or 0) or max(1, os.cpu_count() or 1)


def usable_cores() -> int:
    """Physical cores that this process may keep busy: affinity and the cgroup's quota count."""
    cores = physical_cores()
    if hasattr(os, "sched_getaffinity"):
        cores = min(cores, len(os.sched_getaffinity(0)))
    quota = _quota(_read("/sys/fs/cgroup/cpu.max"))
    return max(1, min(cores, quota) if quota else cores)


def _cpuinfo_cores(text: str) -> int:
    """Distinct (socket, core) pairs of /proc/cpuinfo; 0 where it does not list them."""
    pairs = set()
    for block in text.split("\n\n"):
        lines = dict(_pair(line) for line in block.splitlines() if ":" in line)
        if "core id" in lines:
            pairs.add((lines.get("physical id", "0"), lines["core id"]))
    return len(pairs)


def _quota(text: str) -> int:
    """``"150000 100000"`` -> 2 cores; 0 for ``max``, which is no limit."""
    words = text.split()
    if len(words) != 2 or words[0] == "max":
        return 0
    return math.ceil(int(words[0]) / int(words[1]))


def _processor() -> tuple[str, set[str]]:
    first = _read("/proc/cpuinfo").partition("\n\n")[0]
    lines = dict(_pair(line) for line in first.splitlines() if ":" in line)
    name = lines.get("model name") or _sysctl("machdep.cpu.brand_string") or platform.processor()
    flags = lines.get("flags", lines.get("Features", ""))
    return name or "unknown", set(flags.split())


def _pair(line: str) -> tuple[str, str]:
    key, _, value = line.partition(":")
    return key.strip(), value.strip()


def _gpus() -> list[str]:
    """Name, memory and driver of each NVIDIA GPU."""
    query = ("--query-gpu=name,memory.total,driver_version", "--format=csv,noheader")
    return _output("nvidia-smi", *query).splitlines()


def gpu_clocks() -> list[str]:
    """Clocks, power, temperature and state of each NVIDIA GPU now; they are read, never set."""
    wanted = "clocks.sm,clocks.mem,power.draw,temperature.gpu,pstate"
    return _output("nvidia-smi", f"--query-gpu={wanted}", "--format=csv,noheader").splitlines()


def _sysctl(key: str) -> str:
    return _output("sysctl", "-n", key) if platform.system() == "Darwin" else ""


def _output(program: str, *arguments: str) -> str:
    """What a program prints; nothing where it is absent or fails."""
    path = shutil.which(program)
    if path is None:
        return ""
    try:
        done = subprocess.run(
            [path, *arguments], capture_output=True, text=True, timeout=10, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def _read(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""


def package_version(package: str) -> str | None:
    """The version of an installed package; None where it is not installed."""
    import importlib.metadata  # a tenth of the start of a process, and only this needs it

    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
