"""A new client on a finished run's A, and runs that start from an adapter."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tickets import TEST, write

from fs_plugins.commands.personalise import personalise
from fs_plugins.errors import UserError
from fs_plugins.experiment.runs import load_run

WEIGHTS = "adapter_model.safetensors"


def is_a(name):
    return "lora_A" in name or "lambda_d" in name


@pytest.mark.parametrize(
    "method, is_scaled",
    [("lora", True), ("rslora", True), ("dora", False), ("pissa", False)],
)
def test_a_stays_and_b_and_head_are_trained(
    train_tickets, tmp_path, method, is_scaled
):
    folder = train_tickets(
        llm__adapter__args=[
            {
                "adapter_package": "peft",
                "adapter_method": method,
                "r": 2,
                "lora_alpha": 4,
                "target_modules": ["query", "value"],
            }
        ],
        fedsa__scale_by_clients=is_scaled,
        train__optimizer__lr=0.05,
    )
    write("own.csv", [{"mail": r["mail"], "queue": r["queue"]} for r in TEST])
    out = personalise(folder, "own.csv", tmp_path / "out", "east", quiet=True)
    before = load_file(folder / "adapters" / "global" / WEIGHTS)
    after = load_file(Path(out) / "adapters" / "east" / WEIGHTS)
    assert before.keys() == after.keys()
    before = {n: t for n, t in before.items() if "magnitude" not in n}
    for name, value in before.items():
        assert torch.equal(value, after[name]) == is_a(name), name
    found = load_run(out)
    assert found.names == ["east"] and found.is_finished
    # PEFT has loaded the adapter and found the run's logits: the scale of
    # three clients is in lora_alpha.
    model = found.client("east").model()
    config = load_run(folder).client(1).model().peft_config["default"]
    new = model.peft_config["default"]
    assert (new.r, new.lora_alpha) == (config.r, config.lora_alpha)
    if is_scaled:
        assert new.lora_alpha == pytest.approx(4 * 3**0.5)


def test_a_run_begins_with_the_values_of_an_adapter(train_tickets, lab):
    """Its first evaluation is that of the earlier run's last."""
    shares = {"federate__method": "fedit", "fedsa__policy__HEAD": "share"}
    folder = train_tickets(**shares)
    options = {**shares, "train__optimizer__lr": 1e-30}
    again = train_tickets(
        **options,
        federate__restore_from=str(folder / "adapters" / "global"),
        federate__total_round_num=1,
        expname="again",
    )
    first, last = load_run(again).curve[0], load_run(folder).curve[-1]
    for key, value in last["weighted"].items():
        assert first["weighted"][key] == pytest.approx(value, rel=1e-5), key
    other = train_tickets(
        **options, federate__total_round_num=1, expname="other"
    )
    losses = [
        load_run(each).last["weighted"]["test_avg_loss"]
        for each in (again, other)
    ]
    assert losses[0] != pytest.approx(losses[1], rel=1e-3)


def test_what_it_does_is_told_and_done_once(trained_tickets, tmp_path, capsys):
    """A second run would hide in a folder within the first one's."""
    write(tmp_path / "own.csv", TEST)
    asked = (trained_tickets, str(tmp_path / "own.csv"), tmp_path / "out")
    rounds = ["federate.total_round_num", "1"]
    out = personalise(*asked, "east", rounds)
    assert "personalise east: round 1/1" in capsys.readouterr().out
    before = {*tmp_path.rglob("*")}
    with pytest.raises(UserError, match="out/east is there already"):
        personalise(*asked, "east", rounds, quiet=True)
    assert {*tmp_path.rglob("*")} == before
    other = personalise(*asked, "east", [*rounds, "expname", "e2"], quiet=True)
    assert {Path(out).name, Path(other).name} == {"east", "e2"}


def test_what_does_not_fit_is_one_sentence(trained_tickets, lab, tmp_path):
    adapter = trained_tickets / "adapters" / "global"
    args = lab.settings["llm"]["adapter"]["args"][0]

    def refused(said, start=adapter, **args_changed):
        with pytest.raises(UserError, match=said) as caught:
            lab.runner(
                federate__restore_from=str(start),
                llm__adapter__args=[args | args_changed],
            )
        assert "\n" not in str(caught.value)

    refused("neither a file nor the folder of an adapter", tmp_path / "none")
    refused("lora_alpha 4, and llm.adapter.args have 5", lora_alpha=5)
    refused("are r and target_modules the same", r=1)
    refused("put no adapter there", target_modules=["query"])
    refused(
        "has no .*key.*, and the model needs",
        target_modules=["query", "value", "key"],
    )
    refused("init_lora_weights 'pissa'", init_lora_weights="pissa")
    vera = {k: v for k, v in args.items() if "lora" not in k}
    with pytest.raises(UserError, match="of the method LORA"):
        lab.runner(
            federate__restore_from=str(adapter),
            llm__adapter__args=[{**vera, "adapter_method": "vera"}],
        )
    spoilt = tmp_path / "spoilt"
    spoilt.mkdir()
    text = (adapter / "adapter_config.json").read_text()
    (spoilt / "adapter_config.json").write_text(text)
    refused("cannot be used", spoilt)
    (spoilt / WEIGHTS).write_bytes(b"x")
    refused("cannot be used", spoilt)
    (spoilt / "adapter_config.json").write_text(text[:20])
    refused("adapter_config.json cannot be used", spoilt)


def test_a_head_of_other_classes_is_begun_anew(
    trained_tickets, lab, tmp_path, caplog
):
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    source = trained_tickets / "adapters" / "global"
    (adapter / "adapter_config.json").write_bytes(
        (source / "adapter_config.json").read_bytes()
    )
    tensors = load_file(source / WEIGHTS)
    heads = {n for n in tensors if "lora" not in n}
    assert heads
    save_file(
        {
            n: torch.cat([t, t[:1]]) if n in heads else t
            for n, t in tensors.items()
        },
        adapter / WEIGHTS,
    )
    runner = lab.runner(federate__restore_from=str(adapter))
    assert "begun anew" in caplog.text
    start = runner.server.model.state_dict()
    assert sum("lora_A" in name for name in start) == 4


def test_a_run_of_a_model_from_python_says_what_to_do(
    lab, tmp_path, toy_model
):
    from transformers import AutoModelForSequenceClassification

    import fs_plugins

    model = AutoModelForSequenceClassification.from_pretrained(toy_model)
    folder = fs_plugins.run(
        lab.file(federate__total_round_num=1), model=model
    ).folder
    with pytest.raises(UserError, match=r"hand run\.global_model\(\)"):
        personalise(folder, "own.csv", tmp_path / "out")
