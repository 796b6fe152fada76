"""Local training and evaluation."""

from typing import Any

from federatedscope.register import register_trainer

from fs_plugins.trainer.metrics import METRICS

TRAINERS = ("fedsa_glue",)


def call_classification_trainer(trainer_type: str) -> Any:
    """Answers to ``trainer.type: fedsa_glue``."""
    if trainer_type not in TRAINERS:
        return None
    from fs_plugins.trainer.classification import ClassificationTrainer

    return ClassificationTrainer


register_trainer("fedsa_glue", call_classification_trainer)

__all__ = ["METRICS", "TRAINERS"]
