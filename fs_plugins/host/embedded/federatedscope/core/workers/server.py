"""The server: samples clients, aggregates, asks for evaluation."""

import logging
from typing import Any

from federatedscope.core.auxiliaries.aggregator_builder import get_aggregator
from federatedscope.core.auxiliaries.sampler_builder import get_sampler
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


class Server(Worker):
    """The server of a federation.

    Args:
        ID: 0.
        config: the configuration.
        data: the ``ClientData`` of the server, which evaluates on it with
            ``federate.make_global_eval``.
        model: the global model.
        client_num: the number of clients.
        total_round_num: the number of rounds.
        device: where to compute.
        shared_comm_queue: the runner's queue, in standalone mode.
        host, port: where to listen, in distributed mode.

    """

    def __init__(
        self,
        ID: int = -1,
        state: int = 0,
        config: Any = None,
        data: Any = None,
        model: Any = None,
        client_num: int = 5,
        total_round_num: int = 10,
        device: Any = "cpu",
        strategy: Any = None,
        unseen_clients_id: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(ID, state, config, model, strategy)
        if config is None:
            return
        self.data = data
        self.device = device
        self.client_num = client_num
        self.total_round_num = total_round_num
        self.sample_client_num = int(config.federate.sample_client_num)
        self.unseen_clients_id = unseen_clients_id or []
        self.models = [model]
        model.to(device)
        self.aggregator = get_aggregator(
            config.federate.method, model=model, device=device, config=config
        )
        self.aggregators = [self.aggregator]
        if config.federate.restore_from:
            self.aggregator.load_model(config.federate.restore_from)
        if config.federate.make_global_eval:
            self.trainer = get_trainer(
                model=model,
                data=data,
                device=device,
                config=config,
                only_for_eval=True,
                monitor=self._monitor,
            )
        self.best_results: dict[str, Any] = {}
        self.history_results: dict[str, Any] = {}
        self.early_stopper = EarlyStopper(
            config.early_stop.patience,
            config.early_stop.delta,
            config.early_stop.improve_indicator_mode,
            self._monitor.the_larger_the_better,
        )
        self.sampler = get_sampler(config.federate.sampler, client_num)
        self.join_in_client_num = 0
        self.join_in_info: dict[int, Any] = {}
        self.is_finish = False
        self.cur_timestamp: float = 0
        self.msg_buffer: dict[str, dict[int, dict[int, Any]]] = {
            "train": {},
            "eval": {},
        }
        if self.mode == "distributed":
            self.comm_manager = gRPCCommManager(
                host=kwargs["host"],
                port=kwargs["port"],
                client_num=client_num,
                cfg=config.distribute,
            )
        else:
            self.comm_manager = StandaloneCommManager(
                comm_queue=kwargs["shared_comm_queue"], monitor=self._monitor
            )

    def run(self) -> None:
        """Handle what arrives until the end (distributed mode)."""
        while not self.is_finish:
            message = self.comm_manager.receive()
            self.msg_handlers[message.msg_type](message)

    def _register_default_handlers(self) -> None:
        self.register_handlers("join_in", self.callback_funcs_for_join_in)
        self.register_handlers("join_in_info", self.callback_funcs_for_join_in)
        self.register_handlers("model_para", self.callback_funcs_model_para)
        self.register_handlers("metrics", self.callback_funcs_for_metrics)

    def callback_funcs_for_join_in(self, message: Message) -> None:
        """Admit a client; once all are there, start."""
        if message.msg_type == "join_in_info":
            self.join_in_info[message.sender] = message.content
        else:
            self.join_in_client_num += 1
            client = message.sender
            if client == -1:  # distributed: it doesn't know its ID yet
                client = self.join_in_client_num
            self.comm_manager.add_neighbors(client, message.content)
            if message.sender == -1:
                self._send("assign_client_id", [client], str(client))
            wanted = self._cfg.federate.join_in_info
            if wanted:
                self._send("ask_for_join_in_info", [client], list(wanted))
        self.trigger_for_start()

    def check_client_join_in(self) -> bool:
        """Whether all clients are there."""
        joined = (
            len(self.join_in_info)
            if self._cfg.federate.join_in_info
            else self.join_in_client_num
        )
        return joined == self.client_num

    def trigger_for_start(self) -> None:
        """Start the first round once all clients are there."""
        if self.check_client_join_in():
            logger.info("round %d begins", self.state + 1)
            self.broadcast_model_para(
                "model_para", sample_client_num=self.sample_client_num
            )

    def broadcast_model_para(
        self,
        msg_type: str = "model_para",
        sample_client_num: int = -1,
        filter_unseen_clients: bool = True,
    ) -> None:
        """Send the global parameters to sampled clients, or (-1) to all."""
        alone = self._cfg.federate.method in ("local", "global")
        parameters = {} if alone else self.models[0].state_dict()
        # Clients may share the server's model: send a snapshot.
        snapshot = {k: v.detach().clone() for k, v in parameters.items()}
        self._send(
            msg_type,
            self._choose(msg_type, sample_client_num),
            snapshot,
            self._round_of(msg_type),
        )

    def _choose(self, msg_type: str, sample_client_num: int) -> list[int]:
        if sample_client_num > 0:
            return self.sampler.sample(size=sample_client_num)
        everyone = list(self.comm_manager.neighbors)
        if msg_type == "model_para":
            self.sampler.change_state(everyone, "working")
        return everyone

    def _round_of(self, msg_type: str) -> int:
        """Evaluation belongs to the round that has just ended."""
        state = self.state - 1 if msg_type == "evaluate" else self.state
        return min(state, self.total_round_num)

    def callback_funcs_model_para(self, message: Message) -> Any:
        """Collect an update; when all are in, aggregate and go on."""
        if self.is_finish:
            return "finish"
        self.sampler.change_state(message.sender, "idle")
        if message.state != self.state:
            logger.info("an update of round %d is too late", message.state + 1)
            return False
        buffer = self.msg_buffer["train"].setdefault(message.state, {})
        buffer[message.sender] = message.content
        return self.check_and_move_on()

    def callback_funcs_for_metrics(self, message: Message) -> Any:
        """Collect results; when all are in, merge them."""
        buffer = self.msg_buffer["eval"].setdefault(message.state, {})
        buffer[message.sender] = message.content
        return self.check_and_move_on(check_eval_result=True)

    def check_buffer(
        self,
        cur_round: int,
        min_received_num: int,
        check_eval_result: bool = False,
    ) -> bool:
        """Whether enough answers are in."""
        if check_eval_result:
            buffers = self.msg_buffer["eval"]
            newest = buffers[max(buffers)] if buffers else {}
        else:
            newest = self.msg_buffer["train"].get(cur_round, {})
        return len(newest) >= min_received_num

    def check_and_move_on(
        self,
        check_eval_result: bool = False,
        min_received_num: int | None = None,
    ) -> bool:
        """Aggregate, or merge results, if enough answers are in."""
        if check_eval_result:
            min_received_num = len(self.comm_manager.get_neighbors())
        elif min_received_num is None:
            min_received_num = self.sample_client_num
        if not self.check_buffer(
            self.state, min_received_num, check_eval_result
        ):
            return False
        if check_eval_result:
            self._merge_and_format_eval_results()
            return True
        aggregated = self._perform_federated_aggregation()
        self.msg_buffer["train"].pop(self.state, None)
        self.state += 1
        last = self.state >= self.total_round_num
        if last or self.state % self._cfg.eval.freq == 0:
            self.eval()
        if not last:
            logger.info("round %d begins", self.state + 1)
            self._start_new_training_round(aggregated)
        return True

    def _perform_federated_aggregation(self) -> int:
        """Aggregate the round's updates; returns how many there were."""
        feedback = list(self.msg_buffer["train"][self.state].values())
        result = self.aggregator.aggregate({"client_feedback": feedback})
        self.models[0].load_state_dict(result, strict=False)
        return len(feedback)

    def _start_new_training_round(self, aggregated_num: int = 0) -> None:
        self.broadcast_model_para(
            "model_para", sample_client_num=self.sample_client_num
        )

    def eval(self) -> None:
        """Evaluate at the clients, or here with ``make_global_eval``."""
        if not self._cfg.federate.make_global_eval:
            self.broadcast_model_para("evaluate", filter_unseen_clients=False)
            return
        metrics: dict[str, Any] = {}
        for split in self._cfg.eval.split:
            metrics |= self.trainer.evaluate(target_data_split_name=split)
        formatted = self._monitor.format_eval_res(
            metrics, rnd=self.state, role="Server #", return_raw=True
        )
        self._monitor.update_best_result(
            self.best_results,
            formatted["Results_raw"],
            results_type="server_global_eval",
        )
        merge_dict_of_results(self.history_results, formatted)
        self._monitor.save_formatted_results(formatted)
        logger.info(formatted)
        self.check_and_save()

    def _merge_and_format_eval_results(self) -> None:
        formatted = self.merge_eval_results_from_all_clients()
        merge_dict_of_results(self.history_results, formatted)
        self.check_and_save()

    def merge_eval_results_from_all_clients(self) -> dict[str, Any]:
        """Merge the clients' results; keep and log the best."""
        rnd = max(self.msg_buffer["eval"])
        merged: dict[str, list[float]] = {}
        for results in self.msg_buffer["eval"][rnd].values():
            for key, value in (results or {}).items():
                merged.setdefault(key, []).append(float(value))
        forms = self._cfg.eval.report
        formatted = self._monitor.format_eval_res(
            merged, rnd=rnd, role="Server #", forms=forms
        )
        logger.info(formatted)
        self._monitor.save_formatted_results(formatted)
        self._monitor.update_best_result(
            self.best_results, merged, results_type="client_best_individual"
        )
        improved = False
        for form in ("fairness", "avg", "weighted_avg"):
            if form == "fairness" or form not in forms:
                continue
            improved = self._monitor.update_best_result(
                self.best_results,
                formatted[f"Results_{form}"],
                results_type=f"client_summarized_{form}",
            )
        if improved and self._cfg.federate.save_to:
            self.aggregator.save_model(self._cfg.federate.save_to, self.state)
        return formatted

    def check_and_save(self) -> None:
        """After an evaluation: stop early, save, or finish."""
        key = self._cfg.eval.best_res_update_round_wise_key
        stop = False
        for form in ("Results_weighted_avg", "Results_avg"):
            history = self.history_results.get(form, {}).get(key)
            if history:
                stop = self.early_stopper.track_and_check(history)
                break
        last = self.state >= self.total_round_num
        fed = self._cfg.federate
        if not last and fed.save_freq > 0 and self.state % fed.save_freq == 0:
            path = add_prefix_to_path(f"{self.state}_", fed.save_to)
            self.aggregator.save_model(path, self.state)
        if stop and not last:
            self._monitor.global_converged()
            everyone = list(self.comm_manager.neighbors)
            self._send("converged", everyone, None)
        if stop or last:
            self.save_best_results()
            if not fed.make_global_eval:
                self.save_client_eval_results()
            self.terminate()
        self.msg_buffer["eval"].clear()

    def save_best_results(self) -> None:
        """Write the best results, and the final model if asked for."""
        save_to = self._cfg.federate.save_to
        if save_to:
            self.aggregator.save_model(
                add_prefix_to_path("final_", save_to), self.state
            )
        formatted = self._monitor.format_eval_res(
            self.best_results, rnd="Final", role="Server #", return_raw=True
        )
        logger.info(formatted)
        self._monitor.save_formatted_results(formatted)

    def save_client_eval_results(self) -> None:
        """Write each client's results of the last evaluation."""
        rnd = max(self.msg_buffer["eval"])
        for client, results in self.msg_buffer["eval"][rnd].items():
            self._monitor.save_formatted_results(
                self._monitor.format_eval_res(
                    results,
                    rnd=self.state,
                    role=f"Client #{client}",
                    return_raw=True,
                )
            )

    def terminate(self, msg_type: str = "finish") -> None:
        """End the run; clients get the final parameters."""
        self.is_finish = True
        self._monitor.finish_fl()
        self.broadcast_model_para(msg_type, filter_unseen_clients=False)
