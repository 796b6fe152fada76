"""Local training."""

import pytest
import torch
from helpers import assert_near, in_float64, start_of


@pytest.mark.parametrize("name", ["SGD", "Adam", "AdamW", "RMSprop"])
def test_any_optimizer_of_torch(lab, name):
    runner = lab.runner(
        train__optimizer={"type": name, "lr": 0.01},
        federate__total_round_num=1,
    )
    runner.run()
    for name, value in runner.server.aggregator.shared.items():
        assert torch.isfinite(value).all(), name
        start = runner.server.parameters.initial[name]
        assert not torch.equal(value, start)


def test_an_optimizers_own_arguments(lab):
    made = []
    runner = lab.runner(
        train__optimizer={"type": "SGD", "lr": 0.1, "momentum": 0.9},
        federate__total_round_num=1,
    )
    trainer = runner.client[1].trainer
    start = trainer._hook_on_fit_start_init

    def watched(ctx):
        start(ctx)
        if ctx.cur_mode == "train":
            made.append(ctx.optimizer)

    trainer.replace_hook_in_train(
        watched, "on_fit_start", "_hook_on_fit_start_init"
    )
    runner.run()
    assert made[0].defaults["momentum"] == 0.9
    trained = sum(p.numel() for g in made[0].param_groups for p in g["params"])
    parameters = runner.server.parameters
    both = parameters.shared | parameters.kept
    assert trained == sum(p.numel() for p in both.values())


def final_a(lab, **changes):
    runner = lab.runner(
        federate__total_round_num=1,
        dataloader__shuffle=False,
        federate__client_num=1,
        data__splitter="iid",
        data__splitter_args=[],
        **changes,
    )
    runner.run()
    return runner.server.aggregator.shared


def test_clipping_bounds_the_step(lab):
    """One step of SGD with lr 1 moves by the clipped norm."""
    free = final_a(lab, train__local_update_steps=1)
    clipped = final_a(
        lab,
        train__local_update_steps=1,
        train__optimizer__lr=1.0,
        grad__grad_clip=1e-3,
    )
    start = final_a(
        lab, train__local_update_steps=1, train__optimizer__lr=1e-30
    )

    def moved(a):
        return sum((a[n] - start[n]).pow(2).sum() for n in a).sqrt().item()

    assert moved(clipped) <= 1e-3 * 1.001 < moved(free) or moved(free) == 0


def test_epochs(lab):
    runner = lab.runner(
        train__batch_or_epoch="epoch",
        train__local_update_steps=2,
        federate__total_round_num=1,
    )
    counted = {}
    for ID, client in runner.client.items():
        send = client.comm_manager.send

        def recorded(message, ID=ID, send=send):
            if message.msg_type == "model_para":
                counted[ID] = message.content[0]
            send(message)

        client.comm_manager.send = recorded
    runner.run()
    sizes = {ID: len(runner.data[ID].train_data) for ID in runner.client}
    assert counted == {ID: 2 * size for ID, size in sizes.items()}


def test_dropout_depends_on_seed_client_and_round_only(lab):
    """Training a client twice, with others in between, gives the same."""
    args = [{"r": 2, "lora_dropout": 0.5, "target_modules": ["query"]}]
    alone = lab.runner(llm__adapter__args=args, federate__sample_client_num=1)
    crowd = lab.runner(llm__adapter__args=args)
    updates = []
    for runner in (alone, crowd):
        client = runner.client[2]
        client.state = 0
        if runner is crowd:
            torch.manual_seed(99)
            runner.client[1].state = 0
            with runner.server.parameters.loaded():
                runner.client[1].trainer.train()
        with runner.server.parameters.loaded():
            client.trainer.train()
            shared = runner.server.parameters.shared
            updates.append({n: p.detach().clone() for n, p in shared.items()})
    first, second = updates
    assert all(torch.equal(first[n], second[n]) for n in first)


def test_half_precision_computes_in_bfloat16_and_trains_float32(lab):
    """The trained parameters, and so the wire, stay in float32."""
    exact = final_a(lab)
    half = final_a(lab, train__is_enable_half=True)
    for name, value in half.items():
        assert value.dtype == torch.float32
        assert not torch.equal(value, exact[name])
        torch.testing.assert_close(value, exact[name], rtol=0, atol=0.1)


def test_roles_have_learning_rates_of_their_own(lab):
    """LoRA+'s two rates; each parameter moves by its own (SGD, one step)."""
    moves = {}
    for b, head in ((0.0, 0.0), (0.5, 0.01)):
        runner = in_float64(lab).runner(
            fedsa__lr={"B": b, "HEAD": head},
            train__optimizer__lr=0.1,
            train__local_update_steps=1,
            federate__total_round_num=1,
            dataloader__shuffle=False,
        )
        start = {n: v.clone() for n, v in start_of(runner).items()}
        runner.run()
        kept = runner.client[1].kept.values
        moves[b] = {n: (kept[n] - start[n]) for n in kept}
    for name, move in moves[0.0].items():
        factor = 5.0 if "lora_B" in name else 0.1
        assert_near(moves[0.5][name], factor * move)


def test_a_schedule_scales_every_roles_rate(lab):
    rates = []
    runner = lab.runner(
        fedsa__lr={"HEAD": 0.001},
        train__optimizer__lr=0.1,
        train__scheduler={"type": "linear", "warmup_ratio": 0.0},
        federate__total_round_num=2,
    )
    trainer = runner.client[1].trainer
    backward = trainer._hook_on_batch_backward

    def watched(ctx):
        backward(ctx)
        rates.append([g["lr"] for g in ctx.optimizer.param_groups])

    trainer.replace_hook_in_train(
        watched, "on_batch_backward", "_hook_on_batch_backward"
    )
    runner.run()
    expected = [[r * 0.1, r * 0.001] for r in (1.0, 0.75, 0.5, 0.25)]
    assert rates == [pytest.approx(sorted(e)[::-1]) for e in expected]
