"""Take layers out of a network: those above a cut, and single ones that are left out.

Each stays in its place as an empty module: the network then has the same chain, and no tensors
there.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import cast

from torch import nn

from rayft.errors import ModelError, Problem
from rayft.models.layout import Stage, tensor_names
from rayft.models.names import nearest

_WHERE = "model.backbone"


def drop_layers(net: nn.Module, names: Sequence[str], *, cut_after: str | None) -> list[str]:
    """Replace layers by nothing; return their names.

    Raises:
        ModelError: the network has no such layer, or nothing in its place.
    """
    check_layers(net, names, "drop", cut_after=cut_after)
    problems = []
    for place, name in enumerate(names):
        layer = dict(net.named_modules()).get(name, nn.Identity())
        # One inside of another that is left out is gone with it, whichever is named first.
        others = (*names[:place], *names[place + 1 :])
        is_inside = any(name.startswith(f"{other}.") for other in others)
        if is_inside or isinstance(layer, nn.Identity) or is_left_out(layer):
            what = f"there is nothing to leave out in `{name}`"
            problems.append(Problem(f"{_WHERE}.drop", what, "remove it"))
        else:
            net.set_submodule(name, nn.Identity())
    if problems:
        raise ModelError(*problems)
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


def check_layers(
    net: nn.Module, names: Iterable[str], setting: str, *, cut_after: str | None
) -> None:
    """Check that the network has layers of these names.

    Args:
        net: the network, without what is cut off.
        names: of layers.
        setting: the one of the backbone that names them.
        cut_after: where it was cut.

    Raises:
        ModelError: it lacks one.
    """
    known = [name for name, _ in net.named_modules() if name]
    cut = f" up to `{cut_after}`, after which it is cut" if cut_after else ""
    problems = [
        Problem(
            f"{_WHERE}.{setting}",
            f"the network has no layer `{name}`{cut}",
            f"write {nearest(name, known)}",
        )
        for name in names
        if name not in known
    ]
    if problems:
        raise ModelError(*problems)


def check_division(
    net: nn.Module,
    official: Sequence[Stage],
    make_stages: Callable[[nn.Module], tuple[Stage, ...]],
    dropped: Sequence[str],
) -> None:
    """Check that leaving layers out did not change how the network is divided.

    Args:
        net: without them.
        official: the stages it had with them.
        make_stages: finds its stages.
        dropped: names of the layers.

    Raises:
        ModelError: it is divided otherwise, or the family does not know it any more.
    """
    if not dropped:
        return
    try:
        found = [stage.name for stage in make_stages(net)]
    except (AttributeError, IndexError, TypeError, ValueError):
        # The family looked for what was left out, or inside of it.
        found = []
    if found != [stage.name for stage in official]:
        raise cannot_go(dropped, "the network has no known division into depth groups")


def check_groups_left(
    net: nn.Module, group_of: Mapping[str, str], stages: Sequence[Stage], dropped: Sequence[str]
) -> None:
    """Check that every depth group still holds a tensor.

    Raises:
        ModelError: all that one held was left out.
    """
    holding = {group_of.get(name) for name in tensor_names(net)}
    names = [stage.name for stage in stages]
    empty = [name for name in names if name not in holding]
    if empty and dropped:
        below = names[: names.index(empty[0])]
        # A cut there takes all groups above with it.
        ends = below and names[len(below) :] == empty
        fix = f"set cut_after to `{below[-1]}`, or leave out fewer" if ends else "leave out fewer"
        raise cannot_go(dropped, f"nothing is left of the depth group `{empty[0]}`", fix)


def cannot_go(
    dropped: Sequence[str], what: str, fix: str = "leave out others, such as whole residual blocks"
) -> ModelError:
    """Return the error for layers that the network cannot be without."""
    return ModelError(Problem(f"{_WHERE}.drop", f"without {', '.join(dropped)} {what}", fix))
