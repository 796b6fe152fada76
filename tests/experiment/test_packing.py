"""A text in a row with others is learned as it is alone, or is refused."""

import copy
import json
import random
import warnings

import numpy as np
import pytest
import torch
import transformers as hf
from architectures import ARCHITECTURES, LANGUAGE, make
from helpers import assert_close, in_float64
from torch.nn.functional import cross_entropy

from fs_plugins.config.load import load_config
from fs_plugins.data.batches import PackingCollator
from fs_plugins.data.tokens import Tokens
from fs_plugins.errors import UserError
from fs_plugins.experiment.packing import _short_texts as short_texts
from fs_plugins.experiment.packing import check_packing

LENGTHS = (9, 7, 5, 2, 1, 6)
SMALL = {
    "vocab_size": 64,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "initializer_range": 0.3,
}
# Models that see what is before a text in its row.
REFUSED = {
    "bloom": lambda: hf.BloomConfig(
        vocab_size=64, hidden_size=16, n_layer=2, n_head=2
    ),
    "mpt": lambda: hf.MptConfig(
        vocab_size=64, d_model=16, n_layers=2, n_heads=2
    ),
    "falcon": lambda: hf.FalconConfig(**SMALL, alibi=True),
    "mamba": lambda: hf.MambaConfig(
        vocab_size=64, hidden_size=16, num_hidden_layers=2, state_size=4
    ),
    "bert": lambda: hf.BertConfig(
        **SMALL, intermediate_size=32, is_decoder=True
    ),
    "lfm2": lambda: hf.Lfm2Config(
        **{**SMALL, "initializer_range": 0.02},
        num_key_value_heads=1,
        intermediate_size=32,
        layer_types=["conv", "full_attention"],
    ),
    "opt": ARCHITECTURES["opt"].config,
}
PACKED = [name for name in LANGUAGE if name not in REFUSED]
WINDOWS = ("mistral", "mixtral", "phi3", "gemma2", "gemma3")


def tokens_of(lengths):
    """Texts of these lengths, of which all but the first token is learned."""
    rng = np.random.default_rng(3)
    return Tokens(
        ids=rng.integers(4, 60, sum(lengths)).astype(np.int32),
        types=np.empty(0, np.int8),
        ends=np.cumsum(lengths, dtype=np.int64),
        prompts=np.ones(len(lengths), np.int64),
        labels=np.zeros(len(lengths), np.int64),
    )


