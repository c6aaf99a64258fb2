// Follows the request on this page: progress as it is told, and the page anew when it changes.
"use strict";
const main = document.querySelector("main[data-events]");
if (main) {
  let first = true;
  const source = new EventSource(main.dataset.events);
  source.addEventListener("progress", (event) => {
    const { stage, files, done } = JSON.parse(event.data);
    const shown = document.getElementById("progress");
    const name = stage[0].toUpperCase() + stage.slice(1);
    shown.hidden = false;
    shown.querySelector("span").textContent = files ? `${name} ${done} of ${files} files` : name;
    const bar = shown.querySelector("progress");
    if (files) {
      bar.max = files;
      bar.value = done;
    } else {
      bar.removeAttribute("value");
    }
  });
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
