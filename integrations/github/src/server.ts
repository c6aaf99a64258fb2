/** The server's wire for CI systems: submit, follow, and where to download. */

import { createReadStream, statSync } from "node:fs";
import { basename } from "node:path";
import { randomBytes } from "node:crypto";
import { Readable } from "node:stream";

import type { Call, Http } from "./http.js";
import type { Inputs } from "./inputs.js";
import { ActionError, isRecord, text } from "./problems.js";

/** Which run asks; what GitHub says of itself in the job's environment. Nothing of it is believed. */
export interface Run {
  readonly repository: string;
  readonly id: string;
  readonly attempt: number;
}

/** What to prove oneself with. Fetched anew for every try: the server takes an identity token once. */
export interface Proof {
  /** API token of a CI user, or empty. */
  readonly token: string;
  /** OpenID Connect token of the run, or empty. */
  readonly identity: string;
}

export interface Submitted {
  readonly id: string;
  readonly state: string;
  readonly webUrl: string;
  readonly statusUrl: string;
  readonly signedArtifactUrl: string;
  /** Reads only this request. */
  readonly accessToken: string;
  /** What stands behind the origin, for people. */
  readonly labels: readonly string[];
}

export interface SignedFile {
  readonly path: string;
  readonly format: string;
  readonly directive: string;
  readonly sha256: string;
}

export interface Status {
  readonly state: string;
  readonly isFinal: boolean;
  /** Another one after every change; empty from servers that have none. */
  readonly version: string;
  readonly reason: string;
  readonly advice: string;
  /** Approvals needed, and who has approved. */
  readonly quorum: number;
  readonly approvedBy: readonly string[];
  /** How far the server has come with the files; undefined while there is nothing to tell. */
  readonly progress: { readonly stage: string; readonly done: number; readonly files: number } | undefined;
  readonly output: { readonly fileName: string; readonly size: number; readonly sha256: string } | undefined;
  readonly files: readonly SignedFile[];
}

/**
 * Submit; again and again while the server is away: a submission of the same run, attempt, artifact
 * and policy is the same request.
 */
export async function submit(http: Http, inputs: Inputs, run: Run, prove: () => Promise<Proof>): Promise<Submitted> {
  const { url, organizationId, buildSystem } = inputs;
  const target = `${url}/api/v1/organizations/${organizationId}/ci/${buildSystem}/signing-requests`;
  const request = requestBody(inputs, run);
  const answer = await http.json(async () => {
    const credentials = credentialHeaders(await prove());
    return "id" in inputs.artifact
      ? {
          method: "POST",
          url: target,
          headers: { ...credentials, "Content-Type": "application/json" },
          body: JSON.stringify({ ...request, artifact_id: inputs.artifact.id }),
        }
      : formCall(target, credentials, JSON.stringify(request), inputs.artifact.path);
  });
  return submitted(answer);
}

/** The request now, or once it is final or another version than `known` within `wait` seconds. */
export async function readStatus(http: Http, submitted: Submitted, wait: number, known: string): Promise<Status> {
  const url = new URL(submitted.statusUrl);
  url.searchParams.set("wait", String(wait));
  if (known) url.searchParams.set("known", known);
  return status(await http.json(() => ({ method: "GET", url: url.href, headers: accessHeaders(submitted) })));
}

export function accessHeaders(submitted: Submitted): Record<string, string> {
  return { Authorization: `Bearer ${submitted.accessToken}`, Accept: "application/json" };
}

function credentialHeaders(proof: Proof): Record<string, string> {
  return {
    Accept: "application/json",
    Authorization: `Bearer ${proof.token || proof.identity}`,
    ...(proof.token && proof.identity ? { "X-Sealwright-Identity-Token": proof.identity } : {}),
  };
}

function requestBody(inputs: Inputs, run: Run): Record<string, unknown> {
  return {
    project: inputs.project,
    signing_policy: inputs.signingPolicy,
    ...(inputs.artifactConfiguration ? { artifact_configuration: inputs.artifactConfiguration } : {}),
    ...(inputs.description ? { description: inputs.description } : {}),
    parameters: inputs.parameters,
    repository: run.repository,
    run_id: run.id,
    run_attempt: run.attempt,
  };
}

