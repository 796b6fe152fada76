"""A frozen base model with an adapter."""

import pytest
import torch
from helpers import args_of


@pytest.fixture
def build(lab):
    """Models of one configuration, built one after the other."""
    from fs_plugins.model.build import build
    from fs_plugins.scope import RunScope, building

    cfg = lab.runner().cfg.model
    with building(RunScope()):
        yield lambda: build(cfg)


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


def test_another_run_of_the_configuration_has_a_base_of_its_own(lab):
    """Whether the other run's models are still there or not."""
    from fs_plugins.model.build import build
    from fs_plugins.scope import RunScope, building

    cfg = lab.runner().cfg.model
    models = []
    for _ in range(2):
        with building(RunScope()):
            models.append(build(cfg))
    first, second = (dict(m.model.named_parameters()) for m in models)
    assert all(first[name] is not second[name] for name in first)
    assert all(torch.equal(first[name], second[name]) for name in first)


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


def test_quantization_without_its_package_is_one_sentence(lab, monkeypatch):
    from fs_plugins.errors import UserError
    from fs_plugins.model import pretrained

    monkeypatch.setattr(pretrained.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(UserError, match=r"4bit.*bitsandbytes.*not installed"):
        lab.runner(fedsa__base={"quantize": "4bit"})


@pytest.mark.parametrize("adapter", ["pissa", "olora"])
def test_the_residual_base_is_one_for_all(lab, adapter):
    """What PiSSA takes out of the base model is taken out once."""
    runner = lab.runner(
        llm__adapter__args=args_of(adapter),
        federate__share_local_model=False,
    )
    models = [w.model for w in (runner.server, *runner.client.values())]
    residual = {
        id(p)
        for m in models
        for n, p in m.model.named_parameters()
        if "base_layer.weight" in n
    }
    assert len({id(m) for m in models}) == 4 and len(residual) == 4
    states = [m.state_dict() for m in models]
    assert any(v.any() for n, v in states[0].items() if "lora_B" in n)
    for state in states[1:]:
        assert all(torch.equal(v, states[0][n]) for n, v in state.items())


def test_conv1d_of_gpt2(language_lab, tmp_path, toy_llama):
    """LoRA on layers whose weight is in x out."""
    import shutil

    from transformers import GPT2Config, GPT2LMHeadModel

    shutil.copytree(toy_llama, tmp_path / "gpt2")
    GPT2LMHeadModel(
        GPT2Config(
            vocab_size=98,
            n_embd=16,
            n_layer=1,
            n_head=2,
            n_positions=64,
            bos_token_id=1,
            eos_token_id=1,
        )
    ).save_pretrained(tmp_path / "gpt2")
    runner = language_lab.runner(
        model__type=f"{tmp_path / 'gpt2'}@huggingface_llm",
        llm__adapter__args=[{"r": 2, "target_modules": ["c_attn"]}],
    )
    (a,) = runner.server.parameters.shared.values()
    (b,) = runner.server.parameters.kept.values()
    assert (a.shape, b.shape) == ((2, 16), (48, 2))
    runner.run()
    (b,) = runner.client[1].kept.values.values()
    assert b.any()
