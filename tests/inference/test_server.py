"""A server answers as the commands do, each client with its own model."""

import contextlib
import http.client
import json
import re
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from helpers import wait_for

from fs_plugins.data.chat import USER, Message
from fs_plugins.experiment.runs import load_run
from fs_plugins.inference.app import App
from fs_plugins.inference.chatter import Chatter
from fs_plugins.inference.server import hosts_of, listen, server_of
from fs_plugins.inference.service import Service
from fs_plugins.trainer.generate import Decoding

TOKENS = 24


class Client:
    """Asks a server that runs in this process.

    Attributes:
        log: the lines of the server's log.
        service: the service that the server uses.
    """

    def __init__(self, folder):
        self.log = []
        self.service = Service(load_run(folder))
        hosts = hosts_of("127.0.0.1")
        app = App(self.service, self.log.append, hosts)
        self._server = server_of(app, self.service)
        self._listener = listen("127.0.0.1", 0)
        self.port = self._listener.getsockname()[1]
        self._thread = threading.Thread(
            target=self._server.run, kwargs={"sockets": [self._listener]}
        )
        self._thread.start()

    def close(self):
        self._server.stop()
        self._thread.join()
        self._listener.close()

    def connection(self):
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)

    def raw(self, path, data=None, method="POST", **headers):
        """The status and the text of an answer."""
        with contextlib.closing(self.connection()) as connection:
            connection.request(method, path, data, headers)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()

    def __call__(self, path, **body):
        status, text = self.raw(path, json.dumps(body))
        return status, json.loads(text)

    def chat(self, model, text, **more):
        asked = {"model": model, "max_tokens": TOKENS, **more}
        messages = [{"role": "user", "content": text}]
        return self("/v1/chat/completions", messages=messages, **asked)

    def answer(self, model, text, **more):
        status, body = self.chat(model, text, **more)
        assert status == 200, body
        return body["choices"][0]["message"]["content"]

    def events(self, path, **body):
        """The events of a streamed answer."""
        status, text = self.raw(path, json.dumps({**body, "stream": True}))
        assert status == 200, text
        lines = text.split("\n\n")
        assert lines[-2:] == ["data: [DONE]", ""]
        return [json.loads(x.removeprefix("data: ")) for x in lines[:-2]]


@pytest.fixture(scope="module")
def ask(trained_llama):
    client = Client(trained_llama)
    yield client
    client.close()


@pytest.fixture(scope="module")
def expected(trained_llama):
    """What ``fedsa chat`` answers, with a model loaded for each client."""
    run = load_run(trained_llama)

    def call(name, text):
        client = None if name == "global" else run.client(name)
        chatter = Chatter(run, client, Decoding(TOKENS, 1))
        return chatter.answer([Message(USER, text)])

    return call


def test_each_model_answers_as_the_command_does(ask, expected):
    status, text = ask.raw("/v1/models", method="GET")
    names = [model["id"] for model in json.loads(text)["data"]]
    assert status == 200 and names == ["1", "2", "3", "global", "base"]
    answers = {name: expected(name, "1+2?") for name in names[:-1]}
    assert len({*answers.values()}) > 2  # or this test could not fail
    for name in (*answers, *reversed(answers)):
        assert ask.answer(name, "1+2?") == answers[name]
    # Without what FedSA's clients keep, an adapter adds nothing.
    assert ask.answer("base", "1+2?") == answers["global"]


def test_requests_at_once_get_their_own_clients_answers(ask, expected):
    """Each asks several times, while others ask other models."""
    asked = [(str(1 + i % 3), f"{i % 2}+2?") for i in range(12)]
    answers = {pair: expected(*pair) for pair in {*asked}}
    assert len({*answers.values()}) > 2
    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(lambda pair: ask.answer(*pair), asked))
    assert found == [answers[pair] for pair in asked]


def test_an_answer_in_parts_is_the_answer(ask):
    whole = ask.answer("2", "3+4?")
    asked = {
        "model": "2",
        "messages": [{"role": "user", "content": "3+4?"}],
        "max_tokens": TOKENS,
        "stream_options": {"include_usage": True},
    }
    events = ask.events("/v1/chat/completions", **asked)
    *parts, usage = events
    deltas = [part["choices"][0]["delta"] for part in parts]
    assert deltas[0] == {"role": "assistant", "content": ""}
    assert "".join(d.get("content", "") for d in deltas) == whole
    assert sum(bool(d.get("content")) for d in deltas) > 2
    reasons = [part["choices"][0]["finish_reason"] for part in parts]
    assert {*reasons[:-1]} == {None} and reasons[-1] in ("stop", "length")
    assert usage["choices"] == [] and usage["usage"]["completion_tokens"] > 2
    assert len({event["id"] for event in events}) == 1


