"""What a model can take, told from its configuration alone."""

import pytest
import torch
import transformers as hf

from fs_plugins.model.inputs import inputs_of
from fs_plugins.terms import CAUSAL, CLASSIFICATION

SMALL = {
    "vocab_size": 64,
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 32,
}
POSITIONS = {
    "Bert": (66, 66),
    "Roberta": (66, 64),
    "Nystromformer": (66, 66),
    "IBert": (66, 64),
    "RoFormer": (66, 66),
    "Llama": (66, 0),
}


@pytest.mark.parametrize("name", POSITIONS)
def test_texts_of_that_many_tokens_can_be_read_and_no_longer_ones(name):
    """By trying; where positions are computed, any text can be."""
    table, expected = POSITIONS[name]
    config = getattr(hf, f"{name}Config")(
        **SMALL, max_position_embeddings=table, pad_token_id=1
    )
    found = inputs_of(config, CLASSIFICATION)
    assert found.positions == expected and found.tokens == 64
    model = hf.AutoModelForSequenceClassification.from_config(config).eval()
    ids = torch.full((1, expected or 2 * table), 5)
    mask = torch.ones_like(ids)
    with torch.no_grad():
        assert model(input_ids=ids, attention_mask=mask).logits.shape[0] == 1


def test_tables_for_images_are_none_for_texts():
    text = {**SMALL, "num_key_value_heads": 1, "head_dim": 8}
    config = hf.Gemma3Config(
        text_config=text,
        vision_config={
            "hidden_size": 16,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "intermediate_size": 32,
            "image_size": 28,
            "patch_size": 14,
        },
    )
    assert inputs_of(config, CAUSAL).positions == 0


@pytest.mark.parametrize(
    "config, segments",
    [
        (hf.BertConfig(**SMALL), 2),
        (hf.IBertConfig(**SMALL), 2),
        (hf.BertConfig(**SMALL, type_vocab_size=1), 1),
        (hf.GPT2Config(vocab_size=64, n_embd=16, n_layer=1, n_head=2), 0),
        (hf.LlamaConfig(**SMALL), 0),
        (hf.DebertaV2Config(**SMALL), 0),
    ],
    ids=lambda each: type(each).__name__,
)
def test_segments_are_those_of_a_table_of_segments(config, segments):
    """GPT-2 would look them up among its tokens."""
    assert inputs_of(config, CLASSIFICATION).segments == segments


def test_a_model_of_characters_has_no_table_of_tokens():
    config = hf.CanineConfig(
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        num_hash_functions=2,
        num_hash_buckets=8,
    )
    assert inputs_of(config, CLASSIFICATION).tokens == 0
