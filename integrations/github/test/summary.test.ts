import assert from "node:assert/strict";
import { test } from "node:test";

import type { Inputs } from "../src/inputs.js";
import type { Status, Submitted } from "../src/server.js";
import { summarize } from "../src/summary.js";

test("nothing that others wrote changes the summary's form", () => {
  const evil = "x | y\n\n# <script>alert(1)</script> [l](javascript:1) `c`";
  const inputs = { project: evil, signingPolicy: evil } as Inputs;
  const submitted = { id: evil, webUrl: "https://s.example/r?a=|<b>&c", labels: [evil] } as unknown as Submitted;
  const status: Status = {
    state: evil,
    isFinal: true,
    version: evil,
    reason: evil,
    advice: evil,
    quorum: 0,
    approvedBy: [],
  progress: undefined,
    output: { fileName: evil, size: 1, sha256: "0".repeat(64) },
    files: Array.from({ length: 150 }, () => ({ path: evil, format: evil, directive: evil, sha256: evil })),
  };
  const lines = summarize(inputs, submitted, status).split("\n");
  for (const line of lines.filter((one) => one.startsWith("|"))) assert.ok([3, 5].includes(line.split("|").length - 1), line);
  assert.equal(lines.filter((line) => line.startsWith("#")).length, 1);
  assert.doesNotMatch(lines.join("\n"), /<(?!\/?(a|code)\b)|\]\(|javascript:/);
  assert.match(lines.join("\n"), /and 50 more/);
});
