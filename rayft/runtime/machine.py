"""What a machine is: its memory, and whether its CPUs and GPUs compute in bf16.

Nodes of a cluster are asked this too, so nothing here imports torch: that would take seconds on
every one of them.
"""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

_CGROUP_LIMITS = (
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)
_BF16_FLAGS = {"avx512_bf16", "amx_tile"}
_HIDES_GPUS = ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES")
_ASK_GPUS = """
import json, torch
count = torch.cuda.device_count() if torch.cuda.is_available() else 0
found = [torch.cuda.get_device_properties(i) for i in range(count)]
print(json.dumps({
    "gpu_memory_bytes": min((gpu.total_memory for gpu in found), default=0),
    "gpu_bf16": all(gpu.major >= 8 for gpu in found),
    "gpu_names": sorted({gpu.name for gpu in found}),
}))
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """A machine, or the container that a node lives in."""

    memory_bytes: int
    cpu_bf16: bool
    """Whether the CPUs have instructions for bf16; without them they convert to fp32 and back,
    which is slower than fp32."""
    has_cuda: bool | None = None
    """Whether torch can compute on GPUs there; None where they were not asked, or not heard."""
    gpu_memory_bytes: int = 0
    """Memory of the smallest GPU; 0 where there is none, or none was asked for."""
    gpu_bf16: bool = False
    """Whether all GPUs have instructions for bf16."""
    gpu_names: tuple[str, ...] = ()
    """Kinds of GPUs, as torch names them."""


def this_machine(*, with_gpus: bool) -> Machine:
    """Return what this machine is.

    Args:
        with_gpus: whether to ask the GPUs too, which takes seconds.
    """
    gpus = _gpus() if with_gpus else {}
    return Machine(
        memory_bytes=memory_bytes(),
        cpu_bf16=bool(_cpu_flags() & _BF16_FLAGS),
        has_cuda=bool(gpus["gpu_names"]) if gpus else None,
        gpu_memory_bytes=int(gpus.get("gpu_memory_bytes", 0)),
        gpu_bf16=bool(gpus.get("gpu_bf16", False)),
        gpu_names=tuple(gpus.get("gpu_names", ())),
    )


def memory_bytes() -> int:
    """Return the memory of the machine, or of the container where that is less."""
    total = int(psutil.virtual_memory().total)
    for file in _CGROUP_LIMITS:
        text = file.read_text().strip() if file.is_file() else ""
        if text.isdigit():
            total = min(total, int(text))
    return total


def _cpu_flags() -> set[str]:
    file = Path("/proc/cpuinfo")
    lines = file.read_text().splitlines() if file.is_file() else []
    flags = next((line for line in lines if line.startswith("flags")), "")
    return set(flags.partition(":")[2].split())


def _gpus() -> dict[str, Any]:
    """Ask torch in a process of its own: Ray hides the GPUs from a task that reserves none."""
    environment = {k: v for k, v in os.environ.items() if k not in _HIDES_GPUS}
    found = subprocess.run(  # noqa: S603  our own interpreter and program
        [sys.executable, "-c", _ASK_GPUS],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    lines = found.stdout.splitlines()
    if found.returncode or not lines:
        return {}
    answer: dict[str, Any] = json.loads(lines[-1])
    return answer
