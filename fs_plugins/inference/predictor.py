"""Predicts the classes or the scores of new texts with a client's model."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from fs_plugins.data.client_data import Collator
from fs_plugins.data.examples import Examples
from fs_plugins.data.tokenizer import load_tokenizer
from fs_plugins.data.tokens import NO_CACHE, Tokens, tokenise
from fs_plugins.errors import UserError, shown
from fs_plugins.experiment.runs import Run, TrainedClient
from fs_plugins.experiment.saved_models import model_section
from fs_plugins.model.inputs import inputs_of
from fs_plugins.terms import CAUSAL, REGRESSION
from fs_plugins.trainer.precision import autocast_of_run

_BATCH = 32  # texts


@dataclass(frozen=True)
class Prediction:
    """What a model says of a text.

    Attributes:
        label: the name of the likeliest class; the score in a regression.
        probability: how likely the class is, from 0 to 1; None in a
            regression.

    """

    label: str | float
    probability: float | None = None


class Predictor:
    """The model of a client, or of the server, for new texts.

    Texts are cut to the length that the run has cut its texts to.

    Args:
        run: the run.
        client: the client; None for what the server knows.
        base: the base model as it was before the run.  It is needed only if
            the run was given a model and not the name of a checkpoint.
        tokenizer: the tokenizer of that model.

    Attributes:
        classes: the names of the classes, in the order of their numbers;
            empty in a regression.

    Raises:
        UserError: the run has no such adapter, is of a language model, or
            the base model cannot be loaded.

    """

    def __init__(
        self,
        run: Run,
        client: TrainedClient | None = None,
        base: Any = None,
        tokenizer: Any = None,
    ) -> None:
        section = model_section(run.config)
        if section.task == CAUSAL:
            raise UserError(
                f"{run.folder}: a language model has no classes to predict; "
                f"'fedsa chat {run.folder}' asks it"
            )
        self._tok_len = _tok_len(run.config)
        self.classes = _classes(section)
        model = client.model(base) if client else run.global_model(base)
        self.model = model.eval().to(_device())
        config = self.model.config
        name = section.type.rpartition("@")[0]
        self.tokenizer = tokenizer or load_tokenizer(
            name, section.adapter.cache, config
        )
        inputs = inputs_of(config, section.task)
        self._segments = inputs.segments
        self._pads_left = inputs.pads_left
        self._pad = int(section.adapter.get("pad", -1))
        if self._pad < 0:
            self._pad = int(self.tokenizer.pad_token_id)
        self._is_score = section.task == REGRESSION
        self._settings = run.settings
        self._width = len(run.settings.get("fedsa.data.text") or ())

    def predict(
        self, texts: Sequence[str | tuple[str, ...]]
    ) -> list[Prediction]:
        """The predictions for texts, in their order.

        Args:
            texts: the texts, or pairs of texts if the model was trained on
                pairs.

        """
        logits = self.logits(texts)
        if self._is_score:
            return [Prediction(float(row[0])) for row in logits]
        likely = logits.softmax(dim=-1)
        best = likely.argmax(dim=-1).tolist()
        return [
            Prediction(self.classes[number], float(row[number]))
            for number, row in zip(best, likely, strict=True)
        ]

    def logits(self, texts: Sequence[str | tuple[str, ...]]) -> torch.Tensor:
        """The model's logits for texts.

        Args:
            texts: as for ``predict``.

        Returns:
            A tensor of shape (texts, classes), or (texts, 1) in a
            regression, in float32.

        """
        self._check(texts)
        if not len(texts):
            return torch.empty(0, max(1, len(self.classes)))
        tokens = self._tokens(texts)
        rows: list[torch.Tensor] = [torch.empty(0)] * len(texts)
        for numbers, logits in self._batches(tokens):
            for number, row in zip(numbers, logits, strict=True):
                rows[number] = row
        return torch.stack(rows)

    def _check(self, texts: object) -> None:
        """Refuse what is no list of texts, or of pairs if pairs are known."""
        if not isinstance(texts, (list, tuple)):
            raise UserError(
                f"predict: {type(texts).__name__} is no list of texts, or of "
                "pairs of texts"
            )
        for number, text in enumerate(texts):
            parts = (text,) if isinstance(text, str) else text
            is_right = isinstance(parts, tuple) and all(
                isinstance(part, str) and part.strip() for part in parts
            )
            if not is_right or len(parts) not in (1, 2):
                raise UserError(
                    f"predict: text {number}, {shown(text)}, is no text and "
                    "no pair of texts, or is empty"
                )
            if self._width and len(parts) != self._width:
                wanted = "a pair of texts" if self._width == 2 else "one text"
                raise UserError(
                    f"predict: text {number} has {len(parts)}, and the model "
                    f"was trained on {wanted} each"
                )

    def _batches(
        self, tokens: Tokens
    ) -> Iterator[tuple[list[int], torch.Tensor]]:
        """The numbers and the logits of texts of about the same length."""
        collate = Collator(tokens, self._pad, self._pads_left)
        order = np.argsort(-tokens.lengths(), kind="stable").tolist()
        device = next(self.model.parameters()).device
        for start in range(0, len(order), _BATCH):
            numbers = order[start : start + _BATCH]
            batch = collate(numbers)
            del batch["labels"]
            with (
                torch.inference_mode(),
                autocast_of_run(self._settings, device),
            ):
                output = self.model(
                    **{name: x.to(device) for name, x in batch.items()}
                )
            yield numbers, output.logits.float().cpu()

    def _tokens(self, texts: Sequence[str | tuple[str, ...]]) -> Tokens:
        """The texts' tokens, of which nothing is kept on the disk."""
        rows = [(t,) if isinstance(t, str) else tuple(t) for t in texts]
        examples = Examples(rows, [0.0] * len(rows))
        examples.check("texts")
        return tokenise(
            examples, self.tokenizer, self._tok_len, NO_CACHE, self._segments
        )


def predictor_of(run: Run, client: str) -> Predictor:
    """The model of a client, or of the server, by a word of the user.

    Args:
        run: the run.
        client: the client's name or number, or ``global``.

    Raises:
        UserError: there is no such client, or its model cannot be loaded.

    """
    return Predictor(run, None if client == "global" else run.client(client))


def _classes(section: Any) -> tuple[str, ...]:
    """The names of the classes; their numbers if they have no names."""
    if section.task == REGRESSION:
        return ()
    names = section.adapter.get("classes", ())
    return tuple(names) or tuple(map(str, range(section.num_labels)))


def _tok_len(config: Mapping[str, Any]) -> int:
    """The most tokens of a text, as the run had it."""
    try:
        return int(config["llm"]["tok_len"])
    except (KeyError, TypeError, ValueError):
        raise UserError("the run's configuration has no llm.tok_len") from None


def _device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"
