// Draws the charts of a report with BokehJS, in the colours of the page.
"use strict";

(() => {
  // Okabe and Ito's colours, which the colour-blind can tell apart.
  const PHASES = {
    "queued": "#9aa5b1", "cold start": "#0072b2", "fetch": "#56b4e9", "map": "#009e73",
    "merge": "#cc79a7", "store": "#e69f00", "failed": "#d55e00", "throttled": "#f0e442",
    "abandoned": "#7b6f9c", "running": "#9aa5b1",
  };
  const THIN = 0.35; // height of what is no work, relative to a lane
  const MB = 1048576;
  const coarse = matchMedia("(pointer: coarse)").matches;
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const figures = [];

  const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

  const grids = (figure) => figure.center.filter((one) => one instanceof Bokeh.Grid);

  function paint(figure) {
    const [ground, ink, quiet, line] = ["--ground", "--ink", "--quiet", "--line"].map(css);
    figure.background_fill_color = ground;
    figure.border_fill_color = ground;
    figure.outline_line_color = line;
    for (const axis of [...figure.below, ...figure.left]) {
      Object.assign(axis, {
        axis_label_text_color: quiet, major_label_text_color: ink, axis_line_color: line,
        major_tick_line_color: line, minor_tick_line_color: null,
        axis_label_text_font_style: "normal",
      });
    }
    for (const grid of grids(figure)) grid.grid_line_color = line;
    for (const legend of figure.above.filter((one) => one instanceof Bokeh.Legend)) {
      Object.assign(legend, {
        background_fill_alpha: 0, border_line_color: null, label_text_color: ink,
      });
    }
  }

  function chart(options) {
    const figure = Bokeh.Plotting.figure({
      sizing_mode: "stretch_width", height: 260, toolbar_location: "above",
      // One finger scrolls the page; a mouse zooms.
      tools: coarse ? "tap,reset" : "box_zoom,xpan,xwheel_zoom,reset,save",
      active_drag: coarse ? null : "box_zoom", active_scroll: null, ...options,
    });
    figure.toolbar.logo = null;
    figures.push(figure);
    return figure;
  }

  function rectangles(figure, columns, colour, more = {}) {
    return figure.quad(
      { field: "left" }, { field: "right" }, { field: "bottom" }, { field: "top" },
      {
        source: new Bokeh.ColumnDataSource({ data: columns }),
        fill_color: colour, line_color: null, ...more,
      });
  }

  function hover(figure, renderers) {
    figure.add_tools(new Bokeh.HoverTool({
      renderers, tooltips: "@about", point_policy: "follow_mouse", attachment: "horizontal",
    }));
  }

  function legend(figure, items) {
    const made = new Bokeh.Legend({
      items: items.map(([name, renderer]) =>
        new Bokeh.LegendItem({ label: { value: name }, renderers: [renderer] })),
      orientation: "horizontal", click_policy: "hide", location: "left", ncols: coarse ? 3 : 10,
      padding: 2, spacing: 4, label_text_font_size: "12px", glyph_width: 14, glyph_height: 14,
    });
    figure.add_layout(made, "above");
  }

  function seconds(value) {
    if (value < 1) return `${(1000 * value).toPrecision(3)} ms`;
    return value < 100 ? `${value.toPrecision(3)} s` : `${(value / 60).toFixed(1)} min`;
  }

  function about(data, index) {
    const t = data.tasks;
    const span = t.hi[index] - t.lo[index] === 1
      ? `partition ${t.lo[index]}` : `partitions ${t.lo[index]} to ${t.hi[index] - 1}`;
    const attempt = t.attempt[index] > 1 ? `, attempt ${t.attempt[index]}` : "";
    const copy = t.copy[index] ? ", second copy" : "";
    const phases = ["queued", "cold start", "fetch", "store"]
      .filter((name) => t.end[index] === "finished" && t[name][index] > 0.0005)
      .map((name) => `, ${name} ${seconds(t[name][index])}`).join("");
    return `task ${t.task[index]}: ${t.kind[index]} of ${span}${attempt}${copy}; ${t.end[index]}, ` +
      `${seconds(t.ended[index] - t.started[index])}${phases}; worker ${data.lanes[t.lane[index]]}`;
  }

  function timeline(data) {
    const lanes = data.lanes.length;
    const figure = chart({
      height: Math.min(900, (coarse ? 220 : 90) + Math.max(90, 18 * lanes)),
      x_range: [0, data.seconds || 1], y_range: [lanes, 0], x_axis_label: "seconds",
    });
    const texts = data.tasks.task.map((_, index) => about(data, index));
    const items = [];
    for (const name of Object.keys(PHASES)) {
      const phase = data.phases[name];
      if (phase === undefined) continue;
      const thick = ["queued", "throttled", "abandoned"].includes(name) ? THIN : 0.85;
      const middle = phase.index.map((index) => data.tasks.lane[index] + 0.5);
      items.push([name, rectangles(figure, {
        left: phase.from, right: phase.to,
        bottom: middle.map((y) => y + thick / 2), top: middle.map((y) => y - thick / 2),
        about: phase.index.map((index, i) =>
          `${name} ${seconds(phase.to[i] - phase.from[i])} · ${texts[index]}`),
      }, PHASES[name])]);
    }
    const bars = items.map(([, renderer]) => renderer);
    const outlined = (name, colour, chosen) => {
      const indexes = data.tasks.task.map((_, i) => i).filter(chosen);
      if (indexes.length === 0) return;
      const take = (column) => indexes.map((i) => data.tasks[column][i]);
      items.push([name, rectangles(figure, {
        left: take("started"), right: take("ended"),
        bottom: take("lane").map((y) => y + 0.97), top: take("lane").map((y) => y + 0.03),
        about: indexes.map((index) => texts[index]),
      }, null, { line_color: colour, line_width: 1.5 })]);
    };
    outlined("retry", "#d55e00", (i) => data.tasks.attempt[i] > 1);
    outlined("second copy", "#cc79a7", (i) => data.tasks.copy[i]);
    const axis = figure.left[0];
    const step = Math.ceil(lanes / 30);
    const ticks = data.lanes.map((_, i) => i).filter((i) => i % step === 0);
    axis.ticker = new Bokeh.FixedTicker({ ticks: ticks.map((i) => i + 0.5) });
    const most = coarse ? 9 : 18;
    const short = (name) => (name.length > most ? `…${name.slice(1 - most)}` : name);
    axis.major_label_overrides = new Map(ticks.map((i) => [i + 0.5, short(data.lanes[i])]));
    grids(figure).filter((grid) => grid.dimension === 1).forEach((grid) => { grid.visible = false; });
    hover(figure, bars);
    legend(figure, items);
    return figure;
  }

  function concurrency(data) {
    const figure = chart({
      x_range: [0, data.seconds || 1], x_axis_label: "seconds", y_axis_label: "tasks",
    });
    const { times, counts, refused, limits } = data.concurrency;
    const renderer = rectangles(figure, {
      left: times.slice(0, -1), right: times.slice(1),
      bottom: times.slice(1).map(() => 0), top: counts.slice(0, -1),
      about: times.slice(1).map((_, i) => `${counts[i]} tasks from ${seconds(times[i])} on`),
    }, "#009e73", { fill_alpha: 0.75 });
    const items = [["tasks at once", renderer]];
    if (refused.length) {
      items.push(["refused; the limit then", figure.scatter(refused, limits, {
        size: 7, color: "#d55e00", marker: "inverted_triangle",
      })]);
      legend(figure, items);
    }
    hover(figure, [renderer]);
    return figure;
  }

  function tree(data) {
    const levels = Math.max(0, ...data.tree.level) + 1;
    const figure = chart({
      height: Math.min(420, 120 + 36 * levels), x_range: [0, data.npartitions],
      y_range: [0, levels], x_axis_label: "partition", y_axis_label: "folds",
    });
    figure.left[0].ticker = new Bokeh.SingleIntervalTicker({ interval: 1 });
    const items = ["map", "merge"].map((kind) => {
      const chosen = data.tree.index.map((_, i) => i)
        .filter((i) => data.tasks.kind[data.tree.index[i]] === kind);
      const take = (column) => chosen.map((i) => data.tasks[column][data.tree.index[i]]);
      const bottom = chosen.map((i) => data.tree.level[i]);
      return [kind, rectangles(figure, {
        left: take("lo"), right: take("hi"), bottom, top: bottom.map((y) => y + 0.9),
        about: chosen.map((i) => about(data, data.tree.index[i])),
      }, PHASES[kind], { line_color: css("--ground"), line_width: data.tree.index.length > 500 ? 0 : 1 })];
    });
    hover(figure, items.map(([, renderer]) => renderer));
    legend(figure, items);
    return figure;
  }

  function durations(data) {
    const { left, right, count } = data.durations;
    const figure = chart({
      height: 220, x_axis_type: "log", x_axis_label: "seconds of a partition",
      y_axis_label: "partitions", x_range: left.length ? [left[0], right.at(-1)] : [0.1, 1],
    });
    const renderer = rectangles(figure, {
      left, right, bottom: count.map(() => 0), top: count,
      about: count.map((n, i) => `${n} partitions of ${seconds(left[i])} to ${seconds(right[i])}`),
    }, "#0072b2");
    hover(figure, [renderer]);
    return figure;
  }

  function memory(data) {
    const figure = chart({
      height: 220, x_range: [0, data.seconds || 1], x_axis_label: "seconds",
      y_axis_label: "MB of a worker", y_range: new Bokeh.DataRange1d({ start: 0 }),
    });
    const chosen = data.tasks.peak.map((_, i) => i).filter((i) => data.tasks.peak[i] > 0);
    const take = (column, unit) => chosen.map((i) => data.tasks[column][i] / unit);
    const used = figure.scatter({ field: "x" }, { field: "y" }, {
      source: new Bokeh.ColumnDataSource({ data: {
        x: take("ended", 1), y: take("peak", MB),
        about: chosen.map((i) => `${(data.tasks.peak[i] / MB).toFixed(0)} MB · ${about(data, i)}`),
      } }), size: 5, fill_alpha: 0.7, line_color: null, fill_color: "#0072b2",
    });
    const items = [["used at most", used]];
    const given = chosen.filter((i) => data.tasks.memory[i] > 0);
    if (given.length) {
      items.push(["given", figure.segment(
        given.map((i) => data.tasks.started[i]), given.map((i) => data.tasks.memory[i] / MB),
        given.map((i) => data.tasks.ended[i]), given.map((i) => data.tasks.memory[i] / MB),
        { color: "#e69f00", line_width: 2 })]);
    }
    hover(figure, [used]);
    legend(figure, items);
    return figure;
  }

  const EMPTY = {
    timeline: (data) => data.tasks.task.length === 0,
    concurrency: (data) => data.tasks.task.length === 0,
    tree: (data) => data.tree.index.length === 0,
    durations: (data) => data.durations.left.length === 0,
    memory: (data) => !data.tasks.peak.some((peak) => peak > 0),
  };

  const nextFrame = () => new Promise((done) => {
    requestAnimationFrame(() => setTimeout(done));
  });

  async function load() {
    const packed = atob(document.getElementById("bokeh").textContent);
    const stream = new Blob([Uint8Array.from(packed, (letter) => letter.charCodeAt(0))]).stream();
    const script = document.createElement("script");
    script.textContent = await new Response(
      stream.pipeThrough(new DecompressionStream("gzip"))).text();
    document.head.append(script);
  }

  async function draw() {
    await load();
    const articles = [...document.querySelectorAll("article[data-job]")].map((article) => [
      article.dataset.job,
      JSON.parse(document.getElementById(`data-${article.dataset.job}`).textContent),
    ]);
    // What is at the top first; then the page answers, and the rest follows.
    for (const [name, make] of Object.entries({ timeline, concurrency, tree, durations, memory })) {
      for (const [job, data] of articles) {
        const element = document.getElementById(`${name}-${job}`);
        if (EMPTY[name](data)) {
          element.className = "quiet";
          element.textContent = "Nothing to draw.";
          continue;
        }
        const figure = make(data);
        paint(figure);
        await Bokeh.Plotting.show(figure, element);
        await nextFrame();
      }
      document.documentElement.dataset.interactive ??= String(Math.round(performance.now()));
    }
    dark.addEventListener("change", () => figures.forEach(paint));
    document.documentElement.dataset.drawn = String(Math.round(performance.now()));
  }

  draw();
})();
