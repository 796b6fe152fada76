"""Everything that the plugins register with FederatedScope.

The registered functions are small, and import the modules that do the work
when FederatedScope calls them.
"""

from typing import Any

from fs_plugins.host.configuration import Config, Model
from fs_plugins.policy import METHODS
from fs_plugins.terms import (
    ANSWER_METRICS,
    CLASSIFICATION_TRAINER,
    LABEL_SET_METRICS,
    LANGUAGE_TRAINER,
    TASKS,
)

_METRICS = ("binary_f1", "matthews", "pearson", "spearman")


def register_plugins() -> None:
    """Register workers, trainers, data, models, metrics and options."""
    from federatedscope import register
    from federatedscope.core.configs.config import global_cfg

    from fs_plugins.config.section import extend_fedsa_cfg

    register.register_worker("fedsa", call_worker)
    register.register_trainer("fedsa", call_trainer)
    register.register_data("fedsa", call_data)
    register.register_model("fedsa", call_model)
    register.register_splitter("fedsa", call_splitter)
    for name in (*_METRICS, *LABEL_SET_METRICS, *ANSWER_METRICS, "pass_at_k"):
        register.register_metric(name, _metric_caller(name))
    register.register_config("fedsa", extend_fedsa_cfg)
    if (
        "fedsa" not in global_cfg
    ):  # the host has built its configuration before
        extend_fedsa_cfg(global_cfg)


def call_worker(method: str) -> dict[str, Any] | None:
    """The workers of a ``federate.method`` in ``METHODS``; else None."""
    if method not in METHODS:
        return None
    from fs_plugins.worker.client import FedSAClient
    from fs_plugins.worker.server import FedSAServer

    return {"client": FedSAClient, "server": FedSAServer}


def call_trainer(trainer: str) -> Any:
    """The trainer of ``trainer.type: fedsa_glue`` or ``fedsa_llm``."""
    if trainer == CLASSIFICATION_TRAINER:
        from fs_plugins.trainer.classification import ClassificationTrainer

        return ClassificationTrainer
    if trainer == LANGUAGE_TRAINER:
        from fs_plugins.trainer.language import LanguageTrainer

        return LanguageTrainer
    return None


def call_data(config: Config, client_cfgs: Any) -> Any:
    """The data of ``data.type: <name>@<family>``, for a registered family.

    With another trainer than the plugins' own, FederatedScope loads
    ``<name>@llm`` itself.

    Args:
        config: the configuration.
        client_cfgs: clients' own settings, by ``client_<ID>``, if any.

    Returns:
        The clients' data and the changed configuration; None if the data are
        not those of the plugins.

    """
    from fs_plugins.data.registry import FAMILIES

    _, at, family = config.data.type.lower().rpartition("@")
    is_hosts = family == "llm" and config.trainer.type != LANGUAGE_TRAINER
    if not at or family not in FAMILIES or is_hosts:
        return None
    from fs_plugins.experiment.preparation import load

    return load(config, client_cfgs)


def call_model(model_config: Model, input_shape: Any) -> Any:
    """The model of ``model.type: ...@huggingface_llm``.

    Args:
        model_config: the section ``model`` of the configuration.
        input_shape: not used.

    Returns:
        The model; None if the plugins' data have not set ``model.task``, or
        the model is of another kind.

    """
    is_ours = model_config.task in TASKS
    if not is_ours or not model_config.type.endswith("@huggingface_llm"):
        return None
    from fs_plugins.model.build import build

    return build(model_config)


def call_splitter(name: str, client_num: int, **kwargs: Any) -> Any:
    """The splitter of ``data.splitter``, if it is one of the plugins'.

    Args:
        name: the value of ``data.splitter``.
        client_num: the number of clients.
        **kwargs: the arguments in ``data.splitter_args``.

    Returns:
        The splitter; None if it is of another kind.

    """
    from fs_plugins.data.splitters import SPLITTERS

    known = SPLITTERS.get(name)
    return known(client_num, **kwargs) if known else None


def _metric_caller(name: str) -> Any:
    """The function that FederatedScope calls to find a metric."""

    def call_metric(types: Any) -> Any:
        from fs_plugins.trainer.metrics import metric_among

        return metric_among(types, name)

    return call_metric
