"""Local training and evaluation."""

from typing import Any

from federatedscope.register import register_trainer

from fs_plugins.trainer.metrics import METRICS

TRAINERS = ("fedsa_glue", "fedsa_llm")


def call_classification_trainer(trainer_type: str) -> Any:
    """Answers to ``trainer.type: fedsa_glue``."""
    if trainer_type != "fedsa_glue":
        return None
    from fs_plugins.trainer.classification import ClassificationTrainer

    return ClassificationTrainer


def call_language_trainer(trainer_type: str) -> Any:
    """Answers to ``trainer.type: fedsa_llm``."""
    if trainer_type != "fedsa_llm":
        return None
    from fs_plugins.trainer.language import LanguageTrainer

    return LanguageTrainer


register_trainer("fedsa_glue", call_classification_trainer)
register_trainer("fedsa_llm", call_language_trainer)

__all__ = ["METRICS", "TRAINERS"]
