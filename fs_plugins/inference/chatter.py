"""Answers with the language model of a client."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from fs_plugins.data.chat import ASSISTANT, SYSTEM, USER, Message
from fs_plugins.data.template import template_of
from fs_plugins.data.tokenizer import (
    answer_text,
    load_tokenizer,
    prompt_ids,
)
from fs_plugins.errors import UserError
from fs_plugins.experiment.runs import Run, TrainedClient
from fs_plugins.experiment.saved_models import model_section
from fs_plugins.experiment.saved_sections import own_section
from fs_plugins.inference.shared_base import SharedBase
from fs_plugins.model.inputs import longest_text
from fs_plugins.terms import ALPACA, CAUSAL
from fs_plugins.trainer.generate import Decoding, generated
from fs_plugins.trainer.precision import autocast_of_run

_COLDEST = 0.01  # of the temperatures at which tokens are drawn


@dataclass(frozen=True)
class Prompt:
    """What a language model goes on from.

    Attributes:
        ids: the numbers of its tokens.
        is_chat: whether the run's template has made it of a conversation;
            otherwise it is a text as it is.

    """

    ids: list[int]
    is_chat: bool = True


@dataclass(frozen=True)
class Answer:
    """What a language model has answered.

    Attributes:
        text: the text of the answer.
        tokens: the number of tokens that were generated.
        is_complete: whether the answer has come to its end, and not only to
            the largest number of tokens.

    """

    text: str
    tokens: int
    is_complete: bool


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
        kept: the number of adapters that stay in memory, if the models of
            several clients take turns.

    Attributes:
        messages: the conversation so far.
        model: the model that answers.
        positions: the most tokens of a prompt and its answer; 0 if the model
            does not say.

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
        kept: int = 1,
    ) -> None:
        section = model_section(run.config)
        if section.task != CAUSAL:
            raise UserError(
                f"{run.folder}: its model classifies; 'fedsa predict' asks it"
            )
        self._decoding = decoding
        self._models = SharedBase(run, base, kept)
        self.use(client)
        config = self.model.config
        name = section.type.rpartition("@")[0]
        self._tokenizer = tokenizer or load_tokenizer(
            name, section.adapter.cache, config, needs_end=True
        )
        self._tokenizer.padding_side = "left"
        self._template = template_of(
            own_section(run.config, "fedsa.chat"), ALPACA, self._tokenizer
        )
        self._settings = run.settings
        self.positions = longest_text(config)

    def use(self, client: TrainedClient | None) -> None:
        """Talk with the model of another client from now on, anew.

        The base model stays in memory; only the adapter is exchanged.

        Args:
            client: the client; None for what the server knows.

        Raises:
            UserError: there is no such adapter, or it cannot be loaded.

        """
        self.model = self._models.model_of(client)
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
        return self.reply(self.prompt(messages), self._decoding).text

    def prompt(self, asked: str | Sequence[Message]) -> Prompt:
        """The prompt of a conversation, or of a text as it is."""
        if isinstance(asked, str):
            (ids,) = prompt_ids(self._tokenizer, [asked])
            return Prompt(ids.tolist(), is_chat=False)
        text = self._template.prompt(list(asked))
        (ids,) = self._template.prompt_ids([text])
        return Prompt(ids.tolist())

    def reply(
        self,
        prompt: Prompt,
        decoding: Decoding,
        stop: Sequence[str] = (),
        is_enough: Callable[[str], bool] | None = None,
    ) -> Answer:
        """The answer to a prompt.

        A prompt that is too long for the model loses its beginning.  Below a
        temperature of 0.01, by which logits cannot be divided, the likeliest
        token is taken.

        Args:
            prompt: the prompt.
            decoding: how the tokens of the answer are chosen.
            stop: texts with which the answer ends; they are no part of it.
            is_enough: called with the answer so far after each token; ends
                the answer if it returns true.

        """
        if decoding.temperature < _COLDEST:
            decoding = replace(decoding, temperature=0.0)
        most = self.positions or 1 << 20
        ids = prompt.ids[-max(1, most - decoding.max_new_tokens) :]
        ends = (
            self._template.ends
            if prompt.is_chat
            else [self._tokenizer.eos_token_id]
        )

        def text_of(tokens: list[int]) -> tuple[str, bool]:
            is_ended = bool(tokens) and tokens[-1] in ends
            text = answer_text(
                self._tokenizer, ids, tokens[:-1] if is_ended else tokens
            )
            if prompt.is_chat:
                text = self._template.answer(text)
            places = [text.find(end) for end in stop]
            first = min((place for place in places if place >= 0), default=-1)
            text = text if first < 0 else text[:first]
            text = text.strip() if prompt.is_chat else text
            return text, is_ended or first >= 0

        def stops(tokens: list[int]) -> bool:
            text, is_complete = text_of(tokens)
            return is_complete or bool(is_enough and is_enough(text))

        device = next(self.model.parameters()).device
        inputs = torch.tensor([ids], device=device)
        with torch.inference_mode(), autocast_of_run(self._settings, device):
            (tokens,) = generated(
                self.model,
                {
                    "input_ids": inputs,
                    "attention_mask": torch.ones_like(inputs),
                },
                decoding,
                self._tokenizer.pad_token_id,
                ends,
                stops if stop or is_enough else None,
            )
        text, is_complete = text_of(tokens)
        return Answer(text, len(tokens), is_complete)

    def forget(self) -> None:
        """Begin a new conversation."""
        self.messages = []
