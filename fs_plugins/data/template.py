"""Templates: how a conversation becomes the text that a model reads.

A template is a text of Jinja as tokenizers of transformers have them, and is
rendered by transformers itself.  So a conversation has the same tokens here
as with ``tokenizer.apply_chat_template`` elsewhere.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from fs_plugins.data.chat import ASSISTANT, SYSTEM, Message, answered
from fs_plugins.data.examples import Examples
from fs_plugins.data.instructions import until_next
from fs_plugins.data.tokenizer import encoded, prompt_ids
from fs_plugins.errors import UserError, did_you_mean, first_line, shown
from fs_plugins.host.configuration import ChatOptions
from fs_plugins.notes import note
from fs_plugins.terms import ALPACA, AUTO, NONE

KEY = "fedsa.chat.template"
FILE = "chat_template.jinja"  # transformers' name of a template's file
Messages = Sequence[Message]

# The format of fs_plugins.data.instructions, with an end after each answer.
_ALPACA = (
    "{% for message in messages %}"
    "{% if message.role == 'system' %}{{ message.content + '\\n\\n' }}"
    "{% elif message.role == 'user' %}"
    "{{ '### Instruction:\\n' + message.content + '\\n\\n' }}"
    "{% if message.input %}"
    "{{ '### Input:\\n' + message.input + '\\n\\n' }}{% endif %}"
    "{% else %}{{ '### Response:\\n' + message.content + eos_token }}"
    "{% if not loop.last %}{{ '\\n\\n' }}{% endif %}"
    "{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '### Response:\\n' }}{% endif %}"
)
# Nothing but what the messages say, and an end after each answer.
_NONE = (
    "{% for message in messages %}{{ message.content }}"
    "{% if message.role == 'system' %}{{ '\\n\\n' }}{% endif %}"
    "{% if message.role == 'assistant' %}{{ eos_token }}{% endif %}"
    "{% endfor %}"
)
_OURS = {ALPACA: _ALPACA, NONE: _NONE}
# Stands for an answer, to find where a template puts it.
_MARK = "\ue000\ue001"
# Some templates tell the model the date.  A run of tomorrow shall have the
# tokens of today's, so it is always the date that Llama 3 tells by default.
_DATE = "{% macro strftime_now(format) %}26 Jul 2024{% endmacro %}"


class Template:
    """Makes texts of conversations, and knows what is learned of them.

    Args:
        tokenizer: the model's tokenizer.
        name: what the template is called in an error message.  The names
            ``alpaca`` and ``none`` stand for the templates of this package.
        source: the text of Jinja; empty for those two.
        system: the system prompt of conversations that have none of their
            own.
        last_only: whether only the last answer of a conversation is learned,
            in place of all answers.

    Attributes:
        source: the text of Jinja.
        adds_special: whether the tokenizer adds its special tokens to the
            text, as the template has none at the beginning.

    """

    def __init__(
        self,
        tokenizer: Any,
        name: str,
        source: str = "",
        system: str = "",
        last_only: bool = False,
    ) -> None:
        self.adds_special = not source
        self.source = source or _OURS[name]
        self._name = name
        self._system = system
        self._last_only = last_only
        self._tokenizer = tokenizer
        self._has_prompt: bool | None = None

    def applied_to(self, examples: Examples) -> Examples:
        """Examples of which this template makes the texts.

        Args:
            examples: instructions.

        Returns:
            The examples, with conversations; or without them, if ``texts``
            are what this template makes of them.

        """
        is_written = not self._system and self._name == examples.template
        if is_written and self._name in _OURS:
            return replace(examples, chats=())
        return replace(
            examples,
            chats=examples.chats
            or [answered(p, r) for p, r in examples.texts],
        )

    def decisive(self) -> list[Any]:
        """All that the texts of conversations depend on."""
        return [self.source, self._system, self._last_only, self.adds_special]

    def prompt(
        self, messages: Messages, shots: Sequence[Messages] = ()
    ) -> str:
        """The text after which the assistant's next answer begins.

        Args:
            messages: the conversation before the answer.
            shots: worked examples, which come before the conversation.

        """
        first = [m for m in messages[:1] if m.role == SYSTEM]
        rest = [m for chat in shots for m in chat if m.role != SYSTEM]
        messages = self._clean([*first, *rest, *messages[len(first) :]])
        asked = self._rendered(messages, add_generation_prompt=True)
        if self._has_prompt is None:
            self._has_prompt = asked != self._rendered(messages)
        if self._has_prompt:
            return asked
        # Some templates ignore what they are asked for.
        head, _ = self._around([*messages, Message(ASSISTANT, _MARK)], -1)
        writes_more = head.startswith(asked) and head[len(asked) :].strip()
        return head if writes_more else asked

    def prompt_ids(self, prompts: Sequence[str]) -> list[np.ndarray]:
        """The tokens of prompts that ``prompt`` has returned."""
        if self.adds_special:
            return prompt_ids(self._tokenizer, prompts)
        columns = [prompts]
        ids = encoded(self._tokenizer, columns, add_special_tokens=False)
        return ids["input_ids"]

    def learned(self, chat: Messages) -> tuple[str, list[tuple[int, int]]]:
        """The text of a conversation, and the parts that are learned.

        An answer is learned from where its prompt ends to the token that
        ends the answer.  If the prompt is not the beginning of the text, as
        with templates that let a model think first, it is learned from where
        the answer itself begins.

        Args:
            chat: the conversation, whose last message is the assistant's.

        Returns:
            The text, and the first and the last place of each part, as
            ``text[first:last]``.

        """
        chat = self._clean(chat)
        text = self._rendered(chat)
        answers = [i for i, m in enumerate(chat) if m.role == ASSISTANT]
        parts = []
        for i in answers[-1:] if self._last_only else answers:
            head, tail = self._around(chat, i)
            if _MARK in tail:  # The template leaves the answer out.
                continue
            begin, end = _between(text, head, tail)
            asked = self.prompt(chat[:i])
            if text.startswith(asked):
                begin = min(len(asked), end)
            after = self.ending or self._tail
            if text.startswith(after, end):
                end += len(after)
            parts.append((begin, end))
        return text, parts

    @cached_property
    def ending(self) -> str:
        """What follows each answer, up to the token that ends it.

        Empty if the template writes no such token.
        """
        if self._name in _OURS:
            return str(self._tokenizer.eos_token)
        ends = [
            self._tail.index(token) + len(token)
            for token in self._tokens
            if token in self._tail
        ]
        return self._tail[: min(ends)] if ends else ""

    @cached_property
    def _tail(self) -> str:
        """What the template writes after the last answer."""
        _, tail = self._around(answered("a", "b"), 1)
        if _MARK in tail:
            raise UserError(f"{KEY}: {self._called()} leaves out the answers")
        return tail

    @cached_property
    def _tokens(self) -> list[str]:
        """The texts of the special tokens, and of others that were added."""
        tokens = {str(self._tokenizer.eos_token)}
        added = getattr(self._tokenizer, "added_tokens_decoder", {})
        tokens.update(str(token) for token in added.values())
        return [token for token in tokens if token.strip()]

    @cached_property
    def ends(self) -> list[int]:
        """The numbers of the tokens that end an answer."""
        ends = {int(self._tokenizer.eos_token_id)}
        if self._name in _OURS:
            return [*ends]
        for token in self._tokens:
            if self.ending.endswith(token):
                ends.add(int(self._tokenizer.convert_tokens_to_ids(token)))
        return sorted(ends)

    def answer(self, text: str) -> str:
        """What belongs to the answer, of a text that a model has written."""
        return until_next(text) if self._name in _OURS else text

    def write(self, folder: Path) -> None:
        """Write the template's text, where transformers looks for it.

        Args:
            folder: the folder of a model or of an adapter.

        """
        (folder / FILE).write_text(self.source, encoding="utf-8")

    def _clean(self, messages: Messages) -> list[Message]:
        """Messages without the ends that the template writes itself."""
        tokens = [self._tokenizer.convert_ids_to_tokens(n) for n in self.ends]
        clean = []
        for message in messages:
            content = message.content
            if message.role == ASSISTANT:
                for token in tokens:
                    content = content.removesuffix(token)
            clean.append(message._replace(content=content))
        return clean

    def _around(self, chat: Messages, place: int) -> tuple[str, str]:
        """The text before and after an answer.

        Args:
            chat: the conversation.
            place: the number of the answer's message.

        Returns:
            The two texts; the second one contains ``_MARK`` if the template
            leaves the answer out.

        """
        marked = list(chat)
        marked[place] = Message(ASSISTANT, _MARK)
        head, mark, tail = self._rendered(marked).partition(_MARK)
        return (head, tail) if mark else (head, _MARK)

    def _rendered(
        self, messages: Messages, add_generation_prompt: bool = False
    ) -> str:
        has_system = bool(messages) and messages[0].role == SYSTEM
        if self._system and not has_system:
            messages = [Message(SYSTEM, self._system), *messages]
        source = self.source
        if re.search(r"\bstrftime_now\b", source):
            source = _DATE + source
        try:
            text = self._tokenizer.apply_chat_template(
                [self._as_mapping(message) for message in messages],
                chat_template=source,
                tokenize=False,
                add_generation_prompt=add_generation_prompt,
            )
        # A template can raise whatever Python's operations raise.
        except Exception as error:
            raise UserError(
                f"{KEY}: {self._called()} does not render the conversation "
                f"that begins with {shown(messages[0].content)}: "
                f"{first_line(error)}{self._hint(messages, error)}"
            ) from error
        return str(text)

    def _hint(self, messages: Messages, error: Exception) -> str:
        """What to do about a template that refuses a system prompt."""
        is_about = messages[0].role == SYSTEM and SYSTEM in str(error).lower()
        where = "fedsa.chat.system" if self._system else "the messages"
        return f" (leave the system prompt out of {where})" if is_about else ""

    def _called(self) -> str:
        if self._name in _OURS:
            return f"the template {self._name!r}"
        if self._name == AUTO:
            return "the template of the model's tokenizer"
        return f"the template {shown(self._name)}"

    def _as_mapping(self, message: Message) -> Mapping[str, str]:
        fields = {"role": message.role, "content": message.content}
        if message.input and self._name == ALPACA:
            return {**fields, "input": message.input}
        if message.input:
            fields["content"] += f"\n\n{message.input}"
        return fields


def _between(text: str, head: str, tail: str) -> tuple[int, int]:
    """The place in a text that is between two texts, or most of them."""
    if not text.startswith(head):
        head = text[: _common(text, head)]
    if not text.endswith(tail):
        tail = tail[len(tail) - _common(text[::-1], tail[::-1]) :]
    begin = len(head)
    return begin, max(begin, len(text) - len(tail))


def _common(one: str, other: str) -> int:
    """The number of characters with which both texts begin."""
    pairs = enumerate(zip(one, other, strict=False))
    least = min(len(one), len(other))
    return next((i for i, (a, b) in pairs if a != b), least)


def template_of(
    options: ChatOptions, default: str, tokenizer: Any
) -> Template:
    """The template of a run.

    Args:
        options: the section ``fedsa.chat`` of the configuration.
        default: the template unless the section names one.
        tokenizer: the model's tokenizer.

    Raises:
        UserError: the template's file cannot be read.

    """
    name, source = options.template or default, ""
    if name == AUTO:
        source = _of_tokenizer(tokenizer)
        if not source:
            note(
                "the model's tokenizer has no chat template; the format of "
                f"Alpaca is used ({KEY})"
            )
            name = ALPACA
    elif name not in _OURS:
        source = _of_file(name)
    return Template(
        tokenizer, name, source, options.system, options.loss == "last"
    )


def check_template(name: str) -> None:
    """Refuse a template that is neither known nor a file.

    Raises:
        UserError: there is no such file, or it cannot be read.

    """
    if name not in ("", AUTO, *_OURS):
        _of_file(name)


def _of_tokenizer(tokenizer: Any) -> str:
    """The tokenizer's own template; empty if it has none."""
    try:
        return str(tokenizer.get_chat_template())
    except (AttributeError, ValueError):
        return ""


def _of_file(name: str) -> str:
    file = Path(name).expanduser()
    try:
        source = file.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        known = ", ".join((AUTO, *_OURS))
        why = getattr(error, "strerror", "") or "it is not in UTF-8"
        raise UserError(
            f"{KEY}: {shown(name)} is neither {known} nor a file of Jinja "
            f"that can be read ({why}){did_you_mean(name, (AUTO, *_OURS))}"
        ) from error
    if not source.strip():
        raise UserError(f"{KEY}: {shown(name)} is empty")
    return source
