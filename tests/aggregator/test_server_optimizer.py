"""FedAvgM and FedAdam, against torch and against numpy."""

from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import everything_of, folder_of
from hypothesis import given, settings
from hypothesis import strategies as st

from fs_plugins.aggregator import AGGREGATORS

rounds = st.lists(
    st.lists(
        st.tuples(
            st.integers(1, 50),
            st.lists(st.floats(-3, 3, width=32), min_size=3, max_size=3),
        ),
        max_size=4,
    ),
    min_size=1,
    max_size=5,
)
START = [0.5, -1.0, 2.0]


def run(name, given_rounds, **options):
    start = {"x": torch.tensor(START, dtype=torch.float64)}
    aggregator = AGGREGATORS[name](start, options=options)
    found = []
    for updates in given_rounds:
        for samples, values in updates:
            update = {"x": torch.tensor(values, dtype=torch.float64)}
            aggregator.add(update, samples)
        aggregator.finish()
        found.append(aggregator.shared["x"].numpy())
    return found


def averages(updates):
    weights, values = zip(*updates, strict=True)
    return np.average(np.array(values, np.float64), axis=0, weights=weights)


@given(rounds, st.floats(0, 0.99), st.floats(0.1, 2))
@settings(max_examples=60, deadline=None)
def test_fedavgm_is_torchs_momentum(given_rounds, momentum, lr):
    """SGD on the gradient x - average; a round without updates is none."""
    x = torch.nn.Parameter(torch.tensor(START, dtype=torch.float64))
    optimizer = torch.optim.SGD([x], lr=lr, momentum=momentum)
    found = run("fedavgm", given_rounds, momentum=momentum, lr=lr)
    for result, updates in zip(found, given_rounds, strict=True):
        if updates:
            x.grad = x.detach() - torch.from_numpy(averages(updates))
            optimizer.step()
        scale = 1 + abs(x.detach().numpy()).max()
        np.testing.assert_allclose(
            result, x.detach().numpy(), rtol=0, atol=1e-11 * scale
        )


@given(rounds, st.floats(0, 0.99), st.floats(0, 0.99), st.floats(1e-3, 1))
@settings(max_examples=60, deadline=None)
def test_fedadam_is_the_papers_algorithm(given_rounds, beta1, beta2, tau):
    x, m, v = np.array(START), np.zeros(3), np.full(3, tau**2)
    found = run("fedadam", given_rounds, beta1=beta1, beta2=beta2, tau=tau)
    for result, updates in zip(found, given_rounds, strict=True):
        if updates:
            delta = averages(updates) - x
            m = beta1 * m + (1 - beta1) * delta
            v = beta2 * v + (1 - beta2) * delta * delta
            x = x + m / (np.sqrt(v) + tau)
        np.testing.assert_allclose(result, x, rtol=1e-8, atol=1e-8)


def test_without_momentum_and_at_rate_1_it_is_the_average():
    updates = [[(3, [1.0, 2.0, 3.0]), (1, [5.0, 6.0, 7.0])]]
    plain = run("weighted_average", updates)[0]
    np.testing.assert_allclose(
        run("fedavgm", updates, momentum=0.0)[0], plain, rtol=1e-14
    )


@pytest.mark.parametrize("name", ["fedavgm", "fedadam"])
@pytest.mark.parametrize("method", ["fedsa", "rolora"])
def test_a_killed_run_goes_on_with_its_moments(lab, monkeypatch, name, method):
    from fs_plugins.experiment.runner import resume
    from fs_plugins.worker.client import FedSAClient

    changes = {
        "federate__method": method,
        "federate__total_round_num": 5,
        "fedsa__aggregator": name,
        "fedsa__aggregator_args": {"lr": 0.1},
    }
    whole = Path(lab.run(**changes)["outdir"])
    handle = FedSAClient.callback_funcs_for_model_para

    def killed(self, message):
        if message.state == 3:
            raise SystemExit
        return handle(self, message)

    with monkeypatch.context() as patch:
        patch.setattr(FedSAClient, "callback_funcs_for_model_para", killed)
        with pytest.raises(SystemExit):
            lab.run(**changes)
    folder = folder_of(lab)
    resume(folder, quiet=True)
    assert folder != whole
    assert everything_of(folder) == everything_of(whole)
