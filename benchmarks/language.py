"""Memory of a federation of a language model, and what padding costs.

    python benchmarks/language.py memory
    python benchmarks/language.py padding DATA

memory: peak memory of FedSA with 3 clients on SmolLM2-135M-Instruct, batches
of 4 x 128 tokens, against one plain fine-tuning of the same model by
transformers and PEFT; each in a process of its own.

padding: batches padded to their longest text (as the plugins do) against
batches padded to ``llm.tok_len``: tokens computed, and seconds a step of
forward and backward.  DATA holds glue/SST-2 (MiniLM, 16 x 128 tokens) and
gsm8k (SmolLM2, 4 x 256 tokens).
"""

import argparse
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

DEMO = Path(__file__).parent.parent / "yaml_configs/demo"
CLIENTS, STEPS, BATCH, LENGTH = 3, 4, 4, 128


def federation(folder: Path, file: str, *pairs: str) -> Any:
    """A runner for one of the demonstration's files, not yet run.

    Args:
        folder: the run's folder.
        file: the name of the YAML file.
        pairs: keys and values that differ from the file.

    """
    import fs_plugins  # noqa: F401  makes federatedscope importable
    from fs_plugins.config.load import load_config
    from fs_plugins.experiment.runner import build_runner

    cfg = load_config(
        DEMO / file,
        [
            *("outdir", str(folder)),
            *("fedsa.eval.generate.examples", "0"),
            *pairs,
        ],
    )
    return build_runner(cfg)


def federated() -> None:
    """Run FedSA with 3 clients for 2 rounds, without evaluation."""
    with tempfile.TemporaryDirectory() as folder:
        runner = federation(
            Path(folder),
            "smollm2.yaml",
            *("federate.client_num", str(CLIENTS)),
            *("federate.total_round_num", "2"),
            *("train.local_update_steps", str(STEPS)),
            *("dataloader.batch_size", str(BATCH)),
            *("llm.tok_len", str(LENGTH)),
            *("eval.freq", "10"),
            *("eval.split", "['val']"),
        )
        runner.server.eval = lambda: None
        runner.run()


def single() -> None:
    """Fine-tune the same model without federation, for as many steps."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    import fs_plugins  # noqa: F401  makes federatedscope importable
    from fs_plugins.data.assets import ASSETS, find_asset
    from fs_plugins.data.gguf import from_gguf
    from fs_plugins.data.tokens import default_cache

    ((file, digest),) = ASSETS["smollm2"].sha256.items()
    gguf = find_asset("smollm2", "model") / file
    model = get_peft_model(
        AutoModelForCausalLM.from_pretrained(
            from_gguf(gguf, digest, default_cache() / "models")
        ),
        LoraConfig(
            task_type="CAUSAL_LM",
            r=8,
            lora_alpha=16,
            lora_dropout=0.05,
            target_modules=["q_proj", "v_proj"],
        ),
    )
    model.train()
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=2e-3)
    for _ in range(CLIENTS * STEPS * 2):
        ids = torch.randint(0, 49000, (BATCH, LENGTH))
        loss = model(
            input_ids=ids, attention_mask=torch.ones_like(ids), labels=ids
        ).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def memory() -> None:
    """Run both, each in a process of its own, and print their peaks."""
    peaks = {}
    for name in ("single", "federated"):
        out = subprocess.run(
            [sys.executable, __file__, name],
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        peaks[name] = int(out.split()[-1])
        print(f"{name:10s} {peaks[name] / 1e6:7.0f} MB", flush=True)
    print(f"ratio      {peaks['federated'] / peaks['single']:7.3f}")


def padding(data: Path) -> None:
    """Print tokens and seconds, padded to the longest and to the limit.

    Args:
        data: a folder with ``glue/SST-2`` and ``gsm8k``.

    """
    for name, file, batch, length, pairs in (
        (
            "SST-2",
            "fedsa.yaml",
            16,
            128,
            ("data.type", "sst2@glue", "data.root", str(data / "glue")),
        ),
        (
            "GSM8K",
            "smollm2.yaml",
            4,
            256,
            (
                *("data.type", "gsm8k@llm", "data.root", str(data / "gsm8k")),
                *("data.splitter", "iid"),
            ),
        ),
    ):
        with tempfile.TemporaryDirectory() as folder:
            runner = federation(
                Path(folder),
                file,
                *("federate.client_num", "1", "llm.tok_len", str(length)),
                *("dataloader.batch_size", str(batch)),
                *pairs,
            )
        loader = runner.data[1]["train"]
        batches = [b for b, _ in zip(loader, range(200), strict=False)]
        texts = sum(len(b["input_ids"]) for b in batches)
        tokens = sum(b["input_ids"].numel() for b in batches)
        pad = runner.data[1].tokenizer.pad_token_id
        model = runner.server.model.model
        short = seconds(model, batches[:9])
        full = seconds(model, (widened(b, length, pad) for b in batches[:9]))
        print(
            f"{name}: {tokens / texts:.0f} tokens a text in place of "
            f"{length} ({1 - tokens / texts / length:.0%} less); "
            f"{short:.2f} s a step in place of {full:.2f} "
            f"({1 - short / full:.0%} less)",
            flush=True,
        )


def widened(batch: dict[str, Any], length: int, pad: int) -> dict[str, Any]:
    """A batch, padded further to a length.

    Args:
        batch: tensors by name, of shape (texts, tokens) where they hold
            tokens.
        length: the number of tokens to pad to.
        pad: the token that pads.

    """
    fill = {"input_ids": pad, "labels": -100}
    return {
        name: torch.nn.functional.pad(
            tensor, (0, length - tensor.shape[1]), value=fill.get(name, 0)
        )
        if tensor.dim() == 2
        else tensor
        for name, tensor in batch.items()
    }


def seconds(model: Any, batches: Iterable[dict[str, Any]]) -> float:
    """The median seconds of forward and backward.

    Args:
        model: a model that returns a loss.
        batches: the batches, of which the first is a warm-up.

    """
    times = []
    for batch in batches:
        begin = time.perf_counter()
        model(**batch).loss.backward()
        times.append(time.perf_counter() - begin)
        model.zero_grad()
    return statistics.median(times[1:])


def main() -> None:
    """Run what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("memory", "padding", *PARTS))
    parser.add_argument("data", type=Path, nargs="?")
    arguments = parser.parse_args()
    if arguments.what == "memory":
        memory()
    elif arguments.what == "padding":
        padding(arguments.data)
    else:
        PARTS[arguments.what]()
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)


PARTS = {"single": single, "federated": federated}
if __name__ == "__main__":
    main()
