"""Types of the configuration's keys that our code uses, for type checkers.

The attributes of FederatedScope's configuration appear at run time.  A
configuration gets the type ``Config`` where it enters our code: in
``load_config``, and where the host calls us.
"""

from collections.abc import ItemsView, KeysView, Sequence
from typing import Any, Protocol


class Section(Protocol):
    """A part of the configuration whose keys are not all known."""

    def __getitem__(self, key: str) -> Any: ...
    def __setitem__(self, key: str, value: Any) -> None: ...
    def __contains__(self, key: object) -> bool: ...
    def get(self, key: str, default: Any = None) -> Any:
        """The value of a key.

        Args:
            key: the name of the key.
            default: the value if there is no such key.

        """

    def keys(self) -> KeysView[str]:
        """Its keys."""
        ...

    def items(self) -> ItemsView[str, Any]:
        """Keys and values."""
        ...


class Federate(Protocol):
    """The section ``federate``."""

    client_idx_for_local_train: int
    client_num: int
    ignore_weight: bool
    join_in_info: list[str]
    make_global_eval: bool
    method: str
    mode: str
    restore_from: str
    sample_client_num: int
    sample_client_rate: float
    sampler: str
    share_local_model: bool
    total_round_num: int


class Distribute(Protocol):
    """The section ``distribute``."""

    use: bool
    role: str
    data_idx: int
    grpc_max_send_message_length: int
    grpc_max_receive_message_length: int


class Data(Protocol):
    """The section ``data``."""

    consistent_label_distribution: bool
    root: str
    splits: Sequence[float]
    splitter: str
    splitter_args: list[dict[str, Any]]
    subsample: float
    type: str


class DataLoader(Protocol):
    """The section ``dataloader``."""

    batch_size: int
    drop_last: bool


class Base(Section, Protocol):
    """The sections ``fedsa.base`` and ``model.adapter.base``."""

    dtype: str
    quantize: str
    gradient_checkpointing: bool


class BaseOnDevice(Base, Protocol):
    """The section ``model.adapter.base``."""

    device: str


class ModelAdapter(Section, Protocol):
    """The section ``model.adapter``: what our data tell the model."""

    args: list[dict[str, Any]]
    base: BaseOnDevice
    cache: str
    classes: list[str]
    dtype: str
    eos: int
    pad: int
    private: bool
    seed: int
    start: str


class Model(Protocol):
    """The section ``model``."""

    adapter: ModelAdapter
    num_labels: int
    task: str
    type: str


class Adapter(Protocol):
    """The section ``llm.adapter``."""

    args: list[dict[str, Any]]
    use: bool


class ModelCache(Protocol):
    """The section ``llm.cache``."""

    model: str


class LanguageModel(Protocol):
    """The section ``llm``."""

    adapter: Adapter
    cache: ModelCache
    tok_len: int


class Optimizer(Section, Protocol):
    """The sections ``train.optimizer`` and ``finetune.optimizer``."""

    lr: float
    type: str


class Scheduler(Section, Protocol):
    """The sections ``train.scheduler`` and ``finetune.scheduler``."""

    type: str
    warmup_ratio: float


class Train(Protocol):
    """The section ``train``."""

    batch_or_epoch: str
    is_enable_half: bool
    local_update_steps: int
    optimizer: Optimizer
    scheduler: Scheduler


class Finetune(Protocol):
    """The section ``finetune``."""

    before_eval: bool


class Grad(Protocol):
    """The section ``grad``."""

    grad_accum_count: int
    grad_clip: float


class Evaluation(Protocol):
    """The section ``eval``."""

    best_res_update_round_wise_key: str
    freq: int
    metrics: list[str]
    split: list[str]


class Personalization(Protocol):
    """The section ``personalization``."""

    local_param: list[str]


class Tracking(Protocol):
    """The section ``wandb``."""

    use: bool


class Trainer(Protocol):
    """The section ``trainer``."""

    type: str


class Generation(Section, Protocol):
    """The section ``fedsa.eval.generate``."""

    batch_size: int
    every: int
    examples: int
    max_new_tokens: int
    metric: str
    problems: str
    run_code: bool
    samples: int
    shots: int
    temperature: float
    timeout: float
    top_p: float


class Choices(Protocol):
    """The section ``fedsa.eval.choices``."""

    data: str
    examples: int


class OwnEvaluation(Protocol):
    """The section ``fedsa.eval``."""

    choices: Choices
    generate: Generation


class Private(Protocol):
    """The section ``fedsa.private``."""

    references: int
    weight: float


class ClientState(Protocol):
    """The section ``fedsa.state``."""

    backend: str
    cache: float
    folder: str
    optimizer: bool


class Checkpoint(Protocol):
    """The section ``fedsa.checkpoint``."""

    every: int
    keep: int


class ChatOptions(Protocol):
    """The section ``fedsa.chat``."""

    loss: str
    system: str
    template: str


class OwnData(Protocol):
    """The section ``fedsa.data``."""

    category: str
    classes: list[str]
    client: str
    clients: list[str]
    completion: str
    incomplete: str
    input: str
    instruction: str
    label: str
    label_separator: str
    labels: list[str]
    messages: str
    min_examples: int
    output: str
    packing: bool
    prompt: str
    separator: str
    standardise: list[Any]
    target: str
    test: str
    text: list[str]
    validation: str


class Transport(Protocol):
    """The section ``fedsa.transport``."""

    lost_after: float
    unsafe: bool
    wait: float


class FedSA(Protocol):
    """The section ``fedsa``."""

    adapter_dtype: str
    aggregator: str
    aggregator_args: Section
    base: Base
    chat: ChatOptions
    checkpoint: Checkpoint
    data: OwnData
    eval: OwnEvaluation
    half: str
    lr: Section
    max_norm: float
    max_samples: int
    min_received: int
    plugins: list[str]
    policy: Section
    private: Private
    ranks: list[int]
    reload_tolerance: float
    round_timeout: float
    scale_by_clients: bool
    state: ClientState
    token_cache: str
    track: str
    transport: Transport


class Config(Section, Protocol):
    """The configuration of a run."""

    data: Data
    dataloader: DataLoader
    device: int
    distribute: Distribute
    eval: Evaluation
    expname: str
    expname_tag: str
    federate: Federate
    fedsa: FedSA
    finetune: Finetune
    grad: Grad
    llm: LanguageModel
    model: Model
    outdir: str
    personalization: Personalization
    seed: int
    train: Train
    trainer: Trainer
    use_gpu: bool
    wandb: Tracking

    def clone(self) -> "Config":
        """Copy the configuration; the copy can be changed."""
        ...

    def defrost(self) -> None:
        """Allow changes of the configuration."""

    def freeze(self, inform: bool = True, save: bool = True) -> None:
        """Forbid changes of the configuration.

        Args:
            inform: write the configuration into the log.
            save: write the configuration into the run's folder.

        """

    def merge_from_other_cfg(
        self, cfg_other: Any, check_cfg: bool = True
    ) -> None:
        """Take over the values of another configuration.

        Args:
            cfg_other: the other configuration.
            check_cfg: run the registered checks afterwards.

        """

    def assert_cfg(self) -> None:
        """Run the registered checks."""
