/** What the workflow asks for, checked before anything is sent. */

import { statSync } from "node:fs";
import { resolve } from "node:path";

import { ActionError } from "./problems.js";

export interface Inputs {
  /** Without a slash at its end. */
  readonly url: string;
  readonly organizationId: string;
  readonly buildSystem: string;
  readonly project: string;
  readonly signingPolicy: string;
  readonly artifactConfiguration: string;
  readonly artifact: { readonly id: string } | { readonly path: string };
  readonly description: string;
  readonly parameters: Readonly<Record<string, string>>;
  readonly token: string;
  readonly audience: string;
  readonly wait: boolean;
  /** Seconds. */
  readonly timeout: number;
  /** Seconds. */
  readonly serviceUnavailableTimeout: number;
  /** Absolute; empty: nothing is downloaded. */
  readonly outputDirectory: string;
  readonly decompress: boolean;
}

type Read = (name: string) => string;

/** @param read gives an input's text, trimmed; empty where it is not given. */
export function readInputs(read: Read, workspace: string): Inputs {
  const url = serverUrl(required(read, "url"));
  const artifact = readArtifact(read, workspace);
  const output = read("output-directory");
  return {
    url,
    organizationId: slug(read, "organization-id"),
    buildSystem: slug(read, "build-system"),
    project: required(read, "project"),
    signingPolicy: required(read, "signing-policy"),
    artifactConfiguration: read("artifact-configuration"),
    artifact,
    description: read("description"),
    parameters: readParameters(read("parameters")),
    token: readToken(read("token")),
    audience: read("audience") || url,
    wait: boolean(read, "wait"),
    timeout: seconds(read, "timeout"),
    serviceUnavailableTimeout: seconds(read, "service-unavailable-timeout"),
    outputDirectory: output && resolve(workspace, output),
    decompress: read("decompress") === "auto" ? "id" in artifact : boolean(read, "decompress"),
  };
}

function required(read: Read, name: string): string {
  const value = read(name);
  if (!value) throw new ActionError(`The input ${name} is empty.`, `Set it: with: ${name}: …`);
  return value;
}

function slug(read: Read, name: string): string {
  const value = required(read, name);
  if (!/^[\w.-]{1,128}$/.test(value)) {
    throw new ActionError(
      `The input ${name} is ${JSON.stringify(value)}.`,
      "Use the id or slug as the server shows it: letters, digits, '.', '-' and '_'.",
    );
  }
  return value;
}

/** Plain HTTP would show the token to everyone on the way. */
function serverUrl(value: string): string {
  const url = URL.canParse(value) ? new URL(value) : undefined;
  const loopback = url && /^(localhost|127(\.\d{1,3}){3}|\[::1\])$/.test(url.hostname);
  if (!url || !(url.protocol === "https:" || (url.protocol === "http:" && loopback))) {
    throw new ActionError(`The input url is ${JSON.stringify(value)}.`, "Use https://HOST of the Sealwright server.");
  }
  if (url.username || url.password || url.search || url.hash) {
    throw new ActionError("The input url holds more than an address.", "Leave out user, query and fragment.");
  }
  return url.href.replace(/\/+$/, "");
}

function readArtifact(read: Read, workspace: string): Inputs["artifact"] {
  const id = read("github-artifact-id");
  const given = read("path");
  if (Boolean(id) === Boolean(given)) {
    throw new ActionError(
      id ? "Both github-artifact-id and path are given." : "Neither github-artifact-id nor path is given.",
      "Give one: github-artifact-id: ${{ steps.upload.outputs.artifact-id }}, or path: FILE. " +
        "An id that comes out empty means that the upload step has another id or did not run.",
    );
  }
  if (id) {
    if (!/^[1-9]\d{0,18}$/.test(id)) {
      throw new ActionError(
        `The input github-artifact-id is ${JSON.stringify(id)}.`,
        "Use the output artifact-id of actions/upload-artifact, which is a number.",
      );
    }
    return { id };
  }
  const path = resolve(workspace, given);
  const found = statSync(path, { throwIfNoEntry: false });
  if (!found?.isFile()) {
    throw new ActionError(
      found ? `${given} is not a file.` : `There is no file ${given}.`,
      "Name one file, from the workspace on. For several files use actions/upload-artifact and github-artifact-id.",
    );
  }
  return { path };
}

/** One `name: value` a line; an empty line or one that starts with `#` is left out. */
export function readParameters(lines: string): Record<string, string> {
  const parameters = new Map<string, string>();
  for (const line of lines.split(/\r?\n/)) {
    if (/^\s*(#|$)/.test(line)) continue;
    const [, name, value] = /^\s*([\w.-]{1,100})\s*:\s*(.*?)\s*$/.exec(line) ?? [];
    if (name === undefined || value === undefined) {
      throw new ActionError(`The parameter line ${JSON.stringify(line)} is not "name: value".`, "Write one pair a line.");
    }
    if (parameters.has(name)) throw new ActionError(`The parameter ${name} is given twice.`, "Leave one out.");
    parameters.set(name, value);
  }
  return Object.fromEntries(parameters);
}

function readToken(token: string): string {
  if (!/^[\x21-\x7e]*$/.test(token)) {
    throw new ActionError("The input token holds blanks or line breaks.", "Store the bare token in the secret.");
  }
  return token;
}

function boolean(read: Read, name: string): boolean {
  const value = read(name).toLowerCase();
  if (value !== "true" && value !== "false") {
    throw new ActionError(`The input ${name} is ${JSON.stringify(value)}.`, "Use true or false.");
  }
  return value === "true";
}

function seconds(read: Read, name: string): number {
  const value = read(name);
  if (!/^\d{1,7}$/.test(value)) {
    throw new ActionError(`The input ${name} is ${JSON.stringify(value)}.`, "Use a whole number of seconds.");
  }
  return Number(value);
}
