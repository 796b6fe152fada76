"""What is asked of the server: requests in the form of OpenAI's interface."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fs_plugins.config.kinds import Flag, Kind, Number, Whole, refused
from fs_plugins.data.chat import ASSISTANT, SYSTEM, USER, Message
from fs_plugins.errors import UserError, did_you_mean, shown

_MOST_STOPS = 4  # as many as OpenAI's interface has
_MOST_TEXTS = 1000  # to classify
_ROLES = {
    "system": SYSTEM,
    "developer": SYSTEM,
    "user": USER,
    "assistant": ASSISTANT,
}
_NUMBERS: Mapping[str, Kind] = {
    "max_tokens": Whole(1),
    "max_completion_tokens": Whole(1),
    "temperature": Number(least=0, most=100),
    "top_p": Number(above=0, most=1),
    "seed": Whole(-(2**63), 2**63 - 1),
    "stream": Flag(),
}
# What may be asked for only as it is anyway.  Other values are refused, as
# they would be left out without a word.
_FIXED: Mapping[str, Sequence[Any]] = {
    "n": (1,),
    "best_of": (1,),
    "frequency_penalty": (0,),
    "presence_penalty": (0,),
    "logit_bias": ({},),
    "logprobs": (False,),
    "top_logprobs": (0,),
    "echo": (False,),
    "suffix": ("",),
    "tools": ([],),
    "tool_choice": ("none", "auto"),
    "functions": ([],),
    "response_format": ({"type": "text"},),
    "modalities": (["text"],),
}
# What no answer depends on.
_IGNORED = ("user", "metadata", "store", "service_tier")
_KNOWN = (
    *("model", "messages", "prompt", "input", "stop", "stream_options"),
    *(*_NUMBERS, *_FIXED, *_IGNORED),
)


class RequestError(UserError):
    """A request that cannot be answered.

    Args:
        sentence: what is wrong, and what would be right.
        param: the field that is to blame, if one is.
        code: a short name of the error, if it has one.
        status: the status of HTTP.

    """

    def __init__(
        self,
        sentence: str,
        param: str | None = None,
        code: str | None = None,
        status: int = 400,
    ) -> None:
        super().__init__(sentence)
        self.param = param
        self.code = code
        self.status = status


@dataclass(frozen=True)
class TextRequest:
    """A request for a text that a language model generates.

    Attributes:
        model: whose model is asked.
        asked: a conversation, or a text that is continued.
        max_tokens: the most tokens of the answer; None for as many as there
            is room for, up to a limit of the server.
        temperature: the temperature at which tokens are drawn; at 0 the
            likeliest token is taken.
        top_p: the probability that the tokens have together of which one is
            drawn.
        stop: texts that end the answer.
        seed: where drawing begins; None for somewhere else each time.
        streams: whether the answer is sent in parts.
        counts: whether a streamed answer ends with the numbers of tokens.

    """

    model: str
    asked: str | tuple[Message, ...]
    max_tokens: int | None = None
    temperature: float = 0.0
    top_p: float = 1.0
    stop: tuple[str, ...] = ()
    seed: int | None = None
    streams: bool = False
    counts: bool = False


@dataclass(frozen=True)
class ClassRequest:
    """A request for the classes, or the scores, of texts.

    Attributes:
        model: whose model is asked.
        texts: the texts, or pairs of texts.

    """

    model: str
    texts: list[str | tuple[str, ...]] = field(default_factory=list)


def body_of(data: bytes) -> dict[str, Any]:
    """The JSON object of a request's body.

    Raises:
        RequestError: the body is no JSON object, or has an unknown field.

    """
    try:
        body = json.loads(data, parse_constant=_no_number)
    except (ValueError, RecursionError):
        raise RequestError(
            "the body of the request is not valid JSON"
        ) from None
    if not isinstance(body, dict):
        raise RequestError(
            f"the body of the request is {shown(body)}, not a JSON object"
        )
    for name in body:
        if name not in _KNOWN:
            raise RequestError(
                f"there is no field {shown(name)}{did_you_mean(name, _KNOWN)}",
                name,
            )
    # A field that is null counts as left out.
    body = {k: v for k, v in body.items() if v is not None}
    for name, usual in _FIXED.items():
        if name in body and body[name] not in usual:
            raise RequestError(
                f"{name}: {shown(body[name])} is not supported; leave it out",
                name,
                "unsupported_value",
            )
    return body


def _no_number(name: str) -> None:
    raise ValueError(name)


def chat_request(body: Mapping[str, Any]) -> TextRequest:
    """The request of ``/v1/chat/completions``.

    Raises:
        RequestError: a field is missing or wrong.

    """
    messages = _needed(body, "messages", list)
    if not messages:
        raise RequestError("messages: there is none", "messages")
    chat = [_message(entry, i) for i, entry in enumerate(messages)]
    roles = [message.role for message in chat]
    if SYSTEM in roles[1:]:
        place = roles.index(SYSTEM, 1)
        raise RequestError(
            f"messages[{place}] is the system's; only the first one may be",
            "messages",
        )
    if roles[-1] != USER:
        raise RequestError(
            "messages: the last one must be the user's", "messages"
        )
    return _text_request(body, tuple(chat))


def text_request(body: Mapping[str, Any]) -> TextRequest:
    """The request of ``/v1/completions``.

    Raises:
        RequestError: a field is missing or wrong.

    """
    prompt = _needed(body, "prompt", (str, list))
    if isinstance(prompt, list):
        if len(prompt) != 1 or not isinstance(prompt[0], str):
            raise RequestError(
                "prompt: a list must hold one text; ask for several, or for "
                "tokens, with requests of their own",
                "prompt",
            )
        prompt = prompt[0]
    return _text_request(body, _text(prompt, "prompt"))


def class_request(body: Mapping[str, Any]) -> ClassRequest:
    """The request of ``/v1/classify``.

    Raises:
        RequestError: a field is missing or wrong.

    """
    value = _needed(body, "input", (str, list))
    entries = [value] if isinstance(value, str) else value
    if not 0 < len(entries) <= _MOST_TEXTS:
        raise RequestError(
            f"input: there are {len(entries)} texts; send from 1 to "
            f"{_MOST_TEXTS} of them",
            "input",
        )
    texts: list[str | tuple[str, ...]] = []
    for i, entry in enumerate(entries):
        name = f"input[{i}]"
        if isinstance(entry, list):
            texts.append(tuple(_text(part, name, "input") for part in entry))
        else:
            texts.append(_text(entry, name, "input"))
    return ClassRequest(_needed(body, "model", str), texts)


def _text_request(
    body: Mapping[str, Any], asked: str | tuple[Message, ...]
) -> TextRequest:
    """The request for an answer, with how its tokens are chosen."""
    values = {name: _number(body, name) for name in _NUMBERS}
    most = values.pop("max_completion_tokens") or values.pop("max_tokens")
    streams = bool(values.pop("stream"))
    said = {
        name: value
        for name, value in values.items()
        if value is not None and name != "max_tokens"
    }
    return TextRequest(
        _needed(body, "model", str),
        asked,
        most,
        stop=_stops(body),
        streams=streams,
        counts=_counts(body, streams),
        **said,
    )


def _needed(
    body: Mapping[str, Any], name: str, kind: type | tuple[type, ...]
) -> Any:
    """The value of a field that a request must have."""
    if name not in body:
        raise RequestError(f"the field {name!r} is missing", name)
    if not isinstance(body[name], kind):
        wanted = "a list" if kind is list else "a text"
        raise RequestError(
            f"{name}: {shown(body[name])} is not {wanted}", name
        )
    return body[name]


def _number(body: Mapping[str, Any], name: str) -> Any:
    """The value of a field with a number or a flag; None if it is absent."""
    if name not in body:
        return None
    kind, value = _NUMBERS[name], body[name]
    try:
        if isinstance(value, str):  # In YAML it could be a number.
            raise refused(name, value, f"a {kind.name}")
        return kind.read(name, value)
    except UserError as error:
        raise RequestError(str(error), name) from None


def _stops(body: Mapping[str, Any]) -> tuple[str, ...]:
    """The texts that end an answer."""
    value = body.get("stop", [])
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or len(texts) > _MOST_STOPS:
        raise RequestError(
            f"stop: {shown(value)} is not a text, or a list of at most "
            f"{_MOST_STOPS}",
            "stop",
        )
    return tuple(_text(text, "stop") for text in texts)


def _counts(body: Mapping[str, Any], streams: bool) -> bool:
    """Whether a streamed answer ends with the numbers of tokens."""
    options = body.get("stream_options", {})
    if "stream_options" in body and not streams:
        raise RequestError(
            "stream_options: they go with stream", "stream_options"
        )
    counts = options.get("include_usage", False) if _is_map(options) else None
    if not isinstance(counts, bool) or {*options} - {"include_usage"}:
        raise RequestError(
            f"stream_options: {shown(options)} is not "
            '{"include_usage": true or false}',
            "stream_options",
        )
    return counts


def _message(entry: Any, place: int) -> Message:
    """A message, whose content is a text or a list of texts."""
    name = f"messages[{place}]"
    if not _is_map(entry):
        raise RequestError(
            f"{name} is {shown(entry)}, not a role and a content", "messages"
        )
    role, content = entry.get("role"), entry.get("content")
    if not isinstance(role, str) or role not in _ROLES:
        raise RequestError(
            f"{name} has the role {shown(role)}"
            f"{did_you_mean(str(role), _ROLES)}; roles are "
            f"{', '.join(_ROLES)}",
            "messages",
        )
    if isinstance(content, list):
        content = "".join(_part(part, name) for part in content)
    is_system = _ROLES[role] == SYSTEM
    text = _text(content, f"{name}.content", "messages", is_system)
    return Message(_ROLES[role], text)


def _part(part: Any, name: str) -> str:
    """The text of a part of a message."""
    if not _is_map(part) or part.get("type") != "text":
        raise RequestError(
            f"{name} has the part {shown(part)}; only parts of the type "
            "'text' are supported",
            "messages",
        )
    return _text(part.get("text"), f"{name}.content", "messages", True)


def _text(
    value: Any, name: str, param: str = "", may_be_empty: bool = False
) -> str:
    """A text in Unicode, which is not empty."""
    if not isinstance(value, str):
        raise RequestError(
            f"{name}: {shown(value)} is not a text", param or name
        )
    try:
        value.encode()
    except UnicodeEncodeError:
        raise RequestError(
            f"{name}: {shown(value)} is not valid Unicode", param or name
        ) from None
    if not value and not may_be_empty:
        raise RequestError(f"{name} is empty", param or name)
    return value


def _is_map(value: Any) -> bool:
    return isinstance(value, dict)
