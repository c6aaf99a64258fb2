// Follows the request on this page: progress as it is told, and what changes on the page in place. Only
// while it is seen: a browser opens six connections to a server, and tabs that keep them stop all others.
"use strict";
const main = document.querySelector("main[data-events]");
if (main) {
  let first = true;
  // a part that is the same as before stays as it is: what is typed, open or focused in it, too
  let parts = new Map([...main.children].map((one) => [one.outerHTML, one]));
  let source = null;
  let over = false;
  const progress = (event) => {
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
  };
  const refocus = (had) => {
    if (!had || had === document.activeElement) return;
    const like = main.contains(had) ? had : [...main.querySelectorAll(had.localName)].find(
      (one) => one.id === had.id && one.name === had.name && one.textContent === had.textContent);
    const place = like || main.querySelector("h1");
    if (!like) place.tabIndex = -1;
    place.focus({ preventScroll: Boolean(like) });
  };
  const note = (text, path, name) => {
    const shown = document.createElement("p");
    shown.className = "note warn";
    const link = document.createElement("a");
    link.href = path;
    link.textContent = name;
    shown.append(`${text} `, link);
    main.prepend(shown);
    tell(text);
  };
  const show = async () => {
    const answer = await fetch(location.href, { credentials: "same-origin" });
    if (answer.redirected) {
      over = true;
      source?.close();
      note("Your session has ended; this page is as it was.", answer.url, "Log in, and go on here");
    }
    if (answer.status === 403 || answer.status === 404) over = true;
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
  };
  const follow = () => {
    if (over || document.hidden || (source && source.readyState !== EventSource.CLOSED)) return;
    source = new EventSource(main.dataset.events);
    source.addEventListener("progress", progress);
    source.addEventListener("state", (event) => {
      over = JSON.parse(event.data).is_final;
      if (over) source.close();
      if (!first || over) show().catch(() => {}); // the connection broke: it is followed again
      first = false;
    });
    source.addEventListener("error", () => {
      if (source.readyState !== EventSource.CLOSED) return; // the browser itself asks again
      show().catch(() => {});
      setTimeout(follow, 5000);
    });
  };
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) source?.close();
    else follow();
  });
  follow();
}
