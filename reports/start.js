// ---- every figure leads to its cases
function linkToCases() {
  for (const name of document.querySelectorAll("[data-show]")) {
    const link = el("a", { href: `#?${name.dataset.show}` });
    link.append(...name.childNodes);
    name.append(link);
  }
}

// ---- start
let explorer = null;
async function go() {
  let hash = location.hash.slice(1);
  if (hash.startsWith("?")) { explorer?.restore(hash.slice(1)); return; }
  try { hash = decodeURIComponent(hash); } catch { /* leave as it is */ }
  if (!hash) return;
  if (articles.some((a) => a.id === hash)) return showCandidate(hash);
  if (!explorer || $(hash)) return;
  const cut = hash.lastIndexOf("@");
  if (await explorer.open(cut < 0 ? hash : hash.slice(0, cut), cut < 0 ? null : hash.slice(cut + 1))) return;
  $("shown").textContent = t("This file does not carry the item that the link points at. In a terminal: {command}", { command: `forgetbench show '${hash}'` });
  $("flips").scrollIntoView({ block: "start" });
}
addEventListener("keydown", (event) => {
  if (!explorer || event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, select, textarea")) return;
  const act = { j: () => explorer.step(1), k: () => explorer.step(-1), "/": () => explorer.form.elements.text.focus() }[event.key];
  if (!act) return;
  event.preventDefault();
  act();
});
async function start() {
  if (!$("index")) return go();
  if (typeof DecompressionStream === "undefined") {
    $("shown").textContent = t("This browser is too old to unpack the answers (it lacks DecompressionStream).");
    return;
  }
  explorer = new Explorer(await unpack($("index").textContent));
  linkToCases();
  await explorer.filter();
  await go();
  document.documentElement.dataset.readyAt = performance.now().toFixed();
  document.documentElement.dataset.ready = "true";
}
addEventListener("hashchange", go);
start();
