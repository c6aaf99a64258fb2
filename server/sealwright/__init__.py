"""Sealwright: a self-hosted, CI-native code-signing server.

The way of a signing request, one file for each half:

    submit.py   receive -> verify origin -> decide -> record -> enqueue          (web process)
    fulfil.py   load -> re-check -> deep-sign -> verify -> store -> log -> report (worker)

The signer process decides a third time, for itself, before the token is used (`signer/`).
"""

__version__ = "0.1.0"
