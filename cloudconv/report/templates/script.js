"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const clamp = (value, low, high) => Math.min(Math.max(value, low), high);
  const make = (tag, className, text) => {
    const element = document.createElement(tag);
    if (className) element.className = className;
    if (text !== undefined) element.textContent = text;
    return element;
  };

  // The chart of PSNR.
  const hidden = new Set();
  const chart = data.chart;
  let at = -1;

  const place = (index) => {
    const first = chart.x[0], span = chart.x[chart.x.length - 1] - first;
    return span > 0 ? (chart.x[index] - first) / span : 0.5;
  };

  const point = (plot, index, isSpoken) => {
    at = index;
    const rule = plot.querySelector(".rule"), readout = plot.querySelector(".readout");
    rule.hidden = readout.hidden = index < 0;
    if (index < 0) return;
    const share = place(index);
    rule.style.left = `${share * 100}%`;
    readout.setAttribute("aria-live", isSpoken ? "polite" : "off");
    readout.replaceChildren(make("b", "", chart.labels[index]));
    chart.lines
      .filter((line) => !hidden.has(line.color))
      .map((line) => ({ ...line, value: line.values[index] }))
      .sort((a, b) => (b.value ?? -Infinity) - (a.value ?? -Infinity))
      .forEach(({ name, color, value }) => {
        const row = make("span");
        const text = value === null ? "none" : `${value.toFixed(2)} dB`;
        row.append(make("span", `key c${color}`), make("span", "", name), make("i", "", text));
        readout.append(row);
      });
    const room = plot.clientWidth - readout.offsetWidth;
    const x = share * plot.clientWidth;
    const beside = share < 0.5 ? x + 14 : x - readout.offsetWidth - 14;
    readout.style.left = `${clamp(beside, 0, Math.max(room, 0))}px`;
  };

  const nearest = (share) => {
    let low = 0, high = chart.x.length - 1;
    while (high - low > 1) {
      const middle = (low + high) >> 1;
      if (place(middle) <= share) low = middle; else high = middle;
    }
    return share - place(low) <= place(high) - share ? low : high;
  };

  for (const plot of all(".plot")) {
    const follow = (event) => {
      const box = plot.getBoundingClientRect();
      point(plot, nearest((event.clientX - box.left) / box.width), false);
    };
    plot.addEventListener("pointermove", follow);
    plot.addEventListener("pointerdown", follow);
    plot.addEventListener("pointerleave", () => point(plot, -1, false));
    plot.addEventListener("blur", () => point(plot, -1, false));
    plot.addEventListener("keydown", (event) => {
      const last = chart.x.length - 1;
      const far = Math.max(1, Math.round(last / 20));
      const to = {
        ArrowLeft: at - 1, ArrowRight: at + 1, PageUp: at + far, PageDown: at - far,
        Home: 0, End: last, Escape: -1,
      }[event.key];
      if (to === undefined) return;
      event.preventDefault();
      point(plot, event.key === "Escape" ? -1 : clamp(to, 0, last), true);
    });
  }

  for (const button of all(".legend button")) {
    button.addEventListener("click", () => {
      const color = Number(button.dataset.color);
      const show = hidden.delete(color);
      if (!show) hidden.add(color);
      button.setAttribute("aria-pressed", String(show));
      for (const line of all(`.line[data-series="${color}"]`)) line.style.display = show ? "" : "none";
    });
  }

  // The wipe: a range input lies over two stacked pictures.
  const stage = document.getElementById("stage");
  if (!stage) return;
  const range = document.getElementById("wipe");
  const frame = document.getElementById("wipe-frame");
  const sides = ["left", "right"].map((side) => ({
    select: document.getElementById(`wipe-${side}`),
    image: document.getElementById(`picture-${side}`),
    name: document.getElementById(`name-${side}`),
  }));

  const wipe = () => {
    stage.style.setProperty("--at", `${range.value}%`);
    const [left, right] = sides.map(({ select }) => select.selectedOptions[0].textContent);
    range.setAttribute(
      "aria-valuetext", `${Math.round(range.value)} % ${left}, the rest ${right}`);
  };

  const show = () => {
    for (const { select, image, name } of sides) {
      const shown = document.getElementById(`${frame.value}-${select.value}`);
      image.src = shown.src;
      image.alt = shown.alt;
      name.textContent = select.selectedOptions[0].textContent;
      stage.style.aspectRatio = `${shown.getAttribute("width")} / ${shown.getAttribute("height")}`;
      stage.style.maxWidth =
        `calc(80vh * ${shown.getAttribute("width")} / ${shown.getAttribute("height")})`;
    }
    document.getElementById("wipe-verdict").textContent = data.verdicts[frame.value];
    wipe();
  };

  const drag = (event) => {
    const box = range.getBoundingClientRect();
    range.value = clamp((event.clientX - box.left) / box.width, 0, 1) * 100;
    wipe();
  };
  range.addEventListener("input", wipe);
  // Some phones move a range only by its thumb, which is a hair wide here.
  range.addEventListener("pointerdown", (event) => {
    range.setPointerCapture(event.pointerId);
    drag(event);
  });
  range.addEventListener("pointermove", (event) => {
    if (range.hasPointerCapture(event.pointerId)) drag(event);
  });
  for (const { select } of sides) select.addEventListener("change", show);
  frame.addEventListener("change", show);
  for (const button of all("[data-step]")) {
    button.addEventListener("click", () => {
      const count = frame.options.length;
      frame.selectedIndex = (frame.selectedIndex + Number(button.dataset.step) + count) % count;
      show();
    });
  }
  for (const button of all("[data-open]")) {
    button.addEventListener("click", () => {
      frame.value = button.dataset.open;
      show();
      stage.scrollIntoView({ block: "center" });
      range.focus({ preventScroll: true });
    });
  }
  show();
})();
