/** Waiting for a request's end. */

import type { Clock } from "./clock.js";
import type { Status, Submitted } from "./server.js";
import { RefusedError } from "./problems.js";
import { duration, plain } from "./text.js";

const POLL_SECONDS = 30;
/** While files are signed: their progress does not end a long poll. */
const PROGRESS_SECONDS = 10;
const QUICK = 1_000;
const FIRST_PAUSE = 2_000;
const LONGEST_PAUSE = 10_000;
const REMINDER = 5 * 60_000;

export interface Following {
  readonly clock: Clock;
  /** One long poll: it ends with the request, with any version but `known`, or after `wait` seconds. */
  read(submitted: Submitted, wait: number, known: string): Promise<Status>;
  /** A new access token for the same request. */
  renew(): Promise<Submitted>;
  log(line: string): void;
}

/**
 * The request when it is final, or as it is when `seconds` have passed.
 *
 * @throws AwayError, RefusedError
 */
export async function follow(
  first: Submitted,
  seconds: number,
  following: Following,
): Promise<{ submitted: Submitted; status: Status }> {
  const { clock } = following;
  const begun = clock.now();
  const deadline = begun + seconds * 1000;
  let submitted = first;
  let told = "";
  let toldAt = begun;
  let renewed = false;
  let pause = FIRST_PAUSE;
  // the first look does not wait, so that the log says at once where it stands
  let longest = 0;
  let known = "";
  for (;;) {
    const asked = clock.now();
    const left = Math.max(0, deadline - asked);
    let status: Status;
    try {
      status = await following.read(submitted, Math.min(longest, Math.floor(left / 1000)), known);
    } catch (error) {
      if (!(error instanceof RefusedError) || error.status !== 401 || renewed) throw error;
      // the access token has run out; submitting the same again gives another one
      submitted = await following.renew();
      renewed = true;
      continue;
    }
    renewed = false;
    const now = clock.now();
    const line = describe(status);
    if (line !== told || now - toldAt >= REMINDER) {
      following.log(`${line} (after ${duration((now - begun) / 1000)})`);
      [told, toldAt] = [line, now];
    }
    if (status.isFinal || now >= deadline) return { submitted, status };
    if (longest > 0 && !isHeld(now - asked, status.version !== known)) {
      await clock.sleep(Math.min(pause, deadline - now));
      pause = Math.min(pause * 1.5, LONGEST_PAUSE);
    }
    [known, longest] = [status.version, longestPoll(status)];
  }
}

/** Whether the server holds calls back: one that answers at once without news must not be hurried. */
function isHeld(took: number, isNews: boolean): boolean {
  return isNews || took >= QUICK;
}

function longestPoll(status: Status): number {
  return status.state === "Processing" ? PROGRESS_SECONDS : POLL_SECONDS;
}

/** The state, and whom it waits for or how many files are done. */
export function describe(status: Status): string {
  if (status.state === "Processing" && status.progress) {
    const { stage, done, files } = status.progress;
    return plain(`Processing: ${stage}, ${done} of ${files} files`);
  }
  if (status.state !== "WaitingForApproval") return plain(status.state);
  const approved = status.approvedBy.length > 0 ? `, approved by ${status.approvedBy.join(", ")}` : "";
  const needed = status.quorum > 0 ? `: ${status.approvedBy.length} of ${status.quorum} approvals` : "";
  return plain(`WaitingForApproval${needed}${approved}`);
}
