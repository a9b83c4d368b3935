"""Where settings were read from, and can be read again."""

import os
from dataclasses import dataclass
from pathlib import Path

from inferbridge.config import Flags, Settings
from inferbridge.gateway import build


@dataclass(slots=True)
class Source:
    """A file, flags, and this process' environment."""

    file: Path | None
    flags: Flags
    text: bytes | None = None
    """What the file held when it was last read; None before."""

    def read(self) -> Settings:
        """The settings as they are now. Raises `SettingsError`."""
        try:
            text = self.file.read_bytes() if self.file is not None else None
        except OSError:
            text = None  # whoever reads it once more says why it cannot be read
        settings = self.parsed(text)
        self.text = text
        return settings

    def parsed(self, text: bytes | None) -> Settings:
        """The settings if the file held this. Raises `SettingsError`."""
        return build.settings(self.file, os.environ, self.flags, text)
