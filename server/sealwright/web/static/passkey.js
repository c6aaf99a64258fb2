// Passkeys: a button with data-passkey (options), data-passkey-new (options to make one) or
// data-passkey-from (address of the options) asks the authenticator before its form is sent.
"use strict";
(() => {
  const bytes = (text) => Uint8Array.from(
    atob(text.replace(/-/g, "+").replace(/_/g, "/")), (letter) => letter.charCodeAt(0));
  const text = (buffer) => btoa(String.fromCharCode(...new Uint8Array(buffer)))
    .replace(/\+/g, "-").replace(/\//g, "_").replace(/=+$/, "");
  const listed = (credentials) => (credentials || []).map(
    (one) => ({ ...one, id: bytes(one.id) }));

  async function made(options) {
    const found = await navigator.credentials.create({ publicKey: {
      ...options,
      challenge: bytes(options.challenge),
      user: { ...options.user, id: bytes(options.user.id) },
      excludeCredentials: listed(options.excludeCredentials),
    } });
    return { id: found.id, rawId: text(found.rawId), type: found.type, response: {
      clientDataJSON: text(found.response.clientDataJSON),
      attestationObject: text(found.response.attestationObject),
    } };
  }

  async function given(options) {
    const found = await navigator.credentials.get({ publicKey: {
      ...options,
      challenge: bytes(options.challenge),
      allowCredentials: listed(options.allowCredentials),
    } });
    const answer = found.response;
    return { id: found.id, rawId: text(found.rawId), type: found.type, response: {
      clientDataJSON: text(answer.clientDataJSON),
      authenticatorData: text(answer.authenticatorData),
      signature: text(answer.signature),
      userHandle: answer.userHandle ? text(answer.userHandle) : null,
    } };
  }

  async function asked(data) {
    if (!window.PublicKeyCredential) throw new Error("This browser has no passkeys here.");
    if (data.passkeyNew) return made(JSON.parse(data.passkeyNew));
    if (data.passkey) return given(JSON.parse(data.passkey));
    const answer = await fetch(data.passkeyFrom, { method: "POST", credentials: "omit" });
    if (!answer.ok) throw new Error("The server does not answer. Try again in a minute.");
    return given((await answer.json()).public_key);
  }

  function tell(form, message) {
    let note = form.querySelector("[data-passkey-fault]");
    if (!note) {
      note = document.createElement("p");
      note.className = "note bad";
      note.setAttribute("role", "alert");
      note.dataset.passkeyFault = "";
      form.prepend(note);
    }
    note.textContent = message;
  }

  document.addEventListener("submit", async (event) => {
    const button = event.submitter;
    const data = button ? button.dataset : {};
    if (!data.passkey && !data.passkeyNew && !data.passkeyFrom) return;
    const form = event.target;
    const field = form.elements.credential;
    if (field.value) return;
    event.preventDefault();
    try {
      field.value = JSON.stringify(await asked(data));
      form.requestSubmit(button);
    } catch (fault) {
      tell(form, fault.name === "NotAllowedError"
        ? "The passkey was not used. Try again." : fault.message);
    } finally {
      setTimeout(() => { field.value = ""; }, 0);
    }
  });
})();
