"""The data converter of every client and worker: pydantic JSON, tolerant of additions.

Temporal's pydantic converter reads with the model's own strictness; ours ignores fields that a newer release added, so
that history written by it can be read (and replayed) by an older worker during a rollout.
"""

import dataclasses
from typing import Any

from temporalio.api.common.v1 import Payload
from temporalio.contrib.pydantic import (
    PydanticJSONPlainPayloadConverter,
    PydanticPayloadConverter,
    pydantic_data_converter,
)
from temporalio.converter import CompositePayloadConverter


class TolerantJsonConverter(PydanticJSONPlainPayloadConverter):
    """Reads JSON payloads and ignores fields it does not know."""

    def from_payload(self, payload: Payload, type_hint: type | None = None) -> Any:
        """Decode one payload as ``type_hint``."""
        adapter = self._type_adapter(type_hint if type_hint is not None else Any)
        return adapter.validate_json(payload.data, extra="ignore")


# The SDK makes a converter for every workflow and twice for every workflow task, so what it is made of is made once.
_CONVERTERS = tuple(
    TolerantJsonConverter() if isinstance(each, PydanticJSONPlainPayloadConverter) else each
    for each in PydanticPayloadConverter().converters.values()
)


class TolerantPayloadConverter(CompositePayloadConverter):
    """`PydanticPayloadConverter` with the tolerant JSON converter in its place."""

    def __init__(self) -> None:
        super().__init__(*_CONVERTERS)


data_converter = dataclasses.replace(pydantic_data_converter, payload_converter_class=TolerantPayloadConverter)
"""What every Temporal client of sojourn is connected with."""
