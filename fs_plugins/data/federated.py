"""From examples to the data of every client."""

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
from federatedscope.core.auxiliaries.utils import setup_seed
from federatedscope.core.data import StandaloneDataDict

from fs_plugins.config.settings import (
    adapter_args,
    clients_of_a_round,
    device_of,
    is_ours,
    policy_from,
)
from fs_plugins.data.assets import ASSETS, find_asset
from fs_plugins.data.client_data import TextClientData, TextDataset
from fs_plugins.data.examples import Examples
from fs_plugins.data.families import FAMILIES
from fs_plugins.data.gguf import from_gguf
from fs_plugins.data.glue import task_of
from fs_plugins.data.human_eval import load_problems
from fs_plugins.data.split import Parts, split_like, split_train
from fs_plugins.data.tokenizer import end_of_text, load_tokenizer
from fs_plugins.data.tokens import Tokens, default_cache, tokenise
from fs_plugins.errors import UserError
from fs_plugins.model.base import (
    CAUSAL,
    CLASSIFICATION,
    REGRESSION,
    load_model_config,
)
from fs_plugins.model.inputs import Inputs, inputs_of, longest_text
from fs_plugins.policy import KEEP
from fs_plugins.trainer import TRAINERS
from fs_plugins.trainer.scores import score_names

logger = logging.getLogger("federatedscope.fs_plugins")
SPLITS = ("train", "val", "test")
# FederatedScope splits the same way whatever ``seed`` is; so do we.
SPLIT_SEED = 12345
# What answers are scored by, unless the user says otherwise: these data end
# in a number.
METRIC_OF = {"gsm8k": "exact_match", "gsm_symbolic": "exact_match"}


def load(cfg: Any, client_cfgs: Any) -> tuple[Any, Any]:
    """The data of ``<name>@<family>``, split, and the config.

    In distributed mode, those of this process's participant.

    Tells the model what it needs to know (``model.*``) and the monitor
    which metrics to compute, if none are given.
    """
    name, _, family = cfg.data.type.rpartition("@")
    model = _resolve_model(cfg)
    model_config = load_model_config(model, cfg.llm.cache.model)
    train, val, test = _three_splits(cfg, name, family)
    for split, examples in zip(SPLITS, (train, val, test), strict=True):
        if not len(examples):
            raise UserError(
                f"data.splits: {cfg.data.splits} of these data, with "
                f"data.subsample {cfg.data.subsample}, leave no {split} "
                "examples"
            )
    _check_trainer(cfg, train)
    _tell_monitor(cfg, name, train)
    cfg.model.task = _task_of(train)
    cfg.model.num_labels = max(1, len(train.names))
    inputs = inputs_of(model_config, cfg.model.task)
    tokenizer = load_tokenizer(
        model,
        cfg.llm.cache.model,
        model_config,
        needs_end=train.are_instructions,
    )
    tokenizer.padding_side = "left" if inputs.pads_left else "right"
    cfg.model.adapter.classes = [
        str(name) for name in train.names if not train.are_instructions
    ]
    cfg.model.adapter.pad = int(tokenizer.pad_token_id)
    cfg.model.adapter.eos = end_of_text(tokenizer, model_config)
    tokens = [
        tokenise(
            part,
            tokenizer,
            cfg.llm.tok_len,
            cfg.fedsa.token_cache,
            inputs.segments,
        )
        for part in (train, val, test)
    ]
    for part in tokens:
        _check_limits(part, inputs, tokenizer, cfg)
    most, answers = longest_text(model_config), cfg.fedsa.eval.generate
    if answers.examples and 0 < most <= answers.max_new_tokens:
        raise UserError(
            f"fedsa.eval.generate.max_new_tokens: {answers.max_new_tokens} "
            f"leave no room for a prompt in the model's {most} positions"
        )
    parts = _split(cfg, tokens)
    _save_counts(cfg, tokens, parts, train.names)
    file = cfg.fedsa.eval.generate.problems
    problems = load_problems(file) if file else ()
    union = TextDataset(
        tokens[2], sorted(i for part in parts[2] for i in part)
    )
    data: dict[int, Any] = {}
    for client in range(cfg.federate.client_num + 1):
        data[client] = TextClientData(
            _cfg_of(cfg, client_cfgs, client),
            tokenizer,
            **{
                split: TextDataset(
                    whole,
                    shares[client - 1] if client else range(len(whole)),
                )
                for split, whole, shares in zip(
                    SPLITS, tokens, parts, strict=True
                )
            },
        )
        data[client].problems = problems
        data[client].union_data = union
    setup_seed(cfg.seed)  # the host doesn't, after a plugin's data
    if cfg.federate.mode.lower() == "distributed":
        is_server = cfg.distribute.role == "server"
        return data[0 if is_server else cfg.distribute.data_idx], cfg
    return StandaloneDataDict(data, cfg), cfg


