// Keeps the page up to date in place: what is marked `data-live` is replaced when it changed. What somebody types, where the focus is, what is
// unfolded, selected and scrolled stays. Without this file the first page reloads itself, and all pages work.
"use strict";

(() => {
  const EVERY = 10000; // milliseconds
  const PATIENCE = 8000;
  let timer = 0;
  let busy = false;

  const byId = (root, id) => root.getElementById(id);
  const spoken = (root) => [...root.querySelectorAll("[data-said]")].map((each) => each.textContent).join(": ");

  async function refresh() {
    clearTimeout(timer);
    if (document.hidden || busy) return;
    busy = true;
    try {
      const answer = await fetch(location.href, { cache: "no-store", signal: AbortSignal.timeout(PATIENCE) });
      const type = answer.headers.get("content-type") || "";
      if (!type.startsWith("text/html")) throw new Error(`the answer is ${answer.status}`);
      take(new DOMParser().parseFromString(await answer.text(), "text/html"));
      reached();
    } catch (error) {
      lost(error);
    }
    busy = false;
    timer = setTimeout(refresh, EVERY);
  }

  function take(fresh) {
    if (isOfAnotherVersion(fresh) || !sameSections(fresh)) {
      if (!isTyping()) location.reload();
      return;
    }
    const before = spoken(document);
    document.title = fresh.title;
    for (const section of document.querySelectorAll("[data-live]")) replace(section, byId(fresh, section.id));
    const after = spoken(document);
    if (after !== before) byId(document, "said").textContent = after;
  }

  const styleOf = (root) => root.querySelector("link[rel=stylesheet]").getAttribute("href");
  const isOfAnotherVersion = (fresh) => !fresh.querySelector("link[rel=stylesheet]") || styleOf(fresh) !== styleOf(document);
  const live = (root) => [...root.querySelectorAll("[data-live]")].map((each) => each.id).join();
  const sameSections = (fresh) => live(fresh) === live(document);
  const isTyping = () => document.activeElement !== null && document.activeElement.matches("input, select, textarea");

  function replace(old, fresh) {
    if (old.className !== fresh.className) old.className = fresh.className;
    if (old.innerHTML === fresh.innerHTML || isSelected(old)) return;
    const open = [...old.querySelectorAll("details[open]")].map((each) => each.id);
    const scrolled = [...old.querySelectorAll(".scroll")].map((each) => each.scrollLeft);
    const read = [...old.querySelectorAll(".output")].map((each) => each.scrollTop);
    const focus = placeOf(old);
    old.replaceChildren(...fresh.childNodes);
    for (const id of open) byId(document, id)?.setAttribute("open", "");
    old.querySelectorAll(".scroll").forEach((each, number) => { each.scrollLeft = scrolled[number] || 0; });
    old.querySelectorAll(".output").forEach((each, number) => { each.scrollTop = read[number] || 0; });
    focus?.()?.focus({ preventScroll: true });
  }

  function isSelected(section) {
    const selection = document.getSelection();
    return selection !== null && !selection.isCollapsed && selection.containsNode(section, true);
  }

  // How to find what has the focus again: the same link, or the same thing to unfold.
  function placeOf(section) {
    const active = document.activeElement;
    if (active === null || active === section || !section.contains(active)) return null;
    if (active.matches(".output")) return () => section.querySelector(".output");
    if (active.matches("summary")) {
      const id = active.parentElement.id;
      return () => byId(document, id)?.querySelector("summary");
    }
    const href = active.getAttribute("href");
    const alike = () => [...section.querySelectorAll("a[href]")].filter((each) => each.getAttribute("href") === href);
    const number = alike().indexOf(active);
    return () => alike()[number] || alike()[0];
  }

  let since = null;

  function reached() {
    since = new Date();
    byId(document, "lost").hidden = true;
  }

  function lost(error) {
    const note = byId(document, "lost");
    const last = since ? `${since.toISOString().slice(0, 19).replace("T", " ")} UTC` : "this page was opened";
    const why = error.name === "TimeoutError" ? "no answer in time" : error.name === "TypeError" ? "no connection" : error.message;
    const text = `Not reached since ${last} (${why}). What is shown is as of then; it is tried again.`;
    if (note.hidden || note.textContent !== text) note.textContent = text;
    note.hidden = false;
  }

  document.addEventListener("visibilitychange", refresh);
  window.addEventListener("online", refresh);
  timer = setTimeout(refresh, EVERY);
})();
