"""One experiment: from a YAML file to its folder of results."""

import contextlib
import io
import logging
import shutil
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from fs_plugins import HOST
from fs_plugins.config import (
    adapter_args,
    check_update_key,
    check_values,
    is_client,
    is_ours,
)
from fs_plugins.errors import UserError, did_you_mean
from fs_plugins.policy import variant_of
from fs_plugins.report.progress import progress_for
from fs_plugins.report.recorder import Recorder
from fs_plugins.state.adapters import save_adapters


def run(
    cfg_file: str | Path,
    overrides: Sequence[str] = (),
    quiet: bool = False,
    verbose: bool = False,
) -> dict[str, Any]:
    """Run an experiment on the host.

    Args:
        cfg_file: a YAML file of FederatedScope.
        overrides: ``key value`` pairs.
        quiet: show no progress.
        verbose: show the host's log.

    Returns:
        ``outdir``, the folder of the results, and what ``summary.json`` in it
        holds.  A client of a distributed run writes none: its server does.

    Raises:
        UserError: the input is wrong; no folder is left behind.
        RunError: the run cannot go on; what it has trained is saved.

    """
    if not verbose:
        _silence()
    cfg = load_config(cfg_file, overrides)
    begin = time.perf_counter()
    facts = _facts(cfg)
    with _new_folder(cfg, verbose) as folder:
        runner = build_runner(cfg)
        if is_client(cfg):
            runner.run()
            save_adapters(runner, folder / "adapters")
            return {"outdir": str(folder)}
        name = Path(cfg_file).stem
        try:
            with progress_for(name, facts["rounds"], quiet) as progress:
                recorder = Recorder(runner, facts, progress)
                runner.run()
            summary = recorder.finish(time.perf_counter() - begin)
        finally:
            save_adapters(runner, folder / "adapters")
    return summary | {"outdir": str(folder)}


def load_config(cfg_file: str | Path, overrides: Sequence[str] = ()) -> Any:
    """The configuration of an experiment, complete and checked.

    Raises:
        UserError: the file is missing or broken, a key is unknown, a value
            is of the wrong type or not allowed.

    """
    from federatedscope.core.configs.config import global_cfg

    cfg = global_cfg.clone()
    pairs = list(_flatten(_read_yaml(Path(cfg_file))))
    if len(overrides) % 2:
        raise UserError(
            f"{overrides[-1]!r} has no value; after the file come pairs "
            "'key value'"
        )
    pairs += zip(overrides[::2], overrides[1::2], strict=True)
    for key, value in pairs:
        _set(cfg, key, value)
    if not cfg.expname:
        cfg.expname = f"{cfg.federate.method.lower()}_{Path(cfg_file).stem}"
    try:
        cfg.assert_cfg()
    except UserError:
        raise
    except (ValueError, AssertionError) as error:
        raise UserError(f"{cfg_file}: {_one_line(error)}") from error
    check_values(cfg)
    return cfg


def _read_yaml(file: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{file} cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{file} is not YAML: {_one_line(error)}") from error
    if not isinstance(content, dict):
        raise UserError(f"{file} holds no configuration keys")
    return content


def _flatten(
    tree: dict[str, Any], prefix: str = ""
) -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _set(cfg: Any, key: str, value: Any) -> None:
    """Merge one key, so that an error can name it."""
    try:
        cfg.merge_from_other_cfg(_nested(key, value), check_cfg=False)
    except (KeyError, AttributeError, AssertionError) as error:
        known = [k for k, _ in _flatten(cfg) if "__" not in k]
        raise UserError(
            f"{key}: there is no such key{did_you_mean(key, known)}"
        ) from error
    except ValueError as error:
        if "FederatedScope" in str(error):
            raise UserError(_one_line(error)) from error
        now = dict(_flatten(cfg)).get(key)
        kind = type(now).__name__ if now is not None else "section"
        raise UserError(
            f"{key}: {value!r} is of the wrong type; expected: {kind}"
        ) from error


def _nested(key: str, value: Any) -> Any:
    """A configuration with one key in it."""
    from federatedscope.core.configs.config import CN

    for part in reversed(key.split(".")):
        value = {part: value}
    return CN(value)


def _silence() -> None:
    """Keep the host's log off the screen; its file gets it all."""
    log = logging.getLogger("federatedscope")
    log.handlers = [logging.NullHandler()]
    log.propagate = False


@contextlib.contextmanager
def _new_folder(cfg: Any, verbose: bool) -> Iterator[Path]:
    """The experiment's folder; gone again if the user's input was wrong."""
    from federatedscope.core.auxiliaries.logging import update_logger

    above = Path(cfg.outdir).absolute()
    while not above.exists():
        above = above.parent
    log = logging.getLogger("federatedscope")
    try:
        if verbose:
            update_logger(cfg, clear_before_add=True)
        else:
            with contextlib.redirect_stderr(io.StringIO()):
                update_logger(cfg, clear_before_add=True)
            log.handlers = [
                h for h in log.handlers if isinstance(h, logging.FileHandler)
            ]
    except OSError as error:
        raise UserError(
            f"outdir: {cfg.outdir} cannot be made: {error.strerror}"
        ) from error
    folder = Path(cfg.outdir)
    try:
        yield folder
    except UserError:
        if not (folder / "metrics.jsonl").exists():
            _remove(folder, above)
        raise
    finally:
        for handler in log.handlers:
            handler.close()
        log.handlers = [logging.NullHandler()]


def _remove(folder: Path, above: Path) -> None:
    """Remove a folder, and those above it that were made for it."""
    shutil.rmtree(folder, ignore_errors=True)
    for parent in folder.absolute().parents:
        if parent == above:
            return
        with contextlib.suppress(OSError):
            parent.rmdir()


def build_runner(cfg: Any) -> Any:
    """Everything that comes before the first round, in the host's order.

    Args:
        cfg: the configuration; what the data change in it is merged.

    Returns:
        The host's runner, not yet run.

    Raises:
        UserError: the input is wrong.

    """
    from federatedscope.core.auxiliaries.data_builder import get_data
    from federatedscope.core.auxiliaries.runner_builder import get_runner
    from federatedscope.core.auxiliaries.utils import setup_seed
    from federatedscope.core.auxiliaries.worker_builder import (
        get_client_cls,
        get_server_cls,
    )

    setup_seed(cfg.seed)
    try:
        data, modified = get_data(config=cfg.clone(), client_cfgs=None)
        cfg.merge_from_other_cfg(modified)
        check_update_key(cfg)
        only = cfg.federate.client_idx_for_local_train
        if only:
            cfg.federate.client_num = 1
            data = {0: data.get(0), 1: data[only]}
        cfg.freeze()
        return get_runner(
            data=data,
            server_class=get_server_cls(cfg),
            client_class=get_client_cls(cfg),
            config=cfg.clone(),
            client_configs=None,
        )
    except UserError:
        raise
    except (ValueError, AssertionError, FileNotFoundError) as error:
        raise UserError(_one_line(error)) from error


def _facts(cfg: Any) -> dict[str, Any]:
    """What the summary says of a run before it has run."""
    method = cfg.federate.method
    return {
        "schema": 1,
        "method": method.lower() if is_ours(cfg) else method,
        "adapter": variant_of(adapter_args(cfg)),
        "host": HOST.name,
        "host_version": HOST.version,
        "model": cfg.model.type,
        "data": cfg.data.type,
        "clients": cfg.federate.client_num,
        "rounds": cfg.federate.total_round_num,
        "seed": cfg.seed,
    }


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())
