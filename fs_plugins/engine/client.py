"""A client of a run, as an executor of NVIDIA FLARE."""

import contextlib
import threading
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from nvflare.apis.executor import Executor
from nvflare.apis.fl_constant import ReturnCode
from nvflare.apis.fl_context import FLContext
from nvflare.apis.shareable import Shareable, make_reply
from nvflare.apis.signal import Signal
from nvflare.fuel.f3.cellnet.fqcn import FQCN

from fs_plugins.engine.links import SiteLink, said_of, unpacked
from fs_plugins.engine.outcome import ALIVE, MESSAGES, PROBLEM
from fs_plugins.engine.part import folder_of, take_part
from fs_plugins.engine.site import asked_in, load_site
from fs_plugins.errors import UserError


class Participant(Executor):  # type: ignore[misc]
    """Runs FederatedScope's client, and hands it the server's messages.

    Args:
        experiment: the configuration of the run, as YAML.
        sites: the names of the sites; the client with ID i is at the i-th.
        run: the name of the run.  What this site keeps of a run of this name
            is where its client goes on from.
        beats_every: the seconds between two signs of life.

    """

    def __init__(
        self,
        experiment: str,
        sites: Sequence[str],
        run: str,
        beats_every: float,
    ) -> None:
        super().__init__()
        self._experiment = experiment
        self._sites, self._run = list(sites), run
        self._link: SiteLink | None = None
        self._tells_all = False
        self._beats_every = beats_every

    def execute(
        self,
        task_name: str,
        shareable: Shareable,
        fl_ctx: FLContext,
        abort_signal: Signal,
    ) -> Shareable:
        """Handle a message of the server.

        Args:
            task_name: not used; there is one kind of task.
            shareable: the message; the first task has none.
            fl_ctx: FLARE's context.
            abort_signal: is triggered when the job is ended.

        Returns:
            The messages that the client has sent meanwhile.

        """
        reply = make_reply(ReturnCode.OK)
        reply[MESSAGES], reply[PROBLEM] = [], ""
        try:
            link = self._link or self._begin(fl_ctx)
        except UserError as error:
            # The event that FLARE would fire reaches the server.
            self.log_error(fl_ctx, str(error), fire_event=False)
            reply[PROBLEM] = said_of(error, self._tells_all)
            return reply
        for fields in shareable.get(MESSAGES) or []:
            message = unpacked(fields, 0)
            if message is not None:
                link.hand(message)
        sent, problem = link.answers(lambda: bool(abort_signal.triggered))
        reply[MESSAGES] = sent
        reply[PROBLEM] = said_of(problem, self._tells_all)
        return reply

    def _beat(self, engine: Any) -> None:
        """Let the server know, now and then, that this process is there.

        FLARE does not notice that a site's process is gone whose parent has
        been started again.

        Args:
            engine: FLARE's engine of the job.

        """
        while True:
            with contextlib.suppress(Exception), engine.new_context() as ctx:
                engine.send_aux_request(
                    targets=[FQCN.ROOT_SERVER],
                    topic=ALIVE,
                    request=Shareable(),
                    timeout=0.0,
                    fl_ctx=ctx,
                    optional=True,
                )
            time.sleep(self._beats_every)

    def _begin(self, fl_ctx: FLContext) -> SiteLink:
        """Let the client begin, in a thread of its own."""
        name = fl_ctx.get_identity_name()
        root = Path(fl_ctx.get_engine().get_workspace().get_root_dir())
        site = load_site(root)
        self._tells_all = site.is_simulated
        if name not in self._sites:
            raise UserError(f"{name} is not among the sites of the run")
        asked = asked_in(self._experiment)
        folder = folder_of(site, self._run, name)
        ID = self._sites.index(name) + 1
        link = self._link = SiteLink()
        beating = partial(self._beat, fl_ctx.get_engine())
        threading.Thread(target=beating, daemon=True).start()
        link.start(partial(take_part, site, asked, folder, ID, link))
        return link
