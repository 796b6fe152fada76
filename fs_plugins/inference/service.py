"""What a server answers with the models of a run, without the network."""

import contextlib
import secrets
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch

from fs_plugins.errors import did_you_mean, shown
from fs_plugins.experiment.run_folder import RunFolder
from fs_plugins.experiment.runs import Run, TrainedClient
from fs_plugins.experiment.saved_models import check_is_one, model_section
from fs_plugins.inference.chatter import Answer, Chatter
from fs_plugins.inference.predictor import Prediction, Predictor
from fs_plugins.inference.requests import (
    ClassRequest,
    RequestError,
    TextRequest,
)
from fs_plugins.terms import CAUSAL
from fs_plugins.trainer.generate import Decoding

BASE = "base"  # the base model without an adapter
_KEPT = 16  # adapters in memory
_MOST_TOKENS = 256  # of an answer, unless a request says otherwise


@dataclass(frozen=True)
class Completion:
    """An answer, and the number of tokens that were read for it."""

    answer: Answer
    prompt_tokens: int


@dataclass(frozen=True)
class Classified:
    """Predictions for texts.

    Attributes:
        predictions: the prediction for each text.
        probabilities: the probability of each class, for each text; no
            classes in a regression.
        classes: the names of the classes; empty in a regression.

    """

    predictions: list[Prediction]
    probabilities: list[list[float]]
    classes: tuple[str, ...]


class Service:
    """The models of a run, on one base model, for many requests at once.

    Requests are answered one after the other, as the base model has one
    adapter at a time.

    Args:
        run: the run.

    Attributes:
        names: what the models are called: each client's name, ``global`` for
            what the server knows and, of a language model, ``base`` for the
            base model without an adapter.
        generates: whether the models generate texts; otherwise they
            classify.

    Raises:
        UserError: the run has no adapters that can be served.

    """

    def __init__(self, run: Run) -> None:
        self.generates = model_section(run.config).task == CAUSAL
        self._owners = owners_of(run)
        self.names = [*self._owners]
        if self.generates:
            self.names.append(BASE)
        first = next(iter(self._owners.values()))
        self._turn = threading.Lock()
        self._closes = threading.Event()
        if self.generates:
            decoding = Decoding(_MOST_TOKENS, 1)
            self._chatter = Chatter(run, first, decoding, kept=_KEPT)
        else:
            self._predictor = Predictor(run, first, kept=_KEPT)

    def close(self) -> None:
        """Answer nothing more; an answer that is being written ends."""
        self._closes.set()

    def classify(self, request: ClassRequest) -> Classified:
        """The predictions for the texts of a request.

        Raises:
            RequestError: there is no such model, or it cannot read the
                texts.

        """
        if self.generates:
            raise RequestError(
                "the run is of a language model, which classifies nothing; "
                "ask /v1/chat/completions",
                status=404,
            )
        with self._asking(request.model):
            logits = self._predictor.logits(request.texts)
            return Classified(
                self._predictor.read(logits),
                self._predictor.probabilities(logits).tolist(),
                self._predictor.classes,
            )

    def complete(
        self,
        request: TextRequest,
        seen: Callable[[str], bool] = lambda text: False,
    ) -> Completion:
        """The text that a language model generates.

        Args:
            request: the request.
            seen: called with the text so far after each token; ends the
                answer if it returns true.

        Raises:
            RequestError: there is no such model, or the prompt is too long.

        """
        if not self.generates:
            raise RequestError(
                "the run's models classify, and generate no text; ask "
                "/v1/classify",
                status=404,
            )
        with self._asking(request.model), self._without_adapter(request.model):
            prompt = self._chatter.prompt(
                request.asked
                if isinstance(request.asked, str)
                else [*request.asked]
            )
            decoding = Decoding(
                self._room(len(prompt.ids), request.max_tokens),
                1,
                request.temperature,
                request.top_p,
            )
            with torch.random.fork_rng():
                seed = request.seed
                torch.manual_seed(
                    secrets.randbits(63) if seed is None else seed
                )
                answer = self._chatter.reply(
                    prompt,
                    decoding,
                    request.stop,
                    lambda text: seen(text) or self._closes.is_set(),
                )
            self._check_open()
            return Completion(answer, len(prompt.ids))

    @contextlib.contextmanager
    def _asking(self, name: str) -> Iterator[None]:
        """Have a model answer, once it is its turn, in the context."""
        if name not in self.names:
            names = ", ".join(self.names)
            raise RequestError(
                f"there is no model {shown(name)}"
                f"{did_you_mean(name, self.names)}; there are {names}",
                "model",
                "model_not_found",
                404,
            )
        with self._turn:
            self._check_open()
            if name in self._owners:
                asked: Any = (
                    self._chatter if self.generates else self._predictor
                )
                asked.use(self._owners[name])
            yield

    @contextlib.contextmanager
    def _without_adapter(self, name: str) -> Iterator[None]:
        """Switch the adapter off if the base model is asked."""
        if name in self._owners:
            yield
            return
        with self._chatter.model.disable_adapter():
            yield

    def _check_open(self) -> None:
        if self._closes.is_set():
            raise RequestError(
                "the server is stopping", code="server_stopping", status=503
            )

    def _room(self, prompt: int, asked: int | None) -> int:
        """The most tokens of an answer to a prompt of so many tokens."""
        most = self._chatter.positions or 1 << 31
        room = most - prompt
        if room < (asked or 1):
            wanted = f", and max_tokens asks for {asked} more" if asked else ""
            raise RequestError(
                f"the prompt has {prompt} tokens{wanted}; the model has room "
                f"for {most} tokens of both",
                "max_tokens" if room > 0 else "messages",
                "context_length_exceeded",
            )
        return asked or min(_MOST_TOKENS, room)


def owners_of(run: Run) -> dict[str, TrainedClient | None]:
    """Whose adapters a run has saved, by what their models are called.

    Raises:
        UserError: there is none, or a client has two adapters.

    """
    files = RunFolder(run.folder)
    saved = files.saved_adapters() if files.are_adapters_newest else {}
    owners: dict[str, TrainedClient | None] = {
        run.name_of(ID): run.client(ID)
        for ID in run.clients
        if RunFolder.adapter_name(ID, run.names) in saved
    }
    if RunFolder.GLOBAL in saved:
        owners[RunFolder.GLOBAL] = None
    for folder in saved.values() if owners else [run.adapter]:
        check_is_one(folder)
    return owners
