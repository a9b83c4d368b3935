"""Named converters of mapping lines: always a pair, from the wire and to it."""


def model_state_from_wire(value: str) -> str:
    """MLServer's gRPC side says `State.READY` where its REST side says `READY`."""
    return value.removeprefix("State.")


def model_state_to_wire(value: str) -> str:
    """The plain name."""
    return value
