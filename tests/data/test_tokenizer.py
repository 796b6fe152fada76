"""Special tokens, prompts and answers, whatever the tokenizer does."""

import json
import shutil
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from fs_plugins.data.tokenizer import (
    answer_ids,
    answer_text,
    load_tokenizer,
    prompt_ids,
)
from fs_plugins.errors import UserError

LETTERS = [chr(i) for i in range(32, 127)] + ["\n"]


def of_letters(**special):
    """A token a letter; ``</s>`` is 1 and ``<pad>`` 2."""
    names = ["<unk>", "</s>", "<pad>", *LETTERS]
    vocab = {name: i for i, name in enumerate(names)}
    tokenizer = Tokenizer(models.WordLevel(vocab, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokenizer.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="<unk>", **special
    )


def as_sentencepiece_does():
    """A blank becomes part of a word, and one is put before each text."""
    words = ["\u2581", "\n", *(a for a in LETTERS if a not in " \n")]
    vocab = {name: i for i, name in enumerate(["<unk>", "</s>", *words])}
    tokenizer = Tokenizer(models.BPE(vocab, [], unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(
        prepend_scheme="first", split=False
    )
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="first")
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="<unk>", eos_token="</s>"
    )


def with_ends():
    """It puts an end behind every text."""
    tokenizer = of_letters(eos_token="</s>", pad_token="<pad>")
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", 1)]
    )
    return tokenizer


TOKENIZERS = {
    "letters": lambda: of_letters(eos_token="</s>"),
    "sentencepiece": as_sentencepiece_does,
    "ends": with_ends,
}
texts = st.text("ab 1?\n", max_size=12)


@pytest.fixture(scope="module", params=TOKENIZERS)
def tokenizer(request):
    return TOKENIZERS[request.param]()


@given(texts, texts)
def test_prompt_and_answer_together_are_what_was_written(
    tokenizer, head, answer
):
    """To the letter, and with no end between them."""
    prompt = f"Q: {head}\nA:\n"
    (ids,) = prompt_ids(tokenizer, [prompt])
    (new,) = answer_ids(tokenizer, [prompt], [answer], [ids])
    assert tokenizer.eos_token_id not in [*ids, *new]
    assert answer_text(tokenizer, ids, new) == answer
    assert tokenizer.decode([*ids, *new]).strip() == (prompt + answer).strip()


def test_a_prompt_of_nothing_has_a_token(tokenizer):
    (ids,) = prompt_ids(tokenizer, [""])
    assert ids.tolist() == [tokenizer.eos_token_id]


def config(**values):
    defaults = {
        "pad_token_id": None,
        "eos_token_id": None,
        "is_encoder_decoder": False,
        "model_type": "toy",
    }
    return SimpleNamespace(**{**defaults, **values})


@pytest.mark.parametrize(
    "special, named, expected",
    [
        ({"pad_token": "<pad>", "eos_token": "</s>"}, 5, 5),
        ({"pad_token": "<pad>", "eos_token": "</s>"}, -1, 2),
        ({"pad_token": "<pad>", "eos_token": "</s>"}, None, 2),
        ({"eos_token": "</s>"}, 2, 2),
        ({"eos_token": "</s>"}, None, 1),
        ({"eos_token": "</s>"}, -1, 1),
        ({"eos_token": "</s>"}, 4000, 1),
        ({"sep_token": "</s>"}, None, 1),
    ],
)
def test_what_pads(tmp_path, special, named, expected):
    """A classifier's own, else the tokenizer's, else what ends a text."""
    of_letters(**special).save_pretrained(tmp_path)
    model = config(pad_token_id=named)
    found = load_tokenizer(str(tmp_path), "", model)
    assert found.pad_token_id == expected
    if "eos_token" in special:
        found = load_tokenizer(str(tmp_path), "", model, needs_end=True)
        own = found.pad_token == special.get("pad_token", found.pad_token)
        assert own, "a language model pads with the tokenizer's own"


@pytest.mark.parametrize(
    "special, options, words",
    [
        ({}, {}, "no token to pad with"),
        ({"pad_token": "<pad>"}, {"needs_end": True}, "no end of text"),
        (
            {"eos_token": "</s>"},
            {"config": config(is_encoder_decoder=True)},
            "classifies by the end of a text",
        ),
    ],
)
def test_what_is_missing_is_named(tmp_path, special, options, words):
    of_letters(**special).save_pretrained(tmp_path)
    with pytest.raises(UserError, match=words):
        load_tokenizer(str(tmp_path), "", **options)


