// Several files at once, each with a bar of its own and a link to its request. Without this script
// the form sends its files by itself.
"use strict";
const form = document.querySelector("form[data-upload]");
if (form) {
  const input = form.querySelector("input[type=file]");
  const list = document.getElementById("uploads");
  const button = form.querySelector("button");
  const patience = 10000; // ms after the last byte until it is said that no answer has come
  input.multiple = true;

  const linked = (place, path, name) => {
    const link = document.createElement("a");
    link.href = path;
    link.textContent = name;
    place.append(link);
  };

  const line = (file) => {
    const item = document.createElement("li");
    item.className = "card";
    const name = document.createElement("strong");
    name.textContent = file.name;
    const state = document.createElement("span");
    state.className = "muted";
    state.textContent = " waits";
    const bar = document.createElement("progress");
    bar.max = 1;
    bar.value = 0;
    bar.setAttribute("aria-label", file.name);
    item.append(name, state, bar);
    list.append(item);
    return { item, state, bar };
  };

  const fault = (request) => {
    if (new URL(request.responseURL || location.href).pathname === "/login") return "Your session has ended.";
    const page = new DOMParser().parseFromString(request.responseText || "", "text/html");
    const found = page.querySelector("main .note.bad, main section p");
    if (!found) return "The server did not take it.";
    const lines = found.matches(".note") ? [...found.children] : [found];
    return lines.map((one) => one.textContent.trim().replace(/\s+/g, " ")).join(" ");
  };

  const send = (file, shown) => new Promise((resolve) => {
    const data = new FormData();
    for (const [name, value] of new FormData(form)) {
      if (!(value instanceof File)) data.append(name, value);
    }
    data.append("artifact", file);
    const request = new XMLHttpRequest();
    request.open("POST", form.action);
    request.upload.addEventListener("progress", (event) => {
      if (!event.lengthComputable) return;
      shown.bar.value = event.loaded / event.total;
      shown.state.textContent = ` ${Math.floor((100 * event.loaded) / event.total)} %`;
    });
    let late = 0;
    request.upload.addEventListener("load", () => {
      shown.bar.removeAttribute("value");
      shown.state.textContent = " sent, being checked and recorded";
      late = setTimeout(() => {
        shown.state.textContent = " sent. The server is slow to answer; its request may be there already: ";
        linked(shown.state, "/signing-requests?submitter=me", "your requests");
      }, patience);
    });
    const end = (worked, text) => {
      clearTimeout(late);
      shown.bar.remove();
      shown.state.className = worked ? "" : "error";
      shown.state.textContent = text;
      tell(`${shown.item.querySelector("strong").textContent}: ${text.trim()}`);
      resolve(worked);
    };
    request.addEventListener("load", () => {
      const path = new URL(request.responseURL || location.href).pathname;
      if (request.status === 200 && path.startsWith("/signing-requests/")) {
        end(true, " submitted. ");
        linked(shown.state, path, "Open its request");
      } else {
        end(false, ` ${fault(request)} `);
        if (request.responseURL.includes("/login")) {
          const here = encodeURIComponent(location.pathname + location.search);
          linked(shown.state, `/login?next=${here}`, "Log in, and go on here");
        }
      }
    });
    request.addEventListener("error", () => end(false, " The connection broke. Submit it again: what is there already is not made twice."));
    request.send(data);
  });

  // who goes away now loses what is not yet sent
  const stay = (event) => event.preventDefault();

  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const files = [...input.files];
    if (!files.length || button.getAttribute("aria-disabled")) return;
    button.setAttribute("aria-disabled", "true"); // a disabled one would lose the focus
    list.replaceChildren();
    const lines = files.map(line);
    const worked = [];
    addEventListener("beforeunload", stay);
    for (const [index, file] of files.entries()) worked.push(await send(file, lines[index]));
    removeEventListener("beforeunload", stay);
    button.removeAttribute("aria-disabled");
    const links = list.querySelectorAll("a");
    if (files.length === 1 && worked[0]) location.assign(links[0].href);
    else if (worked.every(Boolean)) input.value = "";
  });
}
