"""The trainer of ``trainer.type``."""

from typing import Any

import federatedscope.register as register


def get_trainer(
    model: Any = None,
    data: Any = None,
    device: Any = None,
    config: Any = None,
    only_for_eval: bool = False,
    is_attacker: bool = False,
    monitor: Any = None,
) -> Any:
    """A built-in trainer (``general``, ``llmtrainer``) or a registered one."""
    cls = _built_in(config.trainer.type.lower())
    for function in register.trainer_dict.values():
        cls = cls or function(config.trainer.type)
    if cls is None:
        raise ValueError(f"trainer.type: there is no {config.trainer.type!r}")
    return cls(
        model=model,
        data=data,
        device=device,
        config=config,
        only_for_eval=only_for_eval,
        monitor=monitor,
    )


def _built_in(name: str) -> Any:
    if name == "general":
        from federatedscope.core.trainers import GeneralTorchTrainer

        return GeneralTorchTrainer
    if name == "llmtrainer":
        from federatedscope.llm.trainer.trainer import LLMTrainer

        return LLMTrainer
    return None
