"""Take layers out of a network: those above a cut, and single ones that are left out.

Each stays in its place as an empty module: the network then has the same chain, and no tensors
there.
"""

from collections.abc import Iterable, Sequence
from typing import cast

from torch import nn

from rayft.errors import ModelError, Problem
from rayft.models.layout import Stage
from rayft.models.names import nearest

_WHERE = "model.backbone"


def drop_layers(net: nn.Module, names: Sequence[str]) -> list[str]:
    """Replace layers by nothing; return their names."""
    check_layers(net, names, "drop")
    for name in names:
        net.set_submodule(name, nn.Identity())
    return list(names)


def cut_off(net: nn.Module, stages: Sequence[Stage], after: str | None) -> list[str]:
    """Empty every module above the cut; return their names."""
    if after is None:
        return []
    paths = {id(module): path for path, module in net.named_modules()}
    above = stages[[stage.name for stage in stages].index(after) + 1 :]
    removed = []
    for module in (module for stage in above for module in stage.modules):
        if id(module) in paths:
            removed.append(paths[id(module)])
            net.set_submodule(paths[id(module)], _empty(module))
    return removed


def _empty(module: nn.Module) -> nn.Module:
    """Return a module of the same class with nothing in it: families find their stages by class.

    A norm becomes the identity: no family looks for one, and others that do look inside.
    """
    if isinstance(module, nn.modules.batchnorm._NormBase):
        return nn.Identity()
    members = {"extra_repr": _left_out, "_load_from_state_dict": nn.Module._load_from_state_dict}
    kind = type(f"Empty{type(module).__name__}", (type(module),), members)
    empty = cast(nn.Module, object.__new__(kind))
    nn.Module.__init__(empty)
    return empty


def _left_out(_module: nn.Module) -> str:
    return "left out"


def is_left_out(module: nn.Module) -> bool:
    """Return whether `module` is the empty one that `cut_off` put in the place of another."""
    return type(module).extra_repr is _left_out


def check_layers(net: nn.Module, names: Iterable[str], setting: str) -> None:
    """Check that the network has layers of these names.

    Raises:
        ModelError: it lacks one; `setting` of the backbone named it.
    """
    known = [name for name, _ in net.named_modules() if name]
    problems = [
        Problem(
            f"{_WHERE}.{setting}",
            f"the network has no layer `{name}`",
            f"write {nearest(name, known)}",
        )
        for name in names
        if name not in known
    ]
    if problems:
        raise ModelError(*problems)
