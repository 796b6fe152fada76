"""The server of a run, as a controller of NVIDIA FLARE."""

import json
import shutil
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from nvflare.apis.client import Client
from nvflare.apis.controller_spec import ClientTask, Task
from nvflare.apis.fl_constant import ReturnCode
from nvflare.apis.fl_context import FLContext
from nvflare.apis.impl.controller import Controller
from nvflare.apis.shareable import Shareable, make_reply
from nvflare.apis.signal import Signal
from nvflare.widgets.info_collector import InfoCollector

from fs_plugins.engine.links import Fields, ServerLink
from fs_plugins.engine.outcome import (
    ALIVE,
    MESSAGES,
    PROBLEM,
    RESULTS,
    SERVER,
    STATS,
    write_outcome,
)
from fs_plugins.engine.part import folder_of, take_part
from fs_plugins.engine.site import asked_in, load_site
from fs_plugins.errors import RunError, UserError, first_line
from fs_plugins.experiment.run_folder import RunFolder
from fs_plugins.listeners import Listener

TASK = "fedsa"


class _Newest(Listener):
    """Keeps the newest line of results, which FLARE's statistics show."""

    def __init__(self) -> None:
        self.line: dict[str, Any] = {}

    def recorded(self, line: Mapping[str, Any]) -> None:
        """Keep the line."""
        self.line = dict(line)


class Federation(Controller):  # type: ignore[misc]
    """Runs FederatedScope's server, and hands its messages to the sites.

    Args:
        experiment: the configuration of the run, as YAML.
        sites: the names of the sites; the client with ID i is at the i-th.
        run: the name of the run.  A run of this name that was begun at this
            server before goes on from its newest checkpoint.
        needed: how many sites the run needs to go on; 0 stands for all.
        lost_after: after how many seconds of silence a site is gone.

    """

    def __init__(
        self,
        experiment: str,
        sites: Sequence[str],
        run: str,
        needed: int,
        lost_after: float,
    ) -> None:
        super().__init__(task_check_period=0.1)
        self._experiment = experiment
        self._sites, self._run = list(sites), run
        self._needed = needed or len(self._sites)
        self._newest = _Newest()
        self._link: ServerLink | None = None
        self._lost_after = lost_after
        self._heard: dict[str, float] = {}  # when, by the name of the site

    def start_controller(self, fl_ctx: FLContext) -> None:
        """Listen to the sites' signs of life.

        Args:
            fl_ctx: FLARE's context.

        """
        fl_ctx.get_engine().register_aux_message_handler(
            topic=ALIVE, message_handle_func=self._hear
        )

    def _hear(
        self, topic: str, request: Shareable, fl_ctx: FLContext
    ) -> Shareable:
        """Note that a site is there."""
        name = fl_ctx.get_peer_context().get_identity_name()
        if name in self._sites:
            self._heard[name] = time.monotonic()
        return make_reply(ReturnCode.OK)

    def _is_gone(self, site: str) -> bool:
        """Whether FLARE says that a site is gone, or it is silent."""
        if self.get_client_disconnect_time(site):
            return True
        heard = self._heard.get(site)
        silence = 0.0 if heard is None else time.monotonic() - heard
        return silence > self._lost_after

    def stop_controller(self, fl_ctx: FLContext) -> None:
        """Do nothing: ``control_flow`` has ended."""

    def control_flow(self, abort_signal: Signal, fl_ctx: FLContext) -> None:
        """Run the server, and leave the results where FLARE collects them.

        Args:
            abort_signal: is triggered when the job is ended.
            fl_ctx: FLARE's context.

        """
        workspace = fl_ctx.get_engine().get_workspace()
        link = self._link = ServerLink(
            self._sites,
            partial(self._post, fl_ctx),
            self._is_gone,
            lambda: bool(abort_signal.triggered),
            self._needed,
        )
        out = Path(workspace.get_run_dir(fl_ctx.get_job_id())) / RESULTS
        error: Exception | None
        try:
            site = load_site(Path(workspace.get_root_dir()))
            asked = asked_in(self._experiment)
            folder = folder_of(site, self._run, SERVER)
        except UserError as wrong:
            error = wrong
        else:
            link.ask_to_join()
            error = take_part(site, asked, folder, 0, link, [self._newest])
            try:
                _copy_results(folder, out)
            except (OSError, shutil.Error) as full:
                why = first_line(full)
                error = error or RunError(f"the server's disk: {why}")
        write_outcome(out, error, link.has_lost)
        if error is not None:
            self.system_panic(str(error), fl_ctx)

    def handle_event(self, event_type: str, fl_ctx: FLContext) -> None:
        """Add the newest results to FLARE's statistics of the job.

        Args:
            event_type: FLARE's name of the event.
            fl_ctx: FLARE's context.

        """
        super().handle_event(event_type, fl_ctx)
        if event_type != InfoCollector.EVENT_TYPE_GET_STATS:
            return
        collector = fl_ctx.get_prop(InfoCollector.CTX_KEY_STATS_COLLECTOR)
        if collector:
            collector.set_info(STATS, {"line": json.dumps(self._newest.line)})

    def _post(self, fl_ctx: FLContext, site: str, fields: Fields) -> None:
        data = Shareable()
        data[MESSAGES] = [fields] if fields else []
        task = Task(TASK, data=data, result_received_cb=self._answered)
        self.send(task, fl_ctx, targets=[site])

    def _answered(self, client_task: ClientTask, fl_ctx: FLContext) -> None:
        """Take the result of a site's task."""
        result, link = client_task.result, self._link
        assert link is not None
        code = result.get_return_code()
        problem = str(result.get(PROBLEM) or "")
        if code == ReturnCode.TASK_RESULT_FILTER_ERROR:
            problem = "its own filter has refused a result"
        elif code != ReturnCode.OK:
            problem = f"its part has ended with {code}"
        link.take(client_task.client.name, result.get(MESSAGES), problem)
        client_task.result = client_task.task.data = None  # takes memory

    def process_result_of_unknown_task(
        self,
        client: Client,
        task_name: str,
        client_task_id: str,
        result: Shareable,
        fl_ctx: FLContext,
    ) -> None:
        """Ignore a result that nobody asked for.

        Args:
            client: the site that it comes from.
            task_name: the name of the task.
            client_task_id: the ID of the task.
            result: the result.
            fl_ctx: FLARE's context.

        """
        self.log_warning(
            fl_ctx, f"{client.name} has sent a result of no task; ignored"
        )


def _copy_results(folder: Path, out: Path) -> None:
    """Copy a run's results, without its checkpoints."""
    if folder.exists():
        ignored = shutil.ignore_patterns(
            RunFolder.CHECKPOINTS, RunFolder.LOCK, RunFolder.BASE
        )
        shutil.copytree(folder, out, dirs_exist_ok=True, ignore=ignored)
