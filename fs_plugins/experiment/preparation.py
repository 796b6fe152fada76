"""Prepares the data of every client, as the configuration asks for them."""

import copy
import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
from federatedscope.core.auxiliaries.utils import setup_seed
from federatedscope.core.data import StandaloneDataDict

from fs_plugins.data.client_data import TextClientData, TextDataset
from fs_plugins.data.examples import Examples
from fs_plugins.data.federated import (
    SPLITS,
    label_counts,
    split_over_clients,
    three_splits,
)
from fs_plugins.data.glue import task_of
from fs_plugins.data.human_eval import load_problems
from fs_plugins.data.own import expected_examples
from fs_plugins.data.questions import Question, load_questions
from fs_plugins.data.split import Parts
from fs_plugins.data.standardise import settle_scaling
from fs_plugins.data.template import Template, template_of
from fs_plugins.data.tokenizer import (
    end_of_text,
    load_tokenizer,
    set_padding,
)
from fs_plugins.data.tokens import Tokens, tokenise
from fs_plugins.errors import UserError
from fs_plugins.experiment.adapter_files import tell_other_unit
from fs_plugins.experiment.model_settings import (
    describe_given,
    resolve_model,
    scaled_args,
)
from fs_plugins.experiment.run_folder import RunFolder
from fs_plugins.host.configuration import Config
from fs_plugins.model.given import base_model_of, config_of, given_model
from fs_plugins.model.inputs import Inputs, inputs_of, longest_text
from fs_plugins.model.pretrained import load_model_config
from fs_plugins.notes import note
from fs_plugins.scope import begin_run, current_scope
from fs_plugins.settings import has_own_data, is_client, is_distributed
from fs_plugins.terms import (
    CAUSAL,
    CHOICE_METRICS,
    CLASSIFICATION,
    CLASSIFICATION_TRAINER,
    GIVEN,
    LABEL_SET_METRICS,
    LANGUAGE_TRAINER,
    MULTI_LABEL,
    REGRESSION,
    TRAINERS,
)
from fs_plugins.trainer.scores import score_names

logger = logging.getLogger("federatedscope.fs_plugins")
# The default metric of generated answers, by data set; others have rouge_l.
# The answers of these data sets end in a number.
METRIC_OF = {"gsm8k": "exact_match", "gsm_symbolic": "exact_match"}


def load(cfg: Config, client_cfgs: Any) -> tuple[Any, Any]:
    """Load, split and tokenise the data of ``data.type: <name>@<family>``.

    The keys ``model.*`` that depend on the data are filled in, and the
    metrics to compute are set if the user has set none.

    Args:
        cfg: the configuration, which is changed.
        client_cfgs: the settings of single clients, by ``client_<ID>``;
            None if there are none.

    Returns:
        The data and ``cfg``.  The data are each client's by its ID, and all
        clients' data together at 0 for the server.  In distributed mode they
        are the data of the participant in this process.

    Raises:
        UserError: the data, the model and the trainer do not suit each
            other.

    """
    begin_run()
    name, _, family = cfg.data.type.rpartition("@")
    given = given_model(cfg.model.type.rpartition("@")[0])
    if given is not None:
        describe_given(cfg, given)
    model = resolve_model(cfg)
    model_config = (
        load_model_config(model, cfg.llm.cache.model)
        if given is None
        else config_of(given)
    )
    is_bare = has_own_data(cfg) and not is_client(cfg)
    train, val, test = (
        [expected_examples(cfg)] * 3
        if is_bare
        else three_splits(cfg, name, family)
    )
    # The data may have told how many clients there are.
    cfg.model.adapter.args = [scaled_args(cfg)]
    _check_trainer(cfg, train)
    _tell_monitor(cfg, name, train)
    cfg.model.task = _task_of(train)
    settle_scaling(cfg, train)
    tell_other_unit(cfg)
    cfg.model.num_labels = max(1, len(train.names))
    inner = None if given is None else base_model_of(given)
    inputs = inputs_of(model_config, cfg.model.task, inner)
    tokenizer = _tokenizer_of(cfg, model, model_config, train.are_instructions)
    tokenizer.padding_side = "left" if inputs.pads_left else "right"
    cfg.model.adapter.classes = [
        str(name) for name in train.names if not train.are_instructions
    ]
    cfg.model.adapter.pad = int(tokenizer.pad_token_id)
    cfg.model.adapter.eos = end_of_text(tokenizer, model_config)
    _check_room_for_prompts(cfg, model_config)
    if is_bare:
        setup_seed(cfg.seed)
        return TextClientData(cfg, tokenizer), cfg
    splits, template = _templated(cfg, (train, val, test), tokenizer)
    if current_scope().keeps_examples:
        current_scope().examples = splits
    tokens = _tokens_of(cfg, splits, tokenizer, inputs, template)
    parts = split_over_clients(cfg, tokens)
    first = cfg.distribute.data_idx if has_own_data(cfg) else 1
    _save_counts(cfg, label_counts(tokens, parts, train.names, first))
    data = _data_of_clients(cfg, client_cfgs, tokenizer, tokens, parts)
    for each in data.values():
        each.template = template
    # The host does not set the seed again after loading a plugin's data.
    setup_seed(cfg.seed)
    if not is_distributed(cfg):
        return StandaloneDataDict(data, cfg), cfg
    return data[cfg.distribute.data_idx if is_client(cfg) else 0], cfg


