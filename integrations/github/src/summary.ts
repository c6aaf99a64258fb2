/** The job's summary: what was signed, as GitHub shows it. */

import type { Inputs } from "./inputs.js";
import type { Status, Submitted } from "./server.js";
import { markdown } from "./text.js";

const MOST_ROWS = 100;

export function summarize(inputs: Inputs, submitted: Submitted, status: Status): string {
  const rows: [string, string][] = [
    ["State", `**${markdown(status.state)}**`],
    ["Project", markdown(inputs.project)],
    ["Signing policy", markdown(inputs.signingPolicy)],
    ["Request", `<a href="${attribute(submitted.webUrl)}">${markdown(submitted.id)}</a>`],
  ];
  if (submitted.labels.length > 0) rows.push(["Origin", markdown(submitted.labels.join("; "))]);
  if (status.reason) rows.push(["Reason", markdown(status.reason)]);
  if (status.advice) rows.push(["What to do", markdown(status.advice)]);
  if (status.output) rows.push(["SHA-256", `<code>${markdown(status.output.sha256)}</code>`]);
  return ["### Sealwright", "", table(["", ""], rows), "", files(status), ""].join("\n");
}

function files(status: Status): string {
  if (status.files.length === 0) return "";
  const rows = status.files
    .slice(0, MOST_ROWS)
    .map((one) => [
      markdown(one.path === "" ? "(the artifact itself)" : one.path),
      markdown(one.format),
      markdown(one.directive),
      `<code>${markdown(one.sha256)}</code>`,
    ]);
  const more = status.files.length - rows.length;
  const rest = more > 0 ? `\n\nand ${more} more, on the request's page` : "";
  return table(["File", "Format", "Directive", "SHA-256 after signing"], rows) + rest;
}

function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const lines = [head, head.map(() => "---"), ...rows];
  return lines.map((cells) => `| ${cells.join(" | ")} |`).join("\n");
}

/** A web address as the value of an attribute. */
function attribute(url: string): string {
  const { protocol, href } = new URL(url);
  return protocol === "https:" || protocol === "http:" ? markdown(href) : "";
}
