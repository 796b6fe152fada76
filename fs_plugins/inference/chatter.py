"""Answers with the language model of a client."""

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, cast

import torch

from fs_plugins.data.chat import ASSISTANT, SYSTEM, USER, Message
from fs_plugins.data.template import template_of
from fs_plugins.data.tokenizer import load_tokenizer
from fs_plugins.errors import UserError
from fs_plugins.experiment.runs import Run, TrainedClient
from fs_plugins.experiment.saved_models import model_section
from fs_plugins.host.configuration import ChatOptions
from fs_plugins.terms import ALPACA, CAUSAL
from fs_plugins.trainer.generate import Decoding, respond
from fs_plugins.trainer.precision import autocast_of_run


class Chatter:
    """A conversation with the model of a client, or of the server.

    The texts are made by the template that the run has trained with.

    Args:
        run: the run of a language model.
        client: the client; None for what the server knows.
        decoding: how the tokens of answers are chosen.
        base: the base model as it was before the run.  It is needed only if
            the run was given a model and not the name of a checkpoint.
        tokenizer: the tokenizer of that model.

    Attributes:
        messages: the conversation so far.

    Raises:
        UserError: the run has no such adapter, is of no language model, or
            the base model cannot be loaded.

    """

    def __init__(
        self,
        run: Run,
        client: TrainedClient | None,
        decoding: Decoding,
        base: Any = None,
        tokenizer: Any = None,
    ) -> None:
        section = model_section(run.config)
        if section.task != CAUSAL:
            raise UserError(
                f"{run.folder}: its model classifies; 'fedsa predict' asks it"
            )
        self._decoding = decoding
        self._device = "cuda" if torch.cuda.is_available() else "cpu"
        model = client.model(base) if client else run.global_model(base)
        self._model = model.eval().to(self._device)
        name = section.type.rpartition("@")[0]
        self._tokenizer = tokenizer or load_tokenizer(
            name, section.adapter.cache, self._model.config, needs_end=True
        )
        self._tokenizer.padding_side = "left"
        options = {
            key: run.settings.get(f"fedsa.chat.{key}") or default
            for key, default in (
                ("template", ""),
                ("system", ""),
                ("loss", "all"),
            )
        }
        self._template = template_of(
            cast(ChatOptions, SimpleNamespace(**options)),
            ALPACA,
            self._tokenizer,
        )
        self._settings = run.settings
        self.messages: list[Message] = []

    def say(self, text: str, system: str = "") -> str:
        """Say something, and return the answer.

        Both become a part of the conversation.

        Args:
            text: what is said.
            system: the system prompt; it counts at the beginning only.

        """
        if system and not self.messages:
            self.messages.append(Message(SYSTEM, system))
        self.messages.append(Message(USER, text))
        answer = self.answer(self.messages)
        self.messages.append(Message(ASSISTANT, answer))
        return answer

    def answer(self, messages: Sequence[Message]) -> str:
        """The answer to a conversation, which is not remembered."""
        prompt = self._template.prompt(list(messages))
        with (
            torch.inference_mode(),
            autocast_of_run(self._settings, self._device),
        ):
            ((answer,),) = respond(
                self._model,
                self._tokenizer,
                [prompt],
                self._decoding,
                self._device,
                template=self._template,
            )
        return answer.strip()

    def forget(self) -> None:
        """Begin a new conversation."""
        self.messages = []
