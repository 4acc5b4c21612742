// Keeps the page fresh without losing what was opened, and copies commands. Without it the page is whole all the same.
(() => {
  "use strict";
  const main = () => document.querySelector("main");
  const stale = document.getElementById("stale");

  function offerCopies() {
    for (const command of document.querySelectorAll("code.command")) {
      if (command.nextElementSibling) continue;
      const button = document.createElement("button");
      button.type = "button";
      button.className = "copy";
      button.textContent = "Copy";
      button.addEventListener("click", async () => {
        try {
          await navigator.clipboard.writeText(command.textContent);
          button.textContent = "Copied";
        } catch {
          getSelection().selectAllChildren(command);
        }
      });
      command.after(button);
    }
  }

  function put(fresh) {
    for (const opened of document.querySelectorAll("details[open][id]")) {
      const again = fresh.getElementById(opened.id);
      if (again) again.open = true;
    }
    const focused = document.activeElement?.closest("details[id]")?.id;
    document.title = fresh.title;
    for (const part of ["header", "main", "footer"]) {
      const next = fresh.querySelector(part);
      if (next) document.querySelector(part).replaceWith(document.adoptNode(next));
    }
    const icon = document.querySelector("link[rel=icon]");
    icon.replaceWith(icon.cloneNode());
    if (focused) document.getElementById(focused)?.querySelector("summary").focus({ preventScroll: true });
    offerCopies();
  }

  async function refresh() {
    const selected = getSelection();
    if (!document.hidden && (!selected || selected.isCollapsed)) {
      try {
        const answer = await fetch(location.href, { cache: "no-store" });
        if (!answer.ok) throw new Error(answer.statusText);
        const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
        if (!fresh.querySelector("main")) throw new Error("no page");
        put(fresh);
        stale.hidden = true;
      } catch {
        stale.hidden = false;
      }
    }
    setTimeout(refresh, 1000 * main().dataset.reload);
  }

  offerCopies();
  setTimeout(refresh, 1000 * main().dataset.reload);
})();
