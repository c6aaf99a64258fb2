// What a script adds to any page: copy buttons, filters that act at once, a choice of the theme.
"use strict";
for (const text of document.querySelectorAll("[data-copy]")) {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "quiet copy";
  button.textContent = "Copy";
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText(text.textContent);
    button.textContent = "Copied";
    setTimeout(() => { button.textContent = "Copy"; }, 2000);
  });
  if (navigator.clipboard) text.after(button);
}
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
