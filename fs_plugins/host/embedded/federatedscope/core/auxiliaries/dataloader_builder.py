"""Batches."""

from typing import Any

from torch.utils.data import DataLoader


def get_dataloader(dataset: Any, config: Any, split: str = "train") -> Any:
    """A loader as ``dataloader`` says; only training data is shuffled."""
    options = config.dataloader
    collate = None
    if config.data.type.lower().endswith("@llm"):
        from federatedscope.llm.dataloader import (
            LLMDataCollator,
            get_tokenizer,
        )

        name, hub = config.model.type.split("@")
        tokenizer, _ = get_tokenizer(
            name, config.data.root, config.llm.tok_len, hub
        )
        collate = LLMDataCollator(tokenizer=tokenizer)
    return DataLoader(
        dataset,
        batch_size=options.batch_size,
        shuffle=options.shuffle and split == "train",
        drop_last=options.drop_last and split == "train",
        num_workers=options.num_workers,
        pin_memory=options.pin_memory,
        collate_fn=collate,
    )
