"""The embedded host: a stand-in for FederatedScope's ``llm`` branch.

It is used only where FederatedScope itself isn't installed, and covers the
part of its API that an LLM experiment in standalone mode uses, at the same
module paths.  It was written from that API's names, signatures and
semantics; for anything more, install FederatedScope.
"""

__version__ = "0.3.0+embedded"
