"""The methods that the host's own workers run."""

CLIENTS_TYPE = {"fedavg": "normal", "local": "normal"}
SERVER_TYPE = dict(CLIENTS_TYPE)
