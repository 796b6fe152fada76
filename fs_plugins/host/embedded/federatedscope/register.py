"""Registries: how code from outside adds data, models, workers, ... .

Each ``register_<kind>(key, function)`` stores ``function``; the builders in
``core.auxiliaries`` ask every stored function and take the first answer that
is not None.
"""

import logging
from collections.abc import Callable
from typing import Any

logger = logging.getLogger(__name__)
Registry = dict[str, Callable[..., Any]]


def register(key: str, module: Callable[..., Any], into: Registry) -> None:
    """Store ``module`` under ``key``; a key used before is overwritten."""
    if key in into and into[key] is not module:
        logger.warning("%r was registered before and is overwritten", key)
    into[key] = module


def _registry() -> tuple[Registry, Callable[[str, Callable[..., Any]], None]]:
    store: Registry = {}
    return store, lambda key, module: register(key, module, store)


data_dict, register_data = _registry()
model_dict, register_model = _registry()
trainer_dict, register_trainer = _registry()
config_dict, register_config = _registry()
metric_dict, register_metric = _registry()
criterion_dict, register_criterion = _registry()
regularizer_dict, register_regularizer = _registry()
auxiliary_data_loader_PIA_dict, register_auxiliary_data_loader_PIA = (
    _registry()
)
transform_dict, register_transform = _registry()
splitter_dict, register_splitter = _registry()
scheduler_dict, register_scheduler = _registry()
optimizer_dict, register_optimizer = _registry()
worker_dict, register_worker = _registry()
