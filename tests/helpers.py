"""What several tests do with a runner."""

import contextlib
import json
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import hypothesis
import torch
import yaml
from peft import LoraConfig, VeraConfig, get_peft_model
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification

from fs_plugins.experiment.runs import Run

LORA = {
    "r": 2,
    "lora_alpha": 4,
    "lora_dropout": 0.0,
    "target_modules": ["query", "value"],
}
# Adapters of the toy model: PEFT's configuration class, its arguments, and
# how a reader tells A from what else is trained.
ADAPTERS: dict[str, tuple[str, dict[str, Any], str]] = {
    "lora": ("lora", LORA, "lora_A"),
    "rslora": ("lora", {**LORA, "use_rslora": True}, "lora_A"),
    "dora": ("lora", {**LORA, "use_dora": True}, "lora_A"),
    "pissa": ("lora", {**LORA, "init_lora_weights": "pissa"}, "lora_A"),
    "olora": ("lora", {**LORA, "init_lora_weights": "olora"}, "lora_A"),
    "embedding": (
        "lora",
        {**LORA, "target_modules": ["query", "word_embeddings"]},
        "_A.",
    ),
    "bias": ("lora", {**LORA, "lora_bias": True}, "lora_A"),
    "patterns": (
        "lora",
        {
            **LORA,
            "rank_pattern": {"1.*query": 1},
            "alpha_pattern": {"value": 6},
        },
        "lora_A",
    ),
    "vera": (
        "vera",
        {
            "r": 8,
            "target_modules": ["query", "value"],
            "projection_prng_key": 5,
        },
        "vera_lambda_d",
    ),
}
# PEFT computes their start in float32, and refuses float64.
IN_FLOAT32 = ("pissa", "olora")


def args_of(adapter: str) -> list[dict[str, Any]]:
    """``llm.adapter.args`` for one of ``ADAPTERS``."""
    method, args, _ = ADAPTERS[adapter]
    return [{"adapter_package": "peft", "adapter_method": method, **args}]


def in_float64(lab: Any, is_asked: bool = True) -> Any:
    """Experiments that compute in float64; or in float32, if not asked.

    What two programs compute in different orders then agrees to many more
    digits than an error of either would leave.
    """
    dtype = "float64" if is_asked else "float32"
    lab.settings["fedsa"] |= {"base": {"dtype": dtype}, "adapter_dtype": dtype}
    return lab


def plain_base(folder: Path, dtype: torch.dtype = torch.float64) -> Any:
    """The toy model, by transformers alone."""
    return AutoModelForSequenceClassification.from_pretrained(
        folder, num_labels=2, dtype=dtype
    )


def plain_model(
    folder: Path, adapter: str = "lora", dtype: torch.dtype = torch.float64
) -> Any:
    """The toy model with one of ``ADAPTERS``, by PEFT alone."""
    method, args, _ = ADAPTERS[adapter]
    config = {"lora": LoraConfig, "vera": VeraConfig}[method]
    return get_peft_model(
        plain_base(folder, dtype), config(task_type="SEQ_CLS", **args)
    )


def record(runner: Any) -> list[Any]:
    """A list that gets every message that any worker sends."""
    sent: list[Any] = []
    for worker in (runner.server, *runner.client.values()):
        send = worker.comm_manager.send

        def recorded(message: Any, send: Any = send) -> None:
            sent.append(message)
            send(message)

        worker.comm_manager.send = recorded
    return sent


def payload_of(message: Any) -> Any:
    """A message's content; an update's, without its number of samples."""
    is_update = message.msg_type == "model_para" and message.sender != 0
    return message.content[1] if is_update else message.content


def start_of(runner: Any) -> dict[str, torch.Tensor]:
    """The trainable parameters that a run starts from."""
    return copied(runner.server.model.state_dict())


def assert_close(
    found: Mapping[str, torch.Tensor], expected: Mapping[str, torch.Tensor]
) -> None:
    """The same parameters, but for what rounding explains; see below."""
    assert found.keys() == expected.keys() and expected
    scale = max(float(value.abs().max()) for value in expected.values())
    for name, value in expected.items():
        assert_near(found[name], value, scale)


def assert_near(
    found: torch.Tensor, expected: torch.Tensor, scale: float = 0.0
) -> None:
    """The same values, but for what another order of sums explains.

    The bound is 1e-10 in float64 and 200 units of rounding in float32, times
    the scale: it follows from the precision, so it holds on any processor.

    Args:
        found: what the project computes.
        expected: what it should be, in the same precision.
        scale: of the values that both are computed from, if it is more than
            the largest of ``expected``.

    """
    scale = max(scale, float(expected.abs().max()))
    bound = {torch.float64: 1e-10, torch.float32: 200 * 2.0**-23}
    torch.testing.assert_close(
        found, expected, rtol=0, atol=bound[expected.dtype] * scale
    )


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as opened:
        opened.bind(("127.0.0.1", 0))
        return int(opened.getsockname()[1])


