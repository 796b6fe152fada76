"""What is saved is what was trained, whatever the adapter's arguments.

The adapter that a run saves, loaded by PEFT on a base model that
transformers loads, has the run's logits.
"""

import pytest
import torch
from helpers import IN_FLOAT32, LORA, assert_near, in_float64
from peft import PeftModel
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
)

from fs_plugins.errors import UserError
from fs_plugins.experiment.adapters import save_adapters
from fs_plugins.trainer.dual import weighted_adapters

VERA = {
    "adapter_method": "vera",
    "r": 8,
    "target_modules": ["query", "value"],
    "projection_prng_key": 5,
}
FEDIT = {"federate__method": "fedit"}
# What the adapters are combined with: two methods that part A and B, ...
PLAIN = {
    "fedsa": {},
    "share_b": {"federate__method": "share_b"},
    "fedit, all shared": {**FEDIT, "fedsa__policy": {"HEAD": "share"}},
}
# ... and whatever needs B A.
PAIRS = {
    "rolora": {"federate__method": "rolora"},
    "feddpa": {"federate__method": "feddpa"},
    "ranks": {**FEDIT, "fedsa__ranks": [2, 1, 2]},
    **{
        name: {**FEDIT, "fedsa__aggregator": name}
        for name in ("flora", "fedex", "flexlora", "hetlora")
    },
    "flora, ranks": {
        **FEDIT,
        "fedsa__aggregator": "flora",
        "fedsa__ranks": [2, 1, 2],
    },
    "scale": {"fedsa__scale_by_clients": True},
}
NEED_COMPONENTS = PAIRS.keys() - {"rolora", "scale"}
# Arguments that go with everything.
ANYWHERE = {
    "lora_bias": {"lora_bias": True},
    "rank_pattern": {
        "rank_pattern": {"0.attention.self.query": 1, "value": 3},
        "alpha_pattern": {r"layer\.1.*query": 6, "^bert.*0.*value": 1},
        "use_rslora": True,
    },
    "layers": {
        "layers_to_transform": [1],
        "layers_pattern": "layer",
        "target_modules": ["query", "dense"],
        "exclude_modules": ["output.dense"],
        "lora_dropout": 0.5,
    },
    "embedding": {"target_modules": ["word_embeddings", "query"]},
    "a head by its name": {
        "modules_to_save": "classifier",
        "task_type": "SEQ_CLS",
        "peft_type": "LORA",
        "fan_in_fan_out": True,
        "init_lora_weights": "gaussian",
    },
}
# Starts that FLoRA refuses.
STARTS = {
    "at random": {"init_lora_weights": False},
    "orthogonal": {"init_lora_weights": "orthogonal"},
}
# Arguments that go with what does not need A and B as LoRA has them.
APART = {
    "dora": {"use_dora": True, "rank_pattern": {"query": 1}},
    "olora": {"init_lora_weights": "olora", "alpha_pattern": {"query": 1}},
    "pissa": {
        "init_lora_weights": "pissa_niter_2",
        "rank_pattern": {"0.*query": 1},
        "use_rslora": True,
    },
    "pissa, dora": {"init_lora_weights": "pissa", "use_dora": True},
    "vera": {**VERA, "d_initial": 0.3, "vera_dropout": 0.5},
    "vera, not saved": {**VERA, "save_projection": False},
    "vera, at random": {
        **VERA,
        "init_weights": False,
        "target_modules": ["query", "intermediate.dense"],
    },
    "a parameter": {
        "target_modules": ["query"],
        "target_parameters": ["output.dense.weight"],
    },
}


def check_reloaded(lab, base, load, args, is_double=True, **changes):
    """Run two rounds; then compare each client's adapter with its model."""
    args = LORA | args if "adapter_method" not in args else args
    runner = in_float64(lab, is_double).runner(
        federate__client_num=2,
        federate__total_round_num=2,
        eval__freq=2,
        llm__adapter__args=[args],
        **changes,
    )
    runner.run()
    saved = lab.folder / "saved"
    save_adapters(runner, saved)
    for ID, client in runner.client.items():
        batch = next(iter(runner.data[ID]["test"]))
        own, shared = client.parameters, runner.server.aggregator.shared
        with (
            torch.no_grad(),
            own.loaded(own.sent_to(ID, shared), client.kept.values, client=ID),
            weighted_adapters(
                client.model, 1.0, 0.0
            ),  # without feddpa's private one
        ):
            expected = client.model.eval()(**batch).logits
        plain = load(base, dtype=expected.dtype).eval()
        with torch.no_grad():
            before = plain(**batch).logits
            loaded = PeftModel.from_pretrained(plain, saved / f"client_{ID}")
            found = loaded.eval()(**batch).logits
        assert (before - expected).abs().max() > 1e-3
        assert_near(found, expected)


