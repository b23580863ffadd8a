"""What this process may compute on; nothing here imports Ray, which takes a second."""

import os

import torch


def available_cpus() -> int:
    """Return the CPUs that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def available_gpus() -> int:
    """Return the GPUs that torch can compute on here.

    Others may be counted without asking CUDA: those whose driver is too old for torch, and all of
    them where torch is built without CUDA.
    """
    return torch.cuda.device_count() if torch.cuda.is_available() else 0
