import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";

import { readInputs, readParameters, type Inputs } from "../src/inputs.js";
import { ActionError } from "../src/problems.js";
import { temporaryFolder } from "./folders.js";

const folder = temporaryFolder();
writeFileSync(join(folder, "app.exe"), "MZ");

const GIVEN = {
  url: "https://sign.example.com/",
  "organization-id": "o1",
  "build-system": "github",
  project: "app",
  "signing-policy": "release",
  "github-artifact-id": "42",
  wait: "true",
  timeout: "60",
  "service-unavailable-timeout": "30",
  decompress: "auto",
};

function read(changes: Record<string, string> = {}): Inputs {
  const given: Record<string, string> = { ...GIVEN, ...changes };
  return readInputs((name) => given[name] ?? "", folder);
}

test("what is not given has a meaning", () => {
  const inputs = read();
  assert.equal(inputs.url, "https://sign.example.com");
  assert.equal(inputs.audience, "https://sign.example.com");
  assert.deepEqual(inputs.artifact, { id: "42" });
  assert.equal(inputs.decompress, true);
  assert.equal(inputs.outputDirectory, "");
});

test("a file is found from the workspace on, and is not unpacked", () => {
  const inputs = read({ "github-artifact-id": "", path: "app.exe", "output-directory": "signed" });
  assert.deepEqual(inputs.artifact, { path: join(folder, "app.exe") });
  assert.equal(inputs.outputDirectory, join(folder, "signed"));
  assert.equal(inputs.decompress, false);
});

test("a server under a path keeps it", () => {
  assert.equal(read({ url: "https://example.com/sign//" }).url, "https://example.com/sign");
});

for (const [why, changes] of Object.entries({
  "plain HTTP": { url: "http://sign.example.com" },
  "another scheme": { url: "file:///etc/passwd" },
  "a password in the address": { url: "https://u:p@sign.example.com" },
  "no project": { project: "" },
  "an organization that is a path": { "organization-id": "../x" },
  "no artifact": { "github-artifact-id": "" },
  "two artifacts": { path: "app.exe" },
  "an artifact id that is a name": { "github-artifact-id": "dist" },
  "a file that is missing": { "github-artifact-id": "", path: "missing.exe" },
  "a folder": { "github-artifact-id": "", path: "." },
  "a token with a line break": { token: "swt_a\nb" },
  "a wish that is neither": { wait: "yes" },
  "a time with a unit": { timeout: "5m" },
})) {
  test(`refused with advice: ${why}`, () => {
    assert.throws(
      () => read(changes),
      (error) => error instanceof ActionError && error.problems.every((one) => one.howToFix !== ""),
    );
  });
}

test("parameters, one a line", () => {
  assert.deepEqual(readParameters("version: 1.2.3\n\n# note\r\n url : https://x/?a=b: c \nempty:\n__proto__: x"), {
    version: "1.2.3",
    url: "https://x/?a=b: c",
    empty: "",
    ["__proto__"]: "x",
  });
  assert.throws(() => readParameters("version 1"), ActionError);
  assert.throws(() => readParameters("a: 1\na: 2"), ActionError);
});
