"""Tiny random models of the architectures that are covered."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import transformers as hf
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from tokenizers.pre_tokenizers import ByteLevel

WORDS = [f"w{i}" for i in range(60)]
_SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "</s>"]
_SMALL = {
    "vocab_size": 64,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 66,
    "initializer_range": 0.3,
}
_GROUPED = {**_SMALL, "num_key_value_heads": 1}
_ENCODER = {
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
    "pad_token_id": 0,
}


@dataclass(frozen=True)
class Architecture:
    """A model and what an adapter is put on.

    Attributes:
        config: makes the configuration.
        targets: the layers that are adapted.
        kind: of tokenizer: encoder, decoder (words; no padding of its own,
            and no special tokens in a text) or bytes (a decoder's, too).

    """

    config: Callable[[], Any]
    targets: tuple[str, ...] = ("q_proj", "v_proj")
    kind: str = "decoder"


def _bert_like(name: str, **more: Any) -> Architecture:
    config = getattr(hf, f"{name}Config")
    return Architecture(
        lambda: config(**{**_SMALL, **_ENCODER, **more}),
        ("query", "value"),
        "encoder",
    )


def _llama_like(name: str, **more: Any) -> Architecture:
    config = getattr(hf, f"{name}Config")
    ends = {"pad_token_id": None, "bos_token_id": None, "eos_token_id": 3}
    return Architecture(lambda: config(**{**_GROUPED, **ends, **more}))


ARCHITECTURES = {
    "bert": _bert_like("Bert"),
    "roberta": _bert_like("Roberta", pad_token_id=1),
    "electra": _bert_like("Electra", embedding_size=16),
    "albert": _bert_like("Albert", embedding_size=8),
    "distilbert": Architecture(
        lambda: hf.DistilBertConfig(
            vocab_size=64,
            dim=16,
            n_layers=2,
            n_heads=2,
            hidden_dim=32,
            max_position_embeddings=66,
            dropout=0.0,
            attention_dropout=0.0,
            seq_classif_dropout=0.0,
            initializer_range=0.3,
        ),
        ("q_lin", "v_lin"),
        "encoder",
    ),
    "deberta_v2": Architecture(
        lambda: hf.DebertaV2Config(
            **{**_SMALL, **_ENCODER},
            pooler_dropout=0.0,
            relative_attention=True,
        ),
        ("query_proj", "value_proj"),
        "encoder",
    ),
    "mpnet": Architecture(
        lambda: hf.MPNetConfig(**{**_SMALL, **_ENCODER, "pad_token_id": 1}),
        ("q", "v"),
        "encoder",
    ),
    "modernbert": Architecture(
        lambda: hf.ModernBertConfig(
            **_SMALL,
            pad_token_id=0,
            cls_token_id=2,
            sep_token_id=3,
            bos_token_id=2,
            eos_token_id=3,
        ),
        ("Wqkv",),
        "encoder",
    ),
    "xlnet": Architecture(
        lambda: hf.XLNetConfig(
            vocab_size=64,
            d_model=16,
            n_layer=2,
            n_head=2,
            d_inner=32,
            dropout=0.0,
            initializer_range=0.3,
        ),
        ("layer_1", "layer_2"),
        "encoder",
    ),
    "gpt2": Architecture(
        lambda: hf.GPT2Config(
            vocab_size=64,
            n_embd=16,
            n_layer=2,
            n_head=2,
            n_positions=66,
            resid_pdrop=0.0,
            embd_pdrop=0.0,
            attn_pdrop=0.0,
            initializer_range=0.3,
            bos_token_id=3,
            eos_token_id=3,
        ),
        ("c_attn",),
    ),
    "gpt_neox": Architecture(
        lambda: hf.GPTNeoXConfig(**_SMALL, bos_token_id=3, eos_token_id=3),
        ("query_key_value",),
    ),
    "opt": Architecture(
        lambda: hf.OPTConfig(
            vocab_size=64,
            hidden_size=16,
            word_embed_proj_dim=16,
            ffn_dim=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            max_position_embeddings=66,
            dropout=0.0,
            init_std=0.3,
            pad_token_id=1,
            bos_token_id=3,
            eos_token_id=3,
        )
    ),
    "llama": _llama_like("Llama"),
    "mistral": _llama_like("Mistral"),
    # transformers makes its tokenizer byte-level, whatever the files say.
    "qwen2": replace(_llama_like("Qwen2", vocab_size=110), kind="bytes"),
    "qwen3": _llama_like("Qwen3", head_dim=8),
    "gemma": _llama_like("Gemma", head_dim=8, pad_token_id=0),
    "gemma2": _llama_like("Gemma2", head_dim=8, pad_token_id=0),
    "gemma3": _llama_like("Gemma3Text", head_dim=8, pad_token_id=0),
    "phi": _llama_like("Phi"),
    "phi3": Architecture(
        lambda: hf.Phi3Config(**_GROUPED, pad_token_id=0, eos_token_id=3),
        ("qkv_proj",),
    ),
    "mixtral": _llama_like(
        "Mixtral", num_local_experts=2, num_experts_per_tok=1
    ),
    "t5": Architecture(
        lambda: hf.T5Config(
            vocab_size=64,
            d_model=16,
            d_kv=8,
            d_ff=32,
            num_layers=2,
            num_heads=2,
            dropout_rate=0.0,
            classifier_dropout=0.0,
            eos_token_id=3,
            pad_token_id=0,
            decoder_start_token_id=0,
        ),
        ("q", "v"),
        "encoder",
    ),
    "bart": Architecture(
        lambda: hf.BartConfig(
            vocab_size=64,
            d_model=16,
            encoder_layers=2,
            decoder_layers=2,
            encoder_attention_heads=2,
            decoder_attention_heads=2,
            encoder_ffn_dim=32,
            decoder_ffn_dim=32,
            max_position_embeddings=66,
            dropout=0.0,
            init_std=0.3,
            bos_token_id=2,
            eos_token_id=3,
            pad_token_id=0,
            decoder_start_token_id=3,
            forced_eos_token_id=3,
        ),
        kind="encoder",
    ),
}  # fmt: skip
LANGUAGE = [n for n, each in ARCHITECTURES.items() if each.kind != "encoder"]


def make(name: str, folder: Path, is_classifier: bool = True) -> Path:
    """Write a model without a head for classes, and a tokenizer."""
    architecture = ARCHITECTURES[name]
    torch.manual_seed(7)
    config = architecture.config()
    if is_classifier:
        model = hf.AutoModel.from_config(config)
    else:
        model = hf.AutoModelForCausalLM.from_config(config)
    model.save_pretrained(folder)
    kind = architecture.kind
    if not is_classifier and kind == "encoder":
        kind = "decoder"
    _tokenizer(kind).save_pretrained(folder)
    return folder


def _tokenizer(kind: str) -> Any:
    """Of words, or bytes; only an encoder's has special tokens in a text."""
    if kind == "bytes":
        letters = sorted(a for a in ByteLevel.alphabet() if a.isascii())
        blank, line = "\u0120", "\u010a"
        symbols = [*_SPECIAL, *letters, blank, line]
        vocab = {each: i for i, each in enumerate(symbols)}
        return hf.Qwen2Tokenizer(vocab=vocab, merges=[], eos_token="</s>")
    vocab = {word: i for i, word in enumerate(_SPECIAL + WORDS)}
    tokenizer = Tokenizer(models.WordLevel(vocab, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    if kind == "decoder":
        return hf.PreTrainedTokenizerFast(
            tokenizer_object=tokenizer, unk_token="[UNK]", eos_token="</s>"
        )
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A </s>",
        pair="[CLS] $A </s> $B:1 </s>:1",
        special_tokens=[("[CLS]", 2), ("</s>", 3)],
    )
    return hf.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="</s>",
        eos_token="</s>",
    )