def test_a_text_is_continued_as_it_is(ask, trained_llama):
    """With stops, and the numbers of tokens; letters are tokens here."""
    asked = {"model": "1", "prompt": "1+1", "max_tokens": 9}
    status, body = ask("/v1/completions", **asked)
    (choice,) = body["choices"]
    text = choice["text"]
    assert status == 200 and body["object"] == "text_completion"
    assert choice["finish_reason"] == "length" and len(text) == 9
    assert body["usage"] == {
        "prompt_tokens": 3,
        "completion_tokens": 9,
        "total_tokens": 12,
    }
    stop = text[4:6]
    _, body = ask("/v1/completions", **asked, stop=["never", stop])
    (choice,) = body["choices"]
    assert choice["text"] == text[: text.index(stop)]
    assert choice["finish_reason"] == "stop"
    events = ask.events("/v1/completions", **asked, stop=stop)
    parts = [event["choices"][0]["text"] for event in events]
    assert "".join(parts) == choice["text"]


def test_a_seed_decides_what_is_drawn(ask):
    hot = {"temperature": 2.0, "top_p": 0.95}
    one, again, other = (
        ask.answer("3", "1+1?", seed=seed, **hot) for seed in (7, 7, 8)
    )
    assert one == again != other
    drawn = {ask.answer("3", "1+1?", **hot) for _ in range(4)}
    assert len(drawn) > 1
    for cold in (1e-300, 0.009):
        assert ask.answer("3", "1+1?", temperature=cold) == ask.answer(
            "3", "1+1?"
        )
    # What is drawn leaves the random state of the process alone.
    assert ask.answer("3", "1+1?", temperature=0) == ask.answer("3", "1+1?")


def test_an_answer_that_nobody_waits_for_ends(ask, monkeypatch):
    """The next request does not wait for the rest of it."""
    asked = {
        "model": "1",
        "messages": [{"role": "user", "content": "1+2?"}],
        "max_tokens": 150,
        "stream": True,
    }
    noticed = []
    complete = ask.service.complete

    def watched(request, seen):
        def waiting(text):
            wait_for(lambda: seen(text))
            noticed.append(text)
            return True

        return complete(request, waiting)

    monkeypatch.setattr(ask.service, "complete", watched)
    connection = ask.connection()
    connection.request("POST", "/v1/chat/completions", json.dumps(asked))
    answer = connection.getresponse()
    assert answer.read1(10)
    answer.close()
    connection.close()
    wait_for(lambda: not ask.service._turn.locked())
    assert len(noticed) == 1


USER_SAYS = [{"role": "user", "content": "1+1?"}]
PART = {"type": "image_url", "image_url": {"url": "x"}}


@pytest.mark.parametrize(
    "changes, said, param",
    [
        ({"model": None}, "'model' is missing", "model"),
        ({"model": 3}, "model: 3 is not a text", "model"),
        ({"messages": None}, "'messages' is missing", "messages"),
        ({"messages": "hi"}, "is not a list", "messages"),
        ({"messages": []}, "there is none", "messages"),
        ({"messages": ["hi"]}, "not a role and a content", "messages"),
        ({"messages": [{"content": "a"}]}, "the role None", "messages"),
        (
            {"messages": [{"role": "tool", "content": "a"}]},
            "roles are system, developer, user, assistant",
            "messages",
        ),
        (
            {"messages": [{"role": "user", "content": 3}]},
            "content: 3 is not a text",
            "messages",
        ),
        (
            {"messages": [{"role": "user", "content": ""}]},
            "content is empty",
            "messages",
        ),
        (
            {"messages": [{"role": "user", "content": [PART]}]},
            "only parts of the type 'text'",
            "messages",
        ),
        (
            {"messages": [*USER_SAYS, {"role": "assistant", "content": "a"}]},
            "the last one must be the user's",
            "messages",
        ),
        (
            {"messages": [*USER_SAYS, {"role": "system", "content": "a"}]},
            "only the first one may be",
            "messages",
        ),
        ({"max_tokens": 0}, "of at least 1", "max_tokens"),
        ({"max_tokens": "5"}, "'5' is not a whole number", "max_tokens"),
        ({"max_tokens": 2.5}, "2.5 is not a whole number", "max_tokens"),
        ({"max_tokens": True}, "True is not a whole number", "max_tokens"),
        ({"max_tokens": 1000}, "the model has room for 256", "max_tokens"),
        ({"temperature": -1}, "temperature: -1 is not", "temperature"),
        ({"temperature": [1]}, "is not a number", "temperature"),
        ({"top_p": 0}, "top_p: 0 is not", "top_p"),
        ({"top_p": 1.5}, "top_p: 1.5 is not", "top_p"),
        ({"seed": 1.5}, "seed: 1.5", "seed"),
        ({"seed": 2**80}, "seed: ", "seed"),
        ({"stop": 3}, "stop: 3", "stop"),
        ({"stop": [""]}, "stop is empty", "stop"),
        ({"stop": list("abcde")}, "at most 4", "stop"),
        ({"stream": "yes"}, "stream: 'yes' is not", "stream"),
        ({"stream_options": {}}, "go with stream", "stream_options"),
        ({"n": 2}, "n: 2 is not supported", "n"),
        ({"tools": [{"type": "function"}]}, "tools: ", "tools"),
        ({"logprobs": True}, "logprobs: True is not supported", "logprobs"),
        ({"max_token": 3}, r"did you mean 'max_tokens'\?", "max_token"),
        ({"messages": [{"role": "user", "content": "1" * 300}]}, "tokens", ""),
    ],
)
def test_what_is_asked_wrongly_is_one_sentence(ask, changes, said, param):
    body = {"model": "1", "messages": USER_SAYS, "max_tokens": 4} | changes
    status, found = ask("/v1/chat/completions", **body)
    assert status == 400
    error = found["error"]
    assert {*error} == {"message", "type", "param", "code"}
    assert error["type"] == "invalid_request_error"
    assert re.search(said, error["message"]), error
    assert "\n" not in error["message"]
    if param:
        assert error["param"] == param


