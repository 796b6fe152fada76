"""A table of tickets, with a client for each of three regions."""

import csv
import random
from pathlib import Path
from typing import Any

WORDS = [f"w{i}" for i in range(60)]


def rows_of(seed: int, number: int = 60) -> list[dict[str, str]]:
    """Tickets, whose words lean to their queues."""
    rng = random.Random(seed)
    rows = []
    for i in range(number):
        label = rng.randrange(2)
        half = WORDS[:30] if label == 0 else WORDS[30:]
        words = rng.choices(half + WORDS, k=rng.randint(1, 20))
        rows.append(
            {
                "mail": " ".join(words),
                "queue": ["sales", "billing"][label],
                "score": str(label + i / 100),
                "region": ["north", "south", "west"][i % 3],
            }
        )
    return rows


def write(file: str | Path, rows: list[dict[str, str]]) -> None:
    """Write rows as csv."""
    with open(file, "w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


TEST = rows_of(2)


def changes_for(folder: Path) -> dict[str, Any]:
    """What a run on the tickets changes; writes the tickets to a folder."""
    write(folder / "train.csv", rows_of(1))
    write(folder / "test.csv", TEST)
    return {
        "data__type": f"{folder / 'train.csv'}@text",
        "data__splitter": "column",
        "data__splitter_args": [],
        "federate__client_num": 0,
        "fedsa__data__text": ["mail"],
        "fedsa__data__label": "queue",
        "fedsa__data__client": "region",
        "fedsa__data__test": str(folder / "test.csv"),
        "federate__total_round_num": 2,
    }
