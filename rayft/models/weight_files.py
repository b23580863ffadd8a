"""Read a state dict from a file without trusting it.

The file is read once: the bytes that are hashed are the bytes that are decoded, so nothing can
change in between. Pickled files go through torch's restricted unpickler, which builds tensors and
plain containers and calls nothing else.
"""

import hashlib
import io
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from rayft.errors import ModelError, Problem
from rayft.storage.location import Location

_NUMPY_FLOATS = {torch.float16, torch.float32, torch.float64}
_WRAPPERS = ("state_dict", "model")


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightFile:
    """A state dict as it lay in a file."""

    state: dict[str, Tensor]
    """Dense, contiguous tensors on the CPU, of types that numpy can view without a copy."""
    sha256: str
    """Hash of the whole file."""
    notes: tuple[str, ...]
    """What was unwrapped or converted, in words."""


def read_weight_file(path: Location, *, sha256: str | None, where: str) -> WeightFile:
    """Read a `.safetensors`, `.pth` or `.pt` file.

    Args:
        path: the file.
        sha256: expected hash, or the beginning of one; checked before anything is decoded.
        where: path in the spec that names this file, for errors.

    Raises:
        ModelError: the file is missing, has another hash, holds anything but tensors, or its
            ending is none of the three.
    """
    data = _read(path, where)
    found = hashlib.sha256(data).hexdigest()
    if sha256 is not None and not found.startswith(sha256):
        what = f"{path} has the sha256 {found}, expected {sha256}"
        fix = "delete the file and get it again from where it came from, or correct the hash"
        raise ModelError(Problem(where, what, fix))
    content = _decode(data, path, where)
    notes: list[str] = []
    state = _strip_parallel(_unwrap(content, notes), notes)
    return WeightFile(
        state=_as_plain_tensors(state, path, where, notes), sha256=found, notes=tuple(notes)
    )


def _read(path: Location, where: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        fix = "correct the path; it starts at the folder of the spec unless it is absolute"
        raise ModelError(
            Problem(where, f"cannot read {path}: {error.strerror or error}", fix)
        ) from error


def _decode(data: bytes, path: Location, where: str) -> object:
    match Path(path.name).suffix:
        case ".safetensors":
            return _decode_safetensors(data, path, where)
        case ".pth" | ".pt":
            return _decode_torch(data, path, where)
        case other:
            what = f"{path.name} ends in `{other}`; expected .safetensors, .pth or .pt"
            fix = "save it as .safetensors, with safetensors.torch.save_file(model.state_dict(), …)"
            raise ModelError(Problem(where, what, fix))


def _decode_safetensors(data: bytes, path: Location, where: str) -> object:
    try:
        return safetensors.torch.load(data)
    except (SafetensorError, ValueError, KeyError) as error:
        what = f"{path} is no safetensors file, or is cut off: {error}"
        raise ModelError(Problem(where, what, "get the file again")) from error


def _decode_torch(data: bytes, path: Location, where: str) -> object:
    try:
        return torch.load(io.BytesIO(data), weights_only=True, map_location="cpu")
    except Exception as error:
        # A damaged or hostile pickle can fail in any way; whichever it is, the file is refused.
        reason = str(error).strip().splitlines()[0] if str(error).strip() else repr(error)
        what = (
            f"{path} does not hold tensors alone, or is damaged; nothing in it was run ({reason})"
        )
        fix = (
            "save only model.state_dict(), best as .safetensors, on a machine that trusts the file"
        )
        raise ModelError(Problem(where, what, fix)) from error


def _unwrap(content: object, notes: list[str]) -> object:
    """Return the state dict inside a training checkpoint, where it is one."""
    for key in _WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            notes.append(f"its entry `{key}`")
            content = content[key]
    return content


def _strip_parallel(state: object, notes: list[str]) -> object:
    """Remove the `module.` that DataParallel and DDP put before every name."""
    if not isinstance(state, Mapping) or not state:
        return state
    if not all(isinstance(name, str) and name.startswith("module.") for name in state):
        return state
    notes.append("`module.` removed from its names")
    return {name.removeprefix("module."): value for name, value in state.items()}


def _as_plain_tensors(
    state: object, path: Location, where: str, notes: list[str]
) -> dict[str, Tensor]:
    entries: dict[Any, Any] = dict(state) if isinstance(state, Mapping) else {}
    odd = [
        f"{name}: {type(value).__name__}" for name, value in entries.items() if not _dense(value)
    ]
    if odd or not entries or not all(isinstance(name, str) for name in entries):
        found = ", ".join(odd[:5]) or f"a {type(state).__name__}, {len(entries)} entries"
        what = f"{path} holds no state dict of dense tensors: {found}"
        raise ModelError(Problem(where, what, "save model.state_dict() and nothing else"))
    plain = {name: _numpy_ready(tensor) for name, tensor in entries.items()}
    if any(plain[name].dtype != tensor.dtype for name, tensor in entries.items()):
        notes.append("short floats widened to float32")
    return plain


def _dense(value: object) -> bool:
    return isinstance(value, Tensor) and value.layout is torch.strided and not value.is_quantized


def _numpy_ready(tensor: Tensor) -> Tensor:
    """Return `tensor` in a form that numpy can view without a copy (it knows no bfloat16)."""
    tensor = tensor.detach()
    if tensor.is_floating_point() and tensor.dtype not in _NUMPY_FLOATS:
        tensor = tensor.float()
    # A slice of a larger storage would drag all of it along when it is pickled.
    whole = tensor.untyped_storage().nbytes() == math.prod(tensor.shape) * tensor.element_size()
    return tensor.contiguous() if whole else tensor.contiguous().clone()
