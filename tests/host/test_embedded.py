"""The embedded host itself."""

import numpy as np
import pytest
import torch
import yaml

from fs_plugins.host import find_host

pytestmark = pytest.mark.skipif(
    find_host().name != "embedded",
    reason="it is the embedded host that is tested",
)


@pytest.fixture
def cfg():
    from federatedscope.core.configs.config import global_cfg

    return global_cfg.clone()


# --- configuration


@pytest.mark.parametrize(
    "key, value",
    [
        ("vertical.use", True),
        ("asyn.use", True),
        ("federate.use_ss", True),
        ("attack.attack_method", "dlg"),
        ("quantization.method", "uniform"),
        ("llm.offsite_tuning.use", True),
    ],
)
def test_what_it_cannot_honour_is_refused(cfg, lab, key, value):
    from fs_plugins.errors import UserError

    with pytest.raises(ValueError, match=f"{key}.*FederatedScope"):
        cfg.merge_from_list([key, value])
    with pytest.raises(UserError, match=f"^{key}: .*install FederatedScope"):
        lab.run(**{key.replace(".", "__"): value})


def test_switched_off_it_is_accepted(cfg):
    from federatedscope.core.configs.keys import SWITCHES

    for key, off in SWITCHES.items():
        cfg.merge_from_list([key, off], check_cfg=False)
    cfg.merge_from_list(["vertical.dims", [5, 10], "wandb.name_user", "me"])


def test_unknown_keys_are_refused(cfg):
    with pytest.raises(KeyError, match=r"federate\.methd"):
        cfg.merge_from_list(["federate.methd", "x"])
    with pytest.raises(ValueError, match="section"):
        cfg.merge_from_list(["federate", 3])


def test_open_sections_take_new_keys(cfg):
    cfg.merge_from_list(["train.optimizer.momentum", 0.9])
    assert cfg.train.optimizer.momentum == 0.9


def test_types(cfg):
    cfg.merge_from_list(["train.optimizer.lr", 1, "seed", 3.0])
    assert cfg.train.optimizer.lr == 1.0 and cfg.seed == 3
    for key, value in (("seed", 0.5), ("seed", "x"), ("eval.metrics", "acc")):
        with pytest.raises(ValueError, match=key):
            cfg.merge_from_list([key, value])


def test_frozen_it_is_written_and_stays(cfg, tmp_path):
    cfg.outdir = str(tmp_path / "run")
    cfg.freeze()
    stored = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    assert stored["federate"]["method"] == "FedAvg"
    with pytest.raises(AttributeError):
        cfg.seed = 5
    copy = cfg.clone()
    copy.defrost()
    copy.seed = 5
    assert cfg.seed == 0


@pytest.mark.parametrize(
    "number, rate, expected",
    [(-1, -1.0, 10), (4, -1.0, 4), (-1, 0.3, 3), (99, -1.0, 10), (4, 0.5, 5)],
)
def test_how_many_clients_take_part(cfg, number, rate, expected):
    cfg.merge_from_list(
        [
            *("federate.client_num", 10),
            *("federate.sample_client_num", number),
            *("federate.sample_client_rate", rate),
        ]
    )
    assert cfg.federate.sample_client_num == expected


def test_client_options_are_told_from_others():
    from federatedscope.core.cmd_args import parse_client_cfg

    options = [
        "client_1.seed",
        "2",
        "clients",
        "3",
        "distribute.role",
        "client",
    ]
    assert parse_client_cfg(options) == (options[2:], options[:2])


# --- trainer


class Recording:
    """Records which triggers are called, in order."""

    def __init__(self, lab):
        self.runner = lab.runner(federate__total_round_num=1)
        self.trainer = self.runner.client[1].trainer
        self.calls = []

    def hook(self, name):
        def hook(ctx):
            self.calls.append(name)

        hook.__name__ = name
        return hook


def test_triggers_are_called_in_order(lab):
    found = Recording(lab)
    for trigger in found.trainer.HOOK_TRIGGER:
        found.trainer.register_hook_in_train(found.hook(trigger), trigger)
    found.trainer.train()
    batch = [f"on_batch_{w}" for w in ("start", "forward", "backward", "end")]
    assert found.calls == [
        "on_fit_start",
        "on_epoch_start",
        *batch,
        *batch,
        "on_epoch_end",
        "on_fit_end",
    ]


def test_hooks_are_put_where_asked(lab):
    found = Recording(lab)
    trainer, trigger = found.trainer, "on_fit_end"
    trainer.reset_hook_in_train(trigger)
    first, second, third, fourth = map(found.hook, "abcd")
    trainer.register_hook_in_train(second, trigger)
    trainer.register_hook_in_train(first, trigger, insert_pos=0)
    trainer.register_hook_in_train(fourth, trigger, base_hook=second,
                                   insert_mode="after")  # fmt: skip
    trainer.register_hook_in_train(third, trigger, base_hook=fourth)
    names = [hook.__name__ for hook in trainer.hooks_in_train[trigger]]
    assert names == ["a", "b", "c", "d"]
    trainer.replace_hook_in_train(found.hook("x"), trigger, "b")
    assert trainer.reset_hook_in_train(trigger, "c") == 2
    assert trainer.reset_hook_in_train(trigger, "nobody") is None
    names = [hook.__name__ for hook in trainer.hooks_in_train[trigger]]
    assert names == ["a", "x", "d"]
    with pytest.raises(ValueError, match="on_tuesday"):
        trainer.register_hook_in_train(first, "on_tuesday")


