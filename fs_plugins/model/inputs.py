"""The limits of a model's inputs, found before its weights are loaded."""

import inspect
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from fs_plugins.errors import UserError, first_line
from fs_plugins.model.pretrained import auto_class
from fs_plugins.terms import CAUSAL


@dataclass(frozen=True)
class Inputs:
    """The limits of a model's inputs.

    Attributes:
        tokens: how many tokens have an embedding; 0 if the model has no
            table of embeddings.
        positions: the most tokens that a text can have; 0 if the model
            computes positions instead of looking them up.
        segments: how many segments the model tells apart; 0 if it takes no
            ``token_type_ids``.
        pads_left: whether padding must come before a text, as the model
            looks at the last token of a row even if that is padding.
        ends: whether the model classifies by end-of-text tokens, of which
            every text must then contain the same number.

    """

    tokens: int
    positions: int = 0
    segments: int = 0
    pads_left: bool = False
    ends: bool = False


def inputs_of(
    config: Any, task: str, provided: nn.Module | None = None
) -> Inputs:
    """The limits of the model that a configuration describes.

    The model is built without memory for its weights.

    Args:
        config: a configuration of transformers; None for a model of another
            library, of which no limits are known.
        task: one of ``TASKS``.
        provided: the model itself, if it exists already.

    Raises:
        UserError: transformers has no model of this kind for the task.

    """
    if config is None:
        return Inputs(tokens=0)
    try:
        with torch.device("meta"):
            model = provided
            if model is None:
                model = auto_class(task).from_config(config)
    except Exception as error:  # each model raises exceptions of its own
        if task == CAUSAL and config.is_encoder_decoder:
            raise UserError(
                f"model.type: a {config.model_type!r} reads a text and writes "
                "another one, and instructions need a model that goes on with "
                "a text, such as GPT-2 or Llama; here it classifies texts"
            ) from error
        raise UserError(
            f"model.type: a model of type {config.model_type!r} cannot be "
            f"built for {task}: {first_line(error)}"
        ) from error
    is_classifier = task != CAUSAL
    return Inputs(
        tokens=tokens_of(model),
        positions=_positions(model, config.get_text_config()),
        segments=_segments(model),
        # of XLNet; other models with a summary look for the padding
        pads_left=is_classifier
        and getattr(config, "summary_type", "") == "last",
        ends=is_classifier and bool(config.is_encoder_decoder),
    )


def tokens_of(model: Any) -> int:
    """How many tokens have an embedding; 0 for a model without a table.

    CANINE and Perceiver have none, nor need a model of another library.
    """
    try:
        table = model.get_input_embeddings()
    except (NotImplementedError, AttributeError):
        return 0
    weight = getattr(table, "weight", None)
    return 0 if weight is None else int(weight.shape[0])


# Parts for images and sounds have tables of positions that texts do not use.
_OTHER_TOWERS = ("vision", "visual", "image", "audio", "speech", "video")


def _tables(model: nn.Module, *parts: str) -> list[Any]:
    """The tables for texts with one of ``parts`` in their last name."""
    return [
        module
        for name, module in model.named_modules()
        if getattr(getattr(module, "weight", None), "ndim", 0) == 2
        and any(part in name.rpartition(".")[2] for part in parts)
        and not any(tower in name for tower in _OTHER_TOWERS)
    ]


def _positions(model: nn.Module, config: Any) -> int:
    """The usable rows of the shortest table of positions; 0 without a table.

    RoBERTa counts positions from the row after its padding token, BART and
    OPT from row 2.  Other models with more rows than positions say in their
    configuration how many positions there are.
    """
    usable = []
    for table in _tables(model, "position", "pos_emb", "wpe"):
        rows = int(table.weight.shape[0])
        first = getattr(table, "offset", None)
        if first is None:
            padding = getattr(table, "padding_idx", None)
            first = 0 if padding is None else padding + 1
        most = getattr(config, "max_position_embeddings", None) or rows
        usable.append(min(rows - int(first), most))
    return min(usable, default=0)


def longest_text(config: Any) -> int:
    """How many positions a configuration allows; 0 if it does not say.

    Args:
        config: a configuration of transformers, or None.

    """
    text = config.get_text_config() if config is not None else None
    return int(getattr(text, "max_position_embeddings", None) or 0)


def _segments(model: Any) -> int:
    """How many segments a model tells apart; 0 if it takes none."""
    taken = inspect.signature(type(model).forward).parameters
    if "token_type_ids" not in taken:
        return 0
    rows = [
        int(table.weight.shape[0])
        for table in _tables(model, "token_type_embeddings")
    ]
    if rows:
        return min(rows)
    # XLNet and Funnel only compare segments, of which there may be any
    # number.  GPT-2, XLM and others would look up segments as tokens.
    compares = any("seg_embed" in name for name, _ in model.named_parameters())
    return 1 << 7 if compares else 0
