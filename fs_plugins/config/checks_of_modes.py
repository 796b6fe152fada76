"""Checks of how a run is spread: its clients, and their processes."""

from fs_plugins.config.scaling import FROM_DATA
from fs_plugins.data.splitters import BY_CLIENT
from fs_plugins.errors import UserError
from fs_plugins.host.configuration import Config
from fs_plugins.settings import has_own_data, is_distributed
from fs_plugins.terms import START_WITH_FEDERATE


def check_by_host(cfg: Config) -> None:
    """Run the checks that are registered with the host, and its own.

    Args:
        cfg: the configuration.  If the data are going to tell how many
            clients there are, the host, which refuses a configuration
            without clients, gets one client to check.

    Raises:
        UserError: a check of this package refuses a value.
        ValueError: a check of the host refuses a value.
        AssertionError: the same.

    """
    federate = cfg.federate
    before = federate.client_num, federate.sample_client_num
    is_counted = not federate.client_num and cfg.data.splitter in BY_CLIENT
    if is_counted and not is_distributed(cfg):
        federate.client_num = 1
    cfg.assert_cfg()
    if is_counted:
        federate.client_num, federate.sample_client_num = before


def check_distributed(cfg: Config) -> None:
    """Refuse what a distributed run cannot do.

    Raises:
        UserError: says which key, which value, and what is allowed.

    """
    if not cfg.distribute.use:
        # FederatedScope forgets the section otherwise.
        raise UserError(START_WITH_FEDERATE)
    if cfg.federate.share_local_model:
        raise UserError(
            "federate.share_local_model: must be False with federate.mode "
            "'distributed', where each participant is a process of its own"
        )
    client, clients = cfg.distribute.data_idx, cfg.federate.client_num
    is_client = cfg.distribute.role == "client" and "@" in cfg.data.type
    if is_client and not 1 <= client <= clients:
        raise UserError(
            f"distribute.data_idx: {client!r} is not the number of a client; "
            f"it must be from 1 to federate.client_num, {clients}"
        )
    if has_own_data(cfg):
        _check_own_data(cfg)
    for key in ("federate.use_ss", "vertical.use"):
        section, _, name = key.partition(".")
        if cfg.get(section, {}).get(name, False):
            raise UserError(
                f"{key}: True needs clients that talk to each other, which "
                "this transport does not let them"
            )


def _check_own_data(cfg: Config) -> None:
    """Refuse data of which the participants cannot know the classes."""
    own, family = cfg.fedsa.data, cfg.data.type.lower().rpartition("@")[2]
    if family not in ("text", "chat"):
        raise UserError(
            "data.splitter: files is for files of your own, such as "
            f"data.type site.csv@text, not for {cfg.data.type}"
        )
    if own.standardise == FROM_DATA:
        raise UserError(
            "fedsa.data.standardise: must be [mean, standard deviation] in "
            "federate.mode 'distributed', the same for all, as no "
            "participant sees another's scores"
        )
    if family == "text" and not own.classes and not own.target:
        raise UserError(
            "fedsa.data.classes: must name the classes in federate.mode "
            "'distributed', where no participant sees another's data"
        )