def _templated(
    cfg: Config, splits: Sequence[Examples], tokenizer: Any
) -> tuple[Sequence[Examples], Template | None]:
    """The splits with the conversations that a template makes texts of."""
    if not splits[0].are_instructions:
        return splits, None
    template = template_of(cfg.fedsa.chat, splits[0].template, tokenizer)
    if not cfg.fedsa.chat.template:  # Whoever asks the model needs the name.
        cfg.fedsa.chat.template = splits[0].template
    # What is saved beside adapters makes the same texts.
    tokenizer.chat_template = template.source
    return [template.applied_to(split) for split in splits], template


def _tokens_of(
    cfg: Config,
    splits: Sequence[Examples],
    tokenizer: Any,
    inputs: Inputs,
    template: Template | None,
) -> list[Tokens]:
    """The tokens of each split, which the model can process."""
    tokens = [
        tokenise(
            examples,
            tokenizer,
            cfg.llm.tok_len,
            cfg.fedsa.token_cache,
            inputs.segments,
            template,
        )
        for examples in splits
    ]
    for split_tokens in tokens:
        _check_limits(split_tokens, inputs, tokenizer, cfg)
    if cfg.fedsa.data.standardise:  # the scores, before they lose digits
        for each, examples in zip(tokens, splits, strict=True):
            each.labels = np.array(examples.labels, np.float64)
    full = sum(
        int((each.lengths() >= cfg.llm.tok_len).sum()) for each in tokens
    )
    if full:
        note(
            f"{full} of {sum(map(len, tokens))} texts fill llm.tok_len, "
            f"{cfg.llm.tok_len} tokens, and are cut there if they are longer"
        )
    return tokens


def _check_room_for_prompts(cfg: Config, model_config: Any) -> None:
    """Refuse generated answers that would fill all positions of the model."""
    most, answers = longest_text(model_config), cfg.fedsa.eval.generate
    if answers.examples and 0 < most <= answers.max_new_tokens:
        raise UserError(
            f"fedsa.eval.generate.max_new_tokens: {answers.max_new_tokens} "
            f"leave no room for a prompt in the model's {most} positions"
        )


def _tokenizer_of(
    cfg: Config, name: str, model_config: Any, needs_end: bool
) -> Any:
    """The tokenizer of the checkpoint or of the model handed to the run."""
    given = current_scope().given.get("tokenizer")
    if name == GIVEN and given is not None:
        tokenizer = copy.deepcopy(given)
        set_padding(tokenizer, name, model_config, needs_end)
        return tokenizer
    if name == GIVEN:
        name = getattr(model_config, "name_or_path", "")
    if not name:
        raise UserError(
            "model: it does not say where it was loaded from; hand over its "
            "tokenizer, too, as tokenizer="
        )
    return load_tokenizer(name, cfg.llm.cache.model, model_config, needs_end)


