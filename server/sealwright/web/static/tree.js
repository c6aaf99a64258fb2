// Further files of a large artifact come into the tree in place, instead of on a page of their own:
// when asked for, and when a closed folder is opened.
"use strict";
const grow = async (link, focuses) => {
  if (link.dataset.more === "asked") return;
  link.dataset.more = "asked";
  const answer = await fetch(link.href, { credentials: "same-origin" });
  if (!answer.ok || answer.redirected) {
    location.assign(link.href);
    return;
  }
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  const files = [...page.querySelector("main .tree").children];
  link.closest("li").replaceWith(...files);
  if (focuses) files[0]?.querySelector("summary, a")?.focus();
};
document.addEventListener("click", (event) => {
  const link = event.target.closest("a[data-more]");
  if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  grow(link, true);
});
// "toggle" does not bubble
document.addEventListener("toggle", (event) => {
  const link = event.target.open && event.target.querySelector(":scope > .tree > .more:only-child > a[data-more]");
  if (link) grow(link, false);
}, true);
