"""A frozen base model with an adapter."""

import gc

import pytest
import torch


@pytest.fixture
def build(lab):
    """Models of one configuration, built one after the other."""
    from fs_plugins.model.build import build

    cfg = lab.runner().cfg.model
    gc.collect()
    return lambda: build(cfg)


def trained(model):
    return {n: p for n, p in model.model.named_parameters() if p.requires_grad}


def test_models_of_a_configuration_share_the_base_and_nothing_else(build):
    first, second = build(), build()
    own = trained(first).keys()
    assert own == trained(second).keys() and own
    for (name, one), (_, other) in zip(
        first.model.named_parameters(),
        second.model.named_parameters(),
        strict=True,
    ):
        assert torch.equal(one, other)
        assert (one is other) == (name not in own)


def test_what_one_trains_or_freezes_is_nothing_to_the_next(build):
    first = build()
    start = {n: p.detach().clone() for n, p in trained(first).items()}
    for parameter in trained(first).values():
        parameter.data.fill_(9.0)
        parameter.requires_grad_(False)
    second = build()
    assert trained(second).keys() == start.keys()
    for name, parameter in trained(second).items():
        assert torch.equal(parameter, start[name])


def test_the_base_model_is_freed_with_its_last_user(build):
    import weakref

    first = build()
    base = weakref.ref(first.model.base_model)
    second = build()
    del first, second
    gc.collect()
    assert base() is None


def test_state_dict_holds_what_is_trained(build):
    model = build()
    assert model.state_dict().keys() == trained(model).keys()
    changed = {n: v + 1 for n, v in model.state_dict().items()}
    model.load_state_dict(changed)
    for name, value in model.state_dict().items():
        assert torch.equal(value, changed[name])


def test_the_seed_decides_the_adapter_and_nothing_else_does(lab):
    torch.manual_seed(1)
    first = lab.runner(seed=3).server.model.state_dict()
    first = {n: v.clone() for n, v in first.items()}
    gc.collect()
    torch.manual_seed(2)
    second = lab.runner(seed=3).server.model.state_dict()
    other = lab.runner(seed=4).server.model.state_dict()
    assert all(torch.equal(first[n], second[n]) for n in first)
    assert any(not torch.equal(first[n], other[n]) for n in first)


def test_rslora_scales_by_the_root_of_the_rank(lab):
    """Kalajdzievski, arXiv 2312.03732: alpha / sqrt(r)."""
    args = {"r": 4, "lora_alpha": 8, "target_modules": ["query"]}
    for use, scale in ((False, 8 / 4), (True, 8 / 4**0.5)):
        runner = lab.runner(llm__adapter__args=[{**args, "use_rslora": use}])
        layers = [
            m for m in runner.server.model.modules() if hasattr(m, "lora_A")
        ]
        assert layers
        assert all(m.scaling["default"] == scale for m in layers)
        runner.run()
