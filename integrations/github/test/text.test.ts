import assert from "node:assert/strict";
import { test } from "node:test";

import { duration, isSafeName, markdown, plain } from "../src/text.js";

test("no text of others can speak to the runner or colour the log", () => {
  assert.equal(plain("a\n::add-mask::x\r\u001b[31m\u2028b\u202ec"), "a ::add-mask::x [31m b c");
  assert.equal(plain("x".repeat(5000)).length, 2001);
});

test("Markdown shows others' text as it is", () => {
  assert.doesNotMatch(markdown("a|b <img src=x> [l](javascript:x) `c` **d** @team\n# e"), /[|<>[\]`*@#](?!\d)|\n/);
  assert.equal(markdown("<b>"), "&lt;b&gt;");
});

test("names that mean something else somewhere are not safe", () => {
  for (const name of ["app.exe", "ä b", "-x", ".config", "com", "console"]) assert.ok(isSafeName(name), name);
  for (const name of ["", ".", "..", "a/b", "a\\b", "c:", "a:stream", "nul", "COM1.txt", "a.", "a ", "a\0", "x".repeat(256)])
    assert.ok(!isSafeName(name), name);
});

test("durations", () => {
  assert.deepEqual([5, 600, 7200].map(duration), ["5 s", "10 min", "2.0 h"]);
});
