"""The engine alone, on files of this machine: plan, sign and verify without a server."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import itertools
import os
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from sealwright.cli.frame import asynchronous, emit_json, json_option, pairs
from sealwright.errors import ArtifactError, ConfigurationError, InvalidInputError, SealwrightError

_MOST_MALFORMED = 20  # members of which is told that they are malformed

parameter_option = click.option(
    "--parameter",
    "parameters",
    multiple=True,
    callback=pairs,
    metavar="NAME=VALUE",
    help="Parameter of the artifact configuration; may be repeated.",
)
configuration_option = click.option(
    "--configuration",
    required=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Artifact configuration (XML).",
)
roots_option = click.option(
    "--roots",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="PEM: roots that <authenticode-verify> lets signers chain to.",
)
timestamp_roots_option = click.option(
    "--timestamp-roots",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="PEM: roots that time stamp authorities must chain to.  [default: --roots]",
)
file_argument = click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))


@click.command()
@file_argument
@configuration_option
@parameter_option
@click.option(
    "--certificate",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="PEM: the certificate that would sign; refuses what it could not sign.",
)
@roots_option
@timestamp_roots_option
@json_option
def plan(
    file: Path,
    configuration: Path,
    parameters: dict[str, str],
    certificate: Path | None,
    roots: Path | None,
    timestamp_roots: Path | None,
    as_json: bool,  # noqa: FBT001 - a flag of the command
) -> None:
    """Show what would be signed in FILE, and check it against its configuration.

    Without --roots, <authenticode-verify> does not ask to whom signers chain; signing always does.
    """
    from sealwright.signing.artifact import Identity
    from sealwright.signing.engine import plan_file

    trust = _trust(roots, timestamp_roots) or _unjudged()
    identity = Identity(_certificates(certificate)[0]) if certificate else None
    made = plan_file(file, configuration.read_bytes(), parameters, trust=trust, identity=identity)
    if as_json:
        click.echo(made.to_json())
        return
    for node in made.root.walk():
        depth = node.path.count("!/")
        done = ", ".join(directive.name for directive in node.directives)
        name = node.member or node.path
        click.echo(f"{'  ' * depth}{name}  <{node.element}>{'  ' + done if done else ''}")
    click.echo(f"{sum(len(node.signs) for node in made.root.walk())} signatures")
    for warning in made.warnings:
        click.echo(f"Warning: {warning}", err=True)


@click.command()
@file_argument
@roots_option
@timestamp_roots_option
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Artifact configuration to write.  [default: standard output]",
)
def analyze(
    file: Path, roots: Path | None, timestamp_roots: Path | None, output: Path | None
) -> None:
    """Propose an artifact configuration for files like FILE, for you to read and correct.

    What is not signed is to be signed; what others have signed is to be verified. With --roots only
    those count whose signers chain to one of them.
    """
    from sealwright.signing.engine import analyze_file

    proposed = analyze_file(file, _trust(roots, timestamp_roots) or _unjudged())
    if output is None:
        click.echo(proposed, nl=False)
    else:
        output.write_text(proposed, encoding="utf-8")


@click.command()
@file_argument
@configuration_option
@parameter_option
@click.option(
    "--key",
    required=True,
    metavar="PKCS11-URI",
    help="RFC 7512 URI of the private key, with module-path and pin-source.",
)
@click.option(
    "--certificate",
    required=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="PEM: the key's certificate, then its issuers.",
)
@click.option(
    "--output", required=True, type=click.Path(dir_okay=False, path_type=Path), help="Signed file."
)
@click.option(
    "--timestamp-url", "timestamp_urls", multiple=True, help="RFC 3161 authority; tried in order."
)
@click.option(
    "--timestamp-roots",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="PEM: roots that the authorities' certificates must lead to.",
)
@roots_option
@click.option("--sessions", type=click.IntRange(1, 64), default=1, show_default=True)
@click.option(
    "--network-token", is_flag=True, help="The PKCS#11 module needs the network (a network HSM)."
)
@json_option
@asynchronous
async def sign(
    file: Path,
    configuration: Path,
    parameters: dict[str, str],
    key: str,
    certificate: Path,
    output: Path,
    timestamp_urls: tuple[str, ...],
    timestamp_roots: Path | None,
    roots: Path | None,
    sessions: int,
    network_token: bool,  # noqa: FBT001
    as_json: bool,  # noqa: FBT001
) -> None:
    """Sign FILE with a key on a PKCS#11 token, without a server: no policy, no approval, no log.

    The result is verified before it appears at --output. The token is opened in a process of its
    own; the PIN is read from the file that the URI names.

    \b
    Example:
      sealwright sign app.zip --configuration app.xml --certificate cert.pem --output out.zip \\
        --key 'pkcs11:token=acme;object=release?module-path=/usr/lib/softhsm/libsofthsm2.so&\\
    pin-source=file:///etc/acme/pin'
    """
    from sealwright.signing.artifact import Identity, TimestampForm
    from sealwright.signing.engine import sign_file

    if timestamp_urls and timestamp_roots is None:
        message = (
            "--timestamp-url needs --timestamp-roots: a time stamp is judged before it is used."
        )
        raise ConfigurationError(message, advice="Name a PEM file with the authority's root.")
    chain = _certificates(certificate)
    identity = Identity(chain[0], tuple(chain[1:]), int(time.time()))
    loop = asyncio.get_running_loop()
    xml = await asyncio.to_thread(configuration.read_bytes)
    async with (
        _token(key, chain[0], sessions, network=network_token) as token,
        _timestamps(timestamp_urls, timestamp_roots) as stamper,
    ):

        async def answer(batch: Sequence[Any]) -> list[Any]:
            return await _answer(token, stamper, [pending.request for pending in batch])

        # the engine works in a thread; the token's processes belong to this one
        results = await asyncio.to_thread(
            sign_file,
            file,
            output,
            xml,
            identity,
            lambda batch: asyncio.run_coroutine_threadsafe(answer(batch), loop).result(),
            parameters=parameters,
            timestamp=TimestampForm.RFC3161 if timestamp_urls else TimestampForm.NONE,
            trust=_trust(roots, timestamp_roots),
        )
    if as_json:
        emit_json([vars(result) for result in results])
        return
    for result in results:
        click.echo(f"{result.path}: {result.summary}")


@click.command()
@file_argument
@click.option(
    "--roots",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="PEM: roots that signers must chain to.  [default: chains are not judged]",
)
@timestamp_roots_option
@json_option
def verify(
    file: Path,
    roots: Path | None,
    timestamp_roots: Path | None,
    as_json: bool,  # noqa: FBT001
) -> None:
    """Find every signature in FILE and in the containers inside, and check it.

    Fails where one does not verify or where there is none; also, after telling what it found, where
    a member is malformed. With --roots a signer has to chain to one of them, and Authenticode
    signatures are judged by all the rules of <authenticode-verify>.
    """
    from sealwright.signing.engine import verify_file
    from sealwright.signing.x509 import Certificate

    closed: list[str] = []
    malformed: list[ArtifactError] = []
    found = verify_file(file, closed=closed.append, malformed=malformed.append)
    if closed:
        more = f" and {len(closed) - 1} more" if len(closed) > 1 else ""
        click.echo(f"Not looked into: {closed[0]}{more}", err=True)
    if not found and not malformed:
        message = f"{file.name} holds no signature."
        raise InvalidInputError(message)
    trust = _trust(roots, timestamp_roots)
    if trust is not None:
        _judge(found, trust)
    facts = []
    for path, fact in found:
        signer = Certificate.parse(fact.signer)
        stamped = dt.datetime.fromtimestamp(fact.timestamp, dt.UTC) if fact.timestamp else None
        facts.append(
            {
                "path": path,
                "format": fact.format,
                "hash_algorithm": fact.hash_algorithm,
                "signer": signer.name,
                "signer_sha256": signer.fingerprint("sha256").hex(),
                "timestamp": stamped,
                "index": fact.index,
            }
        )
    _tell(facts, as_json)
    for error in malformed[1:_MOST_MALFORMED]:
        click.echo(f"Malformed too: {error.where}: {error.message}", err=True)
    if malformed:
        raise malformed[0]


def _tell(facts: Sequence[Mapping[str, Any]], as_json: bool) -> None:  # noqa: FBT001
    if as_json:
        emit_json(facts)
        return
    for each in facts:
        when = f", {each['timestamp']:%Y-%m-%d %H:%M:%S} UTC" if each["timestamp"] else ""
        click.echo(f"{each['path']}: {each['format']}, {each['hash_algorithm']}, "
                   f"{each['signer']}{when}")  # fmt: skip


def _trust(roots: Path | None, timestamp_roots: Path | None) -> Any:
    """Whom to trust now; None without roots."""
    from sealwright.signing.authenticode_trust import Trust, read_roots

    if roots is None:
        return None
    anchors = read_roots(roots.read_bytes())
    stamps = read_roots(timestamp_roots.read_bytes()) if timestamp_roots else anchors
    return Trust(anchors, stamps, int(time.time()))


def _unjudged() -> Any:
    from sealwright.signing.authenticode_trust import Trust

    return Trust((), (), int(time.time()), judges_chains=False)


def _judge(found: Sequence[tuple[str, Any]], trust: Any) -> None:
    """Demand trusted signers; the Authenticode signatures of one file are judged together."""
    from cryptography.x509.oid import ExtendedKeyUsageOID

    from sealwright.signing.authenticode_trust import Judge
    from sealwright.signing.x509 import Certificate, verify_chain

    judge = Judge(trust)
    anchors = [Certificate.parse(one) for one in trust.roots]
    for path, group in itertools.groupby(found, key=lambda each: each[0]):
        facts = [fact for _, fact in group]
        try:
            if any(fact.format == "authenticode" for fact in facts):
                judge.check([fact for fact in facts if fact.format == "authenticode"])
            for fact in facts:
                if fact.format != "authenticode":
                    verify_chain(
                        Certificate.parse(fact.signer),
                        [Certificate.parse(one) for one in fact.certificates],
                        anchors,
                        at=trust.now if fact.timestamp is None else fact.timestamp,
                        purpose=ExtendedKeyUsageOID.CODE_SIGNING,
                    )
        except SealwrightError as error:
            error.where = error.where or path
            raise


def _certificates(file: Path) -> list[bytes]:
    """DER of the certificates in a PEM file, in its order."""
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding

    try:
        return [
            one.public_bytes(Encoding.DER)
            for one in x509.load_pem_x509_certificates(file.read_bytes())
        ]
    except ValueError as error:
        message = f"{file} holds no certificate in PEM: {error}."
        raise ConfigurationError(message) from None


class _Token:
    """One key on a token, behind its session processes."""

    def __init__(self, pool: Any, key_id: bytes) -> None:
        self._pool = pool
        self._key_id = key_id

    async def sign(self, requests: Sequence[Any]) -> list[bytes]:
        from sealwright.signer.sessions import SignItem

        items = [
            SignItem(self._key_id, one.mechanism, one.hash_algorithm, one.digest)
            for one in requests
        ]
        answers = await self._pool.sign_batch(items)
        for answer in answers:
            if isinstance(answer, SealwrightError):
                raise answer
        return list(answers)


@contextlib.asynccontextmanager
async def _token(
    uri: str, certificate: bytes, sessions: int, *, network: bool
) -> AsyncIterator[_Token]:
    """Open the token and find the key that the URI and the certificate name."""
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    from sealwright.keystores.uri import Pkcs11Uri
    from sealwright.signer.sessions import SessionPool
    from sealwright.signing.x509 import Certificate

    parsed = Pkcs11Uri.parse(uri)
    pool = SessionPool(parsed, environment=dict(os.environ), network=network)
    await pool.start(sessions)
    try:
        public = Certificate.parse(certificate).public_key.public_bytes(
            Encoding.DER, PublicFormat.SubjectPublicKeyInfo
        )
        found = [
            one
            for one in await pool.list_keys()
            if one.public_key == public
            and parsed.id in (None, one.id)
            and parsed.object in (None, one.label)
        ]
        if not found:
            message = "The token holds no key of that name that belongs to the certificate."
            raise ConfigurationError(message, advice="Compare with 'pkcs11-tool --list-objects'.")
        yield _Token(pool, found[0].id)
    finally:
        await pool.close()


@contextlib.asynccontextmanager
async def _timestamps(urls: Sequence[str], roots: Path | None) -> AsyncIterator[Any]:
    """A client for the authorities; None without any."""
    from sealwright.signing.timestamp_client import TimestampClient
    from sealwright.signing.timestamp_http import TimestampHttp
    from sealwright.signing.timestamps import TimestampAuthority

    if not urls or roots is None:
        yield None
        return
    trusted = tuple(_certificates(roots))
    async with TimestampHttp() as http:
        yield TimestampClient([TimestampAuthority(url, url, trusted) for url in urls], http)


async def _answer(token: _Token, stamper: Any, requests: Sequence[Any]) -> list[Any]:
    from sealwright.signing.artifact import SignatureResult, TimestampForm
    from sealwright.signing.signature_value import stamped_value

    signatures = await token.sign(requests)
    results = []
    for request, signature in zip(requests, signatures, strict=True):
        stamp = None
        if request.timestamp is TimestampForm.RFC3161:
            value = stamped_value(request, signature)
            [stamp] = await stamper.stamp([value], request.hash_algorithm)
        results.append(SignatureResult(signature, stamp))
    return results


COMMANDS = [sign, verify, plan, analyze]
