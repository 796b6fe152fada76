"""The runners: all participants in one process, or one in each."""

from collections import deque
from typing import Any

from federatedscope.core.auxiliaries.model_builder import get_model
from federatedscope.core.gpu_manager import GPUManager
from federatedscope.core.message import Message
from federatedscope.core.workers import Client, Server


class StandaloneRunner:
    """Builds the server and the clients and delivers their messages.

    A message to the server is delivered as soon as it is sent, so that a
    round's updates need not wait in memory together.

    Args:
        data: ``{0: the server's ClientData, 1: client 1's, ...}``.
        server_class: the server's class.
        client_class: the clients' class.
        config: the configuration.
        client_configs: ``{'client_<ID>': {...}}``, or None.

    """

    def __init__(
        self,
        data: Any,
        server_class: type[Server] = Server,
        client_class: type[Client] = Client,
        config: Any = None,
        client_configs: Any = None,
    ) -> None:
        if not config.is_ready_for_run:
            config.ready_for_run()
        self.cfg = config
        self.data = data
        self.client_cfgs = client_configs or {}
        self.mode = config.federate.mode.lower()
        self.gpu_manager = GPUManager(config.use_gpu, config.device)
        self.shared_comm_queue: deque[Message] = deque()
        device = self.gpu_manager.auto_choice()
        server_data = data.get(0)
        model = get_model(config, server_data or data[1])
        self.server = server_class(
            ID=0,
            config=config,
            data=server_data,
            model=model,
            client_num=config.federate.client_num,
            total_round_num=config.federate.total_round_num,
            device=device,
            shared_comm_queue=self.shared_comm_queue,
        )
        self.client = {
            ID: client_class(
                ID=ID,
                server_id=0,
                config=self._cfg_of(ID),
                data=data[ID],
                model=model
                if config.federate.share_local_model
                else get_model(self._cfg_of(ID), data[ID]),
                device=device,
                shared_comm_queue=self.shared_comm_queue,
            )
            for ID in range(1, config.federate.client_num + 1)
        }

    def _cfg_of(self, ID: int) -> Any:
        own = self.client_cfgs.get(f"client_{ID}")
        if own is None:
            return self.cfg
        cfg = self.cfg.clone()
        cfg.defrost()
        cfg.merge_from_other_cfg(own)
        cfg.freeze(inform=False, save=False)
        return cfg

    def run(self) -> dict[str, Any]:
        """Run the federation; returns the server's best results."""
        for client in self.client.values():
            client.join_in()
        while self.shared_comm_queue:
            self._deliver(self.shared_comm_queue.popleft())
        self.server._monitor.finish_fed_runner(fl_mode=self.mode)
        return self.server.best_results

    def _deliver(self, message: Message) -> None:
        receivers = (
            message.receiver
            if isinstance(message.receiver, list)
            else [message.receiver]
        )
        download, _ = message.count_bytes()
        for ID in receivers:
            worker: Any = self.client[ID] if ID else self.server
            worker._monitor.track_download_bytes(download)
            worker.msg_handlers[message.msg_type](message)
            queue = self.shared_comm_queue
            while ID and queue and queue[-1].receiver == [0]:
                self._deliver(queue.pop())


class DistributedRunner:
    """Builds the one participant of this process, ``distribute.role``.

    Args:
        data: the ``ClientData`` of the participant.
        server_class: the server's class.
        client_class: the clients' class.
        config: the configuration.
        client_configs: not used in this mode.

    """

    def __init__(
        self,
        data: Any,
        server_class: type[Server] = Server,
        client_class: type[Client] = Client,
        config: Any = None,
        client_configs: Any = None,
    ) -> None:
        if not config.is_ready_for_run:
            config.ready_for_run()
        self.cfg = config
        self.data = data
        self.server_class = server_class
        self.client_class = client_class
        self.mode = config.federate.mode.lower()
        self.gpu_manager = GPUManager(config.use_gpu, config.device)
        self._set_up()

    def _set_up(self) -> None:
        where = self.cfg.distribute
        common = {
            "config": self.cfg,
            "data": self.data,
            "model": get_model(self.cfg, self.data),
            "device": self.gpu_manager.auto_choice(),
        }
        if where.role == "server":
            self.server = self.server_class(
                ID=0,
                client_num=self.cfg.federate.client_num,
                total_round_num=self.cfg.federate.total_round_num,
                host=where.server_host,
                port=where.server_port,
                **common,
            )
        else:
            self.client = self.client_class(
                ID=-1,
                server_id=0,
                host=where.client_host,
                port=where.client_port,
                server_host=where.server_host,
                server_port=where.server_port,
                **common,
            )

    def run(self) -> dict[str, Any] | None:
        """Take part; the server returns its best results."""
        if self.cfg.distribute.role == "server":
            self.server.run()
            return self.server.best_results
        self.client.join_in()
        self.client.run()
        return None
