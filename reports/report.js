"use strict";
// The summary needs none of this. Everything that came out of a model is set with textContent, never as markup.
(() => {
  const $ = (id) => document.getElementById(id);
  const settings = JSON.parse($("settings").textContent);
  const t = (text, values = {}) =>
    (settings.words[text] ?? text).replace(/\{(\w+)\}/g, (_, name) => values[name] ?? "");
  const number = (n) => n.toLocaleString("en-US");

  function el(tag, attributes = {}, ...children) {
    const node = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (name === "class") node.className = value;
      else if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
      else if (value !== null && value !== undefined) node.setAttribute(name, value);
    }
    for (const child of children) if (child !== null && child !== undefined) node.append(child);
    return node;
  }

  // ---- theme: follows the system until someone chooses
  const theme = $("theme");
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const remember = (value) => { try { localStorage.setItem("forgetbench-theme", value); } catch { /* file:// may forbid it */ } };
  function isDark() { return (document.documentElement.dataset.theme ?? (dark.matches ? "dark" : "light")) === "dark"; }
  function nameTheme() { theme.textContent = isDark() ? t("Light") : t("Dark"); }
  try {
    const saved = localStorage.getItem("forgetbench-theme");
    if (saved === "dark" || saved === "light") document.documentElement.dataset.theme = saved;
  } catch { /* none saved */ }
  theme.hidden = false;
  nameTheme();
  dark.addEventListener("change", nameTheme);
  theme.addEventListener("click", () => {
    document.documentElement.dataset.theme = isDark() ? "light" : "dark";
    remember(document.documentElement.dataset.theme);
    nameTheme();
  });

  // ---- candidates as tabs (links to sections when scripts are off)
  const tabs = [...document.querySelectorAll(".tabs a")];
  const articles = [...document.querySelectorAll("article.candidate")];
  function showCandidate(id) {
    if (!articles.some((a) => a.id === id)) return;
    for (const article of articles) article.hidden = tabs.length > 0 && article.id !== id;
    for (const tab of tabs) {
      if (tab.dataset.tab === id) tab.setAttribute("aria-current", "true");
      else tab.removeAttribute("aria-current");
    }
  }
  for (const tab of tabs) {
    tab.addEventListener("click", (event) => {
      event.preventDefault();
      showCandidate(tab.dataset.tab);
      const first = settings.comparisons.find((c) => c.tab === tab.dataset.tab);
      if (first && explorer) explorer.choose(first.id);
      history.replaceState(null, "", "#" + tab.dataset.tab);
    });
  }
  if (articles.length) showCandidate(articles[0].id);

  // ---- sortable tables: the order as written is the third state
  for (const table of document.querySelectorAll("table.sortable")) {
    const original = [...table.tBodies].map((body) => [...body.rows]);
    [...table.tHead.rows[0].cells].forEach((cell, column) => {
      const button = el("button", { type: "button" });
      button.append(...cell.childNodes);
      cell.append(button);
      button.addEventListener("click", () => {
        const next = { none: "descending", descending: "ascending", ascending: "none" }[cell.ariaSort ?? "none"];
        for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
        if (next !== "none") cell.setAttribute("aria-sort", next);
        [...table.tBodies].forEach((body, i) => body.append(...(next === "none" ? original[i] : sorted(original[i], column, next))));
      });
    });
  }
  function sorted(rows, column, order) {
    const [head, ...rest] = rows; // the first row names the part
    const value = (row) => {
      const cell = row.cells[column];
      if (cell.dataset.value === undefined) return cell.textContent.trim();
      const figure = Number.parseFloat(cell.dataset.value);
      return Number.isNaN(figure) ? null : figure;
    };
    const sign = order === "ascending" ? 1 : -1;
    rest.sort((a, b) => {
      const [x, y] = [value(a), value(b)];
      if (x === null || y === null) return (x === null) - (y === null); // unknown goes last either way
      return sign * (typeof x === "number" ? x - y : x.localeCompare(y));
    });
    return [head, ...rest];
  }

  // ---- answers: index at once, texts in chunks when wanted
  async function unpack(base64) {
    const bytes = Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    return JSON.parse(await new Response(stream).text());
  }

  const FIRST = 3000; // characters shown of a long text before someone asks for more
  const BATCH = 60;
  const ORDER = ["lost", "gained", "changed", "same", "dropped"];
  const MARK = { lost: "▼", gained: "▲", changed: "◇", same: "=", dropped: "∅" };

  class Explorer {
    constructor(index) {
      this.index = index;
      this.chunks = [...document.querySelectorAll("script.chunk")];
      this.cache = new Map();
      this.form = $("filters");
      this.column = (name, i) => index.coded[name].values[index.coded[name].codes[i]];
      this.size = index.anchor.length;
      this.found = [];
      this.drawn = 0;
      this.run = 0;
      const rank = (i) => ORDER.indexOf(this.column("flip", i));
      this.order = Array.from({ length: this.size }, (_, i) => i)
        .sort((a, b) => rank(a) - rank(b) || this.column("type", a).localeCompare(this.column("type", b)) || a - b);
      this.fill();
      this.form.hidden = false;
      this.form.addEventListener("input", () => { clearTimeout(this.timer); this.timer = setTimeout(() => this.filter(true), 120); });
      this.form.addEventListener("reset", () => setTimeout(() => { this.filter(true); }));
      this.form.addEventListener("submit", (event) => event.preventDefault());
      $("more").addEventListener("click", () => this.draw(true));
    }

    fill() {
      const add = (name, value, label) => this.form.elements[name].append(new Option(label, value));
      const by = new Map(settings.comparisons.map((c) => [c.id, c]));
      const present = (name) => [...new Set(this.index.coded[name].values)];
      const deciding = settings.comparisons.find((c) => present("comparison").includes(c.id));
      for (const id of present("comparison")) {
        const option = new Option(`${by.get(id).candidate} ${t("against")} ${by.get(id).base}`, id, id === deciding?.id, id === deciding?.id);
        this.form.elements.comparison.append(option);
      }
      const flips = present("flip");
      if (flips.includes("lost") || flips.includes("gained")) add("flip", "flips", t("lost and gained"));
      for (const flip of ORDER.filter((f) => flips.includes(f))) add("flip", flip, `${MARK[flip]} ${t(flip === "same" ? "did not flip" : flip)}`);
      add("flip", "", t("all"));
      const types = present("type").sort();
      add("type", "", t("all"));
      let top = null;
      for (const type of types) {
        const head = type.split("/")[0];
        if (head !== top && type !== head) add("type", head, head);
        top = head;
        add("type", type, type === head ? type : `\u2003${type.slice(head.length + 1)}`);
      }
      for (const name of ["task", "view"]) {
        add(name, "", t("all"));
        for (const value of present(name).sort()) add(name, value, t(value));
      }
      add("outcome", "", t("all"));
      for (const value of [...new Set([...present("outcome"), ...present("outcome2")])].sort()) add("outcome", value, t(value));
      for (const name of ["comparison", "task", "view", "outcome"]) {
        const select = this.form.elements[name];
        const real = [...select.options].filter((o) => o.value !== "").length;
        select.closest("label").hidden = real < 2;
      }
    }

    choose(comparison) {
      const select = this.form.elements.comparison;
      if ([...select.options].some((o) => o.value === comparison)) { select.value = comparison; this.filter(); }
    }

    // What is filtered stands in the address, so that a view can be sent to someone: #?flip=lost&type=knowledge
    state() {
      const state = new URLSearchParams();
      for (const field of this.form.elements) {
        const usual = field.options ? [...field.options].find((o) => o.defaultSelected) ?? field.options[0] : { value: "" };
        if (field.name && field.value !== usual.value) state.set(field.name, field.value);
      }
      return state;
    }

    async restore(state) {
      this.form.reset();
      await new Promise((done) => setTimeout(done)); // after the reset's own filter
      for (const [name, value] of new URLSearchParams(state)) {
        const field = this.form.elements[name];
        if (field && (!field.options || [...field.options].some((o) => o.value === value))) field.value = value;
      }
      await this.filter();
      $("flips").scrollIntoView({ block: "start" });
    }

    async texts(i) {
      const at = Math.floor(i / this.index.chunk_rows);
      let rows = this.cache.get(at);
      if (!rows) {
        rows = unpack(this.chunks[at].textContent);
        if (this.cache.size >= 48) this.cache.delete(this.cache.keys().next().value);
        this.cache.set(at, rows);
      }
      return (await rows)[i % this.index.chunk_rows];
    }

    matches(i) {
      const want = (name) => this.form.elements[name].value;
      const flip = this.column("flip", i);
      const type = this.column("type", i);
      return this.column("comparison", i) === want("comparison")
        && (want("flip") === "" || flip === want("flip") || (want("flip") === "flips" && (flip === "lost" || flip === "gained")))
        && (want("type") === "" || type === want("type") || type.startsWith(want("type") + "/"))
        && (want("task") === "" || this.column("task", i) === want("task"))
        && (want("view") === "" || this.column("view", i) === want("view"))
        && (want("outcome") === "" || this.column("outcome", i) === want("outcome") || this.column("outcome2", i) === want("outcome"));
    }

    async filter(remember = false) {
      const run = ++this.run; // a newer filter ends an older search
      if (remember) history.replaceState(null, "", `#?${this.state()}`);
      const text = this.form.elements.text.value.trim().toLowerCase();
      let found = this.order.filter((i) => this.matches(i));
      if (text) {
        const among = new Set(found), hits = new Set();
        for (let at = 0; at < this.chunks.length; at++) {
          const first = at * this.index.chunk_rows, last = Math.min(this.size, first + this.index.chunk_rows);
          for (let i = first; i < last; i++) {
            if (!among.has(i)) continue;
            if (has(await this.texts(i), text)) hits.add(i);
            if (run !== this.run) return;
          }
        }
        found = found.filter((i) => hits.has(i));
      }
      if (run !== this.run) return;
      this.found = found;
      this.draw(false);
    }

    draw(more) {
      if (!more) { $("rows").replaceChildren(); this.drawn = 0; }
      const next = this.found.slice(this.drawn, this.drawn + BATCH);
      const nodes = next.map((i) => this.row(i));
      $("rows").append(...nodes);
      if (more && nodes.length) nodes[0].firstChild.focus();
      this.drawn += next.length;
      $("shown").textContent = t("{n} of {all} answers", { n: number(this.found.length), all: number(this.size) });
      $("more").hidden = this.drawn >= this.found.length;
      $("more").textContent = t("Show {n} more", { n: number(Math.min(BATCH, this.found.length - this.drawn)) });
    }

    link(i) { return `#${encodeURIComponent(this.index.anchor[i])}@${this.column("comparison", i)}`; }

    row(i) {
      const flip = this.column("flip", i);
      const body = el("div", { class: "body" });
      const pair = el("details", { class: "pair", "data-row": i },
        el("summary", {},
          el("span", { class: `direction ${flip}` }, `${MARK[flip]} ${t(flip)}`),
          el("bdi", { class: "asked", dir: "auto" }, this.index.question[i]),
          el("span", { class: "answers" }, el("bdi", {}, this.index.answer[i]), " → ", el("bdi", {}, this.index.answer2[i]))),
        body);
      pair.addEventListener("toggle", async () => {
        if (!pair.open || body.childNodes.length) return;
        body.append(...this.body(i, await this.texts(i)));
      });
      return pair;
    }

    body(i, row) {
      const names = settings.comparisons.find((c) => c.id === this.column("comparison", i));
      const where = [this.column("task", i), this.column("type", i), t(this.column("view", i)), this.column("decode", i), row.source];
      const head = el("p", {});
      where.filter(Boolean).forEach((text, n) => head.append(n ? " · " : "", el("bdi", {}, text)));
      head.append(" · ", el("a", { href: this.link(i) }, t("link to this item")));
      const prompts = row.prompt2 !== undefined
        ? [fold(t("Prompt of {name}", { name: names.base }), row.prompt), fold(t("Prompt of {name}", { name: names.candidate }), row.prompt2)]
        : row.prompt !== undefined ? [fold(t("Prompt"), row.prompt)] : [];
      const gold = row.gold === undefined ? null : facts([[t("Reference"), row.gold]]);
      return [head, gold, ...prompts,
        el("div", { class: "sides" }, side(names.base, row.base), side(names.candidate, row.candidate))].filter(Boolean);
    }

    async open(anchor, comparison) {
      const at = this.order.find((i) => this.index.anchor[i] === anchor && (!comparison || this.column("comparison", i) === comparison));
      if (at === undefined) return false;
      const names = settings.comparisons.find((c) => c.id === this.column("comparison", at));
      showCandidate(names.tab);
      this.form.reset();
      for (const name of ["comparison", "flip", "type"]) this.form.elements[name].value = this.column(name, at);
      await new Promise((done) => setTimeout(done)); // after the reset's own filter
      await this.filter();
      this.found = [at, ...this.found.filter((i) => i !== at)]; // what a link points at comes first
      this.draw(false);
      const node = document.querySelector(`[data-row="${at}"]`);
      node.open = true;
      node.scrollIntoView({ block: "start" });
      node.firstChild.focus({ preventScroll: true });
      return true;
    }
  }

  function has(row, text) {
    const texts = [row.prompt, row.prompt2, row.gold, row.source];
    for (const s of [row.base, row.candidate]) texts.push(s.output, s.extracted, s.why);
    return texts.some((s) => s !== undefined && s.toLowerCase().includes(text));
  }

  function block(text) {
    const pre = el("pre", { dir: "auto", tabindex: "0" });
    if (text.length <= FIRST + 500) { pre.textContent = text; return pre; }
    pre.textContent = text.slice(0, FIRST) + "…";
    const all = el("button", { type: "button" }, t("Show all {n} characters", { n: number(text.length) }));
    all.addEventListener("click", () => { pre.textContent = text; pre.focus(); all.remove(); });
    return el("div", {}, pre, all);
  }

  function fold(title, text) {
    const details = el("details", {}, el("summary", {}, title));
    details.addEventListener("toggle", () => { if (details.open && details.childNodes.length === 1) details.append(block(text)); });
    return details;
  }

  function facts(entries) {
    const list = el("dl", { class: "facts" });
    for (const [name, value] of entries) list.append(el("dt", {}, name), el("dd", { dir: "auto" }, value));
    return list;
  }

  function side(alias, s) {
    const known = s.score !== undefined && s.score !== null;
    const verdict = !known ? "odd" : s.score === 1 ? "right" : s.score === 0 ? "wrong" : "odd";
    const label = !known ? t("no score") : s.score === 1 ? `✓ ${t("right")}` : s.score === 0 ? `✕ ${t("wrong")}` : `${t("score")} ${s.score.toFixed(3)}`;
    const meta = [];
    if (s.finish) meta.push(t("finish: {how}", { how: s.finish }));
    if (s.tokens !== undefined) meta.push(t("{n} tokens", { n: number(s.tokens) }));
    if (s.logprob !== undefined) meta.push(t("mean log-probability {x}", { x: s.logprob.toFixed(2).replace("-", "−") }));
    const entries = [[t("Extracted"), s.extracted ?? t("(nothing)")]];
    if (s.why) entries.push([t("Why"), s.why]);
    return el("div", { class: `side ${verdict}` },
      el("h4", {}, el("bdi", {}, alias), el("span", { class: `badge ${verdict}` }, label),
        s.outcome !== "ok" ? el("span", { class: "badge odd" }, `! ${t(s.outcome)}`) : null,
        s.style ? el("span", { class: "tag" }, t(s.style)) : null),
      facts(entries), block(s.output ?? ""), el("p", { class: "quiet" }, meta.join(" · ")));
  }

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
  function go() {
    let hash = location.hash.slice(1);
    if (hash.startsWith("?")) { explorer?.restore(hash.slice(1)); return; }
    try { hash = decodeURIComponent(hash); } catch { /* leave as it is */ }
    if (!hash) return;
    if (articles.some((a) => a.id === hash)) return showCandidate(hash);
    const cut = hash.lastIndexOf("@");
    if (explorer) explorer.open(cut < 0 ? hash : hash.slice(0, cut), cut < 0 ? null : hash.slice(cut + 1));
  }
  async function start() {
    if (!$("index")) return go();
    if (typeof DecompressionStream === "undefined") {
      $("shown").textContent = t("This browser is too old to unpack the answers (it lacks DecompressionStream).");
      return;
    }
    explorer = new Explorer(await unpack($("index").textContent));
    linkToCases();
    await explorer.filter();
    go();
    document.documentElement.dataset.ready = "true";
  }
  addEventListener("hashchange", go);
  start();
})();
