"""The sampler of ``federate.sampler``."""

from typing import Any

from federatedscope.core.sampler import UniformSampler


def get_sampler(
    sample_strategy: str = "uniform",
    client_num: int = 0,
    client_info: Any = None,
) -> UniformSampler:
    """The embedded host samples uniformly."""
    if sample_strategy != "uniform":
        raise ValueError(
            f"federate.sampler: {sample_strategy!r} needs FederatedScope"
        )
    return UniformSampler(client_num)
