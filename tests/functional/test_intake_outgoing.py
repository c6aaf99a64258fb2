"""The outgoing client over real connections, with a resolver that the tests command."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.file_server import FileServer, certificate_for, file_server

from sealwright.connectors.outgoing import OutgoingClient, OutgoingPolicy, Timeouts
from sealwright.errors import InvalidInputError, TooLargeError, UnavailableError

HOST = "files.example"
INTERNAL = OutgoingPolicy(internal_hosts=(HOST,), allow_http=True)


class Names:
    """A resolver that gives its answers in turn and remembers what it was asked."""

    def __init__(self, *answers: list[str]) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []

    async def __call__(self, host: str, port: int) -> list[str]:
        self.asked.append(host)
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


LOCAL = ["127.0.0.1"]


@pytest.fixture
async def files() -> AsyncIterator[FileServer]:
    async with file_server(address="0.0.0.0") as server:
        server.serve("/file", b"content")
        yield server


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "127.9.9.9", "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254",
     "0.0.0.0", "0.1.2.3", "100.64.0.1", "100.100.100.200", "168.63.129.16", "192.0.0.192",
     "198.18.0.1", "192.0.2.1", "224.0.0.1", "224.0.1.1", "239.255.255.250", "240.0.0.1",
     "255.255.255.255", "::", "::1", "::7f00:1", "::ffff:127.0.0.1", "::ffff:10.0.0.1",
     "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::a00:1", "fe80::1", "fe80::1%lo",
     "fec0::1", "fc00::1", "fd00:ec2::254", "ff02::1", "2001::1", "2001:db8::1", "2002:7f00:1::",
     "4000::1", "not an address", ""],
)  # fmt: skip
@pytest.mark.parametrize("company", [[], ["93.184.216.34"]])
async def test_addresses_that_no_stranger_may_name(address: str, company: list[str]) -> None:
    policy = OutgoingPolicy(allow_http=True)
    async with OutgoingClient(policy, resolve=Names([*company, address])) as client:
        with pytest.raises(InvalidInputError, match="may not call"):
            await client.send("GET", f"http://{HOST}:9/")


@pytest.mark.parametrize(
    "address",
    ["169.254.169.254", "0.0.0.0", "168.63.129.16", "100.100.100.200", "192.0.0.192",
     "fd00:ec2::254", "fe80::1", "224.0.0.1", "::ffff:169.254.169.254"],
)  # fmt: skip
async def test_addresses_that_even_internal_hosts_may_not_have(address: str) -> None:
    async with OutgoingClient(INTERNAL, resolve=Names([address])) as client:
        with pytest.raises(InvalidInputError, match="may not call"):
            await client.send("GET", f"http://{HOST}:9/")


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "localhost", "[::1]", "2130706433", "0x7f.1", "127.1", "0", "[::ffff:7f00:1]"],
)
async def test_spellings_of_loopback_with_the_real_resolver(files: FileServer, host: str) -> None:
    async with OutgoingClient(OutgoingPolicy(allow_http=True)) as client:
        with pytest.raises((InvalidInputError, UnavailableError)):
            await client.send("GET", f"http://{host}:{files.port}/file")
    assert files.received == []


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_an_internal_host_with_the_real_resolver(files: FileServer, host: str) -> None:
    policy = OutgoingPolicy(internal_hosts=(host,), allow_http=True)
    async with OutgoingClient(policy) as client:
        assert (await client.send("GET", f"http://{host}:{files.port}/file")).body == b"content"


async def test_ipv6() -> None:
    async with file_server(address="::1") as files:
        files.serve("/file", b"content")
        policy = OutgoingPolicy(internal_hosts=("::1", HOST), allow_http=True)
        async with OutgoingClient(policy, resolve=Names(["::1"])) as client:
            for host in ("[::1]", HOST):
                answer = await client.send("GET", f"http://{host}:{files.port}/file")
                assert answer.body == b"content"
        assert [r.header("Host") for r in files.received] == [
            f"[::1]:{files.port}",
            f"{HOST}:{files.port}",
        ]


async def test_the_connection_goes_to_the_judged_address(files: FileServer) -> None:
    names = Names(["127.0.0.2"], ["169.254.169.254"])
    async with OutgoingClient(INTERNAL, resolve=names) as client:
        answer = await client.send("GET", f"http://{HOST}:{files.port}/file")
        assert answer.body == b"content"
        assert names.asked == [HOST]
        assert files.received[0].local_address == "127.0.0.2"
        assert files.received[0].header("Host") == f"{HOST}:{files.port}"
        with pytest.raises(InvalidInputError, match="may not call"):
            await client.send("GET", f"http://{HOST}:{files.port}/file")
    assert len(files.received) == 1


async def test_a_rebinding_between_redirects_is_refused(files: FileServer) -> None:
    files.serve("/old", b"", "302 Found", "Location: /file\r\n")
    names = Names(LOCAL, ["169.254.169.254"])
    async with OutgoingClient(INTERNAL, resolve=names) as client:
        with pytest.raises(InvalidInputError, match="may not call"):
            await client.send("GET", f"http://{HOST}:{files.port}/old")
    assert len(files.received) == 1


async def test_the_next_address_is_tried(tmp_path: Path) -> None:
    async with file_server() as files:
        files.serve("/hook", b"ok")
        names = Names(["127.0.0.3", "127.0.0.1"])
        async with OutgoingClient(INTERNAL, resolve=names) as client:
            url = f"http://{HOST}:{files.port}/hook"
            answer = await client.send("POST", url, content=b"{}")
    assert answer.body == b"ok"


async def test_tls_verifies_the_name_not_the_address(tmp_path: Path) -> None:
    server, trust = certificate_for(HOST, tmp_path)
    policy = OutgoingPolicy(internal_hosts=(HOST, "other.example"))
    async with file_server(server) as files:
        files.serve("/file", b"content")
        async with OutgoingClient(policy, resolve=Names(LOCAL), tls=trust) as client:
            url = f"https://{HOST}:{files.port}/file"
            assert (await client.send("GET", url)).body == b"content"
            assert files.received[0].server_name == HOST
            with pytest.raises(UnavailableError, match="certificate was refused"):
                await client.send("GET", url.replace(HOST, "other.example"))
        async with OutgoingClient(policy, resolve=Names(LOCAL)) as client:
            with pytest.raises(UnavailableError, match="certificate was refused"):
                await client.send("GET", url)
    assert len(files.received) == 1


@pytest.mark.parametrize(
    "url",
    ["", "file", "//files.example/", "file:///etc/passwd", "ftp://files.example/",
     "gopher://files.example/", "http:///x", "https://", "https://user@files.example/",
     "https://user:secret@files.example/", "https://files.example/#x", "https://files.example:x/",
     "https://files.example:99999/", "https://files.example:-1/", "https://files.example/\0",
     "https://fil es.example/",
     "https://[::1/", "https://files.example/" + "a" * 5000, "https://" + "a" * 300 + "\udcff"],
)  # fmt: skip
async def test_urls_that_are_refused(url: str) -> None:
    async with OutgoingClient(OutgoingPolicy(), resolve=Names(LOCAL)) as client:
        with pytest.raises(InvalidInputError):
            await client.send("GET", url)
        with pytest.raises(InvalidInputError):
            client.check(url)


async def test_http_only_where_allowed() -> None:
    async with OutgoingClient(OutgoingPolicy(), resolve=Names(LOCAL)) as client:
        with pytest.raises(InvalidInputError, match="https"):
            client.check("http://files.example/")
        client.check("https://files.example/")


async def test_http_to_internal_hosts_alone() -> None:
    policy = OutgoingPolicy(
        internal_hosts=(HOST,), internal_networks=("10.1.0.0/16", "fd12::/32"), internal_http=True
    )
    async with OutgoingClient(policy, resolve=Names(LOCAL)) as client:
        for host in (HOST, "10.1.2.3", "[fd12::1]", "[::ffff:10.1.2.3]"):
            client.check(f"http://{host}/")
        for host in ("other.example", "10.2.0.1", "127.0.0.1", "[fd13::1]"):
            client.check(f"https://{host}/")
            with pytest.raises(InvalidInputError, match="https"):
                client.check(f"http://{host}/")


@pytest.mark.parametrize("hosts", [(), ("one.example",)])
async def test_networks_that_hosts_may_be_in(files: FileServer, hosts: tuple[str, ...]) -> None:
    policy = OutgoingPolicy(hosts=hosts, internal_networks=("127.0.0.0/30",), allow_http=True)
    names = Names(["127.0.0.2"], ["127.0.0.4"], ["127.0.0.2", "127.0.0.4"])
    async with OutgoingClient(policy, resolve=names) as client:
        url = f"http://one.example:{files.port}/file"
        assert (await client.send("GET", url)).body == b"content"
        for _ in range(2):
            with pytest.raises(InvalidInputError, match="may not call"):
                await client.send("GET", url)
        if hosts:
            with pytest.raises(InvalidInputError, match="not among"):
                client.check("https://two.example/")
        client.check("https://127.0.0.1/")
    assert len(files.received) == 1


async def test_the_list_of_hosts() -> None:
    policy = OutgoingPolicy(
        hosts=("one.example", "*.two.example"), internal_hosts=("three.example",)
    )
    async with OutgoingClient(policy, resolve=Names(LOCAL)) as client:
        for host in ["one.example", "ONE.example.", "a.two.example", "a.b.two.example"]:
            client.check(f"https://{host}/")
        client.check("https://three.example/")
        for host in ["two.example", "xtwo.example", "a.one.example", "one.example.evil", "four"]:
            with pytest.raises(InvalidInputError, match="not among the hosts"):
                client.check(f"https://{host}/")
        # On the list means on the list, not that the name may point inwards.
        with pytest.raises(InvalidInputError, match="may not call"):
            await client.send("GET", "https://one.example/")


async def test_redirects(files: FileServer) -> None:
    def redirect(path: str, location: str, status: str = "302 Found") -> None:
        files.serve(path, b"", status, f"Location: {location}\r\n")

    redirect("/same", "/file")
    redirect("/absolute", f"http://{HOST.upper()}:{files.port}/same", "308 Permanent Redirect")
    redirect("/loop", "/loop")
    redirect("/host", f"http://other.example:{files.port}/file")
    redirect("/port", f"http://{HOST}:1/file")
    redirect("/scheme", f"https://{HOST}:{files.port}/file")
    redirect("/local", "file:///etc/passwd")
    redirect("/user", f"http://a:b@{HOST}:{files.port}/file")
    base = f"http://{HOST}:{files.port}"
    async with OutgoingClient(INTERNAL, resolve=Names(LOCAL)) as client:
        for path in ("/same", "/absolute"):
            answer = await client.send("GET", base + path, headers={"Authorization": "x"})
            assert answer.body == b"content"
            assert files.received[-1].header("Authorization") == "x"
        for path in ("/loop", "/host", "/port", "/scheme", "/local", "/user"):
            with pytest.raises(InvalidInputError):
                await client.send("GET", base + path)
        assert (await client.send("POST", base + "/same", content=b"x")).status == 302


@pytest.mark.parametrize(
    "headers",
    [{"Host": "x"}, {"content-length": "1"}, {"Transfer-Encoding": "chunked"}, {"A B": "x"},
     {"": "x"}, {"A": "x\r\nB: y"}, {"A": "\0"}, {"A": "ü"}, {"A:": "x"},
     {f"A{i}": "x" for i in range(33)}, {"A": "x" * 9000}],
)  # fmt: skip
async def test_headers_that_are_refused(files: FileServer, headers: dict[str, str]) -> None:
    async with OutgoingClient(INTERNAL, resolve=Names(LOCAL)) as client:
        with pytest.raises(InvalidInputError):
            await client.send("GET", f"http://{HOST}:{files.port}/file", headers=headers)
    assert files.received == []


async def test_no_cookie_is_kept(files: FileServer) -> None:
    files.serve("/cookie", b"", headers="Set-Cookie: a=b\r\n")
    async with OutgoingClient(INTERNAL, resolve=Names(LOCAL)) as client:
        for _ in range(2):
            await client.send("GET", f"http://{HOST}:{files.port}/cookie")
    assert files.received[1].header("Cookie") is None


async def test_a_long_answer_is_cut_short(files: FileServer) -> None:
    files.serve("/long", bytes(100_000))
    async with OutgoingClient(INTERNAL, resolve=Names(LOCAL)) as client:
        with pytest.raises(TooLargeError):
            await client.send("GET", f"http://{HOST}:{files.port}/long")


async def test_slow_servers(files: FileServer) -> None:
    async def silent(writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(5)

    async def dripping(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        for _ in range(1000):
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(0.05)

    files.answers |= {"/silent": silent, "/dripping": dripping}
    timeouts = Timeouts(connect=1, idle=0.3, total=0.6)
    async with OutgoingClient(INTERNAL, resolve=Names(LOCAL)) as client:
        for path in files.answers.keys() - {"/file"}:
            with pytest.raises(UnavailableError, match="in time"):
                await client.send("GET", f"http://{HOST}:{files.port}{path}", timeouts=timeouts)


async def test_a_slow_resolver() -> None:
    async def resolve(host: str, port: int) -> list[str]:
        await asyncio.sleep(60)
        return LOCAL

    async with OutgoingClient(INTERNAL, resolve=resolve) as client:
        with pytest.raises(UnavailableError, match="in time"):
            await client.send("GET", f"http://{HOST}/", timeouts=Timeouts(total=0.2))


async def test_no_server_no_name_no_http(files: FileServer) -> None:
    async def unknown(host: str, port: int) -> list[str]:
        raise OSError

    files.answers["/junk"] = b"\x16\x03\x01 this is not HTTP\r\n\r\n"
    async with OutgoingClient(INTERNAL, resolve=unknown) as client:
        with pytest.raises(UnavailableError, match="cannot be resolved"):
            await client.send("GET", f"http://{HOST}/")
    async with OutgoingClient(INTERNAL, resolve=Names(LOCAL)) as client:
        with pytest.raises(UnavailableError, match="no connection"):
            await client.send("GET", f"http://{HOST}:1/")
        with pytest.raises(UnavailableError, match="cannot be reached"):
            await client.send("GET", f"http://{HOST}:{files.port}/junk")