PADDINGS = {
    # pad of the tokenizer, pad and end of the model's configuration
    "alike": ("</s>", 3, 3),
    "none in the configuration": ("[PAD]", None, 3),
    "another in the configuration": ("[PAD]", 5, 3),
    "none in the tokenizer": (None, None, 3),
    "none in the tokenizer, one in the configuration": (None, 0, 3),
    "another end in the configuration": (None, None, 9),
}


@pytest.mark.parametrize("case", PADDINGS)
def test_a_result_does_not_depend_on_the_batch(lab, tmp_path, case):
    """Whatever tokenizer and configuration say of padding."""
    from architectures import make

    pad, named, end = PADDINGS[case]
    folder = make("llama", tmp_path / "llama")
    for name, changes in (
        ("config", {"pad_token_id": named, "eos_token_id": end}),
        ("tokenizer_config", {"pad_token": pad} if pad else {}),
    ):
        file = folder / f"{name}.json"
        content = json.loads(file.read_text()) | changes
        file.write_text(json.dumps(content))
    losses = []
    for batch in (1, 8):
        summary = lab.run(
            model__type=f"{folder}@huggingface_llm",
            llm__adapter__args=[{"r": 2, "target_modules": ["q_proj"]}],
            dataloader__batch_size=batch,
            federate__total_round_num=1,
            train__optimizer__lr=1e-30,
        )
        results = summary["results"]["last"]["weighted"]
        losses.append((results["test_acc"], results["test_avg_loss"]))
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_more_tokens_than_embeddings_are_refused(lab, toy_model, tmp_path):
    folder = tmp_path / "small"
    shutil.copytree(toy_model, folder)
    from transformers import AutoModel

    model = AutoModel.from_pretrained(toy_model)
    model.resize_token_embeddings(40)
    model.save_pretrained(folder)
    with pytest.raises(UserError, match=r"'w59'.*40 tokens"):
        lab.runner(model__type=f"{folder}@huggingface_llm")


@pytest.mark.parametrize("name, positions", [("bert", 66), ("roberta", 64)])
def test_texts_longer_than_the_models_positions_are_refused(
    lab, toy_glue, tmp_path, name, positions
):
    """RoBERTa's table has two rows that no token of a text can use."""
    from architectures import make

    folder = make(name, tmp_path / name)
    root = tmp_path / "glue"
    shutil.copytree(toy_glue, root)
    with (root / "SST-2/dev.tsv").open("a") as file:
        file.write(f"{'w1 ' * 200}\t1\n")
    changes = {
        "model__type": f"{folder}@huggingface_llm",
        "data__root": str(root),
        "federate__total_round_num": 1,
    }
    with pytest.raises(UserError, match=rf"has {positions} positions"):
        lab.run(llm__tok_len=positions + 1, **changes)
    lab.run(llm__tok_len=positions, **changes)


@pytest.mark.parametrize("name", ["llama", "gpt2", "bert"])
@pytest.mark.parametrize("batch", [1, 8])
def test_texts_without_tokens_have_a_result(
    lab, toy_glue, tmp_path, notes, name, batch
):
    from architectures import ARCHITECTURES, make

    folder = make(name, tmp_path / name)
    root = tmp_path / "glue"
    shutil.copytree(toy_glue, root)
    for stem in ("train", "dev"):
        with (root / f"SST-2/{stem}.tsv").open("a") as file:
            file.write("\t1\n \t0\n" * 6)
    targets = list(ARCHITECTURES[name].targets)
    summary = lab.run(
        model__type=f"{folder}@huggingface_llm",
        llm__adapter__args=[{"r": 2, "target_modules": targets}],
        data__root=str(root),
        dataloader__batch_size=batch,
        federate__total_round_num=1,
    )
    assert summary["results"]["last"]["weighted"]["test_avg_loss"] > 0
    told = any("texts have no tokens" in each for each in notes)
    assert told == (name != "bert")  # which has special tokens


def test_every_text_must_end_as_often_for_who_classifies_by_the_end(
    lab, toy_glue, tmp_path
):
    from architectures import make

    folder = make("bart", tmp_path / "bart")
    root = tmp_path / "glue"
    shutil.copytree(toy_glue, root)
    with (root / "SST-2/train.tsv").open("a") as file:
        file.write("w1 </s> w2\t1\n")
    with pytest.raises(UserError, match=r"'</s>'.*from 1 to 2"):
        lab.runner(
            model__type=f"{folder}@huggingface_llm",
            data__root=str(root),
            llm__adapter__args=[{"r": 2, "target_modules": ["q_proj"]}],
        )