FLOAT32 = {"pissa start": APART["pissa"], "olora start": APART["olora"]}
ARE_REFUSED = (
    ("embedding", "feddpa"),
    ("at random", "flora"),
    ("at random", "flora, ranks"),
    ("orthogonal", "flora"),
    ("orthogonal", "flora, ranks"),
)
CASES = {
    (name, combined): (args, changes)
    for arguments, combinations in (
        (ANYWHERE, {**PLAIN, **PAIRS}),
        (STARTS, {**PLAIN, **PAIRS}),
        (APART, PLAIN),
        (FLOAT32, {n: PAIRS[n] for n in ("fedex", "flexlora", "hetlora")}),
    )
    for name, args in arguments.items()
    for combined, changes in combinations.items()
    if (name, combined) not in ARE_REFUSED
}


@pytest.mark.parametrize("case", CASES, ids=", ".join)
def test_what_is_saved_is_what_was_trained(lab, toy_model, case):
    args, changes = CASES[case]
    load = AutoModelForSequenceClassification.from_pretrained
    start = str(args.get("init_lora_weights"))
    is_double = not start.startswith(IN_FLOAT32)
    check_reloaded(lab, toy_model, load, args, is_double, **changes)


LINEAR = ["q_proj", "v_proj"]
TIED = {
    "embeddings saved": {"modules_to_save": ["embed_tokens"]},
    "head saved": {"modules_to_save": ["lm_head"]},
    "both saved": {"modules_to_save": ["embed_tokens", "lm_head"]},
    "saved, tied": {
        "modules_to_save": ["embed_tokens"],
        "ensure_weight_tying": True,
    },
    "embeddings": {"target_modules": ["embed_tokens", "q_proj"]},
    "head": {"target_modules": ["lm_head", "q_proj"]},
}
SHARED = {**FEDIT, "fedsa__policy": {"HEAD": "share"}}


@pytest.mark.parametrize(
    "changes",
    [{}, SHARED, {"federate__share_local_model": False}],
    ids=["fedsa", "fedit", "own models"],
)
@pytest.mark.parametrize("name", TIED)
def test_tied_weights(language_lab, tied, name, changes):
    check_reloaded(
        language_lab,
        tied,
        AutoModelForCausalLM.from_pretrained,
        {"target_modules": LINEAR, **TIED[name]},
        model__type=f"{tied}@huggingface_llm",
        **changes,
    )


EXPERTS = {
    "target_modules": ["q_proj"],
    "target_parameters": ["experts.gate_up_proj", "experts.down_proj"],
}


@pytest.mark.parametrize(
    "changes", [{}, {"federate__method": "share_b"}, SHARED]
)
def test_experts(language_lab, experts, changes):
    """Their kernels know no float64."""
    check_reloaded(
        language_lab,
        experts,
        AutoModelForCausalLM.from_pretrained,
        EXPERTS,
        is_double=False,
        model__type=f"{experts}@huggingface_llm",
        **changes,
    )


@pytest.mark.parametrize("name", sorted(NEED_COMPONENTS))
def test_experts_have_no_components(language_lab, experts, name):
    with pytest.raises(
        UserError,
        match=r"A of r rows.* 'model\.layers\.0\.mlp\.experts.*"
        r"target_parameters",
    ):
        language_lab.runner(
            model__type=f"{experts}@huggingface_llm",
            llm__adapter__args=[{"r": 2, **EXPERTS}],
            **PAIRS[name],
        )


@pytest.mark.parametrize("name", [*PLAIN, "ranks"])
def test_convolutions(lab, convolutions, name):
    check_reloaded(
        lab,
        convolutions,
        AutoModelForSequenceClassification.from_pretrained,
        {},
        model__type=f"{convolutions}@huggingface_llm",
        **{**PLAIN, **PAIRS}[name],
    )


@pytest.mark.parametrize("name", ["flora", "fedex", "flexlora", "hetlora"])
def test_convolutions_are_not_multiplied(lab, convolutions, name):
    with pytest.raises(UserError, match=f"{name} multiplies A and B.*query"):
        lab.runner(
            model__type=f"{convolutions}@huggingface_llm", **PAIRS[name]
        )
