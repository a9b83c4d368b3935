"""The pure side: values, rules and codec helpers that generated code imports. No I/O, no mitmproxy."""
