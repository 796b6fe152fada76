"""Conversations: the messages of a system, a user and an assistant."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from fs_plugins.data.sources import is_missing, text_of
from fs_plugins.errors import UserError, did_you_mean, shown

SYSTEM, USER, ASSISTANT = "system", "user", "assistant"
# What tables call the roles, ShareGPT's names among them.
_ROLES = {
    "system": SYSTEM,
    "user": USER,
    "human": USER,
    "assistant": ASSISTANT,
    "gpt": ASSISTANT,
    "chatgpt": ASSISTANT,
}
# The keys of a message: who speaks, and what is said.
_KEYS = (("role", "content"), ("from", "value"))


class Message(NamedTuple):
    """A message of a conversation.

    Attributes:
        role: who speaks: ``system``, ``user`` or ``assistant``.
        content: what is said.
        input: what an instruction is about.  Alpaca's format gives it a
            section of its own; elsewhere it follows the instruction.

    """

    role: str
    content: str
    input: str = ""


Chat = tuple[Message, ...]  # ends with a message of the assistant


class IncompleteError(UserError):
    """A conversation lacks something that every conversation needs."""


def answered(prompt: str, answer: str, about: str = "") -> Chat:
    """The conversation of one prompt and its answer.

    Args:
        prompt: what the user says.
        answer: what the assistant says.
        about: what the user's instruction is about, if that is separate.

    """
    return (Message(USER, prompt, about), Message(ASSISTANT, answer))


def chat_in(value: Any, name: str, where: str) -> Chat:
    """Read the value of a column of messages.

    Args:
        value: a list of messages, or a list in JSON.  A message has the keys
            ``role`` and ``content``, or ShareGPT's ``from`` and ``value``.
        name: the name of the column.
        where: the table and the row, for an error message.

    Returns:
        The conversation up to the last message of the assistant, as nothing
        is learned from what comes after it.

    Raises:
        IncompleteError: the conversation, or a message, is empty, or the
            assistant says nothing.
        UserError: it is no list of messages, or their order is wrong.

    """
    entries = _entries(value, name, where)
    messages = [
        _message(entry, f"{where}: message {number} in {name!r}")
        for number, entry in enumerate(entries, 1)
    ]
    roles = [message.role for message in messages]
    if ASSISTANT not in roles:
        raise IncompleteError(
            f"{where}: {name!r} has no message of the assistant, so that "
            "there is nothing to learn"
        )
    if SYSTEM in roles[1:]:
        raise UserError(
            f"{where}: message {roles.index(SYSTEM, 1) + 1} in {name!r} is "
            "the system's; only the first one may be"
        )
    if USER not in roles[: roles.index(ASSISTANT)]:
        raise UserError(
            f"{where}: in {name!r} the assistant speaks before the user"
        )
    last = len(roles) - roles[::-1].index(ASSISTANT)
    return tuple(messages[:last])


def _entries(value: Any, name: str, where: str) -> Sequence[Any]:
    """The entries of a list of messages, in whatever form it comes."""
    if is_missing(value):
        raise IncompleteError(f"{where}: the value of {name!r} is missing")
    if isinstance(value, (str, bytes)):
        value = _parsed(text_of(value, name, where), name, where)
    if hasattr(value, "tolist"):  # pandas reads parquet's lists as arrays.
        value = value.tolist()
    # Some versions of datasets turn a list of mappings into lists by key.
    if isinstance(value, Mapping) and all(
        isinstance(column, list) for column in value.values()
    ):
        columns = zip(*value.values(), strict=False)
        value = [dict(zip(value, each, strict=True)) for each in columns]
    if not isinstance(value, (list, tuple)):
        raise UserError(
            f"{where}: {name!r} is {shown(value)}, not a list of messages"
        )
    if not value:
        raise IncompleteError(f"{where}: {name!r} has no messages")
    return value


def _parsed(text: str, name: str, where: str) -> Any:
    """The JSON in a text."""
    if not text.strip():
        raise IncompleteError(f"{where}: {name!r} is empty")
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise UserError(
            f"{where}: {name!r} is {shown(text)}, not a list of messages in "
            "JSON"
        ) from None


def _message(entry: Any, where: str) -> Message:
    """A message, with the role that we call it."""
    if not isinstance(entry, Mapping):
        raise UserError(f"{where} is {shown(entry)}, not a role and a text")
    keys = next((k for k in _KEYS if not is_missing(entry.get(k[0]))), None)
    if keys is None:
        raise UserError(
            f"{where} has no key 'role' or 'from', but "
            f"{', '.join(map(shown, entry)) or 'none'}"
        )
    role = entry[keys[0]]
    if not isinstance(role, str) or role not in _ROLES:
        raise UserError(
            f"{where} has the role {shown(role)}"
            f"{did_you_mean(str(role), _ROLES)}; roles are "
            f"{', '.join(_ROLES)}"
        )
    content = entry.get(keys[1])
    if is_missing(content):
        raise IncompleteError(f"{where} has no {keys[1]!r}")
    if not isinstance(content, (str, bytes)):
        raise UserError(f"{where}: {keys[1]!r} is no text")
    text = text_of(content, keys[1], where)
    # An empty system prompt says that there is none, not even a default one.
    if not text.strip() and _ROLES[role] != SYSTEM:
        raise IncompleteError(f"{where} is empty")
    return Message(_ROLES[role], text)
