"""Carry out a ledger on a model: what requires gradients, and what runs in which mode."""

from typing import Literal

from rayft.models.backbone import batch_norms
from rayft.models.model import FineTuneModel
from rayft.plan.ledger import Ledger

BatchNorm = Literal["pretrained", "local", "sync"]


def set_trainable(model: FineTuneModel, ledger: Ledger) -> None:
    """Set `requires_grad` of every parameter as the ledger says.

    Raises:
        RuntimeError: ledger and model do not name the same parameters.
    """
    rules = {rule.name: rule.trains for rule in ledger.params}
    params = dict(model.named_parameters())
    if rules.keys() != params.keys():
        odd = sorted(rules.keys() ^ params.keys())[:5]
        raise RuntimeError(f"ledger and model disagree about parameters: {odd}")
    for name, param in params.items():
        param.requires_grad_(rules[name])
        param.grad = None


def set_training_modes(model: FineTuneModel, ledger: Ledger, *, batch_norm: BatchNorm) -> None:
    """Put trained groups into training mode and frozen ones into evaluation mode.

    `requires_grad` does not reach batch norm's running statistics, nor dropout: in training mode
    a "frozen" group drifts and answers by its batch-mates (pytorch#86590). Call this after every
    `model.train()`, which undoes it.
    """
    model.train()
    for group in model.backbone.depth_groups:
        for module in model.backbone.modules_of(group):
            module.train(ledger.trains(group))
    for name, head in model.heads.items():
        head.train(ledger.trains(f"heads.{name}"))
    if batch_norm == "pretrained":
        for norm in batch_norms(model):
            norm.eval()
