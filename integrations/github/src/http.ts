/** Calls to one server: bounded answers, no redirects, and patience while the server is away. */

import type { IncomingHttpHeaders, IncomingMessage } from "node:http";
import type { Readable } from "node:stream";

import { HttpClient } from "@actions/http-client";

import type { Clock } from "./clock.js";
import { ActionError, AwayError, refusal } from "./problems.js";
import { duration } from "./text.js";

export interface Call {
  readonly method: "GET" | "POST";
  readonly url: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body?: string | (() => Readable);
}

export interface Answer {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly message: IncomingMessage;
}

const LONGEST_ANSWER = 16 * 1024 * 1024;
/** Longer than a long poll lasts. */
const SILENCE = 100_000;
const AWAY = new Set([408, 429, 502, 503, 504]);
const FIRST_PAUSE = 1_000;
const LONGEST_PAUSE = 30_000;

export class Http {
  readonly #client: HttpClient;
  readonly #origin: string;

  /**
   * @param url of the server: nothing is ever sent to another origin.
   * @param patience milliseconds during which one call is repeated.
   * @param warn is told of every repetition.
   */
  constructor(
    url: string,
    private readonly patience: number,
    private readonly clock: Clock,
    private readonly warn: (message: string) => void,
  ) {
    this.#origin = new URL(url).origin;
    this.#client = new HttpClient("sealwright-sign-action", [], { allowRedirects: false, socketTimeout: SILENCE });
  }

  /**
   * The JSON that a call is answered with. `call` is made anew for every try.
   *
   * @throws AwayError when the server stays away; RefusedError when it refuses.
   */
  async json(call: () => Call | Promise<Call>): Promise<unknown> {
    return this.patiently(async () => {
      const answer = await this.open(await call());
      const body = parse(await readBounded(answer.message));
      if (body === undefined) throw new ActionError("The server's answer is not JSON.", NOT_THE_SERVER);
      return body;
    });
  }

  /** Repeat what fails because the server is away, until its patience is over. */
  async patiently<T>(attempt: () => Promise<T>): Promise<T> {
    const deadline = this.clock.now() + this.patience;
    for (let pause = FIRST_PAUSE; ; pause = Math.min(pause * 2, LONGEST_PAUSE)) {
      try {
        return await attempt();
      } catch (error) {
        if (!(error instanceof AwayError)) throw error;
        const left = deadline - this.clock.now();
        if (left <= 0) throw error;
        const asked = error.retryAfter === undefined ? pause : error.retryAfter * 1000;
        // jitter, so that many jobs do not come back in the same instant
        const wait = Math.min(left, asked * (1 + Math.random() / 4));
        this.warn(`${error.message} Trying again for ${duration(left / 1000)}.`);
        await this.clock.sleep(wait);
      }
    }
  }

  /**
   * One try; the answer's body is still to be read.
   *
   * @throws AwayError, RefusedError, ActionError
   */
  async open(call: Call): Promise<Answer> {
    if (new URL(call.url).origin !== this.#origin) {
      throw new ActionError(
        `The server names an address elsewhere: ${new URL(call.url).origin}.`,
        `Give the address by which the server knows itself as url, or correct the server's own setting; url is ${this.#origin}.`,
      );
    }
    const message = await this.#send(call);
    const status = message.statusCode ?? 0;
    if (status >= 200 && status < 300) return { status, headers: message.headers, message };
    if (status >= 300 && status < 400) {
      message.destroy();
      throw new ActionError(`The server redirects (${status}).`, "Give the address that it redirects to as url.");
    }
    const body = await readBounded(message);
    if (AWAY.has(status)) {
      throw new AwayError(`The server answers ${status}.`, retryAfter(message.headers["retry-after"]));
    }
    throw refusal(status, parse(body));
  }

  async #send(call: Call): Promise<IncomingMessage> {
    const stream = typeof call.body === "function" ? call.body() : undefined;
    let broken: Error | undefined;
    stream?.on("error", (error) => {
      broken = error;
      stream.destroy();
    });
    try {
      const text = typeof call.body === "string" ? call.body : "";
      const sent = await this.#client.request(call.method, call.url, stream ?? text, { ...call.headers });
      return sent.message;
    } catch (error) {
      if (broken) throw new ActionError(`The file cannot be read: ${broken.message}.`);
      throw new AwayError(`The server at ${this.#origin} does not answer: ${reason(error)}.`);
    } finally {
      stream?.destroy();
    }
  }
}

const NOT_THE_SERVER = "Check that url is the address of a Sealwright server and not of a proxy or a log-in page.";

/** @throws AwayError when the connection breaks; ActionError when there is too much of it. */
async function readBounded(message: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  let size = 0;
  try {
    for await (const chunk of breathing(message)) {
      size += chunk.length;
      if (size > LONGEST_ANSWER) break;
      chunks.push(chunk);
    }
  } catch (error) {
    throw new AwayError(`The answer broke off: ${reason(error)}.`);
  }
  if (size > LONGEST_ANSWER) throw new ActionError("The server's answer is too long.", NOT_THE_SERVER);
  return Buffer.concat(chunks).toString("utf8");
}

/** The body's chunks; ends with an error when it is silent for too long. */
export function breathing(message: IncomingMessage): AsyncIterable<Buffer> {
  message.setTimeout(SILENCE, () => message.destroy(new Error(`nothing for ${SILENCE / 1000} s`)));
  return message as AsyncIterable<Buffer>;
}

/** Seconds of a Retry-After header in its form of a number; a date is left to our own pauses. */
function retryAfter(header: string | undefined): number | undefined {
  return header !== undefined && /^\d{1,5}$/.test(header) ? Number(header) : undefined;
}

function parse(body: string): unknown {
  try {
    return JSON.parse(body) as unknown;
  } catch {
    return undefined;
  }
}

export function reason(error: unknown): string {
  if (error instanceof AggregateError && error.errors.length > 0) return reason(error.errors[0]);
  return error instanceof Error ? error.message || error.name : String(error);
}