def model_of(config, attention="eager"):
    torch.manual_seed(1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = hf.AutoModelForCausalLM.from_config(
            config, attn_implementation=attention
        )
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    return model


def gradients(loss, model):
    return torch.autograd.grad(
        loss, [*model.parameters()], retain_graph=True, allow_unused=True
    )


def assert_same(found, expected, exact):
    for one, other in zip(found, expected, strict=True):
        if other is None or one is None:
            assert one is other or not (other if one is None else one).any()
            continue
        one, other = one.detach(), other.detach()
        scale = max(1.0, float(other.abs().max()))
        assert float((one - other).abs().max()) / scale < exact


CASES = [(name, 0) for name in PACKED] + [(name, 3) for name in WINDOWS]


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize(
    "name, window", CASES, ids=[f"{n}-window" if w else n for n, w in CASES]
)
def test_loss_and_gradients_are_those_of_each_text_alone(
    name, window, attention
):
    """In float64; with windows that are shorter than the texts, too."""
    if (
        attention == "sdpa"
        and not hf.AutoModelForCausalLM._model_mapping[
            type(ARCHITECTURES[name].config())
        ]._supports_sdpa
    ):
        attention = "eager"  # There is no other one.
    config = ARCHITECTURES[name].config()
    if window:
        config.sliding_window = window
    model = model_of(config, attention)
    # Experts multiply in float32 at most, and eager attention takes the
    # softmax in float32.
    exact = 2e-5 if name == "mixtral" else 2e-6
    if name != "mixtral":
        model.double()
    tokens = tokens_of(LENGTHS)
    batch = PackingCollator(tokens, pad=0)([*range(len(LENGTHS))])
    assert len(batch["labels"]) == 4, "texts share rows"
    output = model(**batch, use_cache=False)
    learned = []
    for row, place in (batch["position_ids"] == 0).nonzero().tolist():
        ids = batch["input_ids"][row]
        number = next(
            i
            for i in range(len(LENGTHS))
            if ids[place : place + LENGTHS[i]].tolist()
            == tokens.ids_of(i).tolist()
        )
        text = torch.tensor(tokens.ids_of(number).tolist())
        alone = model(input_ids=text[None]).logits[0]
        behind = output.logits[row, place : place + len(text)]
        assert_same([behind], [alone], exact)
        if len(text) < 2:
            continue
        losses = [
            cross_entropy(logits[:-1], text[1:]) for logits in (behind, alone)
        ]
        found, expected = (gradients(loss, model) for loss in losses)
        assert_same(losses[:1], losses[1:], exact)
        assert_same(found, expected, exact)
        learned.append(cross_entropy(alone[:-1], text[1:], reduction="none"))
    whole = torch.cat(learned).mean()
    assert_same([output.loss], [whole], exact)
    assert_same(gradients(output.loss, model), gradients(whole, model), exact)


@pytest.fixture
def cfg(language_lab):
    return load_config(language_lab.file(fedsa__data__packing=True))


@pytest.mark.parametrize("name", PACKED)
def test_these_are_taken(cfg, name):
    model = model_of(ARCHITECTURES[name].config())
    check_packing(model, tokens_of(LENGTHS), cfg)


@pytest.mark.parametrize("name", REFUSED)
def test_these_are_refused(cfg, name):
    model = model_of(REFUSED[name]())
    with pytest.raises(UserError, match=r"packing: this model takes .* False"):
        check_packing(model, tokens_of(LENGTHS), cfg)


def test_nothing_is_tried_where_no_two_texts_fit(cfg):
    check_packing(None, tokens_of([5, 5, 5]), cfg)
    assert len(short_texts(tokens_of([5, 5, 5]))) == 1
    assert [len(t) for t in short_texts(tokens_of([9, 2, 3, 4, 8]))] == [
        *(4, 3, 2)
    ]


@pytest.fixture
def uneven(language_lab, tmp_path):
    """Examples of very different lengths."""
    rng = random.Random(0)
    rows = [
        {
            "instruction": f"{i}?",
            "output": "".join(rng.choices("abc ", k=1 + 69 * (i % 4 == 0))),
        }
        for i in range(60)
    ]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (tmp_path / "uneven.jsonl").write_text(text)
    language_lab.settings["data"] |= {
        "root": str(tmp_path),
        "type": "uneven.jsonl@llm",
        "splitter": "iid",
    }
    language_lab.settings["llm"]["tok_len"] = 128
    return in_float64(language_lab)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"grad__grad_accum_count": 2, "dataloader__batch_size": 7},
        {"federate__method": "feddpa", "fedsa__base": {"dtype": "float64"}},
    ],
    ids=["fedsa", "accumulated", "two adapters"],
)
def test_a_run_has_the_same_numbers(uneven, changes):
    found = {}
    for packing in (True, False):
        runner = uneven.runner(
            fedsa__data__packing=packing,
            dataloader__shuffle=True,
            train__optimizer__lr=0.1,
            **changes,
        )
        shapes = [b["input_ids"].shape for b in runner.data[1]["train"]]
        runner.run()
        shared = copy.deepcopy(dict(runner.server.aggregator.shared))
        kept = [dict(c.kept.values) for c in runner.client.values()]
        found[packing] = shared, copy.deepcopy(kept), shapes
    packed, padded = found[True], found[False]
    assert sum(a * b for a, b in packed[2]) < sum(a * b for a, b in padded[2])
    assert_close(packed[0], padded[0])
    for one, other in zip(packed[1], padded[1], strict=True):
        assert_close(one, other)


@pytest.mark.parametrize("name", ["opt", "llama"])
def test_a_run_begins_only_if_it_may(uneven, tmp_path, name):
    folder = make(name, tmp_path / name, is_classifier=False)
    changes = {
        "model__type": f"{folder}@huggingface_llm",
        "fedsa__data__packing": True,
        "fedsa__base": {},
        "fedsa__adapter_dtype": "float32",
    }
    if name == "llama":
        uneven.runner(**changes)
        return
    with pytest.raises(UserError, match=r"fedsa\.data\.packing: this model"):
        uneven.runner(**changes)
    uneven.runner(**{**changes, "fedsa__data__packing": False})


def test_a_classifier_has_nothing_to_pack(lab):
    with pytest.raises(UserError, match="only instructions can be packed"):
        lab.runner(fedsa__data__packing=True)
