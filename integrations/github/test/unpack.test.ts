import assert from "node:assert/strict";
import { mkdirSync, readdirSync, readFileSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";

import { ActionError } from "../src/problems.js";
import { unpack } from "../src/unpack.js";
import { temporaryFolder } from "./folders.js";
import { zip, type Member } from "./zips.js";

function prepared(members: readonly Member[] | Buffer) {
  const root = temporaryFolder();
  const folder = join(root, "out");
  mkdirSync(folder);
  const archive = join(root, "a.zip");
  writeFileSync(archive, Buffer.isBuffer(members) ? members : zip(members));
  return { root, folder, archive };
}

test("files, folders and what may be run", async () => {
  const { folder, archive } = prepared([
    { name: "bin/", mode: 0o040755 },
    { name: "bin/tool", data: "#!", mode: 0o100755 },
    { name: "docs/ä.txt", data: "text" },
  ]);
  mkdirSync(join(folder, "docs"));
  writeFileSync(join(folder, "docs/ä.txt"), "from before");
  const paths = await unpack(archive, folder);
  assert.deepEqual(paths, [join(folder, "bin/tool"), join(folder, "docs/ä.txt")]);
  assert.equal(readFileSync(join(folder, "docs/ä.txt"), "utf8"), "text");
  if (process.platform !== "win32") assert.equal(statSync(join(folder, "bin/tool")).mode & 0o111, 0o111);
  assert.deepEqual(readdirSync(folder).sort(), ["bin", "docs"]);
});

const HOSTILE: Record<string, readonly Member[] | Buffer> = {
  "a path upwards": [{ name: "../evil" }],
  "a path upwards inside": [{ name: "a/../../evil" }],
  "an absolute path": [{ name: "/tmp/evil" }],
  "a Windows path": [{ name: "..\\evil" }],
  "a drive": [{ name: "C:/evil" }],
  "a stream": [{ name: "a.txt:evil" }],
  "a device": [{ name: "aux.txt" }],
  "a dot at the end": [{ name: "a./b" }],
  "an empty component": [{ name: "a//b" }],
  "a null": [{ name: "a\0b" }],
  "a link": [{ name: "link", data: "/etc", mode: 0o120777 }],
  "a fifo": [{ name: "fifo", mode: 0o010644 }],
  "a name twice": [{ name: "a" }, { name: "a" }],
  "a name twice, folded": [{ name: "Readme" }, { name: "README" }],
  "a file that is a folder": [{ name: "a", data: "x" }, { name: "a/b" }],
  "an encrypted file": [{ name: "a", data: "x", flags: 0x801 }],
  "more bytes than said": [{ name: "a", data: "x".repeat(1000), size: 10 }],
  "a bomb by its own word": [{ name: "a", size: 0xfffffffe }, ...Array.from({ length: 20 }, (_, i) => ({ name: `b${i}`, size: 0xfffffffe }))],
  "no ZIP": Buffer.from("MZ not an archive"),
};

for (const [what, members] of Object.entries(HOSTILE)) {
  test(`nothing is unpacked: ${what}`, async () => {
    const { root, folder, archive } = prepared(members);
    await assert.rejects(unpack(archive, folder), (error) => {
      assert.ok(error instanceof ActionError, String(error));
      assert.ok(error.problems[0]?.howToFix);
      return true;
    });
    assert.deepEqual(readdirSync(folder), []);
    assert.deepEqual(readdirSync(root).sort(), ["a.zip", "out"]);
  });
}

test("a link that was there before leads nowhere", { skip: process.platform === "win32" }, async () => {
  const { root, folder, archive } = prepared([{ name: "sub/evil", data: "x" }]);
  symlinkSync(root, join(folder, "sub"));
  await assert.rejects(unpack(archive, folder), ActionError);
  assert.deepEqual(readdirSync(root).sort(), ["a.zip", "out"]);
});