def _check_trainer(cfg: Any, examples: Examples) -> None:
    needed = "fedsa_llm" if examples.are_instructions else "fedsa_glue"
    if cfg.trainer.type in TRAINERS and cfg.trainer.type != needed:
        raise UserError(
            f"trainer.type: data.type {cfg.data.type} needs {needed}, not "
            f"{cfg.trainer.type}"
        )


def _tell_monitor(cfg: Any, name: str, examples: Examples) -> None:
    """Which results are to be expected, if the user hasn't said."""
    metrics = set(cfg.eval.metrics)
    generate = cfg.fedsa.eval.generate
    generate.metric = generate.metric or METRIC_OF.get(name.lower(), "rouge_l")
    if examples.are_instructions and generate.examples:
        metrics |= {*score_names(generate.metric, generate.samples)}
        cfg.eval.metrics = sorted(metrics)
    elif cfg.data.type.lower().endswith("@glue") and not metrics:
        cfg.eval.metrics = list(task_of(name).metrics)
    elif not examples.are_instructions and not metrics:
        cfg.eval.metrics = ["acc"]


def _check_limits(
    tokens: Tokens, inputs: Inputs, tokenizer: Any, cfg: Any
) -> None:
    """Refuse texts that the model would trip over, hours later perhaps."""
    most = max(int(tokens.ids.max()), int(tokenizer.pad_token_id))
    if inputs.tokens and most >= inputs.tokens:
        raise UserError(
            f"model.type: the tokenizer has the token {most} "
            f"({tokenizer.convert_ids_to_tokens(most)!r}), and the model has "
            f"embeddings for {inputs.tokens} tokens only, from 0 on; are they "
            "of one model?"
        )
    longest = int(tokens.lengths().max())
    if inputs.positions and longest > inputs.positions:
        raise UserError(
            f"llm.tok_len: {cfg.llm.tok_len} lets a text have {longest} "
            f"tokens, and the model has {inputs.positions} positions; set it "
            f"to at most {inputs.positions}"
        )
    if inputs.ends:
        starts = tokens.ends - tokens.lengths()
        ends = np.add.reduceat(tokens.ids == cfg.model.adapter.eos, starts)
        fewest, most = int(ends.min()), int(ends.max())
        if not fewest or fewest < most:
            end = tokenizer.convert_ids_to_tokens(cfg.model.adapter.eos)
            raise UserError(
                "model.type: this model classifies by end-of-text tokens "
                f"({end!r}), of which every text must contain the same "
                f"number; these contain from {fewest} to {most}"
            )


def _task_of(examples: Examples) -> str:
    if examples.are_instructions:
        return CAUSAL
    return CLASSIFICATION if examples.names else REGRESSION


def _resolve_model(cfg: Any) -> str:
    """The model's name or folder; tells the model builder the rest."""
    name, at, hub = cfg.model.type.rpartition("@")
    if not at or hub not in ("huggingface_llm", "demo"):
        raise UserError(
            f"model.type: {cfg.model.type!r} is not '<hub name or folder>"
            "@huggingface_llm'"
        )
    if hub == "demo":
        name = str(_demo_model(name))
    name = str(Path(name).expanduser()) if name.startswith("~") else name
    cfg.model.type = f"{name}@huggingface_llm"
    if not cfg.llm.adapter.use:
        raise UserError("llm.adapter.use: must be True; LoRA is trained")
    cfg.model.adapter.args = [_scaled(cfg)]
    cfg.model.adapter.cache = cfg.llm.cache.model
    cfg.model.adapter.seed = cfg.seed
    cfg.model.adapter.private = is_ours(cfg) and (
        policy_from(cfg).PRIVATE is KEEP
    )
    cfg.model.adapter.dtype = cfg.fedsa.adapter_dtype
    for option, value in cfg.fedsa.base.items():
        if option in cfg.model.adapter.base:
            cfg.model.adapter.base[option] = value
    cfg.model.adapter.base.device = device_of(cfg)
    return name


