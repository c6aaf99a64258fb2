// Follows the request on this page and shows the page anew when it changes.
"use strict";
const main = document.querySelector("main[data-events]");
if (main) {
  let first = true;
  const source = new EventSource(main.dataset.events);
  source.addEventListener("state", async (event) => {
    const { is_final: isFinal } = JSON.parse(event.data);
    if (isFinal) source.close();
    if (first) {
      first = false;
      if (!isFinal) return;
    }
    const comment = main.querySelector("input[name=comment]");
    if (comment && document.activeElement === comment && !isFinal) return;
    const answer = await fetch(location.href, { credentials: "same-origin" });
    if (!answer.ok || answer.redirected) return;
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    main.replaceChildren(...page.querySelector("main").childNodes);
  });
}
