"""Roles and policies."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fs_plugins.errors import UserError
from fs_plugins.policy import (
    METHODS,
    Action,
    Role,
    canonical,
    is_a,
    is_b,
    is_embedding,
    is_of_adapter,
    layer_of,
    name_in_base,
    of_rank,
    pairs_of,
    policy_of,
    roles_of,
    saved_names,
    variant_of,
)

SHARE, KEEP, FREEZE = Action.SHARE, Action.KEEP, Action.FREEZE


@pytest.mark.parametrize(
    "method, a, b, head",
    [
        ("fedsa", SHARE, KEEP, KEEP),
        ("fedit", SHARE, SHARE, KEEP),
        ("ffa", FREEZE, SHARE, KEEP),
        ("local", KEEP, KEEP, KEEP),
    ],
)
def test_the_table(method, a, b, head):
    policy = METHODS[method]
    assert (policy[Role.A], policy[Role.B], policy[Role.HEAD]) == (a, b, head)
    assert policy.rule and policy.source


def test_roles_of_a_real_peft_model(toy_model):
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForSequenceClassification

    model = get_peft_model(
        AutoModelForSequenceClassification.from_pretrained(toy_model),
        LoraConfig(
            task_type="SEQ_CLS",
            r=2,
            target_modules=["query", "word_embeddings"],
            use_dora=False,
        ),
    )
    trained = {n: p for n, p in model.named_parameters() if p.requires_grad}
    roles = roles_of("lora", trained)
    assert roles.keys() == trained.keys()
    for name, role in roles.items():
        if role is Role.A:  # r x in; its B is out x r
            other = name.replace("_A", "_B")
            assert roles[other] is Role.B
            assert trained[name].shape[0] == trained[other].shape[1] == 2
    count = [sum(r is role for r in roles.values()) for role in Role]
    assert count == [3, 3, 2, 0, 0]


def test_names_of_a_real_peft_model_and_of_its_file(toy_model):
    """Each A and B, in the model and saved, is known with its layer."""
    from peft import LoraConfig, get_peft_model, get_peft_model_state_dict
    from transformers import AutoModelForSequenceClassification

    base = AutoModelForSequenceClassification.from_pretrained(toy_model)
    in_base = {name for name, _ in base.named_modules()}
    targets = ["query", "word_embeddings"]
    model = get_peft_model(
        base, LoraConfig(task_type="SEQ_CLS", r=2, target_modules=targets)
    )
    saved = get_peft_model_state_dict(model, save_embedding_layers=False)
    trained = [n for n, p in model.named_parameters() if p.requires_grad]
    layers = [n for n in in_base if n.rpartition(".")[2] in targets]
    assert len(layers) == 3
    for names in (trained, saved):
        found = {"a": 0, "b": 0, "head": 0}
        for name in names:
            if is_of_adapter(name):
                assert is_a(name) is not is_b(name)
                assert name_in_base(layer_of(name)) in layers
                found["a" if is_a(name) else "b"] += 1
            else:
                found["head"] += 1
        assert found == {"a": 3, "b": 3, "head": 2}
    for layer in map(layer_of, filter(is_a, saved)):
        which = int(is_embedding(model.get_submodule(layer)))
        assert which == ("embedding" in layer)
        for names in saved_names(layer).values():
            assert names[which] in saved


def test_bs_bias_is_of_the_adapter_and_no_factor():
    for name in ("layer.lora_B.bias", "layer.lora_B.default.bias"):
        assert is_of_adapter(name) and layer_of(name) == "layer"
        assert not is_b(name) and not is_a(name)


def test_pairs_are_of_one_layer():
    names = [
        f"{layer}.{part}"
        for layer in ("base.0.query", "base.1.query")
        for part in ("lora_A.default.weight", "lora_B.default.weight")
    ]
    names += ["base.words.lora_embedding_A.default"]
    names += ["base.words.lora_embedding_B.default"]
    names += ["base.0.query.lora_A.private.weight"]
    names += ["base.head.modules_to_save.default.weight"]
    # B's bias, which comes after it; and a factor whose other is frozen
    names += ["base.0.query.lora_B.default.bias"]
    names += ["base.2.query.lora_B.default.weight"]
    assert pairs_of(roles_of("lora", names)) == {
        "base.0.query": (names[0], names[1]),
        "base.1.query": (names[2], names[3]),
        "base.words": (names[4], names[5]),
    }


def test_a_client_of_lower_rank_has_all_of_bs_bias():
    names = [
        f"layer.lora_{part}"
        for part in ("A.default.weight", "B.default.weight", "B.default.bias")
    ]
    values = (torch.ones(3, 4), torch.ones(5, 3), torch.ones(5))
    found = of_rank(
        dict(zip(names, values, strict=True)), roles_of("lora", names), 2
    )
    assert [tuple(t.shape) for t in found.values()] == [(2, 4), (5, 2), (5,)]


def test_a_private_adapter_has_a_role_of_its_own():
    name = "base.layer.query.lora_A.private.weight"
    assert roles_of("lora", [name]) == {name: Role.PRIVATE}


def test_dora_magnitude_is_other():
    name = "base.layer.query.lora_magnitude_vector.default.weight"
    assert roles_of("lora", [name]) == {name: Role.OTHER}


def test_a_parameter_without_a_role_is_named():
    with pytest.raises(UserError, match=r"'base\.layer\.bias' has no role"):
        roles_of("lora", ["base.layer.bias"])


def test_an_unknown_peft_method_is_refused():
    with pytest.raises(UserError, match="did you mean 'lora'"):
        roles_of("lore", [])


ACTIONS = ("", "share", "KEEP", "Freeze")
some_changes = st.dictionaries(
    st.sampled_from([r.value for r in Role]), st.sampled_from(ACTIONS)
)


@given(
    st.sampled_from(sorted(METHODS)), some_changes, some_changes, some_changes
)
def test_changes_change_what_they_name_and_nothing_else(
    method, changes, odd, even
):
    """In the rounds that they name; a policy that makes no sense is refused.

    What is expected is worked out role by role and round by round.
    """
    expected = {}
    for rnd, own in ((1, odd), (2, even), (3, odd), (8, even)):
        expected[rnd] = {
            role: own.get(role.value, "").lower()
            or changes.get(role.value, "").lower()
            or METHODS[method].in_round(rnd)[role].value
            for role in Role
        }
    over_the_run = {
        role: {expected[1][role], expected[2][role]} for role in Role
    }
    plain = METHODS[method]
    both = list(over_the_run.values())
    is_sensible = (
        all(set(e.values()) != {"freeze"} for e in expected.values())
        and {"share", "keep"} not in both
        and over_the_run[Role.PRIVATE] in ({"keep"}, {"freeze"})
        and (any("share" in r for r in both) or not plain.shares)
    )
    try:
        policy = policy_of(
            method.upper(), {**changes, "odd": odd, "even": even}
        )
    except UserError:
        assert not is_sensible
        return
    assert is_sensible
    for rnd, actions in expected.items():
        found = policy.in_round(rnd)
        assert {role: found[role].value for role in Role} == actions
    for role, rounds in over_the_run.items():
        if "share" in rounds:
            assert policy[role] is Action.SHARE
        elif "keep" in rounds:
            assert policy[role] is Action.KEEP
        else:
            assert policy[role] is Action.FREEZE
    assert policy.shares == any("share" in r for r in both)
    assert policy.keeps == any(policy[role] is Action.KEEP for role in Role)


def test_rolora_begins_with_b():
    """B is zero at first: with it frozen, A would have no gradient."""
    policy = METHODS["rolora"]
    first, second = policy.in_round(1), policy.in_round(2)
    assert (first.A, first.B) == (Action.FREEZE, Action.SHARE)
    assert (second.A, second.B) == (Action.SHARE, Action.FREEZE)
    assert policy[Role.A] is policy[Role.B] is Action.SHARE


@pytest.mark.parametrize(
    "method, changes, words",
    [
        ("fedas", {}, "did you mean 'fedsa'"),
        ("fedsa", {"C": "share"}, "'C'"),
        ("fedsa", {"A": "send"}, "fedsa.policy.A"),
        ("ffa", dict.fromkeys(Role.__members__, "freeze"), "nothing trains"),
        ("fedsa", {"A": "keep"}, "nothing is shared"),
        ("fedsa", {"odd": {"C": "share"}}, r"fedsa\.policy\.odd: there is no"),
        ("fedsa", {"even": {"A": "send"}}, r"fedsa\.policy\.even\.A"),
        (
            "fedsa",
            {"even": dict.fromkeys(Role.__members__, "freeze")},
            r"fedsa\.policy\.even: every role is frozen",
        ),
        ("fedsa", {"odd": {"A": "keep"}}, "A is shared in odd or even"),
        ("feddpa", {"PRIVATE": "share"}, "PRIVATE is kept"),
        ("feddpa", {"even": {"PRIVATE": "freeze"}}, "PRIVATE is kept"),
        ("fedsa", {"A": 1}, r"fedsa\.policy\.A: there is no 1"),
    ],
)
def test_bad_policies_are_refused(method, changes, words):
    with pytest.raises(UserError, match=words):
        policy_of(method, changes)


def test_a_peft_method_without_an_entry_is_named():
    with pytest.raises(UserError, match=r"'ia3'.* register_peft_method"):
        roles_of("ia3", [])


@pytest.mark.parametrize(
    "args, method, name",
    [
        ({}, "lora", "lora"),
        ({"adapter_method": "LoRA", "r": 4}, "lora", "lora"),
        ({"use_rslora": True}, "lora", "rslora"),
        ({"adapter_method": "rslora"}, "lora", "rslora"),
        ({"adapter_method": "dora", "r": 4}, "lora", "dora"),
        ({"init_lora_weights": "pissa"}, "lora", "pissa"),
        ({"adapter_method": "vera"}, "vera", "vera"),
    ],
)
def test_variants_have_names(args, method, name):
    assert canonical(args)[0] == method
    assert variant_of(args) == name
    # the name alone asks for the same
    assert canonical({"adapter_method": name})[0] == method


def test_roles_of_vera():
    names = {"layer.vera_lambda_d.default": Role.A}
    names |= {"layer.vera_lambda_b.default": Role.B}
    assert roles_of("vera", names) == names
