"""The compiler that torch.compile calls while a run trains."""

import os
import shutil
from dataclasses import dataclass

from rayft.errors import Problem, SpecError
from rayft.plan.facts import DeviceName
from rayft.runtime.available import available_gpus
from rayft.spec.run import RunSpec


@dataclass(frozen=True, slots=True)
class _Compiler:
    language: str
    variable: str
    """Environment variable that names one."""
    names: tuple[str, ...]


_COMPILERS = {
    "cpu": _Compiler("C++", "CXX", ("g++", "clang++", "c++")),
    # Triton builds its launcher of kernels with it.
    "cuda": _Compiler("C", "CC", ("gcc", "clang")),
}


def check_compiler(spec: RunSpec, device: DeviceName) -> None:
    """Refuse `torch_compile` where this machine has the workers' device and no compiler.

    Raises:
        SpecError: none is on the PATH.
    """
    compiler = _COMPILERS.get(device)
    # GPUs of other machines may have one beside them that this machine lacks.
    elsewhere = device == "cuda" and not available_gpus()
    if not spec.torch_compile or compiler is None or elsewhere:
        return
    chosen = os.environ.get(compiler.variable)
    if not any(shutil.which(name) for name in ([chosen] if chosen else compiler.names)):
        raise SpecError(
            Problem(
                "torch_compile",
                f"torch.compile needs a {compiler.language} compiler, and none is on the PATH",
                f"install one ({' or '.join(compiler.names[:2])}), or remove torch_compile",
            )
        )
