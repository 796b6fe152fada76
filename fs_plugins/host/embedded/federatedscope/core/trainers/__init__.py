"""Local training and evaluation."""

from federatedscope.core.trainers.base_trainer import BaseTrainer
from federatedscope.core.trainers.context import Context, CtxVar
from federatedscope.core.trainers.torch_trainer import GeneralTorchTrainer
from federatedscope.core.trainers.trainer import Trainer

__all__ = [
    "BaseTrainer",
    "Context",
    "CtxVar",
    "GeneralTorchTrainer",
    "Trainer",
]
