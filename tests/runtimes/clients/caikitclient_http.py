"""caikit-nlp-client's HttpClient. The address is host:port."""

import sys

from caikit_nlp_client import HttpClient
from caikitclient_calls import perform_with
from jobs import answer

answer(perform_with(HttpClient(f"http://{sys.argv[1]}")))
