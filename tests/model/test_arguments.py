"""Arguments of PEFT's adapters that are refused, and how."""

import dataclasses
from pathlib import Path

import pytest
from architectures import make
from helpers import LORA
from peft import LoraConfig, VeraConfig
from test_reloaded import EXPERTS, PAIRS
from transformers import GPT2Config, GPT2LMHeadModel

from fs_plugins.errors import UserError
from fs_plugins.model.adapter import _linear
from fs_plugins.model.arguments import COVERED, REFUSED, resolve

FIELDS = {
    field.name: field
    for config in (LoraConfig, VeraConfig)
    for field in dataclasses.fields(config)
}


def test_every_argument_of_peft_is_covered_or_refused():
    """One that a newer PEFT brings is looked at before it is taken."""
    assert not set(COVERED) & REFUSED.keys()
    assert FIELDS.keys() <= {*COVERED, *REFUSED}


@pytest.mark.parametrize("name", sorted(REFUSED.keys() & FIELDS.keys()))
def test_what_is_not_covered_is_refused_by_name(name):
    args = {"r": 2, "target_modules": ["query"]}
    value = {"bias": "lora_only", "trainable_token_indices": [1]}
    with pytest.raises(UserError, match=f": {name}: .* is refused: ") as e:
        resolve({**args, name: value.get(name, True)})
    assert "\n" not in str(e.value)


