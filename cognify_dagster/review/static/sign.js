// Signing with a passkey: asks for the assertion over the statement's challenge and posts it with the form. Nothing else.
"use strict";
const form = document.querySelector("form[data-passkey]");
if (form) {
  const problem = form.querySelector("[data-problem]");
  const button = form.querySelector("button");
  const say = (text) => {
    problem.textContent = text;
    problem.hidden = false;
    problem.focus();
    button.disabled = false;
  };
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    problem.hidden = true;
    if (!window.PublicKeyCredential || !PublicKeyCredential.parseRequestOptionsFromJSON) {
      say("This browser cannot use passkeys in this way. Use a current one, or sign with the command cognify.");
      return;
    }
    button.disabled = true;
    try {
      const publicKey = PublicKeyCredential.parseRequestOptionsFromJSON(JSON.parse(form.dataset.passkey));
      const credential = await navigator.credentials.get({ publicKey });
      form.elements.assertion.value = JSON.stringify(credential.toJSON());
      form.submit();
    } catch (error) {
      say(error.name === "NotAllowedError"
        ? "The passkey was not used: it was cancelled, took too long, or could not verify you. Nothing was signed; try again."
        : "The passkey could not be used (" + error.name + "). Nothing was signed; try again.");
    }
  });
}
