"""Entry for mitmproxy's own tools: `mitmdump -s proxy/mitm_entry.py --set inferbridge_config=inferbridge.yaml`.

Outside the package on purpose: mitmproxy runs the file as a script.
"""

from inferbridge.flows.entry import Entry

addons = [Entry()]
