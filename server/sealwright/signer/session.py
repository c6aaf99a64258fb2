"""A session process: one thread, one PKCS#11 session, no database.

Started by `sessions.SessionPool` as ``python -P -m sealwright.signer.session FD PARENT``; it talks
over the socket FD (see `wire`) and ends when that is closed or its parent is gone.
"""

from __future__ import annotations

import datetime as dt
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from sealwright.errors import SealwrightError
from sealwright.keystores import certificates
from sealwright.keystores.pkcs11 import Token
from sealwright.keystores.uri import Pkcs11Uri
from sealwright.model.certificate import CertificateUsage
from sealwright.model.mechanism import KeyAlgorithm
from sealwright.signer import wire
from sealwright.signer.confinement import confine
from sealwright.signer.wire import Json, SignItem


def main() -> None:
    """Confine the process, open the token as the first message says, and serve."""
    channel = socket.socket(fileno=int(sys.argv[1]))
    parent = int(sys.argv[2])
    with channel, channel.makefile("rb") as requests:
        settings = _receive(requests)
        if settings is None:
            return
        confined = confine(parent, network=settings["network"])
        try:
            token = Token.open(
                Pkcs11Uri.parse(settings["uri"]),
                pin_file=_path(settings["pin_file"]),
                state_folder=_path(settings["state_folder"]),
            )
        except SealwrightError as error:
            channel.sendall(wire.encode(wire.encode_error(error)))
            return
        with token:
            channel.sendall(wire.encode({"result": {"confined": confined}}))
            while (request := _receive(requests)) is not None:
                _answer(token, request, channel)


def _answer(token: Token, request: Json, channel: socket.socket) -> None:
    operation = request.pop("op")
    if operation == "sign":
        for fields in request["items"]:
            channel.sendall(wire.encode(_sign(token, SignItem.decode(fields))))
        return
    try:
        answer = {"result": _OPERATIONS[operation](token, request)}
    except SealwrightError as error:
        answer = wire.encode_error(error)
    channel.sendall(wire.encode(answer))


def _sign(token: Token, item: SignItem) -> Json:
    try:
        return token.sign(item.key_id, item.mechanism, item.hash_algorithm, item.digest).hex()
    except SealwrightError as error:
        return wire.encode_error(error)


def _receive(requests: BinaryIO) -> Json | None:
    header = requests.read(wire.HEADER)
    if len(header) < wire.HEADER:
        return None
    return wire.decode(requests.read(wire.length(header)))


def _path(text: str | None) -> Path | None:
    return None if text is None else Path(text)


def _validity(request: Json) -> dt.timedelta:
    return dt.timedelta(seconds=request["validity"])


def _list_keys(token: Token, _: Json) -> Json:
    return [wire.encode_key(key) for key in token.list_keys()]


def _generate_key(token: Token, request: Json) -> Json:
    algorithm = KeyAlgorithm(request["algorithm"])
    return wire.encode_key(token.generate_key(algorithm, request["label"]))


def _import_key(token: Token, request: Json) -> Json:
    return wire.encode_key(token.import_key(bytes.fromhex(request["key"]), request["label"]))


def _self_signed_certificate(token: Token, request: Json) -> Json:
    key_id = bytes.fromhex(request["key_id"])
    return certificates.self_signed_certificate(
        token,
        key_id,
        request["subject"],
        _validity(request),
        usage=CertificateUsage(request["usage"]),
    ).hex()


def _certificate_authority(token: Token, request: Json) -> Json:
    key_id = bytes.fromhex(request["key_id"])
    return certificates.certificate_authority(
        token, key_id, request["subject"], _validity(request)
    ).hex()


def _issue_certificate(token: Token, request: Json) -> Json:
    return certificates.issue_certificate(
        token,
        bytes.fromhex(request["issuer_key_id"]),
        bytes.fromhex(request["issuer_certificate"]),
        public_key=bytes.fromhex(request["public_key"]),
        subject=request["subject"],
        validity=_validity(request),
        usage=CertificateUsage(request["usage"]),
    ).hex()


def _certificate_signing_request(token: Token, request: Json) -> Json:
    key_id = bytes.fromhex(request["key_id"])
    return certificates.certificate_signing_request(token, key_id, request["subject"]).hex()


_OPERATIONS: dict[str, Callable[[Token, Json], Json]] = {
    "list_keys": _list_keys,
    "generate_key": _generate_key,
    "import_key": _import_key,
    "self_signed_certificate": _self_signed_certificate,
    "certificate_authority": _certificate_authority,
    "issue_certificate": _issue_certificate,
    "certificate_signing_request": _certificate_signing_request,
}


if __name__ == "__main__":
    main()
