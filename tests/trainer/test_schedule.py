"""Learning rates over the whole run."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fs_plugins.errors import UserError
from fs_plugins.trainer.schedule import schedule


def test_linear_with_warm_up_in_closed_form():
    table = schedule({"type": "linear", "warmup_ratio": 0.1}, (2.0,), 100)
    for step, (rate,) in enumerate(table):
        rise, fall = step / 10, (100 - step) / 90
        assert rate == pytest.approx(2.0 * min(rise, fall), abs=1e-12)


def test_no_schedule_is_constant_for_every_group():
    assert schedule({"type": ""}, (0.1, 0.2), 3) == ((0.1, 0.2),) * 3


@settings(deadline=None, max_examples=20)
@given(st.integers(1, 30), st.floats(1e-4, 1.0))
def test_torch_schedules_are_torchs(steps, rate):
    kwargs = {"step_size": 3, "gamma": 0.5}
    table = schedule({"type": "StepLR", **kwargs}, (rate,), steps)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=rate)
    expected = torch.optim.lr_scheduler.StepLR(optimizer, **kwargs)
    for (found,) in table:
        assert found == optimizer.param_groups[0]["lr"]
        optimizer.step()
        expected.step()


@pytest.mark.parametrize(
    "scheduler, words",
    [
        ({"type": "linaer"}, "there is no 'linaer'"),
        ({"type": "StepLR"}, "step_size"),
        ({"type": "StepLR", "stepsize": 1}, "stepsize"),
    ],
)
def test_bad_schedules(scheduler, words):
    with pytest.raises(UserError, match=words):
        schedule(scheduler, (0.1,), 5)


@pytest.mark.parametrize("method", ["fedsa", "FedAvg"])
def test_a_schedule_does_not_start_afresh_each_round(lab, method):
    """3 rounds x 2 steps are one schedule of 6 steps."""
    runner = lab.runner(
        federate__method=method, train__scheduler__type="linear"
    )
    rates = []
    client = runner.client[1]
    backward = client.trainer._hook_on_batch_backward

    def watched(ctx):
        backward(ctx)
        rates.append(ctx.optimizer.param_groups[0]["lr"])

    client.trainer.replace_hook_in_train(
        watched, "on_batch_backward", "_hook_on_batch_backward"
    )
    runner.run()
    expected = [0.5 * (6 - step) / 6 for step in range(6)]
    assert rates == pytest.approx(expected)
