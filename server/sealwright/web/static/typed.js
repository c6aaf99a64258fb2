// What was typed into a form is not lost when its session has ended or the server failed: it stays in
// this tab until it got somewhere, and is filled in again for the same user. Never secrets or files.
"use strict";
(() => {
  const key = "sealwright-typed";
  const user = document.body.dataset.user || "";
  const here = location.pathname + location.search;
  const failed = !user || Boolean(document.querySelector("main [data-failed]"));

  const keeps = (field) => field.name && field.type !== "hidden" && field.type !== "password"
    && field.type !== "file" && field.localName !== "button"
    && !(field.localName === "textarea" && field.autocomplete === "off");

  const values = (form) => [...form.elements].filter(keeps).map((field) => [
    field.name, field.value, field.type === "checkbox" || field.type === "radio" ? field.checked : null,
  ]);

  const fill = (form, kept) => {
    for (const [name, value, checked] of kept) {
      const fields = [...form.elements].filter((one) => keeps(one) && one.name === name);
      if (checked === null) {
        if (fields.length) fields[0].value = value;
      } else {
        for (const one of fields) if (one.value === value) one.checked = checked;
      }
    }
  };

  const read = () => {
    try { return JSON.parse(sessionStorage.getItem(key)); } catch { return null; }
  };

  document.addEventListener("submit", (event) => {
    const form = event.target;
    if (form.method !== "post" || !form.elements.csrf || !values(form).length) return;
    const kept = { user, here, action: form.getAttribute("action") || "", values: values(form) };
    try { sessionStorage.setItem(key, JSON.stringify(kept)); } catch { /* too much, or not allowed */ }
  }, true);

  const kept = read();
  if (!kept) return;
  if (failed) {
    sessionStorage.setItem(key, JSON.stringify({ ...kept, lost: true }));
    const back = document.querySelector("main [data-failed] a");
    if (back && kept.user === user) {
      back.href = kept.here;
      back.textContent = "Back to what you typed";
    }
    return;
  }
  if (kept.user !== user) {
    sessionStorage.removeItem(key);
    return;
  }
  const [navigation] = performance.getEntriesByType("navigation");
  const lost = kept.lost || (navigation && navigation.type === "back_forward");
  if (lost && kept.here !== here) return;
  sessionStorage.removeItem(key);
  if (!lost) return;
  const form = [...document.forms].find((one) => (one.getAttribute("action") || "") === kept.action
    && one.method === "post");
  if (!form) return;
  fill(form, kept.values);
  const folded = form.closest("details");
  if (folded) folded.open = true;
  const note = document.createElement("p");
  note.className = "note";
  note.textContent = "What you had typed is here again. It was not sent: look it over, and send it.";
  form.prepend(note);
  tell(note.textContent);
})();
