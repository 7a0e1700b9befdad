// What scripts add to every page; each page works without. (1) A warning before the session ends, with a button that extends it
// (WCAG 2.2.1). (2) A form is sent once, however often its button is pressed. (3) A status line is read out after a table was swapped.
"use strict";
(() => {
  const body = document.body;
  const idle = Number(body.dataset.idle) * 1000; // milliseconds without a visit after which the server ends the session
  const ends = Number(body.dataset.ends) * 1000; // when it ends in any case, in milliseconds since 1970 by the server's clock
  const skew = Number(body.dataset.now) * 1000 - Date.now();
  const bar = document.getElementById("timeout");

  if (bar && idle > 0) {
    const text = bar.querySelector("p");
    const extend = bar.querySelector("button");
    const channel = "BroadcastChannel" in window ? new BroadcastChannel("cognify-session") : null;
    const warnAt = Math.min(180_000, idle / 2);
    let until = 0;
    let last = false;

    const visited = () => {
      const now = Date.now() + skew;
      last = ends <= now + idle;
      until = Math.min(now + idle, ends);
      bar.hidden = true;
      body.classList.remove("warned");
    };
    const check = () => {
      const left = until - (Date.now() + skew);
      if (left <= 0) {
        text.textContent = "You were signed out. What you typed on this page is still here: copy it before you sign in again.";
        extend.hidden = true;
      } else if (left <= warnAt) {
        const minutes = Math.max(1, Math.ceil(left / 60_000));
        const words = minutes === 1 ? "1 minute" : `${minutes} minutes`;
        const sentence = last
          ? `You will be signed out in ${words}, as every session is after some hours. Send your form before that.`
          : `You will be signed out in ${words}, because nothing was opened for a while.`;
        if (text.textContent !== sentence) text.textContent = sentence;
        extend.hidden = last;
      } else {
        return;
      }
      bar.hidden = false;
      body.classList.add("warned");
    };
    extend.addEventListener("click", async () => {
      try {
        const answer = await fetch(body.dataset.extend, { method: "POST", headers: { "X-CSRF-Token": body.dataset.csrf } });
        if (!answer.ok) throw new Error(String(answer.status));
        visited();
        if (channel) channel.postMessage("visited");
        document.getElementById("main").focus();
      } catch {
        text.textContent = "That did not work: the site does not answer, or you are signed out already.";
      }
    });
    if (channel) {
      channel.onmessage = visited; // another tab was used
      channel.postMessage("visited");
    }
    visited();
    setInterval(check, 1000);
    document.addEventListener("visibilitychange", check);
  }

  document.addEventListener("submit", (event) => {
    const form = event.target;
    if (event.defaultPrevented || form.method !== "post") return;
    if (form.dataset.sent) {
      event.preventDefault();
      return;
    }
    form.dataset.sent = "yes";
    setTimeout(() => delete form.dataset.sent, 5000);
  });
  window.addEventListener("pageshow", () => {
    for (const form of document.querySelectorAll("form[data-sent]")) delete form.dataset.sent;
  });

  document.addEventListener("htmx:after:swap", () => {
    const line = document.getElementById("status");
    const found = document.querySelector("[data-status]");
    if (line && found) line.textContent = found.dataset.status;
  });
})();
