"""Records the results and the costs of a run.

The recorder listens to the run's events.  So it records every method in the
same way, including the host's own, on either host.
"""

import resource
import sys
import time
from collections import Counter
from collections.abc import Mapping
from typing import Any

import torch

from fs_plugins.experiment.evaluations import (
    BYTES,
    better,
    evaluation,
    selection_key,
)
from fs_plugins.experiment.run_folder import RunFolder
from fs_plugins.experiment.summary import results_of
from fs_plugins.host.configuration import Config
from fs_plugins.host.protocols import Message
from fs_plugins.listeners import Listener, Results, RunInProgress
from fs_plugins.wire import encode
from fs_plugins.wire.messages import round_of
from fs_plugins.worker.ours import is_our_server, parameters_in


class Recorder(Listener):
    """Writes evaluations during a run, and a summary after it.

    Args:
        cfg: the run's configuration.
        facts: the first entries of the summary (method, model, ...).

    Attributes:
        seconds: the seconds spent on ``train``, ``eval`` and ``aggregate``,
            as far as this process measures them.
        last: the last evaluation; None before the first.
        best: the best evaluation by validation; None before the first.

    """

    def __init__(self, cfg: Config, facts: dict[str, Any]) -> None:
        self.cfg = cfg
        self.facts = facts
        self._files = RunFolder(cfg.outdir)
        # The bytes are counted by the host's state, from 0, as the next round
        # may begin before all results of this round's evaluation are received.
        self._bytes: dict[str, Counter[int]] = {
            "uplink": Counter(),
            "downlink": Counter(),
        }
        self._round_bytes = {"uplink": [0, 0], "downlink": [0, 0]}
        self.seconds: dict[str, float] = {"aggregate": 0.0}
        self.last: dict[str, Any] | None = None
        self.best: Mapping[str, Any] | None = None
        self._key = selection_key(cfg.eval.best_res_update_round_wise_key)
        self._shared = 0
        self._begin = time.perf_counter()
        # The seconds and the peak memory of processes before a resumption.
        self._before = 0.0
        self._peak_before = 0

    def run_begins(self, run: RunInProgress) -> None:
        """Note the run, and what can be timed in this process."""
        self._run = run
        if run.times_clients:
            self.seconds.setdefault("train", 0.0)
        if run.times_clients or self.cfg.federate.make_global_eval:
            self.seconds.setdefault("eval", 0.0)

    def took(self, what: str, seconds: float) -> None:
        """Add up the seconds."""
        self.seconds[what] += seconds

    def message_passes(self, message: Message, receivers: int) -> None:
        """Add up the bytes of a message's payload.

        The host's own workers do not encode their payload, so it is encoded
        here to measure it.
        """
        is_uplink = message.sender != 0
        payload = message.content
        if is_uplink:
            is_pair = isinstance(payload, (tuple, list)) and len(payload) == 2
            payload = payload[1] if is_pair else None
        if isinstance(payload, dict):
            size = len(encode(payload))
        else:
            size = len(payload) if isinstance(payload, bytes) else 0
        direction = "uplink" if is_uplink else "downlink"
        self._bytes[direction][message.state] += size * receivers
        if message.msg_type == "model_para":
            counted = self._round_bytes[direction]
            counted[0] += size * receivers
            counted[1] += receivers
        # FederatedScope broadcasts more than it aggregates, such as a head
        # that clients keep; so only what clients send is counted as shared.
        if is_uplink and isinstance(payload, dict):
            self._shared = sum(t.numel() for t in payload.values())

    def evaluated(self, rnd: int, clients: Mapping[int, Results]) -> None:
        """Write an evaluation, and tell the other listeners of it."""
        self.last = evaluation(rnd, clients, self.cfg.eval.metrics)
        line = self.last | {
            f"{direction}_bytes": sum(
                size
                for state, size in by_state.items()
                if round_of(state) <= rnd
            )
            for direction, by_state in self._bytes.items()
        }
        self._files.append_evaluation(line)
        self.best = better(self._key, self.last, self.best)
        self._run.tell("recorded", line)

    def state(self) -> dict[str, Any]:
        """The state from which a resumed run's recorder continues, as JSON."""
        return {
            "bytes": {k: dict(v) for k, v in self._bytes.items()},
            "round_bytes": self._round_bytes,
            "seconds": self.seconds,
            "last": self.last,
            "best": self.best,
            "shared": self._shared,
            "total": self._before + time.perf_counter() - self._begin,
            "peak_rss_bytes": max(self._peak_before, _peak_rss()),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from a state that ``state`` returned."""
        for direction, by_state in state["bytes"].items():
            self._bytes[direction] = Counter(
                {int(key): size for key, size in by_state.items()}
            )
        self._round_bytes = state["round_bytes"]
        self.seconds.update(state["seconds"])
        self.last, self.best = state["last"], state["best"]
        self._shared = state["shared"]
        self._before = state["total"]
        self._peak_before = state["peak_rss_bytes"]

    def finish(self, total_seconds: float) -> dict[str, Any]:
        """Write the summary, and return it.

        Args:
            total_seconds: the seconds that this process has taken.

        """
        summary = (
            self.facts
            | {
                "results": results_of(self.last, self.best, self._key),
                "communication": self._communication(),
                "time": {"total_s": self._before + total_seconds}
                | {
                    # None stands for work that is done in other processes.
                    f"{what}_s": self.seconds.get(what)
                    for what in ("train", "eval", "aggregate")
                },
                "memory": {
                    "peak_rss_bytes": max(self._peak_before, _peak_rss()),
                    "peak_gpu_bytes": _peak_gpu()
                    if self.cfg.use_gpu
                    else None,
                },
            }
            | self._rejected()
        )
        reason = self._stopped_early()
        if reason:
            summary["stopped_early"] = reason
        self._files.write_summary(summary)
        return summary

    def _rejected(self) -> dict[str, int | None]:
        """How much the server has refused."""
        server = self._run.worker
        if not is_our_server(server):
            return {"rejected_updates": 0}
        rejected = {"rejected_updates": server.rejected_updates}
        if server.rejected_messages:
            rejected["rejected_messages"] = server.rejected_messages
        return {**rejected}

    def _stopped_early(self) -> str:
        """What has ended the run before its last round; ``""`` for nothing.

        FederatedScope's server then counts its rounds to beyond the last, so
        the round is that of the last evaluation.
        """
        last = self.last["round"] if self.last else 0
        if last >= self.cfg.federate.total_round_num:
            return ""
        if self._run.worker.early_stopper.early_stopped:
            return "early_stop.patience"
        return self._run.stopped

    def _communication(self) -> dict[str, Any]:
        per_message = {
            direction: round(size / number) if number else 0
            for direction, (size, number) in self._round_bytes.items()
        }
        model = self._run.worker.model
        trainable = sum(
            p.numel() for p in model.parameters() if p.requires_grad
        )
        parameters = parameters_in(self._run.worker)
        if parameters is not None:
            self._shared = sum(p.numel() for p in parameters.shared.values())
        return {
            "uplink_bytes": self._bytes["uplink"].total(),
            "downlink_bytes": self._bytes["downlink"].total(),
            "uplink_bytes_per_client_round": per_message["uplink"],
            "downlink_bytes_per_client_round": per_message["downlink"],
            "shared_parameters": self._shared,
            "kept_parameters": trainable - self._shared,
            "trainable_parameters": trainable,
        }


class ClientRecorder(Recorder):
    """Writes one client's own results, in the process of the client.

    A server may repeat rounds, and a client's process may go on from what an
    earlier one has written; of each round the newest results are kept.
    """

    def __init__(self, cfg: Config, facts: dict[str, Any]) -> None:
        super().__init__(cfg, facts)
        del self.seconds["aggregate"]  # it is the server's work
        self._goes_on = self._files.has_metrics

    def evaluated(self, rnd: int, clients: Mapping[int, Results]) -> None:
        """Write an evaluation in place of those of the same rounds."""
        is_repeated = self.last is not None and rnd <= self.last["round"]
        if is_repeated or self._goes_on:
            self._files.remove_evaluations(rnd)
            kept, _ = self._files.read_evaluations()
            self.last = self.best = None
            for line in kept:
                self.last = {k: v for k, v in line.items() if k not in BYTES}
                self.best = better(self._key, self.last, self.best)
            if self._goes_on and kept:
                for way, counts in self._bytes.items():
                    counts[-1] = kept[-1][f"{way}_bytes"]
            self._goes_on = False
        super().evaluated(rnd, clients)

    def _rejected(self) -> dict[str, int | None]:
        """Nothing, as only the server knows what it has refused."""
        return {"rejected_updates": None}

    def _stopped_early(self) -> str:
        """Why the client has no results of the last round."""
        last = self.last["round"] if self.last else 0
        if not last or last >= self.cfg.federate.total_round_num:
            return ""
        return "the server had no further round for this client"


def _peak_rss() -> int:
    """The peak memory of this process in bytes; Linux counts in kB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _peak_gpu() -> int:
    return int(torch.cuda.max_memory_allocated())