def test_context_variables_expire(lab):
    from federatedscope.core.trainers import CtxVar

    ctx = lab.runner().client[1].trainer.ctx
    ctx.short, ctx.long = CtxVar(1, "batch"), CtxVar(2, "routine")
    ctx.lasting = 3
    ctx.clear("batch")
    assert "short" not in ctx and ctx.long == 2
    ctx.clear("routine")
    assert "long" not in ctx and ctx.lasting == 3
    with pytest.raises(AttributeError, match="long"):
        ctx.long  # noqa: B018
    with pytest.raises(ValueError, match="tuesday"):
        CtxVar(1, "tuesday")


@pytest.mark.parametrize(
    "steps, mode, plan",
    [
        (2, "batch", (2, 2, 1)),
        (7, "batch", (5, 2, 2)),
        (10, "batch", (5, 5, 2)),
        (3, "epoch", (5, 5, 3)),
    ],
)
def test_batches_and_epochs_of_a_round(lab, steps, mode, plan):
    runner = lab.runner(
        train__local_update_steps=steps,
        train__batch_or_epoch=mode,
        federate__client_num=1,
    )
    ctx = runner.client[1].trainer.ctx
    ctx.num_train_data = 18  # 5 batches of 4, the last one of 2
    found = (
        ctx.num_train_batch,
        ctx.num_train_batch_last_epoch,
        ctx.num_train_epoch,
    )
    assert found == plan
    batches, last, epochs = plan
    assert ctx.num_total_train_batch == batches * (epochs - 1) + last


# --- monitor


RESULTS = {"test_acc": [0.5, 1.0, 0.9], "test_total": [10, 30, 20]}


def test_forms_of_results(lab):
    monitor = lab.runner().server._monitor
    formatted = monitor.format_eval_res(RESULTS, rnd=2, role="Server #")
    assert formatted["Round"] == 2
    weighted = formatted["Results_weighted_avg"]
    assert weighted["test_acc"] == pytest.approx((5 + 30 + 18) / 60)
    assert weighted["test_total"] == 20
    assert formatted["Results_avg"]["test_acc"] == pytest.approx(0.8)
    fairness = formatted["Results_fairness"]
    assert fairness["test_acc_min"] == 0.5 and fairness["test_acc_max"] == 1
    assert fairness["test_acc_std"] == pytest.approx(np.std([0.5, 1, 0.9]))
    assert all(np.isfinite(value) for value in fairness.values())
    assert formatted["Results_raw"] == RESULTS
    raw = monitor.format_eval_res({"a": 1}, 0, "Client #1", return_raw=True)
    assert raw == {"Role": "Client #1", "Round": 0, "Results_raw": {"a": 1}}


def test_logs_can_be_read_back(lab):
    from ast import literal_eval
    from pathlib import Path

    summary = lab.run()
    log = Path(summary["outdir"]) / "eval_results.log"
    lines = [literal_eval(line) for line in log.read_text().splitlines()]
    assert [line["Round"] for line in lines[:4]] == [0, 1, 2, "Final"]
    assert lines[2]["Results_avg"]["test_acc"] == pytest.approx(
        summary["results"]["last"]["mean"]["test_acc"]
    )


@pytest.mark.parametrize("mode", ["best", "mean"])
def test_early_stopping(mode):
    from federatedscope.core.monitors import EarlyStopper

    stopper = EarlyStopper(2, 0, mode, the_larger_the_better=False)
    history, stopped = [], []
    for loss in (3.0, 2.0, 2.5, 2.4, 1.0):
        history.append(loss)
        stopped.append(stopper.track_and_check(history))
    assert stopped == [False, False, False, True, False]
    patient = EarlyStopper(0)
    assert not any(patient.track_and_check([9.0, 1.0]) for _ in range(9))


def test_a_run_stops_early(lab):
    summary = lab.run(
        early_stop__patience=1,
        federate__total_round_num=30,
        train__optimizer__lr=1e-12,
    )
    assert 1 < summary["results"]["last"]["round"] <= 4


# --- federation


def test_sampling():
    from federatedscope.core.sampler import UniformSampler

    sampler = UniformSampler(5)
    np.random.seed(0)
    first = sampler.sample(3)
    second = sampler.sample(2)
    assert sorted(first + second) == [1, 2, 3, 4, 5]
    sampler.change_state(first, "idle")
    assert sorted(sampler.sample(3)) == sorted(first)
    with pytest.raises(ValueError, match="tired"):
        sampler.change_state([1], "tired")


def test_updates_do_not_pile_up(lab):
    """An update is aggregated before the next client trains."""
    runner = lab.runner(federate__client_num=6, federate__total_round_num=1)
    waiting = []
    for client in runner.client.values():
        train = client.trainer.train

        def watched(train=train):
            waiting.append(len(runner.shared_comm_queue))
            return train()

        client.trainer.train = watched
    runner.run()
    assert waiting == [0] * 6


def test_threads_are_left_alone(lab):
    before = torch.get_num_threads()
    lab.run(federate__total_round_num=1)
    assert torch.get_num_threads() == before


def test_main_is_federatedscopes(lab):
    from pathlib import Path

    from federatedscope.main import main

    main(["--cfg", str(lab.file()), "federate.total_round_num", "2"])
    (log,) = Path(lab.settings["outdir"]).rglob("eval_results.log")
    assert log.read_text().count("Results_weighted_avg") == 2


def test_a_registered_worker_is_asked_first(lab):
    from federatedscope import register
    from federatedscope.core.auxiliaries.worker_builder import get_client_cls
    from federatedscope.core.workers import Client, Server

    class Mine(Client):
        pass

    def call(method):
        if method == "fedavg":
            return {"client": Mine, "server": Server}
        return None

    register.register_worker("mine", call)
    try:
        runner = lab.runner(federate__method="FedAvg")
        assert all(type(c) is Mine for c in runner.client.values())
        runner.run()
    finally:
        del register.worker_dict["mine"]
    assert get_client_cls(runner.cfg) is Client
