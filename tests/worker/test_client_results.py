"""Results of clients, before they are averaged."""

from hypothesis import given
from hypothesis import strategies as st

from fs_plugins.worker.client_results import in_agreement

SPLITS = ["test", "val", "train", "union"]


@given(st.permutations(SPLITS), st.integers(1, 4))
def test_splits_stay_in_their_order(splits, clients):
    """In that of a set the logs would differ from process to process."""
    names = [f"{s}_{m}" for s in splits for m in ("acc", "total")]
    results = {i: dict.fromkeys(names, 1) for i in range(1, clients + 1)}
    for found in in_agreement(results).values():
        assert list(found) == names


def test_who_has_other_metrics_than_most_is_left_out():
    usual = {"val_acc": 0.5, "val_total": 2, "test_acc": 0.5, "test_total": 3}
    odd = {"val_acc": 0.5, "val_total": 2, "test_total": 3}
    found = in_agreement({1: usual, 2: odd, 3: usual})
    assert found == {
        1: usual,
        2: {"val_acc": 0.5, "val_total": 2},
        3: usual,
    }
