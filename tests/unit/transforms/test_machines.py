"""The same bytes come out of narrower vector instructions, which settings choose here."""

import json
import os
import subprocess
import sys

import pytest
from numpy._core import _multiarray_umath

_DIGESTS = """
import hashlib, json
import numpy as np
from tests.unit.transforms.test_augment import OPERATIONS, make_augmentation
coarse = np.random.default_rng(0).integers(0, 256, (40, 12, 12, 3), dtype=np.uint8)
images = coarse.repeat(4, axis=1).repeat(4, axis=2)
images += np.random.default_rng(1).integers(0, 9, images.shape, dtype=np.uint8)
found = {}
for number, spec in enumerate(OPERATIONS):
    augment = make_augmentation((spec,), image_size=48, seed=0)
    result = [augment(images, np.arange(40), epoch=epoch) for epoch in range(5)]
    found[f"{number} {spec.kind}"] = hashlib.sha256(np.stack(result)).hexdigest()
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def here() -> dict[str, str]:
    return _digests({})


@pytest.mark.parametrize(
    "settings",
    [
        {"OPENBLAS_CORETYPE": "Haswell", "ATEN_CPU_CAPABILITY": "avx2"},
        {"OPENBLAS_CORETYPE": "Nehalem", "ATEN_CPU_CAPABILITY": "default"},
        {"NPY_DISABLE_CPU_FEATURES": " ".join(_multiarray_umath.__cpu_dispatch__)},
        {"OPENBLAS_NUM_THREADS": "3", "OMP_NUM_THREADS": "3"},
    ],
    ids=["avx2", "sse", "numpy", "threads"],
)
def test_vector_instructions_and_threads_change_no_byte(
    settings: dict[str, str], here: dict[str, str]
) -> None:
    assert _digests(settings) == here


def _digests(settings: dict[str, str]) -> dict[str, str]:
    found = subprocess.run(
        [sys.executable, "-c", _DIGESTS],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | settings,
    )
    digests: dict[str, str] = json.loads(found.stdout.splitlines()[-1])
    return digests
