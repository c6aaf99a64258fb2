"""An S3 service for tests: moto, which speaks the protocol over HTTP and keeps it in memory."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from unittest import mock

import boto3
from moto.server import ThreadedMotoServer

_CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}


@contextlib.contextmanager
def s3_server() -> Iterator[str]:
    """Run the service on a free port; give its endpoint. Credentials are set in the environment."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    with mock.patch.dict(os.environ, _CREDENTIALS):
        server.start()
        try:
            _, port = server.get_host_and_port()
            yield f"http://127.0.0.1:{port}"
        finally:
            server.stop()


def new_bucket(endpoint: str) -> str:
    """Create an empty bucket and give its name."""
    name = f"artifacts-{secrets.token_hex(4)}"
    boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1").create_bucket(Bucket=name)
    return name
