"""A deterministic OpenAI-compatible model server for tests and for developing without a model."""

from tailrace.llm.behaviour import Behaviour
from tailrace.llm.mock.record import ConnectionLog, ConnectionRecord, RequestRecord
from tailrace.llm.mock.server import MockServer, start_mock

__all__ = ["Behaviour", "ConnectionLog", "ConnectionRecord", "MockServer", "RequestRecord", "start_mock"]
