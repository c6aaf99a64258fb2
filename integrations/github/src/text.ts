/** Text that others wrote, made fit for the log, for Markdown and for file names. */

const CONTROL = /[\u0000-\u001f\u007f-\u009f\u2028\u2029\u202a-\u202e\u2066-\u2069]+/g;
const LONGEST = 2000;

/**
 * One line without control characters, so that no text of the server or of a file name can speak to
 * the runner (`::command::` at the start of a line), colour the log or reorder what is read.
 */
export function plain(text: string): string {
  const line = text.replace(CONTROL, " ").trim();
  return line.length > LONGEST ? `${line.slice(0, LONGEST)}…` : line;
}

/** `plain` text that Markdown and the HTML inside it show as it is. */
export function markdown(text: string): string {
  return plain(text)
    .replace(/&/g, "&amp;")
    .replace(/</g, "&lt;")
    .replace(/>/g, "&gt;")
    .replace(/[\\`*_{}[\]()#+!|~@:]/g, (one) => `&#${one.charCodeAt(0)};`);
}

const RESERVED = /^(con|prn|aux|nul|conin\$|conout\$|com[0-9¹²³]|lpt[0-9¹²³])(\.|$)/i;

/** Whether a name is one component of a path on every platform, and stays where it is put. */
export function isSafeName(name: string): boolean {
  return (
    name !== "" &&
    name !== "." &&
    name !== ".." &&
    name.length <= 255 &&
    !/[\u0000-\u001f<>:"/\\|?*]/.test(name) &&
    !/[. ]$/.test(name) &&
    !RESERVED.test(name)
  );
}

/** Seconds for people: `45 s`, `12 min`, `3.5 h`. */
export function duration(seconds: number): string {
  if (seconds < 90) return `${Math.round(seconds)} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  return `${(seconds / 3600).toFixed(1)} h`;
}
