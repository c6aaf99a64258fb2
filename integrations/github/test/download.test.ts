import assert from "node:assert/strict";
import { createHash, randomBytes } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import type { IncomingMessage, ServerResponse } from "node:http";
import { basename, join } from "node:path";
import { test } from "node:test";

import { download } from "../src/download.js";
import { Http } from "../src/http.js";
import type { Status, Submitted } from "../src/server.js";
import { FakeClock } from "./clock.js";
import { temporaryFolder } from "./folders.js";
import { served } from "./served.js";

const BYTES = randomBytes(300_000);
const SHA256 = createHash("sha256").update(BYTES).digest("hex");

async function fetched(
  handle: (request: IncomingMessage, response: ServerResponse, start: number) => void,
  fileName = "app.exe",
): Promise<{ path: string; folder: string; ranges: string[] }> {
  const folder = temporaryFolder();
  const ranges: string[] = [];
  let path = "";
  try {
    await served(
      (request, response) => {
        const range = request.headers.range ?? "";
        ranges.push(range);
        handle(request, response, Number(/\d+/.exec(range)?.[0] ?? 0));
      },
      async (url) => {
        const submitted = { signedArtifactUrl: `${url}/signed`, accessToken: "t" } as Submitted;
        const status = { output: { fileName, size: BYTES.length, sha256: SHA256 } } as Status;
        path = await download(new Http(url, 60_000, new FakeClock(), () => undefined), submitted, status, folder);
      },
    );
  } finally {
    assert.deepEqual(
      readdirSync(folder).filter((name) => name !== basename(path)),
      [],
      "nothing is left behind",
    );
  }
  return { path, folder, ranges };
}

function send(response: ServerResponse, start: number, count: number): void {
  const part = BYTES.subarray(start, start + count);
  response.writeHead(start > 0 ? 206 : 200, { "Content-Length": BYTES.length - start });
  response.write(part, () => (start + count < BYTES.length ? response.destroy() : response.end()));
}

test("what breaks off is taken up there", async () => {
  const { path, ranges } = await fetched((_, response, start) => {
    send(response, start, 120_000);
  });
  assert.ok(readFileSync(path).equals(BYTES));
  assert.ok(ranges.length >= 3 && ranges.slice(1).every((range) => /^bytes=\d+-$/.test(range)), String(ranges));
});

test("a server that knows no ranges sends it anew", async () => {
  let calls = 0;
  const { path } = await fetched((_, response) => {
    calls += 1;
    send(response, 0, calls === 1 ? 1000 : BYTES.length);
  });
  assert.ok(readFileSync(path).equals(BYTES));
});

test("other bytes, more bytes and another artifact are refused", async () => {
  const changed = Buffer.from(BYTES);
  changed[77] = (changed[77] ?? 0) ^ 1;
  const other = createHash("sha256").update("other").digest("base64");
  await assert.rejects(
    fetched((_, response) => response.end(changed)),
    /SHA-256/,
  );
  await assert.rejects(
    fetched((_, response) => response.end(Buffer.concat([BYTES, BYTES]))),
    /more than/,
  );
  await assert.rejects(
    fetched((_, response) => response.writeHead(200, { "Repr-Digest": `sha-256=:${other}:` }).end(BYTES)),
    /another artifact/,
  );
});

test("a name that leads elsewhere is not used", async () => {
  const { path, folder } = await fetched((_, response) => response.end(BYTES), "../../evil");
  assert.equal(path, join(folder, "signed-artifact"));
});
