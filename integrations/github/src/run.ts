/** The whole step, one line a stage. */

import * as core from "@actions/core";
import { appendFile, mkdir, mkdtemp, rm } from "node:fs/promises";
import { join } from "node:path";

import { realClock } from "./clock.js";
import { download } from "./download.js";
import { follow } from "./follow.js";
import { Http, reason } from "./http.js";
import { readInputs, type Inputs } from "./inputs.js";
import { ActionError, RefusedError } from "./problems.js";
import { readStatus, submit, type Proof, type Run, type Status, type Submitted } from "./server.js";
import { summarize } from "./summary.js";
import { plain } from "./text.js";
import { unpack } from "./unpack.js";

type Environment = Readonly<Record<string, string | undefined>>;

export async function run(environment: Environment): Promise<void> {
  const inputs = readInputs((name) => core.getInput(name), environment["GITHUB_WORKSPACE"] ?? process.cwd());
  if (inputs.token) core.setSecret(inputs.token);
  const http = new Http(inputs.url, inputs.serviceUnavailableTimeout * 1000, realClock, warn);

  const send = async () => {
    const made = await submit(http, inputs, runOf(environment), () => prove(inputs, environment));
    core.setSecret(made.accessToken);
    return made;
  };
  const first = await send();
  announce(first);

  const { submitted, status } = await follow(first, inputs.wait ? inputs.timeout : 0, {
    clock: realClock,
    read: (of, wait, known) => readStatus(http, of, wait, known),
    renew: send,
    log: core.info,
  });
  core.setOutput("state", plain(status.state));
  await appendSummary(environment, summarize(inputs, submitted, status));

  if (inputs.wait) checkEnd(status, submitted, inputs);
  if (status.state === "Completed" && inputs.outputDirectory) {
    await withRenewal(submitted, send, (access) => hand(http, inputs, access, status));
  }
}

/** Tell a failure to the log and to the run's page, and fail the step. */
export function fail(error: unknown): void {
  const problems = error instanceof ActionError ? error.problems : [{ error: plain(reason(error)), howToFix: "" }];
  for (const { error: what, howToFix } of problems) {
    core.error(howToFix ? `${what}\nHow to fix: ${howToFix}` : what, { title: "Sealwright" });
  }
  process.exitCode = core.ExitCode.Failure;
}

function runOf(environment: Environment): Run {
  const { GITHUB_REPOSITORY: repository, GITHUB_RUN_ID: id, GITHUB_RUN_ATTEMPT: attempt } = environment;
  if (!repository || !id) throw new ActionError("This is not a run of GitHub Actions.", "Use it as a step of a workflow.");
  return { repository, id, attempt: Number(attempt ?? "1") || 1 };
}

async function prove(inputs: Inputs, environment: Environment): Promise<Proof> {
  const offered = Boolean(environment["ACTIONS_ID_TOKEN_REQUEST_URL"]);
  if (!offered && !inputs.token) {
    throw new ActionError(
      "There is nothing to prove this run with: no OpenID Connect token is offered, and no token is given.",
      "Add `permissions: id-token: write` to the job (not to be had in runs of forks), or give the input token.",
    );
  }
  try {
    return { token: inputs.token, identity: offered ? await core.getIDToken(inputs.audience) : "" };
  } catch (error) {
    throw new ActionError(`GitHub gives no OpenID Connect token: ${reason(error)}.`, "Run the job again.");
  }
}

function announce(submitted: Submitted): void {
  core.setOutput("signing-request-id", plain(submitted.id));
  core.setOutput("signing-request-url", plain(submitted.webUrl));
  core.info(`Signing request ${plain(submitted.id)}: ${plain(submitted.webUrl)}`);
  if (submitted.labels.length > 0) core.info(`Origin: ${plain(submitted.labels.join("; "))}`);
}

function checkEnd(status: Status, submitted: Submitted, inputs: Inputs): void {
  if (status.state === "Completed") return;
  if (status.isFinal) {
    const why = status.reason ? `: ${status.reason}` : ".";
    throw new ActionError(`The signing request is ${status.state}${why}`, status.advice || `See ${submitted.webUrl}`);
  }
  throw new ActionError(
    `The signing request is still ${status.state} after ${inputs.timeout} s.`,
    `It goes on at ${submitted.webUrl}. Raise timeout, or set wait: false and fetch it in a later job.`,
  );
}

/** The access token may have run out while the request was followed; submitting again gives another. */
async function withRenewal(
  submitted: Submitted,
  renew: () => Promise<Submitted>,
  act: (access: Submitted) => Promise<void>,
): Promise<void> {
  try {
    await act(submitted);
  } catch (error) {
    if (!(error instanceof RefusedError) || error.status !== 401) throw error;
    await act(await renew());
  }
}

async function hand(http: Http, inputs: Inputs, submitted: Submitted, status: Status): Promise<void> {
  const folder = inputs.outputDirectory;
  const paths = inputs.decompress
    ? await downloadUnpacked(http, submitted, status, folder)
    : [await download(http, submitted, status, folder)];
  core.setOutput("signed-artifact-path", inputs.decompress ? folder : paths[0]);
  core.setOutput("signed-artifact-paths", paths.join("\n"));
  core.info(`Signed: ${paths.length === 1 ? plain(paths[0] ?? "") : `${paths.length} files in ${plain(folder)}`}`);
}

async function downloadUnpacked(http: Http, submitted: Submitted, status: Status, folder: string): Promise<string[]> {
  await mkdir(folder, { recursive: true });
  const staging = await mkdtemp(join(folder, ".sealwright-"));
  try {
    return await unpack(await download(http, submitted, status, staging), folder);
  } finally {
    await rm(staging, { recursive: true, force: true });
  }
}

async function appendSummary(environment: Environment, text: string): Promise<void> {
  const file = environment["GITHUB_STEP_SUMMARY"];
  try {
    if (file) await appendFile(file, text);
  } catch (error) {
    warn(`The summary cannot be written: ${reason(error)}`);
  }
}

function warn(message: string): void {
  core.warning(plain(message));
}
