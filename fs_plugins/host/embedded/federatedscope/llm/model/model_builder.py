"""Causal language models of transformers."""

from typing import Any

import torch

from federatedscope.llm.dataloader import get_tokenizer
from federatedscope.llm.model.adapter_builder import AdapterModel


def get_llm(config: Any) -> AdapterModel:
    """``<name or folder>@huggingface_llm``, with its adapter."""
    name, hub = config.model.type.split("@")
    tokenizer, added = get_tokenizer(
        name, config.data.root, config.llm.tok_len, hub
    )
    from transformers import AutoModelForCausalLM

    model: Any = AutoModelForCausalLM.from_pretrained(
        name,
        cache_dir=config.llm.cache.model or None,
        trust_remote_code=False,
    )
    if added:
        model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
        with torch.no_grad():
            for layer in (
                model.get_input_embeddings(),
                model.get_output_embeddings(),
            ):
                layer.weight[-added:] = layer.weight[:-added].mean(0)
    adapter = config.llm.adapter
    return AdapterModel(model, use_adapter=adapter.use, **adapter.args[0])
