"""Splitters for any data set."""

from federatedscope.core.splitters.generic.iid_splitter import IIDSplitter
from federatedscope.core.splitters.generic.lda_splitter import LDASplitter
from federatedscope.core.splitters.generic.meta_splitter import MetaSplitter

__all__ = ["IIDSplitter", "LDASplitter", "MetaSplitter"]
