"""Toy models whose layers are not plain matrices."""

import shutil

import pytest
import torch
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    Qwen3MoeConfig,
    Qwen3MoeForCausalLM,
    SqueezeBertConfig,
    SqueezeBertForSequenceClassification,
)

GROUPED = ("q", "k", "v", "post_attention", "intermediate", "output")


@pytest.fixture
def tied(toy_llama, tmp_path):
    """The toy Llama with one matrix for its embeddings and its head."""
    folder = tmp_path / "tied"
    shutil.copytree(toy_llama, folder)
    config = LlamaConfig.from_pretrained(folder)
    config.tie_word_embeddings = True
    torch.manual_seed(7)
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


@pytest.fixture
def experts(toy_llama, tmp_path):
    """A mixture of four experts, whose weights are 3-D parameters."""
    folder = tmp_path / "experts"
    shutil.copytree(toy_llama, folder)
    torch.manual_seed(7)
    Qwen3MoeForCausalLM(
        Qwen3MoeConfig(
            vocab_size=98,
            hidden_size=16,
            moe_intermediate_size=8,
            num_hidden_layers=1,
            num_attention_heads=2,
            num_key_value_heads=1,
            head_dim=8,
            num_experts=4,
            num_experts_per_tok=2,
            max_position_embeddings=256,
            initializer_range=0.3,
            eos_token_id=1,
        )
    ).save_pretrained(folder)
    return folder


@pytest.fixture
def convolutions(toy_model, tmp_path):
    """SqueezeBERT, whose layers are convolutions of width 1."""
    folder = tmp_path / "convolutions"
    shutil.copytree(toy_model, folder)
    torch.manual_seed(7)
    SqueezeBertForSequenceClassification(
        SqueezeBertConfig(
            vocab_size=64,
            hidden_size=16,
            embedding_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=32,
            max_position_embeddings=32,
            initializer_range=0.3,
            **{f"{each}_groups": 1 for each in GROUPED},
        )
    ).save_pretrained(folder)
    return folder
