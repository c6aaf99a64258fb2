// What a script adds to any page: copy buttons, filters that act at once, a choice of the theme, the
// chosen tab in view, Escape for open questions. `tell` says something to who listens to the page.
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
  form.addEventListener("change", (event) => {
    if (event.target.matches("select")) form.requestSubmit();
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
document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape") return;
  const open = event.target.closest?.("details.confirm[open]");
  if (!open) return;
  open.open = false;
  open.querySelector("summary").focus();
});
