"use strict";
(() => {
  function canDraw() {
    try {
      return Boolean(document.createElement("canvas").getContext("webgl"));
    } catch {
      return false;
    }
  }

  // The page's colours, which change by day and by night.
  function colours() {
    const style = getComputedStyle(document.body);
    return { "font.color": style.color, "scene.bgcolor": style.backgroundColor };
  }

  function start(root) {
    const figure = JSON.parse(root.querySelector("script").textContent);
    figure.layout.font = { color: colours()["font.color"] };
    figure.data[0].showscale = window.innerWidth > 640;  // on a phone the stills have the scale
    figure.layout.scene.bgcolor = colours()["scene.bgcolor"];
    root.hidden = false;
    const settings = { responsive: true, displaylogo: false, scrollZoom: false };
    Plotly.newPlot(root, figure.data, figure.layout, settings).then(() => { root.dataset.ready = "true"; });
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
      Plotly.relayout(root, colours());
    });
  }

  if (typeof Plotly === "object" && canDraw()) {
    document.querySelectorAll(".surface").forEach(start);
  }
})();
