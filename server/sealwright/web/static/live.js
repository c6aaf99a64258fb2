// Follows the request on this page: progress as it is told, and what changes on the page in place.
"use strict";
const main = document.querySelector("main[data-events]");
if (main) {
  let first = true;
  // a part that is the same as before stays as it is: what is typed, open or focused in it, too
  let parts = new Map([...main.children].map((one) => [one.outerHTML, one]));
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
  const refocus = (had) => {
    if (!had || had === document.activeElement) return;
    const like = main.contains(had) ? had : [...main.querySelectorAll(had.localName)].find(
      (one) => one.id === had.id && one.name === had.name && one.textContent === had.textContent);
    const place = like || main.querySelector("h1");
    if (!like) place.tabIndex = -1;
    place.focus({ preventScroll: Boolean(like) });
  };
  source.addEventListener("state", async (event) => {
    const { is_final: isFinal } = JSON.parse(event.data);
    if (isFinal) source.close();
    if (first) {
      first = false;
      if (!isFinal) return;
    }
    const answer = await fetch(location.href, { credentials: "same-origin" });
    if (!answer.ok || answer.redirected) return;
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    const focused = main.contains(document.activeElement) ? document.activeElement : null;
    const comment = document.getElementById("comment")?.value;
    const came = [...page.querySelector("main").children].map((one) => [one.outerHTML, one]);
    const before = main.querySelector(".state").textContent;
    parts = new Map(came.map(([html, one]) => [html, parts.get(html) || one]));
    main.replaceChildren(...parts.values());
    const field = document.getElementById("comment");
    if (field && comment) field.value = comment;
    refocus(focused);
    const state = main.querySelector(".state").textContent;
    if (state !== before) tell(`${main.querySelector("h1").textContent}: ${state}`);
  });
}
