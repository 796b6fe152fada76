"""Results of clients, before they are averaged."""

from fs_plugins.worker.results import in_agreement


def test_splits_stay_in_the_order_that_clients_evaluate_them_in():
    """Else the host's log depends on how Python hashes texts."""
    splits = [f"s{number}" for number in range(20)]
    results = {f"{split}_total": 1.0 for split in splits}
    kept = in_agreement({1: results, 2: dict(results)})
    assert [*kept[1]] == [*kept[2]] == [*results]