/** multipart/form-data (RFC 7578) with a length known beforehand, streamed from the file. */
function formCall(url: string, headers: Record<string, string>, request: string, path: string): Call {
  const boundary = `sealwright-${randomBytes(16).toString("hex")}`;
  const name = basename(path).replace(/[\r\n"\\]/g, "_");
  const head = Buffer.from(
    `--${boundary}\r\nContent-Disposition: form-data; name="request"\r\nContent-Type: application/json\r\n\r\n` +
      `${request}\r\n--${boundary}\r\nContent-Disposition: form-data; name="artifact"; filename="${name}"\r\n` +
      "Content-Type: application/octet-stream\r\n\r\n",
  );
  const tail = Buffer.from(`\r\n--${boundary}--\r\n`);
  const size = statSync(path).size;
  return {
    method: "POST",
    url,
    headers: {
      ...headers,
      "Content-Type": `multipart/form-data; boundary=${boundary}`,
      "Content-Length": String(head.length + size + tail.length),
    },
    body: () => Readable.from(formParts(head, path, size, tail), { objectMode: false }),
  };
}

async function* formParts(head: Buffer, path: string, size: number, tail: Buffer): AsyncGenerator<Buffer> {
  yield head;
  let sent = 0;
  for await (const chunk of createReadStream(path, { highWaterMark: 1 << 20 }) as AsyncIterable<Buffer>) {
    sent += chunk.length;
    yield chunk;
  }
  if (sent !== size) throw new Error("its size changed while it was sent");
  yield tail;
}

function submitted(answer: unknown): Submitted {
  const document = isRecord(answer) ? answer : {};
  const made = {
    id: text(document, "id"),
    state: text(document, "state"),
    webUrl: text(document, "web_url"),
    statusUrl: text(document, "status_url"),
    signedArtifactUrl: text(document, "signed_artifact_url"),
    accessToken: text(document, "access_token"),
  };
  const absent = Object.entries(made).filter(([name, value]) => !value || (name.endsWith("Url") && !URL.canParse(value)));
  if (absent.length > 0) {
    throw new ActionError(
      `The server's answer lacks ${absent.map(([name]) => name).join(", ")}.`,
      "Check that url is the address of a Sealwright server, and that the server is not older than this action.",
    );
  }
  return { ...made, labels: texts(document["labels"]) };
}

function status(answer: unknown): Status {
  const document = isRecord(answer) ? answer : {};
  const state = text(document, "state");
  if (!state || typeof document["is_final"] !== "boolean") {
    throw new ActionError("The server's answer has no state.", "Check that the server is not older than this action.");
  }
  return {
    state,
    isFinal: document["is_final"],
    version: text(document, "version"),
    reason: text(document, "reason"),
    advice: text(document, "advice"),
    quorum: typeof document["quorum"] === "number" ? document["quorum"] : 0,
    approvedBy: records(document["approvals"])
      .filter((one) => one["verdict"] === "approve")
      .map((one) => (isRecord(one["user"]) ? text(one["user"], "name") : "")),
    progress: progress(document["progress"]),
    output: output(document["output"]),
    files: records(document["files"]).map((one) => ({
      path: text(one, "path"),
      format: text(one, "format"),
      directive: text(one, "directive"),
      sha256: text(one, "sha256_after"),
    })),
  };
}

function progress(value: unknown): Status["progress"] {
  if (!isRecord(value)) return undefined;
  const [done, files] = [value["done"], value["files"]];
  if (typeof done !== "number" || typeof files !== "number" || files <= 0) return undefined;
  return { stage: text(value, "stage"), done, files };
}

function output(value: unknown): Status["output"] {
  if (!isRecord(value)) return undefined;
  const sha256 = text(value, "sha256").toLowerCase();
  const size = value["size"];
  if (!/^[0-9a-f]{64}$/.test(sha256) || typeof size !== "number" || !Number.isSafeInteger(size) || size < 0) {
    throw new ActionError("The server's answer describes no artifact that can be checked.");
  }
  return { fileName: text(value, "file_name"), size, sha256 };
}

function records(value: unknown): Record<string, unknown>[] {
  return Array.isArray(value) ? value.filter(isRecord) : [];
}

function texts(value: unknown): string[] {
  return Array.isArray(value) ? value.filter((one) => typeof one === "string") : [];
}