def _data_of_clients(
    cfg: Config,
    client_cfgs: Any,
    tokenizer: Any,
    tokens: list[Tokens],
    parts: list[Parts],
) -> dict[int, Any]:
    """Each client's data by its ID; at 0 those of all, for the server."""
    file = cfg.fedsa.eval.generate.problems
    problems = load_problems(file) if file else ()
    questions = _questions_of(cfg)
    union = TextDataset(
        tokens[2], sorted(i for part in parts[2] for i in part)
    )
    own = cfg.distribute.data_idx if has_own_data(cfg) else 0
    data: dict[int, Any] = {}
    for client in [0, own] if own else range(cfg.federate.client_num + 1):
        data[client] = TextClientData(
            _cfg_of(cfg, client_cfgs, client),
            tokenizer,
            **{
                split: TextDataset(
                    whole,
                    shares[client - (own or 1)]
                    if client
                    else range(len(whole)),
                )
                for split, whole, shares in zip(
                    SPLITS, tokens, parts, strict=True
                )
            },
        )
        data[client].problems = problems
        data[client].questions = questions
        data[client].union_data = union
    return data


def _questions_of(cfg: Config) -> list[Question]:
    """The multiple-choice questions that models are evaluated on."""
    options = cfg.fedsa.eval.choices
    if not options.data:
        return []
    separator = cfg.fedsa.data.separator
    return load_questions(
        options.data, cfg.data.root, separator, options.examples
    )


def _check_trainer(cfg: Config, examples: Examples) -> None:
    needed = (
        LANGUAGE_TRAINER
        if examples.are_instructions
        else CLASSIFICATION_TRAINER
    )
    if cfg.trainer.type in TRAINERS and cfg.trainer.type != needed:
        raise UserError(
            f"trainer.type: data.type {cfg.data.type} needs {needed}, not "
            f"{cfg.trainer.type}"
        )


def _tell_monitor(cfg: Config, name: str, examples: Examples) -> None:
    """Set the metrics to compute, if the user has set none.

    The host's monitor reads them from ``eval.metrics``.
    """
    metrics = set(cfg.eval.metrics)
    generate = cfg.fedsa.eval.generate
    generate.metric = generate.metric or METRIC_OF.get(name.lower(), "rouge_l")
    if examples.are_instructions and generate.examples:
        metrics |= {*score_names(generate.metric, generate.samples)}
    if examples.are_instructions and cfg.fedsa.eval.choices.data:
        metrics |= {*CHOICE_METRICS}
    if metrics - {*cfg.eval.metrics}:
        cfg.eval.metrics = sorted(metrics)
    elif cfg.data.type.lower().endswith("@glue") and not metrics:
        cfg.eval.metrics = list(task_of(name).metrics)
    elif examples.are_multi_label and not metrics:
        cfg.eval.metrics = list(LABEL_SET_METRICS)
    elif not examples.are_instructions and not metrics:
        cfg.eval.metrics = ["acc"]


def _check_limits(
    tokens: Tokens, inputs: Inputs, tokenizer: Any, cfg: Config
) -> None:
    """Refuse texts that the model cannot process.

    Without this check the run might fail only after hours.
    """
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
    if examples.are_multi_label:
        return MULTI_LABEL
    return CLASSIFICATION if examples.names else REGRESSION


def _save_counts(cfg: Config, counts: Any) -> None:
    """Log and save how many examples of each class each client has."""
    for name, splits in counts.items():
        logger.info("client %s trains on %s", name, splits["train"])
    RunFolder(cfg.outdir).write_label_counts(counts)


def _cfg_of(cfg: Config, client_cfgs: Any, client: int) -> Any:
    """The configuration of a client, with the client's own settings."""
    settings = (client_cfgs or {}).get(f"client_{client}")
    if settings is None:
        return cfg
    cfg = cfg.clone()
    cfg.merge_from_other_cfg(settings)
    return cfg
