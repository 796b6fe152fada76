"""Predicts the classes or the scores of new texts with a client's model."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from fs_plugins.config.scaling import scaling_of
from fs_plugins.data.batches import Collator
from fs_plugins.data.examples import Examples
from fs_plugins.data.standardise import in_own_unit
from fs_plugins.data.tokenizer import load_tokenizer
from fs_plugins.data.tokens import NO_CACHE, Tokens, tokenise
from fs_plugins.errors import UserError, shown
from fs_plugins.experiment.runs import Run, TrainedClient
from fs_plugins.experiment.saved_models import model_section
from fs_plugins.inference.shared_base import SharedBase, client_called
from fs_plugins.model.inputs import inputs_of
from fs_plugins.terms import CAUSAL, MULTI_LABEL, REGRESSION
from fs_plugins.trainer.precision import autocast_of_run

_BATCH = 32  # texts


@dataclass(frozen=True)
class Prediction:
    """What a model says of a text.

    Attributes:
        label: the name of the likeliest class; the score in a regression;
            the names of all classes that apply, if a text may have several
            labels.
        probability: how likely the class is, from 0 to 1; None in a
            regression and where a text may have several labels.
        probabilities: how likely each class applies, by its name, if a text
            may have several labels; else empty.

    """

    label: str | float | tuple[str, ...]
    probability: float | None = None
    probabilities: Mapping[str, float] = field(default_factory=dict)


class Predictor:
    """The model of a client, or of the server, for new texts.

    Texts are cut to the length that the run has cut its texts to.

    Args:
        run: the run.
        client: the client; None for what the server knows.
        base: the base model as it was before the run.  It is needed only if
            the run was given a model and not the name of a checkpoint.
        tokenizer: the tokenizer of that model.
        threshold: where a text may have several labels, those are predicted
            that are likelier than this; None stands for 0.5.
        kept: the number of adapters that stay in memory, if the models of
            several clients take turns.

    Attributes:
        classes: the names of the classes, in the order of their numbers;
            empty in a regression.
        is_multi_label: whether a text may have several labels.

    Raises:
        UserError: the run has no such adapter, is of a language model, or
            the base model cannot be loaded; or the threshold is wrong.

    """

    def __init__(
        self,
        run: Run,
        client: TrainedClient | None = None,
        base: Any = None,
        tokenizer: Any = None,
        threshold: float | None = None,
        kept: int = 1,
    ) -> None:
        section = model_section(run.config)
        if section.task == CAUSAL:
            raise UserError(
                f"{run.folder}: a language model has no classes to predict; "
                f"'fedsa chat {run.folder}' asks it"
            )
        self.is_multi_label = section.task == MULTI_LABEL
        _check_threshold(threshold, self.is_multi_label)
        self._threshold = 0.5 if threshold is None else float(threshold)
        self._scaling = scaling_of(run.settings)
        self._tok_len = _tok_len(run.config)
        self.classes = _classes(section)
        self._models = SharedBase(run, base, kept)
        self.use(client)
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

    def use(self, client: TrainedClient | None) -> None:
        """Predict with the model of another client from now on.

        The base model stays in memory; only the adapter is exchanged.

        Args:
            client: the client; None for what the server knows.

        Raises:
            UserError: there is no such adapter, or it cannot be loaded.

        """
        self.model = self._models.model_of(client)

    def predict(
        self, texts: Sequence[str | tuple[str, ...]]
    ) -> list[Prediction]:
        """The predictions for texts, in their order.

        Args:
            texts: the texts, or pairs of texts if the model was trained on
                pairs.

        """
        return self.read(self.logits(texts))

    def read(self, logits: torch.Tensor) -> list[Prediction]:
        """The predictions that ``logits`` mean."""
        if self._is_score:
            return [Prediction(score) for score in self.scores(logits)]
        if self.is_multi_label:
            return self._label_sets(logits)
        likely = self.probabilities(logits)
        best = likely.argmax(dim=-1).tolist()
        return [
            Prediction(self.classes[number], float(row[number]))
            for number, row in zip(best, likely, strict=True)
        ]

    def _label_sets(self, logits: torch.Tensor) -> list[Prediction]:
        """The labels of each text, and how likely each label is."""
        return [
            Prediction(
                tuple(
                    name
                    for name, applies in zip(self.classes, row, strict=True)
                    if applies
                ),
                probabilities=dict(zip(self.classes, likely, strict=True)),
            )
            for row, likely in zip(
                self.applies(logits).tolist(),
                self.probabilities(logits).tolist(),
                strict=True,
            )
        ]

    def applies(self, logits: torch.Tensor) -> torch.Tensor:
        """Whether each class applies, where a text may have several labels.

        Args:
            logits: the logits of texts, from ``logits``.

        """
        # A logit is compared, as a probability near 1 has lost its digits.
        threshold = math.log(self._threshold / (1 - self._threshold))
        return logits.double() > threshold

    def scores(self, logits: torch.Tensor) -> list[float]:
        """The scores of a regression, in the unit of the training scores.

        Args:
            logits: the logits of texts, from ``logits``.

        """
        scores = in_own_unit(logits[:, 0].double(), self._scaling)
        found: list[float] = scores.tolist()
        return found

    def probabilities(self, logits: torch.Tensor) -> torch.Tensor:
        """The probability of each class; no classes in a regression."""
        if self._is_score:
            return logits[:, :0]
        if self.is_multi_label:
            return logits.double().sigmoid()
        return logits.softmax(dim=-1)

    def logits(self, texts: Sequence[str | tuple[str, ...]]) -> torch.Tensor:
        """The model's logits for texts.

        Args:
            texts: as for ``predict``.

        Returns:
            A tensor of shape (texts, classes), or (texts, 1) in a
            regression, in float32.  With ``fedsa.data.standardise`` it is
            ``scores`` that are in the unit of the training scores.

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


def predictor_of(
    run: Run, client: str, threshold: float | None = None
) -> Predictor:
    """The model of a client, or of the server, by a word of the user.

    Args:
        run: the run.
        client: the client's name or number, or ``global``.
        threshold: as for ``Predictor``.

    Raises:
        UserError: there is no such client, or its model cannot be loaded.

    """
    trained = client_called(run, client)
    return Predictor(run, trained, threshold=threshold)


def _check_threshold(threshold: float | None, is_multi_label: bool) -> None:
    """Refuse a threshold that is no probability, or of one class a text."""
    if threshold is None:
        return
    if not is_multi_label:
        raise UserError(
            "--threshold: it is for texts that may have several labels, and "
            "this run's have one class or score each"
        )
    if not 0 < threshold < 1:
        raise UserError(
            f"--threshold: {shown(threshold)} is not between 0 and 1"
        )


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
