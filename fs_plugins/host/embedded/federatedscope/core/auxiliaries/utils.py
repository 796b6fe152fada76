"""Odds and ends."""

import os
import random
from typing import Any

import numpy as np
import torch


def setup_seed(seed: int) -> None:
    """Seed numpy, random and torch."""
    np.random.seed(seed)
    random.seed(seed)
    # torch.manual_seed also seeds devices that the machine does not have.
    torch.default_generator.manual_seed(seed)
    if torch.cuda.is_available():
        torch.cuda.manual_seed_all(seed)


def merge_dict_of_results(
    dict1: dict[str, Any], dict2: dict[str, Any]
) -> dict[str, Any]:
    """Append each value of ``dict2`` to the list of its key in ``dict1``."""
    for key, value in dict2.items():
        if isinstance(value, dict):
            merge_dict_of_results(dict1.setdefault(key, {}), value)
        else:
            dict1.setdefault(key, []).append(value)
    return dict1


def add_prefix_to_path(prefix: str, path: str) -> str:
    """``a/b`` becomes ``a/<prefix>b``."""
    folder, file = os.path.split(path)
    return os.path.join(folder, prefix + file)
