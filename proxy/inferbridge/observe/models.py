"""Names of models as labels of metrics.

A name becomes one when a call for it has succeeded, so that clients who make names up fill no place. There are places
for `MODELS` of them; what comes after counts under `_other`, as does every name that has no place yet.
"""

from inferbridge.gateway.record import CallRecord
from inferbridge.observe.series import OTHER

MODELS = 100


class Models:
    """The names that have a place."""

    def __init__(self) -> None:
        self._known: set[str] = set()

    def label(self, record: CallRecord) -> str:
        """For the model of a call that has ended; empty where it names none."""
        model = record.model
        if not model or model in self._known:
            return model
        if len(self._known) >= MODELS or record.status != 200 or record.grpc_status or record.flags:
            return OTHER
        self._known.add(model)
        return model
