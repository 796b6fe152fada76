"""How fast texts of one's own are read, tokenised and predicted.

    python benchmarks/own_data.py read [--rows 1000000]
    python benchmarks/own_data.py predict [--texts 2000]
    python benchmarks/own_data.py pack [--batches 6]

``read`` writes a csv file of short texts with labels, reads it as a run does,
and tokenises it with the demonstration's tokenizer; printed are the seconds
of each and the peak memory of the process.  ``predict`` trains a small run on
the demonstration's model, and compares texts per second of ``Predictor`` with
a plain loop over batches of transformers and PEFT, in the order of the file
and padded to the longest text of each batch.  ``pack`` takes the gradients of
the demonstration's language model for the same batches, padded and packed, on
conversations whose lengths are alike or have a long tail; its seconds are
those of the processor, summed over its cores.  The programs need ``make
install-demo``.
"""

import argparse
import csv
import json
import random
import resource
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

WORDS = (
    *("the", "a", "my", "our", "of", "for", "with", "order", "invoice"),
    *("phone", "plan", "screen", "shows", "error", "when", "open", "app"),
    *("crashed", "where", "is", "please", "refund", "twice", "charged"),
    *("not", "working", "delivery", "late", "cancel", "account", "thanks"),
)
LABELS = ("billing", "technical", "sales")


