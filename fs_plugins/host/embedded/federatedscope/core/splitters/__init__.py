"""How a data set is split among clients."""

from federatedscope.core.splitters.base_splitter import BaseSplitter

__all__ = ["BaseSplitter"]
