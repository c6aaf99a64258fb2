/** Failures that are expected: each says what to do about it. */

import { plain } from "./text.js";

export interface Problem {
  readonly error: string;
  readonly howToFix: string;
}

export class ActionError extends Error {
  override readonly name: string = "ActionError";
  readonly problems: readonly Problem[];

  constructor(message: string, howToFix = "", problems: readonly Problem[] = []) {
    super(plain(message));
    this.problems = problems.length > 0 ? problems : [{ error: this.message, howToFix: plain(howToFix) }];
  }
}

/** The server or the way to it is away; the same call may succeed later. */
export class AwayError extends ActionError {
  override readonly name = "AwayError";

  /** @param retryAfter seconds that the server asked to wait, if it did. */
  constructor(
    message: string,
    readonly retryAfter?: number,
  ) {
    super(
      message,
      "Check that the server runs and that this runner reaches it; raise service-unavailable-timeout where it needs longer.",
    );
  }
}

/** The server refused. */
export class RefusedError extends ActionError {
  override readonly name = "RefusedError";

  constructor(
    readonly status: number,
    readonly code: string,
    problems: readonly Problem[],
  ) {
    super(problems[0]?.error ?? `The server answered ${status}.`, "", problems);
  }
}

/** The refusal in a problem document (RFC 9457) with our members `code`, `advice` and `errors`. */
export function refusal(status: number, body: unknown): RefusedError {
  const document = isRecord(body) ? body : {};
  const listed = Array.isArray(document["errors"]) ? document["errors"].filter(isRecord).slice(0, 20) : [];
  const problems = listed.map((one) => ({
    error: plain(text(one, "error")),
    howToFix: plain(text(one, "how_to_fix")),
  }));
  if (problems.length === 0) {
    const error = text(document, "detail") || text(document, "title") || `The server answered ${status}.`;
    problems.push({ error: plain(error), howToFix: plain(text(document, "advice")) });
  }
  return new RefusedError(status, text(document, "code"), problems);
}

export function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** A member that is text; empty where it is missing or something else. */
export function text(document: Record<string, unknown>, name: string): string {
  const value = document[name];
  return typeof value === "string" ? value : "";
}