def test_other_answers_than_200(ask):
    """Each is JSON in the same form."""
    deep = b"[" * 100_000
    for path, data, headers, code, said in (
        ("/v1/chat/completions", b"{", {}, 400, "not valid JSON"),
        ("/v1/chat/completions", b"\xff", {}, 400, "not valid JSON"),
        ("/v1/chat/completions", b"", {}, 400, "not valid JSON"),
        ("/v1/chat/completions", deep, {}, 400, "not valid JSON"),
        ("/v1/chat/completions", b'{"seed": NaN}', {}, 400, "not valid JSON"),
        ("/v1/chat/completions", b"[1]", {}, 400, "not a JSON object"),
        ("/v1/completions", b"{}", {}, 400, "'prompt' is missing"),
        ("/v1/completions", b'{"prompt": [1, 2]}', {}, 400, "one text"),
        (
            "/v1/completions",
            b'{"prompt": "\\ud800", "model": "1"}',
            {},
            400,
            "not valid Unicode",
        ),
        ("/v1/completions", b" " * (2 << 20), {}, 413, "more than 1048576"),
        ("/v1/nothing", b"{}", {}, 404, "Not Found"),
        ("/v1/models", b"{}", {}, 405, "Method Not Allowed"),
        ("/v1/completions", b"{}", {"Host": "evil.test"}, 403, "is called"),
        ("/v1/completions", b"{}", {"Host": "[::1"}, 403, "is called"),
        ("/v1/" + "x" * 5000, b"{}", {}, 404, "Not Found"),
        ("/v1/classify", b'{"model": "1", "input": "a"}', {}, 404, "language"),
    ):
        status, text = ask.raw(path, data, **headers)
        assert status == code, text
        assert said in json.loads(text)["error"]["message"]
    status, body = ask.chat("4", "1+1?")
    assert status == 404 and body["error"]["code"] == "model_not_found"
    assert "there are 1, 2, 3, global, base" in body["error"]["message"]
    status, body = ask.chat("4", "1+1?", stream=True)
    assert status == 404


def test_an_error_of_ours_is_not_shown(ask, monkeypatch, capsys):
    def broken(*_):
        raise RuntimeError("a secret")

    monkeypatch.setattr(ask.service, "complete", broken)
    status, body = ask.chat("1", "1+1?")
    assert status == 500 and body["error"]["type"] == "server_error"
    assert "secret" not in json.dumps(body)
    assert "a secret" in capsys.readouterr().err


def test_an_answer_that_breaks_off_says_so(ask, monkeypatch, capsys):
    def broken(request, seen):
        seen("so far")
        raise RuntimeError("a secret")

    monkeypatch.setattr(ask.service, "complete", broken)
    body = {"model": "1", "prompt": "1", "stream": True}
    status, text = ask.raw("/v1/completions", json.dumps(body))
    *_, last, end = text.split("\n\n")
    assert status == 200 and end == "" and "[DONE]" not in text
    error = json.loads(last.removeprefix("data: "))["error"]
    assert error["type"] == "server_error" and "secret" not in text
    assert "a secret" in capsys.readouterr().err


def test_the_log_has_no_texts(ask):
    ask.log.clear()
    ask.chat("1", "1+1? unheard")
    ask.chat("1", "x" * 400)
    # A line is written after its answer was sent, perhaps that of an earlier
    # test's, too.
    wait_for(
        lambda: (
            {("1", 200, True), ("1", 400, False)}
            <= {
                (line.get("model"), line["status"], "tokens" in line)
                for line in ask.log
            }
        )
    )
    keys = {"path", "model", "status", "seconds", "tokens"}
    assert all({*line} <= keys for line in ask.log)
    assert "unheard" not in json.dumps(ask.log)
