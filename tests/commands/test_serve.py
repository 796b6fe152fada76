"""``fedsa serve``: from the command to the answers, and to its end."""

import json
import shlex
import signal
import socket
import sys
import urllib.error
import urllib.request

import processes
import pytest
from helpers import args_of, free_port, wait_for
from tickets import TEST

from fs_plugins.commands.vllm import vllm_command
from fs_plugins.errors import UserError
from fs_plugins.experiment.runs import load_run
from fs_plugins.inference.predictor import Predictor
from fs_plugins.inference.requests import (
    ClassRequest,
    RequestError,
    TextRequest,
    class_request,
)
from fs_plugins.inference.service import Service


def asked(port, path, body=None):
    """The JSON of an answer of a server that may not listen yet."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}{path}",
        None if body is None else json.dumps(body).encode(),
        {"Content-Type": "application/json"},
    )
    found = []

    def answers():
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                found.append(json.load(answer))
        except urllib.error.HTTPError:
            raise
        except OSError:
            return False
        return True

    wait_for(answers, 60)
    return found[0]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_from_the_command_to_its_end(trained_tickets, number):
    """Predictions are those of the command that predicts."""
    port = free_port()
    words = ["serve", trained_tickets, "--port", port]
    process = processes.fedsa(*words, *["--json"] * (number == signal.SIGINT))
    try:
        models = asked(port, "/v1/models")["data"]
        names = [model["id"] for model in models]
        assert names == ["north", "south", "west", "global"]
        texts = [row["mail"] for row in TEST[:5]]
        run = load_run(trained_tickets)
        for name in names[:3]:
            body = {"model": name, "input": texts}
            found = asked(port, "/v1/classify", body)
            assert found["classes"] == ["billing", "sales"]
            expected = Predictor(run, run.client(name)).predict(texts)
            for entry, one in zip(found["data"], expected, strict=True):
                assert entry["label"] == one.label
                assert max(entry["probs"]) == pytest.approx(one.probability)
                assert sum(entry["probs"]) == pytest.approx(1)
    finally:
        process.send_signal(number)
        out, err = process.communicate(60)
    assert process.returncode == 0, err
    assert "Traceback" not in err and "it has B at zero" in err
    lines = out.splitlines()
    url = f"http://127.0.0.1:{port}/v1"
    if number == signal.SIGINT:
        first, *requests, last = map(json.loads, lines)
        assert first == {"url": url, "models": names}
        assert last == {"stopped": url}
        assert requests[-1]["model"] == "west" and requests[-1]["texts"] == 5
    else:
        assert lines[0].startswith(f"{url} serves north, south, west, global")
        assert lines[-1] == "stopped" and "west 200 5 texts" in lines[-2]
    assert TEST[0]["mail"] not in out + err


def test_an_answer_is_cut_off_where_the_server_stops(trained_llama):
    """Nothing waits for the rest of a long answer."""
    port = free_port()
    process = processes.fedsa("serve", trained_llama, "--port", port)
    try:
        asked(port, "/v1/models")
        body = {"model": "1", "prompt": "1", "max_tokens": 200, "stream": True}
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}/v1/completions",
            json.dumps(body).encode(),
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            answer.read(1)
            process.send_signal(signal.SIGTERM)
            rest = answer.read().decode()
    finally:
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(60)
    # Either the answer was done, or its last event says why it is not.
    assert "[DONE]" in rest or "the server is stopping" in rest
    assert "Traceback" not in err


def test_what_cannot_be_served_is_one_sentence(
    trained_tickets, tmp_path, fedsa, monkeypatch
):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = fedsa("serve", trained_tickets, "--port", port)
    assert result.returncode == 2
    assert "Address already in use" in result.stderr
    for words, said in (
        ((trained_tickets, "--host", "no.such.host.invalid"), "cannot listen"),
        ((trained_tickets, "--host", "192.0.2.1"), "cannot listen"),
        ((trained_tickets, "--port", 70000), "to 65535"),
        ((tmp_path, "--port", 0), "holds no run"),
        ((trained_tickets, "--print-vllm"), "no adapters with a head"),
    ):
        result = fedsa("serve", *words)
        assert result.returncode == 2 and said in result.stderr, result
        assert result.stderr.count("\n") == 1
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    monkeypatch.delitem(sys.modules, "fs_plugins.inference.server", False)
    result = fedsa("serve", trained_tickets, "--port", 0)
    assert result.returncode == 2
    assert "pip install 'fs_plugins[serve]'" in result.stderr


def test_what_the_models_cannot_classify(trained_tickets, train_tickets):
    service = Service(load_run(trained_tickets))
    for request, said in (
        (ClassRequest("east", ["a"]), "there are north, south, west, global"),
        (ClassRequest("north", [("a", "b")]), "trained on one text each"),
        (ClassRequest("north", [" "]), "is empty"),
        (TextRequest("north", "a"), "generate no text"),
    ):
        with pytest.raises(UserError, match=said):
            if isinstance(request, TextRequest):
                service.complete(request)
            else:
                service.classify(request)
    for value, said in (
        ([], "there are 0 texts"),
        (["a"] * 1001, "from 1 to 1000"),
        ([3], r"input\[0\]: 3 is not a text"),
        ([["a", 3]], r"input\[0\]: 3 is not a text"),
        ({}, "input: {} is not a text"),
    ):
        with pytest.raises(RequestError, match=said):
            class_request({"model": "north", "input": value})
    service.close()
    with pytest.raises(RequestError, match="is stopping"):
        service.classify(ClassRequest("north", ["a"]))
    folder = train_tickets(
        fedsa__data__label="",
        fedsa__data__target="score",
        eval__metrics=["mse"],
        eval__best_res_update_round_wise_key="val_mse",
    )
    run = load_run(folder)
    found = Service(run).classify(ClassRequest("south", ["w1 w2"]))
    expected = Predictor(run, run.client("south")).predict(["w1 w2"])
    assert found.predictions == expected and found.classes == ()


def test_the_command_line_of_vllm(trained_llama, language_lab):
    """Each adapter by its name, as PEFT has saved it."""
    words = shlex.split(vllm_command(trained_llama, "127.0.0.1", 8001))
    base = load_run(trained_llama).config["model"]["type"]
    assert words[:2] == ["vllm", "serve"]
    assert words[2] == base.rpartition("@")[0]
    assert words[words.index("--max-lora-rank") + 1] == "8"
    assert words[words.index("--port") + 1] == "8001"
    modules = words[words.index("--lora-modules") + 1 :]
    folders = {"1": "client_1", "2": "client_2", "3": "client_3"}
    folders["global"] = "global"
    adapters = trained_llama.absolute() / "adapters"
    assert modules == [f"{n}={adapters / f}" for n, f in folders.items()]
    template = words[words.index("--chat-template") + 1]
    assert template == str(adapters / "client_1" / "chat_template.jinja")
    (args,) = args_of("dora")
    args["target_modules"] = ["q_proj"]
    dora = language_lab.run(
        llm__adapter__args=[args], federate__total_round_num=1
    )
    with pytest.raises(UserError, match="vLLM does not serve DoRA"):
        vllm_command(dora["outdir"], "127.0.0.1", 8001)