def _scaled(cfg: Any) -> dict[str, Any]:
    """The adapter's arguments; with ``fedsa.scale_by_clients`` for N clients.

    alpha sqrt(N / r) with rsLoRA's alpha / sqrt(r).  (Huang et al., arXiv
    2603.08058)
    """
    args = dict(adapter_args(cfg))
    if cfg.fedsa.scale_by_clients:
        alpha = args.get("lora_alpha", 8)  # PEFT's own
        factor = clients_of_a_round(cfg) ** 0.5
        args["lora_alpha"] = alpha * factor
        own = dict(args.get("alpha_pattern") or {})
        if own:  # of layers with an alpha of their own
            args["alpha_pattern"] = {n: a * factor for n, a in own.items()}
    return args


def _demo_model(name: str) -> Path:
    folder = find_asset(name, "model.type")
    for file, digest in ASSETS[name].sha256.items():
        if file.endswith(".gguf"):
            return from_gguf(folder / file, digest, default_cache() / "models")
    return folder


def _three_splits(
    cfg: Any, name: str, family: str
) -> tuple[Examples, Examples, Examples]:
    """Training, validation and test examples.

    GLUE's own test labels are secret: its dev set is our test set.  Where
    there is a test set, as many examples as it has (at most
    ``data.splits[1]`` of the training set) are taken from the training set
    for validation.
    """
    rng = np.random.default_rng(SPLIT_SEED)
    shares = cfg.data.splits
    is_cut = len(shares) == 3 and all(s > 0 for s in shares)
    if not is_cut or sum(shares) > 1 + 1e-9:
        raise UserError(
            f"data.splits: {shares} are not three shares above 0 that sum to "
            "at most 1"
        )
    whole, test = FAMILIES[family.lower()](name, cfg.data.root)
    whole.check(f"data.type: {cfg.data.type}")
    if test is not None:
        test.check(f"data.type: {cfg.data.type} (test)")
    if cfg.data.subsample < 1:
        number = max(1, int(cfg.data.subsample * len(whole)))
        whole = whole.take(rng.permutation(len(whole))[:number])
    if test is None:
        order = rng.permutation(len(whole))
        cuts = (np.cumsum(shares[:2]) * len(whole)).astype(int)
        parts = [whole.take(part) for part in np.split(order, cuts)]
        return parts[0], parts[1], parts[2]
    order = rng.permutation(len(whole))
    size = max(1, min(int(shares[1] * len(whole)), len(test)))
    return whole.take(order[size:]), whole.take(order[:size]), test


def _split(cfg: Any, tokens: list[Tokens]) -> list[Parts]:
    """Each client's part of each split."""
    classes = [_classes(part) for part in tokens]
    train = split_train(classes[0], cfg)
    if not cfg.data.consistent_label_distribution:
        # As in the released FedSA-LoRA code: a draw of its own a split.
        return [train, *(split_train(part, cfg) for part in classes[1:])]
    train_labels = [[classes[0][i] for i in part] for part in train]
    rng = np.random.default_rng(SPLIT_SEED)
    return [
        train,
        *(
            split_like(part, train_labels, rng, what)
            for part, what in zip(
                classes[1:], ("validation", "test"), strict=True
            )
        ),
    ]


def _classes(tokens: Tokens) -> list[int]:
    """What label skew is about; scores are rounded."""
    classes: list[int] = np.rint(tokens.labels).astype(int).tolist()
    return classes


def _save_counts(
    cfg: Any, tokens: list[Tokens], parts: list[Parts], names: Any
) -> None:
    """Log and save how many examples of each class each client has."""
    counts: dict[str, dict[str, dict[str, int]]] = {}
    for split, whole, shares in zip(SPLITS, tokens, parts, strict=True):
        classes = np.array(_classes(whole))
        for client, index in enumerate(shares, 1):
            found, number = np.unique(classes[index], return_counts=True)
            counts.setdefault(str(client), {})[split] = {
                str(names[c] if len(names) else c): int(n)
                for c, n in zip(found, number, strict=True)
            }
    for name, splits in counts.items():
        logger.info("client %s trains on %s", name, splits["train"])
    folder = Path(cfg.outdir)
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "label_counts.json"
    if not file.exists():  # else the run is resumed, or refused
        file.write_text(json.dumps(counts, indent=1), encoding="utf-8")


def _cfg_of(cfg: Any, client_cfgs: Any, client: int) -> Any:
    own = (client_cfgs or {}).get(f"client_{client}")
    if own is None:
        return cfg
    cfg = cfg.clone()
    cfg.merge_from_other_cfg(own)
    return cfg
