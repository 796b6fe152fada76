"""What a worker knows of its results and costs."""

import json
import time
from pathlib import Path
from typing import Any

import numpy as np

from federatedscope.core.monitors.metric_calculator import MetricCalculator


class Monitor:
    """Computes metrics, formats results, keeps the best, counts costs.

    Args:
        cfg: the configuration.
        monitored_object: the worker that the monitor belongs to.

    """

    SUPPORTED_FORMS = ("weighted_avg", "avg", "fairness", "raw")

    def __init__(self, cfg: Any, monitored_object: Any = None) -> None:
        self.cfg = cfg
        self.outdir = cfg.outdir
        self.monitored_object = monitored_object
        self.use_wandb = cfg.wandb.use
        self.wandb_online_track = self.use_wandb and cfg.wandb.online_track
        self._untracked: list[dict[str, Any]] = []
        self.metric_calculator = MetricCalculator(cfg.eval.metrics)
        self.round_wise_update_key = cfg.eval.best_res_update_round_wise_key
        metric = self.round_wise_update_key.partition("_")[2]
        known = self.metric_calculator.eval_metric
        if metric not in known:
            raise ValueError(
                "eval.best_res_update_round_wise_key: "
                f"{self.round_wise_update_key!r} asks for a metric that is "
                f"not computed; allowed are val_ or test_ with one of "
                f"{sorted(known)} (see eval.metrics)"
            )
        self.the_larger_the_better = known[metric][1]
        self.begin = time.monotonic()
        self.total_model_size = 0
        self.total_flops = self.flops_per_sample = 0
        self.total_upload_bytes = 0
        self.total_download_bytes = 0
        self.global_convergence_round = 0
        self.local_convergence_round = 0

    def eval(self, ctx: Any) -> dict[str, float]:
        """The metrics of a trainer's context."""
        return self.metric_calculator.eval(ctx)

    def track_model_size(self, models: Any) -> None:
        """Count the parameters of one model or several."""
        models = models if isinstance(models, list) else [models]
        self.total_model_size = sum(
            p.numel() for model in models for p in model.parameters()
        )

    def track_upload_bytes(self, number: int) -> None:
        """Add to the bytes sent."""
        self.total_upload_bytes += number

    def track_download_bytes(self, number: int) -> None:
        """Add to the bytes received."""
        self.total_download_bytes += number

    def global_converged(self) -> None:
        """Note the round in which the federation stopped early."""
        self.global_convergence_round = self.monitored_object.state

    def local_converged(self) -> None:
        """Note the round in which this worker stopped early."""
        self.local_convergence_round = self.monitored_object.state

    def finish_fl(self) -> None:
        """Append this worker's costs to ``system_metrics.log``."""
        self._append(
            "system_metrics.log",
            json.dumps(
                {
                    "id": self.monitored_object.ID,
                    "fl_end_time_minutes": (time.monotonic() - self.begin)
                    / 60,
                    "total_model_size": self.total_model_size,
                    "total_flops": self.total_flops,
                    "total_upload_bytes": self.total_upload_bytes,
                    "total_download_bytes": self.total_download_bytes,
                    "global_convergence_round": self.global_convergence_round,
                    "local_convergence_round": self.local_convergence_round,
                }
            ),
        )

    def finish_fed_runner(self, fl_mode: str | None = None) -> None:
        """Called once, when the whole run has ended."""
        for results in self._untracked:
            _track(results)

    def save_formatted_results(
        self,
        formatted_res: dict[str, Any],
        save_file_name: str = "eval_results.log",
    ) -> None:
        """Append a line to ``eval_results.log``, and track it."""
        if save_file_name:
            self._append(save_file_name, str(formatted_res))
        if self.wandb_online_track:
            _track(formatted_res)
        elif self.use_wandb:
            self._untracked.append(formatted_res)

    def _append(self, name: str, line: str) -> None:
        with open(Path(self.outdir) / name, "a", encoding="utf-8") as file:
            file.write(line + "\n")

    def format_eval_res(
        self,
        results: dict[str, Any],
        rnd: Any,
        role: Any = -1,
        forms: list[str] | None = None,
        return_raw: bool = False,
    ) -> dict[str, Any]:
        """``{'Role', 'Round', 'Results_<form>': {...}, ...}``.

        Args:
            results: ``{metric: value}``; at the server, which merges those
                of all clients, ``{metric: [value, ...]}``.
            rnd: the round.
            role: e.g. ``'Client #2'`` or ``'Server #'``.
            forms: any of ``SUPPORTED_FORMS``; by default all.
            return_raw: only the results as given.

        """
        formatted: dict[str, Any] = {"Role": role, "Round": rnd}
        is_server = str(role).lower().startswith("server")
        if return_raw or not is_server:
            return formatted | {"Results_raw": dict(results)}
        for form in forms or self.SUPPORTED_FORMS:
            if form == "raw":
                formatted["Results_raw"] = dict(results)
            elif form in self.SUPPORTED_FORMS:
                formatted[f"Results_{form}"] = _merge(results, form)
        return formatted

    def calc_model_metric(
        self, last_model: Any, local_updated_models: Any, rnd: int
    ) -> dict[str, Any]:
        """``eval.monitoring`` needs FederatedScope; nothing here."""
        return {}

    def update_best_result(
        self,
        best_results: dict[str, Any],
        new_results: dict[str, Any],
        results_type: str,
    ) -> bool:
        """Keep ``new_results`` if better by the round-wise update key.

        Lists (one value a client) count by their best value.
        """
        best = best_results.setdefault(results_type, {})
        key = next(
            (k for k in new_results if self.round_wise_update_key in k), None
        )
        if key is None:
            raise ValueError(
                "eval.best_res_update_round_wise_key: "
                f"{self.round_wise_update_key!r} is not among the results "
                f"{sorted(new_results)} (see eval.split)"
            )
        new = {k: self._best_of(k, v) for k, v in new_results.items()}
        sign = 1 if self.the_larger_the_better else -1
        if key in best and sign * new[key] <= sign * best[key]:
            return False
        best.update(new)
        return True

    def _best_of(self, key: str, value: Any) -> Any:
        if not isinstance(value, list):
            return value
        metric = key.partition("_")[2]
        larger = self.metric_calculator.eval_metric.get(metric, (None, True))
        return max(value) if larger[1] else min(value)


