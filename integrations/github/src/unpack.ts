/** Unpacking a signed ZIP: nothing lands outside its folder, and no name is taken for another. */

import { randomBytes } from "node:crypto";
import { createWriteStream } from "node:fs";
import { mkdir, readdir, realpath, rename, rm } from "node:fs/promises";
import { dirname, join, relative, sep } from "node:path";
import { pipeline } from "node:stream/promises";

import { openPromise, type Entry, type ZipFile } from "yauzl";

import { reason } from "./http.js";
import { ActionError } from "./problems.js";
import { isSafeName } from "./text.js";

const MOST_ENTRIES = 200_000;
const MOST_BYTES = 64 * 2 ** 30;
const FILE_TYPE = 0o170000;
const REGULAR = 0o100000;
const DIRECTORY = 0o040000;

/**
 * Unpack the archive into `folder`, over files of the same names; the paths of its files.
 *
 * @throws ActionError when it is no ZIP, or holds what should not be unpacked; then nothing is there.
 */
export async function unpack(archive: string, folder: string): Promise<string[]> {
  await mkdir(folder, { recursive: true });
  const staging = join(folder, `.sealwright-${randomBytes(6).toString("hex")}`);
  await mkdir(staging);
  try {
    await unpackAll(archive, staging);
    return await moveAll(staging, folder);
  } catch (error) {
    if (error instanceof ActionError) throw error;
    throw new ActionError(
      `The signed artifact cannot be unpacked: ${reason(error)}.`,
      "Set decompress: false where it is not a ZIP.",
    );
  } finally {
    await rm(staging, { recursive: true, force: true });
  }
}

async function unpackAll(archive: string, staging: string): Promise<void> {
  const zip = await openPromise(archive, { strictFileNames: true });
  try {
    if (zip.entryCount > MOST_ENTRIES) throw refused("it has too many entries");
    const seen = new Set<string>();
    let total = 0;
    for await (const entry of zip.eachEntry()) {
      total += entry.uncompressedSize;
      if (total > MOST_BYTES) throw refused("it is too large");
      check(entry, seen);
      await unpackEntry(zip, entry, join(staging, ...components(entry)));
    }
  } finally {
    zip.close();
  }
}

function components(entry: Entry): string[] {
  return entry.fileName.replace(/\/$/, "").split("/");
}

function check(entry: Entry, seen: Set<string>): void {
  const name = JSON.stringify(entry.fileName);
  if (!components(entry).every(isSafeName)) throw refused(`it has an unsafe name ${name}`);
  // as the file systems of Windows and macOS compare names
  const folded = components(entry).join("/").normalize("NFC").toLowerCase();
  if (seen.has(folded)) throw refused(`it has the name ${name} twice`);
  seen.add(folded);
  if (entry.isEncrypted()) throw refused(`${name} is encrypted`);
  const type = unixMode(entry) & FILE_TYPE;
  if (type !== 0 && type !== (entry.fileName.endsWith("/") ? DIRECTORY : REGULAR)) {
    throw refused(`${name} is a link or a special file`);
  }
}

function refused(why: string): ActionError {
  return new ActionError(
    `The signed artifact is not unpacked: ${why}.`,
    "Set decompress: false and unpack it with a tool of your choice.",
  );
}

async function unpackEntry(zip: ZipFile, entry: Entry, target: string): Promise<void> {
  if (entry.fileName.endsWith("/")) {
    await mkdir(target, { recursive: true });
    return;
  }
  await mkdir(dirname(target), { recursive: true });
  const mode = unixMode(entry) & 0o111 ? 0o755 : 0o644;
  await pipeline(await zip.openReadStreamPromise(entry), createWriteStream(target, { flags: "wx", mode }));
}

/** Zero where the archive was not made on Unix. */
function unixMode(entry: Entry): number {
  return entry.versionMadeBy >> 8 === 3 ? entry.externalFileAttributes >>> 16 : 0;
}

async function moveAll(staging: string, folder: string): Promise<string[]> {
  const entries = await readdir(staging, { recursive: true, withFileTypes: true });
  const root = await realpath(folder);
  const paths: string[] = [];
  for (const entry of entries) {
    const from = join(entry.parentPath, entry.name);
    const to = join(folder, relative(staging, from));
    if (entry.isDirectory()) {
      await mkdir(to, { recursive: true });
      continue;
    }
    await mkdir(dirname(to), { recursive: true });
    const parent = await realpath(dirname(to));
    // a link that was in the folder before must not lead out of it
    if (parent !== root && !parent.startsWith(root.endsWith(sep) ? root : root + sep)) {
      throw new ActionError(`${dirname(to)} leads out of the output folder.`, "Empty the output folder first.");
    }
    await rename(from, to);
    paths.push(to);
  }
  return paths.sort();
}
