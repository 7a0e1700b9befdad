// Signs in with a passkey, or registers one. A form marked data-passkey="get" or "create" names where its options come from
// (data-options) and where the answer goes (data-answer); its fields go with the answer. Everything else works without scripts.
"use strict";
(() => {
  const able =
    window.PublicKeyCredential &&
    PublicKeyCredential.parseCreationOptionsFromJSON &&
    PublicKeyCredential.parseRequestOptionsFromJSON &&
    PublicKeyCredential.prototype.toJSON;

  const send = async (address, value, csrf) => {
    const answer = await fetch(address, {
      method: "POST",
      headers: { "Content-Type": "application/json", Accept: "application/json", "X-CSRF-Token": csrf },
      body: JSON.stringify(value),
    });
    const result = await answer.json();
    if (!answer.ok) throw new Error(result.title || "The site refused this.");
    return result;
  };

  const words = (error) => {
    if (error.name === "NotAllowedError") return "Nothing was done: the request was cancelled, took too long, or you were not verified.";
    if (error.name === "InvalidStateError") return "This device has a passkey for your account already.";
    if (error.name === "SecurityError") return "Passkeys do not work at this address of the site; open it by its proper name.";
    return error.message || "That did not work.";
  };

  for (const form of document.querySelectorAll("form[data-passkey]")) {
    const problem = form.querySelector("[role=alert]");
    if (!able) {
      problem.textContent = "This browser cannot use passkeys.";
      form.querySelector("button").disabled = true;
    }
    form.hidden = false;
    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      const button = form.querySelector("button");
      const fields = Object.fromEntries(new FormData(form));
      const csrf = fields.csrf || "";
      delete fields.csrf;
      button.disabled = true;
      problem.textContent = "";
      try {
        const { ceremony, options } = await send(form.dataset.options, {}, csrf);
        const credential =
          form.dataset.passkey === "create"
            ? await navigator.credentials.create({ publicKey: PublicKeyCredential.parseCreationOptionsFromJSON(options) })
            : await navigator.credentials.get({ publicKey: PublicKeyCredential.parseRequestOptionsFromJSON(options) });
        const { target } = await send(form.dataset.answer, { ...fields, ceremony, credential: credential.toJSON() }, csrf);
        window.location.assign(target);
      } catch (error) {
        problem.textContent = words(error);
        button.disabled = false;
        button.focus();
      }
    });
  }
})();
