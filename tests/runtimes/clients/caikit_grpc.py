"""caikit.runtime.client over gRPC. The address is host:port."""

import sys

from caikit_runtime_calls import perform_with
from jobs import answer

answer(perform_with("grpc", sys.argv[1]))
