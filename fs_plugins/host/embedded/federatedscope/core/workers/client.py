"""The client: trains and evaluates on its own data."""

import logging
from typing import Any

from federatedscope.core.auxiliaries.trainer_builder import get_trainer
from federatedscope.core.auxiliaries.utils import (
    add_prefix_to_path,
    merge_dict_of_results,
)
from federatedscope.core.communication import (
    StandaloneCommManager,
    gRPCCommManager,
)
from federatedscope.core.message import Message
from federatedscope.core.monitors import EarlyStopper
from federatedscope.core.workers.base_worker import Worker

logger = logging.getLogger(__name__)


class Client(Worker):
    """A client of a federation.

    Args:
        ID: the number of the client, from 1.
        server_id: 0.
        config: the configuration.
        data: the ``ClientData`` of the client.
        model: its model; one object for all with ``share_local_model``.
        device: where to compute.
        shared_comm_queue: the runner's queue, in standalone mode.
        host, port: where to listen, in distributed mode.
        server_host, server_port: where the server listens.

    """

    def __init__(
        self,
        ID: int = -1,
        server_id: int | None = None,
        state: int = -1,
        config: Any = None,
        data: Any = None,
        model: Any = None,
        device: Any = "cpu",
        strategy: Any = None,
        is_unseen_client: bool = False,
        *args: Any,
        **kwargs: Any,
    ) -> None:
        super().__init__(ID, state, config, model, strategy)
        self.data = data
        if config is None:
            return
        self.server_id = server_id or 0
        self.device = device
        self.is_unseen_client = is_unseen_client
        self.trainer = get_trainer(
            model=model,
            data=data,
            device=device,
            config=config,
            monitor=self._monitor,
        )
        self.best_results: dict[str, Any] = {}
        self.history_results: dict[str, Any] = {}
        alone = config.federate.method in ("local", "global")
        self.early_stopper = EarlyStopper(
            config.early_stop.patience if alone else 0,
            config.early_stop.delta,
            config.early_stop.improve_indicator_mode,
            self._monitor.the_larger_the_better,
        )
        self.local_address = None
        if self.mode == "distributed":
            self.comm_manager = gRPCCommManager(
                host=kwargs["host"],
                port=kwargs["port"],
                client_num=config.federate.client_num,
                cfg=config.distribute,
            )
            self.comm_manager.add_neighbors(
                self.server_id,
                {"host": kwargs["server_host"], "port": kwargs["server_port"]},
            )
            self.local_address = {
                "host": self.comm_manager.host,
                "port": self.comm_manager.port,
            }
        else:
            self.comm_manager = StandaloneCommManager(
                comm_queue=kwargs["shared_comm_queue"], monitor=self._monitor
            )

    def _register_default_handlers(self) -> None:
        self.register_handlers(
            "assign_client_id", self.callback_funcs_for_assign_id
        )
        self.register_handlers(
            "ask_for_join_in_info", self.callback_funcs_for_join_in_info
        )
        self.register_handlers("address", self.callback_funcs_for_address)
        self.register_handlers(
            "model_para", self.callback_funcs_for_model_para
        )
        self.register_handlers("evaluate", self.callback_funcs_for_evaluate)
        self.register_handlers("finish", self.callback_funcs_for_finish)
        self.register_handlers("converged", self.callback_funcs_for_converged)

    def join_in(self) -> None:
        """Tell the server that this client is there."""
        address = self.local_address
        self._send("join_in", [self.server_id], address, state=0)

    def run(self) -> None:
        """Handle what arrives until the end (distributed mode)."""
        while True:
            message = self.comm_manager.receive()
            if self.state <= message.state:
                self.msg_handlers[message.msg_type](message)
            if message.msg_type == "finish":
                break

    def callback_funcs_for_assign_id(self, message: Message) -> None:
        """Take the ID that the server gives."""
        self.ID = int(message.content)

    def callback_funcs_for_join_in_info(self, message: Message) -> None:
        """Answer what the server wants to know before the start."""
        train = self._cfg.train
        known = {
            "num_sample": train.local_update_steps
            * (
                self._cfg.dataloader.batch_size
                if train.batch_or_epoch == "batch"
                else len(self.data.train_data)
            )
        }
        info = {name: known[name] for name in message.content}
        self._send("join_in_info", [self.server_id], info)

    def callback_funcs_for_address(self, message: Message) -> None:
        """Get to know other clients."""
        for neighbor, address in message.content.items():
            if int(neighbor) != self.ID:
                self.comm_manager.add_neighbors(neighbor, address)

    def callback_funcs_for_model_para(self, message: Message) -> None:
        """Load what the server sent, train, send the update back."""
        self.state = message.state
        self._update(message.content)
        sample_size, parameters, results = self.trainer.train()
        self._log(results)
        # The model trains on, here or at the next client: send a snapshot.
        snapshot = {k: v.detach().clone() for k, v in parameters.items()}
        self._send("model_para", [message.sender], (sample_size, snapshot))

    def callback_funcs_for_evaluate(self, message: Message) -> None:
        """Evaluate on each split of ``eval.split``; send the metrics."""
        self.state = message.state
        self._update(message.content)
        if self._cfg.finetune.before_eval:
            self.trainer.finetune()
        metrics: dict[str, Any] = {}
        for split in self._cfg.eval.split:
            metrics |= self.trainer.evaluate(target_data_split_name=split)
        results = self._log(metrics)
        is_best = self._monitor.update_best_result(
            self.best_results, results, results_type=f"client #{self.ID}"
        )
        if is_best and self._cfg.federate.save_client_model:
            self.trainer.save_model(
                add_prefix_to_path(
                    f"client_{self.ID}_", self._cfg.federate.save_to
                ),
                self.state,
            )
        merge_dict_of_results(self.history_results, results)
        self.early_stopper.track_and_check(
            self.history_results[self._cfg.eval.best_res_update_round_wise_key]
        )
        self._send("metrics", [message.sender], metrics)

    def callback_funcs_for_finish(self, message: Message) -> None:
        """Load the final parameters; write the costs."""
        self._update(message.content)
        self._monitor.finish_fl()

    def callback_funcs_for_converged(self, message: Message) -> None:
        """Note that the federation stopped early."""
        self._monitor.global_converged()

    def _update(self, parameters: Any) -> None:
        if parameters is not None:
            self.trainer.update(
                parameters, strict=self._cfg.federate.share_local_model
            )

    def _log(self, results: dict[str, Any]) -> dict[str, Any]:
        formatted = self._monitor.format_eval_res(
            results,
            rnd=self.state,
            role=f"Client #{self.ID}",
            return_raw=True,
        )
        logger.info(formatted)
        raw: dict[str, Any] = formatted["Results_raw"]
        return raw
