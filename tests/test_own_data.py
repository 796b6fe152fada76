"""The page on one's own data, from the files to the predictions.

The YAML files are those of the page; only the model is a toy, and the run
short.
"""

import csv
import io
import json
import random
import re
from pathlib import Path

import pytest

from fs_plugins.cli import main

PAGE = Path(__file__).parents[1] / "docs" / "own-data.md"
WORDS = [f"w{i}" for i in range(60)]
QUICK = (
    *("federate.total_round_num", "1"),
    *("train.local_update_steps", "2"),
    *("dataloader.batch_size", "4"),
    *("llm.tok_len", "32"),
)


def pages_file(name):
    (text,) = re.findall(
        rf"```yaml\n# {name}\n(.*?)```", PAGE.read_text("utf-8"), re.S
    )
    Path(name).write_text(text, encoding="utf-8")
    return name


def fedsa(*words, code=0):
    with pytest.raises(SystemExit) as stop:
        main([*map(str, words)])
    assert stop.value.code == code


def texts(rng):
    return " ".join(rng.choices(WORDS, k=5))


def write_csv(name, rows):
    Path(name).parent.mkdir(exist_ok=True)
    with open(name, "w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


@pytest.fixture
def rng(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return random.Random(4)


@pytest.fixture
def toy(toy_model):
    return ("model.type", f"{toy_model}@huggingface_llm")


def test_tickets(rng, toy, capsys):
    rows = [
        {
            "id": i,
            "subject": texts(rng),
            "body": f"{texts(rng)},\n{texts(rng)}",
            "queue": rng.choice(["billing", "technical"]),
            "region": rng.choice(["north", "south"]),
        }
        for i in range(60)
    ]
    write_csv("tickets.csv", rows[:40])
    write_csv("new.csv", rows[40:])
    write_csv("east.csv", rows[10:40])
    file = pages_file("tickets.yaml")
    fedsa("data", "--cfg", file, *toy)
    shown = capsys.readouterr().out
    assert "north" in shown and "[CLS]" in shown and "99 %" in shown
    fedsa("run", "--cfg", file, *toy, *QUICK)
    assert Path("exp/fedsa_tickets/adapters/north").is_dir()
    fedsa("evaluate", "exp/fedsa_tickets", "new.csv")
    shown = capsys.readouterr().out
    assert "north" in shown and "south" in shown and "20" in shown
    words = ("exp/fedsa_tickets", "--client", "north")
    fedsa("predict", *words, "new.csv", "--out", "predicted.csv")
    with open("predicted.csv", encoding="utf-8", newline="") as stream:
        found = list(csv.DictReader(stream))
    assert [row["body"] for row in found] == [r["body"] for r in rows[40:]]
    assert {r["predicted_label"] for r in found} <= {"billing", "technical"}
    capsys.readouterr()
    fedsa("predict", *words, "--text", "w1 w2", "--json")
    assert 0.5 <= json.loads(capsys.readouterr().out)["probability"] <= 1
    new = ("personalise", "exp/fedsa_tickets", "--data", "east.csv")
    fedsa(*new, "--name", "east", "--quiet")
    fedsa("predict", "exp/east", "new.csv", "--client", "east")
    assert len(capsys.readouterr().out.splitlines()) > 20


def test_hospitals(rng, toy):
    for name in ("north", "south", "west"):
        write_csv(
            f"hospitals/{name}.csv",
            [
                {"report": texts(rng), "finding": rng.choice(["none", "some"])}
                for _ in range(20)
            ],
        )
    fedsa("run", "--cfg", pages_file("hospitals.yaml"), *toy, *QUICK)
    adapters = Path("exp/fedsa_hospitals/adapters")
    assert {path.name for path in adapters.iterdir()} == {
        *("base", "global", "north", "south", "west")
    }


def write_lines(name, rows):
    Path(name).write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_pairs(rng, toy):
    write_lines(
        "pairs.jsonl",
        [
            {
                "question": texts(rng),
                "answer": texts(rng),
                "fits": rng.choice(["yes", "no"]),
            }
            for _ in range(60)
        ],
    )
    fedsa("run", "--cfg", pages_file("pairs.yaml"), *toy, *QUICK)
    results = json.loads(Path("exp/fedsa_pairs/summary.json").read_text())
    assert "test_f1" in results["results"]["last"]["weighted"]


def test_mails(rng, toy, capsys):
    names = ("billing", "technical", "praise")
    rows = [
        {
            "text": texts(rng),
            "topics": "; ".join(n for n in names if rng.random() < 0.5),
        }
        for _ in range(60)
    ]
    write_csv("mails.csv", rows[:50])
    write_csv("new.csv", rows[50:])
    fedsa("run", "--cfg", pages_file("mails.yaml"), *toy, *QUICK)
    words = ("exp/fedsa_mails", "new.csv", "--client", "2")
    capsys.readouterr()
    fedsa("predict", *words, "--threshold", "0.3", "--json")
    for line in map(json.loads, capsys.readouterr().out.splitlines()):
        likely = line["probabilities"]
        assert line["predicted_labels"] == [
            n for n in likely if likely[n] > 0.3
        ]
        assert [*likely] == sorted(names)
    fedsa("predict", *words)
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert {"predicted_labels", "probability_praise"} <= rows[0].keys()
    fedsa("evaluate", "exp/fedsa_mails", "new.csv")
    assert "F1 of each label" in capsys.readouterr().out


def test_offers(rng, toy, capsys):
    rows = [{"text": texts(rng), "price": 9e5 + 100 * i} for i in range(60)]
    write_csv("offers.csv", rows)
    fedsa("run", "--cfg", pages_file("offers.yaml"), *toy, *QUICK)
    capsys.readouterr()
    words = ("exp/fedsa_offers", "--client", "2", "--text", "w1 w2", "--json")
    fedsa("predict", *words)
    assert json.loads(capsys.readouterr().out)["predicted_label"] > 8e5


def test_prompts(rng, toy_llama, capsys):
    write_lines(
        "prompts.jsonl",
        [
            {"prompt": f"{i} and {i}?", "completion": f"It is {2 * i}."}
            for i in range(40)
        ],
    )
    model = ("model.type", f"{toy_llama}@huggingface_llm")
    fedsa(
        *("run", "--cfg", pages_file("prompts.yaml"), *model, *QUICK),
        *("llm.tok_len", "64"),
    )
    assert Path("exp/fedsa_prompts/adapters/client_3").is_dir()
    capsys.readouterr()
    words = ("--prompt", "3 and 3?", "--json", "--max-new-tokens", "4")
    fedsa("chat", "exp/fedsa_prompts", "--client", "2", *words)
    answer = json.loads(capsys.readouterr().out)
    assert answer["prompt"] == "3 and 3?" and answer.keys() == {
        *("prompt", "answer")
    }


@pytest.mark.parametrize(
    "words, said",
    [
        (("fedsa.data.text", "bodi"), "no column 'bodi' (did you mean 'body'"),
        (("fedsa.data.classes", "[a, b]"), "none of the classes 'a', 'b'"),
        (("data.type", "ticket.csv@text"), "did you mean 'tickets.csv'"),
        (("federate.client_num", "3"), "belong to 2 clients"),
    ],
)
def test_a_mistake_leaves_nothing(rng, toy, capsys, words, said):
    write_csv(
        "tickets.csv",
        [
            {"body": texts(rng), "queue": "xy"[i % 2], "region": "ns"[i % 2]}
            for i in range(20)
        ],
    )
    fedsa(*("run", "--cfg", pages_file("tickets.yaml"), *toy, *words), code=2)
    error = capsys.readouterr().err
    assert said in error and len(error.splitlines()) == 1
    assert not list(Path("exp").rglob("*")) if Path("exp").exists() else True
