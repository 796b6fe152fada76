"""Real models on real text."""

import os
from pathlib import Path

import pytest
import torch
from helpers import assert_near

from fs_plugins.config.load import load_config
from fs_plugins.experiment.runner import build_runner, run

pytestmark = pytest.mark.slow
DEMO = Path(__file__).parent.parent / "yaml_configs" / "demo"
GLUE = "FS_PLUGINS_DATA"
needs_glue = pytest.mark.skipif(
    GLUE not in os.environ,
    reason=f"{GLUE} does not name a folder with glue/RTE, glue/SST-2, gsm8k",
)


def test_fedsa_learns_topics(tmp_path):
    """A few rounds take MiniLM far above the largest class (0.24)."""
    summary = run(
        DEMO / "fedsa.yaml",
        [
            *("outdir", str(tmp_path)),
            *("federate.total_round_num", "5"),
            *("eval.freq", "5"),
            *("llm.tok_len", "24"),
            *("dataloader.batch_size", "8"),
            *("train.optimizer.lr", "0.004"),
        ],
        quiet=True,
    )
    assert summary["results"]["last"]["weighted"]["test_acc"] > 0.5
    communication = summary["communication"]
    # 6 layers x (query, value) x r 8 x hidden 384, in float32
    assert communication["shared_parameters"] == 6 * 2 * 8 * 384
    assert communication["kept_parameters"] == 6 * 2 * 8 * 384 + 384 * 5 + 5


def test_minilm_is_the_published_model(tmp_path):
    """With B at zero, the adapted model is the base model."""
    from transformers import AutoModel, AutoTokenizer

    cfg = load_config(DEMO / "fedsa.yaml", ["outdir", str(tmp_path)])
    runner = build_runner(cfg)
    folder = runner.cfg.model.type.rpartition("@")[0]
    tokenizer = AutoTokenizer.from_pretrained(folder)
    batch = tokenizer(["The match ended in a draw."], return_tensors="pt")
    base = AutoModel.from_pretrained(folder).eval()
    ours = runner.server.model.model.base_model.model.bert.eval()
    with torch.no_grad():
        expected = base(**batch).last_hidden_state
        found = ours(**batch).last_hidden_state
    assert_near(found, expected)


@needs_glue
@pytest.mark.parametrize("task, examples", [("sst2", 872), ("rte", 277)])
def test_glue(tmp_path, task, examples):
    """The official files, end to end."""
    summary = run(
        DEMO / "fedsa.yaml",
        [
            *("outdir", str(tmp_path)),
            *("data.type", f"{task}@glue"),
            *("data.root", str(Path(os.environ[GLUE]) / "glue")),
            *("data.subsample", "0.02" if task == "sst2" else "1.0"),
            *("federate.total_round_num", "1"),
            *("train.local_update_steps", "1"),
            *("eval.freq", "1"),
            *("eval.split", "['val', 'test']"),
            *("llm.tok_len", "16"),
        ],
        quiet=True,
    )
    last = summary["results"]["last"]
    assert last["weighted"]["test_total"] == examples
    assert 0.3 < last["weighted"]["test_acc"] < 1


@needs_glue
def test_gsm8k(tmp_path):
    """The official files: SmolLM2 learns to answer, and is asked."""
    summary = run(
        DEMO / "smollm2.yaml",
        [
            *("outdir", str(tmp_path)),
            *("data.type", "gsm8k@llm"),
            *("data.root", str(Path(os.environ[GLUE]) / "gsm8k")),
            *("data.splitter", "iid"),
            *("federate.client_num", "2"),
            *("eval.split", "['val']"),
            *("data.splits", "[0.99, 0.001, 0.009]"),
            *("data.subsample", "0.3"),
            *("llm.tok_len", "160"),
            *("dataloader.batch_size", "1"),
            *("federate.total_round_num", "1"),
            *("train.local_update_steps", "1"),
            *("fedsa.eval.generate.examples", "1"),
            *("fedsa.eval.generate.max_new_tokens", "8"),
            *("fedsa.reload_tolerance", "0.0"),  # the demos' tests reload
        ],
        quiet=True,
    )
    last = summary["results"]["last"]
    assert last["weighted"]["val_total"] == 2  # of 7473 * 0.3
    # knowing nothing would be log(49152) = 10.8
    assert 0.2 < last["weighted"]["val_avg_loss"] < 2.5
