// What a worker is still at is looked for anew every second, and put in place once it is there.
"use strict";
const look = async () => {
  const place = document.querySelector("[data-poll]");
  if (!place) return;
  try {
    const answer = await fetch(location.href, { credentials: "same-origin" });
    if (answer.ok && !answer.redirected) {
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
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
  setTimeout(look, 1000);
};
setTimeout(look, 1000);
