"""The embedded host's language models, run as FederatedScope's are."""

import pytest
import torch
import yaml

from fs_plugins.host import find_host

pytestmark = pytest.mark.skipif(
    find_host().name != "embedded",
    reason="it is the embedded host that is tested",
)


@pytest.fixture
def toy_causal(toy_model, tmp_path):
    """The folder of a random GPT-2 with the toy tokenizer."""
    import shutil

    from transformers import GPT2Config, GPT2LMHeadModel

    folder = tmp_path / "toy_causal"
    shutil.copytree(toy_model, folder)
    torch.manual_seed(3)
    GPT2LMHeadModel(
        GPT2Config(vocab_size=64, n_positions=64, n_embd=16, n_layer=2,
                   n_head=2)
    ).save_pretrained(folder)  # fmt: skip
    return folder


@pytest.mark.parametrize("kind", ["json", "jsonl"])
@pytest.mark.parametrize("splitter", ["iid", "meta", "lda"])
def test_fedavg_with_the_llm_trainer(toy_causal, tmp_path, kind, splitter):
    import json

    from federatedscope.main import main

    examples = [
        {
            "instruction": f"w{i % 9} w{i % 7}",
            "input": f"w{i % 5}" if i % 2 else "",
            "output": f"w{i % 9}",
            "category": f"c{i % 4}",
        }
        for i in range(60)
    ]
    text = (
        json.dumps(examples)
        if kind == "json"
        else "\n".join(json.dumps(e) for e in examples)
    )
    (tmp_path / f"toy.{kind}").write_text(text)
    settings = {
        "use_gpu": False,
        "outdir": str(tmp_path / "exp"),
        "early_stop": {"patience": 0},
        "federate": {
            "mode": "standalone",
            "client_num": 3,
            "total_round_num": 2,
            "share_local_model": True,
            "online_aggr": False,
            "save_to": str(tmp_path / "model.ckpt"),
        },
        "data": {
            "root": str(tmp_path),
            "type": f"toy.{kind}@llm",
            "splits": [0.8, 0.1, 0.1],
            "splitter": splitter,
        },
        "llm": {
            "tok_len": 32,
            "adapter": {
                "use": True,
                "args": [{"adapter_package": "peft", "adapter_method": "lora",
                          "r": 2, "target_modules": ["c_attn"]}],
            },
        },
        "dataloader": {"batch_size": 2},
        "model": {"type": f"{toy_causal}@huggingface_llm"},
        "train": {
            "local_update_steps": 2,
            "batch_or_epoch": "batch",
            "optimizer": {"lr": 0.1},
            "is_enable_half": False,
        },
        "criterion": {"type": "CrossEntropyLoss"},
        "trainer": {"type": "llmtrainer"},
        "eval": {"freq": 1, "metrics": ["loss"], "count_flops": False},
    }  # fmt: skip
    file = tmp_path / "llm.yaml"
    file.write_text(yaml.safe_dump(settings))
    main(["--cfg", str(file)])
    (log,) = (tmp_path / "exp").rglob("eval_results.log")
    assert log.read_text().count("Results_weighted_avg") == 2
    state = torch.load(tmp_path / "final_model.ckpt")["model"]
    moved = [v for n, v in state.items() if "lora_B" in n]
    assert moved and all(v.any() for v in moved)


@pytest.fixture
def read(tmp_path):
    """Reads what is in a file of instructions."""
    from types import SimpleNamespace

    from federatedscope.llm.dataset import llm_dataset

    def read(content, kind="jsonl"):
        (tmp_path / f"x.{kind}").write_bytes(content)
        config = SimpleNamespace(
            data=SimpleNamespace(type=f"x.{kind}@llm", root=str(tmp_path)),
            model=SimpleNamespace(type="m@huggingface_llm"),
            llm=SimpleNamespace(tok_len=99),
        )
        return llm_dataset.load_llm_dataset(config)[0]

    return read


class Letters:
    """A tokenizer of which one letter is one token."""

    eos_token = "\0"
    model_max_length = 999

    def __call__(self, text, **_):
        return {"input_ids": [ord(letter) for letter in text]}


@pytest.mark.parametrize("kind", ["json", "jsonl"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_texts_are_read_as_they_are(monkeypatch, read, kind, mark):
    """Lines end with line feeds, not with all that Unicode calls an end."""
    import json

    monkeypatch.setattr(
        "federatedscope.llm.dataloader.get_tokenizer",
        lambda *_: (Letters(), 0),
    )
    outputs = ["a\u2028b", "a\u0085b", "a\u000bb", "a\u001cb", "\ufeffb"]
    rows = [{"instruction": "x", "output": text} for text in outputs]
    rows[0] |= {"input": 0, "category": 0}
    rows[1] |= {"input": "", "category": ""}
    rows[2] |= {"category": "c"}
    dumped = [json.dumps(row, ensure_ascii=False) for row in rows]
    text = f"[{','.join(dumped)}]" if kind == "json" else "\r\n".join(dumped)
    found = read(mark + text.encode(), kind)
    assert len(found) == len(outputs)
    for ids, labels, output in zip(
        found.input_ids, found.labels, outputs, strict=True
    ):
        kept = ids[labels != -100].tolist()
        assert "".join(map(chr, kept)) == f"{output}\0"
    assert found.categories == [0, -1, 1, -1, -1]
    prompts = ["".join(map(chr, ids.tolist())) for ids in found.input_ids]
    assert ["### Input:\n0\n" in p for p in prompts] == [True] + [False] * 4


GOOD = b'{"instruction": "a", "output": "b"}\n'


@pytest.mark.parametrize(
    "kind, content, words",
    [
        ("jsonl", GOOD + b"{", "line 2: not JSON"),
        ("jsonl", GOOD + b"[]", "line 2: not a JSON object"),
        ("jsonl", GOOD + b'{"output": "b"}', "line 2: 'instruction' is not a"),
        ("jsonl", GOOD.replace(b'"b"', b"3"), "line 1: 'output' is not a"),
        ("jsonl", GOOD + GOOD.replace(b"b", b"\\ud83d"), "line 2: 'output'"),
        ("jsonl", GOOD + GOOD.replace(b"b", b"\xe9"), "line 2: not UTF-8"),
        ("json", b"[{}, 3]", "record 1: 'instruction'"),
        ("json", GOOD * 2, "not JSON"),
        ("json", b"{}", "not a list"),
        ("json", b"[" * 99_999, "not JSON"),
    ],
)
def test_what_cannot_be_read_is_named(read, kind, content, words):
    with pytest.raises(ValueError, match=rf"x\.{kind}.*{words}"):
        read(content, kind)