def _track(formatted: dict[str, Any]) -> None:
    """Tell Weights & Biases; the names are FederatedScope's."""
    import wandb

    role = formatted["Role"]
    values = {f"{role}, Round": formatted["Round"]}
    for form, results in formatted.items():
        if not isinstance(results, dict):
            continue
        if form == "Results_raw" and formatted["Round"] == "Final":
            values |= {
                f"best_{kind}/{key}": value
                for kind, own in results.items()
                for key, value in own.items()
            }
        elif form == "Results_raw":
            # the server's are lists, one value a client
            own = {} if _has_lists(results) else results
            values |= {f"{role}, {key}": value for key, value in own.items()}
        else:
            values |= {
                f"{role}, {form}/{key}": value
                for key, value in results.items()
            }
    wandb.log(values)


def _has_lists(results: dict[str, Any]) -> bool:
    return any(isinstance(value, list) for value in results.values())


def _merge(results: dict[str, list[float]], form: str) -> dict[str, float]:
    merged: dict[str, float] = {}
    for key, values in results.items():
        split, _, metric = key.partition("_")
        array = np.asarray(values, dtype=float)
        if metric in ("total", "correct") or form == "avg":
            merged[key] = float(array.mean())
        elif form == "weighted_avg":
            merged[key] = float(
                np.average(array, weights=results[f"{split}_total"])
            )
        elif len(array) > 1:
            merged |= {f"{key}_{k}": v for k, v in _fairness(array).items()}
        else:
            merged[key] = float(array[0])
    return merged


def _fairness(values: np.ndarray) -> dict[str, float]:
    """How evenly the clients fare; a decile holds at least one client."""
    ordered = np.sort(values)
    low = max(1, ordered.size // 10)
    share = (ordered + 1e-9) / np.sum(ordered + 1e-9)
    norm = np.sqrt(np.mean(ordered**2))
    with np.errstate(divide="ignore", invalid="ignore"):
        entropy = -np.sum(share * np.log(share))
    statistics = {
        "std": np.std(ordered),
        "bottom_decile": ordered[ordered.size // 10],
        "top_decile": ordered[ordered.size * 9 // 10],
        "min": ordered[0],
        "max": ordered[-1],
        "bottom10%": np.mean(ordered[:low]),
        "top10%": np.mean(ordered[ordered.size * 9 // 10 :]),
        "cos1": np.mean(ordered) / norm if norm else 1.0,
        "entropy": entropy,
    }
    return {name: float(value) for name, value in statistics.items()}
