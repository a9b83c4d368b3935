"""caikit.runtime.client over REST. The address is host:port."""

import sys

from caikit_runtime_calls import perform_with
from jobs import answer

answer(perform_with("http", sys.argv[1]))
