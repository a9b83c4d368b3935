"""google.protobuf.Struct, Value and ListValue in generated codecs, to plain Python values.

A Value has only doubles: whole ones become integers, as the runtimes do it; an integer that no double holds is refused.
"""

from typing import Any


def plain(message: Any) -> Any:
    """The JSON value of a Struct, Value or ListValue; None for none."""
    if message is None:
        return None
    if hasattr(message, "fields"):
        return {key: plain(value) for key, value in message.fields.items()}
    if hasattr(message, "values"):
        return [plain(value) for value in message.values]
    return _value(message)


def plain_list(messages: list[Any]) -> list[Any]:
    """The JSON values of some of them."""
    return [plain(message) for message in messages]


def _value(message: Any) -> Any:
    if message.number_value is not None:
        number = message.number_value
        return int(number) if number.is_integer() else number
    if message.struct_value is not None or message.list_value is not None:
        return plain(message.struct_value if message.struct_value is not None else message.list_value)
    return message.string_value if message.string_value is not None else message.bool_value
