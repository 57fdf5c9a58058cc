// How long publications take from XADD to this page.
//
// An offset holds the entry's time by Redis' clock. The difference to this page's clock is latency
// plus the clocks' difference; the smallest difference of a minute is taken for half a round trip,
// which gives the clocks' difference away.

import { token } from "./theme.js";

const WINDOW_MS = 10_000; // of the figures shown
const CLOCK_WINDOW_MS = 60_000; // of the smallest difference
const BARS = 32;

const now = () => performance.timeOrigin + performance.now();

export class Latency {
  constructor() {
    this.samples = []; // [received at, difference], of the last minute
    this.roundTrips = [];
    this.received = []; // when publications came, of the last seconds
    this.bars = [];
    this.canvas = document.getElementById("latency-chart");
  }

  count() {
    this.received.push(now());
  }

  add(offset) {
    const at = now();
    // Within its millisecond an entry's time is unknown: on average half of one later.
    this.samples.push([at, at - Math.floor(offset / 4096) - 0.5]);
  }

  addRoundTrip(ms) {
    this.roundTrips.push(ms);
    if (this.roundTrips.length > 15) this.roundTrips.shift();
  }

  show() {
    const at = now();
    this.samples = this.samples.filter(([received]) => received > at - CLOCK_WINDOW_MS).slice(-5000);
    this.received = this.received.filter((received) => received > at - 3000);
    const rtt = this.roundTrips.length ? Math.min(...this.roundTrips) : null;
    put("rate", this.received.length ? `${Math.round(this.received.length / 3)}/s` : "–");
    put("rtt", rtt === null ? "–" : format(rtt));
    const recent = this.samples.filter(([received]) => received > at - WINDOW_MS);
    if (rtt === null || recent.length < 5) return;
    const smallest = this.samples.reduce((least, [, difference]) => Math.min(least, difference), Infinity);
    const shift = smallest - rtt / 2;
    const values = recent.map(([, difference]) => difference - shift).sort((a, b) => a - b);
    put("latency", format(quantile(values, 0.5)));
    put("p95", format(quantile(values, 0.95)));
    const last = recent.filter(([received]) => received > at - 500).map(([, difference]) => difference - shift);
    if (last.length) {
      this.bars.push(Math.max(...last));
      if (this.bars.length > BARS) this.bars.shift();
    }
    this.redraw();
  }

  redraw() {
    const { canvas } = this;
    const scale = devicePixelRatio || 1;
    const width = 96, height = 26;
    canvas.width = width * scale;
    canvas.height = height * scale;
    const draw = canvas.getContext("2d");
    draw.scale(scale, scale);
    const top = Math.max(10, ...this.bars);
    this.bars.forEach((value, index) => {
      const tall = Math.max(2, (value / top) * (height - 2));
      draw.fillStyle = token(value > 100 ? "--down" : value > 30 ? "--warn" : "--accent");
      draw.globalAlpha = 0.35 + (0.65 * index) / BARS;
      draw.fillRect(index * 3 + (BARS - this.bars.length) * 3, height - tall, 2, tall);
    });
  }
}

function quantile(sorted, part) {
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * part))];
}

function format(ms) {
  return ms < 10 ? `${Math.max(ms, 0.1).toFixed(1)} ms` : `${Math.round(ms)} ms`;
}

function put(id, text) {
  document.getElementById(id).textContent = text;
}
