"""caikit-nlp-client's GrpcClient, which learns the messages by server reflection. The address is host:port."""

import sys

from caikit_nlp_client import GrpcClient
from caikitclient_calls import perform_with
from jobs import answer

host, _, port = sys.argv[1].rpartition(":")
answer(perform_with(GrpcClient(host, int(port), insecure=True)))