MISTAKES = {
    # arguments -> what the sentence has
    "two adapters": ([LORA, LORA], r"llm\.adapter\.args: there are 2 entries"),
    "no mapping": (["lora"], "'lora' is not a mapping"),
    "another task": ([{"task_type": "CAUSAL_LM"}], "task_type: 'CAUSAL_LM'"),
    "another type": ([{"peft_type": "VERA"}], "peft_type: 'VERA'"),
    "inference": ([{"inference_mode": True}], "inference_mode: True is"),
    "bias": ([{"bias": "all"}], "bias: 'all' is refused.*lora_bias"),
    "tokens": (
        [{"trainable_token_indices": [3]}],
        "trainable_token_indices: .*modules_to_save",
    ),
    "one name of two": (
        [{"target_modules": ["query", "valeu"]}],
        "target_modules: 'valeu' matches nothing",
    ),
    "a part of a name": (
        [{"target_modules": ["query", "alue"]}],
        "target_modules: 'alue' matches nothing",
    ),
    "one name": (
        [{"target_modules": ["valeu"]}],
        r"target_modules: 'valeu' matches nothing.*\(did you mean 'value'\?\)",
    ),
    "a layer of the head": (
        [{"target_modules": ["query", "classifier"]}],
        "target_modules: 'classifier' is the name of no layer that is adapted",
    ),
    "a layer that is excluded": (
        [{"target_modules": ["query", "key"], "exclude_modules": ["key"]}],
        "target_modules: 'key' is the name of no layer that is adapted",
    ),
    "a name for a list of names": (
        [{"target_modules": "query"}],
        "target_modules: 'query' matches nothing.*a regular expression",
    ),
    "a word": (
        [{"target_modules": "all_linear"}],
        "did you mean 'all-linear'",
    ),
    "a word in a list": (
        [{"target_modules": ["all-linear"]}],
        "'all-linear' stands by itself",
    ),
    "no name": (
        [{"target_modules": ["query", ""]}],
        "target_modules: .* is neither a name nor a list of names",
    ),
    "a number": (
        [{"exclude_modules": 3}],
        "exclude_modules: 3 is neither a name nor a list of names",
    ),
    "an excluded pattern": (
        [{"exclude_modules": "key"}],
        "exclude_modules: 'key' matches nothing",
    ),
    "one stack of two": (
        [{"layers_to_transform": [0], "layers_pattern": ["layer", "blocks"]}],
        "layers_pattern: 'blocks' matches nothing",
    ),
    "a head": (
        [{"modules_to_save": ["classifier", "scroe"]}],
        "modules_to_save: 'scroe' matches nothing",
    ),
    "a parameter": (
        [{"target_parameters": ["output.dense.weight", "dense.wieght"]}],
        "target_parameters: 'dense.wieght' matches nothing",
    ),
    "a rank": (
        [{"rank_pattern": {"qurey": 1}}],
        "rank_pattern: 'qurey' matches nothing",
    ),
    "an alpha": (
        [{"alpha_pattern": {"key": 1}}],
        "alpha_pattern: 'key' matches nothing",
    ),
    "a layer": (
        [{"layers_to_transform": [1, 2]}],
        "layers_to_transform: 2 matches nothing",
    ),
    "excluded": (
        [{"exclude_modules": ["qurey"]}],
        "exclude_modules: 'qurey' matches nothing",
    ),
    "no regular expression": (
        [{"rank_pattern": {"(query": 1}}],
        "PEFT refuses .*rank_pattern",
    ),
    "a string for a rank": (
        [{"r": "two"}],
        "r: 'two' is not a whole number of at least 1",
    ),
    "a rank of a layer": (
        [{"rank_pattern": {"query": 0}}],
        "rank_pattern: 0 is not a whole number",
    ),
    "a string for an alpha": (
        [{"lora_alpha": "16"}],
        "lora_alpha: '16' is not a number",
    ),
    "no pattern": ([{"alpha_pattern": ["query"]}], "is no mapping of layers"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_one_sentence(lab, name):
    entries, words = MISTAKES[name]
    entries = [LORA | e if isinstance(e, dict) else e for e in entries]
    with pytest.raises(UserError, match=words) as error:
        lab.run(
            llm__adapter__args=entries,
            fedsa__ranks=[1],
            fedsa__scale_by_clients=True,
        )
    assert "\n" not in str(error.value)
    assert not Path(lab.settings["outdir"]).exists()


@pytest.mark.parametrize(
    "start", [AttributeError, KeyError, RuntimeError, ImportError]
)
def test_whatever_peft_raises_is_one_sentence(lab, monkeypatch, start):
    def broken(*args, **kwargs):
        raise start("no such thing. And so on\nand on")

    monkeypatch.setattr("peft.get_peft_model", broken)
    with pytest.raises(
        UserError, match=rf"PEFT refuses .*{start.__name__}: '?no such thing"
    ):
        lab.runner(seed=99)


def test_what_peft_takes_for_itself_is_no_mistake(lab):
    """Arguments as PEFT writes them into adapter_config.json."""
    lab.runner(
        llm__adapter__args=[
            {
                **LORA,
                "bias": "none",
                "inference_mode": False,
                "loftq_config": {},
                "megatron_core": "megatron.core",
                "qalora_group_size": 16,
                "revision": None,
                "task_type": "seq_cls",
                "peft_type": "LORA",
            }
        ]
    )


CHOICES = {
    "bert": ("query", "value"),
    "gpt2": ("c_attn",),
    "opt": ("q_proj", "v_proj"),
    "t5": ("q", "v"),
    "albert": "all-linear', or a list of some of .*ffn.*query",
    "distilbert": "all-linear', or a list of some of k_lin.*q_lin",
}


@pytest.mark.parametrize("name", CHOICES)
def test_targets_that_are_left_out_are_pefts_choice(lab, tmp_path, name):
    """Where PEFT has made none, a sentence names what there is."""
    folder = make(name, tmp_path / name)
    changes = {
        "model__type": f"{folder}@huggingface_llm",
        "llm__adapter__args": [{"r": 2}],
    }
    if isinstance(CHOICES[name], str):
        with pytest.raises(UserError, match=CHOICES[name]):
            lab.runner(**changes)
        return
    model = lab.runner(**changes).server.model.model
    found = {n.split(".")[-1] for n in model.base_model.targeted_module_names}
    assert found == {*CHOICES[name]}


@pytest.mark.parametrize(
    "targets, found",
    [
        ("all-linear", {"query", "key", "value", "dense"}),
        (r".*layer\.1.*(query|key)", {"query", "key"}),
    ],
)
def test_targets_may_be_a_string(lab, targets, found):
    args = [{**LORA, "target_modules": targets}]
    model = lab.runner(llm__adapter__args=args).server.model.model
    names = model.base_model.targeted_module_names
    assert {name.split(".")[-1] for name in names} == found
    assert not any("classifier" in name for name in names)


def test_flora_starts_each_round_at_zero(lab):
    """Else it would add its own start to the base model every round."""
    for start in (False, "orthogonal"):
        with pytest.raises(UserError, match=f"init_lora_weights: {start!r}"):
            lab.runner(
                **PAIRS["flora"],
                llm__adapter__args=[{**LORA, "init_lora_weights": start}],
            )


def test_a_tied_adapter_is_refused(language_lab, tied):
    """Its A is the other's B: what is shared would be kept as well."""
    with pytest.raises(UserError, match=r"ensure_weight_tying: .*lm_head"):
        language_lab.runner(
            model__type=f"{tied}@huggingface_llm",
            llm__adapter__args=[
                {
                    "r": 2,
                    "target_modules": ["embed_tokens"],
                    "ensure_weight_tying": True,
                }
            ],
        )


@pytest.mark.parametrize("start", ["olora", "pissa"])
def test_experts_cannot_start_from_their_weights(language_lab, experts, start):
    with pytest.raises(UserError, match="PEFT refuses"):
        language_lab.runner(
            model__type=f"{experts}@huggingface_llm",
            llm__adapter__args=[
                {"r": 2, **EXPERTS, "init_lora_weights": start}
            ],
        )


def test_ranks_go_up_to_the_largest_of_any_layer(lab):
    args = [{**LORA, "rank_pattern": {"value": 3}}]
    runner = lab.runner(llm__adapter__args=args, fedsa__ranks=[3, 1])
    found = {
        n.split(".")[-4]: t.shape[0]
        for n, t in runner.client[1].parameters.sent_by(1, 1).items()
    }
    assert found == {"query": 2, "value": 3}
    with pytest.raises(UserError, match="from 1 to 3"):
        lab.runner(llm__adapter__args=args, fedsa__ranks=[4])


def test_conv1d_layers_are_named_among_those_to_target():
    config = GPT2Config(n_embd=16, n_layer=1, n_head=2, vocab_size=98)
    assert {"c_attn", "c_proj", "c_fc"} < {*_linear(GPT2LMHeadModel(config))}
