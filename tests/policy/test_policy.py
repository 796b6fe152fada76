"""Roles and policies."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fs_plugins.errors import UserError
from fs_plugins.policy import (
    METHODS,
    Action,
    Role,
    canonical,
    policy_of,
    roles_of,
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
    assert count == [3, 3, 2, 0]


def test_dora_magnitude_is_other():
    name = "base.layer.query.lora_magnitude_vector.default.weight"
    assert roles_of("lora", [name]) == {name: Role.OTHER}


def test_a_parameter_without_a_role_is_named():
    with pytest.raises(UserError, match=r"'base\.layer\.bias' has no role"):
        roles_of("lora", ["base.layer.bias"])


def test_an_unknown_peft_method_is_refused():
    with pytest.raises(UserError, match="did you mean 'lora'"):
        roles_of("lore", [])


@given(
    st.sampled_from(sorted(METHODS)),
    st.dictionaries(
        st.sampled_from([r.value for r in Role]),
        st.sampled_from(["", "share", "KEEP", "Freeze"]),
    ),
)
def test_changes_change_what_they_name_and_nothing_else(method, changes):
    try:
        policy = policy_of(method.upper(), changes)
    except UserError:
        actions = {
            changes.get(r.value, "").lower() or METHODS[method][r].value
            for r in Role
        }
        assert actions == {"freeze"}
        return
    for role in Role:
        wanted = changes.get(role.value, "").lower()
        expected = wanted or METHODS[method][role].value
        assert policy[role].value == expected


@pytest.mark.parametrize(
    "method, changes, words",
    [
        ("fedas", {}, "did you mean 'fedsa'"),
        ("fedsa", {"C": "share"}, "'C'"),
        ("fedsa", {"A": "send"}, "fedsa.policy.A"),
        ("ffa", dict.fromkeys(Role.__members__, "freeze"), "nothing trains"),
    ],
)
def test_bad_policies_are_refused(method, changes, words):
    with pytest.raises(UserError, match=words):
        policy_of(method, changes)


def test_a_peft_method_without_an_entry_is_named():
    with pytest.raises(UserError, match="add an entry 'ia3' to PEFT_METHODS"):
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
