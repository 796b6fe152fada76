"""The context that a trainer's hooks share."""

import math
from typing import Any

from federatedscope.core.auxiliaries.criterion_builder import get_criterion
from federatedscope.core.trainers.enums import MODE


class CtxVar:
    """A value together with how long it lives in the context.

    Args:
        obj: the value.
        lifecycle: 'batch', 'epoch', 'routine', or None for ever.

    """

    LIFECYCLES = ("batch", "epoch", "routine", None)

    def __init__(self, obj: Any, lifecycle: str | None = None) -> None:
        if lifecycle not in self.LIFECYCLES:
            raise ValueError(f"{lifecycle!r} is not in {self.LIFECYCLES}")
        self.obj = obj
        self.lifecycle = lifecycle


class Context(dict[str, Any]):
    """A dict with attribute access whose variables can expire.

    Assigning ``CtxVar(value, lifecycle)`` stores ``value`` and has ``clear``
    drop it at the end of that lifecycle.
    """

    def __init__(
        self, model: Any, cfg: Any, data: Any = None, device: Any = None
    ) -> None:
        super().__init__()
        self.lifecycles: dict[str | None, set[str]] = {
            life: set() for life in CtxVar.LIFECYCLES
        }
        self.cfg = cfg
        self.model = model
        self.models = [model]
        self.data = data
        self.device = device
        self.cur_mode: str | None = None
        self.mode_stack: list[str] = []
        self.cur_split: str | None = None
        self.split_stack: list[str] = []
        self.trainable_para_names = {
            name for name, p in model.named_parameters() if p.requires_grad
        }
        self.criterion = get_criterion(cfg.criterion.type, device)
        self.grad_clip = cfg.grad.grad_clip

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None

    def __setattr__(self, name: str, value: Any) -> None:
        if isinstance(value, CtxVar):
            self.lifecycles[value.lifecycle].add(name)
            value = value.obj
        self[name] = value

    def __delattr__(self, name: str) -> None:
        self.pop(name, None)

    def clear(self, lifecycle: str | None = None) -> None:
        """Drop the variables of ``lifecycle``."""
        for name in self.lifecycles[lifecycle]:
            self.pop(name, None)
        self.lifecycles[lifecycle].clear()

    def merge_from_dict(self, other: dict[str, Any]) -> None:
        """Set each item of ``other``."""
        for name, value in other.items():
            setattr(self, name, value)

    def track_mode(self, mode: str) -> None:
        """Enter ``mode``: the model trains or evaluates accordingly."""
        self.mode_stack.append(mode)
        self._apply_mode()

    def reset_mode(self) -> None:
        """Go back to the mode before."""
        self.mode_stack.pop()
        self._apply_mode()

    def _apply_mode(self) -> None:
        self.cur_mode = self.mode_stack[-1] if self.mode_stack else None
        if self.cur_mode is not None:
            self.model.train(self.cur_mode in (MODE.TRAIN, MODE.FINETUNE))

    def track_split(self, split: str) -> None:
        """Work on ``split`` ('train', 'val' or 'test')."""
        self.split_stack.append(split)
        self.cur_split = split

    def reset_split(self) -> None:
        """Go back to the split before."""
        self.split_stack.pop()
        self.cur_split = self.split_stack[-1] if self.split_stack else None

    def check_split(self, split: str, skip: bool = False) -> bool:
        """Whether there is data for ``split``; raises unless ``skip``."""
        found = (
            self.get(f"{split}_data") is not None
            or self.get(f"{split}_loader") is not None
        )
        if not found and not skip:
            raise ValueError(f"the trainer has no data for {split!r}")
        return found

    def _batches(self, split: str) -> int:
        size = self.get(f"num_{split}_data", 0)
        loader = self.cfg.dataloader
        if split == "train" and loader.drop_last:
            return int(size // loader.batch_size)
        batches: int = math.ceil(size / loader.batch_size)
        return batches

    def _train_plan(self) -> tuple[int, int, int]:
        """(batches an epoch, batches of the last epoch, epochs)."""
        section = (
            self.cfg.finetune
            if self.cur_mode == MODE.FINETUNE
            else self.cfg.train
        )
        batches = self._batches("train")
        if batches == 0:
            raise RuntimeError("a client has less than one training batch")
        steps = section.local_update_steps * self.cfg.grad.grad_accum_count
        if section.batch_or_epoch == "epoch":
            return batches, batches, steps
        batches = min(batches, steps)
        return batches, steps % batches or batches, math.ceil(steps / batches)

    @property
    def num_train_batch(self) -> int:
        """Batches an epoch of local training."""
        return self._train_plan()[0]

    @property
    def num_train_batch_last_epoch(self) -> int:
        """Batches of the last epoch, which may be cut short."""
        return self._train_plan()[1]

    @property
    def num_train_epoch(self) -> int:
        """Epochs of local training."""
        return self._train_plan()[2]

    @property
    def num_total_train_batch(self) -> int:
        """Batches of local training."""
        batches, last, epochs = self._train_plan()
        return batches * (epochs - 1) + last

    @property
    def num_val_batch(self) -> int:
        """Batches of the validation split."""
        return self._batches("val")

    @property
    def num_test_batch(self) -> int:
        """Batches of the test split."""
        return self._batches("test")

    num_val_epoch = num_test_epoch = 1
