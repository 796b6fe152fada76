"""A run tries what it relies on, and says so if it fails."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from helpers import args_of
from transformers import (
    BartConfig,
    BartForCausalLM,
    BertConfig,
    BertLMHeadModel,
    LlamaForCausalLM,
)

from fs_plugins.data.tokenizer import load_tokenizer
from fs_plugins.errors import RunError, UserError
from fs_plugins.experiment.trials import check_batches
from fs_plugins.trainer.generate import batches_agree


def spoil_the_head(monkeypatch):
    """Adapters are saved with another head than they were evaluated with."""
    import peft

    get = peft.get_peft_model_state_dict

    def spoilt(*args, **kwargs):
        found = get(*args, **kwargs)
        return {n: t + ("classifier" in n) for n, t in found.items()}

    monkeypatch.setattr(peft, "get_peft_model_state_dict", spoilt)


def test_an_adapter_that_is_not_what_was_evaluated_is_told(
    lab, fedsa, monkeypatch
):
    """The results stay, and the command does not end with 0."""
    spoil_the_head(monkeypatch)
    found = fedsa("run", "--cfg", lab.file(), "--quiet")
    assert found.returncode == 1
    assert "loaded by PEFT, this adapter's logits differ" in found.stderr
    (summary,) = Path(lab.settings["outdir"]).rglob("summary.json")
    assert json.loads(summary.read_text())["results"]


def test_an_adapter_that_peft_cannot_load_is_told(lab, monkeypatch):
    import peft

    monkeypatch.setattr(peft, "get_peft_model_state_dict", lambda *_, **__: {})
    with pytest.raises(RunError, match="a saved adapter cannot be loaded"):
        lab.run()
    assert list(Path(lab.settings["outdir"]).rglob("summary.json"))


def test_in_lower_precision_the_bound_still_tells(lab, monkeypatch):
    spoil_the_head(monkeypatch)
    with pytest.raises(RunError, match="do not rely on it"):
        lab.run(fedsa__base={"dtype": "bfloat16"})


def test_it_can_be_left_out(lab, monkeypatch):
    spoil_the_head(monkeypatch)
    lab.run(fedsa__reload_tolerance=0)
    lab.run(fedsa__reload_tolerance=100.0)
    with pytest.raises(RunError, match="reload_tolerance"):
        lab.run(fedsa__reload_tolerance=1e-6)


@pytest.mark.parametrize(
    "changes",
    [
        {"federate__method": "feddpa"},
        {"federate__method": "FedAvg"},
        {"federate__method": "local"},
        {"federate__method": "fedit", "fedsa__aggregator": "flora"},
        {"federate__method": "fedit", "fedsa__aggregator": "fedex"},
        {
            "federate__method": "fedit",
            "fedsa__aggregator": "hetlora",
            "fedsa__ranks": [2, 1],
        },
        {"llm__adapter__args": args_of("vera")},
        {"llm__adapter__args": args_of("dora")},
        {"llm__adapter__args": args_of("olora")},
        {"train__is_enable_half": True},
        {"fedsa__base": {"dtype": "bfloat16"}},
        {
            "fedsa__base": {"dtype": "float64"},
            "fedsa__adapter_dtype": "float64",
        },
        {"federate__share_local_model": False},
    ],
    ids=lambda changes: " ".join(map(str, changes.values()))[:50],
)
def test_every_way_of_training_passes(lab, changes):
    lab.run(federate__total_round_num=1, **changes)


class Sums(torch.nn.Module):
    """Answers with a text's sum of tokens: padding counts as text."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, input_ids=None, **more):
        output = self.inner(input_ids=input_ids, **more)
        output.logits = output.logits + input_ids.shape[1]
        return output


@pytest.mark.parametrize("batch", [4, 1])
def test_a_model_that_takes_padding_for_text_is_refused(
    lab, monkeypatch, batch
):
    """Unless there is no padding, in batches of one."""
    trial = "fs_plugins.experiment.runner.check_batches"
    monkeypatch.setattr(trial, lambda runner: None)
    runner = lab.runner(dataloader__batch_size=batch)
    model = runner.server.model
    check_batches(runner)
    inner = model.model
    model.model = Sums(inner)
    try:
        if batch == 1:
            check_batches(runner)
            return
        with pytest.raises(UserError, match="depends on what the text is bat"):
            check_batches(runner)
    finally:
        model.model = inner


