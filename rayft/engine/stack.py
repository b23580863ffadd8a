"""Runs that stand at the same step of the same phase, as one batched model."""

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import final

import torch
from torch import Tensor

from rayft.engine.device import shard_seed
from rayft.engine.member import Member
from rayft.engine.placing import DeviceBatch
from rayft.models.stacked_heads import HeadGroup, StackedHeads
from rayft.objectives.objective import CrossEntropyTerm
from rayft.objectives.stacked import StackedCrossEntropy
from rayft.optim.stacked import StackedOptimizer, StackedParam, state_keys
from rayft.plan.run_plan import PhasePlan


@final
class Stack:
    """The heads and optimizers of members, stacked.

    The members' own parameters and moments become views of the stacks, so that a member can be
    saved at any time as if it were alone.

    Args:
        members: in the same phase and at the same step of it; all have entered the phase.
    """

    members: tuple[Member, ...]
    """In the order of the stack: those that see the same inputs follow each other."""
    phases: tuple[PhasePlan, ...]
    """Each member's plan of the phase: they differ in rates and schedules."""

    def __init__(self, members: Sequence[Member]) -> None:
        self.members = tuple(sorted(members, key=_inputs_of))
        index = self.members[0].run.position.phase
        self.phases = tuple(member.run.plan.phases[index] for member in self.members)
        heads = [member.head for member in self.members]
        self.heads = StackedHeads(heads)
        self.heads.lend(heads)
        self.optimizer = StackedOptimizer(
            self.members[0].run.plan.spec.optimizer,
            [
                _stacked_param(self.members, name, value)
                for name, value in self.heads.params.items()
            ],
        )
        terms = [_term_of(member) for member in self.members]
        self._losses = StackedCrossEntropy(terms)
        self._sizes = [
            (seed, dropout, len(list(alike)))
            for (seed, dropout), alike in groupby(self.members, key=_inputs_of)
        ]

    def losses(
        self,
        placed: Mapping[int, DeviceBatch],
        features: Mapping[int, Tensor],
        *,
        step: int,
        shard: int,
    ) -> Tensor:
        """Return each member's sum of losses [K] over the rows of a shard.

        Args:
            placed: the rows, by the seed of the members that see them.
            features: [n, D] of the rows, by seed.
            step: step in the whole run.
            shard: virtual shard of the step.
        """
        run = self.members[0].run
        with run.device.autocast():
            scores = self.heads(
                [
                    HeadGroup(
                        features=features[seed],
                        size=size,
                        dropout=dropout,
                        stream=shard_seed(seed, step, shard),
                    )
                    for seed, dropout, size in self._sizes
                ]
            )
        labels = [placed[seed].targets.labels.expand(size, -1) for seed, _, size in self._sizes]
        weights = next(iter(placed.values())).weights
        return self._losses(scores, torch.cat(labels), weights)


def _inputs_of(member: Member) -> tuple[int, float]:
    """Return what decides on the inputs of a member's head: whose are equal sees the same."""
    return member.run.plan.spec.seed, float(member.head.dropout.p)


def _term_of(member: Member) -> CrossEntropyTerm:
    (term,) = member.run.objective.terms.values()
    assert isinstance(term, CrossEntropyTerm)
    return term


def _stacked_param(members: Sequence[Member], name: str, value: Tensor) -> StackedParam:
    """Stack what the members' optimizers hold of a parameter, and let them hold views of it."""
    rates, decays, states, params = [], [], [], []
    for member in members:
        param = member.head.get_parameter(name)
        optimizer = member.run.optimizer
        assert optimizer is not None
        group = next(g for g in optimizer.param_groups if any(p is param for p in g["params"]))
        rates.append(float(group["peak_lr"]))
        decays.append(float(group["weight_decay"]))
        states.append(optimizer.state)
        params.append(param)
    keys = state_keys(members[0].run.plan.spec.optimizer)
    stacked = {
        key: torch.stack(
            [
                _moment(state.get(param, {}).get(key), key, param)
                for state, param in zip(states, params, strict=True)
            ]
        )
        for key in keys
    }
    for row, (state, param) in enumerate(zip(states, params, strict=True)):
        if keys:
            state[param] = {key: values[row] for key, values in stacked.items()}
    return StackedParam(value=value, state=stacked, peak_rates=rates, decays=decays)


def _moment(found: object, key: str, param: Tensor) -> Tensor:
    """Return what an optimizer holds, or what it would begin with."""
    if isinstance(found, Tensor):
        return found
    if key == "step":
        return torch.zeros((), device=param.device)
    return torch.zeros_like(param)
