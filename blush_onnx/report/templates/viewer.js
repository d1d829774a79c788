"use strict";
(() => {
  // Which array axes run to the right and upwards in the slice along z, y and x.
  const ACROSS = [2, 2, 1];
  const UPWARDS = [1, 0, 0];
  const NAMES = ["z", "y", "x"];

  async function unpack(base64) {
    const packed = Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
    const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
    return new Uint8Array(await new Response(stream).arrayBuffer());
  }

  async function start(root) {
    const settings = JSON.parse(root.querySelector(".viewer-settings").textContent);
    const sources = [...root.querySelectorAll(".viewer-data")];
    const volumes = await Promise.all(sources.map((source) => unpack(source.textContent)));
    const { shape, voxel_size: size, full_shape: full, low, high, labels, bar } = settings;
    const stride = [shape[1] * shape[2], shape[2], 1];
    const place = shape.map((length) => Math.floor(length / 2));
    const canvases = [...root.querySelectorAll("canvas")];
    const sliders = [...root.querySelectorAll("input[type=range]")];
    const output = root.querySelector("output");
    const cross = root.querySelector(".show-cross");
    const density = (value) => ((value / 255) * (high - low) + low).toPrecision(3).replace("-", "−");

    function draw(canvas) {
      const axis = Number(canvas.dataset.axis);
      const volume = volumes[Number(canvas.dataset.map)];
      const [across, upwards] = [ACROSS[axis], UPWARDS[axis]];
      const [columns, rows] = [shape[across], shape[upwards]];
      const zoom = Math.max(1, Math.ceil(288 / Math.max(columns, rows)));
      canvas.width = columns * zoom;
      canvas.height = rows * zoom;
      const small = new OffscreenCanvas(columns, rows);
      const image = new ImageData(columns, rows);
      for (let row = 0; row < rows; row++) {
        for (let column = 0; column < columns; column++) {
          const grey = volume[
            place[axis] * stride[axis] + (rows - 1 - row) * stride[upwards] + column * stride[across]
          ];
          image.data.set([grey, grey, grey, 255], 4 * (row * columns + column));
        }
      }
      small.getContext("2d").putImageData(image, 0, 0);
      const context = canvas.getContext("2d");
      context.drawImage(small, 0, 0, canvas.width, canvas.height);
      drawScaleBar(context, canvas, columns);
      if (cross.checked) {
        const x = (place[across] + 0.5) * zoom;
        const y = (rows - place[upwards] - 0.5) * zoom;
        context.strokeStyle = "rgba(230, 159, 0, 0.85)";
        context.lineWidth = Math.max(1, canvas.width / 300);
        context.beginPath();
        context.moveTo(0, y); context.lineTo(canvas.width, y);
        context.moveTo(x, 0); context.lineTo(x, canvas.height);
        context.stroke();
      }
    }

    function drawScaleBar(context, canvas, columns) {
      if (canvas !== canvases[0]) { return; }
      const [left, bottom] = [canvas.width * 0.04, canvas.height * 0.94];
      context.font = `${Math.round(canvas.width / 20)}px sans-serif`;
      for (const [colour, width] of [["black", 5], ["white", 3]]) {
        context.fillStyle = context.strokeStyle = colour;
        context.lineWidth = (width * canvas.width) / 288;
        context.beginPath();
        context.moveTo(left, bottom);
        context.lineTo(left + (bar / (columns * size[2])) * canvas.width, bottom);
        context.stroke();
        const shift = colour === "black" ? canvas.width / 300 : 0;
        context.fillText(`${bar} Å`, left + shift, bottom - canvas.height * 0.025 + shift);
      }
    }

    function show() {
      canvases.forEach(draw);
      const words = NAMES.map((name, axis) => {
        const voxel = Math.round((place[axis] * full[axis]) / shape[axis]);
        return `${name} ${voxel} of ${full[axis]} (${(place[axis] * size[axis]).toFixed(1)} Å)`;
      });
      const index = place.reduce((sum, value, axis) => sum + value * stride[axis], 0);
      const values = labels.map((label, map) => `${label} ${density(volumes[map][index])}`);
      output.textContent = `${words.join(", ")}\nDensity at the cross: ${values.join(", ")}`;
      sliders.forEach((slider, axis) => {
        slider.value = place[axis];
        slider.setAttribute("aria-valuetext", words[axis]);
      });
    }

    function move(axis, to) {
      const wanted = Math.min(Math.max(Math.round(to), 0), shape[axis] - 1);
      if (wanted === place[axis]) { return false; }
      place[axis] = wanted;
      requestAnimationFrame(show);
      return true;
    }

    sliders.forEach((slider, axis) => {
      slider.max = shape[axis] - 1;
      slider.addEventListener("input", () => move(axis, Number(slider.value)));
    });
    canvases.forEach((canvas) => {
      const axis = Number(canvas.dataset.axis);
      const [across, upwards] = [ACROSS[axis], UPWARDS[axis]];
      canvas.addEventListener("wheel", (event) => {
        // At either end the page scrolls on.
        if (event.deltaY && move(axis, place[axis] + Math.sign(event.deltaY))) { event.preventDefault(); }
      }, { passive: false });
      const point = (event) => {
        const box = canvas.getBoundingClientRect();
        move(across, ((event.clientX - box.left) / box.width) * shape[across] - 0.5);
        move(upwards, (1 - (event.clientY - box.top) / box.height) * shape[upwards] - 0.5);
      };
      canvas.addEventListener("pointerdown", point);
      canvas.addEventListener("pointermove", (event) => { if (event.buttons & 1) { point(event); } });
      canvas.addEventListener("keydown", (event) => {
        const steps = {
          ArrowLeft: [across, -1], ArrowRight: [across, 1], ArrowDown: [upwards, -1], ArrowUp: [upwards, 1],
          PageDown: [axis, -1], PageUp: [axis, 1],
        };
        const step = steps[event.key];
        if (!step || event.ctrlKey || event.altKey || event.metaKey) { return; }
        event.preventDefault();
        move(step[0], place[step[0]] + step[1] * (event.shiftKey ? 5 : 1));
      });
    });
    cross.addEventListener("change", show);
    root.querySelector(".centre").addEventListener("click", () => {
      shape.forEach((length, axis) => { place[axis] = Math.floor(length / 2); });
      show();
    });
    show();
    root.hidden = false;
    root.nextElementSibling.hidden = true;
    root.dataset.ready = "true";
  }

  if (typeof DecompressionStream === "function" && typeof OffscreenCanvas === "function") {
    document.querySelectorAll(".viewer").forEach(start);
  }
  // Whatever is folded is opened for paper and folded again afterwards.
  const folded = [];
  window.addEventListener("beforeprint", () => {
    document.querySelectorAll("details:not([open])").forEach((item) => { item.open = true; folded.push(item); });
  });
  window.addEventListener("afterprint", () => { folded.splice(0).forEach((item) => { item.open = false; }); });
})();
