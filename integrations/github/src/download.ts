/** Fetching the signed artifact: taken up where it broke off, and checked before it is there. */

import { createHash, randomBytes } from "node:crypto";
import { createReadStream, createWriteStream } from "node:fs";
import { mkdir, rename, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import { pipeline } from "node:stream/promises";

import { breathing, reason, type Answer, type Http } from "./http.js";
import { ActionError, AwayError, RefusedError } from "./problems.js";
import { accessHeaders, type Status, type Submitted } from "./server.js";
import { isSafeName } from "./text.js";

/**
 * The path of the downloaded file in `folder`; it appears whole and checked, or not at all.
 *
 * @throws AwayError, RefusedError; ActionError when the bytes are not those that the server signed.
 */
export async function download(http: Http, submitted: Submitted, status: Status, folder: string): Promise<string> {
  const { output } = status;
  if (!output) throw new ActionError("The signing request has no signed artifact.", "Open its page to see why.");
  await mkdir(folder, { recursive: true });
  const name = isSafeName(output.fileName) ? output.fileName : "signed-artifact";
  const partial = join(folder, `.sealwright-${randomBytes(6).toString("hex")}.partial`);
  try {
    await http.patiently(async () => {
      await fetchRest(http, submitted, partial, output);
    });
    const sha256 = await digest(partial);
    if (sha256 !== output.sha256) {
      throw new ActionError(
        `The download's SHA-256 is ${sha256}, not ${output.sha256} as the server says.`,
        "Run the step again. If it stays, something on the way to the server changes what it sends.",
      );
    }
    await rename(partial, join(folder, name));
  } finally {
    await rm(partial, { force: true });
  }
  return join(folder, name);
}

async function fetchRest(
  http: Http,
  submitted: Submitted,
  path: string,
  output: NonNullable<Status["output"]>,
): Promise<void> {
  const have = await sizeOf(path);
  const range = have > 0 ? { Range: `bytes=${have}-`, "If-Range": `"${output.sha256}"` } : {};
  let answer: Answer;
  try {
    answer = await http.open({
      method: "GET",
      url: submitted.signedArtifactUrl,
      headers: { ...accessHeaders(submitted), Accept: "application/octet-stream", ...range },
    });
  } catch (error) {
    // as much as the server has, but not what it signed: begin anew
    if (!(error instanceof RefusedError) || error.status !== 416 || have === 0) throw error;
    await rm(path, { force: true });
    throw new AwayError("The server has no more bytes than are here already.");
  }
  checkDigestHeader(answer, output.sha256);
  const append = answer.status === 206;
  try {
    const bounded = upTo(breathing(answer.message), output.size - (append ? have : 0));
    await pipeline(bounded, createWriteStream(path, { flags: append ? "a" : "w" }));
  } catch (error) {
    if (error instanceof ActionError || isDiskError(error)) throw error;
    throw new AwayError(`The download broke off: ${reason(error)}.`);
  }
  if ((await sizeOf(path)) < output.size) throw new AwayError("The download broke off.");
}

async function* upTo(chunks: AsyncIterable<Buffer>, limit: number): AsyncGenerator<Buffer> {
  let size = 0;
  for await (const chunk of chunks) {
    size += chunk.length;
    if (size > limit) throw new ActionError("The server sends more than the artifact has.", "Run the step again.");
    yield chunk;
  }
}

/** RFC 9530: the digest of the whole, whichever range is sent. */
function checkDigestHeader(answer: Answer, sha256: string): void {
  const header = answer.headers["repr-digest"];
  const told = typeof header === "string" ? /(?:^|[,\s])sha-256=:([A-Za-z0-9+/=]+):/.exec(header)?.[1] : undefined;
  if (told === undefined || Buffer.from(told, "base64").toString("hex") === sha256) return;
  answer.message.destroy();
  throw new ActionError("The server sends another artifact than the one of this request.", "Run the step again.");
}

export async function digest(path: string): Promise<string> {
  const hash = createHash("sha256");
  await pipeline(createReadStream(path), hash);
  return hash.digest("hex");
}

async function sizeOf(path: string): Promise<number> {
  try {
    return (await stat(path)).size;
  } catch {
    return 0;
  }
}

function isDiskError(error: unknown): boolean {
  return error instanceof Error && "syscall" in error && ["open", "write"].includes(String(error.syscall));
}
