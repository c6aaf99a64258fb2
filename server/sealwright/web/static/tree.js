// Further files of a large artifact come into the tree in place, instead of on a page of their own.
"use strict";
document.addEventListener("click", async (event) => {
  const link = event.target.closest("a[data-more]");
  if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  const answer = await fetch(link.href, { credentials: "same-origin" });
  if (!answer.ok || answer.redirected) {
    location.assign(link.href);
    return;
  }
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  const place = link.closest("li");
  const files = [...page.querySelector("main .tree").children];
  place.replaceWith(...files);
  files[0]?.querySelector("summary, a")?.focus();
});