def write(file: Path, rows: int, words: tuple[int, int]) -> None:
    """Write a csv file of made texts.

    Args:
        file: the file.
        rows: the number of texts.
        words: the least and the largest number of words of a text.

    """
    rng = random.Random(0)
    with open(file, "w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["text", "label", "region"])
        for number in range(rows):
            text = " ".join(rng.choices(WORDS, k=rng.randint(*words)))
            region = f"region {number % 7}"
            writer.writerow([f"{text} {number}", rng.choice(LABELS), region])


def settings(file: Path, folder: str) -> dict[str, Any]:
    """An experiment on a file."""
    return {
        "outdir": folder,
        "data.type": f"{file}@text",
        "data.splitter": "column",
        "data.splitter_args": [],
        "data.splits": [0.8, 0.1, 0.1],
        "federate.client_num": 0,
        "federate.total_round_num": 1,
        "fedsa.data": {"text": "text", "label": "label", "client": "region"},
        "fedsa.token_cache": "none",
        "llm.tok_len": 128,
    }


def memory() -> float:
    """The peak memory of this process in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def read(rows: int) -> None:
    """Print the seconds and the memory of reading and tokenising."""
    from fs_plugins.config.load import load_config
    from fs_plugins.data.assets import find_asset
    from fs_plugins.data.own import load_texts
    from fs_plugins.data.tokenizer import load_tokenizer
    from fs_plugins.data.tokens import NO_CACHE, tokenise

    tokenizer = load_tokenizer(str(find_asset("minilm", "model.type")), "")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "texts.csv")
        write(file, rows, (4, 12))
        cfg = load_config("demo/fedsa.yaml", settings(file, folder))
        print(f"before: {memory():.0f} MB")
        begin = time.perf_counter()
        examples = load_texts(str(file), cfg).train
        seconds = time.perf_counter() - begin
        print(f"read {rows} rows: {seconds:.1f} s, peak {memory():.0f} MB")
        begin = time.perf_counter()
        tokens = tokenise(examples, tokenizer, 128, NO_CACHE)
        seconds = time.perf_counter() - begin
        print(
            f"tokenised {len(tokens.ids)} tokens: {seconds:.1f} s, peak "
            f"{memory():.0f} MB"
        )


def predict(number: int, repeats: int) -> None:
    """Print texts per second of ``Predictor`` and of a plain loop."""
    import torch

    import fs_plugins

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "texts.csv")
        write(file, 600, (4, 60))
        run = fs_plugins.run("demo/fedsa.yaml", **settings(file, folder))
        write(file, number, (4, 60))
        with open(file, encoding="utf-8", newline="") as stream:
            texts = [row["text"] for row in csv.DictReader(stream)]
        predictor = fs_plugins.Predictor(run, run.client(1))

        def plain() -> list[int]:
            found: list[int] = []
            for start in range(0, len(texts), 32):
                batch = predictor.tokenizer(
                    texts[start : start + 32],
                    truncation=True,
                    max_length=128,
                    padding=True,
                    return_tensors="pt",
                )
                with torch.inference_mode():
                    logits = predictor.model(**batch).logits
                found += logits.argmax(dim=-1).tolist()
            return found

        def ours() -> list[int]:
            names = [p.label for p in predictor.predict(texts)]
            return [predictor.classes.index(str(name)) for name in names]

        same = sum(a == b for a, b in zip(plain(), ours(), strict=True))
        print(f"the same label: {same} of {number}")
        rates: dict[str, list[float]] = {"plain": [], "Predictor": []}
        for _ in range(repeats):  # in turn, as the machine may change
            for name, call in (("plain", plain), ("Predictor", ours)):
                begin = time.perf_counter()
                call()
                rates[name].append(number / (time.perf_counter() - begin))
        for name, values in rates.items():
            print(
                f"{name}: {statistics.median(values):.0f} texts per second "
                f"({min(values):.0f} to {max(values):.0f})"
            )


def converse(file: Path, rows: int, spread: float) -> None:
    """Write a jsonl file of made prompts and answers.

    Args:
        file: the file.
        rows: the number of conversations.
        spread: the standard deviation of the logarithm of an answer's number
            of words, of which the median is 40.

    """
    rng = random.Random(0)
    with open(file, "w", encoding="utf-8") as stream:
        for _ in range(rows):
            size = round(40 * rng.lognormvariate(0, spread))
            line = {
                "prompt": " ".join(rng.choices(WORDS, k=8)),
                "completion": " ".join(rng.choices(WORDS, k=max(1, size))),
            }
            stream.write(json.dumps(line) + "\n")


def pack(number: int, repeats: int) -> None:
    """Print seconds of the processor a batch, padded and packed.

    Args:
        number: how many batches.
        repeats: how often each is computed.

    """
    from fs_plugins.config.load import load_config
    from fs_plugins.experiment.runner import build_runner

    print("spread  batch  layout  tokens  of texts  s a batch (range)")
    for spread in (0.1, 0.8):
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, "chats.jsonl")
            converse(file, 400, spread)
            changes = {
                "outdir": folder,
                "data.type": f"{file}@chat",
                "data.splitter": "iid",
                "federate.client_num": 1,
                "fedsa.token_cache": "none",
                "fedsa.data.packing": True,
                "llm.tok_len": 512,
            }
            runner = build_runner(load_config("demo/smollm2.yaml", changes))
        model, data = runner.client[1].model, runner.data[1]
        tokens = data.train_data.tokens
        order = random.Random(1).sample(range(len(tokens)), len(tokens))
        for size in (4, 16):
            chosen = [order[i * size :][:size] for i in range(number)]
            texts = [place for each in chosen for place in each]
            layouts = {
                "padded": [*map(data.collator(tokens), chosen)],
                "packed": [*map(data.collator(tokens, True), chosen)],
            }
            seconds: dict[str, list[float]] = {name: [] for name in layouts}
            for _ in range(repeats):  # in turn, as the machine may change
                for name, batches in layouts.items():
                    seconds[name].append(gradients(model, batches) / number)
            for name, batches in layouts.items():
                cells = sum(batch["input_ids"].numel() for batch in batches)
                own = int(tokens.lengths()[texts].sum())
                times = seconds[name]
                print(
                    f"{spread:6}  {size:5}  {name}  {cells / number:6.0f}  "
                    f"{own / number:8.0f}  {statistics.median(times):9.2f} "
                    f"({min(times):.2f} to {max(times):.2f})",
                    flush=True,
                )


def gradients(model: Any, batches: Sequence[Mapping[str, Any]]) -> float:
    """Take the gradients of batches; the seconds of the processor.

    Args:
        model: the model.
        batches: padded or packed batches.

    """
    from fs_plugins.data.batches import options_for

    model.train()
    begin = time.process_time()
    for batch in batches:
        model(**batch, **options_for(batch)).loss.backward()
        model.zero_grad()
    return time.process_time() - begin


def main() -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["read", "predict", "pack"])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--texts", type=int, default=2000)
    parser.add_argument("--batches", type=int, default=6)
    parser.add_argument("--repeats", type=int, default=5)
    words = parser.parse_args()
    if words.what == "read":
        read(words.rows)
    elif words.what == "pack":
        pack(words.batches, words.repeats)
    else:
        predict(words.texts, words.repeats)


if __name__ == "__main__":
    main()
