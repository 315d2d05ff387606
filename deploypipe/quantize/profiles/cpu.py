"""The processor of this machine."""

from __future__ import annotations

import platform
from dataclasses import dataclass

from deploypipe.quantize.profile import Profile
from deploypipe.quantize.profiles.arm64 import Arm64
from deploypipe.quantize.profiles.cpu_avx2 import CpuAvx2
from deploypipe.quantize.profiles.cpu_vnni import CpuVnni
from deploypipe.runtime import host


@dataclass(frozen=True)
class Cpu(CpuVnni):
    """One of ``cpu-vnni``, ``cpu-avx2`` and ``arm64``, whichever this machine is."""

    def resolve(self) -> Profile:
        """The profile whose instruction sets are here."""
        flags = set(host()["flags"])
        if platform.machine().lower() in Arm64.machines:
            return Arm64(self.weight_bits)
        fits = CpuVnni if flags & CpuVnni.flags else CpuAvx2
        return fits(self.weight_bits)
