// Fetches the page again every two seconds and writes what has changed into this one, so that focus,
// scrolling, selection and opened details stay as they are.
"use strict";
(() => {
  const everyMilliseconds = 2000;
  const patienceMilliseconds = 10000;
  const pause = document.getElementById("pause");
  const updates = document.getElementById("updates");
  let timer = 0;

  function morph(old, fresh) {
    if (old.nodeType !== Node.ELEMENT_NODE) {
      if (old.data !== fresh.data) old.data = fresh.data;
      return;
    }
    for (const { name, value } of fresh.attributes)
      if (old.getAttribute(name) !== value) old.setAttribute(name, value);
    for (const child of [...old.children])
      if (child.id && !fresh.querySelector(":scope > #" + CSS.escape(child.id))) child.remove();
    let at = old.firstChild;
    for (const next of [...fresh.childNodes]) {
      if (at && at.nodeName === next.nodeName && (at.id || "") === (next.id || "")) {
        morph(at, next);
        at = at.nextSibling;
      } else {
        old.insertBefore(document.adoptNode(next), at);
      }
    }
    while (at) {
      const rest = at.nextSibling;
      at.remove();
      at = rest;
    }
  }

  function say(text) {
    // only what is new: a screen reader speaks it
    if (updates.textContent !== text) updates.textContent = text;
  }

  async function renew() {
    try {
      const response = await fetch(location.href, {
        cache: "no-store",
        signal: AbortSignal.timeout(patienceMilliseconds),
      });
      if (!response.ok) throw new Error(response.statusText);
      const fresh = new DOMParser().parseFromString(await response.text(), "text/html");
      for (const part of ["main", "#moment"])
        morph(document.querySelector(part), fresh.querySelector(part));
      document.body.classList.remove("stale");
      say("Renewed every 2 seconds.");
    } catch {
      document.body.classList.add("stale");
      say("No answer: these numbers are old. Trying again.");
    }
  }

  function isPaused() {
    return pause.getAttribute("aria-pressed") === "true";
  }

  async function tick() {
    if (!isPaused() && !document.hidden) await renew();
    timer = setTimeout(tick, everyMilliseconds);
  }

  pause.addEventListener("click", () => {
    pause.setAttribute("aria-pressed", String(!isPaused()));
    say(isPaused() ? "Paused." : "Renewed every 2 seconds.");
  });
  document.addEventListener("visibilitychange", () => {
    clearTimeout(timer);
    tick();
  });
  pause.setAttribute("aria-pressed", "false");
  pause.hidden = false;
  say("Renewed every 2 seconds.");
  timer = setTimeout(tick, everyMilliseconds);
})();
