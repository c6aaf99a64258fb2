import assert from "node:assert/strict";
import { createServer } from "node:net";
import { test } from "node:test";

import { Http } from "../src/http.js";
import { ActionError, AwayError, RefusedError } from "../src/problems.js";
import { FakeClock } from "./clock.js";
import { served } from "./served.js";

const quiet = () => undefined;

async function json(http: Http, url: string): Promise<unknown> {
  return http.json(() => ({ method: "GET", url, headers: {} }));
}

test("an overloaded server is asked again when it says, and not for ever", async () => {
  const clock = new FakeClock();
  let calls = 0;
  await served(
    (_, response) => {
      calls += 1;
      response.writeHead(calls < 3 ? 429 : 200, { "Retry-After": "7" }).end('{"a": 1}');
    },
    async (url) => {
      assert.deepEqual(await json(new Http(url, 60_000, clock, quiet), url), { a: 1 });
    },
  );
  assert.ok(clock.slept.every((one) => one >= 7000 && one <= 8750) && clock.slept.length === 2);
});

for (const status of [408, 502, 503, 504]) {
  test(`${status} for ever ends when the patience does`, async () => {
    const clock = new FakeClock();
    await served(
      (_, response) => response.writeHead(status).end(),
      async (url) => {
        await assert.rejects(json(new Http(url, 60_000, clock, quiet), url), AwayError);
      },
    );
    assert.ok(clock.time >= 60_000 && clock.time < 61_000, String(clock.time));
  });
}

test("a connection that is cut or refused is tried again", async () => {
  const warnings: string[] = [];
  const cutting = createServer((socket) => socket.destroy());
  await new Promise<void>((resolve) => cutting.listen(0, "127.0.0.1", resolve));
  const address = cutting.address();
  assert.ok(address && typeof address === "object");
  const url = `http://127.0.0.1:${address.port}`;
  const http = new Http(url, 5_000, new FakeClock(), (message) => warnings.push(message));
  await assert.rejects(json(http, url), AwayError);
  cutting.close();
  await assert.rejects(json(http, url), /ECONNREFUSED/);
  assert.ok(warnings.length >= 4);
});

test("a refusal is final, with every error and its remedy", async () => {
  let calls = 0;
  const body = JSON.stringify({
    code: "origin_not_verified",
    detail: "The origin is not allowed.",
    errors: [{ error: "branch is dev", how_to_fix: "push to main" }, { error: "re-run" }, 7],
  });
  await served(
    (_, response) => {
      calls += 1;
      response.writeHead(403).end(body);
    },
    async (url) => {
      await assert.rejects(json(new Http(url, 60_000, new FakeClock(), quiet), url), (error) => {
        assert.ok(error instanceof RefusedError);
        assert.equal(error.status, 403);
        assert.deepEqual(error.problems, [
          { error: "branch is dev", howToFix: "push to main" },
          { error: "re-run", howToFix: "" },
        ]);
        return true;
      });
    },
  );
  assert.equal(calls, 1);
});

test("nothing is sent elsewhere, and no redirect is followed", async () => {
  await served(
    (request, response) => {
      assert.equal(request.url, "/");
      response.writeHead(302, { Location: "/elsewhere" }).end();
    },
    async (url) => {
      const http = new Http(url, 0, new FakeClock(), quiet);
      await assert.rejects(json(http, url), /redirects/);
      await assert.rejects(json(http, "http://127.0.0.1:1/"), /address elsewhere/);
    },
  );
});

test("an answer that is not the server's", async () => {
  for (const body of ["<html>log in</html>", "x".repeat(17 * 2 ** 20)]) {
    await served(
      (_, response) => response.end(body),
      async (url) => {
        await assert.rejects(json(new Http(url, 0, new FakeClock(), quiet), url), ActionError);
      },
    );
  }
});
