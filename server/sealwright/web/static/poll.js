// What somebody else is still at is looked for anew, first every second, then less and less often, and
// put in place once it is there. With data-poll="page" the whole page is another then.
"use strict";
let pause = 1000; // ms
const look = async () => {
  const place = document.querySelector("[data-poll]");
  if (!place) return;
  try {
    const answer = document.hidden ? null : await fetch(location.href, { credentials: "same-origin" });
    if (answer && answer.ok && !answer.redirected) {
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      if (place.dataset.poll === "page" && !page.querySelector("[data-poll]")) {
        location.reload();
        return;
      }
      const focused = place.contains(document.activeElement);
      for (const id of [place.id, "tried"]) {
        const made = page.getElementById(id);
        const shown = document.getElementById(id);
        if (!made || !shown) continue;
        shown.replaceWith(made);
        addCopies(made);
      }
      const now = document.getElementById(place.id);
      if (now && !now.matches("[data-poll]")) {
        tell("The result is there.");
        now.tabIndex = -1;
        if (focused) now.focus();
      }
    }
  } catch { /* the connection broke: the next look may tell */ }
  pause = Math.min(pause * 1.1, 30000);
  setTimeout(look, pause);
};
setTimeout(look, pause);