def test_the_trial_changes_nothing(lab, monkeypatch):
    """Neither random numbers, nor the model, nor its modes."""
    from fs_plugins.experiment.trials import check_batches

    trial = "fs_plugins.experiment.runner.check_batches"
    monkeypatch.setattr(trial, lambda runner: None)
    runner = lab.runner()
    model = runner.server.model
    next(iter(model.children())).eval()
    modes = [module.training for module in model.modules()]
    before = torch.get_rng_state()
    check_batches(runner)
    assert torch.equal(before, torch.get_rng_state())
    assert modes == [module.training for module in model.modules()]
    assert all(p.grad is None for p in model.parameters())


def test_texts_of_every_split_are_tried(lab, toy_glue, tmp_path):
    """Those to train on may all be of one length."""
    root = tmp_path / "glue"
    shutil.copytree(toy_glue, root)
    train = root / "SST-2/train.tsv"
    header, *rows = train.read_text().splitlines()
    rows = ["w1 w2 w3\t" + row.rpartition("\t")[2] for row in rows]
    train.write_text("\n".join([header, *rows]) + "\n")
    runner = lab.runner(data__root=str(root))
    model = runner.server.model
    inner = model.model
    model.model = Sums(inner)
    try:
        with pytest.raises(UserError, match="depends on what the text is bat"):
            check_batches(runner)
    finally:
        model.model = inner


@pytest.mark.parametrize("is_decoder", [False, True])
def test_a_model_that_sees_what_it_is_to_foretell_is_refused(
    language_lab, toy_llama, tmp_path, is_decoder
):
    folder = tmp_path / "bert"
    shutil.copytree(toy_llama, folder)
    (folder / "model.safetensors").unlink()
    torch.manual_seed(3)
    BertLMHeadModel(
        BertConfig(
            vocab_size=98,
            hidden_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=32,
            initializer_range=0.3,
            is_decoder=is_decoder,
        )
    ).save_pretrained(folder)
    changes = {
        "model__type": f"{folder}@huggingface_llm",
        "llm__adapter__args": [{"r": 2, "target_modules": ["query"]}],
    }
    if is_decoder:
        language_lab.runner(**changes)
        return
    with pytest.raises(UserError, match="looks at the tokens that it is to"):
        language_lab.runner(**changes)


def test_answers_that_depend_on_their_batch_are_given_one_by_one(toy_llama):
    """BART as a language model counts positions from the padding on."""
    tokenizer = load_tokenizer(str(toy_llama), "")
    torch.manual_seed(3)
    bart = BartForCausalLM(
        BartConfig(
            vocab_size=98,
            d_model=16,
            decoder_layers=2,
            decoder_attention_heads=2,
            decoder_ffn_dim=32,
            init_std=0.5,
            max_position_embeddings=128,
        )
    ).eval()
    llama = LlamaForCausalLM.from_pretrained(toy_llama).eval()
    prompts = ["a", "b b b b b b b b b b"]
    with torch.no_grad():
        assert batches_agree(llama, tokenizer, prompts)
        assert not batches_agree(bart, tokenizer, prompts)


def test_more_new_tokens_than_positions_are_refused(language_lab):
    with pytest.raises(UserError, match="max_new_tokens: 256 leave no room"):
        language_lab.runner(fedsa__eval={"generate": {"examples": 1}})


def test_embeddings_that_peft_ties_are_checked_adapter_by_adapter(
    language_lab, toy_llama, tmp_path
):
    """Loaded beside another adapter, PEFT would not tie them."""
    folder = tmp_path / "tied"
    shutil.copytree(toy_llama, folder)
    LlamaForCausalLM.from_pretrained(
        toy_llama, tie_word_embeddings=True
    ).save_pretrained(folder)
    args = {
        "r": 2,
        "target_modules": ["q_proj"],
        "modules_to_save": ["embed_tokens"],
        "ensure_weight_tying": True,
    }
    language_lab.run(
        model__type=f"{folder}@huggingface_llm",
        llm__adapter__args=[args],
        federate__total_round_num=1,
        train__optimizer__lr=0.1,
    )
