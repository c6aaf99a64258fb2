import assert from "node:assert/strict";
import { test } from "node:test";

import { describe as describeStatus, follow, type Following } from "../src/follow.js";
import { RefusedError } from "../src/problems.js";
import type { Status, Submitted } from "../src/server.js";
import { FakeClock } from "./clock.js";

const SUBMITTED: Submitted = {
  id: "r1",
  state: "Submitted",
  webUrl: "https://s.example/r1",
  statusUrl: "https://s.example/api/r1",
  signedArtifactUrl: "https://s.example/api/r1/signed",
  accessToken: "swt_request_1",
  labels: [],
};

function status(state: string, more: Partial<Status> = {}): Status {
  const isFinal = ["Completed", "Failed", "Denied", "Canceled"].includes(state);
  const none = { reason: "", advice: "", quorum: 0, approvedBy: [], progress: undefined, output: undefined, files: [] };
  return { state, isFinal, version: "", ...none, ...more };
}

function following(answers: (Status | Error)[], took = 30_000) {
  const clock = new FakeClock();
  const lines: string[] = [];
  const tokens: string[] = [];
  const waits: number[] = [];
  const versions: string[] = [];
  const made: Following = {
    clock,
    read: (submitted, wait, known) => {
      tokens.push(submitted.accessToken);
      waits.push(wait);
      versions.push(known);
      clock.time += Math.min(took, wait * 1000);
      const answer = answers.length > 1 ? answers.shift() : answers[0];
      assert.ok(answer);
      return answer instanceof Error ? Promise.reject(answer) : Promise.resolve(answer);
    },
    renew: () => Promise.resolve({ ...SUBMITTED, accessToken: "swt_request_2" }),
    log: (line) => lines.push(line),
  };
  return { made, clock, lines, tokens, waits, versions };
}

test("each change is told once, and who is waited for", async () => {
  const waiting = status("WaitingForApproval", { quorum: 2 });
  const { made, lines } = following([
    status("Submitted"),
    waiting,
    waiting,
    { ...waiting, approvedBy: ["Ada\n::x"] },
    status("Completed"),
  ]);
  assert.equal((await follow(SUBMITTED, 3600, made)).status.state, "Completed");
  assert.deepEqual(
    lines.map((line) => line.replace(/ \(.*/, "")),
    [
      "Submitted",
      "WaitingForApproval: 0 of 2 approvals",
      "WaitingForApproval: 1 of 2 approvals, approved by Ada ::x",
      "Completed",
    ],
  );
});

test("a long wait is told of now and then", async () => {
  const { made, lines } = following([status("Processing")]);
  await follow(SUBMITTED, 3600, made);
  assert.ok(lines.length >= 12 && lines.length <= 14, String(lines.length));
});

test("it ends when its time does, and the last poll is as long as what is left", async () => {
  const { made, clock, waits } = following([status("QueuedForProcessing")]);
  const { status: last } = await follow(SUBMITTED, 75, made);
  assert.equal(last.isFinal, false);
  assert.deepEqual(waits.slice(0, 4), [0, 30, 30, 15]);
  assert.equal(clock.time, 75_000);
});

test("files are told of every ten seconds while they are signed", async () => {
  const at = (done: number) => status("Processing", { progress: { stage: "signing", done, files: 242 } });
  const { made, lines, waits } = following([at(0), at(17), at(17), at(230), status("Completed")]);
  await follow(SUBMITTED, 600, made);
  assert.deepEqual(waits, [0, 10, 10, 10, 10]);
  assert.deepEqual(lines, [
    "Processing: signing, 0 of 242 files (after 0 s)",
    "Processing: signing, 17 of 242 files (after 10 s)",
    "Processing: signing, 230 of 242 files (after 30 s)",
    "Completed (after 40 s)",
  ]);
});

test("no waiting is one look", async () => {
  const { made, waits } = following([status("Submitted")]);
  await follow(SUBMITTED, 0, made);
  assert.deepEqual(waits, [0]);
});

test("a server that answers at once is not hurried", async () => {
  const { made, clock } = following([status("Processing")], 0);
  await follow(SUBMITTED, 600, made);
  assert.ok(clock.slept.length < 70, String(clock.slept.length));
});

test("news at once is no reason to pause; it is asked for by what is known", async () => {
  const { made, clock, versions } = following(
    [
      status("Submitted", { version: "a-1" }),
      status("QueuedForProcessing", { version: "b-2" }),
      status("Processing", { version: "c-3" }),
      status("Processing", { version: "c-3" }),
      status("Completed", { version: "d-4" }),
    ],
    0,
  );
  await follow(SUBMITTED, 600, made);
  assert.deepEqual(versions, ["", "a-1", "b-2", "c-3", "c-3"]);
  assert.equal(clock.slept.length, 1);
});

test("a token that has run out is renewed, once", async () => {
  const refused = new RefusedError(401, "unauthenticated", []);
  const good = following([refused, status("Completed")]);
  await follow(SUBMITTED, 60, good.made);
  assert.deepEqual(good.tokens, ["swt_request_1", "swt_request_2"]);
  await assert.rejects(follow(SUBMITTED, 60, following([refused]).made), RefusedError);
});

test("states are shown in one line", () => {
  assert.equal(describeStatus(status("Processing\n::error::x")), "Processing ::error::x");
});