def wait_for(condition: Callable[[], bool], seconds: float = 10) -> None:
    """Return once the condition holds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come true"
        time.sleep(0.02)


def folder_of(lab: Any) -> Path:
    """The folder of the newest run."""
    found = Path(lab.settings["outdir"]).rglob("checkpoints")
    return max(found, key=lambda f: f.stat().st_mtime_ns).parent


def copied(tensors: Any) -> dict[str, torch.Tensor]:
    """These values, whatever becomes of the tensors."""
    return {name: t.detach().clone() for name, t in tensors.items()}


_whole: dict[str, dict[str, Any]] = {}


def whole_of(lab: Any, **changes: Any) -> dict[str, Any]:
    """All results of a run that nothing interrupts.

    What has the same settings, but for where results go, runs once.
    """
    settings = yaml.safe_load(lab.file(**changes).read_text())
    del settings["outdir"], settings["fedsa"]["token_cache"]
    asked = repr(settings)
    if asked not in _whole:
        _whole[asked] = everything_of(Path(lab.run(**changes)["outdir"]))
    return dict(_whole[asked])


class Killed(BaseException):
    """Ends a run at once, as SIGKILL does."""


def kill_in_round(monkeypatch, rnd: int, client: int = 2) -> None:
    """The next run dies while a client trains."""
    from federatedscope.core.workers import Client

    from fs_plugins.worker.client import FedSAClient

    for cls in (Client, FedSAClient):
        handle = cls.callback_funcs_for_model_para

        def killed(self, message, handle=handle):
            if message.state == rnd and client <= self.ID:
                raise Killed
            return handle(self, message)

        monkeypatch.setattr(cls, "callback_funcs_for_model_para", killed)


def everything_of(folder: Path) -> dict[str, Any]:
    """All results of a run, without what no two runs have in common."""
    summary = json.loads((folder / "summary.json").read_text())
    adapters = {
        str(file.relative_to(folder)): {
            name: tensor.numpy().tobytes()
            for name, tensor in load_file(file).items()
        }
        for file in sorted(folder.glob("adapters/*/*.safetensors"))
    }
    return {
        "summary": {
            k: v for k, v in summary.items() if k not in ("time", "memory")
        },
        "metrics": (folder / "metrics.jsonl").read_text(),
        "answers": [f.read_text() for f in folder.glob("generations.jsonl")],
        "host": _without_times((folder / "eval_results.log").read_text()),
        "costs": _costs_in(folder / "system_metrics.log"),
        "adapters": adapters,
    }


def _without_times(text: str) -> str:
    return "\n".join(line for line in text.splitlines() if "time" not in line)


def _costs_in(file: Path) -> list[Any]:
    """What the host counts; FederatedScope's bytes are known to be wrong."""
    if os.environ["FS_PLUGINS_HOST"] == "federatedscope":
        return []
    lines = map(json.loads, file.read_text().splitlines())
    return [
        {k: v for k, v in line.items() if "time" not in k}
        for line in lines
        if isinstance(line["id"], int)
    ]


def resumed(folder: Path, **kwargs) -> Path:
    from fs_plugins.experiment.runner import resume

    assert resume(folder, quiet=True, **kwargs)["outdir"] == str(folder)
    return folder


def finished_run(name: str, weighted: dict[str, float]) -> Run:
    """A run of seed 0 whose last and best round had these results."""
    last = {"round": 2, "weighted": weighted, "mean": weighted, "clients": {}}
    summary = {
        "schema": 1,
        "data": "toy",
        "model": "tiny",
        "clients": 2,
        "rounds": 2,
        "seed": 0,
        "results": {"last": last, "best": last},
        "communication": {"uplink_bytes": 1500, "downlink_bytes": 10},
        "time": {"total_s": 3.2},
        "memory": {"peak_rss_bytes": 1000},
        "rejected_updates": 0,
    }
    return Run(name, Path(name), summary)


# Tests of generated input draw the same examples each time, and do not
# shrink them, which would take minutes.  With FEDSA_SEED in the environment
# they draw others, and FEDSA_TIMES times as many.
TIMES = int(os.environ.get("FEDSA_TIMES", "1"))
GENERATED: dict[str, Any] = {
    "derandomize": "FEDSA_SEED" not in os.environ,
    "database": None,
    "suppress_health_check": list(hypothesis.HealthCheck),
    "phases": [hypothesis.Phase.generate],
}


@contextlib.contextmanager
def within(seconds: int) -> Iterator[None]:
    """Fail where something hangs; the time is a guard, and no measurement."""

    def stop(number: int, frame: Any) -> None:
        raise AssertionError(f"it has taken {seconds} seconds")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
