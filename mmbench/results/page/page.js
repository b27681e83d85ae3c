(function () {
  "use strict";
  document.documentElement.classList.add("js");

  // Elements; what comes from data only ever becomes text.
  function el(tag, attributes) {
    var node = document.createElement(tag);
    fill(node, attributes, [].slice.call(arguments, 2));
    return node;
  }
  function drawn(tag, attributes) {
    var node = document.createElementNS("http://www.w3.org/2000/svg", tag);
    fill(node, attributes, [].slice.call(arguments, 2));
    return node;
  }
  function fill(node, attributes, children) {
    Object.keys(attributes || {}).forEach(function (name) { node.setAttribute(name, attributes[name]); });
    children.forEach(function (child) {
      if (child === null || child === undefined) { return; }
      node.appendChild(typeof child === "object" ? child : document.createTextNode(String(child)));
    });
  }
  function bdi(text) { return el("bdi", null, text); }
  function read(id) { return JSON.parse(document.getElementById(id).textContent); }
  function each(selector, action, root) { [].forEach.call((root || document).querySelectorAll(selector), action); }

  // Sorting: a button in every header; what has no number stays last in both directions.
  function sortValue(row, index) {
    var cell = row.cells[index];
    var text = cell.hasAttribute("data-v") ? cell.getAttribute("data-v") : cell.textContent.trim();
    if (text === "" || text === "n/a") { return null; }
    var number = Number(text);
    return isNaN(number) ? text.toLowerCase() : number;
  }
  function compare(a, b) {
    if (typeof a === typeof b) { return a < b ? -1 : a > b ? 1 : 0; }
    return typeof a === "number" ? -1 : 1;
  }
  function sortTable(table, header, direction) {
    var index = header.cellIndex, body = table.tBodies[0], sign = direction === "ascending" ? 1 : -1;
    var rows = [].map.call(body.rows, function (row, place) { return { row: row, place: place, value: sortValue(row, index) }; });
    rows.sort(function (a, b) {
      if (a.value === null || b.value === null) { return (a.value === null) - (b.value === null) || a.place - b.place; }
      return sign * compare(a.value, b.value) || a.place - b.place;
    });
    rows.forEach(function (entry) { entry.row.classList.remove("first-other"); body.appendChild(entry.row); });
    each("th[aria-sort]", function (other) { other.removeAttribute("aria-sort"); }, table.tHead);
    header.setAttribute("aria-sort", direction);
  }
  function sortable(table, action) {
    each("th[data-first]", function (header) {
      var button = el("button", { type: "button" });
      while (header.firstChild) { button.appendChild(header.firstChild); }
      header.appendChild(button);
      button.addEventListener("click", function () {
        var now = header.getAttribute("aria-sort");
        var first = header.getAttribute("data-first");
        var direction = !now ? first : now === "ascending" ? "descending" : "ascending";
        (action || sortTable)(table, header, direction);
      });
    }, table.tHead);
  }
  each("table.sortable", function (table) { sortable(table); });

  // Filtering rows by text.
  each(".tools[data-for]", function (tools) {
    var body = document.getElementById(tools.getAttribute("data-for")).tBodies[0];
    var input = tools.querySelector("input"), output = tools.querySelector("output");
    input.addEventListener("input", function () {
      var words = input.value.toLowerCase().split(/\s+/).filter(Boolean), shown = 0;
      [].forEach.call(body.rows, function (row) {
        var text = row.textContent.toLowerCase();
        row.hidden = !words.every(function (word) { return text.indexOf(word) >= 0; });
        shown += row.hidden ? 0 : 1;
      });
      output.textContent = words.length ? shown + " of " + body.rows.length + " rows" : "";
    });
  });

  // One metric of the comparisons at a time.
  each("select[data-shows]", function (select) {
    var found = document.querySelectorAll("." + select.getAttribute("data-shows"));
    function show() {
      [].forEach.call(found, function (part, index) { part.hidden = String(index) !== select.value; });
    }
    select.addEventListener("change", function () {
      show();
      select.closest(".tools").querySelector("output").textContent = found[Number(select.value)].querySelector("h4").textContent;
    });
    show();
  });

  // Pages of single runs.
  var report = document.getElementById("report"), page = document.getElementById("run"), shared = null;
  function open(number) {
    shared = shared || read("shared");
    page.textContent = "";
    var run = read("run-data-" + number);
    var title = run.title + (run.part ? ", part " + run.part : "") + (run.seed === null ? "" : ", seed " + run.seed);
    var heading = el("h2", { tabindex: "-1", id: "run-title" }, bdi(title));
    fill(page, {}, [el("p", { "class": "screen" }, el("a", { href: "#runs" }, "← All runs"), " · ", el("a", { href: "#report" }, "Results")), heading]);
    if (run.simulated) { page.appendChild(el("p", { "class": "simulated" }, "SIMULATED data: these scores say nothing about real ones.")); }
    var facts = [["status", run.status], ["reason", run.reason], ["warnings", run.warnings.join("; ")], ["experiment", run.experiment], ["model", run.model]];
    facts.push(["losses", run.losses.map(function (loss) { return loss.name; }).join(", ") || "task loss alone"]);
    if (run.floor || run.collapsed) { facts.push(["flags", [run.floor ? "floor" : "", run.collapsed ? "collapsed to nearly one prediction" : ""].filter(Boolean).join(", ")]); }
    page.appendChild(list(facts.concat(run.facts)));
    if (run.scores.length) {
      section("Scores", table(["score", "validation", "test"], run.scores, "Scores"));
      if (run.selection.epoch !== undefined) {
        page.appendChild(el("p", { "class": "about" }, "Epoch " + run.selection.epoch + " was chosen by validation " + run.selection.metric + "."));
      }
    }
    curves(run);
    weights(run);
    adapters(run);
    if (run.predictions) { predictions(run); }
    section("Data", list(flat(shared.data[run.data])));
    section("Environment", list(flat(shared.environments[run.environment])));
    section("Config", el("pre", { tabindex: "0" }, run.config));
    return heading;
  }
  function section(title) {
    page.appendChild(el("h3", null, title));
    [].slice.call(arguments, 1).forEach(function (part) { if (part) { page.appendChild(part); } });
  }
  function list(facts) {
    var found = el("dl", { "class": "facts" });
    facts.forEach(function (fact) {
      if (fact[1] === "" || fact[1] === null || fact[1] === undefined) { return; }
      fill(found, {}, [el("dt", null, fact[0]), el("dd", null, bdi(fact[1]))]);
    });
    return found.children.length ? found : el("p", { "class": "quiet" }, "Nothing is recorded.");
  }
  function flat(value, name) {
    if (Array.isArray(value) && value.every(function (item) { return item === null || typeof item !== "object"; })) { return [[name, value.join(", ")]]; }
    if (value !== null && typeof value === "object") {
      return [].concat.apply([], Object.keys(value).map(function (key) { return flat(value[key], name ? name + " · " + key : key); }));
    }
    return [[name, value === null ? "" : String(value)]];
  }
  function table(heads, rows, label) {
    var head = el("tr"), body = el("tbody");
    heads.forEach(function (text) { head.appendChild(el("th", { scope: "col" }, text)); });
    rows.forEach(function (row) {
      var line = el("tr");
      row.forEach(function (cell, index) { line.appendChild(el(index ? "td" : "th", index ? {} : { scope: "row" }, typeof cell === "object" ? cell : bdi(cell))); });
      body.appendChild(line);
    });
    return el("div", { "class": "scroll", role: "region", tabindex: "0", "aria-label": label }, el("table", null, el("thead", null, head), body));
  }

  // Learning curves: small charts in the page's colours.
  function curves(run) {
    var names = Object.keys(run.curves).filter(function (name) { return name !== "epoch"; });
    var note = run.curves_problem ? el("p", { "class": "about" }, run.curves_problem) : null;
    if (!names.length) { section("Learning curves", note || el("p", { "class": "quiet" }, "Nothing is recorded.")); return; }
    var groups = [], used = {};
    function take(title, wanted) {
      wanted = wanted.filter(function (name) { return names.indexOf(name) >= 0 && !used[name]; });
      wanted.forEach(function (name) { used[name] = true; });
      if (wanted.length) { groups.push([title, wanted]); }
    }
    take("task loss", ["train.task", "valid.loss"]);
    if (run.selection.metric) { take("validation " + run.selection.metric, ["valid." + run.selection.metric]); }
    names.forEach(function (name) { if (name.indexOf("train.gradient.") !== 0) { take(name.replace(/^valid\./, "validation ").replace(/^train\./, ""), [name]); } });
    var gradients = names.filter(function (name) { return name.indexOf("train.gradient.") === 0; });
    var charts = el("div", { "class": "charts" }), more = el("div", { "class": "charts" });
    groups.forEach(function (group, index) { (index < 6 ? charts : more).appendChild(chart(run, group[0], group[1])); });
    gradients.forEach(function (name) { more.appendChild(chart(run, "gradient norm: " + name.slice(15), [name])); });
    section("Learning curves", note, charts, more.children.length ? el("details", null, el("summary", null, more.children.length + " more curves"), more) : null);
  }
  function range(values) {
    var low = Math.min.apply(null, values), high = Math.max.apply(null, values), room = (high - low) * 0.06 || Math.abs(high) * 0.06 || 1;
    return [low - room, high + room];
  }
  function nice(low, high) {
    var raw = (high - low) / 4, power = Math.pow(10, Math.floor(Math.log10(raw))), step = power * [1, 2, 5, 10].find(function (f) { return power * f >= raw; }), found = [];
    for (var i = Math.ceil(low / step - 1e-9); i * step <= high + 1e-9 * step; i += 1) { found.push(i * step); }
    return found;
  }
  function chart(run, title, names) {
    var W = 320, H = 170, L = 50, R = 8, T = 8, B = 30, epochs = run.curves.epoch;
    var values = [].concat.apply([], names.map(function (name) { return run.curves[name]; })).filter(function (v) { return v !== null; });
    var caption = el("figcaption", null, bdi(title));
    if (!values.length) { return el("figure", null, caption); }
    var xs = range(epochs), ys = range(values);
    function x(v) { return L + (v - xs[0]) / (xs[1] - xs[0]) * (W - L - R); }
    function y(v) { return H - B - (v - ys[0]) / (ys[1] - ys[0]) * (H - T - B); }
    var first = run.curves[names[0]].filter(function (v) { return v !== null; });
    var label = title + ", " + epochs.length + " epochs, from " + first[0] + " to " + first[first.length - 1];
    var svg = drawn("svg", { "class": "chart", viewBox: "0 0 " + W + " " + H, role: "img", "aria-label": label });
    svg.appendChild(drawn("path", { "class": "axis", d: "M" + L + " " + T + "V" + (H - B) + "H" + (W - R) }));
    nice(ys[0], ys[1]).forEach(function (v) {
      svg.appendChild(drawn("text", { x: L - 5, y: y(v) + 4, "text-anchor": "end" }, String(Number(v.toPrecision(3)))));
      svg.appendChild(drawn("path", { "class": "axis", d: "M" + (L - 3) + " " + y(v) + "h3" }));
    });
    nice(xs[0], xs[1]).filter(function (v) { return v === Math.round(v); }).forEach(function (v) {
      svg.appendChild(drawn("text", { x: x(v), y: H - B + 14, "text-anchor": "middle" }, v));
      svg.appendChild(drawn("path", { "class": "axis", d: "M" + x(v) + " " + (H - B) + "v3" }));
    });
    svg.appendChild(drawn("text", { x: W - R, y: H - 2, "text-anchor": "end" }, "epoch"));
    if (typeof run.selection.epoch === "number") {
      svg.appendChild(drawn("path", { "class": "chosen", d: "M" + x(run.selection.epoch) + " " + T + "V" + (H - B) }));
    }
    names.forEach(function (name, index) {
      var part = [];
      function flush() {
        if (part.length === 1) { part.push(part[0]); }
        if (part.length) { svg.appendChild(drawn("polyline", { "class": "s" + index, points: part.join(" "), "stroke-linecap": "round" })); }
        part = [];
      }
      run.curves[name].forEach(function (v, place) { if (v === null) { flush(); } else { part.push(x(epochs[place]).toFixed(1) + "," + y(v).toFixed(1)); } });
      flush();
    });
    if (names.length > 1) {
      var keys = el("ul", { "class": "keys" });
      names.forEach(function (name, index) {
        var line = drawn("svg", { viewBox: "0 0 26 8", "aria-hidden": "true" }, drawn("line", { "class": "s" + index, x1: 0, y1: 4, x2: 26, y2: 4 }));
        keys.appendChild(el("li", null, line, bdi(name)));
      });
      caption.appendChild(keys);
    }
    return el("figure", null, svg, caption);
  }
  function weights(run) {
    var terms = Object.keys(run.gradients);
    if (!terms.length) { return; }
    var most = Math.max.apply(null, terms.map(function (term) { return run.gradients[term] || 0; })) || 1;
    section("Gradient norms", el("p", { "class": "about" }, "Norm of each weighted term's gradient in the encoded features, first batch of the chosen epoch."),
      table(["term", "norm", "against the largest"], terms.map(function (term) {
        var value = run.gradients[term];
        var bar = el("span", { "class": "bar", style: "width:" + (value ? Math.max(1, 140 * value / most).toFixed(0) : 0) + "px" });
        return [term, value === null ? "n/a" : String(value), el("span", { style: "display:inline-block;width:140px;text-align:left", "aria-hidden": "true" }, bar)];
      }), "Gradient norms"));
  }
  function adapters(run) {
    if (!run.adapters.length) { return; }
    section("Adapters", el("p", { "class": "about" }, "Layers that the core added, since the model lacks what a loss needs."));
    run.adapters.forEach(function (adapter) { page.appendChild(list(flat(adapter))); });
  }

  // Predictions: sort by any column, filter by id or words, page by page.
  function predictions(run) {
    var own = run.predictions;
    if (own.problem) { section("Test predictions", el("p", { "class": "about" }, own.problem)); return; }
    var set = shared.samples[own.set], classes = set.classes, SIZE = 25;
    function name(value) { return classes.length && classes[value] !== undefined ? classes[value] : value === null ? "n/a" : String(Math.round(value * 1000) / 1000); }
    var rows = own.p.map(function (value, index) {
      var place = own.rows ? own.rows[index] : index;
      return { id: set.ids[place], words: set.words.length ? set.words[place] : "", target: set.target[place], p: value, e: own.e[index] };
    });
    var columns = [["id", "id", "ascending"], ["target", "target", "ascending"], ["prediction", "p", "ascending"], ["error", "e", "descending"]];
    if (set.words.length) { columns.push(["transcript", "words", "ascending"]); }
    var head = el("tr"), body = el("tbody"), shown = rows.slice(), start = 0;
    columns.forEach(function (column) { head.appendChild(el("th", { scope: "col", "data-first": column[2], "class": column[1] === "words" ? "text" : "" }, column[0])); });
    var browser = el("table", null, el("thead", null, head), body);
    var input = el("input", { type: "search", autocomplete: "off", spellcheck: "false", id: "sample-filter" });
    var output = el("output", { "aria-live": "polite" });
    var back = el("button", { type: "button" }, "Previous"), next = el("button", { type: "button" }, "Next");
    function show() {
      body.textContent = "";
      shown.slice(start, start + SIZE).forEach(function (row) {
        var line = el("tr", null, el("th", { scope: "row" }, bdi(row.id)), el("td", null, bdi(name(row.target))), el("td", null, bdi(name(row.p))),
          el("td", null, row.e === null ? "n/a" : row.e.toFixed(3)));
        if (set.words.length) { line.appendChild(el("td", { "class": "text wrap", dir: "auto" }, row.words)); }
        body.appendChild(line);
      });
      output.textContent = shown.length ? (start + 1) + " to " + Math.min(start + SIZE, shown.length) + " of " + shown.length + " samples" : "no sample";
      back.disabled = start === 0;
      next.disabled = start + SIZE >= shown.length;
    }
    function order(unused, header, direction) {
      var key = columns[header.cellIndex][1], sign = direction === "ascending" ? 1 : -1;
      rows.sort(function (a, b) {
        if (a[key] === null || b[key] === null) { return (a[key] === null) - (b[key] === null); }
        return sign * compare(a[key], b[key]);
      });
      each("th[aria-sort]", function (other) { other.removeAttribute("aria-sort"); }, head);
      header.setAttribute("aria-sort", direction);
      filter();
    }
    function filter() {
      var words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
      shown = rows.filter(function (row) { var text = (row.id + " " + row.words).toLowerCase(); return words.every(function (word) { return text.indexOf(word) >= 0; }); });
      start = 0;
      show();
    }
    input.addEventListener("input", filter);
    back.addEventListener("click", function () { start = Math.max(0, start - SIZE); show(); });
    next.addEventListener("click", function () { start += SIZE; show(); });
    sortable(browser, order);
    var said = classes.length ? "Error: by how much the highest score of another class is above that of the true one; negative is right." : "Error: absolute.";
    if (own.p.length < own.of) { said += " The " + own.p.length + " largest errors of " + own.of + " samples."; }
    if (set.reason) { said += " No transcripts: " + set.reason + "."; }
    section("Test predictions", el("p", { "class": "about" }, said),
      el("div", { "class": "tools" }, el("label", { "for": "sample-filter" }, set.words.length ? "Id or words contain" : "Id contains", input), back, next, output),
      el("div", { "class": "scroll", role: "region", tabindex: "0", "aria-label": "Test predictions" }, browser));
    order(null, head.cells[3], "descending");
  }

  // What the address names: a run, or a place in the report.
  var was = null;
  function route() {
    var match = /^#run-(\d+)$/.exec(location.hash), place = null;
    if (match && document.getElementById("run-data-" + match[1])) {
      place = open(match[1]);
      page.hidden = false;
      document.body.setAttribute("data-view", "run");
      place.focus({ preventScroll: true });
      window.scrollTo(0, 0);
    } else if (!page.hidden) {
      page.hidden = true;
      document.body.removeAttribute("data-view");
      place = document.getElementById(location.hash.slice(1)) || report;
      place.scrollIntoView();
      if (was && location.hash === "#runs") {
        var link = document.querySelector("a[href='" + was + "']");
        if (link) { link.focus(); }
      }
    }
    was = match ? location.hash : null;
  }
  window.addEventListener("hashchange", route);
  route();

  // On paper nothing is folded away.
  var opened = [];
  window.addEventListener("beforeprint", function () {
    each("details:not([open])", function (part) { part.open = true; opened.push(part); });
  });
  window.addEventListener("afterprint", function () {
    opened.forEach(function (part) { part.open = false; });
    opened = [];
  });
})();
