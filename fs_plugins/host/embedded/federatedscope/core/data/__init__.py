"""The data of participants."""

from federatedscope.core.data.base_data import ClientData, StandaloneDataDict
from federatedscope.core.data.base_translator import BaseDataTranslator

__all__ = ["BaseDataTranslator", "ClientData", "StandaloneDataDict"]
