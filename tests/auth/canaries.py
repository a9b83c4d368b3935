"""Secrets that are planted everywhere, and the search for them in whatever can be seen."""

import base64
import json
import re
from urllib.parse import quote

MARK = "Cnry"


class Canaries:
    """Hands out a secret for each place, and finds them again."""

    def __init__(self) -> None:
        self._planted: dict[str, str] = {}

    def __getitem__(self, place: str) -> str:
        """The secret of a place: printable ASCII without separators, so that it fits everywhere."""
        return self._planted.setdefault(
            place, f"{MARK}.{re.sub('[ _]', '.', place)}.{len(self._planted):04d}.{MARK[::-1]}"
        )

    def add(self, place: str, secret: str) -> str:
        """A secret that others have made."""
        self._planted[place] = secret
        return secret

    def hits(self, seen: str) -> list[str]:
        """Places whose secrets can be read out of a text, with the form in which they stand there."""
        return [
            f"{place} ({form})"
            for place, secret in self._planted.items()
            for form, text in forms(secret).items()
            if text in seen
        ]


def forms(secret: str) -> dict[str, str]:
    """A secret as logs and dumps write it; base64 is that of a text that holds it somewhere."""
    content = secret.encode()
    found = {
        "plain": secret,
        "JSON": json.dumps(secret)[1:-1],
        "repr": ascii(secret)[1:-1],
        "URL": quote(secret, safe=""),
        "every byte quoted": "".join(f"%{byte:02X}" for byte in content),
        "hex": content.hex(),
        "reversed": secret[::-1],
        "JSON in JSON": json.dumps(json.dumps(secret))[1:-1],
    }
    for shift in range(3):
        # the first and the last group of four depend on what stands around the secret
        encoded = base64.b64encode(b"\0" * shift + content).decode()
        found[f"base64 after {shift}"] = encoded[4 : len(encoded) - 4]
    return found
