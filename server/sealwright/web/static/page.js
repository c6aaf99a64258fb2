// What a script adds to any page: copy buttons, filters that act at once, a choice of the theme, the
// chosen tab in view, a slug from the name, Escape for open questions. `tell` says something to who listens to the page.
"use strict";
const tell = (text) => { document.getElementById("told").textContent = text; };
const addCopies = (within) => {
  if (!navigator.clipboard) return;
  for (const text of within.querySelectorAll("[data-copy]")) {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "quiet copy";
    button.textContent = "Copy";
    button.addEventListener("click", async () => {
      await navigator.clipboard.writeText(text.textContent);
      button.textContent = "Copied";
      tell("Copied");
      setTimeout(() => { button.textContent = "Copy"; }, 2000);
    });
    text.after(button);
  }
};
addCopies(document);
for (const one of document.querySelectorAll("[data-without-script]")) one.remove();
for (const form of document.querySelectorAll("form[data-at-once]")) {
  // with the keyboard one passes over options on the way to the one that is meant
  let keyed = false;
  form.addEventListener("keydown", () => { keyed = true; });
  form.addEventListener("pointerdown", () => { keyed = false; });
  form.addEventListener("change", (event) => {
    if (event.target.matches("select") && !keyed) form.requestSubmit();
  });
}
for (const choice of document.querySelectorAll("[data-themes]")) {
  choice.closest("[hidden]").hidden = false;
  choice.addEventListener("change", () => {
    const secure = location.protocol === "https:" ? "; secure" : "";
    const age = choice.value ? 31536000 : 0; // a year
    document.cookie = `sealwright-theme=${choice.value}; path=/; max-age=${age}; samesite=lax${secure}`;
    if (choice.value) document.documentElement.dataset.theme = choice.value;
    else delete document.documentElement.dataset.theme;
  });
}
for (const chosen of document.querySelectorAll(".tabs [aria-current]")) {
  const tabs = chosen.parentElement;
  tabs.scrollLeft = chosen.offsetLeft - (tabs.clientWidth - chosen.offsetWidth) / 2;
}
// a new thing's slug follows its name until somebody types another
for (const slug of document.querySelectorAll("form input[name=slug]")) {
  const { name } = slug.form.elements;
  const slugOf = (text) => text.normalize("NFKD").toLowerCase().replace(/[\u0300-\u036f]/g, "")
    .replace(/[^a-z0-9]+/g, "-").replace(/^-+|-+$/g, "").slice(0, 50);
  if (!name?.compareDocumentPosition || slug.type === "hidden" || slug.value) continue;
  if (!(name.compareDocumentPosition(slug) & Node.DOCUMENT_POSITION_FOLLOWING)) continue; // it comes first
  let last = "";
  name.addEventListener("input", () => {
    if (slug.value !== last) return;
    last = slugOf(name.value);
    slug.value = last;
  });
}
document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape") return;
  const open = event.target.closest?.("details.confirm[open]");
  if (!open) return;
  open.open = false;
  open.querySelector("summary").focus();
});
