"""Same seed, same numbers; and methods differ in nothing but the method."""

from pathlib import Path

import torch

METHODS = ("fedsa", "fedit", "ffa", "local", "FedAvg")


def test_the_same_seed_gives_the_same_metrics(lab):
    changes = {
        "dataloader__shuffle": True,
        "federate__sample_client_num": 2,
        "llm__adapter__args": [
            {"r": 2, "lora_dropout": 0.3, "target_modules": ["query"]}
        ],
    }
    first, second = (Path(lab.run(**changes)["outdir"]) for _ in range(2))
    metrics = [(p / "metrics.jsonl").read_text() for p in (first, second)]
    assert first != second
    assert metrics[0] == metrics[1]
    assert metrics[0].count("\n") == 3
    other = Path(lab.run(seed=2, **changes)["outdir"])
    assert (other / "metrics.jsonl").read_text() != metrics[0]


def story(lab, method):
    """Split, initial adapter, who is sampled, and each round's batches."""
    changes = {} if method == "local" else {"federate__sample_client_num": 2}
    runner = lab.runner(federate__method=method, **changes)
    told = {
        "split": {
            client: {
                split: getattr(runner.data[client], f"{split}_data").index
                for split in ("train", "val", "test")
            }
            for client in runner.client
        },
        "adapter": {
            n: p.detach().clone()
            for n, p in runner.server.model.model.named_parameters()
            if "lora_" in n or "modules_to_save" in n
        },
        "sampled": [],
        "batches": {},
    }
    if method != "local":
        sample = runner.server.sampler.sample

        def recorded(size):
            told["sampled"].append(sample(size=size))
            return told["sampled"][-1]

        runner.server.sampler.sample = recorded
    for ID, client in runner.client.items():
        forward = client.trainer._hook_on_batch_forward

        def watched(ctx, ID=ID, client=client, forward=forward):
            if ctx.cur_mode == "train":
                key = (ID, client.state)
                told["batches"].setdefault(key, []).append(
                    ctx.data_batch["input_ids"].clone()
                )
            forward(ctx)

        client.trainer.replace_hook_in_train(
            watched, "on_batch_forward", "_hook_on_batch_forward"
        )
    runner.run()
    return told


def test_methods_start_alike_and_see_the_same(lab):
    stories = {method: story(lab, method) for method in METHODS}
    first = stories["fedsa"]
    for method, other in stories.items():
        for client, splits in first["split"].items():
            for split, index in splits.items():
                assert list(index) == list(other["split"][client][split])
        assert first["adapter"].keys() == other["adapter"].keys()
        for name, value in first["adapter"].items():
            assert torch.equal(value, other["adapter"][name])
        if method != "local":
            assert first["sampled"] == other["sampled"]
        common = first["batches"].keys() & other["batches"].keys()
        assert len(common) == 6
        for key in common:
            pairs = zip(
                first["batches"][key], other["batches"][key], strict=True
            )
            assert all(torch.equal(a, b) for a, b in pairs)


def test_a_round_has_batches_of_its_own(lab):
    """A trainer that always drew the same order would pass the above."""
    batches = story(lab, "local")["batches"]
    first, second = batches[(1, 0)][0], batches[(1, 1)][0]
    assert first.shape != second.shape or not torch.equal(first, second)
