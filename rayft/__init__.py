"""rayft: distributed fine-tuning of pretrained models on Ray.

The commands of the command line are functions here, loaded when they are first used:
`load_spec`, `train`, `load_sweep`, `tune`, `evaluate`, `find_lr`, `predict` (with its
`PredictOptions`).
"""

from importlib import import_module

_LAZY = {
    "evaluate": "rayft.runtime.evaluate",
    "find_lr": "rayft.runtime.find_lr",
    "load_spec": "rayft.spec.load",
    "load_sweep": "rayft.spec.load_sweep",
    "predict": "rayft.runtime.predict",
    "PredictOptions": "rayft.runtime.predict_job",
    "train": "rayft.runtime.train",
    "tune": "rayft.runtime.tune",
}


def __getattr__(name: str) -> object:
    if name not in _LAZY:
        raise AttributeError(f"module 'rayft' has no attribute {name!r}")
    return getattr(import_module(_LAZY[name]), name)
