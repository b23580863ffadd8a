import torch
from torch import nn

from rayft.engine.build import load_evaluated_weights, synchronize_batch_norm
from rayft.models.model import FineTuneModel, make_model
from rayft.spec.model import ModelSpec


def tiny(kind: str = "timm", name: str = "test_efficientnet") -> FineTuneModel:
    spec = ModelSpec.model_validate(
        {
            "backbone": {"kind": kind, "name": name, "weights": "none"},
            "heads": {"label": {"kind": "classification"}},
        }
    )
    return make_model(spec, num_classes=3, seed=0)


def test_averages_take_the_place_of_weights_that_have_one() -> None:
    model = tiny()
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    name = next(iter(dict(model.named_parameters())))
    average = {name: torch.full_like(weights[name], 7.0), "num_updates": torch.tensor(3)}

    load_evaluated_weights(model, {"model": weights, "average": average})

    found = model.state_dict()
    assert torch.equal(found[name], average[name])
    assert all(torch.equal(found[other], weights[other]) for other in weights if other != name)


def test_synchronised_batch_norm_keeps_names_groups_and_values() -> None:
    for kind, name in (("timm", "test_efficientnet"), ("torchvision", "resnet18")):
        model = tiny(kind, name)
        before = {key: value.clone() for key, value in model.state_dict().items()}
        norms = sum(isinstance(m, nn.BatchNorm2d) for m in model.modules())

        converted = synchronize_batch_norm(model)

        after = converted.state_dict()
        assert after.keys() == before.keys()
        assert all(torch.equal(after[key], before[key]) for key in before)
        found = [m for m in converted.modules() if isinstance(m, nn.SyncBatchNorm)]
        assert len(found) == norms > 0
